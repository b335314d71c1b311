"""The evidence over time: bounded, thinned out evenly, and without a peak lost between two points."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.monitor.evidence_history import FIRST_STEP_S, LONGEST_STEP_S, MOST_STORED, POINTS, ColumnHistories


def run(history: ColumnHistories, looks: int, begin: float = 0.0, step_s: float = 1.0) -> float:
    now = begin
    for _ in range(looks):
        now += step_s
        history.see([now, 0.5])
        if history.is_due(now):
            history.add(now, [0.1, 0.2])
    return now


def test_each_point_has_the_greatest_evidence_since_the_one_before() -> None:
    history = ColumnHistories()
    for now, log_e in enumerate((1.0, 11.5, 0.0, 0.0, 2.0, 3.0, -4.0)):
        history.see([log_e])
        if history.is_due(now):
            history.add(now, [0.25])
    document = history.document(0)
    assert document["at"] == [0, 5]
    assert document["log_e"] == [1.0, 11.5]
    assert document["psi"] == [0.25, 0.25]


def test_a_full_history_keeps_every_second_point_and_doubles_its_step() -> None:
    history = ColumnHistories()
    run(history, int(POINTS * FIRST_STEP_S) + 1)
    assert len(history) == POINTS // 2 + 1
    assert history.step_s == 2 * FIRST_STEP_S
    at = history.document(0)["at"]
    assert np.diff(at).max() <= 2 * FIRST_STEP_S


def test_at_the_longest_step_the_oldest_point_goes() -> None:
    history = ColumnHistories()
    run(history, 20 * POINTS, step_s=LONGEST_STEP_S)
    document = history.document(1)
    assert history.step_s == LONGEST_STEP_S
    assert len(document["at"]) == POINTS
    assert document["at"][-1] - document["at"][0] == (POINTS - 1) * LONGEST_STEP_S
    assert set(document["log_e"]) == {0.5}


def test_points_of_a_clock_that_was_set_back_are_dropped() -> None:
    history = ColumnHistories()
    run(history, 20, begin=1000.0)
    run(history, 10)
    assert history.document(0)["at"] == [1, 6]


def test_nothing_is_added_before_a_look() -> None:
    history = ColumnHistories()
    history.add(1.0, [0.1])
    assert len(history) == 0
    assert history.document(0)["at"] == []


def test_stored_points_are_shown_again_with_three_digits() -> None:
    history = ColumnHistories()
    now = run(history, 200)
    history.see([1e9, np.nan])
    history.add(now + 100, [np.inf, 0.123456])
    found = ColumnHistories.restored(json.loads(json.dumps(history.export_state())), 2)
    assert (len(found), found.step_s) == (len(history), history.step_s)
    before, after = history.document(0), found.document(0)
    assert after["at"] == before["at"]
    assert after["log_e"][:-1] == pytest.approx(before["log_e"][:-1], rel=1e-3)
    assert found.document(1)["psi"][-1] == pytest.approx(0.123456, rel=1e-3)
    run(found, 20, begin=now + 200)
    assert found.document(0)["at"][: len(history)] == before["at"]


def test_points_of_other_columns_and_of_none_are_left_out() -> None:
    history = ColumnHistories()
    run(history, 20)
    assert len(ColumnHistories.restored(history.export_state(), 3)) == 0
    assert len(ColumnHistories.restored(ColumnHistories().export_state(), 2)) == 0


def test_wide_models_store_fewer_points_evenly() -> None:
    history, columns = ColumnHistories(), MOST_STORED // 10
    for now in range(0, 5 * POINTS, 5):
        history.see(np.ones(columns))
        history.add(float(now), np.ones(columns))
    saved = history.export_state()
    assert len(saved["at"]) == 10
    assert set(np.diff(saved["at"])) == {30.0}
    assert saved["at"][-1] == 5 * (POINTS - 1)
    assert saved["step_s"] == 30.0


@given(st.lists(st.floats(0.1, 1000.0), max_size=30), st.integers(1, 30))
def test_it_is_bounded_and_in_order_whatever_the_distances(distances: list[float], times: int) -> None:
    history, now = ColumnHistories(), 0.0
    for distance in distances * times:
        now += distance
        history.see([1.0])
        if history.is_due(now):
            history.add(now, [0.0])
    at = history.document(0)["at"]
    assert len(at) <= POINTS
    assert at == sorted(at)
