"""The people of the CRM in the lake: merged accounts, forgotten people, and what an earlier release did not read."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from onetouch.ledger import Subject
from onetouch.sandbox.fields import make_id

from tests.delivery.world import AS_OF


def crm_id(number: int) -> str:
    return make_id("001", number)


def contact(world: Any, email: str, account: int = 1, **fields: Any) -> str:
    given = {"LastName": "Doe", "Email": email, "AccountId": crm_id(account)} | fields
    return str(world.rep_writes("Contact", None, **given))


def people(world: Any, run: Any) -> dict[str, dict[str, Any]]:
    rows = world.lake.read("crm", run.run_id, "contacts.parquet")
    return {row["contact_id"]: row for row in rows.to_dict("records")}


def test_the_people_of_a_merged_account_are_those_of_the_one_that_is_left(world: Any) -> None:
    world.accounts(1, 2)
    doe = contact(world, "doe@company2.example", 2, DoNotCall=True)
    world.extract(world.run())
    world.org.clock(AS_OF + timedelta(minutes=30))
    world.org.post("merge", {"winner": crm_id(1), "losers": [crm_id(2)]})
    # As where a merge is not yet told of each contact: what was read before names the account that is gone.
    world.org.sql("UPDATE Contact SET SystemModstamp = '2025-10-01T00:00:00.000+0000', AccountId = ?", crm_id(2))
    run = world.run(AS_OF + timedelta(hours=1))
    world.extract(run)
    assert people(world, run)[doe]["crm_account_id"] == crm_id(1)
    assert people(world, run)[doe]["email_domain"] == "company2.example"


def test_forgotten_people_and_those_of_forgotten_accounts_are_left_out(world: Any) -> None:
    world.accounts(1, 2, 3)
    ada, bob = contact(world, "Ada@company1.example"), contact(world, "bob@company1.example")
    contact(world, "cleo@company2.example", 2)
    lead = world.rep_writes("Lead", None, LastName="Roe", Company="C", Email="roe@company3.example")
    world.ledger.begin_erasure(Subject("user", "ada@company1.example", emails=["ada@company1.example"]), AS_OF)
    world.ledger.begin_erasure(
        Subject("account", "org-2", accounts=["org-2"], crm_ids=[crm_id(2)], domains=["company3.example"]), AS_OF
    )
    run = world.run()
    assert world.extract(run)["contacts"] == 1
    assert people(world, run).keys() == {bob} and not people(world, run).keys() & {ada, lead}


def test_after_a_run_that_read_nobody_everybody_is_read(world: Any) -> None:
    world.accounts(1)
    world.org.clock(AS_OF - timedelta(days=30))
    doe = contact(world, "doe@company1.example")
    world.org.clock(AS_OF)
    first = world.run()
    world.extract(first)
    world.lake.remove("crm", first.run_id, "contacts.parquet")
    run = world.run(AS_OF + timedelta(hours=1))
    world.extract(run)
    assert people(world, run).keys() == {doe}


def test_no_address_of_theirs_is_in_a_runs_summary(world: Any) -> None:
    world.accounts(1)
    contact(world, "doe@company1.example", DoNotCall=True)
    world.org.post("hidden", {"fields": ["Contact.HasOptedOutOfEmail"]})
    summary = world.extract(world.run())
    assert summary["unknown_opt_outs"] == {"do_not_call": 0, "email_opt_out": 1}
    assert len(summary["warnings"]) == 1 and "@" not in str(summary)
