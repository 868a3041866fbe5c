"""What each instruction of a Dockerfile makes, file by file. See README.md."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.errors import UmiakError
from engine.images.archive import import_rootfs
from engine.images.build.builder import BuildRequest
from engine.images.build.rootfs import mounted
from engine.images.build.secrets import Secret
from tests.conformance.dockerfile import recorded
from tests.conformance.dockerfile.cases import (
    CASES,
    Case,
    Result,
    check,
    fingerprint,
    is_classic,
    plain_config,
    without,
    write_context,
)
from tests.images import busybox_rootfs_tar

DOCKER = recorded.load()
AGAIN = "record docker.json again: see README.md"


class Umiak:
    """Builds with the engine, its containers included."""

    def __init__(self, base: Path) -> None:
        from compose.wiring import open_engine

        self.engine = open_engine(warm=True)
        self.empty = base / "empty"
        self.empty.mkdir()
        import_rootfs(self.engine.images, busybox_rootfs_tar(base / "busybox.tar"), "busybox")
        self.own = self._tree(self.engine.images.resolve("busybox"))

    def build(self, case: Case, context: Path) -> Result:
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
            return Result(error=str(error))
        document = self.engine.images.config_json(image.id)
        return Result(
            without(self._tree(image), self.own), plain_config(document["config"]), document.get("author", "")
        )

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


@pytest.mark.needs("root", "mount", "overlay", "netns")
@pytest.mark.parametrize("name", CASES)
def test_umiak_makes_what_the_reference_says_and_docker_makes(umiak: Umiak, name: str, tmp_path: Path) -> None:
    case = CASES[name]
    write_context(tmp_path / "context", case)
    result = umiak.build(case, tmp_path / "context")
    check(case, result)
    if is_classic(case) and not result.error:
        _, docker = DOCKER[name]
        assert result == docker


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if is_classic(case)])
def test_docker_made_what_the_case_says(name: str) -> None:
    given, result = DOCKER[name]
    assert given == fingerprint(CASES[name]), AGAIN
    check(CASES[name], result)


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[recorded.Docker]:
    made = recorded.Docker(tmp_path_factory.mktemp("docker"))
    yield made
    made.close()


@pytest.mark.skipif("DOCKER_HOST" not in os.environ, reason="no DOCKER_HOST names a dockerd to ask")
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if is_classic(case)])
def test_a_dockerd_that_is_present_says_what_is_recorded(docker: recorded.Docker, name: str, tmp_path: Path) -> None:
    write_context(tmp_path / "context", CASES[name])
    _, expected = DOCKER[name]
    found = docker.build(CASES[name], tmp_path / "context")
    assert bool(found.error) == bool(expected.error)
    assert found.error or found == expected


def test_no_answer_is_of_a_case_that_is_gone() -> None:
    assert set(DOCKER) == {name for name, case in CASES.items() if is_classic(case)}, AGAIN
