"""API keys in the database, over SQLite and PostgreSQL: shown once, replaced with an overlap, revoked, and audited."""

import json

import pytest

from penstock.core.access.keys import digest_of, key_id_of
from penstock.core.access.table import KeyRecord, Quota
from penstock.core.errors import AlreadyExists, NotFound, Refused, Unauthorised
from penstock.registry.db import schema
from penstock.registry.db.database import Database
from penstock.registry.records import Author
from penstock.registry.stores import keys as key_stores
from penstock.registry.stores.keys import KeyStore
from penstock.registry.stores.retention import RetentionStore
from penstock.registry.stores.versions import VersionStore
from tests.integration.registry.test_store import database
from tests.leases import leading

__all__ = ["database"]

BY = Author("ann", "for the nightly job")
BOT = KeyRecord("", "bot", "", ("caller", "feedback"), ("digits", "fraud-*"), quota=Quota(10.0, concurrent=2))


@pytest.fixture
def store(database: Database) -> KeyStore:
    return KeyStore(database)


def age(database: Database, seconds: float) -> None:
    """Let so much time pass for all keys."""
    table = schema.keys
    with database.recording() as connection:
        for column in (table.c.created, table.c.expires, table.c.revoked):
            connection.execute(table.update().values({column: column - seconds}))


def test_a_key_is_stored_by_its_digest_alone(store: KeyStore, database: Database) -> None:
    text, key = store.create(BOT, BY)
    assert key.record.digest == digest_of(text) and key_id_of(text) == key.record.id
    assert (key.created_by, key.record.roles, key.record.quota) == ("ann", BOT.roles, BOT.quota)
    assert store.list_keys() == [key]
    assert store.list_valid() == (key.record,)
    with database.reading() as connection:
        rows = [*connection.execute(schema.keys.select()), *connection.execute(schema.audit.select())]
    assert text.split("_")[2] not in str(rows)


def test_a_change_is_audited_and_raises_the_revision(store: KeyStore, database: Database) -> None:
    before = store.revision()
    _, key = store.create(BOT, BY)
    store.rotate("bot", 60.0, None, BY)
    store.revoke("bot", BY)
    assert store.revision() > before
    entries = VersionStore(database).audit()
    assert [entry.action for entry in entries] == ["key.create", "key.expire", "key.rotate", "key.revoke", "key.revoke"]
    assert entries[0].subject == f"keys/{key.record.id}"
    assert entries[0].after is not None and entries[0].after["models"] == ["digits", "fraud-*"]
    assert key.record.digest not in json.dumps([[entry.before, entry.after] for entry in entries])


def test_a_name_is_taken_while_a_key_of_it_is_valid(store: KeyStore) -> None:
    store.create(BOT, BY)
    with pytest.raises(AlreadyExists, match="rotate or revoke"):
        store.create(BOT, BY)
    store.revoke("bot", BY)
    store.create(BOT, BY)


def test_while_a_key_replaces_another_both_are_valid(store: KeyStore, database: Database) -> None:
    old_text, old = store.create(BOT, BY)
    new_text, new = store.rotate("bot", 60.0, None, BY)
    assert old_text != new_text
    assert {record.id for record in store.list_valid()} == {old.record.id, new.record.id}
    assert (new.record.roles, new.record.models, new.record.quota) == (BOT.roles, BOT.models, BOT.quota)
    age(database, 61.0)
    assert [record.id for record in store.list_valid()] == [new.record.id]
    store.rotate("bot", 0.0, None, BY)
    assert len(store.list_valid()) == 1


def test_a_new_key_lives_as_long_as_the_one_that_it_replaces(store: KeyStore, database: Database) -> None:
    now = database.clock.now()
    store.create(KeyRecord("", "bot", "", ("caller",), expires_at=now + 1000.0), BY)
    age(database, 400.0)
    _, new = store.rotate("bot", 3600.0, None, BY)
    assert new.record.expires_at == pytest.approx(now + 1000.0, abs=5.0)
    old = next(key for key in store.list_keys() if key.record.id != new.record.id)
    assert old.record.expires_at == pytest.approx(now + 600.0, abs=5.0)  # the overlap does not prolong it
    _, newest = store.rotate("bot", 0.0, 5.0, BY)
    assert newest.record.expires_at == pytest.approx(now + 5.0, abs=5.0)


def test_a_key_is_revoked_by_its_id_or_all_of_a_name(store: KeyStore) -> None:
    _, old = store.create(BOT, BY)
    _, new = store.rotate("bot", 60.0, None, BY)
    assert [key.record.id for key in store.revoke(old.record.id, BY)] == [old.record.id]
    assert store.list_valid() == (new.record,)
    assert [key.record.id for key in store.revoke("bot", BY)] == [new.record.id]
    assert store.list_valid() == ()
    for name in ("bot", old.record.id, "other"):
        with pytest.raises(NotFound):
            store.revoke(name, BY)
    with pytest.raises(NotFound):
        store.rotate("bot", 0.0, None, BY)


def test_a_check_that_fails_changes_nothing(store: KeyStore) -> None:
    def refuse(_: KeyRecord) -> None:
        raise Unauthorised("no")

    with pytest.raises(Unauthorised):
        store.create(BOT, BY, refuse)
    assert store.list_keys() == []
    _, key = store.create(BOT, BY)
    for change in (lambda: store.rotate("bot", 0.0, None, BY, refuse), lambda: store.revoke("bot", BY, refuse)):
        with pytest.raises(Unauthorised):
            change()
    assert store.list_keys() == [key]


def test_the_number_of_keys_is_bounded(store: KeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_stores, "MOST_KEYS", 1)
    store.create(BOT, BY)
    with pytest.raises(Refused, match="revoke those"):
        store.rotate("bot", 0.0, None, BY)


def test_keys_that_ended_long_ago_are_deleted(store: KeyStore, database: Database) -> None:
    now = database.clock.now()
    store.create(KeyRecord("", "expired", "", ("caller",), expires_at=now - 100.0), BY)
    store.create(KeyRecord("", "revoked", "", ("caller",)), BY)
    store.revoke("revoked", BY)
    store.create(BOT, BY)
    retention = RetentionStore(leading(database, "a"))
    assert retention.keys(now - 50.0) == 1
    assert retention.keys(now + 50.0) == 1
    assert [key.record.name for key in store.list_keys()] == ["bot"]
