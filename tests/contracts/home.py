"""A home that one source feeds, and what lies in it."""

from __future__ import annotations

import importlib
from datetime import datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
from onetouch import events, sources
from onetouch.lake import Lake
from onetouch.ledger import Ledger
from onetouch.policy import Policy, read_policy
from onetouch.sources import Kept, Source, packing_of

from tests.contracts.makers.of_shape import OfShape
from tests.contracts.sent import HOUR, Sent

AN_HOUR = timedelta(hours=1)
AS_OF = HOUR + 3 * AN_HOUR


def maker_of(source: Source) -> Any:
    name = f"tests.contracts.makers.{source.name}"
    return importlib.import_module(name) if find_spec(name) else OfShape(source)


class Home:
    """Lake and ledger of one test, fed by one source from a folder."""

    def __init__(self, place: Path, source: Source, **limits: Any) -> None:
        self.source, self.maker, self.place = source, maker_of(source), place
        document = read_policy().document()
        settings = {"timezone": self.maker.TIMEZONE} if hasattr(self.maker, "TIMEZONE") else {}
        document["sources"] = {source.name: settings}
        document["events"] |= limits
        self.policy = Policy.model_validate(document)
        self.folder = place / "answers"
        self.folder.mkdir(parents=True)
        self.lake = Lake(place / "lake")
        self.ledger = Ledger(f"sqlite:///{place / 'ledger.db'}")
        self.ledger.migrate()

    def write(self, *rows: Sent, hour: datetime = HOUR) -> Path:
        path: Path = self.maker.write(self.folder, hour, rows)
        return path

    def extract(self, as_of: datetime = AS_OF) -> Any:
        run = self.ledger.begin_run(as_of, self.policy, False)
        sources.extract(self.source.name, self.lake, self.ledger, self.policy, run, folder=self.folder)
        return run

    def stage(self, as_of: datetime = AS_OF) -> dict[str, Any]:
        """The accounting of a run; every row is in it."""
        rows: dict[str, Any] = events.stage(self.lake, self.ledger, self.policy, self.extract(as_of))["rows"]
        assert rows["in"] == rows["kept"] + rows["duplicates"] + sum(rows["quarantined"].values())
        assert len(self.events()) >= rows["kept"]
        return rows

    def events(self) -> pd.DataFrame:
        frames = [pq.read_table(path, partitioning=None).to_pandas() for path in self.lake.list("events")]
        empty = events.EVENTS.empty_table().to_pandas()
        return pd.concat([empty, *frames], ignore_index=True) if frames else empty

    def raw(self) -> list[Kept]:
        paths = [p for p in self.lake.list("raw", "") if not p.endswith("extract.json")]
        return [Kept(path, lambda path=path: open(path, "rb"), packing_of(path)) for path in paths]  # type: ignore[misc]
