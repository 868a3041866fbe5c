"""Named volumes keep, binds show the host's files, tmpfs forgets, read-only forbids."""

from __future__ import annotations

from tests.stack import Stack


def test_a_named_volume_is_kept_by_down_and_removed_by_down_v(stack: Stack) -> None:
    stack.up()
    stack.sh("writer", "echo kept > /data/note")
    stack.down()
    stack.up()
    assert stack.sh("writer", "cat /data/note") == "kept"
    assert stack.sh("sealed", "cat /data/note") == "kept"

    stack.down("-v")
    stack.up()
    assert stack.sh("writer", "ls /data") == ""


def test_an_empty_named_volume_starts_with_what_the_image_has_there(stack: Stack) -> None:
    stack.write(
        "services:\n  web:\n    image: busybox\n    command: [sleep, '600']\n    volumes: ['bin:/bin']\nvolumes: {bin: {}}\n"
    )
    stack.up()
    assert "busybox" in stack.sh("web", "ls /bin").split()
    stack.sh("web", "rm /bin/vi; touch /bin/mine")
    stack.down()
    stack.up()
    left = stack.sh("web", "ls /bin").split()
    assert "mine" in left
    assert "vi" not in left, "only an empty volume is filled"


def test_a_read_only_bind_shows_the_hosts_files_and_takes_no_writes(stack: Stack) -> None:
    stack.up()
    assert stack.sh("writer", "cat /files/note.txt") == "from the host"
    assert stack.exec("writer", "touch", "/files/new", exit_code=None).returncode != 0
    (stack.directory / "files" / "later.txt").write_text("also\n")
    assert stack.sh("writer", "cat /files/later.txt") == "also"


def test_a_read_only_root_takes_no_writes_but_its_mounts_work(stack: Stack) -> None:
    stack.up()
    assert stack.exec("sealed", "touch", "/new", exit_code=None).returncode != 0
    assert stack.exec("sealed", "touch", "/data/new", exit_code=None).returncode != 0
    stack.sh("sealed", "echo works > /dev/shm/note")


def test_tmpfs_has_the_size_that_was_asked_and_is_empty_again_after_a_restart(stack: Stack) -> None:
    stack.up()
    size_kib = int(stack.sh("writer", "df -k /scratch | tail -n 1 | awk '{print $2}'"))
    assert size_kib == 1024
    assert (
        stack.exec("writer", "dd", "if=/dev/zero", "of=/run/big", "bs=1k", "count=100", exit_code=None).returncode != 0
    )
    stack.sh("writer", "echo gone > /scratch/note")
    stack.host.kill(stack.status("writer")["pid"])
    stack.wait_until_state("writer", "exited")
    stack.up()
    assert stack.sh("writer", "ls /scratch") == ""
