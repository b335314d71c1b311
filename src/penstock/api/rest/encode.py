"""Tensors to the answer of the V2 REST protocol: JSON, or JSON followed by binary tensors."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import orjson

from penstock.core.errors import InvalidInput
from penstock.core.signature import TensorSpec
from penstock.core.tensors import RAW_ONLY, Shape, Tensor, raw_of, to_raw
from penstock.serving.infer_call import BatchResult, InferCall
from penstock.serving.shared_memory import RegionSpan

MAX_SHAPES: Final = 256
"""Shapes whose text a template keeps; clients choose shapes, so their number is bounded."""

_NUMPY: Final = orjson.OPT_SERIALIZE_NUMPY
_FLOATS: Final = frozenset({"FP32", "FP64"})


Tail = Sequence[bytes | memoryview]


def json_string(text: str) -> bytes:
    """A JSON string literal.

    Raises:
        InvalidInput: the text holds lone surrogates, which UTF-8 cannot carry.
    """
    try:
        return orjson.dumps(text)
    except orjson.JSONEncodeError:
        raise InvalidInput("a text holds a lone surrogate; JSON needs valid Unicode") from None


class AnswerTemplate:
    """What every answer of one version has in common, written once.

    An answer is ``prefix``, the id, then for each output its head up to the shape, the shape, and the data.
    """

    __slots__ = ("_heads", "_prefix", "_shapes")

    def __init__(self, model: str, version: str, outputs: Sequence[TensorSpec]) -> None:
        self._prefix = b'{"model_name":%b,"model_version":%b,"id":' % (orjson.dumps(model), orjson.dumps(version))
        self._heads = {(spec.name, spec.datatype): _head(spec.name, spec.datatype) for spec in outputs}
        self._shapes: dict[Shape, bytes] = {}

    def answer(self, call: InferCall, binary: list[bool] | bool) -> tuple[bytes, int | None, Tail]:
        """The body of an answer, the length of its JSON part if binary tensors follow it, and what follows the body
        where tensors are too large to be copied for it.

        Raises:
            InvalidInput: an output has no JSON form (16-bit floats, NaN, infinity) and was not asked for as binary.
        """
        if call.joint is not None and (binary is True or binary is False):
            found = self._joint_answer(call, call.joint, binary)
            if found is not None:
                return found
        return self._own_answer(call, binary)

    def _joint_answer(self, call: InferCall, joint: BatchResult, binary: bool) -> tuple[bytes, int | None, Tail] | None:
        """A row of what was written for all calls of a run; None where each has to be written by itself."""
        if not binary:
            texts: list[bytes] | None = joint.encoded_cache.get("json")
            if texts is None:
                texts = joint.encoded_cache["json"] = self._json_rows(call, joint)
            if not texts:
                return None
            return b"%b%b%b" % (self._prefix, json_string(call.id), texts[call.place]), None, ()
        parts: tuple[bytes, list[bytes]] | None = joint.encoded_cache.get("raw")
        if parts is None:
            parts = joint.encoded_cache["raw"] = self._raw_rows(call, joint)
        text, rows = parts
        if not rows:
            return None
        header = b"%b%b%b" % (self._prefix, json_string(call.id), text)
        return header + rows[call.place], len(header), ()

    def _own_answer(self, call: InferCall, binary: list[bool] | bool) -> tuple[bytes, int | None, Tail]:
        parts: list[bytes] = [self._prefix, json_string(call.id)]
        tail: list[bytes | memoryview] = []
        large = False
        before = b',"outputs":['
        for index, tensor in enumerate(call.outputs):
            data = tensor.data
            key = (tensor.name, tensor.datatype)
            shape = self._shapes.get(data.shape) or self._shape(data.shape)
            parts += (before, self._heads.get(key) or _head(*key), shape)
            into = None if call.requested is None else call.requested[index].into
            if into is not None:
                raw = to_raw(tensor.datatype, data)
                into.put(tensor.name, raw)
                parts.append(b'],"parameters":%b}' % orjson.dumps(_placed(into, len(raw))))
            elif binary if binary is True or binary is False else binary[index]:
                content = raw_of(tensor.datatype, data)
                large |= type(content) is memoryview
                tail.append(content)
                parts.append(b'],"parameters":{"binary_data_size":%d}}' % len(content))
            else:
                parts += (b'],"data":', json_data(tensor), b"}")
            before = b","
        parts.append(b"]}")
        header = b"".join(parts)
        if large:
            return header, len(header), tail
        if not tail:
            return header, None, ()
        return b"".join((header, *tail)), len(header), ()

    def _json_rows(self, call: InferCall, joint: BatchResult) -> list[bytes]:
        """What follows the id in the JSON answers of a joint run, row by row; none where rows have to be written one
        by one: because one of them may have no JSON form, or their shape has more than two dimensions."""
        between, columns = b',"outputs":[', []
        for spec, array in zip(call.loaded.signature.outputs, joint.arrays, strict=True):
            if array.ndim > 2 or not array.size or spec.datatype in RAW_ONLY or spec.datatype == "BYTES":
                return []
            text = orjson.dumps(np.ascontiguousarray(array), option=_NUMPY)
            if b"null" in text:
                return []
            row = (1, *array.shape[1:])
            shape = self._shapes.get(row) or self._shape(row)
            between += self._heads[spec.name, spec.datatype].replace(b"%", b"%%") + shape + b'],"data":[%b]}'
            columns.append(text[1:-1].split(b",") if array.ndim == 1 else text[2:-2].split(b"],["))
            between += b","
        form = between[:-1] + b"]}"
        return [form % row for row in zip(*columns, strict=True)]

    def _raw_rows(self, call: InferCall, joint: BatchResult) -> tuple[bytes, list[bytes]]:
        """What follows the id in the JSON part of every answer of a joint run, and the raw outputs row by row."""
        text, rows = b',"outputs":[', []
        for spec, array in zip(call.loaded.signature.outputs, joint.arrays, strict=True):
            if spec.datatype == "BYTES":
                return b"", []
            shape = (1, *array.shape[1:])
            raw, size = to_raw(spec.datatype, array), array.nbytes // len(array)
            text += self._heads[spec.name, spec.datatype] + (self._shapes.get(shape) or self._shape(shape))
            text += b'],"parameters":{"binary_data_size":%d}},' % size
            rows.append([raw[at : at + size] for at in range(0, len(raw), size)] if size else [b""] * len(array))
        return text[:-1] + b"]}", [b"".join(row) for row in zip(*rows, strict=True)]

    def _shape(self, shape: Shape) -> bytes:
        text = ",".join(map(str, shape)).encode()
        if len(self._shapes) < MAX_SHAPES:
            self._shapes[shape] = text
        return text


def _placed(into: RegionSpan, size: int) -> dict[str, str | int]:
    """The parameters of an output in shared memory."""
    told: dict[str, str | int] = {"shared_memory_region": into.region.name, "shared_memory_byte_size": size}
    return told | ({"shared_memory_offset": into.offset} if into.offset else {})


def _head(name: str, datatype: str) -> bytes:
    return b'{"name":%b,"datatype":"%b","shape":[' % (orjson.dumps(name), datatype.encode())


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
    text = orjson.dumps(tensor.data.ravel(), option=_NUMPY)
    if tensor.datatype in _FLOATS and b"null" in text:
        raise InvalidInput(
            f"output '{tensor.name}' holds NaN or infinity, which JSON cannot carry; ask for it with binary_data"
        )
    return text
