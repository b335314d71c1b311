"""Builds the routes and responses of the ops plane: ASCII JSON, ETags and errors."""

import json
import logging
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from penstock.core.errors import Fault, Internal, Overloaded, Refused, Unauthenticated, storage_fault
from penstock.core.labels import HTTP_STATUS
from penstock.core.traces.log_fields import caller_fields

log = logging.getLogger("penstock.control")


class AsciiJsonResponse(JSONResponse):
    """A JSON response in ASCII: names in graphs may contain text that UTF-8 cannot encode."""

    def render(self, content: Any) -> bytes:
        """Return the bytes of the body."""
        return json.dumps(content, separators=(",", ":")).encode("ascii")


def with_etag(body: Mapping[str, Any], status: int = 200) -> AsciiJsonResponse:
    """Return a response with the body's ``revision``, if any, as ETag."""
    return AsciiJsonResponse(body, status, {"etag": f'"{body["revision"]}"'} if "revision" in body else None)


def error_response(fault: Exception) -> AsciiJsonResponse:
    """Return the response for an error; header ``penstock-fault`` has its kind."""
    kind = fault.kind if isinstance(fault, Fault) else Internal.kind
    body = {"error": str(fault)} | ({"reason": fault.full_text} if isinstance(fault, Refused) else {})
    headers = {"penstock-fault": kind}
    if isinstance(fault, Overloaded):
        headers["retry-after"] = str(max(1, round(fault.retry_after_s)))
    if isinstance(fault, Unauthenticated):
        headers["www-authenticate"] = "Bearer"  # RFC 9110, section 15.5.2
    return AsciiJsonResponse(body, HTTP_STATUS[kind], headers)


def build_routes(table: list[tuple[str, str, Any]]) -> list[Route]:
    """Return one route for each path, so that a wrong method gets 405 and a wrong path 404."""
    paths: dict[str, dict[str, Any]] = {}
    for method, path, call in table:
        paths.setdefault(path, {})[method] = call

    def endpoint(methods: dict[str, Any]) -> Any:
        async def answer(request: Request) -> Response:
            call = methods["GET" if request.method == "HEAD" else request.method]
            try:
                response: Response = await call(request)
            except OSError as error:  # a full disk gets its own error
                if (fault := storage_fault(error)) is None:
                    raise
                joined = {"fields": caller_fields(dict(request.scope["headers"]))}
                log.warning("%s %s: %s", request.method, request.url.path, error, extra=joined)
                raise fault from error
            return response

        return answer

    return [Route(f"/admin/v1{path}", endpoint(methods), methods=list(methods)) for path, methods in paths.items()]
