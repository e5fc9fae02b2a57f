"""Whether two contenders found the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd


def assert_equal(left: Path, right: Path, columns: Sequence[str]) -> None:
    """Raises AssertionError, naming the first column that differs, unless both hold the same values by account."""
    one, other = (
        pd.read_parquet(path, columns=["account_id", *columns]).set_index("account_id").sort_index().astype("float64")
        for path in (left, right)
    )
    pd.testing.assert_frame_equal(one, other, check_names=False)
