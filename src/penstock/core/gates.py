"""The gates of a retrained version before its rollout: pure checks of its facts, each with its reason."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from penstock.core.stated_numbers import number_fault
from penstock.core.statistics.paired_comparison import Advantage
from penstock.core.version_gates import missing_fields

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CandidateFacts:
    """The facts of a version in the registry: its size, its metadata, and the measurements of its admission."""

    size: int
    metadata: Document
    facts: Document

    @property
    def metrics(self) -> Document:
        """Return the metrics that were pushed with it."""
        metrics = self.metadata.get("metrics")
        return metrics if isinstance(metrics, Mapping) else {}


LESS_IS_BETTER = frozenset({"mae", "rmse", "log_loss", "error_rate"})
"""Metrics of the monitor that are better if lower."""

METRICS = frozenset({"accuracy", "macro_f1", "f1", "roc_auc", "r2"}) | LESS_IS_BETTER
"""Metrics that can be computed from labelled rows."""


@dataclass(frozen=True, slots=True)
class HoldoutGate:
    """What an exam on labelled rows asks, rows that no training command was given.

    ``share`` of the captured requests are held out, and at least ``least`` labelled rows are asked for. There the
    ``metric`` has to be better than the champion's by ``by``, by more than chance: at most the share ``alpha`` of
    candidates that are not may ever pass, however many are tried against one champion. For each value of the
    ``columns`` with ``slice_least`` rows or more it has to reach ``slice_at_least``, and to fall behind the champion's
    by ``slice_by`` at most. With noise of ``noise`` standard deviations on every number it may get worse by
    ``noise_by`` at most.
    """

    metric: str
    by: float = 0.0
    alpha: float = 0.1
    least: int = 100
    share: float = 0.2
    columns: tuple[str, ...] = ()
    slice_least: int = 30
    slice_at_least: float | None = None
    slice_by: float | None = None
    noise: float = 0.0
    noise_by: float = 0.0

    @property
    def sign(self) -> int:
        """Return 1 if more is better, -1 if less is."""
        return -1 if self.metric in LESS_IS_BETTER else 1


@dataclass(frozen=True, slots=True)
class ExamScores:
    """The metric of both versions over the same rows; None if it is unknown."""

    rows: int
    candidate: float | None
    champion: float | None


@dataclass(frozen=True, slots=True)
class Exam:
    """How both versions answered the held-out rows: over all of them, by slices, and the candidate with noise on its
    inputs (None without); ``broken`` counts rows that the candidate answers with what is not a number and the champion
    does not. ``advantage`` is how far the candidate is ahead with its lower bound (None where that cannot be computed),
    ``same`` says that both gave the same answers to all rows, and ``tries`` is the number of candidates that were
    examined against this champion, with this one."""

    whole: ExamScores
    slices: Mapping[str, ExamScores] = field(default_factory=dict)
    noised: float | None = None
    broken: int = 0
    advantage: Advantage | None = None
    same: bool = False
    tries: int = 1


@dataclass(frozen=True, slots=True)
class Gates:
    """What is required: the champion's signature; plausible answers to the synthetic inputs of the admission; at most
    so many bytes, bytes of memory, microseconds a run, and times the champion's microseconds; fields of the model card;
    a metric (pushed with both) better than the champion's by a margin, where ``lower`` says that less is better; and an
    exam on rows that were held out."""

    same_signature: bool = True
    sane: bool = True
    max_bytes: float | None = None
    max_memory_bytes: float | None = None
    max_run_us: float | None = None
    max_slower: float | None = None
    card: tuple[str, ...] = ()
    metric: str = ""
    by: float = 0.0
    lower: bool = False
    held_out: HoldoutGate | None = None


def check_gates(gates: Gates, candidate: CandidateFacts, champion: CandidateFacts | None) -> list[str]:
    """Return why a version may not be rolled out, nothing if it may."""
    facts = candidate.facts
    reasons = [
        _exceeds_text("it takes", candidate.size, gates.max_bytes, "bytes"),
        _exceeds_text("it takes", facts.get("memory_bytes"), gates.max_memory_bytes, "bytes of memory"),
        _exceeds_text("a run takes", facts.get("p50_us"), gates.max_run_us, "microseconds"),
    ]
    lacking = missing_fields(gates.card, candidate.metadata.get("card"))
    reasons += [f"its card says nothing of '{name}'" for name in lacking]
    if gates.sane:
        reasons += _implausible_answers(candidate, champion)
    if champion is not None:
        reasons += _check_comparison(gates, candidate, champion)
    elif gates.metric and gates.metric not in candidate.metrics:
        reasons.append(f"it was pushed without the metric '{gates.metric}'")
    return [reason for reason in reasons if reason]


def _check_comparison(gates: Gates, candidate: CandidateFacts, champion: CandidateFacts) -> list[str]:
    reasons = []
    if gates.same_signature and candidate.facts.get("signature") != champion.facts.get("signature"):
        reasons.append("its inputs or outputs are not those of the version that answers")
    run_us, champion_us = candidate.facts.get("p50_us"), champion.facts.get("p50_us")
    if gates.max_slower is not None and run_us is None:
        reasons.append("its admission did not measure how long a run takes")
    if gates.max_slower is not None and run_us and champion_us and run_us > gates.max_slower * champion_us:
        reasons.append(
            f"a run takes {run_us / champion_us:.2f} times as long as one of the version that answers; "
            f"the limit is {gates.max_slower:g}"
        )
    if gates.metric:
        reasons += _check_margin(gates, candidate.metrics.get(gates.metric), champion.metrics.get(gates.metric))
    return reasons


def _check_margin(gates: Gates, value: Any, champion: Any) -> list[str]:
    if value is None:
        return [f"it was pushed without the metric '{gates.metric}'"]
    if champion is None:
        return []  # there is nothing to compare it with
    ahead = (champion - value) if gates.lower else (value - champion)
    if ahead >= gates.by:
        return []
    return [
        f"its {gates.metric} is {value:g}, the answering version's {champion:g}; a margin of {gates.by:g} is required"
    ]


def _exceeds_text(what: str, value: Any, limit: float | None, unit: str) -> str:
    """Return why a measure exceeds a limit, "" if it does not; a missing measure exceeds every limit."""
    if limit is None:
        return ""
    if value is None:
        return f"its admission did not measure how many {unit} {what}; the limit is {limit:g}"
    return f"{what} {value:g} {unit}; the limit is {limit:g}" if value > limit else ""


def _implausible_answers(candidate: CandidateFacts, champion: CandidateFacts | None) -> list[str]:
    """What is implausible in the answers to the synthetic inputs of the admission: text, no probabilities, or another
    shape where the champion's answer differs."""
    other = {} if champion is None else {(case, name): answer for case, name, answer in _list_outputs(champion)}
    reasons = []
    for case, name, own in _list_outputs(candidate):
        expected = other.get((case, name))
        has_expected = expected is not None
        if (
            any(isinstance(value, str) for value in own["sample"])
            and not (has_expected and _has_text(expected))
            and _is_numeric(own)
        ):
            reasons.append(f"for {case} its output '{name}' contains a value that is not a number")
        elif expected is not None and own["shape"] != expected["shape"]:
            reasons.append(f"for {case} its output '{name}' has the shape {own['shape']}, not {expected['shape']}")
        elif expected is not None and _are_probabilities(expected) and not _are_probabilities(own):
            reasons.append(f"for {case} its output '{name}' is not a probability; that of the version that answers is")
    return reasons[:3]


def _list_outputs(version: CandidateFacts) -> list[tuple[str, str, Document]]:
    probes = version.facts.get("probes") or {}
    return [(case["inputs"], output["name"], output) for case in probes.get("cases", ()) for output in case["outputs"]]


def _is_numeric(output: Document) -> bool:
    return bool(output["datatype"] != "BYTES")


def _has_text(output: Document | None) -> bool:
    return output is not None and any(isinstance(item, str) for item in output["sample"])


def _are_probabilities(output: Document) -> bool:
    """Whether an output looks like probabilities of classes: rows of several numbers from 0 to 1 that sum to 1; only
    the first numbers of a long answer are known.
    """
    shape, sample = output["shape"], output["sample"]
    if (
        len(shape) != 2
        or not 2 <= shape[1] <= len(sample)
        or _has_text(output)
        or not output["datatype"].startswith("FP")
    ):
        return False
    first = [float(item) for item in sample[: shape[1]]]
    return all(-1e-6 <= item <= 1 + 1e-6 for item in first) and abs(sum(first) - 1) < 1e-3


def check_exam(asked: HoldoutGate, exam: Exam) -> list[str]:
    """Return why a version does not pass its exam, nothing if it does."""
    whole, rows = exam.whole, exam.whole.rows
    if whole.candidate is None:
        return [f"its {asked.metric} cannot be computed from {rows} held-out rows"]
    reasons = []
    if exam.broken:
        reasons.append(f"it answers {exam.broken} of {rows} held-out rows with a value that is not a number")
    if whole.champion is not None and not _wins_exam(asked, exam, whole.candidate, whole.champion):
        reasons.append(
            f"its {asked.metric} on {rows} held-out rows is {whole.candidate:.4g}, the answering version's "
            f"{whole.champion:.4g}; a margin of {asked.by:g} is required{_bound(exam)}"
        )
    for name, marks in exam.slices.items():
        reasons += _slice_reasons(asked, name, marks)
    if exam.noised is not None and not _is_ahead(asked, exam.noised, whole.candidate, -asked.noise_by):
        reasons.append(
            f"with noise of {asked.noise:g} standard deviations its {asked.metric} goes from {whole.candidate:.4g} to "
            f"{exam.noised:.4g}; the limit is a loss of {asked.noise_by:g}"
        )
    return reasons


def _wins_exam(asked: HoldoutGate, exam: Exam, candidate: float, champion: float) -> bool:
    """Whether the candidate is ahead by the margin beyond chance; equal answers count as equally good."""
    if exam.same:
        return asked.by <= 0
    if exam.advantage is None:
        return _is_ahead(asked, candidate, champion, asked.by)
    return exam.advantage.lower >= asked.by


def _bound(exam: Exam) -> str:
    """Return the confidence bound of the difference as text."""
    advantage = exam.advantage
    if exam.same or advantage is None:
        return ""
    text = (
        f", and it is certain to be ahead by {advantage.lower:.4f} only "
        f"(at {1 - advantage.level:.2%}, candidate {exam.tries}"
    )
    return text + ("" if advantage.rows is None else f", {advantage.rows} rows answered differently") + ")"


def _slice_reasons(asked: HoldoutGate, name: str, marks: ExamScores) -> list[str]:
    if marks.rows < asked.slice_least or marks.candidate is None:
        return []
    where = f"where {name} ({marks.rows} held-out rows) its {asked.metric} is {marks.candidate:.4g}"
    if asked.slice_at_least is not None and not _is_ahead(asked, marks.candidate, asked.slice_at_least, 0.0):
        return [f"{where}; {asked.slice_at_least:g} is required"]
    behind = asked.slice_by is not None and marks.champion is not None
    if behind and not _is_ahead(asked, marks.candidate, marks.champion or 0.0, -(asked.slice_by or 0.0)):
        return [f"{where}, the answering version's {marks.champion:.4g}; the limit is a loss of {asked.slice_by:g}"]
    return []


def _is_ahead(asked: HoldoutGate, value: float, other: float, by: float) -> bool:
    return asked.sign * (value - other) >= by - 1e-12


_NUMBERS = ("max_bytes", "max_memory_bytes", "max_run_us", "max_slower")


def parse_gates(stated: Any, path: str, faults: list[str]) -> Gates:
    """Parse gates from an operator; every error is added to ``faults`` with its path."""
    if not isinstance(stated, dict):
        faults.append(f"'{path}' must be an object")
        return Gates()
    faults += [f"'{path}.{word}' is not a gate" for word in sorted(set(stated) - {*_NUMBERS, *_OTHERS})]
    values: dict[str, Any] = {}
    for word in _NUMBERS:
        if word in stated:
            values[word] = stated[word]
            if type(stated[word]) not in (int, float) or stated[word] <= 0:
                faults.append(f"'{path}.{word}' must be a number above 0")
    flags, card = {word: stated.get(word, True) for word in _FLAGS}, stated.get("card", [])
    faults += [f"'{path}.{word}' must be true or false" for word, value in flags.items() if type(value) is not bool]
    if not isinstance(card, list) or not all(isinstance(item, str) for item in card):
        faults.append(f"'{path}.card' must be a list of fields of the model card")
        card = []
    beats = stated.get("beats", {})
    if not isinstance(beats, dict) or set(beats) - {"metric", "by", "lower"} or (beats and not _is_valid_beats(beats)):
        faults.append(f"'{path}.beats' has a metric, a margin (by), and lower: true where less is better")
        beats = {}
    exam = _parse_holdout(stated["held_out"], f"{path}.held_out", faults) if "held_out" in stated else None
    return Gates(**values, **flags, card=tuple(card), **beats, held_out=exam)


_FLAGS = ("same_signature", "sane")
_OTHERS = (*_FLAGS, "card", "beats", "held_out")
_EXAM = {
    "by": ("by", -math.inf, math.inf),
    "alpha": ("alpha", 1e-4, 0.5),
    "min_rows": ("least", 10, 100_000),
    "share": ("share", 0.01, 0.9),
}
_SLICES = {
    "floor": ("slice_at_least", -math.inf, math.inf),
    "fall_by": ("slice_by", 0, math.inf),
    "min_rows": ("slice_least", 10, 100_000),
}
_NOISE = {"sd": ("noise", 0, 10), "fall_by": ("noise_by", 0, math.inf)}
MOST_COLUMNS = 8


def _parse_holdout(stated: Any, path: str, faults: list[str]) -> HoldoutGate | None:
    if not isinstance(stated, dict) or stated.get("metric") not in METRICS:
        faults.append(f"'{path}' must be an object whose metric is one of {', '.join(sorted(METRICS))}")
        return None
    before, values = len(faults), dict[str, Any]()
    _parse_numbers(stated, path, _EXAM, {"metric", "slices", "noise"}, values, faults)
    slices, noise = stated.get("slices", {}), stated.get("noise", {})
    if not isinstance(slices, dict) or not isinstance(noise, dict):
        faults.append(f"'{path}.slices' and '{path}.noise' must be objects")
        return None
    _parse_numbers(slices, f"{path}.slices", _SLICES, {"columns"}, values, faults)
    _parse_numbers(noise, f"{path}.noise", _NOISE, set(), values, faults)
    columns = slices.get("columns", [])
    if not _are_names(columns) or bool(columns) != bool(slices):
        faults.append(f"'{path}.slices.columns' must be a list of 1 to {MOST_COLUMNS} names of inputs or features")
    if len(faults) > before:
        return None
    return HoldoutGate(stated["metric"], columns=tuple(columns), **values)


def _are_names(columns: Any) -> bool:
    return (
        isinstance(columns, list)
        and len(columns) <= MOST_COLUMNS
        and all(isinstance(column, str) for column in columns)
    )


def _parse_numbers(
    stated: Document,
    path: str,
    fields: Mapping[str, tuple[str, float, float]],
    others: set[str],
    values: dict[str, Any],
    faults: list[str],
) -> None:
    faults += [f"'{path}.{word}' is not a setting" for word in sorted(set(stated) - {*fields, *others})]
    for word, (name, least, most) in fields.items():
        if word not in stated:
            continue
        values[name] = stated[word]
        if fault := number_fault(f"{path}.{word}", stated[word], least, most, whole=word == "min_rows"):
            faults.append(fault)


def _is_valid_beats(beats: Document) -> bool:
    by = beats.get("by", 0.0)
    has_metric = isinstance(beats.get("metric"), str) and bool(beats["metric"])
    return has_metric and type(by) in (int, float) and type(beats.get("lower", False)) is bool
