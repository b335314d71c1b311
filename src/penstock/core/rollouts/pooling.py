"""Holds counts back until both versions are expected to have requests in a stratum, because only such strata can be
compared.

A stratum with requests of one version says nothing about the difference, and where requests are rare every look would
be such a stratum. The number of requests in all closes a stratum, whichever version they went to. So the split within
a stratum is as random as without waiting.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from penstock.core.rollouts.guard_evidence import EvidenceBatch
from penstock.core.routing import POINTS

Pair = tuple[Sequence[float], Sequence[float]]
"""Counts of the canary and of the control, by bin."""

WaitingPairs = Mapping[str, Pair]
"""Waiting counts, by their name in a batch."""

POOLED = ("errors", "latency", "runs", "outputs", "quality")
RARER = 3
"""Expected requests of the smaller version in a stratum; one stratum in twenty has none."""

_NOTHING = EvidenceBatch()
_NONE: Pair = ((), ())


def find_stratum_size(weight: int) -> int:
    """Return how many requests of both versions together close a stratum; ``weight`` is the canary's, in points of
    10,000.
    """
    rarer = min(weight, POINTS - weight)
    return math.ceil(RARER * POINTS / rarer) if rarer > 0 else 0


def pool_counts(waiting: WaitingPairs, batch: EvidenceBatch, weight: int) -> tuple[EvidenceBatch, WaitingPairs]:
    """Return the counts that suffice for a batch at this weight, and those that keep waiting."""
    least = find_stratum_size(weight)
    pairs = {name: _add_pairs(waiting.get(name, _NONE), more) for name, more in _count_pairs(batch).items()}
    held = {name: counts for name, counts in pairs.items() if sum(waiting_counts(counts)) < least}
    closed = {name: counts for name, counts in pairs.items() if name not in held}
    return _with_counts(batch, closed), {name: counts for name, counts in held.items() if any(waiting_counts(counts))}


def flush_counts(waiting: WaitingPairs) -> EvidenceBatch:
    """Return the waiting counts as a batch: weights are about to change, and a stratum never has counts of different
    weights.
    """
    return _with_counts(_NOTHING, waiting)


def _count_pairs(batch: EvidenceBatch) -> WaitingPairs:
    return {
        "errors": batch.errors,
        "latency": batch.latency,
        "runs": batch.runs,
        "outputs": batch.outputs,
        "quality": batch.quality,
    }


def _with_counts(batch: EvidenceBatch, pairs: WaitingPairs) -> EvidenceBatch:
    """Return the batch with only these counts."""
    counts = {**_count_pairs(_NOTHING), **pairs}
    return replace(
        batch,
        errors=counts["errors"],
        latency=counts["latency"],
        runs=counts["runs"],
        outputs=counts["outputs"],
        quality=counts["quality"],
    )


def waiting_counts(counts: Pair) -> tuple[int, int]:
    """Return how many of the canary and of the control wait."""
    return round(sum(counts[0])), round(sum(counts[1]))


def _add_pairs(waiting: Pair, more: Pair) -> Pair:
    return _sum(waiting[0], more[0]), _sum(waiting[1], more[1])


def _sum(a: Sequence[float], b: Sequence[float]) -> Sequence[float]:
    return [one + other for one, other in zip(a, b, strict=True)] if len(a) and len(b) else (a if len(a) else b)


def encode_waiting(waiting: WaitingPairs) -> dict[str, Any]:
    """Encode waiting counts as JSON values."""
    return {name: [list(count) for count in counts] for name, counts in waiting.items()}


def decode_waiting(values: Mapping[str, Any]) -> WaitingPairs:
    """Decode waiting counts from their JSON values."""
    return {name: (values[name][0], values[name][1]) for name in POOLED if name in values}
