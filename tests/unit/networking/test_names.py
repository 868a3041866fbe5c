"""Names as the files of a network's directory give them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from networking.names import Names


def publish(directory: Path, container: str, address: str, *names: str) -> None:
    directory.mkdir(exist_ok=True)
    (directory / ".new").write_text(json.dumps({"ip": address, "names": names}))
    (directory / ".new").rename(directory / container)


@pytest.fixture
def names(tmp_path: Path) -> Names:
    subnets = {"proj_front": "10.0.0.9/24", "proj_back": "10.0.1.9/24"}
    return Names([{"name": name, "names_dir": str(tmp_path / name), "subnet": subnets[name]} for name in subnets])


def test_all_of_a_name_in_rotation(names: Names, tmp_path: Path) -> None:
    for number in range(3):
        publish(tmp_path / "proj_front", str(number), f"10.0.0.{number}", f"web-{number}", "web")
    answers = [names.addresses("web") for _ in range(3)]
    assert {answer[0] for answer in answers} == {"10.0.0.0", "10.0.0.1", "10.0.0.2"}
    assert all(len(answer) == 3 for answer in answers)


def test_networks_are_joined_and_can_be_told_apart(names: Names, tmp_path: Path) -> None:
    publish(tmp_path / "proj_front", "a", "10.0.0.1", "Web")
    publish(tmp_path / "proj_back", "a", "10.0.1.1", "web")
    assert sorted(names.addresses("web")) == ["10.0.0.1", "10.0.1.1"]
    assert names.addresses("web.proj_back") == ["10.0.1.1"]
    assert names.addresses("web.other") == []
    assert names.name_of("10.0.0.1") == "Web.proj_front"


def test_changes_are_seen(names: Names, tmp_path: Path) -> None:
    assert names.addresses("web") == []
    for number in range(20):
        publish(tmp_path / "proj_front", "a", f"10.0.0.{number}", "web")
        assert names.addresses("web") == [f"10.0.0.{number}"]
        (tmp_path / "proj_front" / "a").unlink()
        assert names.addresses("web") == []


def test_an_unchanged_directory_is_not_read_again(
    names: Names, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path / "proj_front", "a", "10.0.0.1", "web")
    os.utime(tmp_path / "proj_front", ns=(10**18, 10**18))
    assert names.addresses("web") == ["10.0.0.1"]
    monkeypatch.setattr(os, "listdir", lambda _: pytest.fail("read again"))
    assert names.addresses("web") == ["10.0.0.1"]


def test_files_that_cannot_be_read_are_passed_over(names: Names, tmp_path: Path) -> None:
    publish(tmp_path / "proj_front", "a", "10.0.0.1", "web")
    for name, text in (("b", "{"), ("c", "[]"), ("d", '{"ip": "10.0.0.9"}'), ("e", '{"ip": "10.0.0.8", "names": []}')):
        (tmp_path / "proj_front" / name).write_text(text)
    assert names.addresses("web") == ["10.0.0.1"]


def test_addresses_of_the_networks_are_known_as_such(names: Names) -> None:
    assert all(names.holds(address) for address in ("10.0.0.0", "10.0.0.255", "10.0.1.1"))
    assert not any(names.holds(address) for address in ("10.0.2.0", "0.0.0.0"))
