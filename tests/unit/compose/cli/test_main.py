"""Whole command lines that need no engine: what they print, where, and how they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import compose.cli.main
import compose.cli.signals
from compose.cli.main import main

FAST = ("ps", "logs", "exec_", "down", "stop", "start", "kill")
HEAVY = ("pydantic", "yaml", "networkx", "typer", "rich", "click", "pyroute2", "asyncio")


def run(*argv: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "compose.cli.main", *argv],
        cwd=cwd,
        env={"PATH": os.defpath, "PYTHONPATH": str(Path(__file__).parents[4]), "UMIAK_ROOT": str(cwd / "root"), **env},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", FAST)
def test_quick_commands_import_nothing_heavy(name: str, tmp_path: Path) -> None:
    script = f"import compose.cli.main, compose.cli.context, compose.cli.{name}, compose.orchestrator, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=Path(__file__).parents[4], capture_output=True, text=True, check=True
    )
    assert not set(done.stdout.split()).intersection(HEAVY)


def test_an_unknown_command_is_one_clear_error(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["upp"]) == 1
    assert capfd.readouterr().err == 'error: unknown command "upp"\n   = help: did you mean up?\n'


def test_an_option_in_the_wrong_place_is_told_where_it_goes(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["down", "--progress", "plain"]) == 1
    assert "it goes before the command" in capfd.readouterr().err


def test_an_interrupt_that_compiled_code_turned_into_an_error_is_one_all_the_same(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def run(_: list[str]) -> int:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.sigtimedwait([], 5)
        except BaseException as error:
            raise TypeError(str(error)) from None
        return 0

    monkeypatch.setattr(compose.cli.main, "_run", run)
    monkeypatch.setattr(compose.cli.signals, "_seen", [])
    assert main([]) == 143
    assert capfd.readouterr().err == ""


def test_what_has_no_dry_run_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--dry-run", "login"]) == 1
    assert "has no dry run" in capfd.readouterr().err


def test_version_prints_text_and_json(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    assert main(["version", "-f", "json"]) == 0
    assert capfd.readouterr().out == 'umiak version 0.1.0\n{"version":"0.1.0"}\n'


def test_a_mistake_in_the_file_shows_its_line(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("services:\n  web:\n    image: x\n    port: ['80:80']\n")
    done = run("config", cwd=tmp_path)
    assert done.returncode == 1
    assert "--> compose.yaml:4:5" in done.stderr
    assert " 4 |     port: ['80:80']\n   |     ^^^^" in done.stderr
    assert "Traceback" not in done.stderr


def test_errors_can_be_had_as_json(tmp_path: Path) -> None:
    done = run("--progress", "json", "config", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith('{"error": true, "message": "no configuration file provided: not found"')


def test_a_defect_is_one_line_and_a_traceback_only_when_asked(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("not a directory")
    done = run("-p", "x", "ps", cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    debug = run("-p", "x", "ps", cwd=tmp_path, UMIAK_DEBUG="1")
    assert "Traceback" in debug.stderr


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("services:\n" + "".join(f"  s{n}: {{image: x}}\n" for n in range(3000)))
    reader = "import sys; sys.stdin.readline()"
    line = f"{sys.executable} -m compose.cli.main config | {sys.executable} -c '{reader}'"
    env = {"PATH": os.defpath, "PYTHONPATH": str(Path(__file__).parents[4])}
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_config_lists_services_after_those_they_need(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("services:\n  a: {image: x, depends_on: [b]}\n  b: {image: y}\n")
    assert run("config", "--services", cwd=tmp_path).stdout == "b\na\n"
    assert run("config", "--images", cwd=tmp_path).stdout == "x\ny\n"
    hashes = run("config", "--hash", "*", cwd=tmp_path).stdout.split()
    assert hashes[::2] == ["a", "b"]
    assert all(len(digest) == 64 for digest in hashes[1::2])


def test_docker_compose_style_calls_mean_the_same(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["compose", "version", "--short"]) == 0
    assert main(["-f", "other.yaml", "--project-name", "p", "version", "--short"]) == 0
    assert capfd.readouterr().out == "0.1.0\n0.1.0\n"
    assert main(["docker-cli-plugin-metadata"]) == 0
    assert json.loads(capfd.readouterr().out)["SchemaVersion"] == "0.1.0"


def test_a_dry_run_may_be_asked_for_after_the_command(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["login", "--dry-run"]) == 1
    assert "has no dry run" in capfd.readouterr().err


def test_a_named_file_that_is_not_there_is_an_error_of_every_command(tmp_path: Path) -> None:
    done = run("-f", "missing.yaml", "ps", cwd=tmp_path)
    assert done.returncode == 1
    assert "cannot open missing.yaml: no such file" in done.stderr


def test_words_that_a_command_does_not_take_are_refused(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["version", "web"]) == 1
    assert 'version takes no "web"' in capfd.readouterr().err
