"""This project: daily activity, then all account signals."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
from onetouch.lake import Lake
from onetouch.policy import read_policy
from onetouch.signals import compute as signals


def compute(lake: Path, events: list[str], as_of: datetime) -> tuple[pa.Table, dict[str, int]]:
    """The signals table, and how many dates were rebuilt."""
    table, rebuilt = signals(Lake(lake), read_policy(), pd.DataFrame({"account_id": []}, dtype="str"), as_of)
    return table, {"dates_rebuilt": rebuilt}
