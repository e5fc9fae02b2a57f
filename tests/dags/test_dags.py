"""The DAGs as Airflow sees them: what they are made of, when they run, in which order."""

import os
import re
import subprocess
import sys

import pytest

PIPELINE = {
    "open_run": {"extract_events", "extract_crm"},
    "extract_events": {"stage_events"},
    "stage_events": {"check_events"},
    "check_events": {"build_signals"},
    "build_signals": {"check_signals"},
    "check_signals": {"score"},
    "score": {"route"},
    "extract_crm": {"build_signals", "back_off"},
    "back_off": {"back_off_ended", "crm_written"},
    "back_off_ended": {"route"},
    "route": {"check_decisions", "shadow"},
    "shadow": set(),
    "check_decisions": {"deliver_tasks", "alert_reps", "ask_approval", "write_accounts", "send_audience"},
    "deliver_tasks": {"delivery_ended", "crm_written"},
    "delivery_ended": {"alert_reps", "ask_approval", "write_accounts", "send_audience"},
    "crm_written": set(),
    "alert_reps": set(),
    "write_accounts": {"crm_written"},
    "send_audience": set(),
    "ask_approval": set(),
}
APPROVAL = {"approve": {"deliver_tasks"}, "deliver_tasks": {"alert_reps"}, "alert_reps": set()}
REPORT = {
    "compute_metrics": {"draw_charts", "post_report"},
    "draw_charts": {"post_report"},
    "audit_delivery": {"post_report"},
    "post_report": set(),
}


def test_there_are_these_dags_and_no_others(dags):
    assert set(dags) == {"approve_tasks", "pql_pipeline", "prune", "reconcile", "weekly_report"}


@pytest.mark.parametrize(
    ("dag_id", "schedule", "edges"),
    [
        ("approve_tasks", None, APPROVAL),
        ("pql_pipeline", "@hourly", PIPELINE),
        ("prune", "30 4 * * *", {"prune": set()}),
        ("reconcile", "30 3 * * *", {"reconcile": set()}),
        ("weekly_report", "0 7 * * MON", REPORT),
    ],
)
def test_schedule_and_edges(dags, dag_id, schedule, edges):
    dag = dags[dag_id]
    assert dag.schedule == schedule
    assert {t.task_id: set(t.downstream_task_ids) for t in dag.tasks} == edges


def test_each_run_is_for_one_hour_and_one_monday(dags):
    """What the cron expressions mean, asked of Airflow's own timetable after serialisation."""
    from airflow.serialization.serialized_objects import DagSerialization
    from airflow.timetables.base import TimeRestriction
    from pendulum import datetime

    def first_three(dag):
        timetable = DagSerialization.from_dict(DagSerialization.to_dict(dag)).timetable
        found, last = [], None
        for _ in range(3):
            info = timetable.next_dagrun_info(
                last_automated_data_interval=last, restriction=TimeRestriction(datetime(2026, 11, 1, 0, 30), None, True)
            )
            found.append(info.run_after.isoformat())
            last = info.data_interval
        return found

    assert first_three(dags["pql_pipeline"]) == [f"2026-11-01T0{h}:00:00+00:00" for h in (1, 2, 3)]
    assert first_three(dags["weekly_report"]) == [f"2026-11-{d}T07:00:00+00:00" for d in ("02", "09", "16")]


def test_back_off_needs_the_crm_and_nothing_of_the_product(dags):
    upstream = dags["pql_pipeline"].get_task("back_off").get_flat_relative_ids(upstream=True)
    assert upstream == {"open_run", "extract_crm"}


def test_nothing_is_sent_before_every_check(dags):
    pipeline = dags["pql_pipeline"]
    before = pipeline.get_task("deliver_tasks").get_flat_relative_ids(upstream=True)
    assert {"check_events", "check_signals", "check_decisions"} <= before
    waits_for_the_end_alone = {t.task_id for t in pipeline.tasks if t.trigger_rule.value != "all_success"}
    assert waits_for_the_end_alone == {"back_off_ended", "delivery_ended"}
    for task_id in ("alert_reps", "ask_approval", "write_accounts", "send_audience"):
        assert "check_decisions" in pipeline.get_task(task_id).upstream_task_ids


def test_the_shadow_sees_the_decisions_and_nothing_waits_for_it(dags):
    shadow = dags["pql_pipeline"].get_task("shadow")
    assert shadow.upstream_task_ids == {"route"}
    assert shadow.downstream_task_ids == set()


def test_a_person_is_asked_in_a_dag_that_holds_up_nothing_else(dags):
    pipeline, asked = dags["pql_pipeline"], dags["approve_tasks"]
    start = pipeline.get_task("ask_approval")
    assert start.trigger_dag_id == "approve_tasks"
    assert not start.wait_for_completion
    assert start.fail_when_dag_is_paused, "a question that nobody is asked must not look like one"
    assert asked.is_paused_upon_creation is False
    assert asked.get_task("approve").defaults == ["Reject"], "no answer is a no"


def test_runs_do_not_overlap_or_catch_up(dags):
    for dag in dags.values():
        assert (dag.max_active_runs, dag.catchup) == (1, False)
        assert "onetouch" in dag.tags
        # A person may take as long as the policy gives; that ends by itself.
        assert bool(dag.deadline) == (dag.dag_id != "approve_tasks")


def test_every_task_retries_ends_and_says_what_it_does(dags):
    from onetouch_airflow.alerts import task_failed
    from onetouch_airflow.retries import NotInVain

    for dag in dags.values():
        for task in dag.tasks:
            callbacks = task.on_failure_callback
            assert task.retries >= 2, task.task_id
            assert task.retry_exponential_backoff > 1, task.task_id
            assert isinstance(task.retry_policy, NotInVain), task.task_id
            assert task.execution_timeout.total_seconds() <= 3600, task.task_id
            assert task_failed in (callbacks if isinstance(callbacks, (list, tuple)) else [callbacks]), task.task_id
            assert task.doc_md, task.task_id


def test_sources_are_mapped_under_their_own_names(dags):
    task = dags["pql_pipeline"].get_task("extract_events")
    assert task.is_mapped
    assert "source" in task.partial_kwargs["map_index_template"]


def test_the_runbook_tells_what_to_do_about_every_task(dags):
    for dag in dags.values():
        runbook = dag.doc_md.split("## When a task fails")[1]
        assert re.findall(r"^- \*\*(\w+)\*\*", runbook, re.MULTILINE) == [
            t.task_id for t in sorted(dag.tasks, key=lambda t: runbook.index(f"**{t.task_id}**"))
        ]
        for param in dag.params:
            assert f"- **{param}**" in dag.doc_md


def test_params_are_described_and_checked(dags):
    from airflow.sdk.exceptions import ParamValidationError

    assert dags["approve_tasks"].params.get_param("run_id").resolve("20261102T070000Z-0f3a") is not None
    with pytest.raises(ParamValidationError):
        dags["approve_tasks"].params.get_param("run_id").resolve("{{ conn.salesforce_default }}")
    for dag in (dag for dag in dags.values() if dag.dag_id != "approve_tasks"):
        schemas = {name: dag.params.get_param(name) for name in dag.params}
        assert {name: param.value for name, param in schemas.items()} == {"dry_run": False, "as_of": None}
        assert all(p.description and p.schema["section"] for p in schemas.values())
        assert schemas["as_of"].resolve("2026-11-02T07:00:00+01:00")
        for wrong in ("yesterday", "2026-11-02T07:00:00", 7):
            with pytest.raises(ParamValidationError):
                schemas["as_of"].resolve(wrong)
        with pytest.raises(ParamValidationError):
            schemas["dry_run"].resolve("no")


def test_reading_a_dag_file_imports_nothing_heavy():
    """Airflow reads it again for every task."""
    program = """
import runpy, sys
import airflow.sdk
sys.path.append(sys.argv[1])
before = set(sys.modules)
for file in sys.argv[2:]:
    runpy.run_path(file)
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(sorted(new & {"pandas", "pyarrow", "duckdb", "ibis", "great_expectations", "matplotlib", "simple_salesforce",
                    "slack_sdk", "scipy", "onetouch"}))
"""
    folder = os.environ["AIRFLOW__CORE__DAGS_FOLDER"]
    files = sorted(os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".py"))
    assert len(files) == 5
    done = subprocess.run(
        [sys.executable, "-c", program, os.environ["AIRFLOW__CORE__PLUGINS_FOLDER"], *files],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_plugin_folder_has_one_entry_file(airflow_database):
    from airflow.sdk._shared.module_loading import find_path_from_directory

    folder = os.environ["AIRFLOW__CORE__PLUGINS_FOLDER"]
    found = [f for f in find_path_from_directory(folder, ".airflowignore") if f.endswith(".py")]
    assert [os.path.basename(f) for f in found] == ["onetouch_plugin.py"]


def test_the_api_server_takes_presses_of_buttons_that_slack_has_signed(airflow_database, monkeypatch, tmp_path):
    from airflow.api_fastapi import app as server
    from airflow.plugins_manager import get_fastapi_plugins
    from fastapi import FastAPI
    from starlette.testclient import TestClient

    monkeypatch.setenv("ONETOUCH_HOME", str(tmp_path))
    connection = '{"conn_type": "slack", "password": "x", "extra": {"signing_secret": "s"}}'
    monkeypatch.setenv("AIRFLOW_CONN_SLACK_DEFAULT", connection)
    monkeypatch.setenv("AIRFLOW_VAR_ONETOUCH_STOP", "")
    [offered] = [app for app in get_fastapi_plugins()[0] if app["name"] == "onetouch"]
    assert not offered["url_prefix"].startswith(tuple(server.RESERVED_URL_PREFIXES))
    api = FastAPI()
    api.mount(offered["url_prefix"], offered["app"])
    client = TestClient(api)
    assert client.post("/onetouch/slack/presses", content=b"payload={}").status_code == 401
    assert client.get("/onetouch/slack/presses").status_code == 404
