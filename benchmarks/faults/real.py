"""`python -m benchmarks.faults.real --kills 50`: kills deliveries at random moments, restarts each, and counts."""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from judges.faults.real import Company, Deliverers, killed, postgresql, sandbox


def main() -> int:
    """Kills and counts; 1 when anything is missing or there twice."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--accounts", type=int, default=12, help="handoffs of each delivery")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="onetouch-killed-")))
        url, ledger_url = stack.enter_context(sandbox(home)), stack.enter_context(postgresql())
        deliverers = Deliverers()
        stack.callback(deliverers.close)
        company = Company.founded(home, url, ledger_url)
        result = killed(company, ledger_url, deliverers, given.kills, given.accounts, given.seed)
        company.ledger.close()
    print(
        f"{result.kills} deliveries killed by SIGKILL at random moments (PostgreSQL, stand-in over HTTP), each started "
        f"again: {result.handoffs} handoffs, {len(result.wrong)} without exactly one task · {result.seconds:.0f} s"
    )
    print(*result.wrong[:20], sep="\n")
    return int(bool(result.wrong))


if __name__ == "__main__":
    sys.exit(main())
