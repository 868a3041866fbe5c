"""Servers that stall, trickle, break off, are busy or never end: the files of ADD and contexts from them."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from engine.errors import InvalidInput, TimedOut, UmiakError, Unavailable
from engine.images.build import download, git
from engine.images.build.cancel import Cancellation, Cancelled
from engine.images.build.download import Downloads
from engine.images.registry.settings import HostSettings, Settings

QUICK = Settings(timeout_s=0.4, connect_timeout_s=2.0, attempts=3, backoff_s=0.01, longest_wait_s=5.0)

Answer = Callable[["Server", BaseHTTPRequestHandler], None]


class Server:
    """Answers each request as the next of `answers` does, the last one for ever."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.asked = 0
        self.stopped = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer = server.answers[min(server.asked, len(server.answers) - 1)]
                server.asked += 1
                answer(server, self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/file"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()


def send(handler: BaseHTTPRequestHandler, status: int, data: bytes, size: int | None = None, **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(data) if size is None else size))
    handler.end_headers()
    handler.wfile.write(data)
    handler.wfile.flush()


def whole(_: Server, handler: BaseHTTPRequestHandler) -> None:
    send(handler, 200, b"content")


def stalls(server: Server, handler: BaseHTTPRequestHandler) -> None:
    send(handler, 200, b"con", 7)
    server.stopped.wait()


def never_answers(server: Server, _: BaseHTTPRequestHandler) -> None:
    server.stopped.wait()


def trickles(server: Server, handler: BaseHTTPRequestHandler) -> None:
    send(handler, 200, b"", 10**6)
    while not server.stopped.wait(0.05):
        try:
            handler.wfile.write(b".")
        except OSError:
            return


def breaks_off(_: Server, handler: BaseHTTPRequestHandler) -> None:
    send(handler, 200, b"con", 7)
    handler.connection.shutdown(socket.SHUT_RDWR)


def is_busy(_: Server, handler: BaseHTTPRequestHandler) -> None:
    send(handler, 429, b"", Retry_After="0")


def fails(_: Server, handler: BaseHTTPRequestHandler) -> None:
    send(handler, 503, b"")


def never_ends(server: Server, handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    try:
        while not server.stopped.is_set():
            handler.wfile.write(bytes(1 << 16))
    except OSError:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    made = Server()
    yield made
    made.close()


@pytest.fixture
def downloads(tmp_path: Path) -> Downloads:
    return Downloads(str(tmp_path / "downloads"), Cancellation(), QUICK)


def unfinished(downloads: Downloads) -> list[str]:
    return [name for name in os.listdir(downloads.directory) if name.startswith(".")]


@pytest.mark.parametrize("trouble", [stalls, never_answers, trickles, breaks_off, is_busy, fails])
def test_what_may_pass_is_tried_again(server: Server, downloads: Downloads, trouble: Answer) -> None:
    server.answers = [trouble, trouble, whole]
    with downloads.opened(downloads.find(server.url, None)) as (path, _):
        assert Path(path).read_bytes() == b"content"
    assert server.asked == 3
    assert not unfinished(downloads)


@pytest.mark.parametrize(
    ("trouble", "why"),
    [
        (stalls, "stopped answering"),
        (never_answers, "stopped answering"),
        (trickles, "hardly sends anything"),
        (breaks_off, "broke"),
        (is_busy, "the server answered 429 Too Many Requests"),
        (fails, "the server answered 503 Service Unavailable"),
    ],
)
def test_what_does_not_pass_is_an_error_with_the_url(
    server: Server, downloads: Downloads, trouble: Answer, why: str
) -> None:
    server.answers = [trouble]
    with pytest.raises(UmiakError) as caught:
        downloads.find(server.url, None)
    assert caught.value.message.startswith(f"cannot fetch {server.url}: ")
    assert why in caught.value.message
    assert isinstance(caught.value, Unavailable | TimedOut)
    assert server.asked == 3
    assert os.listdir(downloads.directory) == []


def with_a_certificate(server: Server, directory: Path) -> str:
    """Let a server speak HTTPS; return the file of its certificate."""
    key, certificate = directory / "key.pem", directory / "certificate.pem"
    words = (
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=x -addext subjectAltName=IP:127.0.0.1"
    )
    command = ["openssl", *words.split(), "-days", "2", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server._server.socket = context.wrap_socket(server._server.socket, server_side=True)
    server.url = server.url.replace("http:", "https:")
    return str(certificate)


def test_a_redirect_to_plain_http_is_followed_and_the_checksum_holds(server: Server, tmp_path: Path) -> None:
    secure = Server()
    hosts = {urlsplit(secure.url).netloc: HostSettings(ca=with_a_certificate(secure, tmp_path))}
    downloads = Downloads(str(tmp_path / "d"), Cancellation(), replace(QUICK, hosts=hosts))
    secure.answers = [lambda _, handler: send(handler, 302, b"", Location=server.url)]
    server.answers = [whole]
    with downloads.opened(downloads.find(secure.url, None)) as (path, _):
        assert Path(path).read_bytes() == b"content"
    other = downloads.find(secure.url, f"sha256:{'0' * 64}")
    with pytest.raises(InvalidInput, match="does not match its checksum"), downloads.opened(other):
        pass
    secure.close()


def test_a_file_without_end_is_refused(server: Server, downloads: Downloads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "MAX_BYTES", 1 << 22)
    server.answers = [never_ends]
    with pytest.raises(InvalidInput, match="the file is larger than"):
        downloads.find(server.url, None)
    assert os.listdir(downloads.directory) == []


def test_a_download_that_waits_can_be_given_up(server: Server, tmp_path: Path) -> None:
    downloads = Downloads(str(tmp_path / "d"), Cancellation(), Settings(timeout_s=600.0))
    begun = threading.Event()

    def begins(server: Server, handler: BaseHTTPRequestHandler) -> None:
        begun.set()
        stalls(server, handler)

    server.answers = [begins]
    threading.Thread(target=lambda: begun.wait() and downloads.cancellation.cancel(), daemon=True).start()
    with pytest.raises(Cancelled):
        downloads.find(server.url, None)
    assert os.listdir(downloads.directory) == []


@pytest.mark.needs("git")
def test_a_repository_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git, "_ASK_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"git://127.0.0.1:{silent.getsockname()[1]}/r.git"
        begun = time.monotonic()
        with pytest.raises(TimedOut, match=f"cannot fetch {url}: the server did not finish within"):
            git.find(url, Cancellation())
        assert time.monotonic() - begun < 60
