"""Histograms of counters, and quantiles interpolated between the edges of the latency buckets."""

from dataclasses import dataclass

from penstock.core.buckets import LATENCY_EDGES_NS


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of each bucket (not cumulative) and the sum of the values (nanoseconds or rows)."""

    buckets: tuple[int, ...]
    total: int

    @property
    def count(self) -> int:
        """Number of values."""
        return sum(self.buckets)


def quantile_ns(buckets: list[int], rank: float) -> float:
    """Return the duration (nanoseconds) of this rank among values counted by latency bucket; values are taken to be
    spread evenly within a bucket on a logarithmic scale."""
    below = 0
    for index, count in enumerate(buckets):
        if count and below + count >= rank:
            high = LATENCY_EDGES_NS[min(index, len(LATENCY_EDGES_NS) - 1)]
            low = LATENCY_EDGES_NS[index - 1] if 0 < index < len(LATENCY_EDGES_NS) else high / 2
            return float(low * (high / low) ** ((rank - below) / count))
        below += count
    return float(LATENCY_EDGES_NS[-1])
