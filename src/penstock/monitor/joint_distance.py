"""How far a row lies from the middle of a reference: one distance of all its numbers, by their covariance."""

import numpy as np

from penstock.core.bins import Bins, Floats, NumericPlaces, Places, numeric_bins
from penstock.monitor.reference import Feature, Joint
from penstock.monitor.reference_columns import JOINT, counts_of, range_left_out

DIGITS = 6
"""Decimals of a joint distance, whose mean is about 1."""

MOST_JOINT = 32
"""Dimensions of the joint distance; more numbers than that are projected on so many random directions first."""

RIDGE = 1e-3

LEAST_LEFT = 0.05
"""Of the covariance in a row's direction what the other rows are taken to have at least."""


def joint_of(numbers: Floats) -> Joint | None:
    """The distance from the middle, whitened (Mahalanobis), of at least two numbers a row."""
    width = numbers.shape[1]
    whole = numbers[np.isfinite(numbers).all(axis=1)]
    if width < 2 or len(whole) < 10 * width:
        return None
    middle, spread = whole.mean(axis=0), whole.std(axis=0)
    scale = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 0)
    turned = np.diag(scale)
    if width > MOST_JOINT:
        turned = turned @ np.random.default_rng(width).standard_normal((width, MOST_JOINT)) / np.sqrt(width)
    seen = (whole - middle) @ turned
    values, vectors = np.linalg.eigh(np.cov(seen, rowvar=False) + RIDGE * np.eye(seen.shape[1]))
    directions = np.round(turned @ vectors / np.sqrt(values), 9)
    middle = np.round(middle, 9)
    distances = distance(numbers, middle, directions)
    bins = numeric_bins(JOINT, distances)
    places = _row_left_out(bins, distances, directions.shape[1])
    feature = Feature(bins, counts_of(places, bins), float(np.nanmean(distances)), float(np.nanstd(distances)))
    return Joint(tuple(middle.tolist()), tuple(tuple(row) for row in directions.tolist()), feature)


def joint_places(joint: Joint, numbers: Floats) -> Places:
    """The place of each row's distance."""
    distances = distance(numbers, np.array(joint.middle), np.array(joint.directions))
    return _row_left_out(joint.feature.bins, distances, len(joint.directions[0]))


def _row_left_out(bins: Bins, distances: Floats, directions: int) -> Places:
    """The places of the rows' distances, each measured by the middle and the covariance of all other rows.

    A row lies nearer to a middle that it has a part in than new rows do: of m rows in d directions by about ``d / m``.
    Without a row its squared distance is ``D m^2 (m - 2) / (m - 1)^3 / (1 - m D / (m - 1)^2)``, by the formula of
    Sherman and Morrison (1950). Distances that many rows share are told as they are, for new rows lie there too.
    """
    places = _places_of(bins, distances)
    rows = max(3.0, float(np.isfinite(distances).sum()))
    whole = distances * directions
    left = np.maximum(1 - rows * whole / (rows - 1) ** 2, LEAST_LEFT)
    apart = whole * rows**2 * (rows - 2) / (rows - 1) ** 3 / left / directions
    _, which, rows_there = np.unique(distances, return_inverse=True, return_counts=True)
    places = np.where(rows_there[which] > 1, places, _places_of(bins, apart))
    return range_left_out(bins, distances, places)


def _places_of(bins: Bins, values: Floats) -> Places:
    found: Places = NumericPlaces([bins])(values[:, None])[:, 0]
    return found


def distance(numbers: Floats, middle: Floats, directions: Floats) -> Floats:
    """Each row's distance from the middle; missing and infinite numbers count as lying in it."""
    apart = numbers - middle
    seen = np.where(np.isfinite(apart), apart, 0.0) @ directions
    return rounded(np.einsum("ij,ij->i", seen, seen) / directions.shape[1])


def rounded(distances: Floats) -> Floats:
    """The same without their last digits, which depend on how many rows a product of matrices has: where columns have
    few values many rows lie at the same distance, and edges there."""
    found: Floats = np.round(distances, DIGITS)
    return found
