"""Tensors to the answers of the V2 gRPC protocol, unary and streamed."""

from typing import Final

from penstock.api.grpc.contents import FIELDS, fill
from penstock.api.grpc.decode import varint
from penstock.api.grpc.errors import Metadata, sentence
from penstock.core.errors import Fault
from penstock.core.tensors import raw_of, to_raw
from penstock.proto import grpc_service_pb2 as pb
from penstock.serving.infer_call import BatchResult, InferCall

FINAL: Final = "triton_final_response"
MOST_SHAPES: Final = 256
"""Shapes of outputs whose description is remembered."""


def infer_response(call: InferCall, typed: bool) -> pb.ModelInferResponse:
    """The answer to a call that has its outputs.

    Raw, unless ``typed`` asks for the other form and every output has it: an answer has one form only, so a
    single FP16 or BF16 output makes all of it raw.
    """
    identity = call.loaded.identity
    response = pb.ModelInferResponse(model_name=identity.model, model_version=identity.version, id=call.id)
    typed = typed and all(tensor.datatype in FIELDS for tensor in call.outputs)
    for index, tensor in enumerate(call.outputs):
        output = response.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.data.shape)
        into = None if call.requested is None else call.requested[index].into
        if into is not None:
            raw = to_raw(tensor.datatype, tensor.data)
            into.put(tensor.name, raw)
            output.parameters["shared_memory_region"].string_param = into.region.name
            output.parameters["shared_memory_byte_size"].int64_param = len(raw)
            if into.offset:
                output.parameters["shared_memory_offset"].int64_param = into.offset
            if not typed:
                response.raw_output_contents.append(b"")  # clients pair them by their places
        elif typed:
            fill(output.contents, tensor)
        else:
            response.raw_output_contents.append(to_raw(tensor.datatype, tensor.data))
    return response


def framed(message: bytes) -> bytes:
    """A message with its prefix: not compressed, and so long."""
    return b"\x00" + len(message).to_bytes(4) + message


class AnswerTemplate:
    """Serialised answers of one version, made of parts that repeat: names, and what outputs of a shape are called."""

    def __init__(self, model: str, version: str) -> None:
        self._begin = pb.ModelInferResponse(model_name=model, model_version=version).SerializeToString()
        self._outputs: dict[tuple[tuple[str, tuple[int, ...]], ...], bytes] = {}

    def answer(self, call: InferCall, typed: bool) -> bytes:
        """The answer to a call that has its outputs, with the prefix it has on the wire; see ``infer_response``."""
        if typed or (
            call.requested is not None and any(requested_output.into is not None for requested_output in call.requested)
        ):
            return framed(infer_response(call, typed).SerializeToString())
        call_id = call.id.encode()
        joint = call.joint
        if joint is not None:
            rows = joint.encoded_cache.get(AnswerTemplate)
            if rows is None:
                rows = joint.encoded_cache[AnswerTemplate] = self._rows(call, joint)
            if rows:
                return framed(b"".join((self._begin, b"\x1a", varint(len(call_id)), call_id, rows[call.place])))
        key = tuple([(tensor.name, tensor.data.shape) for tensor in call.outputs])
        described = self._outputs.get(key) or self._described(call, key)
        parts: list[bytes | memoryview] = [b"", self._begin, b"\x1a", varint(len(call_id)), call_id, described]
        for tensor in call.outputs:
            raw = raw_of(tensor.datatype, tensor.data)
            parts += (b"\x32", varint(len(raw)), raw)
        parts[0] = b"\x00" + sum(map(len, parts)).to_bytes(4)
        return b"".join(parts)

    def _rows(self, call: InferCall, joint: BatchResult) -> list[bytes]:
        """What follows the id in the answers of a joint run, row by row; nothing where rows differ in size."""
        columns = []
        for spec, array in zip(call.loaded.signature.outputs, joint.arrays, strict=True):
            if spec.datatype == "BYTES":
                return []
            raw, size = to_raw(spec.datatype, array), array.nbytes // len(array)
            head = b"\x32" + varint(size)
            columns.append([head + raw[at : at + size] for at in range(0, len(raw), size)] or [head] * len(array))
        key = tuple([(tensor.name, tensor.data.shape) for tensor in call.outputs])
        described = self._outputs.get(key) or self._described(call, key)
        return [b"".join((described, *row)) for row in zip(*columns, strict=True)]

    def _described(self, call: InferCall, key: tuple[tuple[str, tuple[int, ...]], ...]) -> bytes:
        """The outputs of an answer without their values."""
        response = pb.ModelInferResponse()
        for tensor in call.outputs:
            response.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.data.shape)
        if len(self._outputs) >= MOST_SHAPES:
            self._outputs.clear()
        found = self._outputs[key] = response.SerializeToString()
        return found


def stream_answers(response: pb.ModelInferResponse, facts: Metadata, closing: bool) -> list[bytes]:
    """The messages that answer one request of a stream.

    Initial metadata belongs to the stream as a whole, so who answered each request stands in its parameters.
    """
    for key, value in facts:
        response.parameters[key].string_param = value
    if not closing:
        return [_streamed(response)]
    response.parameters[FINAL].bool_param = False
    last = pb.ModelInferResponse(model_name=response.model_name, model_version=response.model_version, id=response.id)
    last.parameters[FINAL].bool_param = True
    return [_streamed(response), _streamed(last)]


def stream_refusal(fault: Fault, call_id: str) -> bytes:
    """The message that answers a failed request of a stream and leaves the stream open."""
    refusal = pb.ModelStreamInferResponse(error_message=sentence(fault))
    refusal.infer_response.id = call_id
    return refusal.SerializeToString()


def _streamed(response: pb.ModelInferResponse) -> bytes:
    return pb.ModelStreamInferResponse(infer_response=response).SerializeToString()
