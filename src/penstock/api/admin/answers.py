"""What the ops plane answers with: routes, JSON that can always be written, and faults in their one form."""

import json
import logging
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from penstock.core.errors import Fault, Internal, Overloaded, Refused, storage_fault
from penstock.core.labels import HTTP_STATUS

log = logging.getLogger("penstock.control")


class Json(JSONResponse):
    """A JSON answer in ASCII: names out of foreign graphs may hold what UTF-8 cannot."""

    def render(self, content: Any) -> bytes:
        """The bytes of the body."""
        return json.dumps(content, separators=(",", ":")).encode("ascii")


def revised(body: Mapping[str, Any], status: int = 200) -> Json:
    """A body whose ``revision``, if it has one, is the ETag."""
    return Json(body, status, {"etag": f'"{body["revision"]}"'} if "revision" in body else None)


def fault_answer(fault: Exception) -> Json:
    """The answer for a fault; ``penstock-fault`` names its kind."""
    kind = fault.kind if isinstance(fault, Fault) else Internal.kind
    body = {"error": str(fault)} | ({"reason": fault.whole} if isinstance(fault, Refused) else {})
    headers = {"penstock-fault": kind}
    if isinstance(fault, Overloaded):
        headers["retry-after"] = str(max(1, round(fault.retry_after_s)))
    return Json(body, HTTP_STATUS[kind], headers)


def joined(table: list[tuple[str, str, Any]]) -> list[Route]:
    """One route for each path, so that a wrong method is told from a wrong path."""
    paths: dict[str, dict[str, Any]] = {}
    for method, path, call in table:
        paths.setdefault(path, {})[method] = call

    def endpoint(methods: dict[str, Any]) -> Any:
        async def answer(request: Request) -> Response:
            call = methods["GET" if request.method == "HEAD" else request.method]
            try:
                response: Response = await call(request)
            except OSError as error:  # whatever a call writes: a full disk is told as what it is
                if (fault := storage_fault(error)) is None:
                    raise
                log.warning("%s %s: %s", request.method, request.url.path, error)
                raise fault from error
            return response

        return answer

    return [Route(f"/admin/v1{path}", endpoint(methods), methods=list(methods)) for path, methods in paths.items()]
