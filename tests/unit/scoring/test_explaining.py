"""Explanations of scored rows: exact for a weighted sum, the greatest first, and as columns of the result."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from penstock.core.errors import NotFound, Unsupported
from penstock.core.signature import Signature, TensorSpec
from penstock.core.tensors import Tensor
from penstock.monitor.columns import input_columns, output_columns
from penstock.monitor.reference import TRAINING, encode_reference
from penstock.monitor.reference_builder import build
from penstock.scoring.explaining import RowExplainer, top_features
from penstock.scoring.versions import VersionContent
from tests import zoo
from tests.unit.serving.explanations.test_explainer import by_town, towns

NAMES = ("a", "b", "c")
WEIGHTS = np.array([[1.0], [-3.0], [0.5]], np.float32)
SIGNATURE = Signature([TensorSpec("x", "FP32", (-1, 3))], [TensorSpec("y", "FP32", (-1, 1))], batching=True)
RNG = np.random.default_rng(4)


class Weighted:
    """Answers as the graph does."""

    signature = SIGNATURE

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        return [Tensor("y", "FP32", inputs[0].data.astype(np.float32) @ WEIGHTS)]


def content_of(folder: Path, signature: Signature = SIGNATURE) -> VersionContent:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    inputs, outputs = [zoo.value("x", "FP32", ("n", 3))], [zoo.value("y", "FP32", ("n", 1))]
    graph = folder / "model.onnx"
    onnx.save(zoo.model([node], inputs, outputs, [zoo.constant("w", WEIGHTS)]), graph)
    digest = hashlib.sha256(graph.read_bytes()).hexdigest()
    x = RNG.standard_normal((2000, 3)).astype(np.float32)
    columns = (input_columns(signature.inputs, True, NAMES), output_columns(signature.outputs, True))
    names = [[*side.numbers, *side.labels] for side in columns]
    seen = columns[0]([Tensor("x", "FP32", x)])
    assert seen is not None
    reference = encode_reference(
        build((names[0], names[1]), seen, columns[1]([Tensor("y", "FP32", x @ WEIGHTS)]), TRAINING)
    )
    place = str(folder)
    files = (("model.onnx", digest),)
    return VersionContent("m", "1", "sha256:1", str(graph), place, place, "", files, "", NAMES, {}, reference)


def test_a_weighted_sum_is_explained_exactly(tmp_path: Path) -> None:
    explainer = RowExplainer(content_of(tmp_path), Weighted(), 2)
    assert explainer.method == "exact"
    rows = RNG.standard_normal((300, 3)).astype(np.float32)
    found = {tensor.name: tensor.data for tensor in explainer.explain([Tensor("x", "FP32", rows)])}
    assert list(found) == ["feature_1", "attribution_1", "feature_2", "attribution_2"]
    assert (np.abs(found["attribution_1"]) >= np.abs(found["attribution_2"])).all()
    places = [NAMES.index(name) for name in found["feature_1"]]
    against = found["attribution_1"] - rows[range(300), places] * WEIGHTS[places, 0]
    for place in range(3):  # what is left of a feature's share is the same for all rows: the background's mean
        same = against[np.array(places) == place]
        assert len(same)
        assert np.allclose(same, same[0], atol=1e-5)


TOWNS = Signature(
    [TensorSpec("town", "BYTES", (-1, 1)), TensorSpec("size", "FP32", (-1, 1))],
    [TensorSpec("y", "FP32", (-1, 1))],
    batching=True,
)


class Priced:
    """Answers as the graph of ``by_town`` does."""

    signature = TOWNS

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        price = np.array([{"rome": 10.0, "oslo": 30.0}.get(town, 5.0) for town in inputs[0].data.ravel()])[:, None]
        return [Tensor("y", "FP32", (2 * price + inputs[1].data).astype(np.float32))]


def test_texts_are_explained_exactly(tmp_path: Path) -> None:
    graph = Path(by_town(tmp_path / "model.onnx"))
    seen = towns(["rome", "oslo"] * 500, RNG.standard_normal(1000).tolist())
    columns = (input_columns(TOWNS.inputs, True), output_columns(TOWNS.outputs, True))
    inputs, outputs = ([*side.numbers, *side.labels] for side in columns)
    rows = columns[0](seen)
    assert rows is not None
    reference = encode_reference(build((inputs, outputs), rows, columns[1](Priced().run(seen)), TRAINING))
    files = (("model.onnx", hashlib.sha256(graph.read_bytes()).hexdigest()),)
    place = str(tmp_path)
    content = VersionContent("m", "1", "sha256:1", str(graph), place, place, "", files, reference=reference)
    explainer = RowExplainer(content, Priced(), 1)
    assert explainer.method == "exact"
    for names in (["oslo", "rome"], ["paris", "oslo"]):  # each call numbers its own texts
        found = {item.name: item.data for item in explainer.explain(towns(names, [0.0, 0.0]))}
        assert found["feature_1"].tolist() == ["town", "town"]
        step = {"oslo": 60.0, "rome": 20.0}.get(names[0], 10.0) - {"oslo": 60.0, "rome": 20.0}[names[1]]
        assert found["attribution_1"][0] - found["attribution_1"][1] == pytest.approx(step, abs=1e-4)


def test_the_greatest_shares_come_first() -> None:
    names, shares = top_features(np.array([[0.5, -2.0, 0.5], [0.0, 0.0, 1.0]]), NAMES, 2)
    assert names.tolist() == [["b", "a"], ["c", "a"]]
    assert shares.tolist() == [[-2.0, 0.5], [1.0, 0.0]]
    assert top_features(np.zeros((1, 3)), NAMES, 9)[0].tolist() == [["a", "b", "c"]]


def test_what_cannot_be_explained_is_refused(tmp_path: Path) -> None:
    content = content_of(tmp_path)
    bare = VersionContent("m", "1", "sha256:1", content.path, content.root, content.folder, "", content.files)
    with pytest.raises(NotFound, match="m:1 has no reference"):
        RowExplainer(bare, Weighted(), 2)
    whole = Weighted()
    whole.signature = Signature(SIGNATURE.inputs, [TensorSpec("y", "INT64", (-1,))], batching=True)
    with pytest.raises(Unsupported, match="floating-point"):
        RowExplainer(content, whole, 2)
