"""Canonical events of an imaginary product, as Parquet in a lake: seeded, the same on any machine."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import duckdb
import pandas as pd
from onetouch.lake import Lake

EVENTS_A_SESSION = 8

# The mix of events: name, share in thousandths.
MIX = {
    "feature_used": 330, "session_started": 160, "api_called": 110, "report_created": 70, "data_imported": 60,
    "export_created": 50, "content_shared": 40, "action_failed": 40, "usage_recorded": 40, "workspace_created": 15,
    "teammate_invited": 15, "pricing_viewed": 12, "premium_feature_attempted": 12, "integration_connected": 10,
    "support_ticket_opened": 8, "plan_question_asked": 6, "permissions_changed": 6, "limit_reached": 4,
    "demo_requested": 2, "checkout_started": 5, "checkout_abandoned": 3, "checkout_completed": 2,
}  # fmt: skip

FEATURES = ["dashboards", "alerts", "exports", "automations", "api", "audit_log"]
INTEGRATIONS = ["crm", "mail", "chat", "files", "bi", "ci"]

DAY = """
COPY (
    WITH session AS (
        SELECT i,
            (hash(i // {per_session}, {seed}, {day}) >> 1)::BIGINT AS s, (hash(i, {seed}, {day}) >> 1)::BIGINT AS r
        FROM range({rows}) AS t(i)
    ), drawn AS (
        SELECT i, r,
            -- A squared uniform: few large accounts, many small ones.
            (pow((s % 1000003) / 1000003.0, 2) * {accounts})::BIGINT AS account,
            (s // 1000003) % 7 AS member,
            (r % 1000)::INT AS roll,
            (r // 1000) % 6 AS choice,
            ({day_us} + ((8 + (s // 7919) % 10) * 3600 + r // 6000 % 3600) * 1000000)::BIGINT AS at_us
        FROM session
    )
    SELECT
        '{day}-' || i AS event_id, 'amplitude' AS source, mix.event AS event,
        make_timestamptz(at_us) AS occurred_at, make_timestamptz(at_us + 60000000) AS received_at,
        'u' || account || '_' || member % (1 + account % 7) AS user_id,
        'acct-' || account AS account_id, 'group' AS account_basis, 'acct' || account || '.example' AS email_domain,
        CASE mix.event
            WHEN 'feature_used' THEN '{{"feature":"' || ({features})[choice + 1] || '","ui":"web"}}'
            WHEN 'premium_feature_attempted' THEN '{{"feature":"' || ({features})[choice + 1] || '"}}'
            WHEN 'integration_connected' THEN '{{"integration":"' || ({integrations})[choice + 1] || '"}}'
            WHEN 'usage_recorded'
            THEN '{{"limit":"' || ['seats','rows'][choice % 2 + 1] || '","used":' || (r // 36000 % 1000) || '}}'
            WHEN 'limit_reached' THEN '{{"limit":"rows"}}'
            WHEN 'action_failed' THEN '{{"action":"import"}}'
            ELSE '{{"ui":"web"}}'
        END AS properties,
        -- As staging leaves it: each user says once a day who that is.
        CASE WHEN i % {per_session} = 0 THEN
            '{{"name":"Person ' || account || '.' || member || '","email":"u' || account || '_' || member || '@acct'
            || account || '.example","title":"' || ['Analyst','Engineer','CTO','Head of Data'][account % 4 + 1]
            || '","seniority":null,"role":"' || ['admin','member'][member % 2 + 1] || '"}}'
        END AS profile,
        '{day}' AS batch_id
    FROM drawn JOIN mix ON drawn.roll >= mix.low AND drawn.roll < mix.high
) TO '{path}' (FORMAT parquet, COMPRESSION zstd)
"""


def generate(folder: Path, *, seed: int, days: int, until: date, accounts: int, events_a_day: int) -> int:
    """Writes `events_a_day` events for each of the `days` days before `until` below `folder`; returns the rows."""
    lake = Lake(folder)
    shares = pd.Series(MIX)
    mix = pd.DataFrame({"event": shares.index, "low": shares.cumsum() - shares, "high": shares.cumsum()})
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        con.register("mix", mix)
        for n in range(days):
            day = until - timedelta(days=days - n)
            write_day(lake, con, day, seed=seed, accounts=accounts, rows=events_a_day)
    return days * events_a_day


def write_day(
    lake: Lake, con: duckdb.DuckDBPyConnection, day: date, *, seed: int, accounts: int, rows: int, batch: str = "b1"
) -> None:
    """One day's events as `events/event_date=…/{batch}.parquet`. `con` holds the table `mix`."""
    number = day.toordinal()
    with lake.writing("events", f"event_date={day}", f"{batch}.parquet") as path:
        con.execute(
            DAY.format(
                per_session=EVENTS_A_SESSION,
                seed=seed,
                day=number,
                rows=rows,
                accounts=accounts,
                path=path,
                day_us=(number - date(1970, 1, 1).toordinal()) * 86_400_000_000,
                features=FEATURES,
                integrations=INTEGRATIONS,
            )
        )
