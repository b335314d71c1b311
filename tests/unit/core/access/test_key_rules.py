"""Keys: their form is checked, and nobody gives out more than they have on models that they administer."""

import pytest

from penstock.core.access.key_rules import check_delegation, check_key, may_see
from penstock.core.access.permissions import EVERYTHING, Grant, Permission, grants_of
from penstock.core.access.table import Quota
from penstock.core.errors import InvalidInput, Unauthorised

FRAUD_ADMIN = grants_of(["admin"], ["fraud-*"])
ADMINISTERS = (Grant(frozenset({Permission.ADMINISTER})),)


def test_a_key_with_a_name_a_role_and_models_is_accepted() -> None:
    check_key("ci.bot-1", ["caller", "feedback"], ["digits", "fraud-*"], Quota(10.0, concurrent=2))


@pytest.mark.parametrize(
    ("name", "roles", "models", "quota", "text"),
    [
        ("", ["caller"], ["*"], Quota(), "name"),
        ("a b", ["caller"], ["*"], Quota(), "name"),
        ("a\n", ["caller"], ["*"], Quota(), "name"),
        ("https://issuer#ann", ["caller"], ["*"], Quota(), "name"),
        ("a" * 65, ["caller"], ["*"], Quota(), "name"),
        ("a", [], ["*"], Quota(), "role"),
        ("a", ["root"], ["*"], Quota(), "role 'root'"),
        ("a", ["caller"], [], Quota(), "models"),
        ("a", ["caller"], ["a*b"], Quota(), "models"),
        ("a", ["caller"], ["*"] * 101, Quota(), "models"),
        ("a", ["caller"], ["*"], Quota(rows=-1.0), "quota"),
        ("a", ["caller"], ["*"], Quota(rows=float("inf")), "quota"),
    ],
)
def test_what_is_not_valid_is_refused(name: str, roles: list[str], models: list[str], quota: Quota, text: str) -> None:
    with pytest.raises(InvalidInput, match=text):
        check_key(name, roles, models, quota)


def test_an_admin_of_some_models_grants_on_these_alone() -> None:
    check_delegation(FRAUD_ADMIN, ["caller"], ["fraud-1", "fraud-eu-*"])
    for models in (["*"], ["digits"], ["fraud-1", "digits"], ["frau*"]):
        with pytest.raises(Unauthorised, match="grant only"):
            check_delegation(FRAUD_ADMIN, ["caller"], models)


def test_administer_grants_no_other_permission() -> None:
    check_delegation(ADMINISTERS, ["administer"], ["*"])
    with pytest.raises(Unauthorised):
        check_delegation(ADMINISTERS, ["caller"], ["*"])


def test_other_permissions_do_not_include_administer() -> None:
    with pytest.raises(Unauthorised):
        check_delegation(grants_of(["operator"]), ["operator"], ["*"])
    check_delegation(EVERYTHING, ["admin"], ["*"])


def test_a_key_is_seen_by_those_who_administer_all_its_models() -> None:
    assert may_see(FRAUD_ADMIN, ["fraud-1"])
    assert not may_see(FRAUD_ADMIN, ["fraud-1", "digits"])
    assert not may_see(grants_of(["operator"]), ["fraud-1"])
