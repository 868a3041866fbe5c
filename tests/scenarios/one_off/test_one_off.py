"""`run` brings up what a service needs, runs one command in a container of its own, and ends as the command ends."""

from __future__ import annotations

import json
import re
import signal

import pytest

from tests.stack import UMIAK, Stack, json_values, wait_for
from tests.terminal import Terminal


def one_offs(stack: Stack) -> list[dict[str, object]]:
    """The one-off containers, running or not."""
    return [one for one in stack.containers().values() if "oneoff=True" in one["Labels"]]


def run_app(stack: Stack, *words: str, exit_code: int = 0, stdin: str | None = None) -> str:
    """`run --rm --no-deps`, with the output of the command."""
    return stack.umiak("run", "--rm", "--no-deps", *words, exit_code=exit_code, stdin=stdin).stdout


def test_what_the_service_needs_is_ready_first_and_stays_up(stack: Stack) -> None:
    done = stack.umiak("run", "--rm", "-T", "app", "cat /data/done; exit 3", exit_code=3)
    assert done.stdout == "migrated\n"
    assert stack.container("db")["Health"] == "healthy"
    assert stack.container("migrate")["ExitCode"] == 0
    assert one_offs(stack) == []
    assert stack.replicas("app") == []


@pytest.mark.umiak("Docker's down leaves what run left")
def test_without_rm_the_container_stays_and_is_named_after_the_service(stack: Stack) -> None:
    stack.umiak("run", "--no-deps", "app", exit_code=7)
    [left] = one_offs(stack)
    assert re.fullmatch("one_off-app-run-[0-9a-f]{12}", str(left["Name"]))
    assert (left["State"], left["ExitCode"], left["Publishers"]) == ("exited", 7, [])
    assert stack.umiak("ps", "--services").stdout.split() == []
    stack.umiak("up", "-d", "db")
    assert len(one_offs(stack)) == 1, "another command leaves it alone"
    stack.umiak("down")
    assert one_offs(stack) == []


@pytest.mark.parametrize(
    ("argv", "code"),
    [(["true"], 0), (["exit 5"], 5)],
)
def test_the_exit_code_is_the_commands(stack: Stack, argv: list[str], code: int) -> None:
    run_app(stack, "app", *argv, exit_code=code)


@pytest.mark.umiak("Docker Compose ends with 1")
def test_a_command_that_cannot_run_ends_with_126_or_127(stack: Stack) -> None:
    run_app(stack, "--entrypoint", "no-such-command", "app", exit_code=127)
    run_app(stack, "--entrypoint", "/etc/passwd", "app", exit_code=126)
    assert one_offs(stack) == []
    stack.umiak("run", "nothing", exit_code=1)


def test_options_change_what_is_run(stack: Stack) -> None:
    (stack.directory / "more.env").write_text("FROM_FILE=file\nCOLOUR=file\n")
    shown = run_app(
        stack,
        *("-e", "COLOUR=blue", "--env-from-file", "more.env", "-u", "1000:1000", "-w", "/tmp"),
        *("-v", f"{stack.directory}:/mine:ro", "-v", "/scratch", "-l", "own=label", "--cap-drop", "NET_RAW"),
        *("app", "echo $COLOUR $KEPT $FROM_FILE; id -u; pwd; ls /mine/more.env; ls -d /scratch"),
    )
    assert shown == "blue kept file\n1000\n/tmp\n/mine/more.env\n/scratch\n"
    assert run_app(stack, "--entrypoint", "echo -n", "app", "one", "two") == "one two"
    assert run_app(stack, "-T", "--entrypoint", "cat", "app", stdin="through\n") == "through\n"


def test_a_detached_run_goes_on_under_the_name_given(stack: Stack) -> None:
    stack.umiak("run", "-d", "--no-deps", "--name", "my-run", "-P", "app", "sleep 600")
    [running] = one_offs(stack)
    assert (running["Name"], running["State"]) == ("my-run", "running")
    assert {port["TargetPort"] for port in running["Publishers"]} == {80}  # type: ignore[attr-defined]
    refused = stack.umiak("run", "-d", "--no-deps", "--name", "my-run", "app", exit_code=1)
    assert "my-run" in refused.stderr
    inside = stack.umiak("exec", "-T", "app", "hostname").stdout.strip()
    assert inside == running["ID"], "where no replica runs, this is the container of the service"
    [inspected] = json.loads(stack.umiak("container", "inspect", "my-run").stdout)
    stack.host.kill(inspected["State"]["Pid"])
    wait_for(lambda: one_offs(stack)[0]["State"] == "exited", "it to end, and not to be started again")
    stack.umiak("container", "rm", "-f", "my-run")


def test_a_run_publishes_only_what_it_is_told_to(stack: Stack) -> None:
    stack.umiak("run", "-d", "--no-deps", "-p", "127.0.0.1::81", "app", "sleep 600")
    [running] = one_offs(stack)
    assert {port["TargetPort"] for port in running["Publishers"]} == {81}  # type: ignore[attr-defined]


def test_names_of_the_service_are_answered_only_when_asked(stack: Stack) -> None:
    assert run_app(stack, "--use-aliases", "app", "nslookup app >/dev/null && echo known") == "known\n"
    run_app(stack, "app", "nslookup app >/dev/null 2>&1", exit_code=1)


def test_ctrl_c_reaches_the_command_and_rm_still_removes(stack: Stack) -> None:
    child = stack.start(
        "run", "--rm", "--no-deps", "app", "trap 'exit 9' INT; echo waiting; while :; do sleep 0.1; done"
    )
    assert child.stdout is not None
    wait_for(lambda: "waiting" in child.stdout.readline(), "the command to wait")
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=60)
    assert child.returncode == 9
    assert one_offs(stack) == []


def test_ctrl_c_while_its_needs_come_up_leaves_no_container_of_it(stack: Stack) -> None:
    stack.replace('"test", "-e", "/ready"', '"false"')
    child = stack.start("run", "--rm", "app", "true")
    wait_for(lambda: stack.replicas("db") and stack.container("db")["State"] == "running", "db to run", timeout_s=30)
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=60)
    assert child.returncode == 130
    assert one_offs(stack) == []


@pytest.mark.umiak("Docker sets the terminal's size when the command has begun")
def test_on_a_terminal_the_command_has_one_too(stack: Stack) -> None:
    argv = [UMIAK, "run", "--rm", "--no-deps", "--entrypoint", "sh", "app"]
    screen = Terminal(
        argv, cwd=stack.directory, env=stack.host.environment({**stack.env, "TERM": "xterm"}), columns=111
    )
    try:
        screen.press("tty; stty size; exit 8\n")
        assert screen.end() == 8
    finally:
        screen.close()
    assert "/dev/pts/0" in screen.seen
    assert "24 111" in screen.seen
    assert one_offs(stack) == []
    assert json_values(stack.umiak("ps", "-a", "--format", "json").stdout) == []
