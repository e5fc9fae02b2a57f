"""No decision changes without an event of its account, or an end that `explain` names."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from onetouch import audit, routing, scoring, signals
from onetouch.audit.stored import of_run
from onetouch.catalogue import SIGNALS
from onetouch.experiments import scenario_world
from onetouch.experiments.scenario_file import Rep
from onetouch.ledger import Run
from onetouch.policy import Policy, read_policy
from onetouch.workspace import Workspace, open_workspace

ZONES = [
    "America/Los_Angeles", "America/New_York", "America/St_Johns", "America/Sao_Paulo", "UTC", "Europe/Berlin",
    "Asia/Tehran", "Asia/Kolkata", "Asia/Kathmandu", "Asia/Tokyo", "Australia/Adelaide", "Pacific/Chatham",
]  # fmt: skip
BEGINS = datetime(2025, 3, 26, 0, tzinfo=UTC)  # Europe changes to summer time on the 30th, Australia on 6 April
LEVELS = [signal.name for signal in SIGNALS if signal.level]
DECIDED = ("action", "rule", "tier", "score", "pql", "call", "value_band", "engagement_band", "motion")
NOW_AND_THEN = (
    "pricing_viewed", "premium_feature_attempted", "teammate_invited", "plan_question_asked", "demo_requested",
    "export_created", "checkout_started", "checkout_completed", "limit_reached", "sso_configured",
)  # fmt: skip


def events_of(rng: random.Random, account: str, zone: str, until: date) -> Iterator[tuple[datetime, str, str]]:
    """When, who and what: two months of work on the account's own clock, and what happens now and then."""
    clock, users = ZoneInfo(zone), [f"{name}@{account}" for name in "abcde"[: rng.randint(1, 5)]]
    diligence, curiosity = rng.choice([0.3, 0.7, 1]), rng.choice([0.01, 0.05, 0.2])
    first = until - timedelta(days=80)
    for place, name in enumerate(("workspace_created", "data_imported", "report_created")):
        if rng.random() < 0.95:
            yield datetime.combine(first, time(9, place), clock).astimezone(UTC), users[0], name
    for day in (until - timedelta(days=n) for n in range(70)):
        for user in users:
            if day.weekday() < 5 and rng.random() < diligence:
                at = datetime.combine(day, time(rng.randrange(8, 19), rng.randrange(50)), clock).astimezone(UTC)
                yield at, user, "session_started"
        if rng.random() < curiosity:
            at = datetime.combine(day, time(rng.randrange(24), rng.randrange(50)), clock).astimezone(UTC)
            yield at, users[0], rng.choice(NOW_AND_THEN)


def company(home: Path, n: int, days: int) -> tuple[Workspace, Policy, pd.DataFrame, pd.DataFrame]:
    """A workspace with the events of `n` accounts, a policy under which nobody waits for a rep, events and records."""
    rng = random.Random(n)
    workspace = open_workspace(home, None, environ={})
    policy = read_policy().changed(assignment__tasks_per_day=10**6, assignment__tasks_per_rep_per_day=10**6)
    rows: list[dict[str, Any]] = []
    for number in range(n):
        account, zone = f"a{number:04}", ZONES[number % len(ZONES)]
        for at, user, name in events_of(rng, account, zone, BEGINS.date() + timedelta(days=days + 1)):
            known = {
                "event_id": f"e{len(rows)}", "source": "amplitude", "event": name, "occurred_at": at,
                "received_at": at + timedelta(minutes=1), "user_id": user, "account_id": account,
                "account_basis": "group", "properties": "{}", "batch_id": "b1",
            }  # fmt: skip
            rows.append(known)
    events = scenario_world.event_frame(rows)
    for day, happened in events.groupby(events["occurred_at"].dt.strftime("%Y-%m-%d")):
        workspace.lake.write(happened, "events", f"event_date={day}", "b1.parquet")
    records = pd.DataFrame(
        {
            "account_id": [f"a{number:04}" for number in range(n)],
            "crm_account_id": [f"crm{number}" for number in range(n)],
            "name": "Acme",
            "domain": [f"a{number}.example" for number in range(n)],
            "employees": [rng.choice([10, 80, 200, 900]) for _ in range(n)],
            "timezone": [ZONES[number % len(ZONES)] for number in range(n)],
            "owner_email": "ana@sales.example",
            "owner_id": "user-ana@sales.example",
            "owner_active": True,
            "open_opportunities": 0,
        }
    )
    return workspace, policy, events, records


def decided(workspace: Workspace, policy: Policy, records: pd.DataFrame, as_of: datetime) -> Run:
    lake, ledger = workspace.lake, workspace.ledger
    run = ledger.begin_run(as_of, policy, False)
    lake.write(signals.normalise_accounts(records), "crm", run.run_id, "accounts.parquet")
    reps = scenario_world.crm_users([Rep(email="ana@sales.example")])
    lake.write(reps, "crm", run.run_id, "reps.parquet")
    signals.build(lake, ledger, policy, run)
    scoring.score(lake, ledger, policy, run)
    routing.route(lake, ledger, policy, run)
    return run


def known(workspace: Workspace, run: Run) -> dict[str, dict[str, Any]]:
    """Account → what the run has stored of it, as `explain` reads it."""
    rooms = [
        audit.plain(of_run(workspace.lake, room, run.run_id).to_pandas()) for room in ("signals", "scores", "decisions")
    ]
    return {
        row["account_id"]: {**row, **scored, **decision, "handoff": None}
        for row, scored, decision in zip(*rooms, strict=True)
    }


def live(home: Path, accounts: int, hours: list[int]) -> tuple[int, int]:
    """Runs at these hours; the number of changed decisions, and of those by the clock alone."""
    workspace, policy, events, records = company(home, accounts, max(hours) // 24 + 1)
    changed = alone = 0
    before: dict[str, dict[str, Any]] = {}
    since = BEGINS
    for hour in hours:
        as_of = BEGINS + timedelta(hours=hour)
        now = known(workspace, decided(workspace, policy, records, as_of))
        arrived = events[(events["received_at"] > since) & (events["received_at"] <= as_of)]
        moved = set(arrived["account_id"])
        for account, row in now.items() if before else ():
            was, clock = before[account], ZoneInfo(row["timezone"])
            if since.astimezone(clock).date() == as_of.astimezone(clock).date():
                assert [row[name] for name in LEVELS] == [was[name] for name in LEVELS], (account, since, as_of)
            if all(row[name] == was[name] for name in DECIDED):
                continue
            changed += 1
            if account not in moved:
                alone += 1
                told = audit.ended(was, row, policy, since, as_of)
                assert told, (account, since, as_of, [(n, was[n], row[n]) for n in DECIDED if was[n] != row[n]])
        before, since = now, as_of
    return changed, alone


@pytest.mark.timeout(900)
def test_no_decision_changes_without_an_event_or_a_declared_end(tmp_path: Path) -> None:
    changed, alone = live(tmp_path, 120, [0, 2, 4, 5, 6, 7, 8, 11, 14, 15, 18, 19, 22, 23, 24, 25])
    assert changed > alone > 20


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_no_decision_of_ten_days_changes_without_an_event_or_a_declared_end(tmp_path: Path) -> None:
    changed, alone = live(tmp_path, 2000, list(range(24 * 10 + 1)))
    assert changed > alone > 2000
