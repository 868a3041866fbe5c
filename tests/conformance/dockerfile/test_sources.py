"""What a build takes from servers, and where its result goes: ADD of URLs and repositories, contexts, outputs."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from engine.errors import InvalidInput, NotFound, Unavailable
from engine.images.build.cache import Session
from engine.images.build.outputs import read_output
from tests import workshop as workshops
from tests.workshop import Workshop

pytestmark = pytest.mark.needs("root", "mount", "overlay")


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    with workshops.opened(tmp_path) as made:
        yield made


class Server:
    """Serves a directory by HTTP. `asked` are the requests: method and path."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.asked: list[str] = []
        server = self

        class Handler(SimpleHTTPRequestHandler):
            def log_request(self, code: object = "-", size: object = "-") -> None:
                server.asked.append(f"{self.path} {int(code)}")  # type: ignore[call-overload]

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(directory)))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "www").mkdir()
    made = Server(tmp_path / "www")
    yield made
    made.close()


def git(directory: Path, *words: str) -> str:
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "init.defaultBranch=main"]
    environment = os.environ | {"HOME": str(directory), "GIT_CONFIG_NOSYSTEM": "1"}
    return subprocess.run(
        ["git", *identity, *words], cwd=directory, check=True, capture_output=True, text=True, env=environment
    ).stdout.strip()


def publish_repository(server: Server, tmp_path: Path) -> str:
    """A repository with a tag `one`, where `f` says 1, and a branch where it says 2, on the server; return its URL."""
    work = tmp_path / "work"
    (work / "sub").mkdir(parents=True)
    git(work, "init", "-q")
    for number in ("1", "2"):
        (work / "f").write_text(number)
        (work / "sub/g").write_text("g")
        (work / "Dockerfile").write_text("FROM busybox\nCOPY f /f\n")
        git(work, "add", ".")
        git(work, "commit", "-qm", number)
        if number == "1":
            git(work, "tag", "one")
    git(tmp_path, "clone", "-q", "--bare", str(work), str(server.directory / "r.git"))
    git(server.directory / "r.git", "update-server-info")
    return f"{server.url}/r.git"


def archive(files: dict[str, str]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    return packed.getvalue()


def test_a_url_is_fetched_once_and_again_when_it_changes(workshop: Workshop, server: Server) -> None:
    (server.directory / "data").write_text("one")
    os.utime(server.directory / "data", (1000, 1000))
    text = f"FROM busybox\nADD {server.url}/data /x/"
    image = workshop.build(text)
    found = workshop.files(image)["/x/data"]
    assert (workshop.read(image, "/x/data"), found.st_mode & 0o777, found.st_mtime) == ("one", 0o600, 1000)
    assert workshop.build(text).id == image.id
    assert server.asked == ["/data 200", "/data 304"]
    (server.directory / "data").write_text("two")
    assert workshop.read(workshop.build(text), "/x/data") == "two"


def test_a_checksum_saves_the_question_and_must_be_right(workshop: Workshop, server: Server) -> None:
    (server.directory / "data").write_text("one")
    digest = f"sha256:{hashlib.sha256(b'one').hexdigest()}"
    text = f"FROM busybox\nADD --checksum={digest} {server.url}/data /x"
    image = workshop.build(text)
    assert workshop.build(text).id == image.id
    assert server.asked == ["/data 200"]
    found = workshop.fails(f"FROM busybox\nADD --checksum=sha256:{'0' * 64} {server.url}/data /x")
    assert isinstance(found, InvalidInput)
    assert str(found).startswith("dockerfile_inline:2:1: ")
    assert f"expected sha256:{'0' * 64}, got {digest}" in found.message


def test_what_a_server_does_not_have_is_told_with_its_line(workshop: Workshop, server: Server) -> None:
    found = workshop.fails(f"FROM busybox\nADD {server.url}/none /x")
    assert isinstance(found, NotFound)
    assert str(found).startswith(f"dockerfile_inline:2:1: cannot fetch {server.url}/none: the server has no such file")


def test_a_remote_archive_is_unpacked_only_if_asked(workshop: Workshop, server: Server) -> None:
    (server.directory / "a.tgz").write_bytes(archive({"d/f": "text"}))
    image = workshop.build(f"FROM busybox\nADD {server.url}/a.tgz /plain/\nADD --unpack {server.url}/a.tgz /in/")
    assert {"/plain/a.tgz", "/in/d/f"} <= workshop.files(image).keys()


@pytest.mark.needs("git")
def test_a_repository_is_added_at_a_tag_a_commit_or_a_directory(
    workshop: Workshop, server: Server, tmp_path: Path
) -> None:
    url = publish_repository(server, tmp_path)
    commit = git(tmp_path / "work", "rev-parse", "one")
    image = workshop.build(
        f"FROM busybox\nADD {url} /new\nADD {url}#one /old\nADD {url}#{commit} /same\nADD {url}#main:sub /sub\n"
        f"ADD --keep-git-dir {url} /kept"
    )
    texts = [workshop.read(image, path) for path in ("/new/f", "/old/f", "/same/f", "/sub/g")]
    assert texts == ["2", "1", "1", "g"]
    files = workshop.files(image)
    assert "/kept/.git/HEAD" in files
    assert "/new/.git" not in files


@pytest.mark.needs("git")
def test_a_repository_is_a_context(workshop: Workshop, server: Server, tmp_path: Path) -> None:
    url = publish_repository(server, tmp_path)
    text = "FROM busybox\nCOPY --from=repository f /f"
    assert workshop.read(workshop.build(text, named_contexts={"repository": f"{url}#one"}), "/f") == "1"
    found = workshop.fails(text, named_contexts={"repository": f"{url}#none"})
    assert "has no branch or tag 'none'" in str(found)


def test_an_archive_on_a_server_is_a_context(workshop: Workshop, server: Server) -> None:
    (server.directory / "a.tgz").write_bytes(archive({"d/f": "text"}))
    (server.directory / "text").write_text("no archive")
    text = "FROM busybox\nCOPY --from=other d /"
    assert workshop.read(workshop.build(text, named_contexts={"other": f"{server.url}/a.tgz"}), "/f") == "text"
    found = workshop.fails(text, named_contexts={"other": f"{server.url}/text"})
    assert f"context 'other': {server.url}/text is not a tar archive" in found.message
    gone = workshop.fails(text, named_contexts={"other": "http://127.0.0.1:1/a.tgz"})
    assert isinstance(gone, Unavailable)


def test_an_output_of_files(workshop: Workshop, tmp_path: Path) -> None:
    workshop.write("a", "A", 0o640)
    text = "FROM scratch\nCOPY --chown=3:4 a /d/a"
    workshop.build(text, outputs=[read_output(f"type=local,dest={tmp_path}/out")])
    assert (tmp_path / "out/d/a").read_text() == "A"
    workshop.build(text, outputs=[read_output(f"type=tar,dest={tmp_path}/out.tar")])
    with tarfile.open(tmp_path / "out.tar") as tar:
        member = tar.getmember("d/a")
        assert (member.mode, member.uid, member.gid) == (0o640, 3, 4)


@pytest.mark.needs("skopeo")
@pytest.mark.parametrize(("kind", "transport"), [("oci", "oci-archive"), ("docker", "docker-archive")])
def test_an_output_of_an_image_is_read_by_others(workshop: Workshop, tmp_path: Path, kind: str, transport: str) -> None:
    workshop.write("a")
    workshop.build(
        "FROM scratch\nCOPY a /a\nUSER me", outputs=[read_output(f"type={kind},dest={tmp_path}/o.tar")], tags=["app:1"]
    )
    shown = subprocess.run(
        ["skopeo", "inspect", "--config", f"{transport}:{tmp_path}/o.tar"], check=True, capture_output=True, text=True
    )
    assert '"User":"me"' in shown.stdout.replace(" ", "")
    assert [image.tags for image in workshop.store.all()] == [("busybox:latest",)]


@pytest.mark.needs("skopeo")
def test_several_outputs_of_one_build(workshop: Workshop, tmp_path: Path) -> None:
    workshop.write("a", "A")
    words = [
        f"type=oci,tar=false,dest={tmp_path}/layout",
        f"type=docker,dest={tmp_path}/o.tar",
        f"{tmp_path}/files",
        "type=image",
    ]
    image = workshop.build("FROM scratch\nCOPY a /a", outputs=list(map(read_output, words)), tags=["app:1"])
    assert (tmp_path / "files/a").read_text() == "A"
    assert workshop.store.resolve("app:1").id == image.id
    digests = [
        json.loads(subprocess.run(["skopeo", "inspect", "--raw", name], check=True, capture_output=True).stdout)[
            "config"
        ]["digest"]
        for name in (f"oci:{tmp_path}/layout:1", f"docker-archive:{tmp_path}/o.tar:app:1")
    ]
    assert digests == [image.id] * 2


def test_what_two_builds_of_one_command_share_runs_once(workshop: Workshop) -> None:
    session = Session()
    for end in ("a", "b"):
        workshop.build(f"FROM busybox\nRUN echo $$ > /x\nRUN echo > /{end}", session=session, no_cache=True)
    assert len(workshop.runner.commands) == 3


def test_source_date_epoch_dates_what_commands_write_too(workshop: Workshop) -> None:
    workshop.write("a")
    text = "FROM busybox\nARG SOURCE_DATE_EPOCH\nRUN mkdir /d && echo 1 > /d/f\nCOPY a /d/\nWORKDIR /w"
    images = [workshop.build(text, args={"SOURCE_DATE_EPOCH": "1700000000"}, no_cache=True) for _ in range(2)]
    assert images[0].id == images[1].id
    assert {found.st_mtime for path, found in workshop.files(images[0]).items()} <= {1700000000.0}
