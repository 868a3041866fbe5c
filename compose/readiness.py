"""When a container is ready, and in what words it is not. Pure: one status in, one verdict out."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from engine.frozen import frozen

if TYPE_CHECKING:
    from compose.plan import Condition
    from engine.types import ContainerStatus


@frozen
class Readiness:
    """A verdict: not `done` means keep waiting; `failure` says why it can no longer come true, `hint` what to do then; `state` names what
    was reached.
    """

    done: bool
    state: str = ""
    failure: str = ""
    hint: str = ""


WAIT = Readiness(False)


def judge(
    status: ContainerStatus,
    condition: Condition,
    *,
    name: str,
    service: str,
    one_shot: bool = False,
    is_on_trial: bool = False,
) -> Readiness:
    """Hold a container's status against a condition. One that `is_on_trial` has failed when it had to be restarted."""
    if is_on_trial and (status.state == "restarting" or status.restart_count):
        return Readiness(True, failure=f"container {name} exited ({status.exit_code})")
    if status.state == "restarting":
        return WAIT
    if condition == "service_completed_successfully":
        return _judge_completion(status, service or name)
    if status.state in ("exited", "dead"):
        if condition == "ready" and one_shot and status.exit_code == 0:
            return Readiness(True, "exited")
        return Readiness(True, failure=f"container {name} exited ({status.exit_code})")
    if status.state == "created":
        return WAIT
    health = status.health.state if status.health else "none"
    if condition == "service_started" or (condition == "ready" and health == "none"):
        return Readiness(True, "running")
    if health == "none":
        hint = f"give {service or name} a healthcheck, or wait for it with condition: service_started"
        return Readiness(True, failure=f"container {name} has no healthcheck configured", hint=hint)
    if health == "unhealthy":
        return Readiness(True, failure=f"container {name} is unhealthy")
    return Readiness(True, "healthy") if health == "healthy" else WAIT


def _judge_completion(status: ContainerStatus, service: str) -> Readiness:
    if status.state not in ("exited", "dead"):
        return WAIT
    if status.exit_code == 0:
        return Readiness(True, "exited")
    return Readiness(True, failure=f'service "{service}" didn\'t complete successfully: exit {status.exit_code}')


def exit_reason(status: ContainerStatus) -> str:
    """Why a container ended, in words: `exited with code 1`, `killed for using more memory than its limit`."""
    code = status.exit_code
    if status.oom_killed:
        return f"killed because it used more memory than its limit (exit code {code})"
    if code is None:
        return status.error or "never started"
    if code == -1:
        return "ended while nothing watched it, so its exit code is unknown"
    if code == 126:
        return "exit code 126: the command is not executable"
    if code == 127:
        return "exit code 127: the command was not found"
    if code > 128:
        try:
            return f"killed by {signal.Signals(code - 128).name} (exit code {code})"
        except ValueError:
            pass
    return f"exited with code {code}"
