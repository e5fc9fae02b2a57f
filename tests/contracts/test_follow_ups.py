"""More touches than one, by policy: a task for each follow-up, in every registered CRM, at its stand-in.

Company 1 is called on Tuesday 18 November at eleven. With four touches and seven days of silence its follow-ups are due
a week apart, and without an answer it is released on 16 December.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from onetouch.audit import accounting
from onetouch.crm import UNKNOWN, Outcome, follow_up_key
from onetouch.delivery import DeliveryFailed, back_off, deliver_tasks, reconcile
from onetouch.policy import read_policy
from onetouch.policy.upgrade import read_stored, stored

from tests.contracts.crm_stand_ins import SeenTask
from tests.contracts.test_crm import Side, side
from tests.delivery.world import AS_OF, BUYING

__all__ = ["side"]

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
CALLED = AS_OF + HOUR
WEEK = 7 * DAY


def given(side: Side, touches: int = 4, **policy: Any) -> dict[int, str]:
    """Company 1 is called and does not answer."""
    side.policy = side.policy.changed(
        handoff__touches=touches, assignment__reps=[{"email": "rita@rep.example"}], crm__context="once", **policy
    )
    accounts = side.there.accounts(1, 2)
    first = side.world.ledger.begin_run(AS_OF, side.policy, False)
    side.extract(first)
    side.decided(first, {1: accounts[1]})
    side.deliver(first)
    side.there.clock(CALLED)
    side.there.edits(side.task(side.world.handoff(1).handoff_id).task_id, is_done=True, outcome="No response")
    run(side, CALLED + HOUR)
    assert side.world.handoff(1).touched_at == CALLED
    return accounts


def run(side: Side, at: datetime, action: str = "hold_touched", crm: Any = None, **signals: Any) -> dict[str, Any]:
    """What one run does that calls nobody new: it reads the CRM, ends what is over, and delivers."""
    side.there.clock(at)
    its = side.world.ledger.begin_run(at, side.policy, False)
    side.extract(its)
    back_off(side.world.ledger, side.policy, its, crm or side.client(), held=None)
    owner = {"owner_email": "rita@rep.example", "owner_id": side.there.rita, "owner_active": True}
    side.world.decide(its, 1, action=action, signals=owner | signals)
    return side.deliver(its, crm)


def follow_ups(side: Side) -> list[SeenTask]:
    """The tasks of follow-ups, in their order."""
    own = side.world.handoff(1).handoff_id
    theirs = [task for task in side.there.tasks() if task.handoff_id and task.handoff_id != own]
    assert all(str(task.handoff_id).startswith(f"{own}-") for task in theirs)
    return sorted(theirs, key=lambda task: str(task.handoff_id))


def done(side: Side, task: SeenTask, at: datetime, **edits: Any) -> None:
    side.there.clock(at)
    side.there.edits(task.task_id, is_done=True, **edits)


def state(side: Side) -> str:
    return str(side.world.handoff(1).state)


def test_each_week_without_an_answer_has_its_follow_up_and_then_they_are_left_alone(side: Side) -> None:
    accounts = given(side)
    made = []
    for day in (1, 6, 7, 8, 14, 15, 16, 22, 23, 24, 27, 28):
        run(side, CALLED + HOUR + day * DAY)
        tasks = follow_ups(side)
        if len(tasks) > len(made):
            made.append(day)
            done(side, tasks[-1], CALLED + HOUR + day * DAY + timedelta(minutes=5), outcome="No response")
    assert made == [7, 15, 23], "a week after the touch before it"
    first, second, third = follow_ups(side)
    assert [task.handoff_id for task in (first, second, third)] == [
        follow_up_key(side.world.handoff(1).handoff_id, number) for number in (1, 2, 3)
    ]
    assert first.subject == "Follow-up 1 of 3: Company 1 has not answered since 18 Nov 2025"
    assert (first.owner_id, first.crm_account_id) == (side.there.rita, accounts[1])
    assert third.subject.startswith("Follow-up 3 of 3: ")
    assert state(side) == "released"
    assert side.task(side.world.handoff(1).handoff_id).description.startswith("Released: no response within 28 days")
    assert all(not task.subject.startswith("[") for task in (first, second, third)), "the rep did them"
    assert len(side.world.ledger.handoffs()) == 1
    touches = side.world.ledger.touches()
    assert len(touches) == 4
    assert set(touches["handoff_id"]) == {side.world.handoff(1).handoff_id}, "a follow-up is a touch of its handoff"


def test_it_says_what_was_sent_what_they_did_since_and_how_it_ends(side: Side) -> None:
    given(side)
    at = CALLED + WEEK
    viewed = {"pricing_views_at": at - DAY, "demo_requests_at": CALLED - DAY}
    run(side, at, **viewed)
    (task,) = follow_ups(side)
    assert task.description == (
        "SO FAR, WITHOUT AN ANSWER\n"
        "  18 Nov 2025: the task was done\n\n"
        "WHAT THEY HAVE DONE SINCE\n"
        "  24 Nov 2025: looked at pricing\n\n"
        "HOW IT ENDS\n"
        "  With an answer, a meeting or a deal, or when they buy by themselves: this task is then closed.\n"
        "  Without any of it they have the product to themselves again from 16 Dec 2025 on."
    )


def test_one_touch_and_a_stored_policy_write_none(side: Side) -> None:
    given(side, touches=1)
    for day in (6, 7, 8, 20):
        assert "follow_ups" not in run(side, CALLED + day * DAY)
    assert follow_ups(side) == []
    assert state(side) == "released"
    document = stored(read_policy())
    del document["handoff"]["follow_ups"]
    assert read_stored(document | {"format": 3}).handoff.follow_ups == "none"


def test_a_stored_policy_of_several_touches_only_waits_longer(side: Side) -> None:
    given(side, handoff__follow_ups="none")
    for day in (7, 14, 21, 27):
        run(side, CALLED + day * DAY)
        assert state(side) == "touched"
    run(side, CALLED + 28 * DAY)
    assert (state(side), follow_ups(side)) == ("released", [])


def test_the_next_one_waits_until_the_one_before_is_done(side: Side) -> None:
    given(side)
    assert run(side, CALLED + WEEK)["follow_ups"] == {"written": 1, "waiting": 0, "closed": 0, "refused": 0}
    assert run(side, CALLED + 2 * WEEK)["follow_ups"]["waiting"] == 1
    assert len(follow_ups(side)) == 1, "a rep has one task of an account at a time"
    done(side, follow_ups(side)[0], CALLED + 2 * WEEK + HOUR)
    run(side, CALLED + 3 * WEEK)
    assert len(follow_ups(side)) == 1, "it was done only six days ago"
    run(side, CALLED + 3 * WEEK + 2 * HOUR)
    assert len(follow_ups(side)) == 2


def test_a_rep_who_was_in_touch_by_themself_is_left_alone_for_a_week(side: Side) -> None:
    accounts = given(side)
    side.there.clock(CALLED + 6 * DAY)
    side.there.edits(side.there.logs("task", accounts[1], "Once more", side.there.rita), is_done=True)
    run(side, CALLED + WEEK)
    assert follow_ups(side) == []
    run(side, CALLED + 6 * DAY + WEEK)
    assert len(follow_ups(side)) == 1


def test_one_that_a_rep_deletes_is_not_made_again(side: Side) -> None:
    given(side)
    run(side, CALLED + WEEK)
    side.there.deletes("task", follow_ups(side)[0].task_id)
    for hours in (1, 2, 24):
        run(side, CALLED + WEEK + hours * HOUR)
    assert [task for task in follow_ups(side) if not task.is_deleted] == []
    assert state(side) == "touched"


@pytest.mark.parametrize("how", ["the first task", "the follow-up", "a deal", "a purchase", "silence", "never contact"])
def test_what_ends_it_closes_the_task_that_is_open_and_writes_no_other(side: Side, how: str) -> None:
    accounts = given(side)
    run(side, CALLED + WEEK)
    (task,) = follow_ups(side)
    at, action, signals = CALLED + 8 * DAY, "hold_touched", {}
    side.there.clock(at)
    if how == "the first task":
        side.there.edits(side.task(side.world.handoff(1).handoff_id).task_id, outcome="Replied")
    elif how == "the follow-up":
        side.there.edits(task.task_id, outcome="Meeting booked")
    elif how == "a deal":
        side.there.deal(accounts[1], "open")
    elif how == "a purchase":
        action, signals = "hold_converting", {"checkout_state": "started", "checkout_at": at}
    elif how == "silence":
        at = CALLED + 28 * DAY
    else:
        action = "hold_never_contact"
    if how == "silence":
        its = side.world.ledger.begin_run(at, side.policy, False)
        side.there.clock(at)
        side.extract(its)
        assert back_off(side.world.ledger, side.policy, its, side.client(), held=None)["follow_ups"]["closed"] == 1
    else:
        run(side, at + HOUR, action=action, **signals)
    (closed,) = follow_ups(side)
    assert closed.is_done
    assert closed.subject == f"[Withdrawn] {task.subject}"
    assert closed.description.startswith("Withdrawn: ")
    assert closed.description.endswith(task.description.splitlines()[-1])
    expected = {"a purchase": "withdrawn", "silence": "released", "never contact": "touched"}
    assert state(side) == expected.get(how, "replied")
    for day in (15, 22, 27):
        if state(side) != "touched":
            run(side, CALLED + day * DAY, action="hold_touched")
    assert len(follow_ups(side)) == 1


def test_what_a_rep_did_before_the_end_is_left_as_it_is(side: Side) -> None:
    given(side)
    run(side, CALLED + WEEK)
    done(side, follow_ups(side)[0], CALLED + WEEK + HOUR, description="Left a message.")
    run(side, CALLED + 28 * DAY)
    (task,) = follow_ups(side)
    assert (state(side), task.subject[:9], task.description) == ("released", "Follow-up", "Left a message.")


def test_what_has_begun_since_the_run_read_the_crm_keeps_it_back(side: Side) -> None:
    accounts = given(side)
    at = CALLED + WEEK
    side.there.clock(at)
    its = side.world.ledger.begin_run(at, side.policy, False)
    side.extract(its)
    owner = {"owner_email": "rita@rep.example", "owner_id": side.there.rita, "owner_active": True}
    side.world.decide(its, 1, action="hold_touched", signals=owner)
    side.world.rechecked = {"org-1": BUYING}
    side.deliver(its)
    assert follow_ups(side) == []
    side.world.rechecked = {}
    side.there.clock(at + timedelta(minutes=1))
    side.there.deal(accounts[1], "open")
    side.deliver(its)
    assert follow_ups(side) == []


@pytest.mark.parametrize("action", ["hold_converting", "hold_open_opportunity", "hold_never_contact"])
def test_an_account_that_is_held_for_another_reason_gets_none(side: Side, action: str) -> None:
    given(side)
    for hours in (0, 1, 2):
        run(side, CALLED + WEEK + hours * HOUR, action=action)
    assert follow_ups(side) == []


def test_a_dry_run_says_how_many_are_due(side: Side) -> None:
    given(side)
    at = CALLED + WEEK
    its = side.world.ledger.begin_run(at, side.policy, True)
    side.world.decide(its, 1, action="hold_touched")
    world = side.world
    told = deliver_tasks(world.lake, world.ledger, side.policy, its, None, recheck=lambda _: {}, held="dry run")
    assert told["follow_ups"] == {"due": 1}
    world.ledger.finish_stage(its.run_id, "deliver_tasks", told)
    assert accounting(world.ledger, its.run_id)["follow_ups"] == {"due": 1}
    assert follow_ups(side) == []


@pytest.mark.parametrize("method", ["create_tasks", "close_tasks"])
def test_a_death_between_crm_and_ledger_makes_no_second_and_leaves_none_open(side: Side, method: str) -> None:
    given(side)
    client = side.client()

    class Dying:
        def __getattr__(self, name: str) -> Any:
            if name != method:
                return getattr(client, name)

            def write_and_die(*args: Any) -> Any:
                getattr(client, name)(*args)
                raise KeyboardInterrupt

            return write_and_die

    at = CALLED + WEEK
    if method == "close_tasks":
        run(side, at)
        at = CALLED + 8 * DAY
        side.there.clock(at)
        side.there.edits(follow_ups(side)[0].task_id, outcome="Replied")
    with pytest.raises(KeyboardInterrupt):
        run(side, at, crm=Dying())
    assert len(follow_ups(side)) == 1
    run(side, at + HOUR)
    (task,) = follow_ups(side)
    rows = {row["kind"]: row["state"] for row in side.world.ledger.dump()["outbox"]}
    assert rows["follow_up"] == "sent"
    assert task.is_done is (method == "close_tasks")
    assert task.subject.count("[Withdrawn]") == int(method == "close_tasks")


def test_an_end_while_it_was_on_its_way_closes_what_arrived(side: Side) -> None:
    given(side)
    client = side.client()

    class Silent:
        def __getattr__(self, name: str) -> Any:
            return getattr(client, name)

        def create_tasks(self, rows: Any, unsure: Any = ()) -> dict[str, Outcome]:
            client.create_tasks(rows, unsure)
            return dict.fromkeys(rows, Outcome(ok=False, code=UNKNOWN, retryable=True))

    with pytest.raises(DeliveryFailed, match="follow-ups written or closed"):
        run(side, CALLED + WEEK, crm=Silent())
    (task,) = follow_ups(side)
    assert not task.is_done
    side.there.edits(side.task(side.world.handoff(1).handoff_id).task_id, outcome="Replied")
    run(side, CALLED + 8 * DAY)
    (task,) = follow_ups(side)
    assert task.is_done and task.subject.startswith("[Withdrawn] ")
    run(side, CALLED + 12 * DAY)
    assert len(follow_ups(side)) == 1


def test_the_nightly_comparison_knows_them_and_closes_one_left_open(side: Side) -> None:
    given(side)
    run(side, CALLED + WEEK)
    night = side.world.ledger.begin_run(CALLED + WEEK + HOUR, side.policy, False)
    found = reconcile(side.world.ledger, side.policy, night, side.client(), held=None)
    assert (found["looked_at"], found["agreeing"]) == (2, 2)
    side.there.clock(CALLED + 8 * DAY)
    side.there.edits(side.task(side.world.handoff(1).handoff_id).task_id, outcome="Replied")
    side.extract(side.world.ledger.begin_run(CALLED + 8 * DAY, side.policy, False))
    night = side.world.ledger.begin_run(CALLED + 8 * DAY + HOUR, side.policy, False)
    found = reconcile(side.world.ledger, side.policy, night, side.client(), held=None)
    assert found["repaired"] == {"a task open after its handoff has ended": 1}
    assert follow_ups(side)[0].subject.startswith("[Withdrawn] ")
