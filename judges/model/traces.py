"""Histories of the fault simulator as paths of the model: what happened to each handoff must be possible in it.

After each transaction of the ledger, each request that changed the CRM and each event, what can be seen of every
handoff (`state.Visible`) is compared with what was seen before. Each change must be one that the model makes, too.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from onetouch.ledger import ENDED
from onetouch.ledger.outbox import SETTLED

from judges.faults.oracle import LABELS
from judges.faults.process import Process
from judges.faults.simulator import Simulation, _empty_ledger
from judges.faults.world import HANDOFF_ID
from judges.model.actions import Bound
from judges.model.explore import explore
from judges.model.state import ABSENT, Visible

BOUNDS = (
    Bound(1, 1, {"call": 1, "complete": 1, "delete": 1, "reopen": 1, "reply": 1, "deal": 1, "account deleted": 1}),
    Bound(1, 2, {"crash": 1, "answer lost": 1, "complete": 1, "delete": 1, "account deleted": 1}),
    Bound(1, 2, {"refused": 1, "locked": 1, "request lost": 1, "complete": 1, "stop": 1}),
    Bound(1, 2, {"late": 1, "answer lost": 1, "complete": 1, "reopen": 1}),
)
"""What the model explores to learn every change that can be seen of a handoff."""

Changes = dict[Visible, frozenset[Visible]]


@cache
def changes() -> Changes:
    """What can be seen of a handoff → what may be seen next, within BOUNDS. Raises ValueError if one is broken."""
    found: defaultdict[Visible, set[Visible]] = defaultdict(set)
    for bound in BOUNDS:
        explored = explore(bound)
        if explored.broken is not None:
            raise ValueError(str(explored))
        for before, after in explored.seen.items():
            found[before] |= after
    return {before: frozenset(after) for before, after in found.items()}


@dataclass
class Trace:
    """One history. `steps`: changes that were seen; `strange`: those that the model does not make, in words."""

    seed: int
    handoffs: int = 0
    steps: int = 0
    strange: list[str] = field(default_factory=list)


def trace(seed: int, allowed: Changes | None = None) -> Trace:
    """Simulates a seed and checks every change of every handoff against the model's."""
    watched = _Watched(seed, changes() if allowed is None else allowed)
    watched.live()
    watched.trace.handoffs = len(watched.shown)
    return watched.trace


class _Watched(Simulation):
    def __init__(self, seed: int, allowed: Changes) -> None:
        self.trace, self.shown, self.allowed = Trace(seed), dict[str, Visible](), allowed
        self.at = (0, 0)
        self.database = _empty_ledger()[1].driver_connection
        super().__init__(seed)
        looks = self.oracle.looks

        def and_look(process: Process | None) -> None:
            self.look()
            looks(process)

        self.oracle.looks = and_look  # type: ignore[method-assign]

    def note(self, text: str, process: Process | None = None) -> None:
        super().note(text, process)
        self.look()

    def look(self) -> None:
        """Compares what can be seen with what was seen last."""
        if not hasattr(self, "org") or (at := (self.database.total_changes, self.org.db.total_changes)) == self.at:
            return
        self.at = at
        rows = self.database.execute("SELECT handoff_id, state FROM handoffs").fetchall()
        if not rows:
            return
        kinds = defaultdict[str, dict[str, str]](dict)
        query = "SELECT handoff_id, kind, state, reason FROM outbox WHERE kind IN ('account_fields', 'task')"
        for handoff_id, kind, state, reason in self.database.execute(query):
            kinds[handoff_id][kind] = "ended" if reason == ENDED else "failed" if reason == SETTLED else state
        tasks: dict[str, str] = {}
        for task in self.org.rows("Task").values():
            if (key := task[HANDOFF_ID]) and (tasks.get(key, "deleted") == "deleted"):
                tasks[key] = _shown(task)
        for handoff_id, state in rows:
            its = kinds[handoff_id]
            now = Visible(
                state, its.get("account_fields", "none"), its.get("task", "none"), tasks.get(handoff_id, "none")
            )
            before = self.shown.get(handoff_id, ABSENT)
            if now == before:
                continue
            self.trace.steps += 1
            if now not in self.allowed.get(before, ()):
                self.trace.strange.append(f"{self.history[-1]}: {handoff_id[:6]}: {_words(before)} → {_words(now)}")
            self.shown[handoff_id] = now


def _shown(task: dict[str, Any]) -> str:
    if task["IsDeleted"]:
        return "deleted"
    if not task["IsClosed"]:
        return "open"
    return "closed" if task["Subject"].startswith(LABELS) else "done"


def _words(seen: Visible) -> str:
    return f"({seen.state}, context {seen.context}, task {seen.task}, CRM {seen.crm})"
