"""`exec` runs in the container, as asked, and ends with the command's own exit code."""

from __future__ import annotations

import pytest

from tests.stack import Stack


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 5"], 5),
        (["sh", "-c", "kill -9 $$"], 137),
        pytest.param(["no-such-command"], 127, marks=pytest.mark.umiak("126 with some versions of Docker")),
        (["/etc/passwd"], 126),
    ],
)
def test_exec_ends_with_the_exit_code_of_its_command(stack: Stack, argv: list[str], code: int) -> None:
    stack.up()
    stack.exec("web", *argv, exit_code=code)


def test_exec_keeps_stdin_stdout_and_stderr_apart(stack: Stack) -> None:
    stack.up()
    done = stack.exec("web", "sh", "-c", "cat; echo to stderr >&2", stdin="through stdin\n" * 1000)
    assert done.stdout == "through stdin\n" * 1000
    assert "to stderr" in done.stderr


def test_exec_takes_user_environment_and_directory(stack: Stack) -> None:
    stack.up()
    assert stack.sh("web", "id -u; pwd; echo $COLOUR") == "0\n/tmp\ngreen"
    done = stack.umiak(
        "exec",
        "-T",
        "-u",
        "1000:1000",
        "-w",
        "/bin",
        "-e",
        "COLOUR=blue",
        "web",
        "sh",
        "-c",
        "id -u; pwd; echo $COLOUR",
    )
    assert done.stdout == "1000\n/bin\nblue\n"


def test_exec_sees_the_containers_processes_only(stack: Stack) -> None:
    stack.up()
    assert stack.sh("web", "cat /proc/1/comm") == "sleep"


def test_exec_in_a_service_that_does_not_run_is_an_error(stack: Stack) -> None:
    stack.up()
    stack.wait_until_state("stopped", "exited")
    failed = stack.exec("stopped", "true", exit_code=1)
    assert "stopped" in failed.stderr
    assert "no-such" in stack.exec("no-such", "true", exit_code=1).stderr
