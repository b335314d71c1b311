"""The performance of a version by its labels: metrics, changes of its error rate, calibration of its confidence.

Only this file imports river, and only with the first label: the import takes a second and 80 megabytes. River's
detectors get finite errors only (a single NaN disables them for good), and are read before the next update resets them.
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
from penstock.core.statistics.column_state import ColumnPhase
from penstock.core.statistics.error_watch import ErrorChange, ErrorWatch
from penstock.core.statistics.performance_estimation import Estimate, calibration_curve
from penstock.monitor.answers import NUMBER
from penstock.monitor.confidence import SCORE_BINS
from penstock.monitor.feedback import LabelledRow
from penstock.monitor.label_delay import LabelDelays
from penstock.monitor.reference import Reference

_IMPORTING = Lock()

WINDOW = 1000
"""Labels in the window of windowed metrics."""

SHARE = 0.5
"""The part of the false alarm budget for each of the two tests on labels."""

RECENT = 500
"""Labels whose error rate is shown as the recent one."""

THRESHOLDS = 50
"""Points of the ROC curve for the prequential area under it."""

Document = dict[str, Any]

NO_LABELS: Document = {"labels": 0, "accuracy": None}
"""The document of a version before its first label."""

CLASSIFICATION, REGRESSION = "classification", "regression"


@dataclass(frozen=True, slots=True)
class PerformanceChange:
    """A change of a version's performance that ``begins`` or is over: ``what`` is ``errors`` or ``gap``."""

    what: str
    begins: bool
    evidence: Document


class Performance:
    """The performance of one version. Of one thread at a time.

    ``budget`` is the average number of labels between false alarms, and ``daily`` bounds the false alarms of a day (0:
    no bound).
    """

    def __init__(self, reference: Reference | None, budget: float, daily: float = 0.0) -> None:
        self._all_budget, self._daily, self._budget = budget, daily, budget / SHARE
        confidence = None if reference is None else reference.confidence
        counts, right = ((0,) * SCORE_BINS, ()) if confidence is None else (confidence.counts, confidence.right)
        self._curve = calibration_curve(counts, right)
        self._metrics: _RiverMetrics | None = None
        self._columns: dict[int, float] = {}
        self._calibration: deque[tuple[float, bool]] = deque(maxlen=WINDOW)
        self._gap = GapWatch(self._budget)
        self._errors = _Errors(None if reference is None else reference.errors, self._budget)
        self._delays = LabelDelays()
        self.labels = 0
        self.right = 0

    def learn(self, rows: Sequence[LabelledRow], passed_s: float = math.inf) -> list[PerformanceChange]:
        """Take labelled rows in the order of their labels, ``passed_s`` seconds after the last ones, and return the
        changes."""
        onset = onset_probability(len(rows), passed_s, self._all_budget, self._daily)
        changes: list[PerformanceChange] = []
        errors: list[float] = []
        for row in rows:
            if not math.isfinite(row.answer):
                continue
            self.labels += 1
            self.right += row.right
            self._delays.add(row)
            if self._metrics is None or self._metrics.task != _find_task(row):
                self._metrics = _RiverMetrics(_find_task(row))
            self._learn_columns(row)
            probabilities = self._class_probabilities(row)
            self._metrics.update(row, probabilities)
            errors.append(_find_error(row))
            if probabilities:
                changes += self._observe_gap(row, probabilities, onset)
        return changes + self._errors.observe(errors, onset)

    def _learn_columns(self, row: LabelledRow) -> None:
        """Learn from an answer which class its greatest score belongs to."""
        scores = [score for score in row.scores if math.isfinite(score)]
        if len(scores) > 1:
            self._columns[int(np.argmax(scores))] = row.answer

    def _class_probabilities(self, row: LabelledRow) -> dict[float, float]:
        """Return the known probabilities by class; none if the scores are not probabilities."""
        if row.is_probability:
            return {1.0: row.answer, 0.0: 1 - row.answer}
        scores = [score for score in row.scores if math.isfinite(score)]
        if row.form == NUMBER or not scores or not all(0 <= score <= 1 for score in scores):
            return {}
        if len(scores) == 1:
            return {row.answer: scores[0]}
        if abs(sum(scores) - 1) > 1e-3:
            return {}
        columns = {**{index: float(index) for index in range(len(scores))}, **self._columns}
        return {columns[index]: score for index, score in enumerate(scores)}

    def _observe_gap(
        self, row: LabelledRow, probabilities: dict[float, float], onset: float
    ) -> list[PerformanceChange]:
        answer = float(row.answer >= 0.5) if row.is_probability else row.answer
        calibrated = self._calibrate(probabilities, answer)
        self._calibration.append((calibrated, row.right))
        begins = self._gap.add(calibrated, row.right, onset)
        return [] if begins is None else [PerformanceChange("gap", begins, self.gap())]

    def _calibrate(self, probabilities: dict[float, float], answer: float) -> float:
        """Return the probability that an answer is right, calibrated by the reference's labels if it has any."""
        stated = probabilities.get(answer, 0.5)
        is_binary = len(probabilities) == 2
        if not self._curve.calibrated:
            return stated
        second = self._columns.get(1, 1.0)
        index = min(SCORE_BINS - 1, int((probabilities.get(second, 0.5) if is_binary else stated) * SCORE_BINS))
        calibrated = float(self._curve.probabilities[index])
        return calibrated if not is_binary or answer == second else 1 - calibrated

    def gap(self) -> Document:
        """Return the expected accuracy of the last labelled answers by their probabilities, and the realised one."""
        rows = len(self._calibration)
        expected = sum(probability for probability, _ in self._calibration) / rows if rows else None
        realised = sum(right for _, right in self._calibration) / rows if rows else None
        return {
            "state": self._gap.state.value,
            "rows": rows,
            "estimated": _round_value(expected),
            "realised": _round_value(realised),
            "log_e": round(max(0.0, self._gap.log_e), 3),
            "calibrated": self._curve.calibrated,
        }

    def values(self) -> dict[str, float]:
        """Return the known windowed metrics by name."""
        return {} if self._metrics is None else self._metrics.windowed()

    def overall(self) -> dict[str, float]:
        """Return the known metrics over all labels by name."""
        return {} if self._metrics is None else self._metrics.prequential()

    def document(self) -> Document:
        """Return the performance as the admin API shows it."""
        metrics = self._metrics
        probabilities = [probability for probability, _ in self._calibration]
        error = calibration_error(probabilities, [right for _, right in self._calibration])
        windowed = {} if metrics is None else {**metrics.windowed(), "calibration_error": error}
        return {
            "labels": self.labels,
            "accuracy": self.right / self.labels if metrics is not None and metrics.task == CLASSIFICATION else None,
            "task": None if metrics is None else metrics.task,
            "windowed": {name: _round_value(value) for name, value in windowed.items()},
            "prequential": {name: _round_value(value) for name, value in self.overall().items()},
            "delay": self._delays.document(),
            "gap": self.gap(),
            "concept": self._errors.document(),
        }


RATIOS = frozenset({"accuracy", "error_rate", "macro_f1", "f1", "roc_auc"})
"""Metrics between 0 and 1."""


def metrics_of(rows: Sequence[LabelledRow]) -> dict[str, float]:
    """Return the metrics over these rows by the monitor's names."""
    performance = Performance(None, math.inf)
    performance.learn(rows)
    return performance.overall()


def describe_estimate(estimated: Estimate | None) -> Document | None:
    """Return an estimate as JSON values."""
    if estimated is None:
        return None
    return {
        name: _round_value(value) if isinstance(value, float) else value for name, value in asdict(estimated).items()
    }


def _find_task(row: LabelledRow) -> str:
    return REGRESSION if row.form == NUMBER and not row.is_probability else CLASSIFICATION


def _find_error(row: LabelledRow) -> float:
    """Return 1 for a wrong class and 0 for the right one, or the absolute error of a number."""
    return abs(row.label - row.answer) if _find_task(row) == REGRESSION else float(not row.right)


def _round_value(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 6)


_DATASETS = "river.drift.datasets"
"""A module that nothing else in river uses; it imports pandas and scikit-learn (90 megabytes and most of the time)."""


@contextmanager
def _import_without(module: str) -> Iterator[None]:
    """Import a package without one of its modules, which may still be imported later."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = ModuleType(module)
    try:
        yield
    finally:
        del sys.modules[module]


def load_river() -> Any:
    """Import river, which has no type hints. The first call takes a second: do not make it on an event loop.

    Any thread may call it. Concurrent calls wait, because a package that another thread is importing lacks attributes.
    """
    with _IMPORTING, _import_without(_DATASETS):
        import river.drift.binary  # noqa: PLC0415 - see above
        import river.metrics  # noqa: PLC0415 - see above
        import river.utils  # noqa: PLC0415 - see above

    return river


class _RiverMetrics:
    """River's metrics of one task, over all labels and over the window."""

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
        self._same = self._labels = 0

    def update(self, row: LabelledRow, probabilities: dict[float, float]) -> None:
        """Take one more label."""
        self._labels += 1
        self._same += self._before == row.label
        self._before = row.label
        for metrics in (self._all, self._windows):
            if self.task == REGRESSION:
                for metric in metrics.values():
                    metric.update(row.label, row.answer)
            else:
                self._update_classes(metrics, row, probabilities)

    def _update_classes(self, metrics: dict[str, Any], row: LabelledRow, probabilities: dict[float, float]) -> None:
        answer = float(row.answer >= 0.5) if row.is_probability else row.answer
        self._classes |= {row.label, answer}
        for name in ("accuracy", "macro_f1", "f1"):
            metrics[name].update(row.label, answer)
        if len(probabilities) > 1 and row.label in probabilities:
            self._scored += 1
            clipped = {label: min(1.0, max(1e-15, p)) for label, p in probabilities.items()}
            metrics["log_loss"].update(row.label, clipped)
            if 1.0 in probabilities and len(probabilities) == 2:
                metrics["roc_auc"].update(row.label == 1.0, probabilities[1.0])

    def windowed(self) -> dict[str, float]:
        return self._read(self._windows)

    def prequential(self) -> dict[str, float]:
        values = self._read(self._all)
        if self.task == CLASSIFICATION and self._labels > 1:
            # Kappa temporal (Zliobaite et al., 2015): how much better than repeating the label before.
            baseline = self._same / (self._labels - 1)
            values["last_label_accuracy"] = baseline
            if baseline < 1:
                values["kappa_temporal"] = (values["accuracy"] - baseline) / (1 - baseline)
        return values

    def _read(self, metrics: dict[str, Any]) -> dict[str, float]:
        is_binary = self._classes <= {0.0, 1.0}
        left_out = set() if is_binary else {"f1", "roc_auc"}
        if not self._scored:
            left_out |= {"log_loss", "roc_auc"}
        values = {name: float(metric.get()) for name, metric in metrics.items() if name not in left_out}
        if self.task == CLASSIFICATION:
            values["error_rate"] = 1 - values["accuracy"]
        return values


class _Errors:
    """Tests whether a version's error rate has changed: by the e-SR procedure with its stated budget, and for
    comparison by river's ADWIN and HDDM, which raise no alarm."""

    def __init__(self, usual: tuple[int, int] | None, budget: float) -> None:
        self._watch = ErrorWatch(usual, budget)
        self._last: deque[float] = deque(maxlen=RECENT)
        self._seen = 0
        self._others: dict[str, tuple[Any, Document]] = {}

    @property
    def state(self) -> ColumnPhase:
        return self._watch.state

    @property
    def alarms(self) -> int:
        return self._watch.alarms

    def observe(self, errors: Sequence[float], onset: float) -> list[PerformanceChange]:
        """Take some more errors; a change may begin at the share ``onset`` of them."""
        finite = [error for error in errors if math.isfinite(error)]
        for error in finite:
            self._seen += 1
            self._observe_others(error)
        self._last.extend(finite)
        changes = self._watch.take(finite, onset)
        return [PerformanceChange("errors", change.begins, self._evidence(change)) for change in changes]

    def _evidence(self, change: ErrorChange) -> Document:
        state = ColumnPhase.DRIFT if change.begins else ColumnPhase.OK
        evidence = {**self.document(), "state": state.value, "log_e": round(change.log_e, 3)}
        return {**evidence, "since_label": change.since, "worse": change.worse} if change.begins else evidence

    def _observe_others(self, error: float) -> None:
        if not self._others:
            drift = load_river().drift
            detectors = {"adwin": drift.ADWIN(), "hddm_a": drift.binary.HDDMA(), "hddm_w": drift.binary.HDDMW()}
            self._others = {name: (made, {"alarms": 0, "at_label": None}) for name, made in detectors.items()}
        for name, (detector, document) in self._others.items():
            if name != "adwin" and error not in (0.0, 1.0):
                continue  # HDDM takes right and wrong answers only
            detector.update(error)
            if detector.drift_detected:
                document["alarms"] += 1
                document["at_label"] = self._seen
                if name == "adwin":
                    document["estimate"], document["width"] = (
                        _round_value(float(detector.estimation)),
                        int(detector.width),
                    )

    def document(self) -> Document:
        """Return the result as the admin API shows it."""
        watch, last = self._watch, list(self._last)
        wrong, rows = (0.0, 0.0) if watch.rate is None else watch.rate.usual()
        return {
            "state": watch.state.value,
            "log_e": round(math.log(max(1.0, watch.evidence())), 3),
            "alarms": watch.alarms,
            "baseline_rows": watch.baseline(),
            "baseline_error": _round_value(wrong / rows) if rows else None,
            "recent_error": _round_value(sum(last) / len(last)) if rows and last else None,
            "spacing": watch.spacing(),
            "others": {name: dict(document) for name, (_, document) in self._others.items()},
        }
