"""Readings in, Prometheus text or OpenMetrics out; the one door to prometheus_client, which decides which of the two.

Names and labels of a series are written once and kept while it is told of: a scrape of some thousand series is little
more than joining texts.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from math import isfinite

from prometheus_client.exposition import choose_encoder

from penstock.telemetry.metrics import METRICS, PREFIX, Bulk, Distribution, Kind, Metric, Point, Reading

Read = Callable[[], Iterable[Reading]]

OPENMETRICS = "application/openmetrics-text"

_EDGE_TEXTS = {metric.edges: (*(repr(edge) for edge in metric.edges), "+Inf") for metric in METRICS}
_ESCAPED = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})

Heads = tuple[str, ...]
"""What stands before the values of a reading's samples."""


class Exposition:
    """Renders what ``read`` gives at each scrape; nothing but texts is kept between two scrapes."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._heads: dict[object, tuple[object, Heads]] = {}

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The body and its content type, in the form the ``Accept`` header asks for."""
        _, content_type = choose_encoder(accept)
        openmetrics = content_type.startswith(OPENMETRICS)
        families: dict[str, list[str]] = {}
        used: dict[object, tuple[object, Heads]] = {}
        for reading in self._read():
            lines = families.setdefault(reading.metric.name, [])
            key = _key(reading)
            kept = self._heads.get(key) or _kept(reading)
            used[key] = kept
            lines += kept[1] if _is_constant(reading) else map(str.__add__, kept[1], _values(reading))
        self._heads = used
        parts = [
            text
            for metric in METRICS
            if metric.name in families
            for text in (_head_lines(metric, openmetrics), *families[metric.name])
        ]
        ending = "# EOF\n" if openmetrics else ""
        return ("\n".join([*parts, ending]) if parts else ending).encode(), content_type


def _is_constant(reading: Reading) -> bool:
    """Whether its values are the same at every scrape, as a tuple's are."""
    return isinstance(reading, Bulk) and isinstance(reading.values, tuple)


def _kept(reading: Reading) -> tuple[object, Heads]:
    """What is kept of a reading, beside the labels that name it, lest others come to lie at their place."""
    heads = _heads(reading)
    return reading.labels, tuple(map(str.__add__, heads, _values(reading)) if _is_constant(reading) else heads)


def _key(reading: Reading) -> object:
    """Names a reading's series: many at a time by the very list of their labels, which is the same at every scrape."""
    match reading:
        case Bulk(metric=metric, labels=labels):
            return metric.name, id(labels)
        case _:
            return reading.metric.name, reading.labels


def _heads(reading: Reading) -> Iterator[str]:
    metric = reading.metric
    name = PREFIX + metric.name
    match reading:
        case Point(labels=labels):
            yield f"{name}{_labels(metric, labels)} "
        case Bulk(labels=many):
            for labels in many:
                yield f"{name}{_labels(metric, labels)} "
        case Distribution(labels=labels):
            for edge in _EDGE_TEXTS[metric.edges]:
                yield f"{name}_bucket{_labels(metric, labels, edge)} "
            yield f"{name}_count{_labels(metric, labels)} "
            yield f"{name}_sum{_labels(metric, labels)} "


def _labels(metric: Metric, labels: Sequence[str], edge: str = "") -> str:
    named = [*zip(metric.labels, labels, strict=True), *([("le", edge)] if edge else [])]
    told = ",".join(f'{name}="{value.translate(_ESCAPED)}"' for name, value in sorted(named))
    return f"{{{told}}}" if told else ""


def _values(reading: Reading) -> Iterable[str]:
    match reading:
        case Point(value=value):
            return (_number(value),)
        case Bulk(values=values):
            return map(repr if all(map(isfinite, values)) else _number, values)
        case Distribution(buckets=buckets, total=total):
            counts = list(map(str, accumulate(buckets)))
            return (*counts, counts[-1], _number(total))


def _number(value: float) -> str:
    text = repr(float(value))
    return {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}.get(text, text)


def _head_lines(metric: Metric, openmetrics: bool) -> str:
    name = PREFIX + metric.name
    if openmetrics and metric.kind is Kind.COUNTER:
        name = name.removesuffix("_total")
    return f"# HELP {name} {metric.help.translate(_ESCAPED)}\n# TYPE {name} {metric.kind}"
