"""Encodes tensors to the answer of the V2 REST protocol: JSON, or JSON followed by binary tensors."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import orjson

from penstock.api.common.answer_rules import in_asked_form
from penstock.api.common.work import INLINE_BYTES, INLINE_NUMBERS, LargeWork, RequestWork, output_too_large
from penstock.core.errors import InvalidInput
from penstock.core.limits import RequestLimits
from penstock.core.signature import TensorSpec
from penstock.core.slices import BYTE_SLICE, NUMBER_SLICE, TEXT_SLICE, PauseWork
from penstock.core.tensors import RAW_ONLY, Array, Shape, Tensor, raw_of, raw_rows, to_raw
from penstock.serving.infer_call import BatchResult, InferCall
from penstock.serving.shared_memory import RegionSpan

MAX_SHAPES: Final = 256
"""Maximum number of cached shape texts; clients choose shapes."""

SMALL: Final = 2048
"""Maximum elements of the outputs of an answer that is encoded in one step."""

_NUMPY: Final = orjson.OPT_SERIALIZE_NUMPY
_N: Final = ord("n")
"""In a list of JSON numbers only ``null`` has this letter, and a byte takes fewer instructions to find than a text."""

_FLOATS: Final = frozenset({"FP32", "FP64"})

Tail = Sequence[bytes | memoryview]


class OutputTexts:
    """The JSON around the data of outputs of certain shapes: ``before`` each output's values, where these are JSON, or
    ``binary`` if all of them follow as raw bytes."""

    __slots__ = ("before", "binary")

    def __init__(self, before: list[bytes], binary: bytes) -> None:
        self.before = before
        self.binary = binary


def json_string(text: str) -> bytes:
    """Return a JSON string literal.

    Raises:
        InvalidInput: the text holds lone surrogates, which UTF-8 cannot carry.
    """
    try:
        return orjson.dumps(text)
    except orjson.JSONEncodeError:
        raise InvalidInput("a text holds a lone surrogate; JSON needs valid Unicode") from None


class RestAnswerTemplate:
    """The common parts of all answers of one version, encoded once.

    An answer is ``prefix``, the id, then for each output its head up to the shape, the shape, and the data.
    """

    __slots__ = ("_heads", "_joint", "_limits", "_prefix", "_shapes", "_texts")

    def __init__(self, model: str, version: str, outputs: Sequence[TensorSpec], limits: RequestLimits) -> None:
        self._prefix = b'{"model_name":%b,"model_version":%b,"id":' % (orjson.dumps(model), orjson.dumps(version))
        self._heads = {(spec.name, spec.datatype): _encode_head(spec.name, spec.datatype) for spec in outputs}
        self._shapes: dict[Shape, bytes] = {}
        self._texts: dict[tuple[Shape, ...], OutputTexts] = {}
        self._joint: dict[tuple[Shape, ...], OutputTexts] = {}  # of one row of outputs of these shapes
        self._limits = limits

    def answer(
        self, call: InferCall, binary: list[bool] | bool, nulls: bool = False, pause: PauseWork | None = None
    ) -> tuple[bytes, int | None, Tail]:
        """The body of an answer, the length of its JSON part if binary tensors follow it, and what follows the body
        where that is too large to be copied for it. Without a ``pause`` it is encoded on the event loop, as far as
        that is short.

        Raises:
            InvalidInput: an output has no JSON form (16-bit floats; NaN and infinity, but where ``nulls`` are allowed)
                and was not asked for as binary.
            TooLarge: the answer is over one of the limits.
            LargeWork: it has to be encoded on a thread.
        """
        if call.batch_result is not None and (binary is True or binary is False):
            joint = self._joint_answer(call, call.batch_result, binary)
            if joint is not None:
                return joint
        if call.requested is None and (binary is True or binary is False):
            plain = self._plain_answer(call, binary, nulls)
            if plain is not None:
                return plain
        return self._own_answer(call, binary, nulls, pause)

    def _plain_answer(self, call: InferCall, binary: bool, nulls: bool) -> tuple[bytes, int | None, Tail] | None:
        """All outputs of a model, where they are few numbers: what a lone caller gets; None where they are not."""
        shapes: list[Shape] = []
        outputs, elements = call.outputs, 0
        for tensor in outputs:
            elements += tensor.data.size
            if elements > SMALL or tensor.datatype == "BYTES":
                return None
            shapes.append(tensor.data.shape)
        key = tuple(shapes)
        texts = self._texts.get(key) or self._output_texts(outputs, key)
        parts: list[bytes] = [self._prefix, json_string(call.id)]
        json_length: int | None = None
        if binary:
            parts.append(texts.binary)
            json_length = len(self._prefix) + len(parts[1]) + len(texts.binary)
            parts += [to_raw(tensor.datatype, tensor.data) for tensor in outputs]
        else:
            for index, tensor in enumerate(outputs):
                parts.append(texts.before[index])
                parts.append(json_data(tensor, nulls))
            parts.append(b"}]}")
        content = b"".join(parts)
        if len(content) > self._limits.max_output_bytes:
            raise output_too_large(self._limits)
        return content, json_length, ()

    def _output_texts(self, outputs: Sequence[Tensor], shapes: tuple[Shape, ...]) -> OutputTexts:
        before: list[bytes] = []
        binary, between = b"", b',"outputs":['
        for tensor, shape in zip(outputs, shapes, strict=True):
            head = _encode_head(tensor.name, tensor.datatype) + ",".join(map(str, shape)).encode() + b"]"
            before.append(between + head + b',"data":')
            binary += (b"," if binary else between) + head
            binary += b',"parameters":{"binary_data_size":%d}}' % tensor.data.nbytes
            between = b"},"
        texts = OutputTexts(before, (binary or between) + b"]}")
        if len(self._texts) < MAX_SHAPES:
            self._texts[shapes] = texts
        return texts

    def _joint_answer(self, call: InferCall, joint: BatchResult, binary: bool) -> tuple[bytes, int | None, Tail] | None:
        """Return the answer to a call from the encoded outputs of its batch run; None if it needs its own encoding."""
        form = "raw" if binary else "json"
        columns: list[list[bytes]] | None = joint.encoded_cache.get(form)
        if columns is None:
            columns = joint.encoded_cache[form] = _raw_columns(call, joint) if binary else _json_columns(call, joint)
        if not columns:
            return None
        texts = self._joint_texts(call, joint)
        parts: list[bytes] = [self._prefix, json_string(call.id)]
        json_length: int | None = None
        if binary:
            parts.append(texts.binary)
            json_length = len(self._prefix) + len(parts[1]) + len(texts.binary)
            parts += [column[call.place] for column in columns]
        else:
            for index, column in enumerate(columns):
                parts.append(texts.before[index])
                parts.append(b"[")
                parts.append(column[call.place])
                parts.append(b"]")
            parts.append(b"}]}")
        return b"".join(parts), json_length, ()

    def _joint_texts(self, call: InferCall, joint: BatchResult) -> OutputTexts:
        """Return the texts around a row of the outputs of a batch run; the first call looks them up."""
        texts: OutputTexts | None = joint.encoded_cache.get(OutputTexts)
        if texts is None:
            shapes = tuple([array.shape for array in joint.arrays])
            texts = joint.encoded_cache[OutputTexts] = self._joint.get(shapes) or self._row_texts(call, shapes)
        return texts

    def _row_texts(self, call: InferCall, shapes: tuple[Shape, ...]) -> OutputTexts:
        """Return the texts around a row of outputs of these shapes (rows x ...)."""
        rows = tuple([(1, *shape[1:]) for shape in shapes])
        texts = self._texts.get(rows) or self._output_texts(call.outputs, rows)
        if len(self._joint) < MAX_SHAPES:
            self._joint[shapes] = texts
        return texts

    def _own_answer(
        self, call: InferCall, binary: list[bool] | bool, nulls: bool, pause: PauseWork | None
    ) -> tuple[bytes, int | None, Tail]:
        parts: list[bytes] = [self._prefix, json_string(call.id)]
        tail: list[bytes | memoryview] = []
        work: RequestWork | None = None
        elements = 0
        before = b',"outputs":['
        requested = call.requested
        for index, tensor in enumerate(call.outputs):
            wanted = None if requested is None else requested[index]
            elements += tensor.data.size
            if work is None and (elements > SMALL or tensor.datatype == "BYTES" or (wanted and wanted.classes)):
                work = RequestWork(self._limits, pause)
            if work is not None:
                tensor = in_asked_form(call, index, work)  # noqa: PLW2901 - the same output, in its other form
            data = tensor.data
            key = (tensor.name, tensor.datatype)
            shape = self._shapes.get(data.shape) or self._shape(data.shape)
            parts += (before, self._heads.get(key) or _encode_head(*key), shape)
            into = None if wanted is None else wanted.into
            if into is not None:
                size = _put(into, tensor, work)
                parts.append(b'],"parameters":%b}' % orjson.dumps(_region_parameters(into, size)))
            elif binary if binary is True or binary is False else binary[index]:
                content = self._raw(tensor, work)
                tail.append(content)
                parts.append(b'],"parameters":{"binary_data_size":%d}}' % len(content))
            elif work is None:
                parts += (b'],"data":', json_data(tensor, nulls), b"}")
            else:
                parts.append(b'],"data":')
                self._add_json(parts, tensor, nulls, work)
                parts.append(b"}")
            before = b","
        parts.append(b"]}")
        return self._join_body(parts, tail)

    def _join_body(self, parts: list[bytes], tail: Tail) -> tuple[bytes, int | None, Tail]:
        """Return the answer, its small parts joined."""
        size, tail_size = sum(map(len, parts)), sum(map(len, tail))
        if size + tail_size > self._limits.max_output_bytes:
            raise output_too_large(self._limits)
        if size > INLINE_BYTES and not tail:
            return b"", None, parts
        header = b"".join(parts)
        if not tail:
            return header, None, ()
        if tail_size > INLINE_BYTES or any(type(item) is memoryview for item in tail):
            return header, size, tail
        return b"".join((header, *tail)), size, ()

    def _raw(self, tensor: Tensor, work: RequestWork | None) -> bytes | memoryview:
        if work is None:
            return raw_of(tensor.datatype, tensor.data)
        return raw_of(tensor.datatype, tensor.data, work.pause, self._limits.max_output_bytes)

    def _add_json(self, parts: list[bytes], tensor: Tensor, nulls: bool, work: RequestWork) -> None:
        """Add the data of an output that may be large, in slices."""
        if not tensor.data.size:
            parts.append(json_data(tensor, nulls))
            return
        flat = np.ascontiguousarray(tensor.data).reshape(-1)
        texts = tensor.datatype == "BYTES"
        step = TEXT_SLICE if texts else NUMBER_SLICE
        left = self._limits.max_output_bytes
        if not texts:
            work.numbers(len(flat))
        parts.append(b"[")
        for start in range(0, len(flat), step):
            if start:
                parts.append(b",")
                work.pause()
            values = flat[start : start + step]
            piece = (
                _json_texts(values.tolist(), work.pause)
                if texts
                else json_data(_slice_tensor(tensor, values), nulls)[1:-1]
            )
            parts.append(piece)
            left -= len(piece)
            if left < 0:
                raise output_too_large(self._limits)
        parts.append(b"]")

    def _shape(self, shape: Shape) -> bytes:
        text = ",".join(map(str, shape)).encode()
        if len(self._shapes) < MAX_SHAPES:
            self._shapes[shape] = text
        return text


def _json_columns(call: InferCall, joint: BatchResult) -> list[list[bytes]]:
    """Return the values of each output of a batch run as JSON without brackets, by row; none if rows need
    separate encoding: a row may have no JSON form, the shape has more than two dimensions, or the rows are large.
    """
    columns: list[list[bytes]] = []
    specs = call.loaded.signature.outputs
    for index, array in enumerate(joint.arrays):
        datatype = specs[index].datatype
        if array.ndim > 2 or not array.size or datatype in RAW_ONLY or datatype == "BYTES":
            return []
        if array.size > INLINE_NUMBERS:
            return []
        text = _dump_array(array)
        if _N in text:
            return []
        columns.append(text[1:-1].split(b",") if array.ndim == 1 else text[2:-2].split(b"],["))
    return columns


def _raw_columns(call: InferCall, joint: BatchResult) -> list[list[bytes]]:
    """Return the raw values of each output of a batch run, by row; none if rows differ in size or are large."""
    columns: list[list[bytes]] = []
    specs = call.loaded.signature.outputs
    for index, array in enumerate(joint.arrays):
        datatype = specs[index].datatype
        if datatype == "BYTES" or array.nbytes > INLINE_BYTES:
            return []
        columns.append(raw_rows(to_raw(datatype, array), len(array)))
    return columns


def _slice_tensor(tensor: Tensor, values: Array) -> Tensor:
    """Return a tensor with some of the values."""
    return Tensor(tensor.name, tensor.datatype, values)


def _json_texts(texts: list[str], pause: PauseWork) -> bytes:
    """Return texts as the elements of a JSON list, with pauses in long ones and between them."""
    if sum(map(len, texts)) <= BYTE_SLICE:
        return orjson.dumps(texts)[1:-1]
    pieces: list[bytes] = []
    size = 0
    for text in texts:
        if len(text) > BYTE_SLICE:
            pieces.append(_json_text(text, pause))
        else:
            pieces.append(orjson.dumps(text))
            size += len(text)
        if size > BYTE_SLICE:
            size = 0
            pause()
    return b",".join(pieces)


def _json_text(text: str, pause: PauseWork) -> bytes:
    """Return a long text as a JSON string, in slices."""
    pieces: list[bytes] = []
    for start in range(0, len(text), BYTE_SLICE):
        pieces.append(orjson.dumps(text[start : start + BYTE_SLICE])[1:-1])
        pause()
    return b'"%b"' % b"".join(pieces)


def _put(into: RegionSpan, tensor: Tensor, work: RequestWork | None) -> int:
    """Write an output to shared memory; return its bytes."""
    if work is None:
        raw = to_raw(tensor.datatype, tensor.data)
    elif work.inline and tensor.data.nbytes > INLINE_BYTES:
        raise LargeWork
    else:
        raw = to_raw(tensor.datatype, tensor.data, work.pause, into.size)
    into.put(tensor.name, raw)
    return len(raw)


def _region_parameters(into: RegionSpan, size: int) -> dict[str, str | int]:
    """Return the parameters of an output in shared memory."""
    parameters: dict[str, str | int] = {"shared_memory_region": into.region.name, "shared_memory_byte_size": size}
    return parameters | ({"shared_memory_offset": into.offset} if into.offset else {})


def _encode_head(name: str, datatype: str) -> bytes:
    return b'{"name":%b,"datatype":"%b","shape":[' % (orjson.dumps(name), datatype.encode())


def _dump_array(array: Array) -> bytes:
    """Return an array of numbers as JSON lists. Arrays are contiguous nearly always, and a question costs more than an
    exception that does not come."""
    try:
        return orjson.dumps(array, None, _NUMPY)
    except orjson.JSONEncodeError:
        return orjson.dumps(np.ascontiguousarray(array), None, _NUMPY)


def json_data(tensor: Tensor, nulls: bool = False) -> bytes:
    """Return the flat JSON list of a tensor's elements, row-major; floats in the shortest form that reads back the
    same.

    Raises:
        InvalidInput: the tensor has no JSON form, or holds NaN or infinity where these may not be null.
    """
    if tensor.datatype == "BYTES":
        return orjson.dumps(tensor.data.ravel().tolist())
    if tensor.datatype in RAW_ONLY:
        raise InvalidInput(
            f"output '{tensor.name}' is {tensor.datatype}, which has no JSON form; ask for it with binary_data"
        )
    data = tensor.data
    text = _dump_array(data if data.ndim == 1 else data.ravel())
    if not nulls and tensor.datatype in _FLOATS and _N in text:
        raise InvalidInput(
            f"output '{tensor.name}' holds NaN or infinity, which JSON cannot carry; "
            "ask for it with binary_data, or for null in their place with the request parameter non_finite"
        )
    return text
