"""Feedback that waits for the gateway that gave the answer, and how far gateways have looked."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

_LONG = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "feedback",
        sa.Column("seq", _LONG, primary_key=True, autoincrement=True),
        sa.Column("model", sa.String(128), nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("told", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_feedback_at", "feedback", ["at"])
    op.create_table(
        "feedback_readers",
        sa.Column("reader", sa.String(64), primary_key=True),
        sa.Column("passed", sa.BigInteger, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
    )
