"""Shapley values of any model by running it: rounds over background rows, with the error reached so far.

Every round answers for one background row, in a random order without repetition until all had their turn. The mean of
the rounds is the answer; their spread gives its standard error.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from penstock.core.errors import DeadlineExceeded, InvalidInput
from penstock.explain.budgets import ExplainOptions, RowRunner, Rows, Steps
from penstock.explain.coalitions import Coalitions, all_coalitions, order_pair
from penstock.explain.nodes import Floats

FEWEST_ROUNDS = 2
"""An error needs two rounds."""


@dataclass(frozen=True, slots=True)
class SampledValues:
    """Attributions [n, features, outputs] with their standard errors, what they are added to [outputs], the outputs of
    the rows [n, outputs], and the number of background rows that had their turn."""

    attributions: Floats
    error: Floats
    base_value: Floats
    prediction: Floats
    background_rows: int
    complete: bool


class RunningMean:
    """The mean of arrays and the standard error of the mean, by Welford's update."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Floats = np.zeros(0)
        self._squares: Floats = np.zeros(0)

    def add(self, value: Floats) -> None:
        """Count one more array."""
        if not self.count:
            self.mean, self._squares = np.zeros_like(value), np.zeros_like(value)
        self.count += 1
        change = value - self.mean
        self.mean = self.mean + change / self.count
        self._squares = self._squares + change * (value - self.mean)

    def standard_error(self, of_total: int | None = None) -> Floats:
        """Return the standard error; it is smaller for samples without repetition from ``of_total``, and 0 of all."""
        left = 1 - self.count / of_total if of_total else 1.0
        return np.sqrt(np.maximum(self._squares, 0) * left / max(1, self.count - 1) / self.count)


@dataclass(frozen=True, slots=True)
class _Ends:
    """Rows and background with their outputs."""

    rows: Rows
    outputs: Floats
    background: Rows
    background_outputs: Floats


def enumerate_steps(runner: RowRunner, rows: Rows, background: Rows, options: ExplainOptions) -> Steps[SampledValues]:
    """Run all coalitions against one background row after the other, until all are done or the budget ends.

    Raises ``DeadlineExceeded`` if it ends before an error is known.
    """
    ends = yield from _run_ends(runner, rows, background)
    coalitions = all_coalitions(rows.shape[1])
    shares, base = RunningMean(), RunningMean()
    for place in np.random.default_rng(options.seed).permutation(len(background)):
        if not runner.allows(len(rows) * len(coalitions.masks)):
            break
        yield from _add_round(runner, ends, int(place), coalitions, options, shares, base)
    complete = shares.count == len(background)
    if not complete:
        _check_rounds(shares.count)
    return _make_result(ends, shares, base, shares.standard_error(of_total=len(background)), complete)


def permute_steps(runner: RowRunner, rows: Rows, background: Rows, options: ExplainOptions) -> Steps[SampledValues]:
    """Run pairs of orders against one background row after the other, until the budget ends.

    Raises ``InvalidInput`` if the budget is too small for two rounds, and ``DeadlineExceeded`` if the time is.
    """
    features = rows.shape[1]
    a_round = len(rows) * 2 * (features - 1)
    needed = len(rows) + len(background) + FEWEST_ROUNDS * a_round
    if needed > options.max_rows:
        raise InvalidInput(f"an explanation of these rows needs {needed} evaluations; send fewer rows at once")
    ends = yield from _run_ends(runner, rows, background)
    generator = np.random.default_rng(options.seed)
    turns = take_turns(len(background), generator)
    shares, base = RunningMean(), RunningMean()
    while shares.count < most_rounds(features, len(background)) and runner.allows(a_round):
        place = next(turns)
        yield from _add_round(runner, ends, place, order_pair(features, generator), options, shares, base)
    _check_rounds(shares.count)
    return _make_result(ends, shares, base, shares.standard_error(), complete=False)


def take_turns(count: int, generator: np.random.Generator) -> Iterator[int]:
    """Yield 0 ... count - 1 in a random order, and then again in another."""
    while True:
        yield from map(int, generator.permutation(count))


def most_rounds(features: int, background: int) -> int:
    """Return how many rounds are useful at all: for one feature every round is exact for its background row."""
    return max(FEWEST_ROUNDS, background) if features == 1 else 2**62


def _run_ends(runner: RowRunner, rows: Rows, background: Rows) -> Steps[_Ends]:
    outputs = yield from runner.run(np.concatenate([rows, background]))
    return _Ends(rows, outputs[: len(rows)], background, outputs[len(rows) :])


def _add_round(
    runner: RowRunner,
    ends: _Ends,
    place: int,
    coalitions: Coalitions,
    options: ExplainOptions,
    shares: RunningMean,
    base: RunningMean,
) -> Steps[None]:
    """One background row against all explained rows, a few of those at a time so that memory stays small."""
    nothing = ends.background_outputs[place]
    found = np.empty((*ends.rows.shape, len(nothing)))
    count = len(coalitions.masks)
    together = max(1, options.chunk_rows // max(1, count))
    for start in range(0, len(ends.rows), together):
        options.pause()
        some = ends.rows[start : start + together]
        outputs = yield from _run_coalitions(runner, some, ends.background[place], coalitions, len(nothing))
        for offset, between in enumerate(outputs.reshape(len(some), count, len(nothing))):
            found[start + offset] = coalitions.attribute(nothing, between, ends.outputs[start + offset])
    shares.add(found)
    base.add(nothing)


def _run_coalitions(
    runner: RowRunner, rows: Rows, background: Rows, coalitions: Coalitions, outputs: int
) -> Steps[Floats]:
    if not len(coalitions.masks):
        return np.zeros((len(rows), 0, outputs))
    mixed = np.where(coalitions.masks, rows[:, None, :], background)
    return (yield from runner.run(mixed.reshape(-1, rows.shape[1])))


def _check_rounds(count: int) -> None:
    if count < FEWEST_ROUNDS:
        raise DeadlineExceeded("the time was too short for an explanation; allow more time, or send fewer rows at once")


def _make_result(ends: _Ends, shares: RunningMean, base: RunningMean, error: Floats, complete: bool) -> SampledValues:
    used = min(shares.count, len(ends.background))
    return SampledValues(shares.mean, error, base.mean, ends.outputs, used, complete)
