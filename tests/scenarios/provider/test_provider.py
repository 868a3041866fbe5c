"""A program stands in for a service: it is called, and what it sets reaches those that depend on it and nobody else."""

from __future__ import annotations

import pytest

from tests.stack import Stack

pytestmark = pytest.mark.umiak("rawsetenv came with v5")

UP = "compose --project-name=provider up --size=small --zone=a --zone=b cloud"
ASK = "echo $CLOUD_URL $CLOUD_COLOUR $RAW"


def calls(stack: Stack) -> list[str]:
    return (stack.directory / "calls").read_text().splitlines()


def test_what_it_sets_reaches_its_dependents(stack: Stack) -> None:
    assert "RunProvider" in stack.umiak("plan", exit_code=None).stdout
    assert "making it" in stack.up().stderr
    assert stack.sh("web", ASK) == "https://one theirs 1"
    assert stack.sh("other", ASK) == ""
    assert stack.states() == {"provider-web-1": "running", "provider-other-1": "running"}
    first = stack.ids()
    assert "nothing to do" in stack.umiak("plan").stdout
    (stack.directory / "answer").write_text("https://two")
    stack.up()
    assert calls(stack) == [UP, UP]
    assert stack.sh("web", ASK) == "https://two theirs 1"
    assert stack.ids()["provider-web-1"] != first["provider-web-1"]
    assert stack.ids()["provider-other-1"] == first["provider-other-1"]
    assert stack.umiak("run", "--rm", "-T", "web", "sh", "-c", ASK).stdout.strip() == "https://two theirs 1"


def test_down_calls_it_without_a_file_and_only_once(stack: Stack) -> None:
    stack.up("web")
    stack.umiak("-p", "provider", "down")
    stack.umiak("-p", "provider", "down")
    assert calls(stack) == [UP, "compose --project-name=provider down cloud"]


def test_it_is_called_after_what_it_needs_and_let_go_before_that(stack: Stack) -> None:
    sleeper = "image: busybox, init: true, command: [sleep, '600']"
    stack.write(
        "services:\n"
        "  cloud: {provider: {type: ./provide}, depends_on: {other: {condition: service_healthy}}}\n"
        f"  web: {{{sleeper}, depends_on: [cloud]}}\n"
        f"  other: {{{sleeper}, healthcheck: {{test: [CMD, 'true'], interval: 1s}}}}\n"
    )
    (stack.directory / "stops").touch()
    stack.up()
    assert stack.status("other")["health"]["state"] == "healthy"
    stack.umiak("stop")
    stack.umiak("start")
    dry = stack.umiak("--dry-run", "down").stdout.splitlines()
    stack.down()
    assert [call.split()[2] for call in calls(stack)] == ["up", "stop", "down"]
    order = [
        next(number for number, line in enumerate(dry) if text in line)
        for text in ("web:1, Stop", "RunProvider", "other:1, Stop")
    ]
    assert order == sorted(order)


def test_its_failure_is_told_with_what_it_said(stack: Stack) -> None:
    (stack.directory / "broken").touch()
    said = stack.up(exit_code=1).stderr
    assert 'provider ./provide of service "cloud" could not do up: no quota left' in said
    assert "compose.yaml:3:" in said
    assert stack.states() == {}
    (stack.directory / "broken").unlink()
    stack.replace("type: ./provide", "type: nowhere")
    assert 'there is no program "nowhere"' in stack.up(exit_code=1).stderr
    (stack.directory / "provide").unlink()
    stack.replace("type: nowhere", "type: /bin/echo")
    assert "said what cannot be understood: compose" in stack.up(exit_code=1).stderr
    stack.umiak("down", exit_code=1)
    stack.replace("type: /bin/echo", "type: /bin/true")
    stack.up()
