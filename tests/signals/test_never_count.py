"""Own staff, testers and robots make no signal of any kind, whichever way the policy names them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from onetouch.lake import Lake
from onetouch.policy import read_policy
from onetouch.signals import CRM, SNAPSHOT, compute, normalise_accounts

AS_OF = datetime(2025, 3, 12, 10, tzinfo=UTC)
NOBODY: dict[str, Any] = {"domains": [], "emails": [], "users": [], "user_properties": {}}
SNAP = normalise_accounts(pd.DataFrame([{"account_id": "acme", "plan_limits": '{"api_calls": 100}', "seats": 10}]))

EVERYTHING = (
    ("signed_up", 120, {}),
    ("workspace_created", 119, {}),
    ("data_imported", 40, {}),
    ("report_created", 3, {}),
    ("integration_connected", 2, {"integration": "slack"}),
    ("teammate_invited", 2, {}),
    ("session_started", 1, {}),
    ("feature_used", 1, {"feature": "audit_log"}),
    ("pricing_viewed", 1, {}),
    ("demo_requested", 1, {}),
    ("premium_feature_attempted", 1, {"feature": "sso"}),
    ("usage_recorded", 1, {"limit": "api_calls", "used": 99}),
    ("limit_reached", 1, {"limit": "api_calls"}),
    ("action_failed", 1, {"action": "import"}),
    ("support_ticket_opened", 1, {}),
    ("checkout_started", 0, {}),
)
"""What of an account's use makes signals: event, days ago, properties."""

WAYS = {
    "marked": ({"user": "s1", "never": True}, {"users": ["somebody else"]}),
    "user": ({"user": "S1"}, {"users": ["s1"]}),
    "email": ({"user": "Tess@acme.example", "email_domain": "acme.example"}, {"emails": ["tess@ACME.example"]}),
    "domain": ({"user": "s1", "email_domain": "us.example"}, {"domains": ["us.example"]}),
}


def signals(lake: Lake, never_count: dict[str, Any]) -> dict[str, Any]:
    policy = read_policy().changed(never_count=NOBODY | never_count)
    [row] = compute(lake, policy, SNAP[[*SNAPSHOT, *CRM]], AS_OF)[0].to_pylist()
    return dict(row)


@pytest.mark.parametrize("way", WAYS)
def test_they_are_in_no_signal(tmp_path: Path, event: Callable[..., Any], stage: Callable[..., None], way: str) -> None:
    who, named = WAYS[way]
    ours = [event(AS_OF - timedelta(days=n, hours=2), "session_started", user="u1") for n in (5, 6, 7, 30)]
    theirs = []
    for name, days, properties in EVERYTHING:
        made = event(AS_OF - timedelta(days=days, hours=1), name, user=who["user"], **properties)
        theirs.append(made | {"never_count": who.get("never"), "email_domain": who.get("email_domain")})
    stage(Lake(tmp_path / "without"), ours)
    stage(Lake(tmp_path / "with"), [*ours, *theirs])
    expected = signals(Lake(tmp_path / "without"), named)
    assert signals(Lake(tmp_path / "with"), named) == expected
    # A policy that names nobody counts them, everywhere.
    counted = signals(Lake(tmp_path / "with"), {})
    if way != "marked":
        different = {name for name, value in counted.items() if value != expected[name]}
        assert {"users", "milestones_done", "checkout_state", "limit_share", "pricing_views", "events"} <= different
