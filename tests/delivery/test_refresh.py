"""While a rep works on a handoff, the account's record says what is true now."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from onetouch.delivery import DeliveryFailed, alert_reps
from onetouch.policy import read_policy
from onetouch.policy.upgrade import read_stored, stored

from tests.delivery.world import BUYING, Killed, crm_id

AS_OF = datetime(2025, 11, 18, 10, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def given(world: Any, *numbers: int) -> None:
    world.accounts(*numbers)
    run = world.run()
    world.decide(run, *numbers)
    world.deliver(run)


def hour(world: Any, at: datetime, *numbers: int, seen: bool = True, decision: Any = None, **signals: Any) -> Any:
    """A later run that calls nobody new. `seen`: whether somebody used the product an hour before."""
    world.org.clock(at)
    run = world.run(at)
    known = {"last_seen_at": at - HOUR if seen else AS_OF - HOUR} | signals
    world.decide(run, *numbers, signals=known, **{"action": "hold_touched"} | (decision or {}))
    return world.deliver(run)


def record(world: Any, number: int = 1) -> dict[str, Any]:
    return world.org.account(crm_id(number))


def writes(world: Any) -> int:
    """Requests that have changed records."""
    return sum(call["n"] for call in world.org.calls() if call["method"] == "PATCH")


def test_an_account_that_has_grown_is_shown_as_it_is_now(world: Any) -> None:
    given(world, 1)
    assert record(world)["Onetouch_Team_Size__c"] == 7
    summary = hour(world, AS_OF + 5 * DAY, 1, users=12.0, limit_used=9900.0, limit_share=0.99)
    assert summary["refreshed"] == {"written": 1, "refused": 0}
    now = record(world)
    assert (now["Onetouch_Team_Size__c"], now["Onetouch_Limit_Share__c"]) == (12, 99)
    assert now["Onetouch_As_Of__c"].startswith("2025-11-23T10:00")
    assert "99 %" in now["Onetouch_Dossier__c"]


def test_touched_too_and_not_once_it_has_ended(world: Any) -> None:
    given(world, 1, 2)
    for number, states in ((1, ["touched"]), (2, ["withdrawn"])):
        for state in states:
            world.ledger.move(world.handoff(number).handoff_id, state, AS_OF + HOUR)
    hour(world, AS_OF + DAY, 1, 2, users=12.0)
    assert record(world, 1)["Onetouch_Team_Size__c"] == 12
    assert record(world, 2)["Onetouch_Team_Size__c"] == 7


@pytest.mark.parametrize(
    "changed",
    [
        {"milestones_done": 5.0},
        {"activated": 0.0},
        {"features_used_list": ["dashboards", "alerts", "exports"]},
        {"events": 1500.0},
        {"limit_share": 0.98},
        {"limit_share": None},
    ],
    ids=str,
)
def test_each_fact_counts(world: Any, changed: dict[str, Any]) -> None:
    given(world, 1)
    assert "refreshed" in hour(world, AS_OF + DAY, 1, **changed)


@pytest.mark.parametrize("decision", [{"tier": "medium"}, {"motion": "sales_led"}, {"score": 70.0}], ids=str)
def test_so_does_what_was_decided(world: Any, decision: dict[str, Any]) -> None:
    given(world, 1)
    assert "refreshed" in hour(world, AS_OF + DAY, 1, decision=decision)


@pytest.mark.parametrize(
    "small", [{"events": 1250.0}, {"limit_share": 0.93}, {"features_used_list": ["alerts", "dashboards"]}, {}], ids=str
)
def test_what_has_hardly_changed_is_not_written_for_its_own_sake(world: Any, small: dict[str, Any]) -> None:
    given(world, 1)
    assert "refreshed" not in hour(world, AS_OF + DAY, 1, decision={"score": 60.0}, **small)


def test_decay_alone_rewrites_nothing_but_another_tier_is_said(world: Any) -> None:
    given(world, 1)
    quiet = {"events": 500.0, "users": 5.0, "features_used_list": ["alerts"]}
    assert "refreshed" not in hour(world, AS_OF + DAY, 1, seen=False, decision={"score": 40.0}, **quiet)
    assert "refreshed" in hour(world, AS_OF + 2 * DAY, 1, seen=False, decision={"tier": "medium"}, **quiet)


def test_it_is_written_once_for_a_change(world: Any) -> None:
    given(world, 1)
    hour(world, AS_OF + DAY, 1, users=12.0)
    before = writes(world)
    assert "refreshed" not in hour(world, AS_OF + DAY + HOUR, 1, users=12.0)
    assert "refreshed" not in hour(world, AS_OF + DAY + HOUR, 1, users=12.0)
    assert writes(world) == before > 0


def test_an_old_run_does_not_turn_the_record_back(world: Any) -> None:
    given(world, 1)
    hour(world, AS_OF + 2 * DAY, 1, users=12.0)
    hour(world, AS_OF + DAY, 1, users=9.0, decision={"motion": "sales_led"})
    assert record(world)["Onetouch_Team_Size__c"] == 12


def test_many_are_one_request(world: Any) -> None:
    world.policy = world.policy.changed(assignment__tasks_per_rep_per_day=50)
    given(world, *range(1, 31))
    before = writes(world)
    assert hour(world, AS_OF + DAY, *range(1, 31), users=12.0)["refreshed"]["written"] == 30
    assert writes(world) == before + 1


def test_nothing_of_the_task_and_no_field_of_others_is_written(world: Any) -> None:
    given(world, 1)
    world.rep_writes("Task", world.task(1)["Id"], Subject="mine", Description="my notes")
    world.rep_writes("Account", crm_id(1), Name="My name for it")
    task, account = world.task(1), record(world)
    hour(world, AS_OF + DAY, 1, users=12.0, name="Another name")
    system = {"SystemModstamp", "LastModifiedDate", "LastModifiedById", "account"}
    after = world.task(1)
    assert {name for name in task if task[name] != after[name]} <= system
    now = record(world)
    ours = {name for name in account if account[name] != now[name]} - system
    assert all(name.startswith("Onetouch_") for name in ours)


def test_whoever_may_no_longer_be_named_is_not_in_the_new_dossier(world: Any) -> None:
    given(world, 1)
    world.policy = world.policy.changed(never_contact__people=["ann@company1.example"])
    hour(world, AS_OF + DAY, 1, users=12.0, top_user="ann@company1.example")
    assert record(world)["Onetouch_Team_Size__c"] == 12
    assert "ann@" not in record(world)["Onetouch_Dossier__c"]


def test_who_is_buying_by_themselves_is_withdrawn_and_not_refreshed(world: Any) -> None:
    given(world, 1)
    summary = hour(world, AS_OF + DAY, 1, users=12.0, checkout_state="started", checkout_at=BUYING.at)
    assert (summary["withdrawn"], "refreshed" in summary) == (1, False)


def test_held_nothing_is_written_and_a_stored_policy_never_writes_it(world: Any) -> None:
    given(world, 1)
    run = world.run(AS_OF + DAY)
    world.decide(run, 1, signals={"users": 12.0, "last_seen_at": AS_OF + HOUR}, action="hold_touched")
    world.deliver(run, held="dry run")
    document = stored(read_policy())
    del document["crm"]["context"]
    former = read_stored(document | {"format": 3})
    world.policy = world.policy.changed(crm__context=former.crm.context)
    assert "refreshed" not in hour(world, AS_OF + 2 * DAY, 1, users=12.0)
    assert record(world)["Onetouch_Team_Size__c"] == 7


def test_a_refused_record_is_reported_and_the_next_run_writes_what_is_true_then(world: Any) -> None:
    given(world, 1, 2)
    fault = {"method": "PATCH", "match": "composite/sobjects", "row_error": "STORAGE_LIMIT_EXCEEDED", "rows": [0]}
    world.org.post("faults", [fault])
    with pytest.raises(DeliveryFailed, match="records kept fresh"):
        hour(world, AS_OF + DAY, 1, 2, users=12.0)
    assert hour(world, AS_OF + 2 * DAY, 1, 2, users=13.0)["refreshed"] == {"written": 2, "refused": 0}
    assert {record(world, n)["Onetouch_Team_Size__c"] for n in (1, 2)} == {13}
    assert {row.state for row in world.ledger.outbox() if row.kind == "account_refresh"} == {"sent"}


def test_dying_at_any_moment_leaves_it_written(make_world: Any) -> None:
    for die_at in range(1, 60):
        world = make_world(f"dies-{die_at}")
        given(world, 1)
        world.mortal(die_at)
        died = False
        try:
            hour(world, AS_OF + DAY, 1, users=12.0)
        except Killed:
            died = True
        world.immortal()
        hour(world, AS_OF + DAY + HOUR, 1, users=12.0)
        assert record(world)["Onetouch_Team_Size__c"] == 12, die_at
        assert {row.state for row in world.ledger.outbox()} == {"sent"}
        if not died:
            return
    raise AssertionError("it never came to an end")


# ── the way back to the alert ────────────────────────────────────────────────────────────────────


def told(world: Any, at: datetime) -> None:
    """The alerts of a run at that moment."""
    run = world.run(at)
    alert_reps(world.lake, world.ledger, world.policy, run, world.slack(), now=at, held=None)


def test_the_record_leads_back_to_the_alert_and_keeps_doing_so(world: Any) -> None:
    given(world, 1)
    task = {name: value for name, value in world.task(1).items() if name != "account"}
    assert "ANNOUNCED AT" not in record(world)["Onetouch_Dossier__c"]
    told(world, AS_OF)
    assert "refreshed" in hour(world, AS_OF + HOUR, 1, seen=False)
    (post,) = world.org.posts()
    address = f"{world.org.url}/slack?channel={post['channel']}#m{post['ts']}"
    assert record(world)["Onetouch_Dossier__c"].endswith(f"\n\nANNOUNCED AT\n  {address}")
    told(world, AS_OF + HOUR)
    assert "refreshed" not in hour(world, AS_OF + 2 * HOUR, 1, seen=False), "once"
    hour(world, AS_OF + DAY, 1, users=12.0)
    assert record(world)["Onetouch_Team_Size__c"] == 12
    assert record(world)["Onetouch_Dossier__c"].count(address) == 1
    assert world.task(1).items() >= task.items(), "the task is the rep's"
    assert len([row for row in world.ledger.outbox() if row.kind == "alert_link"]) == 1


def test_it_does_not_lead_to_a_direct_message_nor_where_the_policy_does_not_say_so(world: Any) -> None:
    for change in ({"slack__alerts_to": "owner"}, {"crm__alert_link": False}):
        world.policy = read_policy().changed(slack__quiet_from=None, **change)
        number = 1 + len(world.ledger.handoffs())
        world.accounts(number)
        at = AS_OF + number * HOUR
        world.org.clock(at)
        run = world.run(at)
        world.decide(run, number)
        world.deliver(run)
        told(world, at)
        hour(world, at + timedelta(minutes=30), number, seen=False)
        assert "ANNOUNCED AT" not in record(world, number)["Onetouch_Dossier__c"]
    document = stored(read_policy())
    del document["crm"]["alert_link"]
    assert read_stored(document | {"format": 3}).crm.alert_link is False


def test_a_chat_that_does_not_tell_is_asked_again(world: Any) -> None:
    given(world, 1)
    world.org.post("faults", [{"match": "chat.getPermalink", "status": 500, "body": "", "times": 1}])
    told(world, AS_OF)
    assert [row for row in world.ledger.outbox() if row.kind == "alert_link"] == []
    told(world, AS_OF + HOUR)
    (row,) = [row for row in world.ledger.outbox() if row.kind == "alert_link"]
    assert row.state == "sent"
