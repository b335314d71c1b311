"""The admin API's document of the columns of a version; pure functions of the counts in the window."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.core.statistics.column_state import ColumnPhase, ColumnState
from penstock.core.statistics.effect_sizes import EffectSizes
from penstock.monitor.quality import KINDS, count_violations, counts_by_kind, find_rates
from penstock.monitor.reference import Feature

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ColumnWindow:
    """A column in the window: ``counts`` [places], its effect sizes, its state, the natural logarithm of the evidence,
    the counts that are ``usual`` now [places], and the sampling error of the reference in nats for each row."""

    feature: Feature
    counts: Sequence[int]
    scores: EffectSizes
    state: ColumnState
    log_m: float
    usual: NDArray[np.float64]
    sampling_error: float


def column_document(column: ColumnWindow) -> Document:
    """Return the document of a column."""
    feature, bins, counts = column.feature, column.feature.bins, column.counts
    return {
        "name": bins.name,
        "kind": bins.kind.value,
        "state": column.state.state.value,
        "since": column.state.since or None,
        "log_e": round(max(0.0, column.log_m), 3),
        **_describe_effects(column.scores),
        "rows": int(sum(counts)),
        "missing": int(counts[bins.missing]),
        "out_of_range": _total(counts, bins.out_of_range),
        "infinite": _total(counts, bins.infinite),
        "unseen": _total(counts, bins.unseen),
        **({"forgiven": round(feature.seasonal_variation, 6)} if feature.seasonal_variation else {}),
        "reference_error": round(column.sampling_error, 6),
        **_describe_bins(column),
    }


def _describe_effects(sizes: EffectSizes) -> Document:
    return {
        "psi": round(sizes.psi, 9),
        "psi_threshold": _round_threshold(sizes.psi_threshold),
        "js": round(sizes.js, 6),
        "hellinger": round(sizes.hellinger, 6),
        "ks": round(sizes.ks, 6),
        "ks_threshold": _round_threshold(sizes.ks_threshold),
        "wasserstein": round(sizes.wasserstein, 6),
        "chi_square": round(sizes.chi_square, 4),
        "chi_square_threshold": round(sizes.chi_square_threshold, 4),
    }


def _round_threshold(value: float) -> float | None:
    return round(value, 6) if np.isfinite(value) else None


def _total(counts: Sequence[int], places: Sequence[int]) -> int:
    return int(sum(counts[index] for index in places))


def _describe_bins(column: ColumnWindow) -> Document:
    labels = column.feature.bins.labels()
    return {
        "moved": [{"bin": labels[index], "change": round(change, 4)} for index, change in column.scores.moved],
        "bins": labels,
        "counts": column.counts,
        "reference_counts": np.rint(column.usual).astype(int).tolist(),
    }


def quality_document(
    features: Sequence[Feature],
    counts: Sequence[Sequence[int]],
    states: Sequence[ColumnState],
    kinds: Sequence[str],
    odd: int,
) -> Document:
    """Return the invalid values of the window by kind, and the features that have more of them than usual.

    ``counts`` [features][places] are those of the window, ``kinds`` [features] the kind that is more frequent than
    usual, and ``odd`` the number of requests of an unexpected form.
    """
    totals = dict.fromkeys(KINDS, 0)
    for feature, counted in zip(features, counts, strict=True):
        for kind, number in count_violations(feature, counted).items():
            totals[kind] += number
    rows = max(map(sum, counts), default=0)
    violated = [
        {
            "name": feature.bins.name,
            "kind": kind,
            "since": state.since,
            "rates": find_rates(counts_by_kind(feature, counted)),
        }
        for feature, counted, state, kind in zip(features, counts, states, kinds, strict=True)
        if state.state is ColumnPhase.DRIFT
    ]
    return {
        "state": "violated" if violated else "ok" if rows else ColumnPhase.INSUFFICIENT_DATA.value,
        "rows": rows,
        "violations": totals,
        "violated": violated,
        "odd_requests": odd,
    }
