"""Random graphs: whatever is proven answers rows together as alone, and what mixes rows is never proven."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

from penstock.engine.row_independence.proof import prove
from penstock.registry.admission.plain_graph import read_plain
from tests.budgets import THOROUGH, examples
from tests.unit.engine.row_independence.random_graphs import random_graph
from tests.unit.engine.row_independence.runs import apart, differs, feeds_for, together

ROWS = (1, 3, 2, 5)
"""Shapes are made for one row and three; some graphs fail for others, and then every request runs by itself."""

CORPUS = 300 if THOROUGH else 100

graphs = st.builds(random_graph, st.integers(0, 1 << 40), st.integers(1, 14))


def difference(model: onnx.ModelProto, rows: int, seed: int) -> str | None:
    """How rows are answered otherwise together than alone; None where they cannot be answered together."""
    feeds = feeds_for(model, rows, seed)
    try:
        whole = together(model, feeds)
    except (Fail, InvalidArgument, RuntimeException):
        return None
    return differs(whole, apart(model, feeds))


@pytest.mark.simulation
@settings(deadline=None, max_examples=examples(250))
@given(graphs, st.integers(0, 100))
def test_what_is_proven_is_answered_together_as_alone(model: onnx.ModelProto, seed: int) -> None:
    if prove(read_plain(model)).independent:
        assert {difference(model, rows, seed) or "" for rows in ROWS} == {""}


@pytest.mark.simulation
def test_most_of_what_is_answered_alike_is_proven() -> None:
    models = [random_graph(seed, 4 + seed % 10) for seed in range(CORPUS)]
    proven = [prove(read_plain(model)).independent for model in models]
    alike = [all(difference(model, rows, 1) == "" for rows in ROWS) for model in models]
    assert CORPUS / 4 < sum(proven) < 3 * CORPUS / 4
    assert sum(map(bool.__and__, proven, alike)) > 0.95 * sum(alike)


Spoil = Callable[["Tail"], str]


class Tail:
    """What is put behind a graph: it takes the output ``y`` [N, ...] flattened to [N, k], and gives another."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        names = [f"tail{len(self.graph.node)}.{place}" for place in range(outputs)]
        self.graph.node.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names[0]

    def constant(self, values: object, dtype: type = np.int64) -> str:
        name = f"tail{len(self.graph.initializer)}"
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def branch(self, operator: str) -> onnx.GraphProto:
        result = helper.make_tensor_value_info(operator, TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node(operator, ["flat"], [operator])], operator, [], [result])

    def rows(self) -> str:
        return self.op("Gather", self.op("Shape", "flat"), self.constant(0))


SPOILERS: dict[str, Spoil] = {
    "maximum": lambda tail: tail.op("Sub", "flat", tail.op("ReduceMax", "flat", keepdims=0)),
    "mean": lambda tail: tail.op("Sub", "flat", tail.op("ReduceMean", "flat", tail.constant([0]))),
    "softmax": lambda tail: tail.op("Softmax", "flat", axis=0),
    "running sum": lambda tail: tail.op("CumSum", "flat", tail.constant(-2)),
    "first row": lambda tail: tail.op("Add", "flat", tail.op("Gather", "flat", tail.constant([0]), axis=0)),
    "reversed": lambda tail: tail.op("Slice", "flat", *[tail.constant([item]) for item in (-1, -(1 << 40), 0, -1)]),
    "squares": lambda tail: tail.op("MatMul", tail.op("MatMul", "flat", tail.op("Transpose", "flat")), "flat"),
    "sorted": lambda tail: tail.op(
        "TopK", "flat", tail.op("Unsqueeze", tail.rows(), tail.constant([0])), axis=0, outputs=2
    ),
    "number of rows": lambda tail: tail.op("Div", "flat", tail.op("Cast", tail.rows(), to=TensorProto.FLOAT)),
    "places": lambda tail: tail.op(
        "Add",
        "flat",
        tail.op(
            "Unsqueeze",
            tail.op("Cast", tail.op("Range", tail.constant(0), tail.rows(), tail.constant(1)), to=TensorProto.FLOAT),
            tail.constant([1]),
        ),
    ),
    "quantised": lambda tail: tail.op(
        "Cast", tail.op("DynamicQuantizeLinear", "flat", outputs=3), to=TensorProto.FLOAT
    ),
    "chance": lambda tail: tail.op("Add", "flat", tail.op("RandomUniformLike", "flat")),
    "found": lambda tail: tail.op("Transpose", tail.op("NonZero", "flat")),
    "branch": lambda tail: tail.op(
        "If",
        tail.op("Greater", tail.op("ReduceMax", "flat", keepdims=0), tail.constant(1, np.float32)),
        then_branch=tail.branch("Neg"),
        else_branch=tail.branch("Abs"),
    ),
    "unknown": lambda tail: tail.op("Relu", "flat", domain="com.example"),
}


@pytest.mark.parametrize("name", SPOILERS)
@settings(deadline=None, max_examples=examples(20))
@given(model=graphs)
def test_what_mixes_rows_is_never_proven(model: onnx.ModelProto, name: str) -> None:
    if not model.graph.output[0].type.tensor_type.shape.dim:
        return  # a number that is made of all rows
    tail = Tail(model.graph)
    model.graph.node.append(helper.make_node("Flatten", ["y"], ["flat"]))
    spoiled = SPOILERS[name](tail)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info(spoiled, TensorProto.FLOAT, None))
    assert not prove(read_plain(model)).independent
