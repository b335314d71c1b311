"""The importance of a version's features by the attributions of some of its live rows, and whether it drifts.

What counts of a row is the size of each feature's attribution. The first rows fix the bins; the sizes of later ones are
tested against them, each feature as a column of its own.
"""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from penstock.core.bins import Floats, NumericBinFinder
from penstock.core.policies import MonitorPolicy
from penstock.core.statistics.autocorrelation import variance_inflation
from penstock.core.statistics.change_detection import find_allowance, onset_probability, sampling_error
from penstock.core.statistics.effect_sizes import compare_counts
from penstock.monitor.alarm_shares import ATTRIBUTIONS_SHARE
from penstock.monitor.column_panel import ColumnChange, ColumnPanel, EvaluationTerms
from penstock.monitor.columns import RowValues
from penstock.monitor.drift_changes import DRIFT, DriftChange
from penstock.monitor.monitor_document import ColumnWindow, column_document
from penstock.monitor.reference import Feature, decode_feature, encode_feature
from penstock.monitor.reference_columns import features_of

LEARNED_ROWS: Final = 1000
"""Rows whose attributions later ones are tested against."""

PREFIX: Final = "attribution:"
"""What the name of a column has before that of its feature."""

LOOKS: Final = 60
"""Looks in a window."""

ROUNDING: Final = 1e-6
"""Part of the strongest feature's mean size below which sizes do not differ."""

MOST_DESCRIBED: Final = 20
"""Columns that a document describes, those with the most evidence."""

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class AttributionSource:
    """What attributions are of: the ``digest`` of the reference that the background is drawn from, the names of the
    features, the output that is explained, the method and the scale."""

    digest: str
    features: tuple[str, ...]
    output: str
    method: str
    scale: str


@dataclass(frozen=True, slots=True)
class _Totals:
    """The sums at a time: rows, sizes [features], and counts [features, places]."""

    at: float
    rows: int
    sizes: Floats
    counts: Floats


class AttributionMonitor:
    """The attributions of one version since the time ``now`` (seconds since the epoch); one thread at a time."""

    def __init__(self, source: AttributionSource, now: float) -> None:
        self.source = source
        self.rows = 0
        self._learned: list[Floats] = []
        self._unit = 0.0
        self._features: tuple[Feature, ...] = ()
        self._panel: ColumnPanel | None = None
        self._finder = NumericBinFinder([])
        self._sizes = np.zeros(len(source.features))
        self._counts = np.zeros((len(source.features), 0))
        self._last = self._counts
        self._looked_at = now
        self._window: deque[_Totals] = deque([self._totals(now)])

    def _totals(self, now: float) -> _Totals:
        return _Totals(now, self.rows, self._sizes, self._counts)

    @property
    def is_learned(self) -> bool:
        """Whether there are enough rows to test later ones."""
        return self._panel is not None

    def take(self, sizes: Floats) -> None:
        """Take the sizes of the attributions of some rows [rows, features]."""
        self.rows += len(sizes)
        self._sizes = self._sizes + np.nan_to_num(sizes).sum(axis=0)
        if self._panel is not None:
            self._count(sizes)
            return
        self._learned.append(sizes)
        if self.rows >= LEARNED_ROWS:
            self._learn(np.concatenate(self._learned))

    def _learn(self, rows: Floats) -> None:
        """Fix the bins, by these rows."""
        self._learned = []
        self._unit = max(float(np.nan_to_num(rows).mean(axis=0).max()) * ROUNDING, 1e-300)
        names = [PREFIX + name for name in self.source.features]
        self._adopt(features_of(names, RowValues(self._rounded(rows), ()))[0])

    def _adopt(self, features: tuple[Feature, ...]) -> None:
        """Test later rows against these columns."""
        self._features = features
        counts, columns = [feature.counts for feature in features], len(features)
        self._panel = ColumnPanel(counts, [find_allowance(counted, columns) for counted in counts])
        self._finder = NumericBinFinder([feature.bins for feature in features])
        self._counts = self._last = np.zeros((columns, max(feature.bins.width for feature in features)))
        self._window = deque([_Totals(item.at, item.rows, item.sizes, self._counts) for item in self._window])

    def _rounded(self, rows: Floats) -> Floats:
        return np.asarray(np.round(rows / self._unit) * self._unit, float)

    def _count(self, rows: Floats) -> None:
        columns, width = self._counts.shape
        places = self._finder(self._rounded(rows)) + np.arange(columns) * width
        self._counts = self._counts + np.bincount(places.ravel(), minlength=columns * width).reshape(columns, width)

    def evaluate(self, policy: MonitorPolicy, correlation: float, now: float) -> list[DriftChange]:
        """Evaluate the rows since the last look, and return the changes.

        ``correlation`` is the autocorrelation of the version's rows. These rows lie further apart, so it is theirs at
        most.
        """
        self._slide(policy.window_s, now)
        fresh, self._last = self._counts - self._last, self._counts
        rows = int(fresh[0].sum()) if fresh.size else 0
        if self._panel is None or not rows:
            return []
        passed_s, self._looked_at = now - self._looked_at, now
        onset = onset_probability(rows, passed_s, policy.budget, policy.daily)
        terms = EvaluationTerms(variance_inflation(correlation), now, policy.budget / ATTRIBUTIONS_SHARE, onset)
        changes = self._panel.evaluate(self._by_column(fresh), terms)
        return [self._describe_change(change, terms.budget, correlation) for change in changes]

    def _slide(self, span: float, now: float) -> None:
        if abs(now - self._window[-1].at) >= span / LOOKS:
            self._window.append(self._totals(now))
        while len(self._window) > 1 and not now - span < self._window[1].at <= now:
            self._window.popleft()

    def _by_column(self, counts: Floats) -> list[Floats]:
        return [row[: feature.bins.width] for row, feature in zip(counts, self._features, strict=True)]

    def _describe_change(self, change: ColumnChange, budget: float, correlation: float) -> DriftChange:
        feature = self._features[change.index]
        evidence = {
            **self._column(change.index, correlation),
            "log_e": round(change.log_e, 3),
            "log_e_threshold": round(math.log(budget), 3),
        }
        return DriftChange(DRIFT, feature.bins.name, change.begins, evidence)

    def drifting(self) -> list[str]:
        """Return the names of the columns that drift."""
        return [] if self._panel is None else [self._features[index].bins.name for index in self._panel.changed()]

    # The results.

    def importances(self) -> Floats:
        """Return the mean size of each feature's attributions in the window [features], 0 without rows."""
        first = self._window[0]
        mean: Floats = (self._sizes - first.sizes) / max(1, self.rows - first.rows)
        return mean

    def document(self, policy: MonitorPolicy, correlation: float) -> Document:
        """Return the importance of each feature in the window, the greatest first, and the columns that are tested."""
        means = self.importances()
        total = float(means.sum()) or 1.0
        order = np.argsort(-means, kind="stable").tolist()
        return {
            "output": self.source.output,
            "method": self.source.method,
            "scale": self.source.scale,
            "window": {"seconds": policy.window_s, "rows": self.rows - self._window[0].rows},
            "rows": self.rows,
            "learned": {"rows": min(self.rows, LEARNED_ROWS), "of": LEARNED_ROWS},
            "features": [self._feature(index, float(means[index]), total) for index in order],
            "log_e_threshold": round(math.log(policy.budget / ATTRIBUTIONS_SHARE), 3),
            "tests": len(self._features),
            "drifting": len(self.drifting()),
            "columns": [self._column(index, correlation) for index in self._with_most_evidence()],
        }

    def _feature(self, index: int, mean: float, total: float) -> Document:
        entry = {
            "name": self.source.features[index],
            "importance": float(f"{mean:.6g}"),
            "share": round(mean / total, 6),
        }
        if self._panel is None:
            return entry
        state = self._panel.states[index].state.value
        return {**entry, "reference": float(f"{self._features[index].mean:.6g}"), "state": state}

    def _with_most_evidence(self) -> list[int]:
        if self._panel is None:
            return []
        changed, evidence = set(self._panel.changed()), self._panel.detector.log_m.tolist()
        order = sorted(range(len(evidence)), key=lambda index: (index not in changed, -evidence[index], index))
        return order[:MOST_DESCRIBED]

    def _column(self, index: int, correlation: float) -> Document:
        feature, panel = self._features[index], self._panel
        if panel is None:
            return {}
        width = feature.bins.width
        counts = (self._counts - self._window[0].counts)[index, :width].astype(int).tolist()
        usual = np.asarray(feature.counts, float)
        sizes = compare_counts(feature.counts, counts, feature.bins.edges, feature.std, correlation)
        log_m, error = float(panel.detector.log_m[index]), sampling_error(feature.counts, len(self._features))
        return column_document(ColumnWindow(feature, counts, sizes, panel.states[index], log_m, usual, error))

    def column(self, name: str, policy: MonitorPolicy, correlation: float) -> Document | None:
        """Return the document of one column with its moments; None for an unknown name."""
        names = [feature.bins.name for feature in self._features]
        if name not in names:
            return None
        index = names.index(name)
        feature = self._features[index]
        return {
            "column": self._column(index, correlation),
            "log_e_threshold": round(math.log(policy.budget / ATTRIBUTIONS_SHARE), 3),
            "history": None,
            "moments": {"mean": round(feature.mean, 6), "std": round(feature.std, 6)},
            "slices": {},
        }

    def states(self) -> list[int]:
        """Return 1 for each feature that drifts, else 0; nothing while bins are not fixed."""
        if self._panel is None:
            return []
        changed = set(self._panel.changed())
        return [int(index in changed) for index in range(len(self._features))]

    def evidence(self) -> list[float]:
        """Return the natural logarithm of the evidence that each column has changed; none while bins are not fixed."""
        evidence: list[float] = [] if self._panel is None else np.maximum(self._panel.detector.log_m, 0.0).tolist()
        return evidence

    # The state that outlives the process.

    def export_state(self) -> Document | None:
        """Return the fixed bins and the evidence as JSON values; None while they are not fixed."""
        if self._panel is None:
            return None
        features = [encode_feature(feature) for feature in self._features]
        kept = {"unit": self._unit, "features": features, "rows": self.rows, "looked_at": self._looked_at}
        return {**kept, "source": asdict(self.source), "panel": self._panel.export_state()}

    @classmethod
    def restored(cls, saved: Mapping[str, Any], now: float) -> "AttributionMonitor":
        """Return the monitor of exported values; its window is empty. Raises as reading of JSON values does."""
        stated: Mapping[str, Any] = saved["source"]
        features: Sequence[Mapping[str, Any]] = saved["features"]
        monitor = cls(AttributionSource(**{**stated, "features": tuple(stated["features"])}), now)
        monitor.rows, monitor._unit = int(saved["rows"]), float(saved["unit"])
        monitor._looked_at = float(saved["looked_at"])
        monitor._window = deque([monitor._totals(now)])
        monitor._adopt(tuple(decode_feature(feature) for feature in features))
        if monitor._panel is not None:
            monitor._panel.restore_state(saved["panel"])
        return monitor
