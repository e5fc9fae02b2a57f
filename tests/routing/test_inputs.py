"""The stage: what a run decides from is read once, kept, and found again; its previous decisions are the right ones."""

from __future__ import annotations

import dataclasses
import json
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from onetouch.catalogue import RENAMED
from onetouch.lake import Lake
from onetouch.ledger import Ledger, Run
from onetouch.routing import DECISION, WOULD_CHANGE, Inputs, decide, gather, keep, kept, route
from onetouch.scoring import REASONS, score

from tests.routing.world import AS_OF, POLICY, PQL, accounts, ago, changed, users

HOUR = timedelta(hours=1)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.migrate()
    return ledger


def decided(lake: Lake, ledger: Ledger, run: Run, *rows: dict) -> pd.DataFrame:
    """The stages `score` and `route` on accounts that never change but in `rows`."""
    lake.write(accounts(*(rows or (PQL, {**PQL, "activated": 0}))), "signals", f"{run.run_id}.parquet")
    lake.write(users("ana@v.com"), "crm", run.run_id, "reps.parquet")
    policy = ledger.policy(run.policy_version)
    score(lake, ledger, policy, run)
    route(lake, ledger, policy, run)
    return lake.read("decisions", f"{run.run_id}.parquet")


def test_a_run_says_what_it_did_and_writes_every_column(lake: Lake, ledger: Ledger) -> None:
    run = ledger.begin_run(AS_OF, POLICY, False)
    lake.write(accounts(PQL, {**PQL, "activated": 0}, {}), "signals", f"{run.run_id}.parquet")
    assert score(lake, ledger, POLICY, run) == {
        "scored": 3, "tiers": {"high": 2, "medium": 0, "low": 1}, "pql": 1,
    }  # fmt: skip
    lake.write(users("ana@v.com"), "crm", run.run_id, "reps.parquet")
    said = route(lake, ledger, POLICY, run)
    assert said == {"accounts": 3, "decisions": {"nurture": 1, "sales_now": 1, "self_serve_onboarding": 1}}
    with lake.fs.open(lake.path("decisions", f"{run.run_id}.parquet"), "rb") as file:
        table = pa.parquet.read_table(file)
    assert table.column_names == list(DECISION)
    assert (table.schema.field("would_change").type, table.schema.field("reasons").type) == (WOULD_CHANGE, REASONS)
    assert table.schema.metadata == {b"onetouch_format": b"2", b"onetouch_renamed": str(len(RENAMED)).encode()}
    assert set(table["inputs_ref"].to_pylist()) == {f"signals/{run.run_id}"}
    assert table["policy_version"].to_pylist() == [POLICY.version] * 3


def test_a_decision_made_again_from_what_was_kept_is_the_same(lake: Lake, ledger: Ledger) -> None:
    first = ledger.begin_run(AS_OF - HOUR, POLICY, False)
    decided(lake, ledger, first)
    ledger.open_handoffs(
        [r for r in lake.read("decisions", f"{first.run_id}.parquet").to_dict("records") if r["action"] == "sales_now"],
        first,
    )
    ledger.record_touches([{"touch_id": "t", "account_id": "a01", "at": ago(6)}], as_of=AS_OF - HOUR)
    run = ledger.begin_run(AS_OF, POLICY, False)
    stored = decided(lake, ledger, run)
    ledger.record_touches([{"touch_id": "later", "account_id": "a00", "at": AS_OF}])
    again = decide(kept(lake, run.run_id), POLICY, AS_OF).assign(inputs_ref=f"signals/{run.run_id}")
    assert stored["action"].tolist() == ["hold_touched", "hold_touched"]
    for name in DECISION:
        as_json = [json.dumps(pa.array(frame[name]).to_pylist(), default=str) for frame in (again, stored)]
        assert as_json[0] == as_json[1], name
    assert again["decision_id"].tolist() == stored["decision_id"].tolist()
    assert len(kept(lake, run.run_id).handoffs) == len(kept(lake, run.run_id).touches) == 1


def test_touches_older_than_the_silence_are_not_asked_for(lake: Lake, ledger: Ledger) -> None:
    rows = [{"touch_id": f"t{n}", "account_id": "a00", "at": ago(days)} for n, days in enumerate((6.9, 7.1))]
    ledger.record_touches(rows)
    run = ledger.begin_run(AS_OF, POLICY, False)
    decided(lake, ledger, run)
    assert gather(lake, ledger, POLICY, run).touches["touch_id"].tolist() == ["t0"]


def test_the_crms_users_are_those_of_the_run(lake: Lake, ledger: Ledger) -> None:
    run = ledger.begin_run(AS_OF, POLICY, False)
    decided(lake, ledger, run)
    assert gather(lake, ledger, POLICY, run).reps["email"].tolist() == ["ana@v.com"]


def test_without_a_crm_there_are_no_reps(lake: Lake, ledger: Ledger) -> None:
    run = ledger.begin_run(AS_OF, POLICY, False)
    lake.write(accounts(PQL), "signals", f"{run.run_id}.parquet")
    score(lake, ledger, POLICY, run)
    reps = gather(lake, ledger, POLICY, run).reps
    assert reps.empty
    assert list(reps.columns) == ["owner_id", "email", "name", "active", "timezone"]


def test_what_is_gone_is_named(lake: Lake, ledger: Ledger) -> None:
    run = ledger.begin_run(AS_OF, POLICY, False)
    decided(lake, ledger, run)
    here = [f"inputs/{run.run_id}/{name}" for name in ("handoffs", "rep_load", "reps", "touches", "previous")]
    for name in (f"signals/{run.run_id}", f"scores/{run.run_id}", *here):
        file = Path(lake.path(*f"{name}.parquet".split("/")))
        content = file.read_bytes()
        file.unlink()
        with pytest.raises(FileNotFoundError, match=f"^run .*: the lake no longer holds {name}.parquet; restore them$"):
            kept(lake, run.run_id)
        file.write_bytes(content)
    kept(lake, run.run_id)


def test_everything_that_is_gone_is_named(lake: Lake) -> None:
    with pytest.raises(FileNotFoundError, match=r"signals/x.parquet, scores/x.parquet, inputs/x/handoffs.parquet, "):
        kept(lake, "x")


def test_lists_stay_in_arrow(lake: Lake, ledger: Ledger) -> None:
    run = ledger.begin_run(AS_OF, POLICY, False)
    decided(lake, ledger, run)
    assert isinstance(kept(lake, run.run_id).scores["reasons"].dtype, pd.ArrowDtype)
    assert kept(lake, run.run_id).signals["name"].dtype == "str"


def test_kept_and_gathered_are_the_same(lake: Lake, ledger: Ledger) -> None:
    run = ledger.begin_run(AS_OF, POLICY, False)
    decided(lake, ledger, run)
    one, other = gather(lake, ledger, POLICY, run), kept(lake, run.run_id)
    keep(lake, "copy", one)
    for field in dataclasses.fields(Inputs):
        assert list(getattr(one, field.name).columns) == list(getattr(other, field.name).columns), field.name
        assert len(getattr(one, field.name)) == len(getattr(other, field.name))
    assert not lake.exists("signals", "copy.parquet")


# ── The previous decision ────────────────────────────────────────────────────────────────────────────────────────────


def test_the_previous_run_is_the_latest_before_that_was_no_dry_run(lake: Lake, ledger: Ledger) -> None:
    other = changed(value__floor=10_000_000.0)
    runs = [
        ledger.begin_run(AS_OF - 3 * HOUR, POLICY, False), ledger.begin_run(AS_OF - 2 * HOUR, other, False),
        ledger.begin_run(AS_OF - HOUR, POLICY, True), ledger.begin_run(AS_OF + HOUR, POLICY, False),
    ]  # fmt: skip
    for run in runs:
        decided(lake, ledger, run)
    ledger.begin_run(AS_OF - HOUR / 2, POLICY, False)  # stopped before it decided
    now = ledger.begin_run(AS_OF, POLICY, False)
    got = decided(lake, ledger, now)
    before = kept(lake, now.run_id).previous
    assert before["action"].tolist() == ["below_floor", "self_serve_hero"]
    assert list(before.columns)[:6] == ["account_id", "action", "rule", "since", "call", "trigger_at"]
    assert (before["since"] == AS_OF - 2 * HOUR).all()
    assert got["since"].tolist() == [pd.Timestamp(AS_OF)] * 2


def test_a_run_is_not_its_own_previous_one(lake: Lake, ledger: Ledger) -> None:
    run = ledger.begin_run(AS_OF, POLICY, False)
    for _ in range(2):
        decided(lake, ledger, run)
        before = kept(lake, run.run_id).previous
        assert before.empty
        assert list(before.columns)[:6] == ["account_id", "action", "rule", "since", "call", "trigger_at"]
        assert before["since"].dtype == "datetime64[us, UTC]"


def test_since_stands_through_runs_and_ends_with_the_decision(lake: Lake, ledger: Ledger) -> None:
    quiet, busy = {**PQL, "activated": 0}, {**PQL, "checkout_state": "started"}
    for at, row in enumerate((quiet, quiet, busy, quiet)):
        now = ledger.begin_run(AS_OF + at * HOUR, POLICY, False)
        got = decided(lake, ledger, now, row).iloc[0]
        assert got["since"] == AS_OF + (0, 0, 2, 3)[at] * HOUR


def test_decisions_of_an_earlier_version_are_read_as_far_as_they_go(lake: Lake, ledger: Ledger) -> None:
    old = ledger.begin_run(AS_OF - HOUR, POLICY, False)
    lake.write(pd.DataFrame({"account_id": ["a00"], "action": ["nurture"]}), "decisions", f"{old.run_id}.parquet")
    now = ledger.begin_run(AS_OF, POLICY, False)
    decided(lake, ledger, now)
    [before] = kept(lake, now.run_id).previous.to_dict("records")
    assert (before["action"], pd.isna(before["since"]), pd.isna(before["call"])) == ("nurture", True, True)


# ── The earlier score ────────────────────────────────────────────────────────────────────────────────────────────────


def test_scores_are_compared_with_those_of_a_week_ago_that_counted_alike(lake: Lake, ledger: Ledger) -> None:
    week = timedelta(days=7)
    points = POLICY.document()["scoring"]["points"]
    other = changed(scoring__points=[{**points[0], "points": 99}, *points[1:]])
    elsewhere = changed(slack__alerts_channel="C0OTHER")
    for at, policy, users_ in (
        (AS_OF - week - 2 * HOUR, POLICY, 3), (AS_OF - week - HOUR, elsewhere, 4), (AS_OF - week - HOUR / 2, other, 5),
        (AS_OF - week + HOUR, POLICY, 9),
    ):  # fmt: skip
        decided(lake, ledger, ledger.begin_run(at, policy, False), {**PQL, "users": users_})
    ledger.begin_run(AS_OF - week, POLICY, False)  # stopped before it scored
    now = ledger.begin_run(AS_OF, POLICY, False)
    got = decided(lake, ledger, now, {**PQL, "users": 5}).iloc[0]
    kept_scores = lake.read("inputs", now.run_id, "earlier.parquet")
    assert list(kept_scores.columns) == ["account_id", "score"]
    assert got["score_before"] == kept_scores["score"].iloc[0] == got["score"] - 2  # of 4 users


def test_a_run_exactly_so_many_days_ago_is_earlier(lake: Lake, ledger: Ledger) -> None:
    decided(lake, ledger, ledger.begin_run(AS_OF - timedelta(days=7), POLICY, False))
    got = decided(lake, ledger, ledger.begin_run(AS_OF, POLICY, False))
    assert got["score_trend"].tolist() == ["steady", "steady"]


def test_without_an_earlier_score_there_is_no_trend(lake: Lake, ledger: Ledger) -> None:
    run = ledger.begin_run(AS_OF, POLICY, False)
    got = decided(lake, ledger, run)
    assert got[["score_before", "score_trend"]].isna().all(axis=None)
    empty = lake.read("inputs", run.run_id, "earlier.parquet")
    assert empty.empty
    assert list(empty.columns) == ["account_id", "score"]
