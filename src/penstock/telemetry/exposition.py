"""Renders readings as Prometheus text or OpenMetrics; the only importer of prometheus_client, which selects the format.

The name and labels of a series are formatted once and cached while it is exposed, so that a scrape of thousands of
series mostly joins texts. The library is imported by the first scrape.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from math import isfinite

from penstock.telemetry.metric import PREFIX, Metric, MetricType
from penstock.telemetry.metrics import METRICS
from penstock.telemetry.readings import Distribution, Point, PointBatch, Reading

Read = Callable[[], Iterable[Reading]]

OPENMETRICS = "application/openmetrics-text"

_EDGE_TEXTS = {metric.edges: (*(repr(edge) for edge in metric.edges), "+Inf") for metric in METRICS}
_ESCAPED = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})

Heads = tuple[str, ...]
"""The texts before the values of a reading's samples."""


class Exposition:
    """Renders the readings of ``read`` at each scrape; caches only texts between scrapes. Not for several threads."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._heads: dict[object, tuple[object, Heads]] = {}

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Return the body and its content type, in the format that the ``Accept`` header asks for."""
        from prometheus_client.exposition import choose_encoder  # noqa: PLC0415 - it imports an HTTP server

        _, content_type = choose_encoder(accept)
        openmetrics = content_type.startswith(OPENMETRICS)
        families: dict[str, list[str]] = {}
        used: dict[object, tuple[object, Heads]] = {}
        for reading in self._read():
            lines = families.setdefault(reading.metric.name, [])
            key = _find_key(reading)
            cached = self._heads.get(key) or _make_cached(reading)
            used[key] = cached
            lines += cached[1] if _is_constant(reading) else map(str.__add__, cached[1], _format_values(reading))
            if openmetrics and isinstance(reading, Distribution) and reading.exemplars:
                _append_exemplars(lines, reading)
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
    """Whether the values are the same at every scrape, as those of a tuple."""
    return isinstance(reading, PointBatch) and isinstance(reading.values, tuple)


def _make_cached(reading: Reading) -> tuple[object, Heads]:
    """Return the texts to cache, with the labels, which must live as long because their identity is the key."""
    heads = _make_heads(reading)
    return reading.labels, tuple(map(str.__add__, heads, _format_values(reading)) if _is_constant(reading) else heads)


def _find_key(reading: Reading) -> object:
    """Return the cache key of a reading: of a ``PointBatch``, the identity of its labels, which stays the same."""
    match reading:
        case PointBatch(metric=metric, labels=labels):
            return metric.name, id(labels)
        case _:
            return reading.metric.name, reading.labels


def _make_heads(reading: Reading) -> Iterator[str]:
    metric = reading.metric
    name = PREFIX + metric.name
    match reading:
        case Point(labels=labels):
            yield f"{name}{_format_labels(metric, labels)} "
        case PointBatch(labels=many):
            for labels in many:
                yield f"{name}{_format_labels(metric, labels)} "
        case Distribution(labels=labels):
            for edge in _EDGE_TEXTS[metric.edges]:
                yield f"{name}_bucket{_format_labels(metric, labels, edge)} "
            yield f"{name}_count{_format_labels(metric, labels)} "
            yield f"{name}_sum{_format_labels(metric, labels)} "


def _format_labels(metric: Metric, labels: Sequence[str], edge: str = "") -> str:
    pairs = [*zip(metric.labels, labels, strict=True), *([("le", edge)] if edge else [])]
    text = ",".join(f'{name}="{value.translate(_ESCAPED)}"' for name, value in sorted(pairs))
    return f"{{{text}}}" if text else ""


def _format_values(reading: Reading) -> Iterable[str]:
    match reading:
        case Point(value=value):
            return (_format_number(value),)
        case PointBatch(values=values):
            return map(repr if all(map(isfinite, values)) else _format_number, values)
        case Distribution(buckets=buckets, total=total):
            counts = list(map(str, accumulate(buckets)))
            return (*counts, counts[-1], _format_number(total))


def _append_exemplars(lines: list[str], reading: Distribution) -> None:
    """Append exemplars to the lines of their buckets, which with those of count and sum are the last ones (OpenMetrics
    1.0, section "Exemplars")."""
    first = len(lines) - len(reading.buckets) - 2
    for bucket, item in reading.exemplars:
        ids = f'{{trace_id="{item.trace_id}",span_id="{item.span_id}"}}'
        lines[first + bucket] += f" # {ids} {_format_number(item.value)} {item.at:.3f}"


def _format_number(value: float) -> str:
    text = repr(float(value))
    return {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}.get(text, text)


def _head_lines(metric: Metric, openmetrics: bool) -> str:
    name = PREFIX + metric.name
    if openmetrics and metric.kind is MetricType.COUNTER:
        name = name.removesuffix("_total")
    return f"# HELP {name} {metric.help.translate(_ESCAPED)}\n# TYPE {name} {metric.kind}"
