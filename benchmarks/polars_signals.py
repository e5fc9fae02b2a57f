"""What one would write by hand in Polars: lazy, streaming, exact distinct counts; JSON is read only where needed."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

NOT_USE = [
    "usage_recorded", "limit_reached", "demo_viewed", "support_ticket_opened", "company_funded", "company_hiring",
]  # fmt: skip
MILESTONES = ["workspace_created", "data_imported", "report_created", "integration_connected", "teammate_invited"]


def compute(lake: Path, events: list[str], as_of: datetime) -> tuple[pl.DataFrame, dict[str, int]]:
    """The signals frame; nothing else to tell."""
    e = (
        pl.scan_parquet(events, hive_partitioning=False)
        .filter(pl.col("occurred_at") < as_of, pl.col("occurred_at") >= as_of - timedelta(days=90))
        .select(
            "account_id",
            "user_id",
            "event",
            "properties",
            age=(pl.lit(as_of.date() - timedelta(days=1)) - pl.col("occurred_at").dt.date()).dt.total_days(),
            used=~pl.col("event").is_in(NOT_USE),
        )
    )
    user, age, used = pl.col("user_id"), pl.col("age"), pl.col("used")

    def n(event: str, days: int) -> pl.Expr:
        return ((pl.col("event") == event) & (age < days)).sum()

    main = e.group_by("account_id").agg(
        users=user.filter(used).drop_nulls().n_unique(),
        active_users_7d=user.filter(used & (age < 7)).drop_nulls().n_unique(),
        active_users=user.filter(used & (age < 28)).drop_nulls().n_unique(),
        active_days_7d=age.filter(used & (age < 7)).n_unique(),
        active_days=age.filter(used & (age < 14)).n_unique(),
        events_7d=(used & (age < 7)).sum(),
        events=(used & (age < 28)).sum(),
        milestones_done=pl.col("event").filter(pl.col("event").is_in(MILESTONES)).n_unique(),
        developer_days=age.filter(pl.col("event").is_in(["api_called", "sdk_used", "ci_run"]) & (age < 28)).n_unique(),
        invites=n("teammate_invited", 28),
        pricing_views=n("pricing_viewed", 14),
        premium_attempts=n("premium_feature_attempted", 28),
        exports=n("export_created", 28),
    )

    def details(event: str, name: str, signal: str) -> pl.LazyFrame:
        detail = pl.col("properties").str.json_path_match(f"$.{name}")
        return (
            e.filter(pl.col("event") == event).group_by("account_id").agg(detail.drop_nulls().n_unique().alias(signal))
        )

    joined = (
        main.join(details("feature_used", "feature", "features_used"), on="account_id", how="left")
        .join(details("integration_connected", "integration", "integrations"), on="account_id", how="left")
        .with_columns(pl.col("features_used", "integrations").fill_null(0))
    )
    return joined.collect(engine="streaming"), {}
