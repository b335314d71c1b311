"""Decodes infer requests of the V2 REST protocol, JSON and binary tensor extension, to tensors."""

from functools import lru_cache
from math import prod
from struct import Struct
from struct import error as WrongCount  # noqa: N812 - what it means here
from typing import Final

import msgspec
import numpy as np

from penstock.api.common import request_rules
from penstock.api.common.content_coding import BOM
from penstock.api.common.request_rules import NameCheck
from penstock.api.common.work import INLINE_JSON, RequestWork
from penstock.api.rest.infer_body import InferBody, KnownHeader, KnownRowText
from penstock.api.rest.json_scan import JsonSkeleton, make_skeleton
from penstock.api.rest.json_space import without_long_space
from penstock.api.rest.messages import FlatFloats, FlatRequest, JsonOutput, JsonRequest, RequestFields
from penstock.api.rest.parameters import allows_nulls, flag_of, parameter_value, span_of
from penstock.api.rest.tensor_reader import TensorReader
from penstock.core.bounded_cache import BoundedCache
from penstock.core.errors import InvalidInput
from penstock.core.limits import RequestLimits
from penstock.core.signature import RowForm, Signature
from penstock.core.slices import PauseWork
from penstock.core.tensors import NUMPY_TYPES, PLAIN, Shape, Tensor, from_raw, numpy_type
from penstock.serving.requested_outputs import RequestedOutput
from penstock.serving.shared_memory import SharedRegions

MAX_PACKED: Final = 4096
"""Minimum length of a list that NumPy converts, which needs no argument for each element."""

MAX_HEADERS: Final = 256
"""Maximum number of cached JSON parts of binary requests, and of JSON around a row; clients choose them."""

MAX_HEADER: Final = 4096
"""Maximum bytes of a cached JSON part, or of the JSON around a row."""

_CODES: Final = {"FP32": "f", "FP64": "d"}
_FLOATS: Final = {name: NUMPY_TYPES[name] for name in ("FP32", "FP64")}

_packer = lru_cache(maxsize=256)(Struct)
_decode = msgspec.json.Decoder(JsonRequest).decode
_decode_flat = msgspec.json.Decoder(FlatRequest).decode
_decode_floats = msgspec.json.Decoder(list[float]).decode

_DATA: Final = b'"data"'
_COLON: Final = b":"
_SPACE: Final = b" \t\r\n"
_WRONG: Final = (
    msgspec.DecodeError,
    UnicodeDecodeError,
    RecursionError,
    KeyError,
    ValueError,
    OverflowError,
    WrongCount,
)
"""What decoding in one pass raises: the general way names what is wrong."""


class BodyDecoder:
    """Decodes the bodies of infer requests; caches the JSON parts of binary ones, and the JSON around single rows."""

    def __init__(self, limits: RequestLimits, regions: SharedRegions) -> None:
        self._limits = limits
        self._flat_bytes = min(INLINE_JSON, limits.max_json_bytes)
        self._regions = regions
        self._headers: BoundedCache[bytes, KnownHeader] = BoundedCache(MAX_HEADERS, MAX_HEADERS * MAX_HEADER)
        self._row_texts: BoundedCache[bytes, KnownRowText] = BoundedCache(MAX_HEADERS, MAX_HEADERS * MAX_HEADER)
        self._known_length: tuple[bytes, int] = (b"0", 0)

    def read_length(self, value: bytes) -> int:
        """Return the length in an Inference-Header-Content-Length header. Heads are cached: the value of one that comes
        again is the same object, and is read once.

        Raises:
            InvalidInput: it is not a number of bytes.
        """
        known = self._known_length
        if known[0] is not value:
            if not value.isdigit() or len(value) > 18:
                raise InvalidInput("inference-header-content-length must be a whole number of bytes")
            self._known_length = known = value, int(value)
        return known[1]

    def decode(
        self,
        body: bytes,
        header_length: int | None,
        signature: Signature,
        pause: PauseWork | None = None,
        owner: str = "",
    ) -> InferBody:
        """Decode one body; ``header_length`` is the Inference-Header-Content-Length header, None if absent, and
        ``owner`` the caller, whose shared memory regions the request may name (see ``CallerAccess.owner``).

        Without a ``pause``, the caller is the event loop, and a long body raises ``LargeWork``.

        Raises:
            InvalidInput: anything about the body contradicts the protocol or the signature.
            TooLarge: it is over one of the limits.
            Unsupported: it asks for shared memory where that is off.
            LargeWork: it has to be decoded on a thread.
        """
        if header_length is None:
            if signature.all_floats and len(body) <= self._flat_bytes:
                flat = self._known_row(body, signature.row) or self._flat_floats(body, signature, owner)
                if flat is not None:
                    return flat
            return self._decode(body, b"", signature, owner, RequestWork(self._limits, pause))
        if header_length == 0:
            return InferBody(
                "", [_raw_tensor(body, signature, RequestWork(self._limits, pause))], None, True, None, False
            )
        if not 0 < header_length <= len(body):
            raise InvalidInput(
                f"inference-header-content-length is {header_length}, but the body has {len(body)} bytes"
            )
        header = body[:header_length]
        header_layout = self._headers.get(header)
        if header_layout is not None and len(body) == header_length + header_layout.size:
            return header_layout.body(body, header_length, signature.row)
        binary = memoryview(body)[header_length:]
        return self._decode(header, binary, signature, owner, RequestWork(self._limits, pause))

    def _known_row(self, body: bytes, row: RowForm | None) -> InferBody | None:
        """Decode a request of one row that differs from an earlier one in its numbers only. Return None for any other,
        including invalid ones.
        """
        start = body.find(b"[", body.find(_DATA))
        text = self._row_texts.get(body[:start]) if start > 0 else None
        if text is None or row is None or not text.fits(row) or not body.endswith(text.after):
            return None
        numbers = body[start : len(body) - len(text.after)]
        try:
            packed = row.pack(*_decode_floats(numbers))
        except _WRONG:
            return None
        return InferBody("", packed, None, False, None, False)

    def _learn_row(self, body: bytes, row: RowForm) -> None:
        """Cache the JSON around the numbers of a request that has one row, and nothing of its own but the numbers.

        ``data`` may stand anywhere in a text, so the place of the numbers is tried: they must be those that are put
        there. Then whatever stands there is the row, as the rest of the JSON is the same.
        """
        at = body.find(_DATA)
        start = body.find(b"[", at)
        stop = body.find(b"]", start) + 1
        before, after = body[:start], body[stop:]
        size = len(before) + len(after)
        if at < 0 or size > MAX_HEADER or body[at + len(_DATA) : start].strip(_SPACE) != _COLON:
            return
        for numbers in ([], [0.5]):
            request = _decode_flat(before + msgspec.json.encode(numbers) + after)
            if [item.data for item in request.inputs] != [numbers]:
                return
        self._row_texts.put(before, KnownRowText(after, row), size)

    def _flat_floats(self, body: bytes, signature: Signature, owner: str) -> InferBody | None:
        """Decode the most common request in one pass: flat lists of FP32 or FP64. Return None for any other, including
        invalid ones.
        """
        row = signature.row
        try:
            request = _decode_flat(body)
            inputs = request.inputs
            if row is not None and len(inputs) == 1:
                item = inputs[0]
                if item.shape == row.dims and item.name == row.name and item.datatype == row.datatype:
                    packed = row.pack(*item.data)
                    if not request.id and not request.parameters and not request.outputs:
                        self._learn_row(body, row)
                    return self._to_infer_body(request, packed, signature, owner)
            tensors = [
                Tensor(
                    item.name,
                    item.datatype,
                    np.frombuffer(_pack_floats(item), _FLOATS[item.datatype]).reshape(item.shape),
                )
                for item in inputs
            ]
        except _WRONG:
            return None
        return self._to_infer_body(request, tensors, signature, owner)

    def _decode(
        self, header: bytes, binary: bytes | memoryview, signature: Signature, owner: str, work: RequestWork
    ) -> InferBody:
        work.add_json(len(header))
        text = header.removeprefix(BOM)
        cut: JsonSkeleton | None = None
        if len(text) > INLINE_JSON:
            text = without_long_space(text, work.pause)
            cut = make_skeleton(text, work.pause, self._limits.max_text_elements)
        request = _parse_request(text if cut is None else cut.text)
        tensors = TensorReader(request, text, cut, binary, signature, self._regions, owner, work)
        found = self._to_infer_body(request, tensors.read(), signature, owner)
        if tensors.repeatable and len(header) <= MAX_HEADER:
            self._learn(header, found, len(binary))
        return found

    def _to_infer_body(
        self, request: RequestFields, inputs: list[Tensor] | bytes, signature: Signature, owner: str
    ) -> InferBody:
        parameters, outputs = request.parameters, request.outputs
        all_binary, nulls, timeout_ns = False, False, None
        if parameters:
            request_rules.check_parameters(parameters, len(parameters))
            all_binary = flag_of(parameters, "binary_data_output", "the request") or False
            timeout_ns = request_rules.timeout_ns(parameter_value(parameters, "timeout", 0))
            nulls = allows_nulls(parameters)
        requested, binary = self._requested(outputs, all_binary, signature, owner) if outputs else (None, all_binary)
        return InferBody(request.id or "", inputs, requested, binary, timeout_ns, nulls)

    def _requested(
        self, outputs: list[JsonOutput], all_binary: bool, signature: Signature, owner: str
    ) -> tuple[list[RequestedOutput], list[bool]]:
        requested, binary, names = [], [], NameCheck(signature)
        for output in outputs:
            names.output(output.name)
            parameters = output.parameters or {}
            count = request_rules.parse_class_count(output.name, parameter_value(parameters, "classification", 0))
            span = span_of(output.name, parameters, self._regions, owner)
            requested.append(RequestedOutput(output.name, count, span))
            flag = flag_of(parameters, "binary_data", f"output '{output.name}'")
            binary.append(all_binary if flag is None else flag)
        return requested, binary

    def _learn(self, header: bytes, body: InferBody, size: int) -> None:
        """Cache a header if all of its tensors are binary and of datatypes whose values need no check, and none is in
        shared memory, which belongs to one caller: whoever sends the same header is answered from the cache.
        """
        tensors = body.given
        if isinstance(tensors, bytes) or body.id or any(item.into is not None for item in body.requested or ()):
            return
        inputs, offset = [], 0
        for tensor in tensors:
            data = tensor.data
            inputs.append((tensor.name, tensor.datatype, NUMPY_TYPES[tensor.datatype], data.size, offset, data.shape))
            offset += data.nbytes
        known = KnownHeader(size, tuple(inputs), body.requested, body.binary, body.timeout_ns, body.nulls)
        self._headers.put(header, known, len(header))


def _parse_request(text: bytes) -> JsonRequest:
    try:
        return _decode(text)
    except RecursionError:
        raise InvalidInput("the JSON is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"the request is not a valid inference request: {error}") from None


def _pack_floats(item: FlatFloats) -> bytes:
    """Return the list as raw little-endian floats; unlike a NumPy cast, packing refuses values outside the range of
    FP32.
    """
    count = len(item.data)
    if count > MAX_PACKED:
        raise OverflowError
    return _packer(f"<{count}{_CODES[item.datatype]}").pack(*item.data)


def _raw_tensor(body: bytes, signature: Signature, work: RequestWork) -> Tensor:
    """Return the tensor of a request without a JSON part: the model's only input, with the shape of its signature.

    Raises:
        InvalidInput: the model has another number of inputs, the shape is not determined by the byte count,
            or the byte count does not fit.
    """
    if len(signature.inputs) != 1:
        raise InvalidInput(f"a raw request needs a model with one input; this one has {len(signature.inputs)}")
    spec = signature.inputs[0]
    if spec.datatype not in PLAIN:
        work.add_copied(len(body))
    if spec.datatype == "BYTES":
        work.text_bytes(spec.name, len(body))
        element = len(body).to_bytes(4, "little") + body
        return Tensor(spec.name, "BYTES", from_raw(spec.name, "BYTES", (1,) * len(spec.shape), element), len(body))
    itemsize = numpy_type(spec.name, spec.datatype).itemsize
    shape = _infer_shape(spec.shape, len(body) // itemsize, signature.batching, spec.describe())
    return Tensor(spec.name, spec.datatype, from_raw(spec.name, spec.datatype, shape, body))


def _infer_shape(shape: Shape, count: int, batching: bool, described: str) -> Shape:
    """Return the shape of ``count`` elements; the batch is one row unless it is the only free dimension."""
    dims = list(shape)
    free = [index for index, dim in enumerate(dims) if dim < 0]
    if batching and len(free) > 1:
        dims[free.pop(0)] = 1
    if len(free) > 1:
        raise InvalidInput(f"the shape of a raw request is ambiguous for input {described}; send the JSON part")
    for index in free:
        dims[index] = count // max(1, prod(dim for dim in dims if dim >= 0))
    return tuple(dims)
