"""The rules for API keys: their names, roles and models, and who may give them out or take them back."""

import re
from collections.abc import Collection, Iterable
from typing import Final

from penstock.core.access.permissions import (
    ROLES,
    Grant,
    Grants,
    Permission,
    grants_of,
    is_model_pattern,
    may_delegate,
)
from penstock.core.access.table import Quota
from penstock.core.errors import InvalidInput, Unauthorised

MOST_PATTERNS: Final = 100
HIGHEST: Final = 1e12
"""The highest rate of a quota."""

_NAME: Final = re.compile(r"[0-9A-Za-z_][0-9A-Za-z._-]{0,63}", re.ASCII)


def check_key(name: str, roles: Collection[str], models: Collection[str], quota: Quota) -> None:
    """Check what a key is to have.

    Raises:
        InvalidInput: the name, a role, a pattern or a limit is not valid; the message says what was expected.
    """
    if _NAME.fullmatch(name) is None:
        raise InvalidInput("a key's name is letters, digits and ._-, begins with a letter, digit or _, at most 64")
    if not roles or (unknown := sorted(set(roles) - ROLES.keys())):
        role = f" '{unknown[0][:64]}'" if roles else ""
        raise InvalidInput(f"unknown role{role}; expected one of {', '.join(ROLES)}")
    if not 0 < len(models) <= MOST_PATTERNS or not all(map(is_model_pattern, models)):
        raise InvalidInput(f"models: expected 1 to {MOST_PATTERNS} model names, or prefixes such as fraud-*, or *")
    limits = (quota.requests, quota.rows, quota.model_ms, quota.concurrent, quota.body_bytes)
    if not all(0 <= limit <= HIGHEST for limit in limits):
        raise InvalidInput("a quota's limit must be a number from 0, which is no limit")


def may_see(own: Grants, models: Iterable[str]) -> bool:
    """Whether somebody administers all models of a key, and so may see and revoke it."""
    return may_delegate(own, tuple(Grant(frozenset({Permission.ADMINISTER}), pattern) for pattern in models))


def check_delegation(own: Grants, roles: Iterable[str], models: Collection[str]) -> None:
    """Check that somebody may give a key these roles on these models: nobody grants more than they have.

    Raises:
        Unauthorised: they do not administer all of these models, or do not have all of these permissions on them.
    """
    given = grants_of(roles, models)
    if not may_see(own, models) or not may_delegate(own, given):
        raise Unauthorised(
            "you may grant only permissions that you have, on models that you administer; "
            "ask somebody with the role admin on these models"
        )
