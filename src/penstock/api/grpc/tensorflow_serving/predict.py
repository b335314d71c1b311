"""Predict: PredictRequest to tensors, and outputs to PredictResponse."""

from typing import Final

from penstock.api.common.answer_rules import in_asked_form
from penstock.api.common.parts import Payload
from penstock.api.common.request_rules import NameCheck
from penstock.api.common.tensorflow_rules import DEFAULT_SIGNATURE, PREDICT, check_signature
from penstock.api.common.work import LargeWork, RequestWork, output_too_large
from penstock.api.grpc.decode import InferMessage
from penstock.api.grpc.errors import InvalidMessageBytes
from penstock.api.grpc.framing import in_parts
from penstock.api.grpc.message_form import AnswerTemplate, MessageForm
from penstock.api.grpc.tensorflow_serving.model_spec import read_spec, spec_of, target_of
from penstock.api.grpc.tensorflow_serving.tensor_reader import TensorProtoReader
from penstock.api.grpc.tensorflow_serving.tensor_writer import map_entry
from penstock.api.grpc.wire import MAX_NAME, ParsedRequest, not_a_request, read_field
from penstock.core.errors import InvalidInput, TooLarge
from penstock.core.limits import RequestLimits
from penstock.core.protobuf_wire import BYTES
from penstock.core.signature import Signature
from penstock.core.slices import PauseWork
from penstock.core.tensors import Tensor
from penstock.proto import grpc_service_pb2 as pb
from penstock.proto import tensorflow_serving_pb2 as ts
from penstock.serving.infer_call import InferCall, Servable
from penstock.serving.requested_outputs import RequestedOutput
from penstock.serving.shared_memory import SharedRegions

MAX_FIELDS: Final = 4096
"""Maximum number of fields of a request: inputs and names of outputs."""

INLINE_FIELDS: Final = 256
"""Maximum number of them to read on the event loop."""

_MODEL_SPEC, _INPUTS, _OUTPUT_FILTER = 1, 2, 3
_OUTPUTS: Final = 1
"""The field of a PredictResponse that holds the outputs."""

InputSpan = tuple[str, int, int]
"""The name of an input, and the begin and end of its TensorProto in the message."""


class ParsedPredict(ParsedRequest):
    """A PredictRequest: ``message`` with the places of its ``tensors``, and the names of the ``outputs`` asked for."""

    __slots__ = ("outputs", "tensors")

    def __init__(self, message: bytes, spec: ts.ModelSpec, tensors: list[InputSpan], outputs: list[str]) -> None:
        model, version = target_of(spec)
        no_contents: list[bytes] = []
        super().__init__(pb.ModelInferRequest(model_name=model, model_version=version), message, no_contents, None)
        self.tensors = tensors
        self.outputs = outputs


class PredictForm(MessageForm):
    """PredictRequest and PredictResponse."""

    def __init__(self) -> None:
        super().__init__(caches_layouts=False)

    def parse(self, raw: bytes, pause: PauseWork | None) -> ParsedRequest:
        """See ``MessageForm``."""
        try:
            return _parse(raw, pause)
        except InvalidMessageBytes:
            raise InvalidInput("the message is not a valid PredictRequest") from None

    def decode(
        self, parsed: ParsedRequest, loaded: Servable, regions: SharedRegions, work: RequestWork, owner: str
    ) -> InferMessage:
        """See ``MessageForm``."""
        if not isinstance(parsed, ParsedPredict):
            raise TypeError("expected a PredictRequest")
        try:
            tensors = _read_tensors(parsed, loaded.signature, work)
        except InvalidMessageBytes:
            raise InvalidInput("the message is not a valid PredictRequest") from None
        requested = _requested_outputs(parsed.outputs, loaded.signature) if parsed.outputs else None
        return InferMessage(tensors, requested, None, False, False)

    def template(self, loaded: Servable, limits: RequestLimits) -> AnswerTemplate:
        """See ``MessageForm``."""
        return PredictAnswers(loaded.identity.model, loaded.identity.version, limits)


def _parse(message: bytes, pause: PauseWork | None) -> ParsedPredict:
    spec = ts.ModelSpec()
    tensors: list[InputSpan] = []
    outputs: list[str] = []
    at = fields = 0
    while at < len(message):
        number, kind, begin, end = read_field(message, at, len(message))
        fields += 1
        if fields > MAX_FIELDS:
            raise TooLarge(f"the request has more than {MAX_FIELDS} fields; expected one for each input")
        if pause is None and fields > INLINE_FIELDS:
            raise LargeWork
        if kind == BYTES and number == _MODEL_SPEC:
            spec = read_spec(message[begin:end])
        elif kind == BYTES and number == _INPUTS:
            tensors.append(_parse_entry(message, begin, end))
        elif kind == BYTES and number == _OUTPUT_FILTER:
            outputs.append(_name(message[begin:end]))
        at = end
    check_signature(spec.signature_name, PREDICT)
    return ParsedPredict(message, spec, tensors, outputs)


def _parse_entry(message: bytes, start: int, stop: int) -> InputSpan:
    """Return the name and the place of the tensor in an entry of the map of inputs."""
    name, place, at = "", (stop, stop), start
    for _ in range(2):
        if at < stop:
            number, kind, begin, end = read_field(message, at, stop)
            if kind == BYTES and number == 1:
                name = _name(message[begin:end])
            elif kind == BYTES and number == 2:
                place = begin, end
            at = end
    if at != stop:
        raise not_a_request()
    return name, place[0], place[1]


def _name(raw: bytes) -> str:
    if len(raw) > MAX_NAME:
        raise InvalidInput(f"the name of a tensor has more than {MAX_NAME} bytes")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise not_a_request() from None


def _read_tensors(parsed: ParsedPredict, signature: Signature, work: RequestWork) -> list[Tensor]:
    names = NameCheck(signature)
    tensors: list[Tensor] = []
    for name, begin, end in parsed.tensors:
        names.input(name)
        tensors.append(TensorProtoReader(name, parsed.message, work).read(begin, end, signature))
        work.pause()
    return tensors


def _requested_outputs(names: list[str], signature: Signature) -> list[RequestedOutput]:
    checked = NameCheck(signature)
    for name in names:
        checked.output(name)
    return [RequestedOutput(name) for name in names]


class PredictAnswers(AnswerTemplate):
    """Writes the PredictResponse of one version."""

    def __init__(self, model: str, version: str, limits: RequestLimits) -> None:
        self._limits = limits
        self._spec = ts.PredictResponse(model_spec=spec_of(model, version, DEFAULT_SIGNATURE)).SerializeToString()

    def answer(self, call: InferCall, typed: bool, pause: PauseWork | None = None) -> Payload:
        """See ``AnswerTemplate``."""
        work = RequestWork(self._limits, pause)
        parts: list[bytes | memoryview] = [b""]
        for index in range(len(call.outputs)):
            parts += map_entry(_OUTPUTS, in_asked_form(call, index, work), work)
        parts.append(self._spec)
        size = sum(map(len, parts))
        if size > self._limits.max_output_bytes:
            raise output_too_large(self._limits)
        parts[0] = b"\x00" + size.to_bytes(4)
        return in_parts(parts, size)
