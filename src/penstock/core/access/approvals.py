"""The four-eyes rule: nobody approves a version that they have pushed."""

from typing import Final

from penstock.core.access.callers import CallerKind
from penstock.core.errors import Unauthorised

PROVEN: Final = frozenset({CallerKind.KEY, CallerKind.OIDC, CallerKind.CERTIFICATE})
"""Callers that the rule binds. Without authentication one caller looks like another, and the gateway's own user may
write the database anyway."""


def check_approver(pushed_by: str, name: str, method: str) -> None:
    """Check that somebody may approve a version; ``method`` is a ``CallerKind`` and says how their name is known.

    Raises:
        Unauthorised: they have pushed it.
    """
    if method in PROVEN and name == pushed_by:
        raise Unauthorised("nobody approves a version that they have pushed; ask another approver")
