"""The test of "the outputs of the canary are as far from the control's as the limit, or farther".

Total variation is the greatest difference that any set of bins shows. "As far as the limit" says that there is such a
set, not which: a union of hypotheses over all sets. It falls if the evidence against *each* of them does, and by then
it must fall for the one that is true; so the least of all their evidence is an e-process for the union
(intersection-union, Berger 1982), with no correction for the number of sets.

For one set the difference of rates, batch by batch, is a sum of bounded terms: its error is sub-Gaussian with variance
``n_a (1 + n_a / n_b) / 4`` a batch, whatever the rates are, and the half-normal mixture over its tilts is an e-process
in closed form (Robbins 1970; Howard, Ramdas, McAuliffe and Sekhon 2021, "one-sided normal mixture"). As the variance is
the same for all sets and the evidence falls with the observed difference, the least evidence is that of the set that
shows most: the observed total variation. Each batch compares canary and control of the same time, so a mix of outputs
that changes in both is not a difference.
"""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from penstock.core.statistics.evidence import Counts, Evidence

TUNED_FOR = 50.0
"""The prior variance of the mixture, in the unit of the gathered variance: some hundreds of canary rows."""


def distance_below(evidence: Evidence, a: ArrayLike, b: ArrayLike, limit: float) -> Evidence:
    """One batch of counts by bin for "the total variation is at least ``limit``".

    In ``evidence`` the control's counts are scaled to as many rows as the canary's of the same batch.
    """
    canary, control = np.asarray(a, float), np.asarray(b, float)
    n_a, n_b = float(canary.sum()), float(control.sum())
    if not n_a or not n_b:
        return evidence
    canary_sum = _add_counts(evidence.canary, canary)
    control_sum = _add_counts(evidence.control, control * (n_a / n_b))
    variance = evidence.variance + n_a * (1 + n_a / n_b) / 4
    apart = float(
        np.maximum(canary_sum - control_sum, 0.0).sum()
    )  # canary rows by which the sets that gained are ahead
    log_e = _log_mixture(limit * float(canary_sum.sum()) - apart, variance)
    return replace(
        evidence,
        canary=tuple(canary_sum.tolist()),
        control=tuple(control_sum.tolist()),
        log_e=log_e,
        peak=max(evidence.peak, log_e),
        variance=variance,
    )


def _add_counts(before: tuple[float, ...], now: Counts) -> Counts:
    return np.asarray(before) + now if before else now


def _log_mixture(sum_below: float, variance: float) -> float:
    """The mixture's log e-value for a sum that is so far below its least mean."""
    total = variance + TUNED_FOR
    z = sum_below / math.sqrt(total)
    tail = math.erfc(-z / math.sqrt(2)) / 2
    return 0.5 * math.log(4 * TUNED_FOR / total) + z * z / 2 + math.log(max(tail, 1e-300))
