"""What was counted of requests over time, for burn rates."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

_LONG = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "request_history",
        sa.Column("seq", _LONG, primary_key=True, autoincrement=True),
        sa.Column("model", sa.String(128), nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("slow_ms", sa.Float, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("failed", sa.BigInteger, nullable=False),
        sa.Column("slow", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_request_history_model", "request_history", ["model"])
