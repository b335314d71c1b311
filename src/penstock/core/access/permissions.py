"""Permissions, the roles that bundle them, and grants: permissions on the models that a pattern names."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Permission(StrEnum):
    """What an endpoint requires; a permission holds for the models of its grant."""

    PREDICT = "predict"
    FEEDBACK = "feedback"
    READ = "read"
    OPERATE = "operate"
    PUSH = "push"
    APPROVE = "approve"
    ADMINISTER = "administer"
    METRICS = "metrics"


ROLES: Final[Mapping[str, frozenset[Permission]]] = {
    "caller": frozenset({Permission.PREDICT}),
    "viewer": frozenset({Permission.READ, Permission.METRICS}),
    "operator": frozenset(
        {Permission.READ, Permission.METRICS, Permission.OPERATE, Permission.PREDICT, Permission.FEEDBACK}
    ),
    "publisher": frozenset({Permission.READ, Permission.METRICS, Permission.PUSH, Permission.FEEDBACK}),
    "approver": frozenset({Permission.READ, Permission.METRICS, Permission.APPROVE}),
    "admin": frozenset(Permission),
} | {permission.value: frozenset({permission}) for permission in Permission}
"""The permissions of each role; the name of a permission is also the role that has it alone."""

ALL_MODELS: Final = "*"
_PATTERN: Final = re.compile(r"\*|[0-9A-Za-z_][0-9A-Za-z._-]{0,127}\*?", re.ASCII)


def is_model_pattern(text: str) -> bool:
    """Whether a text names one model, or with a ``*`` at its end all models whose names begin so."""
    return _PATTERN.fullmatch(text) is not None


def matches(pattern: str, model: str) -> bool:
    """Whether a pattern names this model."""
    return model.startswith(pattern[:-1]) if pattern.endswith("*") else model == pattern


def covers(pattern: str, other: str) -> bool:
    """Whether a pattern names every model that the other pattern names."""
    if other.endswith("*"):
        return pattern.endswith("*") and other.startswith(pattern[:-1])
    return matches(pattern, other)


@dataclass(frozen=True, slots=True)
class Grant:
    """Permissions on the models that a pattern names."""

    permissions: frozenset[Permission]
    pattern: str = ALL_MODELS


Grants = tuple[Grant, ...]

EVERYTHING: Final[Grants] = (Grant(frozenset(Permission)),)


def grants_of(roles: Iterable[str], patterns: Collection[str] = (ALL_MODELS,)) -> Grants:
    """Return what these roles grant on the models of these patterns.

    Raises:
        KeyError: a role is unknown.
    """
    permissions = frozenset[Permission]().union(*(ROLES[role] for role in roles))
    return tuple(Grant(permissions, pattern) for pattern in patterns)


def find_roles(permissions: frozenset[Permission]) -> tuple[str, ...]:
    """Return the roles that together are these permissions, the widest first; none of them is part of another."""
    found: list[str] = []
    for role in sorted(ROLES, key=lambda name: -len(ROLES[name])):
        if ROLES[role] <= permissions and not any(ROLES[role] <= ROLES[other] for other in found):
            found.append(role)
    return tuple(found)


def is_allowed(grants: Grants, permission: Permission, model: str) -> bool:
    """Whether these grants allow something on a model."""
    return any(permission in grant.permissions and matches(grant.pattern, model) for grant in grants)


def may_anywhere(grants: Grants, permission: Permission) -> bool:
    """Whether these grants allow something on some model: lists show what the caller may read."""
    return any(permission in grant.permissions for grant in grants)


def may_everywhere(grants: Grants, permission: Permission) -> bool:
    """Whether these grants allow something on all models, and so on what belongs to no model."""
    return any(permission in grant.permissions and grant.pattern == ALL_MODELS for grant in grants)


def may_delegate(own: Grants, given: Grants) -> bool:
    """Whether somebody with the grants ``own`` may grant ``given``: nobody grants more than they have.

    It is decided one grant at a time: two narrow patterns that together name what a wide one names do not cover it.
    """
    return all(
        any(permission in grant.permissions and covers(grant.pattern, wanted.pattern) for grant in own)
        for wanted in given
        for permission in wanted.permissions
    )
