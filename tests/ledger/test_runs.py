"""Runs, policies and stages."""

from __future__ import annotations

import traceback
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest
from onetouch.ledger import Ledger, NotInLedger, Run
from onetouch.ledger.tables import handoffs
from onetouch.policy import Policy
from sqlalchemy import insert
from sqlalchemy.exc import DBAPIError

AS_OF = datetime(2025, 3, 5, 10, tzinfo=UTC)


def test_the_same_moment_and_policy_is_the_same_run(ledger: Ledger, policy: Policy) -> None:
    run = ledger.begin_run(AS_OF, policy, False)
    assert run == Run(f"20250305T100000Z-{policy.version}", AS_OF, policy.version, False)
    before = ledger.dump()
    elsewhere = AS_OF.astimezone(timezone(timedelta(hours=5, minutes=30)))
    for as_of in (AS_OF, elsewhere, AS_OF + timedelta(milliseconds=999), pd.Timestamp(AS_OF)):
        assert ledger.begin_run(as_of, policy, False) == run
    assert ledger.dump() == before
    assert ledger.run(run.run_id) == run


def test_another_policy_or_a_dry_run_is_another_run(ledger: Ledger, policy: Policy) -> None:
    other = policy.model_copy(update={"sources": {}})
    ids = {ledger.begin_run(AS_OF, p, dry).run_id for p in (policy, other) for dry in (False, True)}
    assert len(ids) == 4
    assert [run.run_id for run in ledger.runs()] == sorted(ids)


def test_the_last_run_is_the_one_begun_last(ledger: Ledger, policy: Policy) -> None:
    assert ledger.last_runs() == []
    late = ledger.begin_run(AS_OF, policy, False)
    early = ledger.begin_run(AS_OF - timedelta(hours=1), policy, False)
    assert ledger.last_runs(1) == [early]
    ledger.begin_run(AS_OF, policy, False)
    assert ledger.last_runs(1) == [late]
    assert ledger.runs() == [early, late]


def test_a_policy_is_kept_under_its_version(ledger: Ledger, policy: Policy) -> None:
    run = ledger.begin_run(AS_OF, policy, True)
    kept = ledger.policy(run.policy_version)
    assert kept == policy
    assert kept.version == policy.version


def test_a_moment_without_a_zone_is_refused(ledger: Ledger, policy: Policy) -> None:
    with pytest.raises(ValueError, match="no time zone"):
        ledger.begin_run(datetime(2025, 3, 5), policy, False)  # noqa: DTZ001
    assert ledger.runs() == []


def test_a_stage_is_kept_with_its_latest_word(ledger: Ledger, policy: Policy) -> None:
    run = ledger.begin_run(AS_OF, policy, False)
    assert ledger.stage_summary(run.run_id, "score") is None
    ledger.finish_stage(run.run_id, "score", {"scored": 1})
    summary = {"scored": np.int64(7), "tiers": {"high": 2}, "odd": "a\x00b\ud800"}
    ledger.finish_stage(run.run_id, "score", summary)
    ledger.finish_stage(run.run_id, "score", summary)
    assert ledger.stage_summaries(run.run_id) == {"score": {**summary, "scored": 7}}
    assert len(ledger.dump()["stages"]) == 1


def test_what_is_unknown_says_so(ledger: Ledger) -> None:
    for ask in (lambda: ledger.run("r"), lambda: ledger.policy("p"), lambda: ledger.finish_stage("r", "s", {})):
        with pytest.raises(NotInLedger, match="not in the ledger"):
            ask()


def test_neither_password_nor_values_show_in_errors(ledger: Ledger, policy: Policy) -> None:
    assert "hunter2" not in repr(Ledger("postgresql+psycopg2://ot:hunter2@db/ledger"))
    run = ledger.begin_run(AS_OF, policy, False)
    row = {"handoff_id": "h", "account_id": "ann@acme.com", "episode": 0, "run_id": run.run_id, "decided_at": AS_OF}
    row |= {"state": "decided", "signals": [], "reason": ""}
    with pytest.raises(DBAPIError) as error, ledger.writing() as connection:
        connection.execute(insert(handoffs).values(row))
    shown = "".join(traceback.format_exception(error.value))
    assert "episode_from_1" in shown
    assert "ann@" not in shown


def test_other_databases_are_refused() -> None:
    with pytest.raises(ValueError, match="mysql is not supported"):
        Ledger("mysql://host/db")
