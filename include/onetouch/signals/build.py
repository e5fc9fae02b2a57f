"""The stage `build_signals`: touched days of activity, then one row an account of the run."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import duckdb
import ibis
import pandas as pd
import pyarrow as pa

from onetouch.lake import Lake
from onetouch.ledger import Ledger, Run
from onetouch.policy import Policy
from onetouch.signals.account import account_signals
from onetouch.signals.accounts import identify, normalise_accounts, plan_caps
from onetouch.signals.activity import build_days, build_history, event_files, last_day, read_days
from onetouch.signals.sums import Sums, sum_up

_TABLES = ("activity", "history", "snapshot", "caps", "offsets")

log = logging.getLogger(__name__)


def build(lake: Lake, ledger: Ledger, policy: Policy, run: Run) -> dict[str, int]:
    """Writes `signals/{run_id}.parquet` from the events staged and the snapshot `crm/{run_id}/accounts.parquet`.

    Returns `accounts`; how many dates had to be rebuilt is in the log. Raises FileNotFoundError without a snapshot.
    """
    snapshot = lake.read("crm", run.run_id, "accounts.parquet")
    table, rebuilt = compute(lake, policy, snapshot, run.as_of)
    lake.write(table, "signals", f"{run.run_id}.parquet")
    log.info("%d dates of activity rebuilt", rebuilt)
    return {"accounts": table.num_rows}


def compute(lake: Lake, policy: Policy, snapshot: pd.DataFrame, as_of: datetime) -> tuple[pa.Table, int]:
    """The signals of all accounts as of `as_of`, sorted by account_id, and how many dates of activity were rebuilt."""
    files = event_files(lake)
    last = last_day(as_of)
    first = last - timedelta(days=policy.signals.lookback_days - 1)
    with lake.engine() as con:
        window = {day: paths for day, paths in files.items() if first <= day <= last}
        days, rebuilt = build_days(lake, con, policy, window)
        read_days(lake, con, policy, days, files, as_of, "activity")
        rebuilt += build_history(lake, con, policy, files, first, as_of, "history")
        engine = ibis.duckdb.from_connection(con)
        sums = _kept(con, sum_up(engine.table("activity"), policy, as_of))
        accounts = identify(normalise_accounts(snapshot), *_product(con))
        zones = {"UTC", *accounts["timezone"].dropna().unique()}
        con.register("snapshot", accounts)
        con.register("caps", plan_caps(accounts["plan_limits"]))
        con.register("offsets", _offsets(zones, (last - timedelta(days=n) for n in range(policy.signals.recent_days))))
        tables = {name: engine.table(name) for name in _TABLES}
        signals = account_signals(sums, **tables, policy=policy, as_of=as_of).order_by("account_id")
        return signals.to_pyarrow(), rebuilt


def _kept(con: duckdb.DuckDBPyConnection, sums: Sums) -> Sums:
    """The sums worked out and kept as tables of the engine: they are small, and needed more than once."""
    for name, expression in sums._asdict().items():
        con.execute(f"CREATE OR REPLACE TEMP TABLE sum_{name} AS {ibis.to_sql(expression, dialect='duckdb')}")
    engine = ibis.duckdb.from_connection(con)
    return Sums(*(engine.table(f"sum_{name}") for name in Sums._fields))


def _product(con: duckdb.DuckDBPyConnection) -> tuple[pd.Series, pd.Series]:
    """The product's accounts, and the account that each e-mail domain stands for.

    A domain stands for the account that has it as its users' most frequent one; for several, the one with the most
    users of it, then the first by id. Lone users stand for nobody else.
    """
    con.execute(
        """
        CREATE OR REPLACE TEMP TABLE product_domain AS
        SELECT account_id, account_basis, email_domain, max(users) AS users FROM (
            SELECT account_id, account_basis, email_domain, count(user_id) AS users
            FROM sum_user GROUP BY account_id, account_basis, email_domain
            UNION ALL BY NAME
            SELECT account_id, account_basis, email_domain, users FROM history WHERE event IS NULL
        ) GROUP BY account_id, account_basis, email_domain
        """
    )
    ids = con.execute("SELECT DISTINCT account_id FROM product_domain").df()["account_id"]
    domains = con.execute(
        """
        WITH main AS (
            SELECT account_id, email_domain, users FROM product_domain
            WHERE account_basis <> 'personal' AND email_domain IS NOT NULL
            QUALIFY row_number() OVER (PARTITION BY account_id ORDER BY users DESC, email_domain) = 1
        )
        SELECT email_domain, account_id FROM main
        QUALIFY row_number() OVER (PARTITION BY email_domain ORDER BY users DESC, account_id) = 1
        """
    ).df()
    return ids, domains.set_index("email_domain")["account_id"]


def _offsets(zones: Iterable[str], days: Iterable[date]) -> pd.DataFrame:
    """Whole hours that each zone was ahead of UTC at noon of each date."""
    noons = pd.DatetimeIndex([pd.Timestamp(day, tz="UTC") + pd.Timedelta(hours=12) for day in days])
    frames = []
    for zone in sorted(zones):
        ahead = noons.tz_convert(ZoneInfo(zone)).tz_localize(None) - noons.tz_localize(None)
        hours = (ahead // pd.Timedelta(hours=1)).astype("int64")
        frames.append(pd.DataFrame({"timezone": zone, "event_date": noons.date, "offset": hours}))
    return pd.concat(frames, ignore_index=True)
