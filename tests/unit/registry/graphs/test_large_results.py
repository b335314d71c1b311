"""Results whose size a request decides are bounded before they are made."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import parser

from penstock.core.errors import TooLarge
from penstock.engine.faults import MOST_ELEMENTS, run_fault
from penstock.registry.admission.inspection import read_model
from penstock.registry.admission.repairs import repair
from tests.unit.registry import guarding

Feeds = dict[str, Any]


def ints(*numbers: int) -> Any:
    return np.array(numbers, np.int64)


def scalar(number: float, kind: Any = np.int64) -> Any:
    return np.array(number, kind)


def floats(*shape: int) -> Any:
    return np.ones(shape, np.float32)


CASES: dict[str, tuple[str, Feeds, Feeds, tuple[int, ...]]] = {
    "ConstantOfShape": (
        "g (int64[K] s) => (float[] y) { y = ConstantOfShape (s) }",
        {"s": ints(1 << 15, 1 << 14)},
        {"s": ints(3, 4)},
        (3, 4),
    ),
    "Expand": (
        "g (float[1, K] x, int64[R] s) => (float[] y) { y = Expand (x, s) }",
        {"x": floats(1, 1), "s": ints(1 << 29, 1)},
        {"x": floats(1, 3), "s": ints(2, 3)},
        (2, 3),
    ),
    "Tile": (
        "g (float[N, K] x, int64[2] s) => (float[] y) { y = Tile (x, s) }",
        {"x": floats(100, 1000), "s": ints(100, 100)},
        {"x": floats(2, 2), "s": ints(2, 3)},
        (4, 6),
    ),
    "Range": (
        "g (int64 a, int64 b, int64 c) => (int64[] y) { y = Range (a, b, c) }",
        {"a": scalar(0), "b": scalar(1 << 40), "c": scalar(3)},
        {"a": scalar(0), "b": scalar(10), "c": scalar(3)},
        (4,),
    ),
    "Range downwards": (
        "g (float a, float b, float c) => (float[] y) { y = Range (a, b, c) }",
        {"a": scalar(1e9, np.float32), "b": scalar(0, np.float32), "c": scalar(-1, np.float32)},
        {"a": scalar(4, np.float32), "b": scalar(0, np.float32), "c": scalar(-2, np.float32)},
        (2,),
    ),
    "OneHot": (
        "g (int64[N] x, int64[1] s, float[2] v) => (float[] y) { y = OneHot (x, s, v) }",
        {"x": ints(*range(100)), "s": ints(10_000_000), "v": floats(2)},
        {"x": ints(0, 1), "s": ints(3), "v": floats(2)},
        (2, 3),
    ),
    "Resize by sizes": (
        "g (float[1, 1, H, W] x, int64[4] s) => (float[] y) { y = Resize (x, , , s) }",
        {"x": floats(1, 1, 2, 2), "s": ints(1, 1, 1 << 16, 1 << 16)},
        {"x": floats(1, 1, 2, 2), "s": ints(1, 1, 4, 6)},
        (1, 1, 4, 6),
    ),
    "Resize by scales": (
        "g (float[1, 1, H, W] x, float[4] s) => (float[] y) { y = Resize (x, , s) }",
        {"x": floats(1, 1, 200, 200), "s": np.array([1, 1, 500, 500], np.float32)},
        {"x": floats(1, 1, 2, 2), "s": np.array([1, 1, 2, 3], np.float32)},
        (1, 1, 4, 6),
    ),
    "HannWindow": (
        "g (int64 s) => (float[] y) { y = HannWindow (s) }",
        {"s": scalar(1 << 40)},
        {"s": scalar(8)},
        (8,),
    ),
    "a size that is computed": (
        """g (int64[K] s) => (float[] y) <int64[1] one = {1}> {
        t = Add (s, one)\n u = Mul (t, t)\n v = Mul (u, u)\n y = ConstantOfShape (v) }""",
        {"s": ints(200)},
        {"s": ints(1)},
        (16,),
    ),
}
OF_SHAPES = {
    "a shape": "g (float[N, K] x) => (float[] y) { s = Shape (x)\n y = ConstantOfShape (s) }",
    "a constant": "g (float[N, 1] x) => (float[] y) <int64[2] s = {1, 4}> { y = Tile (x, s) }",
    "a part of a shape": """g (float[N, K] x, float[1, K] m) => (float[] y) <int64[1] at = {0}, int64[1] one = {1}> {
        s = Shape (x)\n n = Gather (s, at)\n t = Concat <axis = 0> (n, one)\n y = Tile (m, t) }""",
}


def served(folder: Path, text: str) -> tuple[onnx.ModelProto, list[str]]:
    """A model as it would be served, and the operators whose size is tested."""
    return guarding.served(
        folder, parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]>\n{text}'), "guarded_sizes"
    )


def run(model: onnx.ModelProto, feeds: Feeds) -> Any:
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, feeds)[0]


@pytest.mark.parametrize("case", CASES)
def test_what_is_too_large_is_not_made(tmp_path: Path, case: str) -> None:
    text, large, _, _ = CASES[case]
    model, guarded = served(tmp_path, text)
    assert len(guarded) == 1
    with pytest.raises(Exception, match="Integer division by zero") as caught:
        run(model, large)
    fault = run_fault(caught.value)
    assert isinstance(fault, TooLarge)
    assert f"over {MOST_ELEMENTS} elements" in str(fault)


@pytest.mark.parametrize("case", CASES)
def test_all_else_is_answered_as_before(tmp_path: Path, case: str) -> None:
    text, _, small, shape = CASES[case]
    model, _ = served(tmp_path, text)
    found = run(model, small)
    assert found.shape == shape
    plain = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]>\n{text}')
    np.testing.assert_array_equal(found, run(plain, small))


@pytest.mark.parametrize("case", OF_SHAPES)
def test_sizes_of_shapes_and_constants_are_not_tested(tmp_path: Path, case: str) -> None:
    assert served(tmp_path, OF_SHAPES[case])[1] == []


def test_functions_stay_as_they_are(tmp_path: Path) -> None:
    model = parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 18, "f" : 1]>
        g (int64[K] s) => (float[] y) { y = f.k (s) }
        <domain: "f", opset_import: ["" : 18]>
        k (p) => (r) { r = ConstantOfShape (p) }"""
    )
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    assert repair(path, read_model(path)) == {}
