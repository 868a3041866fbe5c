"""`RUN --mount=type=ssh`: a socket in the container that leads to the caller's SSH agent. No key enters the build."""

from __future__ import annotations

import os
import selectors
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from engine.errors import InvalidInput, NotFound, Unavailable

_CHUNK_BYTES = 1 << 16


def agent_socket(identity: str, source: str) -> str:
    """The path of the agent's socket that `--ssh identity=source` means ("": the one of SSH_AUTH_SOCK)."""
    path = source or os.environ.get("SSH_AUTH_SOCK", "")
    if not path:
        raise NotFound(
            f"--ssh {identity}: no SSH agent is running",
            hint="start one: eval $(ssh-agent) && ssh-add, then build again",
        )
    try:
        found = os.stat(path)
    except OSError as error:
        raise NotFound(f"--ssh {identity}: cannot use {path}: {(error.strerror or str(error)).lower()}") from error
    if not stat.S_ISSOCK(found.st_mode):
        raise InvalidInput(
            f"--ssh {identity}: {path} is not the socket of an agent", hint="add the key to an agent with ssh-add"
        )
    return path


@contextmanager
def forwarded(agent: str, directory: str, name: str, owner: tuple[int, int], mode: int) -> Iterator[str]:
    """Listen in `directory` as `name`, of this owner and mode, for a block, and pass on to the agent what comes."""
    path = os.path.join(directory, name)
    directory_fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # A socket's path may have 107 bytes, and the directory's is longer.
        listener.bind(f"/proc/self/fd/{directory_fd}/{name}")
        os.chown(path, *owner)
        os.chmod(path, mode)
        listener.listen()
        wake, woken = socket.socketpair()
        thread = threading.Thread(target=_Forwarder(listener, woken, agent).run, name="ssh-agent", daemon=True)
        thread.start()
        try:
            yield path
        finally:
            wake.close()
            thread.join()
    finally:
        listener.close()
        os.close(directory_fd)


class _Forwarder:
    """Copies between the container's connections and the agent's, in one thread, until woken."""

    def __init__(self, listener: socket.socket, woken: socket.socket, agent: str) -> None:
        self.agent = agent
        self.listener = listener
        self.woken = woken
        self.peers: dict[socket.socket, socket.socket] = {}
        self.selector = selectors.DefaultSelector()

    def run(self) -> None:
        for source in (self.listener, self.woken):
            self.selector.register(source, selectors.EVENT_READ)
        while True:
            for key, _ in self.selector.select():
                if key.fileobj is self.woken:
                    self._end()
                    return
                if key.fileobj is self.listener:
                    self._accept()
                elif isinstance(key.fileobj, socket.socket) and key.fileobj in self.peers:
                    self._pass_on(key.fileobj)

    def _accept(self) -> None:
        client, _ = self.listener.accept()
        upstream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            upstream.connect(self.agent)
        except OSError:
            client.close()
            upstream.close()
            return
        self.peers[client], self.peers[upstream] = upstream, client
        for source in (client, upstream):
            self.selector.register(source, selectors.EVENT_READ)

    def _pass_on(self, source: socket.socket) -> None:
        target = self.peers[source]
        try:
            data = source.recv(_CHUNK_BYTES)
            if data:
                target.sendall(data)
                return
        except OSError:
            pass
        for side in (source, target):
            self.selector.unregister(side)
            del self.peers[side]
            side.close()

    def _end(self) -> None:
        for side in self.peers:
            side.close()
        self.selector.close()
        self.woken.close()


def check_reachable(agent: str) -> None:
    """Raise Unavailable where nobody answers at an agent's socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(agent)
        except OSError as error:
            raise Unavailable(f"the SSH agent at {agent} does not answer: {error.strerror}") from error
