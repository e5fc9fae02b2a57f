"""The command line: what a person reads when something is wrong, and what a program reads when it is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from onetouch import audit, stages
from onetouch.cli import app
from onetouch.delivery import DeliveryFailed
from onetouch.ledger import Ledger, Run
from onetouch.policy import read_policy
from onetouch.quality import ChecksFailed
from onetouch.workspace import open_workspace
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
        (["decisions"], "no run has decided anything here yet"),
        (["explain", "acme"], "no run has decided anything here yet"),
        (["explain", "acme", "--as-of", "then"], "as_of: 'then' is not a moment"),
        (["assignments"], "no run has decided anything here yet"),
        (["shadow"], "no run has decided anything here yet"),
        (["replay"], "give a decision's id, or --run"),
        (["replay", "0123"], "no run of this lake made it"),
        (["policy", "test", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["policy", "diff", "a.yaml", "b.yaml"], "no run has decided anything here yet"),
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
    _begun(tmp_path)
    result = RUNNER.invoke(app, ["--home", str(tmp_path), *arguments])
    assert result.exit_code == 1
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert "Traceback" not in result.output


def _begun(home: Path) -> Ledger:
    """The ledger of an installation in which nothing has run."""
    ledger = Ledger(f"sqlite:///{home / 'ledger.db'}")
    ledger.migrate()
    return ledger


@pytest.mark.parametrize(
    "arguments",
    [["decisions"], ["explain", "acme"], ["assignments"], ["replay", "--run", "r"], ["shadow"], ["status"],
     ["stop", "wrong", "prices"], ["resume"], ["outbox"], ["outbox", "retry", "--all"], ["reconcile"],
     ["forget", "user", "u-1", "--yes"]],
)  # fmt: skip
def test_a_mistyped_home_is_an_error_and_makes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    """Above all for `stop`: who is told that nothing is sent any more must not have stopped an empty folder."""
    monkeypatch.delenv("ONETOUCH_LEDGER_URL", raising=False)
    result = RUNNER.invoke(app, ["--home", str(tmp_path / "typo"), *arguments])
    assert result.exit_code == 1
    assert "typo holds no ledger; give another --home" in result.stderr
    assert not (tmp_path / "typo").exists()


def test_the_last_run_is_the_last_that_decided(tmp_path: Path) -> None:
    workspace = open_workspace(tmp_path)
    moments = [datetime(2025, 11, 18, hour, tzinfo=UTC) for hour in (10, 11, 12)]
    runs = [workspace.ledger.begin_run(at, read_policy(), False) for at in moments]
    frame = pd.DataFrame(
        {"account_id": ["org-1"], "action": "nurture", "rule": "tier low", "score": 1.0, "owner_email": ""}
    )
    for run in runs[:2]:
        workspace.lake.write(frame, "decisions", f"{run.run_id}.parquet")
        workspace.lake.write(frame[["account_id"]].assign(name="Acme"), "signals", f"{run.run_id}.parquet")
    workspace.ledger.finish_stage(runs[0].run_id, "route", {"accounts": 1, "decisions": {"nurture": 1}})
    workspace.ledger.finish_stage(runs[1].run_id, "route", {"accounts": 1, "decisions": {"nurture": 1}})
    assert audit.run_of(workspace.lake, workspace.ledger) == runs[1], "the third failed before it decided"

    def said(*arguments: str) -> str:
        result = RUNNER.invoke(app, ["--home", str(tmp_path), *arguments], env={"COLUMNS": "100"})
        assert result.exit_code == 0, result.output
        return result.stdout

    assert json.loads(said("decisions", "--json"))["name"] == "Acme"
    assert f"run {runs[1].run_id}" in said("decisions")
    assert "no account got such a decision" in said("decisions", "--action", "sales_now")
    refused = RUNNER.invoke(app, ["--home", str(tmp_path), "decisions", "--action", "sell"])
    assert (refused.exit_code, "'sell' is no action; allowed: hold_never_contact" in refused.stderr) == (1, True)
    told = json.loads(said("status", "--json"))
    assert [(row["run_id"], row["decisions"]) for row in told["runs"]] == [
        (runs[2].run_id, None), (runs[1].run_id, {"nurture": 1}), (runs[0].run_id, {"nurture": 1}),
    ]  # fmt: skip
    assert "has not decided" in said("status")


def test_policy_check_as_json_lists_every_problem(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("scoring: {tiers: {hihg: 3}}\nvalue: {floor: -1}\n")
    result = RUNNER.invoke(app, ["policy", "check", str(bad), "--json"])
    assert result.exit_code == 1
    problems = json.loads(result.stdout)["problems"]
    assert [p.split(": ")[1] for p in problems] == ["scoring.tiers.hihg", "value.floor"]


def test_stop_and_resume_say_what_holds(tmp_path: Path) -> None:
    ledger = _begun(tmp_path)

    def said(*arguments: str) -> dict[str, object]:
        result = RUNNER.invoke(app, ["--home", str(tmp_path), *arguments, "--json"])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    reason = "the CRM is being migrated"
    assert said("status")["stopped"] is None
    assert said("stop", *reason.split()) == {"stopped": reason, "begun": True}, "quoted or not"
    assert said("stop", "another reason") == {"stopped": reason, "begun": False}, "the first stands"
    assert said("status")["stopped"] == ledger.stopped() == reason
    assert said("resume") == {"stopped": None, "lifted": reason}
    assert said("status")["stopped"] is None


def test_what_waits_and_what_was_refused_is_in_the_status(tmp_path: Path) -> None:
    ledger = _begun(tmp_path)
    for key in ("task:a", "task:b", "task:c"):
        ledger.put(key, "salesforce", "task", None, None, {})
        ledger.sending(key)
    ledger.sent("task:a", "00T1")
    ledger.failed("task:b", "INVALID_FIELD: No such column", retryable=False)
    result = RUNNER.invoke(app, ["--home", str(tmp_path), "status", "--json"])
    told = json.loads(result.stdout)
    (refused, waiting) = told.pop("unsent")
    assert told.pop("records_refused") == []
    assert told == {"stopped": None, "waiting": 1, "refused": 1, "open_handoffs": 0, "runs": []}
    assert (refused["key"], refused["reason"]) == ("task:b", "INVALID_FIELD: No such column")
    assert "onetouch outbox retry task:b" in refused["to_do"]
    assert (waiting["state"], waiting["reason"]) == ("sending", "begun, and not known to have arrived")
    assert waiting["to_do"].startswith("nothing: the next run looks")


def test_an_id_nobody_has_is_said_when_it_is_forgotten(tmp_path: Path) -> None:
    _begun(tmp_path)
    result = RUNNER.invoke(app, ["--home", str(tmp_path), "forget", "account", "org-typo", "--yes"])
    assert result.exit_code == 0
    assert "nothing of it was found" in result.stdout


def test_dead_letters_are_listed_with_their_reason_and_laid_out_again(tmp_path: Path) -> None:
    ledger = _begun(tmp_path)
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
    from onetouch.crm import FieldsMissing
    from onetouch.crm.salesforce import Salesforce

    class Crm:
        name = "salesforce"

        def check_fields(self) -> None:
            raise FieldsMissing("Account.Onetouch_Score__c is missing; deploy include/salesforce")

        create_fields = Salesforce.create_fields

    monkeypatch.setattr(stages, "crm_of", lambda workspace, policy: Crm())
    for arguments, said in (([], "Onetouch_Score__c is missing"), (["--create"], "fields are deployed")):
        result = RUNNER.invoke(app, ["--home", str(tmp_path), "crm", "check", *arguments])
        assert result.exit_code == 1
        assert said in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("refuses", [True, False])
def test_crm_check_fails_when_something_would_refuse_a_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses: bool
) -> None:
    from onetouch import stages
    from onetouch.crm.protocol import Finding

    found = [Finding("Task", "Region__c", "Mars", "is none of the values EMEA", "add the value", "Ada")] * refuses

    class Crm:
        name = "salesforce"

        def check_fields(self) -> None:
            pass

        def rehearse(self, *_: object) -> list[Finding]:
            return found

    monkeypatch.setattr(stages, "crm_of", lambda workspace, policy: Crm())
    result = RUNNER.invoke(app, ["--home", str(tmp_path), "crm", "check"])
    line = "Task.Region__c = 'Mars': is none of the values EMEA; Ada: add the value"
    assert (result.exit_code, line in result.stdout) == (int(refuses), refuses)
    result = RUNNER.invoke(app, ["--home", str(tmp_path), "crm", "check", "--json"])
    fields = [finding["field"] for finding in json.loads(result.stdout)["findings"]]
    assert (result.exit_code, fields) == (int(refuses), ["Region__c"] * refuses)


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
