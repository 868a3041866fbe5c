"""What the engine keeps about a container was taken away or damaged: commands tell the truth all the same, and mend it."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from tests.images import busybox_rootfs_tar
from tests.stack import Host, Stack, StackMaker

pytestmark = pytest.mark.umiak("it takes away umiak's own files")


def run_directory(stack: Stack) -> Path:
    """Where the engine keeps what changes about the one container."""
    (found,) = stack.host.run.glob(f"containers/{stack.container('web')['ID']}*")
    return found


def fill(path: Path) -> None:
    """Write until there is no more room."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def test_a_damaged_status_file_hides_no_running_container(stack: Stack) -> None:
    stack.up()
    directory = run_directory(stack)
    for text in ("", '{"v":1,"sta', "[1]", '{"v":1}'):
        (directory / "status.json").write_text(text)
        assert stack.states() == {"lost_state-web-1": "running"}, text
    assert stack.sh("web", "echo reached") == "reached"
    stack.down()
    assert stack.states() == {}


def test_a_monitor_whose_socket_was_removed_is_replaced(stack: Stack) -> None:
    stack.up()
    before = stack.status("web")
    (run_directory(stack) / "control.sock").unlink()
    assert stack.sh("web", "echo reached") == "reached"
    after = stack.status("web")
    assert after["pid"] == before["pid"], "the container itself goes on"
    assert after["monitor_pid"] != before["monitor_pid"]
    assert not stack.host.is_alive(before["monitor_pid"])


def test_a_container_whose_run_directory_was_removed_is_taken_over(stack: Stack) -> None:
    stack.up()
    before, directory = stack.status("web"), run_directory(stack)
    for path in (directory / "status.json", directory / "lock", directory / "control.sock"):
        path.unlink()
    assert stack.states() == {"lost_state-web-1": "running"}
    assert stack.sh("web", "echo reached") == "reached"
    assert stack.status("web")["pid"] == before["pid"]
    assert not stack.host.is_alive(before["monitor_pid"])


def test_a_full_run_directory_is_no_obstacle_to_down(stack: Stack) -> None:
    run = stack.host.run
    run.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "none", str(run)], check=True)
    try:
        stack.up()
        fill(run / "fill")
        stack.umiak("restart", "-t", "0")
        assert stack.states() == {"lost_state-web-1": "running"}
        stack.down("-t", "0")
        assert stack.states() == {}
        os.unlink(run / "fill")
        stack.down("-v")
    finally:
        subprocess.run(["umount", "-l", str(run)], check=True)


def test_what_a_lost_database_knew_is_ended_by_prune_and_volumes_are_kept(
    tmp_path: Path, make_stack: StackMaker
) -> None:
    stack = make_stack(Path(__file__).parent)
    stack.host = Host(tmp_path)
    stack.host.root.mkdir()
    image = busybox_rootfs_tar(tmp_path / "busybox.tar")
    stack.umiak("image", "import", image, "busybox:latest")
    stack.up()
    stack.sh("web", "echo kept > /data/file")
    old, database = stack.status("web"), stack.host.root / "state.db"

    database.write_bytes(b"no database" * 1000)
    assert "damaged" in stack.umiak("ps", exit_code=1).stderr
    database.rename(tmp_path / "damaged")
    for path in stack.host.root.glob("state.db-*"):
        path.unlink()
    stack.umiak("system", "prune", "-f")

    assert not stack.host.is_alive(old["pid"])
    assert not stack.host.is_alive(old["monitor_pid"])
    stack.umiak("image", "import", image, "busybox:latest")
    stack.up()
    assert stack.sh("web", "cat /data/file") == "kept"
    stack.down("-v")
