"""Which graphs may use an execution accelerator, and when its answers count as those of ONNX Runtime's own provider."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from penstock.core.batching import NOT_EXAMINED, RowProof
from penstock.core.errors import Refused
from penstock.engine.model import load
from penstock.registry.admission.acceleration import (
    OPERATORS,
    QUANTIZED_TOLERANCE,
    TOLERANCE,
    _array_difference,
    check_graph,
    compare,
)
from tests import zoo
from tests.openvino import NEEDS_OPENVINO, accelerated

PROVEN = RowProof(True)
INFINITE = float("inf")


def saved(folder: Path, model: onnx.ModelProto, name: str = "model.onnx") -> Path:
    zoo.save(model, folder / name)
    return folder / name


def test_networks_with_independent_rows_may_use_it(tmp_path: Path) -> None:
    check_graph(saved(tmp_path, zoo.classifier()), PROVEN, "openvino")


def test_other_operators_are_named(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="operator NonZero is not one of those for the accelerator 'openvino'; leave"):
        check_graph(saved(tmp_path, zoo.nonzero()), PROVEN, "openvino")
    assert not OPERATORS & {"NonZero", "TopK", "Loop", "If", "GatherND", "ScatterElements", "Resize", "Pad", "Range"}


def test_operators_of_nested_graphs_count(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="operator Loop is not"):
        check_graph(saved(tmp_path, zoo.looping(3)), PROVEN, "openvino")


def test_a_graph_with_tests_of_values_is_refused(tmp_path: Path) -> None:
    model = zoo.binary("Mul", "FP32")
    model.graph.node[0].name = "guard_Mul_1"
    with pytest.raises(Refused, match="its graph needs tests of a request's values"):
        check_graph(saved(tmp_path, model), PROVEN, "openvino")


def test_rows_must_be_proven_independent(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="needs proof that rows are independent: its graph has not been examined"):
        check_graph(saved(tmp_path, zoo.classifier()), NOT_EXAMINED, "openvino")


ROW = np.array([[100.0, 1.0], [1.0, 0.5]], np.float32)


@pytest.mark.parametrize(
    ("expected", "answer", "difference"),
    [
        (ROW, ROW, 0.0),
        (ROW, ROW + np.array([[0.05, 0], [0, 0]], np.float32), 0.0005),
        (ROW, ROW + np.array([[0, 0], [0, 0.01]], np.float32), 0.01),  # a row is measured by its own numbers
        (np.array([5.0, 1.0], np.float32), np.array([5.0, 1.1], np.float32), 0.1),
        (np.array(2.0, np.float32), np.array(2.2, np.float32), 0.1),
        (np.zeros((2, 2), np.float32), np.full((2, 2), 1e-6, np.float32), 0.0),
        (np.zeros((2, 2), np.float32), np.full((2, 2), 1e-2, np.float32), 999.0),
        (np.empty((0, 2), np.float32), np.empty((0, 2), np.float32), 0.0),
        (np.array([[np.nan, np.inf]]), np.array([[np.nan, np.inf]]), 0.0),
        (np.array([[np.nan, 1.0]]), np.array([[1.0, 1.0]]), INFINITE),
        (np.array([[np.inf, 1.0]]), np.array([[-np.inf, 1.0]]), INFINITE),
        (np.array([[1.0, 1.0]]), np.array([[np.nan, 1.0]]), INFINITE),
        (np.array([3, 4]), np.array([3, 4]), 0.0),
        (np.array([3, 4]), np.array([3, 5]), INFINITE),
        (ROW, ROW[:1], INFINITE),
        (ROW, ROW.astype(np.float64), INFINITE),
    ],
)
def test_differences_are_relative_to_the_largest_number_of_a_row(
    expected: np.ndarray, answer: np.ndarray, difference: float
) -> None:
    assert _array_difference(expected, answer) == pytest.approx(difference, rel=0.02)


@NEEDS_OPENVINO
def test_equal_answers_are_described(tmp_path: Path) -> None:
    path = saved(tmp_path, zoo.classifier())
    facts = compare(path, load(path, accelerated(), 1), accelerated())
    assert facts["name"] == "openvino"
    assert facts["tolerance"] == TOLERANCE
    assert 0 <= facts["worst_difference"] < TOLERANCE
    assert facts["compared"] >= 6
    assert facts["p50_us_without"] > 0


@NEEDS_OPENVINO
def test_other_answers_are_refused_with_their_difference(tmp_path: Path) -> None:
    other = load(saved(tmp_path, zoo.affine(1.01, 0, ("n", 3)), "other.onnx"), accelerated(), 1)
    path = saved(tmp_path, zoo.affine(1, 0, ("n", 3)))
    with pytest.raises(Refused, match=r"for random numbers, rows: 1, its answers .*: they differ by 0\.0\d+ of"):
        compare(path, other, accelerated())


@NEEDS_OPENVINO
def test_whole_numbers_that_it_computes_in_32_bits_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, zoo.identity("INT64", ("n", 2)))
    with pytest.raises(
        Refused, match=r"for large whole numbers, its answers .* are not those without: they have other"
    ):
        compare(path, load(path, accelerated(), 1), accelerated())


@NEEDS_OPENVINO
def test_quantised_graphs_have_a_tolerance_of_their_own(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["steps"]),
        helper.make_node("DequantizeLinear", ["steps", "scale", "zero"], ["y"]),
    ]
    numbers = [zoo.constant("scale", np.array(0.1, np.float32)), zoo.constant("zero", np.array(128, np.uint8))]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in "xy"]
    path = saved(tmp_path, zoo.model(nodes, values[:1], values[1:], numbers))
    assert compare(path, load(path, accelerated(), 1), accelerated())["tolerance"] == QUANTIZED_TOLERANCE
