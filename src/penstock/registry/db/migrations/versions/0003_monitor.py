"""References, and what is to be watched of each model."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_JSON = sa.JSON(none_as_null=True)


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "references",
        sa.Column("model", sa.String(128), primary_key=True),
        sa.Column("version", sa.String(64), primary_key=True),
        sa.Column("digest", sa.String(80), nullable=False),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("document", _JSON, nullable=False),
    )
    op.create_table(
        "policies",
        sa.Column("model", sa.String(128), primary_key=True),
        sa.Column("document", _JSON, nullable=False),
    )
