"""Decodes infer requests of the V2 gRPC protocol, raw and typed, to tensors and requested outputs."""

from collections.abc import Mapping
from typing import Any, Final

from penstock.api.common import request_rules
from penstock.api.common.explanations import EXPLAIN, asks_for_explanation
from penstock.api.common.request_rules import NameCheck
from penstock.api.common.work import RequestWork
from penstock.api.grpc.contents import array_of
from penstock.api.grpc.wire import ParsedRequest
from penstock.core.errors import InvalidInput
from penstock.core.frames.terms import DefaultedColumn
from penstock.core.signature import Signature
from penstock.core.tensors import PLAIN, Array, Tensor, element_count, from_raw
from penstock.proto import grpc_service_pb2 as pb
from penstock.serving.requested_outputs import RequestedOutput
from penstock.serving.shared_memory import RegionSpan, SharedRegions

CLOSING: Final = "triton_enable_empty_final_response"
"""The only request parameter with the reserved prefix that callers may send; only streams use it."""

Parameters = Mapping[str, pb.InferParameter]
Input = pb.ModelInferRequest.InferInputTensor
Output = pb.ModelInferRequest.InferRequestedOutputTensor


class InferMessage:
    """A decoded request; ``typed``: it used typed contents; ``closing``: it requests an empty last answer;
    ``defaulted``: where defaults of the model card stand in for missing values; ``explanation``: the parameters of the
    explanation that it asks for, None for a prediction."""

    __slots__ = ("closing", "defaulted", "explanation", "requested", "tensors", "timeout_ns", "typed")

    def __init__(
        self,
        tensors: list[Tensor],
        requested: list[RequestedOutput] | None,
        timeout_ns: int | None,
        typed: bool,
        closing: bool,
        defaulted: tuple[DefaultedColumn, ...] = (),
    ) -> None:
        self.tensors = tensors
        self.requested = requested
        self.timeout_ns = timeout_ns
        self.typed = typed
        self.closing = closing
        self.defaulted = defaulted
        self.explanation: dict[str, Any] | None = None


def decode_message(
    parsed: ParsedRequest, signature: Signature, regions: SharedRegions, work: RequestWork, owner: str = ""
) -> InferMessage:
    """Return the tensors, outputs and parameters of a parsed request; ``owner`` is the caller, whose shared memory
    regions it may name (see ``CallerAccess.owner``).

    Raises:
        InvalidInput: anything about the request contradicts the protocol or the signature.
        TooLarge: it is over one of the limits.
        Unsupported: it asks for shared memory where that is off.
        LargeWork: it has to be decoded on a thread.
    """
    request = parsed.request
    timeout_ns, closing = _read_parameters(request.parameters) if request.parameters else (None, False)
    requested = _requested_outputs(request.outputs, signature, regions, owner) if request.outputs else None
    tensors = _Tensors(parsed, signature, regions, owner, work)
    message = InferMessage(tensors.read(), requested, timeout_ns, tensors.typed, closing)
    message.explanation = read_explanation(request.parameters)
    return message


def read_explanation(parameters: Parameters) -> dict[str, Any] | None:
    """Return the parameters of the explanation that a request asks for, None for a prediction; raises
    ``InvalidInput``."""
    if EXPLAIN not in parameters:
        return None
    values = {name: value_of(parameter) for name, parameter in parameters.items()}
    return values if asks_for_explanation(values) else None


def value_of(parameter: pb.InferParameter | pb.ModelRepositoryParameter) -> Any:
    """Return the value of a parameter, None if it has none."""
    choice = parameter.WhichOneof("parameter_choice")
    return None if choice is None else getattr(parameter, choice)


class _Tensors:
    """Decodes the inputs of one request; checks each against the signature before it reads the data."""

    __slots__ = (
        "_contents",
        "_message",
        "_owner",
        "_raw",
        "_regions",
        "_request",
        "_signature",
        "_text_bytes",
        "_used",
        "_work",
        "typed",
    )

    def __init__(
        self, parsed: ParsedRequest, signature: Signature, regions: SharedRegions, owner: str, work: RequestWork
    ) -> None:
        self.typed = False
        self._text_bytes = 0  # of the tensor that is read
        self._request = parsed.request
        self._message = parsed.message
        self._contents = parsed.contents
        self._raw = parsed.raw_contents
        self._signature = signature
        self._regions = regions
        self._owner = owner
        self._work = work
        self._used = 0  # entries of the raw contents

    def read(self) -> list[Tensor]:
        """Return all inputs, in order."""
        names, tensors = NameCheck(self._signature), []
        if self._raw:
            carried = sum([1 for item in self._request.inputs if not _is_shared(item)])
            if carried < len(self._request.inputs):
                self._regions.path_or_raise()
            if len(self._raw) != carried:
                raise InvalidInput(
                    f"raw_input_contents has {len(self._raw)} entries for {carried} inputs; expected one each"
                )
        for index, item in enumerate(self._request.inputs):
            names.input(item.name)
            self._text_bytes = 0
            array = self._array(index, item)
            tensors.append(Tensor(item.name, item.datatype, array, self._text_bytes))
            self._work.pause()
        return tensors

    def _array(self, index: int, item: Input) -> Array:
        name, datatype, shape = item.name, item.datatype, tuple(item.shape)
        count = element_count(name, shape)
        self._signature.check(name, datatype, shape)
        if datatype == "BYTES":
            self._work.texts(name, count)
        span = _find_span(item, self._regions, self._owner)
        if span is not None:
            self._work.add_copied(span.size)
            self._count_text(item, span.size)
            return from_raw(name, datatype, shape, span.read(), self._work.pause)
        if self._raw:
            raw = self._next_raw(index, item)
            self._count_text(item, len(raw))
            return from_raw(name, datatype, shape, raw, self._work.pause)
        spans = None if self._contents is None else self._contents[index]
        if datatype == "BYTES":
            self._count_text(item, item.ByteSize() if spans is None else sum([stop - start for start, stop in spans]))
        self.typed = self.typed or self._has_contents(index, item)
        return array_of(item, count, self._message, spans, self._work)

    def _count_text(self, item: Input, size: int) -> None:
        """Count the size of the data of an input, if it is text."""
        if item.datatype == "BYTES":
            self._work.text_bytes(item.name, size)
            self._text_bytes = size

    def _has_contents(self, index: int, item: Input) -> bool:
        return bool(item.HasField("contents") if self._contents is None else self._contents[index])

    def _next_raw(self, index: int, item: Input) -> bytes | memoryview:
        """Return the next entry of the raw contents; inputs in shared memory have none."""
        if self._has_contents(index, item) and (self._contents is not None or item.contents.ByteSize()):
            raise InvalidInput(f"input '{item.name}' has typed contents beside raw_input_contents; expected one form")
        raw = self._raw[self._used]
        self._used += 1
        if item.datatype not in PLAIN:
            self._work.add_copied(len(raw))
        return raw


def _find_span(item: Input | Output, regions: SharedRegions, owner: str) -> RegionSpan | None:
    """Return the shared memory of ``owner`` that a tensor's parameters name, None for none."""
    if not _is_shared(item):
        return None
    parameters = item.parameters
    return request_rules.find_span(
        item.name,
        value_of(parameters["shared_memory_region"]),
        value_of(parameters["shared_memory_offset"]) if "shared_memory_offset" in parameters else 0,
        value_of(parameters["shared_memory_byte_size"]) if "shared_memory_byte_size" in parameters else None,
        "classification" in parameters,
        regions,
        owner,
    )


def _is_shared(item: Input | Output) -> bool:
    return bool(item.parameters) and "shared_memory_region" in item.parameters


def _requested_outputs(outputs: Any, signature: Signature, regions: SharedRegions, owner: str) -> list[RequestedOutput]:
    names, requested = NameCheck(signature), []
    for output in outputs:
        names.output(output.name)
        parameters, classes = output.parameters, 0
        if "classification" in parameters:
            classes = request_rules.parse_class_count(output.name, value_of(parameters["classification"]))
        requested.append(RequestedOutput(output.name, classes, _find_span(output, regions, owner)))
    return requested


def _read_parameters(parameters: Parameters) -> tuple[int | None, bool]:
    """Return the time limit in nanoseconds, and whether a closing answer is requested; unknown parameters are ignored.

    ``sequence_*``, ``priority``, ``headers`` and ``binary_data_output`` are known to the protocol and change
    nothing here: no model keeps state between requests, and answers have one form.
    """
    request_rules.check_parameters(parameters, len(parameters), CLOSING)
    timeout_ns = request_rules.timeout_ns(value_of(parameters["timeout"]) if "timeout" in parameters else 0)
    closing = CLOSING in parameters and value_of(parameters[CLOSING]) is True
    return timeout_ns, closing
