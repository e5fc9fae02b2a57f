"""Which runs' files were deleted, when and under which number of days of the policy."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("pruned_at", sa.DateTime(timezone=True)))
    op.add_column("runs", sa.Column("pruned_days", sa.Integer))


def downgrade() -> None:
    op.drop_column("runs", "pruned_days")
    op.drop_column("runs", "pruned_at")
