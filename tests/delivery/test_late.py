"""A delivery that could not be made in time: its task is due from when it was delivered, not in the past."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from onetouch.delivery import DeliveryFailed

from tests.delivery.world import AS_OF, crm_id

DAY = timedelta(days=1)
LOCKED = {"statusCode": "UNABLE_TO_LOCK_ROW", "message": "locked"}


def refused_for_now(world: Any, method: str) -> Any:
    """A handoff of the first run whose context (PATCH) or task (POST) the CRM does not take for now."""
    world.accounts(1)
    run = world.run()
    world.decide(run, 1, contact_at=AS_OF + timedelta(hours=1))
    world.org.post("faults", [{"match": "composite/sobjects$", "method": method, "row_error": LOCKED, "times": 5}])
    with pytest.raises(DeliveryFailed):
        world.deliver(run)
    assert world.org.tasks() == []
    return world.handoff(1).due_at


def next_run(world: Any, at: datetime) -> None:
    world.org.clock(at)
    run = world.run(at)
    world.decide(run, 1, action="hold_touched")
    world.deliver(run)


@pytest.mark.parametrize("method", ["PATCH", "POST"])
def test_a_task_delivered_a_day_late_is_due_from_then(world: Any, method: str) -> None:
    world.policy = world.policy.changed(handoff__task_notes="whole")  # the record then tells the due time, too
    was_due = refused_for_now(world, method)
    late = AS_OF + DAY
    assert was_due < late
    next_run(world, late)
    task, handoff = world.task(1), world.handoff(1)
    assert handoff.state == "task_open"
    assert late < handoff.due_at <= handoff.decided_at + timedelta(hours=world.policy.handoff.expires_hours)
    assert task["ActivityDate"] == handoff.due_at.date().isoformat()
    assert datetime.fromisoformat(task["ReminderDateTime"]) == handoff.due_at.replace(microsecond=0)
    [line] = [line for line in task["Description"].splitlines() if "First message due:" in line]
    assert f"{handoff.due_at:%H:%M}" in line
    assert "Best moment" not in task["Description"]
    if method == "PATCH":  # else the record had been written in time, with what was true then
        assert line.strip() in world.org.account(crm_id(1))["Onetouch_Dossier__c"]


def test_a_task_delivered_before_its_due_time_keeps_it(world: Any) -> None:
    was_due = refused_for_now(world, "POST")
    next_run(world, was_due - timedelta(minutes=1))
    task = world.task(1)
    assert world.handoff(1).due_at == was_due
    assert datetime.fromisoformat(task["ReminderDateTime"]) == AS_OF + timedelta(hours=1)
    assert "Best moment" in task["Description"]
