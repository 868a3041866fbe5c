"""Which paths a watch rule is about, and what a batch of changes asks for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compose.model.deploy import Hook
from compose.spec.discover import LoadOptions
from compose.spec.load import load
from compose.watch import Rule, Watcher, due, files_below, rules_of
from engine.errors import InvalidInput
from engine.images.build.ignore import compile_rules
from tests.unit.compose.stack import FakeStack

RULE = Rule("web", "/p/src", "sync", target="/srv")


def rules(*patterns: str) -> Any:
    return compile_rules(("compose.yaml:1:1", pattern) for pattern in patterns)


def test_a_rule_is_about_its_path_and_what_is_below() -> None:
    assert RULE.concerns("/p/src")
    assert RULE.concerns("/p/src/a/b")
    assert not RULE.concerns("/p/srcs")
    assert (RULE.inside("/p/src"), RULE.inside("/p/src/a/b")) == ("/srv", "/srv/a/b")


def test_ignored_paths_win_over_included_ones() -> None:
    rule = replace(RULE, ignored=rules("node_modules", "**/*.log"), included=rules("**/*.js", "**/*.log"))
    wanted = [
        path for path in ("a.js", "node_modules/b.js", "c.log", "d.txt", "e/f.js") if rule.concerns(f"/p/src/{path}")
    ]
    assert wanted == ["a.js", "e/f.js"]


def test_dockerignore_is_relative_to_the_build_context() -> None:
    rule = replace(RULE, context="/p", dockerignore=rules("src/secret"))
    assert rule.concerns("/p/src/public")
    assert not rule.concerns("/p/src/secret/key")


def test_a_rebuild_stands_beside_what_else_is_due_and_services_are_apart() -> None:
    hook = Hook(command=("reload",))
    found = due(
        [
            RULE,
            replace(RULE, path="/p/conf", action="sync+restart", target="/etc"),
            replace(RULE, path="/p/src", action="sync+exec", target="/copy", exec=hook),
            Rule("job", "/p/src/job", "rebuild"),
        ],
        {"/p/src/job/x", "/p/conf/y", "/elsewhere"},
    )
    assert found["web"].files == {
        "/srv/job/x": "/p/src/job/x",
        "/copy/job/x": "/p/src/job/x",
        "/etc/y": "/p/conf/y",
    }
    assert (found["web"].restart, found["web"].execs, found["web"].rebuild) == (True, [hook], False)
    assert found["job"].rebuild


def test_links_are_files_and_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").touch()
    (tmp_path / "link").symlink_to("/")
    assert sorted(files_below(str(tmp_path))) == [f"{tmp_path}/a/file", f"{tmp_path}/link"]


def watcher(stack: FakeStack, watch: str, more: str = "") -> tuple[Watcher, list[str]]:
    stack.write(f"services:\n  web:\n    image: app\n    {more}\n    develop: {{watch: [{watch}]}}\n")
    warnings: list[str] = []
    path = str(stack.directory / "compose.yaml")
    project = load(LoadOptions(files=(path,), project_name="p", environment={}))
    found = rules_of(project, (), warnings.append)
    return Watcher(stack.orchestrator, stack.desired(), found), warnings


def test_a_restart_is_done_and_an_error_is_told(stack: FakeStack) -> None:
    (stack.directory / "src").mkdir()
    watching, _ = watcher(stack, "{path: ./src, action: restart}")
    watching.take({f"{stack.directory}/src/x"})
    assert stack.events[-1].state == "error"
    stack.up()
    renewed: list[str] = []
    watching.renewed = renewed.append
    watching.take({f"{stack.directory}/src/x"})
    assert renewed == ["web"]
    assert [event.state for event in stack.events if event.kind == "watch"] == ["error", "restarted"]


def test_what_a_bind_mount_shows_anyway_is_not_watched(stack: FakeStack) -> None:
    (stack.directory / "src").mkdir()
    _, warnings = watcher(
        stack,
        "{path: ./src, action: sync, target: /srv}, {path: ./src, action: restart}",
        "volumes: ['./src:/srv']",
    )
    assert len(warnings) == 1
    assert "bind mount" in warnings[0]


def test_a_changed_dockerfile_is_a_reason_to_rebuild(stack: FakeStack) -> None:
    (stack.directory / "src").mkdir()
    (stack.directory / "Dockerfile").write_text("FROM app")
    stack.write("services: {web: {build: ., develop: {watch: [{path: ./src, action: rebuild}]}}}")
    path = str(stack.directory / "compose.yaml")
    project = load(LoadOptions(files=(path,), project_name="p", environment={}))
    found = due(rules_of(project, (), print), {str(stack.directory / "Dockerfile")})
    assert found["web"].rebuild


def test_nothing_to_rebuild_is_an_error_with_its_place(stack: FakeStack) -> None:
    (stack.directory / "src").mkdir()
    with pytest.raises(InvalidInput, match="has nothing to rebuild") as caught:
        watcher(stack, "{path: ./src, action: rebuild}")
    assert "compose.yaml:5:" in (caught.value.place or "")
