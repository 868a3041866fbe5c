"""Watch files and directories for changes. See inotify(7)."""

from __future__ import annotations

import ctypes
import os
import struct

from engine.kernel.libc import libc, raise_errno

IN_MODIFY = 0x002
IN_ATTRIB = 0x004
IN_CLOSE_WRITE = 0x008
IN_MOVED_FROM = 0x040
IN_MOVED_TO = 0x080
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400
IN_MOVE_SELF = 0x800
IN_Q_OVERFLOW = 0x4000
IN_IGNORED = 0x8000
IN_ONLYDIR = 0x01000000

_HEADER = struct.Struct("=iIII")


class Inotify:
    """An inotify descriptor, non-blocking; `fd` can be polled. Closed by `close` or as a context manager."""

    __slots__ = ("fd",)

    def __init__(self) -> None:
        self.fd: int = libc.inotify_init1(ctypes.c_int(os.O_CLOEXEC | os.O_NONBLOCK))
        if self.fd < 0:
            raise_errno("inotify_init1")

    def __enter__(self) -> Inotify:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, path: str, mask: int) -> int:
        """Watch `path` and return the watch's number."""
        watch: int = libc.inotify_add_watch(ctypes.c_int(self.fd), os.fsencode(path), ctypes.c_uint32(mask))
        if watch < 0:
            raise_errno("inotify_add_watch", path)
        return watch

    def remove(self, watch: int) -> None:
        if libc.inotify_rm_watch(ctypes.c_int(self.fd), ctypes.c_int(watch)) < 0:
            raise_errno("inotify_rm_watch", str(watch))

    def read(self) -> list[tuple[int, int, str]]:
        """Return what has happened as (watch, mask, name); empty when nothing has."""
        try:
            data = os.read(self.fd, 65536)
        except BlockingIOError:
            return []
        events = []
        offset = 0
        while offset < len(data):
            watch, mask, _, length = _HEADER.unpack_from(data, offset)
            offset += _HEADER.size
            events.append((watch, mask, os.fsdecode(data[offset : offset + length].rstrip(b"\0"))))
            offset += length
        return events

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
