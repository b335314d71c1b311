"""What observers hold for a moment counts in the worker's memory budget; what does not fit is dropped and counted."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic_ns

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.tensors import Tensor
from penstock.engine.model import RunInterrupt
from penstock.monitor.counters.slot import Slot
from penstock.monitor.counters.totals import Totals
from penstock.monitor.rows import InputsAndOutputs, rows_of
from penstock.serving.infer_call import InferCall
from penstock.serving.memory_budget import MemoryBudget
from penstock.serving.observers.output_bins import MAX_CALLS as MAX_OUTPUTS
from penstock.serving.observers.output_bins import OutputBinCounter
from penstock.serving.observers.row_sampler import MAX_CALLS, RowSampler
from penstock.serving.observers.shadow import MAX_BYTES, MAX_WAITING, ShadowExecutor, ShadowSampler
from penstock.serving.requested_outputs import RequestedOutput
from penstock.serving.version_info import VersionIdentity
from tests.calls import answered, nobody
from tests.harness import PATIENCE_S, reached


def call_of(rows: int = 1, width: int = 25) -> InferCall:
    """A call of 100 bytes a row and as many in its answer, unless it is wider."""
    data = np.zeros((rows, width), np.float32)
    call = answered([Tensor("y", "FP32", data)], "id", [Tensor("x", "FP32", data)], rows)
    call.output_bytes = data.nbytes
    return call


class Counter:
    def __init__(self) -> None:
        self.rows = self.dropped = 0

    def count(self, exchanges: Sequence[InputsAndOutputs]) -> None:
        self.rows += sum(rows_of(inputs) for inputs, _ in exchanges)

    def drop(self, rows: int) -> None:
        self.dropped += rows


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def scenario() -> None:
        await story()

    asyncio.run(scenario())


def test_a_sampler_holds_what_it_may_and_counts_the_rest_as_dropped() -> None:
    memory, counter = MemoryBudget(2000), Counter()

    async def story() -> None:
        sampler = RowSampler(counter, memory=memory)
        for _ in range(8):
            sampler.offer(call_of())
        assert memory.used == 1000  # five of them; the other half is for callers
        sampler.flush()
        assert memory.used == 0

    run(story)
    assert (counter.rows, counter.dropped) == (5, 3)


@settings(deadline=None)
@given(st.lists(st.integers(1, 6), max_size=3 * MAX_CALLS), st.integers(0, 20_000))
def test_every_row_is_counted_or_dropped_and_every_byte_given_back(sizes: list[int], limit: int) -> None:
    memory, counter = MemoryBudget(limit), Counter()

    async def story() -> None:
        sampler = RowSampler(counter, memory=memory)
        for number, rows in enumerate(sizes):
            sampler.offer(call_of(rows))
            assert memory.used == sum(sampler._sizes) <= limit
            if number == MAX_CALLS:
                sampler.flush()
        sampler.close()
        sampler.offer(call_of())  # nobody takes it any more
        assert memory.used == 0

    run(story)
    assert counter.rows + counter.dropped == sum(sizes)


class Shadowed:
    """A shadow whose runs wait until they are let through."""

    def __init__(self, limit: int) -> None:
        self.slot, self.memory, self.gate = Slot.in_process(), MemoryBudget(limit), threading.Event()
        self.executor = ShadowExecutor(
            VersionIdentity("m", "2"), self.slot.block(1), self._rerun, self.memory, lambda: 0.0
        )

    def _rerun(self, call: InferCall, _: RunInterrupt) -> tuple[list[Tensor], int]:
        assert self.gate.wait(PATIENCE_S)
        return call.outputs, 1

    def counted(self) -> dict[str, float]:
        return Totals.of([self.slot], 1).shadow()

    async def settled(self) -> None:
        self.gate.set()
        await reached(lambda: not self.memory.used)


def test_mirrored_calls_are_dropped_where_the_budget_has_no_capacity() -> None:
    shadowed = Shadowed(2000)

    async def story() -> None:
        for _ in range(8):
            call = call_of()
            call.started_ns = call.ran_ns = monotonic_ns()
            shadowed.executor.offer(call)
        assert shadowed.memory.used == 1000
        assert shadowed.counted()["dropped"] == 3
        await asyncio.sleep(0)  # they are handed to the thread
        await shadowed.settled()
        shadowed.executor.close()

    run(story)
    found = shadowed.counted()
    assert (found["mirrored"], found["pairs"], found["dropped"]) == (8, 5, 3)


def test_a_shadow_has_a_bound_of_its_own() -> None:
    shadowed = Shadowed(1 << 40)

    async def story() -> None:
        for _ in range(3):
            shadowed.executor.offer(call_of(1, MAX_BYTES // 4 // 4))  # half of it each, with the answer
        assert shadowed.memory.used <= MAX_BYTES
        shadowed.executor.close()
        shadowed.executor.offer(call_of())  # too late
        await asyncio.sleep(0)
        await shadowed.settled()

    run(story)
    assert shadowed.counted()["dropped"] == 2


@pytest.mark.parametrize(("waiting", "sheds", "dropped"), [(0, False, 0), (MAX_WAITING, False, 1), (0, True, 1)])
def test_a_sampler_of_shadows_offers_what_has_capacity_while_nobody_is_refused(
    waiting: int, sheds: bool, dropped: int
) -> None:
    shadowed = Shadowed(1 << 30)

    async def story() -> None:
        shadowed.executor.taken = waiting
        ShadowSampler(shadowed.executor, 1.0, lambda: sheds).offer(call_of())
        ShadowSampler(shadowed.executor, 0.0, lambda: sheds).offer(call_of())  # none of its calls
        assert shadowed.executor.taken == waiting + 1 - dropped

    run(story)
    assert shadowed.counted()["dropped"] == dropped


def test_outputs_of_one_turn_are_counted_as_the_model_gave_them() -> None:
    counter = OutputBinCounter(nobody())  # it has no outputs, so that nothing is counted of these

    async def story() -> None:
        texts = call_of()
        texts.requested = [RequestedOutput("y", 2)]
        counter.offer(texts)
        assert counter._outputs == [texts.outputs]
        for _ in range(MAX_OUTPUTS + 5):
            counter.offer(call_of())
        assert len(counter._outputs) == MAX_OUTPUTS
        await asyncio.sleep(0)
        assert counter._outputs == []

    run(story)
