"""Passes inputs and outputs of a version to counters, answer logs and captures: in batches, milliseconds later.

No caller waits for this. A batch holds a bounded number of calls; of more, each has the same chance to be in it, and
the others are counted as dropped. While there are more, batches are made less often, so that a busy worker pays little
and what it counts of calls of one size has no bias; of calls too large to be counted together the first one is. The
bytes that a batch holds count in the worker's memory budget; a call that does not fit is dropped.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from random import random
from typing import Any, Final, Protocol

import numpy as np

from penstock.core.tensors import Tensor
from penstock.monitor.answer_segments import MOST_ROWS, AnswerWriter
from penstock.monitor.answers import answers_of
from penstock.monitor.capture import MOST_OF_A_BATCH
from penstock.monitor.counters.layout import SPLIT_SERIES
from penstock.monitor.rows import InputsAndOutputs, rows_of
from penstock.serving.infer_call import InferCall
from penstock.serving.memory_budget import DEFAULT_MEMORY_BYTES, MemoryBudget
from penstock.serving.observers.capture import Capture
from penstock.serving.observers.missing_values import mark_missing

log = logging.getLogger("penstock.serving")

PAUSE_S, LONGEST_PAUSE_S = 0.02, 0.32
"""Seconds between two batches: the shortest interval, and that of a worker without spare time."""

MOST_WAITS: Final = 3
"""How many intervals more a batch may wait for calls, since most of its cost does not depend on their number. Feedback
that comes through another worker looks for an answer again within 220 ms."""

MAX_CALLS: Final = 128
"""Maximum calls of a batch in each interval: all calls up to some thousands a second."""

MAX_CELLS: Final = 100_000
"""Maximum numbers of a batch's inputs; above them it keeps one call, and counts a sample of its rows."""

WAIT_BYTES: Final = MAX_CELLS // 4
"""Maximum bytes of a batch that waits, so that those of its last interval fit too."""

MAX_ROW_CELLS: Final = 1 << 20
"""Maximum numbers of one row of a call, in and out; a call above it is not counted."""


class RowCollector(Protocol):
    """Collects rows that a reference is learned from."""

    def gather(self, calls: Sequence[InferCall], inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        """Sample rows of calls, and their stacked inputs and outputs."""

    def publish_baseline(self) -> None:
        """Publish the collected rows, however few."""


class RowObserver(Protocol):
    """Counts rows."""

    def count(self, exchanges: Sequence[InputsAndOutputs]) -> None:
        """Count the rows of some requests and their answers."""

    def drop(self, rows: int) -> None:
        """Count rows that were dropped for lack of memory or time."""


class RowKeeper(Protocol):
    """Keeps a few rows of inputs."""

    def offer(self, inputs: Sequence[Tensor]) -> None:
        """Keep some rows of the stacked inputs of one or several requests."""


class RowKeepers:
    """Offers rows to two keepers."""

    def __init__(self, first: RowKeeper, second: RowKeeper) -> None:
        self._first = first
        self._second = second

    def offer(self, inputs: Sequence[Tensor]) -> None:
        """See ``RowKeeper``."""
        self._first.offer(inputs)
        self._second.offer(inputs)


class NullRowObserver:
    """Counts nothing: for versions without space for their counters."""

    def count(self, exchanges: Sequence[InputsAndOutputs]) -> None:
        """See ``RowObserver``."""

    def drop(self, rows: int) -> None:
        """See ``RowObserver``."""


class RowSampler:
    """The sampler of one version; lives on the event loop.

    ``batching``: the first axis of its tensors is rows. The ``collector`` gathers rows to learn a reference from.
    ``hidden`` names outputs that are masked: they are not remembered as answers. ``keeper`` keeps some rows of inputs.
    """

    def __init__(
        self,
        counter: RowObserver,
        batching: bool = True,
        answers: AnswerWriter | None = None,
        capture: Capture | None = None,
        memory: MemoryBudget | None = None,
        collector: RowCollector | None = None,
        hidden: Sequence[str] = (),
        keeper: RowKeeper | None = None,
    ) -> None:
        self._counter = counter
        self._keeper = keeper
        self._collector = collector
        self._batching = batching
        self._answers = answers
        self._hidden = frozenset(hidden)
        self._capture = capture
        self._memory = memory or MemoryBudget(DEFAULT_MEMORY_BYTES)
        self._calls: list[InferCall] = []
        self._sizes: list[int] = []
        self._offered = 0
        self._rows = 0
        self._capacity = MAX_CALLS
        self._waits = 0
        self._pause = PAUSE_S
        self._work: list[Callable[[], None]] = []
        self._closed = False

    def offer(self, call: InferCall) -> None:
        """See ``CallObserver``."""
        if self._closed:
            return
        if not self._offered:
            asyncio.get_running_loop().call_later(self._pause, self._begin)
        self._offered += 1
        self._rows += call.rows
        index = len(self._calls) if self._offered <= self._capacity else int(random() * self._offered)
        if index < self._capacity:
            self._keep(index, call)

    def flush(self) -> None:
        """Count and store waiting calls immediately."""
        self._divide()
        while self._work:
            self._work.pop(0)()

    def publish_baseline(self) -> None:
        """Publish the rows that were collected for a reference, however few."""
        if self._collector is not None:
            self.flush()
            self._collector.publish_baseline()

    def close(self) -> None:
        """Count waiting calls, then accept no more."""
        self.flush()
        self._closed = True
        for end in (self._answers, self._capture):
            if end is not None:
                end.close()

    def _keep(self, index: int, call: InferCall) -> None:
        """Hold a call at an index of the batch, in place of the call that has it."""
        size = call.input_bytes + call.output_bytes
        if not self._memory.take_spare(size):
            return
        if index >= len(self._calls):
            self._calls.append(call)
            self._sizes.append(size)
            return
        self._memory.give_back(self._sizes[index])
        self._calls[index], self._sizes[index] = call, size

    def _begin(self) -> None:
        if self._may_wait():
            self._waits += 1
            self._capacity = self._offered + MAX_CALLS
            asyncio.get_running_loop().call_later(self._pause, self._begin)
            return
        if self._offered > self._capacity:
            self._pause = min(LONGEST_PAUSE_S, 2 * self._pause)
        elif self._offered < MAX_CALLS // 2:
            self._pause = max(PAUSE_S, self._pause / 2)
        self._divide()
        self._run_next_piece()

    def _may_wait(self) -> bool:
        """Whether the batch is less than half full, and may wait for more calls."""
        return (
            0 < self._offered < MAX_CALLS // 2
            and self._waits < MOST_WAITS
            and self._pause <= PAUSE_S
            and sum(self._sizes) <= WAIT_BYTES
        )

    def _run_next_piece(self) -> None:
        """Do one piece of the work in each turn of the loop, so that no caller waits for all of it."""
        if self._work:
            self._work.pop(0)()
        if self._work:
            asyncio.get_running_loop().call_soon(self._run_next_piece)

    def _divide(self) -> None:
        """Split the work on the offered calls into pieces."""
        calls, rows, size = self._calls, self._rows, sum(self._sizes)
        self._calls, self._sizes, self._offered, self._rows = [], [], 0, 0
        self._capacity, self._waits = MAX_CALLS, 0
        calls = _calls_within_time([call for call in calls if _row_cells(call) <= MAX_ROW_CELLS])
        dropped = rows - sum([call.rows for call in calls])
        if dropped:
            self._counter.drop(dropped)
        if not calls:
            self._memory.give_back(size)
            return
        for alike, given, outputs in self._group_alike(calls):
            inputs = mark_missing(alike, given) if any(call.defaulted for call in alike) else given
            if self._collector is not None:
                self._work.append(partial(_run_safely, self._collector.gather, alike, inputs, outputs))
            if self._keeper is not None:
                self._work.append(partial(_run_safely, self._keeper.offer, inputs))
            self._work.append(partial(_run_safely, self._count, inputs, outputs))
            if self._answers is not None:
                self._work.append(partial(_run_safely, self._remember, alike, outputs))
        if self._capture is not None:
            for start in range(0, len(calls), MOST_OF_A_BATCH):
                piece = calls[start : start + MOST_OF_A_BATCH]
                self._work.append(partial(_run_safely, self._capture.take, piece))
        self._work.append(partial(self._memory.give_back, size))

    def _count(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        if self._batching:
            inputs, outputs, left_out = _some_rows(inputs, outputs)
            if left_out:
                self._counter.drop(left_out)
        self._counter.count([(inputs, outputs)])

    def _remember(self, calls: Sequence[InferCall], outputs: Sequence[Tensor]) -> None:
        if self._hidden:
            outputs = [output for output in outputs if output.name not in self._hidden]
        if self._answers is None or not outputs:
            return
        sizes = [call.rows for call in calls]
        if len(calls) == 1 and sizes[0] > MOST_ROWS and self._batching:
            sizes = [MOST_ROWS]
            outputs = [Tensor(output.name, output.datatype, output.data[:MOST_ROWS]) for output in outputs]
        answers = answers_of(outputs, self._batching)
        if answers is not None and len(answers.values) == sum(sizes):
            by_split = [call.series < SPLIT_SERIES and call.judged for call in calls]
            self._answers.add([call.id for call in calls], sizes, answers, by_split)

    def _group_alike(
        self, calls: Sequence[InferCall]
    ) -> Sequence[tuple[Sequence[InferCall], Sequence[Tensor], Sequence[Tensor]]]:
        """Group calls whose tensors can be stacked; others are groups of their own."""
        if len(calls) > 1 and self._batching:
            inputs = _stack([call.tensors for call in calls])
            outputs = None if inputs is None else _stack([call.outputs for call in calls])
            if inputs is not None and outputs is not None:
                return [(calls, inputs, outputs)]
        return [([call], call.tensors, call.outputs) for call in calls]


def _calls_within_time(calls: list[InferCall]) -> list[InferCall]:
    """Return as many calls as can be counted without a stall of the loop, and always the first."""
    calls_kept, cells = calls[:1], sum([tensor.data.size for call in calls[:1] for tensor in call.tensors])
    for call in calls[1:]:
        size = sum([tensor.data.size for tensor in call.tensors])
        if cells + size <= MAX_CELLS:
            calls_kept.append(call)
            cells += size
    return calls_kept


def _row_cells(call: InferCall) -> int:
    """Return the numbers of a row of a call, in and out."""
    cells = sum([tensor.data.size for tensor in call.tensors]) + sum([tensor.data.size for tensor in call.outputs])
    return cells // max(1, call.rows)


def _some_rows(inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> tuple[Sequence[Tensor], Sequence[Tensor], int]:
    """Return evenly spaced rows of one call from a random one on, as many as can be counted in one step, and the number
    of the others.
    """
    cells = sum([tensor.data.size for tensor in (*inputs, *outputs)])
    step = -(-cells // MAX_CELLS)
    rows = rows_of(inputs)
    if step < 2 or rows < 2 or any(tensor.data.shape[:1] != (rows,) for tensor in (*inputs, *outputs)):
        return inputs, outputs, 0
    first = int(random() * min(step, rows))
    rows_kept = -(-(rows - first) // step)
    return _rows_from(inputs, first, step), _rows_from(outputs, first, step), rows - rows_kept


def _rows_from(tensors: Sequence[Tensor], first: int, step: int) -> list[Tensor]:
    return [Tensor(tensor.name, tensor.datatype, tensor.data[first::step]) for tensor in tensors]


def _run_safely(work: Callable[..., None], *arguments: Any) -> None:
    try:
        work(*arguments)
    except Exception:  # a bug here must not be felt by anybody
        log.exception("rows could not be counted")


def _stack(requests: Sequence[Sequence[Tensor]]) -> Sequence[Tensor] | None:
    """Stack the same tensors of all requests; return None if they differ."""
    first = requests[0]
    names = [tensor.name for tensor in first]
    if any([tensor.name for tensor in request] != names for request in requests):
        return None
    try:
        stacked = [np.concatenate([request[index].data for request in requests]) for index in range(len(names))]
    except ValueError:
        return None
    return [Tensor(tensor.name, tensor.datatype, data) for tensor, data in zip(first, stacked, strict=True)]
