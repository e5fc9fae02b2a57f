"""A home to stage rows in, and what lies in its lake."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
from onetouch import events, sources
from onetouch.lake import Lake
from onetouch.ledger import Ledger, Run
from onetouch.policy import Policy, read_policy

from tests.sources.answers import answer, member, packed

AS_OF = datetime(2025, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
RECEIVED = AS_OF - 2 * HOUR


@cache
def _empty_ledger() -> bytes:
    """A migrated database, made once."""
    with tempfile.TemporaryDirectory() as place:
        Ledger(f"sqlite:///{place}/ledger.db").migrate()
        with closing(sqlite3.connect(f"{place}/ledger.db")) as made:
            made.execute("VACUUM INTO ?", [f"{place}/copy.db"])  # the file alone lacks what its log holds
        return Path(place, "copy.db").read_bytes()


class Stager:
    """Lake and ledger of one test, fed from a folder of answers."""

    def __init__(self, home: Path, **limits: Any) -> None:
        policy = read_policy()
        self.policy: Policy = policy.model_copy(update={"events": policy.events.model_copy(update=limits)})
        self.home = home
        self.lake = Lake(home / "lake")
        (home / "ledger.db").write_bytes(_empty_ledger())
        self.ledger = Ledger(f"sqlite:///{home / 'ledger.db'}")
        self.folder = home / "answers"
        self.folder.mkdir()

    def receive(self, rows: Iterable[Any], *, name: str = "a.zip", hour: datetime = RECEIVED) -> None:
        """One answer of one file with these rows."""
        answer(self.folder / name, [(member(hour), packed(rows))])

    def run(self, as_of: datetime = AS_OF, *, dry_run: bool = False) -> Run:
        return self.ledger.begin_run(as_of, self.policy, dry_run)

    def extract(self, as_of: datetime = AS_OF, *, dry_run: bool = False) -> Run:
        run = self.run(as_of, dry_run=dry_run)
        sources.extract("amplitude", self.lake, self.ledger, self.policy, run, folder=self.folder)
        return run

    def stage(self, as_of: datetime = AS_OF, *, dry_run: bool = False) -> dict[str, Any]:
        """Extracts and stages; checks that every row is accounted for, in the summary and in the lake."""
        summary = events.stage(self.lake, self.ledger, self.policy, self.extract(as_of, dry_run=dry_run))
        rows = summary["rows"]
        assert rows["in"] == rows["kept"] + rows["duplicates"] + sum(rows["quarantined"].values())
        return summary

    def staged(self, rows: Iterable[Any]) -> dict[str, Any]:
        """The accounting of these rows on this home."""
        self.receive(rows)
        return self.stage()["rows"]

    def events(self) -> pd.DataFrame:
        """Every event of the lake, with the date of its folder."""
        frames = []
        for path in self.lake.list("events"):
            table = pq.read_table(path, partitioning=None)
            assert table.schema.equals(events.EVENTS), path
            frames.append(table.to_pandas().assign(event_date=path.split("event_date=")[1][:10]))
        if not frames:
            return pd.DataFrame({name: [] for name in [*events.EVENTS.names, "event_date"]})
        return pd.concat(frames, ignore_index=True).sort_values("event_id", ignore_index=True)

    def quarantine(self) -> pd.DataFrame:
        frames = [pq.read_table(path, partitioning=None).to_pandas() for path in self.lake.list("quarantine")]
        return pd.concat(frames, ignore_index=True)

    def files(self) -> dict[str, bytes]:
        """Every staged file with its bytes."""
        paths = [*self.lake.list("events", ""), *self.lake.list("quarantine", "")]
        return {path: Path(path).read_bytes() for path in paths}
