"""Encodes tensors to answers of the V2 gRPC protocol, unary and streamed."""

from collections.abc import Mapping, Sequence
from typing import Final

from penstock.api.common.answer_rules import in_asked_form
from penstock.api.common.parts import Parts, Payload, size_of
from penstock.api.common.work import INLINE_BYTES, LargeWork, RequestWork, output_too_large
from penstock.api.grpc.contents import FIELDS, fill
from penstock.api.grpc.errors import caller_text
from penstock.api.grpc.framing import PREFIX, add_prefix, in_parts, without_prefix
from penstock.api.grpc.message_form import AnswerTemplate
from penstock.api.grpc.typed_parts import contents_of, delimit
from penstock.core.bounded_cache import BoundedCache
from penstock.core.errors import Fault
from penstock.core.limits import RequestLimits
from penstock.core.protobuf_wire import encode_varint
from penstock.core.slices import PauseWork
from penstock.core.tensors import NUMPY_TYPES, Tensor, raw_of, raw_rows, to_raw
from penstock.core.traces.context import TRACERESPONSE
from penstock.proto import grpc_service_pb2 as pb
from penstock.serving.call_trace import CallTrace
from penstock.serving.infer_call import BatchResult, InferCall
from penstock.serving.shared_memory import RegionSpan

FINAL: Final = "triton_final_response"

MAX_DESCRIPTIONS: Final = 256
MAX_DESCRIPTION_BYTES: Final = 1 << 20
"""Maximum number of cached output descriptions, and their bytes: callers choose which outputs and how many rows."""

SMALL: Final = 2048
"""Maximum elements of the outputs of an answer that is encoded in one step."""

_OUTPUTS: Final = 5
"""The field of a ModelInferResponse that holds the outputs."""

_CONTENTS: Final = 5
"""The field of an output that holds its typed contents."""

_ID: Final = b"\x1a"
_RAW: Final = b"\x32"
"""The tags of id and raw_output_contents in a ModelInferResponse."""

Description = tuple[tuple[str, str, tuple[int, ...]], ...]
"""Name, datatype and shape of each output."""


def infer_response(call: InferCall, typed: bool, work: RequestWork) -> pb.ModelInferResponse:
    """Return the answer to a call that has its outputs.

    Raw, unless ``typed`` asks for the other form and every output has it: an answer has one form only, so a
    single FP16 or BF16 output makes all of it raw.

    Raises:
        InvalidInput: an output cannot be had in the form that was asked for.
        TooLarge: the answer is over one of the limits.
        LargeWork: it has to be encoded on a thread.
    """
    identity = call.loaded.identity
    response = pb.ModelInferResponse(model_name=identity.model, model_version=identity.version, id=call.id)
    tensors = [in_asked_form(call, index, work) for index in range(len(call.outputs))]
    typed = typed and all(tensor.datatype in FIELDS for tensor in tensors)
    for index, tensor in enumerate(tensors):
        into = None if call.requested is None else call.requested[index].into
        output = response.outputs.add()
        _describe(output, tensor, into, work)
        if into is not None:
            if not typed:
                response.raw_output_contents.append(b"")  # clients pair them by their places
        elif typed:
            if tensor.datatype != "BYTES":
                work.add_typed(tensor.name, tensor.data.size)
            fill(output.contents, tensor)
        else:
            work.add_copied(tensor.data.nbytes)
            response.raw_output_contents.append(to_raw(tensor.datatype, tensor.data, work.pause))
    if response.ByteSize() > work.limits.max_output_bytes:
        raise output_too_large(work.limits)
    return response


def _describe(
    output: pb.ModelInferResponse.InferOutputTensor, tensor: Tensor, into: RegionSpan | None, work: RequestWork
) -> None:
    """Describe an output without its contents; write the values to shared memory if requested."""
    output.name, output.datatype = tensor.name, tensor.datatype
    output.shape.extend(tensor.data.shape)
    if into is None:
        return
    if work.inline and tensor.data.nbytes > INLINE_BYTES:
        raise LargeWork
    raw = to_raw(tensor.datatype, tensor.data, work.pause, into.size)
    into.put(tensor.name, raw)
    output.parameters["shared_memory_region"].string_param = into.region.name
    output.parameters["shared_memory_byte_size"].int64_param = len(raw)
    if into.offset:
        output.parameters["shared_memory_offset"].int64_param = into.offset


def answer_parameters(parameters: Mapping[str, pb.InferParameter]) -> bytes:
    """Return the parameters of an answer, as bytes that may follow its other fields."""
    response = pb.ModelInferResponse()
    for name, value in parameters.items():
        response.parameters[name].CopyFrom(value)
    return response.SerializeToString()


def explanation_parameters(call: InferCall) -> bytes:
    """Return what says how an explanation was made, as bytes that may follow the other fields of its answer; none for a
    prediction."""
    record = call.explanation
    if record is None:
        return b""
    found: dict[str, pb.InferParameter] = {}
    for name, value in record.parameters.items():
        if isinstance(value, bool):
            found[name] = pb.InferParameter(bool_param=value)
        elif isinstance(value, int):
            found[name] = pb.InferParameter(int64_param=value)
        else:
            found[name] = pb.InferParameter(string_param=value)
    return answer_parameters(found)


def with_more(answer: Payload, more: bytes) -> Payload:
    """Return a framed message with more fields at its end."""
    size = size_of(answer) - PREFIX + len(more)
    return in_parts((b"\x00" + size.to_bytes(4), *without_prefix(answer), more), size)


class _SmallAnswer:
    """The answers of one version whose few, plain outputs have the same names, types and shapes: all bytes but the id
    and the values.
    """

    __slots__ = ("_begin", "_dtypes", "_heads", "_id_bytes", "_names", "_shapes", "_size", "_start")

    def __init__(self, begin: bytes, described: bytes, tensors: list[Tensor]) -> None:
        self._names = [tensor.name for tensor in tensors]
        self._dtypes = [tensor.data.dtype for tensor in tensors]
        self._shapes = [tensor.data.shape for tensor in tensors]
        self._heads = [_RAW + encode_varint(tensor.data.nbytes) for tensor in tensors]
        self._size = len(begin) + sum([len(described), *map(len, self._heads), *(item.data.nbytes for item in tensors)])
        self._heads[0] = described + self._heads[0]
        self._begin = begin
        self._id_bytes = -1
        self._start = b""

    def fits(self, tensors: list[Tensor]) -> bool:
        """Whether these outputs have such an answer."""
        names, dtypes, shapes = self._names, self._dtypes, self._shapes
        if len(tensors) != len(names):
            return False
        for index, tensor in enumerate(tensors):
            data = tensor.data
            if tensor.name != names[index] or data.dtype is not dtypes[index] or data.shape != shapes[index]:
                return False
        return True

    def write(self, call_id: bytes, tensors: list[Tensor], limits: RequestLimits) -> bytes:
        """Return the framed answer of these outputs, which fit; raises ``TooLarge``."""
        if len(call_id) != self._id_bytes:
            self._set_id_bytes(len(call_id), limits)
        parts = [self._start, call_id]
        for index, tensor in enumerate(tensors):
            parts.append(self._heads[index])
            parts.append(tensor.data.tobytes())
        return b"".join(parts)

    def _set_id_bytes(self, count: int, limits: RequestLimits) -> None:
        field = _ID + encode_varint(count)
        size = self._size + len(field) + count
        if size > limits.max_output_bytes:
            raise output_too_large(limits)
        self._start = b"\x00" + size.to_bytes(4) + self._begin + field
        self._id_bytes = count


class GrpcAnswerTemplate(AnswerTemplate):
    """Builds serialised answers of one version from cached parts: names, and descriptions of outputs by shape."""

    __slots__ = ("_begin", "_descriptions", "_limits", "_small")

    def __init__(self, model: str, version: str, limits: RequestLimits) -> None:
        self._begin = pb.ModelInferResponse(model_name=model, model_version=version).SerializeToString()
        self._descriptions: BoundedCache[Description, bytes] = BoundedCache(MAX_DESCRIPTIONS, MAX_DESCRIPTION_BYTES)
        self._limits = limits
        self._small: _SmallAnswer | None = None  # the last one

    def answer(self, call: InferCall, typed: bool, pause: PauseWork | None = None) -> Payload:
        """Return the framed answer to a call that has its outputs; content and errors as ``infer_response``.

        Large outputs are not copied into it. Without a ``pause``, the caller is the event loop: a long answer raises
        ``LargeWork``.
        """
        if typed and pause is None:
            return add_prefix(infer_response(call, typed, RequestWork(self._limits, None)).SerializeToString())
        if typed and pause is not None:
            return self._typed_answer(call, pause)
        joint = call.batch_result
        if joint is not None:
            rows = joint.encoded_cache.get(GrpcAnswerTemplate)
            if rows is None:
                rows = joint.encoded_cache[GrpcAnswerTemplate] = self._rows(call, joint)
            if rows:
                call_id = call.id.encode()
                return add_prefix(b"".join((self._begin, _ID, encode_varint(len(call_id)), call_id, rows[call.place])))
        if pause is None and _is_plain(call):
            small = self._small_answer(call.outputs)
            if small is not None:
                return small.write(call.id.encode(), call.outputs, self._limits)
        return self._own_answer(call, pause)

    def _small_answer(self, tensors: list[Tensor]) -> _SmallAnswer | None:
        """Return the constant bytes of the answer, None if it is large or an output needs conversion."""
        small = self._small
        if small is not None and small.fits(tensors):
            return small
        if not tensors or not _are_small(tensors):
            return None
        self._small = small = _SmallAnswer(self._begin, self._description(tensors), tensors)
        return small

    def _own_answer(self, call: InferCall, pause: PauseWork | None) -> Payload:
        work = RequestWork(self._limits, pause)
        tensors = [in_asked_form(call, index, work) for index in range(len(call.outputs))]
        placed = _find_shared_outputs(call)
        work.add_copied(sum([item.data.nbytes for index, item in enumerate(tensors) if index not in placed]))
        described = _region_outputs(call, tensors, work) if placed else self._description(tensors)
        call_id = call.id.encode()
        parts: list[bytes | memoryview] = [b"", self._begin, _ID, encode_varint(len(call_id)), call_id, described]
        for index, tensor in enumerate(tensors):
            raw = (
                b""
                if index in placed
                else raw_of(tensor.datatype, tensor.data, work.pause, self._limits.max_output_bytes)
            )
            parts += (_RAW, encode_varint(len(raw)), raw)
        size = sum(map(len, parts))
        if size > self._limits.max_output_bytes:
            raise output_too_large(self._limits)
        parts[0] = b"\x00" + size.to_bytes(4)
        return in_parts(parts, size)

    def _typed_answer(self, call: InferCall, pause: PauseWork) -> Payload:
        """Return the typed answer to a call of any size: protobuf would hold the GIL while it writes."""
        work = RequestWork(self._limits, pause)
        tensors = [in_asked_form(call, index, work) for index in range(len(call.outputs))]
        if not all(tensor.datatype in FIELDS for tensor in tensors):
            return self._own_answer(call, pause)
        call_id = call.id.encode()
        parts: list[bytes | memoryview] = [b"", self._begin, _ID, encode_varint(len(call_id)), call_id]
        for index, tensor in enumerate(tensors):
            parts += delimit(_OUTPUTS, _typed_output(call, index, tensor, work))
        size = sum(map(len, parts))
        if size > self._limits.max_output_bytes:
            raise output_too_large(self._limits)
        parts[0] = b"\x00" + size.to_bytes(4)
        return in_parts(parts, size)

    def _rows(self, call: InferCall, joint: BatchResult) -> list[bytes]:
        """Return the bytes after the id in the answers of a batch run, by row; none if rows differ in size or are
        large.
        """
        columns = []
        for spec, array in zip(call.loaded.signature.outputs, joint.arrays, strict=True):
            if spec.datatype == "BYTES" or array.nbytes > INLINE_BYTES:
                return []
            head = _RAW + encode_varint(array.nbytes // len(array))
            columns.append([head + row for row in raw_rows(to_raw(spec.datatype, array), len(array))])
        described = self._description(call.outputs)
        return [b"".join((described, *row)) for row in zip(*columns, strict=True)]

    def _description(self, tensors: list[Tensor]) -> bytes:
        """Return the description of the outputs without values."""
        key = tuple([(tensor.name, tensor.datatype, tensor.data.shape) for tensor in tensors])
        description = self._descriptions.get(key)
        if description is None:
            response = pb.ModelInferResponse()
            for name, datatype, shape in key:
                response.outputs.add(name=name, datatype=datatype, shape=shape)
            description = response.SerializeToString()
            self._descriptions.put(key, description, 2 * len(description))
        return description


def _typed_output(call: InferCall, index: int, tensor: Tensor, work: RequestWork) -> Parts:
    """Return an output with typed contents, unless it is in shared memory."""
    into = None if call.requested is None else call.requested[index].into
    head = pb.ModelInferResponse.InferOutputTensor()
    _describe(head, tensor, into, work)
    parts: list[bytes | memoryview] = [head.SerializeToString()]
    if into is None:
        if tensor.datatype != "BYTES":
            work.add_typed(tensor.name, tensor.data.size)
        contents = contents_of(tensor, work.pause)
        parts += delimit(_CONTENTS, contents) if contents else []
    return parts


def _are_small(tensors: list[Tensor]) -> bool:
    """Whether outputs have few elements, in the form in which they are sent."""
    elements = 0
    for tensor in tensors:
        elements += tensor.data.size
        if tensor.datatype == "BYTES" or tensor.data.dtype != NUMPY_TYPES[tensor.datatype]:
            return False
    return elements < SMALL


def _is_plain(call: InferCall) -> bool:
    """Whether every output is requested in its plain form."""
    for item in call.requested or ():  # noqa: SIM110 - a generator for each answer would cost more
        if item.classes or item.into is not None:
            return False
    return True


def _find_shared_outputs(call: InferCall) -> frozenset[int]:
    """Return the indices of the outputs that go to shared memory."""
    if call.requested is None:
        return frozenset()
    return frozenset(index for index, item in enumerate(call.requested) if item.into is not None)


def _region_outputs(call: InferCall, tensors: list[Tensor], work: RequestWork) -> bytes:
    """Return the outputs without values, after writing those that go to shared memory."""
    response = pb.ModelInferResponse()
    for index, tensor in enumerate(tensors):
        into = None if call.requested is None else call.requested[index].into
        _describe(response.outputs.add(), tensor, into, work)
    return response.SerializeToString()


NOT_FINAL: Final = answer_parameters({FINAL: pb.InferParameter(bool_param=False)})
"""What an answer says after which a closing one follows."""


def stream_message(answer: Payload, more: Sequence[bytes], closing: bytes = b"") -> Payload:
    """Return the message of a stream for an answer, and the closing message if one follows; both framed."""
    size = size_of(answer) - PREFIX + sum(map(len, more))
    head = b"\x12" + encode_varint(size)
    prefix = b"\x00" + (len(head) + size).to_bytes(4)
    return in_parts((prefix, head, *without_prefix(answer), *more, closing), size)


def closing_answer(call: InferCall) -> bytes:
    """Return the framed, empty message that follows the answer of a request that asks for one."""
    identity = call.loaded.identity
    last = pb.ModelInferResponse(model_name=identity.model, model_version=identity.version, id=call.id)
    last.parameters[FINAL].bool_param = True
    return add_prefix(pb.ModelStreamInferResponse(infer_response=last).SerializeToString())


def trace_parameter(trace: CallTrace) -> bytes:
    """Return the trace of a request as a parameter of its streamed answer, as bytes that may follow the other fields;
    none if it is not exported."""
    response = trace.response
    if not response:
        return b""
    return answer_parameters({TRACERESPONSE.decode(): pb.InferParameter(string_param=response.decode())})


def stream_refusal(fault: Fault, call_id: str, parameters: bytes = b"") -> bytes:
    """Return the framed message for a failed request of a stream, which stays open; ``parameters`` are those of an
    answer, as bytes."""
    refusal = pb.ModelStreamInferResponse(error_message=caller_text(fault))
    refusal.infer_response.id = call_id
    refusal.infer_response.MergeFromString(parameters)
    return add_prefix(refusal.SerializeToString())
