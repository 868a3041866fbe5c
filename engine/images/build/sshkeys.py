"""Private keys for `RUN --mount=type=ssh` that no agent holds: OpenSSH's own agent serves them for as long as a step runs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from engine.errors import InvalidInput, Unavailable, Unsupported

_SERVE = 'ssh-agent -P none -D -a "$1" & exec >&-; read -r _; kill $!; wait'
"""An agent that says on standard output when it listens, loads no libraries, and ends with our end of standard input."""

_NO_QUESTIONS = {"SSH_ASKPASS": "/bin/false", "SSH_ASKPASS_REQUIRE": "force", "LC_ALL": "C"}


@contextmanager
def served(keys: Sequence[str], directory: str, name: str) -> Iterator[str]:
    """The socket of an agent that holds these key files, in `directory`, for a block.

    Raise Unsupported where OpenSSH is missing, InvalidInput for a file that is no key or has a passphrase.
    """
    if not (shutil.which("ssh-agent") and shutil.which("ssh-add")):
        raise Unsupported(
            f"cannot serve the SSH key {keys[0]}: ssh-agent and ssh-add are not installed",
            hint="install them: apt-get install openssh-client",
        )
    directory_fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    process = subprocess.Popen(
        ["sh", "-c", _SERVE, "ssh-agent", name],
        cwd=directory,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        if not process.stdout.readline():
            why = process.stderr.readline().decode(errors="replace").strip()
            raise Unavailable(f"cannot serve the SSH key {keys[0]}: ssh-agent did not start: {why}")
        for key in keys:
            _add(key, directory, name)
        # A socket's path may have 107 bytes, and the directory's is longer.
        yield f"/proc/self/fd/{directory_fd}/{name}"
    finally:
        process.communicate()
        os.close(directory_fd)


def _add(key: str, directory: str, name: str) -> None:
    """Give a key to the agent; by standard input, so that its file may have any mode."""
    with open(key, "rb") as file:
        done = subprocess.run(
            ["ssh-add", "-q", "-"],
            stdin=file,
            cwd=directory,
            env={**os.environ, **_NO_QUESTIONS, "SSH_AUTH_SOCK": name},
            capture_output=True,
            start_new_session=True,
        )
    if done.returncode == 0:
        return
    # Of a passphrase that nobody gave ssh-add says nothing.
    why = f"it is no private key ({_last_part(done.stderr)})" if done.stderr else "it has a passphrase"
    raise InvalidInput(
        f"cannot use the SSH key {key}: {why}", hint="add the key to an agent with ssh-add, and give --ssh NAME"
    )


def _last_part(errors: bytes) -> str:
    return errors.decode(errors="replace").strip().rpartition(": ")[2]
