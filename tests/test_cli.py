"""The command line: what a person reads when something is wrong, and what a program reads when it is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from onetouch.cli import app
from typer.testing import CliRunner

RUNNER = CliRunner()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--as-of", "2025-01-01"], "write it as 2025-01-01T00:00:00Z"),
        (["run", "--as-of", "yesterday"], "as_of: 'yesterday' is not a moment"),
        (["run", "--as-of", "2999-01-01T00:00:00Z"], "lies in the future"),
        (["run", "--exports", "nowhere"], "--exports: nowhere does not exist"),
        (["run", "--source", "mixpanel", "--dry-run"], "mixpanel is not a source of the policy; it has amplitude"),
        (["run", "--dry-run", "--json"], "AIRFLOW_CONN_SALESFORCE_DEFAULT"),
        (["decisions"], "holds no run yet"),
        (["decisions", "--action", "sell"], "'sell' is no action; allowed: hold_holdout"),
        (["explain", "acme"], "holds no run yet"),
        (["explain", "acme", "--as-of", "then"], "as_of: 'then' is not a moment"),
        (["assignments"], "holds no run yet"),
        (["shadow"], "holds no run yet"),
        (["replay"], "give a decision's id, or --run"),
        (["replay", "0123"], "no run of this lake made it"),
        (["policy", "test", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["policy", "diff", "a.yaml", "b.yaml"], "holds no run yet"),
        (["run", "--dry-run", "--shadow", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["policy", "check", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("SALESFORCE", "SLACK", "AMPLITUDE"):
        monkeypatch.delenv(f"AIRFLOW_CONN_{name}_DEFAULT", raising=False)
    result = RUNNER.invoke(app, ["--home", str(tmp_path / "home"), *arguments])
    assert result.exit_code == 1
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert "Traceback" not in result.output


def test_policy_check_as_json_lists_every_problem(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("scoring: {tiers: {hihg: 3}}\nvalue: {floor: -1}\n")
    result = RUNNER.invoke(app, ["policy", "check", str(bad), "--json"])
    assert result.exit_code == 1
    problems = json.loads(result.stdout)["problems"]
    assert [p.split(": ")[1] for p in problems] == ["scoring.tiers.hihg", "value.floor"]
