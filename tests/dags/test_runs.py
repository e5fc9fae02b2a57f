"""Whole runs of the DAGs, in this process, against the sandbox and a simulated company."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
import requests

from tests.dags.test_dags import PIPELINE, REPORT


@pytest.fixture(scope="module")
def company(tmp_path_factory):
    """A simulated company, its sandbox running, and the moment to run for: this hour."""
    from onetouch import simulation

    folder = tmp_path_factory.mktemp("company")
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    simulation.simulate(folder, seed=3, start=hour - timedelta(days=28), until=hour, accounts=120)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "onetouch.sandbox", "--home", str(folder / "sandbox"), "--port", str(port)]
    process = subprocess.Popen([*command, "--exports", str(folder / "exports")], start_new_session=True)
    until = time.monotonic() + 30
    while True:
        try:
            requests.get(f"{url}/_sandbox/state", timeout=5)
            break
        except requests.ConnectionError:
            assert time.monotonic() < until, "the sandbox did not start"
            time.sleep(0.05)
    records = json.loads((folder / "crm.json").read_text())
    requests.post(f"{url}/_sandbox/load", json=records, timeout=60).raise_for_status()
    yield SimpleNamespace(url=url, hour=hour, folder=folder)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture
def connected(company, monkeypatch, tmp_path):
    """The environment of a worker whose connections lead to the sandbox, with an empty home."""
    secrets = {"consumer_key": "sandbox-key", "consumer_secret": "sandbox-secret", "version": "62.0"}
    connections = {
        "SALESFORCE": {"conn_type": "salesforce", "extra": {"instance_url": company.url, **secrets}},
        "SLACK": {"conn_type": "slack", "password": "xoxb-sandbox", "extra": {"base_url": f"{company.url}/api/"}},
        "AMPLITUDE": {
            "conn_type": "http",
            "host": company.url,
            "login": "sandbox-amplitude",
            "password": "sandbox-amplitude-secret",
        },
    }
    for name, connection in connections.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}_DEFAULT", json.dumps(connection))
    monkeypatch.setenv("ONETOUCH_HOME", str(tmp_path / "home"))
    return company


def run(dag, as_of, dry_run=False):
    # Only a scheduler watches deadlines, and Airflow 3.3.2 trips over them when it tests a DAG a second time.
    dag.deadline = []
    done = dag.test(run_conf={"as_of": as_of, "dry_run": dry_run})  # both: what it is given stays in the DAG
    return str(done.state), {ti.task_id: str(ti.state) for ti in done.get_task_instances()}


def sent(company):
    """What the outside has seen of us: tasks in the CRM, posts in Slack."""
    state = requests.get(f"{company.url}/_sandbox/state", timeout=30).json()
    return [task for task in state["tasks"] if task.get("Onetouch_Handoff_Id__c")], state["posts"]


def test_a_dry_run_is_green_and_sends_nothing_then_a_real_one_delivers(dags, connected):
    pipeline, when = dags["pql_pipeline"], connected.hour.isoformat()
    green = ("success", dict.fromkeys(PIPELINE, "success"))

    assert run(pipeline, dry_run=True, as_of=when) == green
    assert sent(connected) == ([], [])

    assert run(pipeline, as_of=when) == green
    tasks, alerts = sent(connected)
    assert tasks
    assert len(alerts) == len(tasks)

    assert run(dags["weekly_report"], as_of=when) == ("success", dict.fromkeys(REPORT, "success"))
    assert len(sent(connected)[1]) > len(alerts)


def test_a_broken_policy_fails_the_first_task_and_tells_slack(dags, connected, monkeypatch, tmp_path):
    policy = tmp_path / "policy.yaml"
    policy.write_text("scoring: {tiers: {high: -1}}")
    monkeypatch.setenv("ONETOUCH_POLICY", str(policy))
    before = sent(connected)[0]
    state, tasks = run(dags["pql_pipeline"], as_of=connected.hour.isoformat())
    assert state == "failed"
    assert tasks.pop("open_run") == "failed"
    assert set(tasks.values()) == {"upstream_failed"}
    assert sent(connected)[0] == before
