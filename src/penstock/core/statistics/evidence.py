"""The evidence of a sequential test: counts, a log e-value, and where in time the harm may have begun.

Under the null hypothesis the probability that an e-process ever reaches ``1 / alpha`` is at most alpha, however often
one looks (Ville's inequality). A mean of e-processes is one again, whatever its weights, if they sum to 1.

Two means are taken here. The first is over bets: how bad the canary may be. The second, for tests of harm, is over
onsets: when it became so. An e-process that only bets from the first request on loses what it had while nothing was
wrong, and finds a change that comes late the later. So a bet that begins anew at each batch is kept beside it, with the
weight ``onset_weight``, in one sum per bet: ``S <- (S + w) * factor``. That is the Shiryaev-Roberts recursion with a
proper prior over the time of the change (Shiryaev 1963; e-processes: Shin, Ramdas and Rinaldo, "E-detectors", arXiv
2203.03532, section 4): the weights sum to 1, so the error is bounded by alpha over the whole of a rollout, not as a
rate per request. The price is ``log(1 / w)`` nats where the change comes late and ``log(1 / FROM_THE_START)`` where it
was there from the start; by ``n / (n + ONSET_SCALE)`` the price is nearly the same for every time up to some 20,000
requests.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.float64]

FROM_THE_START = 0.6
"""Weight of the bet that the canary is worse from its first request on; the rest is for every later onset."""

ONSET_SCALE = 20_000.0
"""Canary requests by which half of the weight for later onsets is spent."""

MEMORY = 500.0
"""Canary requests after which what was seen counts ``1 / e`` in the estimate that bets on late harm."""

FIRST_PART = 32
"""Canary observations of the first part into which a large batch is divided; each further part is twice as large."""

MOST_DIVIDED = 10**9
"""Observations above which a batch is taken whole."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """A test's counts so far (canary, control; one number a bin), its log e-value and the greatest it ever had.

    ``bets`` are the logarithms of the single bets' sums over onsets. ``recent`` are the canary's counts of late, as far
    as the test uses them; ``variance`` is what a test of total variation has gathered. Evidence has been gathering
    since the canary had ``begun_at`` observations; the counts are older.
    """

    canary: tuple[float, ...] = ()
    control: tuple[float, ...] = ()
    log_e: float = 0.0
    peak: float = 0.0
    bets: tuple[float, ...] = ()
    recent: tuple[float, ...] = ()
    variance: float = 0.0
    begun_at: int = 0

    @property
    def n_canary(self) -> int:
        """Observations of the canary."""
        return int(sum(self.canary))

    @property
    def n_control(self) -> int:
        """Observations of the control."""
        return int(sum(self.control))

    def restart(self) -> "Evidence":
        """The same counts, to estimate from, and no evidence."""
        return Evidence(self.canary, self.control, recent=self.recent, begun_at=self.n_canary)


def with_batch(evidence: Evidence, a: Counts, b: Counts, gains: Sequence[float]) -> Evidence:
    """The evidence after a batch whose bets, with equal weights, gained that much (in nats)."""
    bets = tuple(map(sum, zip(_start_bets(evidence, len(gains), 0.0), gains, strict=True)))
    return _with_counts(evidence, a, b, bets, average_evidence(bets, [1 / len(bets)] * len(bets)))


def with_batch_any_onset(
    evidence: Evidence, a: Counts, b: Counts, gains: Sequence[float], weights: Sequence[float]
) -> Evidence:
    """The same for a test of harm that may begin at any time; ``weights`` are the bets', and sum to 1."""
    before = float(sum(evidence.canary))
    after = before + float(a.sum())
    bets_before = _start_bets(evidence, len(gains), math.log(FROM_THE_START))
    grown = [item + gain for item, gain in zip(bets_before, gains, strict=True)]
    fresh = onset_weight(after) - onset_weight(before)  # for an onset at the next batch
    bets = tuple(_log_add(item, math.log(fresh)) if fresh > 0 else item for item in grown)
    unspent = 1 - FROM_THE_START - onset_weight(after)
    return _with_counts(evidence, a, b, bets, average_evidence((*bets, 0.0), (*weights, unspent)))


def _log_add(one: float, other: float) -> float:
    """``log(exp(one) + exp(other))`` of finite numbers."""
    return max(one, other) + math.log1p(math.exp(-abs(one - other)))


def _start_bets(evidence: Evidence, many: int, start: float) -> tuple[float, ...]:
    """The bets so far; where there are none, or those of another test, they begin."""
    return evidence.bets if len(evidence.bets) == many else (start,) * many


def onset_weight(requests: float) -> float:
    """The weight of all onsets within ``requests`` canary requests, beside that of the first request."""
    return (1 - FROM_THE_START) * requests / (requests + ONSET_SCALE)


def with_recent(evidence: Evidence, a: Counts) -> tuple[float, ...]:
    """The canary's counts of late, with those of one more batch."""
    rows = float(a.sum())
    discount = math.exp(-rows / MEMORY)
    share = (1 - discount) * MEMORY / rows if rows else 0.0
    before = np.asarray(evidence.recent) if evidence.recent else np.zeros(len(a))
    recent: list[float] = (before * discount + a * share).tolist()
    return tuple(recent)


def _with_counts(evidence: Evidence, a: Counts, b: Counts, bets: tuple[float, ...], log_e: float) -> Evidence:
    canary, control = _sum(evidence.canary, a), _sum(evidence.control, b)
    peak = max(evidence.peak, log_e)
    return Evidence(canary, control, log_e, peak, bets, evidence.recent, evidence.variance, evidence.begun_at)


def _sum(before: tuple[float, ...], now: Counts) -> tuple[float, ...]:
    return tuple(map(add, before, now.tolist())) if before else tuple(now.tolist())


def average_evidence(log_e: Sequence[float], weights: Sequence[float]) -> float:
    """The log of the weighted mean of e-values, an e-value under any dependence; the weights sum to 1."""
    top = max(log_e)
    return top + math.log(sum(weight * math.exp(item - top) for item, weight in zip(log_e, weights, strict=True)))


def split_batch(evidence: Evidence, a: Counts, b: Counts) -> Iterator[tuple[Counts, Counts]]:
    """A batch as several, each twice as large as the one before, so that its rows teach about each other.

    Rows of a batch are exchangeable, so a random order of them is as good as the order they came in. Without this the
    first batch after a gap would only teach, and what happened in the gap would be no evidence. The order is drawn from
    the sizes alone: the same counts give the same parts.
    """
    n_a, n_b = float(a.sum()), float(b.sum())
    doublings = int(math.log2(max(1.0, n_a / FIRST_PART + 1)))
    if doublings < 2 or n_b < doublings or n_a + n_b >= MOST_DIVIDED or not _are_whole(a) or not _are_whole(b):
        yield a, b
        return
    draw = np.random.default_rng([evidence.n_canary, evidence.n_control, int(n_a), int(n_b)])
    shares = [(2.0**index - 1) / (2.0**doublings - 1) for index in range(1, doublings + 1)]
    yield from zip(_deal(draw, a, shares), _deal(draw, b, shares), strict=True)


def _are_whole(counts: Counts) -> bool:
    return bool((counts == np.rint(counts)).all())


def _deal(draw: np.random.Generator, counts: Counts, shares: Sequence[float]) -> list[Counts]:
    left, total, parts, dealt = counts.astype(np.int64), int(counts.sum()), [], 0
    for share in shares:
        size = round(share * total) - dealt
        part = draw.multivariate_hypergeometric(left, size, method="marginals")
        left, dealt = left - part, dealt + size
        parts.append(part.astype(float))
    return parts


_FIELDS = tuple(field.name for field in fields(Evidence))


def evidence_values(evidence: Evidence) -> dict[str, Any]:
    """Encode evidence as JSON values; far faster than ``asdict``, which copies each number."""
    return {name: getattr(evidence, name) for name in _FIELDS}


def decode_evidence(values: Mapping[str, Any]) -> Evidence:
    """Evidence from its JSON values."""
    canary, control, bets, recent = (tuple(values.get(name, ())) for name in ("canary", "control", "bets", "recent"))
    log_e, peak, variance = (float(values.get(name, 0.0)) for name in ("log_e", "peak", "variance"))
    return Evidence(canary, control, log_e, peak, bets, recent, variance, int(values.get("begun_at", 0)))
