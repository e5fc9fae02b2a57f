"""Turns `sales_now` decisions into CRM tasks: opens the handoff, writes the context, rechecks, writes the task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pandas as pd

from onetouch.catalogue import HOLD_NEVER_CONTACT, HOLD_REFUSED, SALES_NOW
from onetouch.crm import WITHDRAWN, Crm, CrmError, Outcome, Unreachable, context_of, stored_payload, task_of
from onetouch.crm_sync import merged, read_reps, timezones
from onetouch.delivery.approval import unasked, wait_for_the_day
from onetouch.delivery.caps import DAY_FULL, FULL, beyond_the_cap, beyond_the_day, beyond_the_reps_days
from onetouch.delivery.escalate import PassedOn, escalate, people_of
from onetouch.delivery.failure import DeliveryFailed
from onetouch.delivery.follow_up import close_follow_ups, due_from, follow_up, follow_ups_due
from onetouch.delivery.leavers import reassign
from onetouch.delivery.never_contact import (
    Asked,
    Listed,
    addresses_in,
    ask,
    barred,
    known_then,
    named_by,
    named_in,
    no_list,
    without_barred,
)
from onetouch.delivery.opportunities import create_opportunities
from onetouch.delivery.presses import answer_tasks
from onetouch.delivery.recheck import LATE, Checkouts, last_asked, pre_send_recheck
from onetouch.delivery.refresh import refresh
from onetouch.delivery.send import send
from onetouch.delivery.survivors import follow_records, moved
from onetouch.delivery.withdraw import move, overtaken, withdraw, withdraw_overtaken
from onetouch.handoff import (
    extra_fields,
    handoff_content,
    late_context,
    late_task,
    missing_context,
    plain,
    team_of,
    with_contact,
)
from onetouch.lake import Lake, rows_where
from onetouch.ledger import ACTIVE, LONGEST_ID, OWNER_REFUSED, REFUSED, Handoff, Ledger, Outbox, Run
from onetouch.policy import Policy
from onetouch.routing import product_people
from onetouch.stop import Stopped

LOCK = "delivery"
"""The name of the lock that lets only one process at a time send from the outbox."""

_NAME = 255
"""Characters of an account's name in the CRM."""

_WHAT = "decisions could not be delivered"

_UNSEEN = ("decided", "context_written")
"""States in which no rep has seen anything yet."""


@dataclass
class _Work:
    """Handoffs being delivered, their outbox rows by (handoff id, kind), and the reasons of those that failed."""

    handoffs: dict[str, Handoff] = field(default_factory=dict)
    rows: dict[tuple[str, str], Outbox] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    deferred: set[str] = field(default_factory=set)

    def in_state(self, *states: str) -> list[Handoff]:
        """Handoffs in one of the states that have not failed, by account: all writers then use the same order."""
        ready = [h for h in self.handoffs.values() if h.state in states and h.handoff_id not in self.failed]
        return sorted(ready, key=lambda h: (h.crm_account_id or "", h.handoff_id))

    def tasks(self, handoffs: Iterable[Handoff]) -> dict[str, Outbox]:
        """The outbox rows of their tasks, by handoff id."""
        return {h.handoff_id: row for h in handoffs if (row := self.rows.get((h.handoff_id, "task")))}

    def strangers(self) -> set[str]:
        """CRM records that the decision did not know: found or created since."""
        tasks = {i: row for (i, kind), row in self.rows.items() if kind == "task" and i in self.handoffs}
        unknown = [i for i, row in tasks.items() if not row.payload.get("record", {}).get("known")]
        return {record for i in unknown if (record := self.handoffs[i].crm_account_id)}

    def named(self) -> list[tuple[str, str]]:
        """(name, reason) of each handoff that failed."""
        records = {i: self.handoffs[i].crm_account_id for i in self.failed}
        where = {i: f"CRM record {record}" if record else "no CRM record" for i, record in records.items()}
        return [(f"handoff {i} of {where[i]}", reason) for i, reason in self.failed.items()]


def deliver_tasks(
    lake: Lake,
    ledger: Ledger,
    policy: Policy,
    run: Run,
    crm: Crm | None,
    *,
    recheck: Checkouts,
    held: str | None,
    approved: bool = False,
    listed: Listed = no_list,
) -> dict[str, Any]:
    """Withdraws handoffs that are overtaken, then writes context and task for every `sales_now` of the run.

    Handoff and outbox rows are created in one transaction; one process at a time sends. Every step can be repeated:
    a re-run after a crash between any two of them ends with the same ledger and CRM. Deliveries that an earlier run
    left unfinished are finished here, too. More new decisions than `unasked` allows are opened only when `approved`.
    `listed` reads the policy's file of whom never to contact (`consent.read_listed`).
    `crm` may be None when `held` says why nothing may be sent: then nothing is read or written outside, and the
    ledger does not change.

    Returns {"to_send", "delivered", "withheld": {reason: n}, "failed": [{account_id, reason}], "deferred": those of
    the failed that the next run tries again, "withdrawn", "earlier": {"delivered", "withheld", "failed"}}: to_send =
    delivered + withheld + failed; when held also why ("held"). "to_withdraw": how many open tasks should have been
    closed, when held or when the CRM refused it. "opportunities" {created, waiting, refused: n}, where the policy has
    them created; "escalated" {passed_on, waiting, refused: n}, where it has tasks escalated; "reassigned",
    the same of tasks whose owner has left or is away, if there were any; "follow_ups" {written, waiting, closed,
    refused: n}, or when held {due: n}, where it has them; "refreshed" {written, refused: n}, if there
    were any. Raises DeliveryFailed
    with the same summary, after all other rows are done, when any failed; CrmError when the CRM could not be read, or
    gave no answer.
    """
    due = rows_where(lake, "decisions", run.run_id, "action", [SALES_NOW])
    if held or crm is None:
        withheld = {held or "no CRM": len(due)} if due else {}
        waiting = len(overtaken(lake, ledger, run))
        summary = _summary(len(due), 0, withheld, []) | {"held": held or "no CRM", "to_withdraw": waiting}
        if not _one_touch(policy):
            summary["follow_ups"] = {"due": follow_ups_due(lake, ledger, policy, run)}
        return summary
    with ledger.alone(LOCK):
        return _deliver(lake, ledger, policy, run, crm, due, listed, recheck, approved)


def _deliver(
    lake: Lake,
    ledger: Ledger,
    policy: Policy,
    run: Run,
    crm: Crm,
    due: list[dict[str, Any]],
    listed: Listed,
    recheck: Checkouts,
    approved: bool,
) -> dict[str, Any]:
    _name_owners(crm, due)
    unanswered = answer_tasks(ledger, run, crm)
    withdrawn, refused = withdraw_overtaken(lake, ledger, run, crm)
    standing = [(f"open task of handoff {i}", reason) for i, reason in refused.items()]
    barred_since = partial(_held, lake, run, action=HOLD_NEVER_CONTACT)
    closed, left_open = close_follow_ups(ledger, run, crm, policy, barred_since)
    left = [(f"open follow-up {key}", reason) for key, reason in left_open.items()]
    opening = _open_what_may_go(lake, ledger, policy, run, crm, due, approved, listed)
    own = {handoff.handoff_id for handoff in opening.opened}
    unseen = [h for h in ledger.handoffs(states=_UNSEEN) if h.decided_at <= run.as_of]
    work = _Work(handoffs={h.handoff_id: h for h in [*opening.opened, *unseen]})
    _settle_refused(lake, ledger, run)
    _read_outbox(ledger, run, crm.name, work, own)
    before = [("a decision", row["reason"]) for row in opening.lacking] + standing
    cut_short = _send_all(lake, ledger, policy, run, crm, work, recheck, listed, before)

    def whom(rows: Mapping[str, Outbox], handoffs: Mapping[str, Handoff]) -> dict[str, str]:
        named = {address for row in rows.values() for address in named_in(row)}
        asked = ask(policy, crm, listed, {str(h.crm_account_id) for h in handoffs.values()}, named)
        return _contacts(policy, crm, rows, handoffs, asked)

    def barred_now(handoffs: list[Handoff], tasks: Mapping[str, Outbox]) -> dict[str, str]:
        known = rows_where(lake, "signals", run.run_id, "account_id", [h.account_id for h in handoffs])
        return _ask_again(lake, policy, run, crm, tasks, handoffs, known, listed)[1]

    given_on = reassign(lake, ledger, policy, run, crm, recheck, barred_now)
    passed_on = escalate(lake, ledger, policy, run, crm, recheck, barred_now)
    unpressed = [(f"press of handoff {i}", reason) for i, reason in unanswered.items()]
    not_passed = [(f"reassignment of handoff {i}", reason) for i, reason in given_on.refused.items()]
    not_passed += [(f"escalation of handoff {i}", reason) for i, reason in passed_on.refused.items()]

    def people(reps: pd.DataFrame) -> pd.DataFrame:
        return people_of(lake, run, reps, policy)

    again = follow_up(lake, ledger, policy, run, crm, recheck, barred_now, whom, people)
    left += [(f"follow-up of handoff {i}", reason) for i, reason in again.refused.items()]

    def with_people(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
        return _with_people(lake, policy, run, crm, listed, rows)

    fresh = refresh(lake, ledger, policy, run, crm, with_people)
    stale = [(f"record of handoff {i}", reason) for i, reason in fresh.refused.items()]
    deals = create_opportunities(ledger, policy, run, crm, whom)
    no_deal = [(f"opportunity of handoff {i}", reason) for i, reason in deals.refused.items()]

    delivered, withheld, failed = _account_for([work.handoffs.get(h.handoff_id, h) for h in opening.opened], work)
    withheld |= opening.withheld
    failed += opening.lacking + opening.stopped
    summary = _summary(len(due), delivered, withheld, failed) | {"withdrawn": withdrawn}
    summary["deferred"] = len(work.deferred & own)
    if standing:
        summary["to_withdraw"] = len(standing)
    if others := [h for h in work.handoffs.values() if h.handoff_id not in own]:
        summary["earlier"] = dict(zip(("delivered", "withheld", "failed"), _account_for(others, work), strict=True))
    if policy.crm.opportunity != "never":
        summary["opportunities"] = {"created": deals.created, "waiting": deals.waiting, "refused": len(deals.refused)}
    if fresh.written or fresh.refused:
        summary["refreshed"] = {"written": fresh.written, "refused": len(fresh.refused)}
    if given_on.done or given_on.waiting or given_on.refused:
        summary["reassigned"] = _counted(given_on)
    if policy.assignment.escalate_to is not None:
        summary["escalated"] = _counted(passed_on)
    if closed or left or not _one_touch(policy):
        summary["follow_ups"] = {
            "written": again.written, "waiting": again.waiting, "closed": closed, "refused": len(left)
        }  # fmt: skip
    if work.failed or failed or standing or not_passed or left or stale or no_deal or unpressed:
        stopped = [(run.run_id, row["reason"]) for row in opening.stopped]
        named = work.named() + stopped + before + not_passed + left + stale + no_deal + unpressed
        beside = (", or open tasks closed" if standing else "") + (", or tasks passed on" if not_passed else "")
        beside += ", or follow-ups written or closed" if left else ""
        beside += ", or records kept fresh" if stale else ""
        beside += ", or opportunities created" if no_deal else ""
        beside += ", or tasks done that were pressed" if unpressed else ""
        raise DeliveryFailed(_WHAT + beside, summary, named) from cut_short
    return summary


def _one_touch(policy: Policy) -> bool:
    """Whether the policy has no follow-ups."""
    return policy.handoff.touches == 1 or policy.handoff.follow_ups == "none"


def _held(lake: Lake, run: Run, account_ids: Collection[str], action: str) -> set[str]:
    """Those of the accounts for which the run has decided on this action."""
    decisions = rows_where(lake, "decisions", run.run_id, "account_id", sorted(account_ids))
    return {row["account_id"] for row in decisions if row["action"] == action}


def _send_all(
    lake: Lake,
    ledger: Ledger,
    policy: Policy,
    run: Run,
    crm: Crm,
    work: _Work,
    recheck: Checkouts,
    listed: Listed,
    before: list[tuple[str, str]],
) -> CrmError | None:
    """Finds the record, writes the context, rechecks and writes the task of each handoff.

    Returns the error that ended it early when the CRM could not be used any further (for instance: quota exhausted),
    else None. Raises Unreachable, with all failures of `before` and up to then, when the CRM gave no answer.
    """
    try:
        _find_records(ledger, policy, run, crm, work)
        _one_of_a_record(ledger, run, crm, work)
        late = _late(lake, policy, run, crm, work.in_state(*_UNSEEN))
        _write_context(ledger, run, crm, work, late)
        unseen = work.in_state(*_UNSEEN)
        known = rows_where(lake, "signals", run.run_id, "account_id", [h.account_id for h in unseen])
        asked = {row["account_id"]: at for row in known if (at := last_asked(row, policy)) is not None}
        consent, reasons = _ask_again(lake, policy, run, crm, work.tasks(unseen), unseen, known, listed)
        prevented, not_closed = pre_send_recheck(
            ledger, policy, run, crm, unseen, recheck, work.strangers(), asked, reasons
        )
        work.handoffs |= prevented
        work.failed |= not_closed
        _write_tasks(lake, ledger, policy, run, crm, work, consent, late)
    except Unreachable as error:  # Airflow's retries handle this; earlier refusals are named with it
        if not (told := work.named() + before):
            raise
        raise Unreachable(f"{error}; before that {DeliveryFailed(_WHAT, {}, told)}") from error
    except CrmError as error:
        left = [h.handoff_id for h in work.in_state(*_UNSEEN)]
        work.failed |= dict.fromkeys(left, str(error))
        work.deferred |= set(left)
        return error
    return None


def _ask_again(
    lake: Lake,
    policy: Policy,
    run: Run,
    crm: Crm,
    tasks: Mapping[str, Outbox],
    unseen: list[Handoff],
    known: list[dict[str, Any]],
    listed: Listed,
) -> tuple[Asked, dict[str, str]]:
    """Who may be contacted now, and handoff id → why it may not be handed over. `tasks`: their outbox rows."""
    records = {h.crm_account_id for h in unseen if h.crm_account_id}
    named = {name for row in tasks.values() for name in named_in(row)} | {
        name for row in known for name in named_by(row)
    }
    asked = ask(policy, crm, listed, records, addresses_in(named))
    people = product_people(lake, run.run_id, [h.account_id for h in unseen])
    return asked, barred(policy, crm, run.as_of - LATE, unseen, tasks, known, people, asked)


def _counted(passed_on: PassedOn) -> dict[str, int]:
    return {"passed_on": passed_on.done, "waiting": passed_on.waiting, "refused": len(passed_on.refused)}


def _summary(to_send: int, delivered: int, withheld: dict[str, int], failed: list[dict[str, str]]) -> dict[str, Any]:
    return {"to_send": to_send, "delivered": delivered, "withheld": withheld, "failed": failed, "deferred": 0}


def _account_for(handoffs: Iterable[Handoff], work: _Work) -> tuple[int, dict[str, int], list[dict[str, str]]]:
    """Counts delivered, withheld (by reason) and failed handoffs; a handoff that ever had a task was delivered."""
    delivered, withheld, failed = 0, Counter[str](), []
    for handoff in handoffs:
        if handoff.task_id is not None:
            delivered += 1
        elif not handoff.active and not handoff.refused:
            withheld[handoff.reason.split(":")[0]] += 1
        else:
            reason = work.failed.get(handoff.handoff_id, "not finished")
            failed.append({"account_id": handoff.account_id, "reason": reason})
    return delivered, dict(withheld), failed


def _opened_before(ledger: Ledger, run: Run, due: list[dict[str, Any]]) -> list[Handoff]:
    """The handoffs opened by an earlier attempt of this run, or by a run of the same `as_of` under another policy."""
    theirs = ledger.handoffs(account_ids={row["account_id"] for row in due})
    return [handoff for handoff in theirs if handoff.decided_at == run.as_of]


# ── opening the handoffs ─────────────────────────────────────────────────────────────────────────


@dataclass
class _Opening:
    """The handoffs `opened` for the run's decisions, now or before, and why the other decisions have none.

    `lacking`: decisions without owner or context. `stopped`: decisions beyond the daily cap. `withheld`: reason → how
    many.
    """

    opened: list[Handoff]
    lacking: list[dict[str, str]] = field(default_factory=list)
    stopped: list[dict[str, str]] = field(default_factory=list)
    withheld: dict[str, int] = field(default_factory=dict)


def _open_what_may_go(
    lake: Lake,
    ledger: Ledger,
    policy: Policy,
    run: Run,
    crm: Crm,
    due: list[dict[str, Any]],
    approved: bool,
    listed: Listed,
) -> _Opening:
    """Opens the handoffs of decisions, unless approval is missing or the daily cap (of all, of the rep) is reached."""
    there = _opened_before(ledger, run, due)
    opened_before = {handoff.account_id for handoff in there}
    new = [decision for decision in due if decision["account_id"] not in opened_before]
    called = len(due) + wait_for_the_day(lake, run)
    limit = unasked(ledger, policy, run, called)
    if limit is not None and called > limit and not approved:
        return _Opening(there, withheld={"not approved": len(new)} if new else {})
    if beyond := beyond_the_cap(ledger, policy, run, len(new)):
        return _Opening(there, stopped=[{"account_id": row["account_id"], "reason": beyond} for row in new])
    full = beyond_the_reps_days(lake, ledger, policy, run, new)
    over: set[str] = set()
    if policy.assignment.beyond_the_day == "queue":
        over = beyond_the_day(ledger, policy, run, [row for row in new if row["account_id"] not in full])
    going = [row for row in due if row["account_id"] not in full | over]
    opened, lacking = _open(lake, ledger, policy, run, crm, going, listed)
    withheld = {}
    if others_active := len(going) - len(opened) - len(lacking):
        withheld["another handoff of the account"] = others_active
    withheld |= {reason: len(left_out) for reason, left_out in ((FULL, full), (DAY_FULL, over)) if left_out}
    return _Opening(opened, lacking, withheld=withheld)


def _open(
    lake: Lake, ledger: Ledger, policy: Policy, run: Run, crm: Crm, due: list[dict[str, Any]], listed: Listed
) -> tuple[list[Handoff], list[dict[str, str]]]:
    """Opens the handoffs of decisions with their outbox rows. Returns them, and the decisions that lack context.

    The content is fixed here, from what was known at the decision: a later run that finishes the delivery needs no
    file of this one. It names nobody who may not be contacted, as the CRM and the lists say now.
    """
    ids = [row["account_id"] for row in due]
    signals = {row["account_id"]: row for row in rows_where(lake, "signals", run.run_id, "account_id", ids)}
    rows_of = _of_people(lake, run, signals)
    kept = ids and lake.exists("inputs", run.run_id, "handoffs.parquet")
    earlier = rows_where(lake, "inputs", f"{run.run_id}/handoffs", "account_id", ids) if kept else []
    before = {row["account_id"]: row for row in earlier}
    knew, overtaken_by = _known_handoffs(ledger, run, before) if kept else (None, set())
    due = [row for row in due if row["account_id"] not in overtaken_by]
    zones = timezones(lake, run.run_id)
    decisions: dict[str, dict[str, Any]] = {}
    lacking = []
    for row in due:
        if reason := _obstacle(row, signals.get(row["account_id"], {}), policy):
            lacking.append({"account_id": row["account_id"], "reason": reason})
        else:
            decisions[row["account_id"]] = row

    records = {row["crm_account_id"] for row in decisions.values() if row["crm_account_id"]}
    people = {name for account_id in decisions for name in named_by(rows_of[account_id])}
    asked = _asked(lake, policy, run, crm, listed, records, addresses_in(people))

    def rows(handoff: Handoff) -> list[dict[str, Any]]:
        account_id = handoff.account_id
        decision, known = decisions[account_id], with_contact(without_barred(rows_of[account_id], asked))
        zone = zones.get(handoff.owner_id or "")
        name = plain(str(known.get("name") or ""), _NAME)
        record = {
            "name": name,
            "domain": known.get("domain"),
            "contact": {of: known.get(f"contact_{of}") for of in ("email", "name", "title")},
            "named": sorted(named_by(known)),
            "known": handoff.crm_account_id is not None,
        }
        context, task = handoff_content(decision, known, policy, zone, before.get(account_id, {}))
        if extra := extra_fields(decision, known, policy, handoff_id=handoff.handoff_id):
            task = replace(task, extra=extra.pop("task", None))
            record["extra"] = extra
        payloads = {
            "account_fields": stored_payload(context),
            "task": stored_payload(task) | {"record": record},
        }
        return [
            {"key": f"{kind}:{handoff.handoff_id}", "destination": crm.name, "kind": kind, "payload": payload}
            for kind, payload in payloads.items()
        ]

    opened = ledger.open_handoffs(decisions.values(), run, rows, knew)
    return [handoff for handoff in opened if handoff is not None], lacking


def _of_people(lake: Lake, run: Run, signals: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The signals of accounts, each with its people."""
    team = team_of(lake, run.run_id, list(signals))
    return {account_id: row | {"people": team.get(account_id)} for account_id, row in signals.items()}


def _with_people(
    lake: Lake, policy: Policy, run: Run, crm: Crm, listed: Listed, signals: list[dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """The signals of accounts with those of their people who may be named, as the CRM and the lists say now."""
    rows = _of_people(lake, run, {row["account_id"]: row for row in signals})
    records = {row["crm_account_id"] for row in signals if row.get("crm_account_id")}
    named = {name for row in rows.values() for name in named_by(row)}
    asked = _asked(lake, policy, run, crm, listed, records, addresses_in(named))
    return {account_id: with_contact(without_barred(row, asked)) for account_id, row in rows.items()}


def _known_handoffs(
    ledger: Ledger, run: Run, before: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, tuple[str, str]], set[str]]:
    """The last handoffs that the run's decisions knew of, as `open_handoffs` takes them, and the accounts with an ended
    handoff of which another process has read since that somebody was in touch.
    """
    now = ledger.handoff_frame(run.as_of).set_index("account_id")["rest_at"].dropna()
    knew = {account: (row["handoff_id"], row["state"]) for account, row in before.items()}
    told = {account: row.get("rest_at") for account, row in before.items()}
    return knew, {account for account in told if account in now.index and told[account] != now[account]}


def _asked(
    lake: Lake, policy: Policy, run: Run, crm: Crm, listed: Listed, records: set[str], people: set[str]
) -> Asked:
    """Who may be contacted now; as the run knew it where the CRM cannot tell: it is asked again before the tasks."""
    try:
        return ask(policy, crm, listed, records, people)
    except CrmError:
        return known_then(lake, policy, run)


def _name_owners(crm: Crm, decisions: Iterable[dict[str, Any]]) -> None:
    """Fills in the CRM ids of owners known only by e-mail: accounts from a file are decided on without the CRM."""
    nameless = [decision for decision in decisions if not decision["owner_id"]]
    if not nameless:
        return
    reps = read_reps(crm)
    ids = dict(zip(reps["email"], reps["owner_id"], strict=True))
    for decision in nameless:
        decision["owner_id"] = ids.get(str(decision["owner_email"] or "").strip().lower())


def _obstacle(decision: Mapping[str, Any], known: Mapping[str, Any], policy: Policy) -> str | None:
    """Why a decision can't become a task, whatever the CRM says; None: it can."""
    if not decision["owner_id"]:
        return "owner missing: no user of the CRM has the owner's address"  # the integration user would get the task
    if len(decision["account_id"]) > LONGEST_ID:
        return (
            f"account_id too long: {len(decision['account_id'])} characters, the ledger and the CRM hold {LONGEST_ID}"
        )
    lacks = missing_context(known, policy)
    return f"context missing: {', '.join(lacks)}" if lacks else None


def _settle_refused(lake: Lake, ledger: Ledger, run: Run) -> None:
    """Takes refusals of earlier runs off the list whose accounts this run has decided on anew."""
    earlier = {row.key: account_id for row, account_id in ledger.refused() if row.run_id != run.run_id}
    if not earlier:
        return
    waits = _held(lake, run, set(earlier.values()), HOLD_REFUSED)
    ledger.settle([key for key, account_id in earlier.items() if account_id not in waits])


def _read_outbox(ledger: Ledger, run: Run, destination: str, work: _Work, own: set[str]) -> None:
    """Reads the outbox rows of the handoffs; drops or fails those without anything to send or with a dead letter."""
    kinds = ("account_fields", "task")
    keys = [f"{kind}:{i}" for i in work.handoffs for kind in kinds]
    for row in ledger.outbox(destination=destination, keys=keys):
        work.rows[str(row.handoff_id), row.kind] = row
    for handoff in list(work.handoffs.values()):
        its = [work.rows.get((handoff.handoff_id, kind)) for kind in kinds]
        dead = [row for row in its if row is not None and row.state == "failed"]
        if handoff.refused and handoff.handoff_id in own:
            work.failed[handoff.handoff_id] = handoff.reason
        if handoff.state not in _UNSEEN:
            continue
        if dead:  # the process that was refused died before it could end the handoff, or was of an earlier release
            ended = {handoff.handoff_id: {"reason": f"{REFUSED}: {dead[0].reason}"}}
            _move(ledger, run, work, "withdrawn", ended)
            if handoff.handoff_id in own:
                work.failed[handoff.handoff_id] = dead[0].reason
            else:
                del work.handoffs[handoff.handoff_id]
        elif None in its and handoff.handoff_id in own:
            work.failed[handoff.handoff_id] = "laid out for another CRM; the policy's crm.system has changed since"
        elif None in its:  # `back_off` ends it in time
            del work.handoffs[handoff.handoff_id]


# ── record, context, task ────────────────────────────────────────────────────────────────────────


def _find_records(ledger: Ledger, policy: Policy, run: Run, crm: Crm, work: _Work) -> None:
    """Finds a CRM record for every account without one, or creates it if the policy says so."""
    unknown = [h for h in work.in_state("decided") if not h.crm_account_id]
    if not unknown:
        return
    if policy.crm.unknown_accounts == "leave":
        none = Outcome(ok=False, code="NO_RECORD", message="the account has no record in the CRM")
        _settle(ledger, run, work, {h.handoff_id: none for h in unknown}, stored=False)
        return
    kind = policy.crm.unknown_accounts
    wanted = {}
    for handoff in unknown:
        record = work.rows[handoff.handoff_id, "task"].payload["record"]
        extra = record.get("extra", {}).get(kind, {})
        wanted[handoff.account_id] = {**record, "owner_id": handoff.owner_id, "extra": extra}
    outcomes = crm.ensure_accounts(wanted, kind)
    found = {h.handoff_id: str(outcomes[h.account_id].id) for h in unknown if outcomes[h.account_id].ok}
    ledger.link(found)
    for handoff in ledger.handoffs(account_ids={h.account_id for h in unknown}, states=["decided"]):
        work.handoffs[handoff.handoff_id] = handoff
    _settle(ledger, run, work, {h.handoff_id: outcomes[h.account_id] for h in unknown}, stored=False)


def _one_of_a_record(ledger: Ledger, run: Run, crm: Crm, work: _Work) -> None:
    """Keeps, of several handoffs of one CRM record (merged accounts), the furthest along and withdraws the others."""
    active = ledger.handoffs(states=ACTIVE)
    others = merged(active, moved(ledger, active))
    mine = [handoff for handoff in work.in_state(*_UNSEEN) if handoff.handoff_id in others]
    work.handoffs |= withdraw(ledger, run, crm, mine, others)


def _write_context(ledger: Ledger, run: Run, crm: Crm, work: _Work, late: _Late) -> None:
    """Writes fields and dossier to the account's record; no task is created before they are complete."""
    ready = {h.handoff_id: h for h in work.in_state("decided")}
    rows = {i: work.rows[i, "account_fields"] for i in ready}

    def write(due: Mapping[str, Outbox], _unsure: set[str]) -> dict[str, Outcome]:
        contexts = {i: context_of(row.payload) for i, row in due.items()}
        contexts |= {i: late_context(contexts[i], *late[i]) for i in contexts.keys() & late.keys()}
        outcomes = crm.update_accounts({str(ready[i].crm_account_id): context for i, context in contexts.items()})
        return {i: outcomes[str(ready[i].crm_account_id)] for i in due}

    outcomes = send(ledger, rows, write)
    _move(ledger, run, work, "context_written", {i: {} for i, outcome in outcomes.items() if outcome.ok})
    _settle(ledger, run, work, outcomes)


def _write_tasks(
    lake: Lake, ledger: Ledger, policy: Policy, run: Run, crm: Crm, work: _Work, asked: Asked, late: _Late
) -> None:
    """Creates one task for each handoff and records its id in the ledger."""
    _follow_the_record(lake, ledger, run, crm, work)
    ready = {h.handoff_id: h for h in work.in_state("context_written")}
    rows = {i: work.rows[i, "task"] for i in ready}

    def write(due: Mapping[str, Outbox], unsure: set[str]) -> dict[str, Outcome]:
        contacts = _contacts(policy, crm, due, ready, asked)
        tasks = {
            i: replace(
                late_task(task_of(row.payload), *late[i]) if i in late else task_of(row.payload),
                owner_id=ready[i].owner_id,
                crm_account_id=ready[i].crm_account_id,
                contact_id=contacts.get(i),
            )
            for i, row in due.items()
        }
        return crm.create_tasks(tasks, unsure)

    dues = {i: {"due_at": at} for i, (at, _) in late.items()}
    try:
        outcomes = send(ledger, rows, write)
    except Stopped:
        _keep_what_was_sent(ledger, run, crm, work, rows, dues)
        raise
    opened = {i: {"task_id": o.id} | dues.get(i, {}) for i, o in outcomes.items() if o.ok and not o.deleted}
    deleted = {i: {"reason": "task deleted: by a rep"} for i, o in outcomes.items() if o.ok and o.deleted}
    _move(ledger, run, work, "withdrawn", deleted)
    _move(ledger, run, work, "task_open", opened)
    _settle(ledger, run, work, outcomes)
    # Another process ended the handoff while its task was being created: the task must not stay open.
    ended = {i: (WITHDRAWN, work.handoffs[i].reason) for i in opened if not work.handoffs[i].active}
    for i, outcome in crm.close_tasks(ended).items() if ended else ():
        if not outcome.ok:
            work.failed[i] = f"to be withdrawn ({work.handoffs[i].reason}), but its task stands: {outcome.reason}"


def _keep_what_was_sent(
    ledger: Ledger, run: Run, crm: Crm, work: _Work, rows: Mapping[str, Outbox], dues: Mapping[str, Mapping[str, Any]]
) -> None:
    """Records the tasks that arrived before the stop came; those that cannot be read are looked up by the next run."""
    with suppress(CrmError):
        there = {i: task.activity_id for i, task in crm.tasks_of(rows).items() if not task.is_deleted}
        ledger.sent_all({rows[i].key: task_id for i, task_id in there.items()})
        opened = {i: {"task_id": task_id} | dict(dues.get(i, {})) for i, task_id in there.items()}
        _move(ledger, run, work, "task_open", opened)


_Late = Mapping[str, tuple[datetime, str | None]]
"""Handoff id → by when its task is due after all, and the time zone of its owner."""


def _late(lake: Lake, policy: Policy, run: Run, crm: Crm, handoffs: list[Handoff]) -> _Late:
    """The handoffs whose own due time has passed before they could be delivered: their tasks are due as if they were
    given to their owners now, but not after the handoff expires."""
    over = [h for h in handoffs if h.due_at is not None and h.due_at <= run.as_of and h.decided_at < run.as_of]
    if not over:
        return {}
    due = due_from(over, people_of(lake, run, read_reps(crm), policy), policy, run.as_of)
    zones, lasts = timezones(lake, run.run_id), timedelta(hours=policy.handoff.expires_hours)
    return {
        h.handoff_id: (
            max(min(due[h.handoff_id], h.decided_at + lasts), run.as_of),
            zones.get(h.owner_id or ""),
        )
        for h in over
    }


def _follow_the_record(lake: Lake, ledger: Ledger, run: Run, crm: Crm, work: _Work) -> None:
    """Writes the context again where the account's record has changed since (merged or converted)."""
    _settle(ledger, run, work, follow_records(lake, ledger, run, crm, work.in_state("context_written")), stored=False)


def _contacts(
    policy: Policy, crm: Crm, rows: Mapping[str, Outbox], ready: Mapping[str, Handoff], asked: Asked
) -> dict[str, str]:
    """Handoff id → the contact of the person to write to, if that person may be named: the account's own contact of
    that address, else one that belongs to no account. By policy it is made where there is none; a contact that cannot
    be made is no reason to go without the task."""
    if policy.crm.contacts == "never":
        return {}
    wanted: dict[str, dict[str, Any]] = {}
    for i, row in rows.items():
        record = row.payload["record"]
        person = record.get("contact") or {"email": record.get("top_user")}  # a release without people laid that out
        email = str(person.get("email") or "").strip().lower()
        if "@" in email and ready[i].crm_account_id and asked.may_be_named(email):
            of = {"crm_account_id": ready[i].crm_account_id, "owner_id": ready[i].owner_id}
            of["extra"] = record.get("extra", {}).get("contact", {})
            wanted[i] = {**person, **of, "email": email}
    there = crm.contacts({person["email"] for person in wanted.values()})
    found = {
        i: there.get((person["crm_account_id"], person["email"])) or there.get(("", person["email"]))
        for i, person in wanted.items()
    }
    known = {i: contact for i, contact in found.items() if contact is not None}
    if policy.crm.contacts == "create" and (missing := {i: wanted[i] for i in wanted if i not in known}):
        made = crm.ensure_contacts(missing)
        known |= {i: outcome.id for i, outcome in made.items() if outcome.ok and outcome.id and not outcome.deleted}
    return {i: contact for i, contact in known.items() if asked.may_be_named(wanted[i]["email"], contact)}


def _move(ledger: Ledger, run: Run, work: _Work, to_state: str, facts: Mapping[str, Mapping[str, Any]]) -> None:
    work.handoffs |= move(ledger, run, to_state, facts)


def _settle(ledger: Ledger, run: Run, work: _Work, outcomes: Mapping[str, Outcome], *, stored: bool = True) -> None:
    """Withdraws handoffs whose row was refused because the account is gone; marks other refused ones as failed.

    What would be refused again is ended, too: nobody has seen it, and the account is decided on anew. `stored`: the
    outbox has these outcomes; otherwise the row of the task becomes the dead letter.
    """
    refused = {i: outcome for i, outcome in outcomes.items() if not outcome.ok}
    gone = {i: {"reason": "account deleted: no longer in the CRM"} for i, o in refused.items() if o.deleted}
    if gone:
        _move(ledger, run, work, "withdrawn", gone)
        ledger.settle([row.key for (i, _), row in work.rows.items() if i in gone])  # there is nothing to mend
    left = {i: outcome for i, outcome in refused.items() if i not in gone}
    work.failed |= {i: outcome.reason for i, outcome in left.items()}
    work.deferred |= {i for i, outcome in left.items() if outcome.retryable}
    dead = {i: outcome for i, outcome in left.items() if not outcome.retryable}
    if not stored:
        tasks = {i: work.rows[i, "task"].key for i in dead}
        ledger.failed_all({tasks[i]: (outcome.reason, False) for i, outcome in dead.items()})
    reasons = {i: f"{OWNER_REFUSED if o.owner else REFUSED}: {o.reason}" for i, o in dead.items()}
    _move(ledger, run, work, "withdrawn", {i: {"reason": reason} for i, reason in reasons.items()})
