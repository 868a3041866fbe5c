"""What a shell is told at each Tab."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from compose.cli.completion import complete
from compose.cli.main import main

FILE = """
x-other:
  not: a service
services:
  web:
    image: a
    services: [x]
  "data-base":
    image: b
  worker: {image: c}
volumes:
  web2:
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "compose.yaml").write_text(FILE)
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    monkeypatch.delenv("COMPOSE_FILE", raising=False)
    monkeypatch.setenv("UMIAK_ROOT", str(tmp_path / "root"))


def completed(capfd: pytest.CaptureFixture[str], *words: str) -> list[str]:
    assert complete(words) == 0
    return capfd.readouterr().out.splitlines()


def test_commands_and_options_come_from_their_tables(capfd: pytest.CaptureFixture[str]) -> None:
    assert completed(capfd, "re") == ["restart"]
    assert completed(capfd, "--prof") == ["--profile"]
    assert completed(capfd, "up", "--no-dep") == ["--no-deps"]
    assert completed(capfd, "--progress", "p") == ["plain"]
    assert completed(capfd, "--progress=p") == ["--progress=plain"]
    assert completed(capfd, "compose", "unp") == ["unpause"]
    assert completed(capfd, "-p", "name", "unp") == ["unpause"]
    assert completed(capfd, "completion", "") == ["bash", "fish", "zsh"]


def test_services_come_from_the_nearest_file_or_the_one_given(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert completed(capfd, "up", "-d", "") == ["data-base", "web", "worker"]
    assert completed(capfd, "logs", "w") == ["web", "worker"]
    assert completed(capfd, "scale", "wo") == ["worker="]
    assert completed(capfd, "up", "--exit-code-from", "we") == ["web"]
    assert completed(capfd, "cp", "web") == ["web:"]
    (tmp_path / "other.yaml").write_text("services:\n    other:\n        image: a\n")
    assert completed(capfd, "-f", str(tmp_path / "other.yaml"), "stop", "") == ["other"]


def test_the_words_of_a_command_in_a_container_are_left_alone(capfd: pytest.CaptureFixture[str]) -> None:
    assert completed(capfd, "exec", "we") == ["web"]
    assert completed(capfd, "exec", "web", "") == []


def test_nothing_ends_in_an_error(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert completed(capfd, "no-such-command", "") == []
    assert completed(capfd, "-f", "no-such-file", "up", "") == []
    (tmp_path / "compose.yaml").write_bytes(b"services:\n\t\xff")
    assert completed(capfd, "up", "") == []
    assert completed(capfd, "container", "rm", "") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script(shell: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert "umiak __complete" in capfd.readouterr().out


@pytest.mark.parametrize("name", ["umiak", "docker-compose"])
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("logs w", ["web", "worker"]),
        ("up --exit-code-from ", ["data-base", "web", "worker"]),
        ("--progress=pl", ["plain"]),
        ("cp we", ["web:"]),
        ("restart no-such", []),
    ],
)
def test_bash_completes_with_it(
    name: str, line: str, words: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    main(["completion", "bash"])
    script = capfd.readouterr().out
    umiak = f'umiak() {{ {sys.executable} -c "import sys; from compose.cli.main import main; sys.exit(main())" "$@"; }}'
    tab = f'COMP_LINE="{name} {line}" COMP_POINT=${{#COMP_LINE}}; compopt() {{ :; }}; _umiak; printf "%s\\n" "${{COMPREPLY[@]}}"'
    registered = f"complete -p {name} >&2"
    program = "\n".join(["alias docker-compose=umiak", umiak, script, registered, tab.replace("; ", "\n")])
    done = subprocess.run(
        ["bash", "--norc", "-c", program],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])},
        capture_output=True,
        text=True,
    )
    assert f"-F _umiak {name}" in done.stderr
    assert done.stdout.split() == words
