from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from compose.errors import ComposeError
from compose.spec import source
from compose.spec.load import LoadOptions, load

TEXT = "services: {web: {image: nginx}}\n"


@pytest.fixture(autouse=True)
def _in_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(source, "PATIENCE_S", 0.05)


def problem(*files: str) -> str:
    with pytest.raises(ComposeError) as caught:
        load(LoadOptions(files=files, environment={}))
    return str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "services: {web: {image: x, env_file: fifo}}",
        "services: {web: {image: x, label_file: fifo}}",
        "services: {web: {extends: {file: fifo, service: a}}}",
        "include: [fifo]",
        "include: [{path: other.yaml, env_file: fifo}]",
    ],
)
def test_a_pipe_that_no_one_writes_to_is_an_error_and_no_hang(text: str | None) -> None:
    os.mkfifo("fifo")
    Path("other.yaml").write_text(TEXT)
    if text is None:
        assert "its end did not come within" in problem("fifo")
    else:
        Path("compose.yaml").write_text(text)
        assert "its end did not come within" in problem("compose.yaml")


def test_a_device_or_a_socket_is_an_error(tmp_path: Path) -> None:
    assert "larger than 1 MiB" in problem("/dev/zero")
    assert "empty compose file" in problem("/dev/null")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        assert "cannot read socket" in problem("socket")


@pytest.fixture
def writer() -> Iterator[threading.Thread]:
    os.mkfifo("fifo")
    thread = threading.Thread(target=lambda: Path("fifo").write_text(TEXT))
    yield thread
    thread.join()


def test_a_named_pipe_that_is_written_to_is_read_and_may_be_named_again(
    writer: threading.Thread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "PATIENCE_S", 60.0)
    writer.start()
    assert [*load(LoadOptions(files=("fifo", "fifo"), environment={})).services] == ["web"]
    assert [*load(LoadOptions(files=("fifo",), environment={})).services] == ["web"]


def config(command: str) -> str:
    umiak = f"{sys.executable} -m compose.cli.main"
    done = subprocess.run(["bash", "-c", command.replace("umiak", umiak)], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_standard_input_and_the_pipes_of_a_shell_are_read_to_their_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[4]))
    text = "services: {web: {image: nginx, profiles: [p]}}"
    pipe = f"<(echo '{text}')"
    assert config(f"umiak -f {pipe} -f - config --images web < {pipe}") == "nginx\n"
    assert "-:1:18" in config("echo 'services: {web: {imag: x}}' | umiak -f - config")


def test_a_file_on_another_host_says_so() -> None:
    for path in ("oci://ghcr.io/a/b:1", "https://github.com/a/b.git", "git@github.com:a/b.git"):
        assert f"cannot open {path}: remote files are not supported" in problem(path)
    Path("compose.yaml").write_text("include: [oci://ghcr.io/a/b:1]\n")
    assert "cannot include oci://ghcr.io/a/b:1: remote files are not supported" in problem("compose.yaml")
