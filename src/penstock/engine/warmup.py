"""Warm-up: the tensors that a model runs with before it is ready, and the time of such a run."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy import random  # numpy imports it when it is first used, which would be in each fork

from penstock.core.errors import InvalidInput
from penstock.core.options import WarmupInput, WarmupSample
from penstock.core.signature import Feeds, Signature, TensorSpec
from penstock.core.tensors import NUMPY_TYPES, Array, Shape, Tensor, element_count, from_raw, numpy_type

MAX_ELEMENTS = 1 << 28
"""Maximum bytes of a warm-up tensor."""

MEASURED_RUNS = 7
MEASURING_BUDGET_NS = 1_000_000_000


def default_tensors(signature: Signature) -> list[Tensor]:
    """Return the smallest valid request: zeros or empty strings, 1 for every free dimension, no optional inputs."""
    return [_make_zeros(spec) for spec in signature.inputs if not spec.optional]


def _make_zeros(spec: TensorSpec) -> Tensor:
    shape = tuple(1 if dim < 0 else dim for dim in spec.shape)
    return Tensor(spec.name, spec.datatype, _fill(spec.datatype, _check_size(spec.name, shape)))


def sample_tensors(sample: WarmupSample, signature: Signature) -> list[Tensor]:
    """Return the tensors of one configured sample.

    Raises:
        InvalidInput: a shape is free or too large, or a data file does not fit it.
    """
    rows = sample.batch_size or (1 if signature.max_batch_size else 0)
    lead = (rows,) if rows else ()
    return [Tensor(entry.name, entry.datatype, _sample_array(entry, lead + entry.dims)) for entry in sample.inputs]


def random_tensors(signature: Signature, rows: int) -> list[Tensor]:
    """Return synthetic numbers for ``rows`` rows (one request without rows, if the model does not batch); see
    ``_draw_random``.
    """
    return filled_tensors(_required_inputs(signature, rows, 1))


def _required_inputs(signature: Signature, rows: int, free: int) -> list[WarmupInput]:
    """Return the inputs that every request must have, with this number of rows, and ``free`` along other free
    dimensions.
    """
    lead = 1 if signature.batching else 0
    return [
        WarmupInput(
            spec.name, spec.datatype, ((rows,) if lead else ()) + _fill_free_dims(spec.shape[lead:], free), True
        )
        for spec in signature.inputs
        if not spec.optional
    ]


def _fill_free_dims(dims: Shape, free: int) -> Shape:
    return tuple(free if dim < 0 else dim for dim in dims)


SIZES = (1e-3, 1.0, 1e3)
FREE = 3
TEXTS = ("", "a", "A word", "two  words, and more", "7")


def varied_tensors(signature: Signature, rows: int) -> Iterator[tuple[str, list[Tensor]]]:
    """Rows of numbers around zero, each kind with its name: of another size in every row, with longer rows where a
    dimension is free, all small, all large. A model need not take all of them.

    Raises:
        InvalidInput: one is too large.
    """
    short = _required_inputs(signature, rows, 1)
    long = _required_inputs(signature, rows, FREE)
    mixed = [SIZES[row % len(SIZES)] for row in range(rows)]
    yield "numbers of mixed sizes", [_vary(entry, mixed) for entry in short]
    if long != short:
        yield "longer rows", [_vary(entry, [1.0] * rows) for entry in long]
    yield "small numbers", [_vary(entry, SIZES[:1] * rows) for entry in short]
    yield "large numbers", [_vary(entry, SIZES[-1:] * rows) for entry in short]


def _vary(entry: WarmupInput, sizes: Sequence[float]) -> Tensor:
    """Return numbers of a different size in each row; whole ones below 2, 10 and 1000."""
    dtype = numpy_type(entry.name, entry.datatype)
    shape = _check_size(entry.name, entry.dims)
    generator = random.default_rng(1)
    scale = np.array(sizes).reshape(-1, *[1] * (len(shape) - 1))
    if entry.datatype == "BYTES":
        return Tensor(entry.name, entry.datatype, np.array(TEXTS, object)[generator.integers(0, len(TEXTS), shape)])
    if entry.datatype == "BF16":
        numbers = (generator.standard_normal(shape) * scale).astype(np.float32)
        return Tensor(entry.name, entry.datatype, (numbers.view(np.uint32) >> 16).astype(dtype))
    if dtype.kind == "f":
        return Tensor(entry.name, entry.datatype, (generator.standard_normal(shape) * scale).astype(dtype))
    limit = np.minimum(np.clip(scale * 10, 2, 1000), 2 if dtype.kind == "b" else np.iinfo(dtype).max)
    return Tensor(entry.name, entry.datatype, (generator.random(shape) * limit).astype(dtype))


def filled_tensors(inputs: Iterable[WarmupInput]) -> list[Tensor]:
    """Return tensors of exactly the shapes that the inputs state.

    Raises:
        InvalidInput: one is too large.
    """
    return [Tensor(entry.name, entry.datatype, _sample_array(entry, entry.dims)) for entry in inputs]


def _sample_array(entry: WarmupInput, shape: Shape) -> Array:
    _check_size(entry.name, shape)
    if entry.data is not None:
        return from_raw(entry.name, entry.datatype, shape, entry.data)
    if entry.random:
        return _draw_random(entry.name, entry.datatype, shape)
    return _fill(entry.datatype, shape)


def _check_size(name: str, shape: Shape) -> Shape:
    if element_count(name, shape) > MAX_ELEMENTS:
        raise InvalidInput(f"a warm-up tensor '{name}' of shape {list(shape)} is too large")
    return shape


def _fill(datatype: str, shape: Shape) -> Array:
    return np.full(shape, "", object) if datatype == "BYTES" else np.zeros(shape, NUMPY_TYPES[datatype])


def _draw_random(name: str, datatype: str, shape: Shape) -> Array:
    """Return numbers from 0 to 1, whole ones 0 or 1, so that look-ups by index stay inside their tables."""
    dtype: np.dtype[Any] = numpy_type(name, datatype)
    generator = random.default_rng(0)
    if datatype == "BF16":
        return (generator.random(shape, np.float32).view(np.uint32) >> 16).astype(dtype)
    if dtype.kind == "f":
        return generator.random(shape).astype(dtype)
    bits = generator.integers(0, 2, shape)
    return bits.astype(str).astype(object) if datatype == "BYTES" else bits.astype(dtype)


def repeat_rows(feeds: Feeds) -> Feeds:
    """Return the rows twice."""
    return {name: np.concatenate((array, array)) for name, array in feeds.items()}


def median_run_ns(
    run: Callable[[], object], budget_ns: int = MEASURING_BUDGET_NS, clock: Callable[[], int] = time.perf_counter_ns
) -> int:
    """Return the median duration (nanoseconds) of a few runs, fewer if they exceed the time budget; at least 1."""
    durations: list[int] = []
    while len(durations) < MEASURED_RUNS and sum(durations) < budget_ns:
        began = clock()
        run()
        durations.append(clock() - began)
    return max(sorted(durations)[(len(durations) - 1) // 2], 1)
