"""Relative paths to absolute ones. Each file's paths are relative to its project directory, not to where it lies."""

from __future__ import annotations

import os
import re
from typing import Any

from compose.spec import source
from compose.spec.document import RESET, Map, Seq

_WINDOWS = re.compile(r"[a-zA-Z]:[\\/]|\\\\")


def resolve(path: str, directory: str) -> str:
    """An absolute path; `~` is the home directory."""
    if path.startswith("~"):  # `~user`, too, is below the own home directory: compose-go, utils.ExpandUser
        return os.path.normpath(os.path.join(os.path.expanduser("~"), path[1:].lstrip("/")))
    if os.path.isabs(path):
        return path
    return os.path.normpath(os.path.join(directory, path))


def resolve_service(service: Map, directory: str) -> Map:
    """A service with absolute paths."""
    result = service.clone()
    _update(result, "env_file", lambda entry: _with(entry, "path", directory), each=True)
    _update(result, "label_file", lambda path: resolve(path, directory), each=True)
    _update(result, "build", lambda build: _resolve_build(build, directory))
    _update(result, "volumes", lambda mount: _resolve_mount(mount, directory), each=True)
    _update(result, "extends", lambda extends: extends)
    develop = result.get("develop")
    if isinstance(develop, Map) and isinstance(develop.get("watch"), Seq):
        copy = develop.clone()
        _update(copy, "watch", lambda trigger: _with(trigger, "path", directory), each=True)
        result["develop"] = copy
    return result


def _update(node: Map, key: str, change: Any, *, each: bool = False) -> None:
    value = node.get(key)
    if value is None or value is RESET:
        return
    if each and isinstance(value, Seq):
        node[key] = Seq([change(item) for item in value], value.place, value.at)
    elif not each:
        node[key] = change(value)


def _with(node: Any, key: str, directory: str) -> Any:
    if not isinstance(node, Map) or not isinstance(node.get(key), str):
        return node
    copy = node.clone()
    copy[key] = resolve(copy[key], directory)
    return copy


def _resolve_build(build: Any, directory: str) -> Any:
    if not isinstance(build, Map):
        return build
    copy = build.clone()
    context = copy.get("context")
    if isinstance(context, str):
        copy["context"] = _resolve_context(context, directory)
    contexts = copy.get("additional_contexts")
    if isinstance(contexts, Map):
        resolved = contexts.clone()
        for name, value in contexts.items():
            if isinstance(value, str):
                resolved[name] = _resolve_context(value, directory)
        copy["additional_contexts"] = resolved
    keys = copy.get("ssh")
    if isinstance(keys, Map):
        resolved = keys.clone()
        for name, value in keys.items():
            if value and value is not RESET:
                resolved[name] = resolve(value, directory)
        copy["ssh"] = resolved
    return copy


def _resolve_context(context: str, directory: str) -> str:
    if not context or source.is_remote(context) or context.startswith("service:"):
        return context
    return resolve(context, directory)


def _resolve_mount(mount: Any, directory: str) -> Any:
    if not isinstance(mount, Map) or mount.get("type") != "bind":
        return mount
    return mount if _WINDOWS.match(mount.get("source") or "") else _with(mount, "source", directory)


def resolve_project(tree: Map, directory: str) -> Map:
    """A project with absolute paths."""
    result = tree.clone()
    services = result.get("services")
    if isinstance(services, Map):
        copy = services.clone()
        for name, service in services.items():
            if isinstance(service, Map):
                copy[name] = resolve_service(service, directory)
        result["services"] = copy
    for section in ("configs", "secrets"):
        if isinstance(result.get(section), Map):
            copy = result[section].clone()
            for name, value in copy.items():
                copy[name] = _with(value, "file", directory)
            result[section] = copy
    if isinstance(result.get("volumes"), Map):
        copy = result["volumes"].clone()
        for name, value in copy.items():
            copy[name] = _resolve_volume(value, directory)
        result["volumes"] = copy
    return result


def _resolve_volume(volume: Any, directory: str) -> Any:
    """A volume of the driver `local`, by name, that is really a bind mount names a directory of the host."""
    if not isinstance(volume, Map) or volume.get("driver") != "local":
        return volume
    options = volume.get("driver_opts")
    if not isinstance(options, Map) or options.get("o") != "bind" or not options.get("device"):
        return volume
    copy = volume.clone()
    copy["driver_opts"] = _with(options, "device", directory)
    return copy
