"""One version's monitor: what was counted, the detectors' evidence, the window, and what is said of it."""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.core.policies import MonitorPolicy
from penstock.core.statistics.autocorrelation import variance_inflation
from penstock.core.statistics.change_detection import ChangeDetector, allowance
from penstock.core.statistics.column_state import ColumnState, State, judged
from penstock.core.statistics.distributions import shares
from penstock.core.statistics.effect_sizes import Scores, scores
from penstock.core.statistics.performance_estimation import Estimate, calibration_curve, estimate
from penstock.core.statistics.seasons import Usual, quarter_of
from penstock.monitor.quality import KINDS, rates, sorted_out, violations
from penstock.monitor.reference import Feature, Reference, Slice
from penstock.monitor.rows import Counted, autocorrelations

LOOKS = 60
"""Looks that a window is made of."""

UNSCORED = Scores(0, 0.0, float("inf"), 0.0, 0.0, 0.0, 0.0)
AUTOCORRELATION_KEPT = 0.7
"""How much of the autocorrelation measured before is kept when it is measured again."""

AUTOCORRELATION_AT_FIRST = 0.6
"""The autocorrelation that is assumed until enough neighbours were compared."""

DRIFT_SHARE, QUALITY_SHARE, SLICES_SHARE = 0.85, 0.05, 0.1
"""The parts of the budget of false alarms: what is not sound shows at once, so its alarms need little of it."""

LEAST_IN_SLICE = 100
"""Rows of the reference with fewer of which a value's slice is not watched."""

Document = dict[str, Any]

DRIFT, QUALITY, SLICE = "drift", "quality", "slice"

BROKEN_FEED, CHANGED_WORLD = "broken feed", "changed world"


@dataclass(frozen=True, slots=True)
class DriftChange:
    """Something that has changed: ``about`` says in which regard, ``begins`` whether it began or is over."""

    about: str
    feature: str
    begins: bool
    evidence: Document


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
        self._seasons = Seasons(self._features)
        self._seasons.turn(now)
        self._drift = ChangeDetector(*self._expected())
        self._states = [ColumnState() for _ in self._features]
        usual = [sorted_out(feature, feature.counts) for feature in reference.inputs]
        self._quality = ChangeDetector([shares(one) for one in usual], [allowance(one) for one in usual])
        self._soundness = [ColumnState() for _ in usual]
        self._kinds: list[str] = ["" for _ in usual]
        self._slices = _Slices(reference, policy.slices)
        confidence = reference.confidence
        self._chances = None if confidence is None else calibration_curve(confidence.counts, confidence.right)
        self._autocorrelation: float | None = None
        self._paired = first
        self._start = self._last = first
        self._window: deque[tuple[float, Counted]] = deque([(now, first)])
        self.alarms = 0

    def look(self, counted: Counted, now: float) -> list[DriftChange]:
        """Take what has been counted so far; what has changed by it."""
        last, self._last = self._last, counted
        rows = counted.head["counted"] - last.head["counted"]
        self._slide(counted, now)
        if rows <= 0:
            return []
        inflation = self.variance_inflation  # from earlier looks only
        self._compare(counted)
        if self._seasons.turn(now):
            self._drift.expect(*self._expected())
        fresh = [
            np.subtract(after, before).astype(float) for after, before in zip(counted.counts, last.counts, strict=True)
        ]
        self._drift.watch(self._drift.batch(fresh), inflation, now)
        sorted_ = [sorted_out(one, counts) for one, counts in zip(self.reference.inputs, fresh, strict=False)]
        self._quality.watch(self._quality.batch(sorted_), inflation, now)
        budget = self.policy.budget
        changes = _against(budget / DRIFT_SHARE, self._judge(budget / DRIFT_SHARE))
        changes += _against(budget / QUALITY_SHARE, self._judge_quality(budget / QUALITY_SHARE))
        if len(self._slices):
            more = self._slices.look((counted, last, self._window[0][1]), inflation, now, budget / SLICES_SHARE)
            self.alarms += any(change.begins for change in more)
            changes += _against(budget / SLICES_SHARE, more)
        return changes

    def _expected(self) -> tuple[list[NDArray[np.float64]], list[float]]:
        """What is usual now, and what is forgiven of each column."""
        return [shares(one) for one in self._seasons.usual], self._seasons.forgiven

    @property
    def variance_inflation(self) -> float:
        """How many rows are worth one."""
        return variance_inflation(AUTOCORRELATION_AT_FIRST if self._autocorrelation is None else self._autocorrelation)

    def _compare(self, counted: Counted) -> None:
        """Measure the autocorrelation, once enough neighbours were compared since the last time."""
        found = autocorrelations(self._paired, counted, counted.workers)
        if found is None:
            return
        self._paired = counted
        now, before = float(found.max(initial=0.0)), self._autocorrelation
        kept = AUTOCORRELATION_KEPT
        self._autocorrelation = now if before is None else kept * before + (1 - kept) * now

    def _slide(self, counted: Counted, now: float) -> None:
        span = self.policy.window_s
        if now - self._window[-1][0] >= span / LOOKS:
            self._window.append((now, counted))
        while len(self._window) > 1 and self._window[1][0] <= now - span:
            self._window.popleft()

    def _judge(self, budget: float) -> list[DriftChange]:
        panel = self._drift
        alarmed, log_m, since, recent = set(panel.alarm(budget)), panel.log_m, panel.since, panel.recent
        if alarmed:
            self.alarms += 1
            panel.restart()
        changes = []
        for index, feature in enumerate(self._features):
            before = self._states[index]
            drifts = before.state is State.DRIFT and index not in alarmed
            found = self._score(index) if drifts else UNSCORED  # only the end of a drift depends on it
            total = sum(self._last.counts[index]) - sum(self._start.counts[index])
            after = judged(before, total, found, index in alarmed, float(since[index]))
            self._states[index] = after
            if (before.state is State.DRIFT) != (after.state is State.DRIFT):
                told = {**self._shown(index), "log_e": round(float(log_m[index]), 3)}
                if after.state is State.DRIFT:
                    told["cause"] = self._cause(index, recent[index])
                changes.append(DriftChange(DRIFT, feature.bins.name, after.state is State.DRIFT, told))
        return changes

    def _judge_quality(self, budget: float) -> list[DriftChange]:
        panel = self._quality
        alarmed, log_m, since, lately = set(panel.alarm(budget)), panel.log_m, panel.since, panel.recent
        if alarmed:
            self.alarms += 1
            panel.restart()
        changes = []
        for index, feature in enumerate(self.reference.inputs):
            before = self._soundness[index]
            usual = sorted_out(feature, feature.counts)
            recent = lately[index]
            worst = _risen(usual, recent)
            wrong = index in alarmed and worst > 0
            violated = before.state is State.DRIFT and not wrong
            found = _compared(usual, sorted_out(feature, self._counts(index))) if violated else UNSCORED
            total = sum(self._last.counts[index]) - sum(self._start.counts[index])
            after = judged(before, total, found, wrong, float(since[index]))
            self._soundness[index] = after
            if wrong:
                self._kinds[index] = KINDS[worst - 1]
            if (before.state is State.DRIFT) != (after.state is State.DRIFT):
                told = {
                    "name": feature.bins.name,
                    "kind": self._kinds[index],
                    "since": float(since[index]) if wrong else None,
                    "log_e": round(float(log_m[index]), 3),
                    "rates": rates(recent if wrong else sorted_out(feature, self._counts(index))),
                    "reference_rates": rates(usual),
                    "rows": round(float(recent.sum())),
                    "rows_between_false_alarms": self.policy.budget,
                }
                changes.append(DriftChange(QUALITY, feature.bins.name, after.state is State.DRIFT, told))
        return changes

    def _cause(self, index: int, recent: NDArray[np.float64]) -> str:
        """Whether a drift lies in values that are not sound alone, by what rows lately looked like: then a feed is
        broken, and the world as it was."""
        feature = self._features[index]
        if index >= len(self.reference.inputs):
            return CHANGED_WORLD
        counts = recent[: feature.bins.width]
        if not _risen(sorted_out(feature, feature.counts), sorted_out(feature, counts)):
            return CHANGED_WORLD
        inner = np.zeros(feature.bins.width, bool)
        inner[feature.bins.inner] = True
        sound = np.where(inner, counts, 0)
        found = scores(np.where(inner, feature.counts, 0).tolist(), sound.tolist())
        return BROKEN_FEED if found.rows < FEW_SOUND or found.calm else CHANGED_WORLD

    def _counts(self, index: int) -> list[int]:
        counts: list[int] = np.subtract(self._last.counts[index], self._window[0][1].counts[index]).tolist()
        return counts

    def _score(self, index: int) -> Scores:
        feature = self._features[index]
        found = scores(self._seasons.usual[index].tolist(), self._counts(index), feature.bins.edges, feature.std)
        return replace(found, psi_threshold=found.psi_threshold + 2 * feature.wander)  # PSI is about twice the nats

    # What outlives the process that watches.

    def kept(self) -> Document:
        """The evidence of drift and quality as JSON values; that of slices begins anew."""
        return {
            "drift": self._drift.kept(),
            "quality": self._quality.kept(),
            "states": [_column_out(one) for one in self._states],
            "soundness": [_column_out(one) for one in self._soundness],
            "kinds": self._kinds,
            "autocorrelation": self._autocorrelation,
            "alarms": self.alarms,
        }

    def take_up(self, kept: Mapping[str, Any]) -> None:
        """Go on where ``kept`` was written."""
        self._drift.take_up(kept["drift"])
        self._quality.take_up(kept["quality"])
        if len(kept["states"]) == len(self._states) and len(kept["soundness"]) == len(self._soundness):
            self._states = [_column_in(one) for one in kept["states"]]
            self._soundness = [_column_in(one) for one in kept["soundness"]]
            self._kinds = [str(one) for one in kept["kinds"]]
            self.alarms = int(kept["alarms"])
        self._autocorrelation = kept.get("autocorrelation", kept.get("alike"))

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
            "variance_inflation": round(self.variance_inflation, 3),
            "alarms": self.alarms,
            "quality": self._quality_document(),
        }

    def estimated(self) -> Estimate | None:
        """How good the window's answers were by their own probabilities, None where there are none."""
        confidence = self.reference.confidence
        if confidence is None or self._chances is None:
            return None
        return estimate(confidence.classes, self._last.sure - self._window[0][1].sure, self._chances)

    def _shown(self, index: int) -> Document:
        feature, found, column = self._features[index], self._score(index), self._states[index]
        counts = self._counts(index)
        bins, labels = feature.bins, feature.bins.labels()
        log_m = float(self._drift.log_m[index])
        return {
            "name": bins.name,
            "kind": bins.kind.value,
            "state": column.state.value,
            "since": column.since or None,
            "log_e": round(max(0.0, log_m), 3),
            "psi": round(found.psi, 9),
            "psi_threshold": round(found.psi_threshold, 6) if np.isfinite(found.psi_threshold) else None,
            "js": round(found.js, 6),
            "hellinger": round(found.hellinger, 6),
            "ks": round(found.ks, 6),
            "ks_threshold": round(found.ks_threshold, 6) if np.isfinite(found.ks_threshold) else None,
            "wasserstein": round(found.wasserstein, 6),
            "chi_square": round(found.chi_square, 4),
            "chi_square_threshold": round(found.chi_square_threshold, 4),
            "rows": int(sum(counts)),
            "missing": int(counts[bins.missing]),
            "out_of_range": int(sum(counts[place] for place in bins.out_of_range)),
            "infinite": int(sum(counts[place] for place in bins.infinite)),
            "unseen": int(sum(counts[place] for place in bins.unseen)),
            **({"forgiven": round(feature.wander, 6)} if feature.wander else {}),
            "moved": [{"bin": labels[place], "change": round(change, 4)} for place, change in found.moved],
            "bins": labels,
            "counts": counts,
            "reference_counts": np.rint(self._seasons.usual[index]).astype(int).tolist(),
        }

    def _quality_document(self) -> Document:
        """Rows of the window that were not sound, by what was wrong with them, and features that are not as usual."""
        base = self._window[0][1]
        wrong = dict.fromkeys(KINDS, 0)
        rows, features = 0, []
        for index, feature in enumerate(self.reference.inputs):
            counts = self._counts(index)
            for kind, number in violations(feature, counts).items():
                wrong[kind] += number
            rows = max(rows, sum(counts))
            column = self._soundness[index]
            if column.state is State.DRIFT:
                told = {"name": feature.bins.name, "kind": self._kinds[index], "since": column.since}
                features.append({**told, "rates": rates(sorted_out(feature, counts))})
        return {
            "state": "violated" if features else "ok" if rows else State.INSUFFICIENT_DATA.value,
            "rows": rows,
            "violations": wrong,
            "violated": features,
            "odd_requests": self._last.head["odd"] - base.head["odd"],
        }

    def counted(self, index: int) -> tuple[int, ...]:
        """All that was counted of a column so far."""
        return self._last.counts[index]

    def surplus(self, index: int) -> int:
        """How many more constants an input had than the reference lets expect; it never falls."""
        return self._last.surplus[index] if self._last.surplus else 0

    def states(self) -> list[State]:
        """What is said of each column."""
        return [column.state for column in self._states]

    def affected(self, about: str) -> list[str]:
        """The names of the columns that drift now, or (``QUALITY``) whose values are not sound, or (``SLICE``) that
        drift in a slice."""
        if about == SLICE:
            return self._slices.drifting()
        columns, states = (self._features, self._states) if about == DRIFT else (self.reference.inputs, self._soundness)
        pairs = zip(columns, states, strict=False)
        return [feature.bins.name for feature, column in pairs if column.state is State.DRIFT]

    def evidence(self) -> list[float]:
        """The logarithm of the evidence that each column has changed, since the last alarm."""
        found: list[float] = np.maximum(self._drift.log_m, 0.0).tolist()
        return found

    def distances(self) -> tuple[list[float], list[float]]:
        """PSI and Jensen-Shannon distance of each column's window, as ``scores`` has them, all at a time."""
        base = self._window[0][1]
        windows = self._drift.batch(
            [np.subtract(now, then) for now, then in zip(self._last.counts, base.counts, strict=True)]
        )
        return self._drift.distances(windows)

    @property
    def head(self) -> dict[str, int]:
        """Rows seen, counted, dropped, and requests that were not as expected."""
        return dict(self._last.head)


class Seasons:
    """What is usual of each column now, and the nats a row that are forgiven of each: in this quarter of an hour, or of
    the whole reference, where that tells no hours apart."""

    def __init__(self, features: Sequence[Feature]) -> None:
        self._features = features
        self._by_hour = [Usual(np.asarray(one.hours, float)) for one in features if one.hours]
        self._hours = len(features[0].hours) if self._by_hour else 0
        self._now = -1
        self.usual = [np.asarray(feature.counts, float) for feature in features]
        self.forgiven = [allowance(one.counts) + one.wander for one in features]

    def turn(self, now: float) -> bool:
        """Go on to a time (seconds since the epoch); whether anything is different then."""
        if not self._hours or quarter_of(now, self._hours) == self._now:
            return False
        self._now = quarter_of(now, self._hours)
        self.usual = [one.counts(self._now) for one in self._by_hour]
        self.forgiven = [
            allowance(counts) + one.moves(self._now) for counts, one in zip(self.usual, self._by_hour, strict=True)
        ]
        return True


class _Slices:
    """The same for each value of the keys that rows are sliced by, as far as the reference has rows of it."""

    def __init__(self, reference: Reference, keys: Sequence[str]) -> None:
        features = (*reference.inputs, *reference.outputs)
        self._widths = [feature.bins.width for feature in features]
        self._names = [feature.bins.name for feature in features]
        self._labels = {feature.bins.name: feature.bins.labels() for feature in reference.inputs}
        self._keys: list[Slice] = [one for one in reference.slices if one.key in keys]
        self._starts = np.concatenate([[0], np.cumsum(self._widths)]).tolist()
        self._cells: list[tuple[int, int]] = [
            (key, value)
            for key, one in enumerate(self._keys)
            for value, counts in enumerate(one.counts)
            if sum(counts[: self._widths[0]]) >= LEAST_IN_SLICE
        ]
        usual = [column for key, value in self._cells for column in self._columns(self._keys[key].counts[value])]
        self._panel = ChangeDetector([shares(one) for one in usual], [allowance(one) for one in usual])
        self._drifting: dict[int, ColumnState] = {}
        self._usual = usual

    def __len__(self) -> int:
        return len(self._cells)

    def _columns(self, counts: Any) -> list[Any]:
        return [counts[start:end] for start, end in zip(self._starts, self._starts[1:], strict=False)]

    def _counts(self, now: Counted, base: Counted) -> list[Any]:
        difference = [after - before for after, before in zip(now.slices, base.slices, strict=True)]
        return [column for key, value in self._cells for column in self._columns(difference[key][value])]

    def look(
        self, counted: tuple[Counted, Counted, Counted], inflation: float, now: float, budget: float
    ) -> list[DriftChange]:
        """Take what has been counted so far, until the last look, and where the window begins; what has changed."""
        after, last, base = counted
        fresh = self._counts(after, last)
        self._panel.watch(self._panel.batch(fresh), inflation, now)
        alarmed, since, log_m = self._panel.alarm(budget), self._panel.since, self._panel.log_m
        changes = []
        for index in alarmed:
            if index not in self._drifting:
                told = {
                    "slice": self._told(index),
                    "since": float(since[index]),
                    "log_e": round(float(log_m[index]), 3),
                }
                changes.append(DriftChange(SLICE, self._name(index), True, told))
            self._drifting[index] = ColumnState(State.DRIFT, 0, float(since[index]))
        if alarmed:
            self._panel.restart()
        calming = [one for one in self._drifting if one not in alarmed]
        window = self._counts(after, base) if calming else []
        for index in calming:
            found = scores(self._usual[index], window[index].tolist())
            column = self._drifting[index] = judged(self._drifting[index], found.rows, found, False, 0.0)
            if column.state is not State.DRIFT:
                del self._drifting[index]
                changes.append(DriftChange(SLICE, self._name(index), False, {"slice": self._told(index)}))
        return changes

    def drifting(self) -> list[str]:
        """The columns that drift now, each with its slice."""
        return [self._name(index) for index in sorted(self._drifting)]

    def _told(self, index: int) -> dict[str, str]:
        key, value = self._cells[index // len(self._widths)]
        name = self._keys[key].key
        return {name: self._labels[name][value]}

    def _name(self, index: int) -> str:
        key, value = next(iter(self._told(index).items()))
        return f"{self._names[index % len(self._widths)]} where {key} is {value}"

    def document(self, now: Counted, base: Counted) -> Document:
        """Each watched value of each key: its rows in the window, and the columns that drift there."""
        found: Document = {}
        if not self._cells:
            return found
        counts = self._counts(now, base)
        many = len(self._widths)
        for cell, (key, value) in enumerate(self._cells):
            columns = range(cell * many, (cell + 1) * many)
            drifting = [
                {
                    "name": self._names[index - columns.start],
                    "since": self._drifting[index].since,
                    "psi": round(scores(self._usual[index], counts[index].tolist()).psi, 6),
                }
                for index in columns
                if index in self._drifting
            ]
            name = self._keys[key].key
            found.setdefault(name, {})[self._labels[name][value]] = {
                "rows": int(counts[columns.start].sum()),
                "state": State.DRIFT.value if drifting else State.OK.value,
                "log_e": round(max(0.0, float(self._panel.log_m[columns.start : columns.stop].max())), 3),
                "drifting": drifting,
            }
        return found


def _risen(usual: NDArray[np.float64], recent: NDArray[np.float64]) -> int:
    """Which kind of violation (its place) is most more frequent than usual by more than chance; 0 for none."""
    rows = float(recent.sum())
    if not rows:
        return 0
    expected = shares(usual) * rows
    above = (recent - expected) / np.sqrt(np.maximum(expected, 1.0))
    above[0] = 0.0
    worst = int(above.argmax())
    return worst if above[worst] > RISEN else 0


FEW_SOUND = 10
"""Sound rows among the recent ones below which nothing can be said of them."""

RISEN = 4.0
"""Standard deviations that a rate has to be above its usual one to be called risen."""


def _compared(usual: NDArray[np.float64], window: NDArray[np.float64]) -> Scores:
    return scores(usual.tolist(), window.tolist())


def _column_out(column: ColumnState) -> list[Any]:
    return [column.state.value, column.calm, column.since]


def _column_in(values: Sequence[Any]) -> ColumnState:
    return ColumnState(State(values[0]), int(values[1]), float(values[2]))
