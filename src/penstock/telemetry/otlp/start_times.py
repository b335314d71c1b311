"""Since when each series of a push has counted: one that begins anew needs a later start (OTLP, "Resets and Gaps")."""

from penstock.telemetry.metric import Metric

Series = tuple[str, tuple[str, ...]]
"""The name of a metric and its labels."""


class StartTimes:
    """The start of each series, in nanoseconds since the epoch; those of the first push have counted since
    ``began_ns``. Of one thread.

    A series that is new, or that counts less than before, has begun after the push before.
    """

    def __init__(self, began_ns: int) -> None:
        self._last_ns = began_ns
        self._before: dict[Series, tuple[float, int]] = {}
        self._now: dict[Series, tuple[float, int]] = {}

    def find(self, metric: Metric, labels: tuple[str, ...], count: float) -> int:
        """Return since when a series counts, which has this count in the present push."""
        series = metric.name, labels
        count_before, start_ns = self._before.get(series, (0.0, self._last_ns))
        if count < count_before:
            start_ns = self._last_ns
        self._now[series] = count, start_ns
        return start_ns

    def end_push(self, now_ns: int) -> None:
        """End the present push, whose values are of ``now_ns``; series that it has not are forgotten."""
        self._before, self._now, self._last_ns = self._now, {}, now_ns
