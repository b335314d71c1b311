"""Hands what went into a version and came out of it to whoever counts it: in bunches, some milliseconds later.

Nothing here is on a caller's road: a bunch has a bound, and what is beyond it is dropped and counted.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from penstock.core.tensors import Tensor
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


class RowWatch:
    """One version's; lives on the event loop."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._bunch: list[Exchange] = []
        self._rows = 0

    def offer(self, call: Call) -> None:
        """Take an answered call; quick, and never fails."""
        if not self._rows:
            asyncio.get_running_loop().call_later(BUNCH_S, self._count)
        if self._rows >= MOST_ROWS:
            self._counter.drop(call.rows)
            return
        self._rows += call.rows
        outputs = call.outputs if call.wishes is None else []
        self._bunch.append((call.tensors, outputs))

    def _count(self) -> None:
        bunch, self._bunch, self._rows = self._bunch, [], 0
        try:
            self._counter.count(bunch)
        except Exception:  # a bug here must not be felt by anybody
            log.exception("rows could not be counted")


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
