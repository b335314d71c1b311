"""Exemplars: for buckets of histograms, the newest traced request that was counted in them."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from penstock.telemetry.metric import Metric
from penstock.telemetry.readings import Distribution, Exemplar, Reading

MOST_SERIES: Final = 512
"""Series of histograms with exemplars, at most one for each bucket; the oldest series are forgotten first."""


class ExemplarStore:
    """The exemplars of one gateway. One thread puts them, another attaches them."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, tuple[str, ...]], dict[int, Exemplar]] = {}

    def put(self, metric: Metric, labels: tuple[str, ...], exemplar: Exemplar) -> None:
        """Keep an exemplar for the bucket of its value."""
        key = metric.name, labels
        buckets = self._series.get(key)
        if buckets is None:
            buckets = self._add_series(key)
        buckets[bisect_left(metric.edges, exemplar.value)] = exemplar

    def _add_series(self, key: tuple[str, tuple[str, ...]]) -> dict[int, Exemplar]:
        if len(self._series) >= MOST_SERIES:
            del self._series[next(iter(self._series))]
        return self._series.setdefault(key, {})

    def attach(self, readings: Iterable[Reading]) -> Iterator[Reading]:
        """Yield readings, histograms with the exemplars of their buckets."""
        for reading in readings:
            found = self._found(reading) if isinstance(reading, Distribution) and self._series else None
            yield replace(reading, exemplars=found) if found and isinstance(reading, Distribution) else reading

    def _found(self, reading: Distribution) -> tuple[tuple[int, Exemplar], ...]:
        found = self._series.get((reading.metric.name, reading.labels), {})
        return tuple(sorted(found.copy().items(), key=lambda item: item[0]))
