"""Upgrades in progress now, or bought a moment ago, which a run could not know when it was scored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa

from onetouch.events.canonical import Canonical
from onetouch.events.memberships import Placement, read_memberships, said
from onetouch.events.partitions import files_by_date
from onetouch.lake import Lake, pruned_months
from onetouch.ledger import Run
from onetouch.policy import Policy
from onetouch.sources import source_of

if TYPE_CHECKING:
    import ibis.expr.types as ir

Fetch = Callable[[str, datetime, datetime], Iterable[pa.RecordBatch]]
"""(source, start, end) → the rows received in between, as `sources.fetch_rows` gives them."""

_NEVER = datetime.min.replace(tzinfo=UTC)

_STEPS = {
    "checkout_started": "started",
    "checkout_abandoned": "left",
    "checkout_completed": "paid",
    "plan_upgraded": "upgraded",
}


@dataclass(frozen=True)
class Checkout:
    """A self-serve upgrade, either bought or in progress. `at`: when it was bought, or its last step (UTC).

    `self_serve_at`: when it was surely bought by the customer itself; None for a higher plan without a checkout among
    the fresh events, which somebody may have sold.
    """

    bought: bool
    at: datetime
    self_serve_at: datetime | None = None


def fresh_checkouts(
    lake: Lake,
    policy: Policy,
    run: Run,
    account_ids: Iterable[str],
    now: datetime,
    fetch: Fetch,
    same: Mapping[str, str] | None = None,
) -> dict[str, Checkout]:
    """The checkouts of these accounts that are in progress, or else the last purchase.

    `same`: account → the account that stands for it, if it is another (`signals.other_domains`).

    Reads the events received from the run's `as_of` less the policy's overlap up to `now`, directly from the sources of
    the policy; nothing is kept. A checkout is in progress if `signals.account` calls it started or stalled: it is
    neither completed, nor without a step for `signals.checkout_abandoned_hours`, nor reported as abandoned
    `signals.abandoned_barrier_hours` or longer ago. A purchase, or a higher plan, counts without its checkout's start,
    which may have been received earlier.

    A step is its person's and account's as for the signals (`memberships`), by what the lake and the events received
    since `as_of` say of persons. A step without a group, of a person of several accounts, is of all of them.
    """
    import ibis

    start = run.as_of - timedelta(hours=policy.events.overlap_hours)
    moments: dict[str, dict[str, datetime]] = defaultdict(dict)
    fresh: list[tuple[dict[str, str], ir.Table]] = []
    asked_for = set(account_ids)
    stands = {account: account for account in asked_for} | {a: b for a, b in (same or {}).items() if b in asked_for}
    with lake.engine() as engine:
        asked = engine.table(pa.table({"account_id": pa.array(sorted(stands), pa.string())}), "asked")
        for source in policy.sources:
            meanings = policy.vocabulary_of(source)
            steps = {theirs: _STEPS[meaning.as_] for theirs, meaning in meanings.items() if meaning.as_ in _STEPS}
            canonical = Canonical(
                engine, source_of(source), policy, now, only=list(steps), and_since=run.as_of if steps else None
            )
            for batch in fetch(source, start, now):
                canonical.add(batch)
            canonical.finish()
            fresh.append((steps, engine.keep(_evidence(canonical.good), f"fresh_{source}")))

        def known() -> ir.Table:
            since = [said(events) for _, events in fresh]
            files = files_by_date(lake, dry=run.dry_run)
            told = ibis.union(read_memberships(lake, engine, files, now, pruned=pruned_months(lake)), *since)
            return engine.keep(told, "memberships_now")

        for steps, events in fresh:
            taken = events.filter(events.event.isin(list(steps)), ~events.never_count.fill_null(False))
            placement = Placement(engine, known, policy, [taken], "step")
            placed = ibis.union(placement.place(taken), placement.also(taken)).semi_join(asked, "account_id")
            of_event = placed.group_by("account_id", "event").agg(at=placed.occurred_at.max())
            for row in engine.fetch(of_event).to_pylist():
                of_account, step = moments[stands[row["account_id"]]], steps[row["event"]]
                of_account[step] = max(row["at"], of_account.get(step, _NEVER))
    return {account: checkout for account, at in sorted(moments.items()) if (checkout := _checkout(at, policy, now))}


def _evidence(good: ir.Table) -> ir.Table:
    """Canonical events with the types of those in the lake, and their `event_date`."""
    moment = "timestamp('UTC', 6)"
    return good.mutate(
        occurred_at=good.occurred_at.cast(moment),
        received_at=good.received_at.cast(moment),
        event_date=good.occurred_at.date(),
    ).drop("file", "text_hash")


def _checkout(at: dict[str, datetime], policy: Policy, now: datetime) -> Checkout | None:
    """The account's checkout, from the last moment of each step; None if it is neither in progress nor bought."""
    started, left, paid, upgraded = (at.get(step, _NEVER) for step in ("started", "left", "paid", "upgraded"))
    begun, ended = started if started > _NEVER else left, max(paid, upgraded)
    silent = now - timedelta(hours=policy.signals.checkout_abandoned_hours)
    given_up = now - timedelta(hours=policy.signals.abandoned_barrier_hours)
    going_on = started > silent if left <= started else left > given_up
    if ended < begun and going_on:
        return Checkout(False, max(started, left))
    itself = ended if _NEVER < begun <= ended else paid  # `signals.account` calls it `bought_at`
    if begun <= ended and ended > _NEVER:
        return Checkout(True, ended, itself if itself > _NEVER else None)
    return Checkout(True, paid, paid) if paid > _NEVER else None
