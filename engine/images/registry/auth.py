"""Authentication as registries ask for it: none, basic, or a bearer token fetched from the place that the registry names.

distribution, docs/spec/auth/token.md and oauth.md.
"""

from __future__ import annotations

import base64
import re
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from engine.errors import Denied, InvalidInput, Unavailable
from engine.images.config import parse_json
from engine.images.registry.credentials import Credentials
from engine.images.registry.failures import Broken, Throttled
from engine.images.registry.proxies import is_loopback
from engine.images.registry.transport import Transport, is_same_origin, joined, read_bounded, said

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

_CHALLENGE = re.compile(r'([A-Za-z]+)\s+((?:[A-Za-z_]+\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^\s,"]+)\s*,?\s*)+)')
_PARAMETER = re.compile(r'([A-Za-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_MAX_TOKEN_BYTES = 1 << 20
_DEFAULT_LIFE_S = 60.0
_SHORTEST_LIFE_S = 10.0
_CLIENT = "umiak"


class Authenticator:
    """What we know about getting into one registry. Credentials are looked up when they are first needed."""

    def __init__(self, host: str, transport: Transport, credentials: Callable[[], Credentials | None]) -> None:
        self._host = host
        self._transport = transport
        self._look_up = credentials
        self._lock = threading.Lock()
        self._credentials: Credentials | None = None
        self._looked_up = False
        self._scheme = ""
        self._realm = ""
        self._service = ""
        self._url = ""
        self._tokens: dict[tuple[str, ...], tuple[str, float]] = {}

    @property
    def username(self) -> str:
        """Who we are to this registry; "" for nobody."""
        found = self._known()
        return (found.username or "the stored token") if found else ""

    def learn(self, response: BaseHTTPResponse, url: str) -> None:
        """Note how a registry wants us to authenticate, from a 401."""
        header = ", ".join(response.headers.getlist("WWW-Authenticate"))
        challenges = {scheme.lower(): parameters for scheme, parameters in parse_challenges(header)}
        with self._lock:
            self._url = url
            if "bearer" in challenges:
                self._scheme = "bearer"
                self._realm = challenges["bearer"].get("realm", "")
                self._service = challenges["bearer"].get("service", "")
            elif "basic" in challenges or header.lower().startswith("basic"):
                self._scheme = "basic"

    def header(self, scopes: Sequence[str], *, fresh: bool = False) -> dict[str, str]:
        """The header that lets a request with these scopes in; empty where none is known to be needed."""
        with self._lock:
            if self._scheme == "basic":
                found = self._known()
                return {"Authorization": _basic(found)} if found and found.username else {}
            if self._scheme != "bearer":
                return {}
            key = tuple(sorted(scopes))
            token, ends = self._tokens.get(key, ("", 0.0))
            if fresh or time.monotonic() >= ends:
                token, life_s = self._fetch_token(key)
                self._tokens[key] = token, time.monotonic() + life_s
            return {"Authorization": f"Bearer {token}"}

    def _known(self) -> Credentials | None:
        if not self._looked_up:
            self._credentials = self._look_up()
            self._looked_up = True
        return self._credentials

    def _fetch_token(self, scopes: Sequence[str]) -> tuple[str, float]:
        realm = urlsplit(joined(self._url, self._realm))
        if realm.scheme not in ("http", "https") or not realm.hostname:
            raise InvalidInput(f"{self._host} names no usable place to get a token from")
        credentials = self._known()
        if realm.scheme == "http" and credentials and not self._may_send_in_the_clear(realm.hostname):
            raise Denied(
                f"{self._host} wants the login to be sent to {realm.netloc} without encryption, which is refused"
            )
        response = self._ask(credentials, scopes)
        if response.status != 200:
            self._refused(response, realm.netloc)
        document = parse_json(read_bounded(response, _MAX_TOKEN_BYTES, "the token"), f"the token from {realm.netloc}")
        token = document.get("token") or document.get("access_token")
        if not isinstance(token, str) or not token or not token.isprintable() or not token.isascii():
            raise InvalidInput(f"{realm.netloc} gave no token")
        life_s = document.get("expires_in")
        if not isinstance(life_s, int | float) or not 0 < life_s < 1e9:
            life_s = _DEFAULT_LIFE_S
        return token, max(life_s * 0.9 - 1, _SHORTEST_LIFE_S)

    def _may_send_in_the_clear(self, host: str) -> bool:
        return is_loopback(host) or is_same_origin(self._url, self._realm)

    def _ask(self, credentials: Credentials | None, scopes: Sequence[str]) -> BaseHTTPResponse:
        asked = [("service", self._service)] if self._service else []
        if credentials and credentials.identity_token:
            form = [*asked, ("grant_type", "refresh_token"), ("refresh_token", credentials.identity_token)]
            form += [("client_id", _CLIENT), ("scope", " ".join(scopes))]
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            return self._transport.send("POST", self._realm, headers, urlencode(form).encode())
        asked += [("scope", scope) for scope in scopes]
        headers = {}
        if credentials and credentials.username:
            asked.append(("account", credentials.username))
            headers["Authorization"] = _basic(credentials)
        joint = "&" if urlsplit(self._realm).query else "?"
        return self._transport.send("GET", f"{self._realm}{joint}{urlencode(asked)}", headers)

    def _refused(self, response: BaseHTTPResponse, place: str) -> None:
        status, (_, message) = response.status, said(response)
        why = f": {message}" if message else ""
        if status == 429:
            raise Throttled(f"{place} limits how often we may ask for a token{why}")
        if status >= 500:
            raise Broken(f"{place} answered {status} when asked for a token{why}")
        if status in (400, 401, 403):
            if self.username:
                raise Denied(
                    f"{self._host} refuses the login of {self.username}{why}",
                    hint=f"log in anew: umiak login {self._host}",
                )
            raise Denied(f"{self._host} wants a login{why}", hint=f"umiak login {self._host}")
        raise Unavailable(f"{place} answered {status} when asked for a token{why}")


def parse_challenges(header: str) -> list[tuple[str, dict[str, str]]]:
    """The challenges of a WWW-Authenticate header (RFC 9110, 11.6.1): scheme and parameters."""
    found = []
    for scheme, parameters in _CHALLENGE.findall(header[:8192]):
        values = {name.lower(): quoted or plain for name, quoted, plain in _PARAMETER.findall(parameters)}
        found.append((scheme, {name: re.sub(r"\\(.)", r"\1", value) for name, value in values.items()}))
    return found


def _basic(credentials: Credentials) -> str:
    pair = f"{credentials.username}:{credentials.password}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"
