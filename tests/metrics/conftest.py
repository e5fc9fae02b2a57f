"""A ledger and a lake to fill by hand: each test counts with its fingers what the figures must say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from onetouch.lake import Lake
from onetouch.ledger import Handoff, Ledger
from onetouch.policy import Policy, read_policy

MONDAY = datetime(2025, 3, 3, tzinfo=UTC)
"""The end of the report's week, 2025-W09."""

STEPS = ("context_written", "task_open", "touched", "replied")


@dataclass
class Company:
    lake: Lake
    ledger: Ledger
    policy: Policy
    deals: list[dict[str, Any]] = field(default_factory=list)

    def handoff(
        self,
        account: str,
        decided: datetime,
        *,
        due: timedelta | None = None,
        owner: str = "ana@vendor.example",
        **moves: datetime,
    ) -> Handoff:
        """A handoff decided at a moment; `touched=…`, `replied=…`, `withdrawn=…`, `won=…` say when it moved on."""
        run = self.ledger.begin_run(decided, self.policy, False)
        due_at = decided + due if due else None
        decision = {"account_id": account, "crm_account_id": f"crm-{account}", "owner_email": owner, "due_at": due_at}
        opened = self.ledger.open_handoff(decision, run)
        assert opened is not None, f"{account} has another active handoff"
        for state in ("context_written", "task_open"):
            self.ledger.move(opened.handoff_id, state, decided)
        for state, at in sorted(moves.items(), key=lambda move: move[1]):
            self.ledger.move(opened.handoff_id, state, at)
        return opened

    def deal(
        self, account: str, created: datetime, *, won: datetime | None = None, amount: float | None = 10_000.0
    ) -> None:
        self.deals.append(
            {
                "opportunity_id": f"o{len(self.deals)}",
                "crm_account_id": f"crm-{account}",
                "account_id": account,
                "stage": "Closed Won" if won else "Negotiation",
                "is_closed": won is not None,
                "is_won": won is not None,
                "amount": amount,
                "created_at": created,
                "closed_at": won,
                "lead_source": None,
            }
        )

    def write_deals(self) -> None:
        frame = pd.DataFrame(self.deals)
        for name in ("created_at", "closed_at"):
            frame[name] = pd.to_datetime(frame[name], utc=True).astype("datetime64[us, UTC]")
        frame = frame.astype({"amount": "float64", "is_won": "boolean", "is_closed": "boolean"})
        self.lake.write(frame, "crm", "20250303T000000Z-0123456789ab", "opportunities.parquet")

    def upgrades(self, rows: Iterable[tuple[str, datetime, float | None]]) -> None:
        frame = pd.DataFrame(rows, columns=["account_id", "last_at", "value_last"])
        frame["last_at"] = frame["last_at"].astype("datetime64[us, UTC]")
        frame["event"] = "plan_upgraded"
        for day, part in frame.groupby(frame["last_at"].dt.strftime("%Y-%m-%d")):
            self.lake.write(part, "activity", f"event_date={day}", f"{self.policy.vocabulary_version}.parquet")


@pytest.fixture
def company(tmp_path: Path) -> Company:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.migrate()
    return Company(Lake(tmp_path / "lake"), ledger, read_policy())
