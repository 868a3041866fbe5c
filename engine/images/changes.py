"""Dockerfile instructions given one by one to change an image's configuration (`image import --change`)."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from engine.errors import InvalidInput

_SHELL = ("/bin/sh", "-c")


def apply_changes(config: Mapping[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """Return an OCI `config` object with the instructions applied in order. Raise InvalidInput naming the bad one."""
    result = dict(config)
    for change in changes:
        instruction, _, rest = change.strip().partition(" ")
        apply = _INSTRUCTIONS.get(instruction.upper())
        if apply is None or not rest.strip():
            known = ", ".join(sorted(_INSTRUCTIONS))
            raise InvalidInput(
                f"cannot apply {change!r} to an image", hint=f"write an instruction and its value: {known}"
            )
        try:
            apply(result, rest.strip())
        except ValueError as error:
            raise InvalidInput(f"cannot apply {change!r} to an image: {error}") from error
    return result


def _command(text: str) -> list[str]:
    """The JSON form as it is, anything else through a shell."""
    if text.startswith("["):
        try:
            value = json.loads(text)
        except ValueError:
            value = None
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return value
    return [*_SHELL, text]


def _pairs(text: str) -> dict[str, str]:
    """`A=b "C=d e"`, or the old form `A b c`."""
    words = shlex.split(text)
    if words and "=" not in words[0]:
        name, _, value = text.partition(" ")
        return {name: value.strip()}
    pairs = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise ValueError(f"{word!r} is not NAME=value")
        pairs[name] = value
    return pairs


def _set_env(config: dict[str, Any], text: str) -> None:
    pairs = _pairs(text)
    kept = [item for item in config.get("Env") or [] if item.partition("=")[0] not in pairs]
    config["Env"] = kept + [f"{name}={value}" for name, value in pairs.items()]


def _set_labels(config: dict[str, Any], text: str) -> None:
    config["Labels"] = {**(config.get("Labels") or {}), **_pairs(text)}


def _set_ports(config: dict[str, Any], text: str) -> None:
    ports = [port if "/" in port else f"{port}/tcp" for port in text.split()]
    for port in ports:
        number, _, protocol = port.partition("/")
        if not number.replace("-", "", 1).isdigit() or protocol not in ("tcp", "udp", "sctp"):
            raise ValueError(f"{port!r} is not a port")
    config["ExposedPorts"] = {**(config.get("ExposedPorts") or {}), **{port: {} for port in ports}}


def _set_volumes(config: dict[str, Any], text: str) -> None:
    targets = _command(text) if text.startswith("[") else text.split()
    config["Volumes"] = {**(config.get("Volumes") or {}), **{target: {} for target in targets}}


def _setter(key: str, read: Callable[[str], Any]) -> Callable[[dict[str, Any], str], None]:
    def apply(config: dict[str, Any], text: str) -> None:
        config[key] = read(text)

    return apply


_INSTRUCTIONS: Mapping[str, Callable[[dict[str, Any], str], None]] = {
    "CMD": _setter("Cmd", _command),
    "ENTRYPOINT": _setter("Entrypoint", _command),
    "ENV": _set_env,
    "EXPOSE": _set_ports,
    "LABEL": _set_labels,
    "STOPSIGNAL": _setter("StopSignal", str),
    "USER": _setter("User", str),
    "VOLUME": _set_volumes,
    "WORKDIR": _setter("WorkingDir", str),
}
