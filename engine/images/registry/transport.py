"""HTTP to registries: one exchange at a time over pooled connections, redirects, proxies, and errors as our own.

`Authorization` is sent to the host it was meant for and to no other that a redirect leads to.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from engine.errors import Denied, InvalidInput
from engine.frozen import frozen
from engine.images.compression import Readable
from engine.images.registry.failures import NO_REGISTRY_HINT, Broken, NotTls, Stalled, Unreachable
from engine.images.registry.proxies import is_loopback, proxy_for
from engine.images.registry.settings import Settings

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager

_MAX_REDIRECTS = 10
_REDIRECTS = (301, 302, 303, 307, 308)
_BLOCK_BYTES = 1 << 18
_MAX_ERROR_BYTES = 1 << 16
_MAX_SHOWN = 200
_NOT_TLS = (
    "WRONG_VERSION_NUMBER",
    "RECORD_LAYER_FAILURE",
    "HTTP_REQUEST",
    "UNEXPECTED_EOF_WHILE_READING",
    "UNKNOWN_PROTOCOL",
)

_ALIASES = {"registry-1.docker.io": "docker.io"}

Body = bytes | Readable | None


@frozen
class Tls:
    """Whom to believe over HTTPS: the system's authorities, those of one file, or anybody."""

    ca: str | None = None
    insecure: bool = False


class Transport:
    """Connections to any number of hosts. Safe to share between threads."""

    def __init__(self, settings: Settings, user_agent: str = "umiak", *, registries: bool = True) -> None:
        """`registries`: believe any certificate of this machine's own, and follow no redirect from HTTPS to HTTP.

        Of other servers neither holds, as with Docker: what a Dockerfile adds has a checksum where that matters.
        """
        self._settings = settings
        self._registries = registries
        self._user_agent = user_agent
        self._pools: dict[tuple[str | None, Tls], PoolManager] = {}
        self._lock = threading.Lock()

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Body = None,
        *,
        timeout_s: float | None = None,
    ) -> BaseHTTPResponse:
        """Exchange one request for one response, whatever its status; its body is not read yet.

        `timeout_s` is how long the answer may take once all is sent; by default as long as any other pause.
        Redirects of GET and HEAD are followed. Raise Unreachable, NotTls, Stalled or Broken where there is no response.
        """
        sent = {"User-Agent": self._user_agent, "Accept-Encoding": "identity", **headers}
        for _ in range(_MAX_REDIRECTS):
            response = self._send_once(method, url, sent, body, timeout_s or self._settings.timeout_s)
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or method not in ("GET", "HEAD") or not location:
                return response
            response.release_conn() if method == "HEAD" else response.close()
            url, before = self._followed(url, location), url
            if _origin(url) != _origin(before):
                sent.pop("Authorization", None)
        raise InvalidInput(f"{urlsplit(url).netloc} redirects too often")

    def close(self) -> None:
        """Close the connections."""
        for pool in self._pools.values():
            pool.clear()

    def _send_once(
        self, method: str, url: str, headers: Mapping[str, str], body: Body, timeout_s: float
    ) -> BaseHTTPResponse:
        import urllib3
        from urllib3.exceptions import HTTPError

        host = urlsplit(url).netloc
        proxy = proxy_for(url)
        # The time to connect is that for sending too: for all of a small body, for each piece of a large one.
        send_s = timeout_s if isinstance(body, bytes) else self._settings.timeout_s
        connect_s = self._settings.connect_timeout_s if body is None else send_s
        try:
            return self._pool(proxy, self._tls(url)).urlopen(
                method,
                url,
                body=body,
                headers=dict(headers),
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
                timeout=urllib3.Timeout(connect=connect_s, read=timeout_s),
            )
        except HTTPError as error:
            raise explained(error, host, proxy) from error
        except (OSError, ValueError) as error:
            raise Broken(f"the connection to {host} failed: {error}") from error

    def _followed(self, url: str, location: str) -> str:
        """Where a redirect leads. Raise InvalidInput where that is not HTTP, Denied where it may not lead there."""
        target = joined(url, location)
        here, there = urlsplit(url), urlsplit(target)
        if there.scheme not in ("http", "https") or not there.hostname:
            raise InvalidInput(f"{here.netloc} redirects to an address that is not HTTP")
        if self._registries and here.scheme == "https" and there.scheme == "http":
            raise Denied(f"{here.netloc} redirects from HTTPS to plain HTTP at {there.netloc}, which is refused")
        return target

    def _tls(self, url: str) -> Tls:
        """By whose certificates a host is known."""
        parts = urlsplit(url)
        settings = self._settings.host(_ALIASES.get(parts.netloc, parts.netloc))
        return Tls(settings.ca, settings.insecure or (self._registries and is_loopback(parts.hostname or "")))

    def _pool(self, proxy: str | None, tls: Tls) -> PoolManager:
        with self._lock:
            if (proxy, tls) not in self._pools:
                self._pools[proxy, tls] = _new_pool(proxy, tls)
            return self._pools[proxy, tls]


def _new_pool(proxy: str | None, tls: Tls) -> PoolManager:
    import urllib3

    options: dict[str, Any] = {"maxsize": 16, "blocksize": _BLOCK_BYTES}
    if tls.insecure:
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        options["cert_reqs"] = "CERT_NONE"
    elif tls.ca:
        options["ca_certs"] = tls.ca
    if proxy is None:
        return urllib3.PoolManager(**options)
    parts = urlsplit(proxy)
    if parts.username:
        from urllib.parse import unquote

        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        options["proxy_headers"] = urllib3.make_headers(proxy_basic_auth=pair)
    return urllib3.ProxyManager(proxy, **options)


def explained(error: Exception, host: str, proxy: str | None = None) -> Unreachable | Stalled | Broken:
    """One of our errors for one of urllib3's."""
    import ssl

    from urllib3 import exceptions as their

    if isinstance(error, their.ProxyError):
        via = urlsplit(proxy or "").hostname or "the proxy"
        return Unreachable(
            f"{host} cannot be reached through the proxy {via}: {_reason(error.original_error)}", hint=NO_REGISTRY_HINT
        )
    if isinstance(error, their.SSLError):
        cause = error.args[0] if error.args else None
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Unreachable(
                f"{host} has a certificate that is not trusted: {cause.verify_message}",
                hint=f'name its authority in config.toml: [registries."{host}"] ca = "…" (or insecure = true)',
            )
        reason = getattr(cause, "reason", None) or ""
        if isinstance(cause, ssl.SSLEOFError) or reason in _NOT_TLS:
            return NotTls(
                f"{host} does not speak TLS", hint=f'if that is meant so: [registries."{host}"] plain-http = true'
            )
        return Unreachable(f"{host} cannot be reached over TLS: {reason or cause}")
    if isinstance(error, their.NameResolutionError):
        return Unreachable(f"{host} cannot be reached: its name does not resolve", hint=NO_REGISTRY_HINT)
    if isinstance(error, their.NewConnectionError):
        return Unreachable(f"{host} cannot be reached: {_reason(error)}", hint=NO_REGISTRY_HINT)
    if isinstance(error, their.ConnectTimeoutError):
        return Unreachable(f"{host} cannot be reached: no answer", hint=NO_REGISTRY_HINT)
    if isinstance(error, their.ReadTimeoutError) or any(isinstance(cause, TimeoutError) for cause in error.args):
        return Stalled(f"{host} stopped answering")
    return Broken(f"the connection to {host} broke")


def _reason(error: BaseException) -> str:
    cause = error.__cause__ or error
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror.lower()
    return str(cause)[:_MAX_SHOWN]


def joined(url: str, location: str) -> str:
    """Where a header of a response from `url` points. Raise InvalidInput where it is no address."""
    try:
        target = urljoin(url, location)
        _ = urlsplit(target).port
    except ValueError as error:
        raise InvalidInput(
            f"{urlsplit(url).netloc} names an address that is none: {location[:_MAX_SHOWN]!r}"
        ) from error
    return target


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or (443 if parts.scheme == "https" else 80)


def is_same_origin(one: str, other: str) -> bool:
    """Whether two URLs lead to one scheme, host and port."""
    return _origin(one) == _origin(other)


def read_bounded(response: BaseHTTPResponse, limit: int, what: str) -> bytes:
    """The whole body, of at most `limit` bytes. Raise InvalidInput where there is more."""
    from urllib3.exceptions import HTTPError

    data = bytearray()
    try:
        while len(data) <= limit:
            piece = response.read(min(_BLOCK_BYTES, limit + 1 - len(data)))
            if not piece:
                response.release_conn()
                return bytes(data)
            data += piece
    except HTTPError as error:
        raise explained(error, urlsplit(response.url or "").netloc or "the registry") from error
    finally:
        if len(data) > limit:
            response.close()
    raise InvalidInput(f"{what} is larger than {limit >> 20 or 1} MiB")


def said(response: BaseHTTPResponse) -> tuple[str, str]:
    """The error's code and text in a registry's answer (distribution-spec, "Error codes"), as far as it gives them."""
    from engine.errors import UmiakError

    try:
        document = json.loads(read_bounded(response, _MAX_ERROR_BYTES, "the answer"))
        first = document["errors"][0] if isinstance(document.get("errors"), list) and document["errors"] else document
        code, message = str(first.get("code") or ""), str(first.get("message") or first.get("details") or "")
    except (UmiakError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "", ""
    printable = "".join(c if c.isprintable() else " " for c in message)
    return code[:40], printable[:_MAX_SHOWN]
