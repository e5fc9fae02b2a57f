"""Simulates one seed: a few accounts, a few runs of the delivery, and faults at any of its steps.

The library, its clients and the ledger are the real ones. The simulator replaces time, the network, the database's
availability and the scheduler: a generator seeded once decides what happens at every step of every process.
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
from onetouch import crm_sync, delivery, stop
from onetouch.chat.slack import Slack
from onetouch.connections import Connection
from onetouch.crm import WRITES
from onetouch.crm.salesforce import Salesforce
from onetouch.delivery import DeliveryFailed, breaker
from onetouch.events import Checkout
from onetouch.lake.rows import rows_where
from onetouch.ledger import ACTIVE, Ledger, Run
from onetouch.policy import Policy, read_policy
from onetouch.sandbox import faults
from onetouch.sandbox.api import Answer
from tenacity import wait_fixed

from judges.faults import audience, routed, rows
from judges.faults.memory import MemoryLake, extraction, quick
from judges.faults.oracle import Oracle, Violation
from judges.faults.process import Killed, Process, Scheduler, SteppedLedger
from judges.faults.wire import BASE, Channel, Lost, Org, Request, Session
from judges.faults.world import REPS, World

START = datetime(2025, 11, 17, 9, tzinfo=UTC)
_NOT_IN_THE_WAY = ("back_off", "deliver_tasks", "reconcile", "send_audience")
"""Stages whose failure does not stop the later stages, as in the DAGs."""

LOOKS_AFTER = 13
"""Seeds with this remainder by sixteen look after their handoffs: reps are told of trigger events and reminded, records
are kept fresh, and tasks that stay untouched are given to the other rep."""

ATTEMPTS = 3
"""How often a stage is tried before its run ends (the DAGs try five times, or once after a permanent failure)."""


@dataclass
class Result:
    """The result of one seed."""

    seed: int
    history: list[str]
    violations: list[Violation]
    counted: Counter[str]


@cache
def policies() -> list[Policy]:
    """The policies that seeds draw from; a few accounts are enough to reach their caps, approvals and bulk writes."""
    plain = read_policy().changed(
        slack__quiet_from=None, routing__cooldown_days=5, crm__contacts="never", **routed.NOT_LOOKED_AFTER
    )
    return [
        plain,
        plain.changed(assignment__tasks_per_day=2, assignment__beyond_the_day="stop"),
        plain.changed(delivery__bulk_above=1),
        plain.changed(delivery__approval_above=2, handoff__expires_hours=24),
        plain.changed(assignment__tasks_per_day=3, crm__contacts="match"),
    ]


@cache
def _empty_ledger() -> tuple[Ledger, Any, bytes]:
    """A ledger in memory, created once, its connection, and the bytes of its empty database."""
    ledger = Ledger("sqlite://")
    ledger.migrate()
    connection = ledger.engine.raw_connection()
    return ledger, connection, connection.driver_connection.serialize()  # type: ignore[union-attr]


def simulate(seed: int) -> Result:
    """Simulates one seed, from its beginning to the quiet runs at its end."""
    return Simulation(seed).live()


class Simulation:
    """The world of one seed and everything that happens in it."""

    def __init__(self, seed: int) -> None:
        self.seed, self.rng = seed, random.Random(seed)
        self.scheduler = Scheduler(self.rng, START)
        self.history: list[str] = []
        self.ledger, connection, empty = _empty_ledger()
        connection.driver_connection.deserialize(empty)
        connection.driver_connection.execute("PRAGMA foreign_keys = ON")
        self.org = Org(START)
        self.routed = seed % 16 in routed.SEEDS
        self.policy = self.rng.choice(routed.policies() if self.routed else policies())
        if seed % 16 == LOOKS_AFTER:
            self.policy = self.policy.changed(
                assignment__escalate_to="next_rep", assignment__remind=True, slack__tell_events=True,
                crm__context="fresh",
            )  # fmt: skip
        accounts = self.rng.choice((3, 4, 4, 5, 6) if self.routed else (1, 2, 3, 3, 4))
        self.world = World(self.org, self.rng, accounts)
        self.oracle = Oracle(self.world, self.policy, self.note)
        # How many faults a seed has: often few, so that single faults are tried as well as many at once.
        self.troubles = self.rng.choice((0, 1, 2, 2, 3, 4, 6, 10))
        self.trouble_rate = self.rng.choice((0.02, 0.05, 0.1))
        self.event_rate = self.rng.choice((0.0, 0.005, 0.01, 0.02, 0.05))
        self.switch_rate = self.rng.choice((0.1, 0.3, 0.6))
        self.late: list[tuple[Process, Request]] = []
        self.limited = self.changes = 0
        self.whole = self.rng.random() < 0.2
        # Most seeds route within the cap; the others test whether delivery itself enforces it.
        self.careful = self.rng.random() < 0.8
        self.called: Counter[date] = Counter()
        self.runs: list[Run] = []
        self.steps = 0
        self.counted: Counter[str] = Counter()
        self.lake = MemoryLake()
        self.decided: set[str] = set()
        if self.routed:
            self.event_rate = self.rng.choice((0.0, 0.0, 0.005, 0.02))
            self.careful = False
            self.oracle.line = routed.Line(self.oracle)
        self.told: audience.Told | None = None
        if seed % 16 in audience.SEEDS:
            self.told = audience.Told(self.world, self.policy, self.oracle.violated)

    # ── a seed's life ────────────────────────────────────────────────────────────────────────────

    def live(self) -> Result:
        """A few runs with faults, then quiet runs that must recover from all of them."""
        with _quiet_slack(), quick():
            for _ in range(self.rng.choice((4, 5, 6) if self.routed else (1, 1, 1, 2, 2, 3))):
                self._phase()
                if self.routed:
                    self._hour()
                else:
                    self._jump()
            if self.seed % 16 == 15:
                self._slow_rep()
            self._settle()
        self.counted["steps"] = self.steps
        self.counted["tasks"] = len(self.oracle.made)
        self.counted["tasks passed on"] = len(self.oracle.passed_on)
        self.counted["runs"] = len(self.runs)
        return Result(self.seed, self.history, self.oracle.violations, self.counted)

    def _phase(self) -> None:
        """Simulates one run, or two processes at once: the same run twice, or a run and a later one."""
        now = self.scheduler.now
        kind = self.rng.choices(("alone", "twice", "overtaken", "backfill", "dry"), (10, 4, 4, 1, 1))[0]
        self.note(f"── {kind}")
        if kind == "alone":
            plans = [(now, False)]
        elif kind == "twice":
            plans = [(now, False)] * 2
        elif kind == "overtaken":
            plans = [(now - timedelta(hours=1), False), (now, False)]
        elif kind == "backfill":
            plans = [(now - timedelta(days=2), False), (now, False)]
        else:
            plans = [(now, True)]
        names = "ab"[: len(plans)]
        self.scheduler.run(
            *(
                Process(f"{name}", partial(self._pipeline, as_of=as_of, dry_run=dry))
                for name, (as_of, dry) in zip(names, plans, strict=True)
            )
        )

    def _jump(self) -> None:
        hours = self.rng.choices((1, 24, 73, 6 * 24 + 12, 8 * 24, 14 * 24), (12, 3, 2, 2, 2, 1))[0]
        if self.seed % 16 == LOOKS_AFTER and self.rng.random() < 0.7:
            hours = 5  # twice the SLA, and an hour
        self.scheduler.now = (self.scheduler.now + timedelta(hours=hours)).replace(minute=0, second=0, microsecond=0)
        if self.event_rate and self.rng.random() < 0.3:
            self._event()

    def _hour(self) -> None:
        """What customers do between two runs, on a seed that the product routes."""
        weights = (2, 2, 3, 3) if self.ledger.stopped() else (12, 4, 2, 1)
        hours = self.rng.choices((1, 2, 24, 73), weights)[0]
        next_run = (self.scheduler.now + timedelta(hours=hours)).replace(minute=0, second=0, microsecond=0)
        # Shortly before the next run is too late for that run to know of it.
        at = next_run - timedelta(minutes=self.rng.choice((5, 30, 50)))
        self.org.now = self.scheduler.now = max(at, self.scheduler.now)
        for _ in range(self.rng.choice((0, 1, 2, 3))):
            self.org.now = self.scheduler.now = self.scheduler.now + timedelta(seconds=1)
            happened = self.world.customer()
            self.note(happened)
            self.counted[f"event: {happened.partition(':')[0]}"] += 1
        self.scheduler.now = max(next_run, self.scheduler.now)
        if self.rng.random() < 0.25:
            self.note(self._kill_switch())

    def _slow_rep(self) -> None:
        """Reps take two days to contact the account; a run follows when the days of silence since the task are over.

        Only on one seed of sixteen; drawn by chance it would hardly ever happen.
        """
        self.troubles = self.limited = 0
        self.event_rate = 0.0
        self._land_late()
        self.note("── a slow rep")
        for hours, decides in ((0, True), (40, False), (self.policy.handoff.silence_days * 24 - 24, False)):
            self.scheduler.now += timedelta(hours=hours)
            self.org.now = self.scheduler.now
            if hours == 40:
                for text in self.world.all_done():
                    self.note(text)
                self.oracle.looks(None)
            self.scheduler.run(
                Process("slow", partial(self._pipeline, as_of=self.scheduler.now, dry_run=False, decides=decides))
            )

    def _settle(self) -> None:
        """Simulates quiet runs without faults: one, or on some seeds three, until all time limits have passed."""
        self.troubles = self.limited = 0
        self.event_rate = 0.0
        self._land_late()
        self.ledger.resume(self.scheduler.now)
        self.oracle.stopped_at = None
        self.note("── quiet")
        jumps = (1,) if self.rng.random() < 0.85 or self.routed else (1, 80, 8 * 24)
        for number, hours in enumerate(jumps):
            self.scheduler.now += timedelta(hours=hours)
            quiet = Process(
                "quiet", partial(self._pipeline, as_of=self.scheduler.now, dry_run=False, decides=not number)
            )
            self.scheduler.run(quiet)
        self.org.now = self.scheduler.now
        self.oracle.final(ran_out=len(jumps) > 2)
        if self.told:
            self.told.final()

    # ── what one process does ────────────────────────────────────────────────────────────────────

    def _pipeline(self, process: Process, as_of: datetime, dry_run: bool, decides: bool = True) -> None:
        """Runs the stages of one run that concern delivery, each with a few attempts."""
        holder: list[Run] = []

        def begin(ledger: Ledger) -> None:
            fresh = self.scheduler.now - as_of <= timedelta(hours=self.policy.delivery.fresh_hours)
            holder[:] = [ledger.begin_run(as_of, self.policy, dry_run, fresh=fresh)]

        if not self._tries(process, "begin", begin):
            return
        run = holder[0]
        nightly = self.rng.random() < 0.1
        process.run_id = run.run_id
        if run not in self.runs:
            self.runs.append(run)
        stages: dict[str, Callable[[Ledger], Any]] = {
            "extract_crm": lambda ledger: self._extract(process, ledger, run),
            "back_off": lambda ledger: self._back_off(process, ledger, run),
            "route": lambda ledger: self._route(ledger, run, decides),
            "deliver_tasks": lambda ledger: self._deliver(process, ledger, run),
            "reconcile": lambda ledger: self._reconcile(process, ledger, run),
            "send_audience": lambda ledger: self._tell(process, ledger, run),
            "alert_reps": lambda ledger: self._alert(process, ledger, run),
        }
        if not nightly:
            del stages["reconcile"]
        if self.told is None:
            del stages["send_audience"]
        for name, work in stages.items():
            if not self._tries(process, name, work) and name not in _NOT_IN_THE_WAY:
                return
        process.stage = ""

    def _tries(self, process: Process, stage: str, work: Callable[[Ledger], Any]) -> bool:
        """Runs a stage; returns whether one of its attempts succeeded."""
        for attempt in range(1, ATTEMPTS + 1):
            process.stage, process.attempt = stage, attempt
            process.began = process.wrote = self.scheduler.now
            process.held = None
            process.looked, process.read, process.refused, process.capped = {}, {}, {}, False
            ledger = SteppedLedger(self.ledger, self.scheduler, process, partial(self._step, process))
            try:
                work(ledger)
            except Killed:
                self.scheduler.free(process)
                process.dead = False
                self.note("killed", process)
                self.oracle.failed(process, None)
            except Exception as error:  # noqa: BLE001 - an attempt may fail with any error
                said = str(error).splitlines()[0][:160]
                self.note(f"failed: {type(error).__name__}: {said}", process)
                self.oracle.failed(process, error)
                if isinstance(error, DeliveryFailed) and not self.troubles and attempt > 1:
                    break
            else:
                self.oracle.went_well(process)
                return True
            self.scheduler.sleep(process, self.rng.choice((30, 300)))
        self.note(f"gave up {stage}", process)
        self.oracle.gave_up(process, quiet=process.name == "quiet")
        return False

    def _crm(self, process: Process) -> Any:
        extra = {"instance_url": BASE, "consumer_key": "sandbox-key", "consumer_secret": "sandbox-secret"}
        return Salesforce(
            Connection("salesforce_default", extra=extra | {"version": "62.0"}),
            wait=wait_fixed(5),
            sleep=partial(self.scheduler.sleep, process),
            session=Session(self.org, SimpleNamespace(carry=partial(self._carry, process))),
            bulk_above=self.policy.delivery.bulk_above,
            api_reserve=0.2,
            contact_fields=dict(self.policy.crm.contact_fields),
        )

    def _slack(self, process: Process) -> Slack:
        connection = Connection("slack_default", password="xoxb-sandbox", extra={"base_url": f"{BASE}/api/"})
        slack = Slack(connection, sleep=partial(self.scheduler.sleep, process))
        channel = Channel(
            token="xoxb-sandbox", base_url=slack.client.base_url, retry_handlers=slack.client.retry_handlers
        )
        channel.org, channel.traveller = self.org, SimpleNamespace(carry=partial(self._carry, process))
        slack.client = channel
        return slack

    def _may_not(self, process: Process, ledger: Ledger, run: Run) -> str | None:
        held = breaker.held(self.policy, run.as_of, self.scheduler.now, dry_run=run.dry_run, stopped=ledger.stopped())
        process.held = held
        return held

    def _extract(self, process: Process, ledger: Ledger, run: Run) -> Any:
        crm = self._crm(process)
        if self.whole:
            return crm_sync.extract_crm(self.lake, ledger, self.policy, run, crm)
        if not self.oracle.made and not self.world.crm_events:
            # Nothing can have changed in the CRM, so what reading it would return is known.
            self.lake.tables[self.lake.path("crm", run.run_id, "reps.parquet")] = _reps()
            self._keep_accounts(
                run,
                [{"crm_account_id": a.crm_id, "owner_id": REPS[a.owner][0]} for a in self.world.accounts],
                Counter(),
                {},
            )
            return {}
        # Only what the stage writes to the ledger, without the tables for scoring.
        reps = extraction.frame_of(crm.read_reps(), extraction.REPS)
        self.lake.write(reps, "crm", run.run_id, "reps.parquet")
        accounts = [row for row in crm.read_accounts(self.policy) if not row["is_deleted"]]
        deals = extraction.frame_of(
            (r for r in crm.read_opportunities() if not r["is_deleted"]), extraction.OPPORTUNITIES
        )
        open_ones = Counter(deals.loc[~deals["is_closed"].fillna(False), "crm_account_id"])
        self._keep_accounts(run, accounts, open_ones, extraction.last_closes(deals).to_dict())
        ids = {account.crm_id: account.account_id for account in self.world.accounts}
        return extraction.follow(
            ledger,
            self.policy,
            run,
            crm,
            deals,
            {row["crm_account_id"]: ids.get(row["crm_account_id"], row["crm_account_id"]) for row in accounts},
            extraction.emails_of(reps),
            run.as_of - timedelta(days=90),
        )

    def _keep_accounts(
        self, run: Run, accounts: list[dict[str, Any]], open_ones: Counter[str], closes: dict[str, datetime]
    ) -> None:
        shown = [
            {name: row[name] for name in ("crm_account_id", "owner_id")}
            | {"open_opportunities": open_ones[row["crm_account_id"]]}
            | {"deal_closed_at": closes.get(row["crm_account_id"])}
            for row in accounts
        ]
        path = self.lake.path("crm", run.run_id, "accounts.parquet")
        self.lake.tables[path] = pa.Table.from_pylist(shown, rows.ACCOUNTS)

    def _back_off(self, process: Process, ledger: Ledger, run: Run) -> Any:
        held = self._may_not(process, ledger, run)
        crm = stop.stoppable(self._crm(process), WRITES, ledger.stopped)
        return delivery.back_off(ledger, self.policy, run, crm, held=held)

    def _reconcile(self, process: Process, ledger: Ledger, run: Run) -> Any:
        held = self._may_not(process, ledger, run)
        crm = stop.stoppable(self._crm(process), WRITES, ledger.stopped)
        return delivery.reconcile(ledger, self.policy, run, crm, held=held)

    def _deliver(self, process: Process, ledger: Ledger, run: Run) -> Any:
        held = self._may_not(process, ledger, run)
        crm = None if held else stop.stoppable(self._crm(process), WRITES, ledger.stopped)
        approved = self.oracle.marks[run.run_id] % 2 == 0
        before = self.oracle.delivery_begins(process, run, approved=approved)
        summary = delivery.deliver_tasks(
            self.lake, ledger, self.policy, run, crm, recheck=partial(self._recheck, process), held=held,
            approved=approved,
        )  # fmt: skip
        self.oracle.delivered(process, run, summary, before)
        return summary

    def _alert(self, process: Process, ledger: Ledger, run: Run) -> Any:
        held = self._may_not(process, ledger, run)
        slack = None if held else self._slack(process)
        return delivery.alert_reps(self.lake, ledger, self.policy, run, slack, now=self.scheduler.now, held=held)

    def _tell(self, process: Process, ledger: Ledger, run: Run) -> Any:
        held = self._may_not(process, ledger, run)
        session = Session(self.org, SimpleNamespace(carry=partial(self._carry, process)))
        hook = None if held else audience.webhook(self.org, session, self.scheduler, process, ledger.stopped)
        return delivery.send_audience(self.lake, ledger, self.policy, run, hook, held=held)

    def _recheck(self, process: Process, account_ids: list[str]) -> dict[str, Checkout]:
        """Checkouts in the product's own events at this moment."""
        self._step(process, "before", "recheck")
        now = self.scheduler.now
        process.looked |= dict.fromkeys(account_ids, now)
        asked = {i: self.world.by_id[i] for i in account_ids}
        found = {i: Checkout(bought=False, at=now) for i, account in asked.items() if account.buying(now)}
        itself = {i: at for i, account in asked.items() if (at := account.bought_at(now))}
        # Decided by the plain router, an account may be called after it has bought.
        found |= {i: Checkout(True, at, at if self.routed else None) for i, at in itself.items()}
        self._step(process, "after", "recheck")
        return found

    # ── decisions, by a simple router of the simulator ───────────────────────────────────────────

    def _route(self, ledger: Ledger, run: Run, decides: bool) -> None:
        """Decides every account from what the run knows, and writes the decisions once for each run."""
        if self.routed:
            with ledger.alone(f"route {run.run_id}"):  # a stage that is done is not done again
                self._route_by_product(ledger, run)
            return
        if self.lake.exists("decisions", f"{run.run_id}.parquet"):
            return
        crm = self._crm_accounts(run)
        told = ledger.handoff_frame(run.as_of)
        self.lake.write(told, "inputs", run.run_id, "handoffs.parquet")
        handoffs = {row["account_id"]: row for row in told.astype(object).where(told.notna(), None).to_dict("records")}
        if self.lake.exists("decisions", f"{run.run_id}.parquet"):  # written meanwhile by another process of this run
            return
        mark = self.oracle.mark(run)
        decisions, signals = [], []
        cooldown = timedelta(days=self.policy.routing.cooldown_days)
        for account in self.world.accounts:
            known = crm.get(account.crm_id)
            handoff = handoffs.get(account.account_id)
            news = ["limit_share"]
            if known is not None and self._of_a_colleague(known, run):
                action = "hold_open_opportunity"
            elif known is None or not decides:
                action = "nurture"
            elif not account.may_be_contacted(run.as_of):
                action = "hold_never_contact"
            elif handoff and handoff["state"] in ACTIVE:
                action = "hold_touched"
            elif account.buying(run.as_of):
                action = "hold_converting"
            elif handoff and (over := self._rests_from(handoff)) and over + cooldown > run.as_of:
                action = "hold_cooldown"
            else:
                # A new signal: the customer did something new since the last call.
                news += [f"news {len(handoff['signals'])}"] if handoff else []
                room = self.policy.assignment.tasks_per_day - self.called[run.as_of.date()]
                wanted = (self.seed + account.number + mark) % 5 and (room > 0 or not self.careful)
                action = "sales_now" if wanted else "nurture"
                self.called[run.as_of.date()] += bool(wanted)
            owner = next((rep for rep in REPS if known and rep[0] == known["owner_id"]), REPS[0])
            decisions.append(rows.decision(account, run, mark, action, owner, news))
            signals.append(rows.signals(account, run, mark, known))
        self.lake.write(pa.Table.from_pylist(signals, rows.SIGNALS), "signals", f"{run.run_id}.parquet")
        self.lake.write(pa.Table.from_pylist(decisions, rows.DECISIONS), "decisions", f"{run.run_id}.parquet")
        actions = {d["account_id"]: d["action"] for d in decisions}
        self.oracle.decided(run, self.careful, actions)
        if self.told:
            self.told.decided(run, actions)
        shown = ", ".join(f"{d['account_id']} {d['action']}" for d in decisions)
        self.note(f"decided as of {run.as_of:%d %H:%M}: {shown}")

    def _of_a_colleague(self, known: dict[str, Any], run: Run) -> bool:
        """Whether a deal there is open, or closed lately; nobody asks for a person where this router decides."""
        closed_at, days = known["deal_closed_at"], self.policy.routing.deal_closed_days
        lately = closed_at is not None and days is not None and closed_at > run.as_of - timedelta(days=days)
        return bool(known["open_opportunities"]) or lately

    def _rests_from(self, handoff: dict[str, Any]) -> datetime | None:
        """When the handoff was over from which an account rests: in seeds of odd number from any, else from a touch."""
        at: datetime | None = handoff["closed_at"] if self.seed % 2 else handoff["rest_at"]
        return at

    def _crm_accounts(self, run: Run) -> dict[str, dict[str, Any]]:
        ids = list(self.world.by_crm_id)
        known = rows_where(self.lake, "crm", f"{run.run_id}/accounts", "crm_account_id", ids)
        return {row["crm_account_id"]: row for row in known}

    def _route_by_product(self, ledger: Ledger, run: Run) -> None:
        if run.run_id in self.decided:
            return
        mark, crm = self.oracle.mark(run), self._crm_accounts(run)
        decisions = routed.route(self.lake, ledger, self.policy, run, self.world.accounts, crm, mark)
        self.decided.add(run.run_id)
        actions = {d["account_id"]: d["action"] for d in decisions}
        waiting = sum(any(o["obstacle"] == "day" for o in d["would_change"] or ()) for d in decisions)
        self.oracle.decided(run, False, actions, waiting)
        shown = ", ".join(f"{d['account_id']} {d['action']} ({d['rule']})" for d in decisions)
        self.note(f"decided as of {run.as_of:%d %H:%M}{'' if run.real else ', not real'}: {shown}")
        if self.oracle.line:
            self.oracle.line.decided(run, decisions)

    # ── steps and faults ─────────────────────────────────────────────────────────────────────────

    def note(self, text: str, process: Process | None = None) -> None:
        """Adds a line to the history."""
        self.history.append(f"{self.scheduler.now:%d %H:%M:%S} {process or 'world'}: {text}")

    def _step(self, process: Process, when: str, what: str) -> bool:
        """A moment between two instructions of a process: it may die, another process may run, an event may happen.

        Returns whether the database is unreachable at that moment. Raises Killed.
        """
        if process.dead:
            raise Killed
        self.steps += 1
        rng, scheduler = self.rng, self.scheduler
        drawn = rng.random()
        # Every step has a moment of its own, which gives their order; the org's clock has whole seconds.
        scheduler.now += timedelta(seconds=(0, 0, 1, 1, 3)[int(drawn * 1e6) % 5], microseconds=1)
        self.org.now = scheduler.now
        ledger = what in ("commit", "read the ledger") or what.startswith("alone")
        trouble = None
        if self.troubles and drawn < 0.1 * self.trouble_rate * self._roughness(process, what):
            kinds = ("die", "die", "unreachable") if ledger else ("die",)
            trouble = rng.choice((*kinds, "stall") if "chat." not in what else kinds)
            self.troubles -= 1
        self.note(f"{when} {what}" + (f" — {trouble}" if trouble else ""), process)
        if trouble:
            self.counted[f"fault: {trouble}"] += 1
        if self.event_rate and rng.random() < self.event_rate * self._roughness(process, what):
            self._event()
        if trouble == "die":
            process.dead = True
            raise Killed
        if trouble == "stall":
            scheduler.sleep(process, rng.choice((60, 1200)))
        elif len(scheduler.live) > 1 and rng.random() < self.switch_rate:
            scheduler.pause()
        self.org.now = scheduler.now
        return trouble == "unreachable"

    @staticmethod
    def _roughness(process: Process, what: str) -> float:
        """A factor for the rate of faults: higher where something is written than where the CRM is only read."""
        if process.stage in ("begin", "extract_crm"):
            return 0.2
        return 3.0 if what == "commit" or "composite" in what or "ingest" in what or "chat." in what else 1.0

    def _event(self, *, of_tasks: bool = False) -> None:
        self.scheduler.now += timedelta(microseconds=1)
        self.org.now = self.scheduler.now
        if not of_tasks and self.rng.random() < 0.02:
            text = self._kill_switch()
        elif self.late:  # until a late request arrives, only the product changes its records
            return
        else:
            text = self.world.event(of_tasks=of_tasks)
        if text:
            self.note(text)
            self.counted[f"event: {text.partition(':')[0]}"] += 1
            self.oracle.looks(None)
        self.scheduler.now += timedelta(microseconds=1)

    def _kill_switch(self) -> str:
        if self.ledger.stopped():
            self.ledger.resume(self.scheduler.now)
            self.oracle.stopped_at = None
            return "sending resumed"
        self.ledger.stop("drill", self.scheduler.now)
        self.oracle.stopped(self.scheduler.now)
        return "sending stopped"

    def _carry(self, process: Process, request: Request) -> Answer:
        """Sends a request and returns its answer, with faults on the way there and back."""
        self._step(process, "before", request.name)
        self._land_late()
        trouble = self._trouble(process, request)
        if trouble:
            self.note(f"{request.name}: {trouble}", process)
            self.counted[f"fault: {trouble}"] += 1
        self.oracle.sends(process, request)
        if trouble in ("request lost", "late"):
            if trouble == "late":
                self.late.append((process, request))
            raise Lost
        if trouble in _STATUS:
            return _STATUS[trouble]
        if trouble == "signed out":
            self.org.db.execute("DELETE FROM session")
        if trouble in _ROW_ERRORS:
            # The rows of a bulk job are refused when the job is polled; until then the fault is pending.
            row, where = self.rng.randrange(3), "batches" if request.path.endswith("batches") else "composite"
            faults.plan(self.org.store, [{"match": where, "row_error": _ROW_ERRORS[trouble], "rows": [row]}])
        answer = self._arrives(process, request)
        if trouble == "delivered twice":
            again = self._arrives(process, request)
            answer = self.rng.choice((answer, again))
        if trouble == "answer lost" and request.makes_tasks and self.event_rate:
            self._event(of_tasks=True)  # the worst moment: a task exists that the product does not know of
        self._step(process, "after", request.name)
        if trouble == "answer lost":
            raise Lost
        if trouble == "little left":
            answer.headers["Sforce-Limit-Info"] = "api-usage=950/1000"
        self.oracle.answered(process, request, answer)
        return answer

    def _arrives(self, process: Process, request: Request) -> Answer:
        answer = request.execute()
        if request.path.endswith("composite/sobjects"):
            self.org.db.execute("DELETE FROM fault")
        if request.starts_job:  # processed at once, so that it is judged by what its sender knew
            self.org.finish_jobs()
        if request.reads_tasks:  # as they are now; they may change before the answer arrives
            process.read = dict(self.oracle.tasks)
        if self.org.db.total_changes != self.changes:
            self.oracle.looks(process)
        self.changes = self.org.db.total_changes
        return answer

    def _land_late(self) -> None:
        """Requests that were on their way when their senders stopped waiting arrive now."""
        for process, request in self.late:
            self.note(f"{request.name} arrives late", process)
            self._arrives(process, request)
        self.late = []

    def _trouble(self, process: Process, request: Request) -> str | None:
        """Draws the fault of this request; None for no fault."""
        if self.limited and request.api == "salesforce":
            self.limited -= 1
            return "limit exceeded"
        rate = self.trouble_rate * (6 if request.writes else self._roughness(process, request.name))
        if not self.troubles or self.rng.random() >= rate:
            return None
        self.troubles -= 1
        if request.api == "slack":
            return self.rng.choice(("request lost", "answer lost", "503", "429"))
        if request.api == "audience":
            return self.rng.choice(audience.FAULTS)
        kinds = ["request lost", "answer lost", "503", "429", "signed out", "401", "limit exceeded", "little left"]
        if request.writes:
            kinds += ["answer lost", "delivered twice", "row locked", "row refused", "row locked", "row refused"]
            if request.makes_tasks:
                kinds += ["late", *["answer lost"] * 6]
        trouble = self.rng.choice(kinds)
        if trouble == "limit exceeded":
            self.limited = self.rng.choice((0, 1, 5))
        return trouble


def _refusal(status: int, code: str) -> Answer:
    return Answer(status, [{"errorCode": code, "message": code.lower()}], {})


_STATUS = {
    "503": Answer(503, "Service Unavailable"),
    "429": Answer(429, {"ok": False, "error": "ratelimited"}, {"Retry-After": "1"}),
    "401": _refusal(401, "INVALID_SESSION_ID"),
    "limit exceeded": _refusal(403, "REQUEST_LIMIT_EXCEEDED"),
}
_ROW_ERRORS = {"row locked": "UNABLE_TO_LOCK_ROW", "row refused": "FIELD_CUSTOM_VALIDATION_EXCEPTION"}


@contextmanager
def _quiet_slack() -> Iterator[None]:
    """Silences slack_sdk, which logs a warning for every lost answer."""
    logger = logging.getLogger("slack_sdk")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


@cache
def _reps() -> pa.Table:
    rows = [{"owner_id": i, "email": e, "name": n, "active": True, "timezone": "UTC"} for i, e, n in REPS]
    return pa.Table.from_pylist(rows)
