"""A state of the model: the handoffs of one account, what the CRM shows of them, the world, and two processes."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from onetouch.crm import OUTCOMES, WITHDRAWN, Activity
from onetouch.crm_sync import Seen
from onetouch.ledger import ACTIVE, Handoff

from judges.model.code import NOW

REP, RECORD, ID = "rep", "record", "h"


class Episode(NamedTuple):
    """One handoff with its outbox rows and its task.

    `state` to `known` are the ledger's: `context` and `task` are the states of its rows (`code.ROWS`), `tried` whether
    the task's was ever begun, `known` whether the ledger has the task's id, `was_touched` whether it ever reached
    `touched`. `crm` to `deal` are the CRM's: the task (none, open, done by the rep, closed by us, reopened after that,
    deleted), how many were `made`, whether a `call` was logged, and when the rep was first in touch and the customer
    answered: 0 not at all, 1 lately, 2 longer ago than silence, or a reply, is waited for. `deal`: none, open, won,
    lost. `age`: 0 new, 1 older than a handoff waits for its touch; once it has ended, 1 days and 2 weeks ago.
    """

    state: str = "decided"
    context: str = "pending"
    task: str = "pending"
    tried: bool = False
    known: bool = False
    was_touched: bool = False
    crm: str = "none"
    made: int = 0
    call: bool = False
    touch: int = 0
    reply: int = 0
    deal: str = "none"
    age: int = 0

    @property
    def active(self) -> bool:
        return self.state in ACTIVE


class World(NamedTuple):
    """What is there once: whose context the `record` shows (0 nobody's; -1 it was deleted), the customer's checkout
    (0 none, 1 in progress, 2 over), whether sending is `stopped`, a request that is still on its way (`late`: its kind,
    its episode), and how often each thing may still happen (`left`, in the order of the bound's)."""

    record: int = 0
    checkout: int = 0
    stopped: bool = False
    late: tuple[str, int] | None = None
    left: tuple[int, ...] = ()


class Process(NamedTuple):
    """A process. `at`: its next step (block, number), ("", 0) when it does nothing. `of`: the episode it works on,
    `mine`: the state in which it believes that to be, `got`: what the step before gave. `decided`: its run's decision
    (call, withdraw, or neither) and the last episode and state that it `knew`. `looked`: whether a checkout was in
    progress when it last could have known (it serves the invariant alone)."""

    at: tuple[str, int] = ("", 0)
    of: int = 0
    mine: str = ""
    got: tuple[str, ...] = ()
    decided: str = ""
    knew: tuple[int, str] = (0, "")
    looked: bool = False


class State(NamedTuple):
    episodes: tuple[Episode, ...] = ()
    world: World = World()
    processes: tuple[Process, ...] = ()


IDLE = Process()


class Visible(NamedTuple):
    """What can be seen of a handoff from outside: in the ledger, in the outbox and in the CRM."""

    state: str
    context: str
    task: str
    crm: str


ABSENT = Visible("none", "none", "none", "none")


def visible(episode: Episode) -> Visible:
    """A reopened task is an open one, as others see it; a settled row one that was refused."""
    rows = ("failed" if row == "settled" else row for row in (episode.context, episode.task))
    return Visible(episode.state, *rows, "open" if episode.crm == "reopened" else episode.crm)


# ── the same for the code's own functions ────────────────────────────────────────────────────────


def _ago(**of: float) -> datetime:
    return NOW - timedelta(**of)


_DECIDED = (_ago(hours=3), _ago(days=90))
_TOUCHED = (None, _ago(hours=2), _ago(days=80))
_REPLIED = (None, _ago(hours=1), _ago(days=70))


@lru_cache(None)
def handoff(episode: Episode) -> Handoff:
    """The handoff as the ledger has it."""
    touched = _TOUCHED[episode.touch or 1] if episode.was_touched else None
    return Handoff(
        handoff_id=ID, account_id="a", crm_account_id=RECORD, episode=1, decision_id=None, run_id="r",
        state=episode.state, owner_email="rep@rep.example", owner_id=REP, decided_at=_DECIDED[min(1, episode.age)],
        due_at=None, score=None, tier=None, signals=[], potential_arr=None, motion=None,
        task_id="t" if episode.known else None, touched_at=touched,
        replied_at=_REPLIED[episode.reply or 1] if episode.state == "replied" else None, closed_at=None, reason="",
    )  # fmt: skip


@lru_cache(None)
def task(episode: Episode) -> Activity | None:
    """Its task as the CRM shows it; None: there is none."""
    if episode.crm == "none":
        return None
    by_us = episode.crm in ("closed", "reopened")
    done = episode.crm in ("done", "closed")
    touched = _TOUCHED[episode.touch] or _ago(minutes=90)
    return Activity(
        activity_id="t", kind="task", crm_account_id=RECORD, owner_id=REP, key=ID,
        subject=f"{WITHDRAWN}Call" if by_us else "Call", description=WITHDRAWN.strip("[] ") + ": x" if by_us else "",
        is_done=done, is_deleted=episode.crm == "deleted", created_at=_ago(minutes=150),
        done_at=touched if done else None, changed_at=touched,
        outcome=OUTCOMES[0] if episode.crm == "closed" and episode.touch and not episode.call else None,
    )  # fmt: skip


@lru_cache(None)
def seen(episode: Episode, gone: bool) -> Seen:
    """What the CRM shows of it."""
    others = []
    if episode.call:
        others.append(_activity("call", _TOUCHED[episode.touch]))
    if episode.reply:
        others.append(_activity("email", _REPLIED[episode.reply], is_answer=True))
    deals = []
    if episode.deal != "none":
        at = _TOUCHED[episode.touch]
        deal = {"created_at": at, "closed_at": None, "changed_at": _ago(minutes=30), "owner_id": REP}
        deals.append(deal | {"is_closed": episode.deal != "open", "is_won": episode.deal == "won"})
    return Seen(task(episode), others, deals, gone)


def _activity(kind: str, at: datetime | None, *, is_answer: bool = False) -> Activity:
    moment = at or NOW
    return Activity(
        activity_id=kind, kind=kind, crm_account_id=RECORD, owner_id=REP, subject="", description="", is_done=True,
        is_deleted=False, created_at=moment, done_at=moment, changed_at=moment, is_answer=is_answer,
    )  # fmt: skip
