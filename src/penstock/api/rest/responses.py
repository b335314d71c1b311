"""JSON responses of the REST port, including errors."""

import logging
from http import HTTPStatus
from typing import Any, Final

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from penstock.api.http1.answers import error_body, fault_fields
from penstock.core.errors import Fault
from penstock.core.labels import HTTP_STATUS
from penstock.core.traces.log_fields import caller_fields

AnswerFields = dict[str, str]

ANSWER_FIELDS: Final = "answer_fields"
"""Where the scope of a request has the header fields of its answer that are known before there is one, for errors."""

log = logging.getLogger("penstock.rest")


def json_response(content: Any, status: int = 200) -> Response:
    """Return a response with a JSON body."""
    return Response(orjson.dumps(content), status, media_type="application/json")


async def _answer_fault(request: Request, fault: Fault) -> Response:
    stated: AnswerFields = request.scope.get(ANSWER_FIELDS, {})
    response = Response(error_body(str(fault)), HTTP_STATUS[fault.kind], stated, media_type="application/json")
    for name, value in fault_fields(fault):
        response.headers[name.decode()] = value.decode()
    return response


async def _http_error(request: Request, error: HTTPException) -> Response:
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED and request.method == "OPTIONS":
        return Response(status_code=HTTPStatus.NO_CONTENT, headers={"allow": f"{_format_allowed(error)}, OPTIONS"})
    sentence = {404: "no such path", 405: "this method is not allowed here"}.get(error.status_code, error.detail)
    return Response(error_body(sentence), error.status_code, error.headers, media_type="application/json")


def _format_allowed(error: HTTPException) -> str:
    return (error.headers or {}).get("Allow", "GET")


async def _answer_unexpected(request: Request, error: Exception) -> Response:
    log.error("a request failed", exc_info=error, extra={"fields": caller_fields(dict(request.scope["headers"]))})
    return Response(error_body("the request failed"), 500, media_type="application/json")


HANDLERS: dict[Any, Any] = {Fault: _answer_fault, HTTPException: _http_error, Exception: _answer_unexpected}
"""The response to each kind of error, for Starlette."""
