"""`python -m benchmarks.faults.real --kills 50`: kills deliveries at random moments, restarts each, and counts.

Real processes, killed by SIGKILL, with PostgreSQL and the stand-in of `--crm` over HTTP. `--restarts` restarts the
database server in mid-delivery at every tenth kill. `--record` adds each piece of the range to a file in
benchmarks/results and leaves out what is there of this commit, so that a run of hours goes on where it was ended.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.record import HERE, Record
from judges.faults.crms import SIDES
from judges.faults.real import Company, Deliverers, Killed, killed, postgresql_server, sandbox

PIECE = 20
"""Kills of a piece, which has a stand-in and a database server of its own."""


def main() -> int:
    """Kills and counts; 1 when anything is missing or there twice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--from", dest="start", type=int, default=0, help="number of the first kill")
    parser.add_argument("--accounts", type=int, default=12, help="handoffs of each delivery")
    parser.add_argument("--crm", choices=list(SIDES), default="salesforce")
    parser.add_argument("--restarts", action="store_true", help="restart the database server at every tenth kill")
    parser.add_argument("--record", action="store_true", help="in pieces, with a record of what was covered")
    given = parser.parse_args()
    numbers = range(given.start, given.start + given.kills)
    name = f"kills-{given.crm}{'-restarts' if given.restarts else ''}"
    record = Record(HERE / "benchmarks" / "results" / f"{name}.jsonl")
    if given.record:
        pieces = list(record.left(numbers, PIECE))
    else:
        pieces = [numbers[start : start + PIECE] for start in range(0, len(numbers), PIECE)]
    failed = 0
    for piece in pieces:
        begun = time.perf_counter()
        result = _piece(piece, given.crm, given.accounts, given.restarts)
        seconds = time.perf_counter() - begun
        failed += len(result.failed)
        cut = f", {result.restarts} restarts of the server ({result.broken_off} deliveries broken off by one)"
        print(
            f"{piece.start:,} to {piece.stop - 1:,}: {result.kills} deliveries killed by SIGKILL at random moments "
            f"(PostgreSQL, {given.crm}'s stand-in over HTTP){cut if given.restarts else ''}, each started again: "
            f"{result.handoffs} handoffs, {len(result.wrong)} without exactly one task · {seconds:.0f} s, "
            f"{seconds / result.kills:.1f} s a kill",
            *result.wrong[:20],
            sep="\n",
            flush=True,
        )
        if given.record:
            record.add(piece, result.failed, seconds, datetime.now(UTC))
    if given.record:
        lines = [line for line in record.lines() if line["commit"] == record.commit]
        failed = len({number for line in lines for number in line["failed"] if number in numbers})
        print(f"{record.commit}: {len(numbers):,} kills, after {failed:,} of which something was wrong")
    return int(bool(failed))


def _piece(numbers: range, crm: str, accounts: int, restarts: bool) -> Killed:
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="onetouch-killed-")))
        url, server = stack.enter_context(sandbox(home)), stack.enter_context(postgresql_server())
        deliverers = Deliverers()
        stack.callback(deliverers.close)
        company = Company.founded(home, url, server.url, crm)
        stack.callback(company.ledger.close)
        return killed(company, server.url, deliverers, numbers, accounts, server.restart if restarts else None)


if __name__ == "__main__":
    sys.exit(main())
