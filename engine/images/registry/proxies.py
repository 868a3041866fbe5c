"""Which proxy leads to a host: HTTP_PROXY, HTTPS_PROXY and NO_PROXY as Docker (Go's httpproxy) reads them."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from engine.errors import InvalidInput, Unsupported

_WITH_PORT = re.compile(r"([^:]+|\[[^]]*\]):([0-9]{1,5})")


def proxy_for(url: str, environment: Mapping[str, str] | None = None) -> str | None:
    """The proxy's URL, or None for a direct connection. Lower-case variables win; this host is never asked for by proxy."""
    env = os.environ if environment is None else environment
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    proxy = _variable(env, f"{parts.scheme}_proxy")
    if not proxy or is_loopback(host) or _is_exempt(host, port, _variable(env, "no_proxy")):
        return None
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    try:
        scheme, name = urlsplit(proxy).scheme, urlsplit(proxy).hostname
    except ValueError as error:
        raise InvalidInput(f"{parts.scheme.upper()}_PROXY is not an address: {error}") from error
    if scheme not in ("http", "https") or not name:
        raise Unsupported(
            f"{parts.scheme.upper()}_PROXY names a proxy of the kind {scheme!r}",
            hint="use an http:// or https:// proxy",
        )
    return proxy


def is_loopback(host: str) -> bool:
    """Whether a host is this one: `localhost`, 127.0.0.0/8, ::1."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _variable(env: Mapping[str, str], name: str) -> str:
    return env.get(name) or env.get(name.upper()) or ""


def _is_exempt(host: str, port: int, no_proxy: str) -> bool:
    return any(_matches(host.lower(), port, entry.strip().lower()) for entry in no_proxy.split(",") if entry.strip())


def _matches(host: str, port: int, entry: str) -> bool:
    if entry == "*":
        return True
    with_port = _WITH_PORT.fullmatch(entry)
    if with_port:
        entry = with_port[1]
        if int(with_port[2]) != port:
            return False
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        pass
    entry = entry.removeprefix("*")
    if entry.startswith("."):
        return host.endswith(entry)
    return host == entry or host.endswith(f".{entry}")
