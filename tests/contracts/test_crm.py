"""What every registered CRM promises, whichever it is."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from onetouch import stages
from onetouch.connections import Connection
from onetouch.delivery import deliver_tasks
from onetouch.stop import Stopped

from tests.crm.portal import RITA, Portal
from tests.delivery.world import OWNER, crm_id


@pytest.mark.parametrize("system", ["salesforce", "hubspot"])
def test_a_stop_comes_between_two_requests_of_one_batch(world: Any, system: str) -> None:
    """450 tasks are several requests: after a stop at most the one under way arrives."""
    numbers = range(1, 451)
    portal = Portal(world.org, world)
    if system == "salesforce":
        world.accounts(*numbers)
        companies = {n: crm_id(n) for n in numbers}
        extra = {"instance_url": world.org.url, "consumer_key": "sandbox-key", "consumer_secret": "sandbox-secret"}
        connection = Connection("salesforce_default", extra=extra)
        made = lambda: [t["Onetouch_Handoff_Id__c"] for t in world.org.tasks()]  # noqa: E731
    else:
        portal.empty()
        companies = portal.companies(*numbers)
        connection = Connection("hubspot_default", password="pat-sandbox-token", extra={"base_url": world.org.url})
        made = lambda: [t["properties"]["onetouch_handoff_id"] for t in portal.records("tasks")]  # noqa: E731
    world.policy = world.policy.changed(
        assignment__tasks_per_day=1000, assignment__tasks_per_rep_per_day=1000, delivery__approval_above=None,
        crm__system=system,
    )  # fmt: skip
    run = world.run()
    world.decide(run, *numbers, owner_id=OWNER if system == "salesforce" else RITA)
    for room in ("decisions", "signals"):
        rows = world.lake.read(room, f"{run.run_id}.parquet")
        rows["crm_account_id"] = list(companies.values())
        world.lake.write(rows, room, f"{run.run_id}.parquet")

    def deliver(stopped: Any) -> dict[str, Any]:
        workspace: Any = SimpleNamespace(required_connection=lambda _: connection, stopped=stopped)
        crm = stages.crm_of(workspace, world.policy)
        return deliver_tasks(
            world.lake, world.ledger, world.policy, run, crm, recheck=lambda ids: {}, held=None, approved=True
        )

    with pytest.raises(Stopped):
        deliver(lambda: "fire" if made() else None)
    first = made()
    assert 0 < len(first) < 450 / 2, f"{len(first)} tasks were made after the stop"
    waiting = {row.handoff_id for row in world.ledger.unsent() if row.kind == "task"}
    assert len(waiting) == 450
    assert deliver(lambda: None)["delivered"] == 450
    assert max(Counter(made()).values()) == 1
    assert len(made()) == 450
    assert set(first) <= set(made())
    assert world.ledger.unsent() == []
