"""Dockerd's answers to the cases, kept beside them in docker.json.

To record them again, after a case was added or changed, with the dockerd that DOCKER_HOST names:

    python -m tests.conformance.dockerfile.recorded
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import stat
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.conformance.dockerfile.cases import (
    CASES,
    FOLDER,
    Case,
    Failed,
    Result,
    fingerprint,
    is_classic,
    plain_config,
    without,
    write_context,
)
from tests.images import busybox_rootfs_tar

FILE = FOLDER / "docker.json"


def load() -> dict[str, tuple[str, Result]]:
    """By case: the fingerprint of what dockerd was given, and what it made of that."""
    return {
        name: (entry["given"], Result(**entry["result"]))
        for name, entry in json.loads(FILE.read_text())["cases"].items()
    }


def record() -> str:
    """Ask the dockerd at DOCKER_HOST for all cases it can build, and write its answers. Return its version."""
    with tempfile.TemporaryDirectory() as scratch:
        docker = Docker(Path(scratch))
        try:
            answers = {name: _answer(docker, case, Path(scratch)) for name, case in CASES.items() if is_classic(case)}
        finally:
            docker.close()
    FILE.write_text(json.dumps({"dockerd": docker.version, "cases": answers}, indent=1) + "\n")
    return docker.version


def _answer(docker: Docker, case: Case, scratch: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        write_context(Path(directory) / "context", case)
        result = docker.build(case, Path(directory) / "context")
    return {"given": fingerprint(case), "result": {key: value for key, value in asdict(result).items() if value}}


class Docker:
    """Builds with the dockerd at DOCKER_HOST, whose builder without BuildKit is the one that needs no network."""

    def __init__(self, base: Path) -> None:
        self._docker("import", busybox_rootfs_tar(base / "docker.tar"), "busybox")
        self.own = self._tree("busybox")
        self.version = self._docker("version", "--format", "{{.Server.Version}}").decode().strip()

    def _docker(self, *words: str) -> bytes:
        done = subprocess.run(["docker", *words], capture_output=True, env={**os.environ, "DOCKER_BUILDKIT": "0"})
        if done.returncode != 0:
            raise Failed((done.stdout + done.stderr).decode(errors="replace"))
        return done.stdout

    def build(self, case: Case, context: Path) -> Result:
        words = [f"--build-arg={name}={value}" for name, value in case.get("args", {}).items()]
        words += [f"--target={case['target']}"] if "target" in case else []
        try:
            image = self._docker("build", "-q", "--network=none", *words, str(context)).decode().strip()
        except Failed as error:
            return Result(error=_explanation(str(error)))
        (document,) = json.loads(self._docker("image", "inspect", image))
        try:
            return Result(without(self._tree(image), self.own), plain_config(document["Config"]), document["Author"])
        finally:
            self._docker("image", "rm", "-f", image)

    def _tree(self, image: str) -> dict[str, str]:
        container = self._docker("create", image, "true").decode().strip()
        try:
            data = self._docker("export", container)
        finally:
            self._docker("rm", container)
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            return {"/" + member.name.rstrip("/"): _member(tar, member) for member in tar}

    def close(self) -> None:
        with contextlib.suppress(Failed):
            self._docker("image", "rm", "-f", "busybox")


def _member(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    content = ""
    if member.isreg() or member.islnk():
        file = tar.extractfile(member)
        content = " " + (file.read(200).decode(errors="replace") if file else "")
    elif member.issym():
        content = " " + member.linkname
    kind = "d" if member.isdir() else "l" if member.issym() else "-"
    return f"{kind} {stat.S_IMODE(member.mode):o} {member.uid}:{member.gid}{content}"


def _explanation(output: str) -> str:
    """The last line of what `docker build` said."""
    return output.strip().splitlines()[-1]


if __name__ == "__main__":
    print(f"dockerd {record()}: {FILE}", file=sys.stderr)
