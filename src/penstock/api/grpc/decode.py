"""Infer requests of the V2 gRPC protocol, raw and typed, to tensors and wishes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from google.protobuf.message import DecodeError

from penstock.api.grpc.contents import array_of
from penstock.core.errors import InvalidInput
from penstock.core.signature import RowForm
from penstock.core.tensors import NUMPY_TYPES, PLAIN, Tensor, from_raw, shape_text
from penstock.proto import grpc_service_pb2 as pb
from penstock.serving.requested_outputs import RequestedOutput
from penstock.serving.shared_memory import Regions, RegionSpan

CLOSING: Final = "triton_enable_empty_final_response"
"""The one request parameter with the reserved prefix that callers may send; it matters to streams only."""

Parameters = Mapping[str, pb.InferParameter]
NO_REGIONS: Final = Regions()
"""Shared memory that is off."""
Inputs = pb.ModelInferRequest.InferInputTensor


@dataclass(slots=True)
class InferMessage:
    """A decoded request; ``typed`` says that it used typed contents, ``closing`` that it wants an empty last answer."""

    tensors: list[Tensor]
    requested: list[RequestedOutput] | None
    timeout_ns: int | None
    typed: bool
    closing: bool


def infer_request(raw: bytes) -> pb.ModelInferRequest:
    """Parse one message.

    Raises:
        InvalidInput: the bytes are something else.
    """
    try:
        return pb.ModelInferRequest.FromString(raw)
    except DecodeError:
        raise InvalidInput("the message is not a valid ModelInferRequest") from None


def infer_message(request: pb.ModelInferRequest, regions: Regions = NO_REGIONS) -> InferMessage:
    """Tensors, wishes and parameters of a parsed request.

    Raises:
        InvalidInput: anything about the request contradicts the protocol.
        Unsupported: it asks for shared memory where that is off.
    """
    timeout_ns, closing = _parameters(request.parameters) if request.parameters else (None, False)
    requested = _wishes(request, regions) if request.outputs else None
    if request.raw_input_contents:
        return InferMessage(_raw_tensors(request, regions), requested, timeout_ns, typed=False, closing=closing)
    tensors = [_tensor(item, _copied(item, regions)) for item in request.inputs]
    typed = any(item.HasField("contents") for item in request.inputs)
    return InferMessage(tensors, requested, timeout_ns, typed, closing)


def value_of(parameter: pb.InferParameter | pb.ModelRepositoryParameter) -> Any:
    """The value of a parameter, None if it states none."""
    choice = parameter.WhichOneof("parameter_choice")
    return None if choice is None else getattr(parameter, choice)


def _raw_tensors(request: pb.ModelInferRequest, regions: Regions) -> list[Tensor]:
    """Each input takes the next of the raw contents, but for those in shared memory."""
    raws, inputs = request.raw_input_contents, request.inputs
    memories = [_copied(item, regions) for item in inputs]
    carried = memories.count(None)
    if len(raws) != carried:
        raise InvalidInput(f"raw_input_contents has {len(raws)} entries for {carried} inputs; expected one each")
    contents = iter(raws)
    return [
        _tensor(item, next(contents) if memory is None else memory)
        for item, memory in zip(inputs, memories, strict=True)
    ]


def _copied(item: Inputs, regions: Regions) -> bytes | None:
    """What lies in shared memory for an input, None for none."""
    span = _span(item, regions)
    return None if span is None else span.read()


def _span(item: Inputs | pb.ModelInferRequest.InferRequestedOutputTensor, regions: Regions) -> RegionSpan | None:
    """The shared memory that a tensor's parameters name, None for none."""
    parameters = item.parameters
    if not parameters or "shared_memory_region" not in parameters:
        return None
    regions.require()
    region, size = value_of(parameters["shared_memory_region"]), _whole(parameters, "shared_memory_byte_size", -1)
    if not isinstance(region, str) or size < 0 or ("classification" in parameters):
        raise InvalidInput(f"the shared memory of '{item.name}' needs a region and a number of bytes, and nothing else")
    return regions.span(region, _whole(parameters, "shared_memory_offset", 0), size)


def _whole(parameters: Parameters, key: str, default: int) -> int:
    value = value_of(parameters[key]) if key in parameters else default
    return value if type(value) is int else -1


def _tensor(item: Inputs, raw: bytes | None) -> Tensor:
    name, datatype = item.name, item.datatype
    try:
        if raw is None:
            return Tensor(name, datatype, array_of(item))
        if item.HasField("contents") and item.contents.ByteSize():
            raise InvalidInput(f"input '{name}' has typed contents beside raw_input_contents; expected one form")
        return Tensor(name, datatype, from_raw(name, datatype, tuple(item.shape), raw))
    except ValueError:  # beyond what NumPy can shape, though the number of elements fits
        raise InvalidInput(f"tensor '{name}' has the impossible shape {shape_text(item.shape)}") from None


def _wishes(request: pb.ModelInferRequest, regions: Regions) -> list[RequestedOutput]:
    requested: dict[str, RequestedOutput] = {}
    for output in request.outputs:
        name, parameters = output.name, output.parameters
        if name in requested:
            raise InvalidInput(f"output '{name}' is asked for twice")
        classes = _classes(name, parameters) if parameters else 0
        requested[name] = RequestedOutput(name, classes, _span(output, regions))
    return list(requested.values())


def _classes(name: str, parameters: Parameters) -> int:
    count = value_of(parameters["classification"]) if "classification" in parameters else 0
    if type(count) is not int or count < 0:
        raise InvalidInput(f"classification of output '{name}' must be a whole number of classes")
    return count


def _parameters(parameters: Parameters) -> tuple[int | None, bool]:
    """The time limit in nanoseconds and the wish for a closing answer; what we do not know is ignored.

    ``sequence_*``, ``priority``, ``headers`` and ``binary_data_output`` are known to the protocol and change
    nothing here: no model keeps state between requests, and answers take the form of the request.
    """
    for key in parameters:
        if key.startswith("triton_") and key != CLOSING:
            raise InvalidInput(f"parameter '{key[:64]}' has a reserved name; 'triton_' is not for requests")
    timeout = value_of(parameters["timeout"]) if "timeout" in parameters else 0
    if type(timeout) is not int or timeout < 0:
        raise InvalidInput("the parameter 'timeout' must be a whole number of microseconds")
    closing = CLOSING in parameters and value_of(parameters[CLOSING]) is True
    return timeout * 1000 or None, closing


MOST_LAYOUTS: Final = 256
"""Layouts that are remembered; clients choose them, so their number is bounded."""

LONGEST_LAYOUT: Final = 4096
"""Bytes before the first value of a request that is remembered."""

_ID: Final = b"\x1a"
"""The tag of ``id``, the third field."""

_RAW_CONTENTS: Final = b"\x3a"
"""The tag of ``raw_input_contents``, the last field of a request."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What requests have in common that differ in their ids and the values of their tensors only: everything up to the
    id, which ends at ``id_stop``, from there to the first value, ``heads`` between the values by their places, and what
    all of it says."""

    start: bytes
    id_stop: int
    middle: bytes
    heads: tuple[tuple[int, int, bytes], ...]
    inputs: tuple[tuple[str, str, np.dtype[Any], int, int, tuple[int, ...]], ...]
    target: tuple[str, str]
    requested: list[RequestedOutput] | None
    timeout_ns: int | None

    def id(self, raw: bytes) -> str:
        """The id of a request that is laid out so, "" without one."""
        return raw[len(self.start) : self.id_stop].decode()

    def given(self, raw: bytes, row: RowForm | None) -> list[Tensor] | bytes:
        """The tensors of a request that is laid out so, or the bytes of its one row (see ``Signature.row``)."""
        if row is not None and len(self.inputs) == 1:
            name, datatype, _, _, offset, shape = self.inputs[0]
            if shape == row.shape and name == row.name and datatype == row.datatype:
                return raw[offset:]
        return [
            Tensor(name, datatype, np.frombuffer(raw, dtype, count, offset).reshape(shape))
            for name, datatype, dtype, count, offset, shape in self.inputs
        ]


class Layouts:
    """Remembers how requests were laid out, so that the next of the kind need not be parsed."""

    def __init__(self) -> None:
        self._known: dict[int, Layout] = {}

    def find(self, raw: bytes) -> Layout | None:
        """The layout of a request, None if it is another one than its likes before it."""
        found = self._known.get(len(raw))
        if found is None or not raw.startswith(found.start) or not raw.startswith(found.middle, found.id_stop):
            return None
        if found.id_stop > len(found.start) and not raw[len(found.start) : found.id_stop].isascii():
            return None  # it may be no text
        for begin, end, head in found.heads:
            if raw[begin:end] != head:
                return None
        return found

    def learn(self, raw: bytes, request: pb.ModelInferRequest, message: InferMessage) -> None:
        """Remember how a request was laid out, if its values come last and may be anything."""
        if message.typed or message.closing or not request.raw_input_contents:
            return
        if len(request.raw_input_contents) != len(request.inputs) or any(
            requested_output.into is not None for requested_output in message.requested or ()
        ):
            return  # what is in shared memory may be elsewhere the next time
        if not all(tensor.datatype in PLAIN for tensor in message.tensors):
            return
        at, heads, inputs = len(raw), [], []
        contents: list[bytes] = list(request.raw_input_contents)
        for tensor, content in zip(reversed(message.tensors), reversed(contents), strict=True):
            head = _RAW_CONTENTS + varint(len(content))
            at -= len(content)
            dtype = NUMPY_TYPES[tensor.datatype]
            inputs.append((tensor.name, tensor.datatype, dtype, tensor.data.size, at, tensor.data.shape))
            heads.append((at - len(head), at, head))
            at -= len(head)
            if (
                at < 0
                or raw[at : at + len(head)] != head
                or raw[at + len(head) : at + len(head) + len(content)] != content
            ):
                return  # written in another order, or something follows
        target = request.model_name, request.model_version
        start = pb.ModelInferRequest(model_name=target[0], model_version=target[1]).SerializeToString()
        call_id = request.id.encode()
        if call_id:
            start += _ID + varint(len(call_id))
        id_stop = len(start) + len(call_id)
        if raw[:id_stop] != start + call_id or id_stop > at or at > LONGEST_LAYOUT:
            return
        if len(self._known) >= MOST_LAYOUTS:
            self._known.clear()
        self._known[len(raw)] = Layout(
            start,
            id_stop,
            raw[id_stop:at],
            tuple(heads),
            tuple(reversed(inputs)),
            target,
            message.requested,
            message.timeout_ns,
        )


def varint(number: int) -> bytes:
    """A length as protobuf writes it."""
    if number < 128:
        return bytes((number,))
    parts = bytearray()
    while number >= 128:
        parts.append(number & 127 | 128)
        number >>= 7
    parts.append(number)
    return bytes(parts)
