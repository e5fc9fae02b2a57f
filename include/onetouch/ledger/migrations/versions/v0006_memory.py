"""What routing remembers from one run to the next, and which runs are real: not dry, not made up for afterwards."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    # Until now every run that was not dry counted as real.
    op.add_column("runs", sa.Column("real", sa.Boolean, nullable=False, server_default=sa.true()))
    op.execute(sa.text("UPDATE runs SET real = NOT dry_run"))
    op.create_table(
        "memory",
        sa.Column("account_id", sa.Text, nullable=False),
        sa.Column("what", sa.String(96), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("noted_at", MOMENT, nullable=False),
        sa.Column("run_id", sa.String(96), nullable=False),
        sa.Column("ended_at", MOMENT),
        sa.Column("ended", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("account_id", "what", "at", name="pk_memory"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.run_id"], name="fk_memory_run_id"),
    )
    op.create_index("ix_memory_ended_at", "memory", ["ended_at"])


def downgrade() -> None:
    op.drop_table("memory")
    op.drop_column("runs", "real")
