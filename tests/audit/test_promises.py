"""The auditor judges a CRM by the promises, from its tasks, its records and an export, and needs no delivery for it."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from onetouch import audit, stages
from onetouch.cli import app
from onetouch.connections import Connection
from onetouch.sandbox.fields import make_id
from onetouch.workspace import Workspace
from typer.testing import CliRunner

from tests.delivery.world import AS_OF, make_world, new_ledger, org, policy, running_org, world

__all__ = ["make_world", "new_ledger", "org", "policy", "running_org", "world"]

KEY = "Onetouch_Handoff_Id__c"


def opened(world: Any, *numbers: int) -> list[str]:
    """Handoffs of these accounts with their tasks; the handoffs' ids."""
    world.accounts(*numbers)
    run = world.run()
    world.decide(run, *numbers)
    world.deliver(run)
    return [world.handoff(n).handoff_id for n in numbers]


def judged(world: Any, lines: list[str] | None = None) -> dict[str, Any]:
    lines = [json.dumps(line) for line in audit.export(world.ledger)] if lines is None else lines
    return audit.judge(world.salesforce(), world.policy, audit.read_export(lines), AS_OF - timedelta(days=1))


def wrong(world: Any, lines: list[str] | None = None) -> list[tuple[str, str]]:
    found = judged(world, lines)
    assert {name: found[name] for name in audit.BROKEN if found[name]} == {
        name: sum(one["promise"] == name for one in found["wrong"]) for name in {o["promise"] for o in found["wrong"]}
    }
    return [(one["promise"], one["key"]) for one in found["wrong"]]


def test_a_clean_org_is_clean(world: Any) -> None:
    opened(world, 1, 2, 3)
    found = judged(world)
    assert (found["tasks"], found["wrong"]) == (3, [])
    assert audit.in_words(found) == (
        f"3 tasks, 0 duplicates, 0 lost, 0 without context, 0 interrupting, 0 unknown since {AS_OF:%Y-%m-}17"
    )


def test_the_weekly_report_says_what_the_auditor_found(world: Any) -> None:
    opened(world, 1, 2)
    world.rep_writes("Task", None, **{KEY: "f" * 32, "WhatId": make_id("001", 1), "Status": "Completed"})
    extra = {"instance_url": world.org.url, "consumer_key": "sandbox-key", "consumer_secret": "sandbox-secret"}
    reached = {"salesforce_default": Connection("salesforce_default", extra=extra)}

    def workspace(connections: dict[str, Connection]) -> Workspace:
        return Workspace(Path(), world.policy, world.lake, world.ledger, connections.get)

    found = stages.audit_delivery(workspace(reached), AS_OF + timedelta(hours=1))
    assert (found["tasks"], found["unknown"], [one["key"] for one in found["wrong"]]) == (3, 1, ["f" * 32])
    assert found["line"].startswith("3 tasks, 0 duplicates, 0 lost, 0 without context, 0 interrupting, 1 unknown since")
    told = stages.audit_delivery(workspace({}), AS_OF)
    assert told["line"].startswith("not audited: ") and told["wrong"] == []


def test_a_task_made_again_is_a_duplicate(world: Any) -> None:
    """The org has let the key be used twice: the first was deleted."""
    key, _ = opened(world, 1, 2)
    world.rep_writes("Task", world.task(1)["Id"])
    world.rep_writes("Task", None, **{KEY: key, "WhatId": make_id("001", 1), "Subject": "Call"})
    assert wrong(world) == [("duplicates", key)]


def test_two_open_tasks_of_one_account_are_duplicates(world: Any) -> None:
    keys = opened(world, 1, 2)
    world.org.post("load", {"Task": [{"Id": world.task(2)["Id"], "WhatId": make_id("001", 1)}]})
    assert wrong(world) == [("duplicates", ", ".join(sorted(keys)))]


def test_a_deleted_task_is_lost_while_its_handoff_goes_on(world: Any) -> None:
    key, _ = opened(world, 1, 2)
    world.rep_writes("Task", world.task(1)["Id"])
    assert wrong(world) == [("lost", key)]


def test_a_task_that_never_was_is_lost(world: Any) -> None:
    key, _ = opened(world, 1, 2)
    world.rep_writes("Task", world.task(1)["Id"])
    world.org.post("purge", {})
    assert wrong(world) == [("lost", key)]


def test_a_task_without_context_is_named_with_the_field(world: Any) -> None:
    _, key = opened(world, 1, 2)
    world.org.post("load", {"Account": [{"Id": make_id("001", 2), "Onetouch_Trigger__c": None}]})
    found = judged(world)
    assert [(one["promise"], one["key"]) for one in found["wrong"]] == [("without_context", key)]
    assert "Onetouch_Trigger__c" in found["wrong"][0]["why"]


def test_a_task_of_a_handoff_that_has_ended_interrupts(world: Any) -> None:
    key, _ = opened(world, 1, 2)
    world.ledger.move(key, "withdrawn", AS_OF + timedelta(hours=1), "checkout: started by the customer")
    assert wrong(world) == [("interrupting", key)]


def test_a_foreign_task_is_named(world: Any) -> None:
    opened(world, 1)
    foreign = {KEY: "f" * 32, "WhatId": make_id("001", 1), "Subject": "Call", "Status": "Completed"}
    world.rep_writes("Task", None, **foreign)
    assert wrong(world) == [("unknown", "f" * 32)]


def test_somebody_elses_export_is_judged_as_well(world: Any) -> None:
    """An export that leaves a handoff out: the task is one that nobody knows."""
    key, _ = opened(world, 1, 2)
    lines = [json.dumps(line) for line in audit.export(world.ledger) if line.get("handoff_id") != key]
    assert wrong(world, lines) == [("unknown", key)]


def test_an_export_names_nobody(world: Any) -> None:
    opened(world, 1)
    text = json.dumps(list(audit.export(world.ledger)))
    assert "@" not in text and "Company" not in text


@pytest.mark.parametrize("lines", [[], ["{}"], ['{"kind": "export", "format": 99}'], ["no json"]])
def test_an_export_that_cannot_be_read_is_named(lines: list[str]) -> None:
    with pytest.raises(ValueError, match="export.*onetouch audit --export"):
        audit.read_export(lines)


def test_the_command_writes_an_export_judges_by_it_and_fails_by_name(
    world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(world, 1, 2)
    extra = {"instance_url": world.org.url, "consumer_key": "sandbox-key", "consumer_secret": "sandbox-secret"}
    monkeypatch.setenv("AIRFLOW_CONN_SALESFORCE_DEFAULT", json.dumps({"conn_type": "salesforce", "extra": extra}))
    home, file = str(Path(world.ledger.engine.url.database).parent), str(tmp_path / "export.jsonl")

    def onetouch(*words: str) -> Any:
        return CliRunner().invoke(app, [*words])

    written = onetouch("--home", home, "audit", "--export", file, "--json")
    assert (written.exit_code, json.loads(written.stdout)) == (0, {"lines": len(Path(file).read_text().splitlines())})
    judging = (
        "--home",
        str(tmp_path / "elsewhere"),
        "audit",
        "--crm",
        "--ledger",
        file,
        "--since",
        "2025-11-01T00:00Z",
    )
    clean = onetouch(*judging, "--json")
    assert (clean.exit_code, json.loads(clean.stdout)["tasks"]) == (0, 2), clean.output
    world.rep_writes("Task", world.task(1)["Id"])
    broken = onetouch(*judging)
    assert broken.exit_code == 1
    assert f"lost: {world.handoff(1).handoff_id}" in broken.output.replace("\n", "")
    assert "1 lost" in broken.output


def test_the_judge_does_not_import_what_it_judges() -> None:
    program = (
        "import sys, onetouch.audit.promises; print([m for m in sys.modules if m.startswith('onetouch.delivery')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
