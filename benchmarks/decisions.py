"""Score and decide a million accounts, beside one hand-written SQL statement: `python -m benchmarks.decisions`.

Each contender works in a process of its own on the same synthetic accounts, which are read before the clock starts.
The peer computes score, tier, gates and action and nothing else: no reasons, no obstacles, no ids, nobody assigned
(an account that goes to a rep and one that waits for a rep are one to it). Where both say something they must agree.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow.parquet as pq
from onetouch.lake import Lake
from onetouch.policy import Policy, read_policy
from onetouch.routing import decide, kept
from onetouch.scoring import score_frame
from rich.console import Console
from rich.table import Table

from benchmarks.decisions_sql import statement

AS_OF = datetime(2025, 6, 3, 9, tzinfo=UTC)
SEED, RUN = 20250603, "bench"
COMPARED = ["score", "tier", "gate_icp", "gate_activated", "gate_engagement", "gate_intent", "pql", "action"]


def main() -> None:
    arguments = _arguments()
    if arguments.contender:
        measured = globals()[arguments.contender](arguments.home, arguments.accounts)
        used = resource.getrusage(resource.RUSAGE_SELF)
        peak = used.ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)  # kilobytes, elsewhere bytes
        print(json.dumps({**measured, "peak_mb": peak}))
        return
    with tempfile.TemporaryDirectory(prefix="onetouch-bench-") as folder:
        _compare(Console(), Path(folder), arguments.accounts)


def _compare(console: Console, home: Path, accounts: int) -> None:
    console.print(f"Writing {accounts:,} accounts, with handoffs, touches and previous decisions …")
    _child("accounts", home, accounts)
    ours, sql = _child("onetouch", home, accounts), _child("peer", home, accounts)
    equal = _child("equal", home, accounts)
    table = Table(
        title=f"{accounts:,} accounts → decisions, equal results; {equal['called']:,} for sales",
        caption="×: this project ÷ the row",
    )
    for column in ("", "seconds", "CPU s", "peak MB", "time ×", "memory ×"):
        table.add_column(column, justify="right" if column else "left")
    parts = ("with reasons, obstacles, ids, reps and times", ours), ("hand-written DuckDB SQL, without", sql)
    for name, run in parts:
        table.add_row(
            name, f"{run['seconds']:.1f}", f"{run['cpu']:.1f}", f"{run['peak_mb']:,.0f}",
            f"{ours['seconds'] / run['seconds']:.2f}", f"{ours['peak_mb'] / run['peak_mb']:.2f}",
        )  # fmt: skip
    console.print(table)
    console.print(f"of it score_frame {ours['scored']:.1f} s, decide {ours['seconds'] - ours['scored']:.1f} s")


def rules_of_both() -> Policy:
    """The default policy without what the peer does not know: how ends differ, fresh intent, rules of their own."""
    then = {"lost_days": None, "won_days": None, "untouched_days": None, "new": "signal"}
    return read_policy().changed(
        routing__returns={**then, "hand_raise": False, "same_rep_days": None},
        routing__fresh_intent_hours=None,
        routing__rules={},
    )


def accounts(home: Path, n: int) -> dict[str, float]:
    from benchmarks.decisions_accounts import write

    write(Lake(home), RUN, n, AS_OF, SEED)
    return {}


def onetouch(home: Path, n: int) -> dict[str, float]:
    policy = rules_of_both()
    lake = Lake(home)
    inputs = kept(lake, RUN)
    clock, cpu = time.perf_counter(), time.process_time()
    scores = score_frame(inputs.signals, policy, AS_OF, lake.read("inputs", RUN, "earlier.parquet"))
    scored = time.perf_counter() - clock
    decisions = decide(_with(inputs, scores), policy, AS_OF)
    measured = {"seconds": time.perf_counter() - clock, "cpu": time.process_time() - cpu, "scored": scored}
    assert decisions["decision_id"].is_unique
    passed = scores[[name for name in COMPARED if name not in decisions]]
    both = pd.concat([decisions[["account_id", *(name for name in COMPARED if name in decisions)]], passed], axis=1)
    both[["account_id", *COMPARED]].to_parquet(home / "onetouch.parquet", index=False)
    return measured


def _with(inputs, scores):
    from dataclasses import replace

    return replace(inputs, scores=scores)


def peer(home: Path, n: int) -> dict[str, float]:
    policy = rules_of_both()
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        con.execute(f"CREATE TABLE signals AS FROM '{home}/signals/{RUN}.parquet'")
        for name in ("handoffs", "touches", "previous"):
            con.execute(f"CREATE TABLE {name} AS FROM '{home}/inputs/{RUN}/{name}.parquet'")
        clock, cpu = time.perf_counter(), time.process_time()
        con.execute(f"CREATE TABLE decisions AS {statement(policy)}", {"as_of": AS_OF})
        measured = {"seconds": time.perf_counter() - clock, "cpu": time.process_time() - cpu}
        con.execute(f"COPY (FROM decisions ORDER BY account_id) TO '{home}/peer.parquet'")
    return measured


def equal(home: Path, n: int) -> dict[str, float]:
    ours, theirs = (pq.read_table(home / f"{name}.parquet").to_pandas() for name in ("onetouch", "peer"))
    assert len(ours) == n
    called = ours["action"].isin(["sales_now", "hold_capacity"])
    ours["action"] = ours["action"].where(~called, "sales")
    pd.testing.assert_frame_equal(ours, theirs[ours.columns], check_dtype=False)
    return {"called": int(called.sum()), **{str(k): int(v) for k, v in ours["action"].value_counts().items()}}


def _child(contender: str, home: Path, n: int) -> dict[str, float]:
    """Runs one contender in its own process; what it measured. Raises SystemExit with its output when it fails."""
    command = [sys.executable, "-m", "benchmarks.decisions", contender, f"--home={home}", f"--accounts={n}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1], check=False)
    if done.returncode:
        raise SystemExit(f"{contender} failed:\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("contender", nargs="?", help="(internal) the work of one child process")
    parser.add_argument("--accounts", type=int, default=1_000_000)
    parser.add_argument("--home", type=Path, help="(internal)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
