"""Lakes of hand-made canonical events."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from onetouch.lake import Lake

Event = dict[str, Any]
EVENTS = {
    "event_id": "str", "source": "str", "event": "str", "occurred_at": "datetime64[us, UTC]",
    "received_at": "datetime64[us, UTC]", "user_id": "str", "anonymous_id": "str", "groups": "str",
    "account_id": "str", "account_basis": "str", "email_domain": "str", "never_count": "boolean", "profile": "str",
    "properties": "str",
    "batch_id": "str",
}  # fmt: skip


@pytest.fixture
def event() -> Callable[..., Event]:
    numbers = iter(range(10**9))

    def make(at: str | datetime, name: str, account: str = "acme", user: str | None = "u1", **more: Any) -> Event:
        """`more`: the event's properties; received (minutes later), basis, email_domain."""
        occurred = at if isinstance(at, datetime) else datetime.fromisoformat(at).replace(tzinfo=UTC)
        return {
            "event_id": f"e{next(numbers)}",
            "source": "amplitude",
            "event": name,
            "occurred_at": occurred,
            "received_at": occurred + timedelta(minutes=more.pop("received", 1)),
            "user_id": user,
            "anonymous_id": more.pop("device", None),
            "groups": None,
            "never_count": None,
            "profile": None,
            "account_id": account,
            "account_basis": more.pop("basis", "group"),
            "email_domain": more.pop("email_domain", None),
            "properties": json.dumps(more),
        }

    return make


@pytest.fixture
def stage() -> Callable[..., None]:
    def write(lake: Lake, events: Iterable[Event], batch: str = "b1") -> None:
        frame = pd.DataFrame(list(events)).assign(batch_id=batch).astype(EVENTS)[list(EVENTS)]
        for day, rows in frame.groupby(frame["occurred_at"].dt.strftime("%Y-%m-%d")):
            lake.write(rows, "events", f"event_date={day}", f"{batch}.parquet")

    return write


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")
