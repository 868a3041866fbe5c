"""`include`: other projects' files, each with its own directory and environment, under the file that names them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compose.errors import ComposeError, Place, Warning, display_path
from compose.spec import dotenv, paths, source
from compose.spec.defaults import resolve_values
from compose.spec.document import Map, Seq

if TYPE_CHECKING:
    from compose.spec.layers import Reader

MAX_CHAIN = 50
"""Includes in includes."""
SECTIONS = ("services", "networks", "volumes", "secrets", "configs", "models")
"""The resources of a project."""


@dataclass(frozen=True, slots=True)
class Include:
    """One included project."""

    files: tuple[str, ...]
    project_directory: str
    environment: Mapping[str, str]


def includes(
    layer: Map, working_dir: str, environment: Mapping[str, str], including: tuple[str, ...], reader: Reader
) -> Iterator[Include]:
    """The projects that a layer includes; `including` are the files we are in, to find cycles."""
    entries = layer.get("include")
    if not isinstance(entries, Seq):
        return
    for entry, at in entries.items_at():
        if (include := _include(entry, at, working_dir, environment, including, reader)) is not None:
            yield include


def imported(tree: Map, environment: Mapping[str, str]) -> Map:
    """What comes of an included project: its resources, and in its services the values that its environment has."""
    result = tree.like()
    for section in SECTIONS:
        if section in tree:
            result.take(section, tree)
    services = result.get("services")
    if isinstance(services, Map):
        result["services"] = services.clone()
        for name, service in services.items():
            if isinstance(service, Map) and isinstance(service.get("environment"), Map):
                result["services"][name] = service.clone()
                result["services"][name]["environment"] = resolve_values(service["environment"], environment)
    return result


def variables_of_files(tree: Map, environment: Mapping[str, str]) -> dict[str, str]:
    """The values of the variables that secrets and configs name."""
    files = [file for section in ("secrets", "configs") for file in (tree.get(section) or {}).values()]
    names: list[Any] = [file.get("environment") for file in files if isinstance(file, Map)]
    return {name: environment[name] for name in names if name in environment}


def _listed(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, Seq) else [] if value is None else [str(value)]


def _include(
    entry: Any,
    at: Place | None,
    working_dir: str,
    environment: Mapping[str, str],
    including: tuple[str, ...],
    reader: Reader,
) -> Include | None:
    settings = entry if isinstance(entry, Map) else Map({"path": entry})
    written = _listed(settings.get("path"))
    if not written:
        reader.warnings.append(Warning(at, "include lacks a path and includes nothing"))
        return None
    files = []
    for path in written:
        if source.is_remote(path):
            raise source.remote_file("include", path, at)
        file = paths.resolve(path, working_dir)
        if file in including:
            chain = " includes ".join(display_path(f) for f in (*including, file))
            raise ComposeError("E042", f"include cycle: {chain}", at=at, line_text=reader.texts.line(at))
        if len(including) > MAX_CHAIN:
            message = f"{display_path(including[0])} includes more than {MAX_CHAIN} others in a row"
            raise ComposeError("E042", message, at=at, line_text=reader.texts.line(at))
        if not source.kind(file):
            message = f"cannot include {display_path(file)}: no such file"
            raise ComposeError("E001", message, at=at, line_text=reader.texts.line(at))
        files.append(file)
    directory = settings.get("project_directory")
    directory = paths.resolve(directory, working_dir) if directory else os.path.dirname(files[0])
    values = _environment(settings, directory, working_dir, environment, at, reader)
    return Include(tuple(files), directory, {**values, **environment})


def _environment(
    settings: Map,
    directory: str,
    working_dir: str,
    environment: Mapping[str, str],
    at: Place | None,
    reader: Reader,
) -> dict[str, str]:
    named = [paths.resolve(path, working_dir) for path in _listed(settings.get("env_file")) if path != "/dev/null"]
    if not settings.get("env_file") and settings.get("env_file") != "":
        default = os.path.join(directory, ".env")
        named = [default] if source.kind(default) == "file" else []
    values: dict[str, str] = {}
    for path in named:
        values |= dotenv.read(path, {**values, **environment}, at=at, warnings=reader.warnings)
    return values
