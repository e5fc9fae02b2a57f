"""The Salesforce client: nothing is written twice and no row's outcome is lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from functools import partial
from itertools import chain, islice
from typing import Any, Literal, Self
from urllib.parse import quote

import requests
from tenacity.wait import wait_base

from onetouch.connections import Connection
from onetouch.crm.protocol import (
    MEETING,
    NOT_YET,
    UNKNOWN,
    Activity,
    CannotCreateFields,
    CrmError,
    Due,
    FieldsMissing,
    Finding,
    OurWrites,
    Outcome,
    Row,
    Tell,
    Thing,
)
from onetouch.crm.salesforce.answers import (
    EVENT_FIELDS,
    LEAD,
    TASK_FIELDS,
    activity_of,
    as_attended,
    as_written,
    datetime_of,
    host_of,
    meetings_in,
    survivor,
    tasks_in,
    value_of,
)
from onetouch.crm.salesforce.bulk import Job
from onetouch.crm.salesforce.closing import WAYS, Answering, Closing, Reassigning
from onetouch.crm.salesforce.contacts import Contacts
from onetouch.crm.salesforce.currencies import Currencies
from onetouch.crm.salesforce.duplicates import Alike, Duplicates
from onetouch.crm.salesforce.fields import (
    ACCOUNT_ID,
    ACTION,
    AS_OF,
    CONTACT_KEY,
    DISPOSITION,
    HANDOFF_ID,
    OUTCOME,
    OWN_VALUES,
    contact_fields,
    contact_key,
    context_fields,
    cut,
    missing,
    opportunity_fields,
    own_problems,
    problems,
    task_fields,
)
from onetouch.crm.salesforce.persons import IS_PERSON, Persons
from onetouch.crm.salesforce.rehearsal import Rehearsal
from onetouch.crm.salesforce.rows import DELETED, DUPLICATE, LOCKED, ROWS, Batch, Look
from onetouch.crm.salesforce.transport import Record, Transport, soql_of
from onetouch.events import account_of_user, business_domain
from onetouch.handoff import AccountContext, OpportunityContent, TaskContent, extra_fields
from onetouch.policy import EXTRA_FACTS, Policy
from onetouch.stop import WhyStopped, never

_LOOKED_UP = 2_000
"""Ours: activities among which logged e-mails are looked up together."""

_NO_PERSON = Outcome(
    ok=False, code="NO_RECORD", message="a lone user has no person account, and crm.lone_users is leave"
)

TRIAL = "Onetouch trial"
"""What records are called that are written and undone to see whether they would be taken."""

_REFERENCE = frozenset(
    {
        DELETED,
        "INVALID_CROSS_REFERENCE_KEY",
        "FIELD_INTEGRITY_EXCEPTION",
        "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY",
    }
)
"""Error codes of a row with a reference that is not allowed."""


class Salesforce:
    """One org as the product's CRM (see `crm.protocol.Crm`), signed in when first used.

    The connection's extras are those of Airflow's Salesforce connection: `instance_url` (or `domain`),
    `consumer_key`, `consumer_secret` for client credentials, or `private_key` with the user as login for JWT
    bearer; `version`. `api_reserve`: the share of the org's daily calls that is left to others. `account_fields`,
    `contact_fields`: those of the policy's `crm`. `bulk_above`: a write of more rows than that is a bulk job. `clock`:
    returns the machine's time, since the expiry of a signed assertion is checked by Salesforce's clock and not by
    as_of. `makes_contacts`: contacts are created, so their fields are checked, too; `standing`: so is the field of the
    action, which only standings have. `extra_fields`: object → the company's own fields that we write; `record_types`:
    object → the developer name of the record type of what we create; `task_values`: as fields.OWN_VALUES.
    `currency`: that of the amounts that are read and written. `duplicates`, `lone_users`: those of the policy's `crm`.
    Raises
    ConnectionConfigError at once when the connection cannot work.
    """

    name = "salesforce"

    def __init__(
        self,
        connection: Connection,
        *,
        bulk_above: int = 2_000,
        api_reserve: float = 0.0,
        wait: wait_base | None = None,
        sleep: Callable[[float], None] = time.sleep,
        session: requests.Session | None = None,
        clock: Callable[[], float] = time.time,
        account_fields: Mapping[str, str | None] | None = None,
        contact_fields: Mapping[str, str | None] | None = None,
        stopped: WhyStopped = never,
        makes_contacts: bool = False,
        standing: bool = False,
        duplicates: Duplicates = "ask",
        lone_users: Literal["person", "account", "leave"] = "account",
        extra_fields: Mapping[str, Collection[str]] | None = None,
        record_types: Mapping[str, str] | None = None,
        task_values: Mapping[str, str] | None = None,
        currency: str | None = None,
    ) -> None:
        self._extra, self._types = extra_fields or {}, record_types or {}
        self._values = {**OWN_VALUES, **(task_values or {})}
        self._makes_contacts, self._standing = makes_contacts, standing
        self._transport = Transport(
            connection,
            api_reserve=api_reserve,
            wait=wait,
            sleep=sleep,
            session=session,
            clock=clock,
            stopped=stopped,
        )
        self._currencies = Currencies(self._transport, currency)
        self._bulk_above = bulk_above
        self._fields = account_fields or {}
        self._people = Contacts(self._transport, contact_fields or {})
        self._persons, self._persons_are = Persons(self._transport), lone_users
        self._alike = Alike(self._transport, duplicates, self._fields.get("domain") or "Website")
        self._checked: set[str] = set()

    @classmethod
    def connect(
        cls, connection: Connection, policy: Policy, *, stopped: WhyStopped, sleep: Callable[[float], None]
    ) -> Self:
        """See Crm."""
        return cls(
            connection,
            bulk_above=policy.delivery.bulk_above,
            api_reserve=policy.delivery.api_reserve,
            account_fields=policy.crm.account_fields,
            makes_contacts=policy.crm.contacts == "create",
            standing=policy.crm.standing == "everybody",
            duplicates=policy.crm.duplicates,
            lone_users=policy.crm.lone_users,
            contact_fields=dict(policy.crm.contact_fields),
            stopped=stopped,
            sleep=sleep,
            **cls.own_rules(policy),
        )

    @staticmethod
    def own_rules(policy: Policy) -> dict[str, Any]:
        """The settings that the policy makes for rules of the company's own."""
        return {
            "extra_fields": {kind.capitalize(): [*own] for kind, own in policy.crm.extra_fields},
            "record_types": {kind.capitalize(): own for kind, own in policy.crm.record_types if own},
            "currency": policy.crm.currency,
            "task_values": {name: value for name, value in policy.crm.task_values if value},
        }

    def page(self, thing: Thing, record_id: str) -> str | None:
        """See Crm. The org leads from this address to the record's page, of whatever type it is."""
        return f"{self._transport.base}/{quote(record_id, safe='')}"

    # ── reading ──────────────────────────────────────────────────────────────────────────────────

    def read_reps(self) -> Iterator[Row]:
        """See Crm."""
        for user in self._transport.query("SELECT Id, Name, Email, IsActive, TimeZoneSidKey FROM User"):
            yield {
                "owner_id": user["Id"],
                "email": user["Email"],
                "name": user["Name"],
                "active": user["IsActive"],
                "timezone": user["TimeZoneSidKey"],
            }

    def read_accounts(
        self,
        policy: Policy,
        since: datetime | None = None,
        ours: OurWrites | None = None,
        tell: Tell = lambda _: None,
    ) -> Iterator[Row]:
        """See Crm."""
        own = {column: field for column, field in policy.crm.account_fields.items() if field}
        _raise(list(missing("Account", self._transport.fields("Account") or {}, [ACCOUNT_ID, *own.values()])))
        master = self._present("Account", "MasterRecordId", IS_PERSON)
        names = dict.fromkeys(["Id", ACCOUNT_ID, "OwnerId", "CreatedDate", "IsDeleted", *master, *own.values()])
        names |= dict.fromkeys(self._currencies.columns("Account"))
        soql = f"SELECT {', '.join(names)} FROM Account"
        if since is None:
            records = self._transport.query(soql)
        else:
            changed = soql_of(" WHERE SystemModstamp >= {since}", since=since)
            by_others = f" AND (IsDeleted = true OR {AS_OF} != {{as_of}} OR SystemModstamp > {{until}})"
            for as_of, until in sorted(ours.until.items()) if ours and self._present("Account", AS_OF) else ():
                changed += soql_of(by_others, as_of=as_of, until=until)
            unread = f"{soql} WHERE Id IN {{values}}"
            records = chain(
                self._transport.query(soql + changed, include_deleted=True),
                self._transport.query_in(unread, ours.unread if ours else (), include_deleted=True),
            )
        for record in records:
            values = {column: value_of(record, field) for column, field in own.items()}
            if isinstance(values.get("arr"), int | float):
                values["arr"] = self._currencies.converted(values["arr"], record)
            if record.get(IS_PERSON):  # the domain of a person's website or mailbox is no company's
                values |= {name: None for name in ("domain", "domains") if name in values}
            yield {
                "crm_account_id": record["Id"],
                "owner_id": record["OwnerId"],
                "account_id": record[ACCOUNT_ID],
                "created_at": datetime_of(record["CreatedDate"]),
                "is_deleted": record["IsDeleted"],
                "merged_into": record.get("MasterRecordId"),
            } | values
        self._currencies.tell("accounts", tell)

    def last_written(self, as_of: datetime) -> datetime | None:
        """See Crm."""
        soql = f"SELECT SystemModstamp FROM Account WHERE {AS_OF} = {{as_of}} ORDER BY SystemModstamp DESC LIMIT 1"
        last = next(self._transport.query(soql_of(soql, as_of=as_of)), None)
        return datetime_of(last["SystemModstamp"]) if last else None

    def read_opportunities(self, since: datetime | None = None, tell: Tell = lambda _: None) -> Iterator[Row]:
        """See Crm. `closed_at`: the CloseDate of a closed opportunity. An opportunity without an account is deleted."""
        soql = (
            "SELECT Id, AccountId, StageName, IsClosed, IsWon, Amount, CreatedDate, CloseDate, SystemModstamp, "
            f"{', '.join(['LeadSource', 'OwnerId', 'IsDeleted', *self._currencies.columns('Opportunity')])} "
            "FROM Opportunity WHERE "
        )
        soql += "AccountId != null" if since is None else soql_of("SystemModstamp >= {since}", since=since)
        for deal in self._transport.query(soql, include_deleted=since is not None):
            yield {
                "opportunity_id": deal["Id"],
                "crm_account_id": deal["AccountId"],
                "stage": deal["StageName"],
                "is_closed": deal["IsClosed"],
                "is_won": deal["IsWon"],
                "amount": self._currencies.converted(deal["Amount"], deal, deal["CloseDate"]),
                "created_at": datetime_of(deal["CreatedDate"]),
                "closed_at": datetime_of(deal["CloseDate"]) if deal["IsClosed"] else None,
                "lead_source": deal["LeadSource"],
                "owner_id": deal["OwnerId"],
                "changed_at": datetime_of(deal["SystemModstamp"]),
                "is_deleted": deal["IsDeleted"] or not deal["AccountId"],
            }
        self._currencies.tell("opportunities", tell)

    def read_activities(self, since: datetime) -> Iterator[Activity]:
        """See Crm. Returns meetings that changed or took place at or after `since`."""
        about = f"(AccountId != null OR Who.Type = 'Lead' OR {HANDOFF_ID} != null)"
        tasks = soql_of(f"{self._task_soql()} AND {about}", since=since)
        yield from self._as_it_was(tasks_in(self._transport.query(tasks, include_deleted=True)))
        if soql := self._event_soql():
            meetings = soql_of(f"{soql} AND (AccountId != null OR Who.Type = 'Lead')", since=since)
            yield from self._as_it_was(meetings_in(self._transport.query(meetings, include_deleted=True)))

    def activities_of(self, records: Collection[str], since: datetime) -> Iterator[Activity]:
        """See Crm."""
        leads = {record for record in records if record.startswith(LEAD)}
        for field, ids in (("AccountId", set(records) - leads), ("AccountId = null AND WhoId", leads)):
            for soql, told in ((self._task_soql(), tasks_in), (self._event_soql(), meetings_in)):
                if ids and soql:
                    its = f"{soql} AND {field} IN {{values}}"
                    found = told(self._transport.query_in(its, ids, include_deleted=True, since=since))
                    yield from self._as_it_was(found)

    def _as_it_was(self, activities: Iterable[Activity]) -> Iterator[Activity]:
        """The activities, each logged e-mail with who wrote it, each meeting with whether the customer came."""
        found = iter(activities)
        while part := list(islice(found, _LOOKED_UP)):
            of_kind = {kind: [a.activity_id for a in part if a.kind == kind] for kind in ("email", MEETING)}
            written = self._emails_of(of_kind["email"]) if of_kind["email"] else {}
            invited = self._invited_to(of_kind[MEETING]) if of_kind[MEETING] else {}
            for activity in part:
                if activity.kind == "email":
                    activity = as_written(activity, written.get(activity.activity_id))
                elif activity.kind == MEETING:
                    activity = as_attended(activity, invited.get(activity.activity_id, ()))
                yield activity

    def _invited_to(self, meetings: Collection[str]) -> dict[str, list[Record]]:
        """Meeting → those invited to it; empty where invitations are not visible to us."""
        wanted = ["EventId", "RelationId", "Status"]
        if self._present("EventRelation", *wanted) != wanted:
            return {}
        soql = f"SELECT {', '.join(wanted)} FROM EventRelation WHERE EventId IN {{values}}"
        found: dict[str, list[Record]] = {}
        for record in self._transport.query_in(soql, meetings):
            found.setdefault(record["EventId"], []).append(record)
        return found

    def _emails_of(self, tasks: Collection[str]) -> dict[str, Record]:
        """Task → the e-mail that is logged as it; empty where e-mails are not visible to us."""
        if self._present("EmailMessage", "ActivityId", "Incoming") != ["ActivityId", "Incoming"]:
            return {}
        names = ["ActivityId", "Incoming", *self._present("EmailMessage", "Headers")]
        soql = f"SELECT {', '.join(names)} FROM EmailMessage WHERE ActivityId IN {{values}}"
        return {record["ActivityId"]: record for record in self._transport.query_in(soql, tasks)}

    def _task_soql(self) -> str:
        return f"SELECT {', '.join(self._task_fields())} FROM Task WHERE SystemModstamp >= {{since}}"

    def _event_soql(self) -> str:
        """The query for meetings; empty where they are not visible to us."""
        if self._transport.fields("Event") is None:
            return ""
        more = self._present("Event", "EndDateTime", "IsChild")
        moments = ["SystemModstamp", "ActivityDateTime", *(name for name in more if name == "EndDateTime")]
        changed = " OR ".join(f"{name} >= {{since}}" for name in moments)
        return f"SELECT {', '.join([*EVENT_FIELDS, *more])} FROM Event WHERE ({changed})"

    def tasks_of(self, keys: Iterable[str]) -> dict[str, Activity]:
        """See Crm."""
        found: dict[str, Activity] = {}
        soql = f"SELECT {', '.join(self._task_fields())} FROM Task WHERE {HANDOFF_ID} IN {{values}}"
        for record in self._transport.query_in(soql, keys, include_deleted=True):
            task = activity_of(record)
            if task.key and (task.key not in found or not task.is_deleted):
                found[task.key] = task
        return found

    def keyed_tasks(self, since: datetime) -> Iterator[Activity]:
        """See Crm."""
        soql = f"SELECT {', '.join(self._task_fields())} FROM Task WHERE {HANDOFF_ID} != null AND CreatedDate >= "
        yield from map(activity_of, self._transport.query(soql_of(soql + "{since}", since=since), include_deleted=True))

    def opportunities_since(self, since: datetime, records: Collection[str] = ()) -> set[str]:
        """See Crm."""
        soql = (
            "SELECT AccountId FROM Opportunity WHERE AccountId != null AND SystemModstamp >= {since} "
            "AND (IsClosed = false OR CreatedDate >= {since})"
        )
        found = {deal["AccountId"] for deal in self._transport.query(soql_of(soql, since=since))}
        soql = "SELECT AccountId FROM Opportunity WHERE IsClosed = false AND AccountId IN {values}"
        accounts = [record for record in records if not record.startswith(LEAD)]
        return found | {deal["AccountId"] for deal in self._transport.query_in(soql, accounts)}

    def gone_since(self, since: datetime) -> dict[str, str | None]:
        """See Crm. After several merges in turn the surviving account is the last one; a converted lead of ours maps to
        the account it became.
        """
        names = ["Id", *self._present("Account", "MasterRecordId")]
        soql = f"SELECT {', '.join(names)} FROM Account WHERE IsDeleted = true AND SystemModstamp >= {{since}}"
        records = self._transport.query(soql_of(soql, since=since), include_deleted=True)
        gone = {record["Id"]: record.get("MasterRecordId") for record in records}
        if self._present("Lead", ACCOUNT_ID, "ConvertedAccountId") == [ACCOUNT_ID, "ConvertedAccountId"]:
            soql = (
                f"SELECT Id, ConvertedAccountId FROM Lead WHERE {ACCOUNT_ID} != null AND SystemModstamp >= {{since}} "
                "AND (IsDeleted = true OR ConvertedAccountId != null)"
            )
            leads = self._transport.query(soql_of(soql, since=since), include_deleted=True)
            gone |= {lead["Id"]: lead["ConvertedAccountId"] for lead in leads}
        return {account: survivor(account, gone) for account in gone}

    def contacts(self, emails: Collection[str]) -> dict[tuple[str, str], str]:
        """See Crm."""
        found: dict[tuple[str, str], str] = {}
        soql = "SELECT Id, Email, AccountId FROM Contact WHERE Email IN {values} ORDER BY CreatedDate, Id"
        for contact in self._transport.query_in(soql, {email.strip().lower() for email in emails if email}):
            found.setdefault((contact["AccountId"] or "", contact["Email"].lower()), contact["Id"])
        return found

    def read_contacts(self, since: datetime | None = None, tell: Tell = lambda _: None) -> Iterator[Row]:
        """See Crm."""
        yield from self._people.changed(since, tell)

    def contacts_of(self, records: Collection[str], emails: Collection[str] = ()) -> Iterator[Row]:
        """See Crm."""
        yield from self._people.of(records, emails)

    def _present(self, thing: str, *names: str) -> list[str]:
        """Which of the named fields exist in the org and are visible to us."""
        there = self._transport.fields(thing) or {}
        return [name for name in names if name in there]

    def _task_fields(self) -> list[str]:
        _raise(list(missing("Task", self._transport.fields("Task") or {}, [HANDOFF_ID, OUTCOME])))
        return [*TASK_FIELDS, *self._present("Task", DISPOSITION, "CallType")]

    # ── writing ──────────────────────────────────────────────────────────────────────────────────

    def check_fields(self) -> None:
        """See Crm."""
        self._check("Account", "Task", *(["Contact"] if self._makes_contacts else []))

    def create_fields(self) -> list[str]:
        """See Crm. Raises CannotCreateFields: in an org, fields are deployed together with their permissions."""
        raise CannotCreateFields("Salesforce: fields are deployed, see include/salesforce/README.md")

    def _check(self, *things: str) -> None:
        """Checks our fields of these objects, once for each client and object."""
        wrong: list[str] = []
        for thing in [thing for thing in things if thing not in self._checked]:
            there = self._transport.fields(thing) or {}
            wrong += problems(thing, there, () if self._standing else (ACTION,), self._values)
            wrong += own_problems(thing, there, self._extra.get(thing, ()))
            if thing in self._types and self._record_type(thing) is None:
                wrong.append(f"{thing} has no record type {self._types[thing]} that the integration user may use")
            if thing == "Account":
                wrong += missing(thing, there, filter(None, self._fields.values()))
        _raise(wrong)
        self._checked |= set(things)

    def _record_type(self, thing: str) -> str | None:
        """The id of the record type that the policy names, where the integration user may use it."""
        for known in self._transport.described(thing).get("recordTypeInfos") or []:
            if (
                known.get("developerName") == self._types[thing]
                and known.get("available")
                and known.get("active", True)
            ):
                return str(known["recordTypeId"])
        return None

    def _typed(self, thing: str, record: Record) -> Record:
        """A record that is about to be created, with the record type that the policy names."""
        return record | {"RecordTypeId": self._record_type(thing)} if thing in self._types else record

    def rehearse(self, policy: Policy, today: date) -> list[Finding]:
        """See Crm. The records of the trial are named "Onetouch trial" and undone in the request that writes them."""
        return Rehearsal(self._transport, self._trial(policy, today), self._values["closed"]).findings()

    def _trial(self, policy: Policy, today: date) -> dict[str, Record]:
        """One record of each object that the policy makes us create, as it would be written."""
        facts = {name: 1 if name == "score" else TRIAL for name in EXTRA_FACTS} | {"tier": "high"}
        extra = extra_fields(facts, facts, policy, handoff_id=TRIAL)
        reps = {rep.email.casefold() for rep in policy.assignment.reps}
        owners = [r["owner_id"] for r in self.read_reps() if r["active"] and str(r["email"]).casefold() in reps]
        made = {"account": "Account", "lead": "Lead"}.get(policy.crm.unknown_accounts)
        records: dict[str, Record] = {}
        if made:
            row = {"name": TRIAL, "domain": "onetouch-trial.invalid", "extra": extra.get(policy.crm.unknown_accounts)}
            records[made] = self._new_account(made, TRIAL, row)
        if account := next(self._transport.query("SELECT Id FROM Account LIMIT 1"), None):
            of = str(account["Id"])
        else:
            of = f"@{{{made}.id}}"
        if policy.crm.contacts == "create":
            person = {"email": "trial@onetouch-trial.invalid", "name": TRIAL, "crm_account_id": of}
            records["Contact"] = contact_fields(person | {"extra": extra.get("contact")}) | {CONTACT_KEY: TRIAL}
        task = TaskContent(TRIAL, TRIAL, "high", today, owner_id=min(owners, default=None), extra=extra.get("task"))
        about = {"WhoId" if of == "@{Lead.id}" else "WhatId": of} if account or made else {}
        records["Task"] = task_fields(task, self._values) | about | {HANDOFF_ID: TRIAL}
        return {thing: self._typed(thing, record) for thing, record in records.items()}

    def ensure_accounts(self, rows: Mapping[str, Row], kind: str) -> dict[str, Outcome]:
        """See Crm. A deleted record of ours is not created again (`deleted`); for a merged one the surviving record is
        returned.

        A record of the same domain that holds the id of another product account is not used; of several free records
        the first created is.
        """
        thing = "Lead" if kind == "lead" else "Account"
        self._check(thing)
        outcomes = self._known_accounts(rows)
        unknown = sorted(set(rows) - set(outcomes))
        twins = self._of_same_domain({a: domain for a in unknown if (domain := _domain(rows[a]))})
        lone = {a: email for a in unknown if not _domain(rows[a]) and (email := _lone_address(a, rows[a]))}
        twins |= self._persons.of_addresses(lone)
        outcomes |= self._claim(twins)
        new = {a: self._new_account(thing, a, rows[a]) for a in unknown if a not in twins}
        begun = bool(twins)
        if persons := self._lone_users(rows, new):
            outcomes |= dict.fromkeys(persons, _NO_PERSON)
            if self._persons_are == "person":
                made = {a: self._persons.fields(a, rows[a], _lone_address(a, rows[a])) for a in persons}
                outcomes |= self._make("Account", made, rows, begun=begun)
                begun = True
            new = {a: record for a, record in new.items() if a not in persons}
        outcomes |= self._make(thing, new, rows, begun=begun)
        return outcomes | _twins(outcomes, self._known_accounts)

    def _lone_users(self, rows: Mapping[str, Row], new: Iterable[str]) -> list[str]:
        """Those of the new accounts that are lone users and not to be kept as companies are; none in an org without
        person accounts."""
        if self._persons_are == "account":
            return []
        lone = [a for a in new if _is_lone(a) and not _domain(rows[a])]
        return lone if lone and self._persons.there else []

    def _make(
        self, thing: str, new: Mapping[str, Record], rows: Mapping[str, Row], *, begun: bool
    ) -> dict[str, Outcome]:
        """Creates accounts or leads, account id → record; those that look like others are settled."""
        records = list(new.values())
        made = self._insert(thing, records, Look(ACCOUNT_ID, self._known_accounts), begun=begun)
        outcomes = dict(zip(new, self._alike.named(thing, records, made), strict=True))
        own = {a: (_domain(rows[a]), _lone_address(a, rows[a])) for a in new}
        return outcomes | self._alike.settled(thing, new, outcomes, own, partial(self._claim, begun=True))

    def _claim(self, records: Mapping[str, str], *, begun: bool = False) -> dict[str, Outcome]:
        """Writes our external id to existing accounts or leads: account id → record id."""
        claims = sorted(records, key=lambda a: records[a])
        ids = [{"id": records[a], ACCOUNT_ID: a} for a in claims]
        written = self._update([_thing(records[a]) for a in claims], ids, begun=begun)
        return dict(zip(claims, written, strict=True))

    def _known_accounts(self, account_ids: Iterable[str]) -> dict[str, Outcome]:
        """The record that holds the id of each product account."""
        wanted = set(account_ids)
        found: dict[str, Outcome] = {}
        for thing, successor in (("Account", "MasterRecordId"), ("Lead", "ConvertedAccountId")):
            if ACCOUNT_ID not in (self._transport.fields(thing) or {}):
                continue
            names = ["Id", ACCOUNT_ID, "IsDeleted", *self._present(thing, successor)]
            soql = f"SELECT {', '.join(names)} FROM {thing} WHERE {ACCOUNT_ID} IN {{values}}"
            for record in self._transport.query_in(soql, wanted, include_deleted=True):
                account_id, record_id = record[ACCOUNT_ID], record.get(successor) or record["Id"]
                gone = record["IsDeleted"] and not record.get(successor)
                refused = Outcome(ok=False, code=DELETED, message="deleted in the CRM", deleted=True)
                if account_id not in found or not found[account_id].ok:
                    found[account_id] = refused if gone else Outcome(ok=True, id=record_id)
        return {account_id: outcome for account_id, outcome in found.items() if account_id in wanted}

    def _of_same_domain(self, domains: Mapping[str, str]) -> dict[str, str]:
        """Account id → a record of the same domain without an id of ours, an account before a lead; no record twice."""
        field = self._fields.get("domain") or "Website"
        free: dict[str, str] = {}
        for thing in ("Account", "Lead"):
            if self._present(thing, ACCOUNT_ID, field) != [ACCOUNT_ID, field]:
                continue
            more = self._present(thing, "ConvertedAccountId", IS_PERSON)
            soql = f"SELECT {', '.join(['Id', field, ACCOUNT_ID, *more])} FROM {thing} WHERE"
            for record in self._transport.query_any(soql, f"{field} LIKE '%{{value:like}}%'", domains.values()):
                if not record[ACCOUNT_ID] and not record.get("ConvertedAccountId") and not record.get(IS_PERSON):
                    free[record["Id"]] = host_of(record[field])
        found: dict[str, str] = {}
        for account_id, domain in sorted(domains.items()):
            same = [i for i, host in sorted(free.items()) if f".{host}".endswith(f".{domain.lower()}")]
            if same:
                found[account_id] = same[0]
                del free[same[0]]
        return found

    def _new_account(self, thing: str, account_id: str, row: Row) -> Record:
        name = str(row.get("name") or row.get("domain") or account_id)
        record = {"Company": cut(name, 255), "LastName": cut(name, 80)} if thing == "Lead" else {"Name": cut(name, 255)}
        website = self._fields.get("domain") or "Website"
        if row.get("domain") and (self._transport.fields(thing) or {}).get(website, {}).get("createable"):
            record[website] = row["domain"]
        if row.get("owner_id"):
            record["OwnerId"] = row["owner_id"]
        return dict(row.get("extra") or {}) | record | {ACCOUNT_ID: account_id}

    def ensure_contacts(self, rows: Mapping[str, Row]) -> dict[str, Outcome]:
        """See Crm. The unique external id ensures one contact even when two processes write at once. A lead is a person
        itself and gets no contact."""
        self._check("Contact")
        leads = {key for key, row in rows.items() if row["crm_account_id"].startswith(LEAD)}
        nobody = dict.fromkeys(leads, Outcome(ok=False, code="LEAD", message="the record is a lead, not an account"))
        rows = {key: row for key, row in rows.items() if key not in leads}
        there = self.contacts({row["email"] for row in rows.values()})
        of = {key: (row["crm_account_id"], row["email"].lower()) for key, row in rows.items()}
        found = {key: there.get(at) or there.get(("", at[1])) for key, at in of.items()}
        outcomes = {key: Outcome(ok=True, id=contact) for key, contact in found.items() if contact is not None}
        new = {contact_key(*at): key for key, at in sorted(of.items()) if key not in outcomes}
        made = self._known_contacts(new)
        records = {k: contact_fields(rows[key]) | {CONTACT_KEY: k} for k, key in new.items() if k not in made}
        look = Look(CONTACT_KEY, self._known_contacts)
        written = self._insert("Contact", list(records.values()), look, begun=False)
        written = self._alike.named("Contact", list(records.values()), written)
        made |= dict(zip(records, written, strict=True))
        made |= self._alike.settled_contacts(records, made)
        made |= _twins(made, self._known_contacts)
        return nobody | outcomes | {key: made[k] for k, key in new.items()}

    def _known_contacts(self, keys: Iterable[str]) -> dict[str, Outcome]:
        """The contact that we created under each key."""
        names = ["Id", CONTACT_KEY, "IsDeleted", *self._present("Contact", "MasterRecordId")]
        soql = f"SELECT {', '.join(names)} FROM Contact WHERE {CONTACT_KEY} IN {{values}}"
        found: dict[str, Outcome] = {}
        for record in self._transport.query_in(soql, keys, include_deleted=True):
            survivor_id = record.get("MasterRecordId") or (None if record["IsDeleted"] else record["Id"])
            gone = Outcome(ok=False, code=DELETED, message="deleted in the CRM", deleted=True)
            found[record[CONTACT_KEY]] = Outcome(ok=True, id=survivor_id) if survivor_id else gone
        return found

    def update_accounts(self, rows: Mapping[str, AccountContext]) -> dict[str, Outcome]:
        """See Crm. Leads (an id that begins with 00Q) have the same fields."""
        ids = sorted(rows)
        records = [{"id": i} | context_fields(rows[i]) for i in ids]
        outcomes = self._update([_thing(i) for i in ids], records)
        return dict(zip(ids, outcomes, strict=True))

    def create_tasks(self, rows: Mapping[str, TaskContent], unsure: Collection[str] = ()) -> dict[str, Outcome]:
        """See Crm. The unique external id ensures one task even when two processes write at once."""
        outcomes = self._adopted(h for h in unsure if h in rows)
        # Inserting a task locks its account. One order for all, so that two writers wait and do not deadlock.
        new = sorted((h for h in rows if h not in outcomes), key=lambda h: (str(rows[h].crm_account_id), h))
        persons = self._persons.contacts({str(rows[h].crm_account_id) for h in new if rows[h].crm_account_id})
        records = {h: _related(task_fields(rows[h], self._values), persons) | {HANDOFF_ID: h} for h in new}
        outcomes |= self._insert_tasks(records)
        # A contact that cannot be referred to (deleted, moved, not shared with us): the task is created without it.
        nobody = {
            h: {name: value for name, value in records[h].items() if name != "WhoId"}
            for h in new
            if outcomes[h].code in _REFERENCE and {"WhatId", "WhoId"} <= records[h].keys()
        }
        outcomes |= self._insert_tasks(nobody, begun=True)
        return outcomes | _twins(outcomes, self._adopted)

    def _insert_tasks(self, records: Mapping[str, Record], *, begun: bool = False) -> dict[str, Outcome]:
        outcomes = self._insert("Task", list(records.values()), Look(HANDOFF_ID, self._adopted), begun=begun)
        return dict(zip(records, outcomes, strict=True))

    def close_tasks(self, reasons: Mapping[str, tuple[str, str]]) -> dict[str, Outcome]:
        """See Crm."""
        outcomes: dict[str, Outcome] = {}
        for fields in WAYS:
            left = {
                handoff_id: why
                for handoff_id, why in reasons.items()
                if handoff_id not in outcomes or not (outcomes[handoff_id].ok or outcomes[handoff_id].retryable)
            }
            if left:
                closing = Closing(
                    self._transport, self.tasks_of, left, fields, self.check_fields, self._values["closed"]
                )
                outcomes |= closing.close(begun=bool(outcomes))
        return outcomes

    def reassign_tasks(
        self, owners: Mapping[str, tuple[str, str]], due: Mapping[str, Due] | None = None
    ) -> dict[str, Outcome]:
        """See Crm."""
        giving = Reassigning(self._transport, self.tasks_of, owners, due or {}, self.check_fields)
        return giving.give() if owners else {}

    def answer_tasks(self, answers: Mapping[str, str | None]) -> dict[str, Outcome]:
        """See Crm."""
        if not answers:
            return {}
        closed = self._values["closed"]
        return Answering(self._transport, self.tasks_of, answers, self.check_fields, closed).answer()

    def create_opportunities(
        self, rows: Mapping[str, OpportunityContent], unsure: Collection[str] = ()
    ) -> dict[str, Outcome]:
        """See Crm. The contact is named where the org has the field for it."""
        leads = {h for h, row in rows.items() if str(row.crm_account_id).startswith(LEAD)}
        outcomes = {h: Outcome(ok=False, code=NOT_YET, message="a lead", retryable=True) for h in leads}
        if not rows.keys() - leads:
            return outcomes
        self._check("Opportunity")
        outcomes |= self._opportunities_made(h for h in unsure if h in rows and h not in leads)
        stages = (self._transport.fields("Opportunity") or {})["StageName"].get("picklistValues") or []
        first = next((str(value["value"]) for value in stages if value.get("active", True)), "Prospecting")
        contact = self._present("Opportunity", "ContactId")
        records = {
            h: self._currencies.priced(opportunity_fields(row if contact else replace(row, contact_id=None), first))
            | {HANDOFF_ID: h}
            for h, row in sorted(rows.items())
            if h not in outcomes
        }
        look = Look(HANDOFF_ID, self._opportunities_made)
        made = self._insert("Opportunity", list(records.values()), look, begun=bool(leads))
        outcomes |= dict(zip(records, made, strict=True))
        return outcomes | _twins(outcomes, self._opportunities_made)

    def _opportunities_made(self, handoff_ids: Iterable[str]) -> dict[str, Outcome]:
        """The existing opportunity of each handoff that has one."""
        soql = f"SELECT Id, {HANDOFF_ID}, IsDeleted FROM Opportunity WHERE {HANDOFF_ID} IN {{values}}"
        records = self._transport.query_in(soql, handoff_ids, include_deleted=True)
        return {r[HANDOFF_ID]: Outcome(ok=True, id=r["Id"], deleted=r["IsDeleted"]) for r in records}

    def _adopted(self, keys: Iterable[str]) -> dict[str, Outcome]:
        """The existing task of each key that has one, to be adopted as the rep's."""
        tasks = self.tasks_of(keys).values()
        return {str(t.key): Outcome(ok=True, id=t.activity_id, deleted=t.is_deleted) for t in tasks}

    def _update(self, things: Sequence[str], records: Sequence[Record], *, begun: bool = False) -> list[Outcome]:
        """Writes fields of records by `id`; `things` are their types. One outcome for each record, in their order."""
        typed = [{"attributes": {"type": t}} | record for t, record in zip(things, records, strict=True)]
        outcomes = self._send("PATCH", typed, begun=begun)
        # An id that refers to nothing: the record was removed from the recycle bin, too.
        gone = "INVALID_CROSS_REFERENCE_KEY"
        return [replace(o, deleted=True, retryable=False) if o.code == gone else o for o in outcomes]

    def _insert(self, thing: str, records: Sequence[Record], look: Look, *, begun: bool) -> list[Outcome]:
        """Creates records that carry a unique key; one outcome for each record, in their order."""
        typed = [{"attributes": {"type": thing}} | self._typed(thing, record) for record in records]
        return self._send("POST", typed, look, begun=begun)

    def _send(
        self, method: str, records: Sequence[Record], look: Look | None = None, *, begun: bool = False
    ) -> list[Outcome]:
        """One outcome for each record. Raises CrmError only when nothing was sent and the write had not `begun`."""
        if not records:
            return []
        self.check_fields()
        kind = Batch if len(records) <= self._bulk_above else Job
        outcomes = kind(self._transport, method, records, look).send(begun=begun)
        locked = [i for i, outcome in enumerate(outcomes) if outcome.code == LOCKED]
        if kind is Job and 0 < len(locked) <= ROWS:  # a few rows that others were writing just then
            again = Batch(self._transport, method, [records[i] for i in locked], look).send(begun=True)
            for i, outcome in zip(locked, again, strict=True):
                outcomes[i] = outcome
        return outcomes


def _raise(wrong: Sequence[str]) -> None:
    if wrong:
        raise FieldsMissing(
            f"Salesforce: {'; '.join(wrong)}. Deploy include/salesforce (sf project deploy start), give the "
            "integration user the permission set Onetouch (and Onetouch_Contacts, if crm.contacts is create), "
            "and let it see the fields of crm.account_fields"
        )


def _domain(row: Row) -> str:
    """The domain of a product account; empty for that of a free-mail provider, which is nobody's own."""
    domain = str(row.get("domain") or "").strip().lower()
    return domain if business_domain(domain) else ""


def _is_lone(account_id: str) -> bool:
    """Whether a product account is a person who belongs to no company."""
    return account_id.startswith(account_of_user(""))


def _lone_address(account_id: str, row: Row) -> str:
    """The e-mail address of a lone user; empty for a company, whose people are not the company."""
    if not _is_lone(account_id):
        return ""
    address = account_id.removeprefix(account_of_user("")).strip().lower()
    return address if "@" in address else str((row.get("contact") or {}).get("email") or "").strip().lower()


def _thing(record_id: str) -> str:
    return "Lead" if record_id.startswith(LEAD) else "Account"


def _related(task: Record, persons: Mapping[str, str]) -> Record:
    """A lead's task refers to the lead in WhoId, since Salesforce allows no lead in WhatId; that of a person account to
    its contact, `persons`, from which Salesforce works out the account."""
    related = str(task.get("WhatId"))
    if related.startswith(LEAD) or related in persons:
        rest = {name: value for name, value in task.items() if name != "WhatId"}
        return rest | {"WhoId": persons.get(related, related)}
    return task


def _twins(
    outcomes: Mapping[str, Outcome], adopted: Callable[[Iterable[str]], Mapping[str, Outcome]]
) -> dict[str, Outcome]:
    """Outcomes of rows refused because their key exists: the record that has it. When it cannot be looked up now, the
    outcome is unknown and the next run looks it up first."""
    taken = {key: outcome for key, outcome in outcomes.items() if outcome.code == DUPLICATE}
    try:
        return dict(adopted(taken))
    except CrmError:
        return {key: replace(outcome, code=UNKNOWN, retryable=True) for key, outcome in taken.items()}
