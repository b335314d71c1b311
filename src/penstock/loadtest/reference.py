"""Draws values from the distributions of a reference, as the monitor of a gateway shows them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_NUMBER: Final = r"-?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?"
_RANGE: Final = re.compile(rf"({_NUMBER})\.\.({_NUMBER})")
_SPECIAL: Final = {"(below)", "(above)", "-inf", "+inf", "(missing)", "(rest)", "(unseen)"}


def draw_columns(features: Sequence[Mapping[str, Any]], count: int, seed: int) -> dict[str, NDArray[Any]]:
    """Return ``count`` values of each column that has a reference, by its name.

    ``features`` are those of the monitor's document. A bin is drawn by its count in the reference, a number within a
    bin uniformly. Columns are drawn independently of each other: what goes together in real rows does not here. Bins
    without bounds, such as what lies below the reference, are left out.
    """
    random = np.random.default_rng(seed)
    columns = {}
    for feature in features:
        counts = np.asarray(feature.get("reference_counts", ()), np.float64)
        labels = [str(label) for label in feature.get("bins", ())]
        weights = np.where([label in _SPECIAL for label in labels], 0.0, counts) if len(labels) == len(counts) else None
        if weights is not None and weights.sum() > 0:
            columns[str(feature["name"])] = _draw(labels, weights / weights.sum(), count, random)
    return columns


def _draw(labels: Sequence[str], shares: NDArray[np.float64], count: int, random: np.random.Generator) -> NDArray[Any]:
    chosen = random.choice(len(labels), count, p=shares)
    ranges = [_read_bounds(label) for label in labels]
    if any(found is None and share > 0 for found, share in zip(ranges, shares, strict=True)):
        return np.asarray(labels, object)[chosen]
    bounds = np.asarray([found or (0.0, 0.0) for found in ranges])[chosen]
    return np.round(random.uniform(bounds[:, 0], bounds[:, 1]), 6)


def _read_bounds(label: str) -> tuple[float, float] | None:
    """Return the numbers that a bin lies between; None for a text."""
    if (found := _RANGE.fullmatch(label)) is not None:
        return float(found[1]), float(found[2])
    return (float(label), float(label)) if re.fullmatch(_NUMBER, label) else None
