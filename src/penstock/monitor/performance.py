"""What labels say of a version: metrics, whether its errors have changed, and whether it is as good as it says.

The one door to river, which is imported with the first label: it takes a second and 80 megabytes. Its
detectors are fed finite errors only (one NaN blinds them for ever) and read before their next update (which forgets).
"""

import math
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from threading import Lock
from types import ModuleType
from typing import Any

import numpy as np

from penstock.core.statistics.calibration import GapWatch, calibration_error
from penstock.core.statistics.change_detection import onset_probability
from penstock.core.statistics.column_state import State
from penstock.core.statistics.error_watch import ErrorChange, ErrorWatch
from penstock.core.statistics.performance_estimation import Estimate, calibration_curve
from penstock.monitor.answers import NUMBER
from penstock.monitor.confidence import SCORE_BINS
from penstock.monitor.feedback import LabelledRow
from penstock.monitor.reference import Reference

_IMPORTING = Lock()

WINDOW = 1000
"""Labels that windowed metrics look back on."""

SHARE = 0.5
"""The part of the budget of false alarms that each of the two things gets which labels are watched for."""

RECENT = 500
"""Labels whose share of errors is shown as the recent one."""

THRESHOLDS = 50
"""Points of the ROC curve that the prequential area is made of."""

Document = dict[str, Any]

NO_LABELS: Document = {"labels": 0, "accuracy": None}
"""What is shown of a version before its first label."""

CLASSIFICATION, REGRESSION = "classification", "regression"


@dataclass(frozen=True, slots=True)
class PerformanceChange:
    """A change of how good a version is: ``what`` is ``errors`` or ``gap``; ``begins`` False says that it is over."""

    what: str
    begins: bool
    evidence: Document


class Performance:
    """One version's; ``learn`` takes rows in the order in which their labels came.

    ``budget``: labels between false alarms; ``daily``: at most so many false alarms a day as well, 0 for no such bound.
    """

    def __init__(self, reference: Reference | None, budget: float, daily: float = 0.0) -> None:
        self._all_budget, self._daily, self._budget = budget, daily, budget / SHARE
        confidence = None if reference is None else reference.confidence
        counts, right = ((0,) * SCORE_BINS, ()) if confidence is None else (confidence.counts, confidence.right)
        self._chances = calibration_curve(counts, right)
        self._metrics: _Metrics | None = None
        self._columns: dict[int, float] = {}
        self._calibration: deque[tuple[float, bool]] = deque(maxlen=WINDOW)
        self._gap = GapWatch(self._budget)
        self._errors = _Errors(None if reference is None else reference.errors, self._budget)
        self.labels = 0
        self.right = 0

    def learn(self, rows: Sequence[LabelledRow], passed_s: float = math.inf) -> list[PerformanceChange]:
        """Take what was told, ``passed_s`` seconds after what was told before; what has changed by it."""
        begun = onset_probability(len(rows), passed_s, self._all_budget, self._daily)
        changes: list[PerformanceChange] = []
        errors: list[float] = []
        for row in rows:
            if not math.isfinite(row.answer):
                continue
            self.labels += 1
            self.right += row.right
            if self._metrics is None or self._metrics.task != _task(row):
                self._metrics = _Metrics(_task(row))
            self._learn_columns(row)
            probabilities = self._chances_of(row)
            self._metrics.update(row, probabilities)
            errors.append(_error(row))
            if probabilities:
                changes += self._see_gap(row, probabilities, begun)
        return changes + self._errors.see(errors, begun)

    def _learn_columns(self, row: LabelledRow) -> None:
        """Which class each score is of, by the answers themselves."""
        known = [one for one in row.scores if math.isfinite(one)]
        if len(known) > 1:
            self._columns[int(np.argmax(known))] = row.answer

    def _chances_of(self, row: LabelledRow) -> dict[float, float]:
        """Probabilities by class, as far as they are known: none where scores are no probabilities."""
        if row.is_probability:
            return {1.0: row.answer, 0.0: 1 - row.answer}
        known = [one for one in row.scores if math.isfinite(one)]
        if row.form == NUMBER or not known or not all(0 <= one <= 1 for one in known):
            return {}
        if len(known) == 1:
            return {row.answer: known[0]}
        if abs(sum(known) - 1) > 1e-3:
            return {}
        columns = {**{index: float(index) for index in range(len(known))}, **self._columns}
        return {columns[index]: one for index, one in enumerate(known)}

    def _see_gap(self, row: LabelledRow, probabilities: dict[float, float], begun: float) -> list[PerformanceChange]:
        answer = float(row.answer >= 0.5) if row.is_probability else row.answer
        chance = self._calibrated(row, probabilities, answer)
        self._calibration.append((chance, row.right))
        begins = self._gap.see(chance, row.right, begun)
        return [] if begins is None else [PerformanceChange("gap", begins, self.gap())]

    def _calibrated(self, row: LabelledRow, probabilities: dict[float, float], answer: float) -> float:
        """The chance to be right that the reference's labels give an answer that is so sure."""
        sure = probabilities.get(answer, 0.5)
        two = len(probabilities) == 2
        if not self._chances.calibrated:
            return sure
        second = self._columns.get(1, 1.0)
        place = min(SCORE_BINS - 1, int((probabilities.get(second, 0.5) if two else sure) * SCORE_BINS))
        chance = float(self._chances.probabilities[place])
        return chance if not two or answer == second else 1 - chance

    def gap(self) -> Document:
        """What probabilities let expect of the last labelled answers, and what came true."""
        rows = len(self._calibration)
        expected = sum(chance for chance, _ in self._calibration) / rows if rows else None
        realised = sum(right for _, right in self._calibration) / rows if rows else None
        return {
            "state": self._gap.state.value,
            "rows": rows,
            "estimated": _rounded(expected),
            "realised": _rounded(realised),
            "log_e": round(max(0.0, self._gap.log_e), 3),
            "calibrated": self._chances.calibrated,
        }

    def values(self) -> dict[str, float]:
        """The windowed metrics by name, as far as they are known."""
        return {} if self._metrics is None else self._metrics.windowed()

    def overall(self) -> dict[str, float]:
        """The metrics over all labels by name, as far as they are known."""
        return {} if self._metrics is None else self._metrics.prequential()

    def document(self) -> Document:
        """Everything labels say, as the admin API shows it."""
        metrics = self._metrics
        probabilities = [chance for chance, _ in self._calibration]
        error = calibration_error(probabilities, [right for _, right in self._calibration])
        windowed = {} if metrics is None else {**metrics.windowed(), "calibration_error": error}
        return {
            "labels": self.labels,
            "accuracy": self.right / self.labels if metrics is not None and metrics.task == CLASSIFICATION else None,
            "task": None if metrics is None else metrics.task,
            "windowed": {name: _rounded(value) for name, value in windowed.items()},
            "prequential": {name: _rounded(value) for name, value in self.overall().items()},
            "gap": self.gap(),
            "concept": self._errors.document(),
        }


RATIOS = frozenset({"accuracy", "error_rate", "macro_f1", "f1", "roc_auc"})
"""Metrics from 0 to 1."""


def metrics_of(rows: Sequence[LabelledRow]) -> dict[str, float]:
    """The metrics of some rows, all together, as the monitor names them."""
    performance = Performance(None, math.inf)
    performance.learn(rows)
    return performance.overall()


def estimate_out(found: Estimate | None) -> Document | None:
    """An estimate as JSON values."""
    if found is None:
        return None
    return {name: _rounded(value) if isinstance(value, float) else value for name, value in asdict(found).items()}


def _task(row: LabelledRow) -> str:
    return REGRESSION if row.form == NUMBER and not row.is_probability else CLASSIFICATION


def _error(row: LabelledRow) -> float:
    """1 for a wrong class, else how far a number is off."""
    return abs(row.label - row.answer) if _task(row) == REGRESSION else float(not row.right)


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 6)


_DATASETS = "river.drift.datasets"
"""Imports pandas and scikit-learn (90 megabytes, most of the time), and nothing else of the library uses it."""


@contextmanager
def _without(module: str) -> Iterator[None]:
    """Let a package be imported without one of its modules, which may still be imported later."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = ModuleType(module)
    try:
        yield
    finally:
        del sys.modules[module]


def load_river() -> Any:
    """The library, which says nothing of its types. The first call takes a second: call it not on a loop. Any thread
    may call it: those that come while it is imported wait, since a package that another thread imports has its modules
    already, but not yet as attributes."""
    with _IMPORTING, _without(_DATASETS):
        import river.drift.binary  # noqa: PLC0415 - see above
        import river.metrics  # noqa: PLC0415 - see above
        import river.utils  # noqa: PLC0415 - see above

    return river


class _Metrics:
    """River's metrics of one task, over all labels and over the last ones."""

    def __init__(self, task: str) -> None:
        metrics, utils = load_river().metrics, load_river().utils
        self.task = task
        self._windows: dict[str, Any] = {}
        self._all: dict[str, Any] = {}
        made = {"mae": metrics.MAE, "rmse": metrics.RMSE, "r2": metrics.R2}
        if task == CLASSIFICATION:
            made = {"accuracy": metrics.Accuracy, "macro_f1": metrics.MacroF1, "log_loss": metrics.CrossEntropy}
        for name, make in made.items():
            self._all[name] = make()
            self._windows[name] = utils.Rolling(make, window_size=WINDOW)
        if task == CLASSIFICATION:
            self._all["f1"] = metrics.F1(pos_val=1.0)
            self._windows["f1"] = utils.Rolling(metrics.F1, window_size=WINDOW, pos_val=1.0)
            self._all["roc_auc"] = metrics.ROCAUC(n_thresholds=THRESHOLDS)
            self._windows["roc_auc"] = metrics.RollingROCAUC(window_size=WINDOW)
        self._classes: set[float] = set()
        self._scored = 0
        self._before: float | None = None
        self._same = self._told = 0

    def update(self, row: LabelledRow, probabilities: dict[float, float]) -> None:
        """One more label."""
        self._told += 1
        self._same += self._before == row.label
        self._before = row.label
        for side in (self._all, self._windows):
            if self.task == REGRESSION:
                for metric in side.values():
                    metric.update(row.label, row.answer)
            else:
                self._update_classes(side, row, probabilities)

    def _update_classes(self, side: dict[str, Any], row: LabelledRow, probabilities: dict[float, float]) -> None:
        answer = float(row.answer >= 0.5) if row.is_probability else row.answer
        self._classes |= {row.label, answer}
        for name in ("accuracy", "macro_f1", "f1"):
            side[name].update(row.label, answer)
        if len(probabilities) > 1 and row.label in probabilities:
            self._scored += 1
            side["log_loss"].update(row.label, {one: min(1.0, max(1e-15, p)) for one, p in probabilities.items()})
            if 1.0 in probabilities and len(probabilities) == 2:
                side["roc_auc"].update(row.label == 1.0, probabilities[1.0])

    def windowed(self) -> dict[str, float]:
        return self._read(self._windows)

    def prequential(self) -> dict[str, float]:
        found = self._read(self._all)
        if self.task == CLASSIFICATION and self._told > 1:
            # how much better than answering with the label before (Zliobaite et al. 2015): streams repeat themselves
            usual = self._same / (self._told - 1)
            found["last_label_accuracy"] = usual
            if usual < 1:
                found["kappa_temporal"] = (found["accuracy"] - usual) / (1 - usual)
        return found

    def _read(self, side: dict[str, Any]) -> dict[str, float]:
        two = self._classes <= {0.0, 1.0}
        left_out = set() if two else {"f1", "roc_auc"}
        if not self._scored:
            left_out |= {"log_loss", "roc_auc"}
        found = {name: float(metric.get()) for name, metric in side.items() if name not in left_out}
        if self.task == CLASSIFICATION:
            found["error_rate"] = 1 - found["accuracy"]
        return found


class _Errors:
    """Whether a version's errors are as they were: by the e-SR procedure with its stated budget, and by river's ADWIN
    and HDDM beside it, for people who know them."""

    def __init__(self, usual: tuple[int, int] | None, budget: float) -> None:
        self._watch = ErrorWatch(usual, budget)
        self._last: deque[float] = deque(maxlen=RECENT)
        self._seen = 0
        self._others: dict[str, tuple[Any, Document]] = {}

    @property
    def state(self) -> State:
        return self._watch.state

    @property
    def alarms(self) -> int:
        return self._watch.alarms

    def see(self, errors: Sequence[float], begun: float) -> list[PerformanceChange]:
        """Some more errors, at the share ``begun`` of which a change may begin."""
        finite = [one for one in errors if math.isfinite(one)]
        for error in finite:
            self._seen += 1
            self._see_others(error)
        self._last.extend(finite)
        return [PerformanceChange("errors", one.begins, self._told(one)) for one in self._watch.take(finite, begun)]

    def _told(self, change: ErrorChange) -> Document:
        state = State.DRIFT if change.begins else State.OK
        told = {**self.document(), "state": state.value, "log_e": round(change.log_e, 3)}
        return {**told, "since_label": change.since, "worse": change.worse} if change.begins else told

    def _see_others(self, error: float) -> None:
        if not self._others:
            drift = load_river().drift
            made = {"adwin": drift.ADWIN(), "hddm_a": drift.binary.HDDMA(), "hddm_w": drift.binary.HDDMW()}
            self._others = {name: (one, {"alarms": 0, "at_label": None}) for name, one in made.items()}
        for name, (detector, told) in self._others.items():
            if name != "adwin" and error not in (0.0, 1.0):
                continue  # these are for right and wrong only
            detector.update(error)
            if detector.drift_detected:
                told["alarms"] += 1
                told["at_label"] = self._seen
                if name == "adwin":
                    told["estimate"], told["width"] = _rounded(float(detector.estimation)), int(detector.width)

    def document(self) -> Document:
        """As the admin API shows it."""
        watch, last = self._watch, list(self._last)
        wrong, rows = (0.0, 0.0) if watch.rate is None else watch.rate.usual()
        return {
            "state": watch.state.value,
            "log_e": round(math.log(max(1.0, watch.evidence())), 3),
            "alarms": watch.alarms,
            "baseline_rows": watch.baseline(),
            "baseline_error": _rounded(wrong / rows) if rows else None,
            "recent_error": _rounded(sum(last) / len(last)) if rows and last else None,
            "spacing": watch.spacing(),
            "others": {name: dict(told) for name, (_, told) in self._others.items()},
        }
