"""A task that its rep leaves untouched: one reminder when it is due, and at twice the SLA somebody else gets it.

The reps work from nine to five in New York. Every task is given at five in the morning and due at eleven, so it goes to
somebody else at one o'clock, four working hours after nine.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from onetouch.delivery import DeliveryFailed, back_off, reconcile
from onetouch.policy import Policy, PolicyError, read_policy
from onetouch.policy.upgrade import read_stored, stored
from onetouch.sandbox.fields import make_id

from tests.delivery.test_alert_reps import alert, shown, tuned
from tests.delivery.world import BUYING, OTHER, OWNER, Killed

AS_OF = datetime(2025, 11, 18, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
DUE, TWICE = AS_OF + 6 * HOUR, AS_OF + 8 * HOUR
BOSS = make_id("005", 103)
OWNERS = {"owner_email": "rita@rep.example", "owner_id": OWNER, "owner_active": True, "region": None}


def rules(world: Any, escalate_to: str | None = "next_rep", **given: Any) -> None:
    world.policy = world.policy.changed(
        assignment__escalate_to=escalate_to,
        assignment__reps=[{"email": "rita@rep.example"}, {"email": "otto@rep.example"}],
        crm__standing="handed_over",
        crm__alert_link=False,
        **given,
    )


def given(world: Any, *numbers: int, **columns: Any) -> None:
    """Tasks of Rita, announced."""
    world.accounts(*numbers)
    world.org.clock(AS_OF)
    run = world.run()
    world.decide(run, *numbers, due_at=DUE, signals=OWNERS, **columns)
    world.deliver(run)
    alert(world, run)


def hour(world: Any, at: datetime, *numbers: int, alerts: bool = True, **signals: Any) -> dict[str, Any]:
    """What one run does that calls nobody new: it reads the CRM, ends what is over, delivers and tells."""
    world.org.clock(at)
    run = world.run(at)
    world.extract(run)
    back_off(world.ledger, world.policy, run, world.salesforce(), held=None)
    decided(world, run, *numbers, **signals)
    summary = world.deliver(run)
    if alerts:
        alert(world, run)
    return summary


def decided(world: Any, run: Any, *numbers: int, **signals: Any) -> None:
    world.decide(run, *numbers, signals=OWNERS | signals, action="hold_touched")


def owner(world: Any, number: int) -> tuple[str, str | None]:
    """Whose the task is, in the CRM and in the ledger."""
    return world.task(number)["OwnerId"], world.handoff(number).owner_id


def replies(world: Any) -> list[dict[str, Any]]:
    return [post for post in world.org.posts() if post["thread_ts"] not in (None, post["ts"])]


def mentioned(post: dict[str, Any]) -> list[str]:
    return re.findall(r"<@(\w+)>", post["text"])


# ── the reminder ─────────────────────────────────────────────────────────────────────────────────


def test_who_has_not_called_when_the_task_is_due_is_reminded_once(world: Any) -> None:
    rules(world, None)
    given(world, 1)
    hour(world, DUE - HOUR, 1)
    assert replies(world) == []
    for at in (DUE, DUE + HOUR, DUE + 2 * HOUR):
        hour(world, at, 1)
    (reminder,) = replies(world)
    assert "Company 1 — not contacted yet: the first message was due Tue 18 Nov, 11:00 EST" in shown(reminder)
    assert owner(world, 1) == (OWNER, OWNER)


def test_who_has_called_is_not_reminded(world: Any) -> None:
    rules(world)
    given(world, 1)
    world.org.clock(DUE - HOUR)
    world.rep_writes("Task", world.task(1)["Id"], Status="Completed")
    hour(world, DUE, 1)
    hour(world, TWICE, 1)
    assert replies(world) == []
    assert owner(world, 1) == (OWNER, OWNER)


def test_a_policy_without_reminders_and_a_stored_one_remind_nobody(world: Any) -> None:
    rules(world, None, assignment__remind=False)
    given(world, 1)
    hour(world, DUE, 1)
    assert replies(world) == []
    document = stored(read_policy())
    for section, key in (("assignment", "remind"), ("assignment", "escalate_to"), ("slack", "tell_events")):
        del document[section][key]
    former = read_stored(document | {"format": 3})
    assert (former.assignment.remind, former.assignment.escalate_to, former.slack.tell_events) == (False, None, False)


# ── twice the SLA ────────────────────────────────────────────────────────────────────────────────


def test_at_twice_the_sla_the_task_goes_to_the_next_rep_and_stays_the_same_task(world: Any) -> None:
    rules(world)
    given(world, 1)
    before = world.task(1)
    hour(world, DUE, 1)
    assert hour(world, TWICE - timedelta(minutes=1), 1)["escalated"] == {"passed_on": 0, "waiting": 0, "refused": 0}
    assert hour(world, TWICE, 1)["escalated"] == {"passed_on": 1, "waiting": 0, "refused": 0}
    assert owner(world, 1) == (OTHER, OTHER)
    after = world.task(1)  # it is the only one
    assert {name for name in before if after[name] != before[name]} <= {
        "OwnerId", "owner", "SystemModstamp", "LastModifiedDate", "LastModifiedById", "account",
    }  # fmt: skip
    assert world.handoff(1).state == "task_open"
    assert len(world.ledger.handoffs()) == 1


def test_both_are_told_the_new_owner_with_the_whole_announcement(world: Any) -> None:
    rules(world)
    given(world, 1)
    (first,) = world.org.posts()
    hour(world, TWICE, 1)
    hour(world, TWICE + HOUR, 1)
    posts = world.org.posts()
    (again,) = [post for post in posts if post["thread_ts"] is None and post["ts"] != first["ts"]]
    assert "High priority: Company 1 — at 92 % of the API calls limit" in again["text"]
    assert mentioned(again) != mentioned(first)
    (handed_on,) = [reply for reply in replies(world) if "not contacted in time" in reply["text"]]
    assert handed_on["thread_ts"] == first["ts"]
    assert mentioned(handed_on) == [*mentioned(first), *mentioned(again)]
    assert "It is now with @" in shown(handed_on)


def test_where_alerts_are_direct_messages_each_is_told_in_their_own(world: Any) -> None:
    rules(world)
    tuned(world, alerts_to="owner")
    given(world, 1)
    (first,) = world.org.posts()
    hour(world, TWICE, 1)
    posts = world.org.posts()
    (again,) = [post for post in posts if post["channel"] not in (first["channel"],)]
    assert again["channel"].startswith("D")
    assert "Company 1" in again["text"]
    assert all(reply["channel"] == first["channel"] for reply in replies(world))
    hour(world, TWICE + HOUR, 1, pricing_views_at=TWICE + HOUR / 2)
    (event,) = [post for post in world.org.posts() if "since then" in post["text"]]
    assert (event["channel"], event["thread_ts"]) == (again["channel"], again["ts"])


def test_it_is_passed_on_once_however_long_the_second_rep_takes(world: Any) -> None:
    rules(world)
    given(world, 1)
    hour(world, TWICE, 1)
    for later in range(1, 8):
        hour(world, TWICE + later * HOUR, 1, alerts=False)
    assert owner(world, 1) == (OTHER, OTHER)


def test_the_second_reps_touch_is_the_one_touch(world: Any) -> None:
    rules(world)
    given(world, 1)
    hour(world, TWICE, 1)
    world.org.clock(TWICE + HOUR)
    world.rep_writes("Task", world.task(1)["Id"], Status="Completed")
    hour(world, TWICE + 2 * HOUR, 1)
    handoff = world.handoff(1)
    assert (handoff.state, handoff.owner_email, handoff.episode) == ("touched", "otto@rep.example", 1)
    load = world.ledger.rep_load(TWICE + 3 * HOUR).set_index("owner_email")
    assert dict(load["open"]) == {"otto@rep.example": 1}


def test_nobody_gets_more_than_a_days_tasks(world: Any) -> None:
    rules(world)
    reps = [{"email": "rita@rep.example"}, {"email": "otto@rep.example", "tasks_per_day": 2}]
    world.policy = world.policy.changed(assignment__reps=reps)
    given(world, 1, 2, 3)
    assert hour(world, TWICE, 1, 2, 3)["escalated"] == {"passed_on": 2, "waiting": 1, "refused": 0}
    assert sorted(owner(world, n)[0] == OTHER for n in (1, 2, 3)) == [False, True, True]
    # The next run knows of it, too.
    assert hour(world, TWICE + HOUR, 1, 2, 3)["escalated"] == {"passed_on": 0, "waiting": 1, "refused": 0}


def test_those_passed_on_count_for_who_has_them_now(world: Any) -> None:
    rules(world)
    given(world, 1, 2)
    before = world.ledger.rep_load(TWICE)
    assert dict(before.set_index("owner_email")["open"]) == {"rita@rep.example": 2}
    hour(world, TWICE, 1, 2)
    load = world.ledger.rep_load(TWICE + timedelta(microseconds=1)).set_index("owner_email")
    assert dict(load["open"]) == {"otto@rep.example": 2, "rita@rep.example": 0}
    assert load.loc["otto@rep.example", "recent"] == [TWICE, TWICE]
    assert world.ledger.rep_load(TWICE).equals(before)  # a repeated run decides as it did


def test_to_an_address_of_the_policy(world: Any) -> None:
    rules(world, "Boss@rep.example")
    boss = {"Id": BOSS, "Name": "Boss", "Email": "boss@rep.example", "Username": "boss@rep.example"}
    world.org.post("load", {"User": [boss | {"IsActive": True, "TimeZoneSidKey": "UTC"}]})
    given(world, 1)
    hour(world, TWICE, 1)
    assert owner(world, 1) == (BOSS, BOSS)


def test_an_address_that_nobody_has_is_reported_and_the_task_stays(world: Any) -> None:
    rules(world, "nobody@rep.example")
    given(world, 1)
    with pytest.raises(DeliveryFailed, match="escalate_to: no active user of the CRM has this address"):
        hour(world, TWICE, 1)
    assert owner(world, 1) == (OWNER, OWNER)


def test_by_default_nothing_is_passed_on(world: Any) -> None:
    rules(world, read_policy().assignment.escalate_to)
    given(world, 1)
    assert "escalated" not in hour(world, TWICE + HOUR, 1)
    assert owner(world, 1) == (OWNER, OWNER)


@pytest.mark.parametrize("wrong", ["otto", "next rep", "@", "@rep.example"])
def test_an_address_that_is_none_is_refused(wrong: str) -> None:
    with pytest.raises((PolicyError, ValueError), match="escalate_to"):
        Policy.model_validate(read_policy().document() | {"assignment": {"escalate_to": wrong}})


# ── what speaks against it ───────────────────────────────────────────────────────────────────────


def late_run(world: Any) -> Any:
    """A run that has read the CRM at twice the SLA, and is about to deliver."""
    rules(world)
    given(world, 1)
    world.org.clock(TWICE)
    run = world.run(TWICE)
    world.extract(run)
    decided(world, run, 1)
    world.org.clock(TWICE + timedelta(minutes=2))
    return run


def test_a_task_done_since_the_run_has_read_the_crm_stays_with_who_did_it(world: Any) -> None:
    run = late_run(world)
    world.rep_writes("Task", world.task(1)["Id"], Status="Completed")
    world.deliver(run)
    assert owner(world, 1) == (OWNER, OWNER)


def test_a_call_logged_since_then_does_too(world: Any) -> None:
    run = late_run(world)
    call = {"Subject": "Call", "Status": "Completed", "WhatId": world.handoff(1).crm_account_id, "OwnerId": OWNER}
    world.rep_writes("Task", None, **call)
    world.deliver(run)
    assert owner(world, 1) == (OWNER, OWNER)


def test_a_task_given_on_by_hand_since_then_stays_there(world: Any) -> None:
    rules(world)
    boss = {"Id": BOSS, "Name": "Boss", "Email": "boss@rep.example", "Username": "boss@rep.example"}
    world.org.post("load", {"User": [boss | {"IsActive": True, "TimeZoneSidKey": "UTC"}]})
    given(world, 1)
    world.org.clock(TWICE)
    world.rep_writes("Task", world.task(1)["Id"], OwnerId=BOSS)
    run = world.run(TWICE + timedelta(minutes=1))
    decided(world, run, 1)
    world.deliver(run)
    assert world.task(1)["OwnerId"] == BOSS


def test_a_customer_who_is_buying_is_left_alone(world: Any) -> None:
    run = late_run(world)
    world.rechecked = {"org-1": BUYING}
    world.deliver(run)
    assert owner(world, 1) == (OWNER, OWNER)


def test_an_account_with_a_new_opportunity_stays(world: Any) -> None:
    run = late_run(world)
    deal = {"AccountId": world.handoff(1).crm_account_id, "Name": "Deal", "StageName": "Prospecting"}
    world.rep_writes("Opportunity", None, **deal, CloseDate="2026-01-01", OwnerId=OWNER)
    world.deliver(run)
    assert owner(world, 1) == (OWNER, OWNER)


def test_who_may_no_longer_be_contacted_is_passed_to_nobody(world: Any) -> None:
    run = late_run(world)
    world.policy = world.policy.changed(never_contact__domains=["company1.example"])
    world.deliver(run)
    assert owner(world, 1) == (OWNER, OWNER)


def test_held_nothing_is_passed_on(world: Any) -> None:
    run = late_run(world)
    world.deliver(run, held="dry run")
    assert owner(world, 1) == (OWNER, OWNER)


# ── crashes ──────────────────────────────────────────────────────────────────────────────────────


def test_dying_at_any_moment_passes_it_on_once_and_tells_both_once(make_world: Any) -> None:
    for die_at in range(1, 90):
        world = make_world(f"dies-{die_at}")
        run = late_run(world)
        world.mortal(die_at)
        died = False
        try:
            world.deliver(run)
        except Killed:
            died = True
        world.immortal()
        hour(world, TWICE + HOUR, 1)
        assert owner(world, 1) == (OTHER, OTHER), die_at
        (row,) = [row for row in world.ledger.outbox() if row.kind == "escalation"]
        assert row.state == "sent"
        told = [post["text"] for post in world.org.posts() if post["thread_ts"] is None]
        assert len(told) == 2, die_at
        assert len([reply for reply in replies(world) if "not contacted in time" in reply["text"]]) == 1
        if not died:
            return
    raise AssertionError("it never came to an end")


def test_a_lost_answer_is_looked_up(world: Any) -> None:
    run = late_run(world)
    fault = {"method": "PATCH", "match": "composite/sobjects", "drop": "answer"}
    world.org.post("faults", [fault])
    world.deliver(run)
    assert world.org.faults() == []
    assert owner(world, 1) == (OTHER, OTHER)


def test_a_rep_who_can_hold_no_task_is_reported_and_the_task_stays(world: Any) -> None:
    run = late_run(world)
    fault = {"method": "PATCH", "match": "composite/sobjects", "row_error": "INACTIVE_OWNER_OR_USER"}
    world.org.post("faults", [fault])
    with pytest.raises(DeliveryFailed, match="tasks passed on"):
        world.deliver(run)
    assert owner(world, 1) == (OWNER, OWNER)


def test_afterwards_ledger_and_crm_agree(world: Any) -> None:
    rules(world)
    given(world, 1)
    hour(world, TWICE, 1)
    run = world.run(TWICE + HOUR)
    assert reconcile(world.ledger, world.policy, run, world.salesforce(), held=None)["reported"] == []
