"""Authenticates requests: an API key, a signed token or a client certificate to a caller with its grants."""

import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from penstock.core.access.callers import ANONYMOUS, Caller, CallerKind
from penstock.core.access.claims import VerifiedToken
from penstock.core.access.delegation import PREFIX as DELEGATED
from penstock.core.access.delegation import read_delegation
from penstock.core.access.keys import PREFIX, digest_of, key_id_of
from penstock.core.access.permissions import ROLES, grants_of
from penstock.core.access.refusals import RefusalReason, make_unauthenticated
from penstock.core.access.table import AccessTable, Issuer, KeyRecord, bound_grants

LONGEST_NAME: Final = 128
"""Characters of a caller's name; the audit stores no longer one."""

LONGEST_TOKEN: Final = 8192

_BEARER: Final = re.compile(rb"bearer +([A-Za-z0-9._~+/-]{1,%d}=*)" % LONGEST_TOKEN, re.IGNORECASE)


class TokenVerifier(Protocol):
    """Verifies signed tokens of the trusted issuers."""

    def verify(self, token: str, now: float) -> VerifiedToken:
        """Return what a token proves at a time (seconds since the epoch); raises ``Unauthenticated``."""


@dataclass(frozen=True, slots=True)
class _Directory:
    """One access table, the API keys in it by id, the verifier of its issuers' tokens, and the key of delegated
    credentials ("" accepts none)."""

    table: AccessTable = field(default_factory=AccessTable)
    keys: Mapping[str, KeyRecord] = field(default_factory=dict)
    verifier: TokenVerifier | None = None
    delegation_key: bytes = b""


class Authenticator:
    """Knows the callers of one access table, until ``use`` brings the next one. Any thread may authenticate; ``use``
    belongs to one.

    It remembers no caller: an API key takes about ten microseconds, a token some hundred. Who asks often remembers what
    it is answered, until the next table (see ``serving.access.caller_resolver``). ``clock`` gives seconds since the
    epoch. ``open_verifier`` opens the verifier of tokens, which only a table with issuers needs.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        open_verifier: Callable[[Sequence[Issuer]], TokenVerifier] | None = None,
    ) -> None:
        self._clock = clock
        self._open_verifier = open_verifier or _open_verifier
        self._directory = _Directory()

    @property
    def table(self) -> AccessTable:
        """The present table."""
        return self._directory.table

    @property
    def epoch(self) -> int:
        """The epoch of the present table; a caller that was authenticated under another one has to be again."""
        return self.table.epoch

    @property
    def enabled(self) -> bool:
        """Whether callers need a credential."""
        return self.table.enabled

    @property
    def dry_run(self) -> bool:
        """Whether refusals are only counted."""
        return self.table.dry_run

    def use(self, table: AccessTable) -> None:
        """Use another table from now on."""
        verifier, key = self._directory.verifier, self._directory.delegation_key
        if table.issuers != self.table.issuers:
            verifier = self._open_verifier(table.issuers) if table.issuers else None
        self._directory = _Directory(table, {record.id: record for record in table.keys}, verifier, key)

    def trust(self, delegation_key: bytes) -> None:
        """Accept credentials that the control process makes with this key (see ``core.access.delegation``)."""
        self._directory = replace(self._directory, delegation_key=delegation_key)

    def authenticate(self, authorization: bytes | None, certificate_names: tuple[str, ...] = ()) -> Caller:
        """Return the caller of a request from its field ``authorization`` (None: it has none), or else from the names
        in its client certificate. Without authentication, everybody is anonymous.

        Raises:
            Unauthenticated: there is no valid credential; ``detail`` is the ``RefusalReason``. A field
                ``authorization`` decides alone: a bad one is refused whatever certificate comes with it.
        """
        directory = self._directory  # another table may come meanwhile
        if not directory.table.enabled:
            return ANONYMOUS
        if authorization is None:
            return _caller_of_certificate(directory, certificate_names)
        caller = _caller_of_token(directory, _read_token(authorization), self._clock())
        if caller.expires_at is not None and caller.expires_at <= self._clock():
            raise make_unauthenticated(RefusalReason.EXPIRED)
        return caller


def _caller_of_token(directory: _Directory, token: str, now: float) -> Caller:
    if token.startswith(f"{PREFIX}_"):
        return _caller_of_key(directory, token)
    if token.startswith(DELEGATED):
        return read_delegation(directory.delegation_key, token)
    if directory.verifier is None or token.count(".") != 2:
        raise make_unauthenticated(RefusalReason.MALFORMED)
    verified = directory.verifier.verify(token, now)
    _check_name(verified.name)
    grants = bound_grants(directory.table.bindings, verified.name, verified.groups)
    return Caller(verified.name, CallerKind.OIDC, grants, verified.groups, expires_at=verified.expires_at)


def _caller_of_key(directory: _Directory, key: str) -> Caller:
    key_id = key_id_of(key)
    if key_id is None:
        raise make_unauthenticated(RefusalReason.MALFORMED)
    record = directory.keys.get(key_id)
    if record is None or not hmac.compare_digest(record.digest, digest_of(key)):
        raise make_unauthenticated(RefusalReason.UNKNOWN_KEY)
    roles = [role for role in record.roles if role in ROLES]  # a newer release may know more roles
    grants = grants_of(roles, record.models)
    return Caller(record.name, CallerKind.KEY, grants, key_id=key_id, expires_at=record.expires_at)


def _caller_of_certificate(directory: _Directory, names: tuple[str, ...]) -> Caller:
    """Return the caller of a client certificate: the first of its names that a binding names, else the first."""
    if not names:
        raise make_unauthenticated(RefusalReason.NO_CREDENTIAL)
    grants = {name: bound_grants(directory.table.bindings, name) for name in names}
    name = next((name for name in names if grants[name]), names[0])
    _check_name(name)
    return Caller(name, CallerKind.CERTIFICATE, grants[name])


def _read_token(authorization: bytes) -> str:
    """Return the token of a field ``authorization: Bearer TOKEN`` (RFC 6750, section 2.1)."""
    matched = _BEARER.fullmatch(authorization)
    if matched is None:
        raise make_unauthenticated(RefusalReason.MALFORMED)
    return matched[1].decode("ascii")


def _check_name(name: str) -> None:
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        raise make_unauthenticated(RefusalReason.INVALID_NAME)


def _open_verifier(issuers: Sequence[Issuer]) -> TokenVerifier:
    from penstock.control.access.tokens import JwtVerifier  # noqa: PLC0415 - its libraries take memory and time

    return JwtVerifier(issuers)
