"""The command line: what a person reads when something is wrong, and what a program reads when it is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from onetouch import stages
from onetouch.cli import app
from onetouch.delivery import DeliveryFailed
from onetouch.ledger import Ledger, Run
from onetouch.policy import read_policy
from onetouch.quality import ChecksFailed
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
        (["stop", "  "], "a stop needs a reason"),
        (["resume"], "nothing was stopped here"),
        (["outbox", "--state", "lost"], "'lost' is no state; allowed: pending, sending, sent, failed"),
        (["outbox", "retry"], "give the keys of dead letters, or --all"),
        (["outbox", "retry", "task:x"], "task:x: no dead letter"),
        (["forget", "user", "u-1"], "say so with --yes"),
        (["forget", "company", "c-1", "--yes"], "give user or account"),
        (["reconcile", "--json"], "AIRFLOW_CONN_SALESFORCE_DEFAULT"),
        (["crm", "check"], "AIRFLOW_CONN_SALESFORCE_DEFAULT"),
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


def test_stop_and_resume_say_what_holds(tmp_path: Path) -> None:
    def said(*arguments: str) -> dict[str, object]:
        result = RUNNER.invoke(app, ["--home", str(tmp_path), *arguments, "--json"])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    assert said("stop", "the CRM is being migrated") == {"stopped": "the CRM is being migrated"}
    assert said("stop", "another reason") == {"stopped": "the CRM is being migrated"}, "the first stands"
    assert said("resume") == {"stopped": None}


def test_dead_letters_are_listed_with_their_reason_and_laid_out_again(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.migrate()
    for key in ("task:a", "task:b", "task:c"):
        ledger.put(key, "salesforce", "task", None, None, {"Subject": "Call Ada at Acme"})
        ledger.sending(key)
    ledger.sent("task:a", "00T1")
    ledger.failed("task:b", "INVALID_FIELD: No such column", retryable=False)
    ledger.failed("task:c", "UNABLE_TO_LOCK_ROW: somebody else is writing", retryable=True)

    def run(*arguments: str) -> str:
        result = RUNNER.invoke(app, ["--home", str(tmp_path), "outbox", *arguments])
        assert result.exit_code == 0, result.output
        return result.stdout

    rows = [json.loads(line) for line in run("--json").splitlines()]
    assert [(row["key"], row["state"], row["attempts"], row["reason"].split(":")[0]) for row in rows] == [
        ("task:b", "failed", 1, "INVALID_FIELD"),
        ("task:c", "pending", 1, "UNABLE_TO_LOCK_ROW"),
    ]
    assert "Ada" not in run("--json"), "payloads name people"
    shown = run("--state", "failed")
    assert "task:b" in shown
    assert "INVALID_FIELD" in shown
    assert "task:c" not in shown

    ended = ledger.begin_run(datetime(2025, 11, 18, 10, tzinfo=UTC), read_policy(), False)
    row = {"key": "task:d", "destination": "salesforce", "kind": "task", "payload": {}}
    handoff = ledger.open_handoff({"account_id": "d"}, ended, lambda _: [row])
    ledger.move(handoff.handoff_id, "withdrawn", ended.as_of, "checkout: started")
    assert "task:d" not in run("--json"), "nothing is left to be done about it"
    assert "the handoff has ended" in run("--state", "failed", "--json")

    assert json.loads(run("retry", "task:b", "--json")) == {"retried": 1}
    assert [row.state for row in ledger.outbox(keys=["task:a", "task:b"])] == ["sent", "pending"]
    assert json.loads(run("retry", "--all", "--json")) == {"retried": 0}


def test_what_the_crm_refuses_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from onetouch import stages
    from onetouch.delivery.crm import FieldsMissing

    class Crm:
        name = "salesforce"

        def check_fields(self) -> None:
            raise FieldsMissing("Account.Onetouch_Score__c is missing; deploy include/salesforce")

    monkeypatch.setattr(stages, "crm_of", lambda workspace, policy: Crm())
    for arguments, said in (([], "Onetouch_Score__c is missing"), (["--create"], "fields are deployed")):
        result = RUNNER.invoke(app, ["--home", str(tmp_path), "crm", "check", *arguments])
        assert result.exit_code == 1
        assert said in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1


@pytest.fixture
def run_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[list[str], str]]:
    """`onetouch run` with stages that do nothing, or raise what is given; gives which ran, and what was said."""
    ran: list[str] = []

    def stage(name: str, failure: Exception | None) -> Callable[..., None]:
        def of_run(*args: object) -> None:
            ran.append(name)
            if failure:
                raise failure

        return of_run

    def run(**failures: Exception) -> tuple[list[str], str]:
        for name in stages.ORDER:
            monkeypatch.setattr(stages, name, stage(name, failures.get(name)))
        result = RUNNER.invoke(app, ["--home", str(tmp_path), "run", "--json"])
        assert result.exit_code == 1
        return ran, json.loads(result.stdout)["stopped"]

    return run


def test_what_the_crm_refused_holds_up_no_other_stage(run_stages: Callable[..., tuple[list[str], str]]) -> None:
    ran, said = run_stages(
        back_off=DeliveryFailed("tasks could not be closed", {}, [("handoff 1", "a validation rule")]),
        deliver_tasks=DeliveryFailed("decisions could not be delivered", {}, [("handoff 2", "locked")]),
    )
    assert ran == list(stages.ORDER)
    assert said == (
        "1 tasks could not be closed: a validation rule (handoff 1); "
        "1 decisions could not be delivered: locked (handoff 2)"
    )


def test_failed_checks_stop_delivery_whatever_failed_before(run_stages: Callable[..., tuple[list[str], str]]) -> None:
    run = Run("r1", datetime(2026, 1, 5, tzinfo=UTC), "p1", False)
    ran, said = run_stages(
        back_off=DeliveryFailed("tasks could not be closed", {}, [("handoff 1", "a validation rule")]),
        check_decisions=ChecksFailed("decisions", run, {"critical": ["odd figures"], "docs": "docs"}),
    )
    assert ran[-1] == "check_decisions"
    assert "odd figures" in said
