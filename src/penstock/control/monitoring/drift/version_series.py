"""The metrics of one version's monitor: series labels are made once, values at each scrape."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from penstock.core.statistics.column_state import ColumnPhase
from penstock.core.statistics.distributions import find_shares
from penstock.monitor.quality import KINDS, Violations
from penstock.monitor.verdicts import VersionMonitor
from penstock.telemetry import metrics
from penstock.telemetry.metric import Metric, MetricType
from penstock.telemetry.readings import Point, PointBatch, Reading

MOST_MEASURED = 64
"""The most columns of a version with metrics, outputs first; the admin API has all columns."""

INPUTS = metrics.FEATURE_BINS, metrics.FEATURE_REFERENCE, metrics.FEATURE_BELOW, metrics.FEATURE_BELOW_REFERENCE
OUTPUTS = metrics.OUTPUT_BINS, metrics.OUTPUT_REFERENCE, metrics.OUTPUT_BELOW, metrics.OUTPUT_BELOW_REFERENCE
"""Rows and shares by bin, and both as cumulative values."""

LabelTuples = tuple[tuple[str, ...], ...]


Carried = dict[tuple[str, tuple[str, ...]], float]
"""Counter values by metric and labels."""


class VersionSeries:
    """The series of one version; ``key`` is its model and version.

    With another reference counting restarts. ``carried`` has the earlier counter values, so that counters never fall;
    it is available as ``before``. ``summary`` is the fleet's verdict (see ``fleet_evidence``), empty while it is
    unknown; with None the metrics show the verdict of this gateway.
    """

    def __init__(self, key: tuple[str, str], monitor: VersionMonitor, carried: Carried | None = None) -> None:
        self.monitor = monitor
        self.summary: Mapping[str, Any] | None = None
        self._key = key
        self._whole: LabelTuples = (key,)
        self._full: LabelTuples = ((*key, "full"),)
        self.before = carried or {}
        self._added: dict[str, list[float]] = {}
        inputs, outputs = len(monitor.reference.inputs), len(monitor.reference.features)
        chosen = [*range(inputs, outputs), *range(inputs)][:MOST_MEASURED]
        self._chosen = chosen
        features = monitor.reference.features
        self._sides = [
            _BinSeries(key, INPUTS, monitor, [item for item in chosen if item < inputs]),
            _BinSeries(key, OUTPUTS, monitor, [item for item in chosen if item >= inputs]),
        ]
        names = [features[index].bins.name for index in chosen]
        self._names: LabelTuples = tuple((*key, name) for name in names)
        self._scored: LabelTuples = tuple((*key, name, word) for word in ("psi", "js") for name in names)
        self._violated = Violations([features[index] for index in chosen if index < inputs])
        self._inputs = [index for index in chosen if index < inputs]
        self._kinds: LabelTuples = tuple(
            (*key, features[index].bins.name, kind) for index in self._inputs for kind in KINDS
        )

    def readings(self) -> Iterator[Reading]:
        """Yield counts, reference shares, evidence and states of every column with metrics."""
        for item in self._current():
            yield self._with_carried(item) if isinstance(item, PointBatch) and self._restarts(item.metric) else item

    def carried(self) -> Carried:
        """Return the present counter values."""
        return {
            (reading.metric.name, labels): value
            for reading in self.readings()
            if isinstance(reading, PointBatch) and self._restarts(reading.metric)
            for labels, value in zip(reading.labels, reading.values, strict=True)
            if value
        }

    def _restarts(self, metric: Metric) -> bool:
        """Return whether a metric restarts at 0 with another reference; alarms of a fleet do not."""
        return metric.kind is MetricType.COUNTER and (metric is not metrics.DRIFT_ALARMS or self.summary is None)

    def _with_carried(self, reading: PointBatch) -> PointBatch:
        if not self.before:
            return reading
        name = reading.metric.name
        if name not in self._added:
            self._added[name] = [self.before.get((name, labels), 0) for labels in reading.labels]
        added = self._added[name]
        return PointBatch(
            reading.metric, reading.labels, [value + more for value, more in zip(reading.values, added, strict=True)]
        )

    def _current(self) -> Iterator[Reading]:
        monitor, chosen = self.monitor, self._chosen
        for side in self._sides:
            yield from side.readings()
        evidence, drifts, alarms = self._verdict()
        psi, js = monitor.distances()
        yield PointBatch(metrics.DRIFT_LOG_EVIDENCE, self._names, evidence)
        yield PointBatch(metrics.DRIFT_STATE, self._names, drifts)
        yield PointBatch(metrics.DRIFT_SCORE, self._scored, [of[index] for of in (psi, js) for index in chosen])
        yield PointBatch(metrics.QUALITY_VIOLATIONS, self._kinds, self._violations())
        if (estimated := monitor.estimate()) is not None:
            yield Point(metrics.PERFORMANCE_RATIO, (*self._key, "estimated_accuracy"), estimated.accuracy)
        if alarms is not None:
            yield PointBatch(metrics.DRIFT_ALARMS, self._whole, [alarms])
        yield PointBatch(metrics.MONITOR_ROWS, self._whole, [monitor.head["counted"]])
        yield PointBatch(metrics.MONITOR_DROPPED, self._full, [monitor.head["dropped"]])

    def _verdict(self) -> tuple[list[float], list[int], int | None]:
        """Return the log evidence and drift state (0 or 1) of each column, by the fleet's verdict if it is known, and
        the alarms that this gateway has emitted, None if that is unknown."""
        if not self.summary:
            states, evidence = self.monitor.states(), self.monitor.evidence()
            drifts = [int(states[index] is ColumnPhase.DRIFT) for index in self._chosen]
            return (
                [evidence[index] for index in self._chosen],
                drifts,
                self.monitor.alarms if self.summary is None else None,
            )
        columns = self.summary["columns"]
        verdicts = [columns.get(name, (ColumnPhase.INSUFFICIENT_DATA.value, 0.0)) for *_, name in self._names]
        drifts = [int(state == ColumnPhase.DRIFT.value) for state, _ in verdicts]
        return [log_e for _, log_e in verdicts], drifts, self.summary["alarms"]

    def _violations(self) -> list[int]:
        counts = [count for index in self._inputs for count in self.monitor.column_counts(index)]
        return self._violated(counts, [self.monitor.surplus(index) for index in self._inputs])


def encode_carried(carried: Carried) -> list[list[Any]]:
    """Return counter values as JSON values."""
    return [[name, list(labels), value] for (name, labels), value in carried.items()]


def decode_carried(values: Sequence[Sequence[Any]]) -> Carried:
    """Read counter values from ``encode_carried``."""
    return {(name, tuple(labels)): value for name, labels, value in values}


class _BinSeries:
    """The bins of the inputs, or of the outputs."""

    def __init__(
        self, key: tuple[str, str], side: Sequence[Metric], monitor: VersionMonitor, chosen: list[int]
    ) -> None:
        features = [monitor.reference.features[index] for index in chosen]
        self._totals, self._ratios, self._below, self._ratios_below = side
        self._monitor = monitor
        self._chosen = chosen
        self._labels: LabelTuples = tuple(
            (*key, feature.bins.name, label) for feature in features for label in feature.bins.public_labels()
        )
        # The detector's shares, none of them 0, so that recording rules match the gateway.
        self._shares = tuple(float(share) for feature in features for share in find_shares(feature.counts))
        ratios = [[count / max(1, feature.rows) for count in feature.counts] for feature in features]
        self._shares_below = tuple(share for ratio in ratios for share in accumulate(ratio))

    def readings(self) -> Iterator[Reading]:
        counts = [count for index in self._chosen for count in self._monitor.column_counts(index)]
        yield PointBatch(self._totals, self._labels, counts)
        yield PointBatch(self._ratios, self._labels, self._shares)
        below = [count for index in self._chosen for count in accumulate(self._monitor.column_counts(index))]
        yield PointBatch(self._below, self._labels, below)
        yield PointBatch(self._ratios_below, self._labels, self._shares_below)
