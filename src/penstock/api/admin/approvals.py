"""Checks the four-eyes rule where somebody approves a version: its pusher may not."""

from typing import Any, Protocol

from starlette.requests import Request

from penstock.api.admin.caller_check import caller_of, is_dry_run, note_refusal
from penstock.core.access.approvals import check_approver
from penstock.core.errors import Unauthorised

Document = dict[str, Any]


class PushedVersions(Protocol):
    """Knows who has pushed the versions of a model."""

    async def model(self, name: str) -> Document:
        """Return one model; raises a ``Fault``."""


class ApproverCheck:
    """Refuses approvals by whoever has pushed the version."""

    def __init__(self, pushed: PushedVersions) -> None:
        self._pushed = pushed

    async def check(self, request: Request, model: str, version: str) -> None:
        """Check that the caller may approve a version.

        Raises:
            Unauthorised: it has pushed the version.
            Fault: the model cannot be read.
        """
        document, caller = await self._pushed.model(model), caller_of(request)
        pushers = [item.get("created_by") or "" for item in document["versions"] if item["version"] == version]
        try:
            for pushed_by in pushers:
                check_approver(pushed_by, caller.name, caller.kind)
        except Unauthorised:
            if not is_dry_run(request):
                raise
            note_refusal(request)
