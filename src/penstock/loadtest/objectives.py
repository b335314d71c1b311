"""Objectives of a load test, such as ``p99<20ms``: how they are written, and whether figures keep them."""

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

Outcome = Literal["pass", "breach", "undecided"]

LATENCIES: Final = ("p50", "p90", "p95", "p99", "p99.9", "p99.99", "mean", "max")
"""Names of durations that objectives and reports use."""

RATIOS: Final = tuple(f"{name}_ratio" for name in ("p50", "p90", "p99", "mean"))
"""Durations as parts of those of the other version, in a comparison."""

_FORM: Final = re.compile(r"\s*([a-z][a-z0-9._]*)\s*(<=|>=|<|>)\s*([0-9]+(?:\.[0-9]+)?)\s*(us|µs|ms|s|%|/s)?\s*")
_COMPARE: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_IN_MS: Final[Mapping[str | None, float]] = {"us": 0.001, "µs": 0.001, "ms": 1.0, "s": 1000.0}
_UNITS: Final[Mapping[str, Mapping[str | None, float]]] = {
    **dict.fromkeys(LATENCIES, _IN_MS),
    **{name: {None: 1.0} for name in RATIOS},
    "errors": {None: 1.0, "%": 0.01},
    "rate": {None: 1.0, "/s": 1.0},
}
_EXAMPLES: Final = "such as p99<20ms, errors<0.1%, rate>500 or p99_ratio<1.1"


@dataclass(frozen=True, slots=True)
class LoadObjective:
    """A bound of one figure: milliseconds for durations, a ratio for errors, answers a second for ``rate``."""

    text: str
    metric: str
    relation: str
    limit: float

    @property
    def is_ratio(self) -> bool:
        """Whether it needs a comparison."""
        return self.metric in RATIOS


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of an objective; ``observed`` is None without a figure, and infinite among failed requests."""

    objective: LoadObjective
    observed: float | None
    outcome: Outcome


def parse_objective(text: str) -> LoadObjective:
    """Return the objective that a text states.

    Raises:
        ValueError: it has another form, an unknown metric, or a unit that does not fit.
    """
    found = _FORM.fullmatch(text)
    if found is None or found[1] not in _UNITS:
        known = ", ".join(_UNITS)
        raise ValueError(f"--slo: expected METRIC<LIMIT, {_EXAMPLES} (got '{text}'); metrics: {known}")
    units = _UNITS[found[1]]
    if found[4] not in units:
        expected = " or ".join(unit or "no unit" for unit in units)
        raise ValueError(f"--slo: expected a limit of {found[1]} in {expected} (got '{text}')")
    return LoadObjective(text.strip(), found[1], found[2], float(found[3]) * units[found[4]])


def judge(objectives: Sequence[LoadObjective], figures: Mapping[str, float]) -> list[Verdict]:
    """Judge every objective but ratios by the figures of one measurement (durations in milliseconds).

    Without a figure, because nothing was sent, an objective is undecided.
    """
    return [_judge_one(objective, figures.get(objective.metric)) for objective in objectives if not objective.is_ratio]


def _judge_one(objective: LoadObjective, figure: float | None) -> Verdict:
    if figure is None or math.isnan(figure):
        return Verdict(objective, None, "undecided")
    kept = _COMPARE[objective.relation](figure, objective.limit)
    return Verdict(objective, figure, "pass" if kept else "breach")


def judge_ratio(objective: LoadObjective, estimate: float, low: float, high: float) -> Verdict:
    """Judge a ratio by its confidence interval: a breach, or a pass, only where the whole interval agrees."""
    kept = {_COMPARE[objective.relation](bound, objective.limit) for bound in (low, high)}
    outcome: Outcome = "undecided" if len(kept) == 2 else "pass" if kept == {True} else "breach"
    return Verdict(objective, None if math.isnan(estimate) else estimate, outcome)
