"""A streaming reader of tar archives written for hostile input, and a writer of deterministic headers.

Reads v7, ustar, GNU (long names, sparse, base-256 numbers) and pax (sizes, names, xattrs, sparse 0.0, 0.1 and 1.0). Nothing
is sought: data comes from any iterator of byte pieces. tar(5); POSIX pax; GNU tar manual, "Storing Sparse Files".
"""

from __future__ import annotations

import os
import stat
import zlib

from engine.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import BinaryIO

BLOCK_BYTES = 512
_ZERO_BLOCK = bytes(BLOCK_BYTES)
_MAX_FIELD_BYTES = 1 << 20
_MAX_SPARSE_PIECES = 1 << 17
_MAX_PATH_BYTES = 4096
_PIECE_BYTES = 1 << 20
_MAX_NUMBER = 1 << 62
_MAX_SECONDS = 1 << 40
_MAX_REMEMBERED = 1024
_remembered: dict[bytes, int] = {}
_TYPES = {
    stat.S_IFREG: b"0",
    stat.S_IFLNK: b"2",
    stat.S_IFCHR: b"3",
    stat.S_IFBLK: b"4",
    stat.S_IFDIR: b"5",
    stat.S_IFIFO: b"6",
}


def type_of(mode: int) -> bytes | None:
    """The type flag for a file of this `st_mode`; None for a socket, which no archive holds."""
    return _TYPES.get(stat.S_IFMT(mode))


class Limits:
    """What one archive may hold at most. `data_bytes` bounds the whole uncompressed stream."""

    __slots__ = ("data_bytes", "entries")

    def __init__(self, entries: int = 5_000_000, data_bytes: int = 1 << 38) -> None:
        self.entries = entries
        self.data_bytes = data_bytes


class Entry:
    """One archive member. Names are bytes as stored; `type` is the header's type flag, `b"0"` for every regular file.

    `size` is the file's size; `sparse` lists its (offset, length) pieces where it has holes.
    """

    __slots__ = ("gid", "link", "major", "minor", "mode", "mtime_ns", "name", "size", "sparse", "type", "uid", "xattrs")

    def __init__(self, name: bytes, kind: bytes, size: int = 0) -> None:
        self.name = name
        self.type = kind
        self.size = size
        self.link = b""
        self.mode = 0o644
        self.uid = 0
        self.gid = 0
        self.mtime_ns = 0
        self.major = 0
        self.minor = 0
        self.sparse: list[tuple[int, int]] | None = None
        self.xattrs: dict[bytes, bytes] = {}


class ByteSource:
    """Exact reads over an iterator of pieces, without copying where a piece holds all that is wanted."""

    def __init__(self, pieces: Iterable[bytes], limit: int) -> None:
        self._pieces = iter(pieces)
        self._view = memoryview(b"")
        self._offset = 0
        self._left = limit
        self.position = 0

    def read(self, size: int) -> memoryview:
        """Read `size` bytes, fewer only at the end of the stream."""
        end = self._offset + size
        if end > len(self._view):
            self._gather(size)
            end = min(self._offset + size, len(self._view))
        taken = self._view[self._offset : end]
        self._offset = end
        self.position += len(taken)
        return taken

    def exactly(self, size: int) -> memoryview:
        """Read `size` bytes; raise InvalidInput where the stream ends before."""
        taken = self.read(size)
        if len(taken) < size:
            raise InvalidInput("the tar archive is cut off")
        return taken

    def some(self, size: int) -> memoryview:
        """Read what is at hand of the next `size` bytes, at least one; raise InvalidInput where the stream ends."""
        if self._offset == len(self._view):
            self._gather(1)
        return self.exactly(min(size, len(self._view) - self._offset) or 1)

    def skip(self, size: int) -> None:
        """Pass over `size` bytes."""
        while size > 0:
            size -= len(self.some(min(size, _PIECE_BYTES)))

    def drain(self) -> None:
        """Read the rest, so that whoever hashes the stream sees all of it."""
        while self.read(_PIECE_BYTES):
            pass

    def _gather(self, size: int) -> None:
        parts: list[memoryview | bytes] = [self._view[self._offset :]]
        have = len(parts[0])
        while have < size:
            piece = next(self._pieces, None)
            if piece is None:
                break
            self._left -= len(piece)
            if self._left < 0:
                raise InvalidInput("the archive is larger than allowed when uncompressed")
            parts.append(piece)
            have += len(piece)
        self._view = memoryview(b"".join(parts)) if len(parts) > 2 or len(parts[0]) else memoryview(parts[-1])
        self._offset = 0


class SeekableSource(ByteSource):
    """The same over a seekable file, whose data are sought over instead of read where nobody wants them."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        super().__init__((), limit)
        self._file = file
        self._end = min(file.seek(0, os.SEEK_END), limit)
        file.seek(0)

    def read(self, size: int) -> memoryview:
        data = b""
        while len(data) < size:
            more = self._file.read(size - len(data))
            if not more:
                break
            data += more
        self.position += len(data)
        return memoryview(data)

    def some(self, size: int) -> memoryview:
        return self.exactly(size)

    def skip(self, size: int) -> None:
        self.position += size
        if self.position > self._end:
            raise InvalidInput("the tar archive is cut off")
        self._file.seek(self.position)

    def drain(self) -> None:
        """Leave the rest unread: nobody hashes it here."""


class TarReader:
    """Iterate over the entries of an archive; between two of them, `data()` gives the content of the last one."""

    def __init__(self, source: ByteSource | Iterable[bytes], limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._source = source if isinstance(source, ByteSource) else ByteSource(source, self._limits.data_bytes)
        self._global: dict[bytes, bytes] = {}
        self._stored = 0
        self._padding = 0
        self._entry: Entry | None = None

    def __iter__(self) -> Iterator[Entry]:
        for _ in range(self._limits.entries):
            self._source.skip(self._stored + self._padding)
            self._stored = self._padding = 0
            entry = self._next()
            if entry is None:
                self._source.drain()
                return
            yield entry
        raise InvalidInput(f"the archive has more than {self._limits.entries} entries")

    @property
    def data_offset(self) -> int:
        """Where in the uncompressed stream the current entry's stored data begin."""
        return self._source.position

    def data(self) -> Iterator[tuple[int, memoryview]]:
        """The current file's content as (offset in the file, bytes), holes left out."""
        entry = self._entry
        assert entry is not None
        for offset, length in entry.sparse if entry.sparse is not None else ((0, entry.size),):
            done = 0
            while done < length:
                piece = self._source.some(min(length - done, _PIECE_BYTES))
                self._stored -= len(piece)
                yield offset + done, piece
                done += len(piece)

    def _next(self) -> Entry | None:
        """Read headers up to the next real entry; extended headers before it apply to it."""
        pax: dict[bytes, bytes] = {}
        sparse_pax: list[tuple[bytes, bytes]] = []
        long_name = long_link = None
        for _ in range(64):
            block = bytes(self._source.read(BLOCK_BYTES))
            if not block or block == _ZERO_BLOCK:
                return None
            if len(block) < BLOCK_BYTES:
                raise InvalidInput("the tar archive is cut off")
            _verify_checksum(block)
            kind = block[156:157]
            if kind in b"xgLK":
                field = self._field(_number(block[124:136]))
                if kind == b"L":
                    long_name = field.rstrip(b"\0")
                elif kind == b"K":
                    long_link = field.rstrip(b"\0")
                elif kind == b"g":
                    self._global.update(_pax_records(field))
                else:
                    records = _pax_records(field)
                    pax.update(records)
                    sparse_pax.extend(r for r in records if r[0].startswith(b"GNU.sparse."))
                continue
            return self._entry_from(
                block, {**self._global, **pax} if self._global else pax, sparse_pax, long_name, long_link
            )
        raise InvalidInput("too many extended headers before one entry of the tar archive")

    def _field(self, size: int) -> bytes:
        if size > _MAX_FIELD_BYTES:
            raise InvalidInput("an extended header of the tar archive is too long")
        padded = -(-size // BLOCK_BYTES) * BLOCK_BYTES
        return bytes(self._source.exactly(padded)[:size])

    def _entry_from(
        self,
        block: bytes,
        pax: dict[bytes, bytes],
        sparse_pax: list[tuple[bytes, bytes]],
        long_name: bytes | None,
        long_link: bytes | None,
    ) -> Entry:
        name = long_name if long_name is not None else _header_name(block)
        name = pax.get(b"path", name)
        kind = block[156:157]
        if kind in b"\x0007":
            kind = b"5" if name.endswith(b"/") else b"0"
        entry = Entry(name, kind, _number(block[124:136]))
        entry.link = pax.get(b"linkpath", long_link if long_link is not None else _text(block[157:257]))
        entry.mode = _repeated_number(block[100:108]) & 0o7777
        entry.uid = _owner(pax.get(b"uid"), block[108:116])
        entry.gid = _owner(pax.get(b"gid"), block[116:124])
        entry.mtime_ns = _pax_time(pax[b"mtime"]) if b"mtime" in pax else _signed(block[136:148]) * 10**9
        if abs(entry.mtime_ns) > _MAX_SECONDS * 10**9:
            raise InvalidInput("a time in the tar archive is out of range")
        if b"size" in pax:
            entry.size = _decimal(pax[b"size"])
        if kind in b"34":
            entry.major, entry.minor = _number(block[329:337]), _number(block[337:345])
        if pax:
            entry.xattrs = {k[13:]: v for k, v in pax.items() if k.startswith(b"SCHILY.xattr.")}
        self._measure(entry, block, dict(sparse_pax), sparse_pax)
        if not entry.name or len(entry.name) > _MAX_PATH_BYTES or len(entry.link) > _MAX_PATH_BYTES:
            raise InvalidInput("a name in the tar archive is empty or too long")
        if b"\0" in entry.name or b"\0" in entry.link:
            raise InvalidInput("a name in the tar archive holds a NUL byte")
        self._entry = entry
        return entry

    def _measure(
        self, entry: Entry, block: bytes, sparse: dict[bytes, bytes], records: list[tuple[bytes, bytes]]
    ) -> None:
        """Work out how much data follow in the stream, and the sparse map."""
        if entry.type in b"123456":  # links, devices, directories and FIFOs have none, whatever their size field says
            entry.size = 0
            return
        self._stored = entry.size
        self._padding = -entry.size % BLOCK_BYTES
        if entry.type == b"S":
            entry.type = b"0"
            entry.size = _number(block[483:495])
            entry.sparse = self._gnu_sparse_map(block)
        elif sparse:
            self._pax_sparse(entry, sparse, records)
        if entry.sparse is not None:
            _check_sparse(entry, self._stored)

    def _gnu_sparse_map(self, block: bytes) -> list[tuple[int, int]]:
        pieces: list[tuple[int, int]] = []
        slots, more = block[386:482], block[482]
        while True:
            for at in range(0, len(slots) - 23, 24):
                length = _number(slots[at + 12 : at + 24])
                if length:
                    pieces.append((_number(slots[at : at + 12]), length))
            if not more:
                return pieces
            if len(pieces) > _MAX_SPARSE_PIECES:
                raise InvalidInput("a sparse file in the tar archive has too many pieces")
            block = bytes(self._source.exactly(BLOCK_BYTES))
            slots, more = block[:504], block[504]

    def _pax_sparse(self, entry: Entry, sparse: dict[bytes, bytes], records: list[tuple[bytes, bytes]]) -> None:
        if name := sparse.get(b"GNU.sparse.name"):
            entry.name = name
        real_size = sparse.get(b"GNU.sparse.realsize", sparse.get(b"GNU.sparse.size"))
        if real_size is None:
            return
        numbers: list[int]
        if sparse.get(b"GNU.sparse.major") == b"1":
            numbers = self._stored_sparse_map()
        elif b"GNU.sparse.map" in sparse:
            numbers = [_decimal(n) for n in sparse[b"GNU.sparse.map"].split(b",") if n]
        else:
            numbers = [_decimal(v) for k, v in records if k in (b"GNU.sparse.offset", b"GNU.sparse.numbytes")]
        entry.size = _decimal(real_size)
        entry.sparse = [(o, n) for o, n in zip(numbers[::2], numbers[1::2], strict=False) if n]

    def _stored_sparse_map(self) -> list[int]:
        """Sparse format 1.0: decimal lines before the data, padded to a block."""
        text = b""
        wanted = None
        while wanted is None or text.count(b"\n") < wanted:
            if len(text) > _MAX_FIELD_BYTES or self._stored < BLOCK_BYTES:
                raise InvalidInput("the map of a sparse file in the tar archive is broken")
            text += self._source.exactly(BLOCK_BYTES)
            self._stored -= BLOCK_BYTES
            if wanted is None and b"\n" in text:
                wanted = 1 + 2 * _decimal(text.partition(b"\n")[0])
        return [_decimal(line) for line in text.split(b"\n")[1:wanted]]


def _check_sparse(entry: Entry, stored: int) -> None:
    pieces = entry.sparse or []
    position = total = 0
    for offset, length in pieces:
        if offset < position or offset + length > entry.size:
            raise InvalidInput("the map of a sparse file in the tar archive is broken")
        position = offset + length
        total += length
    if total > stored or len(pieces) > _MAX_SPARSE_PIECES:
        raise InvalidInput("the map of a sparse file in the tar archive is broken")


def _verify_checksum(block: bytes) -> None:
    """The sum of the header with its own field as blanks; old tars summed signed bytes."""
    # The low half of an Adler-32 is one more than the sum of the bytes: exact for 256 of them, and six times faster than sum().
    summed = (zlib.adler32(block[:256]) & 0xFFFF) + (zlib.adler32(block[256:]) & 0xFFFF) - 2
    summed += 8 * 32 - sum(block[148:156])
    try:
        stored = _number(block[148:156])
    except InvalidInput:
        stored = -1
    if stored == summed:
        return
    negatives = sum(1 for byte in block[:148] + block[156:] if byte > 127)
    if stored != summed - 256 * negatives:
        raise InvalidInput("this is not a tar archive, or it is corrupt (header checksum)")


def _header_name(block: bytes) -> bytes:
    name = _text(block[0:100])
    if block[257:263] == b"ustar\0" and block[345]:
        return _text(block[345:500]) + b"/" + name
    return name


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _signed(field: bytes) -> int:
    digits = field.rstrip(b"\0 ")
    if digits.isdigit():
        try:
            return int(digits, 8)
        except ValueError:
            pass
    if field[0] & 0x80:
        # Base-256: the top bit marks it, the rest is two's complement.
        value = int.from_bytes(field, "big") - (1 << 8 * len(field) if field[0] & 0x40 else 1 << (8 * len(field) - 1))
    else:
        digits = field.partition(b"\0")[0].strip(b" ")
        if digits.strip(b"01234567"):
            raise InvalidInput("a number in a header of the tar archive is not octal")
        value = int(digits, 8) if digits else 0
    if not -_MAX_NUMBER < value < _MAX_NUMBER:
        raise InvalidInput("a number in a header of the tar archive is out of range")
    return value


def _number(field: bytes) -> int:
    value = _signed(field)
    if value < 0:
        raise InvalidInput("a number in a header of the tar archive is negative")
    return value


def _repeated_number(field: bytes) -> int:
    """A field whose few values come again and again: mode, user, group."""
    value = _remembered.get(field)
    if value is None:
        value = _number(field)
        if len(_remembered) < _MAX_REMEMBERED:
            _remembered[field] = value
    return value


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > 18:
        raise InvalidInput("a number in an extended header of the tar archive is broken")
    return int(text)


def _owner(text: bytes | None, field: bytes) -> int:
    """A user or group ID; (uid_t) -1 would mean "leave it" to chown(2)."""
    value = _decimal(text) if text else _repeated_number(field)
    if value >= 0xFFFFFFFF:
        raise InvalidInput("an owner in the tar archive is out of range")
    return value


def _pax_time(text: bytes) -> int:
    seconds, _, fraction = text.partition(b".")
    negative = seconds.startswith(b"-")
    value = _decimal(seconds.lstrip(b"-")) * 10**9 + (_decimal(fraction[:9].ljust(9, b"0")) if fraction else 0)
    return -value if negative else value


def _pax_records(data: bytes) -> list[tuple[bytes, bytes]]:
    """Parse `length key=value\\n` records; values may hold any byte."""
    records: list[tuple[bytes, bytes]] = []
    at = 0
    while at < len(data):
        blank = data.find(b" ", at, at + 20)
        length = _decimal(data[at:blank]) if blank > at else 0
        record = data[blank + 1 : at + length]
        key, equals, value = record[:-1].partition(b"=")
        if at + length > len(data) or not record.endswith(b"\n") or not equals:
            raise InvalidInput("an extended header of the tar archive is broken")
        records.append((key, value))
        at += length
    return records


def header(entry: Entry) -> bytes:
    """The header blocks for an entry: ustar, with a pax header before it where a value does not fit."""
    pax: dict[bytes, bytes] = {b"SCHILY.xattr." + k: v for k, v in sorted(entry.xattrs.items())}
    name, prefix = _split_name(entry.name)
    if len(name) > 100:
        pax[b"path"] = entry.name
        name, prefix = name[:100], b""
    if not entry.name.isascii():
        pax[b"path"] = entry.name
    if len(entry.link) > 100 or not entry.link.isascii():
        pax[b"linkpath"] = entry.link
    for key, value, digits in ((b"uid", entry.uid, 7), (b"gid", entry.gid, 7), (b"size", entry.size, 11)):
        if value >= 8**digits:
            pax[key] = b"%d" % value
    seconds = entry.mtime_ns // 10**9
    if not 0 <= seconds < 8**11:
        pax[b"mtime"] = b"%d" % seconds
    main = _ustar(entry, name, prefix, seconds)
    if not pax:
        return main
    data = b"".join(_pax_record(key, value) for key, value in sorted(pax.items()))
    extended = Entry(b"pax", b"x", len(data))
    return _ustar(extended, b"PaxHeaders.0/" + name[:80], b"", 0) + data + bytes(-len(data) % BLOCK_BYTES) + main


def _split_name(name: bytes) -> tuple[bytes, bytes]:
    """Split a long name at a slash into ustar's name (100) and prefix (155); leave it whole where that cannot be."""
    if len(name) <= 100:
        return name, b""
    at = name.rfind(b"/", 0, 156)
    if at <= 0 or not 0 < len(name) - at - 1 <= 100:
        return name, b""
    return name[at + 1 :], name[:at]


def _pax_record(key: bytes, value: bytes) -> bytes:
    body = len(key) + len(value) + 3
    length = body + len(str(body))
    length = body + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _octal(value: int, digits: int) -> bytes:
    return b"%0*o\0" % (digits, value if 0 <= value < 8**digits else 0)


def _ustar(entry: Entry, name: bytes, prefix: bytes, seconds: int) -> bytes:
    block = b"".join(
        (
            name.ljust(100, b"\0"),
            _octal(entry.mode, 7),
            _octal(entry.uid, 7),
            _octal(entry.gid, 7),
            _octal(entry.size, 11),
            _octal(seconds, 11),
            b" " * 8,
            entry.type,
            entry.link[:100].ljust(100, b"\0"),
            b"ustar\x0000",
            bytes(64),
            _octal(entry.major, 7),
            _octal(entry.minor, 7),
            prefix.ljust(155, b"\0"),
            bytes(12),
        )
    )
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]
