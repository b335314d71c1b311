"""The dialect of Vertex AI: health checks and predictions on the two paths that the platform chooses.

See "Custom container requirements for inference" in its documentation; the redirect of single requests and the type of
bodies with binary tensors are those of Triton (``src/vertex_ai_server.cc``).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Final

from starlette.requests import Request
from starlette.responses import Response

from penstock.api.common import request_rules
from penstock.api.common.work import RequestWork
from penstock.api.rest.dialects.base import (
    Dialect,
    DialectSetup,
    Endpoint,
    InferPath,
    RowsAnswer,
    RowsBody,
    RowsRequest,
    UnsupportedMediaType,
)
from penstock.api.rest.dialects.json_answer import encode_rows
from penstock.api.rest.dialects.json_body import read_object
from penstock.api.rest.dialects.media_types import read_media_type
from penstock.api.rest.dialects.number_rows import read_float_rows
from penstock.api.rest.dialects.readiness import answers_default
from penstock.api.rest.dialects.v2_bodies import V2Bodies, V2Form, has_tensors
from penstock.api.rest.infer_path import infer_target
from penstock.api.rest.responses import json_response
from penstock.core.errors import InvalidInput, Unauthorised
from penstock.serving.infer_call import InferCall
from penstock.serving.routing_table import Fields, Target

BINARY: Final = "application/vnd.vertex-ai-triton.binary+json"
REDIRECT: Final = b"x-vertex-ai-triton-redirect"
"""The field by which one request is for another V2 path than the default model's."""

_JSON: Final = "application/json"
_HEALTH: Final = "GET {health_route}"
_PREDICT: Final = "POST {predict_route}"


class Vertex(Dialect):
    """Predictions of the default model, or of the one that a request is redirected to."""

    name: ClassVar[str] = "vertex"
    infer_paths: ClassVar[tuple[InferPath, ...]] = (InferPath(_PREDICT),)

    def __init__(self, setup: DialectSetup) -> None:
        super().__init__(setup)
        options = setup.options.get(self.name, {})
        self._paths = {
            _HEALTH: str(options.get("health_route", "/health")),
            _PREDICT: str(options.get("predict_route", "/predict")),
        }
        self._v2 = V2Bodies(setup.plane, BINARY)

    def path_of(self, endpoint: str) -> str:
        """See ``Dialect``."""
        return self._paths[endpoint]

    def find_target(self, verb: str, values: Mapping[str, str], fields: Fields) -> Target:
        """See ``Dialect``; a redirect leads to predictions only, never to what controls the gateway."""
        path = fields.get(REDIRECT)
        if path is None:
            return "", ""
        target = infer_target(b"/" + path)
        if target is None:
            text = REDIRECT.decode()
            raise Unauthorised(f"{text} leads only to predictions: v2/models/MODEL[/versions/VERSION]/infer")
        return target

    def accepts_binary(self, fields: Fields) -> bool:
        """See ``Dialect``."""
        return fields.get(b"content-type", b"").lower().startswith(BINARY.encode())

    def read(self, request: RowsRequest) -> RowsBody:
        """See ``Dialect``."""
        media = read_media_type(request.fields.get(b"content-type", _JSON.encode()))
        if media.name not in (_JSON, BINARY):
            raise UnsupportedMediaType(f"expected content-type {_JSON} or {BINARY}")
        if media.name == BINARY or REDIRECT in request.fields or has_tensors(request.body):
            return self._v2.read(request, media)
        if b'"parameters"' not in request.body:
            rows = read_float_rows(request.body, request.signature)
            if rows is not None:
                return RowsBody(rows)
        return _read_instances(request, read_object(request.body, request.work))

    def encode(self, call: InferCall, verb: str, form: object, work: RequestWork) -> RowsAnswer:
        """See ``Dialect``."""
        if isinstance(form, V2Form):
            return self._v2.encode(call, form, work)
        return RowsAnswer.of_parts((b'{"predictions":', *encode_rows(call, work), b"}"))

    def endpoints(self) -> Mapping[str, Endpoint]:
        """See ``Dialect``."""
        return {_HEALTH: self._health}

    async def _health(self, _: Request) -> Response:
        healthy = answers_default(self.setup)
        return json_response({"ready": healthy}, 200 if healthy else 503)


def _read_instances(request: RowsRequest, document: Mapping[str, Any]) -> RowsBody:
    """Read rows; of the parameters, ``timeout`` counts as it does in V2, and others are for models of other servers."""
    instances, parameters = document.get("instances"), document.get("parameters") or {}
    if not isinstance(instances, list):
        raise InvalidInput('expected an object with a list "instances", one element for each row')
    if not isinstance(parameters, dict):
        raise InvalidInput('"parameters" must be an object')
    timeout_ns = request_rules.timeout_ns(parameters.get("timeout") or 0)
    return replace(request.bind_instances(instances), timeout_ns=timeout_ns)
