"""Routes, trials (rollouts and experiments), what gateways counted for them, and events."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_JSON = sa.JSON(none_as_null=True)
_LONG = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "routes",
        sa.Column("model", sa.String(128), primary_key=True),
        sa.Column("document", _JSON, nullable=False),
    )
    op.create_table(
        "trials",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("model", sa.String(128), nullable=False, index=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("open", sa.Boolean, nullable=False, index=True),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.String(40), nullable=False),
        sa.Column("created_by", sa.String(128), nullable=False),
        sa.Column("document", _JSON, nullable=False),
    )
    op.create_table(
        "observations",
        sa.Column("trial", sa.String(36), primary_key=True),
        sa.Column("gateway", sa.String(64), primary_key=True),
        sa.Column("document", _JSON, nullable=False),
    )
    op.create_table(
        "events",
        sa.Column("seq", _LONG, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(80), nullable=False, unique=True),
        sa.Column("at", sa.String(40), nullable=False),
        sa.Column("type", sa.String(80), nullable=False),
        sa.Column("model", sa.String(128), nullable=False, index=True),
        sa.Column("subject", sa.String(400), nullable=False),
        sa.Column("data", _JSON, nullable=False),
        sqlite_autoincrement=True,
    )
