"""Signals that a release called otherwise, for tests of what reads the names of former releases."""

from __future__ import annotations

FORMER = {
    "active_users_28d": "active_users", "invites_28d": "invites", "developer_days_28d": "developer_days",
    "limits_reached_28d": "limits_reached", "active_days_14d": "active_days", "return_days_28d": "return_days",
    "events_28d": "events", "exports_28d": "exports", "shares_28d": "shares", "pricing_views_14d": "pricing_views",
    "plan_questions_28d": "plan_questions", "demo_requests_28d": "demo_requests",
    "premium_attempts_28d": "premium_attempts", "admin_actions_28d": "admin_actions",
    "failed_actions_28d": "failed_actions", "tickets_28d": "tickets",
    "checkouts_abandoned_28d": "checkouts_abandoned", "fundings_90d": "fundings", "hirings_90d": "hirings",
}  # fmt: skip
