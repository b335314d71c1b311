"""Policies are set as the caller may; where refusals are only counted, a missing permission is, and nothing more."""

import asyncio
import json
from typing import Any

import pytest
from starlette.requests import Request

from penstock.api.admin.policy_changes import replace_policy
from penstock.core.access.callers import ANONYMOUS, Caller, CallerKind
from penstock.core.access.permissions import grants_of
from penstock.core.errors import Unauthorised
from penstock.core.owner_only import refuse_relaxing, refuse_unproven
from penstock.registry.records import Author

OPERATOR = Caller("o", CallerKind.KEY, grants_of(["operator"]))
ADMIN = Caller("a", CallerKind.KEY, grants_of(["admin"]))


class Policies:
    """Takes gates of who administers the model, and sinks of who is proven."""

    async def set_policy(
        self, model: str, document: dict[str, Any], by: Author, if_revision: int | None = None, caller: Any = ANONYMOUS
    ) -> dict[str, Any]:
        """See ``PolicyService``."""
        refuse_relaxing(caller, model, ["gates"] if "gates" in document else [])
        refuse_unproven(caller, ["sinks.s"] if "sinks" in document else [])
        assert "revision" not in document
        return {"by": by.actor, "revision": if_revision}


def put(document: dict[str, Any], caller: Caller, dry_run: bool) -> tuple[dict[str, Any], int]:
    """The answer to a request, and how many refusals were counted."""
    counted: list[None] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": json.dumps(document).encode(), "more_body": False}

    scope: dict[str, Any] = {
        "type": "http",
        "method": "PUT",
        "path_params": {"model": "m"},
        "query_string": b"",
        "client": None,
    }
    scope |= {"headers": [(b"if-match", b'"7"')], "caller": caller, "dry_run": dry_run}
    scope["note_refusal"] = lambda: counted.append(None)
    return asyncio.run(replace_policy(Policies(), Request(scope, receive))), len(counted)


@pytest.mark.parametrize("dry_run", [False, True])
def test_what_the_caller_may_set_is_set(dry_run: bool) -> None:
    assert put({"gates": {}}, ADMIN, dry_run) == ({"by": "a", "revision": 7}, 0)
    assert put({"slo": {}, "revision": 3}, OPERATOR, dry_run) == ({"by": "o", "revision": 7}, 0)


def test_a_dry_run_counts_a_missing_permission_and_requires_proof_all_the_same() -> None:
    assert put({"gates": {}}, OPERATOR, True) == ({"by": "o", "revision": 7}, 1)
    with pytest.raises(Unauthorised):
        put({"gates": {}}, OPERATOR, False)
    for dry_run in (False, True):
        with pytest.raises(Unauthorised, match="credential"):
            put({"sinks": {}}, ANONYMOUS, dry_run)
