"""A CRM in one file: its records are kept in memory. `stand_in` is what people do in it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Any

from onetouch.connections import Connection
from onetouch.crm import (
    RELEASED,
    Activity,
    Due,
    FieldsMissing,
    LimitReached,
    OurWrites,
    Outcome,
    Row,
    SignInRefused,
    Tell,
    Unreachable,
    answered,
    left_alone,
    note,
)
from onetouch.crm.protocol import Finding
from onetouch.handoff import AccountContext, OpportunityContent, TaskContent
from onetouch.policy import Policy
from onetouch.stop import WhyStopped, ask

from tests.contracts.crm_stand_ins import SeenTask
from tests.delivery.world import AS_OF

AT_ONCE = 50
"""Rows of one request."""

_LINE = 255


@dataclass
class Books:
    """All that is kept. An account: name, domain, owner_id and the context. `gone`: deleted or merged into what, when.

    `ended`: product accounts whose record was deleted. `silent`: so many calls get no answer.
    """

    now: datetime = AS_OF
    password: str = "toy"
    accounts: dict[str, Row] = field(default_factory=dict)
    gone: dict[str, tuple[str | None, datetime]] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    activities: dict[str, Activity] = field(default_factory=dict)
    due_of: dict[str, date | None] = field(default_factory=dict)
    contact_of: dict[str, str | None] = field(default_factory=dict)
    contacts: dict[str, Row] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)
    deals: dict[str, Row] = field(default_factory=dict)
    calls: int = 1_000_000
    used: int = 0
    has_fields: bool = True
    silent: int = 0
    lock: Any = field(default_factory=threading.Lock)
    ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def new_id(self) -> str:
        return f"toy-{next(self.ids)}"

    def log(self, kind: str, account: str | None, subject: str, owner_id: str | None) -> str:
        made, done = self.new_id(), kind != "task"
        self.activities[made] = Activity(
            activity_id=made, kind=kind, crm_account_id=account, owner_id=owner_id, subject=subject, description="",
            is_done=done, is_deleted=False, created_at=self.now, done_at=self.now if done else None,
            changed_at=self.now,
        )  # fmt: skip
        return made

    def meet(self, row: Row) -> str:
        made = self.new_id()
        self.contacts[made] = {
            "contact_id": made, "kind": "contact", "title": None, "do_not_call": False, "email_opt_out": False,
            "is_deleted": False, "changed_at": self.now, **row, "email": row["email"].lower(),
        }  # fmt: skip
        return made

    def change(self, activity_id: str, **changed: Any) -> None:
        if "is_done" in changed:
            changed["done_at"] = self.now if changed["is_done"] else None
        self.activities[activity_id] = replace(self.activities[activity_id], changed_at=self.now, **changed)


BOOKS: dict[str, Books] = {}
"""Host of a connection → what is kept there."""


class ToyCrm:
    """See Crm."""

    name = "toy_crm"

    def __init__(
        self, connection: Connection, api_reserve: float, stopped: WhyStopped, sleep: Callable[[float], None]
    ) -> None:
        self._books, self._password = BOOKS[str(connection.host)], connection.password
        self._reserve, self._stopped, self._sleep = api_reserve, stopped, sleep

    @classmethod
    def connect(
        cls, connection: Connection, policy: Policy, *, stopped: WhyStopped, sleep: Callable[[float], None]
    ) -> ToyCrm:
        return cls(connection, policy.delivery.api_reserve, stopped, sleep)

    @staticmethod
    def stand_in() -> StandIn:
        return StandIn()

    def _call(self) -> None:
        """What every request goes through."""
        books = self._books
        if self._password != books.password:
            raise SignInRefused("Toy: the password is not accepted")
        if books.used >= books.calls * (1 - self._reserve):
            reserved = f", {self._reserve:.0%} are left to others (delivery.api_reserve)" if self._reserve else ""
            raise LimitReached(
                f"Toy: {books.used} of {books.calls} calls are used up{reserved}; the rest goes out with the next run"
            )
        books.used += 1
        for _ in range(5):
            if not books.silent:
                return
            books.silent -= 1
            self._sleep(1)
        raise Unreachable("Toy: no answer") from None

    def _writes(self, rows: Iterable[str]) -> Iterator[list[str]]:
        """The rows of each request, each asked about before it is sent."""
        left = sorted(rows)
        self.check_fields() if left else None
        for start in range(0, len(left), AT_ONCE):
            ask(self._stopped)
            self._call()
            yield left[start : start + AT_ONCE]

    def check_fields(self) -> None:
        self._call()
        if not self._books.has_fields:
            raise FieldsMissing("Toy: score is missing")

    def create_fields(self) -> list[str]:
        ask(self._stopped)
        self._books.has_fields = True
        return []

    # ── reading ──────────────────────────────────────────────────────────────────────────────────

    def read_reps(self) -> Iterator[Row]:
        self._call()
        for name in ("Rita", "Otto"):
            yield {
                "owner_id": name.lower(), "email": f"{name.lower()}@rep.example", "name": name, "active": True,
                "timezone": None,
            }  # fmt: skip

    def read_accounts(
        self,
        policy: Policy,
        since: datetime | None = None,
        ours: OurWrites | None = None,
        tell: Tell = lambda _: None,
    ) -> Iterator[Row]:
        self._call()
        ours = ours or OurWrites()
        columns = {column for column, given in policy.crm.account_fields.items() if given}
        for crm_id, account in self._books.accounts.items():
            until = ours.until.get(account.get("as_of"))
            by_us = until is not None and account["changed_at"] <= until
            if since is None or crm_id in ours.unread or (account["changed_at"] >= since and not by_us):
                yield {column: account.get(column) for column in columns} | {
                    "crm_account_id": crm_id, "owner_id": account["owner_id"], "account_id": account.get("account_id"),
                    "created_at": AS_OF, "is_deleted": False, "merged_into": None,
                }  # fmt: skip
        if since is not None:
            nothing = dict.fromkeys([*columns, "owner_id", "account_id", "created_at"])
            for crm_id, into in self.gone_since(since).items():
                yield nothing | {"crm_account_id": crm_id, "is_deleted": True, "merged_into": into}

    def last_written(self, as_of: datetime) -> datetime | None:
        self._call()
        its = [account["changed_at"] for account in self._books.accounts.values() if account.get("as_of") == as_of]
        return max(its, default=None)

    def read_opportunities(self, since: datetime | None = None, tell: Tell = lambda _: None) -> Iterator[Row]:
        self._call()
        for deal in list(self._books.deals.values()):
            if not deal["is_deleted"] if since is None else deal["changed_at"] >= since:
                yield dict(deal)

    def page(self, thing: str, record_id: str) -> str | None:
        return f"https://toy.example/{thing}/{record_id}"

    def read_activities(self, since: datetime) -> Iterator[Activity]:
        self._call()
        return (a for a in list(self._books.activities.values()) if a.changed_at >= since)

    def tasks_of(self, handoff_ids: Iterable[str]) -> dict[str, Activity]:
        wanted = set(handoff_ids)
        return {str(a.key): a for a in list(self._books.activities.values()) if a.key in wanted}

    def keyed_tasks(self, since: datetime) -> Iterator[Activity]:
        return (a for a in list(self._books.activities.values()) if a.key and a.created_at >= since)

    def activities_of(self, records: Collection[str], since: datetime) -> Iterator[Activity]:
        return (a for a in self.read_activities(since) if a.crm_account_id in records)

    def opportunities_since(self, since: datetime, records: Collection[str] = ()) -> set[str]:
        lately = (d for d in self.read_opportunities(since) if not d["is_closed"] or d["created_at"] >= since)
        open_ones = (d for d in self.read_opportunities() if not d["is_closed"] and d["crm_account_id"] in records)
        return {str(deal["crm_account_id"]) for deal in (*lately, *open_ones)}

    def gone_since(self, since: datetime) -> dict[str, str | None]:
        return {crm_id: into for crm_id, (into, at) in self._books.gone.items() if at >= since}

    def contacts(self, emails: Collection[str]) -> dict[tuple[str, str], str]:
        if not emails:
            return {}
        self._call()
        wanted = {email.strip().lower() for email in emails}
        people = self._books.contacts.values()
        known = [p for p in people if p["email"] in wanted and not p["is_deleted"]]
        return {(p["crm_account_id"] or "", p["email"]): p["contact_id"] for p in known}

    def read_contacts(self, since: datetime | None = None, tell: Tell = lambda _: None) -> Iterator[Row]:
        self._call()
        for name in sorted(self._books.hidden):
            tell(f"{name} of contacts is not kept")
        for person in list(self._books.contacts.values()):
            if not person["is_deleted"] if since is None else person["changed_at"] >= since:
                yield person | dict.fromkeys(self._books.hidden)

    def contacts_of(self, records: Collection[str], emails: Collection[str] = ()) -> Iterator[Row]:
        yield from (p for p in self.read_contacts() if p["crm_account_id"] in records or p["email"] in emails)

    # ── writing ──────────────────────────────────────────────────────────────────────────────────

    def ensure_accounts(self, rows: Mapping[str, Row], kind: str) -> dict[str, Outcome]:
        books, outcomes = self._books, {}
        for part in self._writes(rows):
            for account_id in part:
                row = rows[account_id]
                mine = [i for i, a in books.accounts.items() if a.get("account_id") == account_id]
                same = [
                    i for i, a in books.accounts.items()
                    if row["domain"] and a["domain"] == row["domain"] and not a.get("account_id")
                ]  # fmt: skip
                crm_id = next(iter([*mine, *same]), None)
                if crm_id is None and account_id in books.ended:
                    outcomes[account_id] = Outcome(ok=False, code="DELETED", deleted=True)
                    continue
                if crm_id is None:
                    crm_id = books.new_id()
                    known = {name: row.get(name) for name in ("name", "domain", "owner_id")}
                    books.accounts[crm_id] = known | {"changed_at": books.now}
                books.accounts[crm_id]["account_id"] = account_id
                outcomes[account_id] = Outcome(ok=True, id=crm_id)
        return outcomes

    def ensure_contacts(self, rows: Mapping[str, Row]) -> dict[str, Outcome]:
        books, outcomes = self._books, {}
        for part in self._writes(rows):
            with books.lock:
                for key in part:
                    row = rows[key]
                    there = [p for p in books.contacts.values() if p["email"] == row["email"].lower()]
                    here = [p for p in there if p["crm_account_id"] == row["crm_account_id"]]
                    gone = bool(here) and here[0]["is_deleted"]
                    made = here[0]["contact_id"] if here else books.meet(row)
                    outcomes[key] = Outcome(ok=not gone, id=made, deleted=gone)
        return outcomes

    def update_accounts(self, rows: Mapping[str, AccountContext]) -> dict[str, Outcome]:
        outcomes = {}
        for part in self._writes(rows):
            for crm_id in part:
                account, known = self._books.accounts.get(crm_id), asdict(rows[crm_id])
                if account is None:
                    outcomes[crm_id] = Outcome(ok=False, code="NOT_FOUND", deleted=True)
                elif known["tier"] not in (None, "high", "medium", "low"):
                    outcomes[crm_id] = Outcome(ok=False, code="NO_SUCH_TIER")
                else:
                    account |= dict.fromkeys(rows[crm_id].emptied)
                    account |= {name: _cut(name, value) for name, value in known.items() if value is not None}
                    account["changed_at"] = self._books.now
                    outcomes[crm_id] = Outcome(ok=True, id=crm_id)
        return outcomes

    def create_tasks(self, rows: Mapping[str, TaskContent], unsure: Collection[str] = ()) -> dict[str, Outcome]:
        books, outcomes = self._books, {}
        for part in self._writes(rows):
            with books.lock:
                there = self.tasks_of(part)
                for handoff_id in part:
                    task = rows[handoff_id]
                    if handoff_id in there:
                        found = there[handoff_id]
                        outcomes[handoff_id] = Outcome(ok=True, id=found.activity_id, deleted=found.is_deleted)
                    elif task.crm_account_id and task.crm_account_id not in books.accounts:
                        outcomes[handoff_id] = Outcome(ok=False, code="NO_ACCOUNT", deleted=True)
                    else:
                        made = books.log("task", task.crm_account_id, task.subject, task.owner_id)
                        books.change(made, description=task.description, key=handoff_id)
                        books.contact_of[made] = task.contact_id
                        books.due_of[made] = task.due_on
                        outcomes[handoff_id] = Outcome(ok=True, id=made)
        return outcomes

    def create_opportunities(
        self, rows: Mapping[str, OpportunityContent], unsure: Collection[str] = ()
    ) -> dict[str, Outcome]:
        books, outcomes = self._books, {}
        for part in self._writes(rows):
            for key in part:
                known = next((d for d in books.deals.values() if d.get("handoff_id") == key), None)
                if known is None:
                    row, made = rows[key], books.new_id()
                    known = books.deals[made] = {
                        "opportunity_id": made, "crm_account_id": row.crm_account_id, "stage": "open",
                        "is_closed": False, "is_won": False, "amount": row.amount, "created_at": books.now,
                        "closed_at": None, "lead_source": row.source, "owner_id": row.owner_id,
                        "changed_at": books.now, "is_deleted": False, "handoff_id": key, "name": row.name,
                    }  # fmt: skip
                outcomes[key] = Outcome(ok=True, id=known["opportunity_id"], deleted=known["is_deleted"])
        return outcomes

    def rehearse(self, policy: Policy, today: date) -> list[Finding]:
        return []

    def reassign_tasks(
        self, owners: Mapping[str, tuple[str, str]], due: Mapping[str, Due] | None = None
    ) -> dict[str, Outcome]:
        outcomes = {}
        for part in self._writes(owners):
            tasks = self.tasks_of(part)
            for handoff_id in part:
                outcome = left_alone(tasks.get(handoff_id), *owners[handoff_id])
                if outcome is None:
                    made = tasks[handoff_id].activity_id
                    self._books.change(made, owner_id=owners[handoff_id][1])
                    if due and handoff_id in due:
                        self._books.due_of[made] = due[handoff_id].on
                    outcome = Outcome(ok=True, id=made)
                outcomes[handoff_id] = outcome
        return outcomes

    def answer_tasks(self, answers: Mapping[str, str | None]) -> dict[str, Outcome]:
        outcomes = {}
        for part in self._writes(answers):
            tasks = self.tasks_of(part)
            for handoff_id in part:
                outcome = answered(tasks.get(handoff_id))
                if outcome is None:
                    made = tasks[handoff_id].activity_id
                    self._books.change(made, is_done=True, disposition=answers[handoff_id])
                    outcome = Outcome(ok=True, id=made)
                outcomes[handoff_id] = outcome
        return outcomes

    def close_tasks(self, reasons: Mapping[str, tuple[str, str]]) -> dict[str, Outcome]:
        outcomes = {}
        for part in self._writes(reasons):
            for handoff_id, task in self.tasks_of(part).items():
                label, reason = reasons[handoff_id]
                why = note(label, reason)
                by_rep = task.is_done and not task.closed_by_us and not task.is_deleted
                if not task.is_deleted and not task.closed_by_us:
                    if not task.is_done:
                        self._books.change(task.activity_id, subject=f"{label}{task.subject}", is_done=True)
                    if (not task.is_done or label == RELEASED) and not task.description.startswith(why):
                        self._books.change(task.activity_id, description=f"{why}\n\n{task.description}")
                outcomes[handoff_id] = Outcome(ok=True, id=task.activity_id, by_rep=by_rep)
            outcomes |= {handoff_id: Outcome(ok=True) for handoff_id in part if handoff_id not in outcomes}
        return outcomes


def _cut(name: str, value: Any) -> Any:
    long = name in ("trigger", "features_used") and len(value) > _LINE
    return f"{value[: _LINE - 1]}…" if long else value


class StandIn:
    """See `crm_stand_ins.StandIn`."""

    rita, otto = "rita", "otto"
    contact_fields: Mapping[str, str | None] = {}

    def __init__(self) -> None:
        self.books = BOOKS["toy"] = Books()
        self.connection = Connection("toy_crm_default", host="toy", password="toy")

    def clock(self, at: datetime) -> None:
        self.books.now = at.astimezone(UTC)

    def lacks_fields(self) -> None:
        self.books.has_fields = False

    def calls_a_day(self, calls: int) -> None:
        self.books.calls, self.books.used = calls, 0

    def fails(self, what: str, how: str, times: int) -> None:
        self.books.silent = times

    def accounts(self, *numbers: int) -> dict[int, str]:
        made = {n: self.books.new_id() for n in numbers}
        for n, crm_id in made.items():
            self.books.accounts[crm_id] = {
                "name": f"Company {n}", "domain": f"company{n}.example", "owner_id": "rita",
                "changed_at": self.books.now,
            }  # fmt: skip
        return made

    def account(self, crm_id: str) -> Row:
        return {name: value for name, value in self.books.accounts[crm_id].items() if name != "changed_at"}

    def renames(self, crm_id: str, name: str) -> None:
        self.books.accounts[crm_id] |= {"name": name, "changed_at": self.books.now}

    def how_many_accounts(self) -> int:
        return len(self.books.accounts)

    def tasks(self) -> list[SeenTask]:
        return [
            SeenTask(
                a.activity_id, a.key, a.subject, a.description, a.is_done, a.is_deleted, a.owner_id,
                a.crm_account_id, self.books.contact_of.get(a.activity_id), self.books.due_of.get(a.activity_id),
            )
            for a in self.books.activities.values() if a.kind == "task"
        ]  # fmt: skip

    def edits(self, task_id: str, **changed: Any) -> None:
        self.books.change(task_id, **changed)

    def deletes(self, thing: str, record_id: str) -> None:
        if thing == "account":
            self.books.ended.add(str(self.books.accounts.pop(record_id).get("account_id")))
            self.books.gone[record_id] = (None, self.books.now)
        elif thing == "task":
            self.books.change(record_id, is_deleted=True)
        elif thing == "contact":
            self.books.contacts[record_id] |= {"is_deleted": True, "changed_at": self.books.now}
        else:
            self.books.deals[record_id] |= {"is_deleted": True, "changed_at": self.books.now}

    def merges(self, into: str, account: str) -> str:
        self.deletes("account", account)
        self.books.gone[account] = (into, self.books.now)
        return into

    def deal(self, account: str, state: str) -> str:
        made, closed = self.books.new_id(), state != "open"
        self.books.deals[made] = {
            "opportunity_id": made, "crm_account_id": account, "stage": state, "is_closed": closed,
            "is_won": state == "won", "amount": 1200.5, "created_at": self.books.now,
            "closed_at": datetime(2025, 11, 17, tzinfo=UTC) if closed else None, "lead_source": None,
            "owner_id": "rita", "changed_at": self.books.now, "is_deleted": False,
        }  # fmt: skip
        return made

    def logs(self, kind: str, account: str, subject: str, owner_id: str) -> str:
        return self.books.log(kind, account, subject, owner_id)

    def contact(self, email: str, account: str) -> str:
        return self.books.meet({"crm_account_id": account, "email": email, "name": "Doe"})

    def people(self) -> list[Row]:
        kept = ("crm_account_id", "email", "name", "title", "owner_id")
        return [{k: row.get(k) for k in kept} for row in self.books.contacts.values() if not row["is_deleted"]]

    def opts_out(self, contact: str, *channels: str) -> None:
        flags = {"call": "do_not_call", "email": "email_opt_out"}
        changed = {flags[channel]: True for channel in channels}
        self.books.contacts[contact] |= changed | {"changed_at": self.books.now}

    def hides(self, what: str) -> None:
        self.books.hidden.add(what)
