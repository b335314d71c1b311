"""An authenticator knows the callers of its table, for as long as their credentials are valid, and nobody else."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from penstock.control.access.authenticator import Authenticator
from penstock.core.access.callers import ANONYMOUS, Caller, CallerKind
from penstock.core.access.claims import VerifiedToken
from penstock.core.access.delegation import KEY_BYTES, write_delegation
from penstock.core.access.keys import digest_of, write_key
from penstock.core.access.permissions import Permission
from penstock.core.access.refusals import UNAUTHENTICATED, RefusalReason, make_unauthenticated
from penstock.core.access.table import AccessTable, Binding, Issuer, KeyRecord
from penstock.core.errors import Unauthenticated

KEY = write_key("abcdefghijkl", bytes(range(32)))
OTHER = write_key("abcdefghijkl", bytes(32))
RECORD = KeyRecord("abcdefghijkl", "bot", digest_of(KEY), ("caller",), ("digits",), expires_at=100.0)
BINDINGS = (Binding("viewer", caller="spiffe://x/bot"), Binding("operator", group="ops", models=("fraud-*",)))
TABLE = AccessTable(7, True, keys=(RECORD,), bindings=BINDINGS)
ISSUER = Issuer("https://issuer", "penstock", "{}")


class Tokens:
    """Knows one token, and counts how often it is asked."""

    def __init__(self, issuers: Sequence[Issuer]) -> None:
        assert issuers == (ISSUER,)
        self.asked = 0

    def verify(self, token: str, now: float) -> VerifiedToken:
        self.asked += 1
        if token != "a.b.c":
            raise make_unauthenticated(RefusalReason.INVALID_TOKEN)
        return VerifiedToken("https://issuer#ann", frozenset({"ops"}), now + 10)


class Clock:
    """A clock that stands until it is set."""

    now = 50.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def authenticator(clock: Clock) -> Authenticator:
    made = Authenticator(clock, Tokens)
    made.use(TABLE)
    return made


def bearer(token: str) -> bytes:
    return f"Bearer {token}".encode()


def refused(authenticator: Authenticator, authorization: bytes | None, names: tuple[str, ...] = ()) -> str:
    """Return the reason of a refusal, whose text is always the same."""
    with pytest.raises(Unauthenticated) as refusal:
        authenticator.authenticate(authorization, names)
    assert str(refusal.value) == UNAUTHENTICATED
    return refusal.value.detail


def test_without_authentication_everybody_is_anonymous(clock: Clock) -> None:
    authenticator = Authenticator(clock)
    assert authenticator.authenticate(None) is ANONYMOUS
    assert authenticator.authenticate(b"Bearer nonsense") is ANONYMOUS
    assert not authenticator.enabled


def test_a_key_is_its_caller_with_the_grants_of_its_record(authenticator: Authenticator) -> None:
    caller = authenticator.authenticate(bearer(KEY))
    assert (caller.name, caller.kind, caller.key_id) == ("bot", CallerKind.KEY, "abcdefghijkl")
    assert caller.may(Permission.PREDICT, "digits")
    assert not caller.may(Permission.PREDICT, "other") and not caller.may(Permission.READ, "digits")
    assert authenticator.authenticate(b"bearer  " + KEY.encode()) == caller  # RFC 9110: schemes have no case


@pytest.mark.parametrize(
    ("authorization", "reason"),
    [
        (None, RefusalReason.NO_CREDENTIAL),
        (b"", RefusalReason.MALFORMED),
        (KEY.encode(), RefusalReason.MALFORMED),
        (b"Basic " + KEY.encode(), RefusalReason.MALFORMED),
        (bearer(KEY) + b" ", RefusalReason.MALFORMED),
        (bearer(KEY) + b", " + bearer(KEY), RefusalReason.MALFORMED),
        (bearer(KEY[:-1] + ("0" if KEY[-1] != "0" else "1")), RefusalReason.MALFORMED),
        (bearer(OTHER), RefusalReason.UNKNOWN_KEY),
        (bearer(write_key("zzzzzzzzzzzz", bytes(32))), RefusalReason.UNKNOWN_KEY),
        (bearer("a.b.c"), RefusalReason.MALFORMED),  # no issuer is trusted
        (b"Bearer \xff", RefusalReason.MALFORMED),
        (b"Bearer " + b"a" * 100_000, RefusalReason.MALFORMED),
    ],
)
def test_anything_else_is_refused_by_the_same_sentence(
    authenticator: Authenticator, authorization: bytes | None, reason: RefusalReason
) -> None:
    assert refused(authenticator, authorization) == reason


def test_a_key_ends_with_its_time_even_if_it_was_seen_before(authenticator: Authenticator, clock: Clock) -> None:
    authenticator.authenticate(bearer(KEY))
    clock.now = 99.9
    authenticator.authenticate(bearer(KEY))
    clock.now = 100.0
    assert refused(authenticator, bearer(KEY)) == RefusalReason.EXPIRED


def test_a_revoked_key_ends_with_its_table(authenticator: Authenticator) -> None:
    authenticator.authenticate(bearer(KEY))
    authenticator.use(replace(TABLE, epoch=8, keys=()))
    assert authenticator.epoch == 8
    assert refused(authenticator, bearer(KEY)) == RefusalReason.UNKNOWN_KEY


def test_a_bad_field_is_refused_whatever_certificate_comes_with_it(authenticator: Authenticator) -> None:
    assert authenticator.authenticate(None, ("spiffe://x/bot",)).name == "spiffe://x/bot"
    assert refused(authenticator, bearer(OTHER), ("spiffe://x/bot",)) == RefusalReason.UNKNOWN_KEY


def test_a_certificate_is_the_first_of_its_names_that_a_binding_names(authenticator: Authenticator) -> None:
    caller = authenticator.authenticate(None, ("bot.example", "spiffe://x/bot"))
    assert (caller.name, caller.kind) == ("spiffe://x/bot", CallerKind.CERTIFICATE)
    assert caller.may(Permission.READ, "any")
    unbound = authenticator.authenticate(None, ("bot.example", "other.example"))
    assert (unbound.name, unbound.grants) == ("bot.example", ())
    assert refused(authenticator, None, ("x" * 129,)) == RefusalReason.INVALID_NAME
    assert refused(authenticator, None, ("a\nb",)) == RefusalReason.INVALID_NAME


def test_the_name_of_a_key_takes_no_binding(authenticator: Authenticator) -> None:
    authenticator.use(replace(TABLE, bindings=(Binding("admin", caller="bot"),)))
    assert not authenticator.authenticate(bearer(KEY)).may_anywhere(Permission.ADMINISTER)


def test_a_token_is_its_caller_with_the_grants_of_its_groups(authenticator: Authenticator, clock: Clock) -> None:
    opened: list[Tokens] = []

    def open_tokens(issuers: Sequence[Issuer]) -> Tokens:
        opened.append(Tokens(issuers))
        return opened[-1]

    authenticator = Authenticator(clock, open_tokens)
    with_issuer = replace(TABLE, issuers=(ISSUER,))
    authenticator.use(with_issuer)
    caller = authenticator.authenticate(bearer("a.b.c"))
    assert (caller.name, caller.kind) == ("https://issuer#ann", CallerKind.OIDC)
    assert caller.groups == {"ops"}
    assert caller.may(Permission.OPERATE, "fraud-1") and not caller.may(Permission.OPERATE, "digits")
    assert refused(authenticator, bearer("a.b.d")) == RefusalReason.INVALID_TOKEN
    assert refused(authenticator, bearer("a.b")) == RefusalReason.MALFORMED
    authenticator.use(replace(with_issuer, epoch=9, keys=()))
    assert len(opened) == 1  # the same issuers
    authenticator.authenticate(bearer("a.b.c"))
    authenticator.use(TABLE)
    assert refused(authenticator, bearer("a.b.c")) == RefusalReason.MALFORMED


def test_nothing_is_remembered(authenticator: Authenticator, clock: Clock) -> None:
    tokens = Tokens((ISSUER,))
    authenticator = Authenticator(clock, lambda _: tokens)
    authenticator.use(replace(TABLE, issuers=(ISSUER,)))
    for _ in range(3):
        authenticator.authenticate(bearer("a.b.c"))
    assert tokens.asked == 3  # who asks often remembers the answer: the resolver of a worker


def test_roles_of_a_newer_release_grant_nothing(authenticator: Authenticator) -> None:
    authenticator.use(replace(TABLE, keys=(replace(RECORD, roles=("conductor", "caller")),)))
    assert authenticator.authenticate(bearer(KEY)).may(Permission.PREDICT, "digits")


def test_a_delegated_credential_counts_where_its_key_is_trusted_until_it_ends(
    authenticator: Authenticator, clock: Clock
) -> None:
    key = bytes(range(KEY_BYTES))
    credential = bearer(write_delegation(key, Caller("ann", CallerKind.OIDC), "digits", clock.now))
    assert refused(authenticator, credential) == RefusalReason.INVALID_TOKEN  # such as the ops port
    authenticator.trust(key)
    authenticator.use(replace(TABLE, epoch=8))
    caller = authenticator.authenticate(credential)
    assert (caller.name, caller.kind) == ("ann", CallerKind.OIDC)
    assert caller.may(Permission.PREDICT, "digits") and not caller.may(Permission.READ, "digits")
    clock.now = 120.0
    assert refused(authenticator, credential) == RefusalReason.EXPIRED
    clock.now = 50.0
    authenticator.trust(bytes(KEY_BYTES))
    assert refused(authenticator, credential) == RefusalReason.INVALID_TOKEN
