"""The lake: whole files or none, and no way out of its root."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onetouch.lake import Lake, key


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.write(pd.DataFrame({"a": [1]}), "scores", "one.parquet")
    with pytest.raises(RuntimeError), lake.writing("scores", "one.parquet") as draft:
        Path(draft).write_bytes(b"half")
        raise RuntimeError("killed")
    assert lake.read("scores", "one.parquet")["a"].tolist() == [1]
    assert [p.name for p in (tmp_path / "scores").iterdir()] == ["one.parquet"]


def test_a_killed_writer_leaves_nothing_a_reader_sees(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    (tmp_path / "scores").mkdir()
    (tmp_path / "scores" / ".one.parquet.abcd").write_bytes(b"half")  # what SIGKILL leaves behind
    assert lake.list("scores") == []
    lake.write(pd.DataFrame({"a": [2]}), "scores", "one.parquet")
    with lake.engine() as engine:
        assert engine.fetch(engine.read(lake.list("scores"))).to_pylist() == [{"a": 2}]


@pytest.mark.parametrize("part", ["..", "../x", "/etc", "a/../b", "", "a\x00b", ".hidden"])
def test_no_part_leaves_the_lake(tmp_path: Path, part: str) -> None:
    with pytest.raises(ValueError, match="lake path part"):
        Lake(tmp_path).path("raw", part)


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_value_is_one_safe_part_and_different_values_differ(one: str, other: str) -> None:
    lake = Lake("/lake")
    assert lake.path(key(one)).count("/") == 2
    assert (key(one) == key(other)) is (one == other)


def test_an_object_store_works_like_a_folder() -> None:
    lake = Lake("memory://lake")
    lake.write(pd.DataFrame({"a": [1, 2]}), "events", "event_date=2025-01-01", "one.parquet")
    assert lake.read("events", "event_date=2025-01-01", "one.parquet")["a"].sum() == 3
    with lake.engine() as engine:
        assert engine.fetch(engine.read(lake.list("events")))["a"].to_pylist() == [1, 2]
