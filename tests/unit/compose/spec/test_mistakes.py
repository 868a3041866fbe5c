"""What a person is told who has made a mistake: all at once, and what to write instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.compose.spec.files import problems


@pytest.fixture(autouse=True)
def _in_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("body", "hint"),
    [
        ("services:\n  web\n    image: a\n", "line 2 may lack a colon: web:"),
        (
            'services:\n  web:\n    image: "a\n    ports:\n      - "80"\n',
            "the quote that opens in line 3 ends in line 5: is one missing?",
        ),
        ('services:\n  web:\n    image: "a\n', "close the quote that opens in line 3"),
        (
            "services:\n  web:\n    image: a\n   ports: []\n",
            "check the indentation: the line begins where none of those above it does",
        ),
        (
            "services:\n  web:\n    image: {{ image }}\n",
            "{{ … }} belongs to a template: render the file first, or quote the value",
        ),
        ("web:\n  image: a\n", "a service stands under services:"),
        ("image: a\n", "it belongs to a service, under services:"),
        ("services:\n  web:\n    image: a\n    replicas: 2\n", "it belongs to deploy"),
        ("services:\n  web:\n    image: a\n    context: .\n", "it belongs to build"),
        ("services:\n  web:\n    image: a\n    depends_on: [bd]\n  db:\n    image: b\n", 'did you mean "db"?'),
        (
            "services:\n  web:\n    image: a\n    environment:\n      - A: b\n",
            'expected a string; write "A=b", or leave out the dashes',
        ),
        (
            "services:\n  web:\n    image: a\n    command:\n      - say a: b\n",
            'expected a string; quote it: "say a: b"',
        ),
        (
            "services:\n  web:\n    image: a\n    healthcheck:\n      timeout: 5\n",
            "expected a string; write 5s for seconds",
        ),
        ("services:\n  web:\n    image: a\n    mem_limit: 5 megs\n", "write a number with a unit: 512m, 1.5g"),
        (
            "services:\n  web:\n    image: a\n    stop_grace_period: soon\n",
            "write a number with a unit: 30s, 1m30s, 2h",
        ),
    ],
)
def test_a_beginners_mistake_is_told_what_to_write_instead(body: str, hint: str) -> None:
    (error,) = problems(body)
    assert error.hint == hint


def test_wrong_keys_and_wrong_extends_do_not_hide_other_mistakes() -> None:
    found = problems(
        "services:\n"
        "  1: {image: a}\n"
        "  web: {image: a, image: b, portss: []}\n"
        "  x: {extends: nope}\n"
        "  y: {extends: {file: no.yaml, service: z}}\n"
    )
    assert [error.code for error in found] == ["E005", "E004", "E012", "E040", "E001"]
