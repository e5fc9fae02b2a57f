"""Delivering 10,000 handoffs to a Salesforce stand-in over HTTP, beside a loop over simple-salesforce.

`python -m benchmarks.delivery`. Both write the same fields of the account, then the task. The loop looks at nothing
before, keeps nothing, and makes duplicates when it is run again; this project opens the handoffs in its ledger,
rechecks checkouts, opportunities, deletions and touches before it sends, and keeps each row's outcome. The loop is
measured on a slice: its calls are exactly as many a handoff, its time is scaled.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import simple_salesforce
from onetouch.connections import Connection
from onetouch.crm.salesforce import Salesforce
from onetouch.crm.salesforce.fields import context_fields, task_fields
from onetouch.delivery import deliver_tasks
from onetouch.handoff import account_context, task_content
from onetouch.lake.rows import rows_where
from onetouch.ledger import Run
from requests import Session
from requests.adapters import HTTPAdapter
from rich.console import Console
from rich.table import Table

from judges.faults.real import Company, sandbox

MOST_CALLS = 25
"""Calls in all, besides sign-in and describe, that 10,000 handoffs may take."""


@dataclass
class Measured:
    """Calls of the API, besides sign-in and describe, by what they are; and seconds."""

    calls: dict[str, int]
    seconds: float

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.calls.values())


def main() -> int:
    """1 when it took too many calls, or a handoff has no task."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--handoffs", type=int, default=10_000)
    parser.add_argument("--slice", type=int, default=200, help="handoffs of the loop")
    given = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory(prefix="onetouch-bench-") as folder:
        home = Path(folder)
        with sandbox(home) as url:
            company = Company.founded(home, url, f"sqlite:///{home}/ledger.db")
            console.print(f"Writing {given.handoffs:,} accounts and decisions …")
            loop = _measured(company, company.decide(given.slice), _loop)
            run = company.decide(given.handoffs)
            ours = _measured(company, run, _ours)
            tasks = company.get("state")["tasks"]
            company.ledger.close()
    scale = given.handoffs / given.slice
    table = Table(title=f"{given.handoffs:,} handoffs into Salesforce, context and task each")
    for column in ("", "calls", "seconds", "calls ×", "time ×"):
        table.add_column(column, justify="right" if column else "left")
    table.add_row("this project, recheck included", f"{ours.total:,}", f"{ours.seconds:.0f}", "1", "1")
    table.add_row(
        f"simple-salesforce in a loop ({given.slice:,} measured)", f"{loop.total * scale:,.0f}",
        f"{loop.seconds * scale:,.0f}", f"{loop.total * scale / ours.total:,.0f}",
        f"{loop.seconds * scale / ours.seconds:.1f}",
    )  # fmt: skip
    console.print(table)
    console.print("calls:", ", ".join(f"{n} {what}" for what, n in sorted(ours.calls.items(), key=lambda c: -c[1])))
    missing = given.handoffs + given.slice - len(tasks)
    if missing or ours.total > MOST_CALLS:
        console.print(f"{missing:,} tasks missing; {ours.total:,} calls, {MOST_CALLS} at most")
    return int(bool(missing) or ours.total > MOST_CALLS)


def _measured(company: Company, run: Run, deliver: Any) -> Measured:
    before = _calls(company)
    begun = time.perf_counter()
    deliver(company, run)
    seconds = time.perf_counter() - begun
    after = _calls(company)
    calls = {what: n - before.get(what, 0) for what, n in after.items() if n > before.get(what, 0)}
    return Measured(calls, seconds)


def _calls(company: Company) -> dict[str, int]:
    counted: dict[str, int] = {}
    for call in company.get("log")["calls"]:
        path = call["path"].partition("/services/data/")[2].partition("/")[2]
        if call["api"] == "salesforce" and not path.endswith("describe"):
            what = f"{call['method']} {path.partition('?')[0]}"
            counted[what] = counted.get(what, 0) + call["n"]
    return counted


def _ours(company: Company, run: Run) -> None:
    extra = {"instance_url": company.url, "consumer_key": "sandbox-key", "consumer_secret": "sandbox-secret"}
    policy = company.policy
    crm = Salesforce(
        Connection("salesforce_default", extra=extra),
        bulk_above=policy.delivery.bulk_above,
        api_reserve=policy.delivery.api_reserve,
    )
    summary = deliver_tasks(company.lake, company.ledger, policy, run, crm, recheck=lambda ids: {}, held=None)
    assert summary["delivered"] == summary["to_send"], summary


class _Plain(HTTPAdapter):
    """Speaks http to the stand-in where simple-salesforce insists on https."""

    def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        request.url = request.url.replace("https:", "http:", 1)
        return super().send(request, *args, **kwargs)


def _loop(company: Company, run: Run) -> None:
    """As it is usually written: update the account, create the task, next."""
    session = Session()
    session.trust_env = False
    session.mount("https://", _Plain())
    host = company.url.removeprefix("http://")
    token = session.post(
        f"https://{host}/services/oauth2/token",
        data={"grant_type": "client_credentials"},
        auth=("sandbox-key", "sandbox-secret"),
    ).json()["access_token"]
    sf = simple_salesforce.Salesforce(session_id=token, instance=host, session=session, version="62.0")
    decisions = rows_where(company.lake, "decisions", run.run_id, "action", ["sales_now"])
    ids = [row["account_id"] for row in decisions]
    signals = {row["account_id"]: row for row in rows_where(company.lake, "signals", run.run_id, "account_id", ids)}
    for decision in decisions:
        known = signals[decision["account_id"]]
        sf.Account.update(decision["crm_account_id"], context_fields(account_context(decision, known, company.policy)))
        task = task_fields(task_content(decision, known, company.policy))
        sf.Task.create(task | {"OwnerId": decision["owner_id"], "WhatId": decision["crm_account_id"]})


if __name__ == "__main__":
    sys.exit(main())
