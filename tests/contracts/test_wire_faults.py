"""Whatever fails on the way to a CRM, in its own words and at any call: each decision ends as one task with context."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from onetouch.crm import CrmError
from onetouch.delivery import DeliveryFailed, back_off
from onetouch.sandbox.faults import ERRORS, HUBSPOT_ERRORS

from tests.contracts.crm_stand_ins import STAND_INS, stand_in
from tests.contracts.test_crm import Side
from tests.delivery.world import AS_OF, World

WHERE = {
    "salesforce": ("composite/sobjects", "/query", "/services/data"),
    "hubspot": ("tasks/batch/create", "companies/batch/update", "tasks/batch/update", "tasks/batch/read", "/crm/"),
}
"""Which calls fail."""

LOST: list[dict[str, Any]] = [{"drop": what} for what in ("request", "answer", "half")]
GATEWAY: list[dict[str, Any]] = [{"status": status, "body": "<html>", "executed": True} for status in (502, 504)]
ERROR = {"salesforce": ERRORS, "hubspot": HUBSPOT_ERRORS}
ROW = {"salesforce": "UNABLE_TO_LOCK_ROW", "hubspot": "INTERNAL_ERROR"}
"""An error of a row that passes with time."""

NUMBERS = count(1)

FEW = settings(max_examples=8, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture])
"""An example takes two seconds, so none is made smaller."""


@st.composite
def faults(draw: st.DrawFn, name: str) -> dict[str, Any]:
    """A fault of the CRM's stand-in, of a kind that passes with time."""
    errors = [{"error": error} for error in sorted(ERROR[name])]
    rows = [{"row_error": ROW[name], "rows": numbers} for numbers in ([0], [1, 2])]
    how = draw(st.sampled_from(draw(st.sampled_from([LOST, GATEWAY, errors, rows]))))
    where = {"match": draw(st.sampled_from(WHERE[name])), "after": draw(st.integers(0, 1))}
    return where | {"times": draw(st.sampled_from([1, 2, 9]))} | how


ROUNDS = {name: st.lists(st.lists(faults(name), min_size=1, max_size=3), min_size=1, max_size=3) for name in STAND_INS}
"""What fails in each of some attempts."""


def without_context(side: Side) -> list[str]:
    """Records with a task of ours whose fields are not filled in."""
    records = [str(task.crm_account_id) for task in side.there.tasks() if task.handoff_id]
    return [record for record in records if not {"score", "as_of"} <= side.there.account(record).keys()]


def under_faults(side: Side, rounds: list[list[dict[str, Any]]], work: Callable[[], Any]) -> list[str]:
    """Does the work under the faults of each round, then without any; gives what was not green."""
    said = []
    for planned in rounds:
        side.world.org.post("faults", planned)
        try:
            work()
        except (CrmError, DeliveryFailed) as error:
            said.append(str(error))
        side.world.org.empty_faults()
        assert without_context(side) == []
    work()
    return said


@pytest.mark.parametrize("name", list(STAND_INS))
@FEW
@given(data=st.data())
def test_each_decision_ends_as_one_task_with_context(
    name: str, make_world: Callable[[str], World], data: st.DataObject
) -> None:
    rounds = data.draw(ROUNDS[name])
    world = make_world(f"world-{next(NUMBERS)}")
    side = Side(name, stand_in(name, world), world)
    run = side.decided(world.ledger.begin_run(AS_OF, side.policy, False), side.there.accounts(1, 2, 3, 4))
    said = under_faults(side, rounds, lambda: side.deliver(run))
    tasks = [task.handoff_id for task in side.there.tasks() if task.handoff_id]
    handoffs = {handoff.handoff_id: handoff.state for handoff in world.ledger.handoffs()}
    assert sorted(tasks, key=str) == sorted(handoffs), said
    assert set(handoffs.values()) == {"task_open"} and len(handoffs) == 4, said
    assert {row.state for row in world.ledger.outbox()} == {"sent"}


@pytest.mark.parametrize("name", list(STAND_INS))
@FEW
@given(data=st.data())
def test_each_task_that_expires_is_closed_once_and_with_one_note(
    name: str, make_world: Callable[[str], World], data: st.DataObject
) -> None:
    rounds = data.draw(ROUNDS[name])
    world = make_world(f"world-{next(NUMBERS)}")
    side = Side(name, stand_in(name, world), world)
    side.deliver(side.decided(world.ledger.begin_run(AS_OF, side.policy, False), side.there.accounts(1, 2, 3, 4)))
    later = AS_OF + timedelta(hours=80)
    side.there.clock(later)
    run = world.ledger.begin_run(later, side.policy, False)
    said = under_faults(side, rounds, lambda: back_off(world.ledger, side.policy, run, side.client(), held=None))
    notes = [(task.is_done, task.description.count("Expired: ")) for task in side.there.tasks()]
    assert notes == [(True, 1)] * 4, said
    assert [handoff.state for handoff in world.ledger.handoffs()] == ["expired"] * 4, said
