"""What the configuration files say about registries: mirrors, plain HTTP, certificates, patience.

`/etc/umiak/config.toml` first, then the user's `$XDG_CONFIG_HOME/umiak/config.toml`, which wins:

    [registry]
    timeout = 30            # seconds without a byte before the transfer is tried again
    parallel = 4            # layers at a time

    [registries."docker.io"]
    mirrors = ["https://mirror.example.com", "http://10.0.0.5:5000/hub"]

    [registries."registry.lan:5000"]
    plain-http = true       # it speaks HTTP
    insecure = false        # true: believe any certificate
    ca = "/etc/umiak/registry-ca.pem"
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from engine.errors import InvalidInput
from engine.frozen import frozen


@frozen
class HostSettings:
    """How to speak to one registry, and whom to ask in its place first."""

    mirrors: tuple[str, ...] = ()
    plain_http: bool = False
    insecure: bool = False
    ca: str | None = None


@frozen
class Settings:
    """What holds for all registries, and for each by its name as it stands in references (`docker.io`, `host:port`)."""

    hosts: Mapping[str, HostSettings] = field(default_factory=dict)
    timeout_s: float = 30.0
    connect_timeout_s: float = 10.0
    attempts: int = 5
    backoff_s: float = 0.5
    longest_wait_s: float = 120.0
    parallel: int = 4

    def host(self, name: str) -> HostSettings:
        """The settings of one registry."""
        return self.hosts.get(name, HostSettings())


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the configuration files that exist. Raise InvalidInput, with the file's name, for what they cannot mean."""
    env = os.environ if environment is None else environment
    user = env.get("XDG_CONFIG_HOME") or os.path.join(env.get("HOME") or os.path.expanduser("~"), ".config")
    general: dict[str, Any] = {}
    hosts: dict[str, HostSettings] = {}
    for path in ("/etc/umiak/config.toml", os.path.join(user, "umiak", "config.toml")):
        document = _read(path)
        general |= _general(path, _table(path, document, "registry"))
        registries = _table(path, document, "registries")
        hosts |= {name: _host(path, name, _table(path, registries, name)) for name in registries}
    return Settings(hosts=hosts, **general)


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            import tomllib

            return tomllib.load(file)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (ValueError, OSError) as error:
        raise InvalidInput(f"cannot read {path}: {error}") from error


def _table(path: str, document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = document.get(key, {})
    if not isinstance(value, dict):
        raise InvalidInput(f"{path}: {key} is not a table")
    return value


def _general(path: str, table: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in table.items():
        if key not in ("timeout", "parallel"):
            raise InvalidInput(f"{path}: unknown setting registry.{key}", hint="known are timeout and parallel")
        is_number = isinstance(value, int if key == "parallel" else int | float) and not isinstance(value, bool)
        if not is_number or not 1 <= value <= 3600:
            raise InvalidInput(f"{path}: registry.{key} is not a number from 1 to 3600")
        found["timeout_s" if key == "timeout" else key] = value
    return found


def _host(path: str, name: str, table: Mapping[str, Any]) -> HostSettings:
    where = f'{path}: registries."{name}"'
    unknown = set(table) - {"mirrors", "plain-http", "insecure", "ca"}
    if unknown:
        raise InvalidInput(
            f"{where} has an unknown setting {min(unknown)!r}", hint="known are mirrors, plain-http, insecure and ca"
        )
    mirrors, ca = table.get("mirrors", []), table.get("ca")
    if not isinstance(mirrors, list) or not all(isinstance(mirror, str) and mirror for mirror in mirrors):
        raise InvalidInput(f"{where}: mirrors is not a list of addresses")
    if ca is not None and not isinstance(ca, str):
        raise InvalidInput(f"{where}: ca is not a path")
    for key in ("plain-http", "insecure"):
        if not isinstance(table.get(key, False), bool):
            raise InvalidInput(f"{where}: {key} is neither true nor false")
    return HostSettings(
        tuple(mirrors), plain_http=table.get("plain-http", False), insecure=table.get("insecure", False), ca=ca
    )
