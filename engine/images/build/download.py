"""ADD of a URL: files by HTTP, kept by digest so that they are fetched again only when they changed.

What a URL led to is remembered beside the files: its digest, and what the server gave to ask later whether that still holds.
"""

from __future__ import annotations

import email.utils
import hashlib
import json
import os
import posixpath
import re
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.errors import Denied, InvalidInput, NotFound, Unavailable
from engine.images.blobs import replace_file
from engine.images.reference import is_digest

if TYPE_CHECKING:
    from http.client import HTTPResponse

    from engine.images.build.cancel import Cancellation

TIMEOUT_S = 30.0
_URL = re.compile(r"https?://", re.IGNORECASE)
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Download:
    """A file on a server whose content is known by its digest. `name` is what it is called in a directory."""

    url: str
    name: str
    digest: str


def is_url(source: str) -> bool:
    """Whether a source of ADD is to be fetched by HTTP."""
    return _URL.match(source) is not None


class Downloads:
    """The directory of fetched files."""

    def __init__(self, directory: str, cancellation: Cancellation) -> None:
        self.directory = directory
        self.cancellation = cancellation

    def find(self, url: str, checksum: str | None) -> Download:
        """Learn what a URL leads to, fetching it unless `checksum` says so already. Raise InvalidInput where the two differ."""
        if checksum is not None and not is_digest(checksum):
            raise InvalidInput(f"cannot read --checksum={checksum}", hint="write sha256: and 64 hexadecimal digits")
        name = posixpath.basename(urllib.parse.unquote(urllib.parse.urlsplit(url).path))
        return Download(url, name, checksum or self._fetch(url))

    @contextmanager
    def opened(self, download: Download) -> Iterator[tuple[str, float]]:
        """The path of the file, fetched now if it is missing, and its time of modification (0: the server gave none)."""
        path = self._path(download.digest)
        if not os.path.exists(path):
            digest = self._fetch(download.url)
            if digest != download.digest:
                raise InvalidInput(
                    f"{download.url} does not match its checksum: expected {download.digest}, got {digest}",
                    hint="the file has changed on the server; correct --checksum if that is meant to be",
                )
        os.utime(self._note_path(download.url))
        yield path, float(self._note(download.url).get("modified", 0.0))

    def _path(self, digest: str) -> str:
        return os.path.join(self.directory, digest.removeprefix("sha256:"))

    def _note_path(self, url: str) -> str:
        return os.path.join(self.directory, hashlib.sha256(url.encode()).hexdigest() + ".json")

    def _note(self, url: str) -> dict[str, Any]:
        try:
            with open(self._note_path(url), encoding="utf-8") as file:
                note: dict[str, Any] = json.load(file)
                return note
        except (FileNotFoundError, ValueError):
            return {}

    def _fetch(self, url: str) -> str:
        """Fetch a URL unless the server says that nothing changed; return the digest of the content."""
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        note = self._note(url)
        if note and not os.path.exists(self._path(note["digest"])):
            note = {}
        response = _request(url, note)
        if response is None:
            return str(note["digest"])
        with response:
            digest = self._save(url, response)
            note = {
                "url": url,
                "digest": digest,
                "etag": response.headers.get("ETag", ""),
                "last_modified": response.headers.get("Last-Modified", ""),
                "modified": _seconds(response.headers.get("Last-Modified", "")),
            }
        replace_file(self._note_path(url), json.dumps(note).encode())
        return digest

    def _save(self, url: str, response: HTTPResponse) -> str:
        digest = hashlib.sha256()
        temporary = os.path.join(self.directory, f".{os.urandom(8).hex()}")
        try:
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
                for piece in _pieces(url, response):
                    self.cancellation.check()
                    digest.update(piece)
                    file.write(piece)
            os.rename(temporary, self._path(f"sha256:{digest.hexdigest()}"))
        except BaseException:
            os.unlink(temporary)
            raise
        return f"sha256:{digest.hexdigest()}"


def _request(url: str, note: dict[str, Any]) -> HTTPResponse | None:
    """Ask for a URL; None where the server says that it is as `note` tells."""
    import http.client
    import urllib.error
    import urllib.request

    request = urllib.request.Request(url, headers={"User-Agent": "umiak"})
    if note.get("etag"):
        request.add_header("If-None-Match", note["etag"])
    elif note.get("last_modified"):
        request.add_header("If-Modified-Since", note["last_modified"])
    try:
        response: HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT_S)
        return response
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 304:
            return None
        if error.code in (404, 410):
            raise NotFound(f"cannot fetch {url}: the server has no such file ({error.code})") from error
        if error.code in (401, 403):
            raise Denied(f"cannot fetch {url}: the server answered {error.code} {error.reason}") from error
        raise _unavailable(url, f"the server answered {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        why = error.reason.strerror if isinstance(error.reason, OSError) and error.reason.strerror else error.reason
        raise _unavailable(url, str(why).lower()) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _unavailable(url, str(error) or type(error).__name__) from error


def _pieces(url: str, response: HTTPResponse) -> Iterator[bytes]:
    import http.client

    received = 0
    expected = response.headers.get("Content-Length")
    try:
        while piece := response.read(_CHUNK_BYTES):
            received += len(piece)
            yield piece
    except (OSError, http.client.HTTPException) as error:
        raise _unavailable(url, str(error) or type(error).__name__) from error
    if expected is not None and expected.isdigit() and received != int(expected):
        raise _unavailable(url, f"the connection broke after {received} of {expected} bytes")


def _seconds(date: str) -> float:
    try:
        return max(email.utils.parsedate_to_datetime(date).timestamp(), 0.0)
    except (TypeError, ValueError):
        return 0.0


def _unavailable(url: str, why: str) -> Unavailable:
    return Unavailable(
        f"cannot fetch {url}: {why}", hint="check the network and the proxy, or put the file into the build context"
    )
