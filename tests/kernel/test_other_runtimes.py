"""crun and runc start our containers: output, exit status, exec, terminal, restart and stop are as with our own init."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from engine.errors import UmiakError
from engine.runtime.runtimes import program_of
from tests.kernel.rig import Container, Rig
from tests.kernel.test_monitor import TRAP, cgroups_of, wait_for_output

RUNTIMES = [pytest.param(name, marks=pytest.mark.needs(name)) for name in ("crun", "runc")]
pytestmark = [
    pytest.mark.needs("root", "netns", "overlay", "cgroup"),
    pytest.mark.parametrize("runtime", RUNTIMES),
]


def shell(rig: Rig, runtime: str, script: str, **changes: object) -> Container:
    made = rig.shell(script, runtime=program_of(runtime), **changes)
    made.oci["linux"]["namespaces"][-1]["path"] = str(made.pin)
    return made


def test_output_and_exit_code_are_kept_and_nothing_remains(rig: Rig, runtime: str) -> None:
    made = shell(rig, runtime, "echo out; echo err >&2; exit 7")
    made.start()
    found = made.wait_exited()
    assert (found["exit_code"], found["error"]) == (7, "")
    assert (made.output("stdout"), made.output("stderr")) == (b"out\n", b"err\n")
    assert not (made.run / "runtime" / "state" / made.id).exists()
    assert cgroups_of(made) == []


def test_commands_run_in_it_and_a_handler_ends_it(rig: Rig, runtime: str) -> None:
    made = shell(rig, runtime, TRAP)
    pid = made.start()["pid"]
    wait_for_output(made, b"ready")
    status = Path(f"/proc/{pid}/status").read_text()
    assert f"\nPPid:\t{made.status()['monitor_pid']}\n" in status
    code, output = made.run_command("/bin/sh", "-c", "cat /proc/1/comm; hostname; exit 3")
    assert (code, output) == (3, b"sh\nrig\n")
    assert made.client.stop(30)["status"]["exit_code"] == 7
    assert made.output().endswith(b"bye\n")


def test_limits_hold(rig: Rig, runtime: str) -> None:
    resources = {"pids": {"limit": 17}}
    cgroup = {"parent": "/umiak", "resources": resources}
    made = shell(rig, runtime, "sleep 100")
    made.monitor["cgroup"] |= cgroup
    made.oci["linux"]["resources"] = resources
    made.start()
    limits = [path / "pids.max" for path in cgroups_of(made)]
    assert {path.read_text().strip() for path in limits if path.exists()} == {"17"}


def test_a_terminal_is_the_monitors(rig: Rig, runtime: str) -> None:
    made = shell(rig, runtime, "test -t 0 && echo terminal", tty=True)
    made.start()
    assert made.wait_exited()["exit_code"] == 0
    assert made.output() == b"terminal\r\n"


def test_a_restart_policy_starts_it_again_with_its_limits(rig: Rig, runtime: str) -> None:
    restart = {"name": "on-failure", "max_retries": 2}
    made = shell(rig, runtime, "echo run; exit 4", restart=restart)
    made.start()
    found = made.wait_exited()
    assert (found["exit_code"], found["restart_count"]) == (4, 2)
    assert made.output() == b"run\n" * 3


def test_a_command_that_is_not_there_gives_127_and_the_runtimes_words(rig: Rig, runtime: str) -> None:
    made = rig.container("/no/such", runtime=program_of(runtime))
    made.oci["linux"]["namespaces"][-1]["path"] = str(made.pin)
    with pytest.raises(UmiakError, match=f"{runtime} cannot start the container: .*/no/such"):
        made.start()
    assert made.status()["exit_code"] == 127
    assert cgroups_of(made) == []


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda path: None, 127),
        (lambda path: path.write_text("#!/bin/sh\n"), 126),
        (lambda path: path.mkdir(), 126),
    ],
    ids=["missing", "not executable", "directory"],
)
def test_the_exit_code_tells_why_a_command_cannot_start(
    rig: Rig, runtime: str, make: Callable[[Path], None], code: int
) -> None:
    """As of our own runtime, whatever the words of the other: Docker's 126 and 127."""
    codes = []
    for program in (program_of(runtime), ""):
        container = rig.container("/command", runtime=program)
        make(container.bundle / "upper" / "command")
        container.oci["linux"]["namespaces"][-1]["path"] = str(container.pin)
        with pytest.raises(UmiakError):
            container.start()
        codes.append(container.status()["exit_code"])
    assert codes == [code, code]


@pytest.mark.parametrize(("text", "code"), [("#!/no/such\n", 127), ("\x7fELF and no more", 126)])
def test_what_only_the_kernel_finds_wrong_ends_the_container_with_1(
    rig: Rig, runtime: str, text: str, code: int
) -> None:
    """The runtime has started it by then, as with Docker. Our own tells before."""
    other, own = (rig.container("/command", runtime=program) for program in (program_of(runtime), ""))
    for container in (other, own):
        command = container.bundle / "upper" / "command"
        command.write_text(text)
        command.chmod(0o755)
        container.oci["linux"]["namespaces"][-1]["path"] = str(container.pin)
    other.start()
    assert other.wait_exited()["exit_code"] == 1
    with pytest.raises(UmiakError):
        own.start()
    assert own.status()["exit_code"] == code


@pytest.mark.needs("tini-static")
def test_with_init_orphans_are_reaped(rig: Rig, runtime: str) -> None:
    orphan = "(sleep 0.1 & exec true)"
    made = shell(rig, runtime, f"{orphan}; sleep 0.3; ps -o pid,stat,comm; {TRAP}")
    made.oci["annotations"] = {"io.umiak.init": "1"}
    made.start()
    wait_for_output(made, b"ready")
    shown = made.output().decode()
    assert "docker-init" in next(line for line in shown.splitlines() if line.split()[0] == "1")
    assert " Z" not in shown


@pytest.mark.needs("tini-static")
def test_an_init_that_waits_for_signals_is_not_taken_for_one_that_ignores_them(rig: Rig, runtime: str) -> None:
    """While it waits, the kernel shows the signals as neither blocked nor handled; here with our own runtime, too."""
    for program in (program_of(runtime), ""):
        made = rig.shell(TRAP, runtime=program)
        made.oci["linux"]["namespaces"][-1]["path"] = str(made.pin)
        made.oci["annotations"] = {"io.umiak.init": "1"}
        made.start()
        wait_for_output(made, b"ready")
        reply = made.client.stop(30)
        assert (reply["hint"], reply["status"]["exit_code"]) == (None, 7)


def test_no_directory_above_the_containers_stays_in_any_hierarchy(rig: Rig, runtime: str) -> None:
    made = shell(rig, runtime, "exit 0")
    parent = f"umiak-test-{made.id[:8]}"
    made.monitor["cgroup"] |= {"parent": f"/{parent}"}
    made.start()
    made.wait_exited()
    assert list(Path("/sys/fs/cgroup").glob(parent)) + list(Path("/sys/fs/cgroup").glob(f"*/{parent}")) == []
