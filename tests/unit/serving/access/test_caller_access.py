"""What a caller may do: permissions by scope, hidden models, and refusals that are only counted."""

from contextlib import suppress

import pytest

from penstock.core.access import endpoints
from penstock.core.access.callers import ANONYMOUS, Caller, CallerKind
from penstock.core.access.endpoints import Requirement
from penstock.core.access.permissions import grants_of
from penstock.core.access.refusals import RefusalReason
from penstock.core.errors import Fault, NotFound, Unauthenticated, Unauthorised, unknown_model
from penstock.serving.access.caller_access import NEVER_NS, CallerAccess, no_info
from penstock.serving.access.refused_requests import MOST_KINDS, RefusedRequests

PREDICTOR = Caller("bot", CallerKind.KEY, grants_of(["caller"], ["digits"]))
VIEWER = Caller("eye", CallerKind.KEY, grants_of(["viewer"], ["digits"]))


def info(name: str) -> object:
    """The connection of a client."""
    return ("192.0.2.7", 40_000) if name == "peername" else None


class Counted:
    """Keeps the counts."""

    def __init__(self) -> None:
        self.reasons: list[tuple[RefusalReason, bool]] = []

    def count_auth_refusal(self, reason: RefusalReason, dry_run: bool) -> None:
        """See ``ReasonCounter``."""
        self.reasons.append((reason, dry_run))


def access_of(caller: Caller, dry_run: bool = False, refusal: Fault | None = None) -> tuple[CallerAccess, Counted]:
    """The access of a caller, and the counts."""
    counts = Counted()
    return CallerAccess(caller, 3, NEVER_NS, RefusedRequests(counts), dry_run, refusal), counts


@pytest.mark.parametrize(
    ("caller", "requirement", "model", "expected"),
    [
        (PREDICTOR, endpoints.PREDICT, "digits", None),
        (PREDICTOR, endpoints.PREDICT, "other", NotFound),
        (PREDICTOR, endpoints.FEEDBACK, "digits", Unauthorised),
        (PREDICTOR, endpoints.FEEDBACK, "other", NotFound),
        (PREDICTOR, endpoints.DESCRIBE, "digits", None),
        (PREDICTOR, endpoints.READ, "digits", Unauthorised),
        (PREDICTOR, endpoints.READ_SOME, "", Unauthorised),
        (PREDICTOR, endpoints.LIST, "", None),
        (PREDICTOR, endpoints.OPERATE, "digits", Unauthorised),
        (PREDICTOR, endpoints.OPERATE_ALL, "", Unauthorised),
        (PREDICTOR, endpoints.ANY_CALLER, "", None),
        (VIEWER, endpoints.PREDICT, "digits", Unauthorised),
        (VIEWER, endpoints.READ, "digits", None),
        (VIEWER, endpoints.READ_SOME, "", None),
        (VIEWER, endpoints.READ_ALL, "", Unauthorised),
        (ANONYMOUS, endpoints.OPERATE_ALL, "", None),
    ],
)
def test_requirements_allow_or_refuse_a_caller(
    caller: Caller, requirement: Requirement, model: str, expected: type[Fault] | None
) -> None:
    access, counts = access_of(caller)
    if expected is None:
        access.check(requirement, model, info)
        assert counts.reasons == []
        return
    with pytest.raises(expected):
        access.check(requirement, model, info)
    assert counts.reasons == [(RefusalReason.NOT_PERMITTED, False)]


def test_a_hidden_model_is_refused_as_a_missing_one() -> None:
    access, _ = access_of(PREDICTOR)
    checks = (access.check_predict, lambda model, info: access.check(endpoints.READ, model, info))
    for check in checks:
        with pytest.raises(NotFound) as caught:
            check("hidden", info)
        assert str(caught.value) == str(unknown_model("hidden"))


def test_predictions_are_decided_by_model_and_remembered_within_bounds() -> None:
    access, counts = access_of(Caller("bot", CallerKind.KEY, grants_of(["caller"], ["a*"])))
    for number in range(5000):
        access.check_predict(f"a{number}", info)
    access.check_predict("a1", info)
    for _ in range(2):
        with pytest.raises(NotFound):
            access.check_predict("b", info)
    assert len(counts.reasons) == 2


def test_lists_show_what_the_caller_may_read_or_ask() -> None:
    predictor, viewer = access_of(PREDICTOR)[0], access_of(VIEWER)[0]
    assert predictor.sees("digits") and not predictor.reads("digits") and not predictor.sees("other")
    assert viewer.sees("digits") and viewer.reads("digits") and not viewer.reads("other")


def test_a_dry_run_counts_and_allows() -> None:
    access, counts = access_of(PREDICTOR, dry_run=True)
    access.check(endpoints.OPERATE_ALL, "", info)
    access.check_predict("other", info)
    assert access.sees("other") and access.reads("other")
    assert counts.reasons == [(RefusalReason.NOT_PERMITTED, True)] * 2


def test_a_refused_credential_reaches_public_endpoints_only() -> None:
    access, _ = access_of(ANONYMOUS, refusal=Unauthenticated("no"))
    access.check(endpoints.PUBLIC, "", no_info)
    with pytest.raises(Unauthenticated):
        access.check(endpoints.ANY_CALLER, "", no_info)
    with pytest.raises(Unauthenticated):
        access.check_predict("digits", no_info)


def test_a_refusal_is_kept_with_caller_permission_and_address() -> None:
    refused = RefusedRequests(Counted())
    access = CallerAccess(PREDICTOR, 3, NEVER_NS, refused)
    for requirement in (endpoints.READ, endpoints.READ, endpoints.LIST):
        with suppress(Unauthorised):
            access.check(requirement, "digits", info)
    with pytest.raises(NotFound):
        access.check_predict("other", info)
    assert [(kind["actor"], kind["detail"], kind["address"], kind["count"]) for kind in refused.take()] == [
        ("bot", "'read'", "192.0.2.7", 2),
        ("bot", "'predict'", "192.0.2.7", 1),
    ]


def test_it_is_current_in_its_epoch_and_until_its_time() -> None:
    access = CallerAccess(PREDICTOR, 3, 100, RefusedRequests())
    assert access.is_current(3, 99)
    assert not access.is_current(4, 99)
    assert not access.is_current(3, 100)


def test_refusals_are_kept_by_kind_within_bounds() -> None:
    refused = RefusedRequests(Counted())
    for number in range(2 * MOST_KINDS):
        refused.count_unidentified(RefusalReason.UNKNOWN_KEY, False, f"192.0.2.{number}")
    refused.count_permission(False, PREDICTOR, "'read'", "192.0.2.7")
    refused.count_permission(True, PREDICTOR, "'read'", "192.0.2.7")
    kinds = refused.take()
    assert len(kinds) == MOST_KINDS + 2 and sum(kind["count"] for kind in kinds) == 2 * MOST_KINDS + 1
    assert kinds[0] == {
        "action": "auth.refuse",
        "actor": "anonymous",
        "method": "anonymous",
        "key_id": "",
        "address": "192.0.2.0",
        "detail": "unknown_key",
        "count": 1,
    }
    assert refused.take() == []


@pytest.mark.parametrize(
    ("caller", "dry_run", "owner"),
    [
        (PREDICTOR, False, "key:bot"),
        (Caller("bot", CallerKind.CERTIFICATE), False, "mtls:bot"),
        (PREDICTOR, True, ""),
        (ANONYMOUS, False, ""),
        (ANONYMOUS, True, ""),
    ],
)
def test_whose_regions_a_caller_uses(caller: Caller, dry_run: bool, owner: str) -> None:
    assert access_of(caller, dry_run)[0].owner == owner
