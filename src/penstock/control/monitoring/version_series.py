"""The metrics of one version's monitor: the labels of its series are made once, the values at each scrape."""

from collections.abc import Iterator, Sequence
from itertools import accumulate

from penstock.core.statistics.column_state import State
from penstock.core.statistics.distributions import shares
from penstock.monitor.quality import KINDS, Violations
from penstock.monitor.verdicts import VersionMonitor
from penstock.telemetry import metrics
from penstock.telemetry.metrics import Bulk, Metric, Point, Reading

MOST_MEASURED = 64
"""Columns of a version that metrics tell of, outputs first; all of them are in the admin API."""

INPUTS = metrics.FEATURE_BINS, metrics.FEATURE_REFERENCE, metrics.FEATURE_BELOW, metrics.FEATURE_BELOW_REFERENCE
OUTPUTS = metrics.OUTPUT_BINS, metrics.OUTPUT_REFERENCE, metrics.OUTPUT_BELOW, metrics.OUTPUT_BELOW_REFERENCE
"""Rows and shares by bin, and both of a bin with all before it."""

Labels = tuple[tuple[str, ...], ...]


class VersionSeries:
    """The series of one version; ``key`` is its model and version."""

    def __init__(self, key: tuple[str, str], monitor: VersionMonitor) -> None:
        self.monitor = monitor
        self._key = key
        inputs, outputs = len(monitor.reference.inputs), len(monitor.reference.features)
        chosen = [*range(inputs, outputs), *range(inputs)][:MOST_MEASURED]
        self._chosen = chosen
        features = monitor.reference.features
        self._sides = [
            _Side(key, INPUTS, monitor, [one for one in chosen if one < inputs]),
            _Side(key, OUTPUTS, monitor, [one for one in chosen if one >= inputs]),
        ]
        names = [features[index].bins.name for index in chosen]
        self._names: Labels = tuple((*key, name) for name in names)
        self._scored: Labels = tuple((*key, name, word) for word in ("psi", "js") for name in names)
        self._violated = Violations([features[index] for index in chosen if index < inputs])
        self._inputs = [index for index in chosen if index < inputs]
        self._kinds: Labels = tuple((*key, features[index].bins.name, kind) for index in self._inputs for kind in KINDS)

    def readings(self) -> Iterator[Reading]:
        """Counts, shares of the reference, evidence and states of every column that metrics tell of."""
        monitor, chosen = self.monitor, self._chosen
        for side in self._sides:
            yield from side.readings()
        evidence, states = monitor.evidence(), monitor.states()
        psi, js = monitor.distances()
        yield Bulk(metrics.DRIFT_LOG_EVIDENCE, self._names, [evidence[index] for index in chosen])
        yield Bulk(metrics.DRIFT_STATE, self._names, [int(states[index] is State.DRIFT) for index in chosen])
        yield Bulk(metrics.DRIFT_SCORE, self._scored, [of[index] for of in (psi, js) for index in chosen])
        yield Bulk(metrics.QUALITY_VIOLATIONS, self._kinds, self._violations())
        if (estimated := monitor.estimated()) is not None:
            yield Point(metrics.PERFORMANCE, (*self._key, "estimated_accuracy"), estimated.accuracy)
        yield Point(metrics.DRIFT_ALARMS, self._key, monitor.alarms)
        yield Point(metrics.MONITOR_ROWS, self._key, monitor.head["counted"])
        yield Point(metrics.MONITOR_DROPPED, (*self._key, "full"), monitor.head["dropped"])

    def _violations(self) -> list[int]:
        return self._violated([count for index in self._inputs for count in self.monitor.counted(index)])


class _Side:
    """The bins of the inputs, or of the outputs."""

    def __init__(
        self, key: tuple[str, str], side: Sequence[Metric], monitor: VersionMonitor, chosen: list[int]
    ) -> None:
        features = [monitor.reference.features[index] for index in chosen]
        self._totals, self._ratios, self._below, self._ratios_below = side
        self._monitor = monitor
        self._chosen = chosen
        self._labels: Labels = tuple(
            (*key, one.bins.name, label) for one in features for label in one.bins.public_labels()
        )
        # As the detector has them, no place without a share: so rules compute what the gateway does.
        self._shares = tuple(float(share) for one in features for share in shares(one.counts))
        ratios = [[count / max(1, one.rows) for count in one.counts] for one in features]
        self._shares_below = tuple(share for one in ratios for share in accumulate(one))

    def readings(self) -> Iterator[Reading]:
        counts = [count for index in self._chosen for count in self._monitor.counted(index)]
        yield Bulk(self._totals, self._labels, counts)
        yield Bulk(self._ratios, self._labels, self._shares)
        below = [count for index in self._chosen for count in accumulate(self._monitor.counted(index))]
        yield Bulk(self._below, self._labels, below)
        yield Bulk(self._ratios_below, self._labels, self._shares_below)
