"""Hands what went into a version and came out of it to whoever counts or remembers it: in bunches, some milliseconds
later.

Nothing here is on a caller's road: a bunch has a bound, and what is beyond it is dropped and counted.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from random import random
from typing import Protocol

import numpy as np

from penstock.core.labels import ROUTE_NAMES
from penstock.core.tensors import Tensor
from penstock.monitor.answers import AnswerWriter, answers_of
from penstock.monitor.capture import CaptureWriter, Seen, Tally
from penstock.monitor.columns import Columns, Rows
from penstock.monitor.rows import Exchange
from penstock.serving.calls import Call

log = logging.getLogger("penstock.serving")

BUNCH_S = 0.01
MOST_ROWS = 2048
"""Rows that wait to be counted at most."""


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

    def take(self, calls: Sequence[Call]) -> None:
        """Keep some of these."""
        chosen = [call for call in calls if random() < self._share]
        if chosen:
            seen = [Seen(one.id, ROUTE_NAMES[one.route], one.tensors, _outputs(one)) for one in chosen]
            self._writer.write(seen, self._tally)

    def close(self) -> None:
        """Keep nothing more."""
        self._writer.close()


class RowWatch:
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
        self._bunch: list[Call] = []
        self._rows = 0

    def offer(self, call: Call) -> None:
        """Take an answered call; quick, and never fails."""
        if not self._rows:
            asyncio.get_running_loop().call_later(BUNCH_S, self.flush)
        if self._rows >= MOST_ROWS:
            self._counter.drop(call.rows)
            return
        self._rows += call.rows
        self._bunch.append(call)

    def flush(self) -> None:
        """Count and remember what waits."""
        bunch, self._bunch, self._rows = self._bunch, [], 0
        if not bunch:
            return
        try:
            for calls, inputs, outputs in self._alike(bunch):
                self._counter.count([(inputs, outputs)])
                self._remember(calls, outputs)
            if self._capture is not None:
                self._capture.take(bunch)
        except Exception:  # a bug here must not be felt by anybody
            log.exception("rows could not be counted")

    def close(self) -> None:
        """Take nothing more, once what waits is counted."""
        self.flush()
        for end in (self._answers, self._capture):
            if end is not None:
                end.close()

    def _remember(self, calls: Sequence[Call], outputs: Sequence[Tensor]) -> None:
        if self._answers is None or not outputs:
            return
        found = answers_of(outputs, self._batching)
        sizes = [call.rows for call in calls]
        if found is not None and len(found.values) == sum(sizes):
            self._answers.add([call.id for call in calls], sizes, found)

    def _alike(self, bunch: Sequence[Call]) -> Sequence[tuple[Sequence[Call], Sequence[Tensor], Sequence[Tensor]]]:
        """Calls whose tensors lie one below the other; each by itself where they are not alike."""
        if len(bunch) > 1 and self._batching:
            inputs = _stacked([call.tensors for call in bunch])
            outputs = None if inputs is None else _stacked([_outputs(call) for call in bunch])
            if inputs is not None and outputs is not None:
                return [(bunch, inputs, outputs)]
        return [([call], call.tensors, _outputs(call)) for call in bunch]


def _outputs(call: Call) -> list[Tensor]:
    """What was answered; classes that the protocol has turned into texts are left out."""
    texts = call.wishes is not None and any(wish.classes for wish in call.wishes)
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


Learned = Callable[[list[Rows], list[Rows]], None]
"""Takes the rows of requests and of answers that were gathered."""

MOST_GATHERED_BYTES = 4 << 20


class Learner:
    """Gathers the first rows of a version that has no reference, and hands them over once there are enough."""

    def __init__(self, columns: tuple[Columns, Columns], enough: int, learned: Learned) -> None:
        self._inputs, self._outputs = columns
        self._enough = enough
        self._learned = learned
        self._gathered: tuple[list[Rows], list[Rows]] = [], []
        self._rows = 0
        self._done = False

    def count(self, bunch: Sequence[Exchange]) -> None:
        """See ``Counter``."""
        for inputs, outputs in () if self._done else bunch:
            self._take(inputs, outputs)
            if self._rows >= self._enough or self._rows * self._width >= MOST_GATHERED_BYTES:
                self._done = True
                self._learned(*self._gathered)
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
