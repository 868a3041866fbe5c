"""The leak check itself: what it should notice, it notices; what the kernel frees late, it waits for."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests import leaks

pytestmark = pytest.mark.needs("root", "mount")


def kinds(found: list[tuple[str, str]]) -> set[str]:
    return {kind for kind, _ in found}


def test_a_mount_a_file_and_a_record_are_noticed(tmp_path: Path) -> None:
    base = str(tmp_path)
    pin = tmp_path / "run" / "netns" / "left"
    (tmp_path / "root" / "containers" / "left").mkdir(parents=True)
    pin.parent.mkdir(parents=True)
    pin.touch()
    before = leaks.snapshot(str(tmp_path / "elsewhere"))
    subprocess.run(["mount", "--bind", "/proc/self/ns/net", str(pin)], check=True)
    try:
        found = leaks.leaked(before, base, timeout_s=0.2)
        assert {"mount", "file"} <= kinds(found)
    finally:
        leaks.clean(base)
    assert "mount" not in kinds(leaks.leaked(before, base, timeout_s=0.2))


def test_a_process_that_calls_itself_a_monitor_is_noticed_until_it_ends(tmp_path: Path) -> None:
    before = leaks.snapshot(str(tmp_path))
    program = (
        "import time; open('/proc/self/comm', 'w').write('umiak-monitor'); print('named', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(["python3", "-c", program], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert (("process", f"{child.pid} umiak-monitor")) in leaks.leaked(before, str(tmp_path), timeout_s=0.2)
        child.kill()
    assert ("process", f"{child.pid} umiak-monitor") not in leaks.leaked(before, str(tmp_path), timeout_s=0.2)


def test_what_vanishes_in_time_is_no_leak(tmp_path: Path) -> None:
    before = leaks.snapshot(str(tmp_path))
    late = tmp_path / "run" / "networks" / "late"
    late.mkdir(parents=True)
    threading.Timer(0.3, late.rmdir).start()
    started = time.monotonic()
    assert "file" not in kinds(leaks.leaked(before, str(tmp_path), timeout_s=5))
    assert time.monotonic() - started < 5
    assert not os.path.exists(late)
