"""Sending from the outbox while another process settles the same rows."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from onetouch.crm.protocol import UNKNOWN, CrmError, Outcome
from onetouch.delivery.send import send
from onetouch.ledger import Outbox

AS_OF = datetime(2025, 11, 18, 10, tzinfo=UTC)


def laid_out(world: Any, *names: str) -> dict[str, Outbox]:
    """Rows a run had begun to send when it died."""
    for name in names:
        world.ledger.put(name, "salesforce", "task", None, None, {})
    world.ledger.sending(*names)
    return {row.key: row for row in world.ledger.outbox()}


def states(world: Any) -> dict[str, tuple[str, str | None]]:
    return {row.key: (row.state, row.external_id) for row in world.ledger.outbox()}


def arrive(due: Mapping[str, Outbox], unsure: set[str]) -> dict[str, Outcome]:
    assert set(due) == unsure
    return {name: Outcome(ok=True, id=f"id of {name}") for name in due}


def test_what_another_process_has_found_is_not_sent_again(world: Any) -> None:
    rows = laid_out(world, "a", "b")
    world.ledger.sent("a", "found")
    outcomes = send(world.ledger, rows, arrive)
    assert {name: (outcome.ok, outcome.id) for name, outcome in outcomes.items()} == {
        "a": (True, "found"),
        "b": (True, "id of b"),
    }
    assert states(world) == {"a": ("sent", "found"), "b": ("sent", "id of b")}


@pytest.mark.parametrize("answer", [UNKNOWN, "UNABLE_TO_LOCK_ROW", CrmError])
def test_what_is_found_while_it_is_on_its_way_has_arrived(world: Any, answer: Any) -> None:
    rows = laid_out(world, "a", "b")
    world.ledger.failed("b", "busy", retryable=True)
    rows = {row.key: row for row in world.ledger.outbox()}

    def write(due: Mapping[str, Outbox], _unsure: set[str]) -> dict[str, Outcome]:
        world.ledger.sent_all({"a": "found", "b": "found"})
        if answer is CrmError:
            raise CrmError("used up")
        return {name: Outcome(ok=False, code=answer, retryable=True) for name in due}

    if answer is CrmError:
        with pytest.raises(CrmError, match="used up"):
            send(world.ledger, rows, write)
    else:
        assert not any(outcome.ok for outcome in send(world.ledger, rows, write).values())
    assert states(world) == {"a": ("sent", "found"), "b": ("sent", "found")}


def test_a_delivery_goes_on_when_the_reading_has_taken_up_a_task_meanwhile(world: Any) -> None:
    world.accounts(1, 2)
    run = world.run()
    world.decide(run, 1, 2)
    world.die_after_writing_tasks(run)
    read = world.ledger.outbox

    def read_before(**given: Any) -> list[Outbox]:
        rows = read(**given)
        world.ledger.outbox = read
        world.extract(world.run(AS_OF + timedelta(minutes=1)))
        return rows

    world.ledger.outbox = read_before
    assert world.deliver(run)["delivered"] == 2
    assert len(world.org.tasks()) == 2
    assert {world.handoff(n).state for n in (1, 2)} == {"task_open"}


def test_a_delivery_goes_on_when_another_process_has_ended_a_handoff_meanwhile(world: Any) -> None:
    world.accounts(1, 2)
    run = world.run()
    world.decide(run, 1, 2)
    client = world.salesforce()
    update = client.update_accounts

    def overtaken(fields: Any) -> Any:
        world.ledger.move(world.handoff(1).handoff_id, "withdrawn", AS_OF, "checkout: started")
        return update(fields)

    client.update_accounts = overtaken
    summary = world.deliver(run, salesforce=client)
    assert (summary["delivered"], summary["withheld"]) == (1, {"checkout": 1})
    assert [(row.kind, row.state) for row in world.ledger.outbox(handoff_ids=[world.handoff(1).handoff_id])] == [
        ("account_fields", "sent"),
        ("task", "failed"),
    ]
    assert len(world.org.tasks()) == 1


def test_a_handoff_that_ended_before_its_row_was_begun_is_withheld(world: Any) -> None:
    world.accounts(1)
    run = world.run()
    world.decide(run, 1)
    client = world.salesforce()
    told = client.read_activities

    def overtaken(*asked: Any) -> Any:  # the pre-send recheck
        world.ledger.move(world.handoff(1).handoff_id, "withdrawn", AS_OF, "checkout: started")
        return told(*asked)

    client.read_activities = overtaken
    summary = world.deliver(run, salesforce=client)
    assert (summary["delivered"], summary["withheld"]) == (0, {"checkout": 1})
    assert world.org.tasks() == []
