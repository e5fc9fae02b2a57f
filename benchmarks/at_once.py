"""Several runs of the pipeline at once on one installation: `python -m benchmarks.at_once`.

    python -m benchmarks.at_once [--pairs 20] [--tens 5] [--seed 1]

Backfills start ten runs at once, whatever `max_active_runs` says. Each case is a new installation with a simulated
company's exports; two or ten processes run every stage up to the decisions at the same time, half of the pairs at the
same moment, once on a SQLite ledger and once on PostgreSQL. A case is broken if a process fails, an event is there
twice or missing, a run lacks decisions, or a later run at the same folder finds rows that were not read.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import sys
import tempfile
import traceback
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from judges.faults.real import postgresql

AS_OF = datetime(2025, 7, 7, 8, tzinfo=UTC)
STAGES = ("stage_events", "check_events", "build_signals", "check_signals", "score", "route", "check_decisions")
CLEAN = multiprocessing.get_context("forkserver")
"""Every run is a process of its own, begun from one that has read nothing yet."""


def main() -> int:
    """Runs the cases; the exit code is 1 if one of them broke."""
    parser = argparse.ArgumentParser(description="Runs of the pipeline at once on one installation.")
    parser.add_argument("--pairs", type=int, default=20, help="cases of two runs")
    parser.add_argument("--tens", type=int, default=5, help="cases of ten runs")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    CLEAN.set_forkserver_preload(["onetouch.stages", "onetouch.events.staging", "onetouch.quality.check", "ibis"])
    console, wrong = Console(), 0
    table = Table("ledger", "cases", "runs at once", "events", "twice", "missing", "broken runs", "read again")
    with tempfile.TemporaryDirectory(prefix="onetouch-at-once-") as folder:
        company, expected = _company(Path(folder) / "company", args.seed)
        for kind in ("sqlite", "postgresql"):
            for cases, many in ((args.pairs, 2), (args.tens, 10)):
                seen = [_case(kind, company, expected, n, many) for n in range(cases)]
                sums = [sum(case[part] for case in seen) for part in ("events", "twice", "missing", "broken", "again")]
                wrong += sum(sums[1:])
                table.add_row(kind, str(cases), str(many), *(f"{n:,}" for n in sums))
    console.print(table)
    return 1 if wrong else 0


def _company(folder: Path, seed: int) -> tuple[Path, int]:
    """A simulated company's folder, and how many events one run alone keeps of it."""
    from onetouch.simulation import simulate

    simulate(folder, seed=seed, start=AS_OF - timedelta(days=28), until=AS_OF, accounts=60)
    truth = pq.read_table(folder / "truth" / "accounts.parquet").to_pandas()
    truth[["account_id", "name", "domain", "employees"]].to_csv(folder / "accounts.csv", index=False)
    alone = folder.parent / "alone"
    if failed := _together(f"sqlite:///{alone / 'ledger.db'}", alone, folder, [AS_OF]):
        raise RuntimeError(f"the run that is alone fails: {failed}")
    return folder, len(_held(alone))


def _workspace(url: str, home: Path, company: Path) -> Any:
    from onetouch.workspace import open_workspace

    opened = open_workspace(home, exports=company / "exports", environ={"ONETOUCH_LEDGER_URL": url})
    return replace(opened, accounts=company / "accounts.csv")


def _together(url: str, home: Path, company: Path, moments: list[datetime]) -> list[str]:
    """Runs of these moments at once; returns the errors that ended some of them."""
    home.mkdir(parents=True, exist_ok=True)
    together, errors = CLEAN.Barrier(len(moments)), CLEAN.SimpleQueue()
    runs = [CLEAN.Process(target=_run, args=(url, home, company, at, together, errors)) for at in moments]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    return [
        *(errors.get() for _ in runs if not errors.empty()),
        *(f"exit code {run.exitcode}" for run in runs if run.exitcode),
    ]


def _run(url: str, home: Path, company: Path, moment: datetime, together: Any, errors: Any) -> None:
    """One run up to its decisions; what ends it goes to `errors`."""
    from onetouch import stages

    try:
        together.wait(300)
        workspace = _workspace(url, home, company)
        run_id = stages.begin(workspace, moment, moment)
        stages.extract_crm(workspace, run_id)
        stages.extract_events(workspace, run_id, "amplitude")
        for name in STAGES:
            getattr(stages, name)(workspace, run_id)
        workspace.ledger.close()
    except Exception:
        errors.put(traceback.format_exc())


def _held(home: Path) -> list[str]:
    paths = (home / "lake" / "events").glob("*/*.parquet")
    return [one for path in paths for one in pq.read_table(path, partitioning=None)["event_id"].to_pylist()]


def _case(kind: str, company: Path, expected: int, number: int, many: int) -> dict[str, int]:
    home = company.parent / f"{kind}-{many}-{number}"
    home.mkdir()
    same = many == 2 and number % 2 == 1
    moments = [AS_OF + timedelta(hours=0 if same else n) for n in range(many)]
    with nullcontext(f"sqlite:///{home / 'ledger.db'}") if kind == "sqlite" else postgresql() as url:
        failed = _together(url, home, company, moments)
        found = _held(home)
        decided = len(list((home / "lake" / "decisions").glob("*.parquet")))
        with CLEAN.Pool(1) as pool:
            again: int = pool.apply(_later, (url, home, company))
    for error in failed:
        print(error, file=sys.stderr)
    shutil.rmtree(home)
    return {
        "events": len(found),
        "twice": len(found) - len(set(found)),
        "missing": expected - len(set(found)),
        "broken": len(failed) + (len(set(moments)) - decided),
        "again": again,
    }


def _later(url: str, home: Path, company: Path) -> int:
    """How many rows a run of the day after reads, although all had been read."""
    from onetouch import stages

    workspace = _workspace(url, home, company)
    moment = AS_OF + timedelta(days=1)
    run_id = stages.begin(workspace, moment, moment)
    stages.extract_events(workspace, run_id, "amplitude")
    rows: int = stages.stage_events(workspace, run_id)["rows"]["in"]
    workspace.ledger.close()
    return rows


if __name__ == "__main__":
    sys.exit(main())
