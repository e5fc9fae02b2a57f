"""What the contract suite needs of a CRM's stand-in: records to look at, and people who work with them.

Those that speak HTTP are here, by the name of their CRM. A CRM kept in memory may offer the same itself, as the static
method `stand_in` of its class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pkgutil import resolve_name
from typing import Any, Protocol

from onetouch.connections import Connection
from onetouch.crm import CRMS
from onetouch.crm.hubspot.fields import PROPERTIES, text_of
from onetouch.crm.salesforce.fields import CONTEXT
from onetouch.sandbox.fields import make_id

from tests.crm.portal import OTTO, OWNERS, RITA, Portal
from tests.delivery.world import AS_OF, OTHER, OWNER

Row = dict[str, Any]


@dataclass(frozen=True)
class SeenTask:
    """A task as a rep sees it."""

    task_id: str
    handoff_id: str | None
    subject: str
    description: str
    is_done: bool
    is_deleted: bool
    owner_id: str | None
    crm_account_id: str | None
    contact_id: str | None
    due_on: date | None = None


class StandIn(Protocol):
    """An empty CRM with two reps, Rita and Otto; its clock stands at AS_OF of `tests.delivery.world`."""

    connection: Connection
    rita: str
    otto: str
    contact_fields: Mapping[str, str | None]
    """What of `crm.contact_fields` is called otherwise there."""

    def clock(self, at: datetime) -> None:
        """What time it is there."""

    def lacks_fields(self) -> None:
        """From now on our fields are not there."""

    def calls_a_day(self, calls: int) -> None:
        """So many calls may be made this day."""

    def fails(self, what: str, how: str, times: int) -> None:
        """Calls of a kind (`reps`: reading users, `tasks`, `accounts`: creating them) get no answer, so many times.

        `request`: they do not arrive; `answer`: they do, and the answer is lost; `busy`: the CRM says to come again.
        A client tries five times: three failures are waited out, 99 are not.
        """

    def accounts(self, *numbers: int) -> dict[int, str]:
        """Accounts of Rita's named "Company 1" at company1.example: number → CRM id."""

    def account(self, crm_id: str) -> Row:
        """name, domain, owner_id of an account, and of AccountContext what is not empty."""

    def renames(self, crm_id: str, name: str) -> None:
        """Somebody gives an account another name."""

    def how_many_accounts(self) -> int:
        """Deleted ones do not count."""

    def tasks(self) -> list[SeenTask]:
        """All tasks, deleted ones too."""

    def edits(self, task_id: str, **changed: Any) -> None:
        """A rep changes the task's subject, description, is_done, outcome, disposition or owner_id."""

    def deletes(self, thing: str, record_id: str) -> None:
        """Somebody deletes an `account`, `contact`, `task` or `deal`."""

    def merges(self, into: str, account: str) -> str:
        """Somebody merges an account into another; gives the id of the one that is left."""

    def deal(self, account: str, state: str) -> str:
        """A deal of the account: open, won or lost."""

    def logs(self, kind: str, account: str, subject: str, owner_id: str) -> str:
        """Somebody logs a `call` or a `meeting` of this moment, or writes down a `task` for later."""

    def contact(self, email: str, account: str) -> str:
        """A contact of an account, named Doe."""

    def opts_out(self, contact: str, *channels: str) -> None:
        """From now on the contact may not be contacted by these channels: `call`, `email`."""

    def hides(self, what: str) -> None:
        """The CRM does not keep or does not show us `do_not_call` or `email_opt_out` of contacts."""

    def people(self) -> list[Row]:
        """crm_account_id, email, name, title and owner_id of all contacts that are not deleted."""


def stand_in(name: str, world: Any) -> StandIn:
    """The stand-in of the CRM of that name."""
    if name in STAND_INS:
        return STAND_INS[name](world)
    found: StandIn = resolve_name(CRMS[name][1]).stand_in()
    return found


class SalesforceOrg:
    """The sandbox's org, over HTTP."""

    contact_fields: Mapping[str, str | None] = {}
    rita, otto = OWNER, OTHER

    def __init__(self, world: Any) -> None:
        self.world, self.org = world, world.org
        extra = {"instance_url": self.org.url, "consumer_key": "sandbox-key", "consumer_secret": "sandbox-secret"}
        self.connection = Connection("salesforce_default", extra=extra)

    def clock(self, at: datetime) -> None:
        self.org.clock(at)

    def lacks_fields(self) -> None:
        body = {"fields": [{"name": "Id", "updateable": False}]}
        for thing in ("Account", "Task"):
            self.org.post("faults", [{"match": f"{thing}/describe", "status": 200, "body": body, "times": 99}])

    def calls_a_day(self, calls: int) -> None:
        self.org.post("limits", {"api_daily": calls})

    def fails(self, what: str, how: str, times: int) -> None:
        where = {"match": "/query", "method": "GET"} if what == "reps" else {"match": "sobjects$", "method": "POST"}
        busy = {"status": 503, "body": "busy"} if how == "busy" else {"drop": how}
        self.org.post("faults", [where | busy | {"times": times}])

    def accounts(self, *numbers: int) -> dict[int, str]:
        self.world.accounts(*numbers)
        return {n: make_id("001", n) for n in numbers}

    def account(self, crm_id: str) -> Row:
        row = self.org.account(crm_id)
        known = {"name": row["Name"], "domain": row["Website"], "owner_id": row["OwnerId"]}
        found = known | {name: row[field] for name, (field, _) in CONTEXT.items() if row[field] is not None}
        if "activated" in found:
            found["activated"] = bool(found["activated"])
        if "as_of" in found:
            found["as_of"] = datetime.fromisoformat(found["as_of"])
        return found

    def renames(self, crm_id: str, name: str) -> None:
        self.world.rep_writes("Account", crm_id, Name=name)

    def how_many_accounts(self) -> int:
        return int(self.org.state()["accounts"])

    def tasks(self) -> list[SeenTask]:
        return [
            SeenTask(
                task_id=task["Id"],
                handoff_id=task["Onetouch_Handoff_Id__c"],
                subject=task["Subject"],
                description=task["Description"] or "",
                is_done=bool(task["IsClosed"]),
                is_deleted=bool(task["IsDeleted"]),
                owner_id=task["OwnerId"],
                crm_account_id=task["WhatId"],
                contact_id=task["WhoId"],
                due_on=date.fromisoformat(day) if (day := task["ActivityDate"]) else None,
            )
            for task in self.org.tasks()
        ]

    def edits(self, task_id: str, **changed: Any) -> None:
        names = {
            "subject": "Subject", "description": "Description", "outcome": "Onetouch_Outcome__c",
            "disposition": "Onetouch_Disposition__c", "owner_id": "OwnerId",
        }  # fmt: skip
        fields = {names[name]: value for name, value in changed.items() if name != "is_done"}
        if "is_done" in changed:
            fields["Status"] = "Completed" if changed["is_done"] else "Not Started"
        self.world.rep_writes("Task", task_id, **fields)

    def deletes(self, thing: str, record_id: str) -> None:
        types = {"account": "Account", "contact": "Contact", "task": "Task", "deal": "Opportunity"}
        self.world.rep_writes(types[thing], record_id)

    def merges(self, into: str, account: str) -> str:
        self.org.post("merge", {"winner": into, "losers": [account]})
        return into

    def deal(self, account: str, state: str) -> str:
        stage = {"open": "Prospecting", "won": "Closed Won", "lost": "Closed Lost"}[state]
        fields = {"Name": "Deal", "StageName": stage, "CloseDate": "2025-11-17", "Amount": 1200.5}
        return str(self.world.rep_writes("Opportunity", None, AccountId=account, OwnerId=OWNER, **fields))

    def logs(self, kind: str, account: str, subject: str, owner_id: str) -> str:
        fields: Row = {"Subject": subject, "WhatId": account, "OwnerId": owner_id}
        if kind == "meeting":
            at = {"ActivityDateTime": "2025-11-18T09:30:00Z", "DurationInMinutes": 30}
            return str(self.world.rep_writes("Event", None, **fields, **at))
        if kind == "call":
            fields |= {"TaskSubtype": "Call", "Status": "Completed"}
        return str(self.world.rep_writes("Task", None, **fields))

    def contact(self, email: str, account: str) -> str:
        return str(self.world.rep_writes("Contact", None, LastName="Doe", Email=email, AccountId=account))

    def people(self) -> list[Row]:
        soql = "SELECT AccountId, Email, FirstName, LastName, Title, OwnerId FROM Contact WHERE IsDeleted = false"
        return [
            {
                "crm_account_id": row["AccountId"], "email": row["Email"], "title": row["Title"],
                "name": " ".join(filter(None, [row["FirstName"], row["LastName"]])), "owner_id": row["OwnerId"],
            }
            for row in self.world.salesforce()._transport.query(soql)
        ]  # fmt: skip

    def opts_out(self, contact: str, *channels: str) -> None:
        fields = {"call": "DoNotCall", "email": "HasOptedOutOfEmail"}
        self.world.rep_writes("Contact", contact, **{fields[channel]: True for channel in channels})

    def hides(self, what: str) -> None:
        field = {"do_not_call": "DoNotCall", "email_opt_out": "HasOptedOutOfEmail"}[what]
        self.org.post("hidden", {"fields": [f"Contact.{field}"]})


DO_NOT_CALL = {
    "name": "do_not_call", "label": "Do not call", "type": "bool", "fieldType": "booleancheckbox",
    "groupName": "own", "options": [{"label": name, "value": name} for name in ("true", "false")],
}  # fmt: skip
"""HubSpot has no such property of its own: the account has made one."""


class HubSpotAccount:
    """The sandbox's HubSpot account, over HTTP."""

    contact_fields: Mapping[str, str | None] = {"do_not_call": "do_not_call"}
    rita, otto = RITA, OTTO

    def __init__(self, world: Any) -> None:
        self.portal = Portal(world.org, world)
        self.portal.empty()
        self.portal.load(owners=[OWNERS[1] | {"archived": False}], properties={"contacts": [DO_NOT_CALL]})
        extra = {"base_url": self.portal.url}
        self.connection = Connection("hubspot_default", password="pat-sandbox-token", extra=extra)

    def clock(self, at: datetime) -> None:
        self.portal.org.clock(at)

    def lacks_fields(self) -> None:
        match = {"match": "/crm/v3/properties/", "method": "GET"}
        self.portal.fault(**match, status=200, body={"results": []}, times=99)

    def calls_a_day(self, calls: int) -> None:
        self.portal.org.post("limits", {"hubspot_daily": calls})

    def fails(self, what: str, how: str, times: int) -> None:
        busy = {"status": 503, "body": "busy"} if how == "busy" else {"drop": how}
        where = {"reps": "/crm/v3/owners", "tasks": "tasks/batch/create", "accounts": "companies/batch/create"}[what]
        self.portal.fault(match=where, **busy, times=times)

    def accounts(self, *numbers: int) -> dict[int, str]:
        return self.portal.companies(*numbers)

    def account(self, crm_id: str) -> Row:
        properties = self.portal.record("companies", id=crm_id)["properties"]
        found = {"name": properties.get("name"), "domain": properties.get("domain")}
        found["owner_id"] = properties.get("hubspot_owner_id")
        for definition in PROPERTIES["companies"]:
            if value := properties.get(definition["name"]):
                name = definition["name"].removeprefix("onetouch_").replace("usage_28d", "usage")
                read = {
                    "number": float, "bool": lambda text: text == "true", "datetime": datetime.fromisoformat,
                }.get(definition["type"], str)  # fmt: skip
                found[name] = read(value)
        return found

    def renames(self, crm_id: str, name: str) -> None:
        self.portal.write("companies", crm_id, name=name)

    def how_many_accounts(self) -> int:
        return sum(not company["archived"] for company in self.portal.records("companies"))

    def tasks(self) -> list[SeenTask]:
        found = []
        for task in self.portal.records("tasks"):
            properties, links = task["properties"], task["associations"]
            found.append(
                SeenTask(
                    task_id=task["id"],
                    handoff_id=properties.get("onetouch_handoff_id"),
                    subject=properties.get("hs_task_subject", ""),
                    description=text_of(properties.get("hs_task_body")),
                    is_done=properties.get("hs_task_status") == "COMPLETED",
                    is_deleted=task["archived"],
                    owner_id=properties.get("hubspot_owner_id"),
                    crm_account_id=next(iter(links.get("companies", [])), None),
                    contact_id=next(iter(links.get("contacts", [])), None),
                    due_on=datetime.fromisoformat(day).date() if (day := properties.get("hs_timestamp")) else None,
                )
            )
        return found

    def edits(self, task_id: str, **changed: Any) -> None:
        names = {
            "subject": "hs_task_subject", "description": "hs_task_body", "outcome": "onetouch_outcome",
            "disposition": "onetouch_disposition", "owner_id": "hubspot_owner_id",
        }  # fmt: skip
        properties = {names[name]: value for name, value in changed.items() if name != "is_done"}
        if "is_done" in changed:
            properties["hs_task_status"] = "COMPLETED" if changed["is_done"] else "NOT_STARTED"
        self.portal.write("tasks", task_id, **properties)

    def deletes(self, thing: str, record_id: str) -> None:
        types = {"account": "companies", "contact": "contacts", "task": "tasks", "deal": "deals"}
        self.portal.delete(types[thing], record_id)

    def merges(self, into: str, account: str) -> str:
        body = {"primaryObjectId": into, "objectIdToMerge": account}
        return str(self.portal.post("v3/objects/companies/merge", body)["id"])

    def deal(self, account: str, state: str) -> str:
        stage = {"open": "contractsent", "won": "closedwon", "lost": "closedlost"}[state]
        fields = {"dealname": "Deal", "dealstage": stage, "amount": "1200.5", "closedate": "2025-11-17T00:00:00Z"}
        return self.portal.make("deals", account, hubspot_owner_id=RITA, **fields)

    def logs(self, kind: str, account: str, subject: str, owner_id: str) -> str:
        at = {"hs_timestamp": "2025-11-18T09:30:00Z", "hubspot_owner_id": owner_id}
        fields = {
            "call": {"hs_call_title": subject, "hs_call_status": "COMPLETED", "hs_timestamp": AS_OF.isoformat()},
            "meeting": {"hs_meeting_title": subject, "hs_meeting_end_time": "2025-11-18T10:00:00Z"},
            "task": {"hs_task_subject": subject, "hs_task_status": "NOT_STARTED"},
        }[kind]
        return self.portal.make(f"{kind}s", account, **at | fields)

    def contact(self, email: str, account: str) -> str:
        return self.portal.make("contacts", account, email=email, lastname="Doe")

    def people(self) -> list[Row]:
        found = []
        for contact in self.portal.records("contacts"):
            of, companies = contact["properties"], contact["associations"].get("companies", [])
            if not contact["archived"]:
                found.append(
                    {
                        "crm_account_id": next(iter(companies), None),
                        "email": of.get("email"),
                        "name": " ".join(filter(None, [of.get("firstname"), of.get("lastname")])) or None,
                        "title": of.get("jobtitle"),
                        "owner_id": of.get("hubspot_owner_id"),
                    }
                )
        return found

    def opts_out(self, contact: str, *channels: str) -> None:
        if "call" in channels:
            self.portal.write("contacts", contact, do_not_call="true")
        if "email" in channels:
            self.portal.load(unsubscribed={contact: True})

    def hides(self, what: str) -> None:
        name = {"do_not_call": "do_not_call", "email_opt_out": "hs_email_optout"}[what]
        there = self.portal.http.get(f"{self.portal.url}/crm/v3/properties/contacts", timeout=10).json()["results"]
        body = {"results": [definition for definition in there if definition["name"] != name]}
        self.portal.fault(match="/crm/v3/properties/contacts", method="GET", status=200, body=body, times=99)


STAND_INS: dict[str, Any] = {"salesforce": SalesforceOrg, "hubspot": HubSpotAccount}
