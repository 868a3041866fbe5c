"""The process that monitors are forked from: small, clean of its command's memory, everything imported once.

Run as `python -I -S -E zygote.py FD`; FD is a SOCK_SEQPACKET socket on which a command sends one message per container, each with
a socket for the answer. That socket belongs to the monitor alone, so that the command notices when the monitor dies. The zygote
ends when the command closes its end.
"""

from __future__ import annotations

import gc
import json
import os
import socket
import sys

if __name__ == "__main__":
    # -I leaves the package's own directory off the path.
    sys.path.insert(0, os.path.abspath(__file__ + "/../../.."))

from engine.kernel import process
from engine.runtime import monitor, scope, seccomp, services

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MESSAGE_BYTES = 65536


def main(fd: int) -> None:
    """Serve one command."""
    process.set_process_name("umiak-zygote")
    commands = socket.socket(fileno=fd)
    commands.set_inheritable(False)
    scope.join_default()
    seccomp.preload()
    # The garbage collector of every monitor would touch, and so copy, all that is shared now.
    gc.freeze()
    while True:
        data, fds, _, _ = socket.recv_fds(commands, MESSAGE_BYTES, 1)
        if not data:
            return
        with socket.socket(fileno=fds[0]) as channel:
            _serve(json.loads(data), channel)


def _serve(message: dict[str, Any], channel: socket.socket) -> None:
    try:
        with open(message["config"], "rb") as file:
            config = json.loads(file.read())
        services.load([entry["module"] for entry in config["services"]])
    except Exception as error:
        _refuse(message, f"cannot read {message['config']}: {error}", channel)
        return
    _fork_twice(message, config, channel)


def _refuse(message: dict[str, Any], why: str, channel: socket.socket) -> None:
    failure = {"event": "failed", "kind": "invalid", "message": why, "hint": None, "exit_code": 125, "step": "monitor"}
    channel.send(json.dumps({"id": message["id"], **failure}).encode())


def _fork_twice(message: dict[str, Any], config: dict[str, Any], channel: socket.socket) -> None:
    """Fork a monitor that is nobody's child here, so that its end leaves no zombie and ours disturbs nothing."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        if not os.fork():
            monitor.run(message, config, channel)
    except BaseException as error:
        try:
            _refuse(message, f"the monitor failed: {type(error).__name__}: {error}", channel)
        except OSError:
            pass
    finally:
        os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
