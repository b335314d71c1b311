"""Models, versions, aliases, the audit, and who is working with which content."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_JSON = sa.JSON(none_as_null=True)
_LONG = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the tables, and make the audit append-only."""
    op.create_table(
        "registry",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "models",
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("settings", _JSON, nullable=False),
    )
    op.create_table(
        "versions",
        sa.Column("model", sa.String(128), primary_key=True),
        sa.Column("version", sa.String(64), primary_key=True),
        sa.Column("digest", sa.String(80), nullable=False, index=True),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("form", sa.String(8), nullable=False),
        sa.Column("files", _JSON, nullable=False),
        sa.Column("graph", sa.Text, nullable=False),
        sa.Column("config", sa.Text, nullable=False),
        sa.Column("created_at", sa.String(40), nullable=False),
        sa.Column("created_by", sa.String(128), nullable=False),
        sa.Column("standing", sa.String(16), nullable=False),
        sa.Column("retired_at", sa.Float),
        sa.Column("metadata", _JSON, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("facts", _JSON, nullable=False),
    )
    op.create_table(
        "aliases",
        sa.Column("model", sa.String(128), primary_key=True),
        sa.Column("alias", sa.String(64), primary_key=True),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("before", _JSON, nullable=False),
    )
    op.create_table(
        "audit",
        sa.Column("seq", _LONG, primary_key=True, autoincrement=True),
        sa.Column("at", sa.String(40), nullable=False),
        sa.Column("actor", sa.String(128), nullable=False),
        sa.Column("action", sa.String(40), nullable=False),
        sa.Column("model", sa.String(128), nullable=False, index=True),
        sa.Column("subject", sa.String(400), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("before", _JSON),
        sa.Column("after", _JSON),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "leases",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("digest", sa.String(80), nullable=False, index=True),
        sa.Column("until", sa.Float, nullable=False),
    )
    op.create_table(
        "condemned",
        sa.Column("digest", sa.String(80), primary_key=True),
        sa.Column("since", sa.Float, nullable=False),
    )
    for statement in _append_only(op.get_bind().dialect.name):
        op.execute(statement)


def _append_only(dialect: str) -> list[str]:
    if dialect == "sqlite":
        return [
            f"CREATE TRIGGER audit_no_{verb} BEFORE {verb} ON audit "
            "BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END"
            for verb in ("update", "delete")
        ]
    called = "FOR EACH {} EXECUTE FUNCTION audit_is_append_only()"
    refusal = "BEGIN RAISE EXCEPTION 'the audit is append-only'; END"
    return [
        f"CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$ {refusal} $$",
        f"CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON audit {called.format('ROW')}",
        f"CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit {called.format('STATEMENT')}",
    ]
