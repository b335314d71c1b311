"""What waits to be counted: bounded in calls and in numbers, without a bias, and every row accounted for."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from penstock.core.tensors import Tensor
from penstock.monitor.answer_segments import MOST_ROWS, AnswerWriter
from penstock.monitor.answer_store import AnswerStore
from penstock.monitor.capture import CaptureWriter
from penstock.monitor.columns import Columns
from penstock.monitor.counters.slot import Slot
from penstock.monitor.counters.totals import Totals
from penstock.monitor.feedback import Feedback
from penstock.monitor.rows import InputsAndOutputs, rows_of
from penstock.serving.infer_call import InferCall
from penstock.serving.memory_budget import MemoryBudget
from penstock.serving.observers import row_sampler
from penstock.serving.observers.capture import Capture
from penstock.serving.observers.row_sampler import (
    LONGEST_PAUSE_S,
    MAX_CALLS,
    MOST_WAITS,
    PAUSE_S,
    RowSampler,
)
from tests.calls import answered


def call(number: int, rows: int = 1, width: int = 2) -> InferCall:
    x = np.full((rows, width), number, "<f4")
    p = np.tile(np.array([[0.25, 0.75]], "<f4"), (rows, 1))
    return answered([Tensor("p", "FP32", p)], f"r{number}", [Tensor("x", "FP32", x)], rows)


class Counter:
    """Counts by hand."""

    def __init__(self) -> None:
        self.bunches: list[list[float]] = []
        self.rows = self.dropped = 0

    def count(self, bunch: Sequence[InputsAndOutputs]) -> None:
        for inputs, _ in bunch:
            self.rows += rows_of(inputs)
            self.bunches.append(np.unique(inputs[0].data).tolist())

    def drop(self, rows: int) -> None:
        self.dropped += rows


def offered(*calls: InferCall, answers: AnswerWriter | None = None) -> Counter:
    counter = Counter()

    async def run() -> None:
        watching = RowSampler(counter, True, answers)
        for call in calls:
            watching.offer(call)
        watching.flush()

    asyncio.run(run())
    return counter


def test_calls_that_are_alike_are_counted_together() -> None:
    found = offered(*(call(number, rows=1 + number % 3) for number in range(20)))
    assert len(found.bunches) == 1
    assert (found.rows, found.dropped) == (sum(1 + number % 3 for number in range(20)), 0)
    apart = offered(call(1), call(2, width=3))
    assert (len(apart.bunches), apart.rows) == (2, 2)


def test_of_too_many_calls_each_has_the_same_chance() -> None:
    hits = np.zeros(4 * MAX_CALLS)
    calls = [call(number) for number in range(len(hits))]
    for _ in range(300):
        found = offered(*calls)
        assert (found.rows, found.dropped) == (MAX_CALLS, 3 * MAX_CALLS)
        hits[[int(bunche) for bunche in found.bunches[0]]] += 1
    assert hits.mean() == pytest.approx(75)
    assert hits.std() < 12  # 7.5 by chance
    assert hits[:MAX_CALLS].mean() == pytest.approx(hits[-MAX_CALLS:].mean(), rel=0.1)


def test_large_calls_are_few_at_a_time(tmp_path: Path) -> None:
    rows = row_sampler.MAX_CELLS  # twice as many numbers as a batch may have
    writer = AnswerWriter(tmp_path, "m", "1")
    found = offered(*(call(number, rows) for number in range(5)), answers=writer)
    assert 0 < found.rows <= row_sampler.MAX_CELLS // 4  # two numbers of a row come in, two go out
    assert found.rows + found.dropped == 5 * rows
    taken = AnswerStore(tmp_path).join_feedback("m", [Feedback("r0", [1] * (MOST_ROWS + 5))], 0.0, 1e12)
    assert len(taken.joined) == MOST_ROWS


def test_of_many_rows_of_one_call_each_has_the_same_chance() -> None:
    rows, hits = row_sampler.MAX_CELLS, np.zeros(4)
    x = np.arange(rows, dtype="<f4").reshape(rows, 1)
    for _ in range(100):
        one = answered([Tensor("p", "FP32", np.tile(x, 3))], "r", [Tensor("x", "FP32", x)], rows)
        found = offered(one)
        assert (found.rows, found.dropped) == (rows // 4, rows - rows // 4)
        hits[int(found.bunches[0][0])] += 1
    assert hits.min() > 5  # 25 on average


def test_a_row_of_very_many_numbers_is_not_counted() -> None:
    found = offered(call(1, width=row_sampler.MAX_ROW_CELLS + 1), call(2))
    assert (found.rows, found.dropped) == (1, 1)


@pytest.mark.parametrize("width", [1, row_sampler.MAX_ROW_CELLS + 1])
def test_what_a_batch_holds_is_given_back(width: int) -> None:
    async def run() -> None:
        memory = MemoryBudget(1 << 30)
        watching = RowSampler(Counter(), memory=memory)
        watching.offer(call(1, width=width))
        assert memory.used > 0
        watching.flush()
        assert memory.used == 0

    asyncio.run(run())


def test_a_fault_in_counting_is_noticed_by_nobody(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Counter):
        def count(self, bunch: Sequence[InputsAndOutputs]) -> None:
            raise ZeroDivisionError

    async def run() -> None:
        watching = RowSampler(Broken())
        watching.offer(call(1))
        watching.close()

    asyncio.run(run())
    assert "rows could not be counted" in caplog.text


def test_a_busy_worker_counts_batches_less_often() -> None:
    async def run() -> None:
        watching = RowSampler(Counter())
        doubled = [PAUSE_S * 2**times for times in range(1, 5)]
        assert doubled[-1] == LONGEST_PAUSE_S
        for pause in (*doubled, LONGEST_PAUSE_S):
            for number in range(2 * MAX_CALLS):
                watching.offer(call(number))
            watching._begin()
            assert watching._pause == pytest.approx(pause)
        for pause in (*doubled[-2::-1], PAUSE_S, PAUSE_S):
            watching.offer(call(1))
            watching._begin()
            assert watching._pause == pytest.approx(pause)

    asyncio.run(run())


def test_few_calls_wait_for_more_a_few_times_and_then_all_are_counted() -> None:
    async def run() -> None:
        counter = Counter()
        watching = RowSampler(counter)
        for number in range(MAX_CALLS // 2 - 1):
            watching.offer(call(number))
        watching._begin()
        assert counter.rows == 0
        for number in range(MAX_CALLS):  # as many as in any interval
            watching.offer(call(number))
        watching._begin()
        watching.flush()
        assert (counter.rows, counter.dropped, watching._pause) == (MAX_CALLS + MAX_CALLS // 2 - 1, 0, PAUSE_S)
        for waits in range(MOST_WAITS + 1):
            watching.offer(call(1))
            watching._begin()
            assert len(watching._calls) == (waits + 1) % (MOST_WAITS + 1)

    asyncio.run(run())


def test_calls_with_many_numbers_do_not_wait() -> None:
    async def run() -> None:
        watching = RowSampler(Counter())
        watching.offer(call(1, width=row_sampler.WAIT_BYTES // 4 + 1))
        watching._begin()
        assert (watching._offered, watching._waits) == (0, 0)

    asyncio.run(run())


def test_calls_that_were_counted_meanwhile_are_not_waited_for() -> None:
    async def run() -> None:
        watching = RowSampler(Counter())
        watching.offer(call(1))
        watching.flush()
        watching._begin()
        assert watching._waits == 0

    asyncio.run(run())


def test_answers_of_a_call_with_very_many_rows_are_remembered_in_part(tmp_path: Path) -> None:
    offered(call(1, MOST_ROWS + 5), answers=AnswerWriter(tmp_path, "m", "1"))
    taken = AnswerStore(tmp_path).join_feedback("m", [Feedback("r1", [1] * (MOST_ROWS + 5))], 0.0, 1e12)
    assert len(taken.joined) == MOST_ROWS


def test_calls_with_other_inputs_are_counted_apart() -> None:
    usual = call(2)
    other = answered(usual.outputs, "r2", [Tensor("z", "FP32", usual.tensors[0].data)], 1)
    found = offered(call(1), other, call(3))
    assert (found.rows, sorted(found.bunches)) == (3, [[1.0], [2.0], [3.0]])


def test_rows_of_a_model_without_rows_are_counted_call_by_call() -> None:
    counter = Counter()

    async def run() -> None:
        watching = RowSampler(counter, False)
        for number in range(3):
            watching.offer(call(number))
        watching.flush()

    asyncio.run(run())
    assert (counter.rows, sorted(counter.bunches)) == (3, [[0.0], [1.0], [2.0]])


def test_every_call_of_a_sample_that_waited_is_captured(tmp_path: Path) -> None:
    slot = Slot.in_process()
    writer = CaptureWriter(tmp_path, ("m", "1"), (Columns((), True), Columns((), True)), ())

    async def run() -> None:
        watching = RowSampler(Counter(), True, capture=Capture(writer, 1.0, slot.block(1)))
        for number in range(MAX_CALLS):
            watching.offer(call(number))
        watching.close()

    asyncio.run(run())
    counts = Totals.of([slot], 1).capture()
    assert (counts["captured"], counts["dropped"]) == (MAX_CALLS, 0)
