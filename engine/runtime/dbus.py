"""D-Bus, as far as it takes to ask systemd for something: one call at a time, and the signals that follow it.

By hand, because whoever asks is the zygote, whose memory every monitor shares and which has the standard library alone.
D-Bus specification, "Message Protocol".
"""

from __future__ import annotations

import os
import socket
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_METHOD_CALL, _METHOD_RETURN, _ERROR, _SIGNAL = 1, 2, 3, 4
_PATH, _INTERFACE, _MEMBER, _ERROR_NAME, _REPLY_SERIAL, _DESTINATION, _SIGNATURE = 1, 2, 3, 4, 5, 6, 8
_FIXED = {"y": ("B", 1), "b": ("I", 4), "u": ("I", 4), "i": ("i", 4), "x": ("q", 8), "t": ("Q", 8)}
_ALIGNMENT = {"s": 4, "o": 4, "a": 4, "(": 8, "{": 8, **{kind: size for kind, (_, size) in _FIXED.items()}}
_HEADER_BYTES = 16
_MESSAGE_LIMIT = 1 << 20


class DBusError(OSError):
    """The other side refused a call; `name` is the error's, such as "org.freedesktop.systemd1.NoSuchUnit"."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{text or name}")
        self.name = name


class Message:
    """What came in: its type, the fields of its header by number, and the arguments."""

    __slots__ = ("arguments", "fields", "type")

    def __init__(self, data: bytes) -> None:
        reader = _Reader(data)
        self.type = data[1]
        reader.offset = 12
        self.fields: dict[int, Any] = dict(reader.read("a(yv)"))
        reader.align(8)
        self.arguments: list[Any] = [reader.read(kind) for kind in split(self.fields.get(_SIGNATURE, ""))]


class Connection:
    """A conversation over the socket at `path`: with a bus, or with one program alone. Every wait ends after `timeout_s`."""

    def __init__(self, path: str, timeout_s: float) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._serial = 0
        self._signals: list[Message] = []
        try:
            self._socket.settimeout(timeout_s)
            self._socket.connect(path)
            self._authenticate()
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        self._socket.close()

    def _authenticate(self) -> None:
        """Be who the kernel says we are. D-Bus specification, "Authentication Protocol"."""
        self._socket.sendall(b"\0AUTH EXTERNAL %s\r\n" % str(os.geteuid()).encode().hex().encode())
        answer = b""
        while not answer.endswith(b"\r\n"):
            answer += self._receive(1)
        if not answer.startswith(b"OK "):
            raise DBusError("authentication", f"the bus does not let us in: {answer.decode(errors='replace').strip()}")
        self._socket.sendall(b"BEGIN\r\n")

    def call(
        self, destination: str, path: str, interface: str, member: str, signature: str = "", *arguments: Any
    ) -> list[Any]:
        """Call a method and return what it returns; DBusError if it fails."""
        self._serial += 1
        names = ((_PATH, "o", path), (_INTERFACE, "s", interface), (_MEMBER, "s", member))
        fields = [(number, (kind, value)) for number, kind, value in (*names, (_DESTINATION, "s", destination))]
        if signature:
            fields.append((_SIGNATURE, ("g", signature)))
        self._socket.sendall(encode_call(self._serial, fields, signature, arguments))
        while True:
            message = self._next()
            if message.type == _SIGNAL:
                self._signals.append(message)
            elif message.fields.get(_REPLY_SERIAL) == self._serial:
                return self._result(message)

    def _result(self, message: Message) -> list[Any]:
        if message.type == _ERROR:
            text = message.arguments[0] if message.arguments else ""
            raise DBusError(message.fields.get(_ERROR_NAME, ""), str(text))
        return message.arguments

    def signals(self, member: str) -> Iterator[list[Any]]:
        """Yield the arguments of each signal of that name, those that have come already first; TimeoutError if none comes."""
        while True:
            message = self._signals.pop(0) if self._signals else self._next()
            if message.type == _SIGNAL and message.fields.get(_MEMBER) == member:
                yield message.arguments

    def _next(self) -> Message:
        header = self._receive(_HEADER_BYTES)
        order = "<" if header[:1] == b"l" else ">"
        body, fields = struct.unpack_from(f"{order}I4xI", header, 4)
        rest = -fields % 8 + fields + body
        if rest > _MESSAGE_LIMIT:
            raise DBusError("size", f"a message of {rest} bytes")
        return Message(header + self._receive(rest))

    def _receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self._socket.recv(size - len(data))
            if not part:
                raise ConnectionResetError("the other side has closed the connection")
            data += part
        return data


def encode_call(serial: int, fields: list[tuple[int, tuple[str, Any]]], signature: str, arguments: Any) -> bytes:
    """Return a method call as it goes over the wire."""
    body = bytearray()
    for kind, value in zip(split(signature), arguments, strict=True):
        append(body, kind, value)
    message = bytearray(struct.pack("<cBBBII", b"l", _METHOD_CALL, 0, 1, len(body), serial))
    append(message, "a(yv)", fields)
    _align(message, 8)
    return bytes(message + body)


def split(signature: str) -> list[str]:
    """Split a signature into its complete types: "sa(sv)u" gives "s", "a(sv)" and "u"."""
    found: list[str] = []
    start = depth = 0
    for position, kind in enumerate(signature):
        depth += (kind in "({") - (kind in ")}")
        if depth == 0 and kind != "a":
            found.append(signature[start : position + 1])
            start = position + 1
    return found


def _align(buffer: bytearray, size: int) -> None:
    buffer += bytes(-len(buffer) % size)


def append(buffer: bytearray, kind: str, value: Any) -> None:
    """Append one value of a complete type. A variant is a pair of its type and its value."""
    _align(buffer, _ALIGNMENT.get(kind[0], 1))
    if kind in _FIXED:
        buffer += struct.pack("<" + _FIXED[kind][0], value)
    elif kind in ("s", "o"):
        data = value.encode()
        buffer += struct.pack("<I", len(data)) + data + b"\0"
    elif kind == "g":
        buffer += bytes([len(value)]) + value.encode() + b"\0"
    elif kind == "v":
        append(buffer, "g", value[0])
        append(buffer, *value)
    elif kind[0] == "a":
        _append_array(buffer, kind[1:], value)
    else:
        for part, each in zip(split(kind[1:-1]), value, strict=True):
            append(buffer, part, each)


def _append_array(buffer: bytearray, kind: str, values: Any) -> None:
    """An array is preceded by its size in bytes, which does not count the padding before its first element."""
    place = len(buffer)
    buffer += bytes(4)
    _align(buffer, _ALIGNMENT.get(kind[0], 1))
    start = len(buffer)
    for value in values:
        append(buffer, kind, value)
    struct.pack_into("<I", buffer, place, len(buffer) - start)


class _Reader:
    """Takes values out of a message, whichever byte order it is in."""

    __slots__ = ("data", "offset", "order")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.offset = 0
        self.order = "<" if data[:1] == b"l" else ">"

    def align(self, size: int) -> None:
        self.offset += -self.offset % size

    def read(self, kind: str) -> Any:
        self.align(_ALIGNMENT.get(kind[0], 1))
        if kind in _FIXED:
            return self._number(*_FIXED[kind])
        if kind in ("s", "o", "g"):
            return self._text(self._number(*_FIXED["y" if kind == "g" else "u"]))
        if kind == "v":
            return self.read(self.read("g"))
        if kind[0] == "a":
            return self._array(kind[1:])
        return tuple(self.read(part) for part in split(kind[1:-1]))

    def _number(self, code: str, size: int) -> int:
        (value,) = struct.unpack_from(self.order + code, self.data, self.offset)
        self.offset += size
        return int(value)

    def _text(self, size: int) -> str:
        text = self.data[self.offset : self.offset + size].decode()
        self.offset += size + 1
        return text

    def _array(self, kind: str) -> list[Any]:
        size = self._number(*_FIXED["u"])
        self.align(_ALIGNMENT.get(kind[0], 1))
        end = self.offset + size
        values = []
        while self.offset < end:
            values.append(self.read(kind))
        return values
