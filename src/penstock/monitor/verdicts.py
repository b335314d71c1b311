"""One version's monitor: what was counted, the detectors' evidence, the window, and what is said of it."""

import math
from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.core.policies import MonitorPolicy
from penstock.core.statistics.change_detection import allowance, onset_probability
from penstock.core.statistics.column_state import State
from penstock.core.statistics.effect_sizes import Scores, scores
from penstock.core.statistics.performance_estimation import Estimate, calibration_curve, estimate
from penstock.monitor.column_panel import Change, ColumnPanel, Look
from penstock.monitor.drift_cause import CHANGED_WORLD, cause_of
from penstock.monitor.drift_changes import DRIFT, QUALITY, SLICE, DriftChange
from penstock.monitor.monitor_document import ColumnWindow, column_document, quality_document
from penstock.monitor.neighbours import Neighbours
from penstock.monitor.quality import KINDS, most_risen, rates, sorted_out
from penstock.monitor.reference import Reference
from penstock.monitor.rows import Counted, Layout
from penstock.monitor.seasonal_baseline import SeasonalBaseline
from penstock.monitor.slices import Slices
from penstock.monitor.widened import widened

LOOKS = 60
"""Looks that a window is made of."""

DRIFT_SHARE, QUALITY_SHARE, SLICES_SHARE = 0.85, 0.05, 0.1
"""The parts of the budget of false alarms: what is not sound shows at once, so its alarms need little of it."""

Document = dict[str, Any]


def _against(budget: float, changes: list[DriftChange]) -> list[DriftChange]:
    """The same changes, each with the log evidence that an alarm needs."""
    needed = {"log_e_threshold": round(math.log(budget), 3)}
    return [replace(change, evidence={**change.evidence, **needed}) for change in changes]


class VersionMonitor:
    """Watches one version against one reference; ``look`` is told what all its workers have counted."""

    def __init__(self, reference: Reference, policy: MonitorPolicy, first: Counted, now: float) -> None:
        self.reference = reference
        self.policy = policy
        self._features = reference.features
        self._seasons = SeasonalBaseline(self._features)
        self._seasons.turn(now)
        self._drift = ColumnPanel(self._seasons.usual, self._seasons.tolerance)
        usual = [sorted_out(feature, feature.counts) for feature in reference.inputs]
        self._quality = ColumnPanel(usual, [allowance(one, len(self._features)) for one in usual])
        self._kinds: list[str] = ["" for _ in usual]
        self._slices = Slices(reference, policy.slices)
        confidence = reference.confidence
        self._chances = None if confidence is None else calibration_curve(confidence.counts, confidence.right)
        self._neighbours = Neighbours(first)
        self._last, self._looked_at = first, now
        self._window: deque[tuple[float, Counted]] = deque([(now, first)])
        self._alarms = 0

    @property
    def alarms(self) -> int:
        """Alarms so far, with those of the process before this one."""
        return self._alarms + self._drift.alarms + self._quality.alarms + self._slices.alarms

    @property
    def last(self) -> Counted:
        """What had been counted at the last look."""
        return self._last

    def look(self, counted: Counted, now: float) -> list[DriftChange]:
        """Take what has been counted so far; what has changed by it."""
        last, self._last = self._last, counted
        rows = counted.head["counted"] - last.head["counted"]
        self._slide(counted, now)
        if rows <= 0:
            return []
        budget, inflation = self.policy.budget, self.variance_inflation  # the inflation is from earlier looks only
        self._neighbours.take(counted)
        if self._seasons.turn(now):
            self._drift.expect(self._seasons.usual, self._seasons.tolerance)
        fresh = [
            np.subtract(after, before).astype(float) for after, before in zip(counted.counts, last.counts, strict=True)
        ]
        begun = self._onset_probability(rows, now)
        drift, quality, slices = (
            Look(inflation, now, budget / share, begun) for share in (DRIFT_SHARE, QUALITY_SHARE, SLICES_SHARE)
        )
        changes = _against(drift.budget, [self._drifts(one) for one in self._drift.look(fresh, drift)])
        sorted_ = [sorted_out(one, counts) for one, counts in zip(self.reference.inputs, fresh, strict=False)]
        found = self._quality.look(sorted_, quality, self._has_risen)
        changes += _against(quality.budget, [self._violates(one) for one in found])
        if len(self._slices):
            changes += _against(slices.budget, self._slices.look(counted, last, slices))
        return changes

    def _onset_probability(self, rows: int, now: float) -> float:
        """The share of these rows at which a change may begin."""
        passed_s, self._looked_at = now - self._looked_at, now
        return onset_probability(rows, passed_s, self.policy.budget, self.policy.daily)

    @property
    def correlation(self) -> float:
        """The first autocorrelation of the column whose neighbours are most alike."""
        return self._neighbours.correlation

    @property
    def variance_inflation(self) -> float:
        """How many rows are worth one."""
        return self._neighbours.inflation

    def _slide(self, counted: Counted, now: float) -> None:
        span, last = self.policy.window_s, self._window[-1][0]
        if now < last:  # the clock was set back: what was counted moves along
            self._window = deque((at - last + now, one) for at, one in self._window)
        if now - self._window[-1][0] >= span / LOOKS:
            self._window.append((now, counted))
        while len(self._window) > 1 and self._window[1][0] <= now - span:
            self._window.popleft()

    def _drifts(self, change: Change) -> DriftChange:
        """A column that drifts, or is over it."""
        feature = self._features[change.index]
        told = {**self._shown(change.index), "log_e": round(change.log_e, 3), "widened": self._widened()}
        if change.begins:
            told["cause"] = self._cause(change)
        return DriftChange(DRIFT, feature.bins.name, change.begins, told)

    def _has_risen(self, index: int, recent: NDArray[np.float64]) -> bool:
        """Whether values of an input that are not sound have become more frequent; of which kind, is kept."""
        feature = self.reference.inputs[index]
        worst = most_risen(sorted_out(feature, feature.counts), recent)
        if worst > 0:
            self._kinds[index] = KINDS[worst - 1]
        return worst > 0

    def _violates(self, change: Change) -> DriftChange:
        """An input whose values are not sound more often, or are so as usual again."""
        index, feature = change.index, self.reference.inputs[change.index]
        told = {
            "name": feature.bins.name,
            "kind": self._kinds[index],
            "since": change.since if change.begins else None,
            "log_e": round(change.log_e, 3),
            "rates": rates(change.recent if change.begins else sorted_out(feature, self._counts(index))),
            "reference_rates": rates(sorted_out(feature, feature.counts)),
            "rows": round(float(change.recent.sum())),
            "rows_between_false_alarms": self.policy.budget,
        }
        return DriftChange(QUALITY, feature.bins.name, change.begins, told)

    def _widened(self) -> list[Document]:
        """Which thresholds are wider than those of a large reference and independent rows, and why."""
        return widened(self.reference, self._seasons.sampling, self._seasons.wander, self.variance_inflation)

    def _cause(self, change: Change) -> str:
        """What is behind a drift; that of outputs and of the joint distance is a changed world."""
        is_input = change.index < len(self.reference.inputs)
        return cause_of(self._features[change.index], change.recent) if is_input else CHANGED_WORLD

    def _counts(self, index: int) -> list[int]:
        counts: list[int] = np.subtract(self._last.counts[index], self._window[0][1].counts[index]).tolist()
        return counts

    def _score(self, index: int) -> Scores:
        feature = self._features[index]
        found = scores(
            self._seasons.usual[index].tolist(), self._counts(index), feature.bins.edges, feature.std, self.correlation
        )
        return replace(found, psi_threshold=found.psi_threshold + 2 * feature.wander)  # PSI is about twice the nats

    # What outlives the process that watches.

    def kept(self) -> Document:
        """The evidence of drift and quality as JSON values, and the words that it was drawn from (see ``drawn_from``);
        that of slices begins anew."""
        return {
            "words": b64encode(self._last.cells.tobytes()).decode("ascii"),
            "looked_at": self._looked_at,
            "drift": self._drift.kept(),
            "quality": self._quality.kept(),
            "kinds": self._kinds,
            "neighbours": self._neighbours.kept(),
            "alarms": self.alarms,
        }

    @staticmethod
    def drawn_from(reference: Reference, kept: Mapping[str, Any], keys: Sequence[str]) -> tuple[Counted, float] | None:
        """What had been counted when ``kept`` was written, and when that was looked at; None if it does not say so, as
        an older process wrote it, or for other columns."""
        cells = np.frombuffer(b64decode(kept.get("words", "")), np.uint64)
        if len(cells) != Layout.of(reference, keys).size:
            return None
        return Counted.of(reference, [cells], keys), float(kept["looked_at"])

    def take_up(self, kept: Mapping[str, Any]) -> None:
        """Go on where ``kept`` was written."""
        self._drift.take_up(_with_states(kept, "drift", "states"))
        self._quality.take_up(_with_states(kept, "quality", "soundness"))
        if len(kept["kinds"]) == len(self._kinds):
            self._kinds = [str(one) for one in kept["kinds"]]
            self._alarms = int(kept["alarms"])
        if "neighbours" in kept:
            self._neighbours.take_up(kept["neighbours"])

    # What is said.

    def document(self) -> Document:
        """The version's monitor as the admin API shows it; outputs first in what people read."""
        inputs, outputs = len(self.reference.inputs), len(self.reference.outputs)
        shown = [self._shown(index) for index in range(len(self._features))]
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
            "outputs": shown[inputs : inputs + outputs],
            "features": shown[:inputs],
            "joint": shown[inputs + outputs] if len(shown) > inputs + outputs else None,
            "slices": self._slices.document(self._last, self._window[0][1]),
            "rows": dict(head),
            "rows_between_false_alarms": self.policy.budget,
            "multiplicity": self._multiplicity(),
            "variance_inflation": round(self.variance_inflation, 3),
            "widened": self._widened(),
            "alarms": self.alarms,
            "quality": self._quality_document(),
        }

    def _multiplicity(self) -> Document:
        """How many columns are tested at the same time, and what bounds their false alarms together: one in so many
        rows on average, and so many a day (None for no such bound)."""
        tests = {"drift": len(self._features), "quality": len(self.reference.inputs), "slices": self._slices.tests}
        bounds = {"rows_between_false_alarms": self.policy.budget, "false_alarms_per_day": self.policy.daily or None}
        return {"tests": tests, **bounds}

    def estimated(self) -> Estimate | None:
        """How good the window's answers were by their own probabilities, None where there are none."""
        confidence = self.reference.confidence
        if confidence is None or self._chances is None:
            return None
        return estimate(confidence.classes, self._last.sure - self._window[0][1].sure, self._chances)

    def _shown(self, index: int) -> Document:
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

    def _quality_document(self) -> Document:
        """Rows of the window that were not sound, by what was wrong with them, and features that are not as usual."""
        inputs = range(len(self.reference.inputs))
        return quality_document(
            self.reference.inputs,
            [self._counts(index) for index in inputs],
            self._quality.states,
            self._kinds,
            self._last.head["odd"] - self._window[0][1].head["odd"],
        )

    def counted(self, index: int) -> tuple[int, ...]:
        """All that was counted of a column so far."""
        return self._last.counts[index]

    def surplus(self, index: int) -> int:
        """How many more constants an input had than the reference lets expect; it never falls."""
        return self._last.surplus[index] if self._last.surplus else 0

    def states(self) -> list[State]:
        """What is said of each column."""
        return [column.state for column in self._drift.states]

    def affected(self, about: str) -> list[str]:
        """The names of the columns that drift now, or (``QUALITY``) whose values are not sound, or (``SLICE``) that
        drift in a slice."""
        if about == SLICE:
            return self._slices.drifting()
        columns, panel = (self._features, self._drift) if about == DRIFT else (self.reference.inputs, self._quality)
        return [columns[index].bins.name for index in panel.changed()]

    def evidence(self) -> list[float]:
        """The logarithm of the evidence that each column has changed, since the last alarm."""
        found: list[float] = np.maximum(self._drift.detector.log_m, 0.0).tolist()
        return found

    def distances(self) -> tuple[list[float], list[float]]:
        """PSI and Jensen-Shannon distance of each column's window, as ``scores`` has them, all at a time."""
        base = self._window[0][1]
        windows = self._drift.detector.batch(
            [np.subtract(now, then) for now, then in zip(self._last.counts, base.counts, strict=True)]
        )
        return self._drift.detector.distances(windows)

    @property
    def head(self) -> dict[str, int]:
        """Rows seen, counted, dropped, and requests that were not as expected."""
        return dict(self._last.head)


def _with_states(kept: Mapping[str, Any], panel: str, states: str) -> Document:
    """A panel's evidence as it is kept; where an older process kept the states of columns beside it, with them."""
    if "states" in kept[panel] or states not in kept:
        return dict(kept[panel])
    return {**kept[panel], "states": [[one[0], one[-1]] for one in kept[states]], "recoveries": {}}
