"""Processes that run at once and die anywhere, in one thread: each is a greenlet that may be switched at its steps."""

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
    """The process ends here: nothing of the product may catch this."""


class Process:
    """One process of the product: what it is at, and what it was told so far, as far as the oracle needs it.

    `began`: when it took up its present stage; `wrote`: when it last wrote accounts; `looked`: account → when it last
    asked whether a checkout is under way; `read`: the tasks as they were when it last read them; `refused`: rows it was
    told are refused for good; `capped`: it was stopped at the daily cap.
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
    """Lets processes take turns in virtual time; who is next is drawn, so a seed is a schedule."""

    def __init__(self, rng: random.Random, start: datetime) -> None:
        self.rng, self.now = rng, start
        self.live: list[Process] = []
        self.locks: dict[str, Process] = {}

    def run(self, *processes: Process) -> None:
        """Runs these at once until all have ended."""
        self.live = list(processes)
        for process in self.live:
            process.greenlet.parent = greenlet.getcurrent()
        while self.live:
            ready = [process for process in self.live if self._ready(process)]
            if not ready:  # all sleep, or wait for one that sleeps: nothing happens before the first awakes
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
        """Gives the turn to whoever is next."""
        greenlet.getcurrent().parent.switch()  # type: ignore[union-attr]

    def sleep(self, process: Process, seconds: float) -> None:
        """Lets that time pass for the process while others go on."""
        process.wakes = self.now + timedelta(seconds=seconds)
        self.pause()
        process.wakes = None

    def free(self, process: Process) -> None:
        """Its locks are free: it has ended."""
        for what in [what for what, holder in self.locks.items() if holder is process]:
            del self.locks[what]

    @contextmanager
    def alone(self, process: Process, what: str, wait: float) -> Iterator[None]:
        """The lock `what`, waited for up to `wait` seconds. Raises LedgerError, as the ledger does."""
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
"""(`before` or `after`, what) → whether the database is out of reach at that moment. Raises Killed."""


class SteppedLedger(Ledger):
    """The real ledger; before and after each of its transactions the process may die or lose the database.

    All of them share one engine, made once: what SQLAlchemy has compiled stays compiled.
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
