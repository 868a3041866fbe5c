from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidInput
from engine.images.tar import Entry, Limits, SeekableSource, TarReader, header


def read_all(data: bytes) -> list[tuple[Entry, bytes]]:
    reader = TarReader([data])
    found = []
    for entry in reader:
        content = bytearray(entry.size if entry.type == b"0" else 0)
        if entry.type == b"0":
            for offset, piece in reader.data():
                content[offset : offset + len(piece)] = piece
        found.append((entry, bytes(content)))
    return found


def archive(format: int, *infos: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for info, data in infos:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def info(name: str, **fields: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(made, key, value)
    return made


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_all_formats_of_pythons_tarfile_are_read(format: int) -> None:
    long = "d/" * 60 + "file"
    data = archive(
        format, (info("a", mode=0o4755, uid=7, gid=8, mtime=1_600_000_000), b"hello"), (info(long), b"x" * 1000)
    )
    (first, content), (second, more) = read_all(data)
    assert (first.name, first.mode, first.uid, first.gid, content) == (b"a", 0o4755, 7, 8, b"hello")
    assert first.mtime_ns == 1_600_000_000 * 10**9
    assert (second.name, more) == (long.encode(), b"x" * 1000)


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_very_long_names_and_links_are_read(format: int) -> None:
    name, target = "n/" * 200 + "é", "t" * 300
    [(entry, _)] = read_all(archive(format, (info(name, type=tarfile.SYMTYPE, linkname=target), b"")))
    assert (entry.name, entry.link, entry.type) == (name.encode(), target.encode(), b"2")


def test_large_numbers_are_read_in_base_256_and_in_pax() -> None:
    for format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        [(entry, _)] = read_all(archive(format, (info("a", uid=3_000_000_000, mtime=2**40), b"")))
        assert (entry.uid, entry.mtime_ns) == (3_000_000_000, 2**40 * 10**9)


def test_pax_gives_fractions_of_seconds_and_xattrs() -> None:
    made = info("a", mtime=1.5)
    made.pax_headers = {"SCHILY.xattr.user.a": "b"}
    [(entry, _)] = read_all(archive(tarfile.PAX_FORMAT, (made, b"")))
    assert (entry.mtime_ns, entry.xattrs) == (1_500_000_000, {b"user.a": b"b"})


@pytest.mark.parametrize(
    ("fields", "stored"),
    [
        (
            {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "4096"},
            b"2\n100\n3\n4000\n2\n".ljust(512, b"\0") + b"abcde",
        ),
        ({"GNU.sparse.map": "100,3,4000,2", "GNU.sparse.size": "4096"}, b"abcde"),
    ],
)
def test_sparse_files_in_pax_keep_their_holes(fields: dict[str, str], stored: bytes) -> None:
    made = info("GNUSparseFile.0/a")
    made.pax_headers = {**fields, "GNU.sparse.name": "a"}
    [(entry, content)] = read_all(archive(tarfile.PAX_FORMAT, (made, stored)))
    assert (entry.name, entry.size, entry.sparse) == (b"a", 4096, [(100, 3), (4000, 2)])
    assert content[100:103] + content[4000:4002] == b"abcde"
    assert content.count(0) == 4091


def test_data_that_nobody_reads_are_passed_over() -> None:
    data = archive(tarfile.PAX_FORMAT, (info("a"), b"x" * 3000), (info("b"), b"y"))
    assert [entry.name for entry in TarReader([data])] == [b"a", b"b"]
    source = SeekableSource(io.BytesIO(data), 1 << 20)
    assert [entry.name for entry in TarReader(source)] == [b"a", b"b"]


@pytest.mark.parametrize("cut", [100, 512, 700, 1100, 1536 + 100])
def test_an_archive_that_is_cut_off_is_refused(cut: int) -> None:
    data = archive(tarfile.USTAR_FORMAT, (info("a"), b"x" * 600), (info("b"), b"y" * 600))
    with pytest.raises(InvalidInput, match="cut off"):
        read_all(data[:cut])


def test_bounds_are_kept() -> None:
    data = archive(tarfile.USTAR_FORMAT, (info("a"), b""), (info("b"), b""))
    with pytest.raises(InvalidInput, match="more than 1 entries"):
        list(TarReader([data], Limits(entries=1)))
    with pytest.raises(InvalidInput, match="larger than allowed"):
        list(TarReader([data], Limits(data_bytes=1000)))


def test_what_is_no_tar_is_refused() -> None:
    with pytest.raises(InvalidInput, match="not a tar archive"):
        read_all(b"#!/bin/sh\n".ljust(1024, b"x"))


names = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), min_size=1, max_size=300)


@given(names, st.integers(0, 2**40), st.integers(0, 2**32 - 2), st.integers(-(2**40), 2**40), st.binary(max_size=40))
def test_a_written_header_reads_back_the_same(name: str, size: int, owner: int, seconds: int, value: bytes) -> None:
    entry = Entry(name.encode(), b"0", size)
    entry.uid, entry.mtime_ns, entry.xattrs = owner, seconds * 10**9, {b"user.x": value}
    found = next(iter(TarReader([header(entry)])))
    wanted_type = b"5" if name.endswith("/") else b"0"
    assert (found.name, found.uid, found.mtime_ns) == (entry.name, owner, seconds * 10**9)
    assert (found.type, found.size) == (wanted_type, 0 if wanted_type == b"5" else size)
    assert found.xattrs == entry.xattrs


@given(st.binary(max_size=3000))
def test_garbage_gives_entries_or_our_own_error(data: bytes) -> None:
    try:
        read_all(data)
    except InvalidInput:
        pass


@given(
    st.lists(st.tuples(st.integers(0, 511), st.integers(0, 255)), max_size=6), st.sampled_from(list(b"0123456gxLKS7"))
)
def test_a_damaged_header_gives_entries_or_our_own_error(changes: list[tuple[int, int]], kind: int) -> None:
    block = bytearray(archive(tarfile.GNU_FORMAT, (info("name"), b"data" * 50)))
    block[156] = kind
    for at, value in changes:
        block[at] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block[:512])
    reader = TarReader([bytes(block)], Limits(entries=100, data_bytes=1 << 20))
    try:
        for entry in reader:
            if entry.type == b"0":
                list(reader.data())
    except InvalidInput:
        pass
