"""Why a request is refused: the reasons that metrics and the audit state, and the one sentence that callers get."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from penstock.core.access.callers import ANONYMOUS
from penstock.core.errors import Unauthenticated


class RefusalReason(StrEnum):
    """The reason of a refusal, as the label ``reason`` of metrics; callers do not get it. Workers count by position, so
    new reasons come last."""

    NO_CREDENTIAL = "no_credential"
    """No ``authorization`` field, and no client certificate."""

    MALFORMED = "malformed"
    """Not of the form ``Bearer TOKEN``, or neither an API key nor a signed token."""

    UNKNOWN_KEY = "unknown_key"
    """An API key that does not exist, or was revoked."""

    EXPIRED = "expired"
    """An API key or a token whose time is over."""

    INVALID_TOKEN = "invalid_token"  # noqa: S105 - a reason
    """A token that is not signed by a known key of its issuer, or that is not meant for this gateway."""

    INVALID_NAME = "invalid_name"
    """A token or certificate whose name is empty, longer than 128 characters, or not readable."""

    NOT_PERMITTED = "not_permitted"
    """The caller is known, but has no permission for this."""

    TOO_MANY_ATTEMPTS = "too_many_attempts"
    """The address has sent too many credentials that are not valid."""

    UNTRUSTED_HOST = "untrusted_host"
    """The request is for a host that is not trusted (``trusted_hosts``)."""

    FOREIGN_ORIGIN = "foreign_origin"
    """A browser sends the request for a page of another origin."""

    UNKNOWN_SIGNING_KEY = "unknown_signing_key"
    """A token for this gateway that states a key which its issuer did not have when the keys were last read."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What refused requests of one kind have in common, as the audit states it and workers report it: ``action`` is its
    name in the audit; then who sent them and how that is known, their address, and in ``detail`` the reason or the
    permission that was missing."""

    action: str
    actor: str = ANONYMOUS.name
    method: str = ANONYMOUS.kind.value
    key_id: str = ""
    address: str = ""
    detail: str = ""


UNAUTHENTICATED: Final = "a valid credential is needed; send it as: authorization: Bearer TOKEN"
"""The text for every request without a valid credential, so that it does not help to guess one."""


def make_unauthenticated(reason: RefusalReason) -> Unauthenticated:
    """Return the error for a request without a valid credential; its ``detail`` is the reason, for operators."""
    return Unauthenticated(UNAUTHENTICATED, reason.value)
