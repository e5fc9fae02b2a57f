"""A hundred thousand accounts whose tier changed: how many calls it takes, and that a second run takes none."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from onetouch.crm import connect
from onetouch.delivery import write_accounts
from onetouch.ledger import Run
from onetouch.sandbox.fields import make_id

from tests.contracts.crm_stand_ins import stand_in
from tests.delivery.world import AS_OF, OWNER

MANY = [2_500, pytest.param(100_000, marks=[pytest.mark.long, pytest.mark.timeout(1_800)])]


def decided(world: Any, hours: int, crm_ids: list[str], tier: str) -> Run:
    run = world.run(AS_OF + timedelta(hours=hours))
    accounts = [f"org-{n}" for n in range(len(crm_ids))]
    decisions = pd.DataFrame({"account_id": accounts, "crm_account_id": crm_ids, "tier": tier, "action": "nurture"})
    decisions = decisions.assign(score=40.0, potential_arr=9_000.0, as_of=pd.Timestamp(run.as_of))
    world.lake.write(decisions, "decisions", f"{run.run_id}.parquet")
    signals = pd.DataFrame({"account_id": accounts, "name": "Company", "users": np.arange(len(crm_ids)) % 9.0})
    world.lake.write(signals.assign(last_seen_at=pd.Timestamp(AS_OF)), "signals", f"{run.run_id}.parquet")
    return run


def calls(world: Any) -> Counter[str]:
    """Calls to the CRM's API, by method and address, without the query."""
    counted: Counter[str] = Counter()
    for call in world.org.calls():
        if call["api"] in ("salesforce", "hubspot"):
            counted[f"{call['method']} {call['path'].partition('?')[0]}"] += call["n"]
    return counted


@pytest.mark.parametrize("many", MANY)
def test_salesforce_takes_no_more_than_sixty_calls(world: Any, many: int) -> None:
    ids = [make_id("001", n) for n in range(1, many + 1)]
    created = (AS_OF - timedelta(days=90)).isoformat()
    for start in range(0, many, 20_000):
        rows = [
            {"Id": i, "Name": "Company", "OwnerId": OWNER, "CreatedDate": created} for i in ids[start : start + 20_000]
        ]
        world.org.post("load", {"Account": rows})
    for hours, tier in enumerate(("low", "medium")):
        run = decided(world, hours, ids, tier)
        before = calls(world)
        summary = write_accounts(world.lake, world.ledger, world.policy, run, world.salesforce(), held=None)
        assert summary["written"] == many
        made = calls(world) - before
        assert made.total() <= 60, made
    before = calls(world)
    again = decided(world, 2, ids, "medium")
    summary = write_accounts(world.lake, world.ledger, world.policy, again, world.salesforce(), held=None)
    assert (summary["written"], summary["unchanged"]) == (0, many)
    assert calls(world) == before


@pytest.mark.parametrize("many", MANY)
def test_hubspot_takes_batches_of_a_hundred(world: Any, many: int) -> None:
    world.org.post("limits", {"hubspot_ten_seconds": 1_000_000, "hubspot_searches": 1_000_000})
    there = stand_in("hubspot", world)
    world.org.post("limits", {"hubspot_ten_seconds": 1_000_000, "hubspot_searches": 1_000_000})
    ids: list[str] = []
    for start in range(1, many + 1, 5_000):
        ids += there.accounts(*range(start, min(start + 5_000, many + 1))).values()
    policy = world.policy.changed(crm__system="hubspot")
    crm = connect(there.connection, policy, sleep=lambda _: None)
    run = decided(world, 0, ids, "low")
    before = calls(world)
    assert write_accounts(world.lake, world.ledger, policy, run, crm, held=None)["written"] == many
    made = calls(world) - before
    assert made["POST /crm/v3/objects/companies/batch/update"] == many / 100
    before = calls(world)
    again = decided(world, 1, ids, "low")
    assert write_accounts(world.lake, world.ledger, policy, again, crm, held=None)["written"] == 0
    assert calls(world) == before
