"""What became of the labels of each gateway's answers, beside its counts."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add the column; what gateways counted before comes with their next publication."""
    op.add_column("counts", sa.Column("outcomes", sa.JSON(none_as_null=True), nullable=False, server_default="{}"))
