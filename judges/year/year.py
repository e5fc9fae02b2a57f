"""Simulates a year: all its runs use the real scoring, routing, ledger and delivery; an oracle with the truth judges.

Each run reads the CRM like `extract_crm`, backs off, scores, routes and delivers; reps and customers act between and
during runs. The policy changes twice. Afterwards decisions of the whole year are replayed from the kept inputs and
compared.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from onetouch import scoring
from onetouch.audit import replay
from onetouch.crm_sync import emails_of, follow, people_of, read_reps
from onetouch.delivery import DeliveryFailed, back_off, deliver_tasks
from onetouch.events import Checkout
from onetouch.lake import Lake
from onetouch.ledger import ACTIVE, Handoff, Ledger, Run
from onetouch.policy import Policy, read_policy
from onetouch.routing import route

from judges.year.company import Company, Size, microseconds
from judges.year.crm import Crm, reps_of
from judges.year.oracle import Oracle
from judges.year.people import listed

START = datetime(2025, 1, 6, tzinfo=UTC)  # a Monday

KEPT_DAYS = {"signals": 4, "decisions": 4, "inputs": 4, "crm": 4, "scores": 8}
"""Folder of the lake → days after which a run's table is deleted there, unless that run is to be replayed."""


def policies(size: Size) -> list[tuple[int, Policy]]:
    """First day → policy: the default, after a third of the time a looser one, after two thirds a stricter one.

    The last policy also lists the reps: seniority, territories, own caps and days of leave.
    """
    first = read_policy().changed(assignment__tasks_per_rep_per_day=4)
    points = [
        rule | ({"points": 16} if rule["signal"] == "pricing_views" else {})
        for rule in first.document()["scoring"]["points"]
        if rule["signal"] != "integrations"
    ]
    looser = first.changed(
        scoring__tiers={"high": 45, "medium": 25}, scoring__points=points, value__floor=4000,
        never_contact__domains=listed(size.accounts),
    )  # fmt: skip
    third = 2 * size.days // 3
    leave = {"first": (START + timedelta(days=third + 1)).date(), "last": (START + timedelta(days=third + 9)).date()}
    working = [rep for rep in reps_of(size) if rep.active]
    named: list[dict[str, Any]] = [{"email": rep.email, "senior": n % 4 == 0} for n, rep in enumerate(working)]
    named[0]["tasks_per_day"], named[-1]["leave"] = 1, [leave]
    european = [rep.email for rep in working if rep.timezone.startswith("Europe")]
    territories = [{"name": "EMEA", "reps": european, "regions": ["EMEA"]}] if european else []
    stricter = looser.changed(
        scoring__tiers={"high": 55, "medium": 30}, value__floor=7500, routing__cooldown_days=60,
        routing__holdout_share=0.05, assignment__reps=named, assignment__territories=territories,
    )  # fmt: skip
    return [(0, first), (size.days // 3, looser), (third, stricter)]


def as_before(plan: Sequence[tuple[int, Policy]]) -> list[tuple[int, Policy]]:
    """The same policies under the rules of before: every end cools down alike and only another kind of signal ends it,
    intent is as old as its signal's window, ten days of fourteen are engaged, nobody is in friction or listed, and no
    closed deal holds anybody."""
    then = {
        "routing__returns": {
            "lost_days": None, "won_days": None, "untouched_days": None, "new": "signal", "hand_raise": False,
            "same_rep_days": None,
        },
        "routing__fresh_intent_hours": None,
        "routing__deal_closed_days": None,
        "routing__engaged": [{"signal": "active_days", "at_least": 10}],
        "routing__rules": {},
        "never_contact__domains": [],
    }  # fmt: skip
    return [(day, policy.changed(**then)) for day, policy in plan]


@dataclass
class Figures:
    """The figures of the year."""

    runs: int = 0
    decisions: int = 0
    actions: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    to_send: int = 0
    delivered: int = 0
    later: int = 0
    withheld: Counter[str] = field(default_factory=Counter)
    failed: int = 0
    stopped: int = 0
    withdrawn: int = 0
    waits: list[float] = field(default_factory=list)
    queue_expired: int = 0
    provoked: int = 0
    opted_out: int = 0
    seconds: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0


class Year:
    """One simulated year at `home`, where lake and ledger are created.

    `every`: time between two runs, a multiple of six hours; `sampled`: the number of runs whose data is kept for the
    replay; `provoked`: share of the accounts to be handed over that begin to buy just then. `looks_again` false plants
    a bug: the pre-send recheck is left out.
    """

    def __init__(
        self,
        home: Path,
        size: Size,
        plan: Sequence[tuple[int, Policy]] | None = None,
        *,
        every: timedelta = timedelta(hours=6),
        sampled: int = 50,
        provoked: float = 0.05,
        looks_again: bool = True,
    ) -> None:
        self.size, self.plan, self.every = size, list(plan or policies(size)), every
        self.provoked, self.looks_again = provoked, looks_again
        self.company = Company(size, START)
        self.crm = Crm(self.company)
        self.oracle = Oracle(self.company, self.crm)
        self.lake = Lake(home / "lake")
        self.ledger = Ledger(f"sqlite:///{home / 'ledger.db'}")
        self.ledger.migrate()
        self.figures = Figures()
        self.rng = np.random.default_rng(size.seed + 3)
        self.runs = timedelta(days=size.days) // every
        self.sampled = set(self.rng.choice(self.runs, min(sampled, self.runs), replace=False).tolist())
        self.kept: list[str] = []
        self._queue: dict[str, pd.Timestamp] = {}
        self._run_ids: list[str] = []

    def live(self, told: Callable[[int], None] = lambda number: None) -> Figures:
        """Does all runs, one after the other; `told` is called with the number of each."""
        for number in range(self.runs):
            begun = time.perf_counter()
            self._run(number)
            self.figures.slowest = max(self.figures.slowest, time.perf_counter() - begun)
            told(number)
        return self.figures

    def policy_at(self, number: int) -> Policy:
        """The policy of a run, by its number."""
        return [policy for day, policy in self.plan if timedelta(days=day) <= number * self.every][-1]

    def _run(self, number: int) -> None:
        as_of, policy, crm = START + number * self.every, self.policy_at(number), self.crm
        clock = _Clock(self.figures.seconds)
        run = self.ledger.begin_run(as_of, policy, dry_run=False)
        self._run_ids.append(run.run_id)
        self.oracle.begin(policy)
        crm.as_of = as_of
        crm.advance(as_of + timedelta(minutes=2))
        clock.stop("reps")
        self._read_crm(run, policy)
        clock.stop("read the CRM")
        _summary_of(lambda: back_off(self.ledger, policy, run, crm, held=None))
        clock.stop("back off")

        reps = self.lake.read("crm", run.run_id, "reps.parquet")
        signals = self.company.signals(as_of, policy, reps, crm.open_deals(), crm.closed_deals())
        self.lake.write(signals, "signals", f"{run.run_id}.parquet")
        clock.stop("signals (simulated)")
        scoring.score(self.lake, self.ledger, policy, run)
        clock.stop("score")
        self.ledger.finish_stage(run.run_id, "route", route(self.lake, self.ledger, policy, run))
        clock.stop("route")
        decisions = self._decisions(run)
        self._provoke(as_of, decisions)

        now = as_of + timedelta(minutes=float(self.rng.uniform(4, 40)))
        crm.advance(now)
        sent = self._deliver(run, policy, now)
        clock.stop("deliver")
        self.oracle.after(as_of, policy, signals, decisions, sent)
        self._count(as_of, decisions, sent)
        self._forget(number, run)
        clock.stop("oracle")

    def _read_crm(self, run: Run, policy: Policy) -> None:
        """Reads the CRM like `extract_crm`, but not the accounts' own fields, which are in the simulated signals."""
        crm = self.crm
        reps = read_reps(crm)
        self.lake.write(reps, "crm", run.run_id, "reps.parquet")
        self.lake.write(people_of(crm.read_contacts()), "crm", run.run_id, "contacts.parquet")
        active = [h.crm_account_id for h in self.ledger.handoffs(states=ACTIVE) if h.crm_account_id]
        ids = {crm_id: str(self.company.ids[place]) for crm_id, place in crm.place.items()}
        first = run.as_of - timedelta(hours=policy.events.overlap_hours)
        follow(self.ledger, policy, run, crm, crm.deals_of(active), ids, emails_of(reps), first)

    def _deliver(self, run: Run, policy: Policy, now: datetime) -> dict[str, Any]:
        known = microseconds(now)

        def recheck(account_ids: list[str]) -> dict[str, Checkout]:
            places = np.searchsorted(self.company.ids, account_ids)
            buying = [self.company.upgrading(int(place), known, policy) for place in places]
            return {
                account: Checkout(bought=False, at=now)
                for account, is_buying in zip(account_ids, buying, strict=True)
                if is_buying and self.looks_again
            }

        return _summary_of(
            lambda: deliver_tasks(self.lake, self.ledger, policy, run, self.crm, recheck=recheck, held=None)
        )

    def _decisions(self, run: Run) -> pd.DataFrame:
        with self.lake.fs.open(self.lake.path("decisions", f"{run.run_id}.parquet"), "rb") as file:
            return pq.read_table(file, columns=["account_id", "action", "rule", "call", "since"]).to_pandas()

    def _provoke(self, as_of: datetime, decisions: pd.DataFrame) -> None:
        """Starts checkouts at the worst moments: between decision and delivery, and while a rep has the task."""
        due = decisions.loc[decisions["action"] == "sales_now", "account_id"]
        self.figures.opted_out += self.crm.people.provoke(np.searchsorted(self.company.ids, due), as_of)
        now = microseconds(as_of)
        chosen = [(int(np.searchsorted(self.company.ids, account)), self.provoked, 4 / 60) for account in due]
        hours = self.every / timedelta(hours=1)
        chosen += [(task.account, self.provoked / 5, hours) for task in self.crm.open_tasks()]
        for account, share, within in chosen:
            if self.rng.random() < share:
                at = now + int(self.rng.uniform(0, within) * 3_600_000_000) + 1
                self.figures.provoked += self.company.start_checkout(account, at)

    def _count(self, as_of: datetime, decisions: pd.DataFrame, sent: Mapping[str, Any]) -> None:
        figures = self.figures
        figures.runs += 1
        figures.decisions += len(decisions)
        figures.actions.update(decisions["action"].value_counts().to_dict())
        due = decisions[decisions["action"] == "sales_now"]
        figures.calls.update(due["call"].value_counts().to_dict())
        figures.to_send += sent["to_send"]
        figures.delivered += sent["delivered"]
        figures.later += sent.get("earlier", {}).get("delivered", 0)
        stopped = sum("assignment.tasks_per_day" in row["reason"] for row in sent["failed"])
        figures.stopped += bool(stopped)
        figures.withheld.update(sent["withheld"])
        if stopped:
            figures.withheld["daily cap"] += stopped
        figures.failed += len(sent["failed"]) - stopped
        figures.withdrawn += sent.get("withdrawn", 0)
        for account in due["account_id"]:
            if account in self._queue:
                figures.waits.append((pd.Timestamp(as_of) - self._queue[account]).total_seconds() / 3600)
        stale = decisions.loc[decisions["rule"] == "queue expired", "account_id"]
        figures.queue_expired += sum(account in self._queue for account in stale)
        waiting = decisions[decisions["action"] == "hold_capacity"]
        self._queue = dict(zip(waiting["account_id"], waiting["since"], strict=True))

    def _forget(self, number: int, run: Run) -> None:
        """Removes tables that no later run reads, except those of the runs to be replayed."""
        if number in self.sampled:
            self.kept.append(run.run_id)
        for room, days in KEPT_DAYS.items():
            runs = timedelta(days=days) // self.every + 1
            if number >= runs and number - runs not in self.sampled:
                name = self._run_ids[number - runs]
                self.lake.remove(room, name if room in ("inputs", "crm") else f"{name}.parquet")

    # ── afterwards ───────────────────────────────────────────────────────────────────────────────

    def handoffs(self) -> list[Handoff]:
        """All handoffs of the year."""
        return self.ledger.handoffs()

    def replayed(self, decisions: int) -> tuple[int, pd.DataFrame]:
        """Replays this many decisions of the sampled runs, drawn at random; returns how many, and the differences.

        The policy has changed since most of them were made.
        """
        made, different = 0, []
        for place, run_id in enumerate(self.kept):
            share = decisions // len(self.kept) + (place < decisions % len(self.kept))
            with self.lake.fs.open(self.lake.path("decisions", f"{run_id}.parquet"), "rb") as file:
                ids = pq.read_table(file, columns=["decision_id"])["decision_id"].to_numpy()
            chosen = self.rng.choice(ids, min(share, len(ids)), replace=False).tolist()
            different.append(replay(self.lake, self.ledger, run_id, chosen))
            made += len(chosen)
        return made, pd.concat(different, ignore_index=True)

    def ends(self) -> Counter[str]:
        """The number of handoffs with a task in each state."""
        return Counter(handoff.state for handoff in self.handoffs() if handoff.task_id is not None)

    def sla(self) -> tuple[int, int]:
        """(contacted by their due time, all) of the handoffs that became due while the rep had the task."""
        end = START + self.runs * self.every
        met = asked = 0
        for handoff in self.handoffs():
            if handoff.task_id is None or handoff.due_at is None or handoff.due_at > end:
                continue
            touched = handoff.touched_at
            if touched is None and handoff.closed_at is not None and handoff.closed_at <= handoff.due_at:
                continue  # withdrawn before its due time
            asked += 1
            met += touched is not None and touched <= handoff.due_at
        return met, asked

    def capacity(self) -> pd.DataFrame:
        """Tasks of each active rep: mean and maximum on a working day of the rep's own calendar."""
        working = max(1, math.floor(self.size.days * 5 / 7))
        rows = [
            (rep.email, sum(theirs) / working, max(theirs, default=0))
            for rep in self.crm.reps
            if rep.active
            for theirs in [[n for (owner_id, _), n in self.oracle.of_rep.items() if owner_id == rep.owner_id]]
        ]
        return pd.DataFrame(rows, columns=["rep", "mean", "most"])


class _Clock:
    def __init__(self, seconds: Counter[str]) -> None:
        self.seconds, self.last = seconds, time.perf_counter()

    def stop(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] += now - self.last
        self.last = now


def _summary_of(stage: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The summary of a delivery stage, also when some rows failed, which the next run sends again."""
    try:
        return stage()
    except DeliveryFailed as failed:
        return failed.summary
