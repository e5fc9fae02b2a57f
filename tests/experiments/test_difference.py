"""The difference between policies, and the shadow beside the live one: right, and without a trace."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from onetouch import experiments, stages
from onetouch.ledger import Run
from onetouch.policy import Policy, PolicyError, read_policy
from onetouch.workspace import Workspace, open_workspace

from tests.audit.company import AS_OF, decided

Files = Callable[[Path], dict[str, bytes]]


def policy_of(tmp_path: Path, text: str) -> Policy:
    file = tmp_path / "other.yaml"
    file.write_text(text)
    return read_policy(file)


def test_equal_policies_differ_in_nothing(company: Workspace, last: Run) -> None:
    policy = company.policy
    found = experiments.compare(company.lake, company.ledger, policy, policy, last)
    assert found.changes.empty
    assert found.moves.empty
    assert found.summary == "+0 / −0 sales touches (5 → 5), 0 of 16 accounts change action"
    assert found.before.equals(found.after)


def test_a_higher_floor_moves_accounts_and_tasks(company: Workspace, last: Run, tmp_path: Path) -> None:
    higher = policy_of(tmp_path, "value: {floor: 9700}")
    found = experiments.compare(company.lake, company.ledger, company.policy, higher, last)
    assert not found.computed_anew
    assert found.summary == "+0 / −4 sales touches (5 → 1), 7 of 16 accounts change action"
    changes = found.changes.set_index("account_id")
    assert changes.loc["called", ["action_before", "action_after", "rule_after", "owner_before"]].tolist() == [
        "sales_now", "below_floor", "value floor", "ana@sales.example",
    ]  # fmt: skip
    assert (changes["action_before"].head(4) == "sales_now").all(), "sales touches come first"
    moves = found.moves.set_index(["action_before", "action_after"])["accounts"]
    assert moves["sales_now", "below_floor"] == 4
    assert moves.sum() == len(changes)
    tasks = found.tasks.set_index("owner_email")
    assert tasks["before"].to_dict() == {"ana@sales.example": 2, "ben@sales.example": 3}
    assert tasks["after"].to_dict() == {"ana@sales.example": 0, "ben@sales.example": 1}
    record = found.record(accounts=2)
    assert (record["changed"], len(record["changes"]), record["accounts"]) == (7, 2, 16)


def test_a_policy_that_reads_events_otherwise_gets_its_own_signals_and_leaves_no_trace(
    copy: Workspace, last: Run, tmp_path: Path, files: Files
) -> None:
    other = policy_of(tmp_path, "signals: {engagement_days: 7}\nvocabulary: {premium_feature_attempted: null}\n")
    before = files(copy.home)
    found = experiments.compare(copy.lake, copy.ledger, copy.policy, other, last)
    assert found.computed_anew
    assert not found.changes.empty
    assert files(copy.home) == before

    # What a real run of that policy would have decided, but for what the run before it remembers.
    truth = decided(copy, other, AS_OF)
    again = copy.lake.read("decisions", f"{truth.run_id}.parquet").set_index("account_id")
    columns = ["score", "tier", "rule", "potential_arr", "engagement_band"]
    assert found.after.set_index("account_id")[columns].astype(object).equals(again[columns].astype(object))


def test_a_policy_that_looks_further_back_sees_the_touches_known_then(
    copy: Workspace, last: Run, tmp_path: Path
) -> None:
    longer = policy_of(tmp_path, "handoff: {silence_days: 14}")
    late = {"touch_id": "late", "account_id": "called", "at": AS_OF - timedelta(days=8), "kind": "Call"}
    copy.ledger.record_touches([late], as_of=AS_OF + timedelta(days=1))
    found = experiments.compare(copy.lake, copy.ledger, copy.policy, longer, last)
    assert found.changes[["account_id", "action_after"]].to_numpy().tolist() == [["called too", "hold_touched"]]


# ── Shadow ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def with_shadow(workspace: Workspace, tmp_path: Path, text: str) -> Workspace:
    file = tmp_path / "shadow.yaml"
    file.write_text(text)
    return dataclasses.replace(workspace, shadow=file)


def test_the_shadow_writes_its_decisions_and_touches_nothing_else(
    copy: Workspace, last: Run, tmp_path: Path, files: Files
) -> None:
    workspace = with_shadow(copy, tmp_path, "name: higher\nvalue: {floor: 9700}\n")
    before, handoffs = files(copy.home), copy.ledger.handoffs()
    summary = stages.shadow(workspace, last.run_id)
    after = files(copy.home)
    new = f"lake/shadow/{last.run_id}/{summary['version']}.parquet"
    assert set(after) - set(before) == {new}
    assert all(name.startswith("ledger.db") for name in before if after[name] != before[name]), "the stage's summary"
    assert copy.ledger.handoffs() == handoffs
    assert copy.ledger.outbox() == []
    assert (summary["policy"], summary["old"]) == ("higher", last.policy_version)
    assert summary["summary"].startswith("+0 / −4 sales touches")

    told = experiments.read_shadow(copy.lake, copy.ledger, last)
    assert told.summary == summary["summary"]
    assert len(told.changes) == 7
    kept = copy.lake.read("shadow", last.run_id, f"{summary['version']}.parquet")
    assert set(kept["policy_version"]) == {summary["version"]}
    assert len(kept) == 16


def test_without_a_shadow_policy_the_stage_says_so(copy: Workspace, last: Run) -> None:
    assert "no shadow policy" in stages.shadow(copy, last.run_id)["skipped"]
    with pytest.raises(ValueError, match="ONETOUCH_SHADOW_POLICY"):
        experiments.read_shadow(copy.lake, copy.ledger, last)


def test_a_broken_shadow_policy_fails_its_stage_alone(copy: Workspace, last: Run, tmp_path: Path) -> None:
    workspace = with_shadow(copy, tmp_path, "value: {floor: cheap}")
    with pytest.raises(PolicyError, match="floor"):
        stages.shadow(workspace, last.run_id)
    assert stages.ORDER[-1] == "shadow"


def test_the_shadow_policy_comes_from_the_environment_and_is_read_by_its_stage_only(tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(yaml.safe_dump({"no such": "section"}))
    assert open_workspace(tmp_path / "home", environ={"ONETOUCH_SHADOW_POLICY": str(file)}).shadow == file
    assert open_workspace(tmp_path / "home", environ={}).shadow is None
