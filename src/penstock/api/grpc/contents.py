"""Typed contents of tensors (InferTensorContents): the field of each datatype, for requests and answers."""

from typing import Any, Final

import numpy as np

from penstock.api.common.work import RequestWork
from penstock.api.grpc.typed_contents import TypedContents
from penstock.api.grpc.wire import Span
from penstock.core.errors import InvalidInput
from penstock.core.slices import BYTE_SLICE, PauseWork, no_pause
from penstock.core.tensors import NUMPY_TYPES, RAW_ONLY, Array, Tensor, shape_text, text_from_bytes
from penstock.proto import grpc_service_pb2 as pb

FIELDS: Final[dict[str, str]] = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""The field of each datatype; FP16 and BF16 have none."""


def array_of(
    item: pb.ModelInferRequest.InferInputTensor, count: int, message: bytes, spans: list[Span] | None, work: RequestWork
) -> Array:
    """The array of ``count`` elements that an input states in its typed contents, which are in ``item``, or in these
    places of ``message``.

    Raises:
        InvalidInput: a datatype without a typed form, data in another datatype's field, another number of elements
            than the shape has, a number outside the datatype's range, or text that is not UTF-8.
        TooLarge: there are more elements than are taken.
        LargeWork: it has to be read on a thread.
    """
    name, datatype, shape = item.name, item.datatype, tuple(item.shape)
    if datatype in RAW_ONLY:
        raise InvalidInput(f"input '{name}' is {datatype}, which has no typed form; send it in raw_input_contents")
    if datatype != "BYTES":
        work.add_typed(name, count)
    if spans is None:
        values = _read_values(item, FIELDS[datatype])
        if len(values) != count:
            raise _wrong_count(name, datatype, shape, count, str(len(values)))
        return _make_array(name, datatype, values).reshape(shape)
    array = TypedContents(name, datatype, FIELDS[datatype], message, work.pause).array(spans, count)
    if len(array) != count:
        raise _wrong_count(name, datatype, shape, count, "more" if len(array) > count else str(len(array)))
    return array.reshape(shape)


def _wrong_count(name: str, datatype: str, shape: tuple[int, ...], count: int, got: str) -> InvalidInput:
    return InvalidInput(f"input '{name}' of {datatype} {shape_text(shape)} needs {count} elements, got {got}")


def fill(contents: pb.InferTensorContents, tensor: Tensor) -> None:
    """Write a small tensor, of a datatype that is in ``FIELDS``, into typed contents."""
    values: list[Any] = tensor.data.ravel().tolist()
    if not values:  # contents that are not touched are not written
        return
    getattr(contents, FIELDS[tensor.datatype]).extend(
        encode_texts(values, no_pause) if tensor.datatype == "BYTES" else values
    )


def encode_texts(texts: list[Any], pause: PauseWork) -> list[bytes]:
    """Return the elements of a BYTES tensor as bytes; pauses between slices."""
    pieces: list[bytes] = []
    size = 0
    for text in texts:
        pieces.append(text.encode() if isinstance(text, str) else bytes(text))
        size += len(pieces[-1])
        if size > BYTE_SLICE:
            size = 0
            pause()
    return pieces


def _read_values(item: pb.ModelInferRequest.InferInputTensor, field: str) -> list[Any]:
    contents = item.contents
    for stated, _ in contents.ListFields():
        if stated.name != field:
            raise InvalidInput(f"input '{item.name}' of {item.datatype} has {stated.name}; expected {field}")
    values: list[Any] = getattr(contents, field)[:]
    return values


def _make_array(name: str, datatype: str, values: list[Any]) -> Array:
    if datatype == "BYTES":
        texts = np.empty(len(values), object)
        for index, item in enumerate(values):
            texts[index] = text_from_bytes(name, index, item)
        return texts
    try:
        return np.array(values, NUMPY_TYPES[datatype])
    except OverflowError:
        raise InvalidInput(f"input '{name}' holds a number outside the range of {datatype}") from None
