"""RUN --mount in the engine's own containers: an SSH agent, and an interrupt in the middle that leaves nothing."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.facade import Engine
from engine.images.archive import import_rootfs
from engine.images.build.agent import forwarded
from engine.images.build.builder import BuildRequest
from engine.images.build.cancel import Cancellation, Cancelled
from engine.images.build.events import BuildEvent
from engine.images.build.secrets import Secret
from tests.images import busybox_rootfs_tar
from tests.patience import PATIENCE

pytestmark = pytest.mark.needs("root", "mount", "overlay", "netns")


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    from compose.wiring import open_engine

    monkeypatch.setenv("UMIAK_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("UMIAK_RUN", str(tmp_path / "run"))
    monkeypatch.setenv("UMIAK_NFT_TABLE", f"umiak-rm-{os.getpid()}")
    made = open_engine(warm=True)
    import_rootfs(made.images, busybox_rootfs_tar(tmp_path / "busybox.tar"), "busybox")
    yield made
    made.images.close()
    made.close()


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[str]:
    """An SSH agent that answers each connection with what it was sent, in capitals."""
    path = str(tmp_path / "agent.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen()

        def serve() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client, contextlib.suppress(OSError):
                    client.sendall(client.recv(100).upper())

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield path
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(20 * PATIENCE)


def request(tmp_path: Path, text: str, **options: object) -> BuildRequest:
    (tmp_path / "context").mkdir(exist_ok=True)
    return BuildRequest(str(tmp_path / "context"), dockerfile_inline=text, **options)  # type: ignore[arg-type]


def leftovers(tmp_path: Path) -> list[str]:
    """What a build has left: workspaces, and mounts below the engine's directories."""
    build = tmp_path / "root/build"
    found = [name for name in os.listdir(build) if name not in (".lock", "cache")]
    with open("/proc/self/mountinfo") as file:
        return found + [line for line in file if f"{tmp_path}/root/build" in line]


def test_an_agent_s_socket_is_in_the_container_and_nowhere_else(engine: Engine, agent: str, tmp_path: Path) -> None:
    output: list[bytes] = []
    text = 'FROM busybox\nRUN --mount=type=ssh,mode=600 test -S "$SSH_AUTH_SOCK" && stat -c "%a %u" "$SSH_AUTH_SOCK"'

    def progress(event: BuildEvent) -> None:
        output.append(event.output)

    image = engine.build(request(tmp_path, text, ssh={"default": agent}), progress)
    assert b"".join(output) == b"600 0\n"
    assert "SSH_AUTH_SOCK" not in str(engine.images.config_json(image.id)["config"])
    assert leftovers(tmp_path) == []


def test_what_is_said_to_the_socket_reaches_the_agent(agent: str, tmp_path: Path) -> None:
    with forwarded(agent, str(tmp_path), "0", (0, 0), 0o600) as path:
        for word in (b"one", b"two"):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                client.connect(path)
                client.sendall(word)
                assert client.recv(100) == word.upper()


def test_an_interrupt_in_the_middle_of_mounts_leaves_nothing(engine: Engine, agent: str, tmp_path: Path) -> None:
    (tmp_path / "context").mkdir()
    (tmp_path / "context/a").write_text("a")
    cancellation = Cancellation()
    threads: list[threading.Thread] = []

    def progress(event: BuildEvent) -> None:
        if b"ready" in event.output:
            threads.append(threading.Thread(target=cancellation.cancel))
            threads[-1].start()

    mounts = ["type=bind,target=/b", "type=cache,target=/c", "type=tmpfs,target=/t", "type=secret,id=s", "type=ssh"]
    text = f"FROM busybox\nRUN {' '.join(f'--mount={mount}' for mount in mounts)} touch /c/x /t/x && echo ready && sleep 1000"
    options = {"ssh": {"default": agent}, "secrets": {"s": Secret(text="hidden")}, "cancellation": cancellation}
    with pytest.raises(Cancelled):
        engine.build(request(tmp_path, text, **options), progress)
    for thread in threads:
        thread.join(20 * PATIENCE)
    assert leftovers(tmp_path) == []
    after = request(tmp_path, "FROM busybox\nRUN --mount=type=cache,target=/c ls /c > /seen && ! test -e /t/x")
    engine.build(after, lambda _: None)
