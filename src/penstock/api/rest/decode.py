"""Infer requests of the V2 REST protocol, JSON and binary tensor extension, to tensors."""

from dataclasses import dataclass
from functools import lru_cache
from math import prod
from struct import Struct
from struct import error as WrongCount  # noqa: N812 - what it means here
from typing import Any, Final

import msgspec
import numpy as np

from penstock.api.rest.messages import (
    MAX_RANK,
    NO_DATA,
    FlatFloats,
    FlatRequest,
    Frame,
    Input,
    Output,
    Parameters,
    Request,
)
from penstock.core.errors import InvalidInput
from penstock.core.signature import RowForm, Signature
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
    shape_text,
)
from penstock.serving.requested_outputs import RequestedOutput
from penstock.serving.shared_memory import Regions, RegionSpan

MAX_PACKED: Final = 4096
"""Longer lists go through NumPy, which needs no argument for each element."""

_CODES: Final = {"FP32": "f", "FP64": "d"}
_FLOATS: Final = {name: NUMPY_TYPES[name] for name in ("FP32", "FP64")}
_JSON_ITEM: Final[dict[str, type]] = {
    "BOOL": bool,
    "FP32": float,
    "FP64": float,
    "BYTES": str,
    **{f"{sign}INT{bits}": int for sign in ("", "U") for bits in (8, 16, 32, 64)},
}

NO_REGIONS: Final = Regions()
"""Shared memory that is off."""


_packer = lru_cache(maxsize=256)(Struct)
_decode = msgspec.json.Decoder(Request).decode
_decode_flat = msgspec.json.Decoder(FlatRequest).decode


@dataclass(slots=True)
class InferBody:
    """A decoded request: ``given`` are its tensors, or the bytes of one row (see ``Signature.row``); ``binary`` says of
    each output (or of all, when ``requested`` is None) how it travels back."""

    id: str
    given: list[Tensor] | bytes
    requested: list[RequestedOutput] | None
    binary: list[bool] | bool
    timeout_ns: int | None


def infer_body(
    body: bytes, header_length: int | None, signature: Signature, regions: Regions = NO_REGIONS
) -> InferBody:
    """Decode one body; ``header_length`` is the Inference-Header-Content-Length header, None if absent.

    Raises:
        InvalidInput: anything about the body contradicts the protocol.
        Unsupported: it asks for shared memory where that is off.
    """
    if header_length is None:
        return (_flat_floats(body, signature.row, regions) if signature.all_floats else None) or _decoded(
            body, b"", regions
        )
    if header_length == 0:
        return InferBody("", [raw_tensor(body, signature)], None, True, None)
    if not 0 < header_length <= len(body):
        raise InvalidInput(f"inference-header-content-length is {header_length}, but the body has {len(body)} bytes")
    header = body[:header_length]
    known = _known.get(header)
    if known is not None and len(body) == header_length + known.size:
        return known.body(body, header_length, signature.row)
    view = memoryview(body)
    found = _decoded(header, view[header_length:], regions)
    _learn(header, found, len(body) - header_length)
    return found


MOST_HEADERS: Final = 256
"""JSON parts of binary requests that are remembered; clients choose them, so their number is bounded."""

LONGEST_HEADER: Final = 4096


@dataclass(frozen=True, slots=True)
class _Header:
    """What the JSON part of a binary request says; the next one with the same need not be parsed."""

    size: int
    inputs: tuple[tuple[str, str, np.dtype[Any], int, int, tuple[int, ...]], ...]
    requested: list[RequestedOutput] | None
    binary: list[bool] | bool
    timeout_ns: int | None

    def body(self, raw: bytes, header_length: int, row: RowForm | None) -> InferBody:
        """A request with this header."""
        if row is not None and len(self.inputs) == 1:
            name, datatype, _, _, _, shape = self.inputs[0]
            if shape == row.shape and name == row.name and datatype == row.datatype:
                return InferBody("", raw[header_length:], self.requested, self.binary, self.timeout_ns)
        tensors = [
            Tensor(name, datatype, np.frombuffer(raw, dtype, count, header_length + offset).reshape(shape))
            for name, datatype, dtype, count, offset, shape in self.inputs
        ]
        return InferBody("", tensors, self.requested, self.binary, self.timeout_ns)


_known: dict[bytes, _Header] = {}


def _learn(header: bytes, found: InferBody, size: int) -> None:
    """Remember a header if all its tensors are binary and of datatypes that need no look at their values."""
    tensors = found.given
    if (
        isinstance(tensors, bytes)
        or found.id
        or len(header) > LONGEST_HEADER
        or sum([tensor.data.nbytes for tensor in tensors]) != size
    ):
        return
    if not all(tensor.datatype in PLAIN for tensor in tensors) or b'"data"' in header or b"shared_memory" in header:
        return
    inputs, offset = [], 0
    for tensor in tensors:
        data = tensor.data
        inputs.append((tensor.name, tensor.datatype, NUMPY_TYPES[tensor.datatype], data.size, offset, data.shape))
        offset += data.nbytes
    if len(_known) >= MOST_HEADERS:
        _known.clear()
    _known[header] = _Header(size, tuple(inputs), found.requested, found.binary, found.timeout_ns)


def _flat_floats(body: bytes, row: RowForm | None, regions: Regions) -> InferBody | None:
    """The commonest request in one pass: flat lists of FP32 or FP64. None for any other, faulty ones included."""
    try:
        request = _decode_flat(body)
        inputs = request.inputs
        if row is not None and len(inputs) == 1:
            item = inputs[0]
            if item.shape == row.dims and item.name == row.name and item.datatype == row.datatype:
                return _framed(request, row.pack(*item.data), regions)
        tensors = [
            Tensor(item.name, item.datatype, np.frombuffer(_packed(item), _FLOATS[item.datatype]).reshape(item.shape))
            for item in inputs
        ]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, ValueError, OverflowError, WrongCount):
        return None  # the general way names what is wrong
    return _framed(request, tensors, regions)


def _packed(item: FlatFloats) -> bytes:
    """The list as raw little-endian floats; unlike a NumPy cast, packing refuses what FP32 cannot hold."""
    count = len(item.data)
    if count > MAX_PACKED:
        raise OverflowError
    return _packer(f"<{count}{_CODES[item.datatype]}").pack(*item.data)


def raw_tensor(body: bytes, signature: Signature) -> Tensor:
    """The one tensor of a request without a JSON part: the model's only input, shaped after its signature.

    Raises:
        InvalidInput: the model has another number of inputs, the shape is not determined by the byte count,
            or the byte count does not fit.
    """
    if len(signature.inputs) != 1:
        raise InvalidInput(f"a raw request needs a model with one input; this one has {len(signature.inputs)}")
    spec = signature.inputs[0]
    if spec.datatype == "BYTES":
        element = len(body).to_bytes(4, "little") + body
        return Tensor(spec.name, "BYTES", from_raw(spec.name, "BYTES", (1,) * len(spec.shape), element))
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


def _decoded(header: bytes | memoryview, binary: bytes | memoryview, regions: Regions) -> InferBody:
    try:
        request = _decode(header)
    except RecursionError:
        raise InvalidInput("the JSON is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"the request is not a valid inference request: {error}") from None
    tensors, offset = [], 0
    for item in request.inputs:
        size = _binary_size(item, len(binary) - offset)
        if item.parameters and "shared_memory_region" in item.parameters:
            tensors.append(_binary_tensor(item, _span(item.name, item.parameters, regions).read()))
        elif size is None:
            tensors.append(_json_tensor(item))
        else:
            tensors.append(_binary_tensor(item, binary[offset : offset + size]))
            offset += size
    if offset != len(binary):
        raise InvalidInput(f"{len(binary) - offset} bytes are left over after the last binary input")
    return _framed(request, tensors, regions)


def _framed(request: Frame, given: list[Tensor] | bytes, regions: Regions) -> InferBody:
    parameters = request.parameters
    if not parameters:
        all_binary, timeout_ns = False, None
    else:
        all_binary = _flag(parameters, "binary_data_output", "the request") or False
        timeout_ns = timeout_parameter(parameters)
    requested, binary = _wishes(request.outputs, all_binary, regions) if request.outputs else (None, all_binary)
    return InferBody(request.id or "", given, requested, binary, timeout_ns)


def _binary_tensor(item: Input, raw: bytes | memoryview) -> Tensor:
    if len(item.shape) > MAX_RANK:
        raise InvalidInput(f"input '{item.name}' has rank {len(item.shape)}; at most {MAX_RANK} is possible")
    return Tensor(item.name, item.datatype, from_raw(item.name, item.datatype, item.shape, raw))


def _binary_size(item: Input, left: int) -> int | None:
    parameters = item.parameters
    if not parameters:
        return None
    size = parameters.get("binary_data_size")
    if size is None:
        return None
    if type(size) is not int or size < 0:
        raise InvalidInput(f"binary_data_size of input '{item.name}' must be a whole number of bytes")
    if item.data is not NO_DATA:
        raise InvalidInput(f"input '{item.name}' has both data and binary_data_size; expected one of them")
    if size > left:
        raise InvalidInput(f"input '{item.name}' announces {size} binary bytes, but only {left} are left in the body")
    return size


def _json_tensor(item: Input) -> Tensor:
    name, datatype, shape = item.name, item.datatype, item.shape
    dtype = numpy_type(name, datatype)
    if datatype in RAW_ONLY:
        raise InvalidInput(f"input '{name}' is {datatype}, which has no JSON form; send it as binary data")
    if item.data is NO_DATA:
        raise InvalidInput(f"input '{name}' has no data")
    count = element_count(name, shape)
    if len(shape) > MAX_RANK:
        raise InvalidInput(f"input '{name}' has rank {len(shape)}; at most {MAX_RANK} is possible")
    array = _array(item, dtype, _nesting(item.data))
    if array.size != count:
        raise InvalidInput(f"input '{name}' of {datatype} {shape_text(shape)} needs {count} elements, got {array.size}")
    return Tensor(name, datatype, array.reshape(shape))


def _array(item: Input, dtype: np.dtype[Any], depth: int) -> Array:
    """Flat or nested data; nested data must have the stated shape itself."""
    name, datatype = item.name, item.datatype
    try:
        values = _decoder(datatype, depth)(item.data)
        with np.errstate(over="raise"):
            array: Array = np.array(values, dtype) if depth else np.array([values], dtype)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"the data of input '{name}' is not {datatype}: {error}") from None
    except (OverflowError, FloatingPointError):
        raise InvalidInput(f"the data of input '{name}' holds a number outside the range of {datatype}") from None
    except ValueError:
        raise InvalidInput(f"the data of input '{name}' is not regular; expected {shape_text(item.shape)}") from None
    if depth > 1 and array.shape != tuple(item.shape) and array.size:
        raise InvalidInput(
            f"the data of input '{name}' has shape {shape_text(array.shape)}; expected {shape_text(item.shape)}"
        )
    return array


def _nesting(data: msgspec.Raw) -> int:
    """How many lists open at the beginning of the data (0 for a bare scalar)."""
    depth = 0
    for byte in memoryview(data):
        if byte == 0x5B:
            depth += 1
        elif byte not in b" \t\r\n":
            break
        if depth > MAX_RANK:
            raise InvalidInput(f"tensor data is nested deeper than {MAX_RANK}")
    return depth


@lru_cache(maxsize=len(_JSON_ITEM) * (MAX_RANK + 1))
def _decoder(datatype: str, depth: int) -> Any:
    shape: Any = _JSON_ITEM[datatype]
    for _ in range(depth):
        shape = list[shape]
    return msgspec.json.Decoder(shape).decode


def _span(name: str, parameters: Parameters, regions: Regions) -> RegionSpan:
    """The shared memory that a tensor's parameters name."""
    regions.require()
    region, offset = parameters["shared_memory_region"], parameters.get("shared_memory_offset", 0)
    size = parameters.get("shared_memory_byte_size")
    if type(region) is not str or type(offset) is not int or type(size) is not int:
        raise InvalidInput(f"the shared memory of '{name}' needs a region and a number of bytes")
    if "binary_data_size" in parameters or parameters.get("classification"):
        raise InvalidInput(f"'{name}' is asked for in shared memory and in another way; expected one of them")
    return regions.span(region, offset, size)


def _into(output: Output, parameters: Parameters, regions: Regions) -> RegionSpan | None:
    return _span(output.name, parameters, regions) if "shared_memory_region" in parameters else None


def _wishes(outputs: list[Output], all_binary: bool, regions: Regions) -> tuple[list[RequestedOutput], list[bool]]:
    requested, binary, seen = [], [], set()
    for output in outputs:
        parameters = output.parameters or {}
        if output.name in seen:
            raise InvalidInput(f"output '{output.name}' is asked for twice")
        seen.add(output.name)
        requested.append(
            RequestedOutput(output.name, _classes(output.name, parameters), _into(output, parameters, regions))
        )
        flag = _flag(parameters, "binary_data", f"output '{output.name}'")
        binary.append(all_binary if flag is None else flag)
    return requested, binary


def _classes(name: str, parameters: Parameters) -> int:
    count = parameters.get("classification", 0)
    if type(count) is not int or count < 0:
        raise InvalidInput(f"classification of output '{name}' must be a whole number of classes")
    return count


def _flag(parameters: Parameters, key: str, owner: str) -> bool | None:
    value = parameters.get(key)
    if value is None or type(value) is bool:
        return value
    raise InvalidInput(f"{key} of {owner} must be true or false")


def timeout_parameter(parameters: Parameters) -> int | None:
    """The request parameter ``timeout`` (microseconds, 0 = none stated) in nanoseconds.

    Raises:
        InvalidInput: not a whole number of microseconds, or a parameter with the reserved prefix ``triton_``.
    """
    for key in parameters:
        if key.startswith("triton_"):
            raise InvalidInput(f"parameter '{key[:64]}' has a reserved name; 'triton_' is not for requests")
    timeout = parameters.get("timeout", 0)
    if type(timeout) is not int or timeout < 0:
        raise InvalidInput("the parameter 'timeout' must be a whole number of microseconds")
    return timeout * 1000 or None
