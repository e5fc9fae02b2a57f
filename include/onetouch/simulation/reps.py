"""Simulates the company's reps, who work in the CRM through its REST API.

Nothing is kept between calls: what was done is read from the CRM, what is to be done is drawn from the seed and the
record's key. Calling `work` twice for the same interval therefore changes nothing the second time.
"""

from __future__ import annotations

import heapq
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import requests

from onetouch.simulation.crm import OBJECTS, REP_IDS, REPS, crm_time
from onetouch.simulation.customers import PLAN_LIMITS

_API = "/services/data/v62.0"
_OPENS, _CLOSES = time(9), time(17, 30)

# Ours: each rep's median minutes until a task is worked, and the share of tasks that are never worked.
_PACE = dict(zip(REP_IDS, (25, 45, 70, 35, 90, 50), strict=True))
_FORGETS = dict(zip(REP_IDS, (0.02, 0.05, 0.08, 0.03, 0.10, 0.04), strict=True))
_OWN_CALLS = 0.2  # ours: calls a day that a rep makes without a task
_OWN_SUBJECT = "Call: checking in"
_NOTE = "Rep's note (simulated):"
_ANSWERS = ("No response", "Replied")
_STAGES = ("Prospecting", "Qualification", "Proposal/Price Quote", "Closed Lost", "Closed Won")


@dataclass
class _Crm:
    """The part of the Salesforce REST API that the reps need, and the stand-in's clock."""

    url: str
    session: requests.Session

    def sign_in(self) -> None:
        form = {"grant_type": "client_credentials", "client_id": "sandbox-key", "client_secret": "sandbox-secret"}
        answer = self.session.post(f"{self.url}/services/oauth2/token", data=form, timeout=30)
        answer.raise_for_status()
        self.session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def query(self, soql: str) -> list[dict[str, Any]]:
        path, found = f"{_API}/query", []
        query: dict[str, str] | None = {"q": soql}
        while path:
            answer = self._checked(self.session.get(self.url + path, params=query, timeout=60))
            found += answer["records"]
            path, query = answer.get("nextRecordsUrl", ""), None
        return found

    def create(self, name: str, values: dict[str, Any]) -> str:
        answer = self.session.post(f"{self.url}{_API}/sobjects/{name}", json=values, timeout=30)
        return str(self._checked(answer)["id"])

    def update(self, name: str, record_id: str, values: dict[str, Any]) -> None:
        self._checked(self.session.patch(f"{self.url}{_API}/sobjects/{name}/{record_id}", json=values, timeout=30))

    def load(self, document: dict[str, list[dict[str, Any]]]) -> None:
        self._checked(self.session.post(f"{self.url}/_sandbox/load", json=document, timeout=60))

    def clock(self, moment: datetime) -> None:
        self._checked(self.session.post(f"{self.url}/_sandbox/clock", json={"now": moment.isoformat()}, timeout=30))

    @staticmethod
    def _checked(answer: requests.Response) -> Any:
        if not answer.ok:
            raise RuntimeError(
                f"CRM stand-in: {answer.request.method} answered {answer.status_code}: {answer.text[:300]}"
            )
        return answer.json() if answer.content else None


def work(
    url: str,
    folder: str | Path,
    *,
    seed: int,
    since: datetime,
    until: datetime,
    session: requests.Session | None = None,
) -> dict[str, int]:
    """Simulates what happens in the CRM from `since` to `until` (UTC-aware); the stand-in's clock is at `until` then.

    Customers that signed up meanwhile appear, purchases are booked, reps work their open tasks in their own working
    hours, log outcomes, open, move and close opportunities according to the truth in `folder`, and call a few of
    their own accounts. Actions that were due before `since` and were not done happen at `since`.

    Args:
        url: the stand-in's address, e.g. http://127.0.0.1:8765.
        folder: the output of `simulate`, at least up to `until`.
        seed: the seed of the simulation.
        session: a session that reaches a stand-in in this process (`in_process.Org.session`); None uses HTTP.

    Returns:
        How many records of each kind were changed: loaded, purchases, touches, outcomes, opportunities, stages, calls.

    Raises:
        ValueError: naive or reversed interval.
        RuntimeError: the stand-in refused a call.
    """
    if since.tzinfo is None or until.tzinfo is None or until < since:
        raise ValueError(f"since={since.isoformat()}, until={until.isoformat()}: need zones, and since first")
    crm = _Crm(url.rstrip("/"), session or requests.Session())
    crm.sign_in()
    shift = _Shift(crm, Path(folder), seed, since.astimezone(UTC), until.astimezone(UTC))
    shift.arrivals()
    shift.purchases()
    shift.tasks()
    shift.deals()
    shift.own_calls()
    shift.run()
    crm.clock(until)
    return shift.done


class _Shift:
    """Does all actions due in one interval in order of time; an action may put further ones in the queue."""

    def __init__(self, crm: _Crm, folder: Path, seed: int, since: datetime, until: datetime) -> None:
        self.crm, self.folder, self.seed, self.since, self.until = crm, folder, seed, since, until
        accounts = pd.read_parquet(folder / "truth" / "accounts.parquet")
        accounts = accounts[accounts["in_crm"]]
        self.truth: dict[str, Any] = {str(row.crm_account_id): row for row in accounts.itertuples(index=False)}
        self.queue: list[tuple[datetime, int, Callable[[datetime], None]]] = []
        kinds = ("loaded", "purchases", "touches", "outcomes", "opportunities", "stages", "calls")
        self.done = dict.fromkeys(kinds, 0)

    def at(self, moment: datetime, action: Callable[[datetime], None]) -> None:
        """Puts an action in the queue if it is due before the end; an overdue action is due at once."""
        if moment < self.until:
            heapq.heappush(self.queue, (max(moment, self.since), len(self.queue) + sum(self.done.values()), action))

    def run(self) -> None:
        """Does all actions in the queue, also those added meanwhile."""
        while self.queue:
            moment, _, action = heapq.heappop(self.queue)
            self.crm.clock(moment)
            action(moment)

    def draws(self, key: str, stream: int) -> np.random.Generator:
        """A generator that gives the same draws for the same record in every call of `work`."""
        return np.random.default_rng([self.seed, stream, zlib.crc32(key.encode())])

    def arrivals(self) -> None:
        """Loads the records created before `until` that the CRM does not hold yet."""
        document = json.loads((self.folder / "crm.json").read_text())
        limit = crm_time(self.until)
        missing = {}
        for name in OBJECTS:
            there = {row["Id"] for row in self.crm.query(f"SELECT Id FROM {name}")}
            due = (r for r in document[name] if max(r.get("CreatedDate", ""), r.get("CompletedDateTime", "")) < limit)
            missing[name] = [record for record in due if record["Id"] not in there]
        if any(missing.values()):
            self.crm.load(missing)
        self.done["loaded"] = sum(map(len, missing.values()))

    def purchases(self) -> None:
        """Books self-serve purchases, which reach the CRM from billing within minutes."""
        bought = pd.read_parquet(self.folder / "truth" / "checkouts.parquet")
        bought = bought[(bought["state"] == "completed") & bought["crm_account_id"].notna()]
        arr = {row["Id"]: row["ARR__c"] or 0 for row in self.crm.query("SELECT Id, ARR__c FROM Account")}
        purchases: list[Any] = list(bought.itertuples(index=False))
        for purchase in purchases:
            if arr.get(purchase.crm_account_id, np.inf) < purchase.arr:
                self.at(_moment(purchase.ended_at) + timedelta(minutes=3), self._purchase(purchase))

    def _purchase(self, purchase: Any) -> Callable[[datetime], None]:
        def book(moment: datetime) -> None:
            self._plan(purchase.crm_account_id, purchase.plan, float(purchase.arr), int(purchase.seats))
            self.done["purchases"] += 1

        return book

    def _plan(self, account: str, plan: str, arr: float, seats: int) -> None:
        values = {"Plan__c": plan, "ARR__c": arr, "Seats__c": seats, "Plan_Limits__c": json.dumps(PLAN_LIMITS[plan])}
        self.crm.update("Account", account, values)

    def tasks(self) -> None:
        """Reps work their open tasks; worked tasks get their answers."""
        fields = "Id, Description, IsClosed, OwnerId, AccountId, CreatedDate, CompletedDateTime"
        ours = "Onetouch_Handoff_Id__c, Onetouch_Outcome__c, Onetouch_Disposition__c"
        deals = self.crm.query("SELECT AccountId, CreatedDate FROM Opportunity")
        for task in self.crm.query(f"SELECT {fields}, {ours} FROM Task WHERE Onetouch_Handoff_Id__c != null"):
            if task["OwnerId"] not in _PACE:
                continue
            draws = self.draws(task["Onetouch_Handoff_Id__c"], 7)
            forgotten = draws.random() < _FORGETS[task["OwnerId"]]
            minutes = min(draws.lognormal(np.log(_PACE[task["OwnerId"]]), 0.8), 8 * 60)
            if not task["IsClosed"]:
                if not forgotten:
                    at = _after_work(_read(task["CreatedDate"]), minutes, _zone(task["OwnerId"]))
                    self.at(at, self._touch(task, draws))
            elif _NOTE in (task["Description"] or ""):
                touched = _read(task["CompletedDateTime"])
                has_deal = any(
                    d["AccountId"] == task["AccountId"] and _read(d["CreatedDate"]) >= touched for d in deals
                )
                self._follow_up(task, draws, touched, has_deal=has_deal)

    def _touch(self, task: dict[str, Any], draws: np.random.Generator) -> Callable[[datetime], None]:
        def touch(moment: datetime) -> None:
            note = f"{task['Description'] or ''}\n\n{_NOTE} called and wrote."
            self.crm.update("Task", task["Id"], {"Status": "Completed", "Description": note[:31_000]})
            self.done["touches"] += 1
            self._follow_up(task, draws, moment, has_deal=False)

        return touch

    def _follow_up(
        self, task: dict[str, Any], draws: np.random.Generator, touched: datetime, *, has_deal: bool
    ) -> None:
        """The result of a touch: an answer at once or within days, and an opportunity after a good answer."""
        account = self.truth.get(task["AccountId"])
        receptive = account is not None and bool(account.receptive) and draws.random() < 0.93
        others = (*_ANSWERS, "Not now", "Wrong person", "Would have bought anyway")
        if receptive:
            heard = str(draws.choice(["Meeting booked", "Replied"], p=[0.6, 0.4]))
        elif account is not None and bool(account.would_self_serve) and draws.random() < 0.5:
            heard = "Would have bought anyway"
        else:
            heard = str(draws.choice(others, p=[0.68, 0.08, 0.16, 0.06, 0.02]))
        hours = 0.2 if draws.random() < 0.3 else float(draws.uniform(2, 110))
        hours = 24 * 7.5 if heard == "No response" else hours
        picks = {"Onetouch_Outcome__c": heard} if receptive or heard in _ANSWERS else {}
        # A rep logs why a task led nowhere, if known; a reason known without an answer from the customer is no reply.
        if receptive:
            picks["Onetouch_Disposition__c"] = "Good"
        elif heard != "No response":
            picks["Onetouch_Disposition__c"] = "Not now" if heard == "Replied" else heard
        zone = _zone(task["OwnerId"])
        answered = _after_work(touched + timedelta(hours=hours), float(draws.uniform(1, 20)), zone)
        wait = timedelta(hours=float(draws.uniform(1, 60)))
        if not task["Onetouch_Outcome__c"] and not task["Onetouch_Disposition__c"]:

            def note(moment: datetime) -> None:
                self.crm.update("Task", task["Id"], picks)
                self.done["outcomes"] += 1

            self.at(answered, note)
        if account is not None and receptive and not has_deal:
            truth = account

            def propose(moment: datetime) -> None:
                values = {
                    "Name": f"{truth.name}: team rollout",
                    "AccountId": task["AccountId"],
                    "OwnerId": task["OwnerId"],
                    "StageName": "Qualification",
                    "CloseDate": f"{moment + timedelta(days=float(truth.deal_days)):%Y-%m-%d}",
                    "Amount": float(truth.deal_amount),
                    "LeadSource": "Product",
                }
                opportunity = self.crm.create("Opportunity", values)
                self.done["opportunities"] += 1
                self._deal({**values, "Id": opportunity, "CreatedDate": crm_time(moment)})

            self.at(_after_work(answered + wait, 5, zone), propose)

    def deals(self) -> None:
        """Moves open opportunities to their next stage or end, as the truth has them."""
        fields = "Id, AccountId, OwnerId, StageName, CreatedDate, CloseDate, Amount, LeadSource"
        for deal in self.crm.query(f"SELECT {fields} FROM Opportunity WHERE IsClosed = false"):
            self._deal(deal)

    def _deal(self, deal: dict[str, Any]) -> None:
        account = self.truth.get(deal["AccountId"])
        if account is None or deal["OwnerId"] not in _PACE:
            return
        draws = self.draws(deal["AccountId"], 9)
        opened, zone = _read(deal["CreatedDate"]), _zone(deal["OwnerId"])
        ours = deal["LeadSource"] == "Product"
        ends = opened + timedelta(days=float(account.deal_days)) if ours else _noon(deal["CloseDate"])
        won = bool(account.would_win) if ours else draws.random() < 0.3
        middle = opened + (ends - opened) * float(draws.uniform(0.3, 0.6))
        for moment, stage in ((middle, "Proposal/Price Quote"), (ends, "Closed Won" if won else "Closed Lost")):
            if _STAGES.index(stage) > _STAGES.index(deal["StageName"]):
                self.at(_after_work(moment, 1, zone), self._stage(deal, stage))

    def _stage(self, deal: dict[str, Any], stage: str) -> Callable[[datetime], None]:
        def move(moment: datetime) -> None:
            self.crm.update("Opportunity", deal["Id"], {"StageName": stage, "CloseDate": f"{moment:%Y-%m-%d}"}
                            if stage.startswith("Closed") else {"StageName": stage})  # fmt: skip
            if stage == "Closed Won":
                account = self.truth[deal["AccountId"]]
                arr = max(float(deal["Amount"] or 0), float(account.arr))
                self._plan(deal["AccountId"], "business", arr, max(int(arr // 240), int(account.seats)))
            self.done["stages"] += 1

        return move

    def own_calls(self) -> None:
        """Calls that reps make to their own accounts without a task of ours."""
        there = {
            (call["WhatId"], call["CreatedDate"][:10])
            for call in self.crm.query(f"SELECT WhatId, CreatedDate FROM Task WHERE Subject = '{_OWN_SUBJECT}'")
        }
        owned = [
            (row["OwnerId"], row["Id"])
            for row in self.crm.query("SELECT Id, OwnerId FROM Account ORDER BY Id")
            if row["OwnerId"] in _PACE and row["Id"] in self.truth
        ]
        for day in _dates(self.since, self.until):
            for rep in REP_IDS:
                draws = self.draws(f"{rep} {day}", 8)
                at = _local(day, time(10), _zone(rep)) + timedelta(minutes=int(draws.uniform(0, 390)))
                known = [a for o, a in owned if o == rep and _moment(self.truth[a].signed_up_at).date() < day]
                calls = day.weekday() < 5 and draws.random() < _OWN_CALLS
                if calls and known and self.since <= at < self.until:
                    account = known[int(draws.random() * len(known))]
                    if (account, f"{at.astimezone(UTC):%Y-%m-%d}") not in there:
                        self.at(at, self._call(rep, account))

    def _call(self, rep: str, account: str) -> Callable[[datetime], None]:
        def call(moment: datetime) -> None:
            task = {"Subject": _OWN_SUBJECT, "TaskSubtype": "Call", "WhatId": account, "OwnerId": rep}
            self.crm.create("Task", {**task, "Status": "Completed", "ActivityDate": f"{moment:%Y-%m-%d}"})
            self.done["calls"] += 1

        return call


def _zone(rep: str) -> ZoneInfo:
    return ZoneInfo(REPS[REP_IDS.index(rep)][2])


def _read(moment: str) -> datetime:
    return datetime.strptime(moment, "%Y-%m-%dT%H:%M:%S.%f%z").astimezone(UTC)


def _moment(stamp: Any) -> datetime:
    found: datetime = pd.Timestamp(stamp).to_pydatetime().replace(microsecond=0)
    return found


def _noon(day: str) -> datetime:
    return datetime.combine(date.fromisoformat(day), time(12), UTC)


def _dates(since: datetime, until: datetime) -> Iterator[date]:
    # A local working day may have the date before or after the UTC date.
    day = since.date() - timedelta(days=1)
    while day <= until.date() + timedelta(days=1):
        yield day
        day += timedelta(days=1)


def _local(day: date, clock: time, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, clock, zone).astimezone(UTC)


def _after_work(start: datetime, minutes: float, zone: ZoneInfo) -> datetime:
    """The moment at which `minutes` of working time have passed since `start` (whole seconds)."""
    left, day = timedelta(seconds=round(minutes * 60)), start.astimezone(zone).date()
    while True:
        if day.weekday() < 5:
            opens, closes = max(start, _local(day, _OPENS, zone)), _local(day, _CLOSES, zone)
            if opens < closes and left <= closes - opens:
                return opens + left
            left -= max(closes - opens, timedelta())
        day += timedelta(days=1)
