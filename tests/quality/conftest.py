"""A small, sound batch, account table and set of decisions; each test plants its one fault in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from onetouch.catalogue import MOMENTS, SIGNAL_NAMES
from onetouch.lake import Lake
from onetouch.ledger import Ledger, Run
from onetouch.policy import Policy, read_policy

AS_OF = datetime(2025, 1, 1, tzinfo=UTC)


@dataclass
class Place:
    lake: Lake
    ledger: Ledger
    policy: Policy
    run: Run

    def events(
        self, per_day: list[int], *, batch: str = "b1", change: Callable[[pd.DataFrame], Any] = lambda f: None
    ) -> pd.DataFrame:
        """Sound events, `per_day[-1]` of them on the last full day; `change` plants a fault in the frame."""
        days = [AS_OF - timedelta(days=len(per_day) - i) for i in range(len(per_day))]
        at = pd.DatetimeIndex(
            [day + timedelta(seconds=60 * n) for day, count in zip(days, per_day, strict=True) for n in range(count)]
        )
        frame = pd.DataFrame(
            {
                "event_id": [f"{batch}-{i}" for i in range(len(at))],
                "source": "amplitude",
                "event": "session_started",
                "occurred_at": at.as_unit("us"),
                "received_at": at.as_unit("us"),
                "user_id": "u1",
                "account_id": "acme.example",
                "account_basis": "domain",
                "email_domain": "acme.example",
                "properties": "{}",
                "batch_id": batch,
            }
        )
        change(frame)
        for day, rows in frame.groupby(frame["occurred_at"].dt.strftime("%Y-%m-%d")):
            self.lake.write(rows, "events", f"event_date={day}", f"{batch}.parquet")
        return frame

    def batch(
        self,
        rows_in: int,
        kept: int,
        duplicates: int = 0,
        quarantined: int = 0,
        *,
        reread: int = 0,
        hours: dict[str, float] | None = None,
        refused_of_one: int = 0,
        batch: str = "b1",
    ) -> None:
        counts = {"in": rows_in, "kept": kept, "duplicates": duplicates, "quarantined": {"bad_time": quarantined}}
        counts |= {"reread": reread, "refused_of_one": refused_of_one} | ({} if hours is None else {"hours": hours})
        self.ledger.record_batch(batch, self.run.run_id, "amplitude", counts)


def _accounts(n: int) -> pd.DataFrame:
    frame = pd.DataFrame({"account_id": [f"a{i}.example" for i in range(n)]})
    frame["name"] = frame["domain"] = frame["account_id"]
    frame["timezone"] = "Europe/Berlin"
    frame["last_seen_at"] = pd.Timestamp(AS_OF - timedelta(hours=1)).as_unit("us")
    for signal in SIGNAL_NAMES:
        frame[signal] = 1.0
    for signal in MOMENTS:
        frame[f"{signal}_at"] = pd.Timestamp(AS_OF - timedelta(hours=2)).as_unit("us")
    frame["active_users"] = frame["users"] = 2.0
    frame["active_days"] = 5.0
    frame["account_basis"], frame["industry"] = "domain", pd.Series([None] * n, dtype="str")
    frame["employees"] = pd.Series([120, None] * (n // 2), dtype="Int64")
    frame["arr"] = 0.0
    frame["usage_growth_7d"] = float("nan")
    frame["checkout_state"] = "none"
    frame["open_opportunities"] = 0
    return frame


def _decisions(accounts: pd.DataFrame, run: Run) -> pd.DataFrame:
    frame = accounts[["account_id"]].copy()
    n = len(frame)
    frame["decision_id"] = [f"d{i}" for i in range(n)]
    frame["as_of"] = pd.Timestamp(run.as_of).as_unit("us")
    frame["policy_version"] = run.policy_version
    frame["score"] = 30.1
    frame["tier"], frame["pql"] = "high", True
    frame["reasons"] = [
        [{"signal": "users", "value": 5.0, "points": 10.0}, {"signal": "invites", "value": 1.0, "points": 20.1}]
    ] * n
    frame["value_band"], frame["engagement_band"], frame["motion"] = "high", "high", "sales_assist"
    frame["potential_arr"] = 9000.0
    frame["action"], frame["rule"], frame["call"] = "nurture", "not_pql", "pql"
    frame["trigger_at"] = pd.Series([pd.NaT] * n, dtype="datetime64[us, UTC]")
    frame["would_change"] = [[{"obstacle": "score", "has": 30.1, "needs": 50.0}]] * n
    frame.loc[:2, "action"] = "sales_now"
    frame["owner_email"] = [f"rep{i % 3}@vendor.example" for i in range(n)]
    frame["due_at"] = pd.Timestamp(run.as_of + timedelta(hours=2)).as_unit("us")
    return frame


@pytest.fixture
def place(tmp_path: Path) -> Place:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.migrate()
    policy = read_policy()
    return Place(Lake(tmp_path / "lake"), ledger, policy, ledger.begin_run(AS_OF, policy, False))


@pytest.fixture
def accounts() -> pd.DataFrame:
    return _accounts(20)


@pytest.fixture
def decisions(accounts: pd.DataFrame, place: Place) -> pd.DataFrame:
    return _decisions(accounts, place.run)
