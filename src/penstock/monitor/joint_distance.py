"""The joint distance: how far a row's numbers lie together from the mean of a reference, by their covariance."""

import numpy as np

from penstock.core.bins import FeatureBins, Floats, NumericBinFinder, Places, numeric_bins
from penstock.monitor.reference import Feature, JointDistribution
from penstock.monitor.reference_columns import JOINT, counts_of, leave_range_out

DIGITS = 6
"""Decimals of a joint distance, whose mean is about 1."""

MOST_JOINT = 32
"""Dimensions of the joint distance; more numbers are first projected on this many random directions."""

RIDGE = 1e-3

LEAST_LEFT = 0.05
"""Least share of the covariance in a row's direction that the other rows are taken to have."""


def joint_of(numbers: Floats) -> JointDistribution | None:
    """Return the whitened distance from the mean (Mahalanobis) for ``numbers`` [rows, columns]; None for fewer than two
    columns or too few finite rows."""
    width = numbers.shape[1]
    complete = numbers[np.isfinite(numbers).all(axis=1)]
    if width < 2 or len(complete) < 10 * width:
        return None
    middle, spread = complete.mean(axis=0), complete.std(axis=0)
    scale = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 0)
    projection = np.diag(scale)
    if width > MOST_JOINT:
        projection = projection @ np.random.default_rng(width).standard_normal((width, MOST_JOINT)) / np.sqrt(width)
    projected = (complete - middle) @ projection
    values, vectors = np.linalg.eigh(np.cov(projected, rowvar=False) + RIDGE * np.eye(projected.shape[1]))
    directions = np.round(projection @ vectors / np.sqrt(values), 9)
    middle = np.round(middle, 9)
    distances = find_distances(numbers, middle, directions)
    bins = numeric_bins(JOINT, distances)
    places = _row_left_out(bins, distances, directions.shape[1])
    feature = Feature(bins, counts_of(places, bins), float(np.nanmean(distances)), float(np.nanstd(distances)))
    return JointDistribution(tuple(middle.tolist()), tuple(tuple(row) for row in directions.tolist()), feature)


def joint_places(joint: JointDistribution, numbers: Floats) -> Places:
    """Return the place [rows] of the distance of each row [rows, columns]."""
    distances = find_distances(numbers, np.array(joint.middle), np.array(joint.directions))
    return _row_left_out(joint.feature.bins, distances, len(joint.directions[0]))


def _row_left_out(bins: FeatureBins, distances: Floats, directions: int) -> Places:
    """Return the places of distances, each measured from the mean and the covariance of all other rows.

    A row lies nearer to a mean that includes it than new rows do: with m rows in d directions by about ``d / m``.
    Without the row its squared distance ``D`` becomes ``D m^2 (m - 2) / (m - 1)^3 / (1 - m D / (m - 1)^2)``, by the
    formula of Sherman and Morrison (1950). A distance that several rows share stays as it is: new rows lie there too.
    """
    places = _places_of(bins, distances)
    rows = max(3.0, float(np.isfinite(distances).sum()))
    squared = distances * directions
    left = np.maximum(1 - rows * squared / (rows - 1) ** 2, LEAST_LEFT)
    left_out = squared * rows**2 * (rows - 2) / (rows - 1) ** 3 / left / directions
    _, which, rows_there = np.unique(distances, return_inverse=True, return_counts=True)
    places = np.where(rows_there[which] > 1, places, _places_of(bins, left_out))
    return leave_range_out(bins, distances, places)


def _places_of(bins: FeatureBins, values: Floats) -> Places:
    places: Places = NumericBinFinder([bins])(values[:, None])[:, 0]
    return places


def find_distances(numbers: Floats, middle: Floats, directions: Floats) -> Floats:
    """Return the distance [rows] of each row from the mean; missing and infinite numbers count as the mean."""
    centred = numbers - middle
    projected = np.where(np.isfinite(centred), centred, 0.0) @ directions
    return round_distances(np.einsum("ij,ij->i", projected, projected) / directions.shape[1])


def round_distances(distances: Floats) -> Floats:
    """Round away the last digits, which depend on the number of rows in a matrix product: if columns have few values,
    many rows lie at the same distance, and so do edges of bins."""
    rounded: Floats = np.round(distances, DIGITS)
    return rounded
