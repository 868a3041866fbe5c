"""/etc/resolv.conf: the host's, to find the servers that questions are forwarded to, and a container's."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from engine.errors import InvalidInput

HOST_FILE = "/etc/resolv.conf"
NAME_SERVER = "127.0.0.11"
MAX_SEARCH = 32


class HostResolver:
    """What the host's resolv.conf says (resolv.conf(5))."""

    def __init__(self, path: str = HOST_FILE) -> None:
        self.servers: list[str] = []
        self.search: list[str] = []
        self.options: list[str] = []
        try:
            with open(path, errors="replace") as file:
                lines = file.read().splitlines()
        except OSError:
            return
        for line in lines:
            self._read(line.split("#")[0].split(";")[0].split())

    def _read(self, words: list[str]) -> None:
        if not words:
            return
        if words[0] == "nameserver" and len(words) > 1:
            self.servers.append(words[1])
        elif words[0] in ("search", "domain"):
            self.search = words[1 : MAX_SEARCH + 1]
        elif words[0] == "options":
            self.options += words[1:]


def servers(wished: Sequence[str], path: str = HOST_FILE) -> list[str]:
    """The servers to forward to: those that the container asks for, else the host's. Ours are asked from the host's side."""
    for server in wished:
        if not _is_address(server):
            raise InvalidInput(f'dns: "{server}" is no address', hint="write the address of a name server")
    return list(wished) or [server for server in HostResolver(path).servers if _is_address(server)]


def host_nameserver_addresses(path: str = HOST_FILE) -> list[int]:
    """The host's IPv4 name servers, which no subnet of ours may hide."""
    found = []
    for server in HostResolver(path).servers:
        try:
            found.append(int.from_bytes(socket.inet_pton(socket.AF_INET, server), "big"))
        except OSError:
            continue
    return found


def resolv_conf(
    is_on_network: bool, dns: Sequence[str], search: Sequence[str], options: Sequence[str], path: str = HOST_FILE
) -> str:
    """A container's file: our name server if it is on a network, else the servers themselves."""
    host = HostResolver(path)
    used_servers = [NAME_SERVER] if is_on_network else servers(dns, path)
    used_search = [domain for domain in search if domain != "."] if search else host.search
    used_options = list(options) or host.options
    if is_on_network and not any(option.startswith("ndots:") for option in used_options):
        used_options = [*used_options, "ndots:0"]
    lines = [f"nameserver {server}" for server in used_servers]
    lines += [f"search {' '.join(used_search)}"] if used_search else []
    lines += [f"options {' '.join(used_options)}"] if used_options else []
    return "".join(f"{line}\n" for line in lines)


def _is_address(text: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, text.partition("%")[0])
            return True
        except (OSError, ValueError):
            continue
    return False
