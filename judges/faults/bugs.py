"""Bugs a delivery may have, planted in the library one at a time while a seed is simulated, which must find them.

Each is a mistake that a developer might make. They are patches at run time; the library's files do not change.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import numpy as np
from onetouch import delivery, stop
from onetouch.chat import posting
from onetouch.chat.slack import Slack
from onetouch.crm import protocol
from onetouch.crm.salesforce import Salesforce
from onetouch.crm.salesforce import rows as salesforce_rows
from onetouch.crm.salesforce.transport import Transport
from onetouch.crm_sync import one_touch
from onetouch.delivery import DeliveryFailed, Webhook, breaker, deliver, recheck, withdraw
from onetouch.handoff import TaskContent
from onetouch.ledger import Ledger

from judges.faults.audience import TOLD_ONCE
from judges.faults.process import SteppedLedger

extraction: Any = importlib.import_module("onetouch.crm_sync.extract_crm")
going_back: Any = importlib.import_module("onetouch.delivery.back_off")
never_interrupt: Any = importlib.import_module("onetouch.routing.rules.never_interrupt")
queue_expired: Any = importlib.import_module("onetouch.routing.rules.queue_expired")
KEY = "Onetouch_Handoff_Id__c"
ROWS = "composite/sobjects"


@dataclass(frozen=True)
class Bug:
    """A bug: what is wrong, which guarantees it may break, and how it is planted."""

    name: str
    wrong: str
    guarantees: tuple[int, ...]
    patches: Callable[[], list[tuple[Any, str, Any]]]

    @contextmanager
    def planted(self) -> Iterator[None]:
        """A context in which the library has the bug."""
        with ExitStack() as stack:
            for owner, name, value in self.patches():
                stack.enter_context(patch.object(owner, name, value))
            yield


BUGS: dict[str, Bug] = {}


def _bug(name: str, wrong: str, *guarantees: int) -> Callable[[Callable[[], list[tuple[Any, str, Any]]]], None]:
    def keep(patches: Callable[[], list[tuple[Any, str, Any]]]) -> None:
        BUGS[name] = Bug(name, wrong, guarantees, patches)

    return keep


# ── the outbox ───────────────────────────────────────────────────────────────────────────────────


@_bug(
    "outbox-row-lost",
    "handoff and outbox rows are written in two transactions: a death in between loses the rows",
    4,
    6,
)
def _() -> list[tuple[Any, str, Any]]:
    whole = Ledger.open_handoffs

    def in_two(self: Any, decisions: Any, run: Any, rows: Any = None, *knew: Any) -> Any:
        before = {h.handoff_id for h in self.handoffs()}
        opened = whole(self, decisions, run, None, *knew)
        if rows is not None:
            new = [h for h in opened if h is not None and h.handoff_id not in before]
            self.put_all([{"run_id": run.run_id, **row, "handoff_id": h.handoff_id} for h in new for row in rows(h)])
        return opened

    return [(Ledger, "open_handoffs", in_two)]


@_bug("failed-row-swallowed", "rows that failed are logged, and the stage ends green", 6)
def _() -> list[tuple[Any, str, Any]]:
    whole = delivery.deliver_tasks

    def green(*args: Any, **kwargs: Any) -> Any:
        try:
            return whole(*args, **kwargs)
        except DeliveryFailed as error:
            return error.summary | {"failed": []}

    return [(delivery, "deliver_tasks", green)]


@_bug("lock-is-final", "a locked row is taken for a dead letter", 4, 6)
def _() -> list[tuple[Any, str, Any]]:
    whole = Ledger.failed_all

    def final(self: Any, reasons: Any) -> Any:
        return whole(self, {key: (why, retryable and "LOCK" not in why) for key, (why, retryable) in reasons.items()})

    def at_once(self: Any, rows: Any) -> None:
        with contextlib.suppress(salesforce_rows._Locked):
            self._attempt(rows)

    return [(Ledger, "failed_all", final), (salesforce_rows.Batch, "together", at_once)]


# ── exactly one task ─────────────────────────────────────────────────────────────────────────────


@_bug("key-missing", "tasks are created without the unique key", 4)
def _() -> list[tuple[Any, str, Any]]:
    whole = Transport.once

    def keyless(self: Any, method: str, path: str, **kwargs: Any) -> Any:
        if method == "POST" and path == ROWS:
            kwargs["json"] = _without(kwargs["json"], KEY)
        return whole(self, method, path, **kwargs)

    return [(Transport, "once", keyless)]


@_bug("key-afterwards", "a task gets its key with a second request, so a retry does not find the first", 4)
def _() -> list[tuple[Any, str, Any]]:
    whole = Transport.once

    def afterwards(self: Any, method: str, path: str, **kwargs: Any) -> Any:
        if not (method == "POST" and path == ROWS):
            return whole(self, method, path, **kwargs)
        rows = kwargs["json"]["records"]
        answers = whole(self, method, path, json=_without(kwargs["json"], KEY))
        made = [
            {"attributes": row["attributes"], "id": answer["id"], KEY: row[KEY]}
            for row, answer in zip(rows, answers, strict=True)
            if answer.get("success") and KEY in row
        ]
        if made:
            whole(self, "PATCH", path, json={"allOrNone": False, "records": made})
        return answers

    return [(Transport, "once", afterwards)]


@_bug("silence-is-success", "a request without an answer counts as one that arrived", 4, 6)
def _() -> list[tuple[Any, str, Any]]:
    whole = Transport.once

    def hopeful(self: Any, method: str, path: str, **kwargs: Any) -> Any:
        try:
            return whole(self, method, path, **kwargs)
        except protocol.Unreachable:
            if not (method == "POST" and path == ROWS):
                raise
            return [{"success": True, "id": "00T000000000000AAA"} for _ in kwargs["json"]["records"]]

    return [(Transport, "once", hopeful)]


@_bug("deleted-made-again", "a task the rep has deleted counts as one that was never made", 4)
def _() -> list[tuple[Any, str, Any]]:
    whole = Salesforce._adopted

    def living(self: Any, handoff_ids: Any) -> Any:
        return {i: outcome for i, outcome in whole(self, handoff_ids).items() if not outcome.deleted}

    return [(Salesforce, "_adopted", living), (Salesforce, "tasks_of", _living_tasks(Salesforce.tasks_of))]


def _living_tasks(whole: Any) -> Any:
    def tasks_of(self: Any, handoff_ids: Any) -> Any:
        return {i: task for i, task in whole(self, handoff_ids).items() if not task.is_deleted}

    return tasks_of


@_bug("alert-without-look", "a message whose outcome is unknown is posted again without a look at the channel", 4)
def _() -> list[tuple[Any, str, Any]]:
    return [(Slack, "find", lambda self, channel, key, reply_to=None: None)]


@_bug("claim-ignored", "two processes post alerts at once: neither lock nor claim is honoured", 4)
def _() -> list[tuple[Any, str, Any]]:
    def mine(self: Any, seen: Any) -> Any:
        self.sending(seen.key)
        return seen

    return [(Ledger, "claim", mine), (SteppedLedger, "alone", _not_alone), (posting, "_look_twice", lambda *_: None)]


@contextmanager
def _not_alone(self: Any, what: str, wait: float = 600) -> Iterator[None]:
    yield


# ── never interrupt ──────────────────────────────────────────────────────────────────────────────


@_bug("recheck-skipped", "checkouts are not looked at again before the task is written", 1)
def _() -> list[tuple[Any, str, Any]]:
    whole = deliver.pre_send_recheck

    def blind(ledger: Any, policy: Any, run: Any, crm_: Any, unseen: Any, recheck: Any, *known: Any) -> Any:
        return whole(ledger, policy, run, crm_, unseen, lambda ids: {}, *known)

    return [(deliver, "pre_send_recheck", blind)]


@_bug("recheck-too-early", "the pre-send recheck is made before the context is written, not before the task", 1)
def _() -> list[tuple[Any, str, Any]]:
    whole, look, context = deliver._deliver, deliver.pre_send_recheck, deliver._write_context
    asked: list[Any] = []

    def noted(*args: Any) -> Any:
        asked[:] = [args[2], args[-2]]
        return whole(*args)

    def looked_first(ledger: Any, run: Any, crm_: Any, work: Any) -> Any:
        unseen = work.in_state("decided", "context_written")
        moved, left = look(ledger, asked[0], run, crm_, unseen, asked[1], work.strangers())
        work.handoffs |= moved
        work.failed |= left
        return context(ledger, run, crm_, work)

    return [
        (deliver, "_deliver", noted),
        (deliver, "pre_send_recheck", lambda *_: ({}, {})),
        (deliver, "_write_context", looked_first),
    ]


@_bug("opportunities-not-looked-at", "an opportunity a colleague has opened since the decision is not seen", 1)
def _() -> list[tuple[Any, str, Any]]:
    return [(Salesforce, "opportunities_since", lambda self, since, records=(): set())]


@_bug("closed-deal-forgotten", "a colleague's deal counts while it is open, and no longer", 1)
def _() -> list[tuple[Any, str, Any]]:
    whole = extraction.last_closes
    return [(extraction, "last_closes", lambda deals: whole(deals.iloc[:0]))]


@_bug("touches-not-looked-at", "a call since the decision is not seen before the task is written", 1)
def _() -> list[tuple[Any, str, Any]]:
    return [(recheck, "_touched", lambda *_: set())]


@_bug("bought-not-held", "routing calls accounts that have just bought by themselves", 1)
def _() -> list[tuple[Any, str, Any]]:
    whole = never_interrupt.truth

    def only_checkouts(facts: Any, name: str) -> Any:
        return whole(facts, name) & (name != "just_bought")

    return [(never_interrupt, "truth", only_checkouts)]


@_bug("late-purchase-passes", "a purchase of before the decision that is known only now does not prevent the task", 1)
def _() -> list[tuple[Any, str, Any]]:
    def since_the_decision(checkout: Any, handoff: Any, *_: Any) -> Any:
        return checkout.at >= handoff.decided_at

    return [(recheck, "_just_bought", since_the_decision)]


@_bug("withdrawn-not-closed", "a handoff is withdrawn in the ledger, its task stays open", 1)
def _() -> list[tuple[Any, str, Any]]:
    whole = Salesforce.close_tasks

    def kept(self: Any, reasons: Any) -> Any:
        closing = {i: why for i, why in reasons.items() if why[0] != protocol.WITHDRAWN}
        return {i: protocol.Outcome(ok=True) for i in reasons} | (whole(self, closing) if closing else {})

    return [(Salesforce, "close_tasks", kept)]


@_bug("refused-closing-swallowed", "a task to be withdrawn that could not be closed is left open, in a green run", 1, 6)
def _() -> list[tuple[Any, str, Any]]:
    whole = withdraw.withdraw_overtaken

    def green(*args: Any) -> Any:
        return whole(*args)[0], {}

    return [(deliver, "withdraw_overtaken", green)]


# ── never contact ────────────────────────────────────────────────────────────────────────────────


@_bug("opt-out-read-once", "opt-outs are read with the run's accounts, and not again before the task is written", 11)
def _() -> list[tuple[Any, str, Any]]:
    whole = deliver._ask_again

    def believed(*args: Any) -> Any:
        return whole(*args)[0], {}

    return [(deliver, "_ask_again", believed)]


# ── the audience ─────────────────────────────────────────────────────────────────────────────────


@_bug("audience-sent-twice", "each attempt has a key of its own, so the receiver takes a request twice", TOLD_ONCE)
def _() -> list[tuple[Any, str, Any]]:
    whole, tries = Webhook._once, itertools.count()

    def anew(self: Any, key: str, body: bytes) -> Any:
        return whole(self, f"{key}-{next(tries)}", body)

    return [(Webhook, "_once", anew)]


@_bug("audience-told-anew", "what the receiver knows is not kept with the requests that tell it", TOLD_ONCE)
def _() -> list[tuple[Any, str, Any]]:
    whole = Ledger.tell_audience

    def only_requests(
        self: Any, run: Any, destination: str, payloads: Any, members: Any, left: Any, **how: Any
    ) -> None:
        whole(self, run, destination, payloads, {}, [], **how)

    return [(Ledger, "tell_audience", only_requests)]


# ── context, and what belongs to the rep ─────────────────────────────────────────────────────────


@_bug("context-after-task", "the account's fields are written when the task is there, not before", 2)
def _() -> list[tuple[Any, str, Any]]:
    create, update = Salesforce.create_tasks, Salesforce.update_accounts

    def later(self: Any, rows: Any) -> Any:
        self.later = dict(rows)
        return {i: protocol.Outcome(ok=True, id=i) for i in rows}

    def created(self: Any, rows: Any, unsure: Any = ()) -> Any:
        outcomes = create(self, rows, unsure)
        update(self, getattr(self, "later", {}))
        return outcomes

    return [(Salesforce, "update_accounts", later), (Salesforce, "create_tasks", created)]


@_bug("null-erases", "what is unknown is written as null", 8)
def _() -> list[tuple[Any, str, Any]]:
    whole = Transport.once

    def nulls(self: Any, method: str, path: str, **kwargs: Any) -> Any:
        if method == "PATCH" and path == ROWS:
            for row in kwargs["json"]["records"]:
                if row["attributes"]["type"] == "Account" and "Onetouch_Dossier__c" in row:
                    row.setdefault("Onetouch_Action__c", None)
        return whole(self, method, path, **kwargs)

    return [(Transport, "once", nulls)]


@_bug("edit-written-over", "a task that is there is upserted, over what the rep has made of it", 8)
def _() -> list[tuple[Any, str, Any]]:
    whole = Transport.once

    def upsert(self: Any, method: str, path: str, **kwargs: Any) -> Any:
        rows = kwargs.get("json", {}).get("records", [{}]) if path == ROWS else [{}]
        if method == "POST" and KEY in rows[0]:
            return whole(self, "PATCH", f"{ROWS}/Task/{KEY}", **kwargs)
        return whole(self, method, path, **kwargs)

    return [(Transport, "once", upsert), (Salesforce, "_adopted", lambda self, ids: {})]


@_bug("reopened-closed-again", "a task the rep has opened again after we closed it is closed once more", 8)
def _() -> list[tuple[Any, str, Any]]:
    return [(protocol.Activity, "closed_by_us", property(lambda self: False))]


# ── one touch ────────────────────────────────────────────────────────────────────────────────────


@_bug("clock-from-the-task", "the days of silence run from the decision, not from the rep's touch", 3)
def _() -> list[tuple[Any, str, Any]]:
    whole = one_touch.ending

    def early(handoff: Any, touches: Any, policy: Any, as_of: Any) -> Any:
        if handoff.state == "touched":
            handoff = replace(handoff, touched_at=handoff.decided_at)
        return whole(handoff, touches, policy, as_of)

    return [(going_back, "ending", early)]


@_bug("cooldown-ignored", "the end of the last handoff is told neither to the routing nor to who opens the next", 3)
def _() -> list[tuple[Any, str, Any]]:
    whole, opens = Ledger.handoff_frame, Ledger.open_handoffs

    def forgetful(self: Any, as_of: Any) -> Any:
        told, long_ago = whole(self, as_of), timedelta(days=365)
        return told.assign(closed_at=told["closed_at"] - long_ago, rest_at=told["rest_at"] - long_ago)

    def at_once(self: Any, decisions: Any, run: Any, rows: Any = None, knew: Any = None) -> Any:
        return opens(self, decisions, run, rows)

    return [(Ledger, "handoff_frame", forgetful), (Ledger, "open_handoffs", at_once)]


@_bug("late-touch-forgotten", "a touch that was logged after its handoff had ended is not counted for it", 3)
def _() -> list[tuple[Any, str, Any]]:
    def moved(connection: Any, rows: Any, as_of: Any) -> Any:
        return {row["handoff_id"]: row["touched_at"] for row in rows if row["touched_at"] is not None}

    return [(importlib.import_module("onetouch.ledger.handoffs"), "_contacted", moved)]


@_bug("second-handoff", "a run may open a handoff beside another of the account", 3)
def _() -> list[tuple[Any, str, Any]]:
    whole = Ledger.handoff_frame

    def nobody(self: Any, as_of: Any) -> Any:
        return whole(self, as_of).iloc[:0]

    expire = Ledger.open_handoffs

    def replacing(self: Any, decisions: Any, run: Any, rows: Any = None, *_: Any) -> Any:
        decisions = list(decisions)
        theirs = {row["account_id"] for row in decisions}
        for handoff in self.handoffs(states=["task_open"], account_ids=theirs):
            if handoff.decided_at < run.as_of:
                self.move(handoff.handoff_id, "withdrawn", run.as_of, "replaced by a newer one")
        return expire(self, decisions, run, rows)

    return [(Ledger, "handoff_frame", nobody), (Ledger, "open_handoffs", replacing)]


@_bug("escalation-makes-second-task", "who takes a task over gets a task of their own, and the first stays open", 3, 4)
def _() -> list[tuple[Any, str, Any]]:
    def beside(self: Any, owners: Any, due: Any = None) -> Any:
        tasks = {h: task for h, task in self.tasks_of(owners).items() if protocol.left_alone(task, *owners[h]) is None}
        own = {
            f"{h}+": TaskContent(
                task.subject, task.description, owner_id=owners[h][1], crm_account_id=task.crm_account_id
            )
            for h, task in tasks.items()
        }
        made = {h.rstrip("+"): outcome for h, outcome in self.create_tasks(own).items()}
        return {h: protocol.Outcome(ok=True) for h in owners} | made

    return [(Salesforce, "reassign_tasks", beside)]


@_bug("escalated-however-touched", "before a task is passed on, nobody asks whether the rep has been in touch", 3, 8)
def _() -> list[tuple[Any, str, Any]]:
    def all_of_them(*args: Any) -> Any:
        return {handoff.handoff_id for handoff in args[3]}

    def given(task: Any, before: str, to: str) -> Any:
        return None if task is not None else protocol.Outcome(ok=False, code="NONE", by_rep=True)

    closing: Any = importlib.import_module("onetouch.crm.salesforce.closing")
    escalate: Any = importlib.import_module("onetouch.delivery.escalate")
    return [(escalate, "undisturbed", all_of_them), (closing, "left_alone", given)]


# ── a memory of more than one run ────────────────────────────────────────────────────────────────


@_bug("trigger-forgotten", "a trigger event that no task could answer in its own hour is no reason in the next", 6)
def _() -> list[tuple[Any, str, Any]]:
    return [(Ledger, "remember", lambda self, run, changes: None)]


@_bug("expiry-unsaid", "a trigger event that nobody could act on is dropped without a word", 6)
def _() -> list[tuple[Any, str, Any]]:
    whole = queue_expired.moments

    def silent(facts: Any, name: str) -> Any:
        found = whole(facts, name)
        return np.full_like(found, "NaT") if name == "previous_pending_since" else found

    return [(queue_expired, "moments", silent)]


# ── checks and caps ──────────────────────────────────────────────────────────────────────────────


@_bug("stop-ignored", "the stop is looked at by nobody", 5)
def _() -> list[tuple[Any, str, Any]]:
    whole = breaker.held

    def never(policy: Any, as_of: Any, now: Any, *, dry_run: bool, stopped: Any) -> Any:
        return whole(policy, as_of, now, dry_run=dry_run, stopped=None)

    return [(breaker, "held", never), (stop, "stoppable", lambda client, writes, stopped: client)]


@_bug("cap-ignored", "the last gate of the daily cap is open", 9)
def _() -> list[tuple[Any, str, Any]]:
    return [(deliver, "beyond_the_cap", lambda *_: None)]


@_bug("day-ignored", "where the rest queues, delivery trusts that routing has kept to the day's places", 9)
def _() -> list[tuple[Any, str, Any]]:
    return [(deliver, "beyond_the_day", lambda *_: set())]


@_bug("jump-in-parts", "accounts that wait only for the next day do not count when a person has to be asked", 9)
def _() -> list[tuple[Any, str, Any]]:
    return [(deliver, "wait_for_the_day", lambda *_: 0)]


@_bug("approval-ignored", "a run with many tasks does not wait for a person", 9)
def _() -> list[tuple[Any, str, Any]]:
    whole = delivery.deliver_tasks

    def approved(*args: Any, **kwargs: Any) -> Any:
        return whole(*args, **kwargs | {"approved": True})

    return [(delivery, "deliver_tasks", approved)]


def _without(body: Any, name: str) -> Any:
    return body | {"records": [{k: v for k, v in row.items() if k != name} for row in body["records"]]}


FOUND: dict[str, int] = {
    "failed-row-swallowed": 3,
    "key-missing": 3,
    "key-afterwards": 3,
    "silence-is-success": 163,
    "deleted-made-again": 42,
    "alert-without-look": 10,
    "claim-ignored": 49,
    "recheck-skipped": 8,
    "opportunities-not-looked-at": 188,
    "closed-deal-forgotten": 59,
    "touches-not-looked-at": 48,
    "bought-not-held": 5,
    "withdrawn-not-closed": 5,
    "opt-out-read-once": 55,
    "audience-sent-twice": 643,
    "audience-told-anew": 3,
    "context-after-task": 1,
    "null-erases": 0,
    "edit-written-over": 66,
    "clock-from-the-task": 31,
    "cooldown-ignored": 70,
    "late-touch-forgotten": 70,
    "second-handoff": 128,
    "escalation-makes-second-task": 61,
    "trigger-forgotten": 37,
    "stop-ignored": 84,
    "cap-ignored": 4,
    "day-ignored": 383,
    "approval-ignored": 11,
}
"""Bug → the seed that found it (`python -m benchmarks.faults --bugs`)."""
