"""The stand-in as each CRM: what the judge of real processes loads into it, and reads of it afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from onetouch.connections import Connection
from onetouch.crm import connect
from onetouch.policy import Policy
from onetouch.sandbox.fields import make_id

from judges.faults.world import HANDOFF_ID, REPS, Account

Row = dict[str, Any]
Post = Callable[[str, Any], None]
Get = Callable[[str], Any]


class Side(Protocol):
    """`reps`: (id, e-mail address, name) of each; `creates`: the end of the path to which new tasks are posted."""

    reps: tuple[tuple[str, str, str], ...]
    creates: str

    def connection(self, url: str) -> Connection:
        """The connection to the stand-in at this address."""

    def begin(self, url: str, post: Post, policy: Policy) -> None:
        """Loads the reps and our fields into an emptied stand-in."""

    def crm_id(self, number: int) -> str:
        """The record of the account of this number."""

    def accounts(self, post: Post, accounts: Iterable[Account], created: str) -> None:
        """Loads accounts, created at that moment."""

    def tasks(self, get: Get) -> list[str | None]:
        """The handoff of every task that is not deleted."""


class SalesforceSide:
    """The stand-in's Salesforce org."""

    reps = REPS
    creates = "composite/sobjects"

    def connection(self, url: str) -> Connection:
        extra = {"instance_url": url, "consumer_key": "sandbox-key", "consumer_secret": "sandbox-secret"}
        return Connection("salesforce_default", extra=extra)

    def begin(self, url: str, post: Post, policy: Policy) -> None:
        users = [{"Id": i, "Name": n, "Email": e, "Username": e, "IsActive": True} for i, e, n in self.reps]
        post("load", {"User": users})

    def crm_id(self, number: int) -> str:
        return make_id("001", number)

    def accounts(self, post: Post, accounts: Iterable[Account], created: str) -> None:
        rows = [
            {
                "Id": account.crm_id, "Name": f"Company {account.number}", "CreatedDate": created,
                "Website": f"https://company{account.number}.example", "OwnerId": self.reps[account.owner][0],
            }
            for account in accounts
        ]  # fmt: skip
        post("load", {"Account": rows})

    def tasks(self, get: Get) -> list[str | None]:
        return [task[HANDOFF_ID] for task in get("state")["tasks"] if not task["IsDeleted"]]


class HubSpotSide:
    """The stand-in's HubSpot account, whose search finds a change only some seconds later."""

    reps = (("101", "rita@rep.example", "Rita"), ("102", "otto@rep.example", "Otto"))
    creates = "tasks/batch/create"

    def connection(self, url: str) -> Connection:
        return Connection("hubspot_default", password="pat-sandbox-token", extra={"base_url": url})

    def begin(self, url: str, post: Post, policy: Policy) -> None:
        post("limits", {"hubspot_ten_seconds": 1e6, "hubspot_searches": 1e6, "hubspot_search_lag": 10})
        post("hubspot", {"owners": [{"id": i, "email": e, "firstName": n} for i, e, n in self.reps]})
        connect(self.connection(url), policy).create_fields()

    def crm_id(self, number: int) -> str:
        return str(500 + number)

    def accounts(self, post: Post, accounts: Iterable[Account], created: str) -> None:
        rows = []
        for account in accounts:
            properties = {"name": f"Company {account.number}", "domain": f"company{account.number}.example"}
            properties["hubspot_owner_id"] = self.reps[account.owner][0]
            rows.append({"id": account.crm_id, "createdAt": created, "properties": properties})
        post("hubspot", {"objects": {"companies": rows}})

    def tasks(self, get: Get) -> list[str | None]:
        tasks = get("hubspot").get("tasks", [])
        return [task["properties"].get("onetouch_handoff_id") for task in tasks if not task["archived"]]


SIDES: dict[str, Side] = {"salesforce": SalesforceSide(), "hubspot": HubSpotSide()}
"""By `crm.system` of the policy."""
