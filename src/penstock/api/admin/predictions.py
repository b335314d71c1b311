"""The admin API for predictions and their explanations: passes a V2 request on to this gateway's own REST port, and its
answer back."""

from collections.abc import Mapping
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response

from penstock.api.admin.answers import AsciiJsonResponse
from penstock.api.admin.caller_check import caller_of
from penstock.api.admin.incoming import read_chunks, read_document, read_header_object, text_field
from penstock.control.plane.predictions import EXPLAIN, INFER, MOST_BYTES, PredictionAnswer, PredictionRequest
from penstock.core.access.callers import Caller
from penstock.core.errors import InvalidInput
from penstock.core.forwarding import check_forwarded

LONGEST_VERSION = 200
TRACE_FIELDS = ("traceparent", "tracestate")
"""Fields of the caller's trace, which goes on in the data plane."""


class PredictionService(Protocol):
    """Predictions as the admin API uses them."""

    def addresses(self) -> dict[str, Any]:
        """Return where clients reach the data ports, and what they need."""

    async def predict(self, request: PredictionRequest, caller: Caller) -> PredictionAnswer:
        """Return the answer to a request of a caller; may raise a ``Fault``."""

    async def explain_captured(
        self, model: str, version: str, request_id: str, parameters: Mapping[str, Any], caller: Caller
    ) -> PredictionAnswer:
        """Return the explanation of a captured request; may raise a ``Fault``."""


class PredictionCalls:
    """One method for each route."""

    def __init__(self, predictions: PredictionService) -> None:
        self._predictions = predictions

    def table(self) -> list[tuple[str, str, Any]]:
        """Method, path and call."""
        return [
            ("GET", "/gateway", self.gateway),
            ("POST", "/models/{model}/predict", self.predict),
            ("POST", "/models/{model}/explain", self.explain),
            ("POST", "/models/{model}/captured/explain", self.explain_captured),
        ]

    async def gateway(self, _: Request) -> Response:
        """Answer where the data ports are."""
        return AsciiJsonResponse(self._predictions.addresses())

    async def predict(self, request: Request) -> Response:
        """Answer what the data plane answers to the body."""
        return await self._pass_on(request, INFER)

    async def explain(self, request: Request) -> Response:
        """Answer the data plane's explanation of the answer to the body."""
        return await self._pass_on(request, EXPLAIN)

    async def explain_captured(self, request: Request) -> Response:
        """Answer the explanation of a captured request."""
        body = await read_document(request, "id", "version", "parameters")
        parameters = body.get("parameters") or {}
        if not isinstance(parameters, dict):
            raise InvalidInput("'parameters' must be an object with the parameters of the explanation")
        answer = await self._predictions.explain_captured(
            request.path_params["model"],
            text_field(body, "version", ""),
            text_field(body, "id"),
            parameters,
            caller_of(request),
        )
        return Response(answer.body, answer.status, answer.fields)

    async def _pass_on(self, request: Request, verb: str) -> Response:
        version = request.query_params.get("version", "")
        if len(version) > LONGEST_VERSION:
            raise InvalidInput(f"'version' may have at most {LONGEST_VERSION} characters")
        fields = check_forwarded(read_header_object(request, "penstock-forward"))
        body = b"".join([chunk async for chunk in read_chunks(request, MOST_BYTES)])
        traced = {name: ", ".join(stated) for name in TRACE_FIELDS if (stated := request.headers.getlist(name))}
        asked = PredictionRequest(request.path_params["model"], version, body, {**fields, **traced}, verb)
        answer = await self._predictions.predict(asked, caller_of(request))
        return Response(answer.body, answer.status, answer.fields)
