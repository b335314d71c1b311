"""Resolves the credentials of requests to callers: at once if they are known, else by the authenticator.

API keys and certificates are looked up on the event loop. The signature of a token takes a while, so tokens that are
not known yet are verified on a thread, and the request waits. Nothing is trusted beyond its access table: a new table
brings a new epoch, and everything remembered under an older one is looked at again.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hashlib import blake2b
from time import monotonic_ns, time
from typing import Final, Protocol

from penstock.core.access.attempts import FailedAttempts, address_key
from penstock.core.access.callers import ANONYMOUS, Caller
from penstock.core.access.keys import PREFIX
from penstock.core.access.origins import OriginRefusal
from penstock.core.access.quota_shares import QuotaShare
from penstock.core.access.refusals import UNAUTHENTICATED, RefusalReason
from penstock.core.access.table import UNLIMITED, AccessTable
from penstock.core.bounded_cache import BoundedCache
from penstock.core.errors import Fault, Overloaded, Unauthenticated
from penstock.serving.access.caller_access import NEVER_NS, CallerAccess, Info
from penstock.serving.access.caller_quota import CallerQuotas
from penstock.serving.access.refused_requests import RefusedRequests
from penstock.serving.offload import OffloadPool

log = logging.getLogger("penstock.access")

MOST_KNOWN: Final = 4096
KNOWN_BYTES: Final = 8 << 20
"""Bounds of the accepted credentials that are remembered."""

MOST_REFUSED: Final = 4096
"""Refused tokens that are remembered, by a digest."""

REFUSED_NS: Final = 5_000_000_000
"""How long a refused token is not verified again."""

RECHECK_NS: Final = 10_000_000_000
"""Time after which the expiry of a credential is compared with the wall clock again, which may have been set."""

MOST_VERIFYING: Final = 64
"""Tokens whose signatures may wait to be verified."""

VERIFY_BYTES: Final = 4096
"""What a verification counts for among the work on threads."""

ENTRY_BYTES: Final = 512
"""About what a remembered caller takes beside its credential."""

SEVERAL_FIELDS: Final = b","
"""Stands for several ``authorization`` fields: never a valid credential."""

Credential = bytes | tuple[str, ...]
"""The value of the field ``authorization``, or the names in a client certificate."""

Resume = Callable[[], None]


class CallerAuthenticator(Protocol):
    """Knows the callers of an access table, and remembers none (see ``control.access.authenticator``). Any thread may
    use it."""

    @property
    def enabled(self) -> bool:
        """Whether callers need a credential."""

    @property
    def dry_run(self) -> bool:
        """Whether refusals are only counted."""

    def use(self, table: AccessTable) -> None:
        """Use another table from now on."""

    def trust(self, delegation_key: bytes) -> None:
        """Accept credentials that the control process makes with this key."""

    def authenticate(self, authorization: bytes | None, certificate_names: tuple[str, ...] = ()) -> Caller:
        """Return the caller of a request; raises ``Unauthenticated``, whose ``detail`` is the ``RefusalReason``."""


class CallerResolver:
    """The callers of one worker; lives on its event loop. What is remembered of callers is remembered here.

    Without an ``authenticator`` there is no authentication, and every request is anonymous. It is used on the loop, and
    for tokens on the threads of ``offload``. ``quotas`` are those of callers and addresses; ``epoch`` grows with each
    table.
    """

    def __init__(
        self,
        authenticator: CallerAuthenticator | None = None,
        offload: OffloadPool | None = None,
        refusals: RefusedRequests | None = None,
        quotas: CallerQuotas | None = None,
        clock: Callable[[], float] = time,
        clock_ns: Callable[[], int] = monotonic_ns,
    ) -> None:
        self.epoch = 1
        self._authenticator = authenticator
        self._offload = offload
        self._refusals = refusals or RefusedRequests()
        self._quotas = quotas
        self._addresses: CallerQuotas | None = None
        self._clock = clock
        self._clock_ns = clock_ns
        self._known: BoundedCache[Credential, CallerAccess] = _new_known()
        self._refused: BoundedCache[bytes, tuple[str, int]] = _new_refused()
        self._verifying: dict[Credential, list[Resume]] = {}
        self._attempts = FailedAttempts()
        self._listeners: list[Resume] = []
        self._enabled = self._dry_run = False
        self._adopt()

    # The access table.

    def use(self, table: AccessTable) -> None:
        """Use another access table from now on, and forget every caller."""
        if self._authenticator is not None:
            self._authenticator.use(table)
        if self._quotas is not None:
            self._quotas.use(table, self._clock_ns())
        self._addresses = self._quotas if table.addresses != UNLIMITED else None
        self.epoch += 1
        self._known, self._refused = _new_known(), _new_refused()
        self._adopt()
        for listener in self._listeners:
            listener()

    def trust(self, delegation_key: bytes) -> None:
        """Accept credentials that the control process makes with this key (see ``core.access.delegation``)."""
        if self._authenticator is not None:
            self._authenticator.trust(delegation_key)

    def use_shares(self, shares: Mapping[str, QuotaShare]) -> None:
        """Limit callers to these shares of their quotas; nothing else changes."""
        if self._quotas is not None:
            self._quotas.use_shares(shares)

    def on_change(self, listener: Resume) -> None:
        """Call ``listener`` after each new access table."""
        self._listeners.append(listener)

    def _adopt(self) -> None:
        authenticator = self._authenticator
        self._enabled = authenticator is not None and authenticator.enabled
        self._dry_run = authenticator is not None and authenticator.dry_run
        self.anonymous = CallerAccess(ANONYMOUS, self.epoch, NEVER_NS, self._refusals)
        self.public = CallerAccess(
            ANONYMOUS, self.epoch, NEVER_NS, self._refusals, refusal=Unauthenticated(UNAUTHENTICATED)
        )
        if not self._enabled or self._dry_run:
            self.public = self.anonymous

    @property
    def enabled(self) -> bool:
        """Whether callers need a credential."""
        return self._enabled

    # Credentials.

    def find(
        self, authorization: bytes | None, names: tuple[str, ...], info: Info, resume: Resume
    ) -> CallerAccess | None:
        """Return what the credential of a request may do, also if it is refused; None while it is verified, and then
        ``resume`` is called on this loop when this should be called again."""
        if not self._enabled:
            return self.anonymous if self._addresses is None else self._find_address(self._addresses, info)
        credential: Credential = names if authorization is None else authorization
        access = self._known.get(credential)
        if access is not None and self._is_valid(access):
            return access
        if isinstance(credential, bytes) and _is_slow(credential):
            return self._find_token(credential, info, resume)
        return self._authenticate(authorization, names, credential, info)

    def _find_address(self, quotas: CallerQuotas, info: Info) -> CallerAccess:
        """Return what a request without a credential may do, with the quota of its client address. It is never current:
        another client may send the same request head."""
        quota = quotas.find_address(address_key(info("peername")))
        return CallerAccess(ANONYMOUS, self.epoch, 0, self._refusals, quota=quota)

    def _is_valid(self, access: CallerAccess) -> bool:
        """Whether a remembered credential has not expired; extends the time for which nobody needs to ask."""
        now_ns = self._clock_ns()
        if now_ns >= access.valid_until_ns:
            access.valid_until_ns = self._valid_until_ns(access.caller, now_ns)
        return now_ns < access.valid_until_ns

    def _valid_until_ns(self, caller: Caller, now_ns: int) -> int:
        if caller.expires_at is None:
            return NEVER_NS
        left_s = caller.expires_at - self._clock()
        return now_ns + min(RECHECK_NS, int(left_s * 1e9))

    def _authenticate(
        self, authorization: bytes | None, names: tuple[str, ...], credential: Credential, info: Info
    ) -> CallerAccess:
        """Look a credential up that takes no time to check."""
        if self._authenticator is None:
            return self.anonymous
        try:
            caller = self._authenticator.authenticate(authorization, names)
        except Unauthenticated as fault:
            return self._refuse(fault.detail, info)
        return self._remember(credential, caller)

    def _remember(self, credential: Credential, caller: Caller) -> CallerAccess:
        until_ns = self._valid_until_ns(caller, self._clock_ns())
        quota = None if self._quotas is None else self._quotas.find_caller(caller)
        access = CallerAccess(caller, self.epoch, until_ns, self._refusals, self._dry_run, quota=quota)
        self._known.put(credential, access, len(credential) + ENTRY_BYTES)
        return access

    # Tokens.

    def _find_token(self, token: bytes, info: Info, resume: Resume) -> CallerAccess | None:
        refused = self._refused.get(_hash_token(token))
        if refused is not None and self._clock_ns() < refused[1]:
            return self._refuse(refused[0], info)
        waiting = self._verifying.get(token)
        if waiting is not None:
            waiting.append(resume)
            return None
        wait_s = self._attempts.wait_s(address_key(info("peername")), self._clock_ns() / 1e9)
        if wait_s:
            return self._refuse(RefusalReason.TOO_MANY_ATTEMPTS, info)
        return self._verify(token, resume)

    def _verify(self, token: bytes, resume: Resume) -> CallerAccess | None:
        """Begin to verify a token on a thread."""
        offload = self._offload
        if offload is None or len(self._verifying) >= MOST_VERIFYING:
            return self._refused_access(Overloaded("too many credentials wait to be verified; try again later"))
        try:
            done = partial(self._on_verified, token, self.epoch)
            offload.submit(partial(self._verify_token, token), done, VERIFY_BYTES)
        except Overloaded as fault:
            return self._refused_access(fault)
        self._verifying[token] = [resume]
        return None

    def _verify_token(self, token: bytes) -> Caller:
        """Verify a token; on a thread."""
        if self._authenticator is None:
            raise Unauthenticated(UNAUTHENTICATED, RefusalReason.INVALID_TOKEN)
        return self._authenticator.authenticate(token)

    def _on_verified(self, token: bytes, epoch: int, caller: Caller | None, error: Exception | None) -> None:
        """Remember what a thread has found, unless the access table is another by now, and let the requests go on."""
        if epoch == self.epoch:
            if caller is not None:
                self._remember(token, caller)
            else:
                reason = error.detail if isinstance(error, Unauthenticated) else _describe_unexpected(error)
                self._refused.put(_hash_token(token), (reason, self._clock_ns() + REFUSED_NS), ENTRY_BYTES)
        for resume in self._verifying.pop(token, []):
            resume()

    # Refusals.

    def _refuse(self, reason: str, info: Info) -> CallerAccess:
        """Count a refused credential, and return its access; an address that fails too often gets another answer."""
        now_s, address = self._clock_ns() / 1e9, address_key(info("peername"))
        wait_s = self._attempts.wait_s(address, now_s)
        if reason != RefusalReason.NO_CREDENTIAL:
            self._attempts.add(address, now_s)
            if wait_s:
                reason = RefusalReason.TOO_MANY_ATTEMPTS
        self._refusals.count_unidentified(RefusalReason(reason), self._dry_run, address)
        if self._dry_run:  # never current, so that each request is counted
            return CallerAccess(ANONYMOUS, self.epoch, 0, self._refusals)
        if reason == RefusalReason.TOO_MANY_ATTEMPTS:
            return self._refused_access(Overloaded(_TOO_MANY, max(1.0, wait_s)))
        return self._refused_access(Unauthenticated(UNAUTHENTICATED))

    def count_origin_refusal(self, refusal: OriginRefusal, info: Info) -> None:
        """Count a request that is refused by its host or origin, of a connection with this ``info``."""
        self._refusals.count_unidentified(refusal.reason, False, address_key(info("peername")))

    def _refused_access(self, fault: Fault) -> CallerAccess:
        return CallerAccess(ANONYMOUS, self.epoch, 0, self._refusals, refusal=fault)


_TOO_MANY: Final = "too many credentials from this address were not valid; try again later"
_KEY_START: Final = f"{PREFIX}_".encode()


def find_authorization(fields: Sequence[tuple[bytes, bytes]]) -> bytes | None:
    """Return the field ``authorization`` of a request, None without one; several are never a valid one."""
    found = [value for name, value in fields if name == b"authorization"]
    if not found:
        return None
    return found[0] if len(found) == 1 else SEVERAL_FIELDS


def _is_slow(credential: bytes) -> bool:
    """Whether a credential has a signature to verify: it has the three parts of a signed token."""
    return credential.count(b".") == 2 and not credential.partition(b" ")[2].strip().startswith(_KEY_START)


def _describe_unexpected(error: Exception | None) -> str:
    """Return the reason to refuse a token whose verification failed for another cause than the token."""
    if not isinstance(error, Fault):
        log.error("a token could not be verified", exc_info=error)
    return RefusalReason.INVALID_TOKEN.value


def _hash_token(token: bytes) -> bytes:
    return blake2b(token, digest_size=16).digest()


def _new_known() -> BoundedCache[Credential, CallerAccess]:
    return BoundedCache(MOST_KNOWN, KNOWN_BYTES)


def _new_refused() -> BoundedCache[bytes, tuple[str, int]]:
    return BoundedCache(MOST_REFUSED, MOST_REFUSED * ENTRY_BYTES)
