"""Builds with real layers and overlays. Commands run by a stand-in for the engine's containers: unshare and chroot."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.errors import UmiakError
from engine.images.archive import import_rootfs
from engine.images.build.builder import BuildRequest, build
from engine.images.build.events import BuildEvent
from engine.images.build.rootfs import mounted
from engine.images.store import ImageStore
from engine.paths import Paths
from engine.state import State
from engine.types import Image
from tests.images import busybox_rootfs_tar

IN_CHROOT = """
set -e
target=$1 options=$2 user=$3 cwd=$4
shift 4
# By mount(2): a string of the newer interface, which newer versions of this command use, is 255 bytes at most.
LIBMOUNT_FORCE_MOUNT2=always mount -t overlay overlay -o "$options" "$target"
exec chroot --userspec="$user" "$target" /bin/sh -c 'cd "$0" && exec "$@"' "$cwd" "$@"
"""


class ChrootRunner:
    """Implements `BuildRunner`; `commands` tells what ran."""

    def __init__(self) -> None:
        self.commands: list[Sequence[str]] = []
        self.environments: list[Sequence[str]] = []
        self.processes: list[subprocess.Popen[bytes]] = []
        self.stopped = False
        self.before: Callable[[], None] = lambda: None

    def stop(self) -> None:
        self.stopped = True
        for process in self.processes:
            process.kill()

    def __call__(
        self,
        *,
        layer_dirs: Sequence[str],
        upper: str,
        work: str,
        argv: Sequence[str],
        env: Sequence[str],
        cwd: str,
        user: str,
        output: Callable[[bytes], None],
        **_: Any,
    ) -> int:
        self.commands.append(argv)
        self.environments.append(env)
        self.before()
        target = os.path.join(os.path.dirname(upper), "target")
        os.mkdir(target)
        lower = ":".join(reversed(layer_dirs))
        options = f"lowerdir={lower},upperdir={upper},workdir={work},redirect_dir=off,metacopy=off,index=off,volatile"
        command = ["unshare", "--mount", "sh", "-c", IN_CHROOT, "sh", target, options, user or "0:0", cwd, *argv]
        environment = dict(item.partition("=")[::2] for item in env)
        process = subprocess.Popen(
            command, env={"PATH": os.environ["PATH"]} | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert process.stdout is not None
        self.processes.append(process)
        if self.stopped:
            process.kill()
        try:
            while piece := os.read(process.stdout.fileno(), 4096):
                output(piece)
            return process.wait()
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


class Workshop:
    """A store with a busybox image, a context, and what one asks of the images built from it."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.paths = Paths(str(base / "root"), str(base / "run"))
        self.store = ImageStore(self.paths, State(self.paths.database))
        self.context = base / "context"
        self.context.mkdir()
        self.runner = ChrootRunner()
        self.events: list[BuildEvent] = []
        import_rootfs(self.store, busybox_rootfs_tar(base / "busybox.tar"), "busybox")

    def write(self, path: str, text: str = "", mode: int = 0o644) -> Path:
        target = self.context / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)
        return target

    def build(self, text: str, **options: Any) -> Image:
        self.events.clear()
        request = BuildRequest(str(self.context), dockerfile_inline=text, **options)
        return build(self.store, self.runner, request, self.events.append)

    def fails(self, text: str, **options: Any) -> UmiakError:
        with pytest.raises(UmiakError) as caught:
            self.build(text, **options)
        assert self.leftovers() == []
        return caught.value

    def files(self, image: Image) -> dict[str, os.stat_result]:
        """All paths of an image that busybox's own does not have."""
        own = set(self._walk(self.store.resolve("busybox")))
        return {path: found for path, found in self._walk(image).items() if path not in own}

    def _walk(self, image: Image) -> dict[str, os.stat_result]:
        found: dict[str, os.stat_result] = {}
        with self.mounted(image) as root:
            for above, directories, files, fd in os.fwalk(".", dir_fd=root, follow_symlinks=False):
                for name in directories + files:
                    found[os.path.join(above, name)[1:]] = os.stat(name, dir_fd=fd, follow_symlinks=False)
        return found

    def read(self, image: Image, path: str) -> str:
        with self.mounted(image) as root, open(os.open(path.lstrip("/"), os.O_RDONLY, dir_fd=root)) as file:
            return file.read()

    def mounted(self, image: Image) -> Any:
        empty = self.base / "empty"
        empty.mkdir(exist_ok=True)
        return mounted(self.store.layer_dirs(image), str(empty))

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]

    def leftovers(self) -> list[str]:
        directory = self.base / "root" / "build"
        return [name for name in os.listdir(directory) if name not in (".lock", "cache")] if directory.exists() else []


@contextmanager
def opened(directory: Path) -> Iterator[Workshop]:
    """A workshop in a directory, of which no build leaves anything behind."""
    directory.mkdir(exist_ok=True)
    made = Workshop(directory)
    before = overlays()
    yield made
    made.store.close()
    assert made.leftovers() == []
    assert overlays() == before


def overlays() -> set[str]:
    """The overlay mounts of this process's namespace."""
    with open("/proc/self/mountinfo") as file:
        return {line for line in file if " - overlay " in line and "pytest" in line}


def owner(found: os.stat_result) -> tuple[int, int]:
    return found.st_uid, found.st_gid
