"""`up` in the foreground on a fake engine, and the pump behind `exec`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from compose.cli.attach import Attachment, Ending
from compose.cli.view.lines import LinePrinter, Style
from compose.output import Line
from tests.unit.compose.stack import FakeStack

TWO = "services:\n  first: {image: app}\n  second: {image: db}"


def attachment(stack: FakeStack, **changes: Any) -> Attachment:
    options: dict[str, Any] = {
        "stops": ["first", "second"],
        "follows": [],
        "shows": [],
        "hides": [],
        "ending": Ending(),
        "style": Style(),
    }
    return Attachment(stack.orchestrator, "p", **(options | changes))


@pytest.fixture
def ended(stack: FakeStack) -> FakeStack:
    stack.engine.programs |= {"first": "exit 7", "second": "exit 0"}
    stack.write(TWO).up()
    return stack


def test_output_is_shown_until_all_have_ended(ended: FakeStack, capfd: pytest.CaptureFixture[str]) -> None:
    assert attachment(ended).run(since=0) == 0
    out = capfd.readouterr().out.splitlines()
    assert out[0] == "Attaching to first-1, second-1"
    assert "first-1   | last words" in out
    assert "second-1  | last words" in out
    assert "first-1 exited with code 7" in out


def test_hidden_services_are_followed_but_not_shown(ended: FakeStack, capfd: pytest.CaptureFixture[str]) -> None:
    attachment(ended, hides=["first"]).run(since=0)
    out = capfd.readouterr().out
    assert "first-1  " not in out
    assert "first-1 exited with code 7" in out


def test_the_exit_code_can_come_from_a_service(ended: FakeStack) -> None:
    assert attachment(ended, ending=Ending(on_exit=True, code_from="first")).run(since=0) == 7
    assert attachment(ended, ending=Ending(on_exit=True, code_from="second")).run(since=0) == 0


def test_only_what_is_followed_counts(ended: FakeStack) -> None:
    assert attachment(ended, follows=["second"], ending=Ending(on_failure=True)).run(since=0) == 0
    assert attachment(ended, ending=Ending(on_failure=True)).run(since=0) == 7


def test_an_interrupted_up_stops_what_it_was_about(stack: FakeStack) -> None:
    stack.write(TWO).up()
    attachment(stack, stops=["first"]).stop_all()
    assert stack.states() == {"p-first-1": "exited", "p-second-1": "running"}


def test_lines_pass_as_bytes_on_a_pipe(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    LinePrinter({"c": "web-1"}, Style()).print(Line(0.0, "c", "stdout", b"\xff\x1b[2Jx"))
    LinePrinter({"c": "web-1"}, Style(prefix=False)).print(Line(0.0, "c", "stdout", b"y"))
    LinePrinter({"c": "web-1"}, Style(timestamps=True)).print(Line(1.5, "c", "stdout", b"z"))
    assert capfdbinary.readouterr().out == (b"web-1  | \xff\x1b[2Jx\ny\nweb-1  | 1970-01-01T00:00:01.500000000Z z\n")


PUMP = """
import os, sys
from compose.cli.terminal import attach

class Session:
    master = -1
    def __init__(self):
        (self.theirs_in, self.stdin), (self.stdout, self.theirs_out), (self.stderr, self.theirs_err) = (os.pipe() for _ in range(3))
        self.done, self.theirs_done = os.pipe()
    def close_stdin(self):
        pass
    def fileno(self):
        return self.done
    def wait(self):
        return 5

session = Session()
if os.fork() == 0:
    for fd in (session.stdin, session.stdout, session.stderr):
        os.close(fd)
    # Writes far more than a pipe holds before it reads anything.
    os.write(session.theirs_err, b"to stderr")
    left = b"o" * 300_000
    while left:
        left = left[os.write(session.theirs_out, left):]
    while data := os.read(session.theirs_in, 65536):
        os.write(session.theirs_out, data.upper())
    os._exit(0)
for fd in (session.theirs_in, session.theirs_out, session.theirs_err, session.theirs_done):
    os.close(fd)
sys.exit(attach(session))
"""


def test_bytes_pass_both_ways_even_if_the_command_does_not_read_at_first() -> None:
    text = b"input " * 50_000
    done = subprocess.run(
        [sys.executable, "-c", PUMP],
        input=text,
        capture_output=True,
        cwd=Path(__file__).parents[4],
        timeout=30,
        check=False,
    )
    assert done.returncode == 5
    assert done.stderr == b"to stderr"
    assert done.stdout == b"o" * 300_000 + text.upper()
