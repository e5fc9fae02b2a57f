"""The Salesforce client: signing in, retrying, reading to the end, never losing a row's outcome."""

from __future__ import annotations

from typing import Any

import pytest
from onetouch.connections import Connection, ConnectionConfigError
from onetouch.delivery import CrmError, Salesforce
from onetouch.delivery.crm import FieldsMissing, LimitReached, Refused, SignInRefused, Unreachable
from onetouch.sandbox.fields import make_id


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


@pytest.mark.parametrize("fault", [{"status": 503, "body": "busy"}, {"drop": "request"}, {"drop": "answer"}])
def test_passing_faults_are_waited_out(world: Any, fault: dict[str, Any]) -> None:
    world.org.post("faults", [{"match": "/query|oauth2", "times": 3} | fault])
    assert {r["email"] for r in world.salesforce().read_reps()} >= {"rita@rep.example", "otto@rep.example"}


def test_lasting_faults_end_in_one_clear_error_without_the_address(world: Any) -> None:
    world.org.post("faults", [{"match": "/query", "status": 500, "body": "x", "times": 99}])
    with pytest.raises(Unreachable) as lost:
        list(world.salesforce().read_reps())
    assert "SELECT" not in str(lost.value)
    assert lost.value.__suppress_context__


def test_the_daily_limit_is_named_and_not_tried_again(world: Any) -> None:
    client = world.salesforce()
    list(client.read_reps())
    world.org.post("limits", {"api_daily": 1})
    with pytest.raises(LimitReached, match="next run"):
        list(client.read_reps())


def test_reads_beyond_one_page(world: Any) -> None:
    world.accounts(*range(1, 4502))
    ids = {r["crm_account_id"] for r in world.salesforce().read_accounts(world.policy)}
    assert len(ids) == 4501


def test_long_lists_are_asked_in_parts_and_quoted(world: Any) -> None:
    client = world.salesforce()
    keys = [f"{n:06d}{'x' * 50}" for n in range(900)]
    made = client.create_tasks({key: {"Subject": "s"} for key in keys[:600]})
    assert len(client.tasks_of(keys)) == 600 == len(made)
    assert client.tasks_of([]) == {}
    world.rep_writes("Task", None, Subject="s", Onetouch_Handoff_Id__c="it's")
    assert set(client.tasks_of(["it's", "x') OR (Id != '", "\\", "a\nb"])) == {"it's"}


def test_rows_locked_by_another_are_tried_again_and_only_they(world: Any) -> None:
    world.accounts(1, 2, 3)
    locked = {"statusCode": "UNABLE_TO_LOCK_ROW", "message": "unable to obtain exclusive access"}
    world.org.post("faults", [{"match": "composite/sobjects$", "row_error": locked, "rows": [1], "times": 2}])
    rows = {make_id("001", n): {"Onetouch_Tier__c": "high"} for n in (1, 2, 3)}
    outcomes = world.salesforce().update_accounts(rows)
    assert [fault["times"] for fault in world.org.faults()] == [1]  # the second request had no row of that index
    assert [o.ok for o in outcomes.values()] == [True, True, True]
    assert {world.org.account(i)["Onetouch_Tier__c"] for i in rows} == {"high"}


def test_rows_that_stay_locked_are_reported_as_retryable(world: Any) -> None:
    world.accounts(1)
    locked = {"statusCode": "UNABLE_TO_LOCK_ROW", "message": "unable to obtain exclusive access"}
    world.org.post("faults", [{"match": "composite/sobjects$", "row_error": locked, "times": 99}])
    (outcome,) = world.salesforce().update_accounts({make_id("001", 1): {"Onetouch_Tier__c": "high"}}).values()
    assert (outcome.ok, outcome.code, outcome.retryable) == (False, "UNABLE_TO_LOCK_ROW", True)


def test_more_rows_than_a_request_holds_keep_their_order(world: Any) -> None:
    world.accounts(*range(1, 402))
    rows = {make_id("001", n): {"Onetouch_Score__c": n / 10} for n in range(1, 402)}
    rows[make_id("001", 300)] = {"Onetouch_Tier__c": "no such tier"}
    outcomes = world.salesforce().update_accounts(rows)
    assert [i for i, o in outcomes.items() if not o.ok] == [make_id("001", 300)]
    assert world.org.account(make_id("001", 401))["Onetouch_Score__c"] == 40.1


def test_missing_fields_are_named_before_anything_is_written(world: Any) -> None:
    world.accounts(1)
    fields = [{"name": "Id", "updateable": False}]
    for thing in ("Account", "Task"):
        world.org.post("faults", [{"match": f"{thing}/describe", "status": 200, "body": {"fields": fields}}])
    with pytest.raises(FieldsMissing, match=r"Account\.Onetouch_Score__c is missing.*include/salesforce"):
        world.salesforce().update_accounts({make_id("001", 1): {"Onetouch_Tier__c": "high"}})
    assert world.org.account(make_id("001", 1))["Onetouch_Tier__c"] is None


def test_a_bug_is_refused_with_its_code_and_not_retried(world: Any) -> None:
    policy = world.policy.model_copy(
        update={"crm": world.policy.crm.model_copy(update={"account_fields": {"plan": "Nonsense__c"}})}
    )
    with pytest.raises(Refused, match="INVALID_FIELD"):
        list(world.salesforce().read_accounts(policy))


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
