"""The cases: their files, their contexts, and what a builder made of one."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

Case = Mapping[str, Any]

FOLDER = Path(__file__).parent
CASES: Mapping[str, Case] = {
    f"{path.stem}: {case['name']}": case
    for path in sorted(FOLDER.glob("*.yaml"))
    for case in yaml.safe_load(path.read_text())
}
# What engines make in every container to mount on, and what `docker export` shows of it.
_IGNORED = ("/.dockerenv", "/dev", "/proc", "/sys", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/etc/mtab")
# What only Docker's builder without BuildKit writes into a configuration: its own container's settings.
_CONTAINER_KEYS = (
    "Hostname",
    "Domainname",
    "AttachStdin",
    "AttachStdout",
    "AttachStderr",
    "Tty",
    "OpenStdin",
    "StdinOnce",
    "Image",
)


@dataclass(frozen=True, slots=True)
class Result:
    """What a build gave: the tree as the cases write it, the configuration, the author. Or why it failed: `error`."""

    tree: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    author: str = ""
    error: str = ""


class Failed(Exception):
    """The build failed."""


def is_classic(case: Case) -> bool:
    """Whether Docker's builder without BuildKit knows all that the case uses."""
    return bool(case.get("classic", True))


def fingerprint(case: Case) -> str:
    """A hash of what the builder is given: a recorded answer to anything else is out of date."""
    given = {key: case[key] for key in ("dockerfile", "context", "args", "target") if key in case}
    return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()[:16]


def plain_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without what is empty or says nothing: BuildKit gives images from scratch the directory "/", dockerd none."""
    plain = {key: value for key, value in config.items() if value and key not in _CONTAINER_KEYS}
    if plain.get("WorkingDir") == "/":
        del plain["WorkingDir"]
    return plain


def without(tree: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """What the base image does not have."""
    return {
        path: text
        for path, text in tree.items()
        if path not in own
        and not any(path == name or path.startswith(f"{name}/") for name in _IGNORED)
        and path != "/etc"
    }


def write_context(directory: Path, case: Case) -> None:
    directory.mkdir()
    for path, given in case.get("context", {}).items():
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        entry = {"text": given} if isinstance(given, str) else given
        if "link" in entry:
            target.symlink_to(entry["link"])
        elif "tar" in entry:
            _write_tar(target, entry["tar"])
        else:
            target.write_text(entry["text"])
            target.chmod(int(entry.get("mode", "644"), 8))
    (directory / "Dockerfile").write_text(case["dockerfile"])


def _write_tar(path: Path, files: Mapping[str, str]) -> None:
    with tarfile.open(path, "w") as tar:
        directory = tarfile.TarInfo("d")
        directory.type, directory.mode, directory.uid, directory.gid = tarfile.DIRTYPE, 0o750, 3, 4
        tar.addfile(directory)
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.uid, info.gid = len(text), 0o640, 3, 4
            tar.addfile(info, io.BytesIO(text.encode()))


def check(case: Case, result: Result) -> None:
    """Compare a result with what the case says."""
    if "error" in case:
        assert case["error"] in result.error
        return
    assert result.error == ""
    assert result.tree == case.get("tree", {})
    for key, value in case.get("config", {}).items():
        assert result.config.get(key) == value, key
    assert result.author == case.get("author", "")
