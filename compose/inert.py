"""Attributes that are read and checked but have no effect yet: `up` warns once for each that a file sets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from compose.model.base import Model
from compose.model.project import Project

INERT: dict[str, tuple[str, ...]] = {
    "Service": (
        "annotations", "cpu_count", "cpu_percent", "cpu_rt_period", "cpu_rt_runtime", "credential_spec",
        "external_links", "gpus", "isolation", "models",
        "storage_opt", "use_api_socket", "userns_mode",
    ),
    "ServiceNetwork": ("driver_opts", "gw_priority", "interface_name", "ipv6_address", "link_local_ips"),
    "Port": ("app_protocol", "name"),
    "BindOptions": ("selinux",),
    "VolumeOptions": ("labels",),
    "ServiceVolume": ("consistency",),
    "Deploy": ("endpoint_mode", "labels", "mode", "placement"),
    "Reservation": ("cpus", "devices", "generic_resources", "pids"),
    "Resource": ("devices", "generic_resources"),
    "RestartPolicy": ("delay", "window"),
    "Network": ("enable_ipv4", "enable_ipv6"),
    "Ipam": ("driver", "options"),
    "IpamPool": ("aux_addresses",),
}  # fmt: skip
"""Model → its attributes without effect. Those of `build` are listed in `compose/builds.py`."""

_ORDINARY = {"mode": "replicated", "enable_ipv4": True}
"""Values that ask for what is done anyway."""

Path = tuple[str | int, ...]


def inert(project: Project) -> Iterator[Path]:
    """The path of each attribute without effect that the project sets; of each kind only the first in a service."""
    for section in ("services", "networks"):
        for key, value in getattr(project, section).items():
            seen: set[tuple[str, str]] = set()
            for kind, path in _walk(value, (section, key), type(value).__name__):
                if (kind, str(path[-1])) not in seen:
                    seen.add((kind, str(path[-1])))
                    yield path


def _walk(node: Any, path: Path, kind: str) -> Iterator[tuple[str, Path]]:
    if isinstance(node, (tuple, dict)):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            if isinstance(value, Model):
                yield from _walk(value, (*path, key), type(value).__name__)
    if not isinstance(node, Model):
        return
    for name, field in type(node).model_fields.items():
        value = getattr(node, name)
        if name in INERT.get(kind, ()):
            if value not in (None, field.default, _ORDINARY.get(name)):
                yield kind, (*path, name)
        elif isinstance(value, (Model, tuple, dict)) and name != "extensions":
            inner = "Reservation" if name == "reservations" else type(value).__name__
            yield from _walk(value, (*path, name), inner)
