"""A small company against a real stand-in of Salesforce and Slack, over HTTP, with a real ledger."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import requests
from onetouch.chat.slack import Slack
from onetouch.connections import Connection
from onetouch.consent import read_listed
from onetouch.crm.salesforce import Salesforce
from onetouch.crm_sync import extract_crm
from onetouch.delivery import deliver_tasks
from onetouch.events import Checkout
from onetouch.lake import Lake
from onetouch.ledger import Handoff, Ledger, Run
from onetouch.policy import Policy, read_policy
from onetouch.sandbox.fields import make_id
from sqlalchemy import event
from tenacity import wait_none

AS_OF = datetime(2025, 11, 18, 10, tzinfo=UTC)
BUYING = Checkout(bought=False, at=AS_OF + timedelta(minutes=2))
OWNER, OTHER = make_id("005", 101), make_id("005", 102)


class Killed(BaseException):
    """The process dies here: nothing catches this."""


class Effects:
    """Counts what another process could see, and dies at one of them."""

    def __init__(self) -> None:
        self.count, self.die_at = 0, None

    def happens(self) -> None:
        self.count += 1
        if self.count == self.die_at:
            raise Killed

    def reset(self, die_at: int | None) -> None:
        self.count, self.die_at = 0, die_at


class MortalLedger(Ledger):
    """A ledger that may die before and after each commit."""

    effects: Effects | None = None

    @contextmanager
    def writing(self) -> Iterator[Any]:
        if self.effects:
            self.effects.happens()
        with super().writing() as connection:
            yield connection
        if self.effects:
            self.effects.happens()


class MortalSession(requests.Session):
    """A session that may die before and after each request."""

    effects: Effects | None = None

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        if self.effects:
            self.effects.happens()
        answer = super().send(request, **kwargs)
        if self.effects:
            self.effects.happens()
        return answer


class Org:
    """The stand-in: its process, its tooling, and a way back to empty."""

    def __init__(self, url: str, home: Path) -> None:
        self.url, self.home = url, home

    def post(self, what: str, document: Any) -> None:
        requests.post(f"{self.url}/_sandbox/{what}", json=document, timeout=10).raise_for_status()

    def clock(self, at: datetime) -> None:
        self.post("clock", {"now": at.isoformat()})

    def state(self) -> dict[str, Any]:
        return requests.get(f"{self.url}/_sandbox/state", timeout=10).json()

    def calls(self) -> list[dict[str, Any]]:
        return requests.get(f"{self.url}/_sandbox/log", timeout=10).json()["calls"]

    def faults(self) -> list[dict[str, Any]]:
        return requests.get(f"{self.url}/_sandbox/faults", timeout=10).json()

    def empty_faults(self) -> None:
        requests.delete(f"{self.url}/_sandbox/faults", timeout=10).raise_for_status()

    def expire_sessions(self) -> None:
        requests.delete(f"{self.url}/_sandbox/sessions", timeout=10).raise_for_status()

    def tasks(self) -> list[dict[str, Any]]:
        return self.state()["tasks"]

    def posts(self) -> list[dict[str, Any]]:
        return self.state()["posts"]

    def account(self, crm_id: str) -> dict[str, Any]:
        db = sqlite3.connect(self.home / "sandbox.sqlite")
        db.row_factory = sqlite3.Row
        row = dict(db.execute("SELECT * FROM Account WHERE Id = ?", (crm_id,)).fetchone())
        db.close()
        return row

    def sql(self, statement: str, *values: Any) -> int:
        """Changes the stand-in's state behind its API; gives how many rows changed."""
        with sqlite3.connect(self.home / "sandbox.sqlite", timeout=10) as db:
            changed = db.execute(statement, values).rowcount
        db.close()
        return changed

    def empty(self) -> None:
        db = sqlite3.connect(self.home / "sandbox.sqlite", timeout=10)
        for table in (
            "Task", "Event", "EventRelation", "EmailMessage", "Opportunity", "Contact", "Lead", "Account", "job",
            "job_row", "session", "fault", "call", "message", "file", "setting",
            "audience_request", "audience_member", "audience_odd",
        ):  # fmt: skip
            db.execute(f"DELETE FROM {table}")
        db.execute("DELETE FROM User WHERE Email NOT LIKE 'integration%'")
        db.commit()
        db.close()
        self.post("rules", {})
        self.post("limits", {"slack_per_second": 1000, "slack_burst": 1000})


@contextmanager
def running(home: Path) -> Iterator[Org]:
    """A stand-in of its own, which keeps its records in a folder."""
    process = subprocess.Popen(
        [sys.executable, "-m", "onetouch.sandbox", "--home", str(home), "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"http://127\.0\.0\.1:\d+", line)
    assert found, f"the sandbox did not start: {line!r}"
    try:
        yield Org(found[0], home)
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def running_org(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Org]:
    with running(tmp_path_factory.mktemp("sandbox")) as org:
        yield org


@pytest.fixture
def org(running_org: Org) -> Org:
    running_org.empty()
    return running_org


def crm_id(number: int) -> str:
    return make_id("001", number)


def _decision(number: int, run: Run, **given: Any) -> dict[str, Any]:
    return {
        "decision_id": f"d{number}-{run.run_id}",
        "account_id": f"org-{number}",
        "crm_account_id": crm_id(number),
        "as_of": run.as_of,
        "policy_version": run.policy_version,
        "score": 57.5,
        "tier": "high",
        "pql": True,
        "reasons": [
            {"signal": "limit_share", "value": 0.92, "points": 10.0},
            {"signal": "invites", "value": 3.0, "points": 15.0},
        ],
        "value_band": "high",
        "engagement_band": "high",
        "motion": "sales_assist",
        "potential_arr": 12_000.0,
        "action": "sales_now",
        "rule": "sales_now",
        "would_change": None,
        "owner_email": "rita@rep.example",
        "owner_id": OWNER,
        "due_at": run.as_of + timedelta(hours=2),
        "contact_at": run.as_of + timedelta(minutes=15),
        "inputs_ref": f"signals/{run.run_id}",
    } | given


def _signals(number: int, **given: Any) -> dict[str, Any]:
    return {
        "account_id": f"org-{number}",
        "crm_account_id": crm_id(number),
        "name": f"Company {number}",
        "domain": f"company{number}.example",
        "industry": "Software",
        "employees": 120,
        "timezone": "Europe/Berlin",
        "features_used": 4.0,
        "features_used_list": ["dashboards", "alerts"],
        "features_unused": ["audit_log"],
        "users": 7.0,
        "active_users": 6.0,
        "events": 1234.0,
        "activated": 1.0,
        "milestones_done": 4.0,
        "limit_share": 0.92,
        "limit_name": "api_calls",
        "limit_used": 9200.0,
        "limit_cap": 10000.0,
        "invites": 3.0,
        "pricing_views": None,
    } | given


class World:
    """A company with two reps, a lake, a ledger, and the pipeline's runs."""

    def __init__(self, folder: Path, org: Org, policy: Policy, new_ledger: Path) -> None:
        self.org, self.policy = org, policy
        folder.mkdir()
        self.lake = Lake(folder / "lake")
        self.effects = Effects()
        shutil.copy(new_ledger, folder / "ledger.db")
        self.ledger = MortalLedger(f"sqlite:///{folder / 'ledger.db'}")
        # These tests end the process, never the machine: waiting for the disk would only cost time.
        event.listen(self.ledger.engine, "connect", lambda db, _: db.execute("PRAGMA synchronous = OFF"))
        self.rechecked: dict[str, Checkout] = {}
        org.clock(AS_OF)
        people = [(OWNER, "rita@rep.example", "Rita"), (OTHER, "otto@rep.example", "Otto")]
        org.post(
            "load",
            {
                "User": [
                    {
                        "Id": i,
                        "Name": n,
                        "Email": e,
                        "Username": e,
                        "IsActive": True,
                        "TimeZoneSidKey": "America/New_York",
                    }
                    for i, e, n in people
                ]
            },
        )

    def mortal(self, die_at: int | None) -> None:
        self.effects.reset(die_at)
        self.ledger.effects = self.effects

    def immortal(self) -> None:
        self.ledger.effects = None

    def salesforce(self, **extra: Any) -> Salesforce:
        session = MortalSession()
        session.effects = self.effects if self.ledger.effects else None
        given = {"instance_url": self.org.url, "consumer_key": "sandbox-key", "consumer_secret": "sandbox-secret"}
        connection = Connection("salesforce_default", extra=given | {"version": "62.0"} | extra)
        return Salesforce(
            connection,
            wait=wait_none(),
            sleep=lambda _: None,
            session=session,
            contact_fields=dict(self.policy.crm.contact_fields),
            duplicates=self.policy.crm.duplicates,
            lone_users=self.policy.crm.lone_users,
            **Salesforce.own_rules(self.policy),
        )

    def slack(self, sleep: Callable[[float], None] | None = None) -> Slack:
        connection = Connection("slack_default", password="xoxb-sandbox", extra={"base_url": f"{self.org.url}/api/"})
        return Slack(connection, sleep=sleep or (lambda seconds: None))

    def accounts(self, *numbers: int, **given: Any) -> None:
        self.org.post(
            "load",
            {
                "Account": [
                    {
                        "Id": crm_id(n),
                        "Name": f"Company {n}",
                        "Website": f"https://www.company{n}.example",
                        "OwnerId": OWNER,
                        "CreatedDate": (AS_OF - timedelta(days=90)).isoformat(),
                    }
                    | given
                    for n in numbers
                ]
            },
        )

    def run(self, at: datetime = AS_OF, *, dry_run: bool = False) -> Run:
        return self.ledger.begin_run(at, self.policy, dry_run)

    def decide(self, run: Run, *numbers: int, signals: dict[str, Any] | None = None, **given: Any) -> None:
        decisions = pd.DataFrame([_decision(n, run, **given) for n in numbers])
        self.lake.write(decisions, "decisions", f"{run.run_id}.parquet")
        rows = pd.DataFrame([_signals(n, **(signals or {})) for n in numbers])
        self.lake.write(rows, "signals", f"{run.run_id}.parquet")
        self.lake.write(self.ledger.handoff_frame(run.as_of), "inputs", run.run_id, "handoffs.parquet")

    def deliver(
        self,
        run: Run,
        *,
        held: str | None = None,
        salesforce: Salesforce | None = None,
        approved: bool = False,
        listed: Path | None = None,
    ) -> dict[str, Any]:
        client = salesforce or (self.salesforce() if not held else None)
        return deliver_tasks(
            self.lake,
            self.ledger,
            self.policy,
            run,
            client,
            recheck=lambda ids: {i: it for i, it in self.rechecked.items() if i in ids},
            held=held,
            approved=approved,
            listed=lambda: read_listed(listed, self.policy),
        )

    def die_after_writing_tasks(self, run: Run) -> None:
        """The delivery ends when the CRM holds the tasks and the ledger does not know it."""
        client = self.salesforce()
        create = client.create_tasks

        def die_after_writing(rows: Any, unsure: Any) -> Any:
            create(rows, unsure)
            raise KeyboardInterrupt

        client.create_tasks = die_after_writing  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            self.deliver(run, salesforce=client)

    def extract(self, run: Run) -> dict[str, Any]:
        return extract_crm(self.lake, self.ledger, self.policy, run, self.salesforce())

    def handoff(self, number: int) -> Handoff:
        return self.ledger.handoffs(account_ids=[f"org-{number}"])[-1]

    def task(self, number: int) -> dict[str, Any]:
        found = [t for t in self.org.tasks() if t["Onetouch_Handoff_Id__c"] == self.handoff(number).handoff_id]
        assert len(found) == 1, f"{len(found)} tasks for company {number}"
        return found[0]

    def rep_writes(self, thing: str, record_id: str | None, **fields: Any) -> str:
        """What a rep does in the CRM, through its own API."""
        answer = requests.post(
            f"{self.org.url}/services/oauth2/token",
            data={"grant_type": "client_credentials"},
            auth=("sandbox-key", "sandbox-secret"),
            timeout=10,
        )
        headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        url = f"{self.org.url}/services/data/v62.0/sobjects/{thing}"
        if record_id and not fields:
            requests.delete(f"{url}/{record_id}", headers=headers, timeout=10).raise_for_status()
            return record_id
        if record_id:
            done = requests.patch(f"{url}/{record_id}", json=fields, headers=headers, timeout=10)
        else:
            done = requests.post(url, json=fields, headers=headers, timeout=10)
        assert done.ok, done.text
        return record_id or done.json()["id"]


def empty_ledger(file: Path) -> Path:
    """An empty ledger's file, to be copied for every world."""
    ledger = Ledger(f"sqlite:///{file}")
    ledger.migrate()
    with ledger.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    ledger.close()
    return file


@pytest.fixture(scope="session")
def new_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return empty_ledger(tmp_path_factory.mktemp("ledger") / "ledger.db")


@pytest.fixture(scope="session")
def policy() -> Policy:
    return read_policy()


@pytest.fixture
def make_world(tmp_path: Path, org: Org, policy: Policy, new_ledger: Path) -> Callable[[str], World]:
    """Worlds one after the other on the same stand-in: each begins with an empty one."""

    def make(name: str) -> World:
        org.empty()
        return World(tmp_path / name, org, policy, new_ledger)

    return make


@pytest.fixture
def world(make_world: Callable[[str], World]) -> World:
    return make_world("world")
