"""Counter memory: what is written is read back, blocks of several slots add up, a successor goes on."""

from bisect import bisect_left

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.buckets import FINE_EDGES_NS, LATENCY_EDGES_NS, RUN_BASE_NS
from penstock.core.labels import OUTCOME_INDEX, PROTOCOL_NAMES, Route
from penstock.monitor.counters.block_writer import NOT_COUNTED, BlockWriter
from penstock.monitor.counters.layout import (
    FINE_CELLS,
    FINE_RUN_AT,
    LAST_MS_AT,
    LONE_AT,
    LONE_FINES,
    LONE_STAGES,
    SPLIT_SERIES,
    STAGES,
    STORED_CELLS,
    SUMS_AT,
)
from penstock.monitor.counters.slot import HOUSE, OVERDUE, WELL, Slot, TaskState
from penstock.monitor.counters.stored_cells import read_counters
from penstock.monitor.counters.totals import Totals, add_blocks, subtract_block
from tests.counted import count_success


def test_a_request_is_counted_under_its_series() -> None:
    slot = Slot.in_process()
    block = slot.block(5)
    count_success(block, 5, run_rows=3, total=40_000, decode=1_000, queue=2_000, run=30_000, encode=4_000)
    block.count_failure(series=0, outcome=OUTCOME_INDEX["invalid"], total=10_000, attributed=False)
    totals = Totals.of([slot], 5)
    assert sorted(totals.requests()) == [("pinned", "grpc", "ok", 1), ("stable", "rest", "invalid", 1)]
    assert (totals.success_ns, totals.fail_ns) == (40_000, 10_000)
    assert (totals.inferences, totals.executions) == (3, 1)
    assert list(totals.batches()) == [(3, 1, 1_000, 30_000, 4_000)]
    assert totals.stage("run").total == 30_000
    assert [histogram.count for _, _, histogram in totals.durations()] == [1, 1]
    assert totals.outcome_count(succeeded=False) == 1


def test_slots_add_up_exactly_and_the_last_run_is_the_latest() -> None:
    slots = [Slot.in_process() for _ in range(4)]
    for times, slot in enumerate(slots, start=1):
        for _ in range(times):
            count_success(slot.block(1), 0, 2, 6, 1, 0, 2, 3)
    totals = Totals.of(slots, 1)
    assert totals.executions == 10
    assert totals.inferences == 20
    assert totals.batch_rows().total == 20
    assert totals.last_inference_ms == max(Totals.of([slot], 1).last_inference_ms for slot in slots)


def test_a_successor_continues_the_counters_but_not_the_gauges() -> None:
    slot = Slot.in_process()
    slot.take_over(pid=4241)
    block = slot.block(2)
    block.set_in_flight(1)
    count_success(block, 0, 1, 1, 0, 0, 0, 0)
    slot.take_over(pid=4242)
    totals = Totals.of([slot], 2)
    assert totals.inflight == 0
    assert totals.outcome_count(succeeded=True) == 1
    assert slot.pid == 4242


def test_a_slot_that_no_worker_has_had_is_not_searched() -> None:
    """To look at every block would put 8 MiB into the memory of each worker."""
    slot = Slot.in_process()
    slot.block(2).set_in_flight(1)
    slot.take_over(pid=4242)
    assert Totals.of([slot], 2).inflight == 1


def test_a_successor_continues_the_failures_of_tasks_and_nothing_else_of_them() -> None:
    slot = Slot.in_process()
    slot.count_stall(10_000_000_000)
    slot.set_task(HOUSE, TaskState(3, 1_700_000_000_000, OVERDUE))
    assert slot.tasks == [TaskState(0, 0, WELL), TaskState(3, 1_700_000_000_000, OVERDUE)]
    slot.take_over(pid=4242)
    assert slot.tasks == [TaskState(0, 0, WELL), TaskState(3, 0, WELL)]
    assert slot.stalls.count == 1


def test_blocks_do_not_touch_each_other() -> None:
    slot = Slot.in_process()
    for index in range(4):
        count_success(slot.block(index), 0, 1, index, 0, 0, 0, 0)
    slot.clear(2)
    assert [Totals.of([slot], index).outcome_count(succeeded=True) for index in range(4)] == [1, 1, 0, 1]


def test_odd_batch_sizes_are_counted_in_the_histogram_only() -> None:
    slot = Slot.in_process()
    count_success(slot.block(1), 0, 0, 3, 1, 0, 1, 1)
    count_success(slot.block(1), 0, 5000, 3, 1, 0, 1, 1)
    totals = Totals.of([slot], 1)
    assert list(totals.batches()) == []
    assert totals.batch_rows().count == 2


def test_edges_are_inclusive() -> None:
    slot = Slot.in_process()
    for total in (0, LATENCY_EDGES_NS[0], LATENCY_EDGES_NS[0] + 1, LATENCY_EDGES_NS[-1] + 1):
        count_success(slot.block(1), 0, 1, total, 0, 0, 0, 0)
    [(_, _, histogram)] = Totals.of([slot], 1).durations()
    assert histogram.buckets[:2] == (2, 1)
    assert histogram.buckets[-1] == 1
    assert len(histogram.buckets) == len(LATENCY_EDGES_NS) + 1


def test_runs_that_a_request_had_alone_are_compared_and_only_those_of_the_split() -> None:
    slot = Slot.in_process()
    block = slot.block(1)
    stable, pinned = Route.STABLE * len(PROTOCOL_NAMES), Route.PINNED * len(PROTOCOL_NAMES)
    count_success(block, stable, 1, 9_000_000, 1000, 0, 5_000_000, 1000)
    count_success(block, stable, NOT_COUNTED, 9_000_000, 1000, 0, 5_000_000, 1000)  # it shared another one's run
    count_success(block, pinned, 1, 9_000_000, 1000, 0, 5_000_000, 1000)
    for _ in range(2):
        block.add_request(stable, 9_000_000, 0, 0, counted=True)
    block.add_run(stable, 2, 5_000_000, 1000, counted=True)
    runs = Totals.of([slot], 1).split_runs()
    assert sum(runs) == 1
    assert FINE_EDGES_NS[runs.index(1) - 1] < 5_000_000 + RUN_BASE_NS <= FINE_EDGES_NS[runs.index(1)]


def test_marked_requests_are_apart_from_live_traffic() -> None:
    slot = Slot.in_process()
    block, replay = slot.block(1), Route.REPLAY * len(PROTOCOL_NAMES) + 1
    count_success(block, 0, 1, 1_000_000, 1000, 0, 5_000, 1000)
    count_success(block, replay, 7, 9_000_000_000, 1000, 0, 5_000, 1000)
    block.count_marked(replay, 7)
    block.count_failure(replay, OUTCOME_INDEX["overloaded"], 9_000_000_000, attributed=True)
    totals = Totals.of([slot], 1)
    assert sorted(totals.requests()) == [
        ("replay", "grpc", "ok", 1),
        ("replay", "grpc", "overloaded", 1),
        ("stable", "rest", "ok", 1),
    ]
    assert totals.live_outcomes() == {"ok": 1}
    assert totals.marked_rows() == {"batch": 0, "replay": 7}
    assert (totals.slower_than(100.0), totals.quantiles_ms()["count"]) == (0, 1)
    assert totals.split_outcomes() == (0, 1)


def test_runs_of_microseconds_are_all_alike() -> None:
    slot = Slot.in_process()
    for run in (2_000, 5_000, 9_000):
        count_success(slot.block(1), 0, 1, 100_000, 1000, 0, run, 1000)
    assert max(Totals.of([slot], 1).split_runs()) == 3


@pytest.mark.parametrize("percent", [1, 10, 50])
def test_as_many_are_slower_than_a_quantile_as_it_says(percent: int) -> None:
    slot = Slot.in_process()
    for milliseconds in range(1, 1001):
        slot.block(0).count_failure(
            series=0, outcome=OUTCOME_INDEX["internal"], total=milliseconds * 1_000_000, attributed=False
        )
    totals = Totals.of([slot], 0)
    limit_ms = totals.quantiles_ms()[{1: "p99", 10: "p90", 50: "p50"}[percent]]
    assert totals.slower_than(limit_ms) == pytest.approx(10 * percent, abs=1)
    assert totals.slower_than(0.0001) == 1000
    assert totals.slower_than(1e9) == 0
    assert Totals.of([Slot.in_process()], 0).slower_than(1) == 0


def test_a_writer_counts_into_its_own_cells_and_an_open_run_is_counted_at_its_end() -> None:
    memory = np.zeros(STORED_CELLS, np.uint64)
    writer = BlockWriter(memoryview(memory.data).cast("B").cast("Q"))
    for _ in range(3):
        writer.add_request(series=0, total=10, decode=1, queue=2, counted=True)
    assert Totals(read_counters(memory)).outcome_count(succeeded=True) == 0
    writer.add_run(series=0, run_rows=3, run=5, encode=4, counted=True)
    writer.add_run(series=0, run_rows=1, run=5, encode=4, counted=True)  # nothing was added to this one
    totals = Totals(read_counters(memory))
    assert totals.outcome_count(succeeded=True) == 3
    assert [(size, count) for size, count, *_ in totals.batches()] == [(1, 1), (3, 1)]
    assert {name: totals.stage(name).total for name in STAGES} == {"decode": 3, "queue": 6, "run": 15, "encode": 12}


_EDGES = (0, *LATENCY_EDGES_NS, *FINE_EDGES_NS, *[edge - RUN_BASE_NS for edge in FINE_EDGES_NS if edge >= RUN_BASE_NS])
_TIMES = st.one_of(
    st.integers(0, 1 << 40),
    st.integers(0, LATENCY_EDGES_NS[6]),
    st.builds(lambda edge, more: edge + more, st.sampled_from(_EDGES), st.integers(0, 1)),
)
_SERIES = st.integers(0, len(PROTOCOL_NAMES) * len(Route) - 1)
_ALONE = st.tuples(
    st.one_of(st.just(0), _SERIES), st.one_of(st.just(1), st.integers(0, 200)), st.tuples(*[_TIMES] * 5), st.booleans()
)


@given(st.lists(_ALONE, max_size=20))
def test_requests_that_had_a_run_to_themselves_are_counted_as_those_of_a_run_of_one(
    requests: list[tuple[int, int, tuple[int, int, int, int, int], bool]],
) -> None:
    slots = [Slot.in_process(), Slot.in_process()]
    alone, shared = [slot.block(1) for slot in slots]
    runs = [0] * FINE_CELLS
    for series, rows, (total, decode, queue, run, encode), counted in requests:
        alone.add_alone(series, rows, total, decode, queue, run, encode, counted)
        shared.add_request(series, total, decode, queue, counted)
        shared.add_run(series, rows, run, encode, counted)
        if counted and series < SPLIT_SERIES:  # only such runs are compared
            runs[bisect_left(FINE_EDGES_NS, run + RUN_BASE_NS)] += 1
    one, other = [Totals.of([slot], 1).cells for slot in slots]
    assert one[FINE_RUN_AT : FINE_RUN_AT + FINE_CELLS].tolist() == runs
    one[FINE_RUN_AT : FINE_RUN_AT + FINE_CELLS] = 0
    one[LAST_MS_AT] = other[LAST_MS_AT]
    assert (one == other).all()


def test_a_short_lone_request_is_counted_at_once_and_any_other_in_its_buckets() -> None:
    slot, edge = Slot.in_process(), FINE_EDGES_NS[LONE_FINES - 1]
    usual = (edge, LATENCY_EDGES_NS[LONE_STAGES - 1], LATENCY_EDGES_NS[0], edge, LATENCY_EDGES_NS[LONE_STAGES - 1])
    slot.block(1).add_alone(SPLIT_SERIES - 1, 1, *usual, counted=True)
    assert slot.read(1)[LONE_AT:SUMS_AT].nonzero()[0].size == 3
    for index in range(len(usual)):
        total, decode, queue, run, encode = [time + (place == index) for place, time in enumerate(usual)]
        slot.block(2).add_alone(0, 1, total, decode, queue, run, encode, counted=True)
    slot.block(2).add_alone(SPLIT_SERIES, 1, *usual, counted=True)
    slot.block(2).add_alone(0, 2, *usual, counted=True)
    slot.block(2).add_alone(0, 1, *usual, counted=False)
    assert not slot.read(2)[LONE_AT:SUMS_AT].any()
    assert Totals.of([slot], 2).outcome_count(succeeded=True) == 8


def test_the_difference_of_two_blocks_added_to_the_first_is_the_second() -> None:
    slot = Slot.in_process()
    block = slot.block(1)
    count_success(block, 0, 2, 6, 1, 0, 2, 3)
    block.add_shadow_difference(0.25, 0.5)
    before = Totals.of([slot], 1).cells
    block.count_failure(0, OUTCOME_INDEX["invalid"], 10, attributed=False)
    block.add_shadow_difference(0.5, 0.75)
    after = Totals.of([slot], 1).cells
    assert (add_blocks([before, subtract_block(after, before)]) == after).all()
