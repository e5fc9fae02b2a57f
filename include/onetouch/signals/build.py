"""The stage `build_signals`: builds the activity of days with new events, then one row per account of the run."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from functools import partial
from zoneinfo import ZoneInfo

import pandas as pd
import pyarrow as pa

from onetouch.events import Placement, files_by_date, former_ids, last_day, read_memberships
from onetouch.lake import Lake
from onetouch.ledger import QUEUE_SECONDS, Ledger, Run
from onetouch.policy import Policy
from onetouch.signals.accounts import identify, normalise_accounts, plan_caps
from onetouch.signals.activity import build_days, build_history, read_days, sum_history

log = logging.getLogger(__name__)


def build(lake: Lake, ledger: Ledger, policy: Policy, run: Run) -> dict[str, int]:
    """Writes `signals/{run_id}.parquet` from the events staged and the snapshot `crm/{run_id}/accounts.parquet`.

    Returns {"accounts": n}; the number of rebuilt dates is logged. Raises FileNotFoundError without a snapshot.
    """
    snapshot = lake.read("crm", run.run_id, "accounts.parquet")
    with ledger.alone(
        "signals", wait=QUEUE_SECONDS
    ):  # two runs must not replace each other's activity while reading it
        table, rebuilt = compute(lake, policy, snapshot, run.as_of, dry=run.dry_run)
    lake.write(table, "signals", f"{run.run_id}.parquet")
    log.info("%d dates of activity rebuilt", rebuilt)
    if not run.dry_run and (renamed := ledger.rename_accounts(former_ids(table["account_id"].to_pylist()))):
        log.info("%d handoffs and touches of lone persons renamed to today's account ids", renamed)
    return {"accounts": table.num_rows}


def compute(
    lake: Lake, policy: Policy, snapshot: pd.DataFrame, as_of: datetime, *, dry: bool = True
) -> tuple[pa.Table, int]:
    """The signals of all accounts as of `as_of`, sorted by account_id, and how many dates of activity were rebuilt.

    `dry`: with the events that only dry runs have staged.
    """
    from onetouch.signals.account import account_signals  # Ibis takes a second to import
    from onetouch.signals.sums import Sums, product_accounts, sum_checkouts, sum_up

    files = files_by_date(lake, dry=dry)
    last = last_day(as_of)
    first = last - timedelta(days=policy.signals.lookback_days - 1)
    with lake.engine() as engine:
        window = {day: paths for day, paths in files.items() if first <= day <= last}
        days, rebuilt = build_days(lake, engine, policy, window)
        evidence = read_days(engine, policy, days, files, as_of, "evidence")
        earlier, also_rebuilt = build_history(lake, engine, policy, files, first, as_of, "earlier")
        told = {day: paths for day, paths in files.items() if day <= last}
        memberships = partial(read_memberships, lake, engine, told, as_of)
        placement = Placement(engine, memberships, policy, [evidence, earlier])
        activity = engine.view(placement.place(evidence), "activity")
        history = engine.keep(sum_history(placement.place(earlier)), "history")
        checkouts = engine.keep(sum_checkouts(placement.also(evidence)), "also_checkouts")
        expressions = sum_up(activity, policy, as_of)._asdict().items()
        # Computed once and kept, because the sums are small and used several times.
        sums = Sums(**{name: engine.keep(expression, f"sum_{name}") for name, expression in expressions})
        product, domains = (table.to_pandas() for table in product_accounts(engine, sums, history))
        accounts = identify(
            normalise_accounts(snapshot), product["account_id"], domains.set_index("email_domain")["account_id"]
        )
        zones = {"UTC", *accounts["timezone"].dropna().unique()}
        offsets = _offsets(zones, (last - timedelta(days=n) for n in range(policy.signals.recent_days)))
        signals = account_signals(
            sums,
            activity,
            history,
            checkouts,
            engine.table(accounts, "snapshot"),
            engine.table(plan_caps(accounts["plan_limits"]), "caps"),
            engine.table(offsets, "offsets"),
            policy,
            as_of,
        )
        return engine.fetch(signals.order_by("account_id")), rebuilt + also_rebuilt


def _offsets(zones: Iterable[str], days: Iterable[date]) -> pd.DataFrame:
    """By how many whole hours each time zone was ahead of UTC at noon of each date."""
    noons = pd.DatetimeIndex([pd.Timestamp(day, tz="UTC") + pd.Timedelta(hours=12) for day in days])
    frames = []
    for zone in sorted(zones):
        ahead = noons.tz_convert(ZoneInfo(zone)).tz_localize(None) - noons.tz_localize(None)
        hours = (ahead // pd.Timedelta(hours=1)).astype("int64")
        frames.append(pd.DataFrame({"timezone": zone, "event_date": noons.date, "offset": hours}))
    return pd.concat(frames, ignore_index=True)
