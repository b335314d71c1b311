"""Tensors to the answer of the V2 REST protocol: JSON, or JSON followed by binary tensors."""

import orjson

from penstock.core.errors import InvalidInput
from penstock.core.tensors import RAW_ONLY, Tensor, to_raw
from penstock.serving.calls import Call

_FLOATS = frozenset({"FP32", "FP64"})


def json_string(text: str) -> bytes:
    """A JSON string literal.

    Raises:
        InvalidInput: the text holds lone surrogates, which UTF-8 cannot carry.
    """
    try:
        return orjson.dumps(text)
    except orjson.JSONEncodeError:
        raise InvalidInput("a text holds a lone surrogate; JSON needs valid Unicode") from None


def body_prefix(model: str, version: str) -> bytes:
    """The part of every answer of one version that comes before the request id."""
    return b'{"model_name":%b,"model_version":%b,"id":' % (orjson.dumps(model), orjson.dumps(version))


def infer_answer(prefix: bytes, call: Call, binary: list[bool] | bool) -> tuple[bytes, int | None]:
    """The body of an answer, and the length of its JSON part if binary tensors follow it.

    Raises:
        InvalidInput: an output has no JSON form (16-bit floats, NaN, infinity) and was not asked for as binary.
    """
    parts, tail = [], []
    for index, tensor in enumerate(call.outputs):
        if binary if isinstance(binary, bool) else binary[index]:
            raw = to_raw(tensor.datatype, tensor.data)
            tail.append(raw)
            parts.append(b'%b,"parameters":{"binary_data_size":%d}}' % (_head(tensor), len(raw)))
        else:
            parts.append(b'%b,"data":%b}' % (_head(tensor), json_data(tensor)))
    header = b'%b%b,"outputs":[%b]}' % (prefix, json_string(call.id), b",".join(parts))
    if not tail:
        return header, None
    return b"".join((header, *tail)), len(header)


def json_data(tensor: Tensor) -> bytes:
    """The flat JSON list of a tensor's elements, row-major; floats in the shortest form that reads back the same.

    Raises:
        InvalidInput: the tensor has no JSON form.
    """
    if tensor.datatype == "BYTES":
        return orjson.dumps(tensor.data.ravel().tolist())
    if tensor.datatype in RAW_ONLY:
        raise InvalidInput(
            f"output '{tensor.name}' is {tensor.datatype}, which has no JSON form; ask for it with binary_data"
        )
    text = orjson.dumps(tensor.data.ravel(), option=orjson.OPT_SERIALIZE_NUMPY)
    if tensor.datatype in _FLOATS and b"null" in text:
        raise InvalidInput(
            f"output '{tensor.name}' holds NaN or infinity, which JSON cannot carry; ask for it with binary_data"
        )
    return text


def _head(tensor: Tensor) -> bytes:
    shape = ",".join(map(str, tensor.data.shape))
    return b'{"name":%b,"datatype":"%b","shape":[%b]' % (
        orjson.dumps(tensor.name),
        tensor.datatype.encode(),
        shape.encode(),
    )
