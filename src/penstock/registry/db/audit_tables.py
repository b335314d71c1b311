"""The tables of the audit: its entries, its archives and its checkpoints."""

from sqlalchemy import JSON, BigInteger, Column, Float, Index, Integer, String, Table, Text

from penstock.registry.db.row_tables import metadata

Long = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows by INTEGER alone
Json = JSON(none_as_null=True)

audit = Table(
    "audit",
    metadata,
    Column("seq", Long, primary_key=True, autoincrement=True),
    Column("at", String(40), nullable=False),
    Column("actor", String(128), nullable=False),
    Column("action", String(40), nullable=False),
    Column("model", String(128), nullable=False, index=True),
    Column("subject", String(400), nullable=False),
    Column("reason", Text, nullable=False),
    Column("before", Json),
    Column("after", Json),
    Column("method", String(16), nullable=False, server_default=""),
    Column("key_id", String(64), nullable=False, server_default=""),
    Column("address", String(64), nullable=False, server_default=""),
    Column("request_id", String(128), nullable=False, server_default=""),
    Column("on_behalf_of", String(128), nullable=False, server_default=""),
    Column("hash", String(64), nullable=False, server_default=""),
    Index("ix_audit_subject_at", "subject", "at", "seq"),
    Index("ix_audit_model_action_at", "model", "action", "at", "seq"),
    sqlite_autoincrement=True,
)
"""Append-only: triggers refuse every update, every entry whose number is not the next, and the deletion of entries that
are in no archive. ``hash`` is the hexadecimal hash of the chain (``core/audit/chain.py``)."""

audit_archives = Table(
    "audit_archives",
    metadata,
    Column("first", BigInteger, primary_key=True, autoincrement=False),
    Column("last", BigInteger, nullable=False),
    Column("first_at", String(40), nullable=False),
    Column("last_at", String(40), nullable=False),
    Column("entries", Integer, nullable=False),
    Column("digest", String(80), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("dropped_at", Float),
    Column("link", String(64), nullable=False, server_default=""),
    Column("nodes", Json, nullable=False, server_default="[]"),
)
"""Ranges of the audit that were moved into files, which are blobs; triggers refuse to delete these rows. ``link`` is
the hash of the last entry ("" if the entries are older than the chain), ``nodes`` the hashes of the range's largest
subtrees in the Merkle tree."""

audit_checkpoints = Table(
    "audit_checkpoints",
    metadata,
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
    Column("at", String(40), nullable=False),
    Column("note", Text, nullable=False),
)
"""Signed checkpoints of the audit: the number of chained entries, the last entry, and the signed note. Triggers refuse
every update, and the deletion of the largest one."""
