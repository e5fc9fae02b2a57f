"""Every answer Salesforce may give, and what becomes of it in the ledger, in the CRM and of Airflow's task."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import requests
from onetouch.crm.protocol import (
    UNKNOWN,
    CrmError,
    FieldsMissing,
    LimitReached,
    Refused,
    SignInRefused,
    Unreachable,
)
from onetouch.crm.salesforce import transport as salesforce_transport
from onetouch.delivery import DeliveryFailed
from onetouch.ledger import ENDED
from onetouch.sandbox.fields import make_id

from tests.delivery.world import AS_OF, World

LATER = AS_OF + timedelta(hours=1)

CONTEXT = {"match": "composite/sobjects$", "method": "PATCH"}
TASK = {"match": "composite/sobjects$", "method": "POST"}
QUERY = {"match": "/query"}

FOR_GOOD = (
    "INVALID_FIELD", "INVALID_FIELD_FOR_INSERT_UPDATE", "REQUIRED_FIELD_MISSING", "FIELD_CUSTOM_VALIDATION_EXCEPTION",
    "STRING_TOO_LONG", "INACTIVE_OWNER_OR_USER", "INSUFFICIENT_ACCESS_OR_READONLY", "DUPLICATES_DETECTED",
)  # fmt: skip
FOR_NOW = ("UNABLE_TO_LOCK_ROW", "STORAGE_LIMIT_EXCEEDED", "UNKNOWN_EXCEPTION")
NO_ANSWER = (
    {"error": "SERVER_UNAVAILABLE"}, {"error": "UNKNOWN_EXCEPTION"}, {"error": "TOO_MANY_REQUESTS"},
    {"drop": "request"}, {"drop": "answer"}, {"drop": "half"}, {"slow": 0.5},
)  # fmt: skip


def crm_id(number: int) -> str:
    return make_id("001", number)


@pytest.fixture(autouse=True, scope="module")
def _plugins() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[2] / "plugins"))
        yield


@pytest.fixture
def ready(world: World) -> World:
    """Three accounts whose decisions of the run say: hand over."""
    world.accounts(1, 2, 3)
    world.decide(world.run(), 1, 2, 3)
    return world


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(salesforce_transport, "_TIMEOUT", (5, 0.2))


def deliver(world: World, at: datetime = AS_OF) -> dict[str, Any] | Exception:
    """What the stage gives, or what Airflow would see."""
    run = world.run(at)
    if at != AS_OF:
        world.org.clock(at)
        world.decide(run, 9, action="nurture")
    try:
        return world.deliver(run)
    except (DeliveryFailed, CrmError) as error:
        assert "@" not in str(error)
        assert "sandbox-secret" not in str(error)
        return error


def retried(error: Any) -> bool:
    """Whether Airflow tries the task again."""
    NotInVain = import_module("onetouch_airflow.retries").NotInVain  # noqa: N806 - Airflow itself is slow to import
    return NotInVain().evaluate(error, try_number=1, max_tries=4).action.value != "fail"


def outbox(world: World, kind: str) -> list[str]:
    """The states of the rows of a kind, by account."""
    rows = {row.handoff_id: row for row in world.ledger.outbox() if row.kind == kind}
    return [rows[h.handoff_id].state for h in sorted(world.ledger.handoffs(), key=lambda h: h.account_id)]


def reasons(world: World) -> set[str]:
    return {row.reason.partition(":")[0] for row in world.ledger.outbox() if row.reason}


def dossiers(world: World) -> list[bool]:
    return [world.org.account(crm_id(n))["Onetouch_Dossier__c"] is not None for n in (1, 2, 3)]


def assert_all_delivered_once(world: World) -> None:
    assert outbox(world, "account_fields") == outbox(world, "task") == ["sent"] * 3
    tasks = world.org.tasks()
    assert sorted(task["WhatId"] for task in tasks) == [crm_id(n) for n in (1, 2, 3)]
    assert {task["Id"] for task in tasks} == {h.task_id for h in world.ledger.handoffs()}
    assert {h.state for h in world.ledger.handoffs()} == {"task_open"}
    assert dossiers(world) == [True] * 3


# ── 401 ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("where", [QUERY, CONTEXT, TASK])
def test_401_once_is_one_more_sign_in(ready: World, where: dict[str, Any]) -> None:
    ready.org.post("faults", [where | {"error": "INVALID_SESSION_ID"}])
    assert deliver(ready)["delivered"] == 3
    assert sum(c["n"] for c in ready.org.calls() if c["api"] == "salesforce sign-in") == 2
    assert_all_delivered_once(ready)


@pytest.mark.parametrize(
    ("where", "context", "held"),
    [(CONTEXT, "pending", [False] * 3), (TASK, "sent", [True] * 3)],
)
def test_401_again_fails_the_task_and_the_rows_wait(
    ready: World, where: dict[str, Any], context: str, held: list[bool]
) -> None:
    ready.org.post("faults", [where | {"error": "INVALID_SESSION_ID", "times": 99}])
    error = deliver(ready)
    assert isinstance(error, DeliveryFailed)
    assert isinstance(error.__cause__, SignInRefused)
    assert error.summary["deferred"] == 3
    assert not retried(error)
    assert (outbox(ready, "account_fields"), outbox(ready, "task")) == ([context] * 3, ["pending"] * 3)
    assert (ready.org.tasks(), dossiers(ready)) == ([], held)
    requests.delete(f"{ready.org.url}/_sandbox/faults", timeout=10)
    assert deliver(ready, LATER)["earlier"]["delivered"] == 3
    assert_all_delivered_once(ready)


# ── no answer: 5xx, 429, time-out, dropped ───────────────────────────────────────────────────────


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("where", [CONTEXT, TASK], ids=["context", "task"])
@pytest.mark.parametrize("fault", NO_ANSWER, ids=str)
def test_no_answer_for_a_while_is_waited_out(ready: World, where: dict[str, Any], fault: dict[str, Any]) -> None:
    ready.org.post("faults", [where | fault | {"times": 2 if "slow" not in fault else 1}])
    assert deliver(ready)["delivered"] == 3
    assert_all_delivered_once(ready)


@pytest.mark.parametrize(
    ("where", "fault"),
    [(CONTEXT, {"drop": "answer"}), (CONTEXT, {"error": "SERVER_UNAVAILABLE"}), (TASK, {"drop": "request"}),
     (TASK, {"error": "TOO_MANY_REQUESTS"})],
    ids=str,
)  # fmt: skip
def test_no_answer_at_all_keeps_the_rows_with_their_reason(
    ready: World, where: dict[str, Any], fault: dict[str, Any]
) -> None:
    ready.org.post("faults", [where | fault | {"times": 99}])
    error = deliver(ready)
    assert isinstance(error, DeliveryFailed)
    assert error.summary["deferred"] == 3
    assert not retried(error)
    kind = "account_fields" if where is CONTEXT else "task"
    # Nobody knows whether they arrived: `sending`, so that the next run looks first.
    assert outbox(ready, kind) == ["sending"] * 3
    assert reasons(ready) == {UNKNOWN}
    requests.delete(f"{ready.org.url}/_sandbox/faults", timeout=10)
    assert deliver(ready, LATER)["earlier"]["delivered"] == 3
    assert_all_delivered_once(ready)


def test_tasks_whose_answers_are_all_lost_are_found_by_their_keys(ready: World) -> None:
    ready.org.post("faults", [TASK | {"drop": "answer", "times": 99}])
    assert deliver(ready)["delivered"] == 3
    assert len(ready.org.faults()) == 1  # one request, one look
    assert ready.org.faults()[0]["times"] == 98
    assert_all_delivered_once(ready)


def test_no_answer_to_a_look_is_tried_again_by_airflow(ready: World) -> None:
    ready.org.post("faults", [QUERY | {"error": "SERVER_UNAVAILABLE", "times": 99}])
    error = deliver(ready)
    assert isinstance(error, Unreachable)
    assert retried(error)
    assert ready.org.tasks() == []


def test_what_was_refused_before_the_crm_fell_silent_is_told(ready: World) -> None:
    context = CONTEXT | {"row_error": "FIELD_CUSTOM_VALIDATION_EXCEPTION", "rows": [1]}
    looks = {"match": "/query.*Opportunity", "error": "SERVER_UNAVAILABLE", "times": 99}
    ready.org.post("faults", [context, looks])
    error = deliver(ready)
    assert isinstance(error, Unreachable)
    assert retried(error)
    assert "1 decisions could not be delivered: FIELD_CUSTOM_VALIDATION_EXCEPTION" in str(error)
    assert outbox(ready, "account_fields") == ["sent", "failed", "sent"]


# ── rows ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("where", [CONTEXT, TASK], ids=["context", "task"])
def test_a_locked_row_is_tried_again(ready: World, where: dict[str, Any]) -> None:
    ready.org.post("faults", [where | {"row_error": "UNABLE_TO_LOCK_ROW", "times": 4}])
    assert deliver(ready)["delivered"] == 3
    assert_all_delivered_once(ready)


@pytest.mark.parametrize(("where", "code"), [(CONTEXT, FOR_NOW[0]), *((TASK, code) for code in FOR_NOW)], ids=str)
def test_a_row_refused_for_now_waits_for_the_next_run(ready: World, where: dict[str, Any], code: str) -> None:
    ready.org.post("faults", [where | {"row_error": code, "rows": [0], "times": 9}])
    error = deliver(ready)
    assert isinstance(error, DeliveryFailed)
    assert (error.summary["delivered"], error.summary["deferred"]) == (2, 1)
    assert code in str(error)
    assert not retried(error)
    kind = "account_fields" if where is CONTEXT else "task"
    assert outbox(ready, kind) == ["pending", "sent", "sent"]
    assert reasons(ready) == {code}
    requests.delete(f"{ready.org.url}/_sandbox/faults", timeout=10)
    assert deliver(ready, LATER)["earlier"]["delivered"] == 1
    assert_all_delivered_once(ready)


@pytest.mark.parametrize(("where", "code"), [(CONTEXT, FOR_GOOD[0]), *((TASK, code) for code in FOR_GOOD)], ids=str)
def test_a_row_refused_for_good_is_a_dead_letter_and_the_rest_goes_on(
    ready: World, where: dict[str, Any], code: str
) -> None:
    ready.org.post("faults", [where | {"row_error": code, "rows": [1]}])
    error = deliver(ready)
    assert isinstance(error, DeliveryFailed)
    assert (error.summary["delivered"], error.summary["deferred"]) == (2, 0)
    assert code in str(error)
    assert not retried(error)
    kind = "account_fields" if where is CONTEXT else "task"
    assert outbox(ready, kind) == ["sent", "failed", "sent"]
    assert reasons(ready) - {ENDED} == {code}
    assert len(ready.org.tasks()) == 2
    # The run that was refused was red; nothing is sent again until the account is decided on anew.
    held, anew = ready.run(LATER), ready.run(LATER + timedelta(hours=1))
    ready.decide(held, 2, action="hold_refused")
    assert ready.deliver(held)["to_send"] == 0
    assert len(ready.org.tasks()) == 2
    assert ready.ledger.retry() == 1
    ready.decide(anew, 2)
    assert ready.deliver(anew)["delivered"] == 1
    assert sorted(task["WhatId"] for task in ready.org.tasks()) == [crm_id(n) for n in (1, 2, 3)]
    assert dossiers(ready) == [True] * 3


def test_duplicate_value_is_read_by_its_key_and_adopted(ready: World) -> None:
    run = ready.run()
    client = ready.salesforce()
    create = client.create_tasks

    def another_was_faster(rows: Any, unsure: Any = ()) -> Any:
        first = sorted(rows, key=lambda h: rows[h].crm_account_id)[0]
        fields = {"Subject": "Mine now", "WhatId": rows[first].crm_account_id, "Onetouch_Handoff_Id__c": first}
        ready.rep_writes("Task", None, **fields)
        return create(rows, unsure)

    client.create_tasks = another_was_faster  # type: ignore[method-assign]
    assert ready.deliver(run, salesforce=client)["delivered"] == 3
    assert_all_delivered_once(ready)
    assert ready.task(1)["Subject"] == "Mine now"


def test_duplicate_value_without_a_twin_to_be_seen_is_a_dead_letter(ready: World) -> None:
    ready.org.post("faults", [TASK | {"row_error": "DUPLICATE_VALUE", "rows": [0]}])
    error = deliver(ready)
    assert isinstance(error, DeliveryFailed)
    assert outbox(ready, "task") == ["failed", "sent", "sent"]


@pytest.mark.parametrize("where", [CONTEXT, TASK], ids=["context", "task"])
@pytest.mark.parametrize("code", ["ENTITY_IS_DELETED"])
def test_a_deleted_account_withdraws_the_handoff(ready: World, where: dict[str, Any], code: str) -> None:
    ready.org.post("faults", [where | {"row_error": code, "rows": [2]}])
    summary = deliver(ready)
    assert isinstance(summary, dict)
    assert (summary["delivered"], summary["withheld"]) == (2, {"account deleted": 1})
    assert ready.handoff(3).state == "withdrawn"
    assert [row for row in ready.ledger.unsent() if row.destination == "salesforce"] == []
    assert ready.ledger.refused() == []
    assert len(ready.org.tasks()) == 2
    assert deliver(ready, LATER)["delivered"] == 0
    assert len(ready.org.tasks()) == 2


def test_a_deleted_task_is_recorded_and_not_made_again(ready: World) -> None:
    ready.org.post("faults", [TASK | {"drop": "answer", "times": 1}])
    query = {"match": r"queryAll.*Handoff_Id__c\+IN", "error": "SERVER_UNAVAILABLE", "times": 5}
    ready.org.post("faults", [query])
    assert isinstance(deliver(ready), DeliveryFailed)
    (first, *_) = sorted(ready.org.tasks(), key=lambda task: task["WhatId"])
    ready.rep_writes("Task", first["Id"])
    summary = deliver(ready, LATER)
    assert summary["earlier"] == {"delivered": 2, "withheld": {"task deleted": 1}, "failed": []}
    assert len(ready.org.tasks()) == 3


# ── the day's calls ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("where", "context", "held"),
    [(CONTEXT, "pending", [False] * 3), (TASK, "sent", [True] * 3)],
    ids=["context", "task"],
)
def test_the_limit_defers_the_rows_to_the_next_run(
    ready: World, where: dict[str, Any], context: str, held: list[bool]
) -> None:
    ready.org.post("faults", [where | {"error": "REQUEST_LIMIT_EXCEEDED", "times": 99}])
    error = deliver(ready)
    assert isinstance(error, DeliveryFailed)
    assert isinstance(error.__cause__, LimitReached)
    assert error.summary["deferred"] == 3
    assert "next run" in str(error)
    assert "\n" not in str(error)
    assert not retried(error)
    assert (outbox(ready, "account_fields"), outbox(ready, "task")) == ([context] * 3, ["pending"] * 3)
    assert (ready.org.tasks(), dossiers(ready)) == ([], held)
    requests.delete(f"{ready.org.url}/_sandbox/faults", timeout=10)
    assert deliver(ready, LATER)["earlier"]["delivered"] == 3
    assert_all_delivered_once(ready)


def test_the_limit_in_the_middle_keeps_what_was_answered(ready: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onetouch.crm.salesforce.rows.ROWS", 1)
    ready.org.post("faults", [TASK | {"error": "REQUEST_LIMIT_EXCEEDED", "after": 1, "times": 99}])
    error = deliver(ready)
    assert isinstance(error, DeliveryFailed)
    assert (error.summary["delivered"], error.summary["deferred"]) == (1, 2)
    assert outbox(ready, "task") == ["sent", "pending", "pending"]
    assert reasons(ready) == {"REQUEST_LIMIT_EXCEEDED"}
    requests.delete(f"{ready.org.url}/_sandbox/faults", timeout=10)
    assert deliver(ready, LATER)["earlier"]["delivered"] == 2
    assert_all_delivered_once(ready)


def test_silence_in_the_middle_tells_unknown_from_not_sent(ready: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onetouch.crm.salesforce.rows.ROWS", 1)
    ready.org.post("faults", [TASK | {"drop": "answer", "after": 1, "times": 99}])
    ready.org.post("faults", [{"match": r"queryAll.*Handoff_Id__c\+IN", "drop": "request", "times": 99}])
    error = deliver(ready)
    assert isinstance(error, DeliveryFailed)
    assert outbox(ready, "task") == ["sent", "sending", "pending"]
    assert reasons(ready) == {UNKNOWN, "NOT_SENT"}
    requests.delete(f"{ready.org.url}/_sandbox/faults", timeout=10)
    assert deliver(ready, LATER)["earlier"]["delivered"] == 2
    assert_all_delivered_once(ready)


# ── the request as such ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("where", [CONTEXT, TASK], ids=["context", "task"])
def test_a_missing_permission_fails_the_task_and_the_rows_wait(ready: World, where: dict[str, Any]) -> None:
    ready.org.post("faults", [where | {"error": "API_DISABLED_FOR_ORG", "times": 99}])
    error = deliver(ready)
    assert isinstance(error, DeliveryFailed)
    assert isinstance(error.__cause__, Refused)
    assert error.summary["deferred"] == 3
    assert "API_DISABLED_FOR_ORG" in str(error)
    assert not retried(error)
    assert outbox(ready, "task") == ["pending"] * 3
    requests.delete(f"{ready.org.url}/_sandbox/faults", timeout=10)
    assert deliver(ready, LATER)["earlier"]["delivered"] == 3
    assert_all_delivered_once(ready)


def test_a_whole_request_refused_for_one_row_loses_that_row_alone(ready: World) -> None:
    body = [{"errorCode": "JSON_PARSER_ERROR", "message": "Cannot deserialize instance of date from VALUE_STRING"}]
    ready.org.post("faults", [TASK | {"status": 400, "body": body, "times": 2}])
    error = deliver(ready)
    assert isinstance(error, DeliveryFailed)
    assert outbox(ready, "task") == ["failed", "sent", "sent"]
    assert reasons(ready) == {"JSON_PARSER_ERROR"}


def test_missing_fields_stop_everything_before_the_first_write(ready: World) -> None:
    fields = [{"name": "Id", "updateable": False}]
    ready.org.post("faults", [{"match": "Account/describe", "status": 200, "body": {"fields": fields}}])
    error = deliver(ready)
    assert isinstance(error, DeliveryFailed)
    assert isinstance(error.__cause__, FieldsMissing)
    assert error.summary["deferred"] == 3
    assert "include/salesforce" in str(error)
    assert not retried(error)
    assert (outbox(ready, "account_fields"), dossiers(ready)) == (["pending"] * 3, [False] * 3)
    assert deliver(ready, LATER)["earlier"]["delivered"] == 3
    assert_all_delivered_once(ready)
