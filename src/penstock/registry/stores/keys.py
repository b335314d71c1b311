"""API keys in the database: made, listed, rotated and revoked; each method is one transaction, and blocks."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final

import sqlalchemy as sa

from penstock.core.access.keys import ID_CHARACTERS, SECRET_BYTES, digest_of, write_key
from penstock.core.access.table import KeyRecord, Quota
from penstock.core.audit.state_comparison import KEY_FIELDS, digest_of_row
from penstock.core.errors import AlreadyExists, NotFound, Refused
from penstock.registry.db import schema
from penstock.registry.db.own_connection import ChangeMark
from penstock.registry.records import Author, Document
from penstock.registry.stores.connections import Connections
from penstock.registry.stores.journal import Journal

MOST_KEYS: Final = 10_000
"""Keys in the table; every worker has all of them that are valid."""

_ID_ALPHABET: Final = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key and its history; times are seconds since the epoch. ``revoked_at`` is None for one that was not revoked."""

    record: KeyRecord
    created_at: float
    created_by: str
    revoked_at: float | None = None

    def is_valid(self, now: float) -> bool:
        """Whether requests with this key are accepted."""
        return self.revoked_at is None and (self.record.expires_at is None or self.record.expires_at > now)


Check = Callable[[KeyRecord], None]
"""Raises a fault if the author may not make, replace or revoke a key; called within the transaction."""


def allow(_: KeyRecord) -> None:
    """Allow every change: for the owner of the database."""


class KeyStore:
    """The API keys of a registry; a change, its line in the audit and the registry's revision are one transaction.

    Every method raises ``NotReady`` while the database cannot be reached or written.
    """

    def __init__(self, database: Connections) -> None:
        self._database = database
        self._journal = Journal(database.clock.stamp)

    def change_mark(self) -> ChangeMark | None:
        """Return a mark that is another one after every change of the database; see ``Connections``."""
        return self._database.change_mark()

    def revision(self) -> int:
        """Return a number that grows by every change of the registry."""
        with self._database.reading() as connection:
            return int(connection.execute(sa.select(schema.registry.c.revision)).scalar_one())

    def list_keys(self) -> list[StoredKey]:
        """Return all keys, also those that were revoked or have expired, in the order of their names and times."""
        table = schema.keys
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(table).order_by(table.c.name, table.c.created)).all()
        return [_key_in(row) for row in rows]

    def list_valid(self) -> tuple[KeyRecord, ...]:
        """Return the keys that were not revoked, without those that have expired."""
        now = self._database.clock.now()
        return tuple(key.record for key in self.list_keys() if key.is_valid(now))

    def create(self, key: KeyRecord, by: Author, check: Check = allow) -> tuple[str, StoredKey]:
        """Make a key with the name, roles, models, quota and end of ``key``; return its text, which is stored nowhere,
        and its record.

        Raises:
            AlreadyExists: there is a valid key of this name.
            Refused: there are too many keys.
        """
        now = self._database.clock.now()
        with self._database.writing() as connection:
            if any(item.is_valid(now) for item in _of_name(connection, key.name)):
                raise AlreadyExists(f"there is a key '{key.name}'; rotate or revoke it, or choose another name")
            return self._add(connection, key, now, by, check, "key.create", None)

    def rotate(
        self, name: str, overlap_s: float, lifetime_s: float | None, by: Author, check: Check = allow
    ) -> tuple[str, StoredKey]:
        """Make a new key in place of the valid ones of this name, which end after ``overlap_s`` seconds; return its
        text and its record. It lives for ``lifetime_s`` seconds, by default as long as the one it replaces.

        Raises:
            NotFound: there is no valid key of this name.
            Refused: there are too many keys.
        """
        now = self._database.clock.now()
        with self._database.writing() as connection:
            replaced = [item for item in _of_name(connection, name) if item.is_valid(now)]
            if not replaced:
                raise _unknown_key(name)
            for item in replaced:
                check(item.record)
                self._end(connection, item, min(now + overlap_s, item.record.expires_at or now + overlap_s), by)
            newest = replaced[-1]
            life_s = _life_s(newest) if lifetime_s is None else lifetime_s
            key = replace(newest.record, expires_at=None if life_s is None else now + life_s)
            before = {"keys": [item.record.id for item in replaced], "overlap_seconds": overlap_s}
            return self._add(connection, key, now, by, check, "key.rotate", before)

    def revoke(self, name: str, by: Author, check: Check = allow) -> list[StoredKey]:
        """Revoke a key by its id, or all keys of a name, at once; return those that were valid.

        Raises:
            NotFound: there is no such key that is not revoked.
        """
        now, table = self._database.clock.now(), schema.keys
        with self._database.writing() as connection:
            found = _keys_of(connection, (table.c.name == name) | (table.c.id == name))
            revoked = [item for item in found if item.revoked_at is None]
            if not revoked:
                raise _unknown_key(name)
            for item in revoked:
                check(item.record)
                _update(connection, item.record.id, revoked=now)
                subject = f"keys/{item.record.id}"
                self._journal.record_general_change(
                    connection, "key.revoke", subject, by, _describe_key(item.record), None
                )
        return [replace(item, revoked_at=now) for item in revoked]

    def _end(self, connection: sa.Connection, key: StoredKey, end: float, by: Author) -> None:
        """Have a key that is replaced expire."""
        _update(connection, key.record.id, expires=end)
        before = {"expires_at": key.record.expires_at}
        subject = f"keys/{key.record.id}"
        self._journal.record_general_change(connection, "key.expire", subject, by, before, {"expires_at": end})

    def _add(
        self,
        connection: sa.Connection,
        key: KeyRecord,
        now: float,
        by: Author,
        check: Check,
        action: str,
        before: Document | None,
    ) -> tuple[str, StoredKey]:
        check(key)
        if connection.execute(sa.select(sa.func.count()).select_from(schema.keys)).scalar_one() >= MOST_KEYS:
            raise Refused(f"there are {MOST_KEYS} keys already; revoke those that are not in use")
        key_id = "".join(secrets.choice(_ID_ALPHABET) for _ in range(ID_CHARACTERS))
        text = write_key(key_id, secrets.token_bytes(SECRET_BYTES))
        stored = StoredKey(replace(key, id=key_id, digest=digest_of(text)), now, by.actor)
        values = _encode_key(stored)
        connection.execute(schema.keys.insert().values(**values))
        after = {**_describe_key(stored.record), "record": digest_of_row(values, KEY_FIELDS)}
        self._journal.record_general_change(connection, action, f"keys/{key_id}", by, before, after)
        return text, stored


def _of_name(connection: sa.Connection, name: str) -> list[StoredKey]:
    return _keys_of(connection, schema.keys.c.name == name)


def _keys_of(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> list[StoredKey]:
    table = schema.keys
    rows: Sequence[sa.Row[tuple[object, ...]]] = connection.execute(
        sa.select(table).where(condition).order_by(table.c.created)
    ).all()
    return [_key_in(row) for row in rows]


def _update(connection: sa.Connection, key_id: str, **values: float) -> None:
    connection.execute(schema.keys.update().where(schema.keys.c.id == key_id).values(**values))


def _life_s(key: StoredKey) -> float | None:
    return None if key.record.expires_at is None else key.record.expires_at - key.created_at


def _unknown_key(name: str) -> NotFound:
    return NotFound(f"there is no valid key '{name[:64]}'; list the keys with: penstock keys list")


def _encode_key(key: StoredKey) -> dict[str, object]:
    record = key.record
    return {
        "id": record.id,
        "name": record.name,
        "digest": record.digest,
        "roles": list(record.roles),
        "models": list(record.models),
        "quota": asdict(record.quota),
        "created": key.created_at,
        "created_by": key.created_by,
        "expires": record.expires_at,
        "revoked": key.revoked_at,
    }


def _key_in(row: "sa.Row[tuple[object, ...]]") -> StoredKey:
    values = row._mapping  # noqa: SLF001 - its public name
    known = {name: value for name, value in dict(values["quota"]).items() if name in Quota.__slots__}
    roles, models = tuple(values["roles"]), tuple(values["models"])
    record = KeyRecord(values["id"], values["name"], values["digest"], roles, models, values["expires"], Quota(**known))
    return StoredKey(record, values["created"], values["created_by"], values["revoked"])


def _describe_key(record: KeyRecord) -> Document:
    """Return what the audit says of a key: everything but its digest."""
    document = asdict(record)
    del document["digest"]
    return {**document, "roles": list(record.roles), "models": list(record.models)}
