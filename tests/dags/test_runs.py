"""Whole runs of the DAGs, in this process, against the sandbox and a simulated company."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import traceback
from contextlib import closing
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
import requests

from tests.dags.test_dags import APPROVAL, PIPELINE, REPORT

GREEN = ("success", dict.fromkeys(PIPELINE, "success"))
ENDED = dict.fromkeys(("back_off_ended", "delivery_ended"), "success")

AT_ANY_HOUR = "slack: {quiet_from: null}"  # reps' evenings are no matter of the hour at which the tests run


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
    policy = tmp_path / "policy.yaml"
    policy.write_text(AT_ANY_HOUR)
    monkeypatch.setenv("ONETOUCH_POLICY", str(policy))
    return company


def run(dag, **conf):
    # Only a scheduler watches deadlines, and Airflow 3.3.2 trips over them when it tests a DAG a second time.
    dag.deadline = []
    if "as_of" in conf:
        conf = {"dry_run": False} | conf  # both: what it is given stays in the DAG
    done = dag.test(run_conf=conf)
    return str(done.state), {ti.task_id: str(ti.state) for ti in done.get_task_instances()}


def sent(company):
    """What the outside has seen of us: tasks in the CRM, posts in Slack."""
    state = requests.get(f"{company.url}/_sandbox/state", timeout=30).json()
    return [task for task in state["tasks"] if task.get("Onetouch_Handoff_Id__c")], state["posts"]


def without_our_tasks(company):
    """Takes back what other tests' runs wrote to the CRM."""
    with closing(sqlite3.connect(company.folder / "sandbox" / "sandbox.sqlite", timeout=10)) as crm:
        crm.execute("DELETE FROM Task WHERE Onetouch_Handoff_Id__c IS NOT NULL")
        crm.commit()


def test_a_dry_run_is_green_and_sends_nothing_then_a_real_one_delivers(dags, connected, monkeypatch, tmp_path):
    pipeline, when = dags["pql_pipeline"], connected.hour.isoformat()
    # Every task is announced by itself, whatever the hour is where the reps are.
    (tmp_path / "policy.yaml").write_text("slack: {quiet_from: null, digest_above: 1000}")
    monkeypatch.setenv("ONETOUCH_POLICY", str(tmp_path / "policy.yaml"))

    assert run(pipeline, dry_run=True, as_of=when) == GREEN
    assert sent(connected) == ([], [])

    assert run(pipeline, as_of=when) == GREEN
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
    assert tasks == dict.fromkeys(PIPELINE, "upstream_failed") | {"open_run": "failed"} | ENDED
    assert sent(connected)[0] == before


@pytest.fixture
def untouched(connected, tmp_path):
    """The company before any run, under a policy by which every task is announced by itself."""
    without_our_tasks(connected)
    (tmp_path / "policy.yaml").write_text("slack: {quiet_from: null, digest_above: 1000}")
    return connected


def outcome(dags, company):
    """The states of a run of the pipeline; how many tasks and alerts to reps there are more than before it."""
    before = [len(seen) for seen in sent(company)]
    states = run(dags["pql_pipeline"], as_of=company.hour.isoformat())
    tasks, posts = sent(company)
    told = [post for post in posts[before[1] :] if not post["text"].startswith(":red_circle:")]
    return states, len(tasks) - before[0], len(told)


@pytest.mark.long
def test_an_account_that_cannot_be_released_holds_up_no_other(dags, untouched, monkeypatch):
    from onetouch import stages
    from onetouch.delivery import DeliveryFailed

    def refused(*args, real=stages.back_off):
        raise DeliveryFailed("tasks could not be closed", real(*args), [("handoff 1", "a validation rule")])

    monkeypatch.setattr(stages, "back_off", refused)
    (state, tasks), made, told = outcome(dags, untouched)
    assert state == "failed"
    assert tasks == GREEN[1] | {"back_off": "failed", "crm_written": "upstream_failed"}
    assert made == told > 0


def test_reps_hear_of_what_was_delivered_when_a_row_was_refused(dags, untouched):
    refusal = {"statusCode": "FIELD_CUSTOM_VALIDATION_EXCEPTION", "message": "no"}
    fault = {"match": "composite/sobjects$", "method": "POST", "row_error": refusal, "rows": [0]}
    requests.post(f"{untouched.url}/_sandbox/faults", json=[fault], timeout=30).raise_for_status()
    (state, tasks), made, told = outcome(dags, untouched)
    assert state == "failed"
    assert tasks == GREEN[1] | {"deliver_tasks": "failed", "crm_written": "upstream_failed"}
    assert made == told > 0


@pytest.mark.long
def test_a_failed_check_of_the_decisions_stops_everything_outside(dags, untouched, monkeypatch):
    from onetouch import stages
    from onetouch.ledger import Run
    from onetouch.quality import ChecksFailed

    def failed(*args):
        raise ChecksFailed("decisions", Run("r1", untouched.hour, "p1", False), {"critical": ["odd"], "docs": "docs"})

    monkeypatch.setattr(stages, "check_decisions", failed)
    (state, tasks), made, told = outcome(dags, untouched)
    assert state == "failed"
    outside = ("deliver_tasks", "alert_reps", "write_accounts", "send_audience", "ask_approval", "crm_written")
    stopped = dict.fromkeys(outside, "upstream_failed")
    assert tasks == GREEN[1] | {"check_decisions": "failed"} | stopped
    assert (made, told) == (0, 0)


@pytest.fixture(scope="module")
def asking(company, tmp_path_factory):
    """A home and a policy of its own, under which two new tasks are more than go unasked."""
    home = tmp_path_factory.mktemp("asking")
    (home / "policy.yaml").write_text(f"delivery: {{approval_above: 1}}\n{AT_ANY_HOUR}")
    return home


@pytest.fixture
def asked(dags, connected, asking, monkeypatch):
    """The pipeline has run once under that policy; gives its ledger, with no answer in it yet."""
    from onetouch.ledger import Ledger
    from sqlalchemy import text

    monkeypatch.setenv("ONETOUCH_HOME", str(asking / "home"))
    monkeypatch.setenv("ONETOUCH_POLICY", str(asking / "policy.yaml"))
    file = asking / "home" / "ledger.db"
    if not file.exists():
        without_our_tasks(connected)
        states = run(dags["pql_pipeline"], as_of=connected.hour.isoformat())
        assert states == GREEN, "a withheld task is no failure"
    ledger = Ledger(f"sqlite:///{file}")
    with ledger.engine.begin() as database:
        database.execute(text("DELETE FROM stages WHERE stage = 'approve'"))
    yield ledger
    ledger.close()


def answer(how, meanwhile):
    """A person answers the open question through Airflow's own API function, or nobody does until it is too late.

    `meanwhile` is called while the question is open.
    """
    from airflow.jobs.job import Job
    from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
    from airflow.models import TaskInstance
    from airflow.utils.session import create_session
    from airflow.utils.state import TaskInstanceState
    from sqlalchemy import select
    from sqlalchemy.orm import joinedload

    until = time.monotonic() + 60
    while time.monotonic() < until:
        with create_session() as session:
            parked = TaskInstance.state == TaskInstanceState.AWAITING_INPUT
            waiting = session.scalar(select(TaskInstance).where(parked).options(joinedload(TaskInstance.hitl_detail)))
            if waiting is None:
                time.sleep(0.1)
                continue
            kept = SimpleNamespace(subject=waiting.hitl_detail.subject, body=waiting.hitl_detail.body)
            kept.waits = waiting.trigger_timeout - datetime.now(UTC)
            meanwhile()
            if how == "in time for nothing":
                waiting.trigger_timeout = datetime.now(UTC) - timedelta(seconds=1)
            else:
                from airflow.api_fastapi.core_api.datamodels.hitl import UpdateHITLDetailPayload
                from airflow.api_fastapi.core_api.routes.public.hitl import update_hitl_detail

                grace = SimpleNamespace(get_id=lambda: "7", get_name=lambda: "grace")
                chosen = UpdateHITLDetailPayload(chosen_options=[how], params_input={})
                update_hitl_detail(waiting.dag_id, waiting.run_id, waiting.task_id, chosen, grace, session)
        if how == "in time for nothing":
            SchedulerJobRunner(job=Job()).check_awaiting_input_timeouts()
        return kept
    raise AssertionError("nobody was asked")


def ask(dags, ledger, how, meanwhile=lambda: None):
    """The question of the pipeline's run, answered; gives the states of the tasks, and what was shown."""
    shown = []

    def person():
        try:
            shown.append(answer(how, meanwhile))
        except BaseException:
            traceback.print_exc()
            os.kill(os.getpid(), signal.SIGINT)  # else the run would wait for ever

    threading.Thread(target=person, daemon=True).start()
    states = run(dags["approve_tasks"], run_id=ledger.last_runs(1)[0].run_id)
    return states, shown[0]


@pytest.mark.parametrize(("how", "by"), [("in time for nothing", None), ("Reject", "grace")])
def test_without_a_persons_yes_nothing_is_made(dags, connected, asked, how, by):
    before = sent(connected)[0]
    states, shown = ask(dags, asked, how)
    assert states == ("success", {"approve": "success", "deliver_tasks": "skipped", "alert_reps": "skipped"})
    assert sent(connected)[0] == before
    kept = asked.stage_summary(asked.last_runs(1)[0].run_id, "approve")
    assert (kept["approved"], kept["by"]) == (False, by)
    # The policy's four hours, but never longer than the moment is fresh.
    assert timedelta(hours=3) < shown.waits <= timedelta(hours=4)


def test_a_persons_yes_is_for_the_tasks_that_were_shown(dags, connected, asked, asking):
    """Decisions that were made anew while the form was open are none of them."""
    import pandas as pd

    file = next((asking / "home").rglob(f"decisions/{asked.last_runs(1)[0].run_id}.parquet"))
    decided, before = file.read_bytes(), sent(connected)[0]

    def route_anew():
        rows = pd.read_parquet(file)
        rows.assign(decision_id=[f"another-{i}" for i in rows["decision_id"]]).to_parquet(file)

    try:
        states, _ = ask(dags, asked, "Approve", route_anew)
    finally:
        file.write_bytes(decided)
    assert states == ("success", dict.fromkeys(APPROVAL, "success"))
    assert sent(connected)[0] == before
    assert asked.stage_summary(asked.last_runs(1)[0].run_id, "deliver_tasks")["withheld"].keys() == {"not approved"}


def test_a_persons_yes_makes_the_tasks_of_that_run_and_is_on_record(dags, connected, asked):
    run_id = asked.last_runs(1)[0].run_id
    withheld = asked.stage_summary(run_id, "deliver_tasks")
    assert withheld["delivered"] == 0
    assert withheld["withheld"] == {"not approved": withheld["to_send"]}
    before = len(sent(connected)[0])

    states, shown = ask(dags, asked, "Approve")

    assert states == ("success", dict.fromkeys(APPROVAL, "success"))
    tasks, posts = sent(connected)
    assert len(tasks) - before == withheld["to_send"]
    kept = asked.stage_summary(run_id, "approve")
    assert (kept["approved"], kept["by"], kept["tasks"]) == (True, "grace", withheld["to_send"])
    assert f"{withheld['to_send']} new tasks, more than 1" in shown.subject
    assert f"onetouch decisions --run {run_id}" in shown.body
    assert "@" not in shown.body, "a form is read by many"
    assert any("wait for a person" in json.dumps(post) for post in posts)

    # Asked once: nothing is left to ask.
    done = run(dags["approve_tasks"], run_id=run_id)
    assert done == ("success", dict.fromkeys(APPROVAL, "skipped"))
