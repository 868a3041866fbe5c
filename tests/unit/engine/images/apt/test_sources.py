from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import NotFound
from engine.images.apt.sources import ARCHIVE_KEYRING, Source, debian_sources, host_sources

LIST = """
# deb http://commented.example/debian bookworm main
deb http://deb.debian.org/debian/ bookworm main contrib # trailing
deb-src http://deb.debian.org/debian bookworm main
deb [arch=amd64 signed-by=/keys/other.gpg] https://other.example/apt bookworm stable
"""
SOURCES = """
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /keys/debian.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Enabled: no

Types: deb
URIs: http://inline.example/debian
Suites: bookworm-security
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abcd
 -----END PGP PUBLIC KEY BLOCK-----
"""


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text(LIST)
    (tmp_path / "sources.list.d" / "debian.sources").write_text(SOURCES)
    (tmp_path / "sources.list.d" / "debian.sources.bak").write_text(SOURCES)
    return tmp_path


def test_both_styles_of_source_files_are_read(etc: Path) -> None:
    found = host_sources(str(etc))
    assert found[0] == Source("http://deb.debian.org/debian", "bookworm", ("main", "contrib"))
    assert found[1] == Source("https://other.example/apt", "bookworm", ("stable",), ("/keys/other.gpg",))
    assert [(s.uri, s.suite) for s in found[2:]] == [
        ("http://mirror.example/debian", "bookworm"),
        ("http://mirror.example/debian", "bookworm-updates"),
        ("http://inline.example/debian", "bookworm-security"),
    ]
    assert found[2].keyrings == ("/keys/debian.gpg",)
    assert found[4].keyrings[0].startswith("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nabcd\n-----END")


def test_only_the_suites_pockets_of_main_are_taken(etc: Path) -> None:
    suites = [
        (source.suite, source.components) for source in debian_sources("bookworm", "bookworm", host_sources(str(etc)))
    ]
    assert suites == [
        ("bookworm", ("main",)),
        ("bookworm", ("main",)),
        ("bookworm-updates", ("main",)),
        ("bookworm-security", ("main",)),
    ]


def test_another_suite_is_looked_for_where_the_hosts_own_is(etc: Path) -> None:
    found = debian_sources("trixie", "bookworm", host_sources(str(etc)))
    assert {source.suite for source in found} == {"trixie", "trixie-updates", "trixie-security"}
    assert all(source.keyrings == () for source in found), "the host's own key says nothing about another suite"


def test_a_host_that_says_stable_serves_its_own_suite() -> None:
    found = debian_sources(
        "bookworm",
        "bookworm",
        [Source("http://d/debian", "stable", ("main",)), Source("http://d/s", "stable-security", ("main",))],
    )
    assert [source.suite for source in found] == ["stable", "stable-security"]


def test_a_host_without_debian_sources_is_told_what_to_add() -> None:
    with pytest.raises(NotFound, match="no source for Debian bookworm") as caught:
        debian_sources("bookworm", "bookworm", [])
    assert "sources.list.d" in str(caught.value.hint)
    assert ARCHIVE_KEYRING.endswith(".gpg")
