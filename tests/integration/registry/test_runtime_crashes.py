"""What ends a process of ONNX Runtime: the reason for the guards and refusals of admission."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.unit.registry.graphs.test_crashing_attributes import DEADLY, graph
from tests.unit.registry.graphs.test_empty_tensors import CASES as EMPTY
from tests.unit.registry.graphs.test_integer_division import NUMBERS, binary

CODE = """
import sys, numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
session.run(None, {"x": numpy.ones((2, 2), "f")})
"""


@pytest.mark.parametrize("name", EMPTY)
def test_without_the_guard_a_tensor_without_elements_ends_the_process(tmp_path: Path, name: str) -> None:
    """The reason for all this: an operator of which a new ONNX Runtime reports an error needs no guard any more."""
    case = EMPTY[name]
    (tmp_path / "model.onnx").write_bytes(case.model.SerializeToString())
    np.savez(tmp_path / "feeds.npz", **case.feeds(case.deadly))
    code = (
        "import sys, numpy, onnxruntime\n"
        "run = onnxruntime.InferenceSession(sys.argv[1] + '/model.onnx', providers=['CPUExecutionProvider']).run\n"
        "run(None, dict(numpy.load(sys.argv[1] + '/feeds.npz')))\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, capture_output=True)
    assert ended.returncode in (-8, -6, -11), ended


@pytest.mark.parametrize("kind", NUMBERS)
@pytest.mark.parametrize("operator", ["Div", "Mod"])
def test_without_the_guard_a_division_ends_the_process(tmp_path: Path, operator: str, kind: str) -> None:
    """The reason for all this: when a new ONNX Runtime answers here, the guard may go."""
    path = tmp_path / "model.onnx"
    path.write_bytes(binary(operator, kind).SerializeToString())
    code = (
        "import sys, numpy, onnxruntime\n"
        "session = onnxruntime.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider'])\n"
        f"least = numpy.array([numpy.iinfo(numpy.{kind}).min], numpy.{kind})\n"
        f"session.run(None, dict(a=least, b=numpy.array([-1], numpy.{kind})))\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == -8


@pytest.mark.parametrize("case", ["RandomNormal of scale 0", "RandomUniform"])
def test_an_attribute_ends_the_process(tmp_path: Path, case: str) -> None:
    """When a new ONNX Runtime answers here, the rule may go."""
    path = tmp_path / "model.onnx"
    path.write_bytes(graph(DEADLY[case]).SerializeToString())
    run = subprocess.run([sys.executable, "-c", CODE, str(path)], check=False, capture_output=True)
    assert run.returncode < 0
