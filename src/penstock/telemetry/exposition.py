"""Readings in, Prometheus text or OpenMetrics out; the one door to prometheus_client."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from penstock.telemetry.metrics import METRICS, PREFIX, Distribution, Kind, Point, Reading
from penstock.telemetry.metrics import Metric as Row

Read = Callable[[], Iterable[Reading]]

_FAMILIES: dict[Kind, Callable[[str, str, Sequence[str]], Metric]] = {
    Kind.COUNTER: lambda name, text, labels: CounterMetricFamily(name, text, labels=labels),
    Kind.GAUGE: lambda name, text, labels: GaugeMetricFamily(name, text, labels=labels),
    Kind.HISTOGRAM: lambda name, text, labels: HistogramMetricFamily(name, text, labels=labels),
}
_EDGE_TEXTS = {metric.edges: (*(repr(edge) for edge in metric.edges), "+Inf") for metric in METRICS}


class Exposition:
    """Renders what ``read`` gives at each scrape; nothing is kept between two scrapes."""

    def __init__(self, read: Read) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Readings(read))

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The body and its content type, in the form the ``Accept`` header asks for."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


class _Readings(Collector):
    def __init__(self, read: Read) -> None:
        self._read = read

    def describe(self) -> Iterator[Metric]:
        """Nothing: names are known to be unique, so registering needs no scrape."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Every family of the table that has a series, with its samples."""
        families: dict[Row, Metric] = {}
        for reading in self._read():
            family = families.get(reading.metric)
            if family is None:
                row = reading.metric
                family = families[row] = _FAMILIES[row.kind](PREFIX + row.name, row.help, row.labels)
            _add(family, reading)
        return (families[row] for row in METRICS if row in families)


def _add(family: Metric, reading: Reading) -> None:
    match reading:
        case Point(metric=metric, labels=labels, value=value):
            family.add_sample(PREFIX + metric.name, dict(zip(metric.labels, labels, strict=True)), value)
        case Distribution():
            _add_distribution(family, reading)


def _add_distribution(family: Metric, reading: Distribution) -> None:
    name = PREFIX + reading.metric.name
    labels = dict(zip(reading.metric.labels, reading.labels, strict=True))
    count = 0
    for edge, count in zip(_EDGE_TEXTS[reading.metric.edges], accumulate(reading.buckets), strict=True):
        family.add_sample(name + "_bucket", {**labels, "le": edge}, count)
    family.add_sample(name + "_count", labels, count)
    family.add_sample(name + "_sum", labels, reading.total)
