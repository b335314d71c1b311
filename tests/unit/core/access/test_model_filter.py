"""What lists show, who approves, and how permissions are summed up as roles."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.access.approvals import check_approver
from penstock.core.access.callers import CallerKind
from penstock.core.access.model_filter import EVERY_MODEL, ModelFilter, filter_of
from penstock.core.access.permissions import ROLES, Permission, find_roles, grants_of, is_allowed
from penstock.core.errors import Unauthorised


def test_a_filter_shows_the_models_on_which_there_is_the_permission() -> None:
    grants = (*grants_of(["viewer"], ["fraud-*", "digits"]), *grants_of(["caller"]))
    visible = filter_of(grants, Permission.READ)
    assert visible == ModelFilter(("fraud-*", "digits"))
    for model in ("fraud-1", "digits", "digits2", "other", ""):
        assert visible.allows(model) == (is_allowed(grants, Permission.READ, model) and model != "")
    assert not visible.is_everything


def test_what_belongs_to_no_model_is_for_those_who_see_everything() -> None:
    assert EVERY_MODEL.is_everything and EVERY_MODEL.allows("") and EVERY_MODEL.allows("any")
    assert filter_of(grants_of(["viewer"], ["a", "*"]), Permission.READ).is_everything
    nothing = filter_of(grants_of(["caller"]), Permission.READ)
    assert not nothing.allows("") and not nothing.allows("a")


@pytest.mark.parametrize("kind", CallerKind)
def test_the_pusher_cannot_approve_where_callers_are_known(kind: CallerKind) -> None:
    check_approver("ann", "bob", kind)
    if kind in (CallerKind.ANONYMOUS, CallerKind.OWNER):
        check_approver("ann", "ann", kind)
    else:
        with pytest.raises(Unauthorised, match="nobody approves"):
            check_approver("ann", "ann", kind)


@given(st.frozensets(st.sampled_from(Permission)))
@settings(max_examples=50)
def test_roles_sum_up_permissions_exactly(permissions: frozenset[Permission]) -> None:
    roles = find_roles(permissions)
    assert frozenset().union(*(ROLES[role] for role in roles)) == permissions
    assert all(not ROLES[one] <= ROLES[other] for one in roles for other in roles if one != other)
