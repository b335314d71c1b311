"""The fast way from rows of numbers to the packed rows of a model with one plain input of two dimensions."""

from functools import lru_cache
from itertools import chain
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

_CODES: Final = {"FP32": "f", "FP64": "d"}

_packer = lru_cache(maxsize=256)(Struct)


class _FloatRows(msgspec.Struct, gc=False):
    """The most common body: rows of numbers."""

    instances: list[list[float]]


_decode = msgspec.json.Decoder(_FloatRows).decode


def read_float_rows(body: bytes, signature: Signature) -> list[Tensor] | bytes | None:
    """Return the rows of a short body ``{"instances": [[number, ...], ...]}`` for a version that takes rows of floats;
    None for any other, including invalid ones."""
    row = signature.row
    if row is None or row.datatype not in _CODES or len(row.shape) != 2 or len(body) > INLINE_JSON:
        return None
    try:
        return pack_rows(_decode(body).instances, signature)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def pack_rows(rows: list[list[float]], signature: Signature) -> list[Tensor] | bytes | None:
    """Return rows of numbers as a packed row or as a tensor; None if their number or their length is another, or a
    value is out of range: then ``RowLayout`` has the right error."""
    row = signature.row
    if row is None or not rows:
        return None
    try:
        return row.pack(*rows[0]) if len(rows) == 1 else _pack_batch(rows, row)
    except (OverflowError, WrongCount):
        return None


def _pack_batch(rows: list[list[float]], row: RowForm) -> list[Tensor] | None:
    count = len(rows) * row.elements
    if count > MAX_PACKED or any(len(item) != row.elements for item in rows):
        return None
    raw = _packer(f"<{count}{_CODES[row.datatype]}").pack(*chain.from_iterable(rows))
    return [Tensor(row.name, row.datatype, np.frombuffer(raw, row.dtype).reshape(len(rows), row.elements))]
