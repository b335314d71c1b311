"""Credentials are resolved once, refused with one sentence, verified off the loop, and forgotten with their table."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import pytest

from penstock.core.access.attempts import BURST
from penstock.core.access.callers import Caller, CallerKind
from penstock.core.access.permissions import EVERYTHING
from penstock.core.access.refusals import RefusalReason, make_unauthenticated
from penstock.core.access.table import AccessTable, Quota
from penstock.core.errors import Overloaded, Unauthenticated
from penstock.monitor.counters.slot import Slot
from penstock.serving.access.caller_access import CallerAccess
from penstock.serving.access.caller_quota import CallerQuotas
from penstock.serving.access.caller_resolver import MOST_VERIFYING, RECHECK_NS, CallerResolver, find_authorization
from penstock.serving.access.refused_requests import RefusedRequests
from penstock.serving.offload import OffloadPool

ON = AccessTable(1, enabled=True)
KEY = b"Bearer pk_a"
TOKEN = b"Bearer a.b.c"


class Directory:
    """An authenticator that knows credentials by heart, and counts how often it is asked."""

    def __init__(self, callers: Mapping[object, Caller]) -> None:
        self.callers = dict(callers)
        self.asked: list[object] = []
        self.enabled = self.dry_run = False

    def use(self, table: AccessTable) -> None:
        """Take its switches."""
        self.enabled, self.dry_run = table.enabled, table.dry_run

    def trust(self, delegation_key: bytes) -> None:
        """Remember the key."""
        self.trusted = delegation_key

    def authenticate(self, authorization: bytes | None, certificate_names: tuple[str, ...] = ()) -> Caller:
        """Look it up."""
        credential = certificate_names if authorization is None else authorization
        self.asked.append(credential)
        if not credential:
            raise make_unauthenticated(RefusalReason.NO_CREDENTIAL)
        if credential not in self.callers:
            raise make_unauthenticated(RefusalReason.UNKNOWN_KEY)
        return self.callers[credential]


class World:
    """A resolver with clocks that stand still, and what it counts."""

    def __init__(self, *, dry_run: bool = False, expires_at: float | None = None) -> None:
        caller = Caller("bot", CallerKind.KEY, EVERYTHING, expires_at=expires_at)
        self.directory = Directory({KEY: caller, TOKEN: caller, ("spiffe://x/bot",): caller})
        self.now_ns, self.now = 10**9, 1000.0
        self.counted: list[tuple[RefusalReason, bool]] = []
        self.offload = OffloadPool(1 << 20)
        self.resolver = CallerResolver(
            self.directory,
            self.offload,
            RefusedRequests(self),
            clock=lambda: self.now,
            clock_ns=lambda: self.now_ns,
        )
        self.resolver.use(AccessTable(1, enabled=True, dry_run=dry_run))

    def count_auth_refusal(self, reason: RefusalReason, dry_run: bool) -> None:
        """See ``ReasonCounter``."""
        self.counted.append((reason, dry_run))

    def find(
        self, authorization: bytes | None, address: str = "192.0.2.1", names: tuple[str, ...] = ()
    ) -> CallerAccess:
        """What a credential may do, which is known at once."""
        found = self.resolver.find(authorization, names, lambda _: (address, 1), _unexpected)
        assert found is not None
        return found

    async def verify(self, token: bytes) -> CallerAccess:
        """What a token may do, once it is verified."""
        resumed = asyncio.Event()
        while (found := self.resolver.find(token, (), lambda _: ("192.0.2.1", 1), resumed.set)) is None:
            await resumed.wait()
            resumed.clear()
        return found

    def pass_seconds(self, seconds: float) -> None:
        """Move both clocks."""
        self.now += seconds
        self.now_ns += int(seconds * 1e9)


def _unexpected() -> None:
    raise AssertionError


def test_without_authentication_everybody_is_anonymous() -> None:
    access = CallerResolver().find(b"anything", (), lambda _: None, _unexpected)
    assert access is not None and access.caller.name == "anonymous" and access.refusal is None


def test_a_key_is_looked_up_once() -> None:
    world = World()
    first = world.find(KEY)
    assert world.find(KEY) is first and first.caller.name == "bot"
    assert world.directory.asked == [KEY]


def test_names_of_a_certificate_are_a_credential_of_their_own() -> None:
    world = World()
    assert world.find(None, names=("spiffe://x/bot",)).refusal is None
    assert world.find(None).refusal is not None
    assert world.find(b"Bearer wrong", names=("spiffe://x/bot",)).refusal is not None


def test_every_refusal_has_the_same_sentence_and_its_own_reason() -> None:
    world = World()
    refusals = [world.find(credential).refusal for credential in (None, b"Bearer wrong", b"Basic x", b",")]
    assert {type(refusal) for refusal in refusals} == {Unauthenticated}
    assert len({str(refusal) for refusal in refusals}) == 1
    assert [reason for reason, _ in world.counted] == [RefusalReason.NO_CREDENTIAL, *[RefusalReason.UNKNOWN_KEY] * 3]


def test_a_refused_access_is_never_current() -> None:
    world = World()
    assert not world.find(b"Bearer wrong").is_current(world.resolver.epoch, world.now_ns)


def test_a_new_table_forgets_everybody_and_notifies() -> None:
    world, changes = World(), []
    world.resolver.on_change(lambda: changes.append(world.resolver.epoch))
    before = world.find(KEY)
    del world.directory.callers[KEY]
    world.resolver.use(ON)
    assert changes == [before.epoch + 1]
    assert not before.is_current(world.resolver.epoch, world.now_ns)
    assert world.find(KEY).refusal is not None


def test_a_table_with_an_older_epoch_of_a_new_control_process_counts_as_new() -> None:
    world = World()
    before = world.find(KEY)
    world.resolver.use(AccessTable(0, enabled=True))
    assert not before.is_current(world.resolver.epoch, world.now_ns)


@pytest.mark.parametrize("steps", [1, 3])
def test_a_credential_ends_at_its_time(steps: int) -> None:
    world = World(expires_at=1030.0)
    access = world.find(KEY)
    for _ in range(steps):
        world.pass_seconds(29 / steps)
        assert world.find(KEY) is access and access.is_current(world.resolver.epoch, world.now_ns)
    world.pass_seconds(1.001)
    assert not access.is_current(world.resolver.epoch, world.now_ns)
    world.directory.callers.clear()
    assert world.find(KEY).refusal is not None


def test_a_wall_clock_that_is_set_forward_is_seen_soon() -> None:
    world = World(expires_at=2000.0)
    access = world.find(KEY)
    world.now = 3000.0
    world.now_ns += RECHECK_NS
    assert not access.is_current(world.resolver.epoch, world.now_ns)
    assert world.find(KEY) is not access


def test_an_address_that_fails_often_gets_another_answer_but_good_keys_go_on() -> None:
    world = World()
    for number in range(BURST):
        assert isinstance(world.find(b"Bearer wrong%d" % number).refusal, Unauthenticated)
    limited = world.find(b"Bearer wrong").refusal
    assert isinstance(limited, Overloaded) and limited.retry_after_s >= 1
    assert world.counted[-1] == (RefusalReason.TOO_MANY_ATTEMPTS, False)
    assert world.find(KEY).refusal is None
    assert isinstance(world.find(b"Bearer wrong", "192.0.2.2").refusal, Unauthenticated)
    world.pass_seconds(60)
    assert isinstance(world.find(b"Bearer wrong").refusal, Unauthenticated)


def test_requests_without_a_credential_do_not_count_as_attempts() -> None:
    world = World()
    for _ in range(2 * BURST):
        assert isinstance(world.find(None).refusal, Unauthenticated)


def test_a_dry_run_allows_and_counts_each_request() -> None:
    world = World(dry_run=True)
    for _ in range(2):
        access = world.find(b"Bearer wrong")
        assert access.refusal is None and not access.is_current(world.resolver.epoch, world.now_ns)
    assert world.counted == [(RefusalReason.UNKNOWN_KEY, True)] * 2
    assert world.resolver.public.refusal is None


def _run(scene: Callable[[World], Awaitable[None]]) -> None:
    async def play() -> None:
        world = World()
        try:
            await scene(world)
        finally:
            world.offload.close()

    asyncio.run(play())


def test_a_token_is_verified_once_for_all_who_wait() -> None:
    async def scene(world: World) -> None:
        found = await asyncio.gather(*[world.verify(TOKEN) for _ in range(5)])
        assert {id(access) for access in found} == {id(found[0])} and found[0].caller.name == "bot"
        assert world.directory.asked == [TOKEN]

    _run(scene)


def test_a_refused_token_is_not_verified_again_for_a_while() -> None:
    async def scene(world: World) -> None:
        for _ in range(3):
            assert isinstance((await world.verify(b"Bearer x.y.z")).refusal, Unauthenticated)
        assert len(world.directory.asked) == 1 and len(world.counted) == 3
        world.pass_seconds(6)
        await world.verify(b"Bearer x.y.z")
        assert len(world.directory.asked) == 2

    _run(scene)


def test_a_verification_under_an_older_table_is_not_kept() -> None:
    async def scene(world: World) -> None:
        resumed = asyncio.Event()
        assert world.resolver.find(TOKEN, (), lambda _: None, resumed.set) is None
        del world.directory.callers[TOKEN]
        world.resolver.use(ON)
        await resumed.wait()
        assert (await world.verify(TOKEN)).refusal is not None

    _run(scene)


def test_tokens_that_wait_are_bounded_and_limited_addresses_are_not_verified() -> None:
    async def scene(world: World) -> None:
        for number in range(MOST_VERIFYING):
            token = b"Bearer x.y.%d" % number
            assert world.resolver.find(token, (), lambda _: None, lambda: None) is None
        full = world.resolver.find(b"Bearer one.too.many", (), lambda _: None, _unexpected)
        assert full is not None and isinstance(full.refusal, Overloaded)
        for number in range(BURST):
            world.find(b"Bearer wrong%d" % number)
        asked = len(world.directory.asked)
        assert isinstance((await world.verify(b"Bearer not.seen.before")).refusal, Overloaded)
        assert len(world.directory.asked) - asked <= MOST_VERIFYING

    _run(scene)


def test_several_fields_are_never_a_credential() -> None:
    assert find_authorization([(b"host", b"x")]) is None
    assert find_authorization([(b"authorization", KEY)]) == KEY
    assert find_authorization([(b"authorization", KEY), (b"authorization", KEY)]) == b","


def test_a_resolver_without_authentication_knows_everybody_as_anonymous() -> None:
    resolver = CallerResolver()
    changes: list[int] = []
    resolver.on_change(lambda: changes.append(resolver.epoch))
    resolver.use(ON)
    resolver.trust(bytes(32))
    resolver.use_shares({})
    assert changes == [2] and not resolver.enabled
    for authorization in (None, KEY, TOKEN):
        assert resolver.find(authorization, (), lambda _: None, _unexpected) is resolver.anonymous
    assert resolver.public is resolver.anonymous


def test_where_no_credential_is_needed_each_address_may_have_a_quota() -> None:
    resolver = CallerResolver(quotas=CallerQuotas(Slot.in_process()), clock_ns=lambda: 10**9)
    resolver.use(AccessTable(1, addresses=Quota(requests=1)))

    def found(host: str) -> CallerAccess:
        access = resolver.find(None, (), lambda _: (host, 1), lambda: None)
        assert access is not None and access.quota is not None
        assert not access.is_current(resolver.epoch, 10**9)  # another client may send the same
        return access

    first, again, neighbour = found("2001:db8::1").quota, found("2001:db8::2").quota, found("192.0.2.1").quota
    assert first is again is not neighbour
    resolver.use(AccessTable(2))
    assert resolver.find(None, (), lambda _: None, lambda: None) is resolver.anonymous
    assert resolver.anonymous.quota is None
