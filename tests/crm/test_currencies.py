"""Amounts of orgs with several currencies: converted by the org's rates, or unknown, and never as they stand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onetouch.crm.salesforce.currencies import Currencies
from onetouch.crm_sync import extract_crm
from onetouch.handoff import OpportunityContent

from tests.crm.portal import Portal
from tests.delivery.world import AS_OF, OWNER, crm_id

RATES = {"USD": 1, "JPY": 150, "EUR": 0.9}


def arr_of(world: Any, told: list[str]) -> dict[str, Any]:
    return {r["crm_account_id"]: r["arr"] for r in world.salesforce().read_accounts(world.policy, tell=told.append)}


def test_yen_are_never_dollars(world: Any) -> None:
    world.org.post("rules", {"currencies": RATES})
    world.accounts(1, ARR__c=900_000, CurrencyIsoCode="JPY")
    world.accounts(2, ARR__c=900_000, CurrencyIsoCode="USD")
    world.accounts(3, CurrencyIsoCode="JPY")
    told: list[str] = []
    assert arr_of(world, told) == {crm_id(1): 6_000.0, crm_id(2): 900_000.0, crm_id(3): None}
    assert told == []


def test_without_a_rate_the_amount_is_unknown_counted_and_said_once(world: Any) -> None:
    world.org.post("rules", {"currencies": RATES})
    world.accounts(1, 2, ARR__c=900_000, CurrencyIsoCode="JPY")
    world.org.post("rules", {"currencies": {"USD": 1}, "fields": {"Account": [{"name": "CurrencyIsoCode"}]}})
    told: list[str] = []
    assert arr_of(world, told) == {crm_id(1): None, crm_id(2): None}
    (line,) = told
    assert "2 amounts" in line and "2 in JPY" in line and "crm.currency" in line
    run = world.run()
    warnings = extract_crm(world.lake, world.ledger, world.policy, run, world.salesforce())["warnings"]
    assert any("2 in JPY" in warning for warning in warnings)


def test_a_policy_of_a_former_release_takes_amounts_as_they_stand(world: Any) -> None:
    world.org.post("rules", {"currencies": RATES})
    world.accounts(1, ARR__c=900_000, CurrencyIsoCode="JPY")
    world.policy = world.policy.changed(crm__currency=None)
    assert arr_of(world, []) == {crm_id(1): 900_000.0}


def deal(world: Any, code: str, amount: float, close: str) -> str:
    fields = {"Name": "Deal", "StageName": "Prospecting", "CloseDate": close, "Amount": amount, "CurrencyIsoCode": code}
    return str(world.rep_writes("Opportunity", None, AccountId=crm_id(1), OwnerId=OWNER, **fields))


def test_opportunities_go_by_the_rate_of_their_close_date(world: Any) -> None:
    dated = [{"currency": "JPY", "start": "2025-01-01", "next_start": "2025-06-01", "rate": 100}]
    world.org.post("rules", {"currencies": RATES, "dated_rates": dated})
    world.accounts(1)
    early, late = deal(world, "JPY", 30_000, "2025-02-01"), deal(world, "JPY", 30_000, "2025-06-01")
    found = {r["opportunity_id"]: r["amount"] for r in world.salesforce().read_opportunities()}
    assert found == {early: 300.0, late: 200.0}


@pytest.mark.parametrize(("rates", "written"), [(RATES, (1200.0, "USD")), ({"EUR": 1}, (None, "EUR"))])
def test_a_new_opportunity_says_its_currency_or_has_no_amount(world: Any, rates: Any, written: Any) -> None:
    world.org.post("rules", {"currencies": rates})
    world.accounts(1)
    content = OpportunityContent("Deal", 1200.0, AS_OF.date(), owner_id=OWNER, crm_account_id=crm_id(1))
    (outcome,) = world.salesforce().create_opportunities({"k" * 32: content}).values()
    assert outcome.ok, outcome
    soql = "SELECT Amount, CurrencyIsoCode FROM Opportunity"
    (seen,) = world.salesforce()._transport.query(soql)
    assert (seen["Amount"], seen["CurrencyIsoCode"]) == written


@pytest.mark.parametrize(("currency", "written"), [("EUR", ("1200", "EUR")), ("GBP", (None, None))])
def test_a_new_deal_says_its_currency_or_has_no_amount(org: Any, world: Any, currency: str, written: Any) -> None:
    portal = Portal(org, world)
    portal.empty()
    content = OpportunityContent("Deal", 1200.0, AS_OF.date(), crm_account_id=portal.companies(1)[1])
    crm = portal.client(deals=True, currency=currency)
    (outcome,) = crm.create_opportunities({"k" * 32: content}).values()
    assert outcome.ok, outcome
    (seen,) = crm._records.of_ids("deals", [str(outcome.id)], ["amount", "deal_currency_code"])
    assert tuple(seen["properties"].get(name) or None for name in ("amount", "deal_currency_code")) == written


class _Rates:
    """A transport with these rates."""

    def __init__(self, rates: dict[str, float]) -> None:
        self.rates = rates

    def query(self, soql: str) -> list[dict[str, Any]]:
        return [{"IsoCode": c, "ConversionRate": r} for c, r in self.rates.items()] if "CurrencyType" in soql else []


@given(amount=st.floats(1, 1e9), rates=st.dictionaries(st.sampled_from(["EUR", "JPY", "USD"]), st.floats(0.01, 1e4)))
def test_a_conversion_is_by_both_rates_and_is_undone_by_the_way_back(amount: float, rates: dict[str, float]) -> None:
    there = Currencies(_Rates(rates), "USD").converted(amount, {"CurrencyIsoCode": "JPY"})  # type: ignore[arg-type]
    if {"USD", "JPY"} <= rates.keys():
        back = Currencies(_Rates(rates), "JPY").converted(there, {"CurrencyIsoCode": "USD"})  # type: ignore[arg-type]
        assert there is not None and back is not None
        assert back == pytest.approx(amount, rel=1e-6, abs=0.01 + 0.01 * rates["JPY"] / rates["USD"])
    else:
        assert there is None


def test_hubspots_deals_in_another_currency_have_no_amount(org: Any, world: Any) -> None:
    portal = Portal(org, world)
    portal.empty()
    company = portal.companies(1)[1]
    of = {"dealname": "Deal", "amount": "900000", "pipeline": "default", "dealstage": "qualifiedtobuy"}
    codes: dict[str, dict[str, str]] = {code: {"deal_currency_code": code} for code in ("JPY", "USD")} | {"": {}}
    deals = {code: portal.make("deals", company, **of, **more) for code, more in codes.items()}
    told: list[str] = []
    found = {
        r["opportunity_id"]: r["amount"] for r in portal.client(currency="USD").read_opportunities(None, told.append)
    }
    assert found == {deals["JPY"]: None, deals["USD"]: 900_000.0, deals[""]: 900_000.0}
    assert len(told) == 1 and "1 in JPY" in told[0]
