"""The monitor of one version: its counts, the evidence of its detectors, its window, and its document."""

import math
from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.core.policies import MonitorPolicy
from penstock.core.statistics.change_detection import find_allowance, onset_probability
from penstock.core.statistics.column_state import ColumnPhase
from penstock.core.statistics.effect_sizes import EffectSizes, compare_counts
from penstock.core.statistics.performance_estimation import Estimate, calibration_curve, estimate
from penstock.monitor.alarm_shares import QUALITY_SHARE, SLICES_SHARE, columns_share
from penstock.monitor.column_panel import ColumnChange, ColumnPanel, EvaluationTerms
from penstock.monitor.drift_cause import CHANGED_WORLD, cause_of
from penstock.monitor.drift_changes import DRIFT, QUALITY, SLICE, DriftChange
from penstock.monitor.evidence_history import ColumnHistories
from penstock.monitor.monitor_document import ColumnWindow, column_document, quality_document
from penstock.monitor.quality import KINDS, KindCounts, counts_by_kind, find_rates, most_increased
from penstock.monitor.reference import Reference
from penstock.monitor.row_autocorrelation import RowAutocorrelation
from penstock.monitor.rows import RegionCounts, RegionLayout
from penstock.monitor.seasonal_baseline import SeasonalBaseline
from penstock.monitor.shown_columns import ALL_COLUMNS, ShownColumns
from penstock.monitor.slices import Slices
from penstock.monitor.threshold_widening import widening_reasons

LOOKS = 60
"""Looks in a window."""

Document = dict[str, Any]


def _with_threshold(budget: float, changes: list[DriftChange]) -> list[DriftChange]:
    """Add the log evidence that an alarm needs to each change."""
    needed = {"log_e_threshold": round(math.log(budget), 3)}
    return [replace(change, evidence={**change.evidence, **needed}) for change in changes]


class VersionMonitor:
    """Tests one version against one reference; ``evaluate`` takes the counts of all its workers. One thread at a time.

    ``first`` are the counts at the time ``now`` (seconds since the epoch); only later rows are tested.
    """

    def __init__(self, reference: Reference, policy: MonitorPolicy, first: RegionCounts, now: float) -> None:
        self.reference = reference
        self.policy = policy
        self._features = reference.features
        self._seasons = SeasonalBaseline(self._features)
        self._seasons.turn(now)
        self._drift = ColumnPanel(self._seasons.usual, self._seasons.tolerance)
        usual = [counts_by_kind(feature, feature.counts) for feature in reference.inputs]
        self._quality = ColumnPanel(usual, [find_allowance(counts, len(self._features)) for counts in usual])
        self._by_kind = KindCounts(reference.inputs)
        self._kinds: list[str] = ["" for _ in usual]
        self._slices = Slices(reference, policy.slices)
        confidence = reference.confidence
        self._calibration = None if confidence is None else calibration_curve(confidence.counts, confidence.right)
        self._autocorrelation = RowAutocorrelation(first)
        self._last, self._looked_at = first, now
        self._window: deque[tuple[float, RegionCounts]] = deque([(now, first)])
        self.history = ColumnHistories(len(self._features))
        self._described: dict[int, Document] = {}
        self._described_quality: Document | None = None
        self._alarms = 0

    @property
    def alarms(self) -> int:
        """Number of alarms so far, including those of earlier control processes."""
        return self._alarms + self._drift.alarms + self._quality.alarms + self._slices.alarms

    @property
    def last(self) -> RegionCounts:
        """The counts at the last look."""
        return self._last

    def evaluate(self, counted: RegionCounts, now: float) -> list[DriftChange]:
        """Take the counts so far at a time (seconds since the epoch), and return the changes."""
        last, self._last = self._last, counted
        self._described.clear()
        self._described_quality = None
        rows = counted.head["counted"] - last.head["counted"]
        self._slide(counted, now)
        if rows <= 0:
            return []
        budget, inflation = self.policy.budget, self.variance_inflation  # the inflation is from earlier looks only
        self._autocorrelation.take(counted)
        if self._seasons.turn(now):
            self._drift.expect(self._seasons.usual, self._seasons.tolerance)
        fresh = [
            np.subtract(after, before).astype(float) for after, before in zip(counted.counts, last.counts, strict=True)
        ]
        onset = self._onset_probability(rows, now)
        drift, quality, slices = (
            EvaluationTerms(inflation, now, budget / share, onset)
            for share in (columns_share(self.policy), QUALITY_SHARE, SLICES_SHARE)
        )
        changes = _with_threshold(
            drift.budget, [self._describe_drift(item) for item in self._drift.evaluate(fresh, drift)]
        )
        self.history.see(self._drift.log_m)
        if self.history.is_due(now):
            self.history.add(now, self.distances()[0])
        by_kind = self._by_kind(np.concatenate([np.zeros(0), *fresh]))
        violated = self._quality.evaluate(list(by_kind), quality, self._has_increased)
        changes += _with_threshold(quality.budget, [self._describe_violation(item) for item in violated])
        if len(self._slices):
            changes += _with_threshold(slices.budget, self._slices.evaluate(counted, last, slices))
        return changes

    def _onset_probability(self, rows: int, now: float) -> float:
        """Return the share of these rows at which a change may begin."""
        passed_s, self._looked_at = now - self._looked_at, now
        return onset_probability(rows, passed_s, self.policy.budget, self.policy.daily)

    @property
    def correlation(self) -> float:
        """The greatest lag-1 autocorrelation of all columns."""
        return self._autocorrelation.correlation

    @property
    def variance_inflation(self) -> float:
        """How many rows carry as much evidence as one independent row."""
        return self._autocorrelation.inflation

    def _slide(self, counted: RegionCounts, now: float) -> None:
        span, last = self.policy.window_s, self._window[-1][0]
        if now < last:  # the clock was set back: move the window with it
            self._window = deque((at - last + now, item) for at, item in self._window)
        if now - self._window[-1][0] >= span / LOOKS:
            self._window.append((now, counted))
        while len(self._window) > 1 and self._window[1][0] <= now - span:
            self._window.popleft()

    def _describe_drift(self, change: ColumnChange) -> DriftChange:
        """Describe a column whose drift begins or is over."""
        feature = self._features[change.index]
        evidence = {
            **self._column(change.index),
            "log_e": round(change.log_e, 3),
            "widened": self._widened_thresholds(),
        }
        if change.begins:
            evidence["cause"] = self._cause(change)
        return DriftChange(DRIFT, feature.bins.name, change.begins, evidence)

    def _has_increased(self, index: int, recent: NDArray[np.float64]) -> bool:
        """Return whether invalid values of an input have become more frequent, and remember their kind."""
        feature = self.reference.inputs[index]
        worst = most_increased(counts_by_kind(feature, feature.counts), recent)
        if worst > 0:
            self._kinds[index] = KINDS[worst - 1]
        return worst > 0

    def _describe_violation(self, change: ColumnChange) -> DriftChange:
        """Describe an input with more invalid values than usual, or with as many as usual again."""
        index, feature = change.index, self.reference.inputs[change.index]
        evidence = {
            "name": feature.bins.name,
            "kind": self._kinds[index],
            "since": change.since if change.begins else None,
            "log_e": round(change.log_e, 3),
            "rates": find_rates(change.recent if change.begins else counts_by_kind(feature, self._counts(index))),
            "reference_rates": find_rates(counts_by_kind(feature, feature.counts)),
            "rows": round(float(change.recent.sum())),
            "rows_between_false_alarms": self.policy.budget,
        }
        return DriftChange(QUALITY, feature.bins.name, change.begins, evidence)

    def _widened_thresholds(self) -> list[Document]:
        """Return which thresholds are wider than for a large reference and independent rows, and why."""
        return widening_reasons(
            self.reference, self._seasons.sampling, self._seasons.seasonal_variation, self.variance_inflation
        )

    def _cause(self, change: ColumnChange) -> str:
        """Return the cause of a drift; for outputs and the joint distance it is a changed world."""
        is_input = change.index < len(self.reference.inputs)
        return cause_of(self._features[change.index], change.recent) if is_input else CHANGED_WORLD

    def _counts(self, index: int) -> list[int]:
        counts: list[int] = np.subtract(self._last.counts[index], self._window[0][1].counts[index]).tolist()
        return counts

    def _score(self, index: int) -> EffectSizes:
        feature = self._features[index]
        sizes = compare_counts(
            self._seasons.usual[index].tolist(), self._counts(index), feature.bins.edges, feature.std, self.correlation
        )
        # PSI is about twice the nats
        return replace(sizes, psi_threshold=sizes.psi_threshold + 2 * feature.seasonal_variation)

    # The state that outlives the process.

    def export_state(self) -> Document:
        """Return the evidence of drift and quality as JSON values, with the cells that it comes from (see
        ``saved_counts``); the evidence of slices is not saved."""
        return {
            "words": b64encode(self._last.cells.tobytes()).decode("ascii"),
            "looked_at": self._looked_at,
            "drift": self._drift.export_state(),
            "quality": self._quality.export_state(),
            "kinds": self._kinds,
            "neighbours": self._autocorrelation.export_state(),
            "history": self.history.export_state(),
            "alarms": self.alarms,
        }

    @staticmethod
    def saved_counts(
        reference: Reference, saved: Mapping[str, Any], keys: Sequence[str]
    ) -> tuple[RegionCounts, float] | None:
        """Return the counts at the time when ``saved`` was exported and the time of that look; None if an older release
        exported it, or for other columns."""
        cells = np.frombuffer(b64decode(saved.get("words", "")), np.uint64)
        if len(cells) != RegionLayout.of(reference, keys).size:
            return None
        return RegionCounts.of(reference, [cells], keys), float(saved["looked_at"])

    def restore_state(self, saved: Mapping[str, Any]) -> None:
        """Continue with exported evidence."""
        self._drift.restore_state(_with_states(saved, "drift", "states"))
        self._quality.restore_state(_with_states(saved, "quality", "soundness"))
        if len(saved["kinds"]) == len(self._kinds):
            self._kinds = [str(kind) for kind in saved["kinds"]]
            self._alarms = int(saved["alarms"])
        if "neighbours" in saved:
            self._autocorrelation.restore_state(saved["neighbours"])
        if "history" in saved:
            self.history.restore_state(saved["history"])

    # The results.

    def document(self, shown: ShownColumns = ALL_COLUMNS) -> Document:
        """Return the monitor of the version as the admin API shows it, with the columns that are asked for."""
        inputs, outputs = len(self.reference.inputs), len(self.reference.outputs)
        chosen = self._chosen_columns(shown)
        columns = {index: self._column(index) for index in chosen}
        joint = inputs + outputs
        head = self._last.head
        return {
            "reference": {
                "source": self.reference.source,
                "digest": self.reference.digest,
                "rows": self.reference.rows,
                "small": self.reference.is_small,
                **({"hours": self.reference.hours} if self.reference.hours else {}),
            },
            "window": {
                "seconds": self.policy.window_s,
                "rows": head["counted"] - self._window[0][1].head["counted"],
            },
            "outputs": [columns[index] for index in chosen if inputs <= index < joint],
            "features": [columns[index] for index in chosen if index < inputs],
            "joint": columns.get(joint),
            "columns": {"all": joint, "drifting": self._drifting(joint), "shown": len(chosen) - (joint in columns)},
            "log_e_threshold": round(math.log(self.policy.budget / columns_share(self.policy)), 3),
            "slices": self._slices.document(self._last, self._window[0][1]),
            "rows": dict(head),
            "rows_between_false_alarms": self.policy.budget,
            "multiplicity": self._multiplicity(),
            "variance_inflation": round(self.variance_inflation, 3),
            "widened": self._widened_thresholds(),
            "alarms": self.alarms,
            "quality": self._describe_quality(),
        }

    def _drifting(self, columns: int) -> int:
        return sum(state.state is ColumnPhase.DRIFT for state in self._drift.states[:columns])

    def _chosen_columns(self, shown: ShownColumns) -> list[int]:
        """Return the columns to show: in their order if all are, else those with the most evidence first."""
        count = len(self._features)
        if shown.most is None:
            return list(range(count))
        joint = len(self.reference.inputs) + len(self.reference.outputs)
        names = [feature.bins.name for feature in self._features[:joint]]
        drifts = [state.state is ColumnPhase.DRIFT for state in self._drift.states]
        return [*shown.choose(names, drifts, self.evidence()), *range(joint, count)]

    def column(self, name: str) -> Document | None:
        """Return the document of one column with its evidence over time, its moments, and the slices in which it is
        watched; None for an unknown name."""
        names = [feature.bins.name for feature in self._features]
        if name not in names:
            return None
        index = names.index(name)
        feature, is_input = self._features[index], index < len(self.reference.inputs)
        return {
            "column": self._column(index),
            "log_e_threshold": round(math.log(self.policy.budget / columns_share(self.policy)), 3),
            "history": self.history.document(index),
            "moments": {"mean": round(feature.mean, 6), "std": round(feature.std, 6)},
            "slices": self._slices.column(name, self._last, self._window[0][1]),
            "rates": find_rates(counts_by_kind(feature, self._counts(index))) if is_input else None,
            "reference_rates": find_rates(counts_by_kind(feature, feature.counts)) if is_input else None,
        }

    def _multiplicity(self) -> Document:
        """Return how many columns are tested at the same time, and the bounds of their false alarms together: the
        average number of rows between two, and the number for each day (None: no bound)."""
        tests = {"drift": len(self._features), "quality": len(self.reference.inputs), "slices": self._slices.tests}
        bounds = {"rows_between_false_alarms": self.policy.budget, "false_alarms_per_day": self.policy.daily or None}
        return {"tests": tests, **bounds}

    def estimate(self) -> Estimate | None:
        """Return the estimated performance of the window's answers by their own probabilities, None without any."""
        confidence = self.reference.confidence
        if confidence is None or self._calibration is None:
            return None
        return estimate(confidence.classes, self._last.confidence - self._window[0][1].confidence, self._calibration)

    def _column(self, index: int) -> Document:
        """Return the document of a column, which is made once for each look: it takes 0.2 ms, and several ask."""
        found = self._described.get(index)
        if found is None:
            found = self._described[index] = self._describe_column(index)
        return found

    def _describe_column(self, index: int) -> Document:
        return column_document(
            ColumnWindow(
                self._features[index],
                self._counts(index),
                self._score(index),
                self._drift.states[index],
                float(self._drift.detector.log_m[index]),
                self._seasons.usual[index],
                self._seasons.sampling[index],
            )
        )

    def _describe_quality(self) -> Document:
        """Return the invalid values of the window by kind, and the features that have more of them than usual."""
        if self._described_quality is None:
            inputs = range(len(self.reference.inputs))
            self._described_quality = quality_document(
                self.reference.inputs,
                [self._counts(index) for index in inputs],
                self._quality.states,
                self._kinds,
                self._last.head["odd"] - self._window[0][1].head["odd"],
            )
        return self._described_quality

    def column_counts(self, index: int) -> tuple[int, ...]:
        """Return the counts [places] of a column so far."""
        return self._last.counts[index]

    def surplus(self, index: int) -> int:
        """Return the monotonic count of an input's constants beyond the reference's share."""
        return self._last.surplus[index] if self._last.surplus else 0

    def column_states(self) -> list[ColumnPhase]:
        """Return the state of each input and output, without that of the distance of whole rows."""
        return self.states()[: len(self.reference.inputs) + len(self.reference.outputs)]

    def states(self) -> list[ColumnPhase]:
        """Return the state of each column."""
        return [column.state for column in self._drift.states]

    def affected_columns(self, about: str) -> list[str]:
        """Return the names of the columns that drift now (DRIFT), have too many invalid values (QUALITY), or drift in a
        slice (SLICE)."""
        if about == SLICE:
            return self._slices.drifting()
        columns, panel = (self._features, self._drift) if about == DRIFT else (self.reference.inputs, self._quality)
        return [columns[index].bins.name for index in panel.changed()]

    def evidence(self) -> list[float]:
        """Return the natural logarithm of the evidence since the last alarm that each column has changed."""
        evidence: list[float] = np.maximum(self._drift.detector.log_m, 0.0).tolist()
        return evidence

    def distances(self) -> tuple[list[float], list[float]]:
        """Return the PSI and the Jensen-Shannon distance of each column's window (see ``compare_counts``)."""
        base = self._window[0][1]
        windows = self._drift.detector.batch(
            [np.subtract(now, then) for now, then in zip(self._last.counts, base.counts, strict=True)]
        )
        return self._drift.detector.distances(windows)

    @property
    def head(self) -> dict[str, int]:
        """The counts of rows by ``rows.HEAD``."""
        return dict(self._last.head)


def _with_states(saved: Mapping[str, Any], panel: str, states: str) -> Document:
    """Return the saved evidence of a panel; older releases saved the states of its columns beside it."""
    if "states" in saved[panel] or states not in saved:
        return dict(saved[panel])
    return {**saved[panel], "states": [[state[0], state[-1]] for state in saved[states]], "recoveries": {}}
