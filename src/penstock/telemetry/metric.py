"""A metric: its name, type, labels and help text."""

from dataclasses import dataclass
from enum import StrEnum

PREFIX = "penstock_"


class MetricType(StrEnum):
    """The type of a metric."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric; ``edges`` are a histogram's upper bucket edges, in the unit of its name."""

    name: str
    kind: MetricType
    labels: tuple[str, ...]
    help: str
    edges: tuple[float, ...] = ()
