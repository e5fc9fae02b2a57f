"""
# approve_tasks

More new tasks at once than the policy lets through unasked (`delivery.approval_above`, or a jump: `approval_jump`): a
person decides. Started by `pql_pipeline` when a run of it withheld its new tasks; apart from it, so that the hourly
withdrawals and releases go on while the question is open.

    approve → deliver_tasks → alert_reps

**Where to answer:** Airflow's home page and the run's page list it under *Required actions*, and the ops channel
has the link. The form says how many tasks there are, for which rep, and which accounts are the best of them. Anybody
may answer who may edit required actions in Airflow. The ledger keeps who did, and when.

**Yes** makes the tasks of that very run; each account is looked at once more first, so one that has begun to buy, was
called or got an opportunity since is left alone. **No**, or **no answer** within `delivery.approval_hours` (and never
longer than the run is fresh, `delivery.fresh_hours`), leaves them unmade; the next hour decides anew, and asks anew
when it is still too many. One question is open at a time: those of later runs wait, and are dropped when they no
longer need asking. Without Airflow: `onetouch run --approve`.

## Params

- **run_id**: the ledger's id of the pipeline run whose tasks are asked about. The pipeline gives it.

## Running it again

A question is asked once a run of the pipeline. Clear `deliver_tasks` to finish what was approved; what was delivered is
not delivered twice. A yes is for the very tasks the run had: routed anew to others, they are withheld. To be asked
again, trigger `pql_pipeline`.

## When a task fails

- **approve**: the ledger or the policy cannot be read; nothing was asked and nothing is sent. Clear it. Skipped means
  that nothing was left to ask: too late, sending is stopped, or a later run has decided anew.
- **deliver_tasks**: as in `pql_pipeline`. Skipped after a no. When the yes came too late the log says "as_of is not
  fresh" and nothing was sent.
- **alert_reps**: as in `pql_pipeline`.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Param, task
from onetouch_airflow.approval import AskForTasks
from onetouch_airflow.defaults import DEFAULT_ARGS, TAGS
from onetouch_airflow.opening import now, param, workspace

with DAG(
    dag_id="approve_tasks",
    description="A person's yes before more new tasks than usual",
    doc_md=__doc__,
    schedule=None,
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,  # paused, it would leave questions unasked
    default_args=DEFAULT_ARGS,
    params={
        "run_id": Param(
            None,
            type=["null", "string"],
            pattern=r"^[0-9TZ]+-[0-9a-z-]+$",
            title="Run",
            description="The ledger's id of the pipeline run whose new tasks are asked about.",
            section="Which run",
        )
    },
    tags=[*TAGS, "asks a person", "writes to crm"],
) as dag:
    approve = AskForTasks(
        task_id="approve",
        run_id="{{ params.run_id }}",
        doc_md="Asks a person whether the run's new tasks may be made, and waits for the answer.",
    )

    @task
    def deliver_tasks() -> Any:
        """The tasks that were approved, after a pre-send recheck of each account."""
        from onetouch import stages

        return stages.deliver_tasks(workspace(), param("run_id"), now())

    @task
    def alert_reps() -> Any:
        """Tells each new task's owner in Slack."""
        from onetouch import stages

        return stages.alert_reps(workspace(), param("run_id"), now())

    approve >> deliver_tasks() >> alert_reps()
