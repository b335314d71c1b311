"""The dialect of Azure Machine Learning: the paths and bodies of its inference server
(``azureml-inference-server-http``), and of its deployments of MLflow models.

See "Azure Machine Learning inference HTTP server" and "Deploy MLflow models to online endpoints" in its documentation.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

from penstock.api.common.work import RequestWork
from penstock.api.rest.dialects.azure_swagger import describe
from penstock.api.rest.dialects.base import (
    Dialect,
    DialectSetup,
    Endpoint,
    FaultAnswer,
    InferPath,
    RowsAnswer,
    RowsBody,
    RowsRequest,
    UnsupportedMediaType,
    status_of,
)
from penstock.api.rest.dialects.json_answer import encode_rows
from penstock.api.rest.dialects.json_body import read_object
from penstock.api.rest.dialects.media_types import read_media_type
from penstock.api.rest.dialects.readiness import answers_default
from penstock.api.rest.dialects.v2_bodies import V2Bodies, V2Form, has_tensors
from penstock.api.rest.responses import json_response
from penstock.core.errors import Fault, InvalidInput
from penstock.core.frames.records import from_split
from penstock.serving.infer_call import InferCall

_JSON: Final = "application/json"
_REQUEST_ID: Final = b"x-ms-client-request-id"
_EXPECTED: Final = (
    'expected an object with "input_data" (columns and data, or a list of rows) or "data" (a list of rows)'
)


class Azure(Dialect):
    """Predictions of the default model on ``/score``."""

    name: ClassVar[str] = "azure"
    infer_paths: ClassVar[tuple[InferPath, ...]] = (InferPath("POST /score"),)

    def __init__(self, setup: DialectSetup) -> None:
        super().__init__(setup)
        self._v2 = V2Bodies(setup.plane, "")

    def read(self, request: RowsRequest) -> RowsBody:
        """See ``Dialect``."""
        media = read_media_type(request.fields.get(b"content-type", _JSON.encode()))
        if media.name != _JSON:
            raise UnsupportedMediaType(f"expected content-type {_JSON}")
        body = self._v2.read(request, media) if has_tensors(request.body) else read_rows(request)
        stated = body.id or request.fields.get(_REQUEST_ID, b"").decode("ascii", "replace")
        return RowsBody(body.inputs, body.form, body.requested, body.timeout_ns, stated, body.defaulted)

    def encode(self, call: InferCall, verb: str, form: object, work: RequestWork) -> RowsAnswer:
        """See ``Dialect``; rows are answered by their list alone, as Azure's deployments of MLflow models do."""
        if isinstance(form, V2Form):
            return self._v2.encode(call, form, work)
        return RowsAnswer.of_parts(encode_rows(call, work))

    def fault(self, fault: Fault) -> FaultAnswer:
        """See ``Dialect``; the form is that of Azure's server."""
        return FaultAnswer(status_of(fault), orjson.dumps({"message": str(fault)}))

    def endpoints(self) -> Mapping[str, Endpoint]:
        """See ``Dialect``."""
        return {"GET /": self._health, "GET /swagger.json": self._swagger}

    async def _health(self, _: Request) -> Response:
        if answers_default(self.setup):
            return Response("Healthy", media_type="text/plain")
        return Response("Not ready", 503, media_type="text/plain")

    async def _swagger(self, request: Request) -> Response:
        document = describe(request.query_params.get("version", "2"), self.setup.version)
        if document is None:
            return json_response({"message": "the description has the versions 2 and 3"}, 404)
        return json_response(document)


def read_rows(request: RowsRequest) -> RowsBody:
    """Return the rows of a body: ``input_data`` in the split form, as columns or as a list, or a list in ``data``."""
    document = read_object(request.body, request.work, tokens=True)
    data = document.get("input_data", document.get("data"))
    if isinstance(data, list):
        return request.bind_instances(data)
    if not isinstance(data, dict) or "input_data" not in document:
        raise InvalidInput(_EXPECTED)
    return _bind_columns(request, data)


def _bind_columns(request: RowsRequest, data: Mapping[str, Any]) -> RowsBody:
    """Return the rows of an object: in the split form, of which an index is not looked at, or of columns by name."""
    if not {"columns", "data"} <= data.keys() <= {"columns", "data", "index"}:
        return request.bind_values(data)
    columns, rows = data["columns"], data["data"]
    if not isinstance(columns, list) or not isinstance(rows, list):
        raise InvalidInput('"columns" and "data" must be lists')
    return request.bind_frame(from_split(columns, rows, pause=request.work.pause))
