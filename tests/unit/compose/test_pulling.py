from __future__ import annotations

import time
from pathlib import Path

import pytest

from compose.pulling import check_policy, is_due
from engine.errors import InvalidInput, NotFound, Unavailable
from tests.unit.compose.stack import FakeStack, steps


@pytest.fixture
def stack(tmp_path: Path) -> FakeStack:
    made = FakeStack(tmp_path)
    made.engine.registry = {"redis": "sha256:" + "1" * 64, "app": "sha256:" + "2" * 64}
    return made


def test_a_missing_image_is_pulled_once_before_its_containers_are_made(stack: FakeStack) -> None:
    stack.write("services: {a: {image: redis, network_mode: none}, b: {image: redis, network_mode: none}}")
    assert steps(stack.plan()) == [
        "[] -> #1 image:a, PullImage, not found",
        "[1] -> #2 service:a:1, CreateContainer, no existing container",
        "[2] -> #3 service:a:1, StartContainer, created",
        "[1] -> #4 service:b:1, CreateContainer, no existing container",
        "[4] -> #5 service:b:1, StartContainer, created",
    ]
    stack.up()
    assert [call for call in stack.engine.calls if "pull" in call] == ["pull redis"]
    assert stack.states() == {"p-a-1": "running", "p-b-1": "running"}
    assert steps(stack.plan()) == []


def test_an_image_that_changed_at_its_registry_replaces_the_containers(stack: FakeStack) -> None:
    stack.write("services: {a: {image: app, network_mode: none}}")
    stack.up()
    stack.up(pull="always")
    assert stack.engine.calls[0] == "pull app"
    assert any(call.startswith("remove") for call in stack.engine.calls)
    stack.up(pull="always")
    assert stack.engine.calls == ["pull app"]


def test_an_image_with_a_build_section_is_asked_for_and_built_if_that_fails(stack: FakeStack) -> None:
    stack.write(
        "services: {a: {image: redis, build: ., network_mode: none}, b: {image: own, build: ., network_mode: none}}"
    )
    assert steps(stack.plan())[:2] == [
        "[] -> #1 image:a, PullImage, not found",
        "[] -> #2 image:b, PullImage, not found",
    ]
    stack.up()
    assert [call for call in stack.engine.calls if call.startswith(("pull", "build"))] == ["pull redis", "build own"]
    assert any(event.kind == "pull" and event.state == "warning" for event in stack.events)
    assert set(stack.states()) == {"p-a-1", "p-b-1"}
    stack.up()
    assert [call for call in stack.engine.calls if call.startswith(("pull", "build"))] == []


@pytest.mark.parametrize("policy", ["build", "never"])
def test_a_policy_has_it_built_without_asking(stack: FakeStack, policy: str) -> None:
    stack.write(f"services: {{a: {{image: redis, build: ., pull_policy: {policy}, network_mode: none}}}}")
    assert "BuildImage" in steps(stack.plan())[0]
    stack.up(pull="never")
    assert [call for call in stack.engine.calls if "pull" in call] == []


def test_an_image_without_a_name_of_its_own_is_built_whatever_the_policy(stack: FakeStack) -> None:
    stack.write("services: {a: {build: ., pull_policy: missing, network_mode: none}}")
    assert "BuildImage" in steps(stack.plan())[0]
    stack.up()
    stack.up(pull="always")
    assert [call for call in stack.engine.calls if "pull" in call] == []


def test_an_image_that_must_not_be_pulled_or_cannot_be_is_an_error(stack: FakeStack) -> None:
    stack.write("services: {a: {image: redis}}")
    with pytest.raises(NotFound, match="does not exist here"):
        stack.plan(pull="never")
    stack.write("services: {a: {image: unknown}}")
    with pytest.raises(Unavailable, match="cannot pull unknown"):
        stack.up()
    assert stack.states() == {}


def test_a_policy_of_days_asks_again_when_they_have_passed(stack: FakeStack) -> None:
    stack.write("services: {a: {image: app, pull_policy: daily, network_mode: none}}")
    assert "pull policy daily" in str(stack.plan())
    stack.engine.images.seen["app"] = time.time() - 3600
    assert "PullImage" not in str(stack.plan())
    stack.engine.images.seen["app"] = time.time() - 90000
    assert "PullImage" in str(stack.plan())


@pytest.mark.parametrize(
    ("policy", "age_s", "due"),
    [
        ("always", 0.0, True),
        ("missing", None, False),
        ("daily", 86399.0, False),
        ("weekly", 604800.0, True),
        ("every_1d12h", 100000.0, False),
        ("every_1d12h", 130000.0, True),
        ("every_5m", None, True),
    ],
)
def test_when_a_policy_is_due(policy: str, age_s: float | None, due: bool) -> None:
    assert is_due(policy, age_s) is due


def test_the_option_takes_three_policies() -> None:
    assert [check_policy(text) for text in (None, "always", "missing", "if_not_present", "never")] == [
        None,
        "always",
        "missing",
        "missing",
        "never",
    ]
    with pytest.raises(InvalidInput):
        check_policy("build")
