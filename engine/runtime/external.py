"""Start a container by another OCI runtime, crun or runc, instead of by our own init.

Everything else stays ours: the runtime makes the container from the bundle (`create`), executes its command (`start`) and is
gone. Its container's first process then becomes the monitor's child, as the nearest subreaper (prctl(2)), so that output,
exit status, `exec`, pausing and stopping work as they do for our own. OCI runtime-spec, runtime.md, "Lifecycle".
"""

from __future__ import annotations

import errno
import json
import os
import socket

from engine.kernel import mounts, process
from engine.runtime import filesystem, init, seccomp, steps
from engine.runtime.cgroup import Hierarchies
from engine.runtime.steps import LaunchError, Setup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

    from engine.runtime.cgroup import Cgroup

_DIRECTORY = "runtime"  # below the container's run directory: the bundle, and what the runtime keeps
_CONSOLE = "console.sock"
_CONSOLE_TIMEOUT_S = 10.0
# What crun 1.8 and 1.21 and runc 1.1 say of a command that they cannot start.
_ABOUT_THE_COMMAND = ("executable file", "open executable", "the path `", 'exec: "')
_NOT_EXECUTABLE = ("ermission denied", "not permitted", "is a directory")
_OURS_ALONE = ("nocopy", "copy", "z", "Z")  # mount options that mean something to us and nothing to a runtime


def launch(
    program: str,
    config: dict[str, Any],
    rootfs: dict[str, Any],
    *,
    container_id: str,
    run: str,
    cgroup: Cgroup,
    stdio: tuple[int, int, int] | None,
) -> init.Launched:
    """Start the container's first process by `program`; everything else as `engine.runtime.init.launch` has it."""
    bundle = f"{run}/{_DIRECTORY}"
    os.makedirs(f"{bundle}/state", mode=0o700, exist_ok=True)
    limits = steps.SetRlimits(config["process"].get("rlimits") or ())
    with open(f"{bundle}/config.json", "w", encoding="utf-8") as file:
        json.dump(materialised(config, f"{run}/rootfs", cgroup.place, limits), file)
    runtime = _Runtime(program, container_id, bundle)
    listener = _listen(bundle) if config["process"].get("terminal") else None
    try:
        pid, pidfd = _create(runtime, rootfs, f"{run}/rootfs", stdio, listener is not None)
        try:
            console_fd = _receive_console(listener) if listener else None
            runtime.run("start")
        except BaseException:
            init.discard(pidfd)
            raise
    except BaseException:
        delete(program, container_id, run)
        raise
    finally:
        if listener:
            listener.close()
    return init.Launched(pid, pidfd, console_fd, limits.warnings)


def delete(program: str, container_id: str, run: str) -> None:
    """Let the runtime forget a container that has ended, with its cgroup; LaunchError if it cannot."""
    if os.path.exists(f"{run}/{_DIRECTORY}/state/{container_id}"):
        _Runtime(program, container_id, f"{run}/{_DIRECTORY}").run("delete", "--force")


def materialised(config: dict[str, Any], root: str, place: str, limits: steps.SetRlimits) -> dict[str, Any]:
    """Return the OCI configuration without anything that is ours alone: what any runtime reads."""
    settings, linux = config["process"], config.get("linux") or {}
    own_linux = {**linux, "cgroupsPath": f"/{place}", "seccomp": seccomp.as_oci(linux.get("seccomp"), settings)}
    own: dict[str, Any] = {
        "process": {**settings, "rlimits": _rlimits(limits)},
        "root": {**(config.get("root") or {}), "path": root},
        "mounts": [_mount(entry) for entry in config.get("mounts") or ()],
        "linux": {key: value for key, value in own_linux.items() if value is not None},
    }
    result = {key: value for key, value in {**config, **own}.items() if value not in ("", {})}
    return _with_init(result) if (config.get("annotations") or {}).get(init.INIT_ANNOTATION) == "1" else result


def _rlimits(limits: steps.SetRlimits) -> list[dict[str, Any]]:
    return [
        {"type": f"RLIMIT_{limits.NUMBERS[number]}", "soft": soft % 2**64, "hard": hard % 2**64}
        for number, soft, hard in limits.limits
    ]


def _mount(entry: dict[str, Any]) -> dict[str, Any]:
    return {**entry, "options": [option for option in entry.get("options") or () if option not in _OURS_ALONE]}


def _with_init(config: dict[str, Any]) -> dict[str, Any]:
    program = init.find_static_init()
    if program is None:
        hint = "install tini or catatonit, or drop 'runtime' or 'init'"
        message = "cannot use 'init: true' with another runtime: this host has no static init program"
        raise LaunchError("Plan", errno.ENOENT, message, hint=hint, kind="unsupported")
    bind = {"destination": init.INIT_PATH, "type": "bind", "source": program, "options": ["bind", "ro"]}
    settings = config["process"]
    return {
        **config,
        "mounts": [*config["mounts"], bind],
        "process": {**settings, "args": [init.INIT_PATH, "--", *settings["args"]]},
    }


class _Runtime:
    """One runtime's command line for one container; its state and its log lie in the bundle."""

    def __init__(self, program: str, container_id: str, bundle: str) -> None:
        self.program = program
        self.id = container_id
        self.bundle = bundle
        self.log = f"{bundle}/log.json"

    def arguments(self, *words: str) -> list[str]:
        places = ("--root", f"{self.bundle}/state", "--log", self.log, "--log-format", "json")
        return [self.program, *places, *words, self.id]

    def run(self, *words: str) -> None:
        """Run a command of the runtime to its end; LaunchError with what it logged if it fails."""
        null_fd = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        try:
            actions = [(os.POSIX_SPAWN_DUP2, null_fd, fd) for fd in range(3)]
            pid = os.posix_spawn(self.program, self.arguments(*words), dict(os.environ), file_actions=actions)
        except OSError as error:
            raise self.failure(error.strerror or str(error)) from error
        finally:
            os.close(null_fd)
        _, status = os.waitpid(pid, 0)
        if status:
            raise self.failure(self.last_words())

    def last_words(self) -> str:
        """Return the last error that the runtime logged."""
        try:
            with open(self.log, encoding="utf-8", errors="replace") as file:
                entries = [json.loads(line) for line in file if line.startswith("{")]
        except (OSError, ValueError):
            entries = []
        errors = [str(entry.get("msg")) for entry in entries if entry.get("level") in ("error", "fatal")]
        return errors[-1] if errors else "it gave no reason"

    def failure(self, reason: str) -> LaunchError:
        """Return the error for what the runtime said. It has no codes: its words alone tell what kind it is, as for Docker."""
        name = os.path.basename(self.program)
        code = 125
        if any(words in reason for words in _ABOUT_THE_COMMAND):
            code = 126 if any(words in reason for words in _NOT_EXECUTABLE) else 127
        return LaunchError("Runtime", 0, f"{name} cannot start the container: {reason}", code)


def _create(
    runtime: _Runtime, rootfs: dict[str, Any], root: str, stdio: tuple[int, int, int] | None, console: bool
) -> tuple[int, int]:
    """Run the runtime's `create` where the root file system is mounted; return the first process, which is our child then."""
    pid_file = f"{runtime.bundle}/pid"
    words = ["create", "--bundle", runtime.bundle, "--pid-file", pid_file]
    words += ["--console-socket", _CONSOLE] if console else []
    mount = filesystem.MountRoot(rootfs)
    process.prctl(process.PR_SET_CHILD_SUBREAPER, 1)
    try:
        _run_beside_root(runtime, words, mount, root, stdio)
        with open(pid_file, encoding="ascii") as file:
            pid = int(file.read())
        return pid, process.pidfd_open(pid)  # our child: the number cannot have been reused
    finally:
        # Not for longer: in the host's pid namespace we would inherit the container's orphans.
        process.prctl(process.PR_SET_CHILD_SUBREAPER, 0)


def _run_beside_root(
    runtime: _Runtime, words: Sequence[str], mount: steps.Step, root: str, stdio: tuple[int, int, int] | None
) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    null_fd = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    setup = Setup(root, theirs, stdio or (null_fd,) * 3)
    mask = steps.block_signals()
    try:
        pid, pidfd = process.clone3(process.CLONE_NEWNS)
        if pid == 0:
            _become(runtime, words, mount, setup)
    finally:
        steps.restore_signals(mask)
        theirs.close()
        os.close(null_fd)
    with ours:
        kind, data, _ = init.receive(ours)
    status = process.wait_exit(pidfd)
    os.close(pidfd)
    if kind:
        raise init.decode_error(data)
    if status:
        raise runtime.failure(runtime.last_words())


def _become(runtime: _Runtime, words: Sequence[str], mount: steps.Step, setup: Setup) -> NoReturn:
    """Mount the root in a namespace of our own, which the runtime's starts from, and become the runtime."""
    try:
        init.prepare_child({setup.channel.fileno(), *setup.stdio})
        steps.run([filesystem.IsolateMounts("slave"), mount], setup)
        _hide_unified(Hierarchies.of_host())
        os.chdir(runtime.bundle)
        for target, fd in enumerate([os.dup(fd) for fd in setup.stdio]):
            os.dup2(fd, target)
        process.close_range(3, flags=process.CLOSE_RANGE_CLOEXEC)
        steps.reset_signals()
        os.execve(runtime.program, runtime.arguments(*words), dict(os.environ))
    except BaseException as error:
        init.fail(setup.channel, error)


def _hide_unified(found: Hierarchies) -> None:
    """On a hybrid host the limits are v1's, and crun refuses to start where it sees v2 beside it."""
    if found.v1 and found.unified:
        mounts.mount("none", found.unified, "tmpfs", 0, "size=0,mode=755")


def _listen(bundle: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    directory = os.open(bundle, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            os.unlink(_CONSOLE, dir_fd=directory)
        except FileNotFoundError:
            pass
        listener.bind(f"/proc/self/fd/{directory}/{_CONSOLE}")  # the path may be too long for an address
    finally:
        os.close(directory)
    listener.listen(1)
    listener.settimeout(_CONSOLE_TIMEOUT_S)
    return listener


def _receive_console(listener: socket.socket) -> int:
    """Return the terminal's master, which the runtime has sent by now. runc, docs/terminals.md, "Detached"."""
    try:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(_CONSOLE_TIMEOUT_S)
            _, fds, _, _ = socket.recv_fds(connection, 4096, 1)
    except OSError as error:
        raise LaunchError("Terminal", error.errno or 0, f"the runtime sent no terminal: {error}") from error
    if not fds:
        raise LaunchError("Terminal", 0, "the runtime sent no terminal")
    return fds[0]
