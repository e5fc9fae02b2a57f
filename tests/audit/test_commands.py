"""The commands that prove and explain, for a person and for a program."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from onetouch.cli import app, call
from onetouch.ledger import Run
from onetouch.workspace import Workspace
from rich.console import Console
from typer.testing import CliRunner

from tests.audit.company import FIRST
from tests.conftest import REPOSITORY

RUNNER = CliRunner()


def onetouch(workspace: Workspace, *arguments: str, columns: int = 100) -> Result:
    with pytest.MonkeyPatch.context() as patch:  # whatever width the console was made with
        patch.setattr(call, "out", Console(width=columns))
        return RUNNER.invoke(app, ["--home", str(workspace.home), *arguments])


def told(workspace: Workspace, *arguments: str) -> Any:
    result = onetouch(workspace, *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_explain_now_and_then(company: Workspace, last: Run) -> None:
    now = told(company, "explain", "newly keen")
    assert (now["run_id"], now["decision"]["action"]) == (last.run_id, "sales_now")
    assert {"gates", "signals", "rules", "would_change"} <= set(now)
    then = told(company, "explain", "newly keen", "--as-of", FIRST.isoformat())
    assert then["decision"]["action"] == "monitor"
    assert told(company, "explain", "newly keen", "--run", then["run_id"]) == then
    shown = onetouch(company, "explain", "newly keen").stdout
    assert "sales_now  by rule sales now" in shown
    assert "rising: it was 45.9" in shown


def test_decisions_show_as_much_as_the_screen_holds(company: Workspace) -> None:
    narrow, wide = (onetouch(company, "decisions", columns=n).stdout for n in (80, 200))
    for shown in (narrow, wide):
        assert "of unknown size  " in shown
        assert "self_serve_onboarding" in shown
    assert "potential ARR" not in narrow
    assert "Its potential ARR of $1,200 has to reach $5,000." in " ".join(wide.split())
    only = onetouch(company, "decisions", "--action", "monitor", "--json").stdout.splitlines()
    assert [json.loads(line)["account_id"] for line in only] == ["watched"]
    assert json.loads(only[0])["would_change"][-1]["obstacle"] == "trigger"


def test_assignments(company: Workspace) -> None:
    found = told(company, "assignments")
    assert {rep["owner_email"]: rep["new"] for rep in found["reps"]} == {"ana@sales.example": 2, "ben@sales.example": 3}
    assert {task["assigned_by"] for task in found["tasks"]} == {"owner", "round robin"}
    assert "ana@sales.example" in onetouch(company, "assignments").stdout


def test_replay_of_a_decision_and_of_a_run(company: Workspace, last: Run) -> None:
    decision = told(company, "explain", "called")["decision"]["decision_id"]
    assert told(company, "replay", decision) == {
        "run_id": last.run_id, "decision_id": decision, "identical": True, "differences": [],
    }  # fmt: skip
    assert "identical: every decision" in onetouch(company, "replay", "--run", last.run_id).stdout


def test_a_replay_that_differs_says_where_and_fails(copy: Workspace, last: Run) -> None:
    decisions = copy.lake.read("decisions", f"{last.run_id}.parquet")
    decisions["motion"] = "sales_led"
    copy.lake.write(decisions, "decisions", f"{last.run_id}.parquet")
    result = onetouch(copy, "replay", "--run", last.run_id)
    assert result.exit_code == 1
    assert "motion" in result.stdout
    assert "come out otherwise today" in result.stderr


def test_policy_diff(company: Workspace, tmp_path: Path) -> None:
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text("{}")
    new.write_text("value: {floor: 9700}")
    found = told(company, "policy", "diff", str(old), str(new))
    assert (found["changed"], len(found["changes"])) == (7, 7)
    assert found["summary"].startswith("+0 / −4 sales touches")
    shown = onetouch(company, "policy", "diff", str(old), str(new)).stdout
    assert "+0 / −4 sales touches (5 → 1)" in shown
    assert "ben@sales.example" in shown


def test_policy_test_fails_where_a_scenario_comes_out_otherwise(company: Workspace, tmp_path: Path) -> None:
    floor = tmp_path / "floor.yaml"
    floor.write_text("value: {floor: 1000000}")
    file = REPOSITORY / "docs" / "scenarios" / "matrix.yaml"
    result = onetouch(company, "policy", "test", str(file), "--policy", str(floor))
    assert result.exit_code == 1
    assert "✗ High value and engaged, sales calls now" in " ".join(result.stdout.split())
    assert "action: expected sales_now, got below_floor" in result.stdout
    assert "✓" in result.stdout
    assert result.stderr.strip().endswith("of 7 scenarios come out otherwise than they say")


def test_shadow_without_one_says_how_to_get_one(company: Workspace) -> None:
    result = onetouch(company, "shadow")
    assert result.exit_code == 1
    assert "ONETOUCH_SHADOW_POLICY" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["explain", "caled"], "did you mean called"),
        (["explain", "called", "--as-of", "2020-01-01T00:00:00Z"], "no run decided at or before"),
        (["explain", "called", "--run", "x"], "run x: not in the ledger"),
        (["replay", "0123"], "no run of this lake made it"),
    ],
)
def test_what_is_not_there_is_one_line(company: Workspace, arguments: list[str], said: str) -> None:
    result = onetouch(company, *arguments)
    assert result.exit_code == 1
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
