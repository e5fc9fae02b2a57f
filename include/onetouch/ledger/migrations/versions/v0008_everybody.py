"""What was last written on each account's record, and whom the audience's receiver was told of."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "standings",
        sa.Column("destination", sa.String(64), nullable=False),
        sa.Column("crm_account_id", sa.String(255), nullable=False),
        sa.Column("account_id", sa.Text, nullable=False),
        sa.Column("tier", sa.String(32)),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("situation", sa.Text, nullable=False),
        sa.Column("score", sa.Float, nullable=False),
        sa.Column("as_of", MOMENT, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("destination", "crm_account_id", name="pk_standings"),
        sa.CheckConstraint("state IN ('sending', 'written', 'refused', 'gone')", name="ck_standings_state_known"),
    )
    op.create_table(
        "audience",
        sa.Column("account_id", sa.Text, nullable=False),
        sa.Column("situation", sa.String(64), nullable=False),
        sa.Column("facts", sa.String(64), nullable=False),
        sa.Column("told_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("account_id", name="pk_audience"),
    )


def downgrade() -> None:
    op.drop_table("audience")
    op.drop_table("standings")
