"""Judges whether the year kept the guarantees, by the company's truth and the CRM's content, never by the product.

The numbers are those of the guarantees: 1 never interrupt, 2 never without context, 3 one touch, 6 everyone is
accounted for, 9 a bounded number of tasks. The product's decisions, scores and stored state are not used.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from onetouch.crm.salesforce import HANDOFF_ID
from onetouch.policy import Policy

from judges.year.company import DAY, HOUR, NEVER, Company, microseconds, moment
from judges.year.crm import Crm, Task
from judges.year.people import NEVER_CONTACT

FRESH = 15
"""The promise of `routing.fresh_intent_hours`; it has no number among the guarantees."""

WORTHLESS = 72
"""Hours after which a signal is worthless (S2): a year under rules that do not promise it is measured by it, too."""

AFTERMATH = timedelta(days=7)
"""How long after the end of a handoff a call of its rep is one because of it."""

GUARANTEES = {
    1: "never interrupt",
    2: "never without context",
    3: "one touch",
    6: "everyone is accounted for",
    9: "bounded number of tasks",
    FRESH: "intent is fresh or lasts",
    NEVER_CONTACT: "never contact",
}

CONTEXT = (
    "Onetouch_Account_Id__c", "Onetouch_Activated__c", "Onetouch_Dossier__c", "Onetouch_Features_Used__c",
    "Onetouch_Milestones__c", "Onetouch_Team_Size__c", "Onetouch_Trigger__c", "Onetouch_Usage_28d__c",
)  # fmt: skip
"""The fields that the account's record must hold before a rep sees a task (S0)."""

_ENDED_BY_US = {"Withdrawn", "Released", "Expired"}


class Oracle:
    """Counts violations of the guarantees; `violations` describes up to 20 of each.

    `tasks`: the tasks of each account, in order; `asked`: tasks of accounts that had asked for a person within the
    signal's window; `asked_again`: those of them that asked after an end of an earlier task; `fresh`: tasks of accounts
    that showed intent lately or still do, or had when they came into the line for a rep; `of_rep`: number of tasks by
    owner and by the date of the decision in the rep's time zone.
    """

    def __init__(self, company: Company, crm: Crm) -> None:
        self.company, self.crm = company, crm
        self.counted: Counter[int] = Counter()
        self.violations: dict[int, list[str]] = defaultdict(list)
        self.checked: Counter[int] = Counter()
        self.wrong_signals: list[str] = []
        self._policy: Policy | None = None
        self.tasks: dict[int, list[Task]] = defaultdict(list)
        self._earned: dict[str, frozenset[str]] = {}
        self.asked = self.asked_again = self.fresh = 0
        self.of_rep: Counter[tuple[str, date]] = Counter()
        self._of_day: Counter[date] = Counter()
        self._new: list[Task] = []
        self._rng = np.random.default_rng(company.size.seed + 2)
        crm.on_new_task = self._new_task

    def begin(self, policy: Policy) -> None:
        """Begins a run under this policy."""
        self._policy, self._new = policy, []

    def _violated(self, guarantee: int, what: str) -> None:
        self.counted[guarantee] += 1
        if len(self.violations[guarantee]) < 20:
            self.violations[guarantee].append(what)

    # ── when a task is written ───────────────────────────────────────────────────────────────────

    def _new_task(self, task: Task) -> None:
        if self._policy is None:
            raise ValueError("a task was written outside a run")
        policy, account = self._policy, task.account
        handoff, _, number = task.record[HANDOFF_ID].partition("-")
        if number:
            self._new_follow_up(task, handoff, int(number), policy)
            return
        record = self.crm.accounts[self.company.crm_id[account]]
        decided = _moment(record.get("Onetouch_As_Of__c"))
        name = f"{self.company.ids[account]} at {task.created:%Y-%m-%d %H:%M}"

        self.checked[2] += 1
        now = microseconds(task.created)
        lacking = [field for field in CONTEXT if record.get(field) in (None, "")]
        lacking += [
            known
            for known, since in (("name", self.company.named_from), ("domain", self.company.domain_from))
            if since[account] >= now
        ]
        if decided is None or task.created - decided > timedelta(hours=policy.handoff.expires_hours):
            lacking.append("figures of this signal")
        if lacking:
            self._violated(2, f"{name}: a task without {', '.join(lacking)}")
        decided = decided or task.as_of

        self._judge_contact(name, account, task.created, policy)
        self._judge_deals(name, account, decided, policy)
        self.checked[3] += 1
        earned = self._earning(account, decided, policy)
        for reason in self._too_often(task, decided, earned, policy):
            self._violated(3, f"{name}: {reason}")
        self._earned[task.record[HANDOFF_ID]] = earned
        self._judge_intent(name, task, decided, policy)
        self.tasks[account].append(task)
        self._new.append(task)

        self.checked[9] += 1
        rep = self.crm.rep_of[task.record["OwnerId"]]
        theirs, ours = (rep.owner_id, rep.day(decided)), decided.astimezone(UTC).date()
        self.of_rep[theirs] += 1
        self._of_day[ours] += 1
        own = next((one for one in policy.assignment.reps if one.email == rep.email), None)
        cap = own.tasks_per_day if own and own.tasks_per_day is not None else policy.assignment.tasks_per_rep_per_day
        if self.of_rep[theirs] > cap:
            self._violated(9, f"{name}: task {self.of_rep[theirs]} of {rep.email} on {theirs[1]}")
        if self._of_day[ours] > policy.assignment.tasks_per_day:
            self._violated(9, f"{name}: task {self._of_day[ours]} of {ours}")
        if not rep.active or (own and any(leave.first <= theirs[1] <= leave.last for leave in own.leave)):
            self._violated(9, f"{name}: given to {rep.email}, who is not there")

    def _new_follow_up(self, task: Task, handoff: str, number: int, policy: Policy) -> None:
        """A follow-up belongs to its handoff, which goes on unanswered: a silence for each number after a touch."""
        name = f"{self.company.ids[task.account]} at {task.created:%Y-%m-%d %H:%M}: follow-up {number}"
        self._judge_contact(name, task.account, task.created, policy)
        self.checked[3] += 1
        own = next((other for other in self.tasks[task.account] if other.record[HANDOFF_ID] == handoff), None)
        if own is None or not 1 <= number < policy.handoff.touches:
            self._violated(3, f"{name} of no handoff, or one too many")
            return
        touches, silence = self._touches(own, task.created), timedelta(days=policy.handoff.silence_days)
        if not touches or min(touches) + number * silence > task.created:
            self._violated(3, f"{name} before the days of silence were over")
        if self._end(own) is not None or (own.answered is not None and own.answered <= microseconds(task.as_of)):
            self._violated(3, f"{name} although its handoff has been answered or has ended")

    def _too_often(self, task: Task, decided: datetime, earned: frozenset[str], policy: Policy) -> list[str]:
        """The reasons against another task for the account: its earlier tasks and their ends."""
        wrong = []
        earlier = self.tasks[task.account]
        if any(other.record[HANDOFF_ID] == task.record[HANDOFF_ID] for other in earlier):
            wrong.append("two tasks of one handoff")
        ends = [(other, ended) for other in earlier if (ended := self._end(other)) and ended <= decided]
        if len(ends) < len(earlier):
            wrong.append("a second handoff while one goes on")
        if not ends:
            return wrong
        # The account's silence ends with its last touch, and a request for a person after that is answered at once.
        overs = {other.record["Id"]: self._over(other, ended) for other, ended in ends}
        over = microseconds(max(overs.values()))
        returns, now = policy.routing.returns, microseconds(decided)
        asked = self.company.shown(task.account, [c.signal for c in policy.routing.hand_raised], now, policy)
        again = returns.hand_raise and any(at > over for at in asked)
        # It rests from its last end, and from the last of those for which somebody was in touch (docs/returns.md).
        touched = [end for end in ends if self._touches(*end)]
        last = max(touched, key=lambda end: overs[end[0].record["Id"]], default=ends[-1])
        for other, ended in [last] if last is ends[-1] else [last, ends[-1]]:
            days = self._rest_days(other, ended, policy)
            if decided < overs[other.record["Id"]] + timedelta(days=days) and not again:
                wrong.append(f"again {(decided - ended).days} days after one ended that rests {days}")
        if returns.new == "signal":
            if earned <= self._earned[earlier[-1].record[HANDOFF_ID]]:
                wrong.append("again without a new signal")
        elif not again and not self._came_back(task.account, ends, over, decided, policy):
            wrong.append("again without anything new")
        self.asked_again += again
        return wrong

    def _over(self, task: Task, ended: datetime) -> datetime:
        """From when the account rests: its handoff's end, or a touch after it if none had moved the handoff on."""
        moved_on = task.answered is not None or (
            task.record["CompletedDateTime"] and task.ended_by_us in ("", "Released")
        )
        return ended if moved_on else max([ended, *self._touches(task, ended)])

    def _rest_days(self, task: Task, ended: datetime, policy: Policy) -> int:
        """How long the account rests from a handoff: not at all, as a rule, when nobody was in touch."""
        if not self._touches(task, ended):
            return policy.routing.days_away("expired", False)
        deals = self.crm.deals_after(task.account, task.created) if task.ended_by_us not in _ENDED_BY_US else []
        closed = [deal for deal in deals if deal.closes <= microseconds(ended)]
        state = "won" if any(deal.won for deal in closed) else "lost" if closed else "released"
        return policy.routing.days_away(state, True)

    def _touches(self, task: Task, ended: datetime) -> list[datetime]:
        """When a rep was in touch because of a task: the task completed or answered, a call while it went on."""
        found = []
        if task.record["CompletedDateTime"] and task.ended_by_us in ("", "Released"):
            found.append(datetime.fromisoformat(task.record["CompletedDateTime"]))
        if task.answered is not None:
            found.append(moment(task.answered))
        for call in self.crm.calls[task.account]:
            by_its_rep = call.record["OwnerId"] == task.record["OwnerId"]
            if task.as_of < call.created <= ended + (AFTERMATH if by_its_rep else timedelta(0)):
                found.append(call.created)
        return found

    def _came_back(
        self, account: int, ends: list[tuple[Task, datetime]], over: int, decided: datetime, policy: Policy
    ) -> bool:
        """Whether the account has shown intent since its last handoff was over, or that one needs no such thing."""
        task, ended = ends[-1]
        if task.ended_by_us == "Withdrawn" and not self._touches(task, ended) and not task.record["IsDeleted"]:
            return True
        now, gate = microseconds(decided), [c.signal for c in policy.gates.intent]
        signs = [*gate, *(c.signal for c in policy.routing.hand_raised), *policy.routing.triggers]
        if any(at > over for at in self.company.shown(account, signs, now, policy)):
            return True
        near = self.company.near_limit(account, now, policy.signals.limit_near)
        if near is None:
            return False
        # A customer who was won is watched for outgrowing the plan it bought, by what was read since: also when a later
        # handoff came to nothing, because it rests from the last one for which somebody was in touch.
        called = next((earlier for earlier, its_end in reversed(ends) if self._touches(earlier, its_end)), task)
        return near[0] > over or (
            any(deal.won for deal in self.crm.deals_after(account, called.created)) and near[1] > over
        )

    def _judge_contact(self, name: str, account: int, now: datetime, policy: Policy) -> None:
        """By what the CRM and the policy's list said when the task was written."""
        self.checked[NEVER_CONTACT] += 1
        if self.crm.people.out[account] <= microseconds(now):
            self._violated(NEVER_CONTACT, f"{name}: a task, and everybody known there has opted out")
        domains = {entry.partition(",")[0] for entry in policy.never_contact.domains}
        if f"org{account}.example" in domains:
            self._violated(NEVER_CONTACT, f"{name}: a task for a listed partner")

    def _judge_deals(self, name: str, account: int, decided: datetime, policy: Policy) -> None:
        """Whether a deal there was lost or won lately, and nobody has asked for a person since."""
        days, now = policy.routing.deal_closed_days, microseconds(decided)
        closed = [deal.closes for deal in self.crm.deals.get(account, ()) if deal.closes <= now]
        if days is None or not closed or now - max(closed) >= days * DAY:
            return
        asked = self.company.shown(account, [c.signal for c in policy.routing.hand_raised], now, policy)
        if not (policy.routing.returns.hand_raise and any(at > max(closed) for at in asked)):
            self._violated(1, f"{name}: a deal there closed {(now - max(closed)) / DAY:.1f} days before")

    def _judge_intent(self, name: str, task: Task, decided: datetime, policy: Policy) -> None:
        """Whether the account has shown intent lately, or does so still; the time in the line for a rep is its own."""
        promised = policy.routing.fresh_intent_hours
        hours, now = promised or WORTHLESS, microseconds(decided)
        signs = [c.signal for c in (*policy.gates.intent, *policy.routing.hand_raised)] + policy.routing.triggers
        waits = hours + policy.assignment.queue_hours
        late = policy.signals.checkout_abandoned_hours
        lasts = self.company.near_limit(task.account, now, policy.signals.limit_near) is not None
        ages = [
            (now - at) / HOUR - (late if sign == "checkouts_abandoned" else 0)
            for sign in dict.fromkeys(signs)
            for at in self.company.shown(task.account, [sign], now, policy)
        ]
        asked = self.company.shown(task.account, [c.signal for c in policy.routing.hand_raised], now, policy)
        self.asked += any(now - at < policy.signals.recent_days * DAY for at in asked)
        fresh = lasts or min(ages, default=waits) < waits
        self.fresh += fresh
        if promised is None:
            return
        self.checked[FRESH] += 1
        if not fresh:
            self._violated(FRESH, f"{name}: its last sign of intent is {min(ages, default=0):.0f} hours old")

    def _end(self, task: Task) -> datetime | None:
        """When the episode of a task ended; None when it has not."""
        if task.ended_by_us in _ENDED_BY_US or task.record["IsDeleted"]:
            return task.ended_as_of
        ends: list[datetime] = []
        now = microseconds(self.crm.as_of)
        deals = [deal for deal in self.crm.deals_after(task.account, task.created) if deal.closes <= now]
        if deals:
            ends.append(min(deal.closes_at for deal in deals))
        # A checkout begun before any answer also ends the episode of a touched task, though the task does not show it;
        # also one that was begun between the decision and the task, and became known only later.
        # Later contact between the rep and the customer does not belong to this handoff.
        answered = NEVER if task.answered is None else task.answered
        bought = self.company.first_checkout(task.account, microseconds(task.as_of))
        if task.record["IsClosed"] and bought is not None and microseconds(bought) < answered:
            ends.append(bought)
        return min(ends, default=None)

    def _earning(self, account: int, as_of: datetime, policy: Policy) -> frozenset[str]:
        """The signals that earn points, counted from the account's own events."""
        values = self.company.plain(account, as_of, policy)
        return frozenset(
            rule.signal
            for rule in policy.scoring.points
            if (value := values[rule.signal]) is not None and value >= rule.at_least
        )

    # ── after a run ──────────────────────────────────────────────────────────────────────────────

    def after(
        self,
        as_of: datetime,
        policy: Policy,
        signals: pa.Table,
        decisions: pd.DataFrame,
        sent: Mapping[str, Any],
    ) -> None:
        """Judges the result of a run; `sent` is the summary of its delivery."""
        new = {id(task) for task in self._new}
        for task in self.crm.open_tasks():
            # Older tasks are judged by what the run read; new ones by the moment of writing, since they were rechecked.
            known = self.crm.now if id(task) in new else as_of
            self.checked[1] += 1
            if self.company.upgrading(task.account, microseconds(known), policy):
                age = "new" if id(task) in new else "old"
                self._violated(1, f"{self.company.ids[task.account]} at {known:%Y-%m-%d %H:%M}: {age} task, upgrading")

        self.checked[6] += 1
        present = self.company.ids[self.company.present(as_of)]
        if not np.array_equal(decisions["account_id"].sort_values().to_numpy(dtype=present.dtype), present):
            self._violated(6, f"{as_of:%Y-%m-%d %H:%M}: {len(decisions)} decisions of {len(present)} accounts")
        to_send = int((decisions["action"] == "sales_now").sum())
        told = sent["delivered"] + sum(sent["withheld"].values()) + len(sent["failed"])
        if not to_send == sent["to_send"] == told:
            self._violated(6, f"{as_of:%Y-%m-%d %H:%M}: {to_send} to send, {sent['to_send']} said, {told} told of")
        written = sent["delivered"] + sent.get("earlier", {}).get("delivered", 0)
        if written != len(self._new):
            self._violated(6, f"{as_of:%Y-%m-%d %H:%M}: {written} delivered, {len(self._new)} new tasks in the CRM")

        rows = self._rng.choice(signals.num_rows, min(2, signals.num_rows), replace=False)
        for row in signals.take(rows).to_pylist():
            account = int(np.searchsorted(self.company.ids, row["account_id"]))
            for name, value in self.company.plain(account, as_of, policy).items():
                told = row[name]
                same = told is value if None in (told, value) else abs(told - value) < 1e-9
                if not same:
                    self.wrong_signals.append(
                        f"{row['account_id']} {as_of:%Y-%m-%d %H:%M} {name}: {row[name]}, {value}"
                    )


def _moment(text: Any) -> datetime | None:
    return None if text is None else datetime.fromisoformat(str(text))
