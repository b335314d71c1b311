"""MLflow's scoring protocol: frames and tensors to ``/invocations``, as MLflow's scoring server takes them.

The forms, errors and statuses are those of ``mlflow/pyfunc/scoring_server`` of MLflow 3, and answers have the form that
its flavour for ONNX models gives them.
"""

from collections.abc import Mapping
from typing import ClassVar, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

from penstock.api.common.work import LargeWork, RequestWork
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
from penstock.api.rest.dialects.json_answer import encode_by_name, encode_records
from penstock.api.rest.dialects.json_body import INLINE_ROWS
from penstock.api.rest.dialects.mlflow_json import read_json
from penstock.api.rest.dialects.readiness import answers_default
from penstock.core.errors import Fault
from penstock.core.frames.csv_text import from_csv
from penstock.serving.infer_call import InferCall
from penstock.serving.routing_table import Fields

_JSON: Final = "application/json"
_CSV: Final = ("text/csv", "application/csv")

_ERROR_CODES: Final[dict[int, str]] = {
    400: "BAD_REQUEST",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    409: "ABORTED",
    429: "REQUEST_LIMIT_EXCEEDED",
    499: "CANCELLED",
    501: "NOT_IMPLEMENTED",
    503: "TEMPORARILY_UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
"""MLflow's error codes by the statuses that it gives them (``mlflow.exceptions``)."""


class Mlflow(Dialect):
    """Predictions of the default model, and the probes of a scoring server."""

    name: ClassVar[str] = "mlflow"
    infer_paths: ClassVar[tuple[InferPath, ...]] = (InferPath("POST /invocations"),)

    def __init__(self, setup: DialectSetup) -> None:
        super().__init__(setup)
        self._version = setup.version

    def read(self, request: RowsRequest) -> RowsBody:
        """See ``Dialect``; ``form`` says whether the body is a frame, whose answer has records."""
        kind = media_type_of(request.fields)
        if kind == _JSON:
            return read_json(request)
        if request.work.inline and len(request.body) > INLINE_ROWS:
            raise LargeWork
        frame = from_csv(request.body, request.layout.text_columns, pause=request.work.pause)
        return request.bind_frame(frame).in_form(True)

    def encode(self, call: InferCall, verb: str, form: object, work: RequestWork) -> RowsAnswer:
        """See ``Dialect``."""
        rows = encode_records(call, work) if form else encode_by_name(call, work)
        return RowsAnswer.of_parts((b'{"predictions":', *rows, b"}"))

    def fault(self, fault: Fault) -> FaultAnswer:
        """See ``Dialect``."""
        status = status_of(fault)
        if isinstance(fault, UnsupportedMediaType):
            return FaultAnswer(status, str(fault).encode(), b"text/plain; charset=utf-8")
        code = _ERROR_CODES.get(status, "BAD_REQUEST" if status < 500 else "INTERNAL_ERROR")
        return FaultAnswer(status, orjson.dumps({"error_code": code, "message": str(fault)}))

    def endpoints(self) -> Mapping[str, Endpoint]:
        """See ``Dialect``."""
        return {"GET /ping": self._ping, "GET /health": self._ping, "GET /version": self._get_version}

    async def _ping(self, _: Request) -> Response:
        return Response(b"\n", 200 if answers_default(self.setup) else 503, media_type=_JSON)

    async def _get_version(self, _: Request) -> Response:
        return Response(self._version, media_type=_JSON)


def media_type_of(fields: Fields) -> str:
    """Return the type of a body: JSON if none is stated.

    Raises:
        UnsupportedMediaType: it is not a type that MLflow's server reads, not in UTF-8, or has other parameters.
    """
    stated = fields.get(b"content-type", b"").decode("latin-1")
    kind, *parameters = [part.strip() for part in stated.lower().split(";")]
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name != "charset":
            raise UnsupportedMediaType(f"Unrecognized content type parameters: {name}; expected charset at most")
        if value.strip('"') != "utf-8":
            raise UnsupportedMediaType("The scoring server only supports UTF-8")
    if kind in ("", _JSON):
        return _JSON
    if kind not in _CSV:
        raise UnsupportedMediaType(
            f"This predictor only supports the following content types: {_CSV[0]}, {_JSON}. Got '{kind[:80]}'."
        )
    return kind
