"""What a machine is given to run: the project with its compiled modules, pytest's arguments and the environment, as a tar."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.vm.image import PROJECT, VENV, Disk

LEFT_OUT = (".git", ".venv", "__pycache__", ".*_cache", ".hypothesis")
COMPILE = """
set -e
mount --make-rprivate /
mount --bind "$1" "$2/project"
shift
exec chroot "$@"
"""
"""Run a command of a machine's own root with the project in its place, where nobody else sees it there."""


def write(path: Path, disk: Disk, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Write the tar. Its size is a whole number of sectors, as tar's blocks are."""
    copy = path.with_suffix("")
    shutil.copytree(PROJECT, copy, ignore=shutil.ignore_patterns(*LEFT_OUT), symlinks=True)
    compile_modules(copy, disk, arguments)
    with tarfile.open(path, "w") as tar:
        tar.add(copy, ".", filter=_plain)
        _add(tar, "vm-arguments", "".join(f"{argument}\n" for argument in arguments))
        _add(tar, "vm-environment", "".join(f"export {name}='{value}'\n" for name, value in environment.items()))
    shutil.rmtree(copy)


def compile_modules(copy: Path, disk: Disk, arguments: Sequence[str]) -> None:
    """Let the machine's own Python compile all, and pytest the tests with their assertions: emulated, that takes a minute.

    What fails here fails in the machine too, and is told there.
    """
    python = f"/{VENV}/bin/python"
    where = ["unshare", "--mount", "sh", "-c", COMPILE, "sh", str(copy), str(disk.tree)]
    chosen = [argument for argument in arguments if argument.startswith(("tests/", "--ignore", "--deselect"))]
    folders = [f"/project/{name}" for name in ("compose", "engine", "networking", "volumes", "tests")]
    collect = f'cd /project && exec {python} -m pytest -q --collect-only -p no:cacheprovider "$@"'
    for command in ([python, "-m", "compileall", "-q", *folders], ["/bin/sh", "-c", collect, "sh", *chosen]):
        environment = {"PATH": os.environ["PATH"], "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        subprocess.run([*where, *command], env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False)


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


def _add(tar: tarfile.TarFile, name: str, text: str) -> None:
    info = tarfile.TarInfo(name)
    data = text.encode()
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))
