"""What is wrong with values, by kind: what is missing, not finite, out of the reference's range, of an unseen category,
or the same constant more often than it was."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from penstock.core.statistics.distributions import shares
from penstock.monitor.reference import Feature

KINDS = ("missing", "non_finite", "out_of_range", "unseen", "constant")

RISEN = 4.0
"""Standard deviations that a rate has to be above its usual one to be called risen."""

_SOUND = 0


def kinds_of(feature: Feature) -> NDArray[np.intp]:
    """For each place of a feature 0 where its values are sound, else one more than the kind's place in ``KINDS``."""
    bins = feature.bins
    found = np.full(bins.width, _SOUND, np.intp)
    found[bins.missing] = 1
    for kind, places in ((2, bins.infinite), (3, bins.out_of_range), (4, bins.unseen), (5, bins.constants)):
        found[list(places)] = kind
    return found


def sorted_out(feature: Feature, counts: ArrayLike) -> NDArray[np.float64]:
    """A feature's counts by soundness: the sound, then each of ``KINDS``."""
    return np.asarray(np.bincount(kinds_of(feature), np.asarray(counts, float), len(KINDS) + 1), float)


def rates(sorted_counts: NDArray[np.float64]) -> dict[str, float]:
    """The share of each kind among the rows."""
    rows = float(sorted_counts.sum())
    return {
        kind: round(float(count) / rows, 6) if rows else 0.0
        for kind, count in zip(KINDS, sorted_counts[1:], strict=True)
    }


class Violations:
    """How many values of each of some features were not sound, by what was wrong with them, but for constants: a sum of
    counts, which never falls."""

    def __init__(self, features: Sequence[Feature]) -> None:
        kinds = len(KINDS) + 1
        places = [kinds_of(one) + kinds * index for index, one in enumerate(features)]
        self._places = np.concatenate(places) if places else np.zeros(0, np.intp)
        self._shape = len(features), kinds

    def __call__(self, counts: Sequence[int], constants: Sequence[int]) -> list[int]:
        """From the features' counts, one feature after the other, to each feature's violations by ``KINDS``;
        ``constants`` are those of constants."""
        found = np.bincount(self._places, np.asarray(counts, float), self._shape[0] * self._shape[1])
        found = found.reshape(self._shape)
        found[:, -1] = constants
        told: list[int] = found[:, 1:].astype(np.int64).ravel().tolist()
        return told


def violations(feature: Feature, counts: Sequence[int]) -> dict[str, int]:
    """What was wrong in a window of one feature, by kind; of a constant, how many more there were than the reference
    lets expect."""
    usual, found = sorted_out(feature, feature.counts), sorted_out(feature, counts)
    expected = usual[-1] / max(1.0, float(usual.sum())) * float(found.sum())
    found[-1] = max(found[-1] - expected, 0.0)
    return dict(zip(KINDS, found[1:].astype(np.int64).tolist(), strict=True))


def most_risen(usual: NDArray[np.float64], recent: NDArray[np.float64]) -> int:
    """Which kind of violation (its place) is most more frequent than usual by more than chance; 0 for none."""
    rows = float(recent.sum())
    if not rows:
        return 0
    expected = shares(usual) * rows
    above = (recent - expected) / np.sqrt(np.maximum(expected, 1.0))
    above[0] = 0.0
    worst = int(above.argmax())
    return worst if above[worst] > RISEN else 0
