"""The dialect of SageMaker: ``/ping`` and ``/invocations``, batch transforms, and endpoints with many models.

See "Use Your Own Inference Code with Hosting Services" and "... with Batch Transform" in the SageMaker AI Developer
Guide, ``InvokeEndpoint`` in the API reference for the fields, and ``src/sagemaker_server.cc`` of Triton for binary
tensors.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from starlette.requests import Request
from starlette.responses import Response

from penstock.api.common.work import RequestWork
from penstock.api.http1.answers import error_body
from penstock.api.rest.dialects.base import (
    Dialect,
    DialectSetup,
    Endpoint,
    FaultAnswer,
    InferPath,
    NotAcceptable,
    RowsAnswer,
    RowsBody,
    RowsRequest,
    UnsupportedMediaType,
)
from penstock.api.rest.dialects.media_types import MediaType, choose_type, read_media_type
from penstock.api.rest.dialects.readiness import answers_default
from penstock.api.rest.dialects.sagemaker_models import ModelEndpoints
from penstock.api.rest.dialects.sagemaker_rows import JSON, NPY, READERS, WRITERS, check_charset
from penstock.api.rest.dialects.v2_bodies import V2Bodies, V2Form, has_tensors
from penstock.api.rest.responses import json_response
from penstock.core.errors import Fault, NotReady
from penstock.serving.infer_call import InferCall
from penstock.serving.routing_table import Fields

BINARY: Final = "application/vnd.sagemaker-triton.binary+json"

_ATTRIBUTES: Final = b"x-amzn-sagemaker-custom-attributes"
_INFERENCE_ID: Final = b"x-amzn-sagemaker-inference-id"
_VISIBLE: Final = re.compile(rb"[\x20-\x7e]{1,1024}")
_MOST_MEGABYTES: Final = 100
"""The largest payload of a batch transform."""


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """The media type of an answer, the fields that it takes over from the request, and its ``V2Form`` if it has one."""

    kind: str
    lines: bytes
    v2: object = None


class Sagemaker(Dialect):
    """Predictions of the default model, and of the models that are loaded by request."""

    name: ClassVar[str] = "sagemaker"
    infer_paths: ClassVar[tuple[InferPath, ...]] = (
        InferPath("POST /invocations"),
        InferPath("POST /models/{model}/invoke"),
    )

    def __init__(self, setup: DialectSetup) -> None:
        super().__init__(setup)
        self._options: Mapping[str, Any] = setup.options.get(self.name, {})
        self._models = ModelEndpoints(setup.plane, str(self._options.get("root", "")))
        self._v2 = V2Bodies(setup.plane, BINARY)

    def fault(self, fault: Fault) -> FaultAnswer:
        """See ``Dialect``; in an endpoint with many models, one that is not loaded is unknown, so that SageMaker loads
        it."""
        if self._options.get("multi_model") and fault.kind == NotReady.kind:
            return FaultAnswer(404, error_body(str(fault)))
        return super().fault(fault)

    def accepts_binary(self, fields: Fields) -> bool:
        """See ``Dialect``."""
        kind = fields.get(b"content-type", b"").lower()
        return kind.startswith((BINARY.encode(), NPY.encode()))

    def read(self, request: RowsRequest) -> RowsBody:
        """See ``Dialect``."""
        fields = request.fields
        media = read_media_type(fields.get(b"content-type", JSON.encode()))
        check_charset(media)
        lines = attribute_lines(fields)
        if media.name == BINARY or (media.name == JSON and has_tensors(request.body)):
            body = self._v2.read(request, media)
            return _complete_body(body, AnswerForm(media.name, lines, body.form), fields)
        reader = READERS.get(media.name)
        if reader is None:
            raise UnsupportedMediaType(f"expected content-type {', '.join(READERS)} or {BINARY}")
        kind = choose_answer(media, fields.get(b"accept", b""), len(request.signature.outputs))
        return _complete_body(reader(request, media), AnswerForm(kind, lines), fields)

    def encode(self, call: InferCall, verb: str, form: object, work: RequestWork) -> RowsAnswer:
        """See ``Dialect``."""
        if not isinstance(form, AnswerForm):
            raise TypeError("the form is not one that read has made")
        answer = self._v2.encode(call, form.v2, work) if isinstance(form.v2, V2Form) else WRITERS[form.kind](call, work)
        return RowsAnswer(answer.content, answer.tail, answer.kind, form.lines)

    def endpoints(self) -> Mapping[str, Endpoint]:
        """See ``Dialect``."""
        return {
            "GET /ping": self._ping,
            "GET /execution-parameters": self._execution_parameters,
            "GET /models": self._models.list,
            "POST /models": self._models.load,
            "GET /models/{model}": self._models.show,
            "DELETE /models/{model}": self._models.unload,
        }

    async def _ping(self, _: Request) -> Response:
        """Answer a health check: an endpoint with one model is healthy when it answers, one with many when it lives."""
        plane = self.setup.plane
        healthy = plane.ready() if self._options.get("multi_model") else answers_default(self.setup)
        return Response(status_code=200 if healthy else 503)

    async def _execution_parameters(self, _: Request) -> Response:
        size = min(self.setup.plane.limits.max_json_bytes >> 20, _MOST_MEGABYTES)
        return json_response(
            {
                "MaxConcurrentTransforms": int(self._options.get("max_concurrent_transforms", 1)),
                "BatchStrategy": str(self._options.get("batch_strategy", "MULTI_RECORD")),
                "MaxPayloadInMB": max(1, size),
            }
        )


def choose_answer(media: MediaType, accept: bytes, outputs: int) -> str:
    """Return the type of an answer: the one of the request, unless the client prefers another.

    Raises:
        NotAcceptable: the client takes none that is written.
    """
    offered = [kind for kind in WRITERS if kind != NPY or outputs == 1]
    if media.name in offered:
        offered.remove(media.name)
        offered.insert(0, media.name)
    kind = choose_type(accept, offered)
    if not kind:
        only = "" if outputs == 1 else f" ({NPY} only from models with one output)"
        raise NotAcceptable(f"the answer can be {', '.join(WRITERS)}{only}; accept one of these")
    return kind


def attribute_lines(fields: Fields) -> bytes:
    """Return the custom attributes of a request as a field of its answer, none if they are not visible ASCII."""
    value = fields.get(_ATTRIBUTES, b"")
    return b"%b: %b\r\n" % (_ATTRIBUTES, value) if _VISIBLE.fullmatch(value) else b""


def _complete_body(body: RowsBody, form: AnswerForm, fields: Fields) -> RowsBody:
    """Return a body with the form of its answer, and with the id that SageMaker gave to the request."""
    stated = body.id or fields.get(_INFERENCE_ID, b"").decode("ascii", "replace")
    return RowsBody(body.inputs, form, body.requested, body.timeout_ns, stated, body.defaulted)
