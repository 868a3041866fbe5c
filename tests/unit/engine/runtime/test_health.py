from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from engine.runtime.health import Checkup, argv_of


def config(**changes: Any) -> dict[str, Any]:
    return {
        "test": ["CMD", "true"],
        "interval_s": 30.0,
        "timeout_s": 30.0,
        "retries": 3,
        "start_period_s": 0.0,
        "start_interval_s": None,
        "strict": False,
        **changes,
    }


def probe(checkup: Checkup, exit_code: int, duration: float = 0.0) -> float:
    """Run one probe at the planned time; return when it began."""
    begun = checkup.next_probe
    checkup.begin(begun)
    checkup.finish(begun, begun + duration, exit_code)
    return begun


def fail_until(checkup: Checkup, moment: float) -> list[float]:
    begun = []
    while checkup.next_probe < moment:
        begun.append(probe(checkup, 1))
    return begun


def test_a_starting_container_is_probed_at_once_and_then_ever_less_often() -> None:
    begun = fail_until(Checkup(config(), 100.0), 101.0)
    gaps = [later - earlier for earlier, later in pairwise(begun)]
    assert begun[0] == 100.0
    assert [round(gap, 4) for gap in gaps[:4]] == [0.05, 0.075, 0.1125, 0.1688]


def test_extra_probes_are_never_more_than_a_second_apart_while_starting() -> None:
    begun = fail_until(Checkup(config(), 0.0), 29.0)
    assert max(later - earlier for earlier, later in pairwise(begun)) <= 1.0


def test_a_short_interval_bounds_the_extra_probes() -> None:
    begun = fail_until(Checkup(config(interval_s=0.2, start_period_s=60.0), 0.0), 5.0)
    assert max(later - earlier for earlier, later in pairwise(begun)) <= 0.2 + 1e-9


def test_failures_of_extra_probes_never_count() -> None:
    checkup = Checkup(config(retries=1), 0.0)
    fail_until(checkup, 29.9)
    assert (checkup.state, checkup.failing_streak) == ("starting", 0)


def test_failures_at_each_interval_count_as_they_do_in_docker() -> None:
    checkup = Checkup(config(retries=3), 0.0)
    fail_until(checkup, 89.9)
    assert (checkup.state, checkup.failing_streak) == ("starting", 2)
    fail_until(checkup, 90.1)
    assert (checkup.state, checkup.failing_streak) == ("unhealthy", 3)


def test_failures_in_the_start_period_do_not_count() -> None:
    checkup = Checkup(config(interval_s=1.0, retries=1, start_period_s=10.0), 0.0)
    fail_until(checkup, 10.0)
    assert (checkup.state, checkup.failing_streak) == ("starting", 0)
    fail_until(checkup, 11.1)
    assert checkup.state == "unhealthy"


def test_one_success_makes_healthy_even_in_the_start_period() -> None:
    checkup = Checkup(config(start_period_s=10.0), 0.0)
    probe(checkup, 0)
    assert checkup.state == "healthy"


def test_a_healthy_container_is_probed_at_its_interval() -> None:
    checkup = Checkup(config(), 0.0)
    probe(checkup, 0, duration=0.5)
    assert checkup.next_probe == 30.5
    probe(checkup, 0)
    assert checkup.next_probe == 60.5


def test_a_healthy_container_turns_unhealthy_after_its_retries_in_a_row() -> None:
    checkup = Checkup(config(retries=2), 0.0)
    for exit_code in (0, 1, 0, 1):
        probe(checkup, exit_code)
    assert (checkup.state, checkup.failing_streak) == ("healthy", 1)
    probe(checkup, 1)
    assert checkup.state == "unhealthy"


def test_an_unhealthy_container_is_probed_at_its_interval_and_can_recover() -> None:
    checkup = Checkup(config(retries=1, interval_s=5.0), 0.0)
    fail_until(checkup, 5.1)
    assert (checkup.state, checkup.next_probe) == ("unhealthy", 10.0)
    probe(checkup, 0)
    assert (checkup.state, checkup.failing_streak) == ("healthy", 0)


def test_a_slow_probe_limits_itself() -> None:
    checkup = Checkup(config(), 0.0)
    probe(checkup, 1, duration=3.0)
    assert checkup.next_probe == 9.0


def test_strict_waits_one_interval_before_the_first_probe_and_counts_every_failure() -> None:
    checkup = Checkup(config(strict=True, interval_s=5.0, retries=2), 0.0)
    assert fail_until(checkup, 10.1) == [5.0, 10.0]
    assert checkup.state == "unhealthy"


def test_a_start_interval_is_obeyed_within_the_start_period_only() -> None:
    checkup = Checkup(config(start_interval_s=2.0, start_period_s=5.0, interval_s=10.0, retries=1), 0.0)
    assert fail_until(checkup, 17.0) == [2.0, 4.0, 6.0, 16.0]


def test_strict_uses_dockers_five_seconds_within_a_start_period() -> None:
    checkup = Checkup(config(strict=True, start_period_s=8.0), 0.0)
    assert fail_until(checkup, 50.0) == [5.0, 10.0, 40.0]


def test_only_the_last_five_results_are_kept() -> None:
    checkup = Checkup(config(), 0.0)
    for number in range(8):
        checkup.record(number, number + 1, 0, str(number))
    assert [entry["output"] for entry in checkup.as_status()["log"]] == ["3", "4", "5", "6", "7"]


def test_shell_tests_run_through_the_containers_shell() -> None:
    assert argv_of(["CMD-SHELL", "curl -f localhost"]) == ["/bin/sh", "-c", "curl -f localhost"]
    assert argv_of(["CMD", "curl", "-f"]) == ["curl", "-f"]


@given(
    st.lists(st.tuples(st.booleans(), st.floats(0, 40)), max_size=60),
    st.floats(0.1, 60),
    st.integers(1, 5),
    st.floats(0, 60),
    st.booleans(),
)
def test_whatever_the_results_time_moves_on_and_unhealthy_takes_enough_failures(
    results: list[tuple[bool, float]], interval: float, retries: int, start_period: float, strict: bool
) -> None:
    checkup = Checkup(config(interval_s=interval, retries=retries, start_period_s=start_period, strict=strict), 0.0)
    failures_in_a_row = 0
    for succeeded, duration in results:
        before = checkup.next_probe
        probe(checkup, 0 if succeeded else 1, duration)
        failures_in_a_row = 0 if succeeded else failures_in_a_row + 1
        assert checkup.next_probe >= before + duration
        assert checkup.failing_streak <= failures_in_a_row
        if checkup.state == "unhealthy":
            assert failures_in_a_row >= retries
