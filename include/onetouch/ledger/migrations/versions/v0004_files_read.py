"""The files of each source that were read, so that a folder is read by what has not been read yet."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "files_read",
        sa.Column("source", sa.String(96), nullable=False),
        sa.Column("identity", sa.String(64), nullable=False),
        sa.Column("reason", sa.String(64), nullable=False),
        sa.Column("reading", sa.String(64), nullable=False),
        sa.Column("dry_run", sa.Boolean, nullable=False),
        sa.Column("run_id", sa.String(96), nullable=False),
        sa.Column("covered", sa.DateTime(timezone=True)),
        sa.Column("known_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("source", "identity", "reason", "reading", "dry_run", name="pk_files_read"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.run_id"], name="fk_files_read_run_id_runs"),
    )
    op.create_index("ix_files_read_run_id", "files_read", ["run_id"])


def downgrade() -> None:
    op.drop_table("files_read")
