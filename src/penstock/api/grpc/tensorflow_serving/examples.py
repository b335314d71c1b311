"""Classify and Regress: examples to tensors, and outputs to classes or values."""

from typing import Final

from penstock.api.common.parts import Payload
from penstock.api.common.tensorflow_rules import (
    CLASSIFY,
    REGRESS,
    bind_features,
    check_signature,
    class_labels,
    class_scores,
    find_class_outputs,
    find_value_output,
    value_rows,
)
from penstock.api.common.work import RequestWork, output_too_large
from penstock.api.grpc.decode import InferMessage
from penstock.api.grpc.errors import InvalidMessageBytes
from penstock.api.grpc.framing import add_prefix
from penstock.api.grpc.message_form import AnswerTemplate, MessageForm
from penstock.api.grpc.tensorflow_serving.example_reader import ExampleReader
from penstock.api.grpc.tensorflow_serving.model_spec import read_spec, spec_of, target_of
from penstock.api.grpc.wire import ParsedRequest, Span, read_field
from penstock.core.errors import InvalidInput, TooLarge
from penstock.core.limits import RequestLimits
from penstock.core.protobuf_wire import BYTES
from penstock.core.slices import TEXT_SLICE, PauseWork
from penstock.proto import grpc_service_pb2 as pb
from penstock.proto import tensorflow_serving_pb2 as ts
from penstock.serving.infer_call import InferCall, Servable
from penstock.serving.shared_memory import SharedRegions

MAX_MESSAGE: Final = 4 << 20
"""Maximum bytes of a message of examples; each value becomes an object of Python."""

MAX_FIELDS: Final = 64
"""Maximum number of fields of a request; it has two."""

_MODEL_SPEC, _INPUT = 1, 2


class ParsedExamples(ParsedRequest):
    """A request with examples, which are in ``inputs``, parts of the ``message``."""

    __slots__ = ("inputs",)

    def __init__(self, message: bytes, spec: ts.ModelSpec, inputs: list[Span]) -> None:
        model, version = target_of(spec)
        no_contents: list[bytes] = []
        super().__init__(pb.ModelInferRequest(model_name=model, model_version=version), message, no_contents, None)
        self.inputs = inputs


class ExampleForm(MessageForm):
    """ClassificationRequest and RegressionRequest, which have the same fields; ``classifies`` says which one it is."""

    def __init__(self, classifies: bool) -> None:
        super().__init__(caches_layouts=False)
        self._classifies = classifies

    def parse(self, raw: bytes, pause: PauseWork | None) -> ParsedRequest:
        """See ``MessageForm``."""
        if len(raw) > MAX_MESSAGE:
            raise TooLarge(f"the examples are over the limit of {MAX_MESSAGE} bytes; send fewer at a time, or predict")
        try:
            spec, inputs = _parse(raw)
        except InvalidMessageBytes:
            raise self._malformed() from None
        check_signature(spec.signature_name, CLASSIFY if self._classifies else REGRESS)
        return ParsedExamples(raw, spec, inputs)

    def _malformed(self) -> InvalidInput:
        name = "ClassificationRequest" if self._classifies else "RegressionRequest"
        return InvalidInput(f"the message is not a valid {name}")

    def decode(
        self, parsed: ParsedRequest, loaded: Servable, regions: SharedRegions, work: RequestWork, owner: str
    ) -> InferMessage:
        """See ``MessageForm``."""
        if not isinstance(parsed, ParsedExamples):
            raise TypeError("expected examples")
        if self._classifies:
            find_class_outputs(loaded.signature)  # before the run, not after it
        else:
            find_value_output(loaded.signature)
        layout = loaded.row_layout
        names = frozenset([*layout.columns, *(spec.name for spec in loaded.signature.inputs)])
        try:
            examples = ExampleReader(parsed.message, names, work).read(parsed.inputs)
        except InvalidMessageBytes:
            raise self._malformed() from None
        rows = bind_features(loaded.signature, layout, examples, work)
        return InferMessage(rows.inputs, None, None, False, False, rows.defaulted)

    def template(self, loaded: Servable, limits: RequestLimits) -> AnswerTemplate:
        """See ``MessageForm``."""
        return ExampleAnswers(loaded, limits, self._classifies)


def _parse(message: bytes) -> tuple[ts.ModelSpec, list[Span]]:
    spec = ts.ModelSpec()
    inputs: list[Span] = []
    at = fields = 0
    while at < len(message):
        number, kind, begin, end = read_field(message, at, len(message))
        fields += 1
        if fields > MAX_FIELDS:
            raise TooLarge(f"the request has more than {MAX_FIELDS} fields; expected model_spec and input")
        if kind == BYTES and number == _MODEL_SPEC:
            spec = read_spec(message[begin:end])
        elif kind == BYTES and number == _INPUT:
            inputs.append((begin, end))
        at = end
    return spec, inputs


class ExampleAnswers(AnswerTemplate):
    """Writes the answers of one version to requests with examples."""

    def __init__(self, loaded: Servable, limits: RequestLimits, classifies: bool) -> None:
        self._limits = limits
        self._classifies = classifies
        self._spec = spec_of(loaded.identity.model, loaded.identity.version)

    def answer(self, call: InferCall, typed: bool, pause: PauseWork | None = None) -> Payload:
        """See ``AnswerTemplate``."""
        work = RequestWork(self._limits, pause)
        message = self._classification(call, work) if self._classifies else self._regression(call, work)
        if len(message) > self._limits.max_output_bytes:
            raise output_too_large(self._limits)
        return add_prefix(message)

    def _classification(self, call: InferCall, work: RequestWork) -> bytes:
        response = ts.ClassificationResponse(model_spec=self._spec)
        found = find_class_outputs(call.loaded.signature)
        scores = class_scores(call.outputs, found, work)
        for index, labels in enumerate(class_labels(call.outputs, found)):
            pairs = zip(labels, scores[index].tolist(), strict=True)
            classes = [ts.Class(label=label, score=score) for label, score in pairs]
            response.result.classifications.append(ts.Classifications(classes=classes))
            work.pause()
        return response.SerializeToString()

    def _regression(self, call: InferCall, work: RequestWork) -> bytes:
        response = ts.RegressionResponse(model_spec=self._spec)
        values = value_rows(call.outputs, find_value_output(call.loaded.signature), work).tolist()
        for index, value in enumerate(values):
            response.result.regressions.add(value=value)
            if index % TEXT_SLICE == 0:
                work.pause()
        return response.SerializeToString()
