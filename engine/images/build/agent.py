"""`RUN --mount=type=ssh`: a socket in the container that leads to an SSH agent. No key enters the build.

A step may list the agent's keys and have it sign; it cannot add, remove or lock them.
"""

from __future__ import annotations

import os
import selectors
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from engine.errors import InvalidInput, NotFound, Unavailable
from engine.images.build import sshkeys

_CHUNK_BYTES = 1 << 16
_MAX_MESSAGE_BYTES = 1 << 18
_ALLOWED = (11, 13, 27)
"""The requests of the agent protocol that get through: list, sign, and extensions, by which ssh binds a session."""
_REFUSED = b"\0\0\0\1\0"
"""A request of no known type, in the place of a forbidden one: the agent answers it, in turn, with a failure."""


@contextmanager
def offered(identity: str, source: str, directory: str, name: str) -> Iterator[str]:
    """The socket of the agent that `--ssh identity=source` means, for a block; "" is that of SSH_AUTH_SOCK.

    A source may also be key files, several with commas between them: an agent in `directory` then serves them.
    """
    paths = _paths(identity, source)
    sockets = [path for path in paths if _is_socket(identity, path)]
    if not sockets:
        with sshkeys.served(paths, directory, name) as path:
            yield path
    elif len(paths) > 1:
        raise InvalidInput(f"--ssh {identity}: {sockets[0]} is the socket of an agent, and stands alone")
    else:
        check_reachable(sockets[0])
        yield sockets[0]


def _paths(identity: str, source: str) -> list[str]:
    if not source:
        source = os.environ.get("SSH_AUTH_SOCK", "")
        if not source:
            raise NotFound(
                f"--ssh {identity}: no SSH agent is running",
                hint=f"start one: eval $(ssh-agent) && ssh-add, then build again; or name a key: --ssh {identity}=FILE",
            )
    return [source] if os.path.exists(source) else source.split(",")


def _is_socket(identity: str, path: str) -> bool:
    """Whether a path is a socket. Raise InvalidInput where it is no file either."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise NotFound(f"--ssh {identity}: cannot use {path}: {(error.strerror or str(error)).lower()}") from error
    if not stat.S_ISSOCK(mode) and not stat.S_ISREG(mode):
        raise InvalidInput(f"--ssh {identity}: {path} is neither the socket of an agent nor a key")
    return stat.S_ISSOCK(mode)


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


class Requests:
    """What a client says to an agent, cut into messages, the forbidden ones replaced."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def passed(self, data: bytes) -> bytes:
        """What of the received bytes and those before goes on. Raise ConnectionError for what is no such protocol."""
        self._rest += data
        passed = bytearray()
        while len(self._rest) >= 4:
            end = 4 + int.from_bytes(self._rest[:4], "big")
            if end > _MAX_MESSAGE_BYTES:
                raise ConnectionError("a message to the agent is too long")
            if len(self._rest) < end:
                break
            passed += self._rest[:end] if end > 4 and self._rest[4] in _ALLOWED else _REFUSED
            del self._rest[:end]
        return bytes(passed)


class _Forwarder:
    """Copies between the container's connections and the agent's, in one thread, until woken."""

    def __init__(self, listener: socket.socket, woken: socket.socket, agent: str) -> None:
        self.agent = agent
        self.listener = listener
        self.woken = woken
        self.peers: dict[socket.socket, socket.socket] = {}
        self.requests: dict[socket.socket, Requests] = {}
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
        self.requests[client] = Requests()
        for source in (client, upstream):
            self.selector.register(source, selectors.EVENT_READ)

    def _pass_on(self, source: socket.socket) -> None:
        target = self.peers[source]
        try:
            data = source.recv(_CHUNK_BYTES)
            if data:
                target.sendall(self.requests[source].passed(data) if source in self.requests else data)
                return
        except OSError:
            pass
        for side in (source, target):
            self.selector.unregister(side)
            del self.peers[side]
            self.requests.pop(side, None)
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
