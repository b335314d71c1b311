"""The fast way from rows of numbers to the packed rows of a model with one plain input of two dimensions."""

from functools import lru_cache
from itertools import chain
from math import isfinite
from struct import Struct
from struct import error as WrongCount  # noqa: N812 - what it means here
from typing import Final

import msgspec
import numpy as np

from penstock.api.common.work import INLINE_JSON
from penstock.core.signature import RowForm, Signature
from penstock.core.tensors import Tensor

MAX_PACKED: Final = 4096
"""Most numbers that are packed in one call, which needs an argument for each."""

INLINE_LINES: Final = 1 << 14
"""Most bytes of CSV that are read at once."""

_CODES: Final = {"FP32": "f", "FP64": "d"}

_packer = lru_cache(maxsize=256)(Struct)


class _Instances(msgspec.Struct, gc=False):
    """The most common body: rows of numbers."""

    instances: list[list[float]]


class _Values(msgspec.Struct, gc=False):
    """The same of a version whose rows are single numbers."""

    instances: list[float]


class _Inputs(msgspec.Struct, gc=False):
    """The column form of the only input."""

    inputs: list[list[float]]


class _InputValues(msgspec.Struct, gc=False):
    """The same of a version whose rows are single numbers."""

    inputs: list[float]


_decode_instances = msgspec.json.Decoder(_Instances).decode
_decode_values = msgspec.json.Decoder(_Values).decode
_decode_inputs = msgspec.json.Decoder(_Inputs).decode
_decode_input_values = msgspec.json.Decoder(_InputValues).decode


def read_float_rows(body: bytes, signature: Signature, *, from_inputs: bool = False) -> list[Tensor] | bytes | None:
    """Return the rows of a short body ``{"instances": [[number, ...], ...]}`` (``from_inputs``: of its member
    ``inputs``), or of a list of numbers, for a version that takes such rows of floats; None for any other, including
    invalid ones."""
    row = signature.row
    if row is None or row.datatype not in _CODES or len(row.shape) > 2 or len(body) > INLINE_JSON:
        return None
    try:
        if len(row.shape) == 2:
            rows = _decode_inputs(body).inputs if from_inputs else _decode_instances(body).instances
            return pack_rows(rows, signature)
        values = _decode_input_values(body).inputs if from_inputs else _decode_values(body).instances
        return _pack_values(values, row)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError, FloatingPointError, WrongCount):
        return None


def read_float_lines(body: bytes, signature: Signature) -> list[Tensor] | bytes | None:
    """Return the rows of short CSV without a header, for a version that takes rows of floats; None for anything but
    finite numbers, and for rows of another length."""
    row = signature.row
    if row is None or row.datatype not in _CODES or len(row.shape) != 2 or len(body) > INLINE_LINES or b"_" in body:
        return None
    try:
        rows = [list(map(float, line.split(b","))) for line in body.splitlines()]
    except ValueError:
        return None
    return pack_rows(rows, signature) if isfinite(sum(map(sum, rows))) else None


def pack_rows(rows: list[list[float]], signature: Signature) -> list[Tensor] | bytes | None:
    """Return rows of numbers as a packed row or as a tensor; None if their number or their length is another, or a
    value is out of range: then ``RowLayout`` has the right error."""
    row = signature.row
    if row is None or not rows:
        return None
    try:
        return row.pack(*rows[0]) if len(rows) == 1 else _pack_batch(rows, row)
    except (OverflowError, FloatingPointError, WrongCount):
        return None


def _pack_batch(rows: list[list[float]], row: RowForm) -> list[Tensor] | None:
    if set(map(len, rows)) != {row.elements}:
        return None
    return _make_tensors(list(chain.from_iterable(rows)), (len(rows), row.elements), row)


def _pack_values(values: list[float], row: RowForm) -> list[Tensor] | bytes | None:
    if len(values) == 1:
        return row.pack(values[0])
    return _make_tensors(values, (len(values),), row) if values else None


def _make_tensors(values: list[float], shape: tuple[int, ...], row: RowForm) -> list[Tensor]:
    """Return numbers as a tensor; raises ``OverflowError`` or ``FloatingPointError`` for those out of range."""
    count = len(values)
    if count <= MAX_PACKED:
        data = np.frombuffer(_packer(f"<{count}{_CODES[row.datatype]}").pack(*values), row.dtype)
    else:
        with np.errstate(over="raise"):
            data = np.array(values, row.dtype)
    return [Tensor(row.name, row.datatype, data.reshape(shape))]
