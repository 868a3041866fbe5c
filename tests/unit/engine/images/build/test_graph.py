from __future__ import annotations

from engine.images.build.graph import stages_in_order


def test_what_the_target_does_not_need_is_left_out() -> None:
    assert stages_in_order({0: (), 1: (), 2: {0}, 3: {1, 2}}, 2) == [0, 2]


def test_each_stage_comes_after_all_that_it_uses() -> None:
    assert stages_in_order({0: (), 1: {0}, 2: {0}, 3: {1, 2}}, 3) == [0, 1, 2, 3]


def test_a_target_that_uses_nothing_stands_alone() -> None:
    assert stages_in_order({0: (), 1: {0}}, 0) == [0]
