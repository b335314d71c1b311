"""KServe's V1 protocol: rows as ``instances`` or ``inputs``, answered as ``predictions``, also with ``explanations``.

The protocol is described in KServe's documentation ("V1 protocol") and implemented in its Python server
(``kserve/protocol/rest/v1_endpoints.py``).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Final

from starlette.requests import Request
from starlette.responses import Response

from penstock.api.common.work import RequestWork
from penstock.api.rest.dialects.base import (
    Dialect,
    DialectSetup,
    Endpoint,
    InferPath,
    RowsAnswer,
    RowsBody,
    RowsRequest,
)
from penstock.api.rest.dialects.explained_rows import encode_explanations
from penstock.api.rest.dialects.json_answer import encode_rows
from penstock.api.rest.dialects.json_body import read_object
from penstock.api.rest.dialects.model_reads import ModelReads
from penstock.api.rest.dialects.number_rows import read_float_rows
from penstock.api.rest.responses import json_response
from penstock.core.errors import InvalidInput
from penstock.core.explanations import PREDICTIONS
from penstock.serving.infer_call import InferCall

EXPLAIN: Final = "explain"


class KServeV1(Dialect):
    """Predictions below ``/v1/models``, the list of models, and their readiness."""

    name: ClassVar[str] = "kserve_v1"
    infer_paths: ClassVar[tuple[InferPath, ...]] = (
        InferPath("POST /v1/models/{model}:predict"),
        InferPath("POST /v1/models/{model}:explain", EXPLAIN),
    )

    def __init__(self, setup: DialectSetup) -> None:
        super().__init__(setup)
        self._reads = ModelReads(setup)

    def read(self, request: RowsRequest) -> RowsBody:
        """See ``Dialect``."""
        if request.verb == EXPLAIN:
            document = read_object(request.body, request.work)
            return replace(_read_rows(request, document), explanation=_read_parameters(document))
        rows = read_float_rows(request.body, request.signature)
        return RowsBody(rows) if rows is not None else _read_rows(request, read_object(request.body, request.work))

    def encode(self, call: InferCall, verb: str, form: object, work: RequestWork) -> RowsAnswer:
        """See ``Dialect``."""
        if verb == EXPLAIN:
            return RowsAnswer.of_parts(encode_explanations(call, work))
        return RowsAnswer.of_parts((b'{"predictions":', *encode_rows(call, work), b"}"))

    def endpoints(self) -> Mapping[str, Endpoint]:
        """See ``Dialect``."""
        return {"GET /": self._live, **self._reads.endpoints()}

    async def _live(self, _: Request) -> Response:
        live = self.setup.plane.live
        return json_response({"status": "alive" if live else "stopping"}, 200 if live else 503)


def _read_rows(request: RowsRequest, document: Mapping[str, Any]) -> RowsBody:
    values = document.get("instances", document.get("inputs"))
    if isinstance(values, dict) and "instances" not in document:
        return request.bind_values(values)
    if not isinstance(values, list):
        raise InvalidInput('expected an object with a list "instances" or "inputs", one element for each row')
    return request.bind_instances(values)


def _read_parameters(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of an explanation, {} without any; raises ``InvalidInput``."""
    parameters = document.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise InvalidInput('"parameters" must be an object with the parameters of the explanation')
    return {**parameters, PREDICTIONS: True}
