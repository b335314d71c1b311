"""Classifiers as exporters write them by default, with their maps cut off."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from penstock.core.errors import DataLoss, Refused
from penstock.core.options import ModelOptions
from penstock.core.protobuf_wire import MalformedMessage, encode_varint
from penstock.engine.graph import CLASS_LABELS
from penstock.engine.model import load
from penstock.registry.admission.inspection import read_model
from penstock.registry.admission.repairs import repair
from penstock.registry.graphs.rewrite import Rewrite, decode_rewrite, write_edited
from penstock.registry.graphs.wire_format import iterate_fields
from penstock.registry.graphs.zipmap import ZIPMAP, ZipMapLabels

FLOAT, INT64, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING
ML = "ai.onnx.ml"


def maps(name: str, key: int) -> Any:
    mapping = helper.make_map_type_proto(key, helper.make_tensor_type_proto(FLOAT, None))
    return helper.make_value_info(name, helper.make_sequence_type_proto(mapping))


def zipmap(source: str, result: str, labels: list[Any]) -> Any:
    keys: dict[str, Any] = {"classlabels_strings" if isinstance(labels[0], str) else "classlabels_int64s": labels}
    return helper.make_node("ZipMap", [source], [result], domain=ML, name=f"zip {result}", **keys)


def linear(score: str, labels: list[Any], prefix: str = "") -> Any:
    """A classifier of three features with as many classes as there are labels."""
    keys: dict[str, Any] = {"classlabels_strings" if isinstance(labels[0], str) else "classlabels_ints": labels}
    generator = np.random.default_rng(len(labels))
    return helper.make_node(
        "LinearClassifier",
        ["x"],
        [f"{prefix}label", score],
        domain=ML,
        coefficients=generator.normal(size=3 * len(labels)).tolist(),
        intercepts=[0.0] * len(labels),
        post_transform="SOFTMAX",
        **keys,
    )


def model_of(nodes: list[Any], outputs: list[Any], own: bool = True, **more: Any) -> onnx.ModelProto:
    values = [helper.make_tensor_value_info("x", FLOAT, ["N", 3])]
    graph = helper.make_graph(nodes, "g", values, outputs, **more)
    opsets = [helper.make_opsetid(ML, 1)] + ([helper.make_opsetid("", 17)] if own else [])
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="an exporter")


def label(name: str = "label", kind: int = INT64) -> Any:
    return helper.make_tensor_value_info(name, kind, ["N"])


def classifier(labels: list[Any], own: bool = True) -> onnx.ModelProto:
    are_texts = isinstance(labels[0], str)
    outputs = [label(kind=STRING if are_texts else INT64), maps("probabilities", STRING if are_texts else INT64)]
    return model_of([linear("scores", labels), zipmap("scores", "probabilities", labels)], outputs, own)


@dataclass(frozen=True)
class Cut:
    """How a graph changes, and the names of the classes."""

    rewrite: Rewrite
    labels: ZipMapLabels


def found_in(path: Path) -> Cut | None:
    facts = repair(path, read_model(path))
    rewrite = decode_rewrite(facts)
    return None if rewrite is None else Cut(rewrite, facts[ZIPMAP])


def cut(folder: Path, model: onnx.ModelProto) -> tuple[Cut | None, Path]:
    """What is cut, and where the result lies."""
    path, result = folder / "model.onnx", folder / "cut.onnx"
    path.write_bytes(model.SerializeToString())
    found = found_in(path)
    if found is not None:
        write_edited(path, found.rewrite, result)
    return found, result


def same_as_maps(original: onnx.ModelProto, result: Path, output: str) -> None:
    """The tensor holds what the maps do, in the order of the labels."""
    x = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)
    session = onnxruntime.InferenceSession(original.SerializeToString(), providers=["CPUExecutionProvider"])
    rows = session.run([output], {"x": x})[0]
    loaded = load(result, ModelOptions(), 1)
    spec = loaded.signature.output(output)
    assert (spec.datatype, spec.shape) == ("FP32", (-1, len(spec.labels)))
    tensor = loaded.run({"x": x}, [output])[0]
    assert [dict(zip(spec.labels, row, strict=True)) for row in tensor.tolist()] == [
        {str(key): value for key, value in row.items()} for row in rows
    ]


@pytest.mark.parametrize("labels", [["setosa", "versicolor", "größer 😀"], [0, 1], [7, -3, 10**12], ["a", "b"]])
@pytest.mark.parametrize("own", [True, False])
def test_maps_become_a_tensor_with_labels(tmp_path: Path, labels: list[Any], own: bool) -> None:
    original = classifier(labels, own)
    found, result = cut(tmp_path, original)
    assert found is not None
    assert found.labels == {"probabilities": [str(label) for label in labels]}
    same_as_maps(original, result, "probabilities")
    onnx.checker.check_model(onnx.load(result))
    assert load(result, ModelOptions(), 1).signature.batching


def test_what_has_no_map_is_left_alone(tmp_path: Path) -> None:
    model = model_of([linear("scores", [0, 1])], [label(), helper.make_tensor_value_info("scores", FLOAT, ["N", 2])])
    assert cut(tmp_path, model)[0] is None


def test_several_maps_beside_other_outputs(tmp_path: Path) -> None:
    nodes = [
        linear("a scores", ["red", "green"], "a "),
        zipmap("a scores", "first", ["red", "green"]),
        linear("b scores", [1, 2, 3], "b "),
        zipmap("b scores", "second", [1, 2, 3]),
    ]
    outputs = [
        maps("first", STRING),
        label("a label", STRING),
        maps("second", INT64),
        label("b label"),
        helper.make_tensor_value_info("b scores", FLOAT, ["N", 3]),
    ]
    original = model_of(nodes, outputs)
    found, result = cut(tmp_path, original)
    assert found is not None
    assert found.labels == {"first": ["red", "green"], "second": ["1", "2", "3"]}
    for output in found.labels:
        same_as_maps(original, result, output)
    assert [output.name for output in onnx.load(result).graph.output] == [output.name for output in outputs]


def test_a_vector_stays_one(tmp_path: Path) -> None:
    nodes = [
        linear("scores", [0, 1]),
        helper.make_node("Reshape", ["scores", "flat"], ["vector"]),
        zipmap("vector", "p", [0, 1]),
    ]
    constants = [helper.make_tensor("flat", INT64, [1], [-1])]
    shapes = [helper.make_tensor_value_info("vector", FLOAT, ["M"])]
    found, result = cut(tmp_path, model_of(nodes, [maps("p", INT64)], initializer=constants, value_info=shapes))
    assert found is not None
    loaded = load(result, ModelOptions(), 1)
    assert loaded.signature.output("p").shape == (-1,)  # two for each row: a run of two shows it
    assert loaded.run({"x": np.ones((1, 3), np.float32)}, ["p"])[0].shape == (2,)


def test_a_rank_that_nobody_states_is_seen_in_a_run(tmp_path: Path) -> None:
    nodes = [
        linear("scores", [0, 1]),
        helper.make_node("Reshape", ["scores", "flat"], ["vector"]),
        zipmap("vector", "p", [0, 1]),
    ]
    constants = [helper.make_tensor("flat", INT64, [1], [-1])]
    _, result = cut(tmp_path, model_of(nodes, [maps("p", INT64)], initializer=constants))
    assert load(result, ModelOptions(), 1).signature.output("p").shape == (-1,)


def branches() -> Any:
    def branch(name: str) -> Any:
        return helper.make_graph([zipmap("scores", name, [0, 1])], name, [], [maps(name, INT64)])

    return helper.make_node("If", ["go"], ["p"], then_branch=branch("then"), else_branch=branch("else"))


REFUSED = {
    "made by a branch": ([linear("scores", [0, 1]), branches()], "p", "made by If; only tensors"),
    "made by nothing": ([linear("scores", [0, 1])], "p", "nothing in the graph makes"),
    "read by others": (
        [
            linear("scores", [0, 1]),
            zipmap("scores", "p", [0, 1]),
            helper.make_node("SequenceLength", ["p"], ["length"]),
        ],
        "p",
        "that SequenceLength reads too; export the model without its ZipMap",
    ),
    "of no classes": (
        [linear("scores", [0, 1]), helper.make_node("ZipMap", ["scores"], ["p"], domain=ML)],
        "p",
        "names no classes",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_maps_that_cannot_be_cut_are_refused_by_name(tmp_path: Path, case: str) -> None:
    nodes, output, said = REFUSED[case]
    with pytest.raises(Refused, match=rf"output '{output}' .*{said}"):
        cut(tmp_path, model_of(nodes, [maps(output, INT64)]))


def test_metadata_of_the_same_name_gives_way(tmp_path: Path) -> None:
    model = classifier(["a", "b"])
    helper.set_model_props(model, {"kept": "yes", CLASS_LABELS: '{"probabilities": ["x", "y"]}', "also": "kept"})
    _, result = cut(tmp_path, model)
    found = [(prop.key, prop.value) for prop in onnx.load(result).metadata_props]
    assert found == [("kept", "yes"), ("also", "kept"), (CLASS_LABELS, '{"probabilities": ["a", "b"]}')]


def test_a_not_a_number_in_the_graph_is_no_difference(tmp_path: Path) -> None:
    model = classifier(["a", "b"])
    next(node for node in model.graph.node[0].attribute if node.floats).floats[0] = float("nan")
    assert cut(tmp_path, model)[0] is not None


def test_parts_in_another_order_and_parts_that_nobody_knows(tmp_path: Path) -> None:
    model = classifier(["a", "b"])
    data = model.SerializeToString()
    top = [bytes(data[field.begin : field.end]) for field in iterate_fields(memoryview(data), 0, len(data))]
    unknown = encode_varint(1000 << 3 | 2) + encode_varint(3) + b"abc"
    path, result = tmp_path / "model.onnx", tmp_path / "cut.onnx"
    path.write_bytes(unknown + b"".join(reversed(top)))
    found = found_in(path)
    assert found is not None
    write_edited(path, found.rewrite, result)
    assert result.read_bytes().startswith(unknown)
    same_as_maps(model, result, "probabilities")


def test_a_graph_in_two_pieces_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    piece = (
        encode_varint(7 << 3 | 2) + encode_varint(2) + encode_varint(2 << 3 | 2) + b"\x00"
    )  # more of field graph: an empty name
    path.write_bytes(classifier(["a", "b"]).SerializeToString() + piece)
    with pytest.raises(Refused, match="written in an unusual form; export the model without its ZipMap"):
        found_in(path)


def test_other_bytes_than_at_admission_are_damaged(tmp_path: Path) -> None:
    found, result = cut(tmp_path, classifier(["a", "b"]))
    assert found is not None
    other = tmp_path / "model.onnx"
    other.write_bytes(classifier(["a", "c"]).SerializeToString())
    result.unlink()
    with pytest.raises(DataLoss):
        write_edited(other, Rewrite(found.rewrite.edits, found.rewrite.digest), result)
    assert sorted(tmp_path.iterdir()) == [other]


@given(st.binary(max_size=60))
def test_any_bytes_are_fields_or_malformed(data: bytes) -> None:
    view = memoryview(data)
    try:
        found = list(iterate_fields(view, 0, len(view)))
    except MalformedMessage:
        return
    assert b"".join(data[item.begin : item.end] for item in found) == data


@pytest.mark.processes
def test_exports_of_scikit_learn_are_admitted_as_they_are(tmp_path: Path) -> None:
    from skl2onnx import to_onnx
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier

    from penstock.registry.admission.examiner import Examiner
    from penstock.registry.records import AdmissionReport, ExaminedContent, PreparationPlan

    rows, classes = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])[classes]
    forest = RandomForestClassifier(5, random_state=0).fit(rows, names)
    path, result = tmp_path / "model.onnx", tmp_path / "cut.onnx"
    path.write_bytes(to_onnx(forest, rows[:1].astype(np.float32)).SerializeToString())

    async def admitted() -> tuple[PreparationPlan, AdmissionReport]:
        examiner = Examiner()
        try:
            plan = await examiner.plan(ExaminedContent(path))
            assert plan.rewrite is not None
            write_edited(path, plan.rewrite, result)
            return plan, plan.completed(await examiner.examine(ExaminedContent(result)))
        finally:
            await examiner.close()

    plan, report = asyncio.run(admitted())
    assert plan.weights == ()
    assert report.admitted, report.reason
    assert report.facts["zipmap"] == {"output_probability": ["setosa", "versicolor", "virginica"]}
    assert report.facts["independent_rows"]["proven"]
    loaded = load(result, ModelOptions(), 1)
    answer = loaded.run({"X": rows.astype(np.float32)}, ["output_probability"])[0]
    assert np.allclose(answer, forest.predict_proba(rows), atol=1e-5)
