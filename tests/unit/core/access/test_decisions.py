"""One rule decides who may use an endpoint: by scope, with hidden models, the same for every port."""

import pytest

from penstock.core.access import endpoints, ops_endpoints
from penstock.core.access.callers import Caller, CallerKind
from penstock.core.access.decisions import may_know, permissions_text, refusal_of
from penstock.core.access.endpoints import Requirement, Scope
from penstock.core.access.permissions import ROLES, Permission, grants_of
from penstock.core.errors import NotFound, Unauthorised, unknown_model

TABLES = {**endpoints.REST, **endpoints.GRPC, **ops_endpoints.OPS}
REQUIREMENTS = sorted(set(TABLES.values()), key=lambda need: (permissions_text(need), need.scope.value, need.public))


def caller(role: str, pattern: str = "digits") -> Caller:
    """A caller with one role."""
    return Caller("bot", CallerKind.KEY, grants_of([role], [pattern]))


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda need: f"{permissions_text(need)} {need.scope.value}")
def test_every_requirement_by_role_and_model(role: str, requirement: Requirement) -> None:
    has = bool(ROLES[role] & requirement.permissions) or not requirement.permissions
    scoped = requirement.scope is Scope.ALL_MODELS and requirement.permissions
    assert (refusal_of(caller(role), requirement, "digits") is None) == (has and not scoped)
    assert (refusal_of(caller(role, "*"), requirement, "digits") is None) == has
    if requirement.scope is Scope.MODEL and requirement.permissions:
        hidden = refusal_of(caller(role), requirement, "fraud")
        assert isinstance(hidden, NotFound) and str(hidden) == str(unknown_model("fraud"))


def test_what_is_refused_is_said_only_of_models_that_the_caller_may_know() -> None:
    feedback = caller("feedback")
    assert not may_know(feedback, "digits")
    assert isinstance(refusal_of(feedback, endpoints.READ, "digits"), NotFound)
    refused = refusal_of(caller("caller"), endpoints.READ, "digits")
    assert isinstance(refused, Unauthorised) and "'read' for this model" in str(refused)
    listed = refusal_of(feedback, endpoints.LIST, "")
    assert "'predict' or 'read' for a model" in str(listed)
    everything = refusal_of(caller("admin"), ops_endpoints.ADMINISTER_ALL, "")
    assert "'administer' for all models" in str(everything)
    assert Permission.READ in endpoints.VISIBLE
