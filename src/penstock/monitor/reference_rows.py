"""Draws rows from a reference: it holds no rows, so each column is drawn by itself, and what columns have in common is
lost."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from penstock.core.bins import FeatureBins, FeatureKind, Floats
from penstock.core.tensors import Array
from penstock.monitor.columns import Columns
from penstock.monitor.reference import Feature, Reference


def draw_rows(reference: Reference, columns: Columns, rows: int, seed: int) -> dict[str, Array] | None:
    """Return ``rows`` drawn values for each column of each input tensor [rows, columns]: float64, or texts. None if an
    input has no column for each of its values, or the reference lacks a column."""
    features = {feature.bins.name: feature for feature in reference.inputs}
    tensors = columns.tensors()
    wanted = [name for names in tensors.values() for name in names]
    if len(wanted) != len(columns.numbers) + len(columns.labels) or any(name not in features for name in wanted):
        return None
    rng = np.random.default_rng(seed)
    drawn = {name: draw_values(features[name], rows, rng) for name in wanted}
    return {tensor: _stack(drawn, names) for tensor, names in tensors.items()}


def _stack(drawn: Mapping[str, Array], names: tuple[str, ...]) -> Array:
    return np.stack([drawn[name] for name in names], axis=1)


def draw_values(feature: Feature, rows: int, rng: np.random.Generator) -> Array:
    """Return values of one column in the proportions of its bins, evenly within a bin: one out of each of ``rows``
    equal parts of its distribution, in random order."""
    counts = np.asarray(feature.counts, float)
    if not counts.sum():
        counts = np.ones(len(counts))
    edges = np.cumsum(counts) / counts.sum()
    places = np.searchsorted(edges, (np.arange(rows) + rng.random(rows)) / rows, side="right")
    places = rng.permutation(np.minimum(places, len(counts) - 1))
    if feature.bins.kind is FeatureKind.CATEGORICAL:
        return _texts_at(feature.bins, places)
    return _numbers_at(feature.bins, places, rng)


def _texts_at(bins: FeatureBins, places: NDArray[np.intp]) -> Array:
    """Return the value of each place; the rest of the known values stands for all places without one."""
    rest = bins.known[0] if bins.known else bins.values[0] if bins.values else ""
    texts = [*bins.values, rest, rest, ""]
    values = np.empty(len(places), object)
    values[:] = [texts[place] for place in places]
    return values


def _numbers_at(bins: FeatureBins, places: NDArray[np.intp], rng: np.random.Generator) -> Floats:
    """Return a number within each bin: the middle of its bounds where the reference had one value in each, else any."""
    edges = np.asarray(bins.edges)
    single = bins.single_numbers()
    low = np.concatenate((edges[:1], edges, [-np.inf, np.inf, np.nan]))
    high = np.concatenate((edges[:1], edges[1:], edges[-1:], [-np.inf, np.inf, np.nan]))
    values: Floats = low[places]
    finite = np.isfinite(values)
    inner = places[finite]
    values[finite] += rng.random(len(inner)) * (high[inner] - low[inner])
    if single:
        known = (places >= 1) & (places <= len(single))
        values[known] = np.asarray(single)[places[known] - 1]
    return values
