"""Upgrades in progress right now: what a run could not know when it was scored."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from onetouch.events.canonical import Canonical
from onetouch.events.shape import SHAPES
from onetouch.lake import Lake
from onetouch.ledger import Run
from onetouch.policy import Policy

Fetch = Callable[[str, datetime, datetime], Iterable[pa.RecordBatch]]
"""(source, start, end) → rows received in between, as `exports.fetch_rows` gives them."""

_STARTED = "checkout_started"
_ENDED = ("checkout_completed", "checkout_abandoned")


def fresh_checkouts(
    lake: Lake, policy: Policy, run: Run, account_ids: Iterable[str], now: datetime, fetch: Fetch
) -> dict[str, datetime]:
    """Of these accounts, those with a checkout started and neither completed nor abandoned since, and when.

    Reads again what was received from the run's `as_of` less the policy's overlap up to `now`, straight from the
    sources of the policy; nothing is kept. A start older than `signals.checkout_abandoned_hours` counts as given up.
    """
    ours = {theirs: meaning.as_ for theirs, meaning in policy.vocabulary.items()}
    steps = {theirs: name == _STARTED for theirs, name in ours.items() if name in (_STARTED, *_ENDED)}
    start = run.as_of - timedelta(hours=policy.events.overlap_hours)
    since = now - timedelta(hours=policy.signals.checkout_abandoned_hours)
    with lake.engine() as con:
        con.register("asked", pa.table({"account_id": pa.array(sorted(set(account_ids)), pa.string())}))
        con.register("steps", pa.table({"event": pa.array(list(steps), pa.string()), "started": list(steps.values())}))
        con.execute("CREATE TEMP TABLE taken (account_id VARCHAR, occurred_at TIMESTAMP, started BOOLEAN)")
        con.execute("ATTACH ':memory:' AS stage")
        for source in policy.sources:
            canonical = Canonical(con, SHAPES[source], policy, now, only=list(steps))
            for batch in fetch(source, start, now):
                canonical.add(batch)
            canonical.finish()
            con.execute(
                """INSERT INTO taken SELECT account_id, occurred_at, started
                FROM stage.good SEMI JOIN asked USING (account_id) JOIN steps USING (event)"""
            )
        found = con.execute(
            """
            SELECT account_id, max(occurred_at) FILTER (started) AS started_at FROM taken GROUP BY account_id
            HAVING started_at >= $since AND coalesce(started_at > max(occurred_at) FILTER (NOT started), true)
            ORDER BY account_id
            """,
            {"since": since.astimezone(UTC).replace(tzinfo=None)},
        ).fetchall()
    return {account: at.replace(tzinfo=UTC) for account, at in found}
