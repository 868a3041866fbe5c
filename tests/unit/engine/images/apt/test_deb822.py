from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.images.apt.deb822 import Version, fields, stanzas


@pytest.mark.parametrize(
    ("lower", "higher"),
    [
        ("1.0", "1.1"),
        ("1.0~rc1", "1.0"),
        ("1.0", "1.0-1"),
        ("1.0-1", "1.0-1+deb12u1"),
        ("1.9", "1.10"),
        ("9", "1:0"),
        ("1.0a", "1.0+"),
        ("1.2~~", "1.2~"),
        ("2.36-9+deb12u9", "2.36-9+deb12u14"),
        ("1", "1.0.1"),
    ],
)
def test_versions_have_dpkgs_order(lower: str, higher: str) -> None:
    assert Version(lower) < Version(higher)
    assert Version(higher) > Version(lower)


@pytest.mark.parametrize(("one", "other"), [("1.0", "1.00"), ("0:1", "1"), ("1-", "1"), ("1.", "1.0")])
def test_versions_that_dpkg_holds_equal_are_equal(one: str, other: str) -> None:
    assert Version(one) == Version(other)
    assert hash(Version(one)) == hash(Version(other))


versions = st.from_regex(r"\A([0-9]:)?[0-9][0-9a-c.+~]{0,6}(-[0-9a-c.+~]{1,4})?\Z")


@pytest.mark.skipif(shutil.which("dpkg") is None, reason="dpkg is the oracle")
@settings(max_examples=40, deadline=None)
@given(versions, versions)
def test_dpkg_agrees(one: str, other: str) -> None:
    is_lower = (
        subprocess.run(["dpkg", "--compare-versions", one, "lt", other], check=False, capture_output=True).returncode
        == 0
    )
    assert (Version(one) < Version(other)) == is_lower


def test_fields_may_continue_on_indented_lines() -> None:
    assert fields("Package: a\nDescription: b\n c\n .\n d\n# comment\nX: y") == {
        "package": "a",
        "description": "b\nc\n.\nd",
        "x": "y",
    }
    assert [found["a"] for found in stanzas("A: 1\n\n \nA: 2\n\n\n")] == ["1", "2"]
