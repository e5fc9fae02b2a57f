"""The circuit breaker at the far end: what CRM and Slack show while sending is stopped, and after it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import requests
from onetouch import audit, stages
from onetouch.delivery.breaker import held
from onetouch.policy import read_policy
from onetouch.stop import Stopped, stoppable
from onetouch.workspace import Workspace, open_workspace

from tests.pipeline.test_never_interrupt import called_in, product_event, subjects_of
from tests.pipeline.world import AS_OF, Pipeline, World

SENDING = ("back_off", "deliver_tasks", "alert_reps")


def outside(world: World) -> dict[str, Any]:
    """What reps and channels can see of us."""
    state = world.state()
    ours = [t for t in state["tasks"] if t["Onetouch_Handoff_Id__c"]]
    return {
        "tasks": sorted((t["Id"], t["Status"], t["Subject"], t["Description"]) for t in ours),
        "fields": sorted(
            (t["account"]["Name"], str({k: v for k, v in t["account"].items() if k.startswith("Onetouch")}))
            for t in ours
        ),
        "posts": [(p["ts"], p["text"]) for p in state["posts"]],
    }


def writes(world: World) -> list[str]:
    """Requests that changed anything in the stand-in."""
    calls = requests.get(f"{world.url}/_sandbox/log", timeout=10).json()["calls"]
    return [
        f"{call['method']} {call['path']}"
        for call in calls
        if call["method"] not in ("GET", "HEAD") and "oauth2/token" not in call["path"]
    ]


def deliver_stopped_ever_later(world: World, workspace: Workspace, run_id: str) -> list[int]:
    """Delivers until a stop no longer comes in between; gives how many writes each stopped attempt made."""
    written: list[int] = []
    for patience in range(1, 20):
        asked = iter(range(1000))

        def switch(patience: int = patience, asked: Iterator[int] = asked) -> str | None:
            return "enough" if next(asked) >= patience else None

        before = len(writes(world))
        try:
            stages.deliver_tasks(dataclasses.replace(workspace, stop_switch=switch), run_id, AS_OF)
        except Stopped as stopped:
            assert "stopped: enough" in str(stopped)
            assert audit.accounting(workspace.ledger, run_id)["held"] == "stopped: enough"
            written.append(len(writes(world)) - before)
        else:
            return written
    raise AssertionError("stopped for ever")


def test_while_stopped_everything_is_computed_and_nothing_is_written(
    make_world: Callable[[str], World], pipeline: Pipeline
) -> None:
    world = make_world("stopped")
    workspace = world.workspace()
    workspace.ledger.stop("the CRM is being migrated", AS_OF)
    before = outside(world)

    assert pipeline.run(world)["error"] is None

    assert outside(world) == before
    assert [call for call in writes(world) if "/services/" in call or "chat." in call] == []
    run_id = stages.begin(workspace, AS_OF, AS_OF)
    said = audit.accounting(workspace.ledger, run_id)
    assert said["held"] == "stopped: the CRM is being migrated"
    assert said["to_send"] == said["decisions"]["sales_now"] > 0
    assert said["withheld"] == {said["held"]: said["to_send"]}
    assert workspace.ledger.handoffs() == [], "nothing was handed over, so nothing counts as a touch"
    for stage in SENDING:
        assert workspace.ledger.stage_summary(run_id, stage)["held"] == said["held"], stage

    # Lifted: the same run sends what it decided, though it is stopped again before each of its writes in turn. The
    # stage's own look, the group's and the request's: with two answers "go on" nothing has left yet.
    workspace.ledger.resume(AS_OF)
    written = deliver_stopped_ever_later(world, workspace, run_id)
    assert written[:2] == [0, 0]
    assert written[2] == 1
    assert len(world.open_tasks()) == said["to_send"], "one task each"
    assert audit.accounting(workspace.ledger, run_id)["held"] is None

    # Stopped again: a customer begins to buy, and the task that should be closed is counted, and stays.
    chosen = called_in(workspace, run_id)[0]
    product_event(world, chosen, "checkout_started", AS_OF + timedelta(minutes=10))
    later = AS_OF + timedelta(hours=1)
    world.clock(later)
    workspace.ledger.stop("again", later)
    before = outside(world)
    assert pipeline.run(world, as_of=later)["error"] is None
    assert outside(world) == before
    second = stages.begin(workspace, later, later)
    assert audit.accounting(workspace.ledger, second)["to_withdraw"] == 1
    assert [closed for _, _, closed in subjects_of(world, chosen)] == [False]

    workspace.ledger.resume(later)
    stages.deliver_tasks(workspace, second, later)
    assert [closed for _, _, closed in subjects_of(world, chosen)] == [True]


def test_a_failed_check_leaves_crm_and_slack_untouched_and_names_the_figure(
    make_world: Callable[[str], World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stale events: the newest are older than the policy's critical limit."""
    world = make_world("stale")
    file = world.home.parent / "strict.yaml"
    file.write_text(json.dumps({"quality": {"max_hours_since_last_event": {"warning": 1, "critical": 2}}}))
    workspace = dataclasses.replace(world.workspace(), policy=read_policy(file))
    late = AS_OF + timedelta(hours=3)
    world.clock(late)
    before = outside(world)
    with pytest.raises(stages.ChecksFailed, match=r"hours since the last event: \d.* \(at most 2\)"):
        stages.run_all(workspace, late, late)
    assert outside(world) == before
    assert [call for call in writes(world) if "/services/" in call or "chat." in call] == []


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({}, None),
        ({"dry_run": True}, "dry run"),
        ({"stopped": "fire"}, "stopped: fire"),
        ({"dry_run": True, "stopped": "fire"}, "dry run"),
        ({"now": AS_OF + timedelta(hours=6)}, None),
        ({"now": AS_OF + timedelta(hours=6, seconds=1)}, "as_of is not fresh"),
        ({"now": AS_OF + timedelta(hours=7), "stopped": "fire"}, "stopped: fire"),
    ],
)
def test_why_nothing_may_leave(given: dict[str, Any], why: str | None) -> None:
    asked = {"now": AS_OF, "dry_run": False, "stopped": None} | given
    assert held(read_policy(), AS_OF, asked.pop("now"), **asked) == why


def test_reading_goes_on_while_writing_is_stopped() -> None:
    class Client:
        name = "crm"

        def read(self) -> str:
            return "read"

        def write(self) -> str:
            return "written"

    reasons = iter([None, "fire"])
    client = stoppable(Client(), ["write"], lambda: next(reasons))
    assert client.write() == "written"
    assert (client.read(), client.name) == ("read", "crm")
    with pytest.raises(Stopped, match="stopped: fire"):
        client.write()


@pytest.mark.parametrize("by", [None, "grace (command line)"])
def test_a_yes_on_the_command_line_is_kept_before_anything_is_delivered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str | None
) -> None:
    workspace = open_workspace(tmp_path, environ={})
    answers: list[Any] = []
    for name in stages.ORDER:
        monkeypatch.setattr(stages, name, lambda workspace, run_id, *_: None)
    monkeypatch.setattr(
        stages,
        "deliver_tasks",
        lambda workspace, run_id, now: answers.append(workspace.ledger.stage_summary(run_id, "approve")),
    )
    stages.run_all(workspace, AS_OF, AS_OF, approved_by=by)
    (answer,) = answers
    nothing = sha256(b"").hexdigest()
    kept = {"approved": True, "by": by, "at": AS_OF.isoformat(), "tasks": 0, "decisions": nothing}
    assert answer == (by and kept)
