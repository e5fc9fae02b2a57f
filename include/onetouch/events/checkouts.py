"""Upgrades in progress now, or bought a moment ago, which a run could not know when it was scored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from onetouch.events.canonical import Canonical
from onetouch.lake import Lake
from onetouch.ledger import Run
from onetouch.policy import Policy
from onetouch.sources import source_of

Fetch = Callable[[str, datetime, datetime], Iterable[pa.RecordBatch]]
"""(source, start, end) → the rows received in between, as `sources.fetch_rows` gives them."""

_NEVER = datetime.min.replace(tzinfo=UTC)

_STEPS = {
    "checkout_started": "started",
    "checkout_abandoned": "left",
    "checkout_completed": "ended",
    "plan_upgraded": "ended",
}


@dataclass(frozen=True)
class Checkout:
    """A self-serve upgrade, either bought or in progress. `at`: when it was bought, or its last step (UTC)."""

    bought: bool
    at: datetime


def fresh_checkouts(
    lake: Lake,
    policy: Policy,
    run: Run,
    account_ids: Iterable[str],
    now: datetime,
    fetch: Fetch,
    same: Mapping[str, str] | None = None,
) -> dict[str, Checkout]:
    """The checkouts of these accounts that are in progress, or whose last one ended in a purchase.

    `same`: account → the account that stands for it, if it is another (`signals.other_domains`).

    Reads the events received from the run's `as_of` less the policy's overlap up to `now`, directly from the sources of
    the policy; nothing is kept. A checkout is in progress if `signals.account` calls it started or stalled: it is
    neither completed, nor without a step for `signals.checkout_abandoned_hours`, nor reported as abandoned
    `signals.abandoned_barrier_hours` or longer ago. A purchase, or a higher plan, counts without its checkout's start,
    which may have been received earlier.
    """
    start = run.as_of - timedelta(hours=policy.events.overlap_hours)
    moments: dict[str, dict[str, datetime]] = defaultdict(dict)
    asked_for = set(account_ids)
    stands = {account: account for account in asked_for} | {a: b for a, b in (same or {}).items() if b in asked_for}
    with lake.engine() as engine:
        asked = engine.table(pa.table({"account_id": pa.array(sorted(stands), pa.string())}), "asked")
        for source in policy.sources:
            meanings = policy.vocabulary_of(source)
            steps = {theirs: _STEPS[meaning.as_] for theirs, meaning in meanings.items() if meaning.as_ in _STEPS}
            canonical = Canonical(engine, source_of(source), policy, now, only=list(steps))
            for batch in fetch(source, start, now):
                canonical.add(batch)
            canonical.finish()
            taken = canonical.good.semi_join(asked, "account_id").group_by("account_id", "event")
            for row in engine.fetch(taken.agg(at=lambda t: t.occurred_at.max())).to_pylist():
                of_account, step = moments[stands[row["account_id"]]], steps[row["event"]]
                of_account[step] = max(row["at"].replace(tzinfo=UTC), of_account.get(step, _NEVER))
    return {account: checkout for account, at in sorted(moments.items()) if (checkout := _checkout(at, policy, now))}


def _checkout(at: dict[str, datetime], policy: Policy, now: datetime) -> Checkout | None:
    """The account's checkout, from the last moment of each step; None if it is neither in progress nor bought."""
    started, left, ended = (at.get(step, _NEVER) for step in ("started", "left", "ended"))
    begun = started if started > _NEVER else left
    if ended > _NEVER and ended >= begun:
        return Checkout(True, ended)
    silent = now - timedelta(hours=policy.signals.checkout_abandoned_hours)
    given_up = now - timedelta(hours=policy.signals.abandoned_barrier_hours)
    going_on = started > silent if left <= started else left > given_up
    return Checkout(False, max(started, left)) if going_on else None
