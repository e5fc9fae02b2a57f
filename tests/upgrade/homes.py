"""The fixture homes (`tests/fixtures/homes`): copies to open, what their own release said of them, their CRM."""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import requests
import yaml
from onetouch.connections import from_environment
from onetouch.policy import upgrade
from onetouch.policy.upgrade import current_name
from onetouch.sandbox.server import make_server
from onetouch.workspace import Workspace, open_workspace

HOMES = Path(__file__).parents[1] / "fixtures" / "homes"
COMMITS = sorted(folder.name for folder in HOMES.iterdir() if (folder / "home").is_dir())


@dataclass(frozen=True)
class Home:
    """A copy of a fixture home, to write to."""

    commit: str
    folder: Path

    @classmethod
    def copy(cls, commit: str, to: Path) -> Home:
        """A copy whose policy files say what the release did about what it had no keys for."""
        shutil.copytree(HOMES / commit, to)
        for path in (to / "policies").glob("*.yaml"):
            document = upgrade._third(yaml.safe_load(path.read_text()))
            document["routing"]["rules"] = {"friction": None}
            path.write_text(yaml.safe_dump(document, sort_keys=False))
        return cls(commit, to)

    def said(self, name: str) -> Any:
        """What the release that made the home said, with the names that signals have today."""
        return named_today(json.loads((self.folder / "said" / f"{name}.json").read_text()))

    def explained(self) -> dict[str, Any]:
        """Account → its explanation, as the release gave it."""
        return {path.stem: self.said(f"explain/{path.stem}") for path in (self.folder / "said/explain").glob("*.json")}

    def moment(self, name: str) -> datetime:
        """A moment of the story."""
        return datetime.fromisoformat(json.loads((self.folder / "said" / "plan.json").read_text())[name])

    def open(self, url: str | None = None) -> Workspace:
        """The installation under the policy it last ran with, beside the CRM and Slack at `url`."""
        extra = {"instance_url": url, "consumer_key": "sandbox-key", "consumer_secret": "sandbox-secret"}
        slack = {"conn_type": "slack", "password": "xoxb-sandbox", "extra": {"base_url": f"{url}/api/"}}
        salesforce = {"conn_type": "salesforce", "extra": extra | {"version": "62.0"}}
        environ = {
            "AIRFLOW_CONN_SALESFORCE_DEFAULT": json.dumps(salesforce),
            "AIRFLOW_CONN_SLACK_DEFAULT": json.dumps(slack),
        }
        return open_workspace(
            self.folder / "home",
            self.folder / "policies" / "own.yaml",
            exports=self.folder / "exports",
            connection=lambda name: from_environment(name, environ if url else {}),
            environ={},
        )

    @contextlib.contextmanager
    def outside(self, now: datetime) -> Iterator[str]:
        """The CRM and Slack stand-ins, going on with what they were left with; gives their address."""
        server, listener = make_server(self.folder / "sandbox", 0)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            while not server.started:
                time.sleep(0.01)
            requests.post(f"{url}/_sandbox/clock", json={"now": now.isoformat()}, timeout=30).raise_for_status()
            yield url
        finally:
            server.should_exit = True
            thread.join(30)


def named_today(value: Any) -> Any:
    """JSON values with every name of a signal, as key or as value, as it is today."""
    if isinstance(value, str):
        return current_name(value)
    if isinstance(value, list):
        return [named_today(item) for item in value]
    return {current_name(key): named_today(item) for key, item in value.items()} if isinstance(value, dict) else value
