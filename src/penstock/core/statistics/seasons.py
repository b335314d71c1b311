"""What a stream does by the hour and from day to day while nothing changes: references by the hour, and allowances from
how far a reference's own chunks lie from the whole.

A season is not a change of the world, but rows of one afternoon do not look like those of a whole week. Two things are
known of it by a reference that was made of data over time. By the hours of its rows: the shares usual at each hour of
the week (or of the day), drawn from the hours around it by a kernel, because one hour has few rows; a weighted sum of
counts is worth as many rows as ``(sum w n)^2 / sum w^2 n`` (Kish, "Survey Sampling", 1965). And by the order of its
rows alone: how far chunks of them lie from the whole. The furthest distance is allowed, as NannyML's thresholds rest on
the spread of a reference's chunks, but only where chunks differ by more than chance: ``sum 2 n KL`` of K places is
about chi-square with ``K - 1`` degrees for each chunk but one (Wilks 1938).

Distances are Renyi's of order 2, ``ln sum p^2 / q``. While rows come from p, a likelihood ratio against q has the mean
``sum p^2 / q`` a row; less this it is a fair bet, so that evidence against the reference does not grow while a stream
is where it was in training. (The Kullback-Leibler divergence, about half of it, would make only the logarithm fair:
its walk reaches any threshold soon.)
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from penstock.core.statistics.distributions import Counts, find_shares
from penstock.core.statistics.special_functions import chi_square_quantile

HOUR_S = 3600
OF_DAY, OF_WEEK = 24, 168
MONDAY_S = 4 * 86_400
"""The first Monday after the epoch, UTC."""

KERNEL = (1 / 3, 2 / 3, 1.0, 2 / 3, 1 / 3)
"""Weights of the hours around one."""

LEAST_OF_WEEK = 50
"""Rows an hour of the week has to have on average to be distinguished from the same hour of other days."""

LEAST_OF_DAY = 10

CHUNK = 250
"""Rows that a chunk has at least."""

NARROW = (0.5, 1.0, 0.5)
MANY_CHUNKS = 100
"""Chunks, so short that the ones beside them say the same, from which on they are smoothed."""

FEWEST_CHUNKS = 5
MAX_SEASONAL_VARIATION = 0.25
"""Nats a row that are allowed at most, those of a shift of half a standard deviation: data that is sorted by
something else than time must not make the monitor blind."""

SURE = 3.09
"""The normal quantile (0.999) beyond which chunks differ by more than chance."""


def hours_of(seconds: Counts, hours: int) -> NDArray[np.intp]:
    """The hour of the week (from Monday, UTC) or of the day of each time (seconds since the epoch)."""
    return ((np.asarray(seconds) - MONDAY_S) // HOUR_S % hours).astype(np.intp)


def distinguishable_hours(seconds: Counts) -> int:
    """How many hours can be distinguished by rows of these times: those of the week, those of the day, or none (0)."""
    for hours, least in ((OF_WEEK, LEAST_OF_WEEK), (OF_DAY, LEAST_OF_DAY)):
        counts = np.bincount(hours_of(seconds, hours), minlength=hours) if len(seconds) else np.zeros(hours)
        if counts.min() > 0 and counts.mean() >= least:
            return hours
    return 0


def smooth(counts: Counts, kernel: Sequence[float] = KERNEL) -> Counts:
    """The usual counts [hours, places] of each hour, drawn from those around it, of as many rows as they are worth."""
    rows = counts.sum(axis=1)
    steps = range(-(len(kernel) // 2), len(kernel) // 2 + 1)
    moved = [(weight, np.roll(counts, step, axis=0)) for weight, step in zip(kernel, steps, strict=True)]
    total = np.sum([weight * item for weight, item in moved], axis=0)
    weights = [(weight, np.roll(rows, step)) for weight, step in zip(kernel, steps, strict=True)]
    first = np.sum([weight * item for weight, item in weights], axis=0)
    second = np.sum([weight**2 * item for weight, item in weights], axis=0)
    return np.asarray(total * (first / np.maximum(second, 1e-9))[:, None], float)


class SeasonalProfile:
    """What is usual of one column at any time, by its smoothed counts [hours, places]: between the middles of two hours
    it goes over from one to the other, in quarters."""

    def __init__(self, hours: Counts) -> None:
        self._counts = smooth(np.asarray(hours, float))
        self._shares = np.array([find_shares(count) for count in self._counts])

    def counts(self, quarter: int) -> Counts:
        """The usual counts in this quarter of an hour."""
        hour, share = _interpolate_hour(quarter, len(self._counts))
        return np.asarray((1 - share) * self._counts[hour] + share * self._counts[hour - len(self._counts) + 1], float)

    def divergence_nearby(self, quarter: int) -> float:
        """Nats a row that one hour is apart from the next around this time: so far off may the kernel be, where what is
        usual changes at once, as at midnight before a holiday."""
        hour, share = _interpolate_hour(quarter, len(self._counts))
        now = (1 - share) * self._shares[hour] + share * self._shares[hour - len(self._counts) + 1]
        around = [self._shares[(hour + step) % len(self._counts)] for step in (-1, 0, 1, 2)]
        return max(_find_divergence(item, now) for item in around)


def quarter_of(seconds: float, hours: int) -> int:
    """The quarter of an hour of the week, or of the day, that a time is in."""
    return int((seconds - MONDAY_S) // (HOUR_S / 4) % (4 * hours))


def _interpolate_hour(quarter: int, hours: int) -> tuple[int, float]:
    """The hour whose middle was last, and how far on the way to the next one the middle of the quarter is."""
    place = (quarter + 0.5) / 4 - 0.5
    hour = int(place // 1)
    return hour % hours, place - hour


def seasonal_variation(counts: Counts) -> float:
    """Nats a row that chunks of a reference [chunks, places], in the order of its rows, lie from all of it at most;
    nothing where they differ by no more than chance."""
    rows, whole = counts.sum(axis=1), counts.sum(axis=0)
    places = int((whole > 0).sum()) - 1
    if len(counts) < FEWEST_CHUNKS or places < 1 or not rows.all():
        return 0.0
    if float((2 * rows * _find_divergences(counts, whole)).sum()) <= chi_square_quantile(
        (len(counts) - 1) * places, SURE
    ):
        return 0.0
    averaged = smooth(counts, NARROW) if len(counts) >= MANY_CHUNKS else counts
    usual = find_shares(whole)
    return min(max(_find_divergence(item / item.sum(), usual) for item in averaged), MAX_SEASONAL_VARIATION)


def _find_divergences(counts: Counts, whole: Counts) -> Counts:
    """Nats a row (Kullback-Leibler) that each row of counts lies from the whole."""
    p = counts / counts.sum(axis=1)[:, None]
    logs = np.log(np.maximum(p, 1e-12)) - np.log(find_shares(whole))
    return np.asarray(np.where(p > 0, p * logs, 0.0).sum(axis=1), float)


def _find_divergence(p: Counts, q: Counts) -> float:
    """Renyi's divergence of order 2, nats."""
    return float(np.log((p * p / q).sum()))


def chunk_places(places: NDArray[np.intp], width: int) -> Counts:
    """The counts [chunks, places] of a column's places, in chunks of equal size."""
    chunks = min(OF_WEEK, len(places) // CHUNK)
    if not chunks:
        return np.zeros((0, width))
    which = np.arange(len(places)) * chunks // len(places)
    return np.bincount(which * width + places, minlength=chunks * width).reshape(chunks, width).astype(float)
