"""Answers to made-up inputs: the same model answers the same, another one does not, and what cannot run says so."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from penstock.core.options import ModelOptions
from penstock.engine import model as engine
from penstock.engine.model import Model
from penstock.engine.probe import ProbeFailed, compare, probe
from tests import zoo


def loaded(tmp_path: Path, graph: onnx.ModelProto, name: str = "m") -> Model:
    path = tmp_path / f"{name}.onnx"
    zoo.save(graph, path)
    return engine.load(path, ModelOptions(), 1)


@pytest.mark.parametrize("build", [zoo.mlp, zoo.mixed, zoo.classifier, zoo.gather, zoo.logistic])
def test_the_same_model_answers_the_same(tmp_path: Path, build: Callable[[], onnx.ModelProto]) -> None:
    graph = build()
    report = probe(loaded(tmp_path, graph), ())
    assert report["cases"]
    assert all(case["deterministic"] for case in report["cases"])
    assert compare(report, loaded(tmp_path, graph, "again"), ()) == ""


def test_another_model_is_reported_from_it(tmp_path: Path) -> None:
    first, second = loaded(tmp_path, zoo.versioned(1), "a"), loaded(tmp_path, zoo.versioned(2), "b")
    assert "other values" in compare(probe(first, ()), second, ())
    assert "other names" in compare(probe(loaded(tmp_path, zoo.mixed(), "c"), ()), first, ())


def test_a_rounding_difference_of_another_machine_is_ignored(tmp_path: Path) -> None:
    model = loaded(tmp_path, zoo.mlp())
    report = probe(model, ())
    for case in report["cases"]:
        for output in case["outputs"]:
            output["sha256"] = "of another processor"
            output["sample"] = [value * 1.0001 for value in output["sample"]]
    assert compare(report, model, ()) == ""
    report["cases"][1]["outputs"][0]["sample"][0] += 0.5
    assert "other values" in compare(report, model, ())


def test_what_is_never_the_same_is_not_compared(tmp_path: Path) -> None:
    node = onnx.helper.make_node("RandomUniformLike", ["x"], ["r"])
    add = onnx.helper.make_node("Add", ["x", "r"], ["y"])
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 4]) for name in "xy"]
    graph = onnx.helper.make_graph([node, add], "g", values[:1], values[1:])
    opsets = [onnx.helper.make_opsetid("", 17)]
    model = loaded(tmp_path, onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8))
    report = probe(model, ())
    assert not any(case["deterministic"] for case in report["cases"])
    assert compare(report, model, ()) == ""


def test_answers_to_inputs_of_another_form_are_not_compared(tmp_path: Path) -> None:
    model = loaded(tmp_path, zoo.logistic())
    assert compare({"form": 0, "cases": []}, model, ()) == ""


def test_a_model_that_runs_on_nothing_says_what_it_said(tmp_path: Path) -> None:
    reshape = onnx.helper.make_node("Reshape", ["x", "shape"], ["y"])
    shape = onnx.numpy_helper.from_array(np.array([7, 13]), "shape")
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None]) for name in "xy"]
    values[1] = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [7, 13])
    graph = onnx.helper.make_graph([reshape], "g", values[:1], values[1:], [shape])
    opsets = [onnx.helper.make_opsetid("", 17)]
    model = loaded(tmp_path, onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8))
    with pytest.raises(ProbeFailed):
        probe(model, ())
