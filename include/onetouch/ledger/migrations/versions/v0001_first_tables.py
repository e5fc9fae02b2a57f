"""The first tables, and the triggers that enforce the state machine for every writer.

Everything is written out here and not imported from the library: a revision must not change with the library.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
ENDED = "'won', 'lost', 'withdrawn', 'released', 'expired'"
STATES = f"'decided', 'context_written', 'task_open', 'touched', 'replied', {ENDED}"
MOVES = ", ".join(
    f"'{move}'"
    for move in (
        "decided>context_written",
        "decided>withdrawn",
        "decided>expired",
        "context_written>task_open",
        "context_written>withdrawn",
        "context_written>expired",
        "task_open>touched",
        "task_open>withdrawn",
        "task_open>expired",
        "touched>replied",
        "touched>won",
        "touched>lost",
        "touched>released",
        "touched>withdrawn",
        "replied>won",
        "replied>lost",
        "replied>withdrawn",
    )
)

# (name, table, event, condition of the refusal on the rows OLD and NEW, error message)
RULES = (
    (
        "handoffs_begin_decided",
        "handoffs",
        "INSERT",
        "NEW.state <> 'decided'",
        "a handoff begins as decided",
    ),
    (
        "handoffs_never_replaced",  # SQLite's INSERT OR REPLACE deletes without firing the triggers of DELETE
        "handoffs",
        "INSERT",
        "EXISTS (SELECT 1 FROM handoffs h WHERE h.handoff_id = NEW.handoff_id"
        " OR (h.account_id = NEW.account_id AND (h.episode = NEW.episode OR h.decided_at = NEW.decided_at"
        f" OR h.state NOT IN ({ENDED}))))",
        "UNIQUE: this handoff, or an active one of the account, exists",
    ),
    (
        "handoffs_legal_moves",
        "handoffs",
        "UPDATE",
        f"NEW.state <> OLD.state AND OLD.state || '>' || NEW.state NOT IN ({MOVES})",
        "illegal move of a handoff",
    ),
    (
        "handoffs_recorded_moves",
        "handoffs",
        "UPDATE",
        "NEW.state <> OLD.state AND NOT EXISTS (SELECT 1 FROM handoff_moves m WHERE m.handoff_id = NEW.handoff_id"
        " AND m.from_state = OLD.state AND m.to_state = NEW.state)",
        "a handoff moves only with a row in handoff_moves",
    ),
    (
        "handoffs_fixed",
        "handoffs",
        "UPDATE",
        "NEW.handoff_id <> OLD.handoff_id OR NEW.account_id <> OLD.account_id OR NEW.episode <> OLD.episode"
        " OR NEW.run_id <> OLD.run_id OR NEW.decided_at <> OLD.decided_at",
        "what a handoff is of never changes",
    ),
    ("handoffs_kept", "handoffs", "DELETE", None, "handoffs are never deleted"),
    (
        "handoff_moves_follow",
        "handoff_moves",
        "INSERT",
        "EXISTS (SELECT 1 FROM handoff_moves m WHERE m.handoff_id = NEW.handoff_id"
        " AND (m.step >= NEW.step OR m.to_state = NEW.to_state))"
        " OR NOT EXISTS (SELECT 1 FROM handoffs h WHERE h.handoff_id = NEW.handoff_id"
        " AND h.state = COALESCE(NEW.from_state, 'decided'))",
        "a move follows the one before it, from the state the handoff is in",
    ),
    ("handoff_moves_final", "handoff_moves", "UPDATE", None, "moves are only added"),
    ("handoff_moves_kept", "handoff_moves", "DELETE", None, "moves are only added"),
    (
        "outbox_sent_final",
        "outbox",
        "UPDATE",
        "OLD.state = 'sent' AND (NEW.state <> 'sent' OR NEW.external_id <> OLD.external_id OR NEW.key <> OLD.key)",
        "what was sent stays sent",
    ),
    (
        "outbox_begin_pending",
        "outbox",
        "INSERT",
        "NEW.state <> 'pending'",
        "what is put in the outbox is pending",
    ),
    (
        "outbox_never_replaced",
        "outbox",
        "INSERT",
        "EXISTS (SELECT 1 FROM outbox o WHERE o.key = NEW.key)",
        "UNIQUE: the key lies in the outbox",
    ),
    ("outbox_kept", "outbox", "DELETE", None, "the outbox is never emptied"),
)

TABLES = (
    "policies",
    "runs",
    "stages",
    "watermarks",
    "windows",
    "batches",
    "handoffs",
    "handoff_moves",
    "touches",
    "outbox",
)


def upgrade() -> None:
    op.create_table(
        "policies",
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("version", name="pk_policies"),
    )
    op.create_table(
        "runs",
        sa.Column("run_id", sa.String(96), nullable=False),
        sa.Column("as_of", MOMENT, nullable=False),
        sa.Column("policy_version", sa.String(64), nullable=False),
        sa.Column("dry_run", sa.Boolean, nullable=False),
        sa.Column("begun", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("run_id", name="pk_runs"),
        sa.ForeignKeyConstraint(["policy_version"], ["policies.version"], name="fk_runs_policy_version"),
        sa.UniqueConstraint("begun", name="uq_runs_begun"),
    )
    op.create_table(
        "stages",
        sa.Column("run_id", sa.String(96), nullable=False),
        sa.Column("stage", sa.String(96), nullable=False),
        sa.Column("summary", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("run_id", "stage", name="pk_stages"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.run_id"], name="fk_stages_run_id"),
    )
    op.create_table(
        "watermarks",
        sa.Column("source", sa.String(96), nullable=False),
        sa.Column("until", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("source", name="pk_watermarks"),
    )
    op.create_table(
        "windows",
        sa.Column("run_id", sa.String(96), nullable=False),
        sa.Column("source", sa.String(96), nullable=False),
        sa.Column("start_at", MOMENT, nullable=False),
        sa.Column("end_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("run_id", "source", name="pk_windows"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.run_id"], name="fk_windows_run_id"),
        sa.CheckConstraint("start_at <= end_at", name="ck_windows_ordered"),
    )
    op.create_table(
        "batches",
        sa.Column("batch_id", sa.String(255), nullable=False),
        sa.Column("run_id", sa.String(96), nullable=False),
        sa.Column("source", sa.String(96), nullable=False),
        sa.Column("counts", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("batch_id", name="pk_batches"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.run_id"], name="fk_batches_run_id"),
    )
    op.create_index("ix_batches_run_id", "batches", ["run_id"])
    op.create_table(
        "handoffs",
        sa.Column("handoff_id", sa.String(64), nullable=False),
        sa.Column("account_id", sa.Text, nullable=False),
        sa.Column("crm_account_id", sa.Text),
        sa.Column("episode", sa.Integer, nullable=False),
        sa.Column("decision_id", sa.Text),
        sa.Column("run_id", sa.String(96), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("owner_email", sa.Text),
        sa.Column("owner_id", sa.Text),
        sa.Column("decided_at", MOMENT, nullable=False),
        sa.Column("due_at", MOMENT),
        sa.Column("score", sa.Float),
        sa.Column("tier", sa.String(32)),
        sa.Column("signals", sa.Text, nullable=False),
        sa.Column("potential_arr", sa.Float),
        sa.Column("motion", sa.String(32)),
        sa.Column("task_id", sa.Text),
        sa.Column("touched_at", MOMENT),
        sa.Column("replied_at", MOMENT),
        sa.Column("closed_at", MOMENT),
        sa.Column("reason", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("handoff_id", name="pk_handoffs"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.run_id"], name="fk_handoffs_run_id"),
        sa.UniqueConstraint("account_id", "episode", name="uq_handoffs_account_id_episode"),
        sa.UniqueConstraint("account_id", "decided_at", name="uq_handoffs_account_id_decided_at"),
        sa.CheckConstraint("episode >= 1", name="ck_handoffs_episode_from_1"),
        sa.CheckConstraint(f"state IN ({STATES})", name="ck_handoffs_state_known"),
    )
    op.create_index("ix_handoffs_run_id", "handoffs", ["run_id"])
    op.create_index("ix_handoffs_decided_at", "handoffs", ["decided_at"])
    active = sa.text(f"state NOT IN ({ENDED})")
    op.create_index(
        "uq_handoffs_active_account",
        "handoffs",
        ["account_id"],
        unique=True,
        sqlite_where=active,
        postgresql_where=active,
    )
    op.create_table(
        "handoff_moves",
        sa.Column("handoff_id", sa.String(64), nullable=False),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("from_state", sa.String(32)),
        sa.Column("to_state", sa.String(32), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("known_at", MOMENT, nullable=False),
        sa.Column("owner_email", sa.Text),
        sa.Column("reason", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("handoff_id", "step", name="pk_handoff_moves"),
        sa.ForeignKeyConstraint(["handoff_id"], ["handoffs.handoff_id"], name="fk_handoff_moves_handoff_id"),
        sa.UniqueConstraint("handoff_id", "to_state", name="uq_handoff_moves_handoff_id_to_state"),
        sa.CheckConstraint(f"to_state IN ({STATES})", name="ck_handoff_moves_to_state_known"),
        sa.CheckConstraint(
            "(step = 0 AND from_state IS NULL AND to_state = 'decided')"
            f" OR (step > 0 AND from_state IS NOT NULL AND from_state || '>' || to_state IN ({MOVES}))",
            name="ck_handoff_moves_legal",
        ),
    )
    op.create_table(
        "touches",
        sa.Column("touch_id", sa.String(255), nullable=False),
        sa.Column("account_id", sa.Text, nullable=False),
        sa.Column("owner_email", sa.Text),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("known_at", MOMENT, nullable=False),
        sa.Column("kind", sa.Text),
        sa.Column("outcome", sa.Text),
        sa.Column("handoff_id", sa.String(64)),
        sa.PrimaryKeyConstraint("touch_id", name="pk_touches"),
        sa.ForeignKeyConstraint(["handoff_id"], ["handoffs.handoff_id"], name="fk_touches_handoff_id"),
    )
    op.create_index("ix_touches_account_id_at", "touches", ["account_id", "at"])
    op.create_index("ix_touches_at", "touches", ["at"])
    op.create_index("ix_touches_handoff_id", "touches", ["handoff_id"])
    op.create_table(
        "outbox",
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("destination", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("run_id", sa.String(96)),
        sa.Column("handoff_id", sa.String(64)),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("external_id", sa.Text),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("retryable", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_outbox"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.run_id"], name="fk_outbox_run_id"),
        sa.ForeignKeyConstraint(["handoff_id"], ["handoffs.handoff_id"], name="fk_outbox_handoff_id"),
        sa.CheckConstraint("state IN ('pending', 'sending', 'sent', 'failed')", name="ck_outbox_state_known"),
    )
    op.create_index("ix_outbox_run_id", "outbox", ["run_id"])
    op.create_index("ix_outbox_handoff_id", "outbox", ["handoff_id"])
    op.create_index("ix_outbox_state", "outbox", ["state"])

    refuse = _refuse_postgresql if op.get_bind().dialect.name == "postgresql" else _refuse_sqlite
    for rule in RULES:
        refuse(*rule)


def downgrade() -> None:
    """Deletes the whole ledger; only for trying the revision out."""
    postgresql = op.get_bind().dialect.name == "postgresql"
    for name, table, *_ in RULES:
        if postgresql:
            op.execute(f"DROP TRIGGER {name} ON {table}")
            op.execute(f"DROP FUNCTION {name}()")
        else:
            op.execute(f"DROP TRIGGER {name}")
    for table in reversed(TABLES):
        op.drop_table(table)
    if postgresql:
        op.execute("DROP FUNCTION ledger_keeps_all()")


def _refuse_sqlite(name: str, table: str, event: str, when: str | None, message: str) -> None:
    condition = f"WHEN {when}" if when else ""
    op.execute(
        f"CREATE TRIGGER {name} BEFORE {event} ON {table} FOR EACH ROW {condition} "
        f"BEGIN SELECT RAISE(ABORT, '{message}'); END"
    )


def _refuse_postgresql(name: str, table: str, event: str, when: str | None, message: str) -> None:
    # The condition may contain a query, which a trigger's WHEN may not, so the function checks it.
    result = "OLD" if event == "DELETE" else "NEW"
    op.execute(
        f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF {when or 'TRUE'} THEN "
        f"RAISE EXCEPTION '{message}' USING ERRCODE = 'integrity_constraint_violation'; END IF; "
        f"RETURN {result}; END $$"
    )
    op.execute(f"CREATE TRIGGER {name} BEFORE {event} ON {table} FOR EACH ROW EXECUTE FUNCTION {name}()")
    if event == "DELETE":  # TRUNCATE fires no trigger of DELETE
        op.execute(
            "CREATE OR REPLACE FUNCTION ledger_keeps_all() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "RAISE EXCEPTION 'the ledger is never emptied' USING ERRCODE = 'integrity_constraint_violation'; END $$"
        )
        op.execute(
            f"CREATE TRIGGER {name}_whole BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION ledger_keeps_all()"
        )
