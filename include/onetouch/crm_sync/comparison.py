"""Compares ledger and CRM handoff by handoff: which differences there are, and which repairs are safe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from onetouch.crm import CLOSED_BY_US, WITHDRAWN, Activity, Crm, note
from onetouch.crm_sync.extract_crm import emails_of, read_reps
from onetouch.crm_sync.one_touch import LABELS, Move, Seen, moves, new_owner
from onetouch.ledger import LEGAL, Handoff, Ledger, Run
from onetouch.policy import Policy

_NOTES = tuple(note(label) for label in CLOSED_BY_US)
"""First words in the description of a task we closed or released: if it is open now, a rep has reopened it."""


@dataclass(frozen=True)
class Finding:
    """A difference between ledger and CRM for one handoff, in words, with its repair if there is a safe one.

    `handoff_id`: the handoff's, or the key of its follow-up.
    `close`: label and reason to close the task with. `moves`: moves the handoff has made. `owner_id`: its new owner.
    """

    what: str
    handoff_id: str
    tasks: Sequence[Activity]
    close: tuple[str, str] | None = None
    moves: Sequence[Move] = field(default_factory=list)
    owner_id: str | None = None

    @property
    def safe(self) -> bool:
        """Whether there is a safe repair."""
        return bool(self.close or self.moves or self.owner_id)

    def told(self, why_not: str = "") -> dict[str, Any]:
        """The finding as it is reported; `why_not`: why it was not repaired."""
        what = f"{self.what} ({why_not})" if why_not else self.what
        return {"what": what, "handoff_id": self.handoff_id, "task_ids": [task.activity_id for task in self.tasks]}


@dataclass(frozen=True)
class Comparison:
    """`looked_at`: how many keys were compared. `emails`: every user of the CRM → e-mail."""

    looked_at: int
    findings: list[Finding]
    emails: Mapping[str, str | None]


def compare(ledger: Ledger, policy: Policy, run: Run, crm: Crm) -> Comparison:
    """Compares every active handoff, and every task we created within the lookback, with its counterpart by key.

    Safe to repair: a task that stayed open after its handoff ended; a task the ledger does not know of; a handoff
    whose task was deleted, or closed by a run that crashed; a missed touch or reply; a task reassigned to another rep.
    Left to a person: a key the ledger does not know, two live tasks with one key, a task without its context, a task
    that no user owns, a task in another CRM (the policy has changed since), which cannot be seen from this one.
    """
    # The CRM is read first, so that the ledger already knows any task created meanwhile.
    tasks: dict[str, list[Activity]] = {}
    since = run.as_of - timedelta(days=policy.signals.lookback_days)
    for task in crm.keyed_tasks(since):
        tasks.setdefault(str(task.key), []).append(task)
    emails = emails_of(read_reps(crm))
    handoffs = {handoff.handoff_id: handoff for handoff in ledger.handoffs()}
    compared = tasks.keys() | {handoff_id for handoff_id, handoff in handoffs.items() if handoff.active}
    # Adds tasks created before the lookback, or since the tasks were read.
    tasks |= {handoff_id: [task] for handoff_id, task in crm.tasks_of(compared - tasks.keys()).items()}

    elsewhere = _elsewhere(ledger, crm, [key for key in compared & handoffs.keys() if not tasks.get(key)])
    findings = [
        finding
        for key in sorted(compared)
        if (finding := elsewhere.get(key) or _finding(key, handoffs, tasks.get(key, []), emails, run))
    ]
    return Comparison(len(compared), findings, emails)


def _elsewhere(ledger: Ledger, crm: Crm, keys: Sequence[str]) -> dict[str, Finding]:
    """Handoffs whose task was sent to another CRM: its state cannot be seen from this one."""
    rows = ledger.outbox(keys=[f"task:{key}" for key in keys])
    sent = {str(row.handoff_id): row.destination for row in rows if row.destination != crm.name and row.attempts > 0}
    return {key: Finding(f"its task is in {destination}", key, []) for key, destination in sent.items()}


def _finding(
    key: str, handoffs: Mapping[str, Handoff], tasks: Sequence[Activity], emails: Mapping[str, str | None], run: Run
) -> Finding | None:
    """The difference found for a key, of a handoff or of a follow-up; None: ledger and CRM agree."""
    live = [task for task in tasks if not task.is_deleted]
    follow_up = bool(tasks and tasks[0].follow_up)
    handoff = handoffs.get(str(tasks[0].handoff_id) if follow_up else key)
    if handoff is None:
        return Finding("a task with a key the ledger does not know", key, live) if live else None
    if len(live) > 1:
        return Finding("several tasks with one key", key, live)
    task = next(iter([*live, *tasks]), None)
    if follow_up:
        return None if handoff.state == "touched" else _of_ended(key, handoff, live, WITHDRAWN)
    if not handoff.active:
        return _of_ended(key, handoff, live, LABELS.get(handoff.state, WITHDRAWN))
    if handoff.state == "decided":
        return Finding("a task before its context", key, live) if live else None
    return _of_active(handoff, task, emails, run)


def _of_ended(key: str, handoff: Handoff, live: Sequence[Activity], label: str) -> Finding | None:
    open_ones = [task for task in live if not task.is_done and not task.closed_by_us]
    if not open_ones or open_ones[0].description.startswith(_NOTES):
        return None
    reason = handoff.reason or f"the handoff is {handoff.state}"
    return Finding("a task open after its handoff has ended", key, live, close=(label, reason))


def _of_active(handoff: Handoff, task: Activity | None, emails: Mapping[str, str | None], run: Run) -> Finding | None:
    key, tasks = handoff.handoff_id, [task] if task else []
    # The nightly run reads no deals: the hourly run ends handoffs with a reply but without a deal.
    steps = moves(handoff, Seen(task), emails, run.as_of)
    if steps:
        adopted, gone = steps[0]["to_state"] == "task_open", steps[-1]["to_state"] == "withdrawn"
        what = "a task that was deleted" if gone else "a touch or reply not heard of"
        return Finding("a task not heard of" if adopted and not gone else what, key, tasks, moves=steps)
    if handoff.state == "task_open" and task is None:
        end = {"to_state": "withdrawn", "at": run.as_of, "reason": "task deleted: no longer in the CRM"}
        return Finding("a task that was deleted", key, tasks, moves=[end])
    if task is None or task.is_deleted:
        return None
    ends = next((state for state, label in LABELS.items() if task.subject.startswith(label)), "")
    if task.is_done and ends in LEGAL[handoff.state]:
        end = {"to_state": ends, "at": run.as_of, "reason": "closed in the CRM: by a run that ended there"}
        return Finding("a task we closed while its handoff goes on", key, tasks, moves=[end])
    if owner_id := new_owner(handoff, task, emails):
        return Finding("a task of another owner", key, tasks, owner_id=owner_id)
    if task.owner_id != handoff.owner_id and handoff.state == "task_open":
        return Finding("a task that no user owns", key, tasks)
    return None
