"""Measures the monitor on generated streams through production code: the delay of detection on streams with a known
change, and the false alarms on streams without one."""

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
from penstock.monitor.rows import InputsAndOutputs, RegionCounts, RegionLayout, RowCounter
from penstock.monitor.verdicts import VersionMonitor

FEATURES = 10
REFERENCE_ROWS = 10_000
LOOK_ROWS = 20
"""Rows between two looks, as of a gateway with twenty requests a second."""

UNCHANGED_ROWS = 2000
"""Rows before the change."""

CORRELATION = 0.8
"""The correlation of the first two features."""

BUDGET = 100_000.0

StreamChange = Callable[[np.random.Generator, Floats], Floats]
"""Changes rows [rows, features]."""


@dataclass(frozen=True, slots=True)
class SelfTestCase:
    """One case: the change, and the greatest average number of rows to its detection (None: nothing changes, and at
    most one alarm in the budget's rows is allowed). ``autocorrelation`` is that of neighbouring rows."""

    name: str
    change: StreamChange | None = None
    within: int | None = None
    autocorrelation: float = 0.0


def _shift(_: np.random.Generator, rows: Floats) -> Floats:
    rows[:, 2] += 0.5
    return rows


def _spread(_: np.random.Generator, rows: Floats) -> Floats:
    rows[:, 2] *= 1.5
    return rows


def _drop_values(generator: np.random.Generator, rows: Floats) -> Floats:
    rows[generator.random(len(rows)) < 0.05, 2] = np.nan
    return rows


def _flip(_: np.random.Generator, rows: Floats) -> Floats:
    rows[:, 1] *= -1
    return rows


CASES = (
    SelfTestCase("no change, independent rows"),
    SelfTestCase("no change, autocorrelation 0.6", autocorrelation=0.6),
    SelfTestCase("one of 10 features moves by half a standard deviation", _shift, 200),
    SelfTestCase("one of 10 features spreads by half", _spread, 200),
    SelfTestCase("5 % of one feature go missing", _drop_values, 300),
    SelfTestCase("a correlation of 0.8 turns round, its two features stay", _flip, 500),
)


@dataclass(frozen=True, slots=True)
class StreamResult:
    """The outcome of one stream: the rows before a change, the alarms among them, and the rows to the detection of the
    change (None: there was no change, or it was not found)."""

    unchanged_rows: int
    false_alarms: int
    delay: int | None = None


class SyntheticStream:
    """Generates rows of two correlated and other independent features, and a model's answers to them."""

    def __init__(self, seed: int, autocorrelation: float) -> None:
        self.generator = np.random.default_rng(seed)
        self._correlation = autocorrelation
        self._last = np.zeros(FEATURES)

    def rows(self, count: int, change: StreamChange | None = None) -> InputsAndOutputs:
        """Return ``count`` rows of inputs and of answers."""
        noise = self.generator.standard_normal((count, FEATURES))
        if self._correlation:
            for index in range(count):
                self._last = self._correlation * self._last + np.sqrt(1 - self._correlation**2) * noise[index]
                noise[index] = self._last
        rows = noise.copy()
        rows[:, 1] = CORRELATION * noise[:, 0] + np.sqrt(1 - CORRELATION**2) * noise[:, 1]
        if change is not None:
            rows = change(self.generator, rows)
        probability = 1 / (1 + np.exp(-np.nan_to_num(rows[:, :4].sum(axis=1))))
        scores = np.stack([1 - probability, probability], axis=1).astype(np.float32)
        return [Tensor("x", "FP32", rows.astype(np.float32))], [Tensor("scores", "FP32", scores)]


def make_columns() -> tuple[Columns, Columns]:
    """Return the watched columns of the streams, of inputs and of outputs."""
    return (
        input_columns([TensorSpec("x", "FP32", (-1, FEATURES))], batching=True),
        output_columns([TensorSpec("scores", "FP32", (-1, 2))], batching=True),
    )


def run(
    case: SelfTestCase, seed: int, budget: float = BUDGET, unchanged_rows: int = UNCHANGED_ROWS, most: int = 5000
) -> StreamResult:
    """Run one stream of a case: ``unchanged_rows`` first, then the change until it is detected or ``most`` rows."""
    watched = _MonitoredStream(SyntheticStream(seed, case.autocorrelation), budget)
    for _ in range(unchanged_rows // LOOK_ROWS):
        watched.evaluate(None)
    false_alarms = watched.monitor.alarms
    if case.change is None:
        return StreamResult(unchanged_rows, false_alarms)
    for look in range(1, most // LOOK_ROWS + 1):
        watched.evaluate(case.change)
        if watched.monitor.alarms > false_alarms:
            return StreamResult(unchanged_rows, false_alarms, look * LOOK_ROWS)
    return StreamResult(unchanged_rows, false_alarms)


class _MonitoredStream:
    """A stream with its monitor."""

    def __init__(self, stream: SyntheticStream, budget: float) -> None:
        self._stream = stream
        watched = make_columns()
        self._reference = _make_reference(stream, watched)
        self._cells = np.zeros(RegionLayout.of(self._reference).size, np.uint64)
        self._counter = RowCounter(self._reference, self._cells, watched, 1.0)
        self._now = 0.0
        self.monitor = VersionMonitor(self._reference, MonitorPolicy(budget=budget), self._counts(), self._now)

    def evaluate(self, change: StreamChange | None) -> None:
        """Count some rows, let one second pass, and take a look."""
        self._counter.count([self._stream.rows(LOOK_ROWS, change)])
        self._now += 1.0
        self.monitor.evaluate(self._counts(), self._now)

    def _counts(self) -> RegionCounts:
        return RegionCounts.of(self._reference, [self._cells])


def _make_reference(stream: SyntheticStream, watched: tuple[Columns, Columns]) -> Reference:
    inputs, outputs = stream.rows(REFERENCE_ROWS)
    input_rows, output_rows = watched[0](inputs), watched[1](outputs)
    if input_rows is None:
        raise RuntimeError
    names = [[*columns.numbers, *columns.labels] for columns in watched]
    return build((names[0], names[1]), input_rows, output_rows, TRAINING)


@dataclass(frozen=True, slots=True)
class CaseResult:
    """The outcome of all streams of a case; ``delay_error`` is the standard error of the mean delay."""

    case: SelfTestCase
    streams: int
    unchanged_rows: int
    false_alarms: int
    found: int
    mean_delay: float | None
    delay_error: float
    budget: float

    @property
    def holds(self) -> bool:
        """Whether the monitor meets the limits of the case."""
        few = self.false_alarms <= max(3.0, 1.5 * self.unchanged_rows / self.budget)
        if self.case.within is None:
            return few
        if self.mean_delay is None or self.found < self.streams:
            return False
        return few and self.mean_delay <= self.case.within + 2 * self.delay_error


def judge_case(case: SelfTestCase, outcomes: Sequence[StreamResult], budget: float = BUDGET) -> CaseResult:
    """Return the finding of a case from the outcomes of its streams."""
    delays = [outcome.delay for outcome in outcomes if outcome.delay is not None]
    return CaseResult(
        case,
        len(outcomes),
        sum(outcome.unchanged_rows for outcome in outcomes),
        sum(outcome.false_alarms for outcome in outcomes),
        len(delays),
        sum(delays) / len(delays) if delays else None,
        float(np.std(delays)) / len(delays) ** 0.5 if delays else 0.0,
        budget,
    )


def rows_of(case: SelfTestCase) -> int:
    """Return the rows of one stream before a change; a case without a change takes more."""
    return UNCHANGED_ROWS if case.within is not None else 5 * UNCHANGED_ROWS
