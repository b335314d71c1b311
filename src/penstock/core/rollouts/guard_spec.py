"""The specification of a guard: what it compares, and its limit; parsed from JSON."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from penstock.core.errors import InvalidInput
from penstock.core.stated_numbers import number_fault

MOST_GUARDS = 16
MOST_QUERY = 2000

LEAST_INCREASE, MOST_INCREASE = 0.002, 0.02
"""Bounds of the ``errors`` guard's default limit, which is the control's own error rate."""

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class GuardSpec:
    """One guard: ``limit`` is how much worse the canary may be, in the metric's own unit.

    errors, quality, performance: a rate's rise; latency: a ratio; outputs: total variation; disagreement: a share;
    error_ratio: the canary's own share of errors; latency_p99: milliseconds that 99 % of its answers may take.
    ``errors`` with a limit of 0 has the default one, which comes from ``objective``, the model's tolerated error ratio,
    where that is known (0: it is not). A ``promql`` guard keeps ``query`` between ``least`` and ``most``.
    """

    metric: str
    limit: float = 0.0
    query: str = ""
    least: float = -math.inf
    most: float = math.inf
    objective: float = 0.0

    @property
    def name(self) -> str:
        """Return its name in a list of guards."""
        return f"{self.metric}:{self.query}" if self.query else self.metric

    def default_increase(self, control_rate: float, exposure: float) -> float:
        """The default limit of the ``errors`` guard: how much higher the canary's error rate may be.

        It is about all callers together: at the next step at most ``objective`` more of them may fail, or as many more
        as fail of the control's, within bounds. A canary that will get the share ``exposure`` of the traffic causes
        that part of its own increase, so the limit of its own rate is as many times as high. So little is risked and
        little has to be proven at a small weight, and all of it before all the traffic.
        """
        allowed = self.objective or min(MOST_INCREASE, max(LEAST_INCREASE, control_rate))
        return min(MOST_MARGIN, allowed / max(exposure, TINY))


MOST_MARGIN = 0.2
"""A canary whose error rate is higher than the control's by this passes at no weight."""

TINY = 1e-6

_LIMITS = {
    # metric: the limit's word, its default, the least and the greatest it may be
    "errors": ("max_increase", 0.0, 0.0001, 1.0),
    "latency": ("max_ratio", 1.2, 1.0, 100.0),
    "outputs": ("max", 0.1, 0.001, 1.0),
    "disagreement": ("max", 0.02, 0.0001, 1.0),
    "quality": ("max_increase", 0.01, 0.0001, 1.0),
    "performance": ("max_increase", 0.05, 0.0001, 1.0),
    "error_ratio": ("max", 0.01, 0.00001, 1.0),
    "latency_p99": ("max_ms", 100.0, 0.01, 3_600_000.0),
}
ABSOLUTE = ("error_ratio", "latency_p99")
"""Guards that compare the canary alone with a limit: they find harm without a control, and delay no step."""

COMPARED = ("errors", "latency", "outputs", "quality", "performance")
"""Guards that compare the canary with the control, so they pass only at steps that leave the control some traffic."""

NAMES = (*_LIMITS, "promql")


def limit_word(metric: str) -> str | None:
    """Return the name of a metric's limit in a guard's JSON form; None for a metric without one."""
    return _LIMITS[metric][0] if metric in _LIMITS else None


def parse_guard(stated: Any) -> GuardSpec:
    """Parse a guard from its JSON form.

    Raises:
        InvalidInput: it is none.
    """
    if isinstance(stated, str):
        stated = {"metric": stated}
    metric = stated.get("metric") if isinstance(stated, dict) else None
    if metric == "promql":
        return _parse_query(stated)
    if metric not in _LIMITS:
        raise InvalidInput(f"a guard's 'metric' must be one of {', '.join(NAMES)}")
    if metric == "errors" and not stated.get("max_increase"):
        return _parse_default_errors(stated)
    word, usual, least, most = _LIMITS[metric]
    limit = stated.get(word, usual)
    if set(stated) - {"metric", word}:
        raise InvalidInput(f"guard '{metric}': its only fields are 'metric' and '{word}'")
    return GuardSpec(metric, _parse_number(metric, word, limit, least, most))


def _parse_default_errors(stated: Document) -> GuardSpec:
    if set(stated) - {"metric", "objective"}:
        raise InvalidInput("guard 'errors': 'max_increase' must be a number from 0.0001 to 1")
    return GuardSpec("errors", objective=_parse_number("errors", "objective", stated.get("objective", 0.0), 0.0, 1.0))


def _parse_number(metric: str, word: str, value: Any, least: float, most: float) -> float:
    if fault := number_fault(word, value, least, most):
        raise InvalidInput(f"guard '{metric}': {fault}")
    return float(value)


def _parse_query(stated: Document) -> GuardSpec:
    query, least, most = stated.get("query"), stated.get("min"), stated.get("max")
    if not isinstance(query, str) or not 0 < len(query) <= MOST_QUERY:
        raise InvalidInput("guard 'promql': 'query' must be a PromQL expression")
    if set(stated) - {"metric", "query", "min", "max"} or (least is None and most is None):
        raise InvalidInput("guard 'promql': it must have 'query' and 'min' or 'max' or both")
    if any(type(bound) not in (int, float, type(None)) for bound in (least, most)):
        raise InvalidInput("guard 'promql': 'min' and 'max' must be numbers")
    least, most = (-math.inf if least is None else float(least)), (math.inf if most is None else float(most))
    return GuardSpec("promql", query=query, least=least, most=most)


def describe_guard(guard: GuardSpec) -> dict[str, Any]:
    """Return a guard's JSON form."""
    if guard.metric == "promql":
        bounds = {"min": guard.least, "max": guard.most}
        return {"metric": "promql", "query": guard.query} | {
            name: bound for name, bound in bounds.items() if math.isfinite(bound)
        }
    if guard.metric == "errors" and not guard.limit:
        return {"metric": "errors"} | ({"objective": guard.objective} if guard.objective else {})
    return {"metric": guard.metric, _LIMITS[guard.metric][0]: guard.limit}
