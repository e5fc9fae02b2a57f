"""The record of long runs: what it says is covered is not done again, and nothing else is left out."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.record import Record

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ranges = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 30)).map(lambda drawn: range(drawn[0], sum(drawn))))


@given(ranges, st.integers(0, 40), st.integers(0, 60), st.integers(1, 20))
def test_exactly_what_is_not_covered_is_left(
    tmp_path_factory: object, done: list[range], start: int, many: int, piece: int
) -> None:
    path: Path = tmp_path_factory.mktemp("record") / "record.jsonl"  # type: ignore[attr-defined]
    record = Record(path)
    for numbers in done:
        record.add(numbers, [], 1.0, NOW)
    other = Record(path)
    other.commit = "another"
    other.add(range(100), [], 1.0, NOW)
    wanted = range(start, start + many)
    pieces = list(record.left(wanted, piece))
    left = [n for part in pieces for n in part]
    assert left == sorted(set(wanted) - {n for numbers in done for n in numbers})
    assert all(1 <= len(part) <= piece for part in pieces)
