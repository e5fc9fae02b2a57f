"""The ledger's tables. `migrations/` creates them; a test checks that both agree."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
    true,
)

from onetouch.ledger.columns import Document, Moment, SignalNames
from onetouch.ledger.states import STATES, TERMINAL
from onetouch.policy import FORMAT as POLICY_FORMAT

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

OUTBOX_STATES = ("pending", "sending", "sent", "failed")

STANDING_STATES = ("sending", "written", "refused", "gone")


def _one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    quoted = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({quoted})", name=f"{column}_known")


policies = Table(
    "policies",
    metadata,
    Column("version", String(64), primary_key=True),
    Column("document", Document, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("run_id", String(96), primary_key=True),
    Column("as_of", Moment, nullable=False),
    Column("policy_version", ForeignKey("policies.version"), nullable=False),
    Column("dry_run", Boolean, nullable=False),
    Column("real", Boolean, nullable=False, server_default=true()),  # neither dry nor made up for afterwards
    Column("begun", Integer, nullable=False, unique=True),  # the order in which runs were last begun, not a time
    Column("pruned_at", Moment),  # when its files were deleted …
    Column("pruned_days", Integer),  # … under which `retention.runs_days`
)

stages = Table(
    "stages",
    metadata,
    Column("run_id", ForeignKey("runs.run_id"), primary_key=True),
    Column("stage", String(96), primary_key=True),
    Column("summary", Document, nullable=False),
)

watermarks = Table(
    "watermarks",
    metadata,
    Column("source", String(96), primary_key=True),
    Column("until", Moment, nullable=False),
)

windows = Table(
    "windows",
    metadata,
    Column("run_id", ForeignKey("runs.run_id"), primary_key=True),
    Column("source", String(96), primary_key=True),
    Column("start_at", Moment, nullable=False),
    Column("end_at", Moment, nullable=False),
    CheckConstraint("start_at <= end_at", name="ordered"),
)

batches = Table(
    "batches",
    metadata,
    Column("batch_id", String(255), primary_key=True),
    Column("run_id", ForeignKey("runs.run_id"), nullable=False, index=True),
    Column("source", String(96), nullable=False),
    Column("counts", Document, nullable=False),
)

files_read = Table(
    "files_read",
    metadata,
    Column("source", String(96), primary_key=True),
    Column("identity", String(64), primary_key=True),  # a digest of name and content
    Column("reason", String(64), primary_key=True),  # why it was refused; empty: it was read
    Column("reading", String(64), primary_key=True),  # a digest of the policy's keys by which its rows were judged
    Column("dry_run", Boolean, primary_key=True),
    Column("run_id", ForeignKey("runs.run_id"), nullable=False, index=True),
    Column("covered", Moment),  # of its rows, those received before this moment …
    Column("known_at", Moment),  # … have been known only since this one
)

handoffs = Table(
    "handoffs",
    metadata,
    Column("handoff_id", String(64), primary_key=True),
    Column("account_id", Text, nullable=False),
    Column("crm_account_id", Text),
    Column("episode", Integer, nullable=False),
    Column("decision_id", Text),
    Column("run_id", ForeignKey("runs.run_id"), nullable=False, index=True),
    Column("state", String(32), nullable=False),
    Column("owner_email", Text),
    Column("owner_id", Text),
    Column("decided_at", Moment, nullable=False, index=True),
    Column("due_at", Moment),
    Column("score", Float),
    Column("tier", String(32)),
    Column("signals", SignalNames, nullable=False),
    Column("potential_arr", Float),
    Column("motion", String(32)),
    Column("task_id", Text),
    Column("touched_at", Moment),
    Column("replied_at", Moment),
    Column("closed_at", Moment),
    Column("reason", Text, nullable=False),
    UniqueConstraint("account_id", "episode"),
    UniqueConstraint("account_id", "decided_at"),
    CheckConstraint("episode >= 1", name="episode_from_1"),
    _one_of("state", STATES),
)

_ended = ", ".join(f"'{state}'" for state in STATES if state in TERMINAL)
Index(
    "uq_handoffs_active_account",
    handoffs.c.account_id,
    unique=True,
    sqlite_where=text(f"state NOT IN ({_ended})"),
    postgresql_where=text(f"state NOT IN ({_ended})"),
)

handoff_moves = Table(
    "handoff_moves",
    metadata,
    Column("handoff_id", ForeignKey("handoffs.handoff_id"), primary_key=True),
    Column("step", Integer, primary_key=True, autoincrement=False),
    Column("from_state", String(32)),
    Column("to_state", String(32), nullable=False),
    Column("at", Moment, nullable=False),
    Column("known_at", Moment, nullable=False),  # as_of of the run that learned of it; hidden from earlier runs
    Column("owner_email", Text),  # the owner from this move on
    Column("reason", Text, nullable=False),
    UniqueConstraint("handoff_id", "to_state"),
    _one_of("to_state", STATES),
)

touches = Table(
    "touches",
    metadata,
    Column("touch_id", String(255), primary_key=True),
    Column("account_id", Text, nullable=False),
    Column("owner_email", Text),
    Column("at", Moment, nullable=False, index=True),
    Column("known_at", Moment, nullable=False),  # as_of of the run that first read it
    Column("kind", Text),
    Column("outcome", Text),
    Column("disposition", Text),  # the rep's verdict on the handoff
    Column("handoff_id", ForeignKey("handoffs.handoff_id"), index=True),
    Index(None, "account_id", "at"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("key", String(255), primary_key=True),
    Column("destination", String(64), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("run_id", ForeignKey("runs.run_id"), index=True),
    Column("handoff_id", ForeignKey("handoffs.handoff_id"), index=True),
    Column("payload", Document, nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("external_id", Text),
    Column("reason", Text, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),  # how often it was `sending`
    _one_of("state", OUTBOX_STATES),
)

memory = Table(
    "memory",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("what", String(96), primary_key=True),  # watched, queued, or the signal of a trigger event
    Column("at", Moment, primary_key=True),  # since when, or when the event occurred
    Column("noted_at", Moment, nullable=False),  # as_of of the run that noted it; hidden from it and from earlier runs
    Column("run_id", ForeignKey("runs.run_id"), nullable=False),
    Column("ended_at", Moment, index=True),  # as_of of the run that ended it
    Column("ended", Text, nullable=False),  # why it is over
)

standings = Table(
    "standings",
    metadata,
    Column("destination", String(64), primary_key=True),  # the CRM
    Column("crm_account_id", String(255), primary_key=True),
    Column("account_id", Text, nullable=False),
    Column("tier", String(32)),
    Column("action", String(64), nullable=False),
    Column("situation", Text, nullable=False),  # its name in the policy: the trigger, without its figures
    Column("score", Float, nullable=False),
    Column("as_of", Moment, nullable=False),  # of the run that has written it
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False),  # why the CRM refused it
    _one_of("state", STANDING_STATES),
)

audience = Table(
    "audience",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("situation", String(64), nullable=False),  # a digest of audience, situation and people
    Column("facts", String(64), nullable=False),  # a digest
    Column("told_at", Moment, nullable=False),  # as_of of the run that has told the receiver of it last
)

stops = Table(
    "stops",
    metadata,
    Column("stop_id", Integer, primary_key=True),
    Column("at", Moment, nullable=False),
    Column("reason", Text, nullable=False),
    Column("lifted_at", Moment),
)

forgotten = Table(
    "forgotten",
    metadata,
    Column("kind", String(16), primary_key=True),  # user or account
    Column("digest", String(64), primary_key=True),  # of the id, which is not stored itself
    Column("at", Moment, nullable=False),
)

forget_key = Table(
    "forget_key",
    metadata,
    Column("key", String(64), primary_key=True),  # of the digests; made at the first erasure, never leaves the ledger
)

forgetting = Table(
    "forgetting",
    metadata,
    Column("kind", String(16), primary_key=True),
    Column("digest", String(64), primary_key=True),
    Column("subject", Document, nullable=False),  # whom to erase; kept only until the erasure is finished
)

FORMATS = {
    "policies.document": POLICY_FORMAT,  # `policy.upgrade` reads them
    "stages.summary": 1,
    "batches.counts": 1,
    "handoffs.signals": 1,  # names of signals, which `SignalNames` reads
    "outbox.payload": 2,  # content for the CRM, which `crm.stored` reads; alerts and reports are in format 1
    "forgetting.subject": 1,
}
"""Column of a JSON document → the format in which it is written today. From format 2 on a document holds its number
as `format`."""
