"""What a command costs before it does anything: its CPU seconds, and the libraries whose import takes longest.

    python -m benchmarks.imports [--home DIR] [--repeat N]

On an installation in which one run has decided about a few hundred accounts; it is made here unless one is given. CPU
seconds are user and system time, the least of several runs: the first one reads the disk, and other processes only
ever add. A library's share is what its own modules take by `python -X importtime`, whoever imports them (elapsed time:
compare the shares, not their sum).
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from onetouch import audit, simulation
from onetouch.workspace import open_workspace
from rich.console import Console
from rich.table import Table

AS_OF = datetime(2026, 3, 30, 14, tzinfo=UTC)
PYTHON = [sys.executable, "-m", "onetouch.cli"]
LIMIT = 1.2
"""CPU seconds that `status`, `decisions` and `explain` may take."""


def installation(folder: Path, accounts: int) -> Path:
    """A home in which a simulated company's events have been decided on, without a CRM."""
    company, home = folder / "company", folder / "home"
    simulation.simulate(company, seed=7, start=AS_OF - timedelta(days=28), until=AS_OF, accounts=accounts)
    crm = json.loads((company / "crm.json").read_text())["Account"]
    domains = {account["Website"].removeprefix("https://www."): account for account in crm if account.get("Website")}
    with (folder / "accounts.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["account_id", "name", "domain"])
        rows.writerows([account["Id"], account["Name"], domain] for domain, account in domains.items())
    options = ["--exports", company / "exports", "--accounts", folder / "accounts.csv", "--as-of", AS_OF.isoformat()]
    run([*PYTHON, "run", "--home", home, *options, "--dry-run", "--json"])
    return home


def run(command: list[Any]) -> str:
    """Runs it to its end; gives what it wrote to stderr. Raises SystemExit with that when it fails."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stderr}")
    return done.stderr


def cpu_seconds(command: list[Any]) -> float:
    """User and system time of one run."""

    def used() -> float:
        spent = resource.getrusage(resource.RUSAGE_CHILDREN)
        return spent.ru_utime + spent.ru_stime

    before = used()
    run(command)
    return used() - before


def dearest(command: list[Any], most: int = 5) -> str:
    """The libraries whose modules take longest to import, with milliseconds."""
    took: Counter[str] = Counter()
    for line in run([sys.executable, "-X", "importtime", *command[1:]]).splitlines():
        own, _, name = line.removeprefix("import time:").split("|") if line.startswith("import time:") else ("", "", "")
        if own.strip().isdigit():
            took[name.strip().partition(".")[0]] += int(own)
    return ", ".join(f"{name} {microseconds / 1000:.0f}" for name, microseconds in took.most_common(most))


def main() -> None:
    """Prints a row a command; exit 1 when one that has a limit is over it."""
    parser = argparse.ArgumentParser(prog="benchmarks.imports", description="What each command costs to start.")
    parser.add_argument("--home", type=Path, help="an installation in which a run has decided something")
    parser.add_argument("--repeat", type=int, default=5, help="runs of each command, of which the least counts")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = given.home or installation(Path(folder), accounts=200)
        workspace = open_workspace(home)
        decided = audit.decision_rows(workspace.lake, audit.run_of(workspace.lake, workspace.ledger))
        policy = Path(folder, "policy.yaml")
        policy.write_text("{}")
        limited: dict[str, list[Any]] = {
            "status": ["status"],
            "decisions": ["decisions"],
            "explain": ["explain", decided[0]["account_id"]],
        }
        others = {"--help": ["--help"], "outbox": ["outbox"], "policy check": ["policy", "check", policy]}
        table = Table("command", "CPU seconds", "limit", "dearest imports, in ms", box=None)
        for column in (1, 2):
            table.columns[column].justify = "right"
        over = []
        for name, words in (limited | others).items():
            command = [*PYTHON, "--home", home, *words]
            seconds = min(cpu_seconds(command) for _ in range(given.repeat))
            limit = LIMIT if name in limited else None
            if limit and seconds > limit:
                over.append(name)
            table.add_row(name, f"{seconds:.2f}", f"{limit:g}" if limit else "", dearest(command))
    console = Console()
    console.print(table)
    compiled = "without" if sys.dont_write_bytecode else "with"
    console.print(f"{len(decided):,} accounts, {os.cpu_count()} cores, Python started {compiled} writing bytecode")
    if over:
        raise SystemExit(f"over the limit of {LIMIT:g} s: {', '.join(over)}")


if __name__ == "__main__":
    main()
