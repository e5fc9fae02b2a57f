"""Account signals of this project beside hand-written DuckDB SQL and Polars: `python -m benchmarks.signals`.

One run on one machine: ten million simulated events in a temporary folder, every contender in a process of its own,
over the same Parquet files, with equal results or the benchmark fails. Seconds are those of the work, imports left
out; CPU seconds and peak memory are those of the whole process. This project computes all its signals and leaves
daily activity behind; the peers compute the ones in COMMON.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, date, datetime, timedelta
from importlib import import_module
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

COMMON = (
    "users", "active_users_7d", "active_users", "active_days_7d", "active_days", "events_7d", "events",
    "features_used", "integrations", "milestones_done", "developer_days", "invites", "pricing_views",
    "premium_attempts", "exports",
)  # fmt: skip
"""Signals all contenders compute."""

DAYS, UNTIL, SEED = 60, date(2025, 6, 1), 20250601


def main() -> None:
    arguments = _arguments()
    if arguments.contender:
        _work(arguments)
        return
    console = Console()
    with tempfile.TemporaryDirectory(prefix="onetouch-bench-") as folder:
        home = Path(folder)
        _compare(console, home, arguments.events, arguments.accounts)


def _compare(console: Console, home: Path, events: int, accounts: int) -> None:
    a_day = -(-events // DAYS)
    console.print(f"Writing {a_day * DAYS:,} events of {DAYS} days and about {accounts:,} accounts …")
    _child("generate", home, UNTIL, accounts=accounts, events=a_day)
    hold_back = home / "lake" / "events" / f"event_date={UNTIL}"  # the day after, not there yet
    shutil.move(hold_back, home / "next")

    ours = _child("onetouch", home, UNTIL)
    sql = _child("duckdb", home, UNTIL)
    polars = _child("polars", home, UNTIL)
    for peer in ("duckdb", "polars"):
        _child("equal", home, UNTIL, left="onetouch", right=peer)

    shutil.move(home / "next", hold_back)
    tomorrow = UNTIL + timedelta(days=1)
    day = _child("onetouch", home, tomorrow)
    shutil.move(home / "onetouch.parquet", home / "one_day_more.parquet")
    shutil.rmtree(home / "lake" / "activity")
    rebuild = _child("onetouch", home, tomorrow)
    _child("equal", home, tomorrow, left="onetouch", right="one_day_more")

    peers = Table(
        title=f"{a_day * DAYS:,} events → signals of {ours['accounts']:,} accounts, equal results",
        caption="×: this project ÷ the row",
    )
    for column in ("", "seconds", "CPU s", "peak MB", "time ×", "memory ×"):
        peers.add_column(column, justify="right" if column else "left")
    for name, run in (("this project", ours), ("hand-written DuckDB SQL", sql), ("Polars, streaming", polars)):
        peers.add_row(
            name, f"{run['seconds']:.1f}", f"{run['cpu']:.1f}", f"{run['peak_mb']:,.0f}",
            f"{ours['seconds'] / run['seconds']:.2f}", f"{ours['peak_mb'] / run['peak_mb']:.2f}",
        )  # fmt: skip
    console.print(peers)
    more = Table(title=f"One more day ({a_day:,} events)")
    for column in ("", "seconds", "CPU s", "peak MB", "dates rebuilt", "of a rebuild"):
        more.add_column(column, justify="right" if column else "left")
    for name, run in (("the new day only", day), ("full rebuild", rebuild)):
        more.add_row(
            name, f"{run['seconds']:.1f}", f"{run['cpu']:.1f}", f"{run['peak_mb']:,.0f}", f"{run['dates_rebuilt']}",
            f"{run['seconds'] / rebuild['seconds']:.0%}",
        )  # fmt: skip
    console.print(more)


def _child(contender: str, home: Path, until: date, **options: object) -> dict[str, float]:
    """Runs one contender in its own process; what it measured. Raises SystemExit with its output when it fails."""
    given = [f"--{name}={value}" for name, value in options.items()]
    command = [sys.executable, "-m", "benchmarks.signals", contender, f"--home={home}", f"--until={until}", *given]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1], check=False)
    if done.returncode:
        raise SystemExit(f"{contender} failed:\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def _work(arguments: argparse.Namespace) -> None:
    """The child's side: does the work and prints what it took as one line of JSON."""
    home, until = arguments.home, arguments.until
    events = sorted(str(p) for p in (home / "lake" / "events").rglob("*.parquet"))
    measured: dict[str, float] = {}
    if arguments.contender == "generate":
        from benchmarks.generate import generate

        generate(
            home / "lake", seed=SEED, days=DAYS + 1, until=until + timedelta(days=1),
            accounts=arguments.accounts, events_a_day=arguments.events,
        )  # fmt: skip
    elif arguments.contender == "equal":
        from benchmarks.equal import assert_equal

        assert_equal(home / f"{arguments.left}.parquet", home / f"{arguments.right}.parquet", COMMON)
    else:
        compute = import_module(f"benchmarks.{arguments.contender}_signals").compute
        start = time.perf_counter()
        table, extra = compute(home / "lake", events, datetime(until.year, until.month, until.day, tzinfo=UTC))
        measured = {"seconds": time.perf_counter() - start, "accounts": len(table), **extra}
        write = pq.write_table if isinstance(table, pa.Table) else type(table).write_parquet
        write(table, home / f"{arguments.contender}.parquet")
    used = resource.getrusage(resource.RUSAGE_SELF)
    peak = used.ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)  # kilobytes, elsewhere bytes
    print(json.dumps({**measured, "peak_mb": peak, "cpu": used.ru_utime + used.ru_stime}))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("contender", nargs="?", help="(internal) the work of one child process")
    parser.add_argument("--events", type=int, default=10_000_000, help="events in all; at least ten million count")
    parser.add_argument("--accounts", type=int, default=20_000)
    parser.add_argument("--home", type=Path, help="(internal)")
    parser.add_argument("--until", type=date.fromisoformat, help="(internal)")
    parser.add_argument("--left", help="(internal)")
    parser.add_argument("--right", help="(internal)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
