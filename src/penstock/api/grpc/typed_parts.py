"""Encodes typed contents of large answers without protobuf: numbers are viewed, or packed in slices on a thread."""

from typing import Final

import numpy as np

from penstock.api.common.parts import Parts
from penstock.api.grpc.contents import FIELDS, encode_texts
from penstock.api.grpc.typed_contents import NAMES
from penstock.core.protobuf_wire import BYTES, MAX_VARINT, encode_varint
from penstock.core.slices import NUMBER_SLICE, TEXT_SLICE, PauseWork
from penstock.core.tensors import Array, Tensor, raw_of

_NUMBERS: Final = {name: number for number, name in NAMES.items()}
_AS_THEY_LIE: Final = frozenset({"BOOL", "FP32", "FP64"})
"""Datatypes with the same bytes in packed typed contents as in raw ones."""


def contents_of(tensor: Tensor, pause: PauseWork) -> Parts:
    """Return the message InferTensorContents for a tensor of a datatype in ``FIELDS``; empty without elements.

    The bytes are those of protobuf; large numbers of a fixed size are not copied.
    """
    return pack_field(_NUMBERS[FIELDS[tensor.datatype]], tensor, pause)


def pack_field(number: int, tensor: Tensor, pause: PauseWork) -> Parts:
    """Return the elements of a tensor, of any datatype but 16-bit floats, as the repeated field with this number; empty
    without elements."""
    if not tensor.data.size:
        return []
    if tensor.datatype == "BYTES":
        return _encode_texts(number, tensor.data.ravel(), pause)
    if tensor.datatype in _AS_THEY_LIE:
        packed: Parts = [raw_of(tensor.datatype, tensor.data, pause)]
    else:
        packed = _encode_varints(tensor.data.ravel(), pause)
    return delimit(number, packed)


def delimit(number: int, parts: Parts) -> Parts:
    """Return a field of these bytes: its tag and length, and the parts."""
    return [encode_varint(number << 3 | BYTES) + encode_varint(sum(map(len, parts))), *parts]


def _encode_texts(number: int, texts: Array, pause: PauseWork) -> Parts:
    tag = encode_varint(number << 3 | BYTES)
    parts = []
    for start in range(0, len(texts), TEXT_SLICE):
        slice_ = encode_texts(texts[start : start + TEXT_SLICE].tolist(), pause)
        parts.append(b"".join([piece for text in slice_ for piece in (tag, encode_varint(len(text)), text)]))
        pause()
    return parts


def _encode_varints(values: Array, pause: PauseWork) -> Parts:
    parts = []
    for start in range(0, len(values), NUMBER_SLICE):
        parts.append(_pack_varints(values[start : start + NUMBER_SLICE]))
        pause()
    return parts


def _pack_varints(values: Array) -> bytes:
    """Return integers as consecutive varints; negative ones have the 64 bits of their two's complement."""
    left: Array = values.astype(np.int64 if values.dtype.kind == "i" else np.uint64).view(np.uint64)
    encoded = np.empty((len(left), MAX_VARINT), np.uint8)
    lengths = np.ones(len(left), np.intp)
    for position in range(MAX_VARINT):
        encoded[:, position] = left & np.uint64(127)
        left = left >> np.uint64(7)
        longer = left != 0
        if not longer.any():
            break
        encoded[longer, position] |= 128
        lengths += longer
    return encoded[np.arange(MAX_VARINT) < lengths[:, None]].tobytes()
