"""Nodes, attributes and tensors of ONNX files, as the library ``onnx`` writes them."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from penstock.core.protobuf_wire import encode_varint
from penstock.explain.model_file import UnreadableGraph, read_graph
from penstock.explain.wire_numbers import read_float_run, read_varint_run, unpack_varints
from tests.budgets import examples

INTEGERS = st.integers(-(2**63), 2**63 - 1)


def save(*nodes: onnx.NodeProto, constants: tuple[onnx.TensorProto, ...] = ()) -> bytes:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.INT64, ["n"])],
        constants,
    )
    return helper.make_model(graph).SerializeToString()


def test_nodes_have_their_attributes() -> None:
    tensor = numpy_helper.from_array(np.array([[1.5, 2.5]]), "t")
    node = helper.make_node(
        "TreeEnsembleRegressor",
        ["x", ""],
        ["y"],
        domain="ai.onnx.ml",
        ids=[0, 300, -1],
        values=[0.5, -2.0],
        modes=["LEAF", "BRANCH_LEQ"],
        n=7,
        ratio=0.25,
        kind="NONE",
        table=tensor,
    )
    graph = read_graph(save(node, helper.make_node("Identity", ["a"], ["b"], domain="ai.onnx")))
    first, second = graph.nodes
    assert (first.op_type, first.domain, first.inputs, first.outputs) == (
        "TreeEnsembleRegressor",
        "ai.onnx.ml",
        ("x", ""),
        ("y",),
    )
    assert second.domain == ""
    assert first.integers("ids").tolist() == [0, 300, -1]
    assert first.array("values").tolist() == [0.5, -2.0]
    assert first.texts("modes") == ["LEAF", "BRANCH_LEQ"]
    assert (first.integer("n", 0), first.number("ratio", 0), first.text("kind", "")) == (7, 0.25, "NONE")
    assert np.asarray(first.attributes["table"]).tolist() == [[1.5, 2.5]]
    assert dict(graph.inputs) == {"x": np.dtype("f4")} and list(graph.outputs) == ["y"]


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64, TensorProto.INT32])
@pytest.mark.parametrize("raw", [True, False])
def test_constants_are_read_in_both_forms(kind: int, raw: bool) -> None:
    values = np.array([[1, -2], [3, 4]]).astype(helper.tensor_dtype_to_np_dtype(kind))
    constant = helper.make_tensor("w", kind, (2, 2), values.tobytes() if raw else values.ravel(), raw=raw)
    found = read_graph(save(constants=(constant,))).constants["w"]
    assert found.dtype == values.dtype and found.tolist() == values.tolist()


def test_constant_nodes_are_constants_too_and_texts_are_left_out() -> None:
    nodes = [
        helper.make_node("Constant", [], ["a"], value_floats=[1.0, 2.0]),
        helper.make_node("Constant", [], ["b"], value=numpy_helper.from_array(np.array(3))),
    ]
    texts = numpy_helper.from_array(np.array(["x"], object), "s")
    half = helper.make_tensor("h", TensorProto.FLOAT16, (1,), [1.5])
    constants = read_graph(save(*nodes, constants=(texts, half))).constants
    assert constants["a"].tolist() == [1.0, 2.0] and constants["b"].tolist() == 3
    assert "s" not in constants and constants["h"].tolist() == [1.5]


@pytest.mark.parametrize("data", [b"", b"\xff\xff", save()[:-3], b"\x08\x01"])
def test_a_malformed_graph_is_refused(data: bytes) -> None:
    with pytest.raises(UnreadableGraph):
        read_graph(data)


@given(st.lists(INTEGERS, max_size=20), st.binary(max_size=4))
@settings(max_examples=examples(100))
def test_runs_of_numbers_are_read_as_far_as_they_go(numbers: list[int], rest: bytes) -> None:
    encoded = [encode_varint(number % 2**64) for number in numbers]
    packed = np.frombuffer(b"".join(encoded), np.uint8)
    assert unpack_varints(packed).tolist() == numbers
    tail = b"\xa0\x01" + rest
    run = np.frombuffer(b"".join(b"\x40" + item for item in encoded) + tail, np.uint8)
    values, size = read_varint_run(run, 0x40)
    assert values.tolist() == numbers and size == len(run) - len(tail)


def test_runs_of_floats_end_at_another_tag() -> None:
    data = b"".join(b"\x3d" + np.float32(value).tobytes() for value in (1.5, -2.0)) + b"\xa0\x01\x06"
    values, size = read_float_run(np.frombuffer(data, np.uint8), 0x3D)
    assert values.tolist() == [1.5, -2.0] and size == 10


@pytest.mark.parametrize("data", [b"\x80", b"\xff" * 10 + b"\x01"])
def test_numbers_without_an_end_or_too_long_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="number"):
        unpack_varints(np.frombuffer(data, np.uint8))
