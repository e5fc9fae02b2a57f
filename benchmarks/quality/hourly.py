"""What the profile of the next hourly run costs after some days of hourly runs, each of which left its own files."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from onetouch.events import EVENTS
from onetouch.lake import Lake
from onetouch.ledger import Ledger
from onetouch.policy import Policy, read_policy
from onetouch.quality.profile import profiled

HOUR = timedelta(hours=1)
START = datetime(2024, 1, 1, tzinfo=UTC)
EVENTS_AN_HOUR = 20


def costs(days: tuple[int, ...]) -> Iterator[tuple[int, float, float]]:
    """(days of hourly runs, seconds and seconds of CPU of the next run's profile): medians of five runs."""
    policy = read_policy()
    with tempfile.TemporaryDirectory(prefix="onetouch-hourly-") as folder:
        ledger = Ledger(f"sqlite:///{folder}/ledger.db")
        ledger.migrate()
        lake, hour = Lake(Path(folder) / "lake"), 0
        for until in sorted(days):
            while hour < until * 24:
                _write(lake, f"amplitude-{hour:06}", START + hour * HOUR)
                hour += 1
            _profile(lake, ledger, policy, hour)  # builds the tallies of the days, as the runs before have done
            seconds = []
            for _ in range(5):
                hour += 1
                seconds.append(_profile(lake, ledger, policy, hour))
            yield until, *np.median(seconds, axis=0).tolist()


def _profile(lake: Lake, ledger: Ledger, policy: Policy, hour: int) -> tuple[float, float]:
    """The seconds, and those of CPU, that the profile of a run at this hour takes, with an hour's batch."""
    run = ledger.begin_run(START + hour * HOUR, policy, False)
    batch = f"amplitude-{hour - 1:06}"
    _write(lake, batch, START + (hour - 1) * HOUR)
    counts = {"in": EVENTS_AN_HOUR, "kept": EVENTS_AN_HOUR, "duplicates": 0, "quarantined": {}}
    ledger.record_batch(batch, run.run_id, "amplitude", counts)
    begun = time.perf_counter(), time.process_time()
    profiled(lake, ledger, policy, run)
    return time.perf_counter() - begun[0], time.process_time() - begun[1]


def _write(lake: Lake, batch: str, at: datetime) -> None:
    """An hour's events: two thirds of that day, one third of the day before, which come late."""
    n = np.arange(EVENTS_AN_HOUR)
    received = pd.Timestamp(at) + pd.to_timedelta(n * 150, unit="s")
    occurred = received - pd.to_timedelta(np.where(n % 3, 0, 24), unit="h")
    frame = pd.DataFrame(
        {
            "event_id": [f"{batch}-{i}" for i in n],
            "source": "amplitude",
            "event": np.where(n % 5, "feature_used", "checkout_started"),
            "occurred_at": occurred.as_unit("us"),
            "received_at": received.as_unit("us"),
            "known_at": received.as_unit("us"),
            "user_id": [f"u{i % 7}" for i in n],
            "account_id": [f"a{i % 3}" for i in n],
            "properties": "{}",
            "batch_id": batch,
        }
    ).reindex(columns=EVENTS.names)
    for day, rows in frame.groupby(frame["occurred_at"].dt.strftime("%Y-%m-%d")):
        lake.write(rows, "events", f"event_date={day}", f"{batch}.parquet")
