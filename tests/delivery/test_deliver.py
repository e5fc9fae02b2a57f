"""Decisions become tasks: context first, once each, never against the customer's own plans."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from threading import Thread
from typing import Any

import pandas as pd
import pytest
import requests
from onetouch.crm import context_of, task_of
from onetouch.crm.salesforce.fields import context_fields, task_fields
from onetouch.delivery import DeliveryFailed
from onetouch.events import Checkout
from onetouch.handoff import alert
from onetouch.ledger import Ledger
from onetouch.ledger.tables import outbox
from onetouch.sandbox.fields import make_id
from sqlalchemy import update

from tests.delivery.world import BUYING, OTHER, OWNER

AS_OF = datetime(2025, 11, 18, 10, tzinfo=UTC)
LATER = AS_OF + timedelta(hours=1)


def crm_id(number: int) -> str:
    return make_id("001", number)


def ready(world: Any, *numbers: int, **given: Any) -> Any:
    world.accounts(*numbers)
    run = world.run()
    world.decide(run, *numbers, **given)
    return run


def seen(world: Any) -> dict[str, Any]:
    """Ledger and CRM as they ended, without the stand-in's numbering."""
    tasks = {t["Onetouch_Handoff_Id__c"]: t for t in world.org.tasks()}
    assert len(tasks) == len(world.org.tasks())
    names = {t["Id"]: f"task of {h}" for h, t in tasks.items()}
    dump = world.ledger.dump()
    for row in dump["handoffs"]:
        row["task_id"] = names.get(row["task_id"], row["task_id"])
    for row in dump["outbox"]:
        row["external_id"] = names.get(row["external_id"], row["external_id"])
        del row["attempts"]
    dump["outbox"].sort(key=lambda row: row["key"])
    volatile = {"Id", "CreatedDate", "LastModifiedDate", "SystemModstamp"}
    accounts = {n: world.org.account(crm_id(n)) for n in (1, 2, 3)}
    return {
        "ledger": dump,
        "tasks": {h: {k: v for k, v in t.items() if k not in volatile} for h, t in tasks.items()},
        "accounts": {n: {k: v for k, v in a.items() if k not in volatile} for n, a in accounts.items()},
    }


def test_context_is_on_the_record_and_the_task_on_the_reps_list(world: Any) -> None:
    run = ready(world, 1, 2)
    summary = world.deliver(run)
    assert (summary["to_send"], summary["delivered"], summary["withheld"], summary["failed"]) == (2, 2, {}, [])
    task = world.task(1)
    assert task["Subject"] == "[High] Company 1 — at 92 % of the API calls limit (9,200 of 10,000)"
    assert task["Description"].startswith("FIRST MESSAGE")
    assert "Would it help to have that settled before it stops anyone?" in task["Description"]
    assert "RECOMMENDED APPROACH" in task["Description"]
    assert "ACCOUNT OVERVIEW" not in task["Description"]  # it is on the record
    assert "ACCOUNT OVERVIEW" in world.org.account(crm_id(1))["Onetouch_Dossier__c"]
    assert (task["Priority"], task["Status"], task["WhatId"]) == ("High", "Not Started", crm_id(1))
    assert task["ActivityDate"] == "2025-11-18"
    assert task["IsReminderSet"]
    assert task["ReminderDateTime"].startswith("2025-11-18T10:15:00")
    account = world.org.account(crm_id(1))
    assert account["Onetouch_Account_Id__c"] == "org-1"
    assert account["Onetouch_Limit_Share__c"] == 92
    assert account["Onetouch_Milestones__c"] == "4 of 5"
    assert "EXPANSION SIGNALS" in account["Onetouch_Dossier__c"]
    handoff = world.handoff(1)
    assert (handoff.state, handoff.task_id) == ("task_open", task["Id"])


def test_the_due_day_is_the_reps_not_utcs(world: Any) -> None:
    world.accounts(1)
    run = world.run()
    world.extract(run)
    world.decide(run, 1, due_at=datetime(2025, 11, 19, 3, tzinfo=UTC))
    world.deliver(run)
    assert world.task(1)["ActivityDate"] == "2025-11-18"  # 22:00 in New York


def test_a_rerun_does_and_says_the_same(world: Any) -> None:
    run = ready(world, 1, 2, 3)
    first = world.deliver(run)
    before = seen(world)
    world.org.clock(LATER)
    assert world.deliver(run) == first
    assert seen(world) == before


def test_killed_anywhere_and_run_again_nobody_can_tell(make_world: Callable[[str], Any]) -> None:
    world = make_world("undisturbed")
    run = ready(world, 1, 2, 3)
    world.rechecked = {"org-3": BUYING}
    world.mortal(None)
    world.deliver(run)
    effects = world.effects.count
    world.immortal()
    undisturbed = seen(world)
    assert effects > 20
    assert len(undisturbed["tasks"]) == 2
    for die_at in range(1, effects + 1):
        world = make_world(f"killed-{die_at}")
        run = ready(world, 1, 2, 3)
        world.rechecked = {"org-3": BUYING}
        world.mortal(die_at)
        with pytest.raises(BaseException) as death:  # noqa: PT011 - Killed is the fixture's
            world.deliver(run)
        assert type(death.value).__name__ == "Killed"
        world.immortal()
        summary = world.deliver(run)
        assert (summary["delivered"], summary["withheld"]) == (2, {"checkout": 1})
        assert seen(world) == undisturbed, f"killed at effect {die_at}"


@pytest.mark.parametrize("drop", ["request", "answer"])
@pytest.mark.parametrize("method", ["PATCH", "POST"])  # the context, the tasks
def test_a_lost_request_or_answer_makes_no_second_task(world: Any, drop: str, method: str) -> None:
    run = ready(world, 1, 2)
    world.org.post("faults", [{"match": "composite/sobjects$", "method": method, "drop": drop, "times": 2}])
    assert world.deliver(run)["delivered"] == 2
    assert len(world.org.tasks()) == 2


def test_two_runs_at_once_make_one_task_each(world: Any) -> None:
    run = ready(world, 1, 2, 3)
    errors: list[BaseException] = []

    def once() -> None:
        try:
            world.deliver(run)
        except BaseException as error:  # noqa: BLE001 - the test's thread must tell
            errors.append(error)

    threads = [Thread(target=once) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(world.org.tasks()) == 3
    assert {world.handoff(n).task_id for n in (1, 2, 3)} == {t["Id"] for t in world.org.tasks()}


def test_what_an_earlier_process_sent_is_not_sent_again(world: Any) -> None:
    run = ready(world, 1)
    world.die_after_writing_tasks(run)
    assert [row.state for row in world.ledger.outbox()] == ["sent", "sending"]
    written = [c for c in world.org.calls() if c["method"] == "PATCH"]
    assert world.deliver(run)["delivered"] == 1
    assert [c for c in world.org.calls() if c["method"] == "PATCH"] == written  # the context was there already
    assert len(world.org.tasks()) == 1


def test_the_outbox_holds_all_a_later_run_needs(world: Any) -> None:
    """The run that laid it out died before anything left; its files are gone from the lake."""
    run = ready(world, 1)
    client = world.salesforce()
    client.update_accounts = lambda rows: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        world.deliver(run, salesforce=client)
    for room in ("decisions", "signals"):
        world.lake.fs.rm(world.lake.path(room, f"{run.run_id}.parquet"))
    later = world.run(LATER)
    world.decide(later, 9, action="nurture")
    assert world.deliver(later)["earlier"] == {"delivered": 1, "withheld": {}, "failed": []}
    assert world.task(1)["Subject"] == "[High] Company 1 — at 92 % of the API calls limit (9,200 of 10,000)"


def as_3ab0fe8_laid_it_out(world: Any) -> None:
    """Puts every row of the outbox that holds content back into the shape of format 1: Salesforce's fields."""
    with world.ledger.writing() as connection:
        for row in world.ledger.outbox():
            if row.kind == "account_fields":
                payload = {"fields": context_fields(context_of(row.payload))}
            else:
                payload = {"fields": task_fields(task_of(row.payload)), "record": row.payload["record"]}
            connection.execute(update(outbox).where(outbox.c.key == row.key).values(payload=payload))


@pytest.mark.parametrize("died", ["before it left", "after it arrived"])
def test_what_an_earlier_version_laid_out_is_delivered_once(world: Any, died: str) -> None:
    run = ready(world, 1, 2)
    if died == "after it arrived":
        world.die_after_writing_tasks(run)
    else:
        client = world.salesforce()
        client.update_accounts = lambda rows: (_ for _ in ()).throw(KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            world.deliver(run, salesforce=client)
    as_3ab0fe8_laid_it_out(world)
    later = world.run(LATER)
    world.decide(later, 9, action="nurture")
    assert world.deliver(later)["earlier"] == {"delivered": 2, "withheld": {}, "failed": []}
    assert len(world.org.tasks()) == 2
    assert world.task(1)["Subject"] == "[High] Company 1 — at 92 % of the API calls limit (9,200 of 10,000)"
    assert (world.task(1)["ActivityDate"], world.task(1)["Priority"]) == ("2025-11-18", "High")
    assert "EXPANSION SIGNALS" in world.org.account(crm_id(1))["Onetouch_Dossier__c"]


def test_nothing_leaves_and_nothing_moves_when_it_may_not_send(world: Any) -> None:
    run = ready(world, 1, 2)
    assert world.deliver(run, held="as_of is not fresh") == {
        "to_send": 2,
        "delivered": 0,
        "withheld": {"as_of is not fresh": 2},
        "failed": [],
        "deferred": 0,
        "held": "as_of is not fresh",
        "to_withdraw": 0,
    }
    assert world.ledger.handoffs() == []
    assert world.org.tasks() == []
    assert not [c for c in world.org.calls() if c["api"] == "salesforce"]


# ── what the decision did not know ───────────────────────────────────────────────────────────────


def unknown(world: Any, run: Any, number: int, domain: int, **given: Any) -> None:
    """Decides on an account whose record the run has not found."""
    signals = {"crm_account_id": None, "domain": f"company{domain}.example"}
    world.decide(run, number, crm_account_id=None, signals=signals, **given)


@pytest.mark.parametrize("thing", ["Opportunity", "Task"])
def test_a_record_found_at_delivery_is_looked_at_whole(world: Any, thing: str) -> None:
    """However old the opportunity, and what was logged within the days of silence."""
    world.accounts(1)
    world.org.clock(AS_OF - timedelta(days=20 if thing == "Opportunity" else 3))
    if thing == "Opportunity":
        deal = {"Name": "Deal", "StageName": "Prospecting", "CloseDate": "2025-12-31"}
        world.rep_writes(thing, None, AccountId=crm_id(1), OwnerId=OTHER, **deal)
    else:
        world.rep_writes(thing, None, WhatId=crm_id(1), Subject="Call", Status="Completed", OwnerId=OTHER)
    world.org.clock(AS_OF)
    run = world.run()
    unknown(world, run, 2, domain=1)
    why = "open opportunity" if thing == "Opportunity" else "touched"
    assert world.deliver(run)["withheld"] == {why: 1}
    assert [t for t in world.org.tasks() if t["Onetouch_Handoff_Id__c"]] == []


def test_a_record_made_at_delivery_gets_its_task(world: Any) -> None:
    run = world.run()
    unknown(world, run, 2, domain=2)
    assert world.deliver(run)["delivered"] == 1


@pytest.mark.parametrize("thing", ["Opportunity", "Task"])
def test_a_crm_whose_clock_is_behind_hides_nothing(world: Any, thing: str) -> None:
    run = ready(world, 1)
    world.org.clock(AS_OF - timedelta(minutes=5))
    if thing == "Opportunity":
        deal = {"Name": "Deal", "StageName": "Prospecting", "CloseDate": "2025-12-31"}
        world.rep_writes(thing, None, AccountId=crm_id(1), **deal)
    else:
        world.rep_writes(thing, None, WhatId=crm_id(1), Subject="Call", Status="Completed", OwnerId=OTHER)
    assert world.deliver(run)["delivered"] == 0


def test_an_owner_known_by_address_alone_is_found_and_nobody_else_gets_the_task(world: Any) -> None:
    world.accounts(1, 2)
    run = world.run()
    rows = [*_rows(world, run, 1, owner_id=None), *_rows(world, run, 2, owner_id=None, owner_email="gone@rep.example")]
    world.decide(run, 1, 2)
    world.lake.write(pd.DataFrame(rows), "decisions", f"{run.run_id}.parquet")
    with pytest.raises(DeliveryFailed) as failed:
        world.deliver(run)
    assert failed.value.summary["delivered"] == 1
    assert [row["reason"].partition(":")[0] for row in failed.value.summary["failed"]] == ["owner missing"]
    with pytest.raises(DeliveryFailed) as again:
        world.deliver(run)
    assert again.value.summary == failed.value.summary
    assert [(task["WhatId"], task["OwnerId"]) for task in world.org.tasks()] == [(crm_id(1), OWNER)]


def test_an_account_id_longer_than_the_crm_holds_stops_nobody_else(world: Any) -> None:
    run = ready(world, 1, 2)
    for room in ("decisions", "signals"):
        rows = world.lake.read(room, f"{run.run_id}.parquet")
        rows.loc[1, "account_id"] = "x" * 256
        world.lake.write(rows, room, f"{run.run_id}.parquet")
    with pytest.raises(DeliveryFailed, match="account_id too long: 256") as failed:
        world.deliver(run)
    assert (failed.value.summary["delivered"], len(failed.value.summary["failed"])) == (1, 1)


def test_no_assignment_rule_of_the_org_runs_on_what_we_write(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    send = requests.Session.send
    monkeypatch.setattr(requests.Session, "send", lambda self, r, **more: (asked.append(r), send(self, r, **more))[1])
    world.deliver(ready(world, 1))
    writes = [r for r in asked if "composite" in r.url]
    assert writes
    assert {r.headers.get("Sforce-Auto-Assign") for r in writes} == {"FALSE"}


def test_the_same_moment_under_another_policy_counts_its_handoffs_once(world: Any) -> None:
    world.policy = world.policy.changed(assignment__tasks_per_day=4, assignment__beyond_the_day="stop")
    world.deliver(ready(world, 1, 2, 3))
    world.policy = world.policy.changed(assignment__tasks_per_day=5, routing__cooldown_days=80)
    run = world.run()
    world.decide(run, 1, 2, 3)
    assert world.deliver(run)["delivered"] == 3
    assert len(world.org.tasks()) == 3


def test_accounts_that_became_one_record_share_its_cooldown(world: Any) -> None:
    world.deliver(ready(world, 1))
    end = AS_OF + timedelta(hours=2)
    world.ledger.move(world.handoff(1).handoff_id, "touched", AS_OF + timedelta(hours=1))
    world.ledger.move(world.handoff(1).handoff_id, "released", end, "no response")
    world.ledger.relink({crm_id(1): crm_id(2)})
    world.accounts(2)
    world.org.clock(end + timedelta(hours=1))
    run = world.run(end + timedelta(hours=1))
    world.decide(run, 2)
    assert world.deliver(run)["withheld"] == {"cooldown": 1}


def test_a_decision_made_before_another_runs_handoff_ended_opens_none_in_its_cooldown(world: Any) -> None:
    """Both runs had routed; the earlier was delivered first, and its task deleted by the rep at once."""
    world.accounts(1)
    early, late = world.run(AS_OF - timedelta(hours=1)), world.run()
    world.decide(early, 1)
    world.decide(late, 1)
    world.deliver(early)
    world.ledger.move(world.handoff(1).handoff_id, "withdrawn", early.as_of, "task deleted: by a rep")
    assert world.deliver(late)["withheld"] == {"another handoff of the account": 1}
    assert len(world.org.tasks()) == 1


# ── caps ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_delivered_late_gives_no_rep_more_than_a_day_takes(world: Any) -> None:
    """The run an hour later was delivered first; each by itself keeps to the cap of two."""
    world.policy = world.policy.changed(assignment__tasks_per_rep_per_day=2)
    world.accounts(1, 2, 3, 4)
    early, late = world.run(), world.run(LATER)
    world.decide(late, 3)
    assert world.deliver(late)["delivered"] == 1
    scores = pd.DataFrame(
        [{**_row, "score": score} for _row, score in zip(_rows(world, early, 1, 2), (50.0, 90.0), strict=True)]
    )
    world.lake.write(scores, "decisions", f"{early.run_id}.parquet")
    summary = world.deliver(early)
    assert (summary["delivered"], summary["withheld"], summary["to_send"]) == (1, {"rep's day is full": 1}, 2)
    assert sorted(t["WhatId"] for t in world.org.tasks()) == [crm_id(2), crm_id(3)]  # the better of the two
    assert world.deliver(early)["delivered"] == 1  # again: nothing more


# ── never interrupt ──────────────────────────────────────────────────────────────────────────────


def test_a_checkout_begun_after_the_decision_prevents_the_task(world: Any) -> None:
    run = ready(world, 1, 2)
    world.rechecked = {"org-1": BUYING}
    summary = world.deliver(run)
    assert (summary["delivered"], summary["withheld"]) == (1, {"checkout": 1})
    assert world.handoff(1).state == "withdrawn"
    assert [t["WhatId"] for t in world.org.tasks()] == [crm_id(2)]


def test_a_purchase_since_the_decision_prevents_the_task(world: Any) -> None:
    run = ready(world, 1, 2, 3)
    world.rechecked = {
        "org-1": Checkout(bought=True, at=AS_OF + timedelta(minutes=1)),
        "org-2": Checkout(bought=True, at=AS_OF - timedelta(minutes=1)),  # known to the decision, or of no account
    }
    summary = world.deliver(run)
    assert (summary["delivered"], summary["withheld"]) == (2, {"bought": 1})
    assert (world.handoff(1).state, world.handoff(1).reason) == ("withdrawn", "bought: by themselves")
    assert [t["WhatId"] for t in world.org.tasks()] == [crm_id(2), crm_id(3)]


def test_an_opportunity_or_a_deletion_since_the_decision_prevents_the_task(world: Any) -> None:
    run = ready(world, 1, 2, 3)
    world.rep_writes("Opportunity", None, AccountId=crm_id(1), Name="Own deal", StageName="Prospecting",
                     CloseDate="2025-12-31")  # fmt: skip
    world.rep_writes("Account", crm_id(2))
    summary = world.deliver(run)
    assert summary["withheld"] == {"open opportunity": 1, "account deleted": 1}
    assert [t["WhatId"] for t in world.org.tasks()] == [crm_id(3)]


def test_a_touch_since_the_decision_prevents_the_task(world: Any) -> None:
    run = ready(world, 1, 2, 3)
    world.org.clock(AS_OF + timedelta(minutes=2))
    call = {"WhatId": crm_id(1), "Subject": "Call", "Status": "Completed", "OwnerId": make_id("005", 102)}
    world.rep_writes("Task", None, **call)
    # Three days ago, but logged only now; and one long enough ago.
    late = {"Subject": "Lunch", "OwnerId": make_id("005", 102), "DurationInMinutes": 60}
    world.rep_writes("Event", None, WhatId=crm_id(3), ActivityDateTime="2025-11-15T10:00:00Z", **late)
    world.rep_writes("Event", None, WhatId=crm_id(2), ActivityDateTime="2025-11-01T10:00:00Z", **late)
    summary = world.deliver(run)
    assert (summary["delivered"], summary["withheld"]) == (1, {"touched": 2})
    assert [t["WhatId"] for t in world.org.tasks() if t["Onetouch_Handoff_Id__c"]] == [crm_id(2)]


def test_a_call_logged_on_a_lead_since_the_decision_prevents_its_task(world: Any) -> None:
    lead = make_id("00Q", 1)
    world.org.post("load", {"Lead": [{"Id": lead, "LastName": "Doe", "Company": "Company", "OwnerId": OWNER}]})
    run = world.run()
    world.decide(run, 1, crm_account_id=lead)
    world.org.clock(AS_OF + timedelta(minutes=2))
    world.rep_writes("Task", None, WhoId=lead, Subject="Call", Status="Completed", OwnerId=OWNER)
    assert world.deliver(run)["withheld"] == {"touched": 1}
    assert [task["Subject"] for task in world.org.tasks()] == ["Call"]


def _rows(world: Any, run: Any, *numbers: int, **given: Any) -> list[dict[str, Any]]:
    world.decide(run, *numbers, **given)
    return world.lake.read("decisions", f"{run.run_id}.parquet").to_dict("records")


def test_a_purchase_that_became_known_late_prevents_the_task_unless_somebody_asked_since(world: Any) -> None:
    day, numbers = timedelta(days=1), (1, 2, 3, 4)
    run = ready(world, *numbers, signals={"demo_requests": 1.0})
    parts = ("signals", f"{run.run_id}.parquet")
    asked = pd.to_datetime(pd.Series([None, None, AS_OF - day, AS_OF - 3 * day]), utc=True).dt.as_unit("us")
    world.lake.write(world.lake.read(*parts).assign(demo_requests_at=asked), *parts)
    world.rechecked = {
        "org-1": Checkout(True, AS_OF - 2 * day, AS_OF - 2 * day),
        "org-2": Checkout(True, AS_OF - 14 * day, AS_OF - 14 * day),  # long enough ago
        "org-3": Checkout(True, AS_OF - 2 * day, AS_OF - 2 * day),  # asked a day later
        "org-4": Checkout(True, AS_OF - 2 * day, AS_OF - 2 * day),  # asked before
    }
    summary = world.deliver(run)
    assert (summary["delivered"], summary["withheld"]) == (2, {"bought": 2})
    assert {number: world.handoff(number).state for number in numbers} == {
        1: "withdrawn", 2: "task_open", 3: "task_open", 4: "withdrawn",
    }  # fmt: skip


def test_a_policy_that_was_stored_before_goes_by_purchases_since_the_decision(world: Any) -> None:
    world.policy = world.policy.changed(routing__bought_days=0)
    run = ready(world, 1)
    world.rechecked = {"org-1": Checkout(True, AS_OF - timedelta(hours=1), AS_OF - timedelta(hours=1))}
    assert world.deliver(run)["delivered"] == 1


@pytest.mark.parametrize(("touched", "state"), [(False, "withdrawn"), (True, "touched")])
def test_an_open_task_of_an_account_that_turns_out_to_have_bought_before_is_withdrawn(
    world: Any, touched: bool, state: str
) -> None:
    world.deliver(ready(world, 1))
    if touched:
        world.ledger.move(world.handoff(1).handoff_id, "touched", LATER)
    run = world.run(LATER)
    signals = {"checkout_state": "completed", "bought_at": AS_OF - timedelta(hours=1)}
    world.decide(run, 1, action="hold_converting", signals=signals)
    world.deliver(run)
    assert world.handoff(1).state == state
    assert touched or world.handoff(1).reason == "bought: by themselves"


@pytest.mark.parametrize(("touched", "state"), [(False, "withdrawn"), (True, "touched")])
def test_an_open_task_of_an_account_whose_deal_opened_and_closed_between_two_runs_is_withdrawn(
    world: Any, touched: bool, state: str
) -> None:
    world.deliver(ready(world, 1))
    if touched:
        world.ledger.move(world.handoff(1).handoff_id, "touched", LATER)
    run = world.run(LATER)
    signals = {"open_opportunities": 0, "deal_closed_at": AS_OF + timedelta(hours=1)}
    world.decide(run, 1, action="hold_open_opportunity", signals=signals)
    world.deliver(run)
    assert world.handoff(1).state == state
    assert touched or world.handoff(1).reason == "open opportunity: a deal of someone else's has just closed"
    assert [t["IsClosed"] for t in world.org.tasks()] == [not touched]


def again(world: Any, number: int) -> Any:
    """A run that would hand the account over once more, long after its first handoff."""
    at = AS_OF + timedelta(days=120)
    world.org.clock(at)
    run = world.run(at)
    world.decide(run, number)
    return run


@pytest.mark.parametrize("done", [False, True])
def test_a_rep_who_opened_a_task_again_that_we_closed_is_not_interrupted_either(world: Any, done: bool) -> None:
    world.deliver(ready(world, 1))
    run = world.run(LATER)
    world.decide(run, 1, action="hold_converting")
    world.deliver(run)
    world.org.clock(AS_OF + timedelta(days=119))
    first = world.org.tasks()[0]["Id"]
    world.rep_writes("Task", first, Status="In Progress")
    if done:
        world.rep_writes("Task", first, Status="Completed")
    assert world.deliver(again(world, 1))["withheld"] == {"touched": 1}
    assert [t["Id"] for t in world.org.tasks()] == [first]


def test_a_task_that_outlived_its_handoff_is_closed_before_the_next_one_is_made(world: Any) -> None:
    world.deliver(ready(world, 1))
    handoff_id = world.handoff(1).handoff_id
    for state in ("touched", "lost"):
        world.ledger.move(handoff_id, state, LATER)
    assert world.deliver(again(world, 1))["delivered"] == 1
    closed, made = sorted(world.org.tasks(), key=lambda t: t["CreatedDate"])
    assert closed["IsClosed"] and closed["Description"].startswith("Withdrawn: the handoff is lost")
    assert not made["IsClosed"]


def test_a_task_the_ledger_never_heard_of_is_closed_before_the_next_one_is_made(world: Any) -> None:
    """Its handoff was ended by another run while it was written, and the run that wrote it died: found by the model."""
    run = ready(world, 1)
    client = world.salesforce()
    create = client.create_tasks

    def overtaken(rows: Any, unsure: Any) -> Any:
        create(rows, unsure)
        world.ledger.move(world.handoff(1).handoff_id, "withdrawn", AS_OF, "not delivered: in time")
        raise KeyboardInterrupt

    client.create_tasks = overtaken
    with pytest.raises(KeyboardInterrupt):
        world.deliver(run, salesforce=client)
    [first] = world.org.tasks()
    assert not first["IsClosed"]
    assert world.deliver(again(world, 1))["delivered"] == 1
    assert [t["Id"] != first["Id"] for t in world.org.tasks() if not t["IsClosed"]] == [True]


@pytest.mark.parametrize(("bought", "state"), [(AS_OF, "withdrawn"), (AS_OF - timedelta(days=1), "task_open")])
def test_who_has_bought_by_themselves_since_is_left_alone(world: Any, bought: datetime, state: str) -> None:
    world.deliver(ready(world, 1))
    run = world.run(LATER)
    world.decide(run, 1, action="nurture", signals={"checkout_state": "completed", "checkout_at": bought})
    world.deliver(run)
    assert world.handoff(1).state == state
    assert bool(world.task(1)["IsClosed"]) == (state == "withdrawn")


def test_a_checkout_after_the_task_withdraws_it_on_the_next_run(world: Any) -> None:
    world.deliver(ready(world, 1, 2))
    run = world.run(LATER)
    world.decide(run, 1, action="hold_converting")
    summary = world.deliver(run)
    task = world.task(1)
    assert summary["withdrawn"] == 1
    assert (task["Status"], task["IsClosed"]) == ("Completed", True)
    assert task["Subject"].startswith("[Withdrawn] [High] Company 1")
    assert task["Description"].startswith("Withdrawn: checkout")
    assert "FIRST MESSAGE" in task["Description"]
    assert world.handoff(1).state == "withdrawn"
    assert not world.task(2)["IsClosed"]
    again = world.deliver(run)
    assert again["withdrawn"] == 0
    assert world.task(1)["Subject"] == task["Subject"]


def test_a_withdrawal_that_is_refused_is_no_green_run(world: Any) -> None:
    world.deliver(ready(world, 1, 2))
    run = world.run(LATER)
    world.decide(run, 1, 2, action="hold_converting")
    refusal = {"statusCode": "FIELD_CUSTOM_VALIDATION_EXCEPTION", "message": "ask rita@rep.example"}
    fault = {"match": "composite/sobjects$", "method": "PATCH", "row_error": refusal, "rows": [0], "times": 9}
    world.org.post("faults", [fault])
    with pytest.raises(DeliveryFailed, match="or open tasks closed: FIELD_CUSTOM.*open task of") as failure:
        world.deliver(run)
    assert (failure.value.summary["withdrawn"], failure.value.summary["to_withdraw"]) == (1, 1)
    assert failure.value.summary["failed"] == []
    assert not world.task(1)["IsClosed"] and world.task(2)["IsClosed"]
    requests.delete(f"{world.org.url}/_sandbox/faults", timeout=10)
    again = world.deliver(run)
    assert again["withdrawn"] == 1 and "to_withdraw" not in again
    assert world.task(1)["IsClosed"]


def test_an_account_drawn_into_the_control_group_is_not_interrupted_either(world: Any) -> None:
    world.deliver(ready(world, 1))
    run = world.run(LATER)
    world.decide(run, 1, action="hold_holdout", signals={"checkout_state": "started"})
    assert world.deliver(run)["withdrawn"] == 1
    assert world.task(1)["Description"].startswith("Withdrawn: checkout")


def test_a_task_the_rep_just_closed_is_a_touch_not_a_withdrawal(world: Any) -> None:
    world.deliver(ready(world, 1))
    world.org.clock(LATER)
    world.rep_writes("Task", world.task(1)["Id"], Status="Completed")
    run = world.run(LATER)
    world.decide(run, 1, action="hold_converting")
    world.deliver(run)
    assert world.handoff(1).state == "task_open"
    assert not world.task(1)["Subject"].startswith("[Withdrawn]")
    world.extract(run)
    assert world.handoff(1).state == "touched"


def test_a_conversation_that_was_answered_stays_the_reps(world: Any) -> None:
    world.deliver(ready(world, 1))
    world.org.clock(LATER)
    world.rep_writes("Task", world.task(1)["Id"], Status="Completed", Onetouch_Outcome__c="Replied")
    run = world.run(LATER)
    world.extract(run)
    world.decide(run, 1, action="hold_converting")
    assert world.deliver(run)["withdrawn"] == 0
    assert world.handoff(1).state == "replied"


# ── a rep's edits are theirs ─────────────────────────────────────────────────────────────────────


def test_a_task_that_exists_is_adopted_as_the_rep_left_it(world: Any) -> None:
    run = ready(world, 1)
    world.die_after_writing_tasks(run)
    assert world.handoff(1).state == "context_written"
    world.rep_writes("Task", world.task(1)["Id"], Subject="Mine now", Priority="Low", OwnerId=make_id("005", 102))
    assert world.deliver(run)["delivered"] == 1
    task = world.task(1)
    assert (task["Subject"], task["Priority"], task["OwnerId"]) == ("Mine now", "Low", make_id("005", 102))


def test_nulls_erase_nothing_but_what_an_earlier_episode_of_ours_has_left(world: Any) -> None:
    world.accounts(1, Plan__c="team", Onetouch_Limit_Share__c=50, Onetouch_Action__c="nurture")
    run = world.run()
    world.decide(run, 1, signals={"limit_share": None})
    world.deliver(run)
    account = world.org.account(crm_id(1))
    assert (account["Plan__c"], account["Name"], account["Website"]) == (
        "team",
        "Company 1",
        "https://www.company1.example",
    )
    assert (account["Onetouch_Limit_Share__c"], account["Onetouch_Action__c"]) == (None, "nurture")


def test_an_incomplete_context_keeps_the_task_back(world: Any) -> None:
    run = ready(world, 1, signals={"features_used_list": None, "features_used": None})
    with pytest.raises(DeliveryFailed, match="context missing: features_used"):
        world.deliver(run)
    assert world.org.tasks() == []
    assert world.org.account(crm_id(1))["Onetouch_Dossier__c"] is None


# ── rows that fail ───────────────────────────────────────────────────────────────────────────────


def test_a_failed_row_is_reported_after_all_others_went_out(world: Any) -> None:
    run = ready(world, 1, 2, 3)
    refusal = {"statusCode": "FIELD_CUSTOM_VALIDATION_EXCEPTION", "message": "ask rita@rep.example"}
    fault = {"match": "composite/sobjects$", "method": "POST", "row_error": refusal, "rows": [1]}
    world.org.post("faults", [fault])
    with pytest.raises(DeliveryFailed, match="1 decisions could not be delivered") as failure:
        world.deliver(run)
    assert "FIELD_CUSTOM_VALIDATION_EXCEPTION" in str(failure.value)
    assert "rita@" not in str(failure.value)
    summary = failure.value.summary
    assert (summary["to_send"], summary["delivered"]) == (3, 2)
    assert [row["account_id"] for row in summary["failed"]] == ["org-2"]
    assert len(world.org.tasks()) == 2
    assert [r.state for r in world.ledger.outbox(keys=[f"task:{world.handoff(2).handoff_id}"])] == ["failed"]
    refused = world.handoff(2)
    assert (refused.state, refused.reason.split(":")[0], refused.task_id) == ("withdrawn", "refused", None)
    # The same run again is red again and sends nothing; the next run holds the account and is green.
    with pytest.raises(DeliveryFailed, match="1 decisions could not be delivered") as again:
        world.deliver(run)
    assert [row["account_id"] for row in again.value.summary["failed"]] == ["org-2"]
    later = world.run(LATER)
    world.decide(later, 2, action="hold_refused")
    assert "earlier" not in world.deliver(later)
    assert [row.handoff_id for row in world.ledger.unsent() if row.destination == "salesforce"] == [refused.handoff_id]
    # A day later it is decided on anew: a handoff of its own, and the refusal is off the list.
    tomorrow = world.run(LATER + timedelta(days=1))
    world.decide(tomorrow, 2)
    assert world.deliver(tomorrow)["delivered"] == 1
    assert world.handoff(2).episode == refused.episode + 1
    assert len(world.org.tasks()) == 3
    assert [row for row in world.ledger.unsent() if row.destination == "salesforce"] == []


def test_a_mended_cause_needs_no_waiting(world: Any) -> None:
    run = ready(world, 1)
    refusal = {"statusCode": "FIELD_CUSTOM_VALIDATION_EXCEPTION", "message": "a rule"}
    world.org.post("faults", [{"match": "composite/sobjects$", "method": "POST", "row_error": refusal}])
    with pytest.raises(DeliveryFailed):
        world.deliver(run)
    frame = world.ledger.handoff_frame(LATER)
    assert frame["refused_at"].tolist() == [AS_OF] and frame["answered_at"].isna().all()
    ((row, account_id),) = world.ledger.refused()
    assert account_id == world.handoff(1).account_id
    assert world.ledger.retry([row.key]) == 1
    assert world.ledger.handoff_frame(LATER)["refused_at"].isna().all()
    assert world.ledger.unsent() == [] and world.ledger.retry() == 0


def test_a_crash_before_a_refused_handoff_was_ended_leaves_nothing_waiting(world: Any) -> None:
    run = ready(world, 1)
    refusal = {"statusCode": "FIELD_CUSTOM_VALIDATION_EXCEPTION", "message": "a rule"}
    world.org.post("faults", [{"match": "composite/sobjects$", "method": "POST", "row_error": refusal}])
    failed_all = world.ledger.failed_all

    def die(reasons: Any) -> None:
        failed_all(reasons)
        if reasons:
            raise KeyboardInterrupt

    world.ledger.failed_all = die
    with pytest.raises(KeyboardInterrupt):
        world.deliver(run)
    world.ledger.failed_all = failed_all
    assert world.handoff(1).state == "context_written"
    later = world.run(LATER)
    world.decide(later, 1, action="hold_touched")
    assert "earlier" not in world.deliver(later)
    assert (world.handoff(1).state, world.handoff(1).reason.split(":")[0]) == ("withdrawn", "refused")


def test_what_its_owner_may_not_own_goes_to_another_rep(world: Any) -> None:
    run = ready(world, 1)
    refusal = {"statusCode": "INACTIVE_OWNER_OR_USER", "message": "inactive", "fields": ["OwnerId"]}
    world.org.post("faults", [{"match": "composite/sobjects$", "method": "POST", "row_error": refusal}])
    with pytest.raises(DeliveryFailed):
        world.deliver(run)
    assert world.handoff(1).reason.startswith("refused for its owner: INACTIVE_OWNER_OR_USER")
    later = world.run(LATER)
    world.decide(later, 1, owner_id=make_id("005", 102))
    assert world.deliver(later)["delivered"] == 1
    assert world.task(1)["OwnerId"] == make_id("005", 102)


def test_what_is_too_much_at_once_for_the_orgs_code_is_sent_in_parts(world: Any) -> None:
    run = ready(world, 1, 2, 3, 4, 5)
    refusal = {
        "statusCode": "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY",
        "message": "System.LimitException: Apex CPU time limit",
    }
    fault = {"match": "composite/sobjects$", "method": "POST", "row_error": refusal, "times": 2}
    world.org.post("faults", [fault])
    assert world.deliver(run)["delivered"] == 5
    assert len(world.org.tasks()) == 5


def test_what_is_too_much_for_the_orgs_code_by_itself_is_tried_by_the_next_run(world: Any) -> None:
    run = ready(world, 1, 2)
    refusal = {"statusCode": "APEX_ERROR", "message": "System.LimitException: Too many SOQL queries: 101"}
    world.org.post("faults", [{"match": "composite/sobjects$", "method": "POST", "row_error": refusal, "times": 4}])
    with pytest.raises(DeliveryFailed) as failure:
        world.deliver(run)
    assert failure.value.summary["deferred"] == 2
    assert world.handoff(1).state == "context_written"
    assert world.deliver(run)["delivered"] == 2


def test_a_failed_context_keeps_the_task_back(world: Any) -> None:
    run = ready(world, 1, 2)
    refusal = {"statusCode": "INVALID_FIELD", "message": "no such column"}
    world.org.post("faults", [{"match": "composite/sobjects$", "method": "PATCH", "row_error": refusal, "rows": [0]}])
    with pytest.raises(DeliveryFailed):
        world.deliver(run)
    assert [t["WhatId"] for t in world.org.tasks()] == [crm_id(2)]
    assert (world.handoff(1).state, world.handoff(1).reason.split(":")[0]) == ("withdrawn", "refused")


def test_an_account_without_a_crm_record_gets_one_once(world: Any) -> None:
    run = world.run()
    world.decide(run, 1, 2, crm_account_id=None)
    assert world.deliver(run)["delivered"] == 2
    made = {world.handoff(n).crm_account_id for n in (1, 2)}
    assert len(made) == 2 and {t["WhatId"] for t in world.org.tasks()} == made
    assert {world.org.account(i)["Onetouch_Account_Id__c"] for i in made} == {"org-1", "org-2"}
    world.deliver(run)
    assert world.org.state()["accounts"] == 2


def test_an_account_without_a_crm_record_is_a_failure_where_none_may_be_made(world: Any) -> None:
    world.policy = world.policy.changed(crm__unknown_accounts="leave")
    run = ready(world, 1)
    world.decide(run, 1, crm_account_id=None)
    with pytest.raises(DeliveryFailed) as failure:
        world.deliver(run)
    assert failure.value.summary["failed"] == [
        {"account_id": "org-1", "reason": "NO_RECORD: the account has no record in the CRM"}
    ]


def test_the_context_follows_the_record_the_account_was_merged_into(world: Any) -> None:
    run = ready(world, 1)
    world.accounts(5)
    locked = {"statusCode": "UNABLE_TO_LOCK_ROW", "message": "locked"}
    world.org.post("faults", [{"match": "composite/sobjects$", "method": "POST", "row_error": locked, "times": 5}])
    with pytest.raises(DeliveryFailed):
        world.deliver(run)
    assert world.handoff(1).state == "context_written"
    world.org.post("merge", {"winner": crm_id(5), "losers": [crm_id(1)]})
    world.ledger.relink({crm_id(1): crm_id(5)})
    assert world.deliver(run)["delivered"] == 1
    assert world.task(1)["WhatId"] == crm_id(5)
    assert world.org.account(crm_id(5))["Onetouch_Dossier__c"].startswith("Company 1")


def test_accounts_that_are_one_record_in_the_crm_get_one_task(world: Any) -> None:
    run = ready(world, 1)
    world.decide(run, 1, 2, crm_account_id=crm_id(1))
    summary = world.deliver(run)
    assert (summary["delivered"], summary["withheld"]) == (1, {"account merged": 1})
    assert len(world.org.tasks()) == 1


def test_a_lead_is_made_where_the_policy_says_so(world: Any) -> None:
    world.policy = world.policy.changed(crm__unknown_accounts="lead")
    run = world.run()
    world.decide(run, 1, crm_account_id=None)
    assert world.deliver(run)["delivered"] == 1
    task = world.task(1)
    assert task["WhoId"] == world.handoff(1).crm_account_id and task["WhoId"].startswith("00Q")
    assert task["WhatId"] is None


IDA = {"LastName": "Ida", "Email": "ida@company1.example"}
TO_IDA = {"contact_email": "Ida@company1.example", "contact_name": "Ida Maria Berg", "contact_title": "CTO"}


def contacts(world: Any) -> list[dict[str, Any]]:
    """The contacts that are in the CRM."""
    soql = "SELECT Id, AccountId, Email, FirstName, LastName, Title FROM Contact WHERE IsDeleted = false"
    found = world.salesforce()._transport.query(soql)
    return sorted(({k: v for k, v in row.items() if k != "attributes"} for row in found), key=lambda row: row["Id"])


def test_the_task_names_the_contact_of_the_person_to_write_to(world: Any) -> None:
    contact, others = make_id("003", 2), make_id("003", 1)
    world.accounts(1, 2)
    rows = [{**IDA, "Id": others, "AccountId": crm_id(2)}, {**IDA, "Id": contact, "AccountId": crm_id(1)}]
    world.org.post("load", {"Contact": rows})
    run = ready(world, 1, signals=TO_IDA)
    world.deliver(run)
    assert (world.task(1)["WhatId"], world.task(1)["WhoId"]) == (crm_id(1), contact)


@pytest.mark.parametrize("contacts_are", ["match", "create", "never"])
def test_anothers_contact_is_not_this_accounts(world: Any, contacts_are: str) -> None:
    world.accounts(1, 2)
    others = make_id("003", 1)
    world.org.post("load", {"Contact": [{**IDA, "Id": others, "AccountId": crm_id(2)}]})
    world.policy = world.policy.changed(crm__contacts=contacts_are)
    world.deliver(ready(world, 1, signals=TO_IDA))
    assert world.task(1)["WhoId"] != others
    assert (world.task(1)["WhoId"] is None) == (contacts_are != "create")
    assert len(contacts(world)) == (2 if contacts_are == "create" else 1)


def test_no_contact_is_named_where_the_policy_says_never(world: Any) -> None:
    world.accounts(1)
    world.org.post("load", {"Contact": [{**IDA, "Id": make_id("003", 1), "AccountId": crm_id(1)}]})
    world.policy = world.policy.changed(crm__contacts="never")
    world.deliver(ready(world, 1, signals=TO_IDA))
    assert world.task(1)["WhoId"] is None


def test_a_contact_is_made_once_wherever_the_process_dies(make_world: Callable[[str], Any]) -> None:
    def made(name: str) -> Any:
        world = make_world(name)
        world.policy = world.policy.changed(crm__contacts="create")
        return world, ready(world, 1, signals=TO_IDA)

    world, run = made("undisturbed")
    world.mortal(None)
    world.deliver(run)
    effects = world.effects.count
    world.immortal()
    [ida] = contacts(world)
    assert ida | {"Id": None} == {
        "Id": None, "AccountId": crm_id(1), "Email": "ida@company1.example", "FirstName": "Ida Maria",
        "LastName": "Berg", "Title": "CTO",
    }  # fmt: skip
    assert world.task(1)["WhoId"] == ida["Id"]
    for die_at in range(1, effects + 1):
        world, run = made(f"killed-{die_at}")
        world.mortal(die_at)
        with pytest.raises(BaseException) as death:  # noqa: PT011 - Killed is the fixture's
            world.deliver(run)
        assert type(death.value).__name__ == "Killed"
        world.immortal()
        assert world.deliver(run)["delivered"] == 1
        [ida] = contacts(world)
        assert world.task(1)["WhoId"] == ida["Id"], f"killed at effect {die_at}"


def test_two_processes_make_one_contact(make_world: Callable[[str], Any]) -> None:
    world = make_world("one of two")
    world.accounts(1)
    row = {
        "crm_account_id": crm_id(1),
        "email": "ida@company1.example",
        "name": "Ida",
        "title": None,
        "owner_id": OWNER,
    }
    outcomes: list[Any] = []
    threads = [Thread(target=lambda: outcomes.append(world.salesforce().ensure_contacts({"h": row}))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [contact] = contacts(world)
    assert [outcome["h"].id for outcome in outcomes] == [contact["Id"]] * 4


def test_a_contact_that_cannot_be_made_costs_no_task(world: Any) -> None:
    world.policy = world.policy.changed(crm__contacts="create")
    signals = TO_IDA | {"contact_email": f"{'i' * 90}@company1.example"}  # longer than an address may be there
    world.deliver(ready(world, 1, signals=signals))
    assert world.task(1)["WhoId"] is None and contacts(world) == []


def test_a_lead_gets_no_contact_beside_itself(world: Any) -> None:
    world.policy = world.policy.changed(crm__contacts="create", crm__unknown_accounts="lead")
    run = world.run()
    world.decide(run, 1, crm_account_id=None, signals=TO_IDA | {"crm_account_id": None})
    world.deliver(run)
    assert world.task(1)["WhoId"].startswith("00Q") and contacts(world) == []


def test_what_was_laid_out_before_there_were_people_names_the_most_active_user(world: Any) -> None:
    contact = make_id("003", 1)
    world.accounts(1)
    world.org.post("load", {"Contact": [{**IDA, "Id": contact, "AccountId": crm_id(1)}]})
    run = ready(world, 1)
    client = world.salesforce()
    client.update_accounts = lambda rows: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        world.deliver(run, salesforce=client)
    with world.ledger.writing() as connection:
        for row in (row for row in world.ledger.outbox() if row.kind == "task"):
            record = {k: v for k, v in row.payload["record"].items() if k != "contact"}
            payload = row.payload | {"record": record | {"top_user": "IDA@company1.example"}}
            connection.execute(update(outbox).where(outbox.c.key == row.key).values(payload=payload))
    world.deliver(run)
    assert world.task(1)["WhoId"] == contact


def test_the_dossier_says_who_did_what_and_the_chat_does_not(world: Any) -> None:
    run = ready(world, 1, signals=TO_IDA)
    person = {
        "account_id": "org-1", "place": 1, "user_id": "u1", "name": "Ida Maria Berg", "email": "ida@company1.example",
        "title": "CTO", "role": "admin", "champion": True, "events": 40, "active_days": 9, "pricing_views": 2,
        "pricing_views_at": AS_OF - timedelta(days=1),
    }  # fmt: skip
    world.lake.write(pd.DataFrame([person]), "people", f"{run.run_id}.parquet")
    world.deliver(run)
    who = "Write to Ida Maria Berg (ida@company1.example), CTO, admin, most active"
    line = f"{who}: looked at pricing twice, last yesterday"
    assert "Hi Ida," in world.task(1)["Description"]  # the rest is on the record, which the task names
    assert line in world.org.account(crm_id(1))["Onetouch_Dossier__c"]
    told = alert({"account_id": "org-1"}, world.lake.read("signals", f"{run.run_id}.parquet").iloc[0], world.policy)
    assert "Ida" not in told.text and "Ida" not in str(told)


@pytest.mark.parametrize("contacts_are", ["match", "create"])
def test_who_opted_out_is_neither_named_nor_linked_and_the_next_person_is(world: Any, contacts_are: str) -> None:
    world.accounts(1)
    ida = {**IDA, "Id": make_id("003", 1), "AccountId": crm_id(1), "HasOptedOutOfEmail": True}
    max_ = {"LastName": "Max", "Email": "max@company1.example", "Id": make_id("003", 2), "AccountId": crm_id(1)}
    world.org.post("load", {"Contact": [ida, max_]})
    world.policy = world.policy.changed(crm__contacts=contacts_are)
    run = ready(world, 1, signals=TO_IDA | {"contact_user": "u1"})
    people = [
        {"account_id": "org-1", "place": 1, "user_id": "u1", "name": "Ida Maria Berg", "email": "ida@company1.example"},
        {"account_id": "org-1", "place": 2, "user_id": "u2", "name": "Max Noll", "email": "max@company1.example"},
    ]
    world.lake.write(pd.DataFrame(people), "people", f"{run.run_id}.parquet")
    world.deliver(run)
    task = world.task(1)
    assert task["WhoId"] == max_["Id"] and len(contacts(world)) == 2
    dossier = world.org.account(crm_id(1))["Onetouch_Dossier__c"]
    assert "Hi Max," in task["Description"] and "Write to Max Noll (max@company1.example)" in dossier
    assert all("Ida" not in text and "ida@" not in text for text in (task["Description"], dossier))


# ── bounded blast radius ─────────────────────────────────────────────────────────────────────────


def test_a_run_delivered_late_comes_on_top_of_later_ones(world: Any) -> None:
    world.policy = world.policy.changed(assignment__tasks_per_day=2, assignment__beyond_the_day="stop")
    world.accounts(1, 2, 3)
    early = world.run()
    world.decide(early, 3)
    later = world.run(LATER)
    world.decide(later, 1, 2)
    world.deliver(later)
    with pytest.raises(DeliveryFailed, match="stopped at the daily cap: 1 new tasks on top of 2 today") as failure:
        world.deliver(early)
    assert [row["account_id"] for row in failure.value.summary["failed"]] == ["org-3"]
    assert len(world.org.tasks()) == 2
    assert world.deliver(later)["delivered"] == 2  # what was opened stays delivered


def test_what_was_laid_out_for_another_crm_is_not_passed_over(world: Any) -> None:
    run = ready(world, 1)
    world.ledger.open_handoffs(
        world.lake.read("decisions", f"{run.run_id}.parquet").to_dict("records"),
        run,
        lambda h: [{"key": f"task:{h.handoff_id}", "destination": "hubspot", "kind": "task", "payload": {}}],
    )
    with pytest.raises(DeliveryFailed, match="laid out for another CRM"):
        world.deliver(run)


def test_many_new_tasks_wait_for_a_yes_and_the_rest_goes_on(world: Any) -> None:
    world.deliver(ready(world, 9))
    world.policy = world.policy.changed(delivery__approval_above=1)
    world.accounts(1, 2)
    run = world.run(LATER)
    frames = []
    for numbers, action in (((1, 2), "sales_now"), ((9,), "hold_converting")):
        world.decide(run, *numbers, action=action)
        frames.append(world.lake.read("decisions", f"{run.run_id}.parquet"))
    world.decide(run, 1, 2, 9)
    world.lake.write(pd.concat(frames), "decisions", f"{run.run_id}.parquet")
    summary = world.deliver(run)
    assert (summary["to_send"], summary["delivered"], summary["withheld"]) == (2, 0, {"not approved": 2})
    assert summary["withdrawn"] == 1 and world.task(9)["IsClosed"]
    assert len(world.org.tasks()) == 1 and len(world.ledger.handoffs()) == 1
    assert world.deliver(run, approved=True)["delivered"] == 2


# ── the CRM says no ──────────────────────────────────────────────────────────────────────────────


def test_calls_used_up_between_context_and_tasks_are_no_loss(world: Any) -> None:
    run = ready(world, 1, 2)
    refusal = [{"errorCode": "REQUEST_LIMIT_EXCEEDED", "message": "TotalRequests Limit exceeded."}]
    fault = {"match": "composite/sobjects$", "method": "POST", "status": 403, "times": 1, "body": refusal}
    world.org.post("faults", [fault])
    with pytest.raises(DeliveryFailed, match="2 decisions could not be delivered.*used up") as failure:
        world.deliver(run)
    summary = failure.value.summary
    assert (summary["delivered"], len(summary["failed"]), summary["deferred"]) == (0, 2, 2)
    assert {(r.kind, r.state) for r in world.ledger.outbox()} == {("account_fields", "sent"), ("task", "pending")}
    assert world.deliver(run)["delivered"] == 2
    assert len(world.org.tasks()) == 2


def test_a_deleted_task_is_not_made_again(world: Any) -> None:
    run = ready(world, 1)
    world.deliver(run)
    world.rep_writes("Task", world.task(1)["Id"])
    world.org.clock(LATER)
    world.deliver(run)
    world.extract(world.run(LATER))
    assert world.handoff(1).state == "withdrawn"
    assert [t["IsDeleted"] for t in world.org.tasks()] == [True]


def test_more_than_the_daily_cap_stops_and_asks(world: Any, make_world: Callable[[str], Any]) -> None:
    world.policy = world.policy.model_copy(
        update={"assignment": world.policy.assignment.model_copy(update={"tasks_per_day": 2, "beyond_the_day": "stop"})}
    )
    run = ready(world, 1, 2, 3)
    with pytest.raises(DeliveryFailed, match="tasks_per_day"):
        world.deliver(run)
    assert world.org.tasks() == []
    assert world.ledger.handoffs() == []


def test_an_account_with_another_active_handoff_gets_no_second_one(world: Any) -> None:
    world.deliver(ready(world, 1))
    run = world.run(LATER)
    world.decide(run, 1)
    summary = world.deliver(run)
    assert (summary["to_send"], summary["delivered"]) == (1, 0)
    assert summary["withheld"] == {"another handoff of the account": 1}
    assert len(world.org.tasks()) == 1


def test_hostile_names_reach_the_crm_as_plain_short_text(world: Any) -> None:
    world.accounts(1)
    run = world.run()
    name = "Acme\u202e\x00\r\n<!channel>" + "x" * 10_000
    world.decide(run, 1, signals={"name": name, "features_used_list": [name] * 30, "top_user": name})
    world.deliver(run)
    task = world.task(1)
    assert len(task["Subject"]) <= 255
    assert len(task["Description"]) <= 32_000
    assert not set("\u202e\x00\r") & set(task["Subject"] + task["Description"])
    assert "\n" not in task["Subject"]


def test_a_run_that_lost_its_handoff_meanwhile_closes_the_task_it_made(world: Any) -> None:
    run = ready(world, 1)
    ledger: Ledger = world.ledger
    client = world.salesforce()
    create = client.create_tasks

    def overtaken(rows: Any, unsure: Any) -> Any:
        outcomes = create(rows, unsure)
        ledger.move(world.handoff(1).handoff_id, "withdrawn", AS_OF, "checkout: started")
        return outcomes

    client.create_tasks = overtaken
    summary = world.deliver(run, salesforce=client)
    assert (summary["delivered"], summary["withheld"]) == (0, {"checkout": 1})
    assert world.task(1)["IsClosed"]


# ── A day that is full ───────────────────────────────────────────────────────────────────────────────────────────────


def test_beyond_the_day_the_first_in_line_are_sent_and_the_rest_wait(world: Any) -> None:
    world.policy = world.policy.changed(assignment__tasks_per_day=2)
    run = ready(world, 1, 2, 3, 4)
    parts = ("decisions", f"{run.run_id}.parquet")
    world.lake.write(world.lake.read(*parts).assign(turn=[4, 2, 3, 1]), *parts)  # all with the same score
    summary = world.deliver(run)
    assert (summary["delivered"], summary["withheld"], summary["failed"]) == (2, {"the day is full": 2}, [])
    assert sorted(t["WhatId"] for t in world.org.tasks()) == [crm_id(2), crm_id(4)]
    assert world.deliver(run)["delivered"] == 2  # again: nothing more
    assert len(world.org.tasks()) == 2


def test_what_waits_for_the_next_day_counts_when_a_person_is_asked(world: Any) -> None:
    world.policy = world.policy.changed(assignment__tasks_per_day=2, delivery__approval_above=3)
    run = ready(world, 1, 2, 3, 4)
    parts = ("decisions", f"{run.run_id}.parquet")
    waits = [[], [], *[[{"obstacle": "day", "has": None, "needs": None}]] * 2]
    actions = ["sales_now"] * 2 + ["hold_capacity"] * 2
    world.lake.write(world.lake.read(*parts).assign(action=actions, would_change=waits), *parts)
    assert world.deliver(run)["withheld"] == {"not approved": 2}
    assert not world.org.tasks()
    assert world.deliver(run, approved=True)["delivered"] == 2
