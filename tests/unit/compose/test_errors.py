from __future__ import annotations

import os
from pathlib import Path

import pytest

from compose.errors import CODES, ComposeError, ComposeErrors, Place, display_path, dotted, snippet
from engine.errors import InvalidInput

PLACE = Place("compose.yaml", 7, 5)


def an_error() -> ComposeError:
    return ComposeError(
        "E012",
        'unknown key "port" in service "web"',
        at=PLACE,
        path="services.web.port",
        line_text='    port: "8080:80"',
        width=4,
        suggestion="ports",
        hint='ports: ["8080:80"]',
    )


def test_an_error_is_an_invalid_input_that_says_where() -> None:
    error = an_error()
    assert isinstance(error, InvalidInput)
    assert str(error) == 'compose.yaml:7:5: unknown key "port" in service "web"'
    assert error.hint == 'did you mean "ports"?; ports: ["8080:80"]'


def test_a_snippet_points_with_a_caret() -> None:
    assert snippet(an_error()) == (
        'error[E012]: unknown key "port" in service "web"\n'
        "  --> compose.yaml:7:5\n"
        ' 7 |     port: "8080:80"\n'
        '   |     ^^^^ did you mean "ports"?\n'
        "   = at: services.web.port\n"
        '   = help: ports: ["8080:80"]'
    )


def test_several_errors_read_as_the_first_and_print_all() -> None:
    both = ComposeErrors([an_error(), ComposeError("E011", "second")])
    assert both.code == "E012"
    assert both.at == PLACE
    assert str(both).count("\n") == 1


def test_an_error_becomes_plain_data() -> None:
    assert an_error().as_dict() == {
        "code": "E012",
        "message": 'unknown key "port" in service "web"',
        "file": "compose.yaml",
        "line": 7,
        "column": 5,
        "path": "services.web.port",
        "suggestion": "ports",
        "hint": 'ports: ["8080:80"]',
    }


def test_every_code_used_is_explained() -> None:
    import re

    used = set()
    for path in (Path(__file__).parents[3] / "compose").rglob("*.py"):
        used |= set(re.findall(r'"(E0\d\d)"', path.read_text()))
    assert used == CODES.keys()


def test_paths_are_shown_as_seen_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert display_path(str(tmp_path / "a" / "b")) == os.path.join("a", "b")
    assert display_path("/elsewhere/b") == "/elsewhere/b"
    assert dotted(("services", "web", "ports", 1, "target")) == "services.web.ports[1].target"
