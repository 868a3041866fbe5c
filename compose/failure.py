"""What a failure shows: the last probe, the last lines of the log, how the container ended in words, and what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compose import labels
from compose.readiness import exit_reason
from engine.errors import UmiakError, Unavailable

if TYPE_CHECKING:
    from compose.plan import RunHook
    from engine.facade import Engine
    from engine.types import ContainerInfo, ContainerStatus

LOG_LINES = 10
OUTPUT_LINES = 5


class NotReady(Unavailable):
    """A container did not become what was waited for. `details` are the lines of a report about it."""

    def __init__(self, message: str, *, details: tuple[str, ...] = (), hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.details = details


def not_ready(engine: Engine, name: str, message: str, hint: str = "") -> NotReady:
    """The error for a container that failed, with all that helps to see why; `hint` is what to do where that is known."""
    try:
        container = engine.container(name)
    except UmiakError:
        return NotReady(message, hint="see what there is with: umiak ps -a")
    details = (*_end(container), *_last_probe(engine, container), *_last_lines(engine, name))
    return NotReady(message, details=details, hint=hint or _next_command(container))


def hook_failed(hook: RunHook, code: int, output: str) -> NotReady:
    """The error for a hook that ended with another exit code than 0, with the last that it wrote."""
    lines = printable(output).splitlines()[-LOG_LINES:]
    details = ["last lines of its output:", *(f"  {line}" for line in lines)] if lines else ["it wrote nothing"]
    message = f"{hook.point} hook of {hook.name} exited with code {code}: {' '.join(hook.command)}"
    hint = "`umiak kill` ends a container without its hooks" if hook.point == "pre_stop" else None
    return NotReady(
        message, details=tuple(details), hint=hint or "the container runs on; mend the hook, then `umiak up`"
    )


def _end(container: ContainerInfo) -> list[str]:
    status = container.status
    if status.state not in ("exited", "dead"):
        return []
    after = status.finished_at - status.started_at
    ran = f" after {after:.1f}s" if status.started_at and after >= 0 else ""
    restarts = f", having been {restarted(status)}" if status.restart_count else ""
    return [f"{container.name} {exit_reason(status)}{ran}{restarts}", *([status.error] if status.error else [])]


def restarted(status: ContainerStatus) -> str:
    """How often a container has been restarted, in words."""
    return f"restarted {status.restart_count} time{'s' if status.restart_count != 1 else ''}"


def _last_probe(engine: Engine, container: ContainerInfo) -> list[str]:
    status = container.status
    if status.health is None or not status.health.log:
        return []
    probe = status.health.log[-1]
    result = "no exit code" if probe.exit_code == -1 else f"exited with code {probe.exit_code}"
    streak = status.health.failing_streak
    lines = [
        f"last probe: {_test(engine, container)}",
        f"  {result} after {probe.end - probe.start:.1f}s, {streak} failures in a row",
    ]
    return lines + [f"  {line}" for line in printable(probe.output).splitlines()[-OUTPUT_LINES:]]


def _test(engine: Engine, container: ContainerInfo) -> str:
    """The health test's command, from the file or the image."""
    check = container.spec.healthcheck
    if check is None or not check.test:
        check = engine.images.resolve(container.image_id).config.healthcheck
    test = check.test if check and check.test else ()
    return printable(" ".join(test[1:]))


def _last_lines(engine: Engine, name: str) -> list[str]:
    try:
        output = b"".join(record.data for record in engine.logs(name, tail=LOG_LINES))
    except (UmiakError, OSError):
        return []
    lines = printable(output.decode(errors="replace")).splitlines()[-LOG_LINES:]
    return ["last lines of its log:", *(f"  {line}" for line in lines)] if lines else ["it wrote nothing to its log"]


def _next_command(container: ContainerInfo) -> str:
    project, service = container.labels.get(labels.PROJECT, ""), container.labels.get(labels.SERVICE, container.name)
    if container.status.oom_killed:
        return "raise its memory limit (mem_limit or deploy.resources.limits.memory)"
    if container.status.state in ("exited", "dead"):
        return f"see all of its output with: umiak -p {project} logs {service}"
    if not container.status.health or container.status.health.state == "none":
        return f"see what it writes with: umiak -p {project} logs -f {service}"
    return f"try the test by hand with: umiak -p {project} exec {service} sh"


def printable(text: str) -> str:
    """A container's text without what could move the cursor or recolour the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else " " if c == "\t" else "" for c in text)
