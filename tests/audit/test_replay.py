"""Replay: past decisions come out the same, whatever has happened since; what was touched is named."""

from __future__ import annotations

import json
from datetime import timedelta

import pandas as pd
import pytest
from onetouch import audit
from onetouch.audit.replay import DIFFERENCES
from onetouch.ledger import Run
from onetouch.policy import Policy
from onetouch.scoring import kept_artefact, scorer_of
from onetouch.scoring.artefacts import keep_artefact
from onetouch.workspace import Workspace

from tests.audit.company import AS_OF, decided


def stored(workspace: Workspace, run: Run) -> pd.DataFrame:
    return workspace.lake.read("decisions", f"{run.run_id}.parquet")


def changed(policy: Policy, **sections: dict[str, object]) -> Policy:
    document = policy.document()
    for section, values in sections.items():
        document[section] |= values
    return Policy.model_validate(document)


def test_every_decision_of_both_runs_comes_out_the_same(company: Workspace) -> None:
    for run in company.ledger.runs():
        assert audit.replay(company.lake, company.ledger, run.run_id).empty


def test_decisions_come_out_the_same_after_two_policy_changes_and_all_that_sales_did_since(copy: Workspace) -> None:
    runs = copy.ledger.runs()
    actions = set()
    other = changed(copy.policy, value={"floor": 50_000}), changed(copy.policy, signals={"engagement_days": 7})
    for days, (policy, like) in enumerate(zip(other, (runs[-1], None), strict=True), 1):
        later = decided(copy, policy, AS_OF + timedelta(days=days), like)
        actions.add(tuple(stored(copy, later)["action"]))
    [handoff] = copy.ledger.handoffs()
    copy.ledger.move(handoff.handoff_id, "replied", at=AS_OF + timedelta(days=1), as_of=AS_OF + timedelta(days=1))
    touch = {"touch_id": "t9", "account_id": "called", "at": AS_OF - timedelta(days=1), "kind": "Call"}
    copy.ledger.record_touches([touch], as_of=AS_OF + timedelta(days=2))
    assert len(actions) == 2
    for run in copy.ledger.runs():
        assert audit.replay(copy.lake, copy.ledger, run.run_id).empty
    assert [r.run_id for r in runs] == [r.run_id for r in copy.ledger.runs()[:2]]


def test_a_decision_changed_by_hand_is_found_with_its_column(copy: Workspace, last: Run) -> None:
    decisions = stored(copy, last)
    place = decisions.index[decisions["account_id"] == "quiet"][0]
    decisions.loc[place, "potential_arr"] += 0.01
    copy.lake.write(decisions, "decisions", f"{last.run_id}.parquet")
    found = audit.replay(copy.lake, copy.ledger, last.run_id)
    assert tuple(found.columns) == DIFFERENCES
    [row] = found.to_dict("records")
    assert (row["account_id"], row["column"]) == ("quiet", "potential_arr")
    assert float(row["stored"]) == pytest.approx(float(row["again"]) + 0.01)
    others = set(decisions["decision_id"]) - {row["decision_id"]}
    assert audit.replay(copy.lake, copy.ledger, last.run_id, others).empty


@pytest.mark.parametrize("column", ["activated", "employees"])
def test_an_input_changed_by_hand_changes_the_decision_and_its_id(copy: Workspace, last: Run, column: str) -> None:
    table = copy.lake.read("signals", f"{last.run_id}.parquet")
    table.loc[table["account_id"] == "called", column] = 0
    copy.lake.write(table, "signals", f"{last.run_id}.parquet")
    found = audit.replay(copy.lake, copy.ledger, last.run_id)
    of_called = set(found.loc[found["account_id"] == "called", "column"])
    assert {"decision_id", "action", "rule"} <= of_called


def test_a_score_changed_by_hand_is_found_even_where_the_decision_is_not_touched(copy: Workspace, last: Run) -> None:
    scores = copy.lake.read("scores", f"{last.run_id}.parquet")
    scores.loc[scores["account_id"] == "watched", "gate_icp"] = False
    copy.lake.write(scores, "scores", f"{last.run_id}.parquet")
    found = audit.replay(copy.lake, copy.ledger, last.run_id)
    assert found[["account_id", "column"]].to_numpy().tolist() == [["watched", "score: gate_icp"]]


@pytest.mark.parametrize("gone", ["signals", "handoffs", "earlier", "previous", "decisions"])
def test_an_input_that_is_gone_is_named(copy: Workspace, last: Run, gone: str) -> None:
    in_room = gone in ("signals", "decisions")
    copy.lake.remove(*((gone, f"{last.run_id}.parquet") if in_room else ("inputs", last.run_id, f"{gone}.parquet")))
    with pytest.raises(FileNotFoundError, match=gone):
        audit.replay(copy.lake, copy.ledger, last.run_id)


def test_a_decision_is_found_by_its_id(company: Workspace, last: Run) -> None:
    decision = stored(company, last).iloc[3]
    found = audit.find(company.lake, company.ledger, decision["decision_id"])
    assert (found.run_id, found.account_id) == (last.run_id, decision["account_id"])
    assert audit.replay(company.lake, company.ledger, found.run_id, [found.decision_id]).empty
    with pytest.raises(ValueError, match="no run of this lake made it"):
        audit.find(company.lake, company.ledger, "0" * 24)
    with pytest.raises(ValueError, match="not of run"):
        audit.replay(company.lake, company.ledger, last.run_id, ["0" * 24])


def test_a_decision_that_is_gone_from_the_run_is_missed(copy: Workspace, last: Run) -> None:
    decisions = stored(copy, last)
    copy.lake.write(decisions[decisions["account_id"] != "quiet"], "decisions", f"{last.run_id}.parquet")
    found = audit.replay(copy.lake, copy.ledger, last.run_id)
    assert set(found["account_id"]) == {"quiet"}
    assert found["stored"].isna().all()
    assert "action" in set(found["column"])


def test_both_sides_are_told_as_canonical_json(copy: Workspace, last: Run) -> None:
    decisions = stored(copy, last)
    decisions.loc[0, "rule"] = None
    copy.lake.write(decisions, "decisions", f"{last.run_id}.parquet")
    [row] = audit.replay(copy.lake, copy.ledger, last.run_id).to_dict("records")
    assert pd.isna(row["stored"]) or json.loads(row["stored"]) is None
    assert json.loads(row["again"])


def test_scores_are_made_again_with_the_artefact_that_the_run_was_scored_with(copy: Workspace, last: Run) -> None:
    of_other = changed(copy.policy, scoring={"points": copy.policy.document()["scoring"]["points"][:1]})
    used = kept_artefact(copy.lake, last.run_id, of_other)
    assert used == scorer_of(copy.policy).artefact(copy.policy, copy.lake)
    keep_artefact(copy.lake, last.run_id, scorer_of(of_other).artefact(of_other, copy.lake))
    found = audit.replay(copy.lake, copy.ledger, last.run_id)
    assert "score: score" in set(found["column"])
    keep_artefact(copy.lake, last.run_id, used)
    assert audit.replay(copy.lake, copy.ledger, last.run_id).empty
    copy.lake.remove("artefacts")
    with pytest.raises(FileNotFoundError, match=f"artefacts/{used.id}"):
        audit.replay(copy.lake, copy.ledger, last.run_id)


def test_a_run_of_before_artefacts_were_kept_is_scored_by_its_policy(copy: Workspace, last: Run) -> None:
    copy.lake.remove("artefacts")
    copy.lake.remove("inputs", last.run_id, "artefact.parquet")
    assert audit.replay(copy.lake, copy.ledger, last.run_id).empty
