"""How long requests took in each stage inside the gateway, by its own statistics of before and after a window."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

Document = Mapping[str, Any]

STAGES: Final = {
    "compute_input": "decode",
    "queue": "queue",
    "compute_infer": "run",
    "compute_output": "encode",
}
"""The stages of the statistics of the protocol, and their names in Penstock."""


@dataclass(frozen=True, slots=True)
class StageTimes:
    """The mean of each stage in milliseconds, and how many requests each version answered.

    The statistics are of every request that the gateway had meanwhile, not of the load test alone.
    """

    mean_ms: Mapping[str, float]
    requests: Mapping[str, int]


def stage_times(before: Sequence[Document], after: Sequence[Document]) -> StageTimes | None:
    """Return what lies between two answers of the statistics of a model (one document for each version); None if the
    gateway counted nothing."""
    earlier = {str(document["version"]): document["inference_stats"] for document in before}
    later = {str(document["version"]): document["inference_stats"] for document in after}
    requests = {version: _subtract(stats, earlier.get(version), "success")[0] for version, stats in later.items()}
    requests = {version: count for version, count in requests.items() if count > 0}
    means = {}
    for key, stage in STAGES.items():
        pairs = [_subtract(later[version], earlier.get(version), key) for version in requests]
        count, total_ns = (sum(pair[place] for pair in pairs) for place in (0, 1))
        if count > 0:
            means[stage] = total_ns / count / 1e6
    return StageTimes(means, requests) if requests else None


def _subtract(after: Document, before: Document | None, key: str) -> tuple[int, int]:
    """Return how much a count and its nanoseconds have grown; from zero if the gateway has begun anew."""
    earlier, later = (before or {}).get(key, {}), after.get(key, {})
    count, nanoseconds = (int(later.get(name, 0)) - int(earlier.get(name, 0)) for name in ("count", "ns"))
    if count < 0 or nanoseconds < 0:
        return int(later.get("count", 0)), int(later.get("ns", 0))
    return count, nanoseconds
