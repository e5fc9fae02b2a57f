"""The HubSpot client: nothing is written twice and no row's outcome is lost."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import date, datetime
from typing import Any, Self
from urllib.parse import quote

from tenacity.wait import wait_base

from onetouch.connections import Connection
from onetouch.crm.hubspot import fields
from onetouch.crm.hubspot.answers import (
    ACTIVITIES,
    COMPANY,
    DEAL,
    MERGED,
    account_of,
    activity_of,
    created_at,
    merged_ids,
    opportunity_of,
    state_of,
)
from onetouch.crm.hubspot.contacts import Contacts
from onetouch.crm.hubspot.fields import ACCOUNT_ID, AS_OF, HANDOFF_ID
from onetouch.crm.hubspot.records import BATCH, Filter, Record, Records, parts
from onetouch.crm.hubspot.rehearsal import rehearsed
from onetouch.crm.hubspot.rows import Rows
from onetouch.crm.hubspot.transport import Transport
from onetouch.crm.protocol import (
    RELEASED,
    UNKNOWN,
    Activity,
    CrmError,
    Due,
    FieldsMissing,
    Finding,
    OurWrites,
    Outcome,
    Refused,
    Row,
    Tell,
    Thing,
    answered,
    left_alone,
    note,
)
from onetouch.handoff import AccountContext, OpportunityContent, TaskContent, extra_fields
from onetouch.policy import EXTRA_FACTS, Policy
from onetouch.stop import WhyStopped, never

_TOGETHER = 1_000
"""Ours: records whose companies are requested at once."""

_PAGES = "https://app.hubspot.com/contacts"
"""Where people work; HubSpot leads from there to the region of the account."""

_OTHER_COMPANY = Outcome(ok=False, code="OTHER_COMPANY", message="the contact is another company's")

_SEARCH_CHARS = 2_000
"""Ours: characters of the list of values in one search; HubSpot allows 3,000 for the whole search."""


class HubSpot:
    """One account, through its official client. The connection's password is the token of a private app.

    `api_reserve`: the share of the account's daily calls that is left to others. `deals`: whether we create deals, and
    `standing`: whether we write standings, for which their properties must be there. `contact_fields`: the policy's
    `crm.contact_fields`. `extra_fields`: object type → the company's own properties that we write; `task_values`: as
    fields.OWN_VALUES; `currency`: that of the amounts that are read. Raises ConnectionConfigError at once when the
    connection cannot work.
    """

    name = "hubspot"

    def __init__(
        self,
        connection: Connection,
        *,
        api_reserve: float = 0.0,
        deals: bool = False,
        standing: bool = False,
        wait: wait_base | None = None,
        sleep: Callable[[float], None] = time.sleep,
        contact_fields: Mapping[str, str | None] | None = None,
        stopped: WhyStopped = never,
        extra_fields: Mapping[str, Collection[str]] | None = None,
        task_values: Mapping[str, str] | None = None,
        currency: str | None = None,
    ) -> None:
        self._currency, self._codes = currency, set[str]()
        self._extra = {thing: own for thing, own in (extra_fields or {}).items() if own}
        self._values = {**fields.OWN_VALUES, **(task_values or {})}
        self._portal = str(connection.extra.get("portal_id") or "")
        self._transport = Transport(connection, api_reserve=api_reserve, wait=wait, sleep=sleep, stopped=stopped)
        self._records = Records(self._transport)
        self._people = Contacts(self._records, contact_fields or {})
        self._rows = Rows(self._transport, self._records)
        self._checked = False
        self._ours = fields.properties_used(deals=deals, standing=standing)

    @classmethod
    def connect(
        cls, connection: Connection, policy: Policy, *, stopped: WhyStopped, sleep: Callable[[float], None]
    ) -> Self:
        """See Crm."""
        return cls(
            connection,
            api_reserve=policy.delivery.api_reserve,
            deals=policy.crm.opportunity != "never",
            standing=policy.crm.standing == "everybody",
            contact_fields=dict(policy.crm.contact_fields),
            extra_fields={
                "tasks": [*policy.crm.extra_fields.task],
                "companies": [*policy.crm.extra_fields.account, *policy.crm.extra_fields.lead],
                "contacts": [*policy.crm.extra_fields.contact],
            },
            currency=policy.crm.currency,
            task_values={name: value for name, value in policy.crm.task_values if value},
            stopped=stopped,
            sleep=sleep,
        )

    def page(self, thing: Thing, record_id: str) -> str | None:
        """See Crm. A company's page, where the connection's extra `portal_id` says whose account it is; its timeline
        shows the task."""
        if thing == "task" or not self._portal:
            return None
        return f"{_PAGES}/{quote(self._portal, safe='')}/record/0-2/{quote(record_id, safe='')}"

    # ── reading ──────────────────────────────────────────────────────────────────────────────────

    def read_reps(self) -> Iterator[Row]:
        """See Crm. Time zones are those of the users' settings, where the app may read them."""
        zones = self._timezones()
        for left in (False, True):
            for owner in self._records.owners(deleted=left):
                user = str(owner.get("userId") or owner.get("userIdIncludingInactive") or "")
                yield {
                    "owner_id": str(owner["id"]),
                    "email": owner.get("email"),
                    "name": f"{owner.get('firstName') or ''} {owner.get('lastName') or ''}".strip(),
                    "active": not left,
                    "timezone": zones.get(user),
                }

    def read_accounts(
        self,
        policy: Policy,
        since: datetime | None = None,
        ours: OurWrites | None = None,
        tell: Tell = lambda _: None,
    ) -> Iterator[Row]:
        """See Crm. Accounts are companies; `policy.crm.account_fields` may hold HubSpot's own property names."""
        columns = {c: fields.company_property(f) for c, f in policy.crm.account_fields.items() if f}
        wanted = [*COMPANY, *columns.values()]
        if since is None:
            for record in self._records.all("companies", wanted):
                yield account_of(record, columns)
            return
        for groups in _by_others(since, ours.until if ours else {}):
            for record in self._records.search("companies", wanted, *groups):
                yield account_of(record, columns)
        for record in self._records.of_ids("companies", sorted(ours.unread) if ours else (), wanted):
            yield account_of(record, columns)
        nothing = dict.fromkeys(["owner_id", "account_id", "created_at", *columns])
        for old, new in self.gone_since(since).items():
            yield nothing | {"crm_account_id": old, "is_deleted": True, "merged_into": new}

    def last_written(self, as_of: datetime) -> datetime | None:
        """See Crm. Search finds a change only some seconds later, so the moment may be a little early."""
        changed = "hs_lastmodifieddate"
        record = self._records.last("companies", changed, [_equal(AS_OF, as_of)])
        return fields.datetime_of(record["properties"].get(changed)) if record else None

    def read_opportunities(self, since: datetime | None = None, tell: Tell = lambda _: None) -> Iterator[Row]:
        """See Crm. Opportunities are deals; a deal of several companies counts for its primary company.

        An amount in another currency than the policy's is unknown: HubSpot's rates are not read.
        """
        stages, foreign = self._records.stages(), Counter[str]()
        records = (
            self._records.all("deals", DEAL)
            if since is None
            else self._records.search("deals", DEAL, [_changed(since)])
        )
        for part in parts(records, _TOGETHER):
            companies = self._records.companies_of("deals", [deal["id"] for deal in part])
            for deal in part:
                if deal["id"] in companies:
                    row = opportunity_of(deal, companies[deal["id"]], stages)
                    code = deal["properties"].get("deal_currency_code")
                    if row["amount"] is not None and self._currency and code and code != self._currency:
                        foreign[code] += 1
                        row["amount"] = None
                    yield row
        if since is not None:
            for deal in self._records.deleted_since("deals", DEAL, since):
                yield opportunity_of(deal, None, stages)
        if foreign:
            codes = ", ".join(f"{n} in {code}" for code, n in sorted(foreign.items()))
            tell(f"deals: amounts that are not in {self._currency} (crm.currency) are unknown: {codes}")

    def read_activities(self, since: datetime) -> Iterator[Activity]:
        """See Crm. An e-mail the customer wrote is an answer. Meetings that changed or ended since `since` are read.

        Of deleted activities only tasks are returned: a deleted call or e-mail is not a touch.
        """
        for thing, wanted in ACTIVITIES.items():
            groups = [[_changed(since)]]
            if thing == "meetings":
                groups.append([_from("hs_meeting_end_time", since)])
            found = self._records.search(thing, wanted, *groups)
            yield from (a for a in self._activities(thing, found) if a.crm_account_id or a.handoff_id)
        yield from (
            activity_of("tasks", r, None) for r in self._records.deleted_since("tasks", ACTIVITIES["tasks"], since)
        )

    def tasks_of(self, keys: Iterable[str]) -> dict[str, Activity]:
        """See Crm."""
        found = self._records.of_values("tasks", HANDOFF_ID, keys, ACTIVITIES["tasks"])
        return {str(a.key): a for a in self._activities("tasks", found.values())}

    def keyed_tasks(self, since: datetime) -> Iterator[Activity]:
        """See Crm."""
        key = {"propertyName": HANDOFF_ID, "operator": "HAS_PROPERTY"}
        wanted = ACTIVITIES["tasks"]
        yield from self._activities(
            "tasks", self._records.search("tasks", wanted, [key, _from("hs_createdate", since)])
        )
        for record in self._records.deleted_since("tasks", wanted, since):  # created since means deleted since, too
            if record["properties"].get(HANDOFF_ID) and created_at(record) >= since:
                yield activity_of("tasks", record, None)

    def activities_of(self, records: Collection[str], since: datetime) -> Iterator[Activity]:
        """See Crm. Every changed activity is read, since HubSpot's search cannot filter by a list of companies."""
        if records:
            yield from (activity for activity in self.read_activities(since) if activity.crm_account_id in records)

    def opportunities_since(self, since: datetime, records: Collection[str] = ()) -> set[str]:
        """See Crm."""
        stages = self._records.stages()
        deals = self._records.search("deals", DEAL, [_changed(since)])
        recent = [d["id"] for d in deals if not state_of(d, stages)[1] or created_at(d) >= since]
        found = set(self._records.companies_of("deals", recent).values())
        deals_of_all = self.read_opportunities() if records else ()
        open_ones = {str(d["crm_account_id"]) for d in deals_of_all if not d["is_closed"]}
        return found | (open_ones & set(records))

    def gone_since(self, since: datetime) -> dict[str, str | None]:
        """See Crm. HubSpot merges two companies into a new one, which lists the ids of both."""
        gone: dict[str, str | None] = {r["id"]: None for r in self._records.deleted_since("companies", [], since)}
        merged = {"propertyName": MERGED, "operator": "HAS_PROPERTY"}
        into = [
            *self._records.search("companies", [MERGED], [merged, _changed(since)]),
            # The id of a merged company returns the new company at once, before the search index contains it.
            *self._records.of_ids("companies", list(gone), [MERGED]),
        ]
        for record in into:
            gone |= dict.fromkeys(merged_ids(record), record["id"])
        return gone

    def contacts(self, emails: Collection[str]) -> dict[tuple[str, str], str]:
        """See Crm. In HubSpot an address is of one contact, which may belong to several companies."""
        addresses = sorted({email.strip().lower() for email in emails if email.strip()})
        known = self._records.of_ids("contacts", addresses, ["email"], key="email")
        ids = {r["id"]: r["properties"]["email"].lower() for r in known if r["properties"].get("email")}
        companies = self._records.all_companies_of("contacts", ids) if ids else {}
        return {(company, email): i for i, email in ids.items() for company in companies.get(i) or [""]}

    def read_contacts(self, since: datetime | None = None, tell: Tell = lambda _: None) -> Iterator[Row]:
        """See Crm."""
        yield from self._people.changed(since, tell)

    def contacts_of(self, records: Collection[str], emails: Collection[str] = ()) -> Iterator[Row]:
        """See Crm."""
        yield from self._people.of(records, emails)

    # ── writing ──────────────────────────────────────────────────────────────────────────────────

    def check_fields(self) -> None:
        """See Crm."""
        if self._checked:
            return
        problems = []
        for thing, wanted in self._ours.items():
            there = self._records.definitions(thing)
            if thing == "deals":
                self._codes = _options(there.get("deal_currency_code") or {})
            for definition in wanted:
                name = definition["name"]
                if name not in there:
                    problems.append(f"{thing}.{name} is missing")
                elif (there[name].get("modificationMetadata") or {}).get("readOnlyValue"):
                    problems.append(f"{thing}.{name} may not be written")
                elif definition.get("hasUniqueValue") and not there[name].get("hasUniqueValue"):
                    problems.append(f"{thing}.{name} is not unique")
                elif there[name].get("type") != definition["type"]:
                    problems.append(f"{thing}.{name} is of type {there[name].get('type')}, not {definition['type']}")
                elif lacking := _options(definition) - _options(there[name]):
                    problems.append(f"{thing}.{name} lacks {', '.join(sorted(lacking))}")
        for thing, own in self._extra.items():
            there = self._records.definitions(thing)
            problems += [f"{thing}.{name} (crm.extra_fields) is missing" for name in own if name not in there]
        if problems:
            raise FieldsMissing(
                f"HubSpot: {', '.join(problems)}; create them (onetouch crm check --create, or docs/hubspot.md)"
            )
        self._checked = True

    def create_fields(self) -> list[str]:
        """See Crm. Creates properties in a group of their own; returns names such as tasks.onetouch_…"""
        made = []
        for thing, wanted in self._ours.items():
            there = self._records.definitions(thing)
            missing = [definition for definition in wanted if definition["name"] not in there]
            if not missing:
                continue
            group = {"name": fields.GROUP, "label": fields.GROUP.capitalize()}
            self._unless_there(self._transport.property_groups.create, thing, group)
            for definition in missing:
                self._unless_there(self._transport.properties.create, thing, definition)
                made.append(f"{thing}.{definition['name']}")
        self._checked = False
        return made

    def rehearse(self, policy: Policy, today: date) -> list[Finding]:
        """See Crm. HubSpot has no write that can be undone: only the definitions of its properties are looked at."""
        facts = {name: 1 if name == "score" else "trial" for name in EXTRA_FACTS}
        extra = extra_fields(facts, facts, policy, handoff_id="trial")
        task = TaskContent("trial", "trial", "high", today, extra=extra.get("task"))
        trial = {"tasks": fields.task_properties(task, self._values)}
        if (kind := policy.crm.unknown_accounts) != "leave":
            trial["companies"] = _company("trial", {"name": "trial", "extra": extra.get(kind)}, kind)
        if policy.crm.contacts == "create":
            row = {"name": "trial", "crm_account_id": "1", "extra": extra.get("contact")}
            trial["contacts"] = fields.contact_input("trial@onetouch-trial.invalid", row)["properties"]
        return list(rehearsed(self._records, trial))

    def ensure_accounts(self, rows: Mapping[str, Row], kind: str) -> dict[str, Outcome]:
        """See Crm. A lead is a company in the lifecycle stage lead. A deleted record of ours is not created again.

        Search finds a company only some seconds after its creation, so a company that a rep has just created may be
        missed.
        """
        if not rows:
            return {}
        self.check_fields()
        outcomes = self._rows.made("companies", ACCOUNT_ID, rows)
        adopted = self._of_domain({a: row for a, row in rows.items() if a not in outcomes})
        named = self._rows.update("companies", {i: {ACCOUNT_ID: account_id} for account_id, i in adopted.items()})
        outcomes |= {account_id: named[i] for account_id, i in adopted.items()}
        self._rows.look_again("companies", ACCOUNT_ID, adopted, outcomes)
        new = {a: {"properties": _company(a, row, kind)} for a, row in rows.items() if a not in outcomes}
        return outcomes | self._rows.create("companies", ACCOUNT_ID, new, sent=bool(adopted))

    def ensure_contacts(self, rows: Mapping[str, Row]) -> dict[str, Outcome]:
        """See Crm. An address that belongs to a contact without a company is that contact's, who is left as it is; one
        of another company's contact is refused."""
        there = self.contacts({row["email"] for row in rows.values()})
        elsewhere = {email for _, email in there}
        outcomes, new = dict[str, Outcome](), dict[str, tuple[str, Row]]()
        for key, row in rows.items():
            email = row["email"].strip().lower()
            found = there.get((row["crm_account_id"], email)) or there.get(("", email))
            if found is not None:
                outcomes[key] = Outcome(ok=True, id=found)
            elif email in elsewhere:
                outcomes[key] = _OTHER_COMPANY
            else:
                new[key] = (email, row)
        inputs = {email: fields.contact_input(email, row) for email, row in new.values()}
        made = self._rows.made("contacts", "email", inputs)  # also a deleted one, which is not created again
        made |= self._rows.create("contacts", "email", {e: i for e, i in inputs.items() if e not in made})
        return outcomes | self._of_the_company({key: (e, row["crm_account_id"]) for key, (e, row) in new.items()}, made)

    def _of_the_company(self, wanted: Mapping[str, tuple[str, str]], made: Mapping[str, Outcome]) -> dict[str, Outcome]:
        """The outcome of each key, key → (address, company). `made`: address → what came of a new contact.

        Of contacts that were there already, only one that belongs to the same company, or to none, is taken. An
        address that a contact has beside its own one finds no record, but is refused for a new contact ("Contact
        already exists. Existing ID: …").
        """
        named = {email: o.candidates[0] for email, o in made.items() if not o.ok and o.candidates}
        taken = named | {email: str(o.id) for email, o in made.items() if o.ok and not o.deleted}
        archived = {str(o.id): email for email, o in made.items() if o.ok and o.deleted}
        outcomes = {key: made[email] for key, (email, _) in wanted.items()}
        if not taken and not archived:
            return outcomes
        try:
            for record in self._records.of_ids("contacts", sorted(archived), [MERGED]):  # merged, not deleted
                into = {archived[old]: record["id"] for old in merged_ids(record) if old in archived}
                named, taken = named | into, taken | into
            properties = ["email", "hs_additional_emails"]
            found = self._records.of_ids("contacts", sorted(set(named.values())), properties) if named else []
            there = {record["id"]: record["properties"] for record in found}
            theirs = self._records.all_companies_of("contacts", sorted(set(taken.values())))
        except CrmError as error:  # the next run asks again
            unsure = Outcome(ok=False, code=UNKNOWN, message=str(error), retryable=True)
            return {key: unsure if wanted[key][0] in taken else outcome for key, outcome in outcomes.items()}
        for key, (email, company) in wanted.items():
            contact = taken.get(email)
            if contact is None or (email in named and email not in _addresses(there.get(contact, {}))):
                continue
            of = theirs.get(contact) or [company]
            outcomes[key] = Outcome(ok=True, id=contact) if company in of else _OTHER_COMPANY
        return outcomes

    def update_accounts(self, rows: Mapping[str, AccountContext]) -> dict[str, Outcome]:
        """See Crm."""
        if rows:
            self.check_fields()
        return self._rows.update("companies", {i: fields.company_properties(row) for i, row in rows.items()})

    def create_tasks(self, rows: Mapping[str, TaskContent], unsure: Collection[str] = ()) -> dict[str, Outcome]:
        """See Crm."""
        if not rows:
            return {}
        self.check_fields()
        outcomes = self._rows.made("tasks", HANDOFF_ID, [h for h in unsure if h in rows])
        new = {
            h: {
                "properties": fields.task_properties(rows[h], self._values) | {HANDOFF_ID: h},
                "associations": fields.task_associations(rows[h]),
            }
            for h in rows
            if h not in outcomes
        }
        return outcomes | self._rows.create("tasks", HANDOFF_ID, new)

    def close_tasks(self, reasons: Mapping[str, tuple[str, str]]) -> dict[str, Outcome]:
        """See Crm."""
        by_rep: set[str] = set()

        def closed(handoff_id: str, record: Record) -> dict[str, str]:
            task, body = activity_of("tasks", record, None), record["properties"].get("hs_task_body") or ""
            label, reason = reasons[handoff_id]
            why = note(label, reason)
            if task.closed_by_us:
                return {}
            noted = fields.noted(why, body)
            if task.is_done:
                by_rep.add(handoff_id)
                return noted if label == RELEASED and not task.description.startswith(why) else {}
            subject = f"{label}{task.subject}"[: fields.LINE_CHARS].rstrip()
            return {"hs_task_status": "COMPLETED", "hs_task_subject": subject} | noted

        outcomes = self._rows.change("tasks", HANDOFF_ID, reasons, ACTIVITIES["tasks"], closed)
        return {h: replace(o, ok=o.ok or o.deleted, by_rep=h in by_rep) for h, o in outcomes.items()}

    def reassign_tasks(
        self, owners: Mapping[str, tuple[str, str]], due: Mapping[str, Due] | None = None
    ) -> dict[str, Outcome]:
        """See Crm."""
        alone: dict[str, Outcome] = {h: outcome for h, to in owners.items() if (outcome := left_alone(None, *to))}

        def given(handoff_id: str, record: Record) -> dict[str, str]:
            told = left_alone(activity_of("tasks", record, None), *owners[handoff_id])
            alone.pop(handoff_id, None)
            if told is not None:
                alone[handoff_id] = told
                return {}
            new = (due or {}).get(handoff_id)
            return {"hubspot_owner_id": owners[handoff_id][1]} | (fields.due_properties(new) if new else {})

        outcomes = self._rows.change("tasks", HANDOFF_ID, owners, ACTIVITIES["tasks"], given)
        return {h: alone.get(h, outcome) if outcome.ok else outcome for h, outcome in outcomes.items()}

    def answer_tasks(self, answers: Mapping[str, str | None]) -> dict[str, Outcome]:
        """See Crm."""
        alone = {h: outcome for h in answers if (outcome := answered(None))}

        def done(handoff_id: str, record: Record) -> dict[str, str]:
            told = answered(activity_of("tasks", record, None))
            alone.pop(handoff_id, None)
            if told is not None:
                alone[handoff_id] = told
                return {}
            disposition = answers[handoff_id]
            return {"hs_task_status": "COMPLETED"} | ({fields.DISPOSITION: disposition} if disposition else {})

        outcomes = self._rows.change("tasks", HANDOFF_ID, answers, ACTIVITIES["tasks"], done)
        return {h: alone.get(h, outcome) if outcome.ok else outcome for h, outcome in outcomes.items()}

    def create_opportunities(
        self, rows: Mapping[str, OpportunityContent], unsure: Collection[str] = ()
    ) -> dict[str, Outcome]:
        """See Crm. A lead is a company in HubSpot, and may have deals."""
        if not rows:
            return {}
        self.check_fields()
        outcomes = self._rows.made("deals", HANDOFF_ID, [h for h in unsure if h in rows])
        pipeline, stage = self._records.first_stage()
        new = {
            h: {
                "properties": self._priced(fields.deal_properties(row, pipeline, stage)) | {HANDOFF_ID: h},
                "associations": fields.deal_associations(row),
            }
            for h, row in rows.items()
            if h not in outcomes
        }
        return outcomes | self._rows.create("deals", HANDOFF_ID, new)

    def _priced(self, deal: dict[str, str]) -> dict[str, str]:
        """A new deal whose amount is in the policy's currency, with that currency; without the amount where the account
        has several currencies and not this one, since it would be read as another's."""
        if "amount" not in deal or not self._currency or not self._codes:
            return deal
        if self._currency in self._codes:
            return deal | {"deal_currency_code": self._currency}
        return {name: value for name, value in deal.items() if name != "amount"}

    def _of_domain(self, rows: Mapping[str, Row]) -> dict[str, str]:
        """Account id → the company of the same domain that has no account id of ours; the oldest of several."""
        domains = sorted({_domain(row) for row in rows.values()} - {""})
        free: dict[str, list[str]] = {}
        for part in parts(domains, BATCH, _SEARCH_CHARS):
            among = {"propertyName": "domain", "operator": "IN", "values": part}
            nobodys = {"propertyName": ACCOUNT_ID, "operator": "NOT_HAS_PROPERTY"}
            for record in self._records.search("companies", ["domain", ACCOUNT_ID], [among, nobodys]):
                free.setdefault(record["properties"]["domain"].lower(), []).append(record["id"])
        found: dict[str, str] = {}
        for account_id in sorted(rows):
            if companies := free.get(_domain(rows[account_id])):
                found[account_id] = companies.pop(0)
        return found

    def _unless_there(self, request: Callable[..., Any], thing: str, definition: Row) -> None:
        try:
            self._transport.write(request, thing, definition)
        except Refused as refused:
            if refused.status != 409:
                raise

    def _activities(self, thing: str, records: Iterable[Record]) -> Iterator[Activity]:
        for part in parts(records, _TOGETHER):
            live = [record["id"] for record in part if not record.get("archived")]
            companies = self._records.companies_of(thing, live)
            if alone := [i for i in live if i not in companies]:
                companies |= self._records.companies_through_contacts(thing, alone)
            for record in part:
                yield activity_of(thing, record, companies.get(record["id"]))

    def _timezones(self) -> dict[str, str]:
        """User → time zone; empty when the app may not read users."""
        wanted = ["hs_internal_user_id", "hs_standard_time_zone"]
        try:
            users = [record["properties"] for record in self._records.all("users", wanted)]
        except Refused as refused:
            if refused.status != 403:
                raise
            return {}
        zones = ((user.get("hs_internal_user_id"), user.get("hs_standard_time_zone")) for user in users)
        return {str(user): zone for user, zone in zones if user and zone}


def _addresses(contact: Mapping[str, str | None]) -> set[str]:
    """All addresses of a contact, in lower case."""
    return {e.strip() for e in f"{contact.get('email')};{contact.get('hs_additional_emails')}".lower().split(";")}


def _options(definition: Record) -> set[str]:
    return {str(option.get("value")) for option in definition.get("options") or []}


def _by_others(since: datetime, ours: Mapping[datetime, datetime]) -> Iterator[list[list[Filter]]]:
    """The searches, each with its groups of filters, for what has changed since, but not last by us."""
    if not ours:
        yield [[_changed(since)]]
        return
    written = {"propertyName": AS_OF, "operator": "NOT_IN", "values": [fields.milliseconds(at) for at in sorted(ours)]}
    never = {"propertyName": AS_OF, "operator": "NOT_HAS_PROPERTY"}
    yield [[_changed(since), written], [_changed(since), never]]
    for as_of, until in sorted(ours.items()):
        after = {"propertyName": "hs_lastmodifieddate", "operator": "GT", "value": fields.milliseconds(until)}
        yield [[_changed(since), after, _equal(AS_OF, as_of)]]


def _equal(name: str, at: datetime) -> Filter:
    return {"propertyName": name, "operator": "EQ", "value": fields.milliseconds(at)}


def _changed(since: datetime) -> Filter:
    return _from("hs_lastmodifieddate", since)


def _from(name: str, since: datetime) -> Filter:
    return {"propertyName": name, "operator": "GTE", "value": fields.milliseconds(since)}


def _company(account_id: str, row: Row, kind: str) -> dict[str, str]:
    properties = fields.extra_properties(row.get("extra")) | {
        ACCOUNT_ID: account_id,
        "name": row.get("name"),
        "domain": _domain(row),
        "hubspot_owner_id": row.get("owner_id"),
        "lifecyclestage": "lead" if kind == "lead" else None,
    }
    return {name: str(value) for name, value in properties.items() if value}


def _domain(row: Row) -> str:
    return str(row.get("domain") or "").strip().lower().removeprefix("www.")
