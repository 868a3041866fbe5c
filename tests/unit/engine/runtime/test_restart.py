from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.runtime.restart import LAST_DELAY_S, Restarter

SHORT, LONG = 0.5, 11.0


def test_no_policy_never_restarts() -> None:
    assert Restarter("no").after_exit(1, SHORT) is None


@pytest.mark.parametrize("name", ["always", "unless-stopped"])
def test_always_and_unless_stopped_restart_after_any_exit(name: str) -> None:
    assert Restarter(name).after_exit(0, SHORT) == 0.1
    assert Restarter(name).after_exit(137, SHORT) == 0.1


def test_on_failure_restarts_only_after_a_failure() -> None:
    assert Restarter("on-failure").after_exit(0, SHORT) is None
    assert Restarter("on-failure").after_exit(3, SHORT) == 0.1


def test_on_failure_gives_up_after_its_number_of_retries() -> None:
    restarter = Restarter("on-failure", 2)
    assert [restarter.after_exit(1, SHORT) for _ in range(4)] == [0.1, 0.2, None, None]
    assert restarter.count == 2


def test_the_delay_doubles_up_to_a_minute() -> None:
    restarter = Restarter("always")
    delays = [restarter.after_exit(1, SHORT) for _ in range(12)]
    assert delays[:4] == [0.1, 0.2, 0.4, 0.8]
    assert delays[-1] == LAST_DELAY_S


def test_the_delay_starts_anew_after_ten_seconds_up() -> None:
    restarter = Restarter("always")
    assert [restarter.after_exit(1, ran) for ran in (SHORT, SHORT, LONG, SHORT)] == [0.1, 0.2, 0.1, 0.2]


def test_nothing_restarts_once_stopped() -> None:
    restarter = Restarter("always")
    restarter.stop()
    assert restarter.after_exit(1, LONG) is None
    assert restarter.count == 0


@given(st.lists(st.floats(0, 100), min_size=1, max_size=50))
def test_a_restart_is_always_counted_and_never_delayed_beyond_a_minute(runs: list[float]) -> None:
    restarter = Restarter("always")
    delays = [restarter.after_exit(1, ran) for ran in runs]
    assert all(delay is not None and 0.1 <= delay <= LAST_DELAY_S for delay in delays)
    assert restarter.count == len(runs)
