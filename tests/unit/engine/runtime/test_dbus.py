from __future__ import annotations

import socket
import struct
import threading
from pathlib import Path

import pytest

from engine.runtime.dbus import Connection, DBusError, Message, append, encode_call, split


def test_a_signature_is_split_into_complete_types() -> None:
    assert split("ssa(sv)a(sa(sv))u") == ["s", "s", "a(sv)", "a(sa(sv))", "u"]
    assert split("aau") == ["aau"]
    assert split("") == []


@pytest.mark.parametrize(
    ("kind", "value", "wanted"),
    [
        ("u", 7, b"\x07\0\0\0"),
        ("b", True, b"\x01\0\0\0"),
        ("s", "ab", b"\x02\0\0\0ab\0"),
        ("g", "au", b"\x02au\0"),
        ("v", ("t", 1), b"\x01t\0\0\0\0\0\0" + b"\x01" + bytes(7)),
        ("au", [1, 2], b"\x08\0\0\0\x01\0\0\0\x02\0\0\0"),
        ("a(sv)", [], bytes(8)),
        ("at", [], bytes(8)),
    ],
)
def test_values_are_laid_out_as_the_specification_says(kind: str, value: object, wanted: bytes) -> None:
    buffer = bytearray()
    append(buffer, kind, value)
    assert bytes(buffer) == wanted


def test_a_call_is_read_back_as_it_was_written() -> None:
    properties = [("Slice", ("s", "system.slice")), ("PIDs", ("au", [0])), ("TasksMax", ("t", 2**64 - 1))]
    fields = [(1, ("o", "/a")), (3, ("s", "Start")), (8, ("g", "sa(sv)"))]
    message = Message(encode_call(5, fields, "sa(sv)", ["x.scope", properties]))
    assert message.fields == {1: "/a", 3: "Start", 8: "sa(sv)"}
    assert message.arguments == [
        "x.scope",
        [("Slice", "system.slice"), ("PIDs", [0]), ("TasksMax", 2**64 - 1)],
    ]


def test_a_message_of_the_other_byte_order_is_understood() -> None:
    data = b"B\x02\0\x01" + struct.pack(">III", 8, 1, 15)
    data += b"\x05\x01u\0" + struct.pack(">I", 9) + b"\x08\x01g\0\x02uu\0" + struct.pack(">II", 3, 4)
    message = Message(data[:31].ljust(32, b"\0") + data[32:])
    assert (message.fields, message.arguments) == ({5: 9, 8: "uu"}, [3, 4])


class Peer:
    """The other end: lets everybody in, and sends what it is told to for each call."""

    def __init__(self, path: Path, *replies: bytes) -> None:
        self.calls: list[Message] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, args=(replies,))
        self._thread.start()

    def _serve(self, replies: tuple[bytes, ...]) -> None:
        with self._listener, self._listener.accept()[0] as connection:
            with connection.makefile("rb") as stream:
                self.greeting = stream.readline()
                connection.sendall(b"OK 1234\r\n")
                assert stream.readline() == b"BEGIN\r\n"
                for reply in replies:
                    header = stream.read(16)
                    body, fields = struct.unpack_from("<I4xI", header, 4)
                    self.calls.append(Message(header + stream.read(-fields % 8 + fields + body)))
                    connection.sendall(reply)

    def join(self) -> None:
        self._thread.join()


def message(type_: int, fields: list[tuple[int, tuple[str, object]]], signature: str = "", *arguments: object) -> bytes:
    given = [*fields, (8, ("g", signature))] if signature else fields
    data = encode_call(1, given, signature, arguments)
    return data[:1] + bytes([type_]) + data[2:]


def test_signals_that_come_before_the_reply_are_kept(tmp_path: Path) -> None:
    other = message(4, [(3, ("s", "Other"))], "s", "no")
    signal = message(4, [(3, ("s", "JobRemoved"))], "us", 4, "done")
    peer = Peer(tmp_path / "bus", other + signal + message(2, [(5, ("u", 1))], "o", "/job/4"))
    connection = Connection(str(tmp_path / "bus"), 5.0)
    assert connection.call("d", "/p", "i", "Start", "su", "x", 3) == ["/job/4"]
    assert next(connection.signals("JobRemoved")) == [4, "done"]
    connection.close()
    peer.join()
    assert peer.greeting.startswith(b"\0AUTH EXTERNAL ")
    assert peer.calls[0].fields == {1: "/p", 2: "i", 3: "Start", 6: "d", 8: "su"}
    assert peer.calls[0].arguments == ["x", 3]


def test_an_error_is_raised_with_its_name(tmp_path: Path) -> None:
    peer = Peer(tmp_path / "bus", message(3, [(5, ("u", 1)), (4, ("s", "a.UnitExists"))], "s", "it is there"))
    connection = Connection(str(tmp_path / "bus"), 5.0)
    with pytest.raises(DBusError, match="it is there") as caught:
        connection.call("d", "/p", "i", "Start")
    assert caught.value.name == "a.UnitExists"
    connection.close()
    peer.join()


def test_a_peer_that_goes_away_is_an_error(tmp_path: Path) -> None:
    peer = Peer(tmp_path / "bus")
    connection = Connection(str(tmp_path / "bus"), 5.0)
    with pytest.raises(OSError, match=r"closed|reset|Broken pipe"):
        connection.call("d", "/p", "i", "Start")
    connection.close()
    peer.join()
