"""What ONNX Runtime itself answers: the truth the server is held against, bit for bit."""

import ctypes
from collections.abc import Mapping, Sequence
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from tests.conformance.wire import Answer, Input

Array = NDArray[Any]
BFLOAT16 = 16
"""Number of the element type in ONNX; NumPy has none of its own."""


@cache
def session(path: Path) -> Any:
    """A plain one-thread session."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run(path: Path, inputs: Sequence[Input], names: Sequence[str] | None = None) -> dict[str, Array]:
    """The model's outputs by name; BF16 as 16-bit patterns, BYTES as bytes."""
    loaded = session(path)
    wanted = list(names or [output.name for output in loaded.get_outputs()])
    if any(given.datatype == "BF16" for given in inputs):
        return dict(zip(wanted, _run_bfloat16(loaded, inputs, wanted), strict=True))
    arrays = loaded.run(wanted, {given.name: _feed(given) for given in inputs})
    return {name: _as_answered(np.asarray(array)) for name, array in zip(wanted, arrays, strict=True)}


def _feed(given: Input) -> Array:
    if given.datatype != "BYTES":
        return given.data
    return np.array([item.decode() for item in given.data.ravel()], object).reshape(given.data.shape)


def _as_answered(array: Array) -> Array:
    if array.dtype.kind not in "OU":
        return array
    encoded = np.empty(array.size, object)
    encoded[:] = [str(item).encode() for item in array.ravel()]
    return encoded.reshape(array.shape)


def _run_bfloat16(loaded: Any, inputs: Sequence[Input], names: Sequence[str]) -> list[Array]:
    make = onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type
    feeds = {given.name: make(given.data, BFLOAT16) for given in inputs}
    return [_bits(result) for result in loaded.run_with_ort_values(list(names), feeds)]


def _bits(result: Any) -> Array:
    shape = tuple(result.shape())
    if not prod(shape):
        return np.empty(shape, np.uint16)
    pointer = ctypes.cast(result.data_ptr(), ctypes.POINTER(ctypes.c_uint16))
    return np.ctypeslib.as_array(pointer, (prod(shape),)).reshape(shape).copy()


def assert_same(answer: Answer, expected: Mapping[str, Array]) -> None:
    """The outputs are these, in this order, bit for bit."""
    assert [output.name for output in answer.outputs] == list(expected)
    for output in answer.outputs:
        truth = expected[output.name]
        assert output.shape == truth.shape, output.name
        if truth.dtype == object:
            assert output.data.tolist() == truth.tolist(), output.name
        else:
            assert output.data.dtype == truth.dtype, output.name
            assert output.data.tobytes() == np.ascontiguousarray(truth).tobytes(), output.name
