"""Readings of metrics at one moment: single values, distributions, and many values at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from penstock.telemetry.metric import Metric


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a counter or gauge; ``labels`` are values in the order of the metric's label names."""

    metric: Metric
    labels: tuple[str, ...]
    value: float


class Exemplar(NamedTuple):
    """A traced request that a histogram counted: its ids in hexadecimal, its value in the unit of the metric's name,
    and when it ended (seconds since the epoch)."""

    trace_id: str
    span_id: str
    value: float
    at: float


@dataclass(frozen=True, slots=True)
class Distribution:
    """One series of a histogram: counts per bucket (one more than there are edges) and the sum of the values.

    Counts are not cumulative; ``total`` is in the unit of the metric's name. ``exemplars`` stand beside the index of
    their bucket.
    """

    metric: Metric
    labels: tuple[str, ...]
    buckets: tuple[int, ...]
    total: float
    exemplars: tuple[tuple[int, Exemplar], ...] = ()


@dataclass(frozen=True, slots=True)
class PointBatch:
    """Many values of a counter or gauge. ``labels`` is the same tuple at every scrape, so that its texts are cached;
    ``values`` is a tuple if they never change."""

    metric: Metric
    labels: tuple[tuple[str, ...], ...]
    values: Sequence[float]


Reading = Point | PointBatch | Distribution
