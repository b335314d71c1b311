"""Streams with known changes, and without any, through the code that serves: how soon the monitor finds the ones, and
how often it is wrong about the others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from penstock.core.bins import Floats
from penstock.core.policies import MonitorPolicy
from penstock.core.signature import TensorSpec
from penstock.core.tensors import Tensor
from penstock.monitor.columns import Columns, input_columns, output_columns
from penstock.monitor.reference import TRAINING, Reference
from penstock.monitor.reference_builder import build
from penstock.monitor.rows import Counted, Exchange, Layout, RowCounter
from penstock.monitor.verdicts import VersionMonitor

FEATURES = 10
REFERENCE_ROWS = 10_000
LOOK_ROWS = 20
"""Rows between two looks: a gateway that answers twenty a second."""

CALM_ROWS = 2000
"""Rows without a change before one comes."""

BELONGING = 0.8
"""The correlation of the first two features."""

BUDGET = 100_000.0

Change = Callable[[np.random.Generator, Floats], Floats]
"""What a change makes of rows [rows, features]."""


@dataclass(frozen=True, slots=True)
class Case:
    """One question: what happens, and how many rows it may take to be found on average (None: nothing happens, and at
    most one alarm in the budget's rows is allowed). ``autocorrelation`` is that of neighbouring rows."""

    name: str
    change: Change | None = None
    within: int | None = None
    autocorrelation: float = 0.0


def _shifted(_: np.random.Generator, rows: Floats) -> Floats:
    rows[:, 2] += 0.5
    return rows


def _spread(_: np.random.Generator, rows: Floats) -> Floats:
    rows[:, 2] *= 1.5
    return rows


def _missing(generator: np.random.Generator, rows: Floats) -> Floats:
    rows[generator.random(len(rows)) < 0.05, 2] = np.nan
    return rows


def _flipped(_: np.random.Generator, rows: Floats) -> Floats:
    rows[:, 1] *= -1
    return rows


CASES = (
    Case("no change, independent rows"),
    Case("no change, autocorrelation 0.6", autocorrelation=0.6),
    Case("one of 10 features moves by half a standard deviation", _shifted, 200),
    Case("one of 10 features spreads by half", _spread, 200),
    Case("5 % of one feature go missing", _missing, 300),
    Case("a correlation of 0.8 turns round, its two features stay", _flipped, 500),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one stream: rows that were watched without a change, alarms among them, and the rows it took to find
    the change (None: there was none, or it was not found)."""

    calm_rows: int
    false_alarms: int
    delay: int | None = None


class Stream:
    """Rows of two features that belong together and others that do not, and a model's answers to them."""

    def __init__(self, seed: int, autocorrelation: float) -> None:
        self.generator = np.random.default_rng(seed)
        self._correlation = autocorrelation
        self._last = np.zeros(FEATURES)

    def rows(self, count: int, change: Change | None = None) -> Exchange:
        """Requests and answers of so many rows."""
        noise = self.generator.standard_normal((count, FEATURES))
        if self._correlation:
            for index in range(count):
                self._last = self._correlation * self._last + np.sqrt(1 - self._correlation**2) * noise[index]
                noise[index] = self._last
        rows = noise.copy()
        rows[:, 1] = BELONGING * noise[:, 0] + np.sqrt(1 - BELONGING**2) * noise[:, 1]
        if change is not None:
            rows = change(self.generator, rows)
        chance = 1 / (1 + np.exp(-np.nan_to_num(rows[:, :4].sum(axis=1))))
        scores = np.stack([1 - chance, chance], axis=1).astype(np.float32)
        return [Tensor("x", "FP32", rows.astype(np.float32))], [Tensor("scores", "FP32", scores)]


def columns() -> tuple[Columns, Columns]:
    """What is watched of the streams."""
    return (
        input_columns([TensorSpec("x", "FP32", (-1, FEATURES))], batching=True),
        output_columns([TensorSpec("scores", "FP32", (-1, 2))], batching=True),
    )


def run(case: Case, seed: int, budget: float = BUDGET, calm_rows: int = CALM_ROWS, most: int = 5000) -> Outcome:
    """One stream of a case: ``calm_rows`` first, then the change until it is found, or ``most`` rows of it."""
    watched = _Watched(Stream(seed, case.autocorrelation), budget)
    for _ in range(calm_rows // LOOK_ROWS):
        watched.look(None)
    false_alarms = watched.monitor.alarms
    if case.change is None:
        return Outcome(calm_rows, false_alarms)
    for look in range(1, most // LOOK_ROWS + 1):
        watched.look(case.change)
        if watched.monitor.alarms > false_alarms:
            return Outcome(calm_rows, false_alarms, look * LOOK_ROWS)
    return Outcome(calm_rows, false_alarms)


class _Watched:
    """A stream, and the monitor that watches it."""

    def __init__(self, stream: Stream, budget: float) -> None:
        self._stream = stream
        sides = columns()
        self._reference = _reference(stream, sides)
        self._cells = np.zeros(Layout.of(self._reference).size, np.uint64)
        self._counter = RowCounter(self._reference, self._cells, sides, 1.0)
        self._now = 0.0
        self.monitor = VersionMonitor(self._reference, MonitorPolicy(budget=budget), self._counted(), self._now)

    def look(self, change: Change | None) -> None:
        """Some rows, a second, and a look."""
        self._counter.count([self._stream.rows(LOOK_ROWS, change)])
        self._now += 1.0
        self.monitor.look(self._counted(), self._now)

    def _counted(self) -> Counted:
        return Counted.of(self._reference, [self._cells])


def _reference(stream: Stream, sides: tuple[Columns, Columns]) -> Reference:
    inputs, outputs = stream.rows(REFERENCE_ROWS)
    given, answered = sides[0](inputs), sides[1](outputs)
    if given is None:
        raise RuntimeError
    names = [[*side.numbers, *side.labels] for side in sides]
    return build((names[0], names[1]), given, answered, TRAINING)


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of all streams of a case; ``delay_error`` is the standard error of the mean delay."""

    case: Case
    streams: int
    calm_rows: int
    false_alarms: int
    found: int
    mean_delay: float | None
    delay_error: float
    budget: float

    @property
    def holds(self) -> bool:
        """Whether the monitor did what is asked of it."""
        few = self.false_alarms <= max(3.0, 1.5 * self.calm_rows / self.budget)
        if self.case.within is None:
            return few
        if self.mean_delay is None or self.found < self.streams:
            return False
        return few and self.mean_delay <= self.case.within + 2 * self.delay_error


def finding(case: Case, outcomes: Sequence[Outcome], budget: float = BUDGET) -> Finding:
    """Add a case's streams up."""
    delays = [one.delay for one in outcomes if one.delay is not None]
    return Finding(
        case,
        len(outcomes),
        sum(one.calm_rows for one in outcomes),
        sum(one.false_alarms for one in outcomes),
        len(delays),
        sum(delays) / len(delays) if delays else None,
        float(np.std(delays)) / len(delays) ** 0.5 if delays else 0.0,
        budget,
    )


def rows_of(case: Case) -> int:
    """Rows without a change of one stream: where nothing ever happens, there is more to watch."""
    return CALM_ROWS if case.within is not None else 5 * CALM_ROWS
