"""`python -m benchmarks.faults`: lives many seeds and prints what they came to; exits with 1 when a promise was broken.

`--seed N` replays one seed and prints its history; `--bugs` plants each known bug and looks for the seed that finds it.
`--record` adds each piece of the range to benchmarks/results/faults.jsonl and leaves out what is there of this commit,
so that a run of hours can be done in pieces and goes on where it was ended.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.faults.many import hunt, one
from benchmarks.record import HERE, Record
from judges.faults.bugs import BUGS
from judges.faults.oracle import GUARANTEES
from judges.faults.simulator import Result, simulate

RECORD, PIECE = HERE / "benchmarks" / "results" / "faults.jsonl", 100
"""Where pieces are recorded, and how many seeds a piece has."""

SHOWN = 5
"""Histories of failing seeds that are printed."""


def main() -> int:
    """1 when a guarantee was violated, or a planted bug was not found."""
    arguments = _arguments()
    console = Console(soft_wrap=True, highlight=False)
    if arguments.seed is not None:
        result = simulate(arguments.seed)
        console.print(*result.history, sep="\n", markup=False)
        return int(bool(result.violations))
    if arguments.bugs:
        return _plant(console, arguments.names or list(BUGS), arguments.seeds, arguments.jobs)
    seeds = range(arguments.start, arguments.start + arguments.seeds)
    return _recorded(console, seeds, arguments.jobs) if arguments.record else _many(console, seeds, arguments.jobs)


def _recorded(console: Console, seeds: range, jobs: int) -> int:
    """Lives what the record lacks of these seeds, piece by piece."""
    record = Record(RECORD)
    for piece in record.left(seeds, PIECE):
        begun = time.perf_counter()
        broken = [result for result in _results(piece, jobs) if result.violations]
        for result in broken:
            console.print(f"seed {result.seed}: {result.violations[0]}")
        failed = sorted(result.seed for result in broken)
        record.add(piece, failed, time.perf_counter() - begun, datetime.now(UTC))
        console.print(
            f"{piece.start:,} to {piece.stop - 1:,}: {len(failed)} failed, {time.perf_counter() - begun:,.0f} s"
        )
    lines = [line for line in record.lines() if line["commit"] == record.commit]
    failed = sorted({seed for line in lines for seed in line["failed"] if seed in seeds})
    console.print(f"{record.commit}: {len(seeds):,} seeds, of which {len(failed):,} broke a promise: {failed[:50]}")
    return int(bool(failed))


def _many(console: Console, seeds: range, jobs: int) -> int:
    begun = time.perf_counter()
    seen: Counter[str] = Counter()
    failed: list[Result] = []
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("seeds", total=len(seeds))
        for number, result in enumerate(_results(seeds, jobs), 1):
            progress.advance(task)
            seen.update(result.counted)
            if result.violations:
                failed.append(result)
                console.print(f"seed {result.seed}: {result.violations[0]}")
            if not console.is_terminal and number % 1000 == 0:
                console.print(f"{number:,} seeds, {time.perf_counter() - begun:,.0f} s, {len(failed)} failed")
    seconds = time.perf_counter() - begun
    _print(console, seeds, seen, failed, seconds)
    for result in sorted(failed, key=lambda r: r.seed)[:SHOWN]:
        console.print(f"\n── seed {result.seed} (again: python -m benchmarks.faults --seed {result.seed})")
        console.print(*result.history, sep="\n", markup=False)
    return int(bool(failed))


def _plant(console: Console, names: list[str], seeds: int, jobs: int) -> int:
    """Plants each bug and lives seeds until one finds it."""
    table = Table(title="Planted bugs")
    for column in ("bug", "what is wrong", "found by seed", "promise broken"):
        table.add_column(column)
    missed = 0
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for name, seed, violation in pool.imap_unordered(partial(hunt, seeds=seeds), names):
            missed += seed is None
            table.add_row(name, BUGS[name].wrong, "none" if seed is None else str(seed), violation)
            if not console.is_terminal:
                console.print(f"{name}: {seed}: {violation}")
    console.print(table)
    return int(bool(missed))


def _results(seeds: range, jobs: int) -> Iterator[Result]:
    gc.freeze()
    if jobs == 1:
        yield from map(one, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(one, seeds, chunksize=10)


def _print(console: Console, seeds: range, seen: Counter[str], failed: list[Result], seconds: float) -> None:
    console.print(
        f"Seeds {seeds.start:,} to {seeds.stop - 1:,}: {len(seeds):,}, of which {len(failed):,} broke a promise · "
        f"{seconds:,.0f} s, {seconds / max(1, len(seeds)) * 1000:.0f} ms a seed"
    )
    lived = Table(title="What happened")
    lived.add_column("")
    lived.add_column("times", justify="right")
    for what, count in sorted(seen.items()):
        lived.add_row(what, f"{count:,}")
    console.print(lived)
    kept = Table(title="Violations")
    kept.add_column("guarantee")
    kept.add_column("seeds", justify="right")
    for number, name in GUARANTEES.items():
        broken = sum(any(v.guarantee == number for v in result.violations) for result in failed)
        kept.add_row(f"{number} {name}", f"{broken:,}")
    console.print(kept)
    if failed:
        console.print("failing seeds:", ", ".join(str(s) for s in sorted(r.seed for r in failed)[:50]))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--seeds", type=int, default=1_000)
    parser.add_argument("--from", dest="start", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--seed", type=int, help="replay this one and print its history")
    parser.add_argument("--record", action="store_true", help="in pieces, with a record of what was covered")
    parser.add_argument("--bugs", action="store_true", help="plant each known bug and find it")
    parser.add_argument("names", nargs="*", help="with --bugs: only these")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
