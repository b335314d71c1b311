"""The typed form of tensors (InferTensorContents): which field carries which datatype, in and out."""

from typing import Any, Final

import numpy as np

from penstock.core.errors import InvalidInput
from penstock.core.tensors import (
    NUMPY_TYPES,
    RAW_ONLY,
    Array,
    Tensor,
    element_count,
    numpy_type,
    shape_text,
    text_from_bytes,
)
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


def array_of(item: pb.ModelInferRequest.InferInputTensor) -> Array:
    """The array an input states in its typed contents.

    Raises:
        InvalidInput: unknown datatype, one without a typed form, data in another datatype's field, another
            number of elements than the shape has, a number outside the datatype's range, or text that is not UTF-8.
    """
    name, datatype, shape = item.name, item.datatype, tuple(item.shape)
    numpy_type(name, datatype)
    if datatype in RAW_ONLY:
        raise InvalidInput(f"input '{name}' is {datatype}, which has no typed form; send it in raw_input_contents")
    count = element_count(name, shape)
    values = _values(item, FIELDS[datatype])
    if len(values) != count:
        raise InvalidInput(
            f"input '{name}' of {datatype} {shape_text(shape)} needs {count} elements, got {len(values)}"
        )
    return _array(name, datatype, values).reshape(shape)


def fill(contents: pb.InferTensorContents, tensor: Tensor) -> None:
    """Write a tensor, of a datatype that is in ``FIELDS``, into typed contents."""
    values: list[Any] = tensor.data.ravel().tolist()
    if tensor.datatype == "BYTES":
        values = [item.encode() if isinstance(item, str) else bytes(item) for item in values]
    getattr(contents, FIELDS[tensor.datatype]).extend(values)


def _values(item: pb.ModelInferRequest.InferInputTensor, field: str) -> list[Any]:
    contents = item.contents
    for stated, _ in contents.ListFields():
        if stated.name != field:
            raise InvalidInput(f"input '{item.name}' of {item.datatype} has {stated.name}; expected {field}")
    values: list[Any] = getattr(contents, field)[:]
    return values


def _array(name: str, datatype: str, values: list[Any]) -> Array:
    if datatype == "BYTES":
        texts = np.empty(len(values), object)
        for index, item in enumerate(values):
            texts[index] = text_from_bytes(name, index, item)
        return texts
    try:
        return np.array(values, NUMPY_TYPES[datatype])
    except OverflowError:
        raise InvalidInput(f"input '{name}' holds a number outside the range of {datatype}") from None
