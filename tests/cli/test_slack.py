"""`onetouch slack serve`: the address of presses without Airflow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import requests
from onetouch.ledger import Ledger


def test_it_takes_presses_on_loopback_and_refuses_what_slack_has_not_signed(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.migrate()
    ledger.close()
    connection = {"conn_type": "slack", "password": "xoxb-x", "extra": {"signing_secret": "s"}}
    served = subprocess.Popen(
        [sys.executable, "-m", "onetouch.cli", "--home", str(tmp_path), "slack", "serve", "--port", "0", "--json"],
        env=os.environ | {"AIRFLOW_CONN_SLACK_DEFAULT": json.dumps(connection), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert served.stdout is not None
        url = json.loads(served.stdout.readline())["url"]
        assert url.startswith("http://127.0.0.1:")
        assert requests.post(url, b"payload={}", timeout=20).status_code == 401
        assert requests.get(url, timeout=20).status_code == 404
    finally:
        served.terminate()
        served.wait(10)
