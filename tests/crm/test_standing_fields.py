"""The field of the action is asked for only where the policy writes standings: an upgrade stops no delivery."""

from __future__ import annotations

import pytest
from onetouch.connections import Connection
from onetouch.crm import FieldsMissing
from onetouch.crm.hubspot.fields import ACTION, PROPERTIES, properties_used
from onetouch.crm.salesforce import Salesforce
from onetouch.sandbox.in_process import URL, Adapter, Org


def salesforce(org: Org, *, standing: bool) -> Salesforce:
    extra = {"instance_url": URL, "consumer_key": "sandbox-key", "consumer_secret": "sandbox-secret"}
    session = org.session()
    crm = Salesforce(Connection(conn_id="salesforce_default", extra=extra), session=session, standing=standing)
    session.mount("https://", Adapter(org))
    return crm


def test_salesforce_lacks_the_action() -> None:
    org = Org()
    org.store.set("hidden", ["Account.Onetouch_Action__c"])
    salesforce(org, standing=False).check_fields()
    with pytest.raises(FieldsMissing, match=r"Account\.Onetouch_Action__c is missing"):
        salesforce(org, standing=True).check_fields()


def test_hubspot_needs_what_the_policy_uses() -> None:
    def names(*, deals: bool, standing: bool) -> set[str]:
        used = properties_used(deals=deals, standing=standing)
        return {f"{thing}.{definition['name']}" for thing, wanted in used.items() for definition in wanted}

    every = {f"{thing}.{definition['name']}" for thing, wanted in PROPERTIES.items() for definition in wanted}
    assert names(deals=True, standing=True) == every
    assert every - names(deals=True, standing=False) == {f"companies.{ACTION}"}
    assert {name.partition(".")[0] for name in every - names(deals=False, standing=True)} == {"deals"}
