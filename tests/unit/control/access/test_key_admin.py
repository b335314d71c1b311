"""Keys for the admin API: nobody without proof, nobody beyond their own; a change is published before its answer."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from penstock.control.access.key_admin import KeyAdmin
from penstock.core.access.callers import ANONYMOUS, OWNER, Caller, CallerKind
from penstock.core.access.keys import key_id_of
from penstock.core.access.permissions import grants_of
from penstock.core.errors import Fault, NotFound, Unauthorised
from penstock.registry.db.database import Database, open_database
from penstock.registry.records import Author
from penstock.registry.stores.keys import KeyStore

BY = Author("ann")
FRAUD = Caller("fay", CallerKind.KEY, grants_of(["admin"], ["fraud-*"]))
VIEWER = Caller("vic", CallerKind.KEY, grants_of(["viewer"]))
BOT = {"name": "bot", "roles": ["caller"], "models": ["fraud-1"]}


class Keys:
    """The keys of a database, and how often a change was published."""

    def __init__(self, folder: Path) -> None:
        self.database: Database = open_database(f"sqlite:///{folder / 'r.db'}", 5.0)
        self.published = 0
        self.admin = KeyAdmin(KeyStore(self.database), self._changed, True, self.database.clock.now)

    async def _changed(self) -> None:
        self.published += 1


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[Keys]:
    made = Keys(tmp_path)
    yield made
    made.admin.close()
    made.database.close()


def run(act: Callable[[], Awaitable[None]]) -> None:
    async def all_of_it() -> None:
        await act()

    asyncio.run(all_of_it())


async def refused(call: Awaitable[object], kind: type[Fault]) -> None:
    with pytest.raises(kind):
        await call


def test_a_change_is_published_before_it_is_answered(keys: Keys) -> None:
    async def act() -> None:
        made = await keys.admin.create(BOT, BY, OWNER)
        assert key_id_of(made["key"]) == made["id"] and made["accepted"]
        assert keys.published == 1
        rotated = await keys.admin.rotate("bot", {"overlap_seconds": 60}, BY, OWNER)
        assert rotated["key"] != made["key"] and keys.published == 2
        assert len(await keys.admin.revoke("bot", BY, OWNER)) == 2
        assert keys.published == 3
        listed = await keys.admin.list_keys(OWNER)
        assert [(key["name"], key["state"]) for key in listed] == [("bot", "revoked")] * 2
        assert all("key" not in key for key in listed)

    run(act)


def test_without_proof_there_are_no_keys(keys: Keys) -> None:
    async def act() -> None:
        await refused(keys.admin.list_keys(ANONYMOUS), Unauthorised)
        await refused(keys.admin.create(BOT, BY, ANONYMOUS), Unauthorised)
        await refused(keys.admin.rotate("bot", {}, BY, ANONYMOUS), Unauthorised)
        await refused(keys.admin.revoke("bot", BY, ANONYMOUS), Unauthorised)
        assert keys.published == 0

    run(act)


def test_an_admin_of_some_models_sees_and_changes_their_keys_alone(keys: Keys) -> None:
    async def act() -> None:
        await keys.admin.create(BOT, BY, FRAUD)
        await keys.admin.create({**BOT, "name": "wide", "models": ["*"]}, BY, OWNER)
        await refused(keys.admin.create({**BOT, "name": "x", "models": ["*"]}, BY, FRAUD), Unauthorised)
        await refused(keys.admin.create({**BOT, "name": "x"}, BY, VIEWER), Unauthorised)
        assert [key["name"] for key in await keys.admin.list_keys(FRAUD)] == ["bot"]
        assert await keys.admin.list_keys(VIEWER) == []
        for caller, name in ((FRAUD, "wide"), (VIEWER, "bot"), (FRAUD, "unknown")):
            await refused(keys.admin.rotate(name, {}, BY, caller), NotFound)
            await refused(keys.admin.revoke(name, BY, caller), NotFound)
        assert len(await keys.admin.list_keys(OWNER)) == 2
        await keys.admin.rotate("bot", {}, BY, FRAUD)

    run(act)


def test_an_administrator_without_the_role_of_a_key_may_revoke_it_but_not_rotate_it(keys: Keys) -> None:
    registrar = Caller("reg", CallerKind.KEY, grants_of(["administer"]))

    async def act() -> None:
        await keys.admin.create(BOT, BY, OWNER)
        await refused(keys.admin.rotate("bot", {}, BY, registrar), Unauthorised)
        assert len(await keys.admin.revoke("bot", BY, registrar)) == 1

    run(act)
