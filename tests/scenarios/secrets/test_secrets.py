"""Secrets and configs are files with the owner and mode asked for, in the container and for nobody else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.stack import Stack

pytestmark = pytest.mark.umiak("Docker ignores owner and mode, and knows files alone with read_only")

SEEN = "stat -c '%n %u:%g %a' /run/secrets/* /etc/app/settings.ini; cat /run/secrets/* /etc/app/settings.ini"


@pytest.fixture(autouse=True)
def token(stack: Stack) -> None:
    stack.env["TOKEN"] = "from the environment"
    (stack.directory / "owned.txt").chmod(0o600)


def test_owner_mode_and_content_are_as_asked(stack: Stack) -> None:
    stack.up()
    assert stack.sh("web", SEEN).splitlines() == [
        "/run/secrets/owned 1000:0 400",
        "/run/secrets/plain 0:0 644",
        "/run/secrets/token 1000:1000 440",
        "/etc/app/settings.ini 0:0 444",
        "owned",
        "plain",
        "from the environmentcolour=blue",
    ]
    assert stack.exec("web", "sh", "-c", "echo x > /run/secrets/token", exit_code=None).returncode != 0


def test_no_other_user_of_the_host_can_read_them(stack: Stack) -> None:
    stack.up()
    holders = [path for base in (stack.host.root, stack.host.run) for path in _holding(base, "from the environment")]
    assert len(holders) == 2, "one is kept for later starts, one is the container's"
    for path in holders:
        assert path.parent.stat().st_mode & 0o777 == 0o700


def test_they_are_made_again_after_a_restart_and_after_a_reboot(stack: Stack) -> None:
    stack.up()
    (stack.directory / "owned.txt").write_text("changed\n")
    del stack.env["TOKEN"]
    stack.umiak("restart", "-t", "0")
    assert stack.sh("web", "cat /run/secrets/owned /run/secrets/token") == "changed\nfrom the environment"
    stack.umiak("stop", "-t", "0")
    for path in (stack.host.run / "containers").iterdir():  # all of /run goes with a reboot
        shutil.rmtree(path)
    stack.umiak("start")
    assert stack.sh("web", "cat /run/secrets/owned /run/secrets/token") == "changed\nfrom the environment"


def test_another_content_replaces_the_container_and_down_forgets_both(stack: Stack) -> None:
    stack.up()
    first = stack.container("web")["ID"]
    stack.env["TOKEN"] = "another"
    stack.up()
    assert stack.container("web")["ID"] != first
    assert stack.sh("web", "cat /run/secrets/token") == "another"
    assert not _holding(stack.host.root, "from the environment")
    stack.down()
    assert not _holding(stack.host.root, "another")


def _holding(base: Path, text: str) -> list[Path]:
    """Small files below the projects and containers of an engine that hold a text."""
    places = [base / "projects", base / "containers"]
    files = [path for place in places for path in place.rglob("*") if path.is_file() and path.stat().st_size < 10_000]
    return [path for path in files if text in path.read_text(errors="replace")]
