"""Runs a shadow version on answered requests, compares the outputs, and counts; callers never notice.

What is offered waits in a bounded queue for a thread of the shadow's own, and is dropped when the queue is full. Under
load the thread holds itself back: what it costs the event loop stays a small share of the loop's time.
"""

import asyncio
import heapq
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from queue import SimpleQueue
from random import random
from typing import Any

from penstock.core.pairs import OutputDifference, compare
from penstock.core.tensors import Tensor
from penstock.core.texts import shorten
from penstock.engine.model import RunInterrupt
from penstock.engine.threads import BACKGROUND, lower_priority
from penstock.monitor.counters.block_writer import BlockWriter
from penstock.monitor.value_masks import NO_MASK, RequestMask
from penstock.serving.infer_call import InferCall
from penstock.serving.memory_budget import MemoryBudget
from penstock.serving.version_info import VersionIdentity

log = logging.getLogger("penstock.serving")

MAX_WAITING = 64
MAX_BYTES = 32 << 20
"""Limits of the queue of one shadow: requests, and bytes of their inputs and outputs."""

DEADLINE_NS = 2_000_000_000
"""Time after which a shadow's run is stopped; a run that would begin this long after the answer is skipped."""

LOOK_S = 0.1
SAMPLES = 16
SAMPLE_ELEMENTS = 4096
"""Maximum bytes of inputs and outputs to keep as samples."""

IDLE_SHARE, BUSY_SHARE = 0.25, 0.005
IDLE, BUSY = 0.25, 0.75
"""What part of the time the thread may hold the interpreter while the event loop is less busy than ``IDLE`` or busier
than ``BUSY``; in between, in proportion."""

HANDOVER_NS = 300_000
"""Extra cost of the thread on a busy event loop: the interpreter switches to it and back."""

LONGEST_REST_S = 1.0

LoadOf = Callable[[], float]
"""Returns how busy the event loop is, 0 to 1."""

Rerun = Callable[[InferCall, RunInterrupt], tuple[list[Tensor], int]]
"""Returns the outputs of this version for another version's call, and the nanoseconds its model took."""


RecordPair = Callable[[InferCall, VersionIdentity, int, bool], None]
"""Records that this version has answered another's call: when it began, and whether the answers disagree."""


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A request with different answers of the two versions, as JSON values."""

    badness: float
    request: dict[str, Any]


def share_at(load: float) -> float:
    """Return the share of the time that a shadow's thread may hold the interpreter when the event loop is this busy."""
    idle = min(1.0, max(0.0, (BUSY - load) / (BUSY - IDLE)))
    return BUSY_SHARE + (IDLE_SHARE - BUSY_SHARE) * idle


class ShadowSampler:
    """Offers a share of the calls that one version answered to the shadow; a ``CallObserver``.

    ``sheds`` says whether that version had to reject callers lately.
    """

    __slots__ = ("_executor", "_share", "_sheds")

    def __init__(self, executor: "ShadowExecutor", share: float, sheds: Callable[[], bool]) -> None:
        self._executor = executor
        self._share = share
        self._sheds = sheds

    def offer(self, call: InferCall) -> None:
        """Offer a random share of calls; a call is dropped if the queue is full, or while callers are rejected."""
        if self._share < 1.0 and random() >= self._share:
            return
        executor = self._executor
        if executor.taken - executor.ended >= MAX_WAITING or self._sheds():
            executor.drop()
        else:
            executor.offer(call)


class ShadowExecutor:
    """The executor of one shadow; ``offer`` belongs to the event loop, the rest of the work to a thread of its own.

    What waits for the thread counts in the worker's memory budget, inputs and outputs. ``record`` traces the pairs, on
    the thread (None: nothing is traced).
    """

    def __init__(
        self, identity: VersionIdentity, block: BlockWriter, rerun: Rerun, memory: MemoryBudget, load: LoadOf
    ) -> None:
        self.identity = identity
        self.changed = False
        self.drop = block.count_mirror_dropped
        self.record: RecordPair | None = None
        self.taken = self._taken_bytes = self._returned_bytes = 0  # the loop's
        self.ended = self._ended_bytes = 0  # the thread's
        self._block = block
        self._rerun = rerun
        self._memory = memory
        self._load = load
        self._arrived: list[InferCall] = []
        self._queue: SimpleQueue[InferCall | None] = SimpleQueue()
        self._running: tuple[int, RunInterrupt] | None = None
        self._thread: threading.Thread | None = None
        self._watching = False
        self._closing = False
        self._worst: list[tuple[float, int, Disagreement]] = []
        self._numbers = count()
        self._mask = NO_MASK

    # The event loop's side.

    def offer(self, call: InferCall) -> None:
        """Queue a call for a second run, or drop it; never waits and never raises."""
        self._return_memory()
        size = _measure_call(call)
        if (
            self._closing
            or self._taken_bytes - self._ended_bytes + size > MAX_BYTES
            or not self._memory.take_spare(size)
        ):
            self.drop()
            return
        self._block.count_mirrored()
        self.taken += 1
        self._taken_bytes += size
        if not self._arrived:
            asyncio.get_running_loop().call_soon(self._pass_on)  # after the answers of this turn are written
        self._arrived.append(call)

    def close(self) -> None:
        """End the thread; waiting calls count as missed."""
        self._closing = True
        self._pass_on()
        if (running := self._running) is not None:
            running[1].stop()
        self._queue.put(None)

    def set_mask(self, mask: RequestMask) -> None:
        """Set what samples leave out, and drop those with another mask."""
        self._mask, self._worst = mask, []
        self.changed = True

    def worst(self) -> list[Disagreement]:
        """Return the requests with the largest differences."""
        self.changed = False
        return [sample for _, _, sample in sorted(self._worst, reverse=True)]

    def _pass_on(self) -> None:
        arrived, self._arrived = self._arrived, []
        if self._thread is None and arrived:
            self._thread = threading.Thread(target=self._work, name="penstock-shadow", daemon=True)
            self._thread.start()
        for call in arrived:
            self._queue.put(call)
        if arrived and not self._watching:
            self._watch()

    def _watch(self) -> None:
        """Stop a run that takes too long, and release the memory of ended runs; repeat while any are left."""
        self._return_memory()
        running = self._running
        if running is not None and time.monotonic_ns() - running[0] > DEADLINE_NS:
            running[1].stop()
        self._watching = self._returned_bytes < self._taken_bytes
        if self._watching:
            asyncio.get_running_loop().call_later(LOOK_S, self._watch)

    def _return_memory(self) -> None:
        ended = self._ended_bytes
        if ended != self._returned_bytes:
            self._memory.give_back(ended - self._returned_bytes)
            self._returned_bytes = ended

    # The thread's side.

    def _work(self) -> None:
        lower_priority(BACKGROUND)
        while (call := self._queue.get()) is not None:
            began, elsewhere = time.monotonic_ns(), 0
            try:
                elsewhere = self._pair(call, began)
            except Exception:
                log.exception("a shadow could not be compared", extra={"fields": call.log_fields})
            self._ended_bytes += _measure_call(call)
            self.ended += 1
            held = time.monotonic_ns() - began - elsewhere
            del call
            if not self._closing:
                load = self._load()
                cost = held + HANDOVER_NS * load
                time.sleep(min(LONGEST_REST_S, cost * (1 / share_at(load) - 1) / 1e9))

    def _pair(self, call: InferCall, began: int) -> int:
        """Run and compare one call; return its nanoseconds in which the interpreter was free, 0 if unknown."""
        block = self._block
        if self._closing or began - call.ran_ns > DEADLINE_NS:
            block.add_shadow("missed")
            return 0
        interrupt = RunInterrupt()
        self._running = began, interrupt
        try:
            outputs, took = self._rerun(call, interrupt)
            difference = compare(call.outputs, outputs)
        except Exception:  # a fault, or whatever else a model does
            block.add_shadow("missed")
            return 0
        finally:
            self._running = None
        if self.record is not None:
            self.record(call, self.identity, began, difference.disagrees)
        if difference.disagrees:
            self._keep(call, outputs, difference)  # first: the sample of a pair that is counted can be read
        self._count(call, difference, took)
        return took

    def _count(self, call: InferCall, difference: OutputDifference, took: int) -> None:
        block = self._block
        block.add_shadow("primary_ns", call.ran_ns - call.started_ns)
        block.add_shadow("shadow_ns", took)
        block.add_shadow("rows", call.rows)
        block.add_shadow("flips", difference.flips)
        block.add_shadow("elements", difference.elements)
        block.add_shadow_difference(difference.sum_abs, difference.max_abs)
        if difference.disagrees:
            block.add_shadow("disagreements")
        block.add_shadow("pairs")

    def _keep(self, call: InferCall, outputs: list[Any], difference: OutputDifference) -> None:
        badness = difference.flips + difference.max_abs
        if len(self._worst) >= SAMPLES and badness <= self._worst[0][0]:
            return
        if sum(tensor.data.size for tensor in (*call.tensors, *call.outputs, *outputs)) > SAMPLE_ELEMENTS:
            return
        mask = self._mask
        request = {
            "id": shorten(call.id),
            "version": call.loaded.identity.version,
            "trace_id": "" if call.trace is None else call.trace.exported_id,
            "inputs": [tensor.to_json() for tensor in mask.inputs.apply(call.tensors)],
            "outputs": [tensor.to_json() for tensor in mask.outputs.apply(call.outputs)],
            "shadow_outputs": [tensor.to_json() for tensor in mask.outputs.apply(outputs)],
            "max_abs_diff": difference.max_abs,
            "flips": difference.flips,
        }
        entry = badness, next(self._numbers), Disagreement(badness, request)
        if mask is not self._mask:
            return
        if len(self._worst) < SAMPLES:
            heapq.heappush(self._worst, entry)
        else:
            heapq.heapreplace(self._worst, entry)
        self.changed = True


def _measure_call(call: InferCall) -> int:
    return call.input_bytes + call.output_bytes
