"""Judges what is in the CRM by the promises of the delivery, from the CRM and a file of what the sender says it did.

It needs nothing of the sender itself, so it can be pointed at anybody's: at its tasks in the CRM that carry our key,
its records, and its export. It never imports the delivery, which it judges.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from onetouch.crm import CLOSED_BY_US, REQUIRED_FIELDS, Activity, Crm, note
from onetouch.ledger import ACTIVE, STATES
from onetouch.policy import Policy

if TYPE_CHECKING:
    from onetouch.ledger import Ledger

FORMAT = 1
"""The format of an export. docs/formats.md lists its lines."""

BROKEN = ("duplicates", "lost", "without_context", "interrupting", "unknown")
"""What the auditor counts beside the tasks; anything but zero is a broken promise."""

LOOKED_BACK = timedelta(days=90)
"""Ours: how far back the tasks of an audit were created, unless a moment is named."""

_NOTES = tuple(note(label) for label in CLOSED_BY_US)
_MOMENTS = ("decided_at", "touched_at", "replied_at", "closed_at")
_OWN = ("name", "domain", "industry", "employees", "plan", "seats", "arr", "region", "timezone", "funding_stage")
"""Snapshot columns under which our own fields of an account are asked for: `Crm.read_accounts` reads what is mapped."""


def export(ledger: Ledger) -> Iterator[dict[str, Any]]:
    """The lines of the export: {kind: "export", format}, then one for each handoff, touch and row of the outbox.

    It holds ids, states and moments (ISO 8601, UTC), no names, addresses or payloads.
    """
    yield {"kind": "export", "format": FORMAT}
    for handoff in ledger.handoffs():
        moments = {name: _iso(getattr(handoff, name)) for name in _MOMENTS}
        own = ("handoff_id", "account_id", "crm_account_id", "episode", "state", "task_id", "reason")
        yield {"kind": "handoff"} | {name: getattr(handoff, name) for name in own} | moments
    touches = ledger.touches()
    for touch in touches.astype(object).where(touches.notna(), None).to_dict("records"):
        yield {
            "kind": "touch", "touch_id": touch["touch_id"], "account_id": touch["account_id"],
            "at": _iso(touch["at"]), "handoff_id": touch["handoff_id"],
        }  # fmt: skip
    for row in ledger.outbox():
        kept = ("key", "destination", "handoff_id", "state", "external_id", "attempts")
        yield {"kind": "outbox", "what": row.kind} | {name: getattr(row, name) for name in kept}


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def read_export(lines: Iterable[str]) -> list[dict[str, Any]]:
    """The handoffs of an export. Raises ValueError naming the line that cannot be read."""
    handoffs: list[dict[str, Any]] = []
    number = 0
    for number, text in enumerate(lines, 1):
        try:
            line = json.loads(text)
            if number == 1 and (line["kind"], line["format"]) != ("export", FORMAT):
                raise ValueError
            if line["kind"] == "handoff":
                handoffs.append(_handoff(line))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"export, line {number}: not a line of format {FORMAT} ({type(error).__name__}); "
                "write the file with onetouch audit --export"
            ) from None
    if not number:
        raise ValueError("export: the file is empty; write it with onetouch audit --export")
    return handoffs


def _handoff(line: Mapping[str, Any]) -> dict[str, Any]:
    if line["state"] not in STATES or not isinstance(line["handoff_id"], str):
        raise ValueError
    moments = {name: datetime.fromisoformat(line[name]) if line[name] else None for name in _MOMENTS}
    return {**line, **moments}


@dataclass(frozen=True)
class Wrong:
    """One broken promise: which of BROKEN, of which key, with the tasks' ids, and why in words."""

    promise: str
    key: str
    tasks: Sequence[str]
    why: str


def judge(crm: Crm, policy: Policy, handoffs: Iterable[Mapping[str, Any]], since: datetime) -> dict[str, Any]:
    """Judges the tasks created since then, and the handoffs decided since then, by the CRM and the export.

    Returns {"since", "tasks": how many keys have a task, each of BROKEN: n, "wrong": [{promise, key, tasks, why}]}.
    Raises CrmError when the CRM could not be read.
    """
    known = {str(handoff["handoff_id"]): handoff for handoff in handoffs}
    tasks: dict[str, list[Activity]] = defaultdict(list)
    for task in crm.keyed_tasks(since):
        tasks[str(task.key)].append(task)
    started = {i for i, handoff in known.items() if handoff["task_id"] and handoff["decided_at"] >= since}
    for key, task in crm.tasks_of(sorted(started - tasks.keys())).items():
        tasks[key].append(task)
    wrong = [
        *_twice(tasks),
        *_lost(known, started, tasks),
        *_without_context(crm, policy, tasks),
        *_interrupting(known, tasks),
        *_unknown(known, tasks),
    ]
    counts = {name: sum(one.promise == name for one in wrong) for name in BROKEN}
    named = [{"promise": w.promise, "key": w.key, "tasks": list(w.tasks), "why": w.why} for w in wrong]
    return {"since": since.isoformat(), "tasks": len(tasks)} | counts | {"wrong": named}


def _live(tasks: Iterable[Activity]) -> list[Activity]:
    return [task for task in tasks if not task.is_deleted]


def _open(task: Activity) -> bool:
    """Whether a task is open, other than by a rep who has opened it again after we had closed it."""
    return not (task.is_done or task.is_deleted or task.closed_by_us or task.description.startswith(_NOTES))


def _ids(tasks: Iterable[Activity]) -> list[str]:
    return sorted(task.activity_id for task in tasks)


def _twice(tasks: Mapping[str, list[Activity]]) -> Iterator[Wrong]:
    """Keys with several tasks, also where the rep had deleted the first; accounts with several open ones."""
    open_at: dict[str, list[Activity]] = defaultdict(list)
    for key, theirs in sorted(tasks.items()):
        if len(theirs) > 1:
            yield Wrong("duplicates", key, _ids(theirs), f"{len(theirs)} tasks with one key")
        elif _open(theirs[0]) and theirs[0].crm_account_id:
            open_at[theirs[0].crm_account_id].append(theirs[0])
    for record, theirs in sorted(open_at.items()):
        if len({task.handoff_id for task in theirs}) > 1:
            keys = ", ".join(sorted(str(task.key) for task in theirs))
            yield Wrong("duplicates", keys, _ids(theirs), f"{len(theirs)} open tasks of one account, {record}")


def _lost(
    known: Mapping[str, Mapping[str, Any]], started: Iterable[str], tasks: Mapping[str, list[Activity]]
) -> Iterator[Wrong]:
    """Handoffs that go on, or say they have a task, and have none."""
    for key in sorted(started):
        handoff, theirs = known[key], tasks.get(key, [])
        if not theirs and (handoff["state"] in ACTIVE or not str(handoff["reason"]).startswith("task deleted")):
            yield Wrong("lost", key, [], f"the export says {handoff['state']}, the CRM has no task")
        elif theirs and not _live(theirs) and handoff["state"] == "task_open":
            yield Wrong("lost", key, _ids(theirs), "the task was deleted, and the handoff goes on")


def _without_context(crm: Crm, policy: Policy, tasks: Mapping[str, list[Activity]]) -> Iterator[Wrong]:
    """Tasks whose record lacks one of our fields. A lead's fields are not read."""
    columns = dict(zip(_OWN, REQUIRED_FIELDS, strict=False))
    if len(columns) < len(REQUIRED_FIELDS):
        raise AssertionError("more fields than columns to ask for them: lengthen _OWN")
    ours = policy.changed(crm__account_fields=columns)
    of_record: dict[str, list[Activity]] = defaultdict(list)
    for theirs in tasks.values():
        for task in _live(theirs):
            if task.crm_account_id and not task.follow_up:
                of_record[task.crm_account_id].append(task)
    for row in crm.read_accounts(ours) if of_record else ():
        lacking = [field for column, field in columns.items() if row.get(column) in (None, "")]
        for task in of_record.get(row["crm_account_id"], ()) if lacking else ():
            why = f"record {row['crm_account_id']} lacks {', '.join(lacking)}"
            yield Wrong("without_context", str(task.key), [task.activity_id], why)


def _interrupting(known: Mapping[str, Mapping[str, Any]], tasks: Mapping[str, list[Activity]]) -> Iterator[Wrong]:
    """Tasks that are open although their handoff was ended for the customer's sake, or that were made after its end."""
    for key, theirs in sorted(tasks.items()):
        handoff = known.get(str(theirs[0].handoff_id))
        if handoff is None or handoff["closed_at"] is None:
            continue
        for task in theirs:
            if task.created_at > handoff["closed_at"] and not task.closed_by_us:
                yield Wrong("interrupting", key, [task.activity_id], f"made after its handoff was {handoff['state']}")
            elif handoff["state"] in ("withdrawn", "expired", "released") and _open(task):
                yield Wrong("interrupting", key, [task.activity_id], f"open, but its handoff was {handoff['state']}")


def _unknown(known: Mapping[str, Mapping[str, Any]], tasks: Mapping[str, list[Activity]]) -> Iterator[Wrong]:
    """Tasks with a key that the export does not know."""
    for key, theirs in sorted(tasks.items()):
        if (live := _live(theirs)) and str(theirs[0].handoff_id) not in known:
            yield Wrong("unknown", key, _ids(live), "the export knows no handoff of this key")


def in_words(judged: Mapping[str, Any]) -> str:
    """The judgement in one line: "12 tasks, 0 duplicates, 0 lost, … since 2025-11-18"."""
    counts = ", ".join(f"{judged[name]:,} {name.replace('_', ' ')}" for name in BROKEN)
    return f"{judged['tasks']:,} tasks, {counts} since {judged['since'][:10]}"
