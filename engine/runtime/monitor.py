"""The process beside each container: the parent of its init, from start to final exit.

Read `Monitor.begin` for the order of a start, `_after_exit` for what follows an end. One thread, one loop; everything it needs
is in the container's `config.json` and `monitor.json`, so that a start can be repeated, and a dead monitor replaced, from disk
alone. It imports only the standard library and `engine.kernel`, as it stays in memory as long as its container.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import time

from engine.kernel import process, procfs
from engine.runtime import (
    cgroup,
    daemon,
    endpoints,
    external,
    health,
    init,
    journal,
    liveness,
    netns,
    restart,
    scope,
    services,
    status,
)
from engine.runtime import exec as execution
from engine.runtime.control import ControlServer, set_size
from engine.runtime.logwriter import NoLog, open_log
from engine.runtime.loop import Loop
from engine.runtime.output import Output
from engine.runtime.reply import Reply, failure_of
from engine.runtime.services import ServiceError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from typing import Any

    from engine.runtime.attached import Attached
    from engine.runtime.loop import Timer

COMM = "umiak-monitor"
# How long to wait for the kernel to tell an adopted init's exit code, which it can once its parent has reaped it.
UNSEEN_PATIENCE_S = 1.0
# How long to look for a kill after a v1 group has run out of memory.
OOM_KILL_S = 1.0
# How long between two looks for either.
LOOK_AGAIN_S = 0.02
# How long a start that is to be attached to waits for its client.
HOLD_S = 10.0


class Monitor:
    """One container's keeper. Implements `services.Host` for its services and `control.Container` for its clients."""

    def __init__(self, config: dict[str, Any], reply: Reply) -> None:
        self.id: str = config["id"]
        self.config = config
        self.loop = Loop(self._note)
        self.netns_fd = -1
        self._run: str = config["run"]
        self._bundle: str = config["bundle"]
        self._reply = reply
        self._undo: list[Callable[[], object]] = []
        self._services: list[services.Service] = []
        self._restarter = restart.Restarter(config["restart"]["name"], config["restart"].get("max_retries") or 0)
        self._log: NoLog = NoLog()
        self._prober: health.Prober | None = None
        self._pidfd = self._console_fd = -1
        self._adopted = self._made_pin = self._oom_struck = False
        self._oom_fd = -1
        self._control: ControlServer | None = None
        self._launched_at = 0.0
        self._restart_timer: Timer | None = None
        self._stop_timer: Timer | None = None
        self._stop_hint: str | None = None
        self._stop_waiters: list[Callable[[dict[str, Any]], object]] = []
        self._attachments: list[Attachment] = []

    # The start.

    def begin(self, *, reattach: bool, hold: bool = False) -> None:
        """Start the container, or take over a running one; then keep it until its final exit.

        With `hold` nothing that the container does is taken in before a client has attached.
        """
        os.makedirs(self._run, mode=0o711, exist_ok=True)
        lock = liveness.take_lock(self._run)
        if lock is None:
            self._reply.failed(failure_of(ServiceError("conflict", f"container {self._name()} is running already")))
            return
        self._lock = lock
        before = status.read(self._run) or status.read(self._bundle) or status.initial()
        self._status = status.StatusKeeper(self._run, before)
        try:
            if reattach:
                self._take_over(before)
            else:
                self._start()
        except Exception as error:
            if reattach and liveness.init_alive(before):
                self._reply.failed(failure_of(error))
            else:
                self._give_up(before, error)
            return
        self._reply.started(self._status.current["pid"], self._status.current["warnings"])
        if hold and self._control:
            self._control.await_client(HOLD_S)
        self.loop.run()

    def _name(self) -> str:
        return self.config.get("name") or self.id[:12]

    def _start(self) -> None:
        self._status.current = {**status.initial(), "monitor_pid": os.getpid()}
        status.write(self._run, self._status.current)
        self._open_files()
        self._make_cgroup()
        self._make_netns()
        self._attach_endpoints()
        for entry in self.config["services"]:
            self._acquire(entry)
        self._publish_names()
        self._serve_clients()
        self._launch()

    def _open_files(self) -> None:
        with open(f"{self._bundle}/config.json", "rb") as file:
            self._oci: dict[str, Any] = json.loads(file.read())
        self._owns_pids = any(
            each["type"] == "pid" and not each.get("path") for each in self._oci["linux"]["namespaces"]
        )
        self._log = open_log(self.config["log"], self.id)
        self._output = Output(self.loop, self._run, self._log, self._tell_trouble)

    def _tell_trouble(self, trouble: str) -> None:
        self._status.update(error=trouble)

    def _open_cgroup(self, parent: str) -> None:
        self._status.current["cgroup"] = parent
        self._cgroup = cgroup.open_cgroup(parent, self.config["cgroup"]["name"])
        self._undo.append(self._cgroup.remove)

    def _make_cgroup(self) -> None:
        wanted = self.config["cgroup"]
        self._open_cgroup(scope.resolve(wanted["parent"]))
        self._cgroup.create(wanted["resources"])

    def _make_netns(self) -> None:
        mode = self.config["netns"]["mode"]
        if mode == "host":
            self.netns_fd = netns.open_own()
            return
        pin = self.config["netns"]["pin"]
        self._made_pin = mode == "private" and not netns.is_pinned(pin)
        if self._made_pin:
            netns.make_pin(pin)
        self.netns_fd = netns.open_pin(pin)

    def _attach_endpoints(self) -> None:
        wanted = self.config["endpoints"]
        if self.config["netns"]["mode"] == "private" and not (wanted and endpoints.attached(self.netns_fd, wanted)):
            endpoints.attach(self.netns_fd, wanted)

    def _acquire(self, entry: dict[str, Any]) -> None:
        service = services.create(entry, self)
        self._undo.append(service.release)
        service.acquire()
        self._services.append(service)

    def _publish_names(self) -> None:
        for endpoint in self.config["endpoints"]:
            directory = endpoint["names_dir"]
            path = f"{directory}/{self.id}"
            self._undo.append(lambda path=path: _unlink(path))  # type: ignore[misc]
            os.makedirs(directory, mode=0o711, exist_ok=True)
            with open(f"{directory}/.{self.id}", "w") as file:
                json.dump({"ip": endpoint["ipv4_address"], "names": endpoint["names"]}, file)
            os.rename(f"{directory}/.{self.id}", path)

    def _serve_clients(self) -> None:
        self._control = ControlServer(self, self._run)
        self._status.on_change = self._control.publish

    def in_netns(self) -> AbstractContextManager[None]:
        """Be in the container's network namespace for a block."""
        return netns.Visit(self.netns_fd)

    def _launch(self) -> None:
        """Start init; on return it runs the image's process."""
        rootfs_mountpoint = f"{self._run}/rootfs"
        os.makedirs(rootfs_mountpoint, exist_ok=True)
        stdio = None if self.config["tty"] else self._open_streams()
        self._watch_memory()
        try:
            launched = self._launch_init(rootfs_mountpoint, stdio)
        finally:
            for fd in set(stdio or ()):
                os.close(fd)
        if launched.console_fd is not None:
            self._console_fd = launched.console_fd
            self._output.follow_console(launched.console_fd)
        self._launched_at = time.monotonic()
        self._watch_init(launched.pidfd)
        self._begin_probing()
        self._status.update(
            state="running",
            pid=launched.pid,
            pid_starttime=procfs.start_time(launched.pid) or 0,
            boot_id=procfs.boot_id(),
            started_at=time.time(),
            error="",
            warnings=[*scope.trouble(), *self._cgroup.warnings, *launched.warnings],
            restart_count=self._restarter.count,
            health=self._prober.checkup.as_status() if self._prober else None,
            ports=[port for service in self._services for port in service.ports()],
        )
        # After a reboot, this tells that the container ran and did not end in anybody's sight.
        self._save_in_bundle()
        self._record("start")

    def _launch_init(self, rootfs_mountpoint: str, stdio: tuple[int, int, int] | None) -> init.Launched:
        if program := self.config.get("runtime"):
            return external.launch(
                program,
                self._oci,
                self.config["rootfs"],
                container_id=self.id,
                run=self._run,
                cgroup=self._cgroup,
                stdio=stdio,
            )
        return init.launch(
            self._oci,
            self.config["rootfs"],
            rootfs_mountpoint=rootfs_mountpoint,
            netns_fd=self.netns_fd,
            cgroup=self._cgroup,
            stdio=stdio,
        )

    def _open_streams(self) -> tuple[int, int, int]:
        return self._output.open(stdin_open=self.config["stdin_open"], stdin_once=self.config.get("stdin_once", False))

    def _record(self, action: str, **more: str) -> None:
        """Add to the engine's record of events."""
        if where := self.config.get("journal"):
            journal.append(where["dir"], "container", action, self.id, {**where["attributes"], **more})

    def _watch_init(self, pidfd: int) -> None:
        self._pidfd = pidfd
        self.loop.add_reader(pidfd, self._init_ended)

    def _watch_memory(self) -> None:
        """Be told from now on when the OOM killer strikes in the container."""
        self._cgroup.oom_killed()
        self._oom_struck = False
        self._oom_fd, urgent = self._cgroup.open_oom_events()
        if self._oom_fd >= 0:
            self.loop.add_reader(self._oom_fd, self._take_oom_event, urgent=urgent)

    def _take_oom_event(self) -> None:
        early = cgroup.take_oom_event(self._oom_fd)
        self._await_oom_kill(time.monotonic() + (OOM_KILL_S if early else 0.0))

    def _await_oom_kill(self, deadline: float) -> None:
        """Note a kill, which v1 counts only after its event; it is looked for until `deadline` on the monotonic clock."""
        if self._oom_fd >= 0 and not self._note_oom() and time.monotonic() < deadline:
            self.loop.call_later(LOOK_AGAIN_S, lambda: self._await_oom_kill(deadline))

    def _note_oom(self) -> bool:
        struck = self._cgroup.oom_killed()
        if struck:
            self._oom_struck = True
            self._record("oom")
        return struck

    def _end_watching_memory(self) -> bool:
        """Tell whether the OOM killer struck in this run."""
        if self._oom_fd >= 0:
            self.loop.remove(self._oom_fd)
            os.close(self._oom_fd)
            self._oom_fd = -1
        self._note_oom()
        return self._oom_struck

    def _begin_probing(self) -> None:
        wanted = self.config.get("health")
        if wanted and wanted["test"] and wanted["test"][0] != "NONE":
            self._prober = health.Prober(self.loop, wanted, self._spawn_probe, self._tell_health)

    def _spawn_probe(self, argv: list[str], stdio: tuple[int, int, int]) -> tuple[int, int]:
        entered = self._enter({"argv": argv}, stdio)
        return entered.pid, entered.pidfd

    def _enter(self, request: dict[str, Any], stdio: tuple[int, int, int] | None) -> execution.Entered:
        return execution.enter(
            self._status.current["pid"],
            self._pidfd,
            self._oci,
            argv=request["argv"],
            env=request.get("env") or [],
            cwd=request.get("cwd"),
            user=request.get("user"),
            privileged=bool(request.get("privileged")),
            tty=bool(request.get("tty")),
            stdio=stdio,
            cgroup=self._cgroup,
        )

    def _tell_health(self) -> None:
        if self._prober:
            before, now = self._status.current["health"], self._prober.checkup.as_status()
            self._status.update(health=now)
            if before and before["state"] != now["state"]:
                self._record(f"health_status: {now['state']}")

    # A start that failed.

    def _give_up(self, before: dict[str, Any], error: Exception) -> None:
        failure = failure_of(error)
        self._prober = None
        if self._pidfd >= 0:
            # Init runs, and what came after it failed: it must not live unwatched.
            self._signal_init(signal.SIGKILL)
            process.wait_exit(self._pidfd)
        troubles = self._undo_all()
        if self._control:
            self._control.close_listener()
        if self._made_pin:
            troubles += self._attempt("while cleaning up", lambda: netns.drop_pin(self.config["netns"]["pin"]))
        ran_before = before["started_at"] > 0
        message = "; ".join([failure["message"], *troubles])
        try:
            after = {**before, "state": "exited" if ran_before else "created", "pid": 0, "monitor_pid": 0, "ports": []}
            self._status.update(**{**after, "error": message, "exit_code": failure["exit_code"]})
            self._save_in_bundle()
        except OSError:
            pass
        os.close(self._lock)
        self._reply.failed({**failure, "message": message})

    def _undo_all(self) -> list[str]:
        """Give back what the start took, the last first; return what could not be given back."""
        troubles: list[str] = []
        while self._undo:
            troubles += self._attempt("while cleaning up", self._undo.pop())
        return troubles

    def _attempt(self, doing: str, action: Callable[[], object]) -> list[str]:
        try:
            action()
        except Exception as error:
            return [f"{doing}: {error}"]
        return []

    def _save_in_bundle(self) -> None:
        try:
            status.write(self._bundle, self._status.current)
        except OSError as error:
            self._tell_trouble(f"cannot save the status: {error}")

    # Taking over from a monitor that died.

    def _take_over(self, before: dict[str, Any]) -> None:
        """Do what the dead monitor did, around an init that must not be disturbed: what cannot be had again is only noted."""
        self._status.current = {**before, "monitor_pid": os.getpid()}
        self._restarter.count = before["restart_count"]
        self._open_files()
        troubles: list[str] = []
        if self.config["tty"]:
            # Its terminal went with its monitor: it can neither be heard nor spoken to. A start, or its restart policy, gives it another.
            liveness.kill_init(before)
        if liveness.init_alive(before):
            self._open_cgroup(before["cgroup"] or self.config["cgroup"]["parent"])
            self.netns_fd = os.open(f"/proc/{before['pid']}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        else:
            # Its restart policy may want it back.
            self._make_cgroup()
            self._make_netns()
            self._attach_endpoints()
        for entry in self.config["services"]:
            troubles += self._attempt("cannot be had again", lambda entry=entry: self._acquire(entry))  # type: ignore[misc]
        self._publish_names()
        self._serve_clients()
        self._status.update(
            error="; ".join(troubles), ports=[port for service in self._services for port in service.ports()]
        )
        self._adopt(before)

    def _adopt(self, before: dict[str, Any]) -> None:
        try:
            pidfd = process.pidfd_open(before["pid"]) if before["pid"] else -1
        except ProcessLookupError:
            pidfd = -1
        # Asked again now that the descriptor holds the process: the pid cannot have been reused in between.
        if pidfd < 0 or not liveness.init_alive(before):
            self._ended_unseen(pidfd)
            return
        self._launched_at = time.monotonic() - procfs.age_s(before["pid_starttime"])
        self._watch_memory()
        if not self.config["tty"]:
            self._output.resume()
        self._adopted = True
        self._watch_init(pidfd)
        self._begin_probing()
        if self._prober and before["health"]:
            self._prober.checkup.take_over(before["health"])
        if self._prober and before["state"] == "paused":
            self._prober.pause()

    def _ended_unseen(self, pidfd: int) -> None:
        if pidfd >= 0:
            os.close(pidfd)
        was_waiting = self._status.current["state"] == "restarting"
        code = self._status.current["exit_code"] if was_waiting else liveness.UNSEEN
        self._after_exit(code, oom_killed=False)

    # The end of init, and what follows.

    def _init_ended(self) -> None:
        if self._adopted:
            self._await_exit_code(time.monotonic() + UNSEEN_PATIENCE_S)
        else:
            self._conclude(process.wait_exit(self._pidfd) or 0)

    def _await_exit_code(self, deadline: float) -> None:
        self.loop.remove(self._pidfd)
        code = liveness.exit_code_of_zombie(self._status.current["pid"], self._status.current["pid_starttime"])
        if code is None:
            code = process.exit_code_of(self._pidfd)
        if code is None and time.monotonic() < deadline:
            self.loop.call_later(LOOK_AGAIN_S, lambda: self._await_exit_code(deadline))
            return
        self._conclude(liveness.UNSEEN if code is None else code)

    def _conclude(self, exit_code: int) -> None:
        self.loop.remove(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = self._console_fd = -1
        self._adopted = False
        self.loop.cancel(self._stop_timer)
        try:
            oom_killed = self._end_rest()
        except Exception as error:
            # A monitor without an init must reach its final exit, come what may.
            self._note(error)
            oom_killed = False
        self._output.drain(lambda: self._after_exit(exit_code, oom_killed=oom_killed))

    def _end_rest(self) -> bool:
        """End what belongs to the run that is over; tell whether memory ran out in it."""
        if self._prober:
            self._prober.stop()
            self._prober = None
        if not self._owns_pids:
            # No namespace dies with this init; what it left behind is found by its cgroup.
            self._cgroup.kill()
        oom_struck = self._end_watching_memory()
        if program := self.config.get("runtime"):
            external.delete(program, self.id, self._run)
        return oom_struck

    def _after_exit(self, exit_code: int, *, oom_killed: bool) -> None:
        lasted_s = time.monotonic() - self._launched_at
        self._record("die", exitCode=str(exit_code), execDuration=str(int(lasted_s)))
        for attachment in self._attachments:
            attachment.ended(exit_code)
        self._attachments.clear()
        delay_s = self._restarter.after_exit(exit_code, lasted_s)
        ended = {"exit_code": exit_code, "oom_killed": oom_killed, "finished_at": time.time()}
        if delay_s is None:
            self._finish(**ended)
            return
        self._status.update(state="restarting", pid=0, **ended)
        self._restart_timer = self.loop.call_later(delay_s, self._relaunch)

    def _relaunch(self) -> None:
        self._restart_timer = None
        try:
            if self.config.get("runtime"):
                self._cgroup.close()
                self._cgroup.create(self.config["cgroup"]["resources"])  # the runtime has taken it away
            self._launch()
        except Exception as error:
            failure = failure_of(error)
            self._finish(error=failure["message"], exit_code=failure["exit_code"], finished_at=time.time())

    def _finish(self, **changes: Any) -> None:
        """The final exit: give everything back but the pinned namespace, which a later start uses again."""
        self.loop.stop()
        troubles = self._undo_all()
        if troubles:
            changes["error"] = "; ".join(filter(None, [changes.get("error", ""), *troubles]))
        self._status.update(state="exited", pid=0, monitor_pid=0, ports=[], **changes)
        self._save_in_bundle()
        # Clients not yet served see their connection end, and then find the last status.
        if self._control:
            self._control.close_listener()
        os.close(self._lock)
        # Readers that follow the log look for the end when it is closed, so the status comes before.
        self._log.close()
        for done in self._stop_waiters:
            done({"ok": True, "status": self._status.current, "hint": self._stop_hint})
        if self._control:
            self._control.close()

    def _note(self, error: BaseException) -> None:
        """A fault of ours, or of a service: the container goes on, and the status tells."""
        where = ""
        trace = error.__traceback__
        while trace:
            code = trace.tb_frame.f_code
            where = f"{os.path.basename(code.co_filename)}:{trace.tb_lineno} {code.co_name}"
            trace = trace.tb_next
        self._status.update(error=f"monitor: {type(error).__name__}: {error} ({where})")

    # What clients ask for.

    def status(self) -> dict[str, Any]:
        """The status as last written."""
        return self._status.current

    def _require(self, *states: str) -> None:
        state = self._status.current["state"]
        if self._pidfd < 0 or state not in states:
            raise ServiceError("conflict", f"container {self._name()} is not {states[0]}, but {state}")

    def stop(self, timeout_s: float | None, number: int | None, done: Callable[[dict[str, Any]], object]) -> None:
        """End the container for good; `done` is called with the reply at its final exit."""
        self._restarter.stop()
        self._stop_waiters.append(done)
        if self._restart_timer:
            self.loop.cancel(self._restart_timer)
            self._restart_timer = None
            self._finish()
        elif self._pidfd >= 0:
            timeout = self.config["stop_timeout_s"] if timeout_s is None else timeout_s
            self._signal_to_stop(number or self.config["stop_signal"], timeout)

    def _signal_to_stop(self, number: int, timeout_s: float) -> None:
        if self._status.current["state"] == "paused":
            self.unpause()
        if number != signal.SIGKILL and self._would_ignore(number):
            name = signal.Signals(number).name if number in list(signal.Signals) else f"signal {number}"
            self._stop_hint = (
                f"process 1 has no handler for {name}, so it was killed at once; 'init: true' or a handler helps"
            )
            number = signal.SIGKILL
        self._signal_init(number)
        self._record("kill", signal=str(number))
        self.loop.cancel(self._stop_timer)
        if timeout_s >= 0 and number != signal.SIGKILL:
            self._stop_timer = self.loop.call_later(timeout_s, lambda: self._signal_init(signal.SIGKILL))

    def _would_ignore(self, number: int) -> bool:
        """Whether the kernel would drop the signal: process 1 of a pid namespace gets only those it handles. pid_namespaces(7)"""
        fields: dict[str, str] = {}
        try:
            with open(f"/proc/{self._status.current['pid']}/status") as file:
                for line in file:
                    key, _, value = line.partition(":")
                    fields[key] = value.strip()
            handled = int(fields["SigCgt"], 16) | int(fields["SigBlk"], 16)
            dropped = fields["NSpid"].split()[-1] == "1" and not handled >> (number - 1) & 1
            return dropped and not procfs.is_taking_signals(self._status.current["pid"])
        except (OSError, KeyError):
            return False

    def _signal_init(self, number: int) -> None:
        try:
            process.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            pass

    def kill(self, number: int) -> None:
        """Send init a signal. One that is meant to end it also ends its restarts, as in Docker."""
        self._require("running", "paused")
        if number in (signal.SIGKILL, self.config["stop_signal"]):
            self._restarter.stop()
            if self._status.current["state"] == "paused":
                self.unpause()
        self._signal_init(number)
        self._record("kill", signal=str(number))

    def pause(self) -> None:
        """Freeze all processes of the container."""
        self._require("running")
        if self._prober:
            self._prober.pause()
        self._cgroup.freeze()
        self._status.update(state="paused")
        self._record("pause")

    def unpause(self) -> None:
        """Let a frozen container go on."""
        self._require("paused")
        self._cgroup.thaw()
        self._status.update(state="running")
        self._record("unpause")
        if self._prober:
            self._prober.resume()

    def rename(self, name: str) -> None:
        """Bear another name from now on: in the name servers, in events and errors, and after a restart."""
        config, before = self.config, self.config["name"]
        config["name"] = name
        if config["journal"]:
            config["journal"]["attributes"]["name"] = name
        for endpoint in config["endpoints"]:
            endpoint["names"] = [name if each == before else each for each in endpoint["names"]]
        self._keep_config()
        self._publish_names()

    def _keep_config(self) -> None:
        """Write what a next monitor of this process would need."""
        partial = f"{self._bundle}/.monitor.json"
        fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(fd, "w") as file:
            json.dump(self.config, file)
        os.rename(partial, f"{self._bundle}/monitor.json")

    def resize(self, rows: int, columns: int) -> None:
        """Set the size of the container's terminal."""
        if self._console_fd < 0:
            raise ServiceError("conflict", f"container {self._name()} has no terminal", "create it with 'tty: true'")
        set_size(self._console_fd, rows, columns)

    def execute(
        self, request: dict[str, Any], stdio: tuple[int, int, int] | None, ended: Callable[[int], object]
    ) -> execution.Entered:
        """Start a command in the running container; `ended` is called with its exit code."""
        self._require("running")
        try:
            entered = self._enter(request, stdio)
        except init.LaunchError as error:
            failure = failure_of(error)
            raise ServiceError(failure["kind"], failure["message"], failure["hint"], failure["exit_code"]) from error

        execution_id = os.urandom(32).hex()
        command = " ".join(request["argv"])
        self._record(f"exec_create: {command}", execID=execution_id)
        self._record(f"exec_start: {command}", execID=execution_id)

        def reap() -> None:
            self.loop.remove(entered.pidfd)
            code = process.wait_exit(entered.pidfd) or 0
            self._record("exec_die", execID=execution_id, exitCode=str(code))
            os.close(entered.pidfd)
            if entered.console_fd is not None:
                os.close(entered.console_fd)
            ended(code)

        self.loop.add_reader(entered.pidfd, reap)
        return entered

    def attach(
        self, stdout: int, stderr: int, *, stdin: bool, lossless: bool, ended: Callable[[int], object]
    ) -> Attachment:
        """Let a client take part in the container's own input and output; `ended` is called with init's exit code."""
        try:
            self._require("running", "paused")
            input_fd = self._open_input() if stdin else -1
        except (ServiceError, OSError):
            os.close(stdout)
            os.close(stderr)
            raise
        output = self._output.attach(stdout, stderr, lossless=lossless)
        attachment = Attachment(self, output, input_fd, ended)
        self._attachments.append(attachment)
        self._record("attach")
        return attachment

    def _open_input(self) -> int:
        if self._console_fd >= 0:
            return os.dup(self._console_fd)
        if not self.config["stdin_open"]:
            return -1
        try:
            return self._output.open_stdin()
        except OSError as error:
            if error.errno == errno.ENXIO:
                return -1  # the container has closed its input, or has just ended
            raise

    def detach(self, attachment: Attachment, output: Attached) -> None:
        """A client has gone."""
        if attachment in self._attachments:
            self._attachments.remove(attachment)
        self._output.detach(output)

    def end_stdin(self) -> None:
        """No more input comes."""
        self._output.end_stdin()


class Attachment:
    """A client of the container's own input and output. `input_fd` is its way in, -1 where there is none."""

    def __init__(self, monitor: Monitor, output: Attached, input_fd: int, ended: Callable[[int], object]) -> None:
        self._monitor = monitor
        self._output = output
        self._has_input = input_fd >= 0
        self.input_fd = input_fd
        self.ended = ended
        self.tty: bool = monitor.config["tty"]

    def forget_input(self) -> None:
        """The client has its own copy of the descriptor by now."""
        if self.input_fd >= 0:
            os.close(self.input_fd)
            self.input_fd = -1

    def close_stdin(self) -> None:
        """The client sends no more; an input made for one client ends."""
        if self._has_input:
            self._monitor.end_stdin()

    def close(self) -> None:
        """The client has gone."""
        self.close_stdin()
        self._monitor.detach(self, self._output)


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def run(message: dict[str, Any], config: dict[str, Any], channel: socket.socket) -> None:
    """Be the monitor of one container, in a process forked for it. Returns at the container's final exit."""
    daemon.detach(channel, COMM, f"{COMM} {config.get('name', '')} {config['id']}")
    Monitor(config, Reply(channel, config["id"])).begin(
        reattach=message["op"] == "reattach", hold=bool(message.get("hold"))
    )
