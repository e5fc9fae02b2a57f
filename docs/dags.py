"""Writes docs/dags.md: the list of DAGs, from the DAG files themselves. Run: python docs/dags.py"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.sdk import DAG

REPOSITORY = Path(__file__).parents[1]
PAGE = REPOSITORY / "docs" / "dags.md"


def render(dags: Iterable[DAG]) -> str:
    """The page: a table of all DAGs, then each one's tasks, params and runbook."""
    dags = sorted(dags, key=lambda dag: dag.dag_id)
    lines = ["# DAGs", "", "Made from `dags/` by `python docs/dags.py`; a test fails when it is out of date.", ""]
    lines += ["| DAG | what for | schedule (UTC) | tags |", "|---|---|---|---|"]
    for dag in dags:
        schedule = f"`{dag.schedule}`" if dag.schedule else "when triggered"
        tags = ", ".join(sorted(dag.tags))
        lines.append(f"| [{dag.dag_id}](#{dag.dag_id}) | {dag.description} | {schedule} | {tags} |")
    for dag in dags:
        title, runbook = dag.doc_md.strip().split("\n", 1)
        lines += ["", title.replace("# ", "## ", 1), "", "| task | what it does | then |", "|---|---|---|"]
        for task in dag.topological_sort():
            mapped = "[]" if task.is_mapped else ""
            then = ", ".join(sorted(task.downstream_task_ids)) or "—"
            lines.append(f"| `{task.task_id}{mapped}` | {task.doc_md} | {then} |")
        lines.append(runbook.rstrip().replace("\n## ", "\n### "))
    return "\n".join(lines) + "\n"


def main() -> None:
    """Reads the DAG files with an Airflow home of their own and writes the page."""
    with tempfile.TemporaryDirectory() as home:
        os.environ.update(
            AIRFLOW_HOME=home,
            AIRFLOW__CORE__DAGS_FOLDER=str(REPOSITORY / "dags"),
            AIRFLOW__CORE__PLUGINS_FOLDER=str(REPOSITORY / "plugins"),
            AIRFLOW__CORE__LOAD_EXAMPLES="False",
            AIRFLOW__LOGGING__LOGGING_LEVEL="ERROR",
        )
        from airflow.dag_processing.dagbag import DagBag

        bag = DagBag()
    if bag.import_errors:
        raise SystemExit("\n".join(bag.import_errors.values()))
    PAGE.write_text(render(bag.dags.values()), encoding="utf-8")


if __name__ == "__main__":
    main()
