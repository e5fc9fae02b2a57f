"""After a merge: the record that is left has our id and the context, and one task stays open."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from onetouch.delivery import DeliveryFailed, back_off

from tests.delivery.world import AS_OF, crm_id

HOUR = timedelta(hours=1)


def opened(world: Any, number: int, at: Any = AS_OF) -> None:
    world.org.clock(at)
    run = world.run(at)
    world.decide(run, number)
    world.deliver(run)


def merge(world: Any, winner: int, loser: int, at: Any, **values: Any) -> None:
    world.org.clock(at)
    world.org.post("merge", {"winner": crm_id(winner), "losers": [crm_id(loser)], "values": values})


def next_run(world: Any, at: Any, *, held: str | None = None, salesforce: Any = None) -> dict[str, Any]:
    world.org.clock(at)
    run = world.run(at)
    world.extract(run)
    client = salesforce or world.salesforce()
    return back_off(world.ledger, world.policy, run, client, held=held, lake=world.lake)


def ours(world: Any, number: int) -> tuple[Any, bool]:
    """Our id on a record, and whether the rep finds the dossier there."""
    record = world.org.account(crm_id(number))
    return record["Onetouch_Account_Id__c"], (record["Onetouch_Dossier__c"] or "").startswith("Company")


def writes(world: Any) -> int:
    return sum(call["n"] for call in world.org.calls() if call["method"] == "PATCH")


def open_tasks(world: Any) -> list[str]:
    return [t["Onetouch_Handoff_Id__c"] for t in world.org.tasks() if not t["IsClosed"] and not t["IsDeleted"]]


def test_the_survivor_gets_our_id_and_the_context_once(world: Any) -> None:
    world.accounts(1, 3)
    opened(world, 1)
    merge(world, 3, 1, AS_OF + HOUR)
    assert ours(world, 3) == (None, False)
    next_run(world, AS_OF + 2 * HOUR)
    assert ours(world, 3) == ("org-1", True)
    assert world.handoff(1).crm_account_id == crm_id(3)
    assert open_tasks(world) == [world.handoff(1).handoff_id]
    before = writes(world)
    next_run(world, AS_OF + 3 * HOUR)
    assert writes(world) == before


def test_a_survivor_that_is_another_accounts_keeps_that_id_and_gets_the_context(world: Any) -> None:
    world.accounts(1)
    world.accounts(3, Onetouch_Account_Id__c="org-3")
    opened(world, 1)
    merge(world, 3, 1, AS_OF + HOUR)
    next_run(world, AS_OF + 2 * HOUR)
    assert ours(world, 3) == ("org-3", True)


@pytest.mark.parametrize("winner", [1, 2])
def test_when_both_had_a_task_the_survivors_stays_and_no_other(world: Any, winner: int) -> None:
    world.accounts(1, 2)
    opened(world, 1)
    opened(world, 2, AS_OF + HOUR)
    merge(world, winner, 3 - winner, AS_OF + 2 * HOUR)
    for hours in (3, 4):
        next_run(world, AS_OF + hours * HOUR)
        assert open_tasks(world) == [world.handoff(winner).handoff_id]
    assert world.handoff(3 - winner).reason.startswith("account merged")
    assert ours(world, winner) == (f"org-{winner}", True)


def test_a_task_further_along_stays_and_its_context_comes_before_the_other_is_closed(world: Any) -> None:
    world.accounts(1, 2)
    opened(world, 1)
    opened(world, 2, AS_OF + HOUR)
    world.rep_writes("Task", world.task(1)["Id"], Status="Completed")
    merge(world, 2, 1, AS_OF + 2 * HOUR)
    client, order = world.salesforce(), list[str]()
    for name in ("update_accounts", "close_tasks"):
        act = getattr(client, name)
        setattr(client, name, lambda rows, act=act, name=name: order.append(name) or act(rows))
    next_run(world, AS_OF + 3 * HOUR, salesforce=client)
    assert order[:2] == ["update_accounts", "close_tasks"]
    assert (world.handoff(1).state, world.handoff(2).state) == ("touched", "withdrawn")
    assert open_tasks(world) == []
    assert ours(world, 2)[1]


def test_what_was_written_anew_before_the_merge_is_what_the_survivor_gets(world: Any) -> None:
    world.accounts(1, 3)
    opened(world, 1)
    at = AS_OF + 5 * HOUR
    world.org.clock(at)
    run = world.run(at)
    world.decide(run, 1, signals={"last_seen_at": at - HOUR, "users": 12.0}, action="hold_touched")
    world.deliver(run)
    merge(world, 3, 1, at + HOUR)
    next_run(world, at + 2 * HOUR)
    assert world.org.account(crm_id(3))["Onetouch_Team_Size__c"] == 12
    assert ours(world, 3) == ("org-1", True)


def test_nothing_is_written_while_the_run_is_held(world: Any) -> None:
    world.accounts(1, 3)
    opened(world, 1)
    merge(world, 3, 1, AS_OF + HOUR)
    next_run(world, AS_OF + 2 * HOUR, held="a failed check")
    assert ours(world, 3) == (None, False)
    next_run(world, AS_OF + 3 * HOUR)
    assert ours(world, 3) == ("org-1", True)


def test_a_survivor_that_refuses_is_said_and_tried_again(world: Any) -> None:
    world.accounts(1, 3)
    opened(world, 1)
    merge(world, 3, 1, AS_OF + HOUR)
    refused = {"statusCode": "FIELD_CUSTOM_VALIDATION_EXCEPTION", "message": "no"}
    world.org.post("faults", [{"match": "composite/sobjects$", "method": "PATCH", "row_error": refused, "times": 1}])
    with pytest.raises(DeliveryFailed, match="merged record of handoff"):
        next_run(world, AS_OF + 2 * HOUR)
    assert ours(world, 3) == (None, False)
    next_run(world, AS_OF + 3 * HOUR)
    assert ours(world, 3) == ("org-1", True)


def test_a_record_that_was_never_moved_is_not_written_again(world: Any) -> None:
    world.accounts(1)
    opened(world, 1)
    before = writes(world)
    next_run(world, AS_OF + HOUR)
    assert writes(world) == before
