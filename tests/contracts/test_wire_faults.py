"""Whatever fails on the way to a CRM, in its own words and at any call: each decision ends as one task with context."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onetouch.crm import CrmError
from onetouch.delivery import DeliveryFailed
from onetouch.sandbox.faults import ERRORS, HUBSPOT_ERRORS

from tests.contracts.crm_stand_ins import STAND_INS, stand_in
from tests.contracts.test_crm import Side
from tests.delivery.world import AS_OF, World

WHERE = {
    "salesforce": ("/services/data", "composite/sobjects", "/query", "/describe"),
    "hubspot": (
        "/crm/", "tasks/batch/create", "tasks/batch/read", "companies/batch/", "companies/search", "/crm/v3/owners",
        "/crm/v3/properties", "objects/tasks",
    ),
}  # fmt: skip
"""Which calls fail."""

GATEWAY = [{"status": status, "body": "<html>", "executed": True} for status in (502, 504)]
LOST: list[dict[str, Any]] = [{"drop": what} for what in ("request", "answer", "half")]
HOW: dict[str, list[dict[str, Any]]] = {
    "salesforce": [
        *LOST, *GATEWAY, *({"error": name} for name in ERRORS),
        *({"row_error": name, "rows": rows} for name in ("UNABLE_TO_LOCK_ROW",) for rows in ([0], [1, 2])),
    ],
    "hubspot": [
        *LOST, *GATEWAY, *({"error": name} for name in HUBSPOT_ERRORS),
        *({"row_error": "INTERNAL_ERROR", "rows": rows} for rows in ([0], [1, 2])),
    ],
}  # fmt: skip
"""How they fail: each passes with time."""

NUMBERS = count(1)


@st.composite
def faults(draw: st.DrawFn, name: str) -> dict[str, Any]:
    """A fault of the CRM's stand-in."""
    where = {"match": draw(st.sampled_from(WHERE[name])), "after": draw(st.integers(0, 4))}
    return where | {"times": draw(st.integers(1, 7))} | draw(st.sampled_from(HOW[name]))


def without_context(side: Side) -> list[str]:
    """Records with a task of ours whose fields are not filled in."""
    records = [str(task.crm_account_id) for task in side.there.tasks() if task.handoff_id]
    return [record for record in records if not {"score", "as_of"} <= side.there.account(record).keys()]


@pytest.mark.parametrize("name", list(STAND_INS))
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_each_decision_ends_as_one_task_with_context(
    name: str, make_world: Callable[[str], World], data: st.DataObject
) -> None:
    rounds = data.draw(st.lists(st.lists(faults(name), min_size=1, max_size=3), min_size=1, max_size=3))
    world = make_world(f"world-{next(NUMBERS)}")
    side = Side(name, stand_in(name, world), world)
    run = side.decided(world.ledger.begin_run(AS_OF, side.policy, False), side.there.accounts(1, 2, 3, 4))
    said = []
    for planned in rounds:
        world.org.post("faults", planned)
        try:
            side.deliver(run)
        except (CrmError, DeliveryFailed) as error:
            said.append(str(error))
        world.org.empty_faults()
        assert without_context(side) == []
    side.deliver(run)
    tasks = [task.handoff_id for task in side.there.tasks() if task.handoff_id]
    handoffs = {handoff.handoff_id: handoff.state for handoff in world.ledger.handoffs()}
    assert sorted(tasks, key=str) == sorted(handoffs), said
    assert set(handoffs.values()) == {"task_open"} and len(handoffs) == 4, said
    assert {row.state for row in world.ledger.outbox()} == {"sent"}
