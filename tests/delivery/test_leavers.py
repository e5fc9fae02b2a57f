"""People come and go: an untouched task goes to the next rep, with a new SLA; who was in touch keeps the handoff.

The reps work from nine to five in New York. Every task is given at five in the morning (10:00 UTC) and due at eleven.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given as cases
from hypothesis import settings
from hypothesis import strategies as st
from onetouch.delivery import DeliveryFailed, reconcile
from onetouch.policy import read_policy
from onetouch.policy.upgrade import read_stored, stored
from onetouch.sandbox.fields import make_id

from tests.delivery.test_alert_reps import alert, shown, tuned
from tests.delivery.test_escalate import AS_OF, DUE, HOUR, OWNERS, TWICE, given, hour, mentioned, owner, replies, rules
from tests.delivery.world import BUYING, OTHER, OWNER, Killed

THIRD = make_id("005", 103)
LATER = AS_OF + 5 * HOUR
"""Ten in the morning in New York."""


def third(world: Any) -> None:
    user = {"Id": THIRD, "Name": "Tess", "Email": "tess@rep.example", "Username": "tess@rep.example"}
    world.org.post("load", {"User": [user | {"IsActive": True, "TimeZoneSidKey": "America/New_York"}]})


def reps(world: Any, *names: str, **of: dict[str, Any]) -> None:
    listed = [{"email": f"{name}@rep.example"} | of.get(name, {}) for name in names]
    world.policy = world.policy.changed(assignment__reps=listed)


def leaves(world: Any, rep: str = OWNER) -> None:
    """An admin deactivates the rep's user."""
    world.org.sql("UPDATE User SET IsActive = 0 WHERE Id = ?", rep)


def local(at: datetime) -> str:
    return f"{at.astimezone(ZoneInfo('America/New_York')):%a %H:%M}"


# ── deactivated ──────────────────────────────────────────────────────────────────────────────────


def test_the_task_of_a_deactivated_rep_goes_to_the_next_with_a_clock_of_their_own(world: Any) -> None:
    rules(world, None)
    given(world, 1)
    before = world.task(1)
    leaves(world)
    assert hour(world, LATER, 1)["reassigned"] == {"passed_on": 1, "waiting": 0, "refused": 0}
    after = world.task(1)  # it is the only one
    assert owner(world, 1) == (OTHER, OTHER)
    assert {name for name in before if after[name] != before[name]} <= {
        "OwnerId", "owner", "SystemModstamp", "LastModifiedDate", "LastModifiedById", "account",
        "ActivityDate", "IsReminderSet", "ReminderDateTime",
    }  # fmt: skip
    handoff = world.handoff(1)
    assert (handoff.state, handoff.episode, len(world.ledger.handoffs())) == ("task_open", 1, 1)
    assert local(handoff.due_at) == "Tue 12:00"  # two working hours of a high tier, from ten o'clock on
    assert after["ActivityDate"] == "2025-11-18"
    assert after["ReminderDateTime"].startswith("2025-11-18T15:00:00")


def test_both_are_told_the_new_owner_with_the_new_due_time(world: Any) -> None:
    rules(world, None)
    given(world, 1)
    (first,) = world.org.posts()
    leaves(world)
    for at in (LATER, LATER + HOUR, LATER + 3 * HOUR):
        hour(world, at, 1)
    posts = world.org.posts()
    (again,) = [post for post in posts if post["thread_ts"] is None and post["ts"] != first["ts"]]
    assert "due Tue 18 Nov, 12:00 EST" in shown(again)
    handed, reminder = replies(world)
    assert handed["thread_ts"] == first["ts"]
    assert "its owner is no longer active in the CRM. It is now with @" in shown(handed)
    assert mentioned(handed) == mentioned(again)  # a deactivated user is in nobody's Slack any more
    assert reminder["thread_ts"] == again["ts"]
    assert "the first message was due Tue 18 Nov, 12:00 EST" in shown(reminder)


def test_where_alerts_are_direct_messages_the_new_owner_gets_one(world: Any) -> None:
    rules(world, None)
    tuned(world, alerts_to="owner")
    given(world, 1)
    (first,) = world.org.posts()
    leaves(world)
    hour(world, LATER, 1)
    (again,) = [post for post in world.org.posts() if post["channel"] != first["channel"]]
    assert again["channel"].startswith("D")
    assert "Company 1" in again["text"]


def test_one_after_the_other_may_leave(world: Any) -> None:
    rules(world, None)
    third(world)
    reps(world, "rita", "otto", "tess")
    given(world, 1)
    leaves(world)
    hour(world, LATER, 1)
    took = world.handoff(1).owner_id
    leaves(world, took)
    hour(world, LATER + HOUR, 1)
    last = ({OTHER, THIRD} - {took}).pop()
    assert owner(world, 1) == (last, last)
    assert len([post for post in world.org.posts() if post["thread_ts"] is None]) == 3
    load = world.ledger.rep_load(LATER + 2 * HOUR).set_index("owner_email")["open"].to_dict()
    assert load == {
        "rita@rep.example": 0,
        "otto@rep.example": int(last == OTHER),
        "tess@rep.example": int(last == THIRD),
    }


def test_nobody_left_to_take_it_waits_and_is_counted(world: Any) -> None:
    rules(world, None)
    given(world, 1)
    leaves(world)
    leaves(world, OTHER)
    assert hour(world, LATER, 1)["reassigned"] == {"passed_on": 0, "waiting": 1, "refused": 0}
    assert owner(world, 1) == (OWNER, OWNER)
    world.org.sql("UPDATE User SET IsActive = 1 WHERE Id = ?", OTHER)
    hour(world, LATER + HOUR, 1)
    assert owner(world, 1) == (OTHER, OTHER)


def test_a_days_tasks_hold_for_who_takes_over(world: Any) -> None:
    rules(world, None)
    reps(world, "rita", "otto", otto={"tasks_per_day": 2})
    given(world, 1, 2, 3)
    leaves(world)
    assert hour(world, LATER, 1, 2, 3)["reassigned"] == {"passed_on": 2, "waiting": 1, "refused": 0}


def test_a_policy_that_keeps_them_and_a_stored_one_move_nothing(world: Any) -> None:
    rules(world, None, assignment__when_owner_leaves="keep")
    given(world, 1)
    leaves(world)
    assert "reassigned" not in hour(world, LATER, 1)
    assert owner(world, 1) == (OWNER, OWNER)
    document = stored(read_policy())
    for key in ("when_owner_leaves", "when_territory_changes"):
        del document["assignment"][key]
    former = read_stored(document | {"format": 3}).assignment
    assert (former.when_owner_leaves, former.when_territory_changes) == ("keep", "keep")


def test_a_task_that_was_touched_stays_and_the_channel_is_told_once(world: Any) -> None:
    rules(world, None)
    given(world, 1)
    (first,) = world.org.posts()
    world.org.clock(AS_OF + HOUR)
    world.rep_writes("Task", world.task(1)["Id"], Status="Completed")
    hour(world, AS_OF + 2 * HOUR, 1)
    leaves(world)
    for at in (LATER, LATER + HOUR):
        hour(world, at, 1)
    assert owner(world, 1) == (OWNER, OWNER)
    assert world.handoff(1).state == "touched"
    (told,) = replies(world)
    assert told["thread_ts"] == first["ts"]
    assert "contacted by a rep who is no longer active in the CRM" in shown(told)
    assert mentioned(told) == []


def test_a_touch_since_the_run_has_read_the_crm_keeps_it_there(world: Any) -> None:
    run = left_run(world)
    call = {"Subject": "Call", "Status": "Completed", "WhatId": world.handoff(1).crm_account_id, "OwnerId": OTHER}
    world.rep_writes("Task", None, **call)
    world.deliver(run)
    assert owner(world, 1) == (OWNER, OWNER)


@pytest.mark.parametrize("what", ["buying", "barred", "held"])
def test_what_speaks_against_a_call_speaks_against_giving_it_on(world: Any, what: str) -> None:
    run = left_run(world)
    if what == "buying":
        world.rechecked = {"org-1": BUYING}
    if what == "barred":
        world.policy = world.policy.changed(never_contact__domains=["company1.example"])
    world.deliver(run, held="stopped" if what == "held" else None)
    assert owner(world, 1) == (OWNER, OWNER)


def test_who_was_activated_again_before_it_is_written_keeps_it(world: Any) -> None:
    run = left_run(world)
    world.org.sql("UPDATE User SET IsActive = 1 WHERE Id = ?", OWNER)
    world.deliver(run)
    assert owner(world, 1) == (OWNER, OWNER)


def test_a_task_that_is_in_a_queue_is_left_to_whoever_takes_it_from_there(world: Any) -> None:
    queue = make_id("00G", 7)
    rules(world, None)
    given(world, 1)
    world.org.sql("UPDATE Task SET OwnerId = ? WHERE Id = ?", queue, world.task(1)["Id"])
    leaves(world)
    summary = hour(world, LATER, 1)
    assert "reassigned" not in summary
    assert world.task(1)["OwnerId"] == queue
    assert [row for row in world.ledger.outbox() if row.kind == "reassignment"] == []


def test_a_rep_the_crm_does_not_take_is_reported_once_and_another_may(world: Any) -> None:
    run = left_run(world)
    fault = {"method": "PATCH", "match": "composite/sobjects", "row_error": "FIELD_CUSTOM_VALIDATION_EXCEPTION"}
    world.org.post("faults", [fault])
    with pytest.raises(DeliveryFailed, match="reassignment of handoff"):
        world.deliver(run)
    assert owner(world, 1) == (OWNER, OWNER)
    (dead,) = world.ledger.outbox(states=["failed"])
    world.ledger.retry([dead.key])
    hour(world, LATER + HOUR, 1)
    assert owner(world, 1) == (OTHER, OTHER)
    assert len([row for row in world.ledger.outbox() if row.kind == "reassignment"]) == 1


# ── with escalation ──────────────────────────────────────────────────────────────────────────────


def test_escalation_counts_anew_from_the_change_of_owner(world: Any) -> None:
    rules(world, "boss@rep.example")
    boss = {"Id": THIRD, "Name": "Boss", "Email": "boss@rep.example", "Username": "boss@rep.example"}
    world.org.post("load", {"User": [boss | {"IsActive": True, "TimeZoneSidKey": "UTC"}]})
    given(world, 1)
    leaves(world)
    hour(world, LATER, 1)
    hour(world, TWICE, 1)  # twice the SLA of the rep who has left
    assert owner(world, 1) == (OTHER, OTHER)
    hour(world, LATER + 4 * HOUR - timedelta(minutes=1), 1)
    assert owner(world, 1) == (OTHER, OTHER)
    hour(world, LATER + 4 * HOUR, 1)
    assert owner(world, 1) == (THIRD, THIRD)
    load = world.ledger.rep_load(LATER + 6 * HOUR).set_index("owner_email")["open"].to_dict()
    assert load == {"rita@rep.example": 0, "otto@rep.example": 0, "boss@rep.example": 1}


def test_in_one_run_a_late_task_of_a_rep_who_left_moves_once(world: Any) -> None:
    rules(world)
    third(world)
    reps(world, "rita", "otto", "tess")
    given(world, 1)
    leaves(world)
    summary = hour(world, TWICE, 1)
    assert (summary["reassigned"]["passed_on"], summary["escalated"]["passed_on"]) == (1, 0)
    assert [row.kind for row in world.ledger.outbox() if row.kind in ("reassignment", "escalation")] == ["reassignment"]


def test_an_escalation_under_way_is_finished_first(world: Any) -> None:
    rules(world)
    given(world, 1)
    lost = {"method": "PATCH", "match": "composite/sobjects", "status": 503, "body": "busy", "times": 99}
    world.org.post("faults", [lost])
    with pytest.raises(DeliveryFailed):
        hour(world, TWICE, 1)
    world.org.empty_faults()
    leaves(world)
    hour(world, TWICE + HOUR, 1)
    assert owner(world, 1) == (OTHER, OTHER)
    assert [row.kind for row in world.ledger.outbox() if row.kind in ("reassignment", "escalation")] == ["escalation"]


# ── away, territories, new names ─────────────────────────────────────────────────────────────────


def on_leave(world: Any, first: str, last: str) -> None:
    reps(world, "rita", "otto", rita={"leave": [{"first": first, "last": last}]})


def test_a_rep_who_falls_ill_until_after_the_task_is_due_gives_it_on(world: Any) -> None:
    rules(world, None)
    given(world, 1)
    on_leave(world, "2025-11-18", "2025-11-20")
    hour(world, LATER, 1)
    assert owner(world, 1) == (OTHER, OTHER)
    (handed,) = replies(world)
    assert "its owner is away. It is now with @" in shown(handed)


def test_a_rep_who_is_back_before_the_task_is_due_keeps_it(world: Any) -> None:
    rules(world, None)
    given(world, 1)
    world.ledger.reassign(world.handoff(1).handoff_id, OWNER, "rita@rep.example", AS_OF + timedelta(days=2))
    on_leave(world, "2025-11-18", "2025-11-19")
    hour(world, LATER, 1)
    assert owner(world, 1) == (OWNER, OWNER)


@cases(first=st.integers(-3, 3), days=st.integers(0, 4), due=st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_away_means_on_leave_today_and_on_the_day_it_is_due(first: int, days: int, due: int) -> None:
    from onetouch.delivery.leavers import is_away
    from onetouch.policy import Leave

    today = date(2025, 11, 18)
    begins = today + timedelta(days=first)
    leave = Leave(first=begins, last=begins + timedelta(days=days))
    at = datetime(2025, 11, 18, 12, tzinfo=UTC)
    by = at + timedelta(days=due)
    expected = all(leave.first <= today + timedelta(days=n) <= leave.last for n in range(due + 1))
    assert is_away([leave], at, by, ZoneInfo("America/New_York")) is expected


def territory(world: Any, *names: str) -> None:
    emails = [f"{name}@rep.example" for name in names]
    world.policy = world.policy.changed(
        assignment__territories=[{"name": "north", "reps": emails, "regions": ["EMEA"]}]
    )


@pytest.mark.parametrize(("says", "ends_with"), [("keep", OWNER), ("next_rep", OTHER)])
def test_a_change_of_territories_is_about_new_tasks_unless_the_policy_says_otherwise(
    world: Any, says: str, ends_with: str
) -> None:
    rules(world, None, assignment__when_territory_changes=says)
    territory(world, "rita")
    given(world, 1, assigned_by="territory north")
    territory(world, "otto")
    hour(world, LATER, 1, owner_email=None, owner_id=None, owner_active=None, region="EMEA")
    assert owner(world, 1) == (ends_with, ends_with)


def test_what_somebody_has_given_on_by_hand_is_in_no_territory(world: Any) -> None:
    rules(world, None, assignment__when_territory_changes="next_rep")
    third(world)
    reps(world, "rita", "otto", "tess")
    territory(world, "rita")
    given(world, 1, assigned_by="territory north")
    territory(world, "otto")
    world.org.clock(AS_OF + HOUR)
    world.rep_writes("Task", world.task(1)["Id"], OwnerId=THIRD)
    hour(world, LATER, 1, owner_email=None, owner_id=None, owner_active=None, region="EMEA")
    assert owner(world, 1) == (THIRD, THIRD)


def test_a_rep_with_a_new_address_is_the_same_rep(world: Any) -> None:
    rules(world, None)
    given(world, 1)
    world.org.sql("UPDATE User SET Name = 'Rita Wed', Email = 'rita.wed@rep.example' WHERE Id = ?", OWNER)
    reps(world, "rita.wed", "otto")
    assert "reassigned" not in hour(world, LATER, 1, owner_email="rita.wed@rep.example")
    assert owner(world, 1) == (OWNER, OWNER)
    assert world.handoff(1).owner_email == "rita.wed@rep.example"
    users = {"rita.wed@rep.example", "otto@rep.example"}
    load = world.ledger.rep_load(LATER + HOUR, users).set_index("owner_email")["open"].to_dict()
    assert load == {"rita.wed@rep.example": 1}


def test_an_address_that_another_rep_has_now_keeps_that_reps_touches(world: Any) -> None:
    rules(world, None)
    given(world, 1)
    touch = {"account_id": "org-9", "owner_email": "rita@rep.example", "at": AS_OF, "kind": "call", "touch_id": "t9"}
    world.ledger.record_touches([touch])
    renamed = {OWNER: "rita.wed@rep.example", OTHER: "rita@rep.example"}
    assert world.ledger.rename_reps(renamed) == 1
    assert world.ledger.rename_reps(renamed) == 0  # once more it changes nothing
    assert list(world.ledger.touches(["org-9"])["owner_email"]) == ["rita@rep.example"]
    assert world.ledger.rename_reps({OWNER: "r@rep.example"}) == 1


# ── crashes ──────────────────────────────────────────────────────────────────────────────────────


def left_run(world: Any) -> Any:
    """A run that has read that Rita has left, and is about to deliver."""
    rules(world, None)
    given(world, 1)
    leaves(world)
    world.org.clock(LATER)
    run = world.run(LATER)
    world.extract(run)
    world.decide(run, 1, signals=OWNERS, action="hold_touched")
    world.org.clock(LATER + timedelta(minutes=2))
    return run


def test_dying_at_any_moment_gives_it_on_once_and_tells_both_once(make_world: Any) -> None:
    for die_at in range(1, 90, 2):
        world = make_world(f"dies-{die_at}")
        run = left_run(world)
        world.mortal(die_at)
        died = False
        try:
            world.deliver(run)
        except Killed:
            died = True
        world.immortal()
        hour(world, LATER + HOUR, 1)
        assert owner(world, 1) == (OTHER, OTHER), die_at
        (row,) = [row for row in world.ledger.outbox() if row.kind == "reassignment"]
        assert row.state == "sent"
        assert world.handoff(1).due_at == datetime.fromisoformat(row.payload["due_at"]), die_at
        told = [post["text"] for post in world.org.posts() if post["thread_ts"] is None]
        assert len(told) == 2, die_at
        assert len([reply for reply in replies(world) if "no longer active" in reply["text"]]) == 1
        if not died:
            return
    raise AssertionError("it never came to an end")


def test_a_lost_answer_is_looked_up(world: Any) -> None:
    run = left_run(world)
    world.org.post("faults", [{"method": "PATCH", "match": "composite/sobjects", "drop": "answer"}])
    world.deliver(run)
    assert world.org.faults() == []
    assert owner(world, 1) == (OTHER, OTHER)


def test_afterwards_ledger_and_crm_agree(world: Any) -> None:
    run = left_run(world)
    world.deliver(run)
    alert(world, run)
    later = world.run(LATER + HOUR)
    assert reconcile(world.ledger, world.policy, later, world.salesforce(), held=None)["reported"] == []
    assert world.handoff(1).due_at > DUE
