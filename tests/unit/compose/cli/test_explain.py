"""`explain`, `explain-config` and what `config` prints besides the project."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from compose.cli.main import main
from compose.errors import CODES
from compose.explanations import EXPLANATIONS


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("TAG", raising=False)
    (tmp_path / "compose.yaml").write_text(
        "services:\n  web:\n    image: nginx:${TAG:-1}\n    env_file: [e.env]\n    build: ./src\n"
        "    environment: {A: 1}\n    labels: {a: b}\n"
    )
    (tmp_path / "compose.override.yaml").write_text("services:\n  web:\n    labels: {a: c}\n")
    (tmp_path / "e.env").write_text("# first\nK=1\n")
    return tmp_path


def test_every_code_has_an_explanation() -> None:
    assert EXPLANATIONS.keys() == CODES.keys()


def test_explain_shows_meaning_example_and_fix(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "e012"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("E012: unknown key")
    assert 'port: ["8080:80"]' in text
    assert 'ports: ["8080:80"]' in text


def test_errors_print_their_code(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "compose.yaml").write_text('services:\n  web:\n    image: x\n    port: ["80"]\n')
    assert main(["-f", "compose.yaml", "config"]) == 1
    assert 'error[E012]: unknown key "port" in service "web"' in capsys.readouterr().err


def test_config_as_json_reports_errors_as_json(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "compose.yaml").write_text("services:\n  web:\n    imagee: x\n    port: 3\n")
    assert main(["-f", "compose.yaml", "config", "--format", "json"]) == 1
    errors = json.loads(capsys.readouterr().out)["errors"]
    assert [(e["code"], e["line"], e["suggestion"]) for e in errors] == [("E012", 3, "image"), ("E012", 4, "ports")]


def test_each_value_has_an_origin(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / ".env").write_text("TAG=7\n")
    assert main(["explain-config", "web"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert lines["web.image"].endswith("nginx:7  (compose.yaml:3:12: file, variable TAG of the env file)")
    assert lines["web.environment.K"].endswith("1  (e.env:2:1: env file)")
    assert lines["web.labels.a"].endswith("c  (compose.override.yaml:3:17: override)")
    assert lines["web.networks.default"].endswith("(default)")


def test_relative_paths_start_at_the_project(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--relative"]) == 0
    assert "context: ./src\n" in capsys.readouterr().out


def test_variables_are_listed_as_docker_does(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--variables", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "TAG": {"Name": "TAG", "DefaultValue": "1", "PresenceValue": "", "Required": False}
    }


def test_unread_env_files_are_printed(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--no-env-resolution"]) == 0
    text = capsys.readouterr().out
    assert "    env_file:\n      - " in text
    assert "K:" not in text


def test_services_are_listed_in_dockers_order(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "compose.yaml").write_text(
        "services:\n  z: {image: a}\n  a: {image: a, depends_on: [m]}\n  m: {image: a, depends_on: [z]}\n"
        "  b: {image: a}\n  c: {image: a, depends_on: [b]}\n"
    )
    assert main(["-f", "compose.yaml", "config", "--services"]) == 0
    assert capsys.readouterr().out.split() == ["z", "m", "a", "b", "c"]
