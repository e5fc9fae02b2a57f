"""What a task opens before it calls the library: the workspace, the run, the two moments."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook, Variable, get_current_context
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.log import mask_secret

if TYPE_CHECKING:
    from onetouch.connections import Connection
    from onetouch.workspace import Workspace


def workspace() -> Workspace:
    """The installation that the ONETOUCH_* variables name, with Airflow's connections and its side of the stop."""
    from onetouch.workspace import open_workspace

    return open_workspace(connection=connection, stop_switch=stop_switch)


def stop_switch() -> str | None:
    """The text of the Airflow Variable `onetouch_stop`: while there is any, nothing is written outside.

    One that cannot be read fails the task: then nothing is written either.
    """
    return str(Variable.get("onetouch_stop", default=None) or "").strip() or None


def connection(conn_id: str) -> Connection | None:
    """An Airflow connection as the library's own type, from whichever secrets backend has it; None if none does."""
    from onetouch.connections import Connection

    try:
        found = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        return None
    # Airflow masks the extras as one text: what is in them must be masked by itself, a key line by line.
    mask_secret(found.extra_dejson)
    for line in str(found.extra_dejson.get("private_key") or "").split():
        mask_secret(line)
    return Connection(
        conn_id=conn_id,
        host=found.host,
        login=found.login,
        password=found.password,
        schema=found.schema,
        port=found.port,
        extra=found.extra_dejson,
    )


def keep_run_id(run_id: str) -> None:
    """Leaves the ledger's id of this run for the tasks that follow `open_run`."""
    get_current_context()["ti"].xcom_push(key="run_id", value=run_id)


def run_id() -> str:
    """The ledger's id of this run, as `open_run` left it."""
    return get_current_context()["ti"].xcom_pull(task_ids="open_run", key="run_id")


def as_of() -> datetime:
    """The moment this DAG run is for: the param, else the end of its data interval, else when it was to start.

    It stays the same when a task is cleared and run again.
    """
    context = get_current_context()
    given = context["params"]["as_of"]
    if given:
        return datetime.fromisoformat(given).astimezone(UTC)
    run = context["dag_run"]
    return (run.data_interval_end or run.run_after).astimezone(UTC)


def param(name: str) -> Any:
    """A param of this DAG run."""
    return get_current_context()["params"][name]


def dry_run() -> bool:
    """Whether this DAG run computes everything and sends nothing."""
    return param("dry_run")


def now() -> datetime:
    """The clock. The library never reads it; the DAGs do, here."""
    return datetime.now(UTC)
