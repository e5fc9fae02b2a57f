"""Concurrent processes in one thread that may die at any step: each is a greenlet, switched at its steps."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import greenlet
from onetouch.ledger import Ledger, LedgerError
from sqlalchemy.exc import OperationalError


class Killed(BaseException):
    """The process was killed; a BaseException, so that the product does not catch it."""


class Process:
    """One process of the product: its present stage, and what it has learned so far, as far as the oracle needs it.

    `began`: when it began its present stage; `wrote`: when it last wrote accounts; `looked`: account → when it last
    asked whether a checkout is in progress; `read`: the tasks as they were when it last read them; `refused`: rows that
    it knows were refused for good; `capped`: the daily cap stopped it.
    """

    def __init__(self, name: str, work: Callable[[Process], None]) -> None:
        self.name, self.stage, self.attempt = name, "", 0
        self.began = self.wrote = datetime.min.replace(tzinfo=UTC)
        self.held: str | None = None
        self.looked: dict[str, datetime] = {}
        self.read: dict[str, dict[str, Any]] = {}
        self.refused: dict[str, str] = {}
        self.run_id = ""
        self.capped = self.dead = False
        self.waits_for: str | None = None
        self.wakes: datetime | None = None
        self.greenlet = greenlet.greenlet(lambda: work(self))

    def __str__(self) -> str:
        return f"{self.name} {self.stage}#{self.attempt}" if self.stage else self.name


class Scheduler:
    """Lets processes take turns in virtual time; the next one is drawn, so a seed determines the schedule."""

    def __init__(self, rng: random.Random, start: datetime) -> None:
        self.rng, self.now = rng, start
        self.live: list[Process] = []
        self.locks: dict[str, Process] = {}

    def run(self, *processes: Process) -> None:
        """Runs these processes concurrently until all have ended."""
        self.live = list(processes)
        for process in self.live:
            process.greenlet.parent = greenlet.getcurrent()
        while self.live:
            ready = [process for process in self.live if self._ready(process)]
            if not ready:  # all sleep or wait for a sleeping process: go on when the first one wakes
                self.now = min(process.wakes for process in self.live if process.wakes is not None)
                continue
            process = ready[0] if len(ready) == 1 else self.rng.choice(ready)
            process.greenlet.switch()
            if process.greenlet.dead:
                self.live.remove(process)
                self.free(process)

    def _ready(self, process: Process) -> bool:
        if process.wakes is not None and process.wakes <= self.now:
            return True
        if process.waits_for is not None:
            return process.waits_for not in self.locks
        return process.wakes is None

    def pause(self) -> None:
        """Lets the scheduler choose the next process."""
        greenlet.getcurrent().parent.switch()  # type: ignore[union-attr]

    def sleep(self, process: Process, seconds: float) -> None:
        """Makes the process sleep while the others continue."""
        process.wakes = self.now + timedelta(seconds=seconds)
        self.pause()
        process.wakes = None

    def free(self, process: Process) -> None:
        """Releases the locks of a process that has ended."""
        for what in [what for what, holder in self.locks.items() if holder is process]:
            del self.locks[what]

    @contextmanager
    def alone(self, process: Process, what: str, wait: float) -> Iterator[None]:
        """Holds the lock `what`, after waiting for up to `wait` seconds. Raises LedgerError, like the ledger."""
        process.wakes, process.waits_for = self.now + timedelta(seconds=wait), what
        while what in self.locks:
            if self.now >= process.wakes:
                process.wakes = process.waits_for = None
                raise LedgerError(f"another process is at {what}, for more than {wait:.0f} s")
            self.pause()
        process.wakes = process.waits_for = None
        self.locks[what] = process
        try:
            yield
        finally:
            if self.locks.get(what) is process:
                del self.locks[what]


Step = Callable[[str, str], bool]
"""(`before` or `after`, what) → whether the database is unreachable at that moment. Raises Killed."""


class SteppedLedger(Ledger):
    """The real ledger; before and after each of its transactions the process may die or lose the database.

    All instances share one engine, so that SQLAlchemy's compiled statements are reused.
    """

    def __init__(self, shared: Ledger, scheduler: Scheduler, process: Process, step: Step) -> None:
        self.url, self.engine, self._is_sqlite = shared.url, shared.engine, True
        self._scheduler, self._process, self._step = scheduler, process, step

    @contextmanager
    def reading(self) -> Iterator[Any]:
        if self._step("before", "read the ledger"):
            raise _unreachable()
        with super().reading() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Any]:
        if self._step("before", "commit"):
            raise _unreachable()
        with super().writing() as connection:
            yield connection
        if self._step("after", "commit"):
            raise _unreachable()

    @contextmanager
    def alone(self, what: str, wait: float = 600) -> Iterator[None]:
        if self._step("before", f"alone at {what}"):
            raise _unreachable()
        with self._scheduler.alone(self._process, what, wait):
            yield


def _unreachable() -> OperationalError:
    return OperationalError("ledger", None, Exception("server closed the connection unexpectedly"))
