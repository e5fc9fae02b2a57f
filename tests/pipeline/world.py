"""One simulated company's home and sandbox, and a pipeline in a process of its own."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from onetouch.connections import from_environment
from onetouch.workspace import Workspace, open_workspace

START = datetime(2026, 3, 2, tzinfo=UTC)
AS_OF = START + timedelta(days=28, hours=14)
SEED = 11


@dataclass
class World:
    """One company's home and its running sandbox."""

    home: Path
    url: str
    company: Path

    @property
    def environment(self) -> dict[str, str]:
        salesforce = {"instance_url": self.url, "consumer_key": "sandbox-key", "consumer_secret": "sandbox-secret"}
        return {
            "AIRFLOW_CONN_SALESFORCE_DEFAULT": json.dumps(
                {"conn_type": "salesforce", "extra": salesforce | {"version": "62.0"}}
            ),
            "AIRFLOW_CONN_SLACK_DEFAULT": json.dumps(
                {"conn_type": "slack", "password": "xoxb-sandbox", "extra": {"base_url": f"{self.url}/api/"}}
            ),
            "AIRFLOW_CONN_AUDIENCE_DEFAULT": json.dumps(
                {"conn_type": "http", "host": f"{self.url}/hooks/audience", "password": "sandbox-audience-secret"}
            ),
        }

    @property
    def exports(self) -> Path:
        return self.company / "exports"

    def workspace(self) -> Workspace:
        return open_workspace(
            self.home,
            exports=self.exports,
            connection=lambda name: from_environment(name, self.environment),
            environ=self.environment,
        )

    def clock(self, now: datetime) -> None:
        requests.post(f"{self.url}/_sandbox/clock", json={"now": now.isoformat()}, timeout=10).raise_for_status()

    def state(self) -> dict[str, Any]:
        return requests.get(f"{self.url}/_sandbox/state", timeout=10).json()

    def standings(self) -> dict[str, tuple[Any, ...]]:
        """What the record of each account tells of it, as the CRM holds it."""
        names = ("Tier", "Action", "Score", "Trigger", "As_Of")
        with sqlite3.connect(self.company.parent / "sandbox" / "sandbox.sqlite", timeout=10) as db:
            query = f"SELECT Id, {', '.join(f'Onetouch_{name}__c' for name in names)} FROM Account"
            found = {row[0]: row[1:] for row in db.execute(query)}
        db.close()
        return found

    def audience(self) -> dict[str, Any]:
        """Whom the receiver knows, and every request that it was sent."""
        return requests.get(f"{self.url}/_sandbox/audience", timeout=10).json()

    def open_tasks(self) -> list[dict[str, Any]]:
        """The integration's own open tasks, as the CRM holds them."""
        return [t for t in self.state()["tasks"] if t["Onetouch_Handoff_Id__c"] and not t["IsClosed"]]


def until_up(world: World, log: Path) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            if requests.get(f"{world.url}/_sandbox/state", timeout=5).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.05)
    pytest.fail(f"the sandbox did not start: {log.read_text()}")


class Pipeline:
    """Runs the pipeline of a world in a forked process, killed at an effect if asked."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("process.py")
        self.parent = subprocess.Popen(
            [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._line() == "ready"

    def run(
        self, world: World, as_of: datetime = AS_OF, now: datetime | None = None, die_at: int | None = None
    ) -> dict[str, Any]:
        command = {
            "home": str(world.home),
            "exports": str(world.exports),
            "environment": world.environment,
            "as_of": as_of.isoformat(),
            "now": (now or as_of).isoformat(),
            "die_at": die_at,
        }
        assert self.parent.stdin
        self.parent.stdin.write(json.dumps(command) + "\n")
        self.parent.stdin.flush()
        return json.loads(self._line())

    def _line(self) -> str:
        assert self.parent.stdout
        line = self.parent.stdout.readline().strip()
        assert line, "the pipeline's parent process ended"
        return line

    def close(self) -> None:
        assert self.parent.stdin
        self.parent.stdin.close()
        self.parent.wait(30)
