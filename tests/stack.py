"""The product as its users meet it: the installed `umiak` command, run on a Compose file in a folder of its own."""

from __future__ import annotations

import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tests.patience import PATIENCE

COMPOSE = os.environ.get("UMIAK_TEST_COMPOSE")
"""Another client that the scenarios are to run, Docker Compose's own: see tests/dockers/host.py."""
UMIAK = COMPOSE or str(Path(sys.executable).with_name("umiak"))


def wait_for(condition: Callable[[], Any], what: str, timeout_s: float = 10.0) -> Any:
    """Look again and again until `condition` gives something true, and return that; fail naming `what`."""
    deadline = time.monotonic() + timeout_s * PATIENCE
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s in vain for {what}"
        time.sleep(0.02)


class Host:
    """An engine of the test session's own: a root and a run directory below `base`."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.root = base / "root"
        self.run = base / "run"

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment for a command: nothing of the caller's Compose settings, the session's directories.

        What is downloaded is kept from session to session.
        """
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("COMPOSE_", "DOCKER_"))}
        own = {"UMIAK_ROOT": str(self.root), "UMIAK_RUN": str(self.run), "NO_COLOR": "1", "TERM": "dumb"}
        downloads = {"UMIAK_CACHE": os.environ.get("UMIAK_CACHE") or os.path.expanduser("~/.cache/umiak-tests")}
        return {**kept, **own, **downloads, **(extra or {})}

    def umiak(
        self,
        *arguments: str,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        exit_code: int | None = 0,
        timeout_s: float = 60.0,
        stdin: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run `umiak` to its end. Unless `exit_code` is None, the code must be that one."""
        self.check(arguments)
        done = subprocess.run(
            [UMIAK, *arguments],
            cwd=cwd or self.base,
            env=self.environment(env),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s * PATIENCE,
            check=False,
        )
        said = f"umiak {' '.join(arguments)} → {done.returncode}\n{done.stdout}{done.stderr}"
        print(said)
        assert exit_code is None or done.returncode == exit_code, f"wanted exit code {exit_code}: {said}"
        assert "Traceback (most recent call last)" not in done.stderr, said
        return done

    def check(self, arguments: Sequence[str]) -> None:
        """Skip the test where the client has no such command; umiak has all that tests ask for."""

    def import_busybox(self, reference: str) -> None:
        """Have the small image."""
        from tests.images import busybox_rootfs_tar

        self.umiak("image", "import", busybox_rootfs_tar(self.base / "busybox.tar"), reference)

    def bootstrap(self, reference: str) -> None:
        """Have the Debian base image, made from the archive that this machine's apt uses."""
        self.umiak("image", "bootstrap", reference, timeout_s=300)

    def status(self, container_id: str) -> dict[str, Any]:
        """The status file of a container: the one in the run directory, or the copy kept when the container has ended."""
        for base in (self.run, self.root):
            for path in glob.glob(f"{base}/containers/{container_id}*/status.json"):
                status: dict[str, Any] = json.loads(Path(path).read_text())
                return status
        raise AssertionError(f"no status of {container_id}")

    def kill(self, pid: int, number: int = signal.SIGKILL) -> None:
        """Send a signal to a process of the session's engine."""
        assert pid > 1
        os.kill(pid, number)

    def is_alive(self, pid: int) -> bool:
        """Whether a process exists and is more than a zombie."""
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
        except OSError:
            return False

    def namespace(self, kind: str) -> str:
        """The name of this machine's own namespace of a kind, as the kernel writes it."""
        return str(Path(f"/proc/self/ns/{kind}").readlink())


class Stack:
    """A Compose project in a folder of its own, on a `Host`. Services are named as in the file."""

    def __init__(self, host: Host, directory: Path, env: Mapping[str, str] | None = None) -> None:
        self.host = host
        self.directory = directory
        self.env = dict(env or {})
        self._children: list[subprocess.Popen[str]] = []

    @property
    def file(self) -> Path:
        return self.directory / "compose.yaml"

    def write(self, text: str) -> None:
        """Put another text in place of the Compose file."""
        self.file.write_text(text)

    def replace(self, old: str, new: str) -> None:
        """Edit the Compose file as a person would."""
        text = self.file.read_text()
        assert old in text, f"{old!r} is not in {self.file}"
        self.write(text.replace(old, new))

    def umiak(
        self, *arguments: str, exit_code: int | None = 0, timeout_s: float = 60.0, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run `umiak` in the stack's folder."""
        return self.host.umiak(
            *arguments, cwd=self.directory, env=self.env, exit_code=exit_code, timeout_s=timeout_s, stdin=stdin
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `umiak` and leave it running; whatever is left of it is killed at the end of the test."""
        self.host.check(arguments)
        child = subprocess.Popen(
            [UMIAK, *arguments],
            cwd=self.directory,
            env=self.host.environment(self.env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._children.append(child)
        return child

    def up(
        self, *arguments: str, exit_code: int | None = 0, timeout_s: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        return self.umiak("up", "-d", *arguments, exit_code=exit_code, timeout_s=timeout_s)

    def down(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.umiak("down", *arguments)

    def exec(
        self, service: str, *argv: str, exit_code: int | None = 0, index: int = 1, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in a replica of a service."""
        return self.umiak("exec", "-T", "--index", str(index), service, *argv, exit_code=exit_code, stdin=stdin)

    def sh(self, service: str, line: str, *, index: int = 1) -> str:
        """What a shell line prints in a replica of a service; it must succeed."""
        return self.exec(service, "sh", "-c", line, index=index).stdout.strip()

    def containers(self) -> dict[str, dict[str, Any]]:
        """All containers of the project, running or not, by name: the objects of `ps --all --format json`."""
        printed = self.umiak("ps", "--all", "--format", "json").stdout
        return {entry["Name"]: entry for entry in json_values(printed)}

    def replicas(self, service: str) -> list[dict[str, Any]]:
        """The containers of a service, in the order of their numbers."""
        found = [entry for entry in self.containers().values() if entry["Service"] == service]
        return sorted(found, key=lambda entry: int(entry["Name"].rsplit("-", 1)[1]))

    def container(self, service: str) -> dict[str, Any]:
        """The one container of a service."""
        (entry,) = self.replicas(service)
        return entry

    def ids(self) -> dict[str, str]:
        """Container name → ID."""
        return {name: entry["ID"] for name, entry in self.containers().items()}

    def states(self) -> dict[str, str]:
        """Container name → state."""
        return {name: entry["State"] for name, entry in self.containers().items()}

    def status(self, service: str, index: int = 1) -> dict[str, Any]:
        """The status that a container's monitor last wrote, as it is on disk."""
        return self.host.status(self.replicas(service)[index - 1]["ID"])

    def status_of(self, container_id: str) -> dict[str, Any]:
        """The same, by container ID."""
        return self.host.status(container_id)

    def wait_until(self, condition: Callable[[], Any], what: str, timeout_s: float = 10.0) -> Any:
        return wait_for(condition, what, timeout_s)

    def wait_until_state(self, service: str, state: str, timeout_s: float = 10.0) -> None:
        """Wait until the service's one container is in a state, as `ps` tells."""
        wait_for(lambda: self.container(service)["State"] == state, f"{service} to be {state}", timeout_s)

    def wait_for_output(self, service: str, text: str, timeout_s: float = 10.0) -> None:
        """Wait until the logs of a service hold a line that is `text`."""
        wait_for(
            lambda: any(line.endswith(text) for line in self.umiak("logs", service).stdout.splitlines()),
            f"{service} to write {text!r}",
            timeout_s,
        )

    def address(self, service: str, index: int = 1) -> str:
        """A replica's own address, as it sees it."""
        return self.sh(service, "ip -4 -o addr show dev eth0 | awk '{print $4}' | cut -d/ -f1", index=index)

    def limit(self, service: str, version_1: str, version_2: str) -> str:
        """A cgroup limit read from inside the container, whichever version the host has."""
        return self.sh(service, f"cat /sys/fs/cgroup/{version_2} 2>/dev/null || cat /sys/fs/cgroup/{version_1}")

    def end(self) -> None:
        """Kill what the test left running and take the stack down with its volumes."""
        for child in self._children:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
            child.communicate()
        if self.file.exists():
            self.umiak("down", "-v", "--remove-orphans", "-t", "0", exit_code=None)

    def artefacts(self) -> str:
        """What helps to find out why a test failed."""
        seen = [self.umiak(*verb, exit_code=None) for verb in (("ps", "-a"), ("logs", "--tail", "50"))]
        statuses = [
            f"{path}:\n{Path(path).read_text()}" for path in glob.glob(f"{self.host.run}/containers/*/status.json")
        ]
        return "\n".join([*(done.stdout + done.stderr for done in seen), *statuses])


class StackMaker(Protocol):
    """Makes a stack from a folder that holds a Compose file."""

    def __call__(self, source: Path, *, name: str | None = None, env: dict[str, str] | None = None) -> Stack: ...


def json_values(text: str) -> list[dict[str, Any]]:
    """The objects in a text that is one JSON array, or one object a line."""
    if text.lstrip().startswith("["):
        values: list[dict[str, Any]] = json.loads(text)
        return values
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def copy_stack(source: Path, target: Path) -> Path:
    """Copy a scenario's folder, without its tests, so that a test can edit it."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("test_*.py", "__pycache__"))
    return target
