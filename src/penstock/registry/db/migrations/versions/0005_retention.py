"""Archives of the audit, whose entries alone may leave it, and when references were used last."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_ARCHIVED = "EXISTS (SELECT 1 FROM audit_archives WHERE OLD.seq BETWEEN first AND last)"
_FIXED = "first, last, first_at, last_at, entries, digest, size"


def upgrade() -> None:
    """Make the table, let archived entries go, and keep the records of archives for good."""
    op.create_table(
        "audit_archives",
        sa.Column("first", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("last", sa.BigInteger, nullable=False),
        sa.Column("first_at", sa.String(40), nullable=False),
        sa.Column("last_at", sa.String(40), nullable=False),
        sa.Column("entries", sa.Integer, nullable=False),
        sa.Column("digest", sa.String(80), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("dropped_at", sa.Float),
    )
    op.add_column("references", sa.Column("used_at", sa.Float))
    for statement in _triggers(op.get_bind().dialect.name):
        op.execute(statement)


def _triggers(dialect: str) -> list[str]:
    if dialect == "sqlite":
        refusal = "BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END"
        return [
            "DROP TRIGGER audit_no_delete",
            f"CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit WHEN NOT {_ARCHIVED} {refusal}",
            f"CREATE TRIGGER audit_archives_no_delete BEFORE DELETE ON audit_archives {refusal}",
            f"CREATE TRIGGER audit_archives_no_update BEFORE UPDATE OF {_FIXED} ON audit_archives {refusal}",
        ]
    refuse = "EXECUTE FUNCTION audit_is_append_only()"
    body = (
        f"BEGIN IF TG_OP = 'DELETE' AND TG_TABLE_NAME = 'audit' THEN IF {_ARCHIVED} THEN RETURN OLD; END IF; END IF; "
        "RAISE EXCEPTION 'the audit is append-only'; END"
    )
    archives = "ON audit_archives FOR EACH"
    return [
        f"CREATE OR REPLACE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$",
        f"CREATE TRIGGER audit_archives_no_delete BEFORE DELETE {archives} ROW {refuse}",
        f"CREATE TRIGGER audit_archives_no_update BEFORE UPDATE OF {_FIXED} {archives} ROW {refuse}",
        f"CREATE TRIGGER audit_archives_no_truncate BEFORE TRUNCATE {archives} STATEMENT {refuse}",
    ]
