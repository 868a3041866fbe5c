"""Loads a project: the table of contents of this package.

    discover → read (document → interpolate → validate → canonical → extends → include → merge → paths)
             → defaults → profiles → consistency → environment → models

`discover` alone is cheap and enough for commands that work on what exists. `docs/loading.md` shows each phase.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from compose.errors import MANY, ComposeError, Place, Warning, dotted, errors_of, in_order, raise_all
from compose.spec.consistency import Consistency
from compose.spec.defaults import (
    add_defaults,
    add_values,
    agree_on_replicas,
    list_provider_options,
    resolve_environment,
)
from compose.spec.discover import Discovered, LoadOptions, discover, normalize_name
from compose.spec.document import Map, Texts, find_place, format_scalar
from compose.spec.include import SECTIONS
from compose.spec.layers import Reader
from compose.spec.limits import without_collection
from compose.spec.profiles import enabled, used_resources

if TYPE_CHECKING:
    from compose.model.project import Project

__all__ = ["Discovered", "LoadOptions", "discover", "load", "load_tree"]


_GO_TRUE = ("1", "t", "T", "true", "TRUE", "True")


class Loaded:
    """A project as a canonical tree, before the models: what `config --no-interpolate` prints."""

    def __init__(self, found: Discovered, name: str, tree: Map, reader: Reader) -> None:
        self.found = found
        self.name = name
        self.tree = tree
        self.services: Map = tree.get("services") or Map()
        self.errors = reader.errors
        self.budget = reader.budget
        self.contradictions = (
            Consistency(tree, (), reader.texts).check_resources() if len(reader.errors) <= MANY else []
        )
        self.texts = reader.texts
        self.variables = {**reader.variables, **found.environment}
        self.warnings = [*found.warnings, *reader.warnings]


@without_collection()
def load(options: LoadOptions) -> Project:
    """The project that the options describe; raises a ComposeError, or several in a ComposeErrors."""
    loaded = _read(options)
    active = enabled(loaded.services, loaded.found.profiles, options.services)
    errors = [*loaded.errors, *_inconsistencies(loaded, active, options)]
    tree, project = loaded.tree, None
    with _telling(loaded.warnings):
        with _collecting(errors):
            tree = _with_environment(loaded, active, with_files=options.resolve_environment)
            if options.check_consistency:
                tree["services"].update({name: agree_on_replicas(tree["services"][name]) for name in active})
        with _collecting(errors):
            project = _project(loaded, tree, active, options)
        raise_all(in_order(errors))
    assert project is not None
    return project


@without_collection()
def load_checked(options: LoadOptions) -> tuple[Loaded, set[str]]:
    """The project's canonical tree, and the services that are enabled in it; all that profiles enable are consistent."""
    loaded = _read(options)
    active = enabled(loaded.services, loaded.found.profiles, options.services)
    with _telling(loaded.warnings):
        raise_all(in_order([*loaded.errors, *_inconsistencies(loaded, active, options)]))
    return loaded, active


def _inconsistencies(loaded: Loaded, active: set[str], options: LoadOptions) -> list[ComposeError]:
    """What is wrong between services and resources, but for what may only be so because of the errors already found."""
    if len(loaded.errors) > MANY:
        return []
    errors = loaded.contradictions
    if options.check_consistency:
        checked = active | enabled(loaded.services, loaded.found.profiles)
        consistency = Consistency(loaded.tree, checked, loaded.texts)
        errors = [*consistency.check(), *errors]
        loaded.warnings += consistency.warnings
    return [error for error in errors if not any(map(_may_follow(error), loaded.errors))]


def _may_follow(error: ComposeError) -> Callable[[ComposeError], bool]:
    """Whether an error may be there only because what another one is about was taken out: of its service, or of the section
    that it refers to.
    """
    service, section = (*re.split(r"[.\[]", error.path)[1:3], "", "")[:2]

    def follows(other: ComposeError) -> bool:
        top, name, *rest = (*re.split(r"[.\[]", other.path), "")
        if error.code == "E014":
            return top == "services" and name in (service, "")
        if top == "services":
            return error.code == "E040" and rest in ([], [""])
        return section in (top, other.suggestion)

    return follows


@without_collection()
def load_tree(options: LoadOptions) -> Loaded:
    """The project's canonical tree: all files merged, paths absolute, defaults filled in."""
    loaded = _read(options)
    with _telling(loaded.warnings):
        # What a template lacks, a variable may bring.
        contradictions = [error for error in loaded.contradictions if options.interpolate or error.code != "E014"]
        raise_all(in_order([*loaded.errors, *contradictions]))
    return loaded


def _read(options: LoadOptions) -> Loaded:
    """The canonical tree of what is right in the files, with the errors of the rest."""
    found = discover(options)
    reader = Reader(interpolate=options.interpolate, resolve_paths=options.resolve_paths)
    with _telling(reader.warnings):
        try:
            tree = reader.load(found.files, found.working_dir, found.environment)
        except ComposeError as error:
            raise_all(in_order([*reader.errors, *errors_of(error)]))
            raise
    name = found.name
    if not found.is_named and isinstance(tree.get("name"), str):
        name = normalize_name(tree["name"]) or ("" if tree["name"] or reader.has_emptied_name else name)
    if not name and not reader.errors:
        hint = "give one with -p, or write name: at the top of the file"
        raise ComposeError("E060", "project name must not be empty", hint=hint)
    if options.interpolate or options.normalize:
        tree["name"] = name
    tree.setdefault("services", Map())
    tree = add_values(tree)
    if options.interpolate:
        tree = list_provider_options(tree)
    if options.normalize:
        tree = add_defaults(tree, name, found.environment)
    return Loaded(found, name, tree, reader)


def separator(options: LoadOptions, found: Discovered) -> str:
    """What stands between the parts of the names of containers and images: Compose v1's underscore if that is asked for."""
    is_asked = options.compatibility or found.environment.get("COMPOSE_COMPATIBILITY") in _GO_TRUE
    return "_" if is_asked else "-"


@contextmanager
def _collecting(errors: list[ComposeError]) -> Iterator[None]:
    """Keep what is raised, to raise it with other errors."""
    try:
        yield
    except ComposeError as error:
        errors += errors_of(error)


@contextmanager
def _telling(warnings: list[Warning]) -> Iterator[None]:
    """Give an error what was found worth a warning before it."""
    try:
        yield
    except ComposeError as error:
        error.warnings = tuple(dict.fromkeys(warnings))
        raise


def _with_environment(loaded: Loaded, active: set[str], *, with_files: bool) -> Map:
    result, environment = loaded.tree.clone(), loaded.found.environment
    services = result["services"].clone()
    for name in services:
        if name in active:
            services[name] = resolve_environment(
                services[name], environment, loaded.warnings, with_files=with_files, budget=loaded.budget
            )
    result["services"] = services
    return result


def _project(loaded: Loaded, tree: Map, active: set[str], options: LoadOptions) -> Project:
    from pydantic import ValidationError

    from compose.model.project import Project

    found = loaded.found
    services = {name: {**service, "name": name} for name, service in tree["services"].items()}
    for service in services.values():
        service.pop("extends", None)
        service.pop("pull_refresh_after", None)
    data = {key: value for key, value in tree.items() if key in SECTIONS or key.startswith("x-")}
    data |= {
        "name": loaded.name,
        "services": {name: services[name] for name in services if name in active},
        "disabled_services": {name: services[name] for name in services if name not in active},
        "working_dir": found.working_dir,
        "compose_files": found.files,
        "env_files": found.env_files,
        "profiles": found.profiles,
        "environment": {**found.environment, "COMPOSE_PROJECT_NAME": loaded.name},
        "warnings": tuple(dict.fromkeys(loaded.warnings)),
        "separator": separator(options, found),
    }
    if not options.all_resources:
        used = used_resources(tree["services"][name] for name in active)
        for section, keys in used.items():
            data[section] = {key: value for key, value in (tree.get(section) or {}).items() if key in keys}
    for section in SECTIONS[1:]:
        data[section] = {key: value or {} for key, value in (data.get(section) or {}).items()}
    _read_contents(data, loaded.variables)
    try:
        project = Project.model_validate(data)
    except ValidationError as error:
        raise_all(_model_errors(error, tree, loaded.texts))
        raise
    project.bind_places(lambda path: find_place(tree, path))
    return project


def _read_contents(data: dict[str, Any], variables: Mapping[str, str]) -> None:
    """Give secrets and configs that come from a variable its value."""
    for section in ("secrets", "configs"):
        for key, value in data[section].items():
            variable = value.get("environment")
            if variable and variable in variables:
                data[section][key] = {**value, "content": variables[variable]}


def _model_errors(error: Any, tree: Map, texts: Texts) -> list[ComposeError]:
    """What pydantic found wrong, at the places of the file."""
    from compose.model.units import UnitError

    found = []
    for problem in error.errors():
        path = tuple("services" if step == "disabled_services" else step for step in problem["loc"])
        path = tuple(step for step in path if step != "[key]")
        at: Place | None = find_value_place(tree, path)
        cause = problem.get("ctx", {}).get("error")
        hint = cause.hint if isinstance(cause, UnitError) else None
        message = str(cause) if cause else problem["msg"].lower()
        value = problem.get("input")
        width = len(format_scalar(value)) if isinstance(value, (str, int, float)) else 1
        found.append(
            ComposeError(
                "E016",
                f"{dotted(path)}: {message}",
                at=at,
                path=dotted(path),
                line_text=texts.line(at),
                width=width or 1,
                hint=hint,
            )
        )
    return in_order(found)


def find_value_place(tree: Map, path: tuple[Any, ...]) -> Place | None:
    """Where the value at a path stands, rather than its key."""
    node: Any = tree
    for step in path[:-1]:
        try:
            node = node[step]
        except (KeyError, IndexError, TypeError):
            return find_place(tree, path)
    if isinstance(node, Map) and path and path[-1] in node:
        return node.value_place(path[-1])
    return find_place(tree, path)
