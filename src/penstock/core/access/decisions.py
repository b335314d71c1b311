"""Decides whether a caller may use an endpoint, and which error it gets otherwise: one rule for all ports."""

from collections.abc import Callable, Mapping
from typing import Final

from penstock.core.access.callers import Caller
from penstock.core.access.endpoints import VISIBLE, Requirement, Scope
from penstock.core.access.permissions import Permission
from penstock.core.errors import Fault, Unauthorised, unknown_model


def refusal_of(caller: Caller, requirement: Requirement, model: str) -> Fault | None:
    """Return the error for a caller that may not use an endpoint, None if it may; ``model`` is the one that the request
    is about.

    A caller that may not know whether a model exists gets the same error as for an unknown model.
    """
    if requirement.public or not requirement.permissions:
        return None
    has = _HOLDERS[requirement.scope]
    if any(has(caller, permission, model) for permission in requirement.permissions):
        return None
    if requirement.scope is Scope.MODEL and not may_know(caller, model):
        return unknown_model(model)
    needed = permissions_text(requirement)
    return Unauthorised(f"the caller needs the permission {needed} for {_MODELS[requirement.scope]}")


def may_know(caller: Caller, model: str) -> bool:
    """Whether a caller may know that a model exists."""
    return any(caller.may(permission, model) for permission in VISIBLE)


def permissions_text(requirement: Requirement) -> str:
    """Return the permissions of a requirement, of which one is enough, as text for people."""
    return " or ".join(sorted(f"'{permission.value}'" for permission in requirement.permissions))


_HOLDERS: Final[Mapping[Scope, Callable[[Caller, Permission, str], bool]]] = {
    Scope.MODEL: lambda caller, permission, model: caller.may(permission, model),
    Scope.SOME_MODEL: lambda caller, permission, _: caller.may_anywhere(permission),
    Scope.ALL_MODELS: lambda caller, permission, _: caller.may_everywhere(permission),
}
_MODELS: Final = {Scope.MODEL: "this model", Scope.SOME_MODEL: "a model", Scope.ALL_MODELS: "all models"}
