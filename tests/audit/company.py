"""A small company with a history: two runs a week apart, and what sales did in between."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
from onetouch import routing, scoring, signals
from onetouch.experiments import scenario_world
from onetouch.experiments.scenario_file import Rep, Side
from onetouch.ledger import Run
from onetouch.policy import Policy
from onetouch.workspace import Workspace, open_workspace

FIRST = datetime(2025, 3, 5, 10, tzinfo=UTC)
AS_OF = FIRST + timedelta(days=7)
REPS = [Rep(email="ana@sales.example"), Rep(email="ben@sales.example", timezone="America/New_York")]

ACTIVATED = [{"event": name, "ago": "60d"} for name in ("workspace_created", "data_imported", "report_created")]
BUSY = [
    *ACTIVATED,
    {"event": "session_started", "users": 5, "on_days": 30},
    {"event": "teammate_invited", "ago": "20d"},
]
KEEN = [
    *BUSY,
    {"event": "premium_feature_attempted", "feature": "sso", "ago": "2d 23h"},
    {"event": "pricing_viewed", "ago": "9d"},
]
FULL = {"event": "usage_recorded", "limit": "seats", "used": 9, "on_days": 20}


def account(employees: int | None = 200, **more: Any) -> dict[str, Any]:
    return {"name": "Acme", "domain": "acme.example", "employees": employees, "plan_limits": {"seats": 10}, **more}


SIDES: dict[str, dict[str, Any]] = {
    "called": {"account": account(owner="ana@sales.example"), "events": KEEN},
    "called too": {"account": account(300), "events": KEEN},
    "called first": {"account": account(), "events": [*KEEN, {"event": "demo_requested", "ago": "8d"}]},
    "newly keen": {"account": account(), "events": [*BUSY, {"event": "demo_requested", "ago": "5h"}]},
    "expanding": {"account": account(arr=9000, owner="ben@sales.example"), "events": [*BUSY, FULL]},
    "converting": {"account": account(), "events": [*KEEN, {"event": "checkout_started", "ago": "2h"}]},
    "gave up": {"account": account(), "events": [*KEEN, {"event": "checkout_started", "ago": "4d"}]},
    "with a deal": {"account": account(open_opportunities=1), "events": KEEN},
    "nameless": {"account": account(name=None), "events": KEEN},
    "small": {"account": account(10), "events": KEEN},
    "small and quiet": {"account": account(10), "events": ACTIVATED},
    "small hero": {"account": account(10), "events": BUSY[:4]},
    "watched": {"account": account(), "events": BUSY},
    "quiet": {"account": account(), "events": [*ACTIVATED, {"event": "session_started", "on_days": 4, "ago": "2d"}]},
    "not activated": {"account": account(), "events": [{"event": "session_started", "users": 5, "on_days": 30}]},
    "of unknown size": {"account": account(None), "events": BUSY},
}  # fmt: skip
"""Accounts by id, with what they have done by AS_OF."""


def build(home: Path, policy: Path | None = None) -> Workspace:
    """The company at `home` with both runs made; the first one's task for `called first` was released since."""
    workspace = open_workspace(home, policy, environ={})
    lake, ledger = workspace.lake, workspace.ledger
    sides = {account_id: Side.model_validate(side) for account_id, side in SIDES.items()}
    rows = [
        row
        for account_id, side in sides.items()
        for row in scenario_world.events(account_id, account_id, side, workspace.policy, AS_OF)
    ]
    events = scenario_world.event_frame(rows)
    for day, happened in events.groupby(events["occurred_at"].dt.strftime("%Y-%m-%d")):
        lake.write(happened, "events", f"event_date={day}", "all.parquet")
    first = decided(workspace, workspace.policy, FIRST)
    [chosen] = [d for d in lake.read("decisions", f"{first.run_id}.parquet").to_dict("records")
                if d["account_id"] == "called first"]  # fmt: skip
    handoff = ledger.open_handoff(chosen, first)
    assert handoff is not None
    for hours, state in enumerate(("context_written", "task_open", "touched"), 1):
        at = FIRST + timedelta(hours=hours)
        ledger.move(handoff.handoff_id, state, at=at, as_of=at)
    touch = {"touch_id": "t1", "account_id": "quiet", "at": FIRST + timedelta(days=5), "kind": "Call"}
    old = {"touch_id": "t2", "account_id": "called too", "at": FIRST - timedelta(days=2), "kind": "Call"}
    ledger.record_touches([touch, old], as_of=FIRST + timedelta(days=5))
    decided(workspace, workspace.policy, AS_OF)
    return workspace


def decided(workspace: Workspace, policy: Policy, as_of: datetime, like: Run | None = None) -> Run:
    """A run's stages from the CRM's answer to the decisions; `like`: with the signals of that run."""
    lake, ledger = workspace.lake, workspace.ledger
    run = ledger.begin_run(as_of, policy, False)
    records = [
        scenario_world.record(account_id, side, side.account.owner, as_of)
        for account_id, side in ((k, Side.model_validate(v)) for k, v in SIDES.items())
    ]
    lake.write(signals.normalise_accounts(pd.DataFrame(records)), "crm", run.run_id, "accounts.parquet")
    lake.write(scenario_world.crm_users(REPS), "crm", run.run_id, "reps.parquet")
    if like is None:
        signals.build(lake, ledger, policy, run)
    else:
        lake.write(lake.read("signals", f"{like.run_id}.parquet"), "signals", f"{run.run_id}.parquet")
    scoring.score(lake, ledger, policy, run)
    routing.route(lake, ledger, policy, run)
    return run
