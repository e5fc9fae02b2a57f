"""`onetouch demo`: the whole pipeline from end to end on a simulated company, with a real Airflow.

A few weeks of the company are simulated, in which the pipeline runs and the reps work their tasks; then the present
moment is run by Airflow. Everything listens on the loopback interface only, and started services are stopped by process
group. State is kept under the home, so a second demo continues the first.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import requests
import tenacity
from rich.console import Console
from rich.table import Table
from rich.text import Text

import onetouch
from onetouch import audit, simulation, stages
from onetouch.connections import from_environment
from onetouch.crm import HANDOFF_ID, REQUIRED_FIELDS
from onetouch.workspace import Workspace, open_workspace

SEED = 7
ACCOUNTS = 360
DAYS_OF_LIFE = 56  # long enough that the first handoffs are older than the 30 days within which a deal may close
FIRST_RUN_AFTER_DAYS = 14  # signals need two weeks of events to be meaningful
DAYS_BETWEEN_RUNS = 3
RUN_AT_HOUR = 15  # UTC: reps are at work on both sides of the Atlantic
QUIET_DAYS = 4  # reps finish their tasks before the run through Airflow, so only its tasks are open
REUSE_HOURS = 4  # a demo repeated within this time repeats the same period (an as_of stays fresh for 6 h)
POLICY = """\
# The demo's: the default policy, but alerts come at once, whatever the hour is where the simulated reps live.
slack:
  quiet_from: null
# What the simulated company sells.
product:
  plans:
"""

ROOT = Path(onetouch.__file__).parents[2]


@dataclass(frozen=True)
class Company:
    """The simulated company of a home: the start of the simulation, and the moment that the demo shows.

    `warmed_until`: the moment up to which the company has been simulated (None: not at all).
    """

    start: datetime
    as_of: datetime
    warmed_until: datetime | None

    @classmethod
    def of(cls, home: Path, now: datetime) -> Company:
        """The company of an earlier demo, moved to the present if its moment is too old; otherwise a new company."""
        hour = now.replace(minute=0, second=0, microsecond=0)
        file = home / "company.json"
        if not file.exists():
            return cls((hour - timedelta(days=DAYS_OF_LIFE)).replace(hour=RUN_AT_HOUR), hour, None)
        kept = {k: v and datetime.fromisoformat(v) for k, v in json.loads(file.read_text()).items()}
        if now - kept["as_of"] > timedelta(hours=REUSE_HOURS):
            kept["as_of"] = hour
        return cls(**kept)

    def save(self, home: Path) -> None:
        """Stores the company for the next demo."""
        draft = home / "company.json.new"
        draft.write_text(json.dumps({k: v and v.isoformat() for k, v in vars(self).items()}))
        draft.replace(home / "company.json")


def run(home: Path, *, now: datetime, keep: bool, console: Console) -> dict[str, Any]:
    """Runs the demo and returns its summary, also written to `home/demo.json`.

    Raises RuntimeError when a service does not start, a task of a DAG does not succeed, or the library was installed
    without the repository, whose DAGs the demo runs.
    """
    if not (ROOT / "dags").is_dir():
        raise RuntimeError("demo: the DAGs are not part of the package; clone the repository and run make demo there")
    home = home.absolute()
    home.mkdir(parents=True, exist_ok=True)
    company = Company.of(home, now)
    folder = home / "company"
    # After SIGTERM the started services are stopped as after Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with contextlib.ExitStack() as started:
        if keep:
            started.callback(console.print, "stopped")
        sandbox_port, api_port = _free_port(), _free_port()
        url = f"http://127.0.0.1:{sandbox_port}"
        environment = _environment(home, url, api_port)
        with console.status("simulating a company") as status:
            simulation.simulate(folder, seed=SEED, start=company.start, until=company.as_of, accounts=ACCOUNTS)
            status.update("starting the sandbox and Airflow")
            python = [sys.executable, "-m", "onetouch.sandbox", "--home", str(home / "sandbox")]
            sandbox = [*python, "--port", str(sandbox_port), "--exports", str(folder / "exports")]
            log = started.enter_context(_service(home, "sandbox", sandbox, environment))
            _until(lambda: _answer(f"{url}/_sandbox/state"), f"{url} does not answer", log, seconds=30)
            airflow_log = started.enter_context(_airflow(home, environment))
            company = _live(home, company, url, environment, status.update)
            status.update("waiting for Airflow")
            airflow = Airflow(f"http://127.0.0.1:{api_port}", home, airflow_log)
            states: dict[str, dict[str, str]] = {}
            for dag_id in ("pql_pipeline", "weekly_report"):
                status.update(f"{dag_id} runs in Airflow")
                states[dag_id] = airflow.run(dag_id, {"as_of": company.as_of.isoformat()})
        workspace = _open(home, environment)
        summary = _summary(workspace, company, url, states)
        (home / "demo.json").write_text(json.dumps(summary, indent=2) + "\n")
        _show(summary, url, home, console)
        failed = [f"{dag}.{t} is {s}" for dag, tasks in states.items() for t, s in tasks.items() if s != "success"]
        if failed:
            raise RuntimeError(f"not green: {', '.join(failed)}; see {home / 'airflow' / 'logs'}")
        if keep:
            console.print(f"\n[bold]Airflow[/]  {airflow.url}   sign in as admin / {airflow.password}")
            console.print(f"[bold]CRM[/]      {url}/\n[bold]Slack[/]    {url}/slack\n\nCtrl-C stops everything.")
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()
    return summary


def _live(home: Path, company: Company, url: str, environment: dict[str, str], tell: Any) -> Company:
    """Simulates the company up to the demo's moment: every few days the pipeline runs, and reps work their tasks."""
    folder = home / "company"
    workspace = _open(home, environment, exports=folder / "exports")
    day = company.warmed_until or company.start + timedelta(days=FIRST_RUN_AFTER_DAYS)
    if company.warmed_until is None:
        simulation.work(url, folder, seed=SEED, since=company.start, until=day)
    if company.warmed_until is None or company.warmed_until < company.as_of:
        while day <= company.as_of - timedelta(days=QUIET_DAYS):
            tell(f"the company lives: {day:%d %B}")
            _clock(url, day)
            stages.run_all(workspace, day, day)
            later = day + timedelta(days=DAYS_BETWEEN_RUNS)
            simulation.work(url, folder, seed=SEED, since=day, until=later)
            day = later
            company = Company(company.start, company.as_of, day)
            company.save(home)
        simulation.work(url, folder, seed=SEED, since=day, until=company.as_of)
        company = Company(company.start, company.as_of, company.as_of)
    company.save(home)
    _clock(url, None)
    return company


class Airflow:
    """A running Airflow, driven through its public REST API."""

    def __init__(self, url: str, home: Path, log: Path) -> None:
        self.url = url
        _until(self._healthy, f"Airflow at {url} is not healthy", log, seconds=180)
        self.password = json.loads((home / "airflow" / "passwords.json").read_text())["admin"]
        self.session = requests.Session()
        token = self._call("POST", "/auth/token", {"username": "admin", "password": self.password})["access_token"]
        self.session.headers["Authorization"] = f"Bearer {token}"

    def _healthy(self) -> bool:
        health = _answer(f"{self.url}/api/v2/monitor/health") or {}
        return all(health.get(part, {}).get("status") == "healthy" for part in ("scheduler", "dag_processor"))

    def run(self, dag_id: str, params: dict[str, Any], seconds: float = 240) -> dict[str, str]:
        """Triggers a DAG, waits until it ends, and returns the state of each task.

        Raises RuntimeError when it has not ended after `seconds`.
        """
        dag = f"/api/v2/dags/{dag_id}"
        retry = tenacity.Retrying(
            stop=tenacity.stop_after_delay(60),
            wait=tenacity.wait_fixed(0.5),
            retry=tenacity.retry_if_exception_type(requests.HTTPError),  # 404 until the DAG file is parsed
            reraise=True,
        )
        retry(self._call, "PATCH", dag, {"is_paused": False})
        began = self._call("POST", f"{dag}/dagRuns", {"logical_date": None, "conf": params})
        this_run = f"{dag}/dagRuns/{began['dag_run_id']}"
        for state in _poll(lambda: self._call("GET", this_run)["state"], seconds):
            if state in ("success", "failed"):
                break
        else:
            raise RuntimeError(f"{dag_id} has not ended after {seconds:g} s; see its run in {self.url}")
        states: dict[str, str] = {}
        for task in self._call("GET", f"{this_run}/taskInstances?limit=100")["task_instances"]:
            # A mapped task counts once: it succeeds when all of its instances do.
            if states.get(task["task_id"], "success") == "success":
                states[task["task_id"]] = task["state"]
        return states

    def _call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        answer = self.session.request(method, self.url + path, json=body, timeout=60)
        answer.raise_for_status()
        document: dict[str, Any] = answer.json()
        return document


def _poll(look: Any, seconds: float, every: float = 0.5) -> Iterator[Any]:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        yield look()
        time.sleep(every)


def _environment(home: Path, url: str, api_port: int) -> dict[str, str]:
    """The environment variables of Airflow (on SQLite and loopback) and of the connections to the sandbox.

    Creates Airflow's secret and the demo's policy file in the home if they do not exist.
    """
    airflow = home / "airflow"
    airflow.mkdir(exist_ok=True)
    secret_file = airflow / "secret"
    if not secret_file.exists():
        secret_file.touch(mode=0o600)
        secret_file.write_text(secrets.token_hex(32))
    secret = secret_file.read_text()
    policy = home / "policy.yaml"
    if not policy.exists():
        policy.write_text(POLICY + "".join(f"    - {json.dumps(plan)}\n" for plan in simulation.PLANS))
    slack = {"conn_type": "slack", "password": "xoxb-sandbox", "extra": {"base_url": f"{url}/api/"}}
    salesforce = {
        "conn_type": "salesforce",
        "extra": {
            "instance_url": url,
            "consumer_key": "sandbox-key",
            "consumer_secret": "sandbox-secret",
            "version": "62.0",
        },
    }
    amplitude = {
        "conn_type": "http",
        "host": url,
        "login": "sandbox-amplitude",
        "password": "sandbox-amplitude-secret",
    }
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW_", "ONETOUCH_"))}
    return kept | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONPATH": str(ROOT / "include" / "airflow_config"),  # imports heavy libraries before tasks are forked
        "AIRFLOW_HOME": str(airflow),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(airflow / "passwords.json"),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{api_port}/execution/",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(api_port),
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{api_port}",
        "AIRFLOW__API__SECRET_KEY": secret,
        "AIRFLOW__API_AUTH__JWT_SECRET": secret,
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.1",
        # The simulated company has no events after the demo's moment, so DAGs run only when they are triggered.
        "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "AIRFLOW_CONN_SALESFORCE_DEFAULT": json.dumps(salesforce),
        "AIRFLOW_CONN_SLACK_DEFAULT": json.dumps(slack),
        "AIRFLOW_CONN_AMPLITUDE_DEFAULT": json.dumps(amplitude),
        "ONETOUCH_HOME": str(home),
        "ONETOUCH_POLICY": str(policy),
    }


def _open(home: Path, environment: dict[str, str], exports: Path | None = None) -> Workspace:
    connection = partial(from_environment, environ=environment)
    return open_workspace(home, exports=exports, connection=connection, environ=environment)


@contextlib.contextmanager
def _airflow(home: Path, environment: dict[str, str]) -> Iterator[Path]:
    """Starts the services of `airflow standalone` one by one, because its log server would listen on every interface.

    Gives the path of the API server's log.
    """
    airflow = [sys.executable, "-m", "airflow"]
    with contextlib.ExitStack() as running:
        with (home / "airflow.log").open("ab") as log:
            subprocess.run([*airflow, "db", "migrate"], env=environment, stdout=log, stderr=log, check=True)
        parts = {"api-server": [], "scheduler": ["--skip-serve-logs"], "dag-processor": []}
        logs = [
            running.enter_context(_service(home, p, [*airflow, p, *more], environment)) for p, more in parts.items()
        ]
        yield logs[0]


@contextlib.contextmanager
def _service(home: Path, name: str, command: list[str], environment: dict[str, str]) -> Iterator[Path]:
    """A process group that runs as long as the context; gives the path of its log."""
    log = home / f"{name}.log"
    with log.open("ab") as file:
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        yield log
    finally:
        # The signals go to the whole group, because a parent that is terminated alone leaves its children behind.
        for ask, patience in ((signal.SIGTERM, 10), (signal.SIGKILL, 5)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, ask)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(patience)


def _answer(url: str) -> Any:
    """The JSON response of a server; None if the server does not respond or responds with an error."""
    try:
        answer = requests.get(url, timeout=10)
        return answer.json() if answer.ok else None
    except requests.RequestException:
        return None


def _until(ready: Callable[[], Any], otherwise: str, log: Path, seconds: float) -> None:
    if not any(_poll(ready, seconds)):
        raise RuntimeError(f"{otherwise} after {seconds:g} s; see {log}")


def _clock(url: str, now: datetime | None) -> None:
    requests.post(f"{url}/_sandbox/clock", json={"now": now and now.isoformat()}, timeout=10).raise_for_status()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _summary(workspace: Workspace, company: Company, url: str, states: dict[str, dict[str, str]]) -> dict[str, Any]:
    """The outcome of the demo, read from the ledger, the sandbox's CRM and chat, and the task states in Airflow."""
    run_id = stages.begin(workspace, company.as_of, company.as_of)
    accounting = audit.accounting(workspace.ledger, run_id)
    state = requests.get(f"{url}/_sandbox/state", timeout=30).json()
    channel = workspace.policy.slack.leadership_channel
    reports = [p for p in state["posts"] if p["channel"] == channel and not p.get("thread_ts")]
    ours = [task for task in state["tasks"] if task.get(HANDOFF_ID) and not task["IsClosed"]]
    return {
        "as_of": company.as_of.isoformat(),
        "accounts": accounting["accounts"],
        "rows": accounting["rows"],
        "decisions": accounting["decisions"],
        "delivered": accounting["delivered"],
        "tasks_open": len(ours),
        "tasks_with_context": sum(
            all(task["account"].get(field) not in (None, "") for field in REQUIRED_FIELDS) for task in ours
        ),
        "posts": len(reports),
        "alerts": sum(p["channel"] == workspace.policy.slack.alerts_channel for p in state["posts"]),
        "pictures": sum(block["type"] == "image" for p in reports for block in p["blocks"]),
        "tasks": [
            {"account": t["account"]["Name"], "subject": t["Subject"], "owner": t["owner"], "due": t["ActivityDate"]}
            for t in sorted(ours, key=lambda t: t["ActivityDate"])
        ],
        "report_pictures": workspace.lake.list("reports", ".png"),
        "dags": states,
    }


def _show(summary: dict[str, Any], url: str, home: Path, console: Console) -> None:
    decisions = Table("decision", "accounts", title=f"{summary['accounts']} accounts, one decision each", box=None)
    for action, n in sorted(summary["decisions"].items(), key=lambda item: -item[1]):
        decisions.add_row(action, str(n))
    tasks = Table("task", "owner", "due", title=f"{summary['tasks_open']} open tasks in the CRM", box=None)
    for task in summary["tasks"]:
        tasks.add_row(Text(task["subject"], overflow="ellipsis", no_wrap=True), task["owner"], task["due"])
    console.print(decisions, "", tasks, "")
    console.print(f"[bold]report[/] posts: {summary['posts']}, pictures: {summary['pictures']}", highlight=False)
    for picture in summary["report_pictures"]:
        console.print(f"  {picture}", highlight=False, soft_wrap=True)
    for dag, tasks_of in summary["dags"].items():
        green = sum(state == "success" for state in tasks_of.values())
        console.print(f"[bold]{dag}[/] {green} of {len(tasks_of)} tasks green", highlight=False)
    console.print(f"summary: {home / 'demo.json'}", highlight=False, soft_wrap=True)
