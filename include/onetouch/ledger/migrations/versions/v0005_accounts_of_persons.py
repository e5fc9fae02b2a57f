"""The account of a lone person is `user:{id}`: a handoff that has the bare id may be given that one, nothing else."""

from onetouch.ledger.migrations.versions import v0003_forgetting as former

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

NAME, TABLE, _, MESSAGE = former.RULES[0]

WHEN = (
    "NEW.handoff_id <> OLD.handoff_id OR NEW.episode <> OLD.episode"
    " OR NEW.run_id <> OLD.run_id OR NEW.decided_at <> OLD.decided_at"
    " OR (NEW.account_id <> OLD.account_id AND NEW.account_id <> 'user:' || OLD.account_id"
    f" AND NOT (NEW.account_id LIKE 'forgotten:%' AND {former.UNDER_WAY}))"
)


def upgrade() -> None:
    former._refuse(NAME, TABLE, WHEN, MESSAGE)


def downgrade() -> None:
    former._refuse(NAME, TABLE, former.RULES[0][2], MESSAGE)
