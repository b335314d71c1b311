"""The usual counts of each column at a time of day or week, and how far it may move without evidence of drift."""

from collections.abc import Sequence

import numpy as np

from penstock.core.statistics.change_detection import NEGLIGIBLE, sampling_error
from penstock.core.statistics.seasons import SeasonalProfile, quarter_of
from penstock.monitor.reference import Feature


class SeasonalBaseline:
    """The usual counts of each column and its tolerance, for the present quarter of an hour.

    ``usual`` are counts [places] of each column, ``seasonal_variation`` and ``sampling`` nats for each row. If the
    reference does not distinguish hours, they are those of the whole reference.
    """

    def __init__(self, features: Sequence[Feature]) -> None:
        self._features = features
        self._by_hour = [SeasonalProfile(np.asarray(feature.hours, float)) for feature in features if feature.hours]
        self._hours = len(features[0].hours) if self._by_hour else 0
        self._now = -1
        self.usual = [np.asarray(feature.counts, float) for feature in features]
        self.seasonal_variation = [feature.seasonal_variation for feature in features]
        self.sampling = self._sampling()

    @property
    def tolerance(self) -> list[float]:
        """Nats for each row that are not evidence of drift, of each column."""
        parts = zip(self.sampling, self.seasonal_variation, strict=True)
        return [NEGLIGIBLE + error + variation for error, variation in parts]

    def _sampling(self) -> list[float]:
        return [sampling_error(counts, len(self._features)) for counts in self.usual]

    def turn(self, now: float) -> bool:
        """Move on to a time (seconds since the epoch), and return whether the baseline has changed."""
        if not self._hours or quarter_of(now, self._hours) == self._now:
            return False
        self._now = quarter_of(now, self._hours)
        self.usual = [hours.counts(self._now) for hours in self._by_hour]
        self.seasonal_variation = [hours.divergence_nearby(self._now) for hours in self._by_hour]
        self.sampling = self._sampling()
        return True
