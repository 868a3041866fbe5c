"""RUN --mount in the engine's own containers: SSH agents and keys, and an interrupt in the middle that leaves nothing."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidInput
from engine.facade import Engine
from engine.images.archive import import_rootfs
from engine.images.build.agent import Requests, forwarded, offered
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
    """An SSH agent that answers each connection with what it was sent."""
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
                    client.sendall(client.recv(100))

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


def message(kind: int, rest: bytes = b"") -> bytes:
    return (1 + len(rest)).to_bytes(4, "big") + bytes([kind]) + rest


@pytest.mark.parametrize(
    ("said", "reaches"),
    [(message(11), message(11)), (message(13, b"key"), message(13, b"key")), (message(19), message(0))],
    ids=["list", "sign", "remove all"],
)
def test_requests_reach_the_agent_but_not_those_that_change_it(
    agent: str, tmp_path: Path, said: bytes, reaches: bytes
) -> None:
    with forwarded(agent, str(tmp_path), "0", (0, 0), 0o600) as path:
        for _ in range(2):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                client.connect(path)
                client.sendall(said)
                assert client.recv(100) == reaches


@given(st.lists(st.tuples(st.sampled_from([11, 13, 17, 19, 22, 27]), st.binary(max_size=9))), st.data())
def test_requests_may_arrive_in_any_pieces(sent: list[tuple[int, bytes]], data: st.DataObject) -> None:
    requests, passed = Requests(), b""
    rest = b"".join(message(*each) for each in sent)
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        passed += requests.passed(rest[:size])
        rest = rest[size:]
    assert passed == b"".join(message(*each) if each[0] in (11, 13, 27) else message(0) for each in sent)


def new_key(path: Path, passphrase: str = "") -> str:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return str(path)


def agents_of(engine: Engine) -> list[str]:
    """The processes that work in the engine's directories."""
    root = os.path.realpath(engine.images.paths.root)
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            found += [name] if os.readlink(f"/proc/{name}/cwd").startswith(root) else []
    return found


@pytest.mark.needs("ssh-agent", "ssh-keygen")
def test_key_files_are_served_by_an_agent_that_ends_with_the_step(engine: Engine, tmp_path: Path) -> None:
    keys = [new_key(tmp_path / "one"), new_key(tmp_path / "two")]
    text = 'FROM busybox\nRUN --mount=type=ssh test -S "$SSH_AUTH_SOCK"'
    engine.build(request(tmp_path, text, ssh={"default": ",".join(keys)}), lambda _: None)
    assert leftovers(tmp_path) + agents_of(engine) == []
    with (
        offered("default", ",".join(keys), str(tmp_path), "a") as agent,
        forwarded(agent, str(tmp_path), "0", (0, 0), 0o600) as path,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client,
    ):
        client.connect(path)
        client.sendall(message(11))
        answer = client.recv(1000)
    assert answer[4:9] == b"\x0c\0\0\0\x02"


@pytest.mark.needs("ssh-agent", "ssh-keygen")
@pytest.mark.parametrize(
    ("passphrase", "tail", "why"), [("secret", "", "it has a passphrase"), ("", ".pub", "it is no private key")]
)
def test_a_key_that_cannot_be_used_is_an_error(
    engine: Engine, tmp_path: Path, passphrase: str, tail: str, why: str
) -> None:
    key = new_key(tmp_path / "key", passphrase) + tail
    with pytest.raises(InvalidInput, match=f"cannot use the SSH key {key}: {why}"):
        engine.build(request(tmp_path, "FROM busybox\nRUN --mount=type=ssh true", ssh={"default": key}), lambda _: None)
    assert leftovers(tmp_path) + agents_of(engine) == []


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
