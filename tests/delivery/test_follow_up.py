"""Follow-ups under kills, at the stand-in of Salesforce; tests/contracts/test_follow_ups.py has the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from onetouch.crm import Activity
from onetouch.delivery import back_off
from onetouch.delivery.recheck import undisturbed
from onetouch.ledger import Handoff, Run
from onetouch.policy import read_policy

from tests.crm_sync.test_one_touch import handed_over
from tests.delivery.test_escalate import OWNERS
from tests.delivery.world import AS_OF, OWNER, Killed

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
CALLED = AS_OF + HOUR


def called(world: Any) -> None:
    """Company 1 was called, and its rep may write once more after a week."""
    world.policy = world.policy.changed(
        handoff__touches=2, assignment__reps=[{"email": "rita@rep.example"}], crm__context="once"
    )
    world.accounts(1)
    run = world.run()
    world.decide(run, 1, signals=OWNERS)
    world.deliver(run)
    world.org.clock(CALLED)
    world.rep_writes("Task", world.task(1)["Id"], Status="Completed")
    read(world, CALLED + HOUR)


def read(world: Any, at: Any) -> Any:
    """A run that has read the CRM, and holds Company 1 because it was touched."""
    world.org.clock(at)
    run = world.run(at)
    world.extract(run)
    world.decide(run, 1, signals=OWNERS, action="hold_touched")
    return run


def end(world: Any, run: Any) -> None:
    back_off(world.ledger, world.policy, run, world.salesforce(), held=None)


def dies(world: Any, die_at: int, step: Callable[[], Any]) -> bool:
    """Whether the step is killed at that moment."""
    world.mortal(die_at)
    try:
        step()
    except Killed:
        return True
    finally:
        world.immortal()
    return False


def follow_ups(world: Any) -> list[dict[str, Any]]:
    return [task for task in world.org.tasks() if str(task["Onetouch_Handoff_Id__c"]).endswith("-1")]


def test_an_answer_or_a_touch_that_the_run_has_not_read_keeps_it_back() -> None:
    policy = read_policy()
    run = Run("r", CALLED + 7 * DAY, "v", False, True)
    handoff = handed_over(state="touched", touched_at=CALLED)
    said = Activity(
        activity_id="1", kind="email", crm_account_id="001A", owner_id=OWNER, subject="", description="", is_done=True,
        is_deleted=False, created_at=run.as_of, done_at=run.as_of, changed_at=run.as_of,
    )  # fmt: skip

    def free(*activities: Activity, of: Handoff = handoff) -> set[str]:
        crm: Any = SimpleNamespace(
            read_activities=lambda since: iter(activities),
            opportunities_since=lambda since: set(),
            gone_since=lambda since: {},
        )
        reps = pd.DataFrame({"owner_id": [OWNER], "email": ["rita@rep.example"]})
        return undisturbed(policy, run, crm, [of], reps, lambda _: {}, lambda *_: {}, {})

    assert free() == {"h1"}
    assert free(said) == set()
    assert free(replace(said, is_answer=True)) == set()
    assert free(replace(said, is_answer=True, is_deleted=True)) == {"h1"}
    assert free(replace(said, crm_account_id="001B")) == {"h1"}
    # Nobody has been in touch with this one: what the customer writes answers nobody.
    assert free(replace(said, is_answer=True), of=handed_over(state="task_open")) == {"h1"}


@pytest.mark.long
def test_dying_at_any_moment_while_it_is_written_writes_it_once(make_world: Any) -> None:
    for die_at in range(1, 60):
        world = make_world(f"dies-{die_at}")
        called(world)
        run = read(world, CALLED + 7 * DAY)
        died = dies(world, die_at, partial(world.deliver, run))
        world.deliver(read(world, CALLED + 7 * DAY + HOUR))
        (task,) = follow_ups(world)
        assert not task["IsClosed"], die_at
        (row,) = [row for row in world.ledger.outbox() if row.kind == "follow_up"]
        assert row.state == "sent"
        if not died:
            return
    raise AssertionError("it never came to an end")


@pytest.mark.long
def test_dying_at_any_moment_while_it_is_closed_closes_it_once(make_world: Any) -> None:
    for die_at in range(1, 60):
        world = make_world(f"closes-{die_at}")
        called(world)
        world.deliver(read(world, CALLED + 7 * DAY))
        run = read(world, CALLED + 14 * DAY)
        died = dies(world, die_at, partial(end, world, run))
        end(world, read(world, CALLED + 14 * DAY + HOUR))
        (task,) = follow_ups(world)
        assert task["IsClosed"], die_at
        assert task["Subject"].count("[Withdrawn] ") == 1
        assert task["Description"].count("Withdrawn: no response within 14 days of the first touch") == 1
        if not died:
            return
    raise AssertionError("it never came to an end")
