"""Seeds whose decisions the product's own routing makes, and the judge of what it remembers from run to run.

All other seeds are decided by the simulator's plain router, which says little about routing and much about delivery.
Here accounts are watched from their first run on; then something happens at them that a rep should act on, while runs
are held, stopped, killed, not approved, or come to a day that is full. The judge knows what happened and which tasks
exist; like the oracle it never asks the ledger.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from functools import cache
from typing import Any, Protocol

import pyarrow as pa
from onetouch import routing
from onetouch.catalogue import HOLD_CAPACITY, HOLD_TOUCHED, SALES_NOW
from onetouch.columns import as_frame
from onetouch.ledger import Ledger, Run
from onetouch.policy import Policy, read_policy
from onetouch.routing import inputs
from onetouch.routing.rules import queue_expired, stale_intent
from onetouch.scoring import score_frame

from judges.faults import rows
from judges.faults.memory import MemoryLake
from judges.faults.world import ASKED, TRIGGER, Account, Row, World

SEEDS = (5, 7)
"""Seeds that are routed by the product: those with this remainder by sixteen."""

LAG = timedelta(minutes=20)
"""How late a run learns what customers did; the look before sending asks the product itself and is never late."""


NOT_LOOKED_AFTER: dict[str, Any] = {
    "assignment__remind": False, "slack__tell_events": False, "crm__context": "once", "crm__alert_link": False,
}  # fmt: skip
"""What a policy has that leaves handoffs alone once their tasks are announced; seeds of one kind have the contrary."""


@cache
def policies() -> list[Policy]:
    """The policies that routed seeds draw from: a day, a rep's day or an approval that a few accounts exhaust."""
    plain = read_policy().changed(
        slack__quiet_from=None, routing__cooldown_days=5, crm__contacts="never", **NOT_LOOKED_AFTER
    )
    return [
        plain,
        plain.changed(assignment__tasks_per_day=1),
        plain.changed(assignment__tasks_per_day=2, delivery__approval_above=2),
        plain.changed(assignment__tasks_per_rep_per_day=1),
    ]


def route(
    lake: MemoryLake,
    ledger: Ledger,
    policy: Policy,
    run: Run,
    accounts: Iterable[Account],
    crm: Mapping[str, Mapping[str, Any]],
    mark: int,
) -> list[dict[str, Any]]:
    """Writes the run's signals, scores and decisions; returns the decisions. `crm`: CRM id → account, as extracted."""
    signals = [rows.all_signals(account, run, mark, crm.get(account.crm_id), run.as_of - LAG) for account in accounts]
    table = pa.Table.from_pylist(signals, rows.ALL_SIGNALS)
    scores = score_frame(as_frame(table), policy, run.as_of)
    lake.write(table, "signals", f"{run.run_id}.parquet")
    scored = pa.Table.from_pandas(scores, preserve_index=False).replace_schema_metadata()
    lake.write(scored, "scores", f"{run.run_id}.parquet")
    ledger.finish_stage(run.run_id, "route", routing.route(lake, ledger, policy, run))
    decided: list[dict[str, Any]] = inputs.read_table(lake, "decisions", f"{run.run_id}.parquet").to_pylist()
    return decided


class Observed(Protocol):
    """What the oracle has seen: all tasks, those we made by the run that made them, and accounts it excuses."""

    world: World
    policy: Policy
    tasks: dict[str, Row]
    made: dict[str, tuple[datetime, Run | None]]
    exempt: set[str]

    def violated(self, guarantee: int, text: str) -> None:
        """Records a violation."""


class Line:
    """Judges that a trigger event stays a reason until a task answers it or it expires with a reason, and that who has
    bought by themselves is left alone.

    `pending`: account → the run that first knew its trigger event. An account is judged up to its first answer, and
    for as long as nothing but trigger events happens at it.
    """

    def __init__(self, oracle: Observed) -> None:
        self.oracle, self.world, self.policy = oracle, oracle.world, oracle.policy
        self.watched: dict[str, datetime] = {}
        self.pending: dict[str, datetime] = {}
        self.over: set[str] = set()
        self.tried: dict[date, set[str]] = defaultdict(set)
        self.last = datetime.min.replace(tzinfo=self.world.org.now.tzinfo)
        self.kept = self.expired = 0

    def decided(self, run: Run, decisions: Iterable[Mapping[str, Any]]) -> None:
        """Judges the decisions of a run."""
        known = run.as_of - LAG
        counts = run.real and run.as_of > self.last
        self.last = run.as_of if counts else self.last
        for row in decisions:
            account = self.world.by_id[row["account_id"]]
            if row["action"] == SALES_NOW and self.has_bought(account, known, run.as_of):
                self.oracle.violated(1, f"{account.account_id} is to be called, and was known to have just bought")
            if row["action"] == SALES_NOW and account.buying(known):
                self.oracle.violated(1, f"{account.account_id} is to be called, and was known to be buying")
            if counts and account.account_id not in self.over:
                self._remembers(run, account, str(row["action"]), str(row["rule"]))

    def has_bought(self, account: Account, known: datetime, now: datetime) -> bool:
        """Whether it bought by itself in the days before `now`, as far as `known`, and has asked for nobody since."""
        at = account.bought_at(known)
        lately = now - timedelta(days=self.policy.routing.bought_days)
        return at is not None and at > lately and not any(asked > at for asked in account.at(ASKED))

    def _remembers(self, run: Run, account: Account, action: str, rule: str) -> None:
        name, known = account.account_id, run.as_of - LAG
        if any(kind != TRIGGER for _, kind in account.facts) or name in self.oracle.exempt:
            self.over.add(name)
            return
        triggers = account.at(TRIGGER)
        if name not in self.watched:
            if action == "monitor":
                self.watched[name] = known
            else:
                self.over.add(name)
            return
        if name not in self.pending:
            news = [at for at in triggers if self.watched[name] < at <= known]
            if not news:
                return
            self.pending[name] = run.as_of
        since = self.pending[name]
        if self._answered(account, since):
            self.over.add(name)
            return
        tried = any(name in names for day, names in self.tried.items() if day >= since.date())
        if rule == stale_intent.NAME and self._stale(run, triggers):
            self.expired += 1
            self.over.add(name)
            return
        if run.as_of - since < timedelta(hours=self.policy.assignment.queue_hours):
            fine = action in (SALES_NOW, HOLD_CAPACITY) or (tried and action == HOLD_TOUCHED)
            self.kept += run.as_of > since
        else:
            fine = rule == queue_expired.NAME or tried or triggers[-1] > since - LAG
            self.expired += rule == queue_expired.NAME
            self.over.add(name)
        if not fine:
            text = f"{name} has a trigger event that no task answers, and is decided {action} ({rule})"
            self.oracle.violated(6, text)

    def _stale(self, run: Run, triggers: list[datetime]) -> bool:
        """Whether the last trigger event that the run knows of is too old to act on."""
        hours = self.policy.routing.fresh_intent_hours
        known = [at for at in triggers if at <= run.as_of - LAG]
        return hours is not None and known[-1] <= run.as_of - timedelta(hours=hours)

    def _answered(self, account: Account, since: datetime) -> bool:
        theirs = [i for i, task in self.oracle.tasks.items() if task["AccountId"] == account.crm_id]
        made = [run for i in theirs if i in self.oracle.made for run in [self.oracle.made[i][1]]]
        return any(run is None or run.as_of >= since for run in made)

    def delivery_begins(self, run: Run, wanted: Iterable[str]) -> None:
        """Records whom a delivery that may send is going to call."""
        self.tried[run.as_of.date()] |= set(wanted)

    def has_room(self, run: Run, account: Account) -> bool:
        """Whether nobody else can have used up the day or the rep's day, so that this account's task was due."""
        day, cap = run.as_of.date(), self.policy.assignment
        others = self.tried[day] - {account.account_id}
        recent = {i for at, names in self.tried.items() if (day - at).days < 4 for i in names} - {account.account_id}
        return len(others) < cap.tasks_per_day and len(recent) < cap.tasks_per_rep_per_day
