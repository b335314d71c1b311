"""What callers with quotas ask for at each gateway, so that the gateways of a fleet share the quotas by it."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    """Add the column."""
    demand = sa.Column("demand", sa.JSON(none_as_null=True), nullable=False, server_default="{}")
    op.add_column("gateways", demand)
