from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from engine.errors import InvalidInput, NotFound, Unavailable
from engine.images.apt import fetch
from engine.images.apt.fetch import Download, Fetcher

DATA = b"package " * 5000


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen: ClassVar[list[str]] = []
    failures: ClassVar[dict[str, int]] = {}

    def do_GET(self) -> None:
        Handler.seen.append(self.path)
        if Handler.failures.get(self.path, 0) > 0:
            Handler.failures[self.path] -= 1
            if self.path == "/broken":
                self.send_response(200)
                self.send_header("Content-Length", str(len(DATA)))
                self.end_headers()
                self.wfile.write(DATA[:100])
                self.close_connection = True
                return
            self._answer(503, b"")
        elif self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/data")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.path == "/none":
            self._answer(404, b"no")
        else:
            self._answer(200, DATA)

    def _answer(self, status: int, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    Handler.seen.clear()
    Handler.failures.clear()
    monkeypatch.setattr(fetch.time, "sleep", lambda _: None)
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=made.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{made.server_port}"
    made.shutdown()
    made.server_close()
    thread.join()


def job(url: str, path: Path, data: bytes = DATA) -> Download:
    return Download(url, str(path), hashlib.sha256(data).hexdigest(), len(data), path.name)


def test_files_are_fetched_verified_and_not_fetched_again(server: str, tmp_path: Path) -> None:
    jobs = [job(f"{server}/{n}", tmp_path / str(n)) for n in range(20)]
    told: list[tuple[str, int, int]] = []
    fetcher = Fetcher({})
    fetcher.download_all(jobs, lambda *args: told.append(args))
    assert all((tmp_path / str(n)).read_bytes() == DATA for n in range(20))
    assert told[-1][1:] == (20, 20)
    fetcher.download_all(jobs, lambda *args: None)
    assert len(Handler.seen) == 20


def test_a_broken_connection_and_a_busy_server_are_tried_again(server: str, tmp_path: Path) -> None:
    Handler.failures.update({"/broken": 2, "/busy": 1})
    Fetcher({}).download(job(f"{server}/broken", tmp_path / "a"))
    Fetcher({}).download(job(f"{server}/busy", tmp_path / "b"))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == DATA


def test_a_server_that_stays_busy_is_unavailable(server: str, tmp_path: Path) -> None:
    Handler.failures["/busy"] = 99
    with pytest.raises(Unavailable, match="503"):
        Fetcher({}).download(job(f"{server}/busy", tmp_path / "a"))
    assert list(tmp_path.iterdir()) == []


def test_wrong_content_is_refused_and_not_kept(server: str, tmp_path: Path) -> None:
    for wrong in (b"x" * len(DATA), b"short"):
        with pytest.raises(InvalidInput, match=r"SHA-256|larger"):
            Fetcher({}).download(job(f"{server}/data", tmp_path / "a", wrong))
    assert list(tmp_path.iterdir()) == []


def test_redirections_are_followed_and_missing_files_told(server: str, tmp_path: Path) -> None:
    assert Fetcher({}).text(f"{server}/moved", 1 << 20) == DATA
    with pytest.raises(NotFound):
        Fetcher({}).text(f"{server}/none", 100)


def test_a_proxy_is_asked_with_the_whole_url_unless_the_host_is_direct(server: str) -> None:
    fetcher = Fetcher({"http": server, "http::direct.invalid": "DIRECT"})
    assert fetcher.text("http://archive.invalid/debian/x", 1 << 20) == DATA
    assert Handler.seen == ["http://archive.invalid/debian/x"]
    with pytest.raises(Unavailable):
        fetcher.text("http://direct.invalid/x", 100)


def test_a_file_url_is_read(tmp_path: Path) -> None:
    (tmp_path / "a b").write_bytes(DATA)
    assert Fetcher({}).text(f"file://{tmp_path}/a%20b", 1 << 20) == DATA
