"""Counts by bucket as readers get them, and quantiles between the edges of the latency buckets."""

from dataclasses import dataclass

from penstock.core.buckets import LATENCY_EDGES_NS


@dataclass(frozen=True, slots=True)
class Histogram:
    """Cumulative-free bucket counts and the sum of the values (nanoseconds or rows)."""

    buckets: tuple[int, ...]
    total: int

    @property
    def count(self) -> int:
        """Number of values."""
        return sum(self.buckets)


def quantile_ns(buckets: list[int], rank: float) -> float:
    """The duration of that rank among those counted by latency bucket, evenly spread within a bucket on a logarithmic
    scale."""
    seen = 0
    for index, count in enumerate(buckets):
        if count and seen + count >= rank:
            high = LATENCY_EDGES_NS[min(index, len(LATENCY_EDGES_NS) - 1)]
            low = LATENCY_EDGES_NS[index - 1] if 0 < index < len(LATENCY_EDGES_NS) else high / 2
            return float(low * (high / low) ** ((rank - seen) / count))
        seen += count
    return float(LATENCY_EDGES_NS[-1])
