"""Who is called what on the networks of a container: reads the files that running containers' monitors publish.

Each network has a directory on tmpfs with a file per running endpoint, `{"ip": …, "names": […]}`, put in place by
rename. Its modification time says whether it must be read again; asking costs a microsecond per question, needs no
watch (the kernel's are limited to 128 per user), and cannot miss a change. Standard library only.
"""

from __future__ import annotations

import json
import os
import socket
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SETTLED_NS = 100_000_000
"""The clock of modification times is coarse: a directory younger than this may change again without showing it."""


class Names:
    """The names of all networks that one container is on."""

    def __init__(self, networks: Sequence[Mapping[str, str]]) -> None:
        self._networks = [NetworkNames(each["name"], each["names_dir"], each["subnet"]) for each in networks]
        self._turn = 0

    def addresses(self, name: str) -> list[str]:
        """The addresses of all that go by a name (lower case), `name` or `name.network`; each call begins with another."""
        found: dict[str, None] = {}
        for network in self._networks:
            found.update(dict.fromkeys(network.addresses(name)))
        if not found:
            return []
        self._turn += 1
        first = self._turn % len(found)
        in_order = list(found)
        return in_order[first:] + in_order[:first]

    def name_of(self, address: str) -> str | None:
        """`name.network` of an address."""
        for network in self._networks:
            if name := network.name_of(address):
                return name
        return None

    def holds(self, address: str) -> bool:
        """Whether an address belongs to one of the networks, so that nobody else knows a name of it."""
        return any(network.holds(address) for network in self._networks)


class NetworkNames:
    """The names of one network, read again when its directory has changed."""

    def __init__(self, network: str, directory: str, subnet: str) -> None:
        address, _, length = subnet.partition("/")
        self._host_bits = 32 - int(length)
        self._prefix = _number(address) >> self._host_bits
        self._network = network
        self._suffix = f".{network.lower()}"
        self._directory = directory
        self._stamp = -1
        self._is_settled = False
        self._addresses: dict[str, list[str]] = {}
        self._names: dict[str, str] = {}

    def addresses(self, name: str) -> list[str]:
        """The addresses that go by a name."""
        self._refresh()
        return self._addresses.get(name) or self._addresses.get(name.removesuffix(self._suffix)) or []

    def name_of(self, address: str) -> str | None:
        """The first name of an address, with the network's."""
        self._refresh()
        name = self._names.get(address)
        return f"{name}.{self._network}" if name else None

    def holds(self, address: str) -> bool:
        """Whether the address lies in the network's subnet."""
        return _number(address) >> self._host_bits == self._prefix

    def _refresh(self) -> None:
        try:
            stamp = os.stat(self._directory).st_mtime_ns
        except OSError:
            stamp = -1
        if stamp == self._stamp and self._is_settled:
            return
        self._addresses = {}
        self._names = {}
        self._stamp = stamp
        self._is_settled = time.time_ns() - stamp > SETTLED_NS
        if stamp >= 0:
            self._read()

    def _read(self) -> None:
        for file_name in sorted(os.listdir(self._directory)):
            if file_name.startswith("."):
                continue
            try:
                with open(f"{self._directory}/{file_name}", "rb") as file:
                    record = json.load(file)
                address, names = str(record["ip"]), [str(name) for name in record["names"]]
            except (OSError, ValueError, KeyError, TypeError):
                continue  # Withdrawn while we read.
            if names:
                self._names[address] = names[0]
            for name in names:
                self._addresses.setdefault(name.lower(), []).append(address)


def _number(address: str) -> int:
    return int.from_bytes(socket.inet_aton(address), "big")
