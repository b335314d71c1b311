"""What is usual of each column at a time, and how far a column may move before that is evidence."""

from collections.abc import Sequence

import numpy as np

from penstock.core.statistics.change_detection import NEGLIGIBLE, sampling_error
from penstock.core.statistics.seasons import Usual, quarter_of
from penstock.monitor.reference import Feature


class SeasonalBaseline:
    """What is usual of each column now, and the nats a row tolerated of each: in this quarter of an hour, or of
    the whole reference, where that tells no hours apart."""

    def __init__(self, features: Sequence[Feature]) -> None:
        self._features = features
        self._by_hour = [Usual(np.asarray(one.hours, float)) for one in features if one.hours]
        self._hours = len(features[0].hours) if self._by_hour else 0
        self._now = -1
        self.usual = [np.asarray(feature.counts, float) for feature in features]
        self.wander = [one.wander for one in features]
        self.sampling = self._sampling()

    @property
    def tolerance(self) -> list[float]:
        """Nats a row that are no evidence, of each column."""
        return [NEGLIGIBLE + error + wander for error, wander in zip(self.sampling, self.wander, strict=True)]

    def _sampling(self) -> list[float]:
        return [sampling_error(one, len(self._features)) for one in self.usual]

    def turn(self, now: float) -> bool:
        """Go on to a time (seconds since the epoch); whether anything is different then."""
        if not self._hours or quarter_of(now, self._hours) == self._now:
            return False
        self._now = quarter_of(now, self._hours)
        self.usual = [one.counts(self._now) for one in self._by_hour]
        self.wander = [one.moves(self._now) for one in self._by_hour]
        self.sampling = self._sampling()
        return True
