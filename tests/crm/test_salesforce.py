"""The Salesforce client: signing in, retrying, reading to the end, never losing a row's outcome."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from onetouch.connections import Connection, ConnectionConfigError
from onetouch.crm import CrmError
from onetouch.crm.masking import masked
from onetouch.crm.protocol import (
    RELEASED,
    UNKNOWN,
    WITHDRAWN,
    FieldsMissing,
    LimitReached,
    Outcome,
    Refused,
    SignInRefused,
)
from onetouch.crm.salesforce import Salesforce
from onetouch.crm.salesforce import transport as salesforce_transport
from onetouch.crm.salesforce.bulk import _refused
from onetouch.crm.salesforce.fields import WANTED, problems
from onetouch.crm.salesforce.rows import refusal
from onetouch.handoff import AccountContext, TaskContent
from onetouch.sandbox.fields import make_id
from tenacity import wait_none

from tests.delivery.world import AS_OF, OTHER, OWNER

METADATA = Path(__file__).parents[2] / "include/salesforce/force-app/main/default/objects"
ACCOUNT = make_id("001", 1)


def client(world: Any, **settings: Any) -> Salesforce:
    extra = {"instance_url": world.org.url, "consumer_key": "sandbox-key", "consumer_secret": "sandbox-secret"}
    given = {"wait": wait_none(), "sleep": lambda _: None} | settings
    return Salesforce(Connection("salesforce_default", extra=extra), **given)


# ── the way there ────────────────────────────────────────────────────────────────────────────────


def test_signs_in_with_client_credentials_and_once_more_when_the_session_has_ended(world: Any) -> None:
    world.accounts(1)
    client = world.salesforce()
    assert len(list(client.read_accounts(world.policy))) == 1
    world.org.expire_sessions()
    assert len(list(client.read_accounts(world.policy))) == 1
    assert sum(c["n"] for c in world.org.calls() if c["api"] == "salesforce sign-in") == 2


def test_a_session_refused_right_after_signing_in_is_not_tried_forever(world: Any) -> None:
    body = [{"errorCode": "INVALID_SESSION_ID", "message": "Session expired or invalid"}]
    world.org.post("faults", [{"match": "/query", "status": 401, "body": body, "times": 99}])
    with pytest.raises(SignInRefused):
        list(world.salesforce().read_reps())
    assert sum(c["n"] for c in world.org.calls() if c["api"] == "salesforce sign-in") == 2


def test_a_wrong_secret_says_what_to_check_and_not_the_secret(world: Any) -> None:
    with pytest.raises(SignInRefused, match="consumer_key") as refused:
        list(world.salesforce(consumer_secret="hunter2-secret").read_reps())
    assert "hunter2" not in str(refused.value)


@pytest.fixture(scope="module")
def keys(running_org: Any) -> dict[str, str]:
    """The key pair of the app's certificate, and another that is not the app's."""
    pair = requests.get(f"{running_org.url}/_sandbox/certificate", timeout=10).json()
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pair | {"other": other.decode()}


def by_key(world: Any, private_key: str, login: str = "integration@sandbox.example", **settings: Any) -> Salesforce:
    """A client that signs in by JWT; the app's certificate is set anew, since every test begins with an empty org."""
    extra = {"instance_url": world.org.url, "consumer_key": "sandbox-key", "private_key": private_key}
    connection = Connection("salesforce_default", login=login, extra=extra)
    given = {"wait": wait_none(), "sleep": lambda _: None, "clock": AS_OF.timestamp} | settings
    return Salesforce(connection, **given)


def test_signs_in_with_a_signed_assertion(world: Any, keys: dict[str, str]) -> None:
    world.org.post("certificate", {"public_key": keys["public_key"]})
    client = by_key(world, keys["private_key"])
    assert len(list(client.read_reps())) == 3
    world.org.expire_sessions()
    assert len(list(client.read_reps())) == 3
    assert sum(c["n"] for c in world.org.calls() if c["api"] == "salesforce sign-in") == 2


@pytest.mark.parametrize(
    ("key", "settings"),
    [
        ("other", {}),
        ("private_key", {"login": "nobody@sandbox.example"}),
        ("private_key", {"clock": (AS_OF - timedelta(hours=1)).timestamp}),
    ],
    ids=["another key", "another user", "a clock an hour behind"],
)
def test_an_assertion_that_is_not_accepted_says_what_to_check(
    world: Any, keys: dict[str, str], key: str, settings: dict[str, Any]
) -> None:
    world.org.post("certificate", {"public_key": keys["public_key"]})
    with pytest.raises(SignInRefused, match=r"private_key .* certificate") as refused:
        list(by_key(world, keys[key], **settings).read_reps())
    assert "sandbox.example" not in str(refused.value)


def test_a_key_that_is_none_is_named_and_not_shown(world: Any) -> None:
    with pytest.raises(SignInRefused, match="private_key cannot be read") as refused:
        list(by_key(world, "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----").read_reps())
    assert "hunter2" not in str(refused.value)
    assert refused.value.__suppress_context__


@pytest.mark.parametrize("fault", [{"status": 503, "body": "busy"}, {"drop": "request"}, {"drop": "answer"}])
def test_passing_faults_are_waited_out(world: Any, fault: dict[str, Any]) -> None:
    world.org.post("faults", [{"match": "/query|oauth2", "times": 3} | fault])
    assert {r["email"] for r in world.salesforce().read_reps()} >= {"rita@rep.example", "otto@rep.example"}


def test_an_answer_is_not_waited_for_forever(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world.accounts(1)
    pauses: list[float] = []
    crm = client(world, sleep=pauses.append)
    crm.check_fields()
    monkeypatch.setattr(salesforce_transport, "_TIMEOUT", (5, 0.2))
    world.org.post("faults", [{"match": "composite/sobjects$", "method": "PATCH", "slow": 0.6}])
    (outcome,) = crm.update_accounts({ACCOUNT: AccountContext(tier="high")}).values()
    assert outcome.ok
    assert len(pauses) == 1  # given up, and tried again after a pause


def test_the_daily_limit_is_named_and_not_tried_again(world: Any) -> None:
    client = world.salesforce()
    list(client.read_reps())
    world.org.post("limits", {"api_daily": 1})
    with pytest.raises(LimitReached, match="next run"):
        list(client.read_reps())


def _loaded(world: Any, number: int) -> list[str]:
    ids = [make_id("001", n) for n in range(1, number + 1)]
    row = {"OwnerId": OWNER, "CreatedDate": AS_OF.isoformat()}
    world.org.post("load", {"Account": [row | {"Id": i, "Name": f"Company {i}"} for i in ids]})
    return ids


def _asked(world: Any) -> dict[str, int]:
    calls = ((call["path"].rpartition("v62.0/")[2], call["n"]) for call in world.org.calls())
    return {path: n for path, n in calls if path in ("query", "composite")}


def test_a_long_list_is_asked_for_in_few_calls(world: Any) -> None:
    ids = _loaded(world, 3_000)
    soql = "SELECT Id FROM Account WHERE Id IN {values}"
    found = [row["Id"] for row in world.salesforce()._transport.query_in(soql, [*ids, make_id("001", 9_999)])]
    assert sorted(found) == ids
    assert _asked(world) == {"composite": 1, "query": 1}  # six parts


def test_each_part_of_a_long_list_is_read_to_its_end(world: Any) -> None:
    ids = _loaded(world, 600)
    for start in range(0, 6_000, 3_000):
        rows = [
            {"Id": make_id("003", n), "LastName": "Doe", "AccountId": ids[n % 600], "OwnerId": OWNER}
            for n in range(start, start + 3_000)
        ]
        world.org.post("load", {"Contact": rows})
    soql = "SELECT Id FROM Contact WHERE AccountId IN {values}"
    found = [row["Id"] for row in world.salesforce()._transport.query_in(soql, ids)]
    assert sorted(found) == [make_id("003", n) for n in range(6_000)]
    assert _asked(world)["composite"] == 1


def test_a_refused_part_refuses_the_whole(world: Any) -> None:
    ids = _loaded(world, 1_200)
    with pytest.raises(Refused, match="INVALID_FIELD") as refused:
        list(world.salesforce()._transport.query_in("SELECT Nope FROM Account WHERE Id IN {values}", ids))
    assert (refused.value.code, refused.value.status) == ("INVALID_FIELD", 400)


def test_a_long_list_is_read_while_stopped(world: Any) -> None:
    ids = _loaded(world, 1_200)
    crm = client(world, stopped=lambda: "by an admin")
    assert len(list(crm._transport.query_in("SELECT Id FROM Account WHERE Id IN {values}", ids))) == 1_200


def test_reads_beyond_one_page(world: Any) -> None:
    world.accounts(*range(1, 4502))
    ids = {r["crm_account_id"] for r in world.salesforce().read_accounts(world.policy)}
    assert len(ids) == 4501


def test_long_lists_are_asked_in_parts_and_quoted(world: Any) -> None:
    client = world.salesforce()
    keys = [f"{n:06d}{'x' * 50}" for n in range(900)]
    made = client.create_tasks({key: TaskContent(subject="s") for key in keys[:600]})
    assert len(client.tasks_of(keys)) == 600 == len(made)
    assert client.tasks_of([]) == {}
    world.rep_writes("Task", None, Subject="s", Onetouch_Handoff_Id__c="it's")
    assert set(client.tasks_of(["it's", "x') OR (Id != '", "\\", "a\nb"])) == {"it's"}


def test_rows_locked_by_another_are_tried_again_and_only_they(world: Any) -> None:
    world.accounts(1, 2, 3)
    locked = {"statusCode": "UNABLE_TO_LOCK_ROW", "message": "unable to obtain exclusive access"}
    world.org.post("faults", [{"match": "composite/sobjects$", "row_error": locked, "rows": [1], "times": 2}])
    rows = {make_id("001", n): AccountContext(tier="high") for n in (1, 2, 3)}
    outcomes = world.salesforce().update_accounts(rows)
    assert [fault["times"] for fault in world.org.faults()] == [1]  # the second request had no row of that index
    assert [o.ok for o in outcomes.values()] == [True, True, True]
    assert {world.org.account(i)["Onetouch_Tier__c"] for i in rows} == {"high"}


def test_rows_that_stay_locked_are_reported_as_retryable(world: Any) -> None:
    world.accounts(1)
    locked = {"statusCode": "UNABLE_TO_LOCK_ROW", "message": "unable to obtain exclusive access"}
    world.org.post("faults", [{"match": "composite/sobjects$", "row_error": locked, "times": 99}])
    (outcome,) = world.salesforce().update_accounts({make_id("001", 1): AccountContext(tier="high")}).values()
    assert (outcome.ok, outcome.code, outcome.retryable) == (False, "UNABLE_TO_LOCK_ROW", True)


def test_missing_fields_are_named_before_anything_is_written(world: Any) -> None:
    world.accounts(1)
    fields = [{"name": "Id", "updateable": False}]
    for thing in ("Account", "Task"):
        world.org.post("faults", [{"match": f"{thing}/describe", "status": 200, "body": {"fields": fields}}])
    with pytest.raises(FieldsMissing, match=r"Account\.Onetouch_Score__c is missing.*include/salesforce"):
        world.salesforce().update_accounts({make_id("001", 1): AccountContext(tier="high")})
    assert world.org.account(make_id("001", 1))["Onetouch_Tier__c"] is None


def test_a_bug_is_refused_with_its_code_and_not_retried(world: Any) -> None:
    pauses: list[float] = []
    crm = client(world, sleep=pauses.append)
    body = [{"errorCode": "MALFORMED_QUERY", "message": "unexpected token: 'FORM'"}]
    world.org.post("faults", [{"match": "/query", "status": 400, "body": body}])
    with pytest.raises(Refused, match="400 MALFORMED_QUERY"):
        list(crm.read_reps())
    assert pauses == []


def test_a_field_the_policy_reads_and_the_org_lacks_is_named(world: Any) -> None:
    fields = {"plan": "Nonsense__c", "region": "Owner.Name", "industry": "Boss.Name"}
    policy = world.policy.model_copy(update={"crm": world.policy.crm.model_copy(update={"account_fields": fields})})
    with pytest.raises(
        FieldsMissing, match=r"Account\.Nonsense__c is missing; Account\.Boss\.Name is missing\. Deploy"
    ):
        list(world.salesforce().read_accounts(policy))


def test_an_org_without_our_task_fields_is_told_so_when_it_is_read(world: Any) -> None:
    world.org.post("faults", [{"match": "Task/describe", "status": 200, "body": {"fields": [{"name": "Id"}]}}])
    with pytest.raises(FieldsMissing, match=r"Task\.Onetouch_Handoff_Id__c is missing; .* include/salesforce"):
        list(world.salesforce().read_activities(AS_OF))


def test_one_request_too_many_at_once_is_waited_out_not_taken_for_the_end_of_the_day(world: Any) -> None:
    body = [{"errorCode": "REQUEST_LIMIT_EXCEEDED", "message": "ConcurrentPerOrgLongTxn Limit exceeded."}]
    world.org.post("faults", [{"match": "/query", "status": 403, "body": body, "times": 2}])
    assert len(list(world.salesforce().read_reps())) == 3


def test_the_last_call_of_the_day_is_not_gone_over(world: Any) -> None:
    world.org.post("limits", {"api_daily": 3})
    crm = client(world)
    for _ in range(3):
        list(crm.read_reps())
    with pytest.raises(LimitReached, match="next run"):
        list(crm.read_reps())
    assert {c["status"] for c in world.org.calls() if c["api"] == "salesforce"} == {200}


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"instance_url": "http://acme.my.salesforce.com", "consumer_key": "k", "consumer_secret": "s"},
        {"instance_url": "https://acme.my.salesforce.com", "consumer_key": "k"},
        {"domain": "login", "consumer_key": "k", "consumer_secret": "s"},
    ],
)
def test_connections_that_cannot_work_are_refused_at_once(extra: dict[str, Any]) -> None:
    with pytest.raises((ConnectionConfigError, CrmError)):
        Salesforce(Connection("salesforce_default", extra=extra))


# ── reading ──────────────────────────────────────────────────────────────────────────────────────


def test_accounts_come_with_the_policys_columns_and_say_what_was_merged_into_what(world: Any) -> None:
    world.accounts(1, 2, 3, Plan__c="team", Onetouch_Account_Id__c=None)
    db = world.org.sql(
        "UPDATE Account SET IsDeleted = 1, MasterRecordId = ? WHERE Id = ?", make_id("001", 1), make_id("001", 2)
    )
    assert db == 1
    rows = {r["crm_account_id"]: r for r in world.salesforce().read_accounts(world.policy)}
    assert set(rows) == {make_id("001", 1), make_id("001", 3)}
    first = rows[ACCOUNT]
    known = {"crm_account_id", "owner_id", "account_id", "created_at", "is_deleted", "merged_into"}
    assert set(first) == known | {column for column, field in world.policy.crm.account_fields.items() if field}
    assert (first["name"], first["plan"], first["owner_id"]) == ("Company 1", "team", OWNER)
    assert (first["created_at"], first["is_deleted"]) == (AS_OF - timedelta(days=90), False)
    since = world.salesforce().read_accounts(world.policy, datetime(2020, 1, 1, tzinfo=UTC))
    gone = {r["crm_account_id"]: (r["is_deleted"], r["merged_into"]) for r in since}
    assert gone[make_id("001", 2)] == (True, ACCOUNT)


def test_what_is_gone_names_the_account_that_is_left(world: Any) -> None:
    world.accounts(1, 2, 3, 4)
    for loser, master in ((2, 3), (3, 1)):
        world.org.sql(
            "UPDATE Account SET IsDeleted = 1, MasterRecordId = ? WHERE Id = ?",
            make_id("001", master),
            make_id("001", loser),
        )
    world.rep_writes("Account", make_id("001", 4))
    gone = world.salesforce().gone_since(datetime(2020, 1, 1, tzinfo=UTC))
    assert gone == {make_id("001", 2): ACCOUNT, make_id("001", 3): ACCOUNT, make_id("001", 4): None}
    assert world.salesforce().gone_since(AS_OF + timedelta(days=1)) == {}


def test_open_opportunities_changed_since(world: Any) -> None:
    world.accounts(1, 2)
    for number, stage in ((1, "Prospecting"), (2, "Closed Lost")):
        world.rep_writes("Opportunity", None, AccountId=make_id("001", number), Name="Deal", StageName=stage,
                         CloseDate="2025-12-31", Amount=10)  # fmt: skip
    crm = world.salesforce()
    closed = make_id("001", 2)
    assert crm.opportunities_since(AS_OF) == {ACCOUNT, closed}  # opened since, though it is closed again
    world.org.clock(later := AS_OF + timedelta(minutes=1))
    assert crm.opportunities_since(later) == set()
    assert crm.opportunities_since(later, {ACCOUNT, closed, make_id("00Q", 1)}) == {ACCOUNT}
    world.rep_writes("Opportunity", list(crm.read_opportunities())[1]["opportunity_id"], Amount=11)
    assert crm.opportunities_since(later) == set()  # closed long ago, and edited
    world.org.clock(AS_OF)
    deals = {d["crm_account_id"]: d for d in crm.read_opportunities()}
    assert (deals[ACCOUNT]["is_closed"], deals[ACCOUNT]["closed_at"], deals[ACCOUNT]["amount"]) == (False, None, 10)
    assert deals[make_id("001", 2)]["closed_at"] == datetime(2025, 12, 31, tzinfo=UTC)


def test_every_kind_of_activity_tells_when_it_took_place(world: Any) -> None:
    world.accounts(1)
    for fields in (
        {"Subject": "open"},
        {"Subject": "call", "TaskSubtype": "Call", "Status": "Completed"},
        {"Subject": "mail", "TaskSubtype": "Email", "Status": "Completed", "OwnerId": OTHER},
        {"Subject": "typed", "Type": "Call", "Status": "Completed"},
    ):
        world.rep_writes("Task", None, WhatId=ACCOUNT, **fields)
    world.rep_writes(
        "Event", None, Subject="demo", WhatId=ACCOUNT, ActivityDateTime="2025-11-17T15:00:00Z", DurationInMinutes=45
    )
    found = {a.subject: a for a in world.salesforce().read_activities(AS_OF)}
    assert {s: (a.kind, a.is_done, a.done_at) for s, a in found.items()} == {
        "open": ("task", False, None),
        "call": ("call", True, AS_OF),
        "mail": ("email", True, AS_OF),
        "typed": ("call", True, AS_OF),
        "demo": ("meeting", True, datetime(2025, 11, 17, 15, 45, tzinfo=UTC)),
    }
    assert {a.crm_account_id for a in found.values()} == {ACCOUNT}
    assert found["mail"].owner_id == OTHER


def test_a_meeting_comes_again_once_it_has_taken_place(world: Any) -> None:
    world.accounts(1)
    world.rep_writes(
        "Event", None, Subject="demo", WhatId=ACCOUNT, ActivityDateTime="2025-11-20T15:00:00Z", DurationInMinutes=30
    )
    later = AS_OF + timedelta(days=2)
    assert [a.done_at for a in world.salesforce().read_activities(later)] == [
        datetime(2025, 11, 20, 15, 30, tzinfo=UTC)
    ]
    assert list(world.salesforce().read_activities(later + timedelta(days=1))) == []


def test_those_invited_to_a_meeting_make_it_no_second_one(world: Any) -> None:
    world.accounts(1)
    same = {"Subject": "demo", "WhatId": ACCOUNT, "ActivityDateTime": "2025-11-17T15:00:00Z", "DurationInMinutes": 30}
    events = [{"Id": make_id("00U", n), "IsChild": n > 1} | same for n in (1, 2, 3)]
    world.org.post("load", {"Event": events})
    assert [a.activity_id for a in world.salesforce().read_activities(AS_OF - timedelta(days=9))] == [make_id("00U", 1)]


def test_an_org_without_meetings_is_read_without_them(world: Any) -> None:
    world.accounts(1)
    world.rep_writes("Task", None, Subject="open", WhatId=ACCOUNT)
    body = [{"errorCode": "NOT_FOUND", "message": "The requested resource does not exist"}]
    world.org.post("faults", [{"match": "Event/describe", "status": 404, "body": body}])
    assert [a.subject for a in world.salesforce().read_activities(AS_OF)] == ["open"]


def test_contacts_are_found_whatever_the_case_of_their_address(world: Any) -> None:
    first = world.rep_writes("Contact", None, LastName="Doe", Email="Jane@Acme.example")
    world.rep_writes("Contact", None, LastName="Doe", Email="jane@acme.example")
    found = world.salesforce().contacts(["JANE@acme.example", "nobody@acme.example", "o'neil@acme.example"])
    assert found == {("", "jane@acme.example"): first}
    assert world.salesforce().contacts([]) == {}


def test_the_fields_of_contacts_are_asked_for_only_where_contacts_are_made(world: Any) -> None:
    there = world.salesforce()._transport.fields("Contact")
    body = {"fields": [field for name, field in there.items() if name != "Onetouch_Contact_Key__c"]}
    world.org.post("faults", [{"match": "Contact/describe", "status": 200, "body": body, "times": 9}])
    world.salesforce().check_fields()
    crm = world.salesforce()
    crm._makes_contacts = True
    with pytest.raises(FieldsMissing, match=r"Contact.Onetouch_Contact_Key__c is missing.*Onetouch_Contacts"):
        crm.check_fields()


# ── tasks ────────────────────────────────────────────────────────────────────────────────────────


def test_a_deleted_task_stands_for_its_handoff_only_when_there_is_no_other(world: Any) -> None:
    crm = world.salesforce()
    first, second, third = [crm.create_tasks({f"h{n}": TaskContent(subject="s")})[f"h{n}"].id for n in (1, 2, 3)]
    world.org.sql("UPDATE Task SET IsDeleted = 1 WHERE Id IN (?, ?)", first, third)
    world.org.sql("UPDATE Task SET Onetouch_Handoff_Id__c = 'h'")
    assert crm.tasks_of(["h"])["h"].activity_id == second


def test_a_task_of_a_lead_names_it_as_its_person(world: Any) -> None:
    lead = world.rep_writes("Lead", None, LastName="Doe", Company="Acme")
    made = world.salesforce().create_tasks({"h1": TaskContent(subject="s", crm_account_id=lead)})["h1"]
    assert made.ok
    (task,) = world.org.tasks()
    assert (task["WhatId"], task["WhoId"]) == (None, lead)
    (activity,) = world.salesforce().tasks_of(["h1"]).values()
    assert activity.crm_account_id == lead


def test_a_contact_that_is_gone_is_no_reason_to_go_without_the_task(world: Any) -> None:
    world.accounts(1, 2)
    contact = world.rep_writes("Contact", None, LastName="Doe", Email="jane@acme.example", AccountId=ACCOUNT)
    world.rep_writes("Contact", contact)
    world.rep_writes("Account", make_id("001", 2))
    rows = {f"h{n}": TaskContent(subject="s", crm_account_id=make_id("001", n), contact_id=contact) for n in (1, 2)}
    outcomes = world.salesforce().create_tasks(rows)
    assert outcomes["h1"].ok
    assert (outcomes["h2"].ok, outcomes["h2"].code, outcomes["h2"].deleted) == (False, "ENTITY_IS_DELETED", True)
    assert [t["WhoId"] for t in world.org.tasks()] == [None]


def test_the_end_of_the_days_calls_before_the_second_try_loses_no_outcome(world: Any) -> None:
    world.accounts(1, 2)
    contact = world.rep_writes("Contact", None, LastName="Doe", Email="jane@acme.example", AccountId=ACCOUNT)
    world.rep_writes("Contact", contact)
    fault = {
        "match": "composite/sobjects$",
        "method": "POST",
        "error": "REQUEST_LIMIT_EXCEEDED",
        "after": 1,
        "times": 9,
    }
    world.org.post("faults", [fault])
    rows = {
        "h1": TaskContent(subject="s", crm_account_id=ACCOUNT, contact_id=contact),
        "h2": TaskContent(subject="s", crm_account_id=ACCOUNT),
    }
    outcomes = world.salesforce().create_tasks(rows)
    assert outcomes["h2"].ok
    assert (outcomes["h1"].code, outcomes["h1"].retryable) == ("REQUEST_LIMIT_EXCEEDED", True)


def test_a_twin_nobody_can_look_up_now_is_looked_up_by_the_next_run(world: Any) -> None:
    crm = world.salesforce()
    made = crm.create_tasks({"h1": TaskContent(subject="s")})["h1"]
    world.org.post("faults", [{"match": "queryAll", "error": "SERVER_UNAVAILABLE", "times": 5}])
    unsure = crm.create_tasks({"h1": TaskContent(subject="s")})["h1"]
    assert (unsure.ok, unsure.code, unsure.retryable) == (False, UNKNOWN, True)
    assert crm.create_tasks({"h1": TaskContent(subject="s")}, unsure=["h1"])["h1"].id == made.id


def test_a_lock_a_trigger_ran_into_is_a_lock(world: Any) -> None:
    message = "TaskTrigger: execution of AfterInsert caused by: UNABLE_TO_LOCK_ROW, unable to obtain exclusive access"
    error = {"statusCode": "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", "message": message}
    world.org.post("faults", [{"match": "composite/sobjects$", "method": "POST", "row_error": error, "times": 2}])
    assert world.salesforce().create_tasks({"h1": TaskContent(subject="s")})["h1"].ok


def test_a_task_that_was_completed_and_deleted_is_over(world: Any) -> None:
    crm = world.salesforce()
    made = crm.create_tasks({"h1": TaskContent(subject="s")})["h1"]
    world.rep_writes("Task", made.id, Status="Completed")
    world.rep_writes("Task", made.id)
    assert crm.close_tasks({"h1": (RELEASED, "silent")}) == {"h1": Outcome(ok=True)}
    (task,) = world.org.tasks()
    assert (task["IsDeleted"], task["Description"]) == (True, None)


def test_a_release_is_noted_on_the_task_the_rep_closed(world: Any) -> None:
    crm = world.salesforce()
    made = crm.create_tasks({"h1": TaskContent(subject="s", description="d"), "h2": TaskContent(subject="t")})
    world.rep_writes("Task", made["h1"].id, Status="Completed")
    outcomes = crm.close_tasks({"h1": (RELEASED, "silent"), "h2": (RELEASED, "silent"), "h3": (RELEASED, "silent")})
    assert [(o.ok, o.by_rep) for o in outcomes.values()] == [(True, True), (True, False), (True, False)]
    tasks = {t["Onetouch_Handoff_Id__c"]: t for t in world.org.tasks()}
    assert (tasks["h1"]["Subject"], tasks["h1"]["Description"]) == ("s", "Released: silent\n\nd")
    assert (tasks["h2"]["Subject"], tasks["h2"]["Status"]) == ("[Released] t", "Completed")


@pytest.mark.parametrize("name", ["d" * 31_990, "line\n" * 5_330, "🚀" * 15_999])
def test_a_description_as_long_as_may_be_does_not_keep_a_task_open(world: Any, name: str) -> None:
    crm = world.salesforce()
    crm.create_tasks({"h1": TaskContent(subject="s", description=name)})
    assert crm.close_tasks({"h1": (WITHDRAWN, "an opportunity was opened")})["h1"].ok
    (task,) = world.org.tasks()
    assert (task["Status"], task["Subject"], task["Description"]) == ("Completed", "[Withdrawn] s", name)


@pytest.mark.parametrize("subject", ["🚀" * 127, "x" + "🚀" * 127, "x" * 255])
def test_a_subject_is_cut_as_salesforce_counts(world: Any, subject: str) -> None:
    crm = world.salesforce()
    crm.create_tasks({"h1": TaskContent(subject=subject)})
    assert crm.close_tasks({"h1": (WITHDRAWN, "why")})["h1"].ok
    (task,) = world.org.tasks()
    assert f"[Withdrawn] {subject}".startswith(task["Subject"])
    assert 254 <= len(task["Subject"].encode("utf-16-le")) // 2 <= 255


@pytest.mark.parametrize(
    ("refusals", "written"),
    [(1, ("Completed", "[Withdrawn] s", "d")), (2, ("Completed", "s", "d")), (3, ("Not Started", "s", "d"))],
)
def test_a_closing_the_org_refuses_is_tried_with_less(world: Any, refusals: int, written: tuple[str, ...]) -> None:
    crm = world.salesforce()
    crm.create_tasks({"h1": TaskContent(subject="s", description="d")})
    error = {"statusCode": "FIELD_CUSTOM_VALIDATION_EXCEPTION", "message": "No."}
    world.org.post("faults", [{"match": "sobjects$", "method": "PATCH", "row_error": error, "times": refusals}])
    outcome = crm.close_tasks({"h1": (WITHDRAWN, "why")})["h1"]
    (task,) = world.org.tasks()
    assert (task["Status"], task["Subject"], task["Description"]) == written
    assert (outcome.ok, outcome.code) == ((True, "") if refusals < 3 else (False, "FIELD_CUSTOM_VALIDATION_EXCEPTION"))


def completed_meanwhile(monkeypatch: pytest.MonkeyPatch, world: Any, task_id: str | None) -> None:
    """The rep completes the task directly after the first request that closes tasks."""
    once = salesforce_transport.Transport.once
    done: list[str] = []

    def and_the_rep(self: Any, method: str, path: str, **given: Any) -> Any:
        answer = once(self, method, path, **given)
        if method == "PATCH" and not done:
            done.append(path)
            world.rep_writes("Task", task_id, Status="Completed", Subject="Called her", Description="Wants a demo")
        return answer

    monkeypatch.setattr(salesforce_transport.Transport, "once", and_the_rep)


def test_what_a_rep_completes_while_others_are_closed_is_left_alone(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    crm = client(world, bulk_above=50)
    made = crm.create_tasks({f"h{n:03}": TaskContent(subject="s") for n in range(201)})
    completed_meanwhile(monkeypatch, world, made["h200"].id)
    outcomes = crm.close_tasks({handoff_id: (WITHDRAWN, "why") for handoff_id in made})
    assert {h for h, o in outcomes.items() if o.by_rep} == {"h200"}
    assert all(o.ok for o in outcomes.values())
    tasks = {t["Onetouch_Handoff_Id__c"]: t for t in world.org.tasks()}
    assert (tasks["h200"]["Subject"], tasks["h200"]["Description"]) == ("Called her", "Wants a demo")
    assert {tasks[h]["Subject"] for h in tasks if h != "h200"} == {"[Withdrawn] s"}


def test_a_task_a_rep_was_writing_is_read_again_before_it_is_closed(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    crm = world.salesforce()
    made = crm.create_tasks({"h1": TaskContent(subject="s")})
    world.org.post("faults", [{"match": "sobjects$", "method": "PATCH", "row_error": "UNABLE_TO_LOCK_ROW"}])
    completed_meanwhile(monkeypatch, world, made["h1"].id)
    assert crm.close_tasks({"h1": (WITHDRAWN, "why")}) == {"h1": Outcome(ok=True, id=made["h1"].id, by_rep=True)}
    (task,) = world.org.tasks()
    assert (task["Subject"], task["Description"]) == ("Called her", "Wants a demo")


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("Last Name: data value too large: Jane Doe (max length=80)", "Last Name: data value too large: …"),
        ("Role: bad value for restricted picklist field: Jane Doe", "Role: bad value for restricted picklist field: …"),
        ("Email: invalid email address: Jane Doe(at)acme", "Email: invalid email address: …"),
        (
            "Cannot deserialize date from VALUE_STRING value Jane Doe",
            "Cannot deserialize date from VALUE_STRING value …",
        ),
        (
            "duplicate value found: X__c duplicates value on record with id: Jane",
            "duplicate value found: X__c duplicates",
        ),
        ("Can't assign value 'Jane Doe'", "Can't assign value '…'"),
        ("Can't assign value 'Jane Doe", "…"),
        ("the reps' value 'Jane Doe' is taken", "…"),
        ("value “Jane 'JD' Doe” is taken", "value '…' is taken"),
        ("Required fields are missing: [Reason__c]", "Required fields are missing: [Reason__c]"),
    ],
)
@pytest.mark.parametrize("bulk", [False, True])
def test_a_refused_row_names_code_and_fields_and_no_value(message: str, told: str, bulk: bool) -> None:
    outcome = _refused(f"CODE:{message}:Title --") if bulk else refusal("CODE", message, ["Title"])
    assert outcome.code == "CODE" and outcome.message.startswith(told) and outcome.message.endswith(" (Title)")
    assert "Jane" not in outcome.message and "Doe" not in outcome.message
    assert masked(masked(message)) == masked(message)
    assert "Doe" not in _refused(f"CODE:{message}").reason


@pytest.mark.parametrize("code", ["FIELD_CUSTOM_VALIDATION_EXCEPTION", "CANNOT_EXECUTE_FLOW_TRIGGER"])
@pytest.mark.parametrize(
    ("message", "field", "told"),
    [
        ("Jane Roe +49 170 1234567 is on the do-not-call list", "", "… … … is on the do-not-call list"),
        ("Please fill in Region before creating tasks", "Region__c", "Please fill in Region before creating tasks"),
        ("You can't call Anne-Marie O’Roe (030/123-45 67).", "Phone", "You can't call …-… …’… (…)."),
        ("Don ÅSA 王小明 D'Arcy asked on 2025-11-18 for 3 days", "", "… … … …'… asked on … for 3 days"),
        ("The account's owner is McRoe", "OwnerId", "The account's owner is …"),
        ("Set Lead Source, then ask Jane", "LeadSource", "Set Lead Source, then ask …"),
        (
            "TaskTrigger: execution of BeforeInsert caused by: System.DmlException: FIELD_CUSTOM_VALIDATION_EXCEPTION",
            "Reason__c",
            "TaskTrigger: execution of BeforeInsert caused by: System.DmlException: FIELD_CUSTOM_VALIDATION_EXCEPTION",
        ),
    ],
)
@pytest.mark.parametrize("bulk", [False, True])
def test_what_an_admin_wrote_is_told_without_names_and_numbers(
    code: str, message: str, field: str, told: str, bulk: bool
) -> None:
    fields = [field] if field else []
    outcome = _refused(f"{code}:{message}:{field} --") if bulk else refusal(code, message, fields)
    assert outcome.message == (f"{told} ({field})" if field else told)


def test_what_an_admin_wrote_is_told_without_names_where_a_request_is_refused_as_a_whole(world: Any) -> None:
    body = [{"errorCode": "APEX_ERROR", "message": "Jane Roe is on the list"}]
    world.org.post("faults", [{"match": "sobjects$", "method": "POST", "status": 400, "body": body, "times": 9}])
    outcomes = world.salesforce().create_tasks({"h1": TaskContent(subject="s"), "h2": TaskContent(subject="s")})
    assert {outcome.code for outcome in outcomes.values()} == {"APEX_ERROR"}
    assert all(outcome.message.endswith("… … is on the list") for outcome in outcomes.values())


def test_tasks_are_made_in_the_order_of_their_accounts(world: Any) -> None:
    world.accounts(1, 2, 3)
    world.salesforce().create_tasks(
        {f"h{9 - n}": TaskContent(subject="s", crm_account_id=make_id("001", n)) for n in (3, 1, 2)}
    )
    assert [task["WhatId"] for task in world.org.tasks()] == [make_id("001", n) for n in (1, 2, 3)]


@pytest.mark.parametrize("body", ["[]", "[1, 2]", '{"x": 1}', "[{", "<html>", '[{"success": true, "id": "1"}]'])
def test_an_answer_nobody_can_read_is_none(world: Any, body: str) -> None:
    fault = {"match": "composite/sobjects$", "method": "POST", "status": 200, "body": body, "times": 9}
    world.org.post("faults", [fault])
    outcomes = world.salesforce().create_tasks({"h1": TaskContent(subject="s"), "h2": TaskContent(subject="s")})
    assert {(o.ok, o.code, o.retryable) for o in outcomes.values()} == {(False, UNKNOWN, True)}


@pytest.mark.parametrize("body", ["[]", "{}", '{"records": []}', "<html>"])
def test_a_page_nobody_can_read_is_asked_for_again(world: Any, body: str) -> None:
    world.org.post("faults", [{"match": "/query", "status": 200, "body": body, "times": 2}])
    assert len(list(world.salesforce().read_reps())) == 3


def test_one_row_that_cannot_be_read_does_not_hold_up_the_others(world: Any) -> None:
    world.accounts(1)
    rows = {f"h{n}": TaskContent(subject="s", crm_account_id=ACCOUNT) for n in range(1, 9)}
    body = [{"errorCode": "JSON_PARSER_ERROR", "message": "Cannot deserialize instance of date"}]
    # Refused as a whole as long as the bad row is among them: eight, then the half, the quarter, the one it is in.
    fault = {"match": "composite/sobjects$", "method": "POST", "status": 400, "body": body}
    world.org.post("faults", [fault | {"times": 4}])
    outcomes = world.salesforce().create_tasks(rows)
    refused = [outcome for outcome in outcomes.values() if not outcome.ok]
    assert [(o.code, o.retryable) for o in refused] == [("JSON_PARSER_ERROR", False)]
    assert len(world.org.tasks()) == 7


# ── accounts ─────────────────────────────────────────────────────────────────────────────────────


def row(name: str, domain: str | None = None) -> dict[str, Any]:
    return {"name": name, "domain": domain, "owner_id": OWNER}


def test_an_account_is_found_by_our_id_then_by_its_domain_else_made_once(world: Any) -> None:
    world.accounts(1, Onetouch_Account_Id__c="org-1")
    world.accounts(2, Website="http://www.Two.example/en")
    rows = {"org-1": row("One"), "org-2": row("Two", "two.example"), "org-3": row("Three", "three.example")}
    first = world.salesforce().ensure_accounts(rows, "account")
    assert (first["org-1"].id, first["org-2"].id) == (ACCOUNT, make_id("001", 2))
    assert world.org.account(make_id("001", 2))["Onetouch_Account_Id__c"] == "org-2"
    made = world.org.account(first["org-3"].id)
    assert (made["Name"], made["Website"], made["OwnerId"]) == ("Three", "three.example", OWNER)
    assert world.salesforce().ensure_accounts(rows, "account") == first
    assert world.org.state()["accounts"] == 3


def test_a_domain_within_another_is_not_the_same(world: Any) -> None:
    world.accounts(1, Website="https://notacme.example")
    world.accounts(2, Website="https://shop.acme.example")
    outcomes = world.salesforce().ensure_accounts({"org-1": row("Acme", "acme.example")}, "account")
    assert outcomes["org-1"].id == make_id("001", 2)


def test_a_lead_of_the_domain_is_the_record_unless_an_account_is(world: Any) -> None:
    lead = world.rep_writes("Lead", None, LastName="Doe", Company="Acme", Website="www.acme.example")
    rows = {"org-1": row("Acme", "acme.example")}
    assert world.salesforce().ensure_accounts(rows, "account") == {"org-1": Outcome(ok=True, id=lead)}
    assert world.salesforce().ensure_accounts(rows, "lead") == {"org-1": Outcome(ok=True, id=lead)}
    world.rep_writes("Lead", None, LastName="Roe", Company="Two", Website="two.example")
    world.accounts(2, Website="two.example")
    outcomes = world.salesforce().ensure_accounts({"org-2": row("Two", "two.example")}, "lead")
    assert outcomes["org-2"].id == make_id("001", 2)


def test_a_domain_is_text_not_a_pattern(world: Any) -> None:
    world.accounts(1, Website="acme.example")
    rows = {
        f"org-{n}": row("Acme", domain) for n, domain in enumerate(["a%e.example", "acm_.example", "x') OR (Id != '"])
    }
    outcomes = world.salesforce().ensure_accounts(rows, "account")
    assert ACCOUNT not in {outcome.id for outcome in outcomes.values()}


def test_a_deleted_account_is_not_made_again_and_a_merged_one_is_the_other(world: Any) -> None:
    world.accounts(1)
    world.accounts(2, Onetouch_Account_Id__c="org-2")
    world.accounts(3, Onetouch_Account_Id__c="org-3")
    world.org.sql("UPDATE Account SET IsDeleted = 1, MasterRecordId = ? WHERE Id = ?", ACCOUNT, make_id("001", 2))
    world.rep_writes("Account", make_id("001", 3))
    outcomes = world.salesforce().ensure_accounts({"org-2": row("Two"), "org-3": row("Three")}, "account")
    assert outcomes["org-2"] == Outcome(ok=True, id=ACCOUNT)
    assert (outcomes["org-3"].ok, outcomes["org-3"].deleted, outcomes["org-3"].retryable) == (False, True, False)
    assert world.org.state()["accounts"] == 1


@pytest.mark.parametrize("drop", ["request", "answer"])
@pytest.mark.parametrize("kind", ["account", "lead"])
def test_an_account_is_made_once_whatever_is_lost(world: Any, kind: str, drop: str) -> None:
    world.org.post("faults", [{"match": "composite/sobjects$", "method": "POST", "drop": drop, "times": 2}])
    rows = {"org-1": row("One", "one.example"), "org-2": row("Two")}
    outcomes = world.salesforce().ensure_accounts(rows, kind)
    assert {o.id[:3] for o in outcomes.values()} == {"00Q" if kind == "lead" else "001"}
    again = world.salesforce().ensure_accounts(rows, kind)
    assert again == outcomes
    written = world.salesforce().update_accounts({o.id: AccountContext(tier="high") for o in outcomes.values()})
    assert all(outcome.ok for outcome in written.values())


def test_a_lead_that_was_converted_is_the_account_it_became(world: Any) -> None:
    crm = world.salesforce()
    lead = crm.ensure_accounts({"org-1": row("One", "one.example")}, "lead")["org-1"].id
    made = crm.create_tasks({"h1": TaskContent(subject="s", crm_account_id=lead)})["h1"]
    world.org.post("convert", {"lead": lead})
    (account,) = [r["crm_account_id"] for r in crm.read_accounts(world.policy)]
    assert crm.gone_since(AS_OF) == {lead: account}
    assert crm.ensure_accounts({"org-1": row("One", "one.example")}, "lead")["org-1"].id == account
    (refused,) = crm.update_accounts({lead: AccountContext(tier="high")}).values()
    assert (refused.ok, refused.retryable) == (False, True)
    assert crm.tasks_of(["h1"])["h1"].activity_id == made.id


def test_an_account_that_is_gone_for_good_is_gone(world: Any) -> None:
    world.accounts(1)
    world.rep_writes("Account", ACCOUNT)
    world.org.post("purge", {})
    (outcome,) = world.salesforce().update_accounts({ACCOUNT: AccountContext(tier="high")}).values()
    assert (outcome.ok, outcome.deleted, outcome.retryable) == (False, True, False)


def test_accounts_merged_by_people_are_followed(world: Any) -> None:
    world.accounts(1, Onetouch_Account_Id__c="org-1")
    world.accounts(2, Onetouch_Account_Id__c="org-2")
    crm = world.salesforce()
    crm.create_tasks({"h2": TaskContent(subject="s", crm_account_id=make_id("001", 2))})
    world.org.post("merge", {"winner": ACCOUNT, "losers": [make_id("001", 2)]})
    assert crm.gone_since(AS_OF) == {make_id("001", 2): ACCOUNT}
    assert crm.ensure_accounts({"org-2": row("Two")}, "account")["org-2"].id == ACCOUNT
    assert crm.tasks_of(["h2"])["h2"].crm_account_id == ACCOUNT


# ── our fields ───────────────────────────────────────────────────────────────────────────────────


def test_what_is_wanted_is_what_is_deployed() -> None:
    kinds = {"Text": "text", "LongTextArea": "text", "Picklist": "pick", "Number": "number", "Percent": "number",
             "Checkbox": "yes or no", "DateTime": "moment"}  # fmt: skip
    for folder, thing in (("Account", "Account"), ("Lead", "Lead"), ("Activity", "Task")):
        deployed = {}
        for file in (METADATA / folder / "fields").glob("*.xml"):
            field = {re.sub("{.*}", "", e.tag): e.text or "" for e in ElementTree.parse(file).getroot().iter()}
            values = tuple(e.text for e in ElementTree.parse(file).getroot().iter() if e.tag.endswith("}fullName"))
            deployed[field["fullName"] if len(values) == 1 else values[0]] = field | {"values": values[1:]}
        wanted = {name: field for name, field in WANTED[thing].items() if name.startswith("Onetouch")}
        assert set(wanted) == set(deployed)
        for name, field in wanted.items():
            there = deployed[name]
            assert kinds[there["type"]] == field.kind, name
            assert field.key == (there.get("unique") == there.get("externalId") == "true"), name
            assert set(field.values) <= set(there["values"]), name
            held = int(there.get("length") or int(there.get("precision", 0)) - int(there.get("scale", 0)))
            assert held >= field.size, name


def test_the_org_of_the_stand_in_has_them_all(world: Any) -> None:
    crm = client(world, account_fields=world.policy.crm.account_fields)
    crm.check_fields()
    assert world.salesforce().ensure_accounts({}, "lead") == {}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"type": "string", "length": 255, "name": "Onetouch_Score__c"}, "Account.Onetouch_Score__c is of type string"),
        ({"name": "Onetouch_Usage_28d__c", "type": "double", "precision": 9, "scale": 0}, "fewer than 12 digits"),
        ({"name": "Onetouch_Dossier__c", "type": "textarea", "length": 255}, "holds 255 characters, not 32000"),
        ({"name": "Onetouch_Tier__c", "updateable": False}, "Onetouch_Tier__c may not be written"),
        ({"name": "Onetouch_Account_Id__c", "externalId": True, "unique": False}, "is no unique external id"),
    ],
)
def test_a_field_that_is_not_as_it_must_be_is_named(changed: dict[str, Any], said: str) -> None:
    org = {name: {"name": name} for name in WANTED["Account"]}
    assert list(problems("Account", org)) == []
    org[changed["name"]] = changed
    (found,) = problems("Account", org)
    assert re.search(said, found)


def test_a_picklist_must_offer_what_we_set() -> None:
    org = {name: {"name": name} for name in WANTED["Task"]}
    org["Status"] = {
        "name": "Status",
        "type": "picklist",
        "picklistValues": [{"value": "Open"}, {"value": "Completed"}],
    }
    assert list(problems("Task", org)) == ["Task.Status lacks the value Not Started"]
