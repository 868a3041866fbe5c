"""The short syntaxes of ports and volumes, taken apart."""

from __future__ import annotations

import ipaddress
import posixpath
from typing import TYPE_CHECKING, Any

from compose.spec.limits import MAX_PORTS

if TYPE_CHECKING:
    from compose.errors import Place

_PROPAGATIONS = ("rprivate", "private", "rshared", "shared", "rslave", "slave")
_MAX_PORT = 65535
_MOST_DIGITS = 20  # of a number: Python refuses thousands of them, and not in our words


class Unreadable(ValueError):
    """A value does not follow its short syntax; `hint` shows one that does, `at` is where a part of the value stands."""

    def __init__(self, message: str, hint: str | None = None, at: Place | None = None) -> None:
        super().__init__(message)
        self.hint = hint
        self.at = at


def _port_range(text: str, kind: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    ends = (first, last if dash else first)
    if not all(end.isascii() and end.isdigit() and len(end) < _MOST_DIGITS and int(end) <= _MAX_PORT for end in ends):
        raise Unreadable(f'"{text}" is not a valid {kind} port', f"a port is a number from 1 to {_MAX_PORT}")
    if int(ends[0]) > int(ends[1]):
        raise Unreadable(f'the range "{text}" ends before it starts')
    return int(ends[0]), int(ends[1])


def _host_address(text: str) -> str:
    return ip_address(text[1:-1] if text.startswith("[") and text.endswith("]") else text)


def ip_address(text: str) -> str:
    """The text, if it is empty or an IP address without a zone."""
    try:
        if text and "%" in text:
            raise ValueError("an address with a zone")
        if text:
            ipaddress.ip_address(text)
    except ValueError:
        raise Unreadable(f'"{text}" is not an IP address', "a published port binds to an IP, not a name") from None
    return text


def parse_port(spec: str, most: int = MAX_PORTS) -> list[dict[str, Any]]:
    """The ports, so many at most, that a short syntax stands for: `[IP:][HOST[-HOST]:]CONTAINER[-CONTAINER][/PROTOCOL]`."""
    *head, container = spec.split(":")
    host = head.pop() if head else ""
    host_ip = _host_address(":".join(head))
    container, _, protocol = container.partition("/")
    protocol = (protocol or "tcp").lower()
    if not container:
        raise Unreadable(f'cannot read "{spec}" as a port: no container port', 'for example "8080:80"')
    if protocol not in ("tcp", "udp", "sctp"):
        raise Unreadable(f'cannot read "{spec}" as a port: unknown protocol "{protocol}"', "use tcp, udp or sctp")
    start, end = _port_range(container, "container")
    host_start, host_end = _port_range(host, "host") if host else (0, 0)
    if host and end - start != host_end - host_start and end != start:
        raise Unreadable(f"ranges of different length: {host} and {container}")
    if end - start >= most:
        hint = "publish a smaller range, or use network_mode: host"
        raise Unreadable(f"with {container} the project has more than {MAX_PORTS} ports", hint)
    base = {"mode": "ingress", "protocol": protocol} | ({"host_ip": host_ip} if host_ip else {})
    ports = []
    for target in sorted(range(start, end + 1), key=str):
        published = (
            f"{host_start}-{host_end}" if start == end and host_start != host_end else host_start + target - start
        )
        ports.append({**base, "target": target, **({"published": str(published)} if host else {})})
    return ports


def _is_drive(text: str) -> bool:
    return len(text) == 1 and text.isalpha()


def _is_host_path(source: str) -> bool:
    return source[:1] in (".", "/", "~") or source.startswith("\\\\") or (source[1:2] == ":" and source[0].isalpha())


def _sections(spec: str) -> list[str]:
    """What stands between colons; those in a variable's braces, as in `${DATA:-./data}:/data`, part nothing."""
    sections, depth, start = [], 0, 0
    for index, character in enumerate(spec):
        if character == "{" and spec[index - 1 : index] == "$":
            depth += 1
        elif character == "}" and depth:
            depth -= 1
        elif character == ":" and not depth:
            sections.append(spec[start:index])
            start = index + 1
    return [*sections, spec[start:]]


def parse_volume(spec: str) -> dict[str, Any]:
    """The mount that a short syntax stands for: `[SOURCE:]TARGET[:OPTIONS]`."""
    if not spec:
        raise Unreadable("an empty volume", 'for example "data:/var/lib/data"')
    if len(spec) <= 2:
        return {"type": "volume", "target": clean_path(spec)}
    sections: list[str] = []
    for section in _sections(spec):
        if sections and _is_drive(sections[-1]):  # `C:\data`: a lone letter and what follows are one path
            sections[-1] += ":" + section
        else:
            sections.append(section)
    if "" in sections:
        raise Unreadable(f'cannot read "{spec}" as a volume: empty section between colons')
    if len(sections) > 3:
        raise Unreadable(f'cannot read "{spec}" as a volume: too many colons', "options are separated by commas")
    source = sections[0] if len(sections) > 1 else ""
    mount: dict[str, Any] = {"type": "bind" if _is_host_path(source) else "volume"}
    if source:
        mount["source"] = source
    mount["target"] = clean_path(sections[1] if source else sections[0])
    bind: dict[str, Any] = {"create_host_path": True} if mount["type"] == "bind" else {}
    volume: dict[str, Any] = {}
    for option in sections[2].split(",") if len(sections) == 3 else ():
        if option in ("ro", "rw"):
            mount["read_only"] = option == "ro"
        elif option == "nocopy":
            volume["nocopy"] = True
        elif option in _PROPAGATIONS:
            bind["propagation"] = option
        elif option in ("z", "Z"):
            bind["selinux"] = option
    if bind:
        mount["bind"] = bind
    if volume or mount["type"] == "volume":
        mount["volume"] = volume
    return mount


def clean_path(path: str) -> str:
    """The shortest equivalent path."""
    if not path:
        return path
    cleaned = posixpath.normpath(path)
    return cleaned[1:] if cleaned.startswith("//") else cleaned
