"""One repository of one registry, as the OCI distribution specification has it: manifests, blobs, uploads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from engine.errors import Denied, InvalidInput, NotFound, UmiakError, Unavailable
from engine.images.compression import Readable
from engine.images.config import MAX_JSON_BYTES
from engine.images.registry.auth import Authenticator
from engine.images.registry.credentials import CredentialStore
from engine.images.registry.endpoints import Endpoint
from engine.images.registry.failures import Broken, NotTls, Patience, Throttled, Unreachable
from engine.images.registry.manifest import ACCEPT, RemoteManifest, read_manifest
from engine.images.registry.settings import Settings
from engine.images.registry.transport import Transport, is_same_origin, joined, read_bounded, said

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

Body = bytes | Callable[[], Readable] | None

MONOLITHIC_BYTES = 1 << 20
_UPLOAD_TIMEOUT_S = 300.0


class Connection:
    """What all repositories of one command share: settings, connections, logins, patience."""

    def __init__(
        self,
        settings: Settings,
        told: Callable[[str], None],
        *,
        credentials: CredentialStore | None = None,
    ) -> None:
        self.settings = settings
        self.told = told
        self.credentials = credentials or CredentialStore()
        self.transport = Transport(settings)
        self.patience = Patience(settings, told)

    def close(self) -> None:
        """Close the network connections."""
        self.transport.close()


class Repository:
    """A repository at an endpoint. `open()` finds out what the registry speaks and how it wants us to authenticate."""

    def __init__(
        self,
        connection: Connection,
        endpoint: Endpoint,
        repository: str,
        actions: str = "pull",
        auth: Authenticator | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.name = endpoint.prefix + repository
        self.host = endpoint.host
        self._connection = connection
        self._scopes = (f"repository:{self.name}:{actions}",) if repository else ()
        self._auth = auth or Authenticator(
            endpoint.registry,
            connection.transport,
            lambda: connection.credentials.get(endpoint.registry, connection.told),
        )
        self._base = f"{endpoint.schemes[0]}://{endpoint.host}"

    def open(self) -> None:
        """Greet the registry. Raise Unreachable where there is none."""
        self._connection.patience.retry(self._greet)

    def check_login(self) -> None:
        """Ask whether the registry takes our login. Raise Denied where it does not."""

        def ask() -> None:
            self._request("GET", f"{self._base}/v2/").close()

        self._connection.patience.retry(ask)

    def manifest(self, reference: str) -> RemoteManifest:
        """A manifest or an index, by tag or digest, checked."""

        def fetch() -> RemoteManifest:
            response = self._request("GET", self._path("manifests", reference), headers={"Accept": ACCEPT})
            data = read_bounded(response, MAX_JSON_BYTES, "the manifest")
            return read_manifest(
                data, response.headers.get("Content-Type", ""), reference if reference.startswith("sha256:") else None
            )

        return self._connection.patience.retry(fetch)

    def blob(self, digest: str, size_bytes: int) -> bytes:
        """A small blob, whole and verified."""
        import hashlib

        def fetch() -> bytes:
            response = self._request("GET", self._path("blobs", digest))
            return read_bounded(response, MAX_JSON_BYTES, "the image configuration")

        data = self._connection.patience.retry(fetch)
        if len(data) != size_bytes or f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
            raise InvalidInput(f"blob {digest} from {self.host} does not match its digest")
        return data

    def open_blob(self, digest: str, offset: int) -> BaseHTTPResponse:
        """A response whose body is a blob: from `offset` on (206), or all of it (200) where the registry knows no ranges."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        return self._request("GET", self._path("blobs", digest), headers=headers, expected=(200, 206))

    def has_blob(self, digest: str) -> bool:
        """Whether the repository has a blob already."""

        def ask() -> bool:
            try:
                self._request("HEAD", self._path("blobs", digest)).release_conn()
            except NotFound:
                return False
            return True

        return self._connection.patience.retry(ask)

    def mount(self, digest: str, source: str) -> str | None:
        """Take a blob over from another repository of this registry: None where that is done, else where to upload it."""

        def ask() -> str | None:
            path = f"{self._path('blobs', 'uploads')}/?mount={digest}&from={source}"
            scopes = (*self._scopes, f"repository:{source}:pull")
            response = self._request("POST", path, expected=(201, 202), scopes=scopes)
            return None if response.status == 201 else self._location(response, path)

        return self._connection.patience.retry(ask)

    def begin_upload(self) -> str:
        """Ask for a place to upload a blob to."""

        def ask() -> str:
            url = f"{self._path('blobs', 'uploads')}/"
            return self._location(self._request("POST", url, expected=(202,)), url)

        return self._connection.patience.retry(ask)

    def upload(self, location: str, body: Callable[[], Readable], offset: int, size_bytes: int) -> str:
        """Send a piece of a blob, once. Return where the next one goes. Who calls it tries again from `uploaded()`."""
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size_bytes)}
        if offset:
            headers["Content-Range"] = f"{offset}-{offset + size_bytes - 1}"
        response = self._request("PATCH", location, headers=headers, body=body, expected=(202, 204))
        return self._location(response, location)

    def uploaded(self, location: str) -> tuple[str, int] | None:
        """Where an upload goes on, and how much of it the registry has; None where it is lost."""
        try:
            response = self._request("GET", location, expected=(204,))
        except (NotFound, Unavailable, InvalidInput):
            return None
        start, _, end = response.headers.get("Range", "").removeprefix("bytes=").partition("-")
        if start != "0" or not end.isdigit() or len(end) > 18:
            return None
        return self._location(response, location), int(end) + 1 if int(end) else 0

    def finish_upload(self, location: str, digest: str, body: bytes = b"") -> None:
        """Name what was uploaded by its digest, with the last (or only) piece of it."""
        joint = "&" if urlsplit(location).query else "?"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(len(body))}
        url = f"{location}{joint}digest={digest}"
        self._request("PUT", url, headers=headers, body=body, expected=(201, 204)).release_conn()

    def put_blob(self, digest: str, data: bytes) -> None:
        """Store a small blob, in one piece."""
        self._connection.patience.retry(lambda: self.finish_upload(self.begin_upload(), digest, data))

    def put_manifest(self, reference: str, data: bytes, media_type: str) -> None:
        """Store a manifest under a tag or its digest."""

        def put() -> None:
            self._request(
                "PUT",
                self._path("manifests", reference),
                headers={"Content-Type": media_type},
                body=data,
                expected=(201, 202),
            ).release_conn()

        self._connection.patience.retry(put)

    # ------------------------------------------------------------------------------------ exchanges

    def _greet(self) -> None:
        for scheme in self.endpoint.schemes:
            self._base = f"{scheme}://{self.endpoint.host}"
            url = f"{self._base}/v2/"
            try:
                response = self._connection.transport.send("GET", url, {})
            except (NotTls, Broken, Unreachable) as error:
                # Plain HTTP may still be spoken, on this port or (where none is given) on its own.
                is_last = scheme == self.endpoint.schemes[-1]
                if is_last or not (isinstance(error, NotTls | Broken) or self._port is None):
                    raise
                continue
            if response.status == 401:
                self._auth.learn(response, url)
            if response.status >= 500 or response.status == 429:
                self._fail(response, "")
            response.close()
            return

    @property
    def _port(self) -> int | None:
        return urlsplit(f"//{self.endpoint.host}").port

    def _path(self, kind: str, name: str) -> str:
        return f"{self._base}/v2/{self.name}/{kind}/{name}"

    def _request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body = None,
        expected: Sequence[int] = (200,),
        scopes: Sequence[str] = (),
    ) -> BaseHTTPResponse:
        """One request, authenticated; once more where the registry asks for that. Raise an error for an unexpected status."""
        self._connection.patience.check()
        is_home = is_same_origin(url, self._base)
        scopes = scopes or self._scopes
        for attempt in (1, 2):
            sent = dict(headers or {}) | (self._auth.header(scopes, fresh=attempt == 2) if is_home else {})
            response = self._connection.transport.send(
                method,
                url,
                sent,
                body() if callable(body) else body,
                timeout_s=_UPLOAD_TIMEOUT_S if method in ("PUT", "PATCH") else None,
            )
            if response.status in expected:
                return response
            if response.status == 401 and attempt == 1 and is_home and "WWW-Authenticate" in response.headers:
                self._auth.learn(response, url)
                response.close()
                continue
            break
        self._fail(response, method)
        raise AssertionError("unreachable")

    def _fail(self, response: BaseHTTPResponse, method: str) -> None:
        raise failure(response, self.host, self.name, self._auth.username, self.endpoint.registry, method)

    def _location(self, response: BaseHTTPResponse, url: str) -> str:
        """Where a registry wants the next piece of an upload, said in answer to a request to `url`."""
        location = response.headers.get("Location")
        response.release_conn()
        if not location:
            raise InvalidInput(f"{self.host} does not say where to upload to")
        target = joined(url, location)
        if urlsplit(target).scheme not in ("http", "https"):
            raise InvalidInput(f"{self.host} wants an upload to an address that is not HTTP")
        if self._base.startswith("https:") and target.startswith("http:"):
            # Registries behind a proxy that ends TLS often name themselves so.
            if urlsplit(target).hostname != urlsplit(self._base).hostname:
                raise Denied(
                    f"{self.host} wants an upload to plain HTTP at {urlsplit(target).netloc}, which is refused"
                )
            parts = urlsplit(target)
            target = parts._replace(scheme="https", netloc=urlsplit(self._base).netloc).geturl()
        return target


def failure(
    response: BaseHTTPResponse, host: str, name: str, username: str, registry: str, method: str = "GET"
) -> UmiakError:
    """The error for an answer that is not what was asked for."""
    status = response.status
    code, message = ("", "") if method == "HEAD" else said(response)
    response.close()
    why = f": {message}" if message else ""
    login = f"umiak login {registry}"
    if status == 401:
        whom = f"refuses the login of {username}" if username else "wants a login, or has no such image"
        return Denied(f"{host} {whom}{why}", hint=f"check the name; for a private image: {login}")
    if status == 403:
        return Denied(
            f"{host} denies access to {name}{why}", hint=f"check the name, or log in as somebody who may: {login}"
        )
    if status == 404:
        what = f"no repository {name}" if code == "NAME_UNKNOWN" else f"no such image in {name}"
        return NotFound(f"{host} has {what if method == 'GET' else 'nothing there'}", hint="check the name and the tag")
    if status == 429:
        return Throttled(
            f"{host} limits how often we may ask (429){why}",
            retry_after_s=retry_after_s(response.headers.get("Retry-After")),
            hint=f"wait, or log in for a higher limit: {login}",
        )
    if status >= 500 or status == 408:
        return Broken(f"{host} answered {status}{why}", hint="the registry is in trouble; try again later")
    if status in (400, 405, 413, 415, 416):
        return InvalidInput(f"{host} refuses the request ({status} {code}{why})")
    return Unavailable(f"{host} answered {status}{why}", hint="is this the address of a registry?")


def retry_after_s(value: str | None) -> float | None:
    """The seconds that a Retry-After header asks for: a number, or a date (RFC 9110, 10.2.3)."""
    if not value:
        return None
    if value.strip().isdigit():
        return float(value.strip()[:9])
    import time
    from email.utils import parsedate_to_datetime

    try:
        return max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except (ValueError, TypeError, OverflowError):
        return None
