"""The OCI image configuration (image-spec, config.md): from hostile JSON to `ImageConfig`, and the platform's names."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Mapping
from typing import Any

from engine.errors import InvalidInput
from engine.types import Healthcheck, ImageConfig

MAX_JSON_BYTES = 4 << 20

_ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "i686": "386",
    "i386": "386",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "riscv64": "riscv64",
}


def host_architecture() -> str:
    """This machine's architecture in OCI's (Go's) words."""
    machine = os.uname().machine
    return _ARCHITECTURES.get(machine, machine)


def parse_json(data: bytes, what: str) -> dict[str, Any]:
    """Read a JSON object from an archive or a registry. Raise InvalidInput naming `what`."""
    if len(data) > MAX_JSON_BYTES:
        raise InvalidInput(f"{what} is too large ({len(data)} bytes)")
    try:
        value = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{what} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidInput(f"{what} is not a JSON object")
    return value


def image_config(document: Mapping[str, Any]) -> ImageConfig:
    """The part that a container inherits. Raise InvalidInput where a field has the wrong type."""
    config = _mapping(document, "config")
    return ImageConfig(
        env=_strings(config, "Env") or (),
        entrypoint=_strings(config, "Entrypoint"),
        cmd=_strings(config, "Cmd"),
        working_dir=_string(config, "WorkingDir"),
        user=_string(config, "User"),
        exposed_ports=tuple(_mapping(config, "ExposedPorts")),
        volumes=tuple(_mapping(config, "Volumes")),
        labels={key: str(value) for key, value in _mapping(config, "Labels").items()},
        stop_signal=_string(config, "StopSignal") or None,
        healthcheck=_healthcheck(_mapping(config, "Healthcheck")),
        shell=_strings(config, "Shell"),
    )


def diff_ids(document: Mapping[str, Any]) -> tuple[str, ...]:
    """The digests of the uncompressed layers, lowest first."""
    return _strings(_mapping(document, "rootfs"), "diff_ids") or ()


def created_at(document: Mapping[str, Any]) -> float:
    """When the image was made, in seconds since the epoch; 0 where it does not say."""
    text = _string(document, "created")
    if not text:
        return 0.0
    try:
        moment = datetime.datetime.fromisoformat(text)
        return max(moment.replace(tzinfo=moment.tzinfo or datetime.UTC).timestamp(), 0.0)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(f"the image configuration has an unreadable creation time {text!r}") from error


def timestamp(seconds: float) -> str:
    """RFC 3339, as OCI wants it."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _healthcheck(value: Mapping[str, Any]) -> Healthcheck | None:
    if not value:
        return None
    return Healthcheck(
        test=_strings(value, "Test"),
        interval_s=_duration(value, "Interval"),
        timeout_s=_duration(value, "Timeout"),
        retries=_integer(value, "Retries"),
        start_period_s=_duration(value, "StartPeriod"),
        start_interval_s=_duration(value, "StartInterval"),
    )


def _mapping(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = document.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidInput(f"the image configuration's {key} is not an object")
    return value


def _strings(document: Mapping[str, Any], key: str) -> tuple[str, ...] | None:
    value = document.get(key)
    if value is None:
        return None
    if not isinstance(value, list) or not all(map(_is_text, value)):
        raise InvalidInput(f"the image configuration's {key} is not a list of strings")
    return tuple(value)


def _string(document: Mapping[str, Any], key: str) -> str:
    value = document.get(key)
    if value is None:
        return ""
    if not _is_text(value):
        raise InvalidInput(f"the image configuration's {key} is not a string")
    return str(value)


def _is_text(value: object) -> bool:
    """Whether this is a string that can be an argument, a path or a variable: no NUL, no lone surrogate."""
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _integer(document: Mapping[str, Any], key: str) -> int | None:
    value = document.get(key)
    if not isinstance(value, int | None) or isinstance(value, bool) or abs(value or 0) >= 1 << 63:
        raise InvalidInput(f"the image configuration's {key} is not a number")
    return value or None


def _duration(document: Mapping[str, Any], key: str) -> float | None:
    """Docker writes nanoseconds; 0 means "inherit"."""
    value = _integer(document, key)
    return None if value is None else value / 1e9
