from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.runtime.users import UserError, find_groups, resolve

PASSWD = b"""root:x:0:0:root:/root:/bin/bash
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
broken:x:not-a-number:1::/:
short:x:9
1234:x:77:78::/odd:/bin/sh
"""
GROUP = b"""root:x:0:
adm:x:4:syslog,www-data
www-data:x:33:
dup:x:33:www-data
extra:x:1000:www-data,daemon
nobody-in-it:x:7
"""


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("", (0, 0, [0], "/root")),
        ("root", (0, 0, [0], "/root")),
        ("www-data", (33, 33, [33, 4, 1000], "/var/www")),
        ("33", (33, 33, [33, 4, 1000], "/var/www")),
        ("33:0", (33, 0, [0], "/var/www")),
        ("www-data:adm", (33, 4, [4], "/var/www")),
        ("www-data:55555", (33, 55555, [55555], "/var/www")),
        ("4242", (4242, 0, [0], "/")),
        ("4242:4343", (4242, 4343, [4343], "/")),
        ("1234", (77, 78, [78], "/odd")),
    ],
)
def test_users_and_groups_resolve_as_docker_has_it(spec: str, expected: tuple[int, int, list[int], str]) -> None:
    assert resolve(spec, PASSWD, GROUP) == expected


@pytest.mark.parametrize("spec", ["ghost", "root:ghosts", "broken", "-1", "4294967296", "²"])
def test_what_does_not_exist_is_an_error(spec: str) -> None:
    with pytest.raises(UserError):
        resolve(spec, PASSWD, GROUP)


def test_an_image_without_account_files_still_has_root_and_numbers() -> None:
    assert resolve("", b"", b"") == (0, 0, [0], "/")
    assert resolve("7:8", b"", b"") == (7, 8, [8], "/")


def test_groups_are_found_by_name_or_number() -> None:
    assert find_groups(["adm", "12"], GROUP) == [4, 12]


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_account_files_can_be_any_bytes(passwd: bytes, group: bytes) -> None:
    uid, gid, groups, home = resolve("12:13", passwd, group)
    assert uid >= 0
    assert gid >= 0
    assert groups == [gid]
    assert isinstance(home, str)
