"""ADD of a URL: files by HTTP, kept by digest so that they are fetched again only when they changed.

What a URL led to is remembered beside the files: its digest, and what the server gave to ask later whether that still holds.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import re
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from engine.errors import Denied, InvalidInput, NotFound, UmiakError, Unavailable
from engine.frozen import frozen
from engine.images.blobs import replace_file
from engine.images.reference import is_digest

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

    from engine.images.build.cancel import Cancellation
    from engine.images.registry.failures import Patience
    from engine.images.registry.settings import Settings
    from engine.images.registry.transport import Transport

MAX_BYTES = 32 << 30
"""More than this no file of a build has; a server that sends it is broken or hostile."""

_ATTEMPTS = 3
_HINT = "check the network and the proxy, or put the file into the build context"
_URL = re.compile(r"https?://", re.IGNORECASE)
_CHUNK_BYTES = 1 << 20


@frozen
class Download:
    """A file on a server whose content is known by its digest. `name` is what it is called in a directory."""

    url: str
    name: str
    digest: str


def is_url(source: str) -> bool:
    """Whether a source of ADD is to be fetched by HTTP."""
    return _URL.match(source) is not None


class Downloads:
    """The directory of fetched files. What breaks or stalls is tried again, a few times."""

    def __init__(self, directory: str, cancellation: Cancellation, settings: Settings | None = None) -> None:
        self.directory = directory
        self.cancellation = cancellation
        self._given = settings

    @cached_property
    def settings(self) -> Settings:
        from engine.images.registry.settings import load_settings

        return self._given or replace(load_settings(), attempts=_ATTEMPTS)

    @cached_property
    def transport(self) -> Transport:
        from engine.images.registry.transport import Transport

        return Transport(self.settings, registries=False)

    @cached_property
    def patience(self) -> Patience:
        from engine.images.registry.failures import Patience

        made = Patience(self.settings, lambda _: None)
        self.cancellation.on_cancel(made.cancel)
        return made

    def find(self, url: str, checksum: str | None) -> Download:
        """Learn what a URL leads to, fetching it unless `checksum` says so already. Raise InvalidInput where the two differ."""
        if checksum is not None and not is_digest(checksum):
            raise InvalidInput(f"cannot read --checksum={checksum}", hint="write sha256: and 64 hexadecimal digits")
        name = posixpath.basename(urllib.parse.unquote(urllib.parse.urlsplit(url).path))
        return Download(url, name, checksum or self._fetch(url))

    @contextmanager
    def opened(self, download: Download) -> Iterator[tuple[str, float]]:
        """The path of the file, fetched now if it is missing, and its time of modification (0: the server gave none).

        It stays for the block, whoever prunes what is kept.
        """
        own = os.path.join(self.directory, f".{os.urandom(8).hex()}")
        while not self._linked(download.digest, own):
            digest = self._fetch(download.url)
            if digest != download.digest:
                raise InvalidInput(
                    f"{download.url} does not match its checksum: expected {download.digest}, got {digest}",
                    hint="the file has changed on the server; correct --checksum if that is meant to be",
                )
        try:
            with suppress(FileNotFoundError):
                os.utime(self._note_path(download.url))
            yield own, float(self._note(download.url).get("modified", 0.0))
        finally:
            os.unlink(own)

    def _linked(self, digest: str, own: str) -> bool:
        """Give the kept file of a digest one more name; false where there is none."""
        try:
            os.link(self._path(digest), own)
        except FileNotFoundError:
            return False
        return True

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
        try:
            found = self.patience.retry(lambda: self._fetch_once(url, note))
        except UmiakError as error:
            self.cancellation.check()
            error.message = f"cannot fetch {url}: {error.message}"
            error.hint = _HINT if isinstance(error, Unavailable) else error.hint
            raise
        if found is not note:
            replace_file(self._note_path(url), json.dumps(found).encode())
        return str(found["digest"])

    def _fetch_once(self, url: str, note: dict[str, Any]) -> dict[str, Any]:
        """What is to be remembered of a URL; `note` itself where nothing changed."""
        response = self.transport.send("GET", url, _conditions(note))
        try:
            if response.status == 304 and note:
                return note
            if response.status != 200:
                raise _failure(response)
            return {
                "url": url,
                "digest": self._save(response),
                "etag": response.headers.get("ETag", ""),
                "last_modified": response.headers.get("Last-Modified", ""),
                "modified": _seconds(response.headers.get("Last-Modified", "")),
            }
        finally:
            response.close()

    def _save(self, response: BaseHTTPResponse) -> str:
        digest = hashlib.sha256()
        temporary = os.path.join(self.directory, f".{os.urandom(8).hex()}")
        try:
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
                for piece in self._pieces(response):
                    digest.update(piece)
                    file.write(piece)
            os.rename(temporary, self._path(f"sha256:{digest.hexdigest()}"))
        except BaseException:
            os.unlink(temporary)
            raise
        return f"sha256:{digest.hexdigest()}"

    def _pieces(self, response: BaseHTTPResponse) -> Iterator[bytes]:
        from urllib3.exceptions import HTTPError

        from engine.images.registry.failures import Broken, Pace
        from engine.images.registry.transport import explained

        host = urllib.parse.urlsplit(response.url or "").netloc or "the server"
        received, pace = 0, Pace(host, self.settings.timeout_s)
        try:
            with self.patience.watching(response.shutdown):
                self.patience.check()
                while piece := response.read1(_CHUNK_BYTES):
                    self.patience.check()
                    received += len(piece)
                    if received > MAX_BYTES:
                        raise InvalidInput(f"the file is larger than {MAX_BYTES >> 30} GiB")
                    pace.at(received)
                    yield piece
        except HTTPError as error:
            raise explained(error, host) from error
        if response.length_remaining:
            raise Broken(f"the connection to {host} broke after {received} bytes")


def _conditions(note: dict[str, Any]) -> dict[str, str]:
    """The header by which a server says whether what `note` tells still holds."""
    if note.get("etag"):
        return {"If-None-Match": str(note["etag"])}
    return {"If-Modified-Since": str(note["last_modified"])} if note.get("last_modified") else {}


def _failure(response: BaseHTTPResponse) -> UmiakError:
    from engine.images.registry.failures import Broken, Throttled
    from engine.images.registry.repository import retry_after_s

    status = response.status
    if status in (404, 410):
        return NotFound(f"the server has no such file ({status})")
    said = f"the server answered {status} {response.reason or ''}".rstrip()
    if status in (401, 403):
        return Denied(said)
    if status == 429:
        return Throttled(said, retry_after_s=retry_after_s(response.headers.get("Retry-After")))
    return Broken(said) if status >= 500 or status == 408 else Unavailable(said)


def _seconds(date: str) -> float:
    import email.utils

    try:
        return max(email.utils.parsedate_to_datetime(date).timestamp(), 0.0)
    except (TypeError, ValueError):
        return 0.0
