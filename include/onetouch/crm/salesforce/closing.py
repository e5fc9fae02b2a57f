"""Closes tasks and gives them to other users, 200 a request; each is read directly before it is written, so that a
rep's changes are kept."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from onetouch.crm.protocol import RELEASED, Activity, Due, Outcome, answered, left_alone, note
from onetouch.crm.salesforce.fields import DESCRIPTION, DISPOSITION, SUBJECT, cut, due_fields, units
from onetouch.crm.salesforce.rows import Batch
from onetouch.crm.salesforce.transport import Record, Transport

WAYS = (("Status", "Subject", "Description"), ("Status", "Subject"), ("Status",))
"""The fields written to close a task: when the org refuses an attempt for good, the next one writes fewer fields, so
that the task is closed at least."""


TasksOf = Callable[[Iterable[str]], Mapping[str, Activity]]


class _Changing(Batch):
    """Changes the tasks of handoffs. `check` is called before anything is written."""

    def __init__(
        self, transport: Transport, tasks_of: TasksOf, handoffs: Iterable[str], check: Callable[[], None]
    ) -> None:
        self._handoffs, self._tasks_of, self._check = sorted(handoffs), tasks_of, check
        super().__init__(transport, "PATCH", [{} for _ in self._handoffs])

    def _change(self, i: int, task: Activity | None) -> Record | Outcome:
        """The fields to write, or the outcome where nothing is written."""
        raise NotImplementedError

    def _attempt(self, rows: Sequence[int]) -> None:
        """Reads the tasks before each attempt: a locked task was just being written by a rep."""
        left = self.left(rows)
        tasks = self._tasks_of([self._handoffs[i] for i in left])
        accounts: dict[int, str] = {}
        for i in left:
            task = tasks.get(self._handoffs[i])
            change = self._change(i, task)
            if isinstance(change, Outcome) or task is None:
                self.outcomes[i] = change if isinstance(change, Outcome) else Outcome(ok=True)
            else:
                self.records[i] = {"attributes": {"type": "Task"}, "id": task.activity_id} | change
                accounts[i] = str(task.crm_account_id)
        if accounts:
            self._check()
        # Writing a task locks its account: one order for all writers, the same as when tasks are created.
        super()._attempt(sorted(accounts, key=lambda i: (accounts[i], i)))


class Reassigning(_Changing):
    """Gives the task of each handoff to another user: handoff id → (its owner until now, its new owner); `due`: by
    when, where that is new."""

    def __init__(
        self,
        transport: Transport,
        tasks_of: TasksOf,
        owners: Mapping[str, tuple[str, str]],
        due: Mapping[str, Due],
        check: Callable[[], None],
    ) -> None:
        super().__init__(transport, tasks_of, owners, check)
        self._owners, self._due = owners, due

    def give(self) -> dict[str, Outcome]:
        """Like `send`, but handoff id → outcome."""
        return dict(zip(self._handoffs, self.send(), strict=True))

    def _change(self, i: int, task: Activity | None) -> Record | Outcome:
        before, to = self._owners[self._handoffs[i]]
        due = self._due.get(self._handoffs[i])
        return left_alone(task, before, to) or ({"OwnerId": to} | (due_fields(due) if due else {}))


class Answering(_Changing):
    """Does the task of each handoff: handoff id → the disposition noted on it, if any; the status becomes `closed`."""

    def __init__(
        self,
        transport: Transport,
        tasks_of: TasksOf,
        answers: Mapping[str, str | None],
        check: Callable[[], None],
        closed: str,
    ) -> None:
        super().__init__(transport, tasks_of, answers, check)
        self._answers, self._status = answers, closed

    def answer(self) -> dict[str, Outcome]:
        """Like `send`, but handoff id → outcome."""
        return dict(zip(self._handoffs, self.send(), strict=True))

    def _change(self, i: int, task: Activity | None) -> Record | Outcome:
        disposition = self._answers[self._handoffs[i]]
        noted = {DISPOSITION: disposition} if disposition else {}
        return answered(task) or {"Status": self._status} | noted


class Closing(_Changing):
    """Closes the task of each handoff, handoff id → (label, reason): writes the status
    `closed`, and no other fields than `fields`."""

    def __init__(
        self,
        transport: Transport,
        tasks_of: TasksOf,
        reasons: Mapping[str, tuple[str, str]],
        fields: Collection[str],
        check: Callable[[], None],
        closed: str,
    ) -> None:
        super().__init__(transport, tasks_of, reasons, check)
        self._reasons, self._fields, self._status = reasons, fields, closed
        self._by_rep: set[int] = set()

    def close(self, *, begun: bool = False) -> dict[str, Outcome]:
        """Like `send`, but handoff id → outcome. A task that was deleted meanwhile needs no closing."""
        outcomes: dict[str, Outcome] = {}
        for i, outcome in enumerate(self.send(begun=begun)):
            gone = outcome.deleted or outcome.code == "INVALID_CROSS_REFERENCE_KEY"
            outcomes[self._handoffs[i]] = replace(
                outcome, ok=outcome.ok or gone, deleted=gone, by_rep=i in self._by_rep
            )
        return outcomes

    def _change(self, i: int, task: Activity | None) -> Record | Outcome:
        if task is None or task.is_deleted:
            return Outcome(ok=True)
        return self._closed(i, task) or Outcome(ok=True, id=task.activity_id)

    def _closed(self, i: int, task: Activity) -> Record:
        """The fields to write; empty for a task that we closed before."""
        label, reason = self._reasons[self._handoffs[i]]
        why = note(label, reason)
        noted = f"{why}\n\n{task.description}".rstrip()
        change: Record = {}
        self._by_rep.discard(i)
        if task.closed_by_us:
            return change
        if not task.is_done:
            change = {"Status": self._status, "Subject": cut(f"{label}{task.subject}", SUBJECT).rstrip()}
        else:
            self._by_rep.add(i)
        if (not task.is_done or (label == RELEASED and not task.description.startswith(why))) and fits(noted):
            change["Description"] = noted
        return {name: value for name, value in change.items() if name in self._fields}


def fits(text: str) -> bool:
    """Whether a description holds the text: Salesforce counts UTF-16 units, and a line break as two."""
    return units(text) + text.replace("\r\n", "").count("\n") <= DESCRIPTION
