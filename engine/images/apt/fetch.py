"""Downloads over HTTP with kept-alive connections, several at once, verified while they are read, into a cache."""

from __future__ import annotations

import hashlib
import http.client
import os
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import BinaryIO

from engine.errors import InvalidInput, NotFound, Unavailable, Unsupported
from engine.frozen import frozen

_PARALLEL = 6
_ATTEMPTS = 4
_TIMEOUT_S = 30.0
_MAX_REDIRECTS = 5
_CHUNK_BYTES = 1 << 18
_NETWORK_ERRORS = (OSError, http.client.HTTPException)


@frozen
class Download:
    """A file to fetch: where from, where to, and what it must be."""

    url: str
    path: str
    sha256: str
    size_bytes: int
    name: str


class Fetcher:
    """Fetches URLs (http, https, file) through apt's proxies. Each thread keeps its own connections."""

    def __init__(self, proxies: Mapping[str, str]) -> None:
        self._proxies = proxies
        self._local = threading.local()

    def text(self, url: str, limit: int) -> bytes:
        """Read a small file whole. Raise NotFound, or Unavailable after several attempts."""
        parts: list[bytes] = []
        self._retried(url, limit, parts.append, parts.clear)
        return b"".join(parts)

    def download(self, job: Download) -> None:
        """Fetch a file into place unless it is there already, whole and with the right digest."""
        if os.path.exists(job.path) and _sha256_of(job.path) == job.sha256:
            return
        temporary = f"{job.path}.{os.urandom(4).hex()}.tmp"
        try:
            with open(temporary, "xb", buffering=0) as file:
                self._verified(job, file)
            os.rename(temporary, job.path)
        finally:
            if os.path.exists(temporary):
                os.unlink(temporary)

    def download_all(self, jobs: Iterable[Download], progress: Callable[[str, int, int], None]) -> None:
        """Fetch many files, several at once. The first failure stops the rest."""
        pending = list(jobs)
        with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="fetch") as pool:
            futures = {pool.submit(self.download, job): job for job in pending}
            try:
                for done, future in enumerate(as_completed(futures), 1):
                    future.result()
                    progress(f"fetch {futures[future].name}", done, len(pending))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _verified(self, job: Download, file: BinaryIO) -> None:
        hashes = [hashlib.sha256()]

        def write(data: bytes) -> None:
            hashes[0].update(data)
            file.write(data)

        def restart() -> None:
            hashes[0] = hashlib.sha256()
            file.seek(0)
            file.truncate()

        self._retried(job.url, job.size_bytes, write, restart)
        if hashes[0].hexdigest() != job.sha256:
            raise InvalidInput(
                f"{job.url} does not have the SHA-256 that the signed index lists",
                hint="the mirror may be in the middle of an update; try again",
            )

    def _retried(self, url: str, limit: int, write: Callable[[bytes], object], restart: Callable[[], object]) -> None:
        last: Exception | None = None
        for attempt in range(_ATTEMPTS):
            if attempt:
                time.sleep(0.3 * 3 ** (attempt - 1))
                restart()
            try:
                self._read(url, limit, write)
                return
            except _NETWORK_ERRORS as error:
                last = error
                self._drop_connections()
        raise Unavailable(f"cannot fetch {url}: {last}", hint="check the network, and the host's apt sources") from last

    def _read(self, url: str, limit: int, write: Callable[[bytes], object]) -> None:
        for _ in range(_MAX_REDIRECTS):
            parts = urllib.parse.urlsplit(url)
            if parts.scheme == "file":
                _read_file(parts.path, limit, write)
                return
            response = self._request(url, parts)
            if response.status in (301, 302, 303, 307, 308) and response.getheader("Location"):
                response.read()
                url = urllib.parse.urljoin(url, response.getheader("Location") or "")
                continue
            if response.status == 404:
                response.read()
                raise NotFound(f"{url} does not exist", hint="check the suite's name and the host's apt sources")
            if response.status != 200:
                raise OSError(f"the server answered {response.status} {response.reason}")
            _copy(response.read, limit, url, write)
            if response.length:
                raise OSError(f"the connection broke {response.length} bytes before the end")
            return
        raise Unavailable(f"cannot fetch {url}: too many redirections")

    def _request(self, url: str, parts: urllib.parse.SplitResult) -> http.client.HTTPResponse:
        connection, is_proxied = self._connection(parts)
        path = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
        connection.request(
            "GET", url if is_proxied else path, headers={"User-Agent": "umiak", "Accept-Encoding": "identity"}
        )
        return connection.getresponse()

    def _connection(self, parts: urllib.parse.SplitResult) -> tuple[http.client.HTTPConnection, bool]:
        """This thread's connection to a host, and whether requests on it must name the whole URL (plain HTTP by a proxy)."""
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Unsupported(f"cannot fetch {parts.geturl()}: only http, https and file are supported")
        connections: dict[tuple[str, str], http.client.HTTPConnection] = self._local.__dict__.setdefault(
            "connections", {}
        )
        proxy = self._proxy(parts.scheme, parts.hostname)
        key = (parts.scheme, parts.netloc)
        if key not in connections:
            connections[key] = _connect(parts, proxy)
        return connections[key], proxy is not None and parts.scheme == "http"

    def _proxy(self, scheme: str, host: str) -> urllib.parse.SplitResult | None:
        text = self._proxies.get(f"{scheme}::{host}") or self._proxies.get(scheme) or "DIRECT"
        if text.upper() == "DIRECT":
            return None
        return urllib.parse.urlsplit(text if "//" in text else f"//{text}")

    def _drop_connections(self) -> None:
        for connection in self._local.__dict__.pop("connections", {}).values():
            connection.close()


def _connect(parts: urllib.parse.SplitResult, proxy: urllib.parse.SplitResult | None) -> http.client.HTTPConnection:
    host, port = parts.hostname or "", parts.port
    if proxy is None:
        if parts.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=_TIMEOUT_S)
        return http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    if parts.scheme == "https":
        tunnelled = http.client.HTTPSConnection(proxy.hostname or "", proxy.port, timeout=_TIMEOUT_S)
        tunnelled.set_tunnel(host, port or 443)
        return tunnelled
    return http.client.HTTPConnection(proxy.hostname or "", proxy.port, timeout=_TIMEOUT_S)


def _copy(read: Callable[[int], bytes], limit: int, url: str, write: Callable[[bytes], object]) -> None:
    left = limit
    while data := read(_CHUNK_BYTES):
        left -= len(data)
        if left < 0:
            raise InvalidInput(f"{url} is larger than expected ({limit} bytes)")
        write(data)


def _read_file(path: str, limit: int, write: Callable[[bytes], object]) -> None:
    try:
        with open(urllib.parse.unquote(path), "rb") as file:
            _copy(file.read, limit, f"file:{path}", write)
    except FileNotFoundError as error:
        raise NotFound(f"file:{path} does not exist") from error


def _sha256_of(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
