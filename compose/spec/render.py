"""Prints a project as `config` does: Docker's YAML and JSON to the letter, `$` written as `$$` so that it loads again."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from compose.errors import ComposeError
from compose.model.units import Duration
from compose.spec.document import Map, Timestamp
from compose.spec.limits import without_collection
from compose.spec.yamltext import Sorted, write

if TYPE_CHECKING:
    from compose.model.project import Project

_BYTES = frozenset(
    ("mem_limit", "mem_reservation", "memswap_limit", "mem_swappiness", "shm_size", "size", "rate", "memory")
)
_ALWAYS = {
    "Dependency": ("required",),
    "Trigger": ("path", "action"),
    "WeightDevice": ("path", "weight"),
    "ThrottleDevice": ("path", "rate"),
    "DiscreteResource": ("kind", "value"),
}
_ALWAYS_JSON = {
    **_ALWAYS,
    "Service": ("command", "entrypoint"),
    "Hook": ("command",),
    "PreStart": ("command",),
    "Deploy": ("resources", "placement"),
    "Network": ("ipam",),
    "Trigger": ("path", "action", "exec"),
}
_HIDDEN = {
    "Service": frozenset(("name", "label_file")),
    "Project": frozenset(
        (
            "working_dir",
            "compose_files",
            "env_files",
            "profiles",
            "environment",
            "disabled_services",
            "separator",
            "warnings",
        )
    ),
}
_CAPITALISED = frozenset(("WeightDevice", "ThrottleDevice"))
_PATHS = frozenset(("context", "source", "file", "path", "device"))


@without_collection()
def render(
    project: Project,
    format: str = "yaml",
    *,
    escape: bool = True,
    edit: Callable[[Any], Any] | None = None,
    relative_to: str | None = None,
    with_env_files: bool = False,
) -> str:
    """The project as YAML or JSON text.

    `edit` changes its data before; `relative_to` makes paths in that directory relative to it; `with_env_files` prints
    `env_file`, for a project whose env files were not read.
    """
    data = to_data(project, is_json=format == "json", with_env_files=with_env_files)
    if edit:
        data = edit(data)
    if relative_to:
        data = _relative(data, relative_to)
    text = to_json(data) if format == "json" else write(data)
    return text.replace("$", "$$") if escape else text


@without_collection()
def render_tree(tree: Map, format: str = "yaml") -> str:
    """A canonical tree, as `config --no-interpolate` prints it: the text of variables stays."""
    data = _sorted(tree)
    return to_json(data) if format == "json" else write(data)


def to_data(project: Project, *, is_json: bool, with_env_files: bool = False) -> dict[str, Any]:
    """The project as plain data in Docker's order and with what Docker leaves out left out."""
    writer = _Writer(is_json, with_env_files)
    data: dict[str, Any] = {"name": project.name}
    sections = ("services", "networks", "volumes", "secrets", "configs")
    # Docker's JSON leaves the models out; programs that read it would not know the key.
    for section in sections if is_json else (*sections, "models"):
        members = getattr(project, section)
        if members or section == "services":
            data[section] = Sorted({key: writer.model(value) for key, value in members.items()})
    if is_json:
        data |= {key: _without_empty_lists(_sorted(value)) for key, value in project.extensions.items()}
        return dict(sorted(data.items()))
    return data | {key: _sorted(project.extensions[key]) for key in sorted(project.extensions)}


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return Sorted({key: _sorted(item) for key, item in value.items()})
    if isinstance(value, Timestamp):
        return value.as_rfc3339()
    return [_sorted(item) for item in value] if isinstance(value, (list, tuple)) else value


def _without_empty_lists(value: Any) -> Any:
    """What Go's JSON makes of free data: an empty list is null."""
    if isinstance(value, dict):
        return Sorted({key: _without_empty_lists(item) for key, item in value.items()})
    return [_without_empty_lists(item) for item in value] or None if isinstance(value, list) else value


def to_json(data: Any) -> str:
    """JSON as Go writes it: two spaces, sorted free keys, `<`, `>` and `&` escaped."""
    try:
        text = json.dumps(_ordered(data), indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError:
        raise ComposeError("E016", "JSON has no infinite numbers", hint="print it as YAML") from None
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _ordered(value: Any) -> Any:
    if isinstance(value, Sorted):
        return {key: _ordered(value[key]) for key in sorted(value)}
    if isinstance(value, dict):
        return {key: _ordered(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_ordered(item) for item in value]
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 1e21 else value
    return value


class _Writer:
    """Turns models into plain data; JSON and YAML differ in what they leave out."""

    def __init__(self, is_json: bool, with_env_files: bool = False) -> None:
        self._is_json = is_json
        self._with_env_files = with_env_files
        self._always = _ALWAYS_JSON if is_json else _ALWAYS

    def model(self, model: Any) -> Any:
        """One model, fields in order; what is unset is left out."""
        kind = type(model).__name__
        if kind == "Ulimit":
            limits = {"soft": model.soft, "hard": model.hard}
            return model.single or ({key: n for key, n in limits.items() if n} if self._is_json else limits)
        if kind == "FileObject":
            return self._file_object(model)
        if kind == "EnvFile":
            settings = {"path": model.path, "required": model.required} | ({"format": f} if (f := model.format) else {})
            return settings if model.format or not model.required else model.path
        always = self._always.get(kind, ())
        hidden = _HIDDEN.get(kind, frozenset())
        data: dict[str, Any] = {}
        for name, field in type(model).model_fields.items():
            value = getattr(model, name)
            if name == "extensions" or name in hidden or (name == "env_file" and not self._with_env_files):
                continue
            if name not in always and self._is_unset(value, field.default, name):
                continue
            data[self._name(kind, name)] = self._value(kind, name, value)
        if model.__class__.__name__ == "Dependency" and "required" in data:
            data["required"] = data.pop("required")
        if not self._is_json:
            extensions = getattr(model, "extensions", {})
            data |= {key: _sorted(extensions[key]) for key in sorted(extensions)}
        return data

    def _file_object(self, model: Any) -> dict[str, Any]:
        fields = ("name", "file", "environment", "content", "external", "labels", "driver", "driver_opts")
        data: dict[str, Any] = {}
        for name in (*fields, "template_driver"):
            value = getattr(model, name)
            if name == "content" and model.environment:
                continue  # the value of a variable is never printed
            if value:
                data[name] = self._value("FileObject", name, value)
        if not self._is_json:
            data |= {key: _sorted(model.extensions[key]) for key in sorted(model.extensions)}
        return data

    def _name(self, kind: str, name: str) -> str:
        return name.capitalize() if self._is_json and kind in _CAPITALISED else name

    def _is_unset(self, value: Any, default: Any, name: str) -> bool:
        if value is None or value == "":
            return True
        if name in ("command", "entrypoint"):
            return False
        if isinstance(value, (dict, tuple)):
            return not value
        if default is None and isinstance(value, (bool, int)):
            return False  # an explicit zero or false says something here
        if isinstance(value, (bool, int, float)):
            return not value
        return default is not None and not isinstance(default, str) and not self.model(value)

    def _value(self, kind: str, name: str, value: Any) -> Any:
        if isinstance(value, Duration):
            return str(value)
        if isinstance(value, bool):
            return value
        if isinstance(value, int):
            if name in _BYTES:
                return str(value)
            return f"0{value:o}" if name == "mode" and kind == "FileReference" else value
        if isinstance(value, (str, float)) or value is None:
            return value
        if name == "extra_hosts":
            return sorted(f"{host}={address}" for host in value for address in value[host])
        if name == "ssh":
            return [f"{key}={value[key]}" if value[key] else key for key in sorted(value)]
        if isinstance(value, dict):
            return Sorted({key: self._item(item) for key, item in value.items()})
        return [self._item(item) for item in value] if isinstance(value, tuple) else self.model(value)

    def _item(self, item: Any) -> Any:
        if isinstance(item, tuple):
            return list(item)
        return item if item is None or isinstance(item, (str, int, float)) else self.model(item)


def _relative(data: Any, directory: str, name: str = "") -> Any:
    if isinstance(data, dict):
        copy = {key: _relative(value, directory, str(key)) for key, value in data.items()}
        return Sorted(copy) if isinstance(data, Sorted) else copy
    if isinstance(data, list):
        return [_relative(item, directory) for item in data]
    if isinstance(data, str) and name in _PATHS:
        if data == directory:
            return "."
        if data.startswith(f"{directory}/"):
            return f"./{data[len(directory) + 1 :]}"
    return data
