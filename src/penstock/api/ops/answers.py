"""What the ops plane answers with: JSON that can always be written, and faults in their one form."""

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

from penstock.core.errors import Fault, Internal, Overloaded, Refused
from penstock.core.labels import HTTP_STATUS


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
    body = {"error": str(fault)} | ({"reason": str(fault)} if isinstance(fault, Refused) else {})
    headers = {"penstock-fault": kind}
    if isinstance(fault, Overloaded):
        headers["retry-after"] = str(max(1, round(fault.retry_after_s)))
    return Json(body, HTTP_STATUS[kind], headers)
