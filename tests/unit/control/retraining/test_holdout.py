"""Exams with real graphs in real processes: who is better, on which slices, under noise, and who cannot be examined."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock.control.retraining.holdout import run_exam
from penstock.control.retraining.row_source import RowSource
from penstock.core.desired import VersionSpec
from penstock.core.errors import Refused
from penstock.core.gates import HoldoutGate
from penstock.core.tensors import Tensor
from penstock.monitor.captured_rows import LabelledRows, RowSelection
from tests import zoo
from tests.integration.traffic.drive import FEATURES, scorer

pytestmark = pytest.mark.processes

CLASSES = np.asarray(zoo.weights(FEATURES, 3, scale=2.0))


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, VersionSpec]:
    workspace = tmp_path_factory.mktemp("graphs")
    graphs = {
        "good": scorer(),
        "turned": scorer(-1.0),
        "wide": zoo.classifier(),
        "breaking": scorer(breaks=True),
        "fixed": zoo.affine(1.0, 0.0, (2, FEATURES)),
    }
    for name, graph in graphs.items():
        zoo.save(graph, workspace / f"{name}.onnx")
    return {name: VersionSpec(name, str(workspace / f"{name}.onnx")) for name in graphs}


def rows(number: int = 300, **shift: float) -> LabelledRows:
    """Rows whose label is what the good version answers, but for one in ten; the last feature is one of two sites."""
    draw = np.random.default_rng(4)
    x = draw.normal(size=(number, FEATURES)).astype(np.float32)
    x[:, -1] = draw.integers(0, 2, number)
    labels = (x @ CLASSES).argmax(axis=1).astype(float)
    labels[::10] = (labels[::10] + 1) % 3
    return LabelledRows([Tensor("x", "FP32", x)], labels)


def asked(**more: Any) -> HoldoutGate:
    return HoldoutGate("accuracy", **more)


@pytest.mark.simulation
def test_both_are_examined_on_the_same_rows(versions: dict[str, VersionSpec]) -> None:
    found = run_exam(asked(), rows(), versions["turned"], versions["good"])
    assert found.whole.rows == 300
    assert found.whole.champion == pytest.approx(0.9)
    assert found.whole.candidate is not None
    assert found.whole.candidate < 0.3
    assert (found.slices, found.noised, found.broken) == ({}, None, 0)


@pytest.mark.simulation
def test_slices_are_of_the_features_by_name_and_noise_makes_a_model_worse(versions: dict[str, VersionSpec]) -> None:
    columns = (f"x[{FEATURES - 1}]", "x[0]")
    found = run_exam(asked(columns=columns, noise=0.5), rows(), versions["good"], versions["good"])
    names = [f"f{index}" for index in range(FEATURES - 1)] + ["site"]
    by_name = asked(columns=("site", "f0"))
    again = run_exam(by_name, rows(), versions["good"], versions["good"], names=names)
    sites = {name: marks for name, marks in found.slices.items() if name.startswith(columns[0])}
    quarters = {name: marks for name, marks in found.slices.items() if name.startswith("x[0] is")}
    assert set(sites) == {"x[3] is 0", "x[3] is 1"}
    assert len(quarters) == 4
    for group in (sites, quarters):
        assert sum(marks.rows for marks in group.values()) == 300
        right = sum(marks.rows * (marks.candidate or 0) for marks in group.values())
        assert right == pytest.approx(270)
    assert found.noised is not None
    assert 0.4 < found.noised < 0.9
    assert {"site is 0", "site is 1"} < set(again.slices)
    assert list(again.slices.values()) == list(found.slices.values())
    assert again.whole == found.whole


@pytest.mark.simulation
def test_a_champion_of_another_signature_is_not_compared(versions: dict[str, VersionSpec]) -> None:
    found = run_exam(asked(), rows(), versions["good"], versions["wide"])
    assert found.whole.candidate == pytest.approx(0.9)
    assert found.whole.champion is None


@pytest.mark.simulation
@pytest.mark.parametrize(
    ("candidate", "more", "reason"),
    [
        ("wide", {}, "does not answer the held-out rows"),
        ("breaking", {}, "does not answer the held-out rows"),
        ("fixed", {}, "does not answer the held-out rows: the first axis of its inputs is not rows"),
        ("good", {"columns": ("site",)}, "a column 'site' that the inputs do not have"),
    ],
)
def test_candidates_that_cannot_be_examined_are_refused(
    versions: dict[str, VersionSpec], candidate: str, more: dict[str, Any], reason: str
) -> None:
    with pytest.raises(Refused, match=reason):
        run_exam(asked(**more), rows(), versions[candidate], versions["good"])


def test_held_out_rows_of_a_gateway_that_is_alone_are_its_own(tmp_path: Path) -> None:
    found, gathered = RowSource(tmp_path).labelled(RowSelection("m", "1", 0.5, for_exam=True))
    assert found is None
    assert gathered.document() == {"rows": 0}
