"""`config --redact`."""

from __future__ import annotations

from pathlib import Path

import pytest

from compose.redaction import REDACTED, redaction
from compose.spec.load import LoadOptions, load
from compose.spec.render import render
from tests.unit.compose.spec.files import write


@pytest.fixture(autouse=True)
def _in_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_redaction_hides_what_may_be_secret_and_nothing_else() -> None:
    write(app_env="OWN=hunter1\n")
    text = """
services:
  a:
    image: x:${TAG}
    env_file: app.env
    environment: {DB_PASSWORD: hunter2, URL: "https://me:hunter3@db/x?t=${TOKEN}", PLAIN: seen}
    command: run --key ${API_KEY:-hunter4} --tag ${TAG}
    build: {context: ., args: ["T=${TOKEN}"]}
    configs: [c]
configs: {c: {content: "token ${TOKEN}"}}
"""
    Path("compose.yaml").write_text(text)
    options = LoadOptions(environment={"TOKEN": "hunter5", "TAG": "v1", "API_KEY": "hunter4"})
    printed = render(load(options), edit=redaction(options))
    assert "hunter" not in printed
    for expected in (
        "x:v1",
        "PLAIN: seen",
        "- --tag\n",
        "- --key\n",
        f"token {REDACTED}",
        f"https://{REDACTED}@db/x?t={REDACTED}",
    ):
        assert expected in printed
    unset = LoadOptions(environment={"TAG": "v1"})
    assert "hunter" not in render(load(unset), edit=redaction(unset))
