"""Judges the content of the org and the channel over time by what really happened; it never asks the product.

docs/faults.md says what each guarantee means here, and what "as far as could be known at the moment of writing" means.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from onetouch.crm.salesforce import REQUIRED_FIELDS
from onetouch.delivery import DeliveryFailed
from onetouch.ledger import Run
from onetouch.policy import Policy
from onetouch.sandbox.api import Answer

from judges.faults.audience import TOLD_ONCE
from judges.faults.routed import LAG, Line
from judges.faults.wire import Request
from judges.faults.world import ASKED, HANDOFF_ID, TRIGGER, Account, Row, World

if TYPE_CHECKING:
    from judges.faults.process import Process

GUARANTEES = {
    1: "never interrupt",
    2: "never without context",
    3: "one touch",
    4: "exactly one task",
    5: "checks stop the outside",
    6: "everyone is accounted for",
    8: "a rep's edits are theirs",
    9: "bounded blast radius",
    11: "never contact",
    TOLD_ONCE: "told once",
}
REFUSED = "FIELD_CUSTOM_VALIDATION_EXCEPTION"
"""The error code with which the simulator refuses a row for good."""

LABELS = ("[Withdrawn] ", "[Released] ", "[Expired] ")
TOUCHES = ("task done by the rep", "call logged", "outcome noted")
SLA = timedelta(hours=2)
"""Within which the simulator's decisions ask for a touch."""

AFTERMATH = timedelta(days=7)
"""How long after the end of a handoff a touch by its rep is one because of it."""

_OURS_ON_TASK = {"Status", "Subject", "Description"}
_SYSTEM = {"IsClosed", "CompletedDateTime", "SystemModstamp", "LastModifiedDate", "LastModifiedById"}
_MARK = re.compile(r"\((\d,\d{3}) of 10,000\)")
_FIRST_MARK = 9001
_DOSSIER = "Onetouch_Dossier__c"
_OF_AN_EPISODE = {
    f"Onetouch_{name}__c"
    for name in ("Trigger", "Motion", "Milestones", "Team_Size", "Features_Used", "Usage_28d", "Limit_Share")
}
"""What a record tells of one episode: a new dossier may empty it, lest an earlier one stand beside it."""

_FOLLOW_UP = re.compile(r"([0-9a-f]{32})-(\d)")
"""The key of a follow-up's task: that of its handoff, and its number."""


@dataclass(frozen=True)
class Violation:
    """A broken guarantee."""

    guarantee: int
    text: str
    at: datetime

    def __str__(self) -> str:
        return f"guarantee {self.guarantee} ({GUARANTEES[self.guarantee]}): {self.text}"


class Oracle:
    """Observes every request and the tables of the org."""

    def __init__(self, world: World, policy: Policy, note: Callable[[str], None]) -> None:
        self.world, self.policy, self._note = world, policy, note
        self.violations: list[Violation] = []
        self.stopped_at: datetime | None = None
        self.marks: dict[str, int] = {}
        self.runs: dict[int, Run] = {}
        self.wanted: dict[str, set[str]] = {}
        self.waiting: dict[str, int] = {}
        self.tasks: dict[str, Row] = {}
        self.accounts: dict[str, Row] = world.org.rows("Account")
        self.made: dict[str, tuple[datetime, Run | None]] = {}
        self.ended: dict[str, datetime] = {}
        self.owned: dict[str, list[tuple[datetime, str]]] = defaultdict(list)  # task → since when it was whose
        self.reopened: set[str] = set()
        self.passed_on: set[str] = set()
        self.exempt: set[str] = set()
        self.refused: dict[str, datetime] = {}
        self.routed: dict[str, datetime] = {}
        self.alerts: Counter[str] = Counter()
        self.approved: set[str] = set()
        self.promised: dict[str, datetime] = {}
        self.careful = True
        self.line: Line | None = None  # of a seed that the product routes

    def violated(self, guarantee: int, text: str) -> None:
        """Records a violation, also in the history."""
        violation = Violation(guarantee, text, self.world.org.now)
        self.violations.append(violation)
        self._note(f"VIOLATION {violation}")

    # ── runs ─────────────────────────────────────────────────────────────────────────────────────

    def mark(self, run: Run) -> int:
        """A number that identifies the run and appears in its tasks."""
        if run.run_id not in self.marks:
            self.marks[run.run_id] = _FIRST_MARK + len(self.marks)
            self.runs[self.marks[run.run_id]] = run
        return self.marks[run.run_id]

    def decided(self, run: Run, careful: bool, actions: Mapping[str, str], waiting: int = 0) -> None:
        """Records the run's decisions, account → action.

        `careful`: whether they keep to the cap; `waiting`: how many more would be called if the day had places.
        """
        self.careful, self.routed[run.run_id] = careful, self.world.org.now
        self.waiting[run.run_id] = waiting
        self.wanted[run.run_id] = {account for account, action in actions.items() if action == "sales_now"}

    def _run_of(self, task: Row) -> Run | None:
        found = _MARK.search(f"{task['Subject']} {task['Description']}")
        return self.runs.get(int(found[1].replace(",", ""))) if found else None

    # ── requests ─────────────────────────────────────────────────────────────────────────────────

    def sends(self, process: Process, request: Request) -> None:
        """Judges a request that a process sends."""
        if request.writes and process.held:
            self.violated(5, f"{process} is held ({process.held}) and sends {request.name}")
        if request.writes and self.stopped_at is not None and process.began > self.stopped_at:
            self.violated(5, f"{process} began after the stop and sends {request.name}")

        if request.path.endswith("composite/sobjects") and b'"Account"' in request.body:
            process.wrote = self.world.org.now

    def answered(self, process: Process, request: Request, answer: Answer) -> None:
        """Records what a process learns from an answer."""
        if request.path.endswith("composite/sobjects") and isinstance(answer.body, list):
            for sent, told in zip(json.loads(request.body)["records"], answer.body, strict=False):
                name = sent.get(HANDOFF_ID) or sent.get("id", "")
                if told.get("success"):
                    process.refused.pop(name, None)
                if any(error["statusCode"] == REFUSED for error in told.get("errors", ())):
                    process.refused[name] = request.name
                    record = sent.get("WhatId") or sent.get("id") or ""
                    record = self.tasks[record]["AccountId"] if record in self.tasks else record
                    if record in self.world.by_crm_id:
                        # What was refused before anybody saw it is offered again; of other rows all is forgiven.
                        account_id = self.world.by_crm_id[record].account_id
                        if sent.get("id") in self.tasks:
                            self.exempt.add(account_id)
                        else:
                            self.refused[account_id] = self.world.org.now
        elif request.path.endswith("failedResults") and REFUSED in str(answer.body):
            process.refused[request.path] = request.name
            self.exempt |= set(self.world.by_id)

    def looks(self, process: Process | None) -> None:
        """Judges changes of the tables since the last call; `process` made them, None for anybody but the product."""
        tasks, accounts = self.world.org.rows("Task"), self.world.org.rows("Account")
        for i, task in tasks.items():
            before = self.tasks.get(i)
            if before == task:
                continue
            if before is None:
                if process is not None:
                    self._task_made(process, task)
            elif process is not None and task[HANDOFF_ID]:
                self._task_changed(process, before, task)
            self._remember(process, before, task)
        for i, account in accounts.items():
            if process is not None and self.accounts.get(i) != account:
                self._account_changed(process, self.accounts.get(i), account)
        self.tasks, self.accounts = tasks, accounts
        if process is not None and process.stage == "alert_reps":
            self._messages()

    def _remember(self, process: Process | None, before: Row | None, task: Row) -> None:
        """Records whose our tasks were, when they ended, and which of them a rep has reopened."""
        if not task[HANDOFF_ID]:
            return
        if before is None or before["OwnerId"] != task["OwnerId"]:
            self.owned[task["Id"]].append((self.world.org.now, task["OwnerId"]))
        gone = bool(task["IsClosed"] or task["IsDeleted"])
        was = before is not None and bool(before["IsClosed"] or before["IsDeleted"])
        # A task that a rep reopened ended when it was first closed, unless the rep completes it again.
        completed = process is None and not task["IsDeleted"]
        if gone and not was and (completed or task["Id"] not in self.ended):
            self.ended[task["Id"]] = self.world.org.now
        if was and not gone:
            self.reopened.add(task["Id"])

    # ── tasks ────────────────────────────────────────────────────────────────────────────────────

    def _task_made(self, process: Process, task: Row) -> None:
        now, key = self.world.org.now, task[HANDOFF_ID]
        account = self.world.by_crm_id.get(task["AccountId"] or "")
        run = self._run_of(task)
        self.made[task["Id"]] = (now, run)
        if not key:
            self.violated(4, f"a task without a key: {task['Subject']!r}")
        twins = [t for t in self.tasks.values() if key and t[HANDOFF_ID] == key]
        if twins:
            deleted = " (the rep had deleted the first)" if all(t["IsDeleted"] for t in twins) else ""
            self.violated(4, f"a second task of one handoff, {_named(account)}{deleted}")
        if account is None:
            self.violated(4, f"a task of no account: {task['Subject']!r}")
            return
        self._made_at_a_good_moment(process, account, task, run)
        if follow_up := _FOLLOW_UP.fullmatch(key or ""):
            self._may_still_be_contacted(process, account)
            self._follows_up(process, account, follow_up[1], int(follow_up[2]))
            return
        self._made_with_context(account, task)
        self._may_still_be_contacted(process, account)
        self._one_touch(process, account, task, run)
        self._within_the_cap(run)

    def _made_at_a_good_moment(self, process: Process, account: Account, task: Row, run: Run | None) -> None:
        now = self.world.org.now
        looked = max(process.began, process.wrote, process.looked.get(account.account_id, process.began))
        if account.buying_throughout(looked, now):
            self.violated(1, f"a task for {_named(account)}, whose checkout was known to be in progress")
        if run and (bought_at := account.bought_at(looked)) and bought_at >= run.as_of:
            self.violated(1, f"a task for {_named(account)}, who was known to have bought since the decision")
        if self.line and self.line.has_bought(account, looked, now):
            self.violated(1, f"a task for {_named(account)}, who was known to have just bought")
        opened = [at for at in account.at("opportunity opened") if at <= process.began]
        closed = [at for at in account.at("opportunity closed") if at <= now]
        if len(opened) > len(closed):
            self.violated(1, f"a task for {_named(account)}, who is talking to someone else")
        if run and self._deal_has_just_closed(process, account, run):
            self.violated(1, f"a task for {_named(account)}, where a deal was known to have just closed")
        if run and any(run.as_of + timedelta(seconds=1) <= at < process.began for at in account.at("call logged")):
            self.violated(1, f"a task for {_named(account)}, whom a rep has called since the decision")

    def _deal_has_just_closed(self, process: Process, account: Account, run: Run) -> bool:
        """Whether a deal closed in the days before the decision, or after it and before the stage that carries it out
        began, and nobody there had asked for a person since. The plain router knows no deal as the handoff's own."""
        days = self.policy.routing.deal_closed_days
        closes = [at for at in account.at("opportunity closed") if at <= process.began]
        if days is None or not closes or closes[-1] <= run.as_of - timedelta(days=days):
            return False
        return not any(closes[-1] < at <= run.as_of for at in account.at(ASKED))

    def _may_still_be_contacted(self, process: Process, account: Account) -> None:
        """The product asks again after it has written the account's fields."""
        if not account.may_be_contacted(max(process.began, process.wrote)):
            self.violated(11, f"a task for {account.account_id}, where everybody was known to have opted out")

    def _made_with_context(self, account: Account, task: Row) -> None:
        record = self.accounts[account.crm_id]
        missing = [name for name in REQUIRED_FIELDS if record[name] is None]
        if missing:
            self.violated(2, f"a task for {_named(account)} before {', '.join(missing)}")
        elif str(record["Onetouch_Trigger__c"]) not in str(task["Subject"]):
            self.violated(2, f"a task for {_named(account)}, whose record shows another decision's context")

    def _one_touch(self, process: Process, account: Account, task: Row, run: Run | None) -> None:
        """No second open task; and after a touch none within the cooldown, unless the customer has asked since."""
        for other in self.tasks.values():
            if other["AccountId"] != task["AccountId"] or not other[HANDOFF_ID] or other["Id"] == task["Id"]:
                continue
            if not other["IsClosed"] and not other["IsDeleted"] and other["Id"] not in self.reopened:
                self.violated(3, f"a second open task for {_named(account)}")
            elif run is not None and not _is_follow_up(other) and self._rests(process, account, other, run):
                self.violated(3, f"a task for {_named(account)} within the cooldown")

    def _follows_up(self, process: Process, account: Account, handoff: str, number: int) -> None:
        """A follow-up belongs to its handoff: after a touch and a silence for each number, one open task at a time."""
        rules = self.policy.handoff
        tasks = [t for t in self.tasks.values() if t["AccountId"] == account.crm_id and t[HANDOFF_ID]]
        own = [t for t in tasks if t[HANDOFF_ID] == handoff]
        if not own or not 1 <= number < rules.touches:
            self.violated(3, f"follow-up {number} of {_named(account)}, whom the policy allows {rules.touches} touches")
            return
        made, run = self.made[own[0]["Id"]]
        touches = [at for at in account.at(*TOUCHES) if at > (run.as_of if run else made)]
        if not touches or min(touches) + number * timedelta(days=rules.silence_days) > self.world.org.now:
            self.violated(3, f"follow-up {number} of {_named(account)} before the days of silence were over")
        if any(not t["IsClosed"] and not t["IsDeleted"] and t["Id"] not in self.reopened for t in tasks):
            self.violated(3, f"follow-up {number} of {_named(account)} beside a task that is open")

    def _rests(self, process: Process, account: Account, other: Row, run: Run) -> bool:
        """Whether the account rests from an earlier task, as far as could be known when `process` began."""
        ended = self.ended.get(other["Id"])
        if ended is None:
            return False
        made, its_run = self.made[other["Id"]]
        # A closed deal ends the handoff, whenever its task is closed.
        ended = min([ended, *(at for at in account.at("opportunity closed") if at > made)])
        decided = its_run.as_of if its_run else made
        touches = [at for at in account.at(*TOUCHES) if decided < at <= min(ended + AFTERMATH, process.began)]
        # A deal is a touch only of the rep whose task it is, while it is open: a colleague's is none.
        touches += [
            at for at, rep in account.opened_by.items() if made < at <= ended and rep == self._owner_at(other["Id"], at)
        ]
        if not touches:
            return False  # who was not called does not rest
        over = max(ended, *touches)
        asked = any(over < at <= run.as_of for at in account.at(ASKED))
        return run.as_of < over + timedelta(days=self.policy.routing.cooldown_days) and not asked

    def _owner_at(self, task_id: str, at: datetime) -> str:
        """Whose a task was at a moment after it was made."""
        return [owner for since, owner in self.owned[task_id] if since <= at][-1]

    def _within_the_cap(self, run: Run | None) -> None:
        if run is None:
            return
        cap = self.policy.assignment.tasks_per_day
        same_day = [r for _, r in self.made.values() if r is not None and r.as_of.date() == run.as_of.date()]
        if len(same_day) > cap:
            self.violated(9, f"{len(same_day)} tasks decided on {run.as_of:%d %B}, the cap is {cap}")
        limit = self.policy.delivery.approval_above
        if limit is not None and not self._may_go(run) and sum(r == run for r in same_day):
            self.violated(9, f"a task of a run with more than {limit} that nobody approved")

    def _task_changed(self, process: Process, before: Row, task: Row) -> None:
        """We may close an open task and add our label and note to its texts; everything else belongs to the rep."""
        known = process.read.get(task["Id"], before)
        changed = {name for name in task if task[name] != before[name]} - _SYSTEM
        if "OwnerId" in changed and self.policy.assignment.escalate_to is not None:
            changed.remove("OwnerId")
            self._passed_on(process, known, task)
        if foreign := sorted(changed - _OURS_ON_TASK):
            self.violated(8, f"{', '.join(foreign)} of a task written over")
        if known["IsDeleted"]:
            self.violated(8, "a task changed that the rep had deleted")
        if str(known["Subject"]).startswith(LABELS) and not known["IsClosed"] and changed:
            self.violated(8, "a task changed that the rep had reopened")
        if "Subject" in changed and task["Subject"] not in {f"{label}{known['Subject']}"[:255] for label in LABELS}:
            self.violated(8, f"the subject {known['Subject']!r} became {task['Subject']!r}")
        if "Description" in changed and not str(task["Description"]).endswith(str(known["Description"] or "")):
            self.violated(8, f"the description {str(known['Description'])[:40]!r} was written over")
        noted = str(task["Description"]).startswith("Released:")
        if noted and not str(before["Description"]).startswith("Released:"):
            self._released(task)
        if "Status" in changed and (known["IsClosed"] or task["Status"] != "Completed"):
            self.violated(8, f"the status {known['Status']!r} became {task['Status']!r}")

    def _passed_on(self, process: Process, known: Row, task: Row) -> None:
        """Judges that a task got another owner: once, at twice the SLA, while nobody was in touch or is buying."""
        account, (made, run) = self.world.by_crm_id[task["AccountId"]], self.made[task["Id"]]
        decided = run.as_of if run else made
        if known["IsDeleted"] or known["IsClosed"]:
            self.violated(8, f"the task of {_named(account)} was passed on although the rep had done it")
        if task["Id"] in self.passed_on:
            self.violated(3, f"the task of {_named(account)} was passed on twice")
        self.passed_on.add(task["Id"])
        if self.world.org.now < max(decided + 2 * SLA, made + SLA):
            self.violated(3, f"the task of {_named(account)} was passed on before twice the SLA was over")
        if any(decided < at <= process.began for at in account.at("task done by the rep", "call logged")):
            self.violated(3, f"the task of {_named(account)} was passed on although a rep had been in touch")
        opened, closed = (account.at(f"opportunity {kind}") for kind in ("opened", "closed"))
        if sum(at <= process.began for at in opened) > sum(at <= process.began for at in closed):
            self.violated(1, f"the task of {_named(account)}, who is talking to someone, was passed on")
        looked = max(process.began, process.looked.get(account.account_id, made))
        if account.buying_throughout(looked, self.world.org.now):
            self.violated(1, f"the task of {_named(account)}, who is buying, was passed on")

    def _released(self, task: Row) -> None:
        """Judges a release: the days of silence count from the rep's touch, not from our task."""
        account, (made, run) = self.world.by_crm_id[task["AccountId"]], self.made[task["Id"]]
        # A call after the decision counts as a touch of this handoff, even before its task exists.
        decided = run.as_of if run else made
        touches = [at for at in [*account.at(*TOUCHES), *account.opened_by] if at > decided]
        silence = timedelta(days=self.policy.handoff.touches * self.policy.handoff.silence_days)
        if not touches or min(touches) + silence > self.world.org.now:
            self.violated(3, f"{_named(account)} was released before the days of silence were over")

    def _account_changed(self, process: Process, before: Row | None, account: Row) -> None:
        if before is None:
            return
        changed = {name for name in account if account[name] != before[name]} - _SYSTEM
        if foreign := sorted(name for name in changed if not name.startswith("Onetouch_")):
            self.violated(8, f"{', '.join(foreign)} of an account written over")
        kept = changed - _OF_AN_EPISODE if _DOSSIER in changed else changed
        if erased := sorted(name for name in kept if before[name] is not None and account[name] is None):
            self.violated(8, f"{', '.join(erased)} of an account erased")

    # ── Slack ────────────────────────────────────────────────────────────────────────────────────

    def _messages(self) -> None:
        keys = Counter(str((m["metadata"].get("event_payload") or {}).get("key")) for m in self.world.org.messages())
        for key, count in keys.items():
            if count > self.alerts[key] and count > 1:
                self.violated(4, f"{count} messages of one alert")
        known = {f"alert:{task[HANDOFF_ID]}" for task in self.tasks.values()}
        for key in keys - self.alerts:
            if key.startswith("alert:") and key not in known:
                self.violated(2, "an alert of a task that is not there")
        self.alerts = keys

    # ── deliveries ───────────────────────────────────────────────────────────────────────────────

    def delivery_begins(self, process: Process, run: Run, *, approved: bool) -> set[str]:
        """The ids of our open tasks when a delivery begins; `approved` when a person has approved its tasks."""
        if approved:
            self.approved.add(run.run_id)
        if not process.held and self.careful and self._may_go(run):
            self.promised |= {i: run.as_of for i in self.wanted[run.run_id] if i not in self.promised}
        if not process.held and self.line:
            self.line.delivery_begins(run, self.wanted[run.run_id])
        return {i for i, t in self.tasks.items() if t[HANDOFF_ID] and not t["IsClosed"] and not t["IsDeleted"]}

    def delivered(self, process: Process, run: Run, summary: Mapping[str, Any], open_before: set[str]) -> None:
        """Judges a delivery that succeeded."""
        if summary["failed"]:
            self.violated(6, f"{process} is green with {len(summary['failed'])} failed rows")
        self._adds_up(process, summary)
        if process.held:
            return
        theirs = {i: t for i, (_, r) in self.made.items() if r == run for t in [self.tasks[i]]}
        if not len([t for t in theirs.values() if not t["IsDeleted"]]) <= summary["delivered"] <= len(theirs):
            self.violated(6, f"{process} says {summary['delivered']} delivered, the org holds {len(theirs)}")
        if (self.careful or self.line) and self._may_go(run):
            with_task = {t["AccountId"] for t in self.tasks.values() if t[HANDOFF_ID]}
            # Handoffs opened by a later run that works at the same time are delivered by that run.
            later = {i for r in self.runs.values() if r.as_of > run.as_of for i in self.wanted.get(r.run_id, ())}
            for account in (self.world.by_id[i] for i in sorted(self.wanted[run.run_id] - later)):
                due = self.careful or (self.line is not None and self.line.has_room(run, account))
                if due and self._calm(account, since=self.routed[run.run_id]) and account.crm_id not in with_task:
                    self.violated(6, f"{process} is green, {_named(account)} has no task")
        known = run.as_of - LAG if self.line else run.as_of
        for i in open_before:
            task = self.tasks[i]
            account = self.world.by_crm_id[task["AccountId"]]
            talked = account.at("opportunity opened", "outcome noted", "task done by the rep", "task reopened")
            gone = task["IsClosed"] or task["IsDeleted"] or talked
            if not gone and account.buying_throughout(known, self.world.org.now):
                self.violated(1, f"the task of {_named(account)} stays open while they are buying")
            _, its_run = self.made[i]
            bought_at = account.bought_at(known)
            if not gone and its_run and bought_at and its_run.as_of <= bought_at:
                self.violated(1, f"the task of {_named(account)} stays open although they have bought")

    def stopped(self, at: datetime) -> None:
        """Records the stop: accounts without a begun write are decided again later, so no task is due for them now."""
        self.stopped_at = at
        begun = {self.world.by_crm_id[i].account_id for i, row in self.accounts.items() if row["Onetouch_Trigger__c"]}
        self.promised = {account_id: as_of for account_id, as_of in self.promised.items() if account_id in begun}

    def went_well(self, process: Process) -> None:
        """Judges a stage that succeeded. Refused rows of tasks that are closed or deleted by now do not matter."""
        over = {i for i, task in self.tasks.items() if task["IsClosed"] or task["IsDeleted"]}
        if left := {name for row, name in process.refused.items() if row not in over}:
            self.violated(6, f"{process} is green although rows of {min(left)} were refused")

    def _may_go(self, run: Run) -> bool:
        limit = self.policy.delivery.approval_above
        called = len(self.wanted[run.run_id]) + self.waiting[run.run_id]
        return limit is None or called <= limit or run.run_id in self.approved

    def _calm(self, account: Account, *, since: datetime | None = None) -> bool:
        """Whether nothing ever happened that could be a reason not to contact the account. A refusal is one;
        but after one before `since` the account has to have been offered again.
        """
        facts = {kind for _, kind in account.facts} - {TRIGGER, ASKED}
        refused = self.refused.get(account.account_id)
        return (
            not facts
            and account.account_id not in self.exempt
            and not (refused and (since is None or refused >= since))
        )

    def failed(self, process: Process, error: Exception | None) -> None:
        """Judges an attempt that failed; `error` is None when the process was killed."""
        if isinstance(error, DeliveryFailed) and process.stage == "deliver_tasks":
            summary = error.summary
            reasons = [*summary["withheld"], *(row["reason"] for row in summary["failed"])]
            process.capped = any("tasks_per_day" in reason for reason in reasons)
            self._adds_up(process, summary)

    def _adds_up(self, process: Process, summary: Mapping[str, Any]) -> None:
        due = len(self.wanted.get(process.run_id, ()))
        parts = summary["delivered"] + sum(summary["withheld"].values()) + len(summary["failed"])
        if not due == summary["to_send"] == parts:
            self.violated(6, f"{process}: {due} decisions to send, accounted for {parts} of {summary['to_send']}")

    def gave_up(self, process: Process, *, quiet: bool) -> None:
        """Judges a run that ended because all attempts of a stage failed."""
        if quiet and not self.exempt and not self.refused and not process.capped:
            self.violated(4, f"{process.stage} does not recover although nothing is wrong any more")

    # ── the end ──────────────────────────────────────────────────────────────────────────────────

    def final(self, *, ran_out: bool) -> None:
        """Judges the state after the quiet runs: nothing may be missing, nothing may be left over."""
        made: dict[str, list[Row]] = defaultdict(list)
        for task in self.tasks.values():
            if task[HANDOFF_ID]:
                made[task["AccountId"]].append(task)
        waiting = timedelta(hours=self.policy.handoff.expires_hours)
        for account in self.world.accounts:
            tasks, calm = made[account.crm_id], self._calm(account)
            promised = self.promised.get(account.account_id)
            if calm and promised and not tasks and promised + waiting > self.world.org.now:
                self.violated(4, f"{_named(account)} was to be called and has no task")
            both = [t for t in tasks if not t["IsClosed"] and not t["IsDeleted"] and t["Id"] not in self.reopened]
            if len(both) > 1:
                self.violated(4, f"{_named(account)} has {len(both)} open tasks")
            for task in tasks:
                is_open = not task["IsClosed"] and not task["IsDeleted"]
                if calm and is_open and not _is_follow_up(task) and self.alerts[f"alert:{task[HANDOFF_ID]}"] != 1:
                    self.violated(4, f"{_named(account)} has a task that nobody was told of")
                talked = account.at("opportunity opened", "outcome noted", "task done by the rep", "task reopened")
                if ran_out and is_open and not talked:
                    self.violated(3, f"the task of {_named(account)} is open long after its time")


def _is_follow_up(task: Row) -> bool:
    return _FOLLOW_UP.fullmatch(task[HANDOFF_ID] or "") is not None


def _named(account: Account | None) -> str:
    return account.account_id if account else "an unknown account"
