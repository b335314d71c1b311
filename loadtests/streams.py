"""What the monitor says of two real streams, and when, beside the detectors and thresholds people use.

A classifier is trained on the first fifth of each stream; the rest goes through the monitor that serves, row by row in
their order, every label right after its answer.
"""

import argparse
import csv
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from penstock.core.bins import Floats
from penstock.core.options import ModelOptions
from penstock.core.policies import MonitorPolicy
from penstock.core.statistics.effect_sizes import compare_counts
from penstock.core.tensors import Tensor
from penstock.engine import model as engine
from penstock.monitor.answers import CLASS
from penstock.monitor.columns import input_columns, output_columns
from penstock.monitor.feedback import LabelledRow
from penstock.monitor.performance import Performance
from penstock.monitor.profile import make_reference
from penstock.monitor.rows import RegionCounts, RegionLayout, RowCounter
from penstock.monitor.verdicts import VersionMonitor

LOOK_ROWS = 24
WINDOW = 500
"""Rows of a tumbling window of the tests beside the monitor."""

ROWS_A_SECOND = 24.0


@dataclass(slots=True)
class Alarms:
    """Rows at which somebody raised an alarm."""

    name: str
    rows: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Report:
    """One stream: its rows, what the model got right by tenths of it, the estimate for each, and who said what when."""

    name: str
    rows: int
    trained: float
    accuracy: list[float]
    estimated: list[tuple[float, float, float]]
    repeat: float
    inflation: float
    monitor: list[tuple[int, str]]
    alarms: list[Alarms]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be chosen on the command line."""
    parser.add_argument("data", type=Path, nargs="+", help="CSV files whose last column is the class")
    parser.add_argument("-o", "--output", type=Path, help="the report, as Markdown")


def main(arguments: argparse.Namespace) -> int:
    """Report on each stream."""
    text = "\n".join([HEAD, *(as_markdown(report(path)) for path in arguments.data)])
    if arguments.output:
        arguments.output.write_text(text)
    else:
        Console().print(text, markup=False)
    return 0


def report(path: Path) -> Report:
    """Everything that is said of one stream."""
    names, x, y = _read(path)
    first = len(x) // 5
    with TemporaryDirectory() as folder:
        graph = Path(folder, "model.onnx")
        _train(x[:first], y[:first], graph)
        model = engine.load(graph, ModelOptions(), threads=1)
        signature = model.signature
        table = {**{name: x[:first, index] for index, name in enumerate(names)}, "label": y[:first]}
        reference = make_reference(table, model, names)
        sides = input_columns(signature.inputs, True, names), output_columns(signature.outputs, True)
        cells = np.zeros(RegionLayout.of(reference).size, np.uint64)
        counter = RowCounter(reference, cells, sides, 1.0)
        policy = MonitorPolicy(window_s=1000 / ROWS_A_SECOND)
        monitor = VersionMonitor(reference, policy, RegionCounts.of(reference, [cells]), 0.0)
        performance = Performance(reference, policy.budget)
        others = _OtherDetectors(names, x[:first])
        changes_seen: list[tuple[int, str]] = []
        estimates: list[tuple[float, float, float]] = []
        right: list[bool] = []
        wanted = [spec.name for spec in signature.outputs]
        starts = range(first, len(x), LOOK_ROWS)
        for number, start in enumerate(track(starts, path.stem, console=Console(stderr=True))):
            rows = x[start : start + LOOK_ROWS].astype(np.float32)
            given = [Tensor(signature.inputs[0].name, "FP32", rows)]
            arrays = model.run(signature.bind(given).feeds, wanted)
            answered = [Tensor(s.name, s.datatype, a) for s, a in zip(signature.outputs, arrays, strict=True)]
            counter.count([(given, answered)])
            at = start + len(rows)
            changes = monitor.evaluate(RegionCounts.of(reference, [cells]), number * LOOK_ROWS / ROWS_A_SECOND)
            changes_seen += [
                (at, f"{change.about}: {change.feature} {'begins' if change.begins else 'ends'}") for change in changes
            ]
            joined = _join_labels(answered, y[start : start + LOOK_ROWS])
            falls = performance.learn(joined)
            changes_seen += [(at, f"performance: {fall.what} {'begins' if fall.begins else 'ends'}") for fall in falls]
            right += [joined_row.right for joined_row in joined]
            others.see(rows.astype(np.float64), [joined_row.right for joined_row in joined], at)
            if number % max(1, len(starts) // 10) == len(starts) // 10 - 1 and (found := monitor.estimate()):
                estimates.append((found.accuracy, found.low, found.high))
        document = performance.document()
    tenth = len(right) // 10
    wrong, correct = reference.errors or (0, 1)
    return Report(
        path.stem,
        len(x) - first,
        correct / (wrong + correct),
        [float(np.mean(right[index * tenth : (index + 1) * tenth])) for index in range(10)],
        estimates[:10],
        float(document["prequential"]["last_label_accuracy"]),
        monitor.variance_inflation,
        changes_seen,
        others.alarms(),
    )


class _OtherDetectors:
    """ADWIN and DDM on the errors; tumbling windows of Kolmogorov-Smirnov tests and PSI on every column."""

    def __init__(self, names: Sequence[str], training: Floats) -> None:
        drift: Any = import_module("river.drift")  # which says nothing of its types
        made: dict[str, Any] = {"ADWIN on errors": drift.ADWIN(), "DDM on errors": drift.binary.DDM()}
        self._detectors = [(Alarms(name), detector) for name, detector in made.items()]
        self._names = names
        self._training = training
        self._edges = [np.unique(np.quantile(column, np.linspace(0, 1, 11)[1:-1])) for column in training.T]
        self._window: list[Floats] = []
        self._ks = Alarms(f"KS p < 0.05 on windows of {WINDOW}")
        self._psi = Alarms(f"PSI > 0.25 on windows of {WINDOW}")
        self._windows = 0

    def see(self, rows: Floats, right: Sequence[bool], at: int) -> None:
        for alarms, detector in self._detectors:
            for is_right in right:
                detector.update(int(not is_right))
                if detector.drift_detected:
                    alarms.rows.append(at)
        self._window.append(rows)
        if sum(map(len, self._window)) >= WINDOW:
            self._test(np.concatenate(self._window), at)
            self._window = []

    def _test(self, window: Floats, at: int) -> None:
        self._windows += 1
        for index, edges in enumerate(self._edges):
            if _is_apart(self._training[:, index], window[:, index]):
                self._ks.rows.append(at)
            counts = [
                np.bincount(np.searchsorted(edges, part[:, index], side="right"), minlength=len(edges) + 1).tolist()
                for part in (self._training, window)
            ]
            if compare_counts(counts[0], counts[1]).psi > 0.25:
                self._psi.rows.append(at)

    def alarms(self) -> list[Alarms]:
        """Each with its rows; the tests also say of how many."""
        looks = self._windows * len(self._names)
        for detector in (self._ks, self._psi):
            detector.name = f"{detector.name} ({looks} tests)"
        return [*(alarms for alarms, _ in self._detectors), self._ks, self._psi]


def _is_apart(one: Floats, other: Floats) -> bool:
    """The two-sample Kolmogorov-Smirnov test at five per cent, by its large-sample threshold."""
    points = np.concatenate([one, other])
    shares = [np.searchsorted(np.sort(part), points, side="right") / len(part) for part in (one, other)]
    threshold = math.sqrt(-math.log(0.025) / 2 * (1 / len(one) + 1 / len(other)))
    return bool(np.abs(shares[0] - shares[1]).max() > threshold)


def _read(path: Path) -> tuple[list[str], Floats, np.ndarray]:
    with path.open(newline="") as file:
        lines = list(csv.reader(file))
    keep = [index for index, name in enumerate(lines[0][:-1]) if name]  # a nameless column is a row number
    data = np.array(lines[1:], float)
    return [lines[0][index] for index in keep], data[:, keep], data[:, -1].astype(np.int64)


def _train(x: Floats, y: np.ndarray, graph: Path) -> None:
    from skl2onnx import to_onnx  # noqa: PLC0415 - slow to import
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - slow to import
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415 - slow to import
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415 - slow to import

    fitted = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y)
    exported = to_onnx(fitted, x[:1].astype(np.float32), options={id(fitted): {"zipmap": False}}, target_opset=17)
    graph.write_bytes(exported.SerializeToString())


def _join_labels(answered: Sequence[Tensor], labels: np.ndarray) -> list[LabelledRow]:
    classes, probabilities = answered[0].data.tolist(), answered[1].data.tolist()
    nothing = float("nan")
    return [
        LabelledRow("1", CLASS, float(answer), (*both, nothing, nothing), float(label), 0.0)
        for answer, both, label in zip(classes, probabilities, labels.tolist(), strict=True)
    ]


HEAD = """# The monitor on two real streams

Written by `python -m loadtests streams electricity.csv rainfall.csv -o docs/drift-on-real-streams.md`. A logistic
regression is trained on the first fifth of each stream (electricity prices of New South Wales; weather of Bellevue,
Nebraska) and serves the rest; every label comes right after its answer. The monitor looks every 24 rows, at its usual
budget of 100,000 rows between false alarms; the others are at their usual thresholds.

Both streams are seasonal and follow themselves: neighbouring rows are alike, days and years come round. So there is no
moment before which nothing changes, and no list of true alarms to count against. Read this as what each would have
reported, and how often. The variance inflation says how many rows were taken for one because of their autocorrelation;
it follows direct neighbours only, so a season still counts as a change. All columns are weighed by that of the column
whose neighbours are most alike, so a drift of another one is reported later than its own neighbours would let it.
"""


def as_markdown(report: Report) -> str:
    """A report as Markdown."""
    lines = [f"## {report.name}", "", f"{report.rows} rows; accuracy on the training data {report.trained:.3f}."]
    repeat, inflation = f"{report.repeat:.3f}", f"{report.inflation:.1f}"
    lines += [f"Repeating the last label is right {repeat} of the time; variance inflation {inflation}.", ""]
    lines += ["| tenth | " + " | ".join(str(number + 1) for number in range(10)) + " |", "|---" * 11 + "|"]
    lines += ["| realised accuracy | " + " | ".join(f"{accuracy:.3f}" for accuracy in report.accuracy) + " |"]
    estimates = [f"{estimate:.3f}" for estimate, _, _ in report.estimated] + [""] * (10 - len(report.estimated))
    lines += ["| estimated at its end, last 1000 rows | " + " | ".join(estimates) + " |", ""]
    lines += ["| who | alarms | at rows (of the stream, the first ones) |", "|---|---|---|"]
    for about in ("drift", "quality", "performance: errors", "performance: gap"):
        begins = [(at, what) for at, what in report.monitor if what.startswith(about) and what.endswith("begins")]
        first = ", ".join(f"{at} ({_shorten(what)})" for at, what in begins[:5])
        lines.append(f"| monitor, {about} | {len(begins)} | {first} |")
    for alarm in report.alarms:
        lines.append(f"| {alarm.name} | {len(alarm.rows)} | {', '.join(map(str, alarm.rows[:5]))} |")
    return "\n".join([*lines, ""])


def _shorten(what: str) -> str:
    return what.split(": ", 1)[1].removesuffix(" begins")


if __name__ == "__main__":
    sys.exit("run it as: python -m loadtests streams")
