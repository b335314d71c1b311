"""The audit as a hash chain: who made a change and how that is known, hashes, checkpoints, and stricter triggers."""

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

from penstock.core.audit.chain import canonical_form, first_link, next_link

revision = "0015"
down_revision = "0014"

_JSON = sa.JSON(none_as_null=True)
BATCH = 1000

_AUTHOR = {"method": 16, "key_id": 64, "address": 64, "request_id": 128, "on_behalf_of": 128, "hash": 64}
_ARCHIVED = "EXISTS (SELECT 1 FROM audit_archives WHERE OLD.seq BETWEEN first AND last)"
_NEXT = (
    "(SELECT coalesce(max(seq), 0) FROM (SELECT max(seq) AS seq FROM audit "
    "UNION ALL SELECT max(last) FROM audit_archives) AS numbers) + 1"
)
_FIXED = "first, last, first_at, last_at, entries, digest, size, link, nodes"
_NEW_ARCHIVE = (
    "NEW.first = (SELECT min(seq) FROM audit) AND NEW.last BETWEEN NEW.first AND (SELECT max(seq) FROM audit)"
)
_LARGEST = "(SELECT coalesce(max(size), 0) FROM audit_checkpoints)"


def upgrade() -> None:
    """Add the columns and the table, chain the entries that are there, and make the triggers stricter."""
    connection = op.get_bind()
    dialect = connection.dialect.name
    op.execute("DROP TRIGGER audit_no_update" if dialect == "sqlite" else "DROP TRIGGER audit_append_only ON audit")
    for name, length in _AUTHOR.items():
        op.add_column("audit", sa.Column(name, sa.String(length), nullable=False, server_default=""))
    op.add_column("audit_archives", sa.Column("link", sa.String(64), nullable=False, server_default=""))
    op.add_column("audit_archives", sa.Column("nodes", _JSON, nullable=False, server_default="[]"))
    op.create_index("ix_audit_subject_at", "audit", ["subject", "at", "seq"])
    op.create_index("ix_audit_model_action_at", "audit", ["model", "action", "at", "seq"])
    op.create_table(
        "audit_checkpoints",
        sa.Column("size", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("at", sa.String(40), nullable=False),
        sa.Column("note", sa.Text, nullable=False),
    )
    _chain(connection)
    for statement in _sqlite_triggers() if dialect == "sqlite" else _postgres_triggers():
        op.execute(statement)


def _chain(connection: sa.Connection) -> None:
    """Give each entry its hash. Entries that were archived before are not part of the chain."""
    registry_id = connection.execute(sa.text("SELECT id FROM registry")).scalar()
    link = first_link(str(registry_id))
    update = sa.text("UPDATE audit SET hash = :link WHERE seq = :entry")
    for rows in _batches(connection):
        hashes = []
        for row in rows:
            link = next_link(link, canonical_form(row._mapping))  # noqa: SLF001 - its public name
            hashes.append({"link": link.hex(), "entry": row.seq})
        connection.execute(update, hashes)


def _batches(connection: sa.Connection) -> Iterator[Sequence[Any]]:
    texts = ("at", "actor", "action", "model", "subject", "reason")
    documents = (sa.column("before", _JSON), sa.column("after", _JSON))
    columns = [sa.column("seq"), *map(sa.column, texts), *documents]
    table, last = sa.table("audit", *columns), -1
    while True:
        query = sa.select(table).where(table.c.seq > last).order_by(table.c.seq).limit(BATCH)
        rows = connection.execute(query).all()
        if not rows:
            return
        yield rows
        last = rows[-1].seq


def _sqlite_triggers() -> list[str]:
    refusal = "BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END"
    checkpoints = "ON audit_checkpoints"
    return [
        f"CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit {refusal}",
        (
            "CREATE TRIGGER audit_is_next BEFORE INSERT ON audit "
            f"WHEN NEW.seq IS NOT {_NEXT} OR length(NEW.hash) <> 64 {refusal}"
        ),
        "DROP TRIGGER audit_archives_no_update",
        f"CREATE TRIGGER audit_archives_no_update BEFORE UPDATE OF {_FIXED} ON audit_archives {refusal}",
        (
            "CREATE TRIGGER audit_archives_is_next BEFORE INSERT ON audit_archives "
            f"WHEN NOT coalesce({_NEW_ARCHIVE}, 0) {refusal}"
        ),
        f"CREATE TRIGGER audit_checkpoints_no_update BEFORE UPDATE {checkpoints} {refusal}",
        f"CREATE TRIGGER audit_checkpoints_is_next BEFORE INSERT {checkpoints} WHEN NEW.size <= {_LARGEST} {refusal}",
        f"CREATE TRIGGER audit_checkpoints_no_delete BEFORE DELETE {checkpoints} WHEN OLD.size = {_LARGEST} {refusal}",
    ]


def _postgres_triggers() -> list[str]:
    refuse = "EXECUTE FUNCTION audit_is_append_only()"
    raised = "RAISE EXCEPTION 'the audit is append-only'"
    body = (
        f"BEGIN IF TG_OP = 'DELETE' AND TG_TABLE_NAME = 'audit' THEN IF {_ARCHIVED} THEN RETURN OLD; END IF; END IF; "
        f"IF TG_OP = 'DELETE' AND TG_TABLE_NAME = 'audit_checkpoints' THEN IF OLD.size < {_LARGEST} THEN RETURN OLD; "
        f"END IF; END IF; {raised}; END"
    )
    checks = {
        "audit": f"NEW.seq IS DISTINCT FROM {_NEXT} OR length(NEW.hash) <> 64",
        "audit_archives": f"NOT coalesce({_NEW_ARCHIVE}, false)",
        "audit_checkpoints": f"NEW.size <= {_LARGEST}",
    }
    checkpoints = "ON audit_checkpoints FOR EACH"
    statements = [
        f"CREATE OR REPLACE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$",
        f"CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON audit FOR EACH ROW {refuse}",
        "DROP TRIGGER audit_archives_no_update ON audit_archives",
        f"CREATE TRIGGER audit_archives_no_update BEFORE UPDATE OF {_FIXED} ON audit_archives FOR EACH ROW {refuse}",
        f"CREATE TRIGGER audit_checkpoints_append_only BEFORE UPDATE OR DELETE {checkpoints} ROW {refuse}",
        f"CREATE TRIGGER audit_checkpoints_no_truncate BEFORE TRUNCATE {checkpoints} STATEMENT {refuse}",
    ]
    for table, wrong in checks.items():
        checked = f"BEGIN IF {wrong} THEN {raised}; END IF; RETURN NEW; END"
        statements += [
            f"CREATE FUNCTION {table}_check_next() RETURNS trigger LANGUAGE plpgsql AS $$ {checked} $$",
            (
                f"CREATE TRIGGER {table}_is_next BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION "
                f"{table}_check_next()"
            ),
        ]
    return statements
