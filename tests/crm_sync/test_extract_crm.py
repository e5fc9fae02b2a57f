"""What is read back from the CRM: the snapshot, the touches, the replies, the deals."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from onetouch.crm_sync import extract_crm
from onetouch.crm_sync.extract_crm import _successors
from onetouch.sandbox.fields import make_id
from onetouch.signals import CRM, SNAPSHOT

AS_OF = datetime(2025, 11, 18, 10, tzinfo=UTC)
OWNER = make_id("005", 101)


def crm_id(number: int) -> str:
    return make_id("001", number)


def opened(world: Any, *numbers: int) -> None:
    world.accounts(*numbers)
    run = world.run()
    world.decide(run, *numbers)
    world.deliver(run)


def hours(n: float) -> datetime:
    return AS_OF + timedelta(hours=n)


def test_the_snapshot_has_the_contracts_columns_and_the_crms_values(world: Any) -> None:
    world.accounts(1, Plan__c="team", Seats__c=12, ARR__c=2880, Timezone__c="Europe/Berlin", NumberOfEmployees=75,
                   Plan_Limits__c='{"api_calls": 10000}', Signed_Up_At__c="2025-09-01T08:00:00Z")  # fmt: skip
    world.accounts(2)
    world.rep_writes(
        "Opportunity", None, AccountId=crm_id(2), Name="d", StageName="Prospecting", CloseDate="2026-01-31"
    )
    run = world.run()
    summary = world.extract(run)
    assert (summary["accounts"], summary["opportunities"]) == (2, 1)
    accounts = world.lake.read("crm", run.run_id, "accounts.parquet")
    assert list(accounts.columns) == [*SNAPSHOT, *CRM]
    one = accounts.set_index("crm_account_id").loc[crm_id(1)]
    assert one["domain"] == "company1.example"
    assert (one["plan"], one["seats"], one["arr"], one["employees"]) == ("team", 12, 2880, 75)
    assert one["owner_email"] == "rita@rep.example"
    assert bool(one["owner_active"])
    assert one["signed_up_at"] == pd.Timestamp("2025-09-01T08:00:00Z")
    assert accounts.set_index("crm_account_id")["open_opportunities"].to_dict() == {crm_id(1): 0, crm_id(2): 1}
    reps = world.lake.read("crm", run.run_id, "reps.parquet").set_index("owner_id")
    assert reps.loc[OWNER, "timezone"] == "America/New_York"
    opportunities = world.lake.read("crm", run.run_id, "opportunities.parquet")
    assert not opportunities["is_closed"].any()
    assert opportunities["closed_at"].isna().all()


def test_the_snapshot_tells_when_the_last_deal_closed(world: Any) -> None:
    """By the earlier of close date and last edit; of all deals that are closed, whoever's, and none that is deleted."""
    world.org.clock(AS_OF - timedelta(days=20))
    world.accounts(1, 2, 3, 4)

    def deal(number: int, closes_on: str) -> str:
        made = world.rep_writes("Opportunity", None, AccountId=crm_id(number), Name="d", StageName="Prospecting",
                                CloseDate=closes_on)  # fmt: skip
        return str(made)

    planned, dated, deleted = deal(1, "2026-06-30"), deal(1, "2025-11-10"), deal(2, "2025-11-10")
    still_open = deal(3, "2025-11-10")
    world.org.clock(hours(-30))
    world.rep_writes("Opportunity", planned, StageName="Closed Lost")
    world.rep_writes("Opportunity", dated, StageName="Closed Won")
    world.rep_writes("Opportunity", deleted, StageName="Closed Lost")
    world.org.clock(hours(-1))
    world.rep_writes("Opportunity", deleted)
    world.rep_writes("Opportunity", dated, Name="edited later")
    world.org.clock(AS_OF)
    run = world.run()
    world.extract(run)
    told = world.lake.read("crm", run.run_id, "accounts.parquet").set_index("crm_account_id")["deal_closed_at"]
    assert told.dtype == "datetime64[us, UTC]"
    assert told.dropna().to_dict() == {crm_id(1): pd.Timestamp(hours(-30))}, (still_open, told)
    world.rep_writes("Opportunity", planned)
    run = world.run(AS_OF + timedelta(days=1))
    world.extract(run)
    told = world.lake.read("crm", run.run_id, "accounts.parquet").set_index("crm_account_id")["deal_closed_at"]
    assert told.dropna().to_dict() == {crm_id(1): pd.Timestamp("2025-11-10T00:00:00Z")}


def test_an_empty_crm_is_read_as_such(world: Any) -> None:
    run = world.run()
    assert world.extract(run)["accounts"] == 0
    assert len(world.lake.read("crm", run.run_id, "accounts.parquet")) == 0


def test_the_next_hour_reads_what_changed_and_ends_with_the_same_snapshot(world: Any) -> None:
    world.org.clock(AS_OF - timedelta(days=10))
    world.accounts(*range(1, 41))
    world.org.clock(hours(-2))
    deal = world.rep_writes("Opportunity", None, AccountId=crm_id(5), Name="d", StageName="Prospecting",
                            CloseDate="2026-01-31")  # fmt: skip
    world.extract(world.run(hours(-1)))
    world.org.clock(hours(-0.5))
    world.rep_writes("Account", crm_id(3), Name="Renamed")
    world.rep_writes("Account", crm_id(4))
    world.rep_writes("Opportunity", deal, StageName="Closed Won")
    run = world.run()
    read: list[Any] = []
    client = world.salesforce()
    accounts_of = client.read_accounts
    client.read_accounts = lambda *given: (read.append(r) or r for r in accounts_of(*given))
    assert extract_crm(world.lake, world.ledger, world.policy, run, client)["accounts"] == 39
    assert {r["crm_account_id"] for r in read} == {crm_id(3), crm_id(4)}
    merged = world.lake.read("crm", run.run_id, "accounts.parquet")
    # A run of another day reads everything: both must say the same.
    full = world.run(AS_OF + timedelta(days=1))
    world.extract(full)
    pd.testing.assert_frame_equal(merged, world.lake.read("crm", full.run_id, "accounts.parquet"))
    assert merged.set_index("crm_account_id").loc[crm_id(3), "name"] == "Renamed"
    assert merged["open_opportunities"].sum() == 0


def test_the_reps_closing_of_our_task_is_the_touch_with_the_crms_time(world: Any) -> None:
    opened(world, 1)
    world.org.clock(hours(3))
    world.rep_writes("Task", world.task(1)["Id"], Status="Completed", OwnerId=make_id("005", 102))
    run = world.run(hours(4))
    assert world.extract(run)["moved"] == {"touched": 1}
    handoff = world.handoff(1)
    assert (handoff.state, handoff.touched_at) == ("touched", hours(3))
    assert handoff.owner_email == "otto@rep.example"  # who did it, not who was asked to
    touches = world.ledger.touches()
    assert touches["handoff_id"].tolist() == [handoff.handoff_id]
    assert touches["account_id"].tolist() == ["org-1"]
    assert world.extract(run)["moved"] == {}
    assert len(world.ledger.touches()) == 1


def test_a_call_logged_by_the_owner_is_a_touch_though_our_task_stays_open(world: Any) -> None:
    opened(world, 1)
    world.org.clock(hours(1))
    world.rep_writes("Task", None, Subject="Call", Status="Completed", WhatId=crm_id(1), OwnerId=OWNER,
                     TaskSubtype="Call")  # fmt: skip
    world.extract(world.run(hours(2)))
    assert (world.handoff(1).state, world.handoff(1).touched_at) == ("touched", hours(1))
    assert not world.task(1)["IsClosed"]


def test_a_colleagues_call_is_a_touch_of_the_account_not_of_the_handoff(world: Any) -> None:
    opened(world, 1)
    world.org.clock(hours(1))
    world.rep_writes("Task", None, Subject="Call", Status="Completed", WhatId=crm_id(1), OwnerId=make_id("005", 102))
    world.extract(world.run(hours(2)))
    assert world.handoff(1).state == "task_open"
    assert len(world.ledger.touches(account_ids=["org-1"])) == 1


@pytest.mark.parametrize("automation", [{"owners": ["Otto@Rep.example"]}, {"subjects": ["list EMAIL:"]}])
def test_what_software_logs_as_done_is_nobodys_touch(world: Any, automation: dict[str, list[str]]) -> None:
    opened(world, 1)
    world.accounts(2)
    world.policy = world.policy.changed(crm__automation={"owners": [], "subjects": []} | automation)
    world.org.clock(hours(1))
    mail = {"Subject": "List Email: news", "Status": "Completed", "OwnerId": make_id("005", 102)}
    for number in (1, 2):
        world.rep_writes("Task", None, WhatId=crm_id(number), **mail)
    run = world.run(hours(2))
    world.extract(run)
    assert world.handoff(1).state == "task_open"
    assert world.ledger.touches().empty
    world.decide(run, 2)
    world.org.clock(hours(2.1))
    world.rep_writes("Task", None, WhatId=crm_id(2), **mail)
    assert world.deliver(run)["delivered"] == 1  # the pre-send recheck does not take it for one, either
    world.org.clock(hours(3))
    world.rep_writes("Task", world.task(1)["Id"], Status="Completed", OwnerId=make_id("005", 102))
    world.extract(world.run(hours(4)))
    assert world.handoff(1).state == "touched"  # a task of ours is a rep's, whoever completes it


@pytest.mark.parametrize("outcome", ["Replied", "Meeting booked"])
def test_an_outcome_of_the_task_is_the_reply(world: Any, outcome: str) -> None:
    opened(world, 1)
    world.org.clock(hours(1))
    world.rep_writes("Task", world.task(1)["Id"], Status="Completed", Onetouch_Outcome__c=outcome)
    world.extract(world.run(hours(2)))
    assert (world.handoff(1).state, world.handoff(1).replied_at) == ("replied", hours(1))


def test_no_response_is_no_reply(world: Any) -> None:
    opened(world, 1)
    world.org.clock(hours(1))
    world.rep_writes("Task", world.task(1)["Id"], Status="Completed", Onetouch_Outcome__c="No response")
    world.extract(world.run(hours(2)))
    assert world.handoff(1).state == "touched"


@pytest.mark.parametrize(("stage", "state"), [("Closed Won", "won"), ("Closed Lost", "lost")])
def test_an_opportunity_after_the_touch_is_the_reply_and_its_end_the_handoffs(
    world: Any, stage: str, state: str
) -> None:
    opened(world, 1)
    world.org.clock(hours(1))
    world.rep_writes("Task", world.task(1)["Id"], Status="Completed")
    world.org.clock(hours(30))
    deal = world.rep_writes("Opportunity", None, AccountId=crm_id(1), Name="d", StageName="Prospecting",
                            CloseDate="2026-01-31")  # fmt: skip
    world.extract(world.run(hours(31)))
    assert (world.handoff(1).state, world.handoff(1).replied_at) == ("replied", hours(30))
    world.org.clock(hours(200))
    world.rep_writes("Opportunity", deal, StageName=stage, CloseDate="2025-11-26")
    world.extract(world.run(hours(201)))
    handoff = world.handoff(1)
    assert handoff.state == state
    assert handoff.closed_at is not None
    assert hours(30) <= handoff.closed_at <= hours(200)


def test_an_owner_who_goes_straight_to_an_opportunity_has_made_contact(world: Any) -> None:
    opened(world, 1)
    world.org.clock(hours(2))
    world.rep_writes("Opportunity", None, AccountId=crm_id(1), Name="d", StageName="Prospecting", OwnerId=OWNER,
                     CloseDate="2026-01-31")  # fmt: skip
    world.extract(world.run(hours(3)))
    assert world.handoff(1).state == "replied"


def test_a_task_whose_run_died_is_taken_up_and_its_touch_counts(world: Any) -> None:
    world.accounts(1)
    run = world.run()
    world.decide(run, 1)
    world.die_after_writing_tasks(run)
    world.org.clock(hours(1))
    world.rep_writes("Task", world.task(1)["Id"], Status="Completed")
    world.extract(world.run(hours(2)))
    handoff = world.handoff(1)
    assert (handoff.state, handoff.task_id, handoff.touched_at) == ("touched", world.task(1)["Id"], hours(1))


def test_touches_of_an_account_not_joined_yet_are_renamed_when_it_is(world: Any) -> None:
    world.accounts(1)
    world.org.clock(hours(-70))
    world.rep_writes("Task", None, Subject="Call", Status="Completed", WhatId=crm_id(1), OwnerId=OWNER)
    first = world.run(hours(-69))
    world.extract(first)
    assert world.ledger.touches()["account_id"].tolist() == [f"crm:{crm_id(1)}"]
    world.decide(first, 1)  # its signals file joins CRM and product
    world.extract(world.run())
    assert world.ledger.touches()["account_id"].tolist() == ["org-1"]


def test_calls_emails_and_meetings_are_touches_and_what_is_open_or_deleted_is_none(world: Any) -> None:
    world.accounts(1)
    world.org.clock(hours(-2))
    about = {"WhatId": crm_id(1), "OwnerId": OWNER}
    world.rep_writes("Task", None, Subject="a", Status="Completed", TaskSubtype="Call", **about)
    world.rep_writes("Task", None, Subject="b", Status="Completed", TaskSubtype="Email", **about)
    world.rep_writes("Task", None, Subject="c", Status="Completed", **about)
    world.rep_writes("Task", None, Subject="meet them", Status="Not Started", Type="Meeting", **about)
    gone = world.rep_writes("Task", None, Subject="e", Status="Completed", **about)
    world.rep_writes("Task", gone)
    held = {"DurationInMinutes": 60, "ActivityDateTime": hours(-5).isoformat()}
    world.rep_writes("Event", None, Subject="f", **about, **held)
    world.extract(world.run())
    touches = world.ledger.touches()
    told = sorted(zip(touches["kind"], touches["at"], strict=True))
    assert told == [("call", hours(-2)), ("email", hours(-2)), ("meeting", hours(-4)), ("task", hours(-2))]
    assert set(touches["owner_email"]) == {"rita@rep.example"}


def test_an_hour_costs_the_same_calls_however_many_handoffs_go_on(world: Any) -> None:
    def calls_of(run: Any) -> int:
        before = len(world.org.calls())
        world.extract(run)
        return len(world.org.calls()) - before

    world.policy = world.policy.changed(assignment__tasks_per_rep_per_day=60)
    world.extract(world.run(hours(-1)))
    idle = calls_of(world.run(hours(-0.5)))
    opened(world, *range(1, 61))
    assert calls_of(world.run(hours(0.5))) == idle
    assert {world.handoff(n).state for n in (1, 30, 60)} == {"task_open"}


def test_a_task_is_looked_up_only_where_a_run_may_have_died(world: Any) -> None:
    opened(world, 1)
    world.accounts(2)
    run = world.run(hours(1))
    world.org.clock(hours(1))
    world.decide(run, 2)
    world.die_after_writing_tasks(run)
    client, asked = world.salesforce(), []
    look_up = client.tasks_of

    def looks_up(handoff_ids: Any) -> Any:
        asked.extend(handoff_ids)
        return look_up(asked)

    client.tasks_of = looks_up
    extract_crm(world.lake, world.ledger, world.policy, world.run(hours(60)), client)
    assert asked == [world.handoff(2).handoff_id]
    assert (world.handoff(2).state, world.handoff(2).task_id) == ("task_open", world.task(2)["Id"])
    [row] = world.ledger.outbox(keys=[f"task:{world.handoff(2).handoff_id}"])
    assert (row.state, row.external_id) == ("sent", world.task(2)["Id"])


@pytest.mark.parametrize("thought", ["pending", "failed"])
def test_a_task_that_was_thought_refused_is_sent_once_it_is_found(world: Any, thought: str) -> None:
    world.accounts(1)
    run = world.run()
    world.decide(run, 1)
    world.die_after_writing_tasks(run)
    key = f"task:{world.handoff(1).handoff_id}"
    world.ledger.failed(key, "503", retryable=thought == "pending")
    assert world.extract(world.run(hours(1)))["moved"] == {"task_open": 1}
    [row] = world.ledger.outbox(keys=[key])
    assert (row.state, row.external_id, row.reason) == ("sent", world.task(1)["Id"], "")


def test_what_a_rep_thinks_of_a_handoff_is_kept_as_it_changes(world: Any) -> None:
    opened(world, 1)
    task = world.task(1)["Id"]
    for at, disposition in ((1, "Good"), (2, "Would have bought anyway")):
        world.org.clock(hours(at))
        world.rep_writes("Task", task, Status="Completed", Onetouch_Disposition__c=disposition)
        world.extract(world.run(hours(at + 0.5)))
        assert world.ledger.touches()["disposition"].tolist() == [disposition]
    assert world.ledger.touches()["at"].tolist() == [hours(1)]


@pytest.mark.parametrize("told", [True, False])
def test_the_opportunities_of_a_merged_account_are_those_of_the_one_that_is_left(world: Any, told: bool) -> None:
    opened(world, 1)
    world.accounts(2)
    world.org.clock(hours(1))
    deal = world.rep_writes("Opportunity", None, AccountId=crm_id(1), Name="d", StageName="Prospecting", OwnerId=OWNER,
                            CloseDate="2026-01-31")  # fmt: skip
    if not told:  # a CRM that moves a deal along without calling that a change: it was read before, and is not now
        world.extract(world.run(hours(1.5)))
    world.org.clock(hours(2))
    world.org.post("merge", {"winner": crm_id(2), "losers": [crm_id(1)]})
    if not told:
        world.org.post("load", {"Opportunity": [{"Id": deal, "SystemModstamp": hours(-60).isoformat()}]})
    run = world.run(hours(3))
    summary = world.extract(run)
    assert (summary["accounts"], summary["relinked"]) == (1, 1)
    accounts = world.lake.read("crm", run.run_id, "accounts.parquet")
    assert accounts[["crm_account_id", "open_opportunities"]].to_numpy().tolist() == [[crm_id(2), 1]]
    assert (world.handoff(1).state, world.handoff(1).crm_account_id) == ("replied", crm_id(2))


def test_an_accounts_new_owner_is_told_without_touching_the_handoff(world: Any) -> None:
    opened(world, 1)
    world.org.clock(hours(1))
    world.rep_writes("Account", crm_id(1), OwnerId=make_id("005", 102))
    run = world.run(hours(2))
    world.extract(run)
    accounts = world.lake.read("crm", run.run_id, "accounts.parquet")
    assert accounts["owner_email"].tolist() == ["otto@rep.example"]
    assert world.handoff(1).owner_email == "rita@rep.example"  # the task is hers until somebody gives it away


def test_a_lead_that_was_handed_over_is_followed_and_becomes_an_account_with_it(world: Any) -> None:
    lead = make_id("00Q", 1)
    world.org.post("load", {"Lead": [{"Id": lead, "LastName": "Doe", "Company": "Company 1", "OwnerId": OWNER,
                                      "Onetouch_Account_Id__c": "org-1"}]})  # fmt: skip
    run = world.run()
    world.decide(run, 1, crm_account_id=lead)
    world.deliver(run)
    world.org.clock(hours(1))
    world.rep_writes("Task", world.task(1)["Id"], Status="Completed")
    world.extract(world.run(hours(2)))
    assert (world.handoff(1).state, world.handoff(1).touched_at) == ("touched", hours(1))
    assert world.ledger.touches()["account_id"].tolist() == ["org-1"]
    world.accounts(7)
    world.org.clock(hours(3))
    world.org.post("convert", {"lead": lead, "account": crm_id(7)})
    world.rep_writes("Opportunity", None, AccountId=crm_id(7), Name="d", StageName="Prospecting", OwnerId=OWNER,
                     CloseDate="2026-01-31")  # fmt: skip
    assert world.extract(world.run(hours(4)))["relinked"] == 1
    assert (world.handoff(1).state, world.handoff(1).crm_account_id) == ("replied", crm_id(7))


@pytest.mark.parametrize("thing", ["Task", "Event"])
def test_who_calls_or_meets_a_lead_has_touched_it(world: Any, thing: str) -> None:
    leads = [make_id("00Q", n) for n in (1, 2)]
    known = [{"Id": i, "LastName": "Doe", "Company": "Company", "OwnerId": OWNER} for i in leads]
    world.org.post("load", {"Lead": known})
    run = world.run()
    world.decide(run, 1, crm_account_id=leads[0])
    world.deliver(run)
    world.org.clock(hours(1))
    for lead in leads:  # the second is nobody we handed over
        held = {"DurationInMinutes": 30, "ActivityDateTime": hours(0.5).isoformat()}
        done = {"Subject": "Call", "WhoId": lead} | (held if thing == "Event" else {"Status": "Completed"})
        world.rep_writes(thing, None, OwnerId=OWNER, **done)
    assert world.extract(world.run(hours(2)))["touches"] == 1
    assert (world.handoff(1).touched_at, world.handoff(1).active) == (hours(1), True)
    assert world.ledger.touches()["account_id"].tolist() == ["org-1"]


def test_a_reading_that_breaks_off_is_read_again_whole(world: Any) -> None:
    opened(world, 1)
    world.org.clock(hours(1))
    world.rep_writes("Task", world.task(1)["Id"], Status="Completed")
    client = world.salesforce()
    told = client.read_activities

    def breaks_off(*asked: Any) -> Any:
        yield next(iter(told(*asked)))
        raise KeyboardInterrupt

    client.read_activities = breaks_off
    before = world.ledger.watermark("salesforce_tasks")
    with pytest.raises(KeyboardInterrupt):
        extract_crm(world.lake, world.ledger, world.policy, world.run(hours(2)), client)
    assert world.ledger.watermark("salesforce_tasks") == before
    world.extract(world.run(hours(3)))
    assert world.handoff(1).state == "touched"


def test_several_accounts_merged_one_after_the_other_lead_to_the_last() -> None:
    assert _successors({"a": "b", "b": "c", "d": None, "e": "d"}) == {"a": "c", "b": "c", "e": "d"}
    assert set(_successors({"a": "b", "b": "a"})) == {"a", "b"}  # a CRM that contradicts itself ends nothing


def test_what_became_visible_late_is_read_by_the_overlap(world: Any) -> None:
    opened(world, 1)
    world.extract(world.run(hours(30)))
    world.org.clock(hours(31))
    late = {"Id": make_id("00T", 5), "Subject": "Call", "Status": "Completed", "WhatId": crm_id(1), "OwnerId": OWNER}
    stamps = dict.fromkeys(("CreatedDate", "CompletedDateTime", "SystemModstamp"), hours(1).isoformat())
    world.org.post("load", {"Task": [late | stamps]})
    world.extract(world.run(hours(31)))
    assert (world.handoff(1).state, world.handoff(1).touched_at) == ("touched", hours(1))


def test_an_hour_reads_from_the_last_one_on_with_two_days_of_overlap(world: Any) -> None:
    asked: list[datetime] = []
    for at in (hours(0), hours(1)):
        client = world.salesforce()
        told = client.read_activities
        client.read_activities = lambda since, told=told: [asked.append(since), told(since)][1]
        extract_crm(world.lake, world.ledger, world.policy, world.run(at), client)
    assert asked == [AS_OF - timedelta(days=world.policy.signals.lookback_days), hours(-48)]


def test_a_backfill_rewrites_neither_touches_nor_handoffs(world: Any) -> None:
    opened(world, 1)
    world.org.clock(hours(1))
    held = {"DurationInMinutes": 60, "ActivityDateTime": hours(48).isoformat()}
    world.rep_writes("Event", None, Subject="talk", WhatId=crm_id(1), OwnerId=OWNER, **held)
    world.org.clock(hours(51))
    latest = world.run(hours(50))
    assert world.extract(latest)["followed"]
    assert world.ledger.touches()["at"].tolist() == [hours(49)]
    world.rep_writes("Task", world.task(1)["Id"], Onetouch_Outcome__c="Replied")  # told by the next run
    before = world.ledger.dump()
    back = world.run(hours(-360))
    summary = world.extract(back)
    assert (summary["accounts"], summary["followed"], summary["touches"], summary["moved"]) == (1, False, 0, {})
    assert len(world.lake.read("crm", back.run_id, "accounts.parquet")) == 1
    assert world.ledger.dump() | {"runs": before["runs"]} == before
    again = world.extract(latest)  # done over it still follows
    assert (again["followed"], again["touches"]) == (True, 2)
