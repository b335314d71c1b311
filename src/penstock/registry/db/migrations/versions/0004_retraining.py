"""What retraining rules remember, and events on their way to sinks."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_LONG = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_JSON = sa.JSON(none_as_null=True)


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "standings",
        sa.Column("model", sa.String(128), primary_key=True),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("document", _JSON, nullable=False),
    )
    op.create_table(
        "outbox",
        sa.Column("seq", _LONG, primary_key=True, autoincrement=True),
        sa.Column("event", sa.String(80), nullable=False),
        sa.Column("model", sa.String(128), nullable=False),
        sa.Column("sink", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("due", sa.Float, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.UniqueConstraint("event", "sink"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_outbox_state", "outbox", ["state"])
