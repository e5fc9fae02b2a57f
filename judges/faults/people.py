"""The people of the accounts, who may opt out of being contacted, and the judge of guarantee 11."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from onetouch.sandbox.fields import make_id

if TYPE_CHECKING:
    from judges.faults.oracle import Oracle
    from judges.faults.process import Process
    from judges.faults.world import Account, World

OPTED_OUT = "opted out"
"""Fact of an account: the only person known there asked, in the CRM, neither to be called nor to be written to."""


class People:
    """One contact of each account in the CRM."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.contact = world.org.store.org["contact"]
        with world.org.store.transaction():
            for account in world.accounts:
                address = f"person@company{account.number}.example"
                person = {"Id": self._id(account), "LastName": "Doe", "Email": address, "AccountId": account.crm_id}
                world.records.load(self.contact, person)

    def opts_out(self) -> str | None:
        """Somebody opts out of calls and e-mail; nobody does where everybody has."""
        left = [account for account in self.world.accounts if not account.at(OPTED_OUT, "account deleted")]
        if not left:
            return None
        account = self.world.rng.choice(left)
        fields = {"DoNotCall": True, "HasOptedOutOfEmail": True}
        self.world.records.update(self.contact, self._id(account), fields)
        return self.world._note(account, OPTED_OUT)

    @staticmethod
    def _id(account: Account) -> str:
        return make_id("003", account.number)


def may_be_contacted(account: Account, at: datetime) -> bool:
    """Whether anybody of the account may be contacted, as far as the CRM says at that moment."""
    return not any(moment <= at for moment in account.at(OPTED_OUT))


def judge_task(oracle: Oracle, process: Process, account: Account) -> None:
    """Judges the making of a task: the product asks again after it has written the account's fields."""
    looked = max(process.began, process.wrote)
    if not may_be_contacted(account, looked):
        oracle.violated(11, f"a task for {account.account_id}, where everybody was known to have opted out")
