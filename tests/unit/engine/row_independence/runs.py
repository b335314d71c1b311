"""Runs graphs with made-up rows, together and one by one, to see whether the answers are the same."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper

Array = NDArray[Any]
Feeds = dict[str, Array]

SCALES = (1.0, 1000.0, 0.001)
TEXTS = np.array(["a", "ab c", "b", "", "a b"], object)


def session(model: onnx.ModelProto) -> ort.InferenceSession:
    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    settings.intra_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])


def feeds_for(model: onnx.ModelProto, rows: int, seed: int, inner: int = 3) -> Feeds:
    """Rows for every input: ``inner`` is the size of every free dimension but the first."""
    random = np.random.default_rng(seed)
    return {
        tensor.name: _made_up(tensor, rows, inner, random, SCALES[seed % len(SCALES)]) for tensor in model.graph.input
    }


def _made_up(one: Any, rows: int, inner: int, random: np.random.Generator, scale: float) -> Array:
    dims = [dim.dim_value or inner for dim in one.type.tensor_type.shape.dim]
    dims[0] = rows
    kind = helper.tensor_dtype_to_np_dtype(one.type.tensor_type.elem_type)
    if kind.kind in "OUS":
        return TEXTS[random.integers(0, len(TEXTS), dims)]
    if one.name == "i" or kind.kind == "b":
        return random.integers(0, 2, dims).astype(kind)
    if one.name == "l":
        return random.integers(1, 4, dims).astype(kind)
    if kind.kind in "iu":
        return random.integers(0, 100, dims).astype(kind)
    return (random.normal(size=dims) * scale).astype(kind)


def together(model: onnx.ModelProto, feeds: Feeds) -> list[Array]:
    return [np.asarray(item) for item in session(model).run(None, feeds)]


def apart(model: onnx.ModelProto, feeds: Feeds) -> list[list[Array]]:
    """The outputs of each row by itself."""
    opened, rows = session(model), len(next(iter(feeds.values())))
    return [
        [np.asarray(item) for item in opened.run(None, {name: array[row : row + 1] for name, array in feeds.items()})]
        for row in range(rows)
    ]


def differs(whole: Sequence[Array], parts: Sequence[Sequence[Array]]) -> str:
    """Where the outputs of a run of all rows are not those of the rows, "" if they are."""
    for index, output in enumerate(whole):
        alone = [part[index] for part in parts]
        if any(part.shape[:1] != (1,) for part in alone) or output.shape[:1] != (len(parts),):
            return f"output {index} has not one row for each row"
        if any(part.shape[1:] != output.shape[1:] for part in alone):
            return f"output {index} has rows of another shape"
        if not _same(output, np.concatenate(alone)):
            return f"output {index} has other values"
    return ""


def _same(whole: Array, alone: Array) -> bool:
    if whole.shape != alone.shape:
        return False
    if whole.dtype.kind != "f":
        return bool((whole == alone).all())
    size = float(np.nanmax(np.abs(np.where(np.isfinite(alone), alone, 0)), initial=0))
    return np.allclose(whole, alone, rtol=1e-3, atol=1e-5 * max(1.0, size), equal_nan=True)
