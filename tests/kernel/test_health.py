"""Health probes of real containers."""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest

from tests.kernel.rig import Rig
from tests.patience import PATIENCE

pytestmark = pytest.mark.needs("root", "netns", "overlay", "cgroup")


def probe(*test: str, **changes: Any) -> dict[str, Any]:
    return {
        "test": list(test),
        "interval_s": 30.0,
        "timeout_s": 30.0,
        "retries": 3,
        "start_period_s": 0.0,
        "start_interval_s": None,
        "strict": False,
        **changes,
    }


def test_readiness_is_seen_long_before_the_first_interval(rig: Rig) -> None:
    interval_s = 30.0 * PATIENCE
    health = probe("CMD", "test", "-e", "/ready", interval_s=interval_s)
    container = rig.container("/bin/sleep", "1000", health=health)
    container.start()
    found = container.wait(lambda found: found["health"]["log"])
    assert found["health"]["state"] == "starting"
    begun = time.monotonic()
    assert container.run_command("/bin/touch", "/ready")[0] == 0
    found = container.wait(lambda found: found["health"]["state"] == "healthy")
    assert time.monotonic() - begun < interval_s / 5
    assert found["health"]["failing_streak"] == 0
    assert [entry["exit_code"] for entry in found["health"]["log"]][-2:] == [1, 0]


def test_failures_in_a_row_make_unhealthy_and_a_success_heals(rig: Rig) -> None:
    test = probe("CMD-SHELL", "echo checked; test -e /good", interval_s=0.2, retries=2)
    container = rig.container("/bin/sleep", "100", health=test)
    container.start()
    found = container.wait(lambda found: found["health"]["state"] == "unhealthy")
    assert found["health"]["failing_streak"] == 2
    assert found["health"]["log"][-1]["output"] == "checked\n"
    assert container.run_command("/bin/touch", "/good")[0] == 0
    container.wait(lambda found: found["health"]["state"] == "healthy")


def test_a_probe_that_hangs_is_killed_with_all_it_started(rig: Rig) -> None:
    test = probe("CMD-SHELL", "echo hanging; setsid sleep 777 & sleep 777", interval_s=0.1, timeout_s=0.3, retries=1)
    container = rig.container("/bin/sleep", "100", health=test)
    container.start()
    found = container.wait(lambda found: found["health"]["state"] == "unhealthy")
    last = found["health"]["log"][-1]
    assert (last["exit_code"], last["output"]) == (-1, "hanging\ntimed out after 0.3 s")
    container.client.pause()
    container.client.unpause()
    code, output = container.run_command("/bin/sh", "-c", "ps | grep -c '[s]leep 777'")
    assert (code, int(output)) in ((1, 0), (0, 1), (0, 2), (0, 3))


def test_output_is_kept_up_to_a_limit(rig: Rig) -> None:
    container = rig.container("/bin/sleep", "100", health=probe("CMD-SHELL", "yes | head -c 1000000"))
    container.start()
    found = container.wait(lambda found: found["health"]["state"] == "healthy")
    assert len(found["health"]["log"][-1]["output"]) == 4096


def test_a_probe_that_cannot_start_says_why(rig: Rig) -> None:
    container = rig.container("/bin/sleep", "100", health=probe("CMD", "no-such-probe"))
    container.start()
    found = container.wait(lambda found: found["health"]["log"])
    assert found["health"]["log"][0]["exit_code"] == -1
    assert "no-such-probe" in found["health"]["log"][0]["output"]


def test_health_starts_anew_with_each_restart(rig: Rig) -> None:
    restart = {"name": "always", "max_retries": 0}
    container = rig.container("/bin/sleep", "100", health=probe("CMD", "sleep", "0.2"), restart=restart)
    container.start()
    container.wait(lambda found: found["health"]["state"] == "healthy")
    import os

    os.kill(container.status()["pid"], signal.SIGKILL)
    again = container.wait(lambda found: found["state"] == "running" and found["restart_count"] == 1)
    assert again["health"] == {"state": "starting", "failing_streak": 0, "log": []}


def test_a_frozen_container_is_not_probed(rig: Rig) -> None:
    container = rig.container("/bin/sleep", "100", health=probe("CMD", "true", interval_s=0.05))
    container.start()
    container.wait(lambda found: found["health"]["state"] == "healthy")
    container.client.pause()
    before = container.status()["health"]["log"][-1]["end"]
    time.sleep(0.3)
    assert container.status()["health"]["log"][-1]["end"] == before
    container.client.unpause()
    container.wait(lambda found: found["health"]["log"][-1]["end"] > before)
