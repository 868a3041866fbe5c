"""`logs` of several services comes in the order in which it was written, cut as asked; a service may keep no log."""

from __future__ import annotations

import pytest

from tests.stack import Stack


def ready(stack: Stack) -> None:
    stack.up()
    stack.wait_until_state("second", "exited", timeout_s=30)
    stack.wait_until_state("local", "exited")


def lines(stack: Stack, *words: str) -> list[str]:
    return stack.umiak("logs", *words, "first", "second").stdout.splitlines()


@pytest.mark.umiak("Docker merges nothing")
def test_lines_of_several_services_are_merged_by_time_and_cut_as_asked(stack: Stack) -> None:
    ready(stack)
    texts = lines(stack, "--no-log-prefix", "--no-color")
    assert [text for text in texts if text != "error"] == ["one", "two", "three", "four"]
    assert [line.split("|")[0].strip() for line in lines(stack)][:4] == ["first-1", "second-1", "first-1", "second-1"]
    assert lines(stack, "--no-log-prefix", "-n", "1")[0] == "three", "the last line of each"

    stamped = [line.split(" ", 1) for line in lines(stack, "--no-log-prefix", "-t")]
    moments = {text: moment for moment, text in stamped}
    assert sorted(moment for moment, _ in stamped) == [moment for moment, _ in stamped]
    since = lines(stack, "--no-log-prefix", "--since", moments["three"])
    assert [text for text in since if text != "error"] == ["three", "four"]
    assert lines(stack, "--no-log-prefix", "--until", moments["two"])[0] == "one"
    assert lines(stack, "--no-log-prefix", "--since", "1h", "--until", "30m") == []


def test_a_service_may_keep_no_log_or_a_local_one(stack: Stack) -> None:
    ready(stack)
    told = stack.umiak("logs", "silent", exit_code=None)
    assert "never kept" not in told.stdout
    assert stack.umiak("logs", "--no-log-prefix", "local").stdout == "kept locally\n"
