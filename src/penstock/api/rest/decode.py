"""Infer requests of the V2 REST protocol, JSON and binary tensor extension, to tensors."""

from dataclasses import dataclass
from functools import lru_cache
from math import prod
from struct import Struct
from struct import error as WrongCount  # noqa: N812 - what it means here
from typing import Any, Final

import msgspec
import numpy as np

from penstock.api.common import request_rules
from penstock.api.common.bounded_cache import BoundedCache
from penstock.api.common.content_coding import BOM
from penstock.api.common.request_rules import NameCheck
from penstock.api.common.work import INLINE_JSON, Work
from penstock.api.rest.json_data import array_of
from penstock.api.rest.json_scan import Skeleton, skeleton
from penstock.api.rest.json_space import without_long_space
from penstock.api.rest.messages import NO_DATA, FlatFloats, FlatRequest, Frame, Input, Output, Parameters, Request
from penstock.core.errors import InvalidInput
from penstock.core.limits import RequestLimits
from penstock.core.signature import InputLayout, RowForm, Signature
from penstock.core.slices import Pause
from penstock.core.tensors import (
    NUMPY_TYPES,
    PLAIN,
    RAW_ONLY,
    Array,
    Shape,
    Tensor,
    element_count,
    from_raw,
    numpy_type,
)
from penstock.core.texts import shortened
from penstock.serving.requested_outputs import RequestedOutput
from penstock.serving.shared_memory import Regions, RegionSpan

MAX_PACKED: Final = 4096
"""Longer lists go through NumPy, which needs no argument for each element."""

MAX_HEADERS: Final = 256
"""JSON parts of binary requests that are remembered; clients choose them, so their number is bounded."""

MAX_HEADER: Final = 4096
"""Bytes of the longest that is remembered."""

_CODES: Final = {"FP32": "f", "FP64": "d"}
_FLOATS: Final = {name: NUMPY_TYPES[name] for name in ("FP32", "FP64")}

_packer = lru_cache(maxsize=256)(Struct)
_decode = msgspec.json.Decoder(Request).decode
_decode_flat = msgspec.json.Decoder(FlatRequest).decode


class InferBody:
    """A decoded request: ``given`` are its tensors, or the bytes of one row (see ``Signature.row``); ``binary`` says of
    each output (or of all, when ``requested`` is None) how it travels back, ``nulls`` that NaN and infinity may be null
    in JSON."""

    __slots__ = ("binary", "given", "id", "nulls", "requested", "timeout_ns")

    def __init__(
        self,
        call_id: str,
        given: list[Tensor] | bytes,
        requested: list[RequestedOutput] | None,
        binary: list[bool] | bool,
        timeout_ns: int | None,
        nulls: bool,
    ) -> None:
        self.id = call_id
        self.given = given
        self.requested = requested
        self.binary = binary
        self.timeout_ns = timeout_ns
        self.nulls = nulls


@dataclass(slots=True)
class _Header:
    """What the JSON part of a binary request says; the next one with the same need not be parsed."""

    size: int
    inputs: tuple[InputLayout, ...]
    requested: list[RequestedOutput] | None
    binary: list[bool] | bool
    timeout_ns: int | None
    nulls: bool
    row: RowForm | None = None
    """The row that the one input was found to be, so that the next request of the version need not be compared."""

    def body(self, raw: bytes, header_length: int, row: RowForm | None) -> InferBody:
        """A request with this header."""
        if row is not None and (row is self.row or row.is_only_input(self.inputs)):
            self.row = row
            return InferBody("", raw[header_length:], self.requested, self.binary, self.timeout_ns, self.nulls)
        tensors = [
            Tensor(name, datatype, np.frombuffer(raw, dtype, count, header_length + offset).reshape(shape))
            for name, datatype, dtype, count, offset, shape in self.inputs
        ]
        return InferBody("", tensors, self.requested, self.binary, self.timeout_ns, self.nulls)


class BodyDecoder:
    """Decodes the bodies of infer requests, and remembers the JSON parts of binary ones."""

    def __init__(self, limits: RequestLimits, regions: Regions) -> None:
        self._limits = limits
        self._flat_bytes = min(INLINE_JSON, limits.max_json_bytes)
        self._regions = regions
        self._headers: BoundedCache[bytes, _Header] = BoundedCache(MAX_HEADERS, MAX_HEADERS * MAX_HEADER)

    def decode(
        self, body: bytes, header_length: int | None, signature: Signature, pause: Pause | None = None
    ) -> InferBody:
        """Decode one body; ``header_length`` is the Inference-Header-Content-Length header, None if absent. Without a
        ``pause`` it is decoded on the event loop, as far as that is short.

        Raises:
            InvalidInput: anything about the body contradicts the protocol or the signature.
            TooLarge: it is over one of the limits.
            Unsupported: it asks for shared memory where that is off.
            LargeWork: it has to be decoded on a thread.
        """
        if header_length is None:
            if signature.all_floats and len(body) <= self._flat_bytes:
                found = self._flat_floats(body, signature)
                if found is not None:
                    return found
            return self._decoded(body, b"", signature, Work(self._limits, pause))
        if header_length == 0:
            return InferBody("", [_raw_tensor(body, signature, Work(self._limits, pause))], None, True, None, False)
        if not 0 < header_length <= len(body):
            raise InvalidInput(
                f"inference-header-content-length is {header_length}, but the body has {len(body)} bytes"
            )
        header = body[:header_length]
        known = self._headers.get(header)
        if known is not None and len(body) == header_length + known.size:
            return known.body(body, header_length, signature.row)
        return self._decoded(header, memoryview(body)[header_length:], signature, Work(self._limits, pause))

    def _flat_floats(self, body: bytes, signature: Signature) -> InferBody | None:
        """The commonest request in one pass: flat lists of FP32 or FP64. None for any other, faulty ones included."""
        row = signature.row
        try:
            request = _decode_flat(body)
            inputs = request.inputs
            if row is not None and len(inputs) == 1:
                item = inputs[0]
                if item.shape == row.dims and item.name == row.name and item.datatype == row.datatype:
                    return self._framed(request, row.pack(*item.data), signature)
            tensors = [
                Tensor(
                    item.name, item.datatype, np.frombuffer(_packed(item), _FLOATS[item.datatype]).reshape(item.shape)
                )
                for item in inputs
            ]
        except (
            msgspec.DecodeError,
            UnicodeDecodeError,
            RecursionError,
            KeyError,
            ValueError,
            OverflowError,
            WrongCount,
        ):
            return None  # the general way names what is wrong
        return self._framed(request, tensors, signature)

    def _decoded(self, header: bytes, binary: bytes | memoryview, signature: Signature, work: Work) -> InferBody:
        work.json(len(header))
        text = header.removeprefix(BOM)
        cut: Skeleton | None = None
        if len(text) > INLINE_JSON:
            text = without_long_space(text, work.pause)
            cut = skeleton(text, work.pause, self._limits.max_text_elements)
        request = _parsed(text if cut is None else cut.text)
        tensors = _Tensors(request, text, cut, binary, signature, self._regions, work)
        found = self._framed(request, tensors.read(), signature)
        if tensors.repeatable and len(header) <= MAX_HEADER:
            self._learn(header, found, len(binary))
        return found

    def _framed(self, request: Frame, given: list[Tensor] | bytes, signature: Signature) -> InferBody:
        parameters, outputs = request.parameters, request.outputs
        all_binary, nulls, timeout_ns = False, False, None
        if parameters:
            request_rules.check_parameters(parameters, len(parameters))
            all_binary = _flag(parameters, "binary_data_output", "the request") or False
            timeout_ns = request_rules.timeout_ns(_stated(parameters, "timeout", 0))
            nulls = _nulls(parameters)
        requested, binary = self._requested(outputs, all_binary, signature) if outputs else (None, all_binary)
        return InferBody(request.id or "", given, requested, binary, timeout_ns, nulls)

    def _requested(
        self, outputs: list[Output], all_binary: bool, signature: Signature
    ) -> tuple[list[RequestedOutput], list[bool]]:
        requested, binary, names = [], [], NameCheck(signature)
        for output in outputs:
            names.output(output.name)
            parameters = output.parameters or {}
            count = request_rules.classes(output.name, _stated(parameters, "classification", 0))
            requested.append(RequestedOutput(output.name, count, _span(output.name, parameters, self._regions)))
            flag = _flag(parameters, "binary_data", f"output '{output.name}'")
            binary.append(all_binary if flag is None else flag)
        return requested, binary

    def _learn(self, header: bytes, found: InferBody, size: int) -> None:
        """Remember a header whose tensors are all binary and of datatypes that need no look at their values."""
        tensors = found.given
        if isinstance(tensors, bytes) or found.id or any(one.into is not None for one in found.requested or ()):
            return
        inputs, offset = [], 0
        for tensor in tensors:
            data = tensor.data
            inputs.append((tensor.name, tensor.datatype, NUMPY_TYPES[tensor.datatype], data.size, offset, data.shape))
            offset += data.nbytes
        known = _Header(size, tuple(inputs), found.requested, found.binary, found.timeout_ns, found.nulls)
        self._headers.put(header, known, len(header))


class _Tensors:
    """The inputs of one request on their way to tensors; each is held against the signature before its data is read.

    ``repeatable`` says, once they are read, that another request with this JSON differs in nothing but the bytes behind
    it: no data stands in the JSON or in shared memory, and any bytes are good.
    """

    __slots__ = (
        "_binary",
        "_cut",
        "_inputs",
        "_offset",
        "_regions",
        "_signature",
        "_text",
        "_text_bytes",
        "_used",
        "_work",
        "repeatable",
    )

    def __init__(
        self,
        request: Request,
        text: bytes,
        cut: Skeleton | None,
        binary: bytes | memoryview,
        signature: Signature,
        regions: Regions,
        work: Work,
    ) -> None:
        self.repeatable = True
        self._inputs = request.inputs
        self._text = text
        self._cut = cut
        self._binary = binary
        self._signature = signature
        self._regions = regions
        self._work = work
        self._offset = 0  # of the next binary tensor
        self._used = 0  # long lists of the JSON text
        self._text_bytes = 0  # of the tensor that is read

    def read(self) -> list[Tensor]:
        """All of them, in their order."""
        names, tensors = NameCheck(self._signature), []
        for item in self._inputs:
            names.input(item.name)
            self._text_bytes = 0
            array = self._array(item)
            tensors.append(Tensor(item.name, item.datatype, array, self._text_bytes))
            self._work.pause()
        if self._offset != len(self._binary):
            raise InvalidInput(f"{len(self._binary) - self._offset} bytes are left over after the last binary input")
        if self._cut is not None and self._used != len(self._cut.lists):
            raise InvalidInput("the request has a long list that is not the data of an input")
        return tensors

    def _array(self, item: Input) -> Array:
        name, datatype, shape = item.name, item.datatype, tuple(item.shape)
        count = element_count(name, shape)
        self._signature.check(name, datatype, shape)
        if datatype == "BYTES":
            self._work.texts(name, count)
        shared = _span(name, item.parameters, self._regions) if item.parameters else None
        size = self._binary_size(item)
        if shared is not None:
            self._work.copied(shared.size)
            self._count_text(item, shared.size)
            self.repeatable = False
            return from_raw(name, datatype, shape, shared.read(), self._work.pause)
        if size is None:
            self.repeatable = False
            return self._json_array(item, shape, count)
        if datatype not in PLAIN:
            self._work.copied(size)
            self._count_text(item, size)
            self.repeatable = False
        self._offset += size
        return from_raw(name, datatype, shape, self._binary[self._offset - size : self._offset], self._work.pause)

    def _binary_size(self, item: Input) -> int | None:
        left = len(self._binary) - self._offset
        if not item.parameters or "binary_data_size" not in item.parameters:
            alone = left and item.data is NO_DATA and len(self._inputs) == 1
            return left if alone else None  # one input alone may leave the obvious out
        size = item.parameters["binary_data_size"]
        if size is None:
            return None
        if type(size) is not int or size < 0:
            raise InvalidInput(f"binary_data_size of input '{item.name}' must be a whole number of bytes")
        if item.data is not NO_DATA and bytes(item.data) != b"null":
            raise InvalidInput(f"input '{item.name}' has both data and binary_data_size; expected one of them")
        if size > left:
            raise InvalidInput(
                f"input '{item.name}' announces {size} binary bytes, but only {left} are left in the body"
            )
        return size

    def _json_array(self, item: Input, shape: Shape, count: int) -> Array:
        if item.datatype in RAW_ONLY:
            raise InvalidInput(
                f"input '{item.name}' is {item.datatype}, which has no JSON form; send it as binary data"
            )
        if item.data is NO_DATA:
            raise InvalidInput(f"input '{item.name}' has no data")
        data = bytes(item.data)
        if self._cut is not None and (place := self._cut.place(data)) >= 0:
            start, stop = self._cut.lists[place]
            self._used += 1
            data = self._text[start:stop]
        self._count_text(item, len(data))
        return array_of(item.name, item.datatype, shape, count, data, self._work.pause)

    def _count_text(self, item: Input, size: int) -> None:
        """Note the size of the data of an input, if it is text."""
        if item.datatype == "BYTES":
            self._work.text_bytes(item.name, size)
            self._text_bytes = size


def _parsed(text: bytes) -> Request:
    try:
        return _decode(text)
    except RecursionError:
        raise InvalidInput("the JSON is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"the request is not a valid inference request: {error}") from None


def _packed(item: FlatFloats) -> bytes:
    """The list as raw little-endian floats; unlike a NumPy cast, packing refuses what FP32 cannot hold."""
    count = len(item.data)
    if count > MAX_PACKED:
        raise OverflowError
    return _packer(f"<{count}{_CODES[item.datatype]}").pack(*item.data)


def _raw_tensor(body: bytes, signature: Signature, work: Work) -> Tensor:
    """The one tensor of a request without a JSON part: the model's only input, shaped after its signature.

    Raises:
        InvalidInput: the model has another number of inputs, the shape is not determined by the byte count,
            or the byte count does not fit.
    """
    if len(signature.inputs) != 1:
        raise InvalidInput(f"a raw request needs a model with one input; this one has {len(signature.inputs)}")
    spec = signature.inputs[0]
    if spec.datatype not in PLAIN:
        work.copied(len(body))
    if spec.datatype == "BYTES":
        work.text_bytes(spec.name, len(body))
        element = len(body).to_bytes(4, "little") + body
        return Tensor(spec.name, "BYTES", from_raw(spec.name, "BYTES", (1,) * len(spec.shape), element), len(body))
    itemsize = numpy_type(spec.name, spec.datatype).itemsize
    shape = _determined(spec.shape, len(body) // itemsize, signature.batching, spec.describe())
    return Tensor(spec.name, spec.datatype, from_raw(spec.name, spec.datatype, shape, body))


def _determined(shape: Shape, count: int, batching: bool, described: str) -> Shape:
    """The shape that ``count`` elements have; the batch is one row unless it is the only free dimension."""
    dims = list(shape)
    free = [index for index, dim in enumerate(dims) if dim < 0]
    if batching and len(free) > 1:
        dims[free.pop(0)] = 1
    if len(free) > 1:
        raise InvalidInput(f"a raw request cannot tell the shape of input {described}; send the JSON part")
    for index in free:
        dims[index] = count // max(1, prod(dim for dim in dims if dim >= 0))
    return tuple(dims)


def _span(name: str, parameters: Parameters, regions: Regions) -> RegionSpan | None:
    """The shared memory that a tensor's parameters name, None for none."""
    region = parameters.get("shared_memory_region")
    if region is None:
        return None
    return request_rules.span(
        name,
        region,
        _stated(parameters, "shared_memory_offset", 0),
        parameters.get("shared_memory_byte_size"),
        parameters.get("binary_data_size") is not None or bool(parameters.get("classification")),
        regions,
    )


def _stated(parameters: Parameters, key: str, default: Any) -> Any:
    """A parameter; null is as if it were not there, as clients write it whose messages have a field for each."""
    value = parameters.get(key)
    return default if value is None else value


def _flag(parameters: Parameters, key: str, owner: str) -> bool | None:
    value = parameters.get(key)
    if value is None or type(value) is bool:
        return value
    raise InvalidInput(f"{key} of {owner} must be true or false")


def _nulls(parameters: Parameters) -> bool:
    """Whether NaN and infinity may be null in a JSON answer; by default they are an error."""
    stated = _stated(parameters, "non_finite", "error")
    if stated not in ("error", "null"):
        raise InvalidInput(f"the parameter 'non_finite' must be 'error' or 'null', got '{shortened(str(stated))}'")
    return bool(stated == "null")
