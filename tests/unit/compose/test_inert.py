"""What is loaded and has no effect is listed, warned of once, and nothing else is forgotten."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

from compose import builds
from compose.inert import INERT, inert
from compose.model.base import Model
from compose.model.project import Project
from compose.schema import MODULES

ROOT = Path(__file__).parents[3]
CLASSES = {"Reservation": "Resource"}
BY_LOADER = {
    "Service": {"env_file", "expose", "label_file", "profiles", "scale", "extensions"},
    "Build": {"ssh"},
}
"""What the loader itself acts on, and `expose`, which only documents."""
WALKED = ("Service", "ServiceNetwork", "Port", "BindOptions", "VolumeOptions", "ServiceVolume", "Healthcheck", "Logging",
          "Deploy", "Resource", "RestartPolicy", "Network", "Ipam", "IpamPool", "Volume", "Dependency", "Build")  # fmt: skip


def sources() -> str:
    files = [*(ROOT / "compose").glob("*.py"), *(ROOT / "compose" / "cli").glob("*.py")]
    return "".join(path.read_text() for path in files if path.name != "inert.py")


def models() -> dict[str, type[Model]]:
    found: dict[str, type[Model]] = {}
    for name in MODULES:
        found |= vars(importlib.import_module(f"compose.model.{name}"))
    return found


def test_every_attribute_is_acted_on_or_listed() -> None:
    text = sources()
    forgotten = set()
    for kind in WALKED:
        listed = {*INERT.get(kind, ()), *BY_LOADER.get(kind, ()), *(builds.NOT_ACTED_ON if kind == "Build" else ())}
        for name in models()[kind].model_fields.keys() - listed - {"extensions"}:
            if not re.search(rf"\.{name}\b", text):
                forgotten.add(f"{kind}.{name}")
    assert forgotten <= {"Port.mode"}


def test_what_is_listed_exists_and_is_documented() -> None:
    text = (ROOT / "docs" / "compatibility.md").read_text()
    for kind, names in INERT.items():
        fields = models()[CLASSES.get(kind, kind)].model_fields
        assert set(names) <= fields.keys()
        assert all(f"`{name}`" in text for name in names)


def test_each_attribute_is_named_once() -> None:
    port = {"target": 80, "app_protocol": "http"}
    web = {"name": "web", "image": "x", "ports": (port, port), "isolation": "r", "deploy": {"mode": "replicated"}}
    project = Project.model_validate({"name": "p", "services": {"web": web}, "networks": {"n": {"enable_ipv6": True}}})
    assert sorted(str(path[-1]) for path in inert(project)) == ["app_protocol", "enable_ipv6", "isolation"]
