"""Recent traffic: counters of many versions at once, steps, a window, and quantiles as the other tables have them."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.buckets import LATENCY_EDGES_NS
from penstock.core.labels import OUTCOME_INDEX
from penstock.core.objectives import SERVER_FAILURES, count_answered
from penstock.core.versions import VersionKey
from penstock.monitor.counters.activity import ACTIVITY_CELLS, BUCKETS, ERRORS, MIRRORED, REQUESTS, read_activity
from penstock.monitor.counters.histogram import quantile_ns
from penstock.monitor.counters.layout import Cells
from penstock.monitor.counters.slot import Slot
from penstock.monitor.counters.totals import Totals
from penstock.monitor.recent_traffic import RecentTraffic, quantiles_ms
from tests.counted import count_success

ONE, TWO, OTHER = ("m", "1"), ("m", "2"), ("n", "1")


def activity(requests: int, errors: int = 0, bucket: int = 3, mirrored: int = 0) -> list[int]:
    cells = [0] * ACTIVITY_CELLS
    cells[REQUESTS], cells[ERRORS], cells[MIRRORED], cells[BUCKETS + bucket] = requests, errors, mirrored, requests
    return cells


def add(table: RecentTraffic, at: float, counts: Mapping[VersionKey, list[int]]) -> None:
    table.add(at, list(counts), np.array(list(counts.values()), np.uint64).reshape(-1, ACTIVITY_CELLS))


durations = st.integers(0, 40_000_000_000)


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 7), st.booleans(), st.sampled_from([*OUTCOME_INDEX]), durations), max_size=12))
def test_the_activity_of_a_block_is_that_of_its_totals(requests: Sequence[tuple[int, bool, str, int]]) -> None:
    slots = [Slot.in_process(), Slot.in_process()]
    for number, (series, alone, outcome, total) in enumerate(requests):
        block = slots[number % 2].block(3)
        if outcome != "ok":
            block.count_failure(series, OUTCOME_INDEX[outcome], total, outcome in SERVER_FAILURES)
        elif alone:
            count_success(block, series, 1, total, 1_000, 0, total // 2, 1_000)
        else:
            count_success(block, series, 4, total, 1_000, 2_000, total, 1_000)
    _check_activity(read_activity(slots, [7, 3])[1], Totals.of(slots, 3))


def _check_activity(cells: Cells, totals: Totals) -> None:
    outcomes: dict[str, int] = {}
    for _, _, outcome, count in totals.requests():
        outcomes[outcome] = outcomes.get(outcome, 0) + count
    assert tuple(cells[[REQUESTS, ERRORS]].tolist()) == count_answered(outcomes)
    histograms = [histogram.buckets for _, _, histogram in totals.durations()]
    assert cells[BUCKETS:].tolist() == [sum(column) for column in zip(*histograms, strict=True)] or not histograms


def test_mirrored_requests_do_not_count_as_requests() -> None:
    slot = Slot.in_process()
    slot.block(2).count_mirrored()
    (cells,) = read_activity([slot], [2])
    assert (cells[MIRRORED], cells[REQUESTS]) == (1, 0)


@settings(max_examples=25)
@given(st.lists(st.integers(0, 5), min_size=43, max_size=43), st.sampled_from([0.5, 0.99]))
def test_quantiles_are_those_of_a_histogram(buckets: list[int], share: float) -> None:
    assert len(buckets) == len(LATENCY_EDGES_NS) + 1
    (value,) = quantiles_ms(np.array([buckets], float), share)
    if sum(buckets):
        assert value == pytest.approx(quantile_ns(buckets, share * sum(buckets)) / 1e6)
    else:
        assert np.isnan(value)


def test_requests_so_far_are_those_of_all_versions_of_a_model() -> None:
    table = RecentTraffic()
    assert table.requests_so_far("a") == 0
    add(table, 0.0, {("a", "1"): activity(3), ("a", "2"): activity(2, mirrored=4), ("b", "1"): activity(7)})
    assert [table.requests_so_far(name) for name in ("a", "b", "c")] == [9, 7, 0]


def test_a_window_has_what_was_added_in_it() -> None:
    table = RecentTraffic()
    for second in range(0, 101, 10):
        add(table, float(second), {ONE: activity(10 * second, second), TWO: activity(second)})
    window = table.window()
    assert window.seconds == 60
    document = window.documents()
    assert (document[ONE]["requests_per_second"], document[ONE]["error_ratio"]) == (10.0, 0.1)
    assert document["m"]["requests_per_second"] == 11.0
    assert window.requests() == {ONE: 600, TWO: 60, "m": 660}


def test_a_young_window_is_as_long_as_there_are_counts() -> None:
    table = RecentTraffic()
    assert (table.window().seconds, table.window().documents()) == (0.0, {})
    add(table, 100.0, {ONE: activity(50)})
    assert table.window().documents()[ONE] == {
        "requests_per_second": 0.0,
        "error_ratio": None,
        "p50_ms": None,
        "p99_ms": None,
    }
    add(table, 105.0, {ONE: activity(60)})
    assert table.window().documents()[ONE]["requests_per_second"] == 2.0


def test_the_window_ends_with_the_newest_counts_also_within_a_step() -> None:
    table = RecentTraffic()
    for second in (0, 10, 20, 22, 24):
        add(table, float(second), {ONE: activity(second)})
    assert table.closed == 2
    assert table.window().requests()[ONE] == 24


def test_a_version_that_is_new_or_begins_again_counts_from_zero() -> None:
    table = RecentTraffic()
    add(table, 0.0, {ONE: activity(1000)})
    add(table, 10.0, {ONE: activity(1005), OTHER: activity(7)})
    add(table, 20.0, {OTHER: activity(2), ONE: activity(1006)})
    assert table.series(ONE)["requests"] == [5, 1]
    assert table.series(OTHER)["requests"] == [7, 2]
    add(table, 30.0, {ONE: activity(1006)})
    assert table.series(OTHER)["requests"] == [7, 2, 0]


def test_series_are_bounded_and_say_nothing_of_durations_without_requests() -> None:
    table = RecentTraffic(steps=3)
    for step, count in enumerate((0, 9, 9, 12, 12)):
        add(table, 10.0 * step, {ONE: activity(count, count // 3), TWO: activity(0)})
    series = table.series("m")
    assert (series["requests"], series["errors"]) == ([0, 3, 0], [0, 1, 0])
    assert series["p50_ms"][0] is None
    assert 0.05 < series["p50_ms"][1] <= series["p99_ms"][1] <= 0.0708
    assert table.series(TWO) == {"requests": [], "errors": [], "p50_ms": [], "p99_ms": []}


def test_a_table_without_versions_is_empty() -> None:
    table = RecentTraffic()
    for second in (0, 10, 20):
        add(table, float(second), {})
    assert table.window().documents() == {}
    assert table.series("m")["requests"] == []
