"""What the usual templates of Argo Rollouts and Flagger would have done on a canary's counts: their decision rules.

Both look at one interval after the other. A template that has not decided when the counts end goes on with the last
interval again and again: the canary would have gone on as it was. Neither looks at a canary that has all the traffic:
Argo's background analysis ends with the last step, and Flagger analyses up to ``maxWeight`` (50 %) and then copies the
canary over the primary. So intervals at the last step are left out.

Argo Rollouts (documentation, "Analysis & Progressive Delivery"): ``success-rate``, the share of requests without 5xx,
with ``successCondition: result[0] >= 0.95``, ``failureLimit: 3`` and an interval of 5 m in the example, here 1 m. A
metric fails when more measurements have failed than the limit allows. Steps of 20, 40, 60, 80 % with a pause each.

Flagger (documentation, "How it works"): interval 1 m, ``threshold: 5``, ``maxWeight: 50``, ``stepWeight: 10``,
``request-success-rate`` min 99, ``request-duration`` (P99) max 500 ms. A failed check counts towards the threshold and
holds the weight; an interval without requests is a failed check.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice, repeat

ARGO_LEAST = 0.95
ARGO_FAILURES = 3
ARGO_INTERVALS = 10
"""Measurements of the background analysis until the last step of the example is over."""

FLAGGER_LEAST = 0.99
FLAGGER_MS = 500.0
FLAGGER_THRESHOLD = 5
FLAGGER_STEPS = 5
"""Checks that have to pass: 10 to 50 % by 10."""

MOST = 60
"""Intervals after which neither would have decided."""

PROMOTED, ROLLED_BACK, UNDECIDED = "promoted", "rolled_back", "undecided"


@dataclass(frozen=True, slots=True)
class Interval:
    """A canary's requests of one interval: how many, how many of them ended with 5xx or without an answer, and what
    99 % of them took at most (milliseconds)."""

    requests: int
    failed: int
    p99_ms: float

    @property
    def success(self) -> float:
        """The share that did not fail."""
        return 1 - self.failed / self.requests if self.requests else 0.0


def judge_by_argo(intervals: Sequence[Interval]) -> tuple[str, int]:
    """What the template of Argo Rollouts does, and after how many intervals."""
    failures = 0
    for number, interval in enumerate(_extend_intervals(intervals, ARGO_INTERVALS), 1):
        failures += interval.requests > 0 and interval.success < ARGO_LEAST
        if failures > ARGO_FAILURES:
            return ROLLED_BACK, number
    return (PROMOTED, ARGO_INTERVALS) if intervals else (UNDECIDED, 0)


def judge_by_flagger(intervals: Sequence[Interval]) -> tuple[str, int]:
    """What the template of Flagger does, and after how many intervals."""
    passed = failed = 0
    for number, interval in enumerate(_extend_intervals(intervals, MOST), 1):
        good = interval.requests > 0 and interval.success >= FLAGGER_LEAST and interval.p99_ms <= FLAGGER_MS
        passed, failed = passed + good, failed + (not good)
        if failed >= FLAGGER_THRESHOLD:
            return ROLLED_BACK, number
        if passed >= FLAGGER_STEPS:
            return PROMOTED, number
    return UNDECIDED, min(MOST, len(intervals))


def _extend_intervals(intervals: Sequence[Interval], count: int) -> list[Interval]:
    if not intervals:
        return []
    return list(islice(chain(intervals, repeat(intervals[-1])), count))
