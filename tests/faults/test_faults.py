"""Guarantees 1–6, 8 and 9 under faults: seeds without a violation, and planted bugs that do not pass unseen."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from judges.faults.bugs import BUGS, FOUND
from judges.faults.simulator import simulate

AT_ONCE = 24
"""Seeds of one test, of which each takes about half a second."""

SHORT, ALL = 48, 480
"""Seeds that `make test` lives, and those of `make test-all`; `make faults` lives 10,000."""


@pytest.mark.parametrize(
    "first",
    [pytest.param(n, marks=pytest.mark.long if n >= SHORT else ()) for n in range(0, ALL, AT_ONCE)],
)
def test_no_seed_breaks_a_promise(first: int) -> None:
    lived = [simulate(seed) for seed in range(first, first + AT_ONCE)]
    broken = {result.seed: [str(v) for v in result.violations] for result in lived if result.violations}
    assert broken == {}, "replay: python -m benchmarks.faults --seed N"
    assert sum(result.counted["tasks"] for result in lived) > 10, "seeds in which nothing is sent would prove nothing"


@pytest.mark.parametrize("name", sorted(FOUND))
def test_a_planted_bug_is_found(name: str) -> None:
    """By the seed that is listed; a change of the product shifts what a seed draws, then by one of the first."""
    with BUGS[name].planted():
        for seed in (FOUND[name], *range(300)):
            broken = {violation.guarantee for violation in simulate(seed).violations}
            if broken & set(BUGS[name].guarantees):
                return
    pytest.fail(f"{name} is not found any more; --bugs {name} looks further")


def test_enough_bugs_are_planted() -> None:
    assert len(FOUND) >= 12
    assert set(FOUND) <= set(BUGS)


def test_the_page_says_which_seed_finds_which_bug() -> None:
    page = (Path(__file__).parents[2] / "docs" / "faults.md").read_text(encoding="utf-8")
    rows = {
        name: (wrong, int(seed))
        for name, wrong, seed in re.findall(r"^\| ([a-z-]+) \| (.+) \| (\d+) \| \d+ \|$", page, re.M)
    }
    assert rows == {name: (BUGS[name].wrong, seed) for name, seed in FOUND.items()}
    [rest] = re.findall(r"found by none of the first seeds: ([a-z, -]+)\.", page)
    assert set(rest.split(", ")) == set(BUGS) - set(FOUND)


def test_a_replay_is_the_same_to_the_letter() -> None:
    first, again = simulate(7), simulate(7)
    assert first.history == again.history
    assert len(first.history) > 50
    assert simulate(8).history != first.history
