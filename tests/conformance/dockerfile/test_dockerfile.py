"""What each instruction of a Dockerfile makes, file by file. See README.md."""

from __future__ import annotations

import contextlib
import io
import json
import os
import stat
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest
import yaml

from engine.errors import UmiakError
from engine.images.archive import import_rootfs
from engine.images.build.builder import BuildRequest
from engine.images.build.rootfs import mounted
from engine.images.build.secrets import Secret
from tests.images import busybox_rootfs_tar

pytestmark = pytest.mark.needs("root", "mount", "overlay", "netns")

Case = Mapping[str, Any]
ALL = [
    pytest.param(case, id=f"{path.stem}: {case['name']}")
    for path in sorted(Path(__file__).parent.glob("*.yaml"))
    for case in yaml.safe_load(path.read_text())
]
CLASSIC = [param for param in ALL if param.values[0].get("classic", True)]
# What engines make in every container to mount on, and what `docker export` shows of it.
IGNORED = ("/.dockerenv", "/dev", "/proc", "/sys", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/etc/mtab")


class Built(Protocol):
    """A result: its tree as the cases write it, its configuration, its author."""

    tree: dict[str, str]
    config: dict[str, Any]
    author: str


class Result:
    def __init__(self, tree: dict[str, str], config: dict[str, Any], author: str) -> None:
        self.tree = tree
        self.config = config
        self.author = author


class Failed(Exception):
    """The build failed."""


class Umiak:
    """Builds with the engine, its containers included."""

    def __init__(self, base: Path) -> None:
        from compose.wiring import open_engine

        self.engine = open_engine(warm=True)
        self.empty = base / "empty"
        self.empty.mkdir()
        import_rootfs(self.engine.images, busybox_rootfs_tar(base / "busybox.tar"), "busybox")
        self.own = self._tree(self.engine.images.resolve("busybox"))

    def build(self, case: Case, context: Path) -> Built:
        request = BuildRequest(
            str(context),
            args=case.get("args", {}),
            target=case.get("target"),
            named_contexts={name: str(context / path) for name, path in case.get("contexts", {}).items()},
            secrets={name: Secret(text=text) for name, text in case.get("secrets", {}).items()},
        )
        try:
            image = self.engine.build(request, lambda _: None)
        except UmiakError as error:
            raise Failed(str(error)) from error
        document = self.engine.images.config_json(image.id)
        return Result(without(self._tree(image), self.own), document["config"], document.get("author", ""))

    def _tree(self, image: Any) -> dict[str, str]:
        found: dict[str, str] = {}
        with mounted(self.engine.images.layer_dirs(image), str(self.empty)) as root:
            for above, directories, files, fd in os.fwalk(".", dir_fd=root, follow_symlinks=False):
                for name in directories + files:
                    found[os.path.join(above, name)[1:]] = _described(fd, name)
        return found

    def close(self) -> None:
        self.engine.images.close()
        self.engine.close()


def _described(fd: int, name: str) -> str:
    status = os.stat(name, dir_fd=fd, follow_symlinks=False)
    content = ""
    if stat.S_ISREG(status.st_mode):
        with open(os.open(name, os.O_RDONLY, dir_fd=fd), "rb") as file:
            content = " " + file.read(200).decode(errors="replace")
    elif stat.S_ISLNK(status.st_mode):
        content = " " + os.readlink(name, dir_fd=fd)
    kind = "d" if stat.S_ISDIR(status.st_mode) else "l" if stat.S_ISLNK(status.st_mode) else "-"
    return f"{kind} {stat.S_IMODE(status.st_mode):o} {status.st_uid}:{status.st_gid}{content}"


class Docker:
    """Builds with the dockerd at DOCKER_HOST, whose builder without BuildKit is the one that needs no network."""

    def __init__(self, base: Path) -> None:
        self._docker("import", busybox_rootfs_tar(base / "docker.tar"), "busybox")
        self.own = self._tree("busybox")

    def _docker(self, *words: str) -> bytes:
        done = subprocess.run(["docker", *words], capture_output=True, env={**os.environ, "DOCKER_BUILDKIT": "0"})
        if done.returncode != 0:
            raise Failed((done.stdout + done.stderr).decode(errors="replace"))
        return done.stdout

    def build(self, case: Case, context: Path) -> Built:
        words = [f"--build-arg={name}={value}" for name, value in case.get("args", {}).items()]
        words += [f"--target={case['target']}"] if "target" in case else []
        image = self._docker("build", "-q", "--network=none", *words, str(context)).decode().strip()
        (document,) = json.loads(self._docker("image", "inspect", image))
        try:
            return Result(without(self._tree(image), self.own), document["Config"], document["Author"])
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


def without(tree: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """What the base image does not have."""
    return {
        path: text
        for path, text in tree.items()
        if path not in own
        and not any(path == name or path.startswith(f"{name}/") for name in IGNORED)
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


@pytest.fixture(scope="module")
def umiak(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Umiak]:
    base = tmp_path_factory.mktemp("dockerfile")
    patch = pytest.MonkeyPatch()
    patch.setenv("UMIAK_ROOT", str(base / "root"))
    patch.setenv("UMIAK_RUN", str(base / "run"))
    patch.setenv("UMIAK_NFT_TABLE", f"umiak-df-{os.getpid()}")
    made = Umiak(base)
    try:
        yield made
    finally:
        made.close()
        patch.undo()


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    if "DOCKER_HOST" not in os.environ or subprocess.run(["docker", "version"], capture_output=True).returncode != 0:
        pytest.skip("no dockerd answers at DOCKER_HOST")
    made = Docker(tmp_path_factory.mktemp("docker"))
    yield made
    made.close()


@pytest.mark.parametrize("case", ALL)
def test_umiak_makes_what_the_reference_says(umiak: Umiak, case: Case, tmp_path: Path) -> None:
    check(umiak, case, tmp_path / "context")


@pytest.mark.parametrize("case", CLASSIC)
def test_docker_makes_the_same(docker: Docker, case: Case, tmp_path: Path) -> None:
    check(docker, case, tmp_path / "context")


def check(builder: Umiak | Docker, case: Case, context: Path) -> None:
    write_context(context, case)
    if "error" in case:
        with pytest.raises(Failed) as caught:
            builder.build(case, context)
        assert case["error"] in str(caught.value)
        return
    built = builder.build(case, context)
    assert built.tree == case.get("tree", {})
    for key, value in case.get("config", {}).items():
        assert (built.config.get(key) or None) == value, key
    assert built.author == case.get("author", "")
