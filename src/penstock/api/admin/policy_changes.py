"""Replaces a model's policy for a request to the admin API, as its caller may."""

from dataclasses import replace
from typing import Any, Protocol

from starlette.requests import Request

from penstock.api.admin.caller_check import caller_of, is_dry_run, note_refusal
from penstock.api.admin.incoming import read_author, read_if_match, read_object
from penstock.core.access.callers import ANONYMOUS, Caller
from penstock.core.access.permissions import EVERYTHING
from penstock.core.errors import Unauthorised
from penstock.registry.records import Author

Document = dict[str, Any]


class PolicyService(Protocol):
    """Policies as the admin API sets them."""

    async def set_policy(
        self, model: str, document: Document, by: Author, if_revision: int | None = None, caller: Caller = ANONYMOUS
    ) -> Document:
        """Replace a model's policy; its owner-only settings and controls must be the ``caller``'s to change."""


async def replace_policy(policies: PolicyService, request: Request) -> Document:
    """Return the policy that a request sets. Where refusals are only counted (``auth.dry_run``), a missing permission
    is; what only a proven caller may set needs one all the same.

    Raises:
        Fault: the policy is not valid, or not the caller's to set.
    """
    body = await read_object(request)
    body.pop("revision", None)  # of a policy that was read: ``if-match`` states which one it may replace
    model, revision = request.path_params["model"], read_if_match(request)
    author, caller = read_author(request, body), caller_of(request)
    try:
        return await policies.set_policy(model, body, author, revision, caller)
    except Unauthorised:
        if not is_dry_run(request):
            raise
        note_refusal(request)
        return await policies.set_policy(model, body, author, revision, replace(caller, grants=EVERYTHING))
