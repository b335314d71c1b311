"""What real graphs say of values they cannot take, and whose fault it is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from penstock.core.errors import Fault, Internal, InvalidInput
from penstock.core.options import SessionOptions
from penstock.engine.faults import run_fault
from penstock.engine.session import open_session
from tests.unit.engine.graphs import constant, save, tensor

TABLE = constant("table", np.ones((16, 4), np.float32))
ONES = np.ones((1, 3), np.float32)
NUMBERS = {"INT32": np.int32, "UINT8": np.uint8}
Case = tuple[list[Any], list[Any], list[Any], Mapping[str, Any], str]


def case(
    op_type: str, inputs: Mapping[str, tuple[Any, str]], said: str, constants: list[Any] | None = None, **more: Any
) -> Case:
    """One operator over the inputs (value and datatype by name) and constants, in the order they are given."""
    constants = constants or []
    order = more.pop("order", None) or [*(constant.name for constant in constants), *inputs]
    results = ["y", "z"][: more.pop("results", 1)]
    node = helper.make_node(op_type, order, results, **more)
    specs = [tensor(name, [None] * np.ndim(value), datatype) for name, (value, datatype) in inputs.items()]
    return [node], specs, constants, arrays(inputs), said


def arrays(inputs: Mapping[str, tuple[Any, str]]) -> dict[str, Any]:
    return {name: np.asarray(value, NUMBERS.get(datatype)) for name, (value, datatype) in inputs.items()}


def indices(shape: list[Any]) -> dict[str, tuple[Any, str]]:
    return {"at": (np.array(shape, np.int64), "INT64")}


def texts(*values: str) -> dict[str, tuple[Any, str]]:
    return {"words": (np.array(values, object), "BYTES")}


PAIR = {"a": (ONES, "FP32"), "b": (np.ones((1, 4), np.float32), "FP32")}

THE_CALLERS = {
    "Gather": case("Gather", indices([99]), "idx=99 must be within", [TABLE]),
    "GatherND": case("GatherND", indices([[99]]), "index = 99", [TABLE]),
    "GatherElements": case("GatherElements", indices([[99]]), "Out of range value", [TABLE]),
    "ScatterND": case(
        "ScatterND",
        indices([[99]]),
        "indice = 99",
        [TABLE, constant("new", np.ones((1, 4), np.float32))],
        order=["table", "at", "new"],
    ),
    "ArrayFeatureExtractor": case(
        "ArrayFeatureExtractor", indices([99]), "index is out of range", [TABLE], domain="ai.onnx.ml"
    ),
    "Expand": case("Expand", {"a": (ONES, "FP32"), **indices([2, 5])}, "invalid expand shape"),
    "Tile": case("Tile", {"a": (ONES, "FP32"), **indices([-1, 7])}, "must be non-negative"),
    "Einsum": case("Einsum", PAIR, "could not be broadcast", equation="ij,ij->i"),
    "a word as FP32": case("Cast", texts("abc"), "not a number", to=TensorProto.FLOAT),
    "a word as FP64": case("Cast", texts("1", "x"), "not a number", to=TensorProto.DOUBLE),
    "a word as INT64": case("Cast", texts("abc"), "not a number", to=TensorProto.INT64),
    "nothing as a number": case("Cast", texts(""), "not a number", to=TensorProto.UINT64),
    "a size below 0": case("ConstantOfShape", indices([2, -1]), "must be >= 0"),
    "an expansion below 0": case("Expand", {"a": (ONES, "FP32"), **indices([-1, 3])}, "must be >= 0"),
    "a padding below 0": case("Pad", {"a": (ONES, "FP32"), **indices([-5, 0, 0, 0])}, "must be >= 0"),
    "a window below 0": case("HannWindow", {"n": (-3, "INT64")}, "must be >= 0"),
    "a dimension below -1": case("Reshape", {"a": (ONES, "FP32"), **indices([-2, 3])}, "less than -1"),
    "two open dimensions": case("Reshape", {"a": (ONES, "FP32"), **indices([-1, -1])}, "one dimension"),
    "a dimension that is not there": case("Reshape", {"a": (ONES, "FP32"), **indices([0, 0, 0])}, "value zero"),
    "an axis": case("CumSum", {"a": (ONES, "FP32"), "axis": (9, "INT64")}, "axis 9 is not in valid range"),
    "an axis to add": case("Unsqueeze", {"a": (ONES, "FP32"), **indices([9])}, "axis 9 is not in valid range"),
    "an axis to reduce": case("ReduceMax", {"a": (ONES, "FP32"), **indices([9])}, "axis 9 is not in valid range"),
    "more than there is": case("TopK", {"a": (ONES, "FP32"), **indices([9])}, "k argument [9]", results=2),
    "fewer than nothing": case("TopK", {"a": (ONES, "FP32"), **indices([-1])}, "must not be negative", results=2),
    "a part below 0": case("Split", {"a": (np.ones(4), "FP64"), **indices([-1, 5])}, "must be >= 0", results=2),
    "a sequence too long": case(
        "ReverseSequence", {"a": (np.ones((3, 2)), "FP64"), **indices([9, 1])}, "Invalid sequence length: 9"
    ),
    "a scale of 0": case(
        "Resize",
        {"a": (np.ones((1, 1, 2, 2), np.float32), "FP32"), "scales": (np.zeros(4, np.float32), "FP32")},
        "greater than 0",
        order=["a", "", "scales"],
    ),
    "a length of 0": case("DFT", {"a": (np.ones((1, 4, 1), np.float32), "FP32"), "n": (0, "INT64")}, "dft_length"),
    "a block below 0": case(
        "Col2Im",
        {"a": (np.ones((1, 5, 5), np.float32), "FP32"), "image": ([5, 5], "INT64"), "block": ([1, -5], "INT64")},
        "must be positive",
    ),
    "an unknown category": case(
        "OneHotEncoder", texts("q"), "Unknown Category", domain="ai.onnx.ml", cats_strings=["a"], zeros=0
    ),
}
INTERNAL_FAILURES = {
    "division": case("Div", {"a": ([1], "INT64"), "b": ([0], "INT64")}, "Div: Integer division by zero"),
    "modulus": case("Mod", {"a": ([1], "INT32"), "b": ([0], "INT32")}, "Mod: Integer modulo by zero"),
    "a fixed shape": case("Reshape", {"a": (ONES, "FP32")}, "reshaped", [constant("to", [2, 2])], order=["a", "to"]),
    "sizes": case("Add", PAIR, "broadcast an axis"),
    "memory": case("ConstantOfShape", indices([1 << 40]), "Failed to allocate memory"),
}  # fmt: skip


AS_ITS_INPUT = ("Div", "Mod", "Split", "ReverseSequence")
DATATYPES = {"int32": "INT32", "int64": "INT64", "uint8": "UINT8", "float64": "FP64"}


def fault_of(folder: Path, one: Case) -> Fault:
    nodes, specs, constants, feeds, _ = one
    datatype = {"Cast": {1: "FP32", 11: "FP64", 7: "INT64", 13: "UINT64"}}.get(nodes[0].op_type)
    result = "FP32" if datatype is None else datatype[nodes[0].attribute[0].i]
    first = feeds[specs[0].name].dtype if nodes[0].op_type in AS_ITS_INPUT else None
    if first is not None:
        result = DATATYPES[first.name]
    path = save(folder, nodes, specs, [tensor("y", None, result)], constants)
    session = open_session(path, SessionOptions(), 1)
    with pytest.raises(Exception) as caught:
        session.run(None, feeds)
    return run_fault(caught.value)


@pytest.mark.parametrize("name", THE_CALLERS)
def test_values_that_the_model_cannot_take(tmp_path: Path, name: str) -> None:
    fault = fault_of(tmp_path, THE_CALLERS[name])
    assert isinstance(fault, InvalidInput)
    assert THE_CALLERS[name][-1] in str(fault)
    assert "ONNXRuntimeError" in fault.full_text


@pytest.mark.parametrize("name", INTERNAL_FAILURES)
def test_failures_of_the_model(tmp_path: Path, name: str) -> None:
    fault = fault_of(tmp_path, INTERNAL_FAILURES[name])
    assert isinstance(fault, Internal)
    assert INTERNAL_FAILURES[name][-1] in str(fault)
    assert "onnxruntime" not in str(fault)


def test_a_value_inside_a_branch(tmp_path: Path) -> None:
    def branch(name: str) -> Any:
        return helper.make_graph([helper.make_node("Gather", ["table", "at"], [name])], name, [], [tensor(name, None)])

    node = helper.make_node("If", ["go"], ["y"], then_branch=branch("then"), else_branch=branch("else"))
    inputs = [tensor("go", [], "BOOL"), tensor("at", ["N"], "INT64")]
    feeds = {"go": np.array(True), "at": np.array([99])}
    fault = fault_of(tmp_path, ([node], inputs, [TABLE], feeds, ""))
    assert isinstance(fault, InvalidInput)
    assert str(fault).startswith("the model cannot take these values: If: Gather: indices element out of")
