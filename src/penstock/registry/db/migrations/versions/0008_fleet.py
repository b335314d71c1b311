"""The gateways of a fleet, and the lease of the one that decides for all."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_JSON = sa.JSON(none_as_null=True)


def upgrade() -> None:
    """Make the tables, and the one lease, which nobody holds."""
    op.create_table(
        "gateways",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("release", sa.String(64), nullable=False),
        sa.Column("started", sa.Float, nullable=False),
        sa.Column("seen", sa.Float, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("serves", _JSON, nullable=False),
    )
    leadership = op.create_table(
        "leadership",
        sa.Column("name", sa.String(16), primary_key=True),
        sa.Column("holder", sa.String(64), nullable=False),
        sa.Column("term", sa.BigInteger, nullable=False),
        sa.Column("until", sa.Float, nullable=False),
    )
    op.bulk_insert(leadership, [{"name": "fleet", "holder": "", "term": 0, "until": 0.0}])
