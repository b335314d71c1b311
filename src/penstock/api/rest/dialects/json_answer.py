"""Outputs as JSON rows or columns: nested lists in the shortest form of each number, short ones at once, long ones in
slices with pauses."""

import json
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import orjson

from penstock.api.common.work import INLINE_NUMBERS, RequestWork
from penstock.api.rest.encode import json_string
from penstock.core.errors import InvalidInput, Unsupported
from penstock.core.slices import NUMBER_SLICE, TEXT_SLICE
from penstock.core.tensors import Array, Tensor
from penstock.serving.infer_call import BatchResult, InferCall

_NUMPY: Final = orjson.OPT_SERIALIZE_NUMPY
_TEXT_KINDS: Final = "OU"
"""The kinds of arrays of texts: many, and a single one."""

_ROWS: Final = "rows"
"""Where the encoded rows of a batch run are kept; those with tokens for NaN and infinity beside them."""

_ROWS_WITH_TOKENS: Final = "rows with tokens"
_RECORDS: Final = "records"


def encode_rows(call: InferCall, work: RequestWork, *, tokens: bool = False) -> Sequence[bytes]:
    """Return the JSON list of an answer's rows, in parts: the value of each row if there is one output, else an object
    of values by output. NaN and infinity are null, or with ``tokens`` as Python and JavaScript write them.

    Raises:
        Unsupported: an output does not have one element for each row.
        LargeWork: it has to be encoded on a thread.
    """
    joint = call.batch_result
    if joint is not None:
        key = _ROWS_WITH_TOKENS if tokens else _ROWS
        texts: list[bytes] | None = joint.encoded_cache.get(key)
        if texts is None:
            texts = joint.encoded_cache[key] = _joint_rows(call, joint, tokens)
        if texts:
            return (b"[", texts[call.place], b"]")
    return encode_output_rows(call.outputs, work, tokens=tokens)


def encode_output_rows(outputs: Sequence[Tensor], work: RequestWork, *, tokens: bool = False) -> Sequence[bytes]:
    """Return the same of outputs that are not run's own; see ``encode_rows``."""
    count_work(outputs, work)
    return encode_tensor(outputs[0], work, tokens) if len(outputs) == 1 else _encode_objects(outputs, work, tokens)


def encode_lines(call: InferCall, work: RequestWork) -> Sequence[bytes]:
    """Return a line for each row of an answer, in parts: an object of values by output. NaN and infinity are null.

    Raises:
        Unsupported: an output does not have one element for each row.
        LargeWork: it has to be encoded on a thread.
    """
    outputs = call.outputs
    count_work(outputs, work)
    count = row_count(outputs)
    step = max(1, TEXT_SLICE * count // max(1, sum(tensor.data.size for tensor in outputs)))
    name = json_string(outputs[0].name) if len(outputs) == 1 else b""
    parts: list[bytes] = []
    for start in range(0, count, step):
        rows = [Tensor(item.name, item.datatype, item.data[start : start + step]) for item in outputs]
        texts = _row_texts(rows, tokens=False)
        parts.append(b"".join([b"{%b:%b}\n" % (name, text) if name else text + b"\n" for text in texts]))
        work.pause()
    return parts


def encode_columns(outputs: Sequence[Tensor], work: RequestWork, *, tokens: bool = False) -> Sequence[bytes]:
    """Return the JSON of outputs, in parts: the value of the only one, else an object of values by name.

    Raises:
        LargeWork: it has to be encoded on a thread.
    """
    count_work(outputs, work)
    if len(outputs) == 1:
        return encode_tensor(outputs[0], work, tokens)
    parts: list[bytes] = []
    for tensor in outputs:
        parts += (b"," if parts else b"{", json_string(tensor.name), b":", *encode_tensor(tensor, work, tokens))
    parts.append(b"}")
    return parts


def encode_records(call: InferCall, work: RequestWork) -> Sequence[bytes]:
    """Return the JSON list of an answer's rows, in parts: an object of values by output for each, in which a list of
    one value is that value. NaN and infinity are null.

    Raises:
        Unsupported: an output does not have one element for each row.
        LargeWork: it has to be encoded on a thread.
    """
    joint = call.batch_result
    if joint is not None:
        texts: list[bytes] | None = joint.encoded_cache.get(_RECORDS)
        if texts is None:
            outputs = _flatten(call.loaded.tensors(joint.arrays))
            texts = joint.encoded_cache[_RECORDS] = _record_texts(outputs, False) if _is_small(outputs) else []
        if texts:
            return (b"[", texts[call.place], b"]")
    count_work(call.outputs, work)
    return _encode_objects(_flatten(call.outputs), work, False)


def encode_by_name(call: InferCall, work: RequestWork) -> Sequence[bytes]:
    """Return the JSON object of an answer's outputs by name, in parts; NaN and infinity are null.

    Raises:
        LargeWork: it has to be encoded on a thread.
    """
    count_work(call.outputs, work)
    parts: list[bytes] = []
    for tensor in call.outputs:
        parts += (b"," if parts else b"{", json_string(tensor.name), b":", *encode_tensor(tensor, work))
    return [*parts, b"}"]


def _flatten(outputs: Sequence[Tensor]) -> list[Tensor]:
    """Return outputs with a value in each row without the axis of that value."""
    return [
        Tensor(item.name, item.datatype, item.data[:, 0]) if item.data.shape[1:] == (1,) else item for item in outputs
    ]


def count_work(outputs: Sequence[Tensor], work: RequestWork) -> None:
    """Count the outputs of an answer; raises ``LargeWork`` or ``TooLarge``."""
    for tensor in outputs:
        if tensor.datatype == "BYTES":
            work.texts(tensor.name, tensor.data.size)
        else:
            work.numbers(tensor.data.size)


def encode_tensor(tensor: Tensor, work: RequestWork, tokens: bool = False) -> list[bytes]:
    """Return the values of a tensor as nested JSON lists, in parts."""
    data = json_numbers(tensor)
    most = TEXT_SLICE if tensor.datatype == "BYTES" else NUMBER_SLICE
    return [_dump(data, tokens)] if data.size <= most else list(_encode_pieces(data, most, work, tokens))


def json_numbers(tensor: Tensor) -> Array:
    """Return the values of a tensor in a type that JSON has; 16-bit floats become 32-bit ones, which hold them."""
    if tensor.datatype == "FP16":
        return tensor.data.astype(np.float32)
    if tensor.datatype == "BF16":
        return (tensor.data.astype(np.uint32) << 16).view(np.float32)
    return tensor.data


def _encode_pieces(data: Array, most: int, work: RequestWork, tokens: bool) -> Iterator[bytes]:
    """Yield a long array in parts of at most ``most`` values."""
    yield b"["
    inner = data.size // len(data)
    step = max(1, most // max(1, inner))
    for start in range(0, len(data), step):
        if start:
            yield b","
            work.pause()
        if inner > most:
            yield from _encode_pieces(data[start], most, work, tokens)
        else:
            yield _dump(data[start : start + step], tokens)[1:-1]
    yield b"]"


def _dump(data: Array, tokens: bool) -> bytes:
    if data.dtype.kind in _TEXT_KINDS:
        return _dump_values(data)
    if not data.ndim:
        return _dump(data.reshape(1), tokens)[1:-1]
    text = orjson.dumps(np.ascontiguousarray(data), option=_NUMPY)
    if tokens and b"null" in text:
        return json.dumps(data.tolist(), separators=(",", ":")).encode()
    return text


def _dump_values(data: Array) -> bytes:
    try:
        return orjson.dumps(data.tolist())
    except orjson.JSONEncodeError:
        raise InvalidInput("a text holds a lone surrogate; JSON needs valid Unicode") from None


def _joint_rows(call: InferCall, joint: BatchResult, tokens: bool) -> list[bytes]:
    """Return the rows of a batch run; none if they are large, so that each is encoded for itself."""
    outputs = call.loaded.tensors(joint.arrays)
    return _row_texts(outputs, tokens) if _is_small(outputs) else []


def _is_small(outputs: Sequence[Tensor]) -> bool:
    """Whether all rows of a batch run are encoded at once, on the event loop."""
    return all(tensor.data.size <= INLINE_NUMBERS and tensor.datatype != "BYTES" for tensor in outputs)


def _encode_objects(outputs: Sequence[Tensor], work: RequestWork, tokens: bool) -> list[bytes]:
    """Return the JSON list of rows of several outputs, in parts."""
    count = row_count(outputs)
    size = sum([tensor.data.size for tensor in outputs])
    if size <= NUMBER_SLICE and (size <= TEXT_SLICE or _is_table(outputs)):
        return [_record_list(outputs, tokens)]
    values = size // max(1, count)
    step = max(1, TEXT_SLICE // max(1, values))
    parts: list[bytes] = [b"["]
    for start in range(0, count, step):
        rows = [Tensor(item.name, item.datatype, item.data[start : start + step]) for item in outputs]
        parts.append(b"," if start else b"")
        parts += _large_row(rows, work, tokens) if values > NUMBER_SLICE else [b",".join(_record_texts(rows, tokens))]
        work.pause()
    parts.append(b"]")
    return parts


def _record_list(outputs: Sequence[Tensor], tokens: bool) -> bytes:
    """Return the JSON list of a few rows as objects of values by output."""
    if not _is_table(outputs):
        return b"[%b]" % b",".join(_record_texts(outputs, tokens))
    name = json_string(outputs[0].name)
    rows = _dump(json_numbers(outputs[0]), tokens)[1:-1].replace(b"],[", b"]},{%b:[" % name)
    return b"[{%b:%b}]" % (name, rows)


def _is_table(outputs: Sequence[Tensor]) -> bool:
    """Whether there is one output, with a list of numbers in each row: one encoding has the texts of all of them."""
    first = outputs[0]
    return len(outputs) == 1 and first.datatype != "BYTES" and first.data.ndim == 2 and bool(first.data.size)


def _large_row(outputs: Sequence[Tensor], work: RequestWork, tokens: bool) -> list[bytes]:
    """Return the JSON of one row, in parts."""
    parts: list[bytes] = []
    for tensor in outputs:
        row = Tensor(tensor.name, tensor.datatype, np.asarray(tensor.data[0]))
        parts += (b"," if parts else b"{", json_string(tensor.name), b":", *encode_tensor(row, work, tokens))
    return [*parts, b"}"]


def row_count(outputs: Sequence[Tensor]) -> int:
    """Return the rows of outputs.

    Raises:
        Unsupported: they have no rows, or not the same number of them.
    """
    counts = {tensor.data.shape[0] if tensor.data.ndim else -1 for tensor in outputs}
    if len(counts) != 1 or -1 in counts:
        raise Unsupported("the outputs of this model do not have one row for each instance; send a V2 infer request")
    return counts.pop()


def _row_texts(outputs: Sequence[Tensor], tokens: bool) -> list[bytes]:
    """Return the JSON of each row: the value of the only output, else an object."""
    if len(outputs) == 1:
        return _encode_values(json_numbers(outputs[0]), tokens)
    return _record_texts(outputs, tokens)


def _record_texts(outputs: Sequence[Tensor], tokens: bool) -> list[bytes]:
    """Return the JSON of each row as an object of values by output."""
    columns = [_encode_values(json_numbers(tensor), tokens) for tensor in outputs]
    names = [json_string(tensor.name).replace(b"%", b"%%") for tensor in outputs]
    form = b"{%b}" % b",".join([name + b":%b" for name in names])
    return [form % row for row in zip(*columns, strict=True)]


def _encode_values(data: Array, tokens: bool) -> list[bytes]:
    """Return the JSON of each element of the first axis."""
    if not data.size or data.ndim > 2 or data.dtype.char == "O":
        return [_dump(np.asarray(item), tokens) for item in data]
    text = _dump(data, tokens)
    if data.ndim == 1:
        return text[1:-1].split(b",")
    return [b"[%b]" % item for item in text[2:-2].split(b"],[")]
