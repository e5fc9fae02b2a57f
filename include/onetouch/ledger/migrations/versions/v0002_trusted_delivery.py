"""What delivery must keep: attempts, a rep's disposition, the stop, the digests of the forgotten."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("outbox", sa.Column("attempts", sa.Integer, nullable=False, server_default="0"))
    # A row whose failure may pass is `pending` again, so the state shows it.
    op.execute("UPDATE outbox SET state = 'pending' WHERE state = 'failed' AND retryable")
    op.drop_column("outbox", "retryable")
    op.add_column("touches", sa.Column("disposition", sa.Text))
    op.create_table(
        "stops",
        sa.Column("stop_id", sa.Integer, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("lifted_at", MOMENT),
        sa.PrimaryKeyConstraint("stop_id", name="pk_stops"),
    )
    op.create_table(
        "forgotten",
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("kind", "digest", name="pk_forgotten"),
    )


def downgrade() -> None:
    op.drop_table("forgotten")
    op.drop_table("stops")
    op.drop_column("touches", "disposition")
    op.add_column("outbox", sa.Column("retryable", sa.Boolean, nullable=False, server_default=sa.false()))
    op.drop_column("outbox", "attempts")
