"""What one of several processes does: it lives a seed, or looks for the seed that finds a planted bug."""

from __future__ import annotations

from judges.faults.bugs import BUGS, FOUND
from judges.faults.simulator import Result, simulate


def one(seed: int) -> Result:
    """A seed; its history only when it broke a promise."""
    result = simulate(seed)
    if not result.violations:
        result.history.clear()  # it can be had again
    return result


def hunt(name: str, seeds: int) -> tuple[str, int | None, str]:
    """The first seed that finds the bug, and what it says; the one known to find it is tried before all others."""
    bug = BUGS[name]
    with bug.planted():
        for seed in dict.fromkeys((FOUND.get(name, 0), *range(seeds))):
            for violation in simulate(seed).violations:
                if violation.guarantee in bug.guarantees:
                    return name, seed, str(violation)
    return name, None, ""
