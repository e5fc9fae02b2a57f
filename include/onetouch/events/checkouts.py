"""Upgrades in progress right now, or bought a moment ago: what a run could not know when it was scored."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from onetouch.events.canonical import Canonical
from onetouch.lake import Lake
from onetouch.ledger import Run
from onetouch.policy import Policy
from onetouch.sources import source_of

Fetch = Callable[[str, datetime, datetime], Iterable[pa.RecordBatch]]
"""(source, start, end) → rows received in between, as `sources.fetch_rows` gives them."""

_STEPS = {
    "checkout_started": "started",
    "checkout_abandoned": "left",
    "checkout_completed": "ended",
    "plan_upgraded": "ended",
}


@dataclass(frozen=True)
class Checkout:
    """A self-serve upgrade: `bought` at that moment, or in progress, with its last step then (UTC)."""

    bought: bool
    at: datetime


def fresh_checkouts(
    lake: Lake, policy: Policy, run: Run, account_ids: Iterable[str], now: datetime, fetch: Fetch
) -> dict[str, Checkout]:
    """Of these accounts, those with a checkout in progress, and those whose last one ended in a purchase.

    Reads again what was received from the run's `as_of` less the policy's overlap up to `now`, straight from the
    sources of the policy; nothing is kept. In progress is what `signals.account` calls started or stalled: neither
    completed, nor silent for `signals.checkout_abandoned_hours`, nor said to be abandoned
    `signals.abandoned_barrier_hours` or longer ago. A purchase, or a higher plan, needs no beginning: it may have been
    received before anything read here.
    """
    steps = {theirs: _STEPS[meaning.as_] for theirs, meaning in policy.vocabulary.items() if meaning.as_ in _STEPS}
    start = run.as_of - timedelta(hours=policy.events.overlap_hours)
    with lake.engine() as con:
        con.register("asked", pa.table({"account_id": pa.array(sorted(set(account_ids)), pa.string())}))
        con.register("steps", pa.table({"event": pa.array(list(steps), pa.string()), "step": list(steps.values())}))
        con.execute("CREATE TEMP TABLE taken (account_id VARCHAR, occurred_at TIMESTAMP, step VARCHAR)")
        con.execute("ATTACH ':memory:' AS stage")
        for source in policy.sources:
            canonical = Canonical(con, source_of(source).shape, policy, now, only=list(steps))
            for batch in fetch(source, start, now):
                canonical.add(batch)
            canonical.finish()
            con.execute(
                """INSERT INTO taken SELECT account_id, occurred_at, step
                FROM stage.good SEMI JOIN asked USING (account_id) JOIN steps USING (event)"""
            )
        found = con.execute(
            """
            WITH moments AS (
                SELECT account_id,
                    max(occurred_at) FILTER (step = 'started') AS started_at,
                    max(occurred_at) FILTER (step = 'left') AS left_at,
                    max(occurred_at) FILTER (step = 'ended') AS ended_at
                FROM taken GROUP BY account_id
            )
            SELECT account_id, false, greatest(started_at, left_at) FROM moments
            WHERE coalesce(ended_at < coalesce(started_at, left_at), ended_at IS NULL)
                AND if(coalesce(left_at <= started_at, left_at IS NULL), started_at > $silent, left_at > $given_up)
            UNION ALL
            SELECT account_id, true, ended_at FROM moments
            WHERE coalesce(ended_at >= coalesce(started_at, left_at), ended_at IS NOT NULL)
            ORDER BY account_id
            """,
            {
                "silent": _utc(now - timedelta(hours=policy.signals.checkout_abandoned_hours)),
                "given_up": _utc(now - timedelta(hours=policy.signals.abandoned_barrier_hours)),
            },
        ).fetchall()
    return {account: Checkout(bought, at.replace(tzinfo=UTC)) for account, bought, at in found}


def _utc(moment: datetime) -> datetime:
    """As DuckDB's TIMESTAMP: UTC without saying so."""
    return moment.astimezone(UTC).replace(tzinfo=None)
