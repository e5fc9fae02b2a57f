"""The CRM in memory and the reps who work in it, read and written by the product's client without a network."""

from __future__ import annotations

import heapq
import itertools
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from onetouch.crm import CLOSED_BY_US, Activity, Outcome, Row, Tell
from onetouch.crm.salesforce import HANDOFF_ID, OUTCOME, Salesforce
from onetouch.crm.salesforce.fields import OWN_VALUES
from onetouch.crm.salesforce.persons import Persons
from onetouch.crm_sync import OPPORTUNITIES, frame_of

from judges.year.company import DAY, HOUR, Company, Size, microseconds, moment
from judges.year.people import People

_LOCKED_SHARE = 0.004
"""The share of written rows that another writer has locked; the next run writes them again."""

_ZONES = ("Europe/Berlin", "Europe/London", "America/New_York", "America/Los_Angeles", "Asia/Kolkata")
_COLLEAGUE = "005000000000999"


@dataclass(frozen=True)
class Rep:
    """A sales rep as in the CRM."""

    owner_id: str
    email: str
    active: bool
    timezone: str

    def day(self, at: datetime) -> date:
        """The date at `at` in the rep's time zone."""
        return at.astimezone(ZoneInfo(self.timezone)).date()


def reps_of(size: Size) -> list[Rep]:
    """The sales team; the first reps have left but still own their accounts."""
    left = max(1, size.reps // 12)
    return [Rep(f"005{i:012d}", f"rep{i}@vendor.example", i >= left, _ZONES[i % len(_ZONES)]) for i in range(size.reps)]


@dataclass
class Deal:
    """An opportunity; times in microseconds, `closes` is NEVER while it is unknown."""

    number: int
    account: int
    owner_id: str
    created: int
    closes: int
    won: bool
    amount: float

    @property
    def closes_at(self) -> datetime:
        """`closes` as a moment."""
        return moment(self.closes)


@dataclass
class Task:
    """A task of the CRM, and the moments of the runs that wrote and closed it."""

    record: Row
    account: int
    created: datetime
    as_of: datetime
    ended_as_of: datetime | None = None
    answered: int | None = None

    @property
    def open(self) -> bool:
        """Whether the task is open and not deleted."""
        return not self.record["IsClosed"] and not self.record["IsDeleted"]

    @property
    def ended_by_us(self) -> str:
        """Withdrawn, Released or Expired when the product has ended the task; else empty."""
        for label in CLOSED_BY_US:
            word = label.strip("[] ")
            if self.record["Subject"].startswith(label) or self.record["Description"].startswith(f"{word}: "):
                return word
        return ""


class _Transport:
    """In place of the client's transport: rows are written directly."""

    def __init__(self, write: Callable[[str, Row], Outcome]) -> None:
        self.write = write

    def fields(self, thing: str) -> Row:
        """Nothing is said of any field."""
        return {}

    def retrying(self, *_: type[Exception]) -> Callable[..., None]:
        """Calls once: the next run writes locked rows."""
        return lambda attempt, rows: attempt(rows)

    def once(self, method: str, path: str, *, json: Mapping[str, Any]) -> list[Row]:
        """The answer to a collection: one outcome for each row."""
        outcomes = [self.write(method, dict(record)) for record in json["records"]]
        return [
            {"success": o.ok, "id": o.id, "errors": [] if o.ok else [{"statusCode": o.code, "message": o.message}]}
            for o in outcomes
        ]


class Crm(Salesforce):
    """The real client's logic on tables in memory: only its requests are replaced.

    `now` is the CRM's clock, `as_of` the moment of the run that is writing.
    """

    def __init__(self, company: Company) -> None:
        self.company, self.rng = company, np.random.default_rng(company.size.seed + 1)
        self._transport = _Transport(self._write)  # type: ignore[assignment]
        # An org without rules of its own and without person accounts.
        self._values, self._extra, self._types = OWN_VALUES, {}, {}
        self._persons = Persons(self._transport)
        self.now = self.as_of = company.start
        self.accounts: dict[str, dict[str, Any]] = {i: {} for i in company.crm_id if i is not None}
        self.place = {i: place for place, i in enumerate(company.crm_id) if i is not None}
        self.tasks: dict[str, Task] = {}
        self.by_handoff: dict[str, str] = {}
        self.calls: dict[int, list[Task]] = defaultdict(list)
        self.changes: list[tuple[datetime, str]] = []
        self._unfinished: list[Task] = []
        self.deals: dict[int, list[Deal]] = defaultdict(list)
        self.on_new_task: Callable[[Task], None] = lambda task: None
        self.reps = reps_of(company.size)
        self.people = People(company)
        self.rep_of = {rep.owner_id: rep for rep in self.reps}
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._ids = itertools.count(1)
        self._plan()

    # ── time ─────────────────────────────────────────────────────────────────────────────────────

    def advance(self, to: datetime) -> None:
        """Simulates everything that reps and colleagues do up to `to`."""
        until = microseconds(to)
        while self._agenda and self._agenda[0][0] <= until:
            at, _, happens = heapq.heappop(self._agenda)
            self.now = moment(at)
            happens()
        self.now = to

    def _at(self, us: float, happens: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (int(us), next(self._order), happens))

    def _plan(self) -> None:
        """Plans what does not depend on the product: reps' own calls, colleagues' opportunities."""
        company, rng = self.company, self.rng
        length = company.size.days * DAY
        start = microseconds(company.start)
        owned = np.flatnonzero((company.owner >= 0) & (company.crm_id != np.array(None)))
        for account in rng.choice(owned, int(len(owned) * length / DAY / 365 * 0.3), replace=True):
            self._at(start + rng.integers(0, length), lambda account=int(account): self._own_call(account))
        known = np.flatnonzero(company.crm_id != np.array(None))
        for account in rng.choice(known, int(len(known) * length / DAY / 365 * 0.08), replace=True):
            opens = start + int(rng.integers(-20 * DAY, length))
            closes = opens + int(rng.uniform(3, 50) * DAY)
            self._at(
                opens,
                lambda account=int(account), closes=closes: self._opens(account, _COLLEAGUE, closes, won=False),
            )

    # ── what reps do ─────────────────────────────────────────────────────────────────────────────

    def _own_call(self, account: int) -> None:
        owner = self.reps[self.company.owner[account]]
        task = self._new(account, {"Subject": "Call", "OwnerId": owner.owner_id, "TaskSubtype": "Call"})
        self._close_by_rep(task)
        self.calls[account].append(task)

    def _opens(self, account: int, owner_id: str, closes: int, *, won: bool) -> Deal:
        amount = float(self.rng.integers(50, 400) * 100)
        deal = Deal(next(self._ids), account, owner_id, microseconds(self.now), closes, won, amount)
        self.deals[account].append(deal)
        if won:
            self.company.revenue.append((closes, account, amount))
        return deal

    def _takes_on(self, task: Task) -> None:
        """A rep gets a new task: most contact the account in time, some late, some never; some log it later."""
        rng, rep = self.rng, self.rep_of[task.record["OwnerId"]]
        mood = rng.random()
        if mood < 0.05:
            return
        if mood < 0.06:
            self._at(microseconds(self.now) + rng.integers(0, DAY), lambda: self._delete(task))
            return
        hours = rng.uniform(0.1, 1.2) if mood < 0.92 else rng.uniform(2, 22)
        at = in_working_time(rep.timezone, microseconds(self.now), hours)
        self._at(at, lambda: self._contacts(task))

    def _contacts(self, task: Task) -> None:
        if not task.open:
            return
        rng = self.rng
        contacted = microseconds(self.now)
        late = rng.uniform(1, 30) * HOUR if rng.random() < 0.05 else rng.uniform(0, 0.2) * HOUR
        self._at(contacted + late, lambda: self._close_by_rep(task))
        if rng.random() < 0.35:
            answered = contacted + max(late, rng.exponential(2.5 * DAY)) + HOUR
            self._at(answered, lambda: self._reply(task))

    def _close_by_rep(self, task: Task) -> None:
        if task.open:
            task.record |= {"Status": "Completed", "IsClosed": True, "CompletedDateTime": _text(self.now)}
            self._changed(task)

    def _delete(self, task: Task) -> None:
        if task.open:
            task.record["IsDeleted"] = True
            task.ended_as_of = self.now
            self._changed(task)

    def _reply(self, task: Task) -> None:
        """An answer is logged on the task; some days later follows an opportunity that is won or lost."""
        if task.record["IsDeleted"] or task.ended_by_us:
            return
        rng = self.rng
        task.answered = microseconds(self.now)
        task.record[OUTCOME] = "Replied" if rng.random() < 0.6 else "Meeting booked"
        self._changed(task)

        def opens() -> None:
            closes = microseconds(self.now) + int(rng.uniform(4, 40) * DAY)
            self._opens(task.account, task.record["OwnerId"], closes, won=bool(rng.random() < 0.4))

        self._at(microseconds(self.now) + rng.uniform(0.2, 5) * DAY, opens)

    # ── tables ───────────────────────────────────────────────────────────────────────────────────

    def _new(self, account: int, fields: Mapping[str, Any]) -> Task:
        record: Row = {
            "Id": f"00T{next(self._ids):015d}", "Subject": "", "Description": "", "Status": "Not Started",
            "IsClosed": False, "IsDeleted": False, "AccountId": self.company.crm_id[account], "TaskSubtype": "Task",
            "CreatedDate": _text(self.now), "CompletedDateTime": None, HANDOFF_ID: None, OUTCOME: None,
        }  # fmt: skip
        task = Task(record | dict(fields), account, self.now, self.as_of)
        self.tasks[record["Id"]] = task
        self._changed(task)
        return task

    def _changed(self, task: Task) -> None:
        task.record["SystemModstamp"] = _text(self.now)
        self.changes.append((self.now, task.record["Id"]))

    def open_tasks(self) -> list[Task]:
        """The open tasks of handoffs."""
        self._unfinished = [task for task in self._unfinished if task.open]
        return self._unfinished

    def deals_of(self, crm_ids: Iterable[str]) -> pd.DataFrame:
        """The present opportunities of these accounts, in the columns of `crm/{run_id}/opportunities.parquet`."""
        now = microseconds(self.now)
        rows = []
        for account in sorted({self.place[i] for i in crm_ids}):
            for deal in self.deals.get(account, ()):
                closed = deal.closes <= now
                rows.append(
                    {
                        "opportunity_id": f"006{deal.number:015d}",
                        "crm_account_id": self.company.crm_id[deal.account],
                        "account_id": self.company.ids[deal.account],
                        "stage": "Closed" if closed else "Open",
                        "is_closed": closed,
                        "is_won": closed and deal.won,
                        "amount": deal.amount,
                        "created_at": moment(deal.created),
                        "closed_at": moment(deal.closes) if closed else None,
                        "owner_id": deal.owner_id,
                        "changed_at": moment(deal.closes if closed else deal.created),
                    }
                )
        return frame_of(rows, OPPORTUNITIES)

    def deals_after(self, account: int, at: datetime) -> list[Deal]:
        """Opportunities of the account created since `at`."""
        return [deal for deal in self.deals.get(account, ()) if deal.created >= microseconds(at)]

    def open_deals(self) -> np.ndarray:
        """The number of open opportunities of each account."""
        now = microseconds(self.now)
        who = [account for account, deals in self.deals.items() for deal in deals if deal.closes > now]
        return np.bincount(np.array(who, dtype=int), minlength=self.company.size.accounts)

    def closed_deals(self) -> np.ndarray:
        """When the last deal of each account was won or lost, in microseconds; -1: none was."""
        now = microseconds(self.now)
        last = np.full(self.company.size.accounts, -1)
        for account, deals in self.deals.items():
            last[account] = max((deal.closes for deal in deals if deal.closes <= now), default=-1)
        return last

    # ── the client's reads and writes ────────────────────────────────────────────────────────────

    def check_fields(self) -> None:
        """See Crm. All fields exist."""

    def read_reps(self) -> Iterator[Row]:
        """See Crm. All users."""
        for rep in self.reps:
            yield {
                "owner_id": rep.owner_id, "email": rep.email, "name": rep.email.split("@")[0], "active": rep.active,
                "timezone": rep.timezone,
            }  # fmt: skip

    def read_activities(self, since: datetime, records: Collection[str] = ()) -> Iterator[Activity]:
        """See Crm. Tasks that changed since then."""
        ids: dict[str, None] = {}
        for at, task_id in reversed(self.changes):
            if at < since:
                break
            ids[task_id] = None
        yield from (_activity(self.tasks[i].record) for i in ids)

    def tasks_of(self, handoff_ids: Iterable[str]) -> dict[str, Activity]:
        """See Crm. The task of each handoff that has one."""
        return {h: _activity(self.tasks[self.by_handoff[h]].record) for h in handoff_ids if h in self.by_handoff}

    def activities_of(self, records: Collection[str], since: datetime) -> Iterator[Activity]:
        """See Crm. Every account is in the CRM before it is handed over."""
        return iter(())

    def opportunities_since(self, since: datetime, records: Collection[str] = ()) -> set[str]:
        """See Crm. Accounts with an opportunity created since then."""
        first = microseconds(since)
        found = (d.account for deals in self.deals.values() for d in deals if d.created >= first)
        return {self.company.crm_id[account] for account in found}

    def gone_since(self, since: datetime) -> dict[str, str | None]:
        """See Crm. No account is ever deleted here."""
        return {}

    def read_contacts(self, since: datetime | None = None, tell: Tell = lambda _: None) -> Iterator[Row]:
        """See Crm. The people who opt out some day."""
        yield from self.people.rows(self.now)

    def contacts_of(self, records: Collection[str], emails: Collection[str] = ()) -> Iterator[Row]:
        """See Crm. An address is that of the account's own person."""
        yield from self.people.rows(self.now, set(records))

    def contacts(self, emails: Collection[str]) -> dict[tuple[str, str], str]:
        """See Crm. No task names anybody."""
        return {}

    def ensure_contacts(self, rows: Mapping[str, Row]) -> dict[str, Outcome]:
        """See Crm. The year's policy makes no contacts."""
        raise NotImplementedError("crm.contacts is not create")

    def ensure_accounts(self, rows: Mapping[str, Row], kind: str) -> dict[str, Outcome]:
        """See Crm. Creates a record for each account that has none yet."""
        outcomes = {}
        for account_id in rows:
            place = int(np.searchsorted(self.company.ids, account_id))
            if self.company.crm_id[place] is None:
                crm_id = f"001{place:015d}"
                self.company.crm_id[place], self.place[crm_id], self.accounts[crm_id] = crm_id, place, {}
            outcomes[account_id] = Outcome(ok=True, id=self.company.crm_id[place])
        return outcomes

    def _send(self, method: str, records: Sequence[Row], *_: Any, **__: Any) -> list[Outcome]:
        return [self._write(method, dict(record)) for record in records]

    def _write(self, method: str, record: Row) -> Outcome:
        thing = record.pop("attributes")["type"]
        if (thing == "Account" or method == "POST") and self.rng.random() < _LOCKED_SHARE:
            return Outcome(ok=False, code="UNABLE_TO_LOCK_ROW", message="unable to obtain access", retryable=True)
        if thing == "Account":
            self.accounts[record["id"]] |= {name: v for name, v in record.items() if name != "id"}
            return Outcome(ok=True, id=record["id"])
        if method == "POST":
            task = self._new(self.place[record["WhatId"]], record)
            self.by_handoff[record[HANDOFF_ID]] = task.record["Id"]
            self._unfinished.append(task)
            self.on_new_task(task)
            self._takes_on(task)
            return Outcome(ok=True, id=task.record["Id"])
        task = self.tasks[record["id"]]
        task.record |= {name: v for name, v in record.items() if name != "id"}
        if task.record["Status"] == "Completed" and not task.record["IsClosed"]:
            task.record |= {"IsClosed": True, "CompletedDateTime": _text(self.now)}
        if task.ended_by_us:
            task.ended_as_of = self.as_of
        self._changed(task)
        return Outcome(ok=True, id=task.record["Id"])


def _activity(record: Row) -> Activity:
    done = record["CompletedDateTime"]
    return Activity(
        activity_id=record["Id"],
        kind="call" if record["TaskSubtype"] == "Call" else "task",
        crm_account_id=record["AccountId"],
        owner_id=record["OwnerId"],
        subject=record["Subject"],
        description=record["Description"],
        is_done=record["IsClosed"],
        is_deleted=record["IsDeleted"],
        created_at=datetime.fromisoformat(record["CreatedDate"]),
        done_at=None if done is None else datetime.fromisoformat(done),
        changed_at=datetime.fromisoformat(record["SystemModstamp"]),
        key=record[HANDOFF_ID],
        outcome=record[OUTCOME],
    )


def in_working_time(timezone: str, start: int, hours: float) -> int:
    """The moment when a rep who works Monday to Friday from 9 to 17 has worked this many hours since `start`."""
    zone = ZoneInfo(timezone)
    at, left = moment(start).astimezone(zone), timedelta(hours=float(hours))
    while True:
        opens = at.replace(hour=9, minute=0, second=0, microsecond=0)
        closes = at.replace(hour=17, minute=0, second=0, microsecond=0)
        if at.weekday() < 5 and at < closes:
            at = max(at, opens)
            if at + left <= closes:
                return microseconds(at + left)
            left -= closes - at
        at = opens + timedelta(days=1)


def _text(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S}.000+0000"
