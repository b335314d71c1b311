"""Classify and Regress: examples to tensors, and outputs to classes or values."""

from collections.abc import Sequence
from typing import Any, Final

from google.protobuf.message import DecodeError

from penstock.api.common.parts import Payload
from penstock.api.common.tensorflow_rules import (
    CLASSIFY,
    EXAMPLE_SLICE,
    MAX_EXAMPLES,
    REGRESS,
    Example,
    bind_features,
    check_signature,
    class_labels,
    class_scores,
    find_class_outputs,
    find_value_output,
    merge_context,
    value_rows,
)
from penstock.api.common.work import LargeWork, RequestWork, output_too_large
from penstock.api.grpc.decode import InferMessage
from penstock.api.grpc.framing import add_prefix
from penstock.api.grpc.message_form import AnswerTemplate, MessageForm
from penstock.api.grpc.tensorflow_serving.model_spec import spec_of, target_of
from penstock.api.grpc.wire import SMALL_MESSAGE, ParsedRequest
from penstock.core.errors import InvalidInput, TooLarge
from penstock.core.limits import RequestLimits
from penstock.core.slices import TEXT_SLICE, PauseWork
from penstock.proto import grpc_service_pb2 as pb
from penstock.proto import tensorflow_pb2 as tf
from penstock.proto import tensorflow_serving_pb2 as ts
from penstock.serving.infer_call import InferCall, Servable
from penstock.serving.shared_memory import SharedRegions

MAX_MESSAGE: Final = 4 << 20
"""Maximum bytes of a message of examples: protobuf parses it in one step, and holds the GIL for that."""


class ParsedExamples(ParsedRequest):
    """A request with examples: ``given`` as they were sent."""

    __slots__ = ("given",)

    def __init__(self, message: bytes, spec: ts.ModelSpec, given: ts.Input) -> None:
        model, version = target_of(spec)
        no_contents: list[bytes] = []
        super().__init__(pb.ModelInferRequest(model_name=model, model_version=version), message, no_contents, None)
        self.given = given


class ExampleForm(MessageForm):
    """ClassificationRequest and RegressionRequest, which have the same fields; ``classifies`` says which one it is."""

    def __init__(self, classifies: bool) -> None:
        super().__init__(caches_layouts=False)
        self._classifies = classifies

    def parse(self, raw: bytes, pause: PauseWork | None) -> ParsedRequest:
        """See ``MessageForm``."""
        if len(raw) > MAX_MESSAGE:
            raise TooLarge(f"the examples are over the limit of {MAX_MESSAGE} bytes; send fewer at a time, or predict")
        if pause is None and len(raw) > SMALL_MESSAGE:
            raise LargeWork
        try:
            request = ts.ClassificationRequest.FromString(raw)
        except DecodeError:
            name = "ClassificationRequest" if self._classifies else "RegressionRequest"
            raise InvalidInput(f"the message is not a valid {name}") from None
        check_signature(request.model_spec.signature_name, CLASSIFY if self._classifies else REGRESS)
        return ParsedExamples(raw, request.model_spec, request.input)

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
        rows = bind_features(loaded.signature, loaded.row_layout, _read_examples(parsed.given, work), work)
        return InferMessage(rows.inputs, None, None, False, False, rows.defaulted)

    def template(self, loaded: Servable, limits: RequestLimits) -> AnswerTemplate:
        """See ``MessageForm``."""
        return ExampleAnswers(loaded, limits, self._classifies)


def _read_examples(given: ts.Input, work: RequestWork) -> list[Example]:
    kind = given.WhichOneof("kind")
    context: Example = {}
    if kind == "example_list_with_context":
        listed: Any = given.example_list_with_context.examples
        context = _features(given.example_list_with_context.context)
    else:
        listed = given.example_list.examples
    if len(listed) > MAX_EXAMPLES:
        raise TooLarge(f"the request has more than {MAX_EXAMPLES} examples; use fewer at a time, or predict")
    if work.inline and len(listed) > TEXT_SLICE:
        raise LargeWork
    examples: list[Example] = []
    for index, example in enumerate(listed):
        examples.append(merge_context(context, _features(example), index))
        if index % EXAMPLE_SLICE == 0:
            work.pause()
    return examples


def _features(example: tf.Example) -> Example:
    found: dict[str, Sequence[Any]] = {}
    for name, feature in example.features.feature.items():
        kind = feature.WhichOneof("kind")
        if kind is not None:
            found[name] = getattr(feature, kind).value
    return found


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
