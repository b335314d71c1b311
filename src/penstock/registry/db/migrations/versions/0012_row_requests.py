"""Requests of the gateway that leads for captured rows of the others, and what these have handed over."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Make the tables; gateways say whose files they have."""
    op.create_table(
        "row_requests",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("asker", sa.String(64), nullable=False),
        sa.Column("model", sa.String(128), nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("share", sa.Float, nullable=False),
        sa.Column("for_exam", sa.Boolean, nullable=False),
        sa.Column("most_rows", sa.BigInteger, nullable=False),
        sa.Column("most_bytes", sa.BigInteger, nullable=False),
        sa.Column("deadline", sa.Float, nullable=False),
    )
    op.create_table(
        "row_answers",
        sa.Column("request", sa.String(36), primary_key=True),
        sa.Column("gateway", sa.String(64), primary_key=True),
        sa.Column("digest", sa.String(80), nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("problem", sa.Text, nullable=False),
    )
    op.add_column("gateways", sa.Column("home", sa.String(64), nullable=False, server_default=""))
