"""Every situation comes out as expected; each is played as `python -m benchmarks.situations` plays it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.situations.__main__ import known
from benchmarks.situations.situation import SITUATIONS, Seen, Stage, situation
from tests.delivery.world import Org


@pytest.mark.parametrize("name", known())
def test_it_comes_out_as_expected(name: str, org: Org, new_ledger: Path, tmp_path: Path) -> None:
    seen = SITUATIONS[name].play(Stage(org, new_ledger, tmp_path / name))
    assert seen.holds, f"{SITUATIONS[name].expected} Seen: {seen.words}"


def test_each_says_where_it_is_from_and_what_should_come_of_it() -> None:
    for told in known().values():
        assert told.source and told.happens.endswith(".") and told.expected.endswith("."), told.name


def test_a_name_is_taken_once() -> None:
    (taken, *_) = known()

    def play(_: Stage) -> Seen:
        return Seen(True, "")

    play.__name__ = taken
    with pytest.raises(ValueError, match=taken):
        situation(source="ours", happens="Nothing.", expected="Nothing.")(play)
