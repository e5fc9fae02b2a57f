"""What one would write by hand in DuckDB SQL: one pass over the events of the lookback, exact distinct counts."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa

QUERY = """
WITH e AS (
    SELECT
        account_id, user_id, event,
        (?::DATE - 1) - occurred_at::DATE AS age,
        event NOT IN (
            'usage_recorded', 'limit_reached', 'demo_viewed', 'support_ticket_opened',
            'company_funded', 'company_hiring'
        ) AS used,
        CASE event
            WHEN 'feature_used' THEN properties ->> 'feature'
            WHEN 'integration_connected' THEN properties ->> 'integration'
        END AS detail
    FROM read_parquet(?)
    WHERE occurred_at < ?::TIMESTAMPTZ AND occurred_at >= ?::TIMESTAMPTZ - INTERVAL 90 DAY
)
SELECT
    account_id,
    count(DISTINCT user_id) FILTER (used) AS users,
    count(DISTINCT user_id) FILTER (used AND age < 7) AS active_users_7d,
    count(DISTINCT user_id) FILTER (used AND age < 28) AS active_users,
    count(DISTINCT age) FILTER (used AND age < 7) AS active_days_7d,
    count(DISTINCT age) FILTER (used AND age < 14) AS active_days,
    count(*) FILTER (used AND age < 7) AS events_7d,
    count(*) FILTER (used AND age < 28) AS events,
    count(DISTINCT detail) FILTER (event = 'feature_used') AS features_used,
    count(DISTINCT detail) FILTER (event = 'integration_connected') AS integrations,
    count(DISTINCT event) FILTER (
        event IN ('workspace_created', 'data_imported', 'report_created', 'integration_connected', 'teammate_invited')
    ) AS milestones_done,
    count(DISTINCT age) FILTER (event IN ('api_called', 'sdk_used', 'ci_run') AND age < 28) AS developer_days,
    count(*) FILTER (event = 'teammate_invited' AND age < 28) AS invites,
    count(*) FILTER (event = 'pricing_viewed' AND age < 14) AS pricing_views,
    count(*) FILTER (event = 'premium_feature_attempted' AND age < 28) AS premium_attempts,
    count(*) FILTER (event = 'export_created' AND age < 28) AS exports
FROM e GROUP BY account_id
"""


def compute(lake: Path, events: list[str], as_of: datetime) -> tuple[pa.Table, dict[str, int]]:
    """The signals table; nothing else to tell."""
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        con.execute("SET preserve_insertion_order = false")
        con.execute("SET enable_progress_bar = false")
        return con.execute(QUERY, [as_of.date(), events, as_of, as_of]).to_arrow_table(), {}
