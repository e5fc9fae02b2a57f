"""`python -m benchmarks.model`: explores the model of the delivery, or checks histories of the simulator against it.

`--histories N` simulates N seeds and checks that what happened to every handoff is a path of the model; exits with 1 if
one is not. `--record` adds each piece to benchmarks/results/model.jsonl and leaves out what is there of this commit.
`--bugs` plants each bug in what the model takes from the code, and prints the shortest way to the promise it breaks.
"""

from __future__ import annotations

import argparse
import sys
import time
from datetime import UTC, datetime

from benchmarks.record import HERE, Record
from judges.model.bugs import ALONE, BUGS, HELD, SMALL, TWICE
from judges.model.explore import explore
from judges.model.traces import Trace, changes, trace

RECORD, PIECE = HERE / "benchmarks" / "results" / "model.jsonl", 100
"""Where pieces are recorded, and how many seeds a piece has."""


def main() -> int:
    """1 when a promise is broken, a bug is not found, or a history is no path of the model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--histories", type=int, default=0, help="how many seeds to simulate and check")
    parser.add_argument("--from", dest="start", type=int, default=0)
    parser.add_argument("--record", action="store_true", help="in pieces, with a record of what was covered")
    parser.add_argument("--bugs", action="store_true", help="plant each bug and find it")
    given = parser.parse_args()
    if given.bugs:
        return _bugs()
    if given.histories:
        seeds = range(given.start, given.start + given.histories)
        return _recorded(seeds) if given.record else _checked(seeds)
    explored = [explore(bound) for bound in (ALONE, HELD, SMALL, TWICE)]
    print(*explored, sep="\n")
    return int(any(one.broken for one in explored))


def _bugs() -> int:
    missed = 0
    for name, bug in BUGS.items():
        found = explore(bug.within, bug.code())
        missed += found.broken is None
        print(f"── {name}: {bug.wrong}\n{found}\n")
    return int(bool(missed))


def _checked(seeds: range) -> int:
    begun = time.perf_counter()
    known = sum(len(after) for after in changes().values())
    print(f"the model makes {known:,} changes of {len(changes()):,} situations, {time.perf_counter() - begun:,.0f} s")
    begun = time.perf_counter()
    traces = [_told(trace(seed)) for seed in seeds]
    strange = [one.seed for one in traces if one.strange]
    print(
        f"seeds {seeds.start:,} to {seeds.stop - 1:,}: {len(seeds) - len(strange):,} of {len(seeds):,} histories are "
        f"paths of the model; {sum(one.handoffs for one in traces):,} handoffs, "
        f"{sum(one.steps for one in traces):,} changes, {time.perf_counter() - begun:,.0f} s"
    )
    return int(bool(strange))


def _recorded(seeds: range) -> int:
    record = Record(RECORD)
    for piece in record.left(seeds, PIECE):
        begun = time.perf_counter()
        failed = [seed for seed in piece if _told(trace(seed)).strange]
        seconds = time.perf_counter() - begun
        record.add(piece, failed, seconds, datetime.now(UTC))
        print(f"{piece.start:,} to {piece.stop - 1:,}: {len(failed)} are no path, {seconds:,.0f} s", flush=True)
    lines = [line for line in record.lines() if line["commit"] == record.commit]
    failed = sorted({seed for line in lines for seed in line["failed"] if seed in seeds})
    print(f"{record.commit}: {len(seeds) - len(failed):,} of {len(seeds):,} histories are paths: not {failed[:50]}")
    return int(bool(failed))


def _told(one: Trace) -> Trace:
    for change in one.strange:
        print(f"seed {one.seed}: {change}", flush=True)
    return one


if __name__ == "__main__":
    sys.exit(main())
