"""Invalid values by kind: missing, not finite, out of range, of an unseen category, or too often a constant."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from penstock.core.statistics.distributions import find_shares
from penstock.monitor.reference import Feature

KINDS = ("missing", "non_finite", "out_of_range", "unseen", "constant")

INCREASED = 4.0
"""A rate has increased if it is more than this many standard deviations above its usual value."""

_VALID = 0


def kinds_of(feature: Feature) -> NDArray[np.intp]:
    """Return for each place [places] of a feature 0 if its values are valid, else one more than the index in
    ``KINDS``."""
    bins = feature.bins
    kinds = np.full(bins.width, _VALID, np.intp)
    kinds[bins.missing] = 1
    for kind, places in ((2, bins.infinite), (3, bins.out_of_range), (4, bins.unseen), (5, bins.constants)):
        kinds[list(places)] = kind
    return kinds


def counts_by_kind(feature: Feature, counts: ArrayLike) -> NDArray[np.float64]:
    """Return a feature's counts [places] by validity: valid values, then each of ``KINDS`` [1 + kinds]."""
    return np.asarray(np.bincount(kinds_of(feature), np.asarray(counts, float), len(KINDS) + 1), float)


def find_rates(by_kind: NDArray[np.float64]) -> dict[str, float]:
    """Return the share of each kind among the rows, given ``counts_by_kind``."""
    rows = float(by_kind.sum())
    return {
        kind: round(float(count) / rows, 6) if rows else 0.0 for kind, count in zip(KINDS, by_kind[1:], strict=True)
    }


class KindCounts:
    """Counts the values of several features by validity, as ``counts_by_kind`` does for one."""

    def __init__(self, features: Sequence[Feature]) -> None:
        self._shape = len(features), len(KINDS) + 1
        places = [kinds_of(feature) + self._shape[1] * index for index, feature in enumerate(features)]
        self._places = np.concatenate(places) if places else np.zeros(0, np.intp)

    def __call__(self, counts: ArrayLike) -> NDArray[np.float64]:
        """Return the counts by validity [features, 1 + kinds], given those of the features, one feature after the
        other; what comes after them is left out."""
        weights = np.asarray(counts, float)[: len(self._places)]
        totals = np.bincount(self._places, weights, self._shape[0] * self._shape[1])
        return np.asarray(totals.reshape(self._shape), float)


class Violations:
    """Counts the invalid values of several features by kind. The sums never fall, except for constants, which come
    from elsewhere."""

    def __init__(self, features: Sequence[Feature]) -> None:
        self._counts = KindCounts(features)

    def __call__(self, counts: Sequence[int], constants: Sequence[int]) -> list[int]:
        """Return each feature's violations by ``KINDS``, one feature after the other.

        ``counts`` are the features' counts, one feature after the other; ``constants`` [features] are the violations of
        the last kind.
        """
        totals = self._counts(counts)
        totals[:, -1] = constants
        violated: list[int] = totals[:, 1:].astype(np.int64).ravel().tolist()
        return violated


def count_violations(feature: Feature, counts: Sequence[int]) -> dict[str, int]:
    """Return the invalid values of one feature by kind; of constants only those beyond the reference's share."""
    usual, recent = counts_by_kind(feature, feature.counts), counts_by_kind(feature, counts)
    expected = usual[-1] / max(1.0, float(usual.sum())) * float(recent.sum())
    recent[-1] = max(recent[-1] - expected, 0.0)
    return dict(zip(KINDS, recent[1:].astype(np.int64).tolist(), strict=True))


def most_increased(usual: NDArray[np.float64], recent: NDArray[np.float64]) -> int:
    """Return the kind (one more than its index in ``KINDS``) that has increased most beyond chance, 0 for none.

    Both arguments are ``counts_by_kind``. The increase is measured in standard deviations of a Poisson count.
    """
    rows = float(recent.sum())
    if not rows:
        return 0
    expected = find_shares(usual) * rows
    above = (recent - expected) / np.sqrt(np.maximum(expected, 1.0))
    above[0] = 0.0
    worst = int(above.argmax())
    return worst if above[worst] > INCREASED else 0
