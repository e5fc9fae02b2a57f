"""Bulk 2.0: thousands of rows in a few calls, and still one outcome a row."""

from __future__ import annotations

import csv
import io
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from onetouch.connections import Connection
from onetouch.crm import UNKNOWN, LimitReached, Outcome, Refused, SignInRefused
from onetouch.crm.salesforce import Salesforce
from onetouch.crm.salesforce import bulk as salesforce_bulk
from onetouch.handoff import AccountContext, TaskContent
from onetouch.sandbox.fields import make_id
from tenacity import wait_none

from tests.delivery.world import AS_OF, Effects, Killed, MortalSession


def client(world: Any, **settings: Any) -> Salesforce:
    extra = {"instance_url": world.org.url, "consumer_key": "sandbox-key", "consumer_secret": "sandbox-secret"}
    given = {"bulk_above": 2, "wait": wait_none(), "sleep": lambda _: None} | settings
    return Salesforce(Connection("salesforce_default", extra=extra), **given)


def context(*numbers: int, **more: Any) -> dict[str, AccountContext]:
    return {make_id("001", n): AccountContext(score=n / 10, tier="high", **more) for n in numbers}


def tasks(*numbers: int) -> dict[str, TaskContent]:
    same = TaskContent("", description="one\ntwo", remind_at=datetime(2025, 11, 18, 11, tzinfo=UTC))
    return {f"h{n}": replace(same, subject=f'Call, "{n}"', crm_account_id=make_id("001", n)) for n in numbers}


def uploads(world: Any) -> list[str]:
    """What jobs were given, oldest first."""
    db = sqlite3.connect(world.org.home / "sandbox.sqlite")
    contents = [row[0] for row in db.execute("SELECT content FROM job ORDER BY created, id")]
    db.close()
    return [bytes(content).decode() for content in contents if content]


def calls(world: Any) -> int:
    """Calls besides sign-in and describe."""
    return sum(c["n"] for c in world.org.calls() if c["api"] == "salesforce" and not c["path"].endswith("/describe"))


def test_thousands_of_handoffs_cost_as_few_calls_as_hundreds(world: Any) -> None:
    numbers = range(1, 2_502)
    world.accounts(*numbers)
    crm = client(world, bulk_above=2_000)
    written = crm.update_accounts(context(*numbers))
    made = crm.create_tasks(tasks(*numbers))
    assert all(outcome.ok for outcome in (*written.values(), *made.values()))
    assert (len(written), len(made)) == (2_501, 2_501)
    assert len({outcome.id for outcome in made.values()}) == 2_501
    assert calls(world) < 20


def test_every_row_has_its_own_outcome(world: Any) -> None:
    world.accounts(1, 2, 3, 4)
    world.rep_writes("Account", make_id("001", 4))
    rows = context(1, 2, 3, 4) | {make_id("001", 3): AccountContext(tier="no such tier")}
    outcomes = client(world).update_accounts(rows)
    assert [outcomes[make_id("001", n)].ok for n in (1, 2, 3, 4)] == [True, True, False, False]
    refused, gone = outcomes[make_id("001", 3)], outcomes[make_id("001", 4)]
    assert (refused.code, refused.retryable) == ("INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", False)
    assert (gone.code, gone.deleted, gone.retryable) == ("ENTITY_IS_DELETED", True, False)
    assert world.org.account(make_id("001", 2))["Onetouch_Score__c"] == 0.2


def test_what_is_unknown_leaves_the_field_as_it_is(world: Any) -> None:
    world.accounts(1, 2, 3, Onetouch_Milestones__c="4 of 5", Onetouch_Features_Used__c="alerts")
    rows = context(2, 3, milestones=None, features_used="#N/A") | context(1, milestones="5 of 5", features_used="#N/A")
    assert all(outcome.ok for outcome in client(world).update_accounts(rows).values())
    found = [world.org.account(make_id("001", n)) for n in (1, 2)]
    assert [account["Onetouch_Milestones__c"] for account in found] == ["5 of 5", "4 of 5"]
    assert [account["Onetouch_Features_Used__c"] for account in found] == ["alerts", "alerts"]


def test_tasks_arrive_as_they_were_written_sorted_by_account(world: Any) -> None:
    world.accounts(1, 2, 3)
    outcomes = client(world).create_tasks(tasks(3, 1, 2))
    held = {task["Onetouch_Handoff_Id__c"]: task for task in world.org.tasks()}
    assert {h: outcome.id for h, outcome in outcomes.items()} == {h: task["Id"] for h, task in held.items()}
    assert (held["h2"]["Subject"], held["h2"]["Description"]) == ('Call, "2"', "one\ntwo")
    assert (held["h2"]["IsReminderSet"], held["h2"]["ActivityDate"]) == (True, None)
    (upload,) = uploads(world)
    assert "\r" not in upload
    assert [row["WhatId"] for row in csv.DictReader(io.StringIO(upload))] == [make_id("001", n) for n in (1, 2, 3)]


def test_a_task_that_is_there_is_adopted_as_the_rep_left_it(world: Any) -> None:
    world.accounts(1, 2, 3)
    there = world.rep_writes("Task", None, Subject="Mine", Onetouch_Handoff_Id__c="h2", WhatId=make_id("001", 2))
    outcomes = client(world).create_tasks(tasks(1, 2, 3))
    assert outcomes["h2"] == Outcome(ok=True, id=there)
    assert [outcome.ok for outcome in outcomes.values()] == [True, True, True]
    assert sorted(task["Subject"] for task in world.org.tasks()) == ['Call, "1"', 'Call, "3"', "Mine"]


def test_uploads_are_kept_below_the_limit(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(salesforce_bulk, "UPLOAD_BYTES", 400)
    world.accounts(*range(1, 21))
    outcomes = client(world).create_tasks(tasks(*range(1, 21)))
    assert all(outcome.ok for outcome in outcomes.values())
    assert len(uploads(world)) > 3
    assert max(len(upload.partition("\n")[2].encode()) for upload in uploads(world)) <= 400
    assert len(world.org.tasks()) == 20


def test_leads_and_accounts_are_jobs_of_their_own(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[str] = []
    prepare = salesforce_bulk.Job._prepare
    monkeypatch.setattr(
        salesforce_bulk.Job, "_prepare", lambda job, thing, content: jobs.append(thing) or prepare(job, thing, content)
    )
    world.accounts(1, 2)
    rows = context(1, 2) | {make_id("00Q", 1): AccountContext(score=1.0)}
    client(world).update_accounts(rows)
    assert jobs == ["Account", "Lead"]


# ── when something goes wrong ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("drop", ["request", "answer"])
@pytest.mark.parametrize(
    ("method", "match"),
    [
        ("POST", "jobs/ingest$"), ("PUT", "batches"), ("PATCH", r"jobs/ingest/\w+$"), ("GET", r"jobs/ingest/\w+$"),
        ("GET", "successfulResults"),
    ],
)  # fmt: skip
def test_a_lost_request_or_answer_makes_no_second_task(world: Any, method: str, match: str, drop: str) -> None:
    world.accounts(1, 2, 3)
    world.org.post("faults", [{"match": match, "method": method, "drop": drop, "times": 2}])
    outcomes = client(world).create_tasks(tasks(1, 2, 3))
    assert [outcome.ok for outcome in outcomes.values()] == [True, True, True]
    assert len(world.org.tasks()) == 3


@pytest.mark.parametrize("match", [r"jobs/ingest/\w+$", "successfulResults"])
def test_a_job_nobody_saw_the_end_of_is_looked_up_by_its_keys(world: Any, match: str) -> None:
    world.accounts(1, 2, 3)
    world.org.post("faults", [{"match": match, "method": "GET", "error": "SERVER_UNAVAILABLE", "times": 5}])
    outcomes = client(world).create_tasks(tasks(1, 2, 3))
    assert {(outcome.code, outcome.retryable) for outcome in outcomes.values()} == {(UNKNOWN, True)}
    world.org.clock(AS_OF + timedelta(minutes=5))  # it goes on without anybody
    again = client(world).create_tasks(tasks(1, 2, 3), unsure=list(outcomes))
    assert {h: outcome.id for h, outcome in again.items()} == {
        task["Onetouch_Handoff_Id__c"]: task["Id"] for task in world.org.tasks()
    }
    assert len(world.org.tasks()) == 3


@pytest.mark.parametrize(
    ("method", "match"),
    [("POST", "jobs/ingest$"), ("PATCH", r"ingest/\w+$"), ("GET", r"ingest/\w+$"), ("GET", "Results")],
)
def test_an_answer_nobody_can_read_loses_no_outcome(world: Any, method: str, match: str) -> None:
    world.accounts(1, 2, 3)
    world.org.post("faults", [{"match": match, "method": method, "status": 200, "body": "{}", "times": 2}])
    outcomes = client(world).create_tasks(tasks(1, 2, 3))
    assert all(outcome.ok or outcome.code == UNKNOWN for outcome in outcomes.values())
    again = client(world).create_tasks(tasks(1, 2, 3), unsure=list(outcomes))
    assert [outcome.ok for outcome in again.values()] == [True, True, True]
    assert len(world.org.tasks()) == 3


@pytest.mark.parametrize("goes_on", [True, False], ids=["the job ends before the look", "the job ends after the look"])
def test_killed_at_any_request_and_run_again_there_is_one_task_each(world: Any, goes_on: bool) -> None:
    world.accounts(1, 2, 3)
    effects, session = Effects(), MortalSession()
    session.effects = effects
    crm = client(world, session=session)
    crm.check_fields()
    effects.reset(None)
    crm.create_tasks({f"undisturbed-{h}": fields for h, fields in tasks(1, 2, 3).items()})
    assert effects.count == 12  # before and after each of six requests
    for number, die_at in enumerate(range(1, effects.count + 1), 1):
        rows = {f"{die_at}-{h}": fields for h, fields in tasks(1, 2, 3).items()}
        effects.reset(die_at)
        with pytest.raises(Killed):
            crm.create_tasks(rows)
        effects.reset(None)
        later = AS_OF + timedelta(minutes=10 * number)
        if goes_on:
            world.org.clock(later)
        outcomes = crm.create_tasks(rows, unsure=list(rows))
        world.org.clock(later)
        assert {h: outcome.id for h, outcome in outcomes.items()} == {
            task.handoff_id: task.activity_id for task in crm.keyed_tasks(AS_OF) if task.handoff_id in rows
        }
    assert len(world.org.tasks()) == 3 + 3 * die_at


def test_rows_a_failed_job_did_not_reach_go_out_with_the_next_run(world: Any) -> None:
    world.accounts(1, 2, 3)
    world.org.post("faults", [{"match": "batches", "job_error": "InternalServerError : try again", "rows": 2}])
    outcomes = client(world).create_tasks(tasks(1, 2, 3))
    assert [outcome.ok for outcome in outcomes.values()] == [True, True, False]
    assert (outcomes["h3"].code, outcomes["h3"].retryable) == ("UNPROCESSED", True)
    assert "try again" in outcomes["h3"].reason
    assert client(world).create_tasks(tasks(3))["h3"].ok
    assert len(world.org.tasks()) == 3


def test_a_job_that_never_ends_is_aborted_and_its_rows_told_apart(world: Any) -> None:
    world.accounts(*range(1, 61))
    world.org.post("limits", {"bulk_looks": 10_000})
    outcomes = client(world).update_accounts(context(*range(1, 61)))
    assert {outcome.code for outcome in outcomes.values()} == {"UNPROCESSED"}
    assert all(outcome.retryable for outcome in outcomes.values())


def test_a_few_locked_rows_are_sent_once_more(world: Any) -> None:
    world.accounts(1, 2, 3)
    world.org.post("faults", [{"match": "batches", "row_error": "UNABLE_TO_LOCK_ROW", "rows": [1]}])
    outcomes = client(world).create_tasks(tasks(1, 2, 3))
    assert [outcome.ok for outcome in outcomes.values()] == [True, True, True]
    assert len(world.org.tasks()) == 3


def test_the_day_s_calls_end_before_the_job_begins(world: Any) -> None:
    world.accounts(1, 2, 3)
    crm = client(world)
    crm.check_fields()
    world.org.post("limits", {"api_daily": 1})
    with pytest.raises(LimitReached):
        crm.create_tasks(tasks(1, 2, 3))
    assert world.org.tasks() == []


@pytest.mark.parametrize("error", ["REQUEST_LIMIT_EXCEEDED", "API_DISABLED_FOR_ORG", "INVALID_SESSION_ID"])
def test_a_job_that_was_not_let_begin_has_done_nothing(world: Any, error: str) -> None:
    world.accounts(1, 2, 3)
    world.org.post("faults", [{"match": r"jobs/ingest/\w+$", "method": "PATCH", "error": error, "times": 9}])
    with pytest.raises((LimitReached, Refused, SignInRefused)):
        client(world).create_tasks(tasks(1, 2, 3))
    world.org.clock(AS_OF + timedelta(minutes=5))
    assert client(world).tasks_of(["h1", "h2", "h3"]) == {}


def test_the_day_s_calls_end_between_two_jobs(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(salesforce_bulk, "UPLOAD_BYTES", 400)
    world.accounts(*range(1, 21))
    fault = {"match": "jobs/ingest$", "method": "POST", "error": "REQUEST_LIMIT_EXCEEDED", "after": 1, "times": 9}
    world.org.post("faults", [fault])
    outcomes = client(world).create_tasks(tasks(*range(1, 21)))
    done = [outcome for outcome in outcomes.values() if outcome.ok]
    assert {(o.code, o.retryable) for o in outcomes.values() if not o.ok} == {("REQUEST_LIMIT_EXCEEDED", True)}
    assert len(done) == len(world.org.tasks()) > 0
