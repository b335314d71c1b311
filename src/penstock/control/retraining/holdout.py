"""Runs two versions on labelled held-out rows, in confined processes of their own, and compares their metrics."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.core.desired import VersionSpec
from penstock.core.errors import DeadlineExceeded, Refused
from penstock.core.gates import Exam, ExamScores, HoldoutGate
from penstock.core.signature import TensorSpec
from penstock.core.statistics.paired_comparison import Advantage, jackknife_advantage, rate_advantage, spend_alpha
from penstock.core.tensors import NUMPY_TYPES, Array, Tensor
from penstock.engine.confinement.child import run_confined
from penstock.engine.confinement.landlock import AllowedPaths
from penstock.engine.scratch import scratch_folder, temporary_folder
from penstock.monitor.answers import Answers, answers_of
from penstock.monitor.captured_rows import LabelledRows
from penstock.monitor.columns import input_columns
from penstock.monitor.feedback import LabelledRow
from penstock.monitor.performance import metrics_of

SECONDS = 120.0
MOST_VALUES = 12
"""Maximum values of a column that become slices; numbers with more values are split into quarters."""

SEED = 20_261_121
MODULE = "penstock.registry.admission.scoring"


RATES = ("accuracy", "error_rate")
"""Metrics that are shares of right or wrong rows."""

GROUPS = 20
"""Groups of requests that are omitted in turn to estimate the variance of any other metric."""


def run_exam(
    asked: HoldoutGate,
    rows: LabelledRows,
    candidate: VersionSpec,
    champion: VersionSpec,
    tries: int = 1,
    names: Sequence[str] = (),
) -> Exam:
    """Run both versions on the rows; ``tries`` candidates were examined against this champion, including this one.

    Blocks for as long as they take.

    Raises:
        Refused: the candidate does not answer them, with the reason.
        DeadlineExceeded: it took too long.
        NotReady: a required layer of confinement is missing.
    """
    with scratch_folder(temporary_folder(), "exam") as folder:
        candidate_answers, own = _run_version(candidate, rows.inputs, folder)
        try:
            champion_answers, _ = _run_version(champion, rows.inputs, folder)
        except Refused:
            champion_answers = None  # a champion of another signature: there is nothing to be held against
        noised = None
        if asked.noise:
            noisy, _ = _run_version(candidate, _with_noise(rows.inputs, asked.noise), folder)
            noised = _compute_metric(asked, noisy, rows.labels)
    return compare(asked, rows, (candidate_answers, champion_answers), names or own, tries, noised)


def compare(
    asked: HoldoutGate,
    rows: LabelledRows,
    answered: tuple[Answers, Answers | None],
    names: Sequence[str] = (),
    tries: int = 1,
    noised: float | None = None,
) -> Exam:
    """Return the exam of the candidate's and the champion's answers (None without any) to the rows; ``names`` are those
    of the features, ``noised`` is the candidate's metric with noise on its inputs.

    Raises:
        Refused: the rows have no column that is asked for.
    """
    candidate, champion = answered
    broken = int((~_find_finite(candidate) & (True if champion is None else _find_finite(champion))).sum())

    def marks(where: NDArray[np.bool_]) -> ExamScores:
        other = None if champion is None else _compute_metric(asked, champion, rows.labels, where)
        return ExamScores(int(where.sum()), _compute_metric(asked, candidate, rows.labels, where), other)

    whole = np.ones(len(rows.labels), np.bool_)
    slices = {name: marks(where) for name, where in _find_slices(asked.columns, rows.inputs, names).items()}
    exam = Exam(marks(whole), slices, noised, broken, tries=tries)
    if champion is None:
        return exam
    advantage = _compute_advantage(asked, rows, candidate, champion, spend_alpha(asked.alpha, tries))
    return replace(exam, advantage=advantage, same=_are_same(candidate, champion))


def _are_same(candidate: Answers, champion: Answers) -> bool:
    """Whether two versions gave the same answers, with the same scores, to every row."""
    return candidate.form == champion.form and all(
        np.array_equal(one, other, equal_nan=True)
        for one, other in ((candidate.values, champion.values), (candidate.scores, champion.scores))
    )


def _compute_advantage(
    asked: HoldoutGate, rows: LabelledRows, candidate: Answers, champion: Answers, level: float
) -> Advantage | None:
    """Return how far the candidate is ahead, None if a part of the rows has no such metric."""
    if asked.metric in RATES:
        pair = [[row.right for row in _labelled_rows(answers, rows.labels)] for answers in (candidate, champion)]
        return rate_advantage(pair[0], pair[1], rows.units().tolist(), level)
    groups = np.unique(rows.units(), return_inverse=True)[1] % GROUPS
    whole = _ahead_by(asked, rows, candidate, champion, np.ones(len(groups), np.bool_))
    without = [_ahead_by(asked, rows, candidate, champion, groups != item) for item in np.unique(groups)]
    advantages = [item for item in without if item is not None]
    return (
        jackknife_advantage(whole, advantages, level)
        if whole is not None and 2 < len(advantages) == len(without)
        else None
    )


def _ahead_by(
    asked: HoldoutGate, rows: LabelledRows, candidate: Answers, champion: Answers, where: NDArray[np.bool_]
) -> float | None:
    one, other = (_compute_metric(asked, answers, rows.labels, where) for answers in (candidate, champion))
    return None if one is None or other is None else asked.sign * (one - other)


def _run_version(version: VersionSpec, inputs: Sequence[Tensor], folder: Path) -> tuple[Answers, list[str]]:
    """Return a version's answers, and the names of its features."""
    config, request, response = folder / "config.json", folder / "rows.npz", folder / "answers.npz"
    config.write_text(version.config)
    arrays: dict[str, Any] = {
        tensor.name: tensor.data.astype(str) if tensor.data.dtype == object else tensor.data for tensor in inputs
    }
    np.savez(request, **arrays)
    own = version.folder or str(Path(version.path).parent)
    files = folder / "files.json"
    files.write_text(json.dumps([version.root, version.files]))
    arguments = [version.path, own, *map(str, (config, request, response, files))]
    readable = (Path(version.root) if version.root else Path(version.path).parent, Path(own))
    try:
        done = run_confined(MODULE, arguments, AllowedPaths(readable, (folder,)), SECONDS)
    except subprocess.TimeoutExpired:
        raise DeadlineExceeded(f"the held-out rows were not answered within {SECONDS:g} s") from None
    if done.code:
        lines = done.errors.decode(errors="replace").strip().splitlines()[-1:]
        reason = "".join(lines).removeprefix("penstock: ") if done.code == 1 else "the process that ran it ended"
        raise Refused(f"it does not answer the held-out rows: {reason[:300]}")
    with np.load(response, allow_pickle=False) as archive:
        outputs = [_make_tensor(name, archive[name]) for name in archive.files]
    answers = answers_of(outputs)
    if answers is None or len(answers.values) != len(inputs[0].data):
        raise Refused("it does not answer the held-out rows one by one")
    return answers, json.loads(done.output)


def _make_tensor(name: str, data: Array) -> Tensor:
    if data.dtype.kind == "U":
        return Tensor(name, "BYTES", data.astype(object))
    return Tensor(name, next((word for word, kind in NUMPY_TYPES.items() if kind == data.dtype), "FP32"), data)


def _with_noise(inputs: Sequence[Tensor], deviations: float) -> list[Tensor]:
    """Return the inputs with normal noise on every floating number, in standard deviations of its column;
    deterministic.
    """
    draw = np.random.default_rng(SEED)
    noisy = []
    for item in inputs:
        data = item.data
        if data.dtype.kind == "f":
            spread = np.nanstd(data.astype(np.float64), axis=0)
            data = (data + deviations * spread * draw.standard_normal(data.shape)).astype(data.dtype)
        noisy.append(Tensor(item.name, item.datatype, data))
    return noisy


def _find_finite(answers: Answers) -> NDArray[np.bool_]:
    return np.isfinite(answers.values)


def _compute_metric(
    asked: HoldoutGate, answers: Answers, labels: NDArray[np.float64], where: NDArray[np.bool_] | None = None
) -> float | None:
    joined = _labelled_rows(answers, labels, where)
    if asked.metric in RATES and joined:
        right = sum(item.right for item in joined) / len(joined)
        return right if asked.metric == "accuracy" else 1 - right
    return metrics_of(joined).get(asked.metric)


def _labelled_rows(
    answers: Answers, labels: NDArray[np.float64], where: NDArray[np.bool_] | None = None
) -> list[LabelledRow]:
    places = range(len(labels)) if where is None else np.flatnonzero(where).tolist()
    return [
        LabelledRow(
            "", answers.form, float(answers.values[at]), tuple(answers.scores[at].tolist()), float(labels[at]), 0.0
        )
        for at in places
    ]


def _find_slices(
    columns: Sequence[str], inputs: Sequence[Tensor], names: Sequence[str]
) -> dict[str, NDArray[np.bool_]]:
    """Return the rows of each value of these columns; raises ``Refused`` if there is no such column."""
    if not columns:
        return {}
    specs = [TensorSpec(item.name, item.datatype, (-1, *item.data.shape[1:])) for item in inputs]
    watched = input_columns(specs, True, names)
    rows = watched(inputs)
    if rows is None:
        return {}
    slices: dict[str, NDArray[np.bool_]] = {}
    for column in columns:
        if column in watched.numbers:
            slices |= _number_slices(column, rows.numbers[:, watched.numbers.index(column)])
        elif column in watched.labels:
            values = np.array([str(label) for label in rows.labels[watched.labels.index(column)]])
            slices |= {f"{column} is {item}": values == item for item in np.unique(values)[:MOST_VALUES].tolist()}
        else:
            raise Refused(f"the gates name a column '{column[:64]}' that the inputs do not have")
    return slices


def _number_slices(column: str, values: NDArray[np.float64]) -> dict[str, NDArray[np.bool_]]:
    distinct = np.unique(values[np.isfinite(values)])
    if len(distinct) <= MOST_VALUES:
        return {f"{column} is {item:g}": values == item for item in distinct.tolist()}
    low, middle, high = np.quantile(values[np.isfinite(values)], [0.25, 0.5, 0.75]).tolist()
    edges = [-np.inf, low, middle, high, np.inf]
    return {
        _format_range(column, start, end): (values > start) & (values <= end)
        for start, end in pairwise(edges)
        if end > start
    }


def _format_range(column: str, start: float, end: float) -> str:
    if start == -np.inf:
        return f"{column} is up to {end:.4g}"
    return f"{column} is above {start:.4g}" + ("" if end == np.inf else f", up to {end:.4g}")
