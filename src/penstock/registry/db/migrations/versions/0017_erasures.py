"""Requests to erase the rows of a subject, and what each home has removed."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "erasures",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("model", sa.String(128), nullable=False),
        sa.Column("column", sa.Text, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
    )
    op.create_table(
        "erasure_reports",
        sa.Column("erasure", sa.String(36), primary_key=True),
        sa.Column("home", sa.String(64), primary_key=True),
        sa.Column("report", sa.JSON(none_as_null=True), nullable=False),
    )
