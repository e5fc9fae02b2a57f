"""Erasing a user or an account: during an erasure the triggers allow a pseudonym to replace an id, nothing else."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

UNDER_WAY = "EXISTS (SELECT 1 FROM forgetting)"

# (name, table, condition of the refusal on the rows OLD and NEW, error message): as in 0001, except for an erasure
RULES = (
    (
        "handoffs_fixed",
        "handoffs",
        "NEW.handoff_id <> OLD.handoff_id OR NEW.episode <> OLD.episode"
        " OR NEW.run_id <> OLD.run_id OR NEW.decided_at <> OLD.decided_at"
        f" OR (NEW.account_id <> OLD.account_id AND NOT (NEW.account_id LIKE 'forgotten:%' AND {UNDER_WAY}))",
        "what a handoff is of never changes",
    ),
    (
        "handoff_moves_final",
        "handoff_moves",
        f"NOT {UNDER_WAY} OR NEW.handoff_id <> OLD.handoff_id OR NEW.step <> OLD.step"
        " OR COALESCE(NEW.from_state, '') <> COALESCE(OLD.from_state, '') OR NEW.to_state <> OLD.to_state"
        " OR NEW.at <> OLD.at OR NEW.known_at <> OLD.known_at"
        " OR (NEW.reason <> OLD.reason AND NEW.reason NOT LIKE '%forgotten:%')"
        " OR (COALESCE(NEW.owner_email, '') <> COALESCE(OLD.owner_email, '')"
        " AND COALESCE(NEW.owner_email, '') NOT LIKE '%forgotten:%')",
        "moves are only added",
    ),
    (
        "outbox_sent_final",
        "outbox",
        "OLD.state = 'sent' AND (NEW.state <> 'sent'"
        f" OR (NEW.external_id <> OLD.external_id AND NOT (NEW.external_id LIKE '%forgotten:%' AND {UNDER_WAY}))"
        f" OR (NEW.key <> OLD.key AND NOT (NEW.key LIKE '%forgotten:%' AND {UNDER_WAY})))",
        "what was sent stays sent",
    ),
)

BEFORE = {
    "handoffs_fixed": "NEW.handoff_id <> OLD.handoff_id OR NEW.account_id <> OLD.account_id"
    " OR NEW.episode <> OLD.episode OR NEW.run_id <> OLD.run_id OR NEW.decided_at <> OLD.decided_at",
    "handoff_moves_final": "TRUE",
    "outbox_sent_final": "OLD.state = 'sent' AND (NEW.state <> 'sent' OR NEW.external_id <> OLD.external_id"
    " OR NEW.key <> OLD.key)",
}


def upgrade() -> None:
    op.create_table(
        "forget_key",
        sa.Column("key", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_forget_key"),
    )
    op.create_table(
        "forgetting",
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("kind", "digest", name="pk_forgetting"),
    )
    for name, table, when, message in RULES:
        _refuse(name, table, when, message)


def downgrade() -> None:
    for name, table, _, message in RULES:
        _refuse(name, table, BEFORE[name], message)
    op.drop_table("forgetting")
    op.drop_table("forget_key")


def _refuse(name: str, table: str, when: str, message: str) -> None:
    """Replaces the trigger of that name."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"IF {when} THEN "
            f"RAISE EXCEPTION '{message}' USING ERRCODE = 'integrity_constraint_violation'; END IF; "
            "RETURN NEW; END $$"
        )
    else:
        op.execute(f"DROP TRIGGER {name}")
        op.execute(
            f"CREATE TRIGGER {name} BEFORE UPDATE ON {table} FOR EACH ROW WHEN {when} "
            f"BEGIN SELECT RAISE(ABORT, '{message}'); END"
        )
