"""Runs, their policies and the summary of each of their stages."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, func, select

from onetouch.ledger.columns import utc
from onetouch.ledger.database import Database
from onetouch.ledger.states import NotInLedger
from onetouch.ledger.tables import policies, runs, stages
from onetouch.policy import Policy, read_stored, stored


@dataclass(frozen=True)
class Run:
    """One pass of the pipeline for one moment under one policy; moment, policy and `dry_run` identify it.

    `real`: neither dry nor a backfill. Only real runs are remembered by the runs that follow.
    """

    run_id: str
    as_of: datetime
    policy_version: str
    dry_run: bool
    real: bool = True


class Runs(Database):
    """The part of the ledger about runs."""

    def begin_run(self, as_of: datetime, policy: Policy, dry_run: bool, *, fresh: bool = True) -> Run:
        """The run of `as_of` (cut to whole seconds) under `policy`: the first call creates it, later calls return it.

        A run is real if it is not dry, was `fresh` when it first began, and no real run of a later moment had begun
        before it. The policy's document is kept under its version. Raises ValueError when `as_of` has no time zone.
        """
        as_of = utc(as_of).replace(microsecond=0)
        version = policy.version
        run_id = f"{as_of:%Y%m%dT%H%M%SZ}-{version}{'-dry' if dry_run else ''}"
        with self.writing() as connection:
            document = {"version": version, "document": stored(policy)}
            connection.execute(self.insert(policies).values(document).on_conflict_do_nothing())
            begun = connection.scalar(select(func.coalesce(func.max(runs.c.begun), 0) + 1))
            later = connection.scalar(select(runs.c.run_id).where(runs.c.real, runs.c.as_of > as_of).limit(1))
            known = connection.scalar(select(runs.c.real).where(runs.c.run_id == run_id))
            real = not dry_run and fresh and later is None if known is None else known
            run = Run(run_id, as_of, version, dry_run, real)
            connection.execute(
                self.insert(runs)
                .values(asdict(run) | {"begun": begun})
                .on_conflict_do_update(index_elements=["run_id"], set_={"begun": begun})
            )
        return run

    def run(self, run_id: str) -> Run:
        """The run of that id. Raises NotInLedger."""
        with self.reading() as connection:
            row = connection.execute(select(runs).where(runs.c.run_id == run_id)).mappings().first()
        if row is None:
            raise NotInLedger(f"run {run_id}: not in the ledger; `onetouch status` lists the last ones")
        return _run(row)

    def last_runs(self, limit: int | None = None) -> list[Run]:
        """The runs begun (or begun again) most recently, whatever their `as_of`; the most recent first."""
        with self.reading() as connection:
            found = connection.execute(select(runs).order_by(runs.c.begun.desc()).limit(limit))
            return [_run(row) for row in found.mappings()]

    def runs(self) -> list[Run]:
        """All runs, ordered by as_of, then id."""
        with self.reading() as connection:
            return [
                _run(row) for row in connection.execute(select(runs).order_by(runs.c.as_of, runs.c.run_id)).mappings()
            ]

    def policy(self, version: str) -> Policy:
        """The policy stored under that version, upgraded if another release stored it. Raises NotInLedger."""
        with self.reading() as connection:
            document = connection.scalar(select(policies.c.document).where(policies.c.version == version))
        if document is None:
            raise NotInLedger(f"policy {version}: not in the ledger; only policies of a run are kept")
        return read_stored(document, version)

    def finish_stage(self, run_id: str, stage: str, summary: dict[str, Any]) -> None:
        """Stores the summary of a stage (JSON values), replacing an earlier one. Raises NotInLedger for the run."""
        with self.writing() as connection:
            require_run(connection, run_id)
            connection.execute(
                self.insert(stages)
                .values(run_id=run_id, stage=stage, summary=summary)
                .on_conflict_do_update(index_elements=["run_id", "stage"], set_={"summary": summary})
            )

    def stage_summary(self, run_id: str, stage: str) -> dict[str, Any] | None:
        """The summary of the stage; None when it has not finished."""
        return self.stage_summaries(run_id).get(stage)

    def stage_summaries(self, run_id: str) -> dict[str, dict[str, Any]]:
        """Stage → summary, for all finished stages of a run."""
        with self.reading() as connection:
            found = connection.execute(select(stages.c.stage, stages.c.summary).where(stages.c.run_id == run_id))
            return {stage: summary for stage, summary in found.all()}


def require_run(connection: Connection, run_id: str) -> None:
    """Raises NotInLedger unless the run has begun."""
    if connection.scalar(select(runs.c.run_id).where(runs.c.run_id == run_id)) is None:
        raise NotInLedger(f"run {run_id}: not in the ledger; begin_run makes it")


def _run(row: RowMapping) -> Run:
    return Run(row["run_id"], row["as_of"], row["policy_version"], row["dry_run"], row["real"])
