"""Guarantee 1 at the far end: what the CRM shows when a checkout starts at the worst moment."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Callable
from datetime import datetime, timedelta

from onetouch import audit, stages
from onetouch.workspace import Workspace

from tests.pipeline.world import AS_OF, Pipeline, World


def product_event(world: World, account_id: str, event_type: str, at: datetime) -> None:
    """Adds an answer of the vendor's API in which a user of the account did something at `at`."""
    workspace = world.workspace()
    with workspace.lake.engine() as engine:
        events = engine.read(workspace.lake.list("events"))
        theirs = events.filter(events.account_id == account_id, events.user_id.notnull())
        [last] = engine.fetch(theirs.order_by(theirs.occurred_at.desc()).limit(1)).to_pylist()
    user, basis = last["user_id"], last["account_basis"]
    stamp = f"{at:%Y-%m-%d %H:%M:%S.000000}"
    row = {
        "uuid": f"late-{event_type}-{account_id}",
        "event_type": event_type,
        "user_id": user,
        "event_time": stamp,
        "client_event_time": stamp,
        "client_upload_time": stamp,
        "server_received_time": stamp,
        "server_upload_time": stamp,
        "event_properties": {},
        "user_properties": {"email": user},
        "groups": {"organisation": [account_id]} if basis == "group" else {},
        "session_id": -1,
    }
    with zipfile.ZipFile(world.exports / f"{event_type}-{at:%Y%m%dT%H%M}.zip", "w") as answer:
        answer.writestr(
            f"424242/424242_{at:%Y-%m-%d}_{at.hour}#0.json.gz", gzip.compress(json.dumps(row).encode() + b"\n")
        )


def subjects_of(world: World, account_id: str) -> list[tuple[str, str, bool]]:
    return [
        (t["Status"], t["Subject"], t["IsClosed"])
        for t in world.state()["tasks"]
        if t["Onetouch_Handoff_Id__c"] and t["account"]["Onetouch_Account_Id__c"] == account_id
    ]


def called_in(workspace: Workspace, run_id: str) -> list[str]:
    """The accounts a run decided to hand over, best score first."""
    rows = audit.decision_rows(workspace.lake, workspace.ledger.run(run_id), action="sales_now")
    return [row["account_id"] for row in rows]


def run_up_to_delivery(workspace: Workspace) -> str:
    run_id = stages.begin(workspace, AS_OF, AS_OF)
    for name in stages.ORDER[: stages.ORDER.index("deliver_tasks")]:
        extra = [AS_OF] if name == "back_off" else ["amplitude"] if name == "extract_events" else []
        getattr(stages, name)(workspace, run_id, *extra)
    return run_id


def test_a_checkout_started_between_scoring_and_delivery_prevents_the_task(make_world: Callable[[str], World]) -> None:
    world = make_world("between")
    workspace = world.workspace()
    run_id = run_up_to_delivery(workspace)
    chosen, *others = called_in(workspace, run_id)
    product_event(world, chosen, "checkout_started", AS_OF + timedelta(minutes=10))

    summary = stages.deliver_tasks(workspace, run_id, AS_OF + timedelta(hours=1))

    assert subjects_of(world, chosen) == []
    assert {t["account"]["Onetouch_Account_Id__c"] for t in world.open_tasks()} == set(others)
    assert summary["to_send"] == summary["delivered"] + sum(summary["withheld"].values()) + len(summary["failed"])
    assert any("checkout" in reason for reason in summary["withheld"])
    (handoff,) = workspace.ledger.handoffs(account_ids=[chosen])
    assert handoff.state == "withdrawn"
    assert "checkout" in handoff.reason


def test_who_has_bought_or_given_up_meanwhile_gets_no_task(make_world: Callable[[str], World]) -> None:
    world = make_world("finished")
    workspace = world.workspace()
    run_id = run_up_to_delivery(workspace)
    called = called_in(workspace, run_id)
    chosen, gave_up, *_ = [account_id for account_id in called if account_id.startswith("org_")]
    product_event(world, chosen, "checkout_started", AS_OF + timedelta(minutes=10))
    product_event(world, gave_up, "checkout_started", AS_OF + timedelta(minutes=11))
    product_event(world, chosen, "checkout_completed", AS_OF + timedelta(minutes=20))
    product_event(world, gave_up, "checkout_abandoned", AS_OF + timedelta(minutes=20))

    summary = stages.deliver_tasks(workspace, run_id, AS_OF + timedelta(hours=1))

    assert subjects_of(world, chosen) == [], "the next run would take it away again"
    assert subjects_of(world, gave_up) == [], "who has just given up may come back by themselves"
    reasons = {h.account_id: h.reason for h in workspace.ledger.handoffs(account_ids=[chosen, gave_up])}
    assert reasons[chosen] == "bought: by themselves"
    assert reasons[gave_up].startswith("checkout: in progress")
    assert summary["withheld"] == {"bought": 1, "checkout": 1}


def test_a_checkout_started_after_the_task_withdraws_it_on_the_next_run(
    make_world: Callable[[str], World], pipeline: Pipeline
) -> None:
    world = make_world("after")
    assert pipeline.run(world)["error"] is None
    workspace = world.workspace()
    first = stages.begin(workspace, AS_OF, AS_OF)
    chosen, *others = called_in(workspace, first)
    assert len(subjects_of(world, chosen)) == 1
    product_event(world, chosen, "checkout_started", AS_OF + timedelta(minutes=10))

    later = AS_OF + timedelta(hours=1)
    world.clock(later)
    assert pipeline.run(world, as_of=later)["error"] is None

    ((_, subject, closed),) = subjects_of(world, chosen)
    assert closed
    assert subject.startswith("[Withdrawn]")
    assert {t["account"]["Onetouch_Account_Id__c"] for t in world.open_tasks()} >= set(others)
    second = stages.begin(workspace, later, later)
    rows = audit.decision_rows(workspace.lake, workspace.ledger.run(second))
    decided = {row["account_id"]: row["action"] for row in rows}
    assert decided[chosen] == "hold_converting"
    assert all(decided[other] != "sales_now" for other in others), "one touch: a task under way is not sent again"
