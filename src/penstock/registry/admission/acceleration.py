"""Examines a model that asks for an execution accelerator: which graphs may use it, and whether its answers hold.

The answers have to be those of ONNX Runtime's own provider, within a tolerance.

Admission's rules about operators that could end a process rest on ONNX Runtime's kernels. So an accelerator gets only
graphs of known operators whose rows are proven independent, and which need no test of a request's values.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from penstock.core.batching import RowProof
from penstock.core.errors import Fault, Refused
from penstock.core.options import ModelOptions
from penstock.core.signature import Feeds, Signature
from penstock.core.tensors import Array, Tensor
from penstock.engine import model as engine
from penstock.engine import warmup
from penstock.engine.faults import GUARD
from penstock.engine.model import Model
from penstock.engine.probe import synthetic_inputs
from penstock.registry.admission.inspection import nodes_of, read_model

FACT = "accelerator"
"""The name of the comparison among the facts of a report."""

TOLERANCE = 1e-3
"""Maximum difference of a number, relative to the largest number of its row; other values must be equal."""

QUANTIZED_TOLERANCE = 5e-2
"""The same for graphs with quantised values: each rounding to one of 256 steps may go the other way."""

ABSOLUTE = 1e-5
ROWS = 4

_QUANTIZED = frozenset({"QuantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger"})

_NAMES = """
Abs Add And ArgMax ArgMin AveragePool BatchNormalization Cast Clip Concat Constant ConstantOfShape Conv ConvTranspose
Cos DequantizeLinear Div Dropout Elu Equal Erf Exp Expand Flatten Floor Gather Gelu Gemm GlobalAveragePool GlobalMaxPool
Greater GreaterOrEqual GroupNormalization HardSigmoid HardSwish Identity InstanceNormalization LayerNormalization
LeakyRelu Less LessOrEqual Log LogSoftmax MatMul Max MaxPool Min Mish Mod Mul Neg Not Or PRelu Pow Reciprocal ReduceL2
ReduceMax ReduceMean ReduceMin ReduceSum Relu Reshape Selu Shape Sigmoid Sin Slice Softmax Softplus Split Sqrt Squeeze
Sub Sum Tanh Transpose Unsqueeze Where
"""

OPERATORS = _QUANTIZED | frozenset(_NAMES.split())
"""Operators of networks; with row independence and fixed dimensions, a request affects none of their sizes."""


def check_graph(graph: Path, proof: RowProof, name: str) -> None:
    """Check that the accelerator ``name`` may run a graph.

    Raises:
        Refused: it may not; the message says why.
    """
    without = f"leave cpu_execution_accelerator '{name}' out of its configuration"
    for node in nodes_of(read_model(graph)):
        operator = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
        if operator not in OPERATORS:
            raise Refused(f"the operator {operator[:100]} is not one of those for the accelerator '{name}'; {without}")
        if node.name.startswith(GUARD):
            raise Refused(
                f"its graph needs tests of a request's values, which the accelerator '{name}' does not make; {without}"
            )
    if not proof.independent:
        raise Refused(f"the accelerator '{name}' needs proof that rows are independent: {proof.reason}; {without}")


def compare(graph: Path, model: Model, options: ModelOptions) -> dict[str, Any]:
    """Return how the answers of an accelerated model compare with those of ONNX Runtime's own provider, as facts.

    Raises:
        Refused: they differ by more than the tolerance, or only one of the two answers.
    """
    name = options.session.accelerator
    usual = replace(options, session=replace(options.session, accelerator=""), independent_rows=False)
    default = engine.load(graph, usual, 1)
    is_quantized = any(node.op_type in _QUANTIZED for node in nodes_of(read_model(graph)))
    tolerance = QUANTIZED_TOLERANCE if is_quantized else TOLERANCE
    worst, compared = 0.0, 0
    for kind, feeds in _iterate_inputs(model.signature, options):
        expected = _try_run(default, feeds)
        if expected is None:
            continue  # the graph does not take these values
        difference = _find_difference(expected, _try_run(model, feeds))
        if difference > tolerance:
            raise Refused(
                f"for {kind}, its answers with the accelerator '{name}' are not those without: "
                f"{_describe(difference, tolerance)}; leave it out of its configuration"
            )
        worst, compared = max(worst, difference), compared + 1
    _try_run(model, _make_feeds(model.signature, _odd_numbers(model.signature)))  # must not end the process
    return {
        "name": name,
        "tolerance": tolerance,
        "worst_difference": float(f"{worst:.3g}"),
        "compared": compared,
        "p50_us_without": None if default.run_ns is None else round(default.run_ns / 1000, 1),
    }


def _describe(difference: float, tolerance: float) -> str:
    if difference == float("inf"):
        return "they have other whole numbers, or other kinds of values"
    return f"they differ by {difference:.2g} of the largest number of a row, and at most {tolerance:g} is allowed"


def _iterate_inputs(signature: Signature, options: ModelOptions) -> Iterator[tuple[str, Feeds]]:
    rows = min(ROWS, signature.max_batch_size or ROWS)
    kinds = [*synthetic_inputs(signature, options.warmup), *warmup.varied_tensors(signature, rows)]
    kinds.append(("large whole numbers", _large_numbers(signature)))
    for kind, tensors in kinds:
        try:
            yield kind, signature.bind(tensors).feeds
        except Fault:  # of a shape that the configuration's reshape cannot take
            continue


def _make_feeds(signature: Signature, tensors: list[Tensor]) -> Feeds:
    return signature.bind(tensors).feeds


def _large_numbers(signature: Signature) -> list[Tensor]:
    """Return one row whose whole numbers are the largest of their types."""
    return [_with_data(tensor, _make_large(tensor.data)) for tensor in warmup.random_tensors(signature, 1)]


def _make_large(data: Array) -> Array:
    return np.full_like(data, np.iinfo(data.dtype).max) if data.dtype.kind in "iu" else data


def _odd_numbers(signature: Signature) -> list[Tensor]:
    """Return one row of infinities and NaN, whole numbers of the least value."""
    return [_with_data(tensor, _make_odd(tensor.data)) for tensor in warmup.random_tensors(signature, 1)]


def _make_odd(data: Array) -> Array:
    if data.dtype.kind in "iu":
        return np.full_like(data, np.iinfo(data.dtype).min)
    if data.dtype.kind != "f":
        return data
    return np.resize(np.array([np.nan, np.inf, -np.inf], data.dtype), data.shape)


def _with_data(tensor: Tensor, data: Array) -> Tensor:
    return tensor if tensor.datatype == "BF16" else Tensor(tensor.name, tensor.datatype, data)


def _try_run(model: Model, feeds: Feeds) -> list[Array] | None:
    try:
        return model.run(feeds, [spec.name for spec in model.signature.outputs])
    except Fault:
        return None


def _find_difference(expected: list[Array], answers: list[Array] | None) -> float:
    """Return the largest difference, relative to the largest number of its row; infinity for another kind of answer."""
    if answers is None:
        return float("inf")
    return max([_array_difference(*pair) for pair in zip(expected, answers, strict=True)], default=0.0)


def _array_difference(expected: Array, answer: Array) -> float:
    if expected.shape != answer.shape or expected.dtype != answer.dtype:
        return float("inf")
    if expected.dtype.kind != "f":
        return 0.0 if np.array_equal(expected, answer) else float("inf")
    if not expected.size:
        return 0.0
    wanted, got = (
        array.astype(np.float64).reshape(len(array) if array.ndim else 1, -1) for array in (expected, answer)
    )
    finite = np.isfinite(wanted)
    if not np.array_equal(wanted[~finite], got[~finite], equal_nan=True) or not np.isfinite(got[finite]).all():
        return float("inf")
    largest = np.max(np.abs(wanted), axis=1, initial=0, where=finite, keepdims=True)
    gap = np.abs(np.where(finite, wanted, 0) - np.where(finite, got, 0)) - ABSOLUTE
    return float(np.max(np.maximum(gap, 0) / np.maximum(largest, ABSOLUTE), initial=0))
