"""A mistake gets one clear error, with its place and a hint; nothing half-made is left."""

from __future__ import annotations

import re

import pytest

from tests.stack import Stack

pytestmark = pytest.mark.umiak("Docker says what is wrong, but not in which line")

CASES = {
    "invalid-yaml": ("services:\n  web:\n    image: [busybox\n", r"compose\.yaml:\d+:\d+"),
    "duplicate-key": ("services:\n  web:\n    image: busybox\n    image: debian\n", r"compose\.yaml:4:5"),
    "unknown-key": ("services:\n  web:\n    image: busybox\n    port: ['80:80']\n", r"compose\.yaml:4:5.*port"),
    "wrong-type": ("services:\n  web:\n    image: busybox\n    read_only: [1]\n", r"compose\.yaml:4:1\d.*read_only"),
    "bad-port": ("services:\n  web:\n    image: busybox\n    ports: ['80:http']\n", r"compose\.yaml:4:\d+.*ports"),
    "required-variable": (
        "services:\n  web:\n    image: ${NO_SUCH:?set it}\n",
        r"compose\.yaml:3:\d+.*NO_SUCH.*set it",
    ),
    "cycle": (
        "services:\n  a: {image: busybox, depends_on: [b]}\n  b: {image: busybox, depends_on: [a]}\n",
        r"cycle.*a -> b -> a.*compose\.yaml:\d+:\d+",
    ),
    "unknown-dependency": ("services:\n  web: {image: busybox, depends_on: [bd]}\n", r"compose\.yaml:2:\d+.*bd"),
    "unknown-network": ("services:\n  web: {image: busybox, networks: [nowhere]}\n", r"compose\.yaml:2:\d+.*nowhere"),
    "unknown-volume": (
        "services:\n  web: {image: busybox, volumes: ['nothing:/x']}\n",
        r"compose\.yaml:2:\d+.*nothing",
    ),
    "no-image": ("services:\n  web: {command: [sleep, '1']}\n", r"compose\.yaml:2:\d+.*image"),
}


@pytest.mark.parametrize(("text", "told"), CASES.values(), ids=CASES.keys())
def test_a_mistake_in_the_file_is_shown_at_its_place(stack: Stack, text: str, told: str) -> None:
    stack.write(text)
    failed = stack.up(exit_code=1)
    assert re.search(told, failed.stderr.replace("\n", " "), re.IGNORECASE), failed.stderr
    assert stack.umiak("ps", "-a", "-q", exit_code=None).stdout.strip() == ""


def test_a_missing_file_is_one_clear_error(stack: Stack) -> None:
    stack.file.unlink()
    failed = stack.up(exit_code=1)
    assert "compose.yaml" in failed.stderr


def test_a_missing_image_is_named_with_a_hint_and_nothing_is_left(stack: Stack) -> None:
    stack.write(
        "services:\n"
        "  good: {image: busybox, command: [sleep, '600'], volumes: ['v:/v']}\n"
        "  bad: {image: 'localhost:1/no/such:image'}\n"
        "volumes: {v: {}}\n"
    )
    failed = stack.up(exit_code=1)
    assert "localhost:1/no/such:image" in failed.stderr
    assert stack.ids() == {}


@pytest.mark.parametrize(
    ("command", "name"),
    [("[no-such-command]", "no-such-command"), ("[/etc/passwd]", "/etc/passwd"), ("[/no/such/file]", "/no/such/file")],
)
def test_a_command_that_cannot_run_is_named(stack: Stack, command: str, name: str) -> None:
    stack.write(f"services: {{web: {{image: busybox, command: {command}}}}}\n")
    failed = stack.up(exit_code=1)
    assert name in failed.stderr
    assert "web" in failed.stderr
    assert "running" not in stack.states().values()


def test_a_bad_option_shows_the_usage(stack: Stack) -> None:
    failed = stack.umiak("up", "--no-such-option", exit_code=None)
    assert failed.returncode in (1, 2)
    assert "--no-such-option" in failed.stderr
