"""Hands what went into a version and came out of it to whoever counts or remembers it: in bunches, some milliseconds
later.

Nothing here is on a caller's road: a bunch holds so many calls at most; of more, each has the same chance to be in it,
and the others are counted as dropped. While there are more, bunches are made less often. So a busy worker pays little,
and what it counts of calls of one size has no bias; of calls too large to be counted together the first is.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from random import random
from typing import Any, Final, Protocol

import numpy as np

from penstock.core.labels import ROUTE_NAMES
from penstock.core.tensors import Tensor
from penstock.monitor.answers import MOST_ROWS, AnswerWriter, answers_of
from penstock.monitor.capture import CaptureWriter, Seen, Tally
from penstock.monitor.columns import Columns, Rows
from penstock.monitor.reference import SCORE_BINS, Sureness, score_bins, sure_of
from penstock.monitor.rows import Exchange
from penstock.serving.infer_call import InferCall

log = logging.getLogger("penstock.serving")

BUNCH_S, LONGEST_S = 0.01, 0.16
"""Times between two bunches: the usual one, and that of a worker with no time to spare."""

MOST_CALLS: Final = 64
"""Calls of a bunch: all of them up to some thousands a second."""

MOST_CELLS: Final = 100_000
"""Numbers of a bunch's inputs, beyond which it keeps one call: what is counted of that is a sample of its rows."""


class Counter(Protocol):
    """Whoever counts."""

    def count(self, bunch: Sequence[Exchange]) -> None:
        """Count the rows of some requests and their answers."""

    def drop(self, rows: int) -> None:
        """Rows that there was no room for."""


class Uncounted:
    """Counts nothing: for versions that there is no room to count."""

    def count(self, bunch: Sequence[Exchange]) -> None:
        """See ``Counter``."""

    def drop(self, rows: int) -> None:
        """See ``Counter``."""


class Capture:
    """Keeps a share of the requests as they were."""

    def __init__(self, writer: CaptureWriter, share: float, tally: Tally) -> None:
        self._writer = writer
        self._share = share
        self._tally = tally

    def take(self, calls: Sequence[InferCall]) -> None:
        """Keep some of these."""
        chosen = [call for call in calls if random() < self._share]
        if chosen:
            seen = [Seen(one.id, ROUTE_NAMES[one.route], one.tensors, _outputs(one)) for one in chosen]
            self._writer.write(seen, self._tally)

    def close(self) -> None:
        """Keep nothing more."""
        self._writer.close()


class RowSampler:
    """One version's; lives on the event loop. ``batching`` says that the first axis of its tensors is rows."""

    def __init__(
        self,
        counter: Counter,
        batching: bool = True,
        answers: AnswerWriter | None = None,
        capture: Capture | None = None,
    ) -> None:
        self._counter = counter
        self._batching = batching
        self._answers = answers
        self._capture = capture
        self._bunch: list[InferCall] = []
        self._offered = 0
        self._rows = 0
        self._pause = BUNCH_S
        self._left: list[Callable[[], None]] = []

    def offer(self, call: InferCall) -> None:
        """Take an answered call; quick, and never fails."""
        if not self._offered:
            asyncio.get_running_loop().call_later(self._pause, self._begin)
        self._offered += 1
        self._rows += call.rows
        if self._offered <= MOST_CALLS:
            self._bunch.append(call)
            return
        place = int(random() * self._offered)
        if place < MOST_CALLS:
            self._bunch[place] = call

    def flush(self) -> None:
        """Count and remember at once what waits."""
        self._divide()
        while self._left:
            self._left.pop(0)()

    def close(self) -> None:
        """Take nothing more, once what waits is counted."""
        self.flush()
        for end in (self._answers, self._capture):
            if end is not None:
                end.close()

    def _begin(self) -> None:
        if self._offered > MOST_CALLS:
            self._pause = min(LONGEST_S, 2 * self._pause)
        elif self._offered < MOST_CALLS // 2:
            self._pause = max(BUNCH_S, self._pause / 2)
        self._divide()
        self._go_on()

    def _go_on(self) -> None:
        """Do one piece of the work in each turn of the loop, so that no caller waits for all of it."""
        if self._left:
            self._left.pop(0)()
        if self._left:
            asyncio.get_running_loop().call_soon(self._go_on)

    def _divide(self) -> None:
        """Make pieces of work of what was offered."""
        bunch, rows, self._bunch, self._offered, self._rows = self._bunch, self._rows, [], 0, 0
        if not bunch:
            return
        bunch = _affordable(bunch)
        dropped = rows - sum([call.rows for call in bunch])
        if dropped:
            self._counter.drop(dropped)
        for calls, inputs, outputs in self._alike(bunch):
            self._left.append(partial(_safely, self._counter.count, [(inputs, outputs)]))
            if self._answers is not None:
                self._left.append(partial(_safely, self._remember, calls, outputs))
        if self._capture is not None:
            self._left.append(partial(_safely, self._capture.take, bunch))

    def _remember(self, calls: Sequence[InferCall], outputs: Sequence[Tensor]) -> None:
        if self._answers is None or not outputs:
            return
        sizes = [call.rows for call in calls]
        if len(calls) == 1 and sizes[0] > MOST_ROWS and self._batching:
            sizes = [MOST_ROWS]
            outputs = [Tensor(one.name, one.datatype, one.data[:MOST_ROWS]) for one in outputs]
        found = answers_of(outputs, self._batching)
        if found is not None and len(found.values) == sum(sizes):
            self._answers.add([call.id for call in calls], sizes, found)

    def _alike(
        self, bunch: Sequence[InferCall]
    ) -> Sequence[tuple[Sequence[InferCall], Sequence[Tensor], Sequence[Tensor]]]:
        """Calls whose tensors lie one below the other; each by itself where they are not alike."""
        if len(bunch) > 1 and self._batching:
            inputs = _stacked([call.tensors for call in bunch])
            outputs = None if inputs is None else _stacked([_outputs(call) for call in bunch])
            if inputs is not None and outputs is not None:
                return [(bunch, inputs, outputs)]
        return [([call], call.tensors, _outputs(call)) for call in bunch]


def _affordable(bunch: list[InferCall]) -> list[InferCall]:
    """As many calls as can be counted without holding the loop up, and always the first."""
    kept, cells = bunch[:1], sum([tensor.data.size for tensor in bunch[0].tensors])
    for call in bunch[1:]:
        size = sum([tensor.data.size for tensor in call.tensors])
        if cells + size <= MOST_CELLS:
            kept.append(call)
            cells += size
    return kept


def _safely(work: Callable[..., None], *arguments: Any) -> None:
    try:
        work(*arguments)
    except Exception:  # a bug here must not be felt by anybody
        log.exception("rows could not be counted")


def _outputs(call: InferCall) -> list[Tensor]:
    """What was answered; classes that the protocol has turned into texts are left out."""
    texts = call.requested is not None and any(requested_output.classes for requested_output in call.requested)
    return [] if texts else call.outputs


def _stacked(requests: Sequence[Sequence[Tensor]]) -> Sequence[Tensor] | None:
    """The same tensors of all requests one below the other; None where they are not the same."""
    first = requests[0]
    names = [tensor.name for tensor in first]
    if any([tensor.name for tensor in one] != names for one in requests):
        return None
    try:
        stacked = [np.concatenate([one[index].data for one in requests]) for index in range(len(names))]
    except ValueError:
        return None
    return [Tensor(tensor.name, tensor.datatype, data) for tensor, data in zip(first, stacked, strict=True)]


Learned = Callable[[list[Rows], list[Rows], Sureness | None], None]
"""Takes the rows of requests and of answers that were gathered, and how sure the answers were."""

MOST_GATHERED_BYTES: Final = 4 << 20


class BaselineCollector:
    """Gathers the first rows of a version that has no reference, and hands them over once there are enough."""

    def __init__(self, columns: tuple[Columns, Columns], enough: int, learned: Learned) -> None:
        self._inputs, self._outputs = columns
        self._enough = enough
        self._learned = learned
        self._gathered: tuple[list[Rows], list[Rows]] = [], []
        self._rows = 0
        self._classes = 0
        self._sure = np.zeros(SCORE_BINS, np.intp)
        self._done = False

    def count(self, bunch: Sequence[Exchange]) -> None:
        """See ``Counter``."""
        for inputs, outputs in () if self._done else bunch:
            self._take(inputs, outputs)
            if self._rows >= self._enough or self._rows * self._width >= MOST_GATHERED_BYTES:
                self._done = True
                self._learned(*self._gathered, self._sureness())
                self._gathered = [], []
                return

    def drop(self, rows: int) -> None:
        """See ``Counter``: rows that were not gathered are missed by nobody."""

    @property
    def _width(self) -> int:
        return 8 * (len(self._inputs.numbers) + len(self._outputs.numbers)) + 32 * len(self._inputs.labels)

    def _take(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        given, answered = self._inputs(inputs), self._outputs(outputs)
        if given is not None and answered is not None and len(given) == len(answered):
            self._gathered[0].append(given)
            self._gathered[1].append(answered)
            self._rows += len(given)
            self._take_scores(outputs)

    def _take_scores(self, outputs: Sequence[Tensor]) -> None:
        scores = self._outputs.scores(outputs)
        sure = None if scores is None or scores.shape[1] < 2 else sure_of(scores)
        if scores is None or sure is None:
            self._classes = -1  # no probabilities, once and for all
        elif self._classes >= 0:
            self._classes = scores.shape[1]
            self._sure += np.bincount(score_bins(sure), minlength=SCORE_BINS)

    def _sureness(self) -> Sureness | None:
        return Sureness(self._classes, tuple(self._sure.tolist())) if self._classes > 0 else None
