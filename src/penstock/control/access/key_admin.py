"""API keys for the admin API: made, listed, rotated and revoked, within what the caller itself may do."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

from penstock.control.calls.blocking import BlockingPool
from penstock.core.access.callers import Caller
from penstock.core.access.key_rules import check_delegation, may_see
from penstock.core.access.table import KeyRecord
from penstock.core.errors import Fault, NotFound, Unauthorised
from penstock.registry.key_documents import key_document, parse_lifetime, parse_new_key, parse_overlap
from penstock.registry.records import Author, Document
from penstock.registry.stores.keys import KeyStore, StoredKey

THREADS = 2


class KeyAdmin:
    """The keys of one registry; a change is in effect on this gateway when its method returns.

    ``changed`` publishes the keys to this process and its workers; ``accepted`` says whether requests with keys are
    accepted at all; ``now`` gives seconds since the epoch by the database's clock. Every method raises ``NotReady``
    while the database cannot be reached, and ``Unauthorised`` if the caller is not proven.
    """

    def __init__(
        self, store: KeyStore, changed: Callable[[], Awaitable[None]], accepted: bool, now: Callable[[], float]
    ) -> None:
        self._store = store
        self._changed = changed
        self._accepted = accepted
        self._now = now
        self._calls = BlockingPool("keys", THREADS)
        self.pools = (self._calls,)

    async def list_keys(self, caller: Caller) -> list[Document]:
        """Return the keys whose models the caller administers."""
        _check_proven(caller)
        keys = await self._calls.call(self._store.list_keys)
        return [key_document(key, self._now()) for key in keys if may_see(caller.grants, key.record.models)]

    async def create(self, values: Document, by: Author, caller: Caller) -> Document:
        """Make a key from the body of a request; return it with its text, this once.

        Raises:
            InvalidInput: a value is not valid.
            Unauthorised: the caller may not grant this.
            AlreadyExists: there is a valid key of this name.
            Refused: there are too many keys.
        """
        _check_proven(caller)
        wanted = parse_new_key(values, self._now())
        return await self._shown_once(await self._calls.call(self._store.create, wanted, by, _make_grant_check(caller)))

    async def rotate(self, name: str, values: Document, by: Author, caller: Caller) -> Document:
        """Replace the valid keys of a name by a new one; return it with its text, this once.

        Raises:
            NotFound: there is no such key that the caller may see.
            InvalidInput, Unauthorised, Refused: as ``create``.
        """
        _check_proven(caller)
        overlap_s, life_s = parse_overlap(values), parse_lifetime(values)
        rotate = partial(self._store.rotate, name, overlap_s, life_s, by, _make_grant_check(caller, hidden=True))
        return await self._shown_once(await self._calls.call(rotate))

    async def revoke(self, name: str, by: Author, caller: Caller) -> list[Document]:
        """Revoke a key by its id, or all keys of a name; return them.

        Raises:
            NotFound: there is no such key that the caller may see.
        """
        _check_proven(caller)
        revoked = await self._calls.call(self._store.revoke, name, by, partial(_check_seen, caller))
        await self._publish()
        return [key_document(key, self._now()) for key in revoked]

    def close(self) -> None:
        """End the threads."""
        for pool in self.pools:
            pool.close()

    async def _shown_once(self, made: tuple[str, StoredKey]) -> Document:
        text, key = made
        await self._publish()
        return {**key_document(key, self._now()), "key": text, "accepted": self._accepted}

    async def _publish(self) -> None:
        """Publish a stored change; if the database is away by now, the next look at it does."""
        with suppress(Fault):
            await self._changed()


def _make_grant_check(caller: Caller, hidden: bool = False) -> Callable[[KeyRecord], None]:
    """Return the check that a caller may give a key its roles; a key that it may not see is unknown if ``hidden``."""

    def check(record: KeyRecord) -> None:
        if hidden:
            _check_seen(caller, record)
        check_delegation(caller.grants, record.roles, record.models)

    return check


def _check_seen(caller: Caller, record: KeyRecord) -> None:
    if not may_see(caller.grants, record.models):
        raise NotFound(f"there is no valid key '{record.name}'; list the keys with: penstock keys list")


def _check_proven(caller: Caller) -> None:
    if not caller.is_proven:
        raise Unauthorised("keys need a credential, or the gateway's own user by the socket ops.sock in its home")
