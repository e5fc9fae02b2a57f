"""
# pql_pipeline

Every hour: product usage becomes decisions, and the few decisions to sell become tasks in the CRM.
Each task calls one stage of the library; data stays in the lake, the ledger remembers what was done to whom.

    open_run → extract_events[source] → stage_events → check_events → build_signals → check_signals → score ┐
             → extract_crm → back_off → back_off_ended ─────────────────────────────────────────────────────┴→
               route ┬→ check_decisions → deliver_tasks → delivery_ended ┬→ alert_reps
                     └→ shadow                                           ├→ write_accounts
                                                                         ├→ send_audience
                                                                         └→ ask_approval

What the CRM refuses in `back_off` or `deliver_tasks` stops nobody else's task and nobody's alert: what follows waits
for their end, not for their success, and `crm_written` keeps the run red. A failed check stops all that comes after it.

## Params

- **dry_run**: compute everything, send nothing. The run is kept apart from a real one of the same moment.
- **as_of**: run as if at this moment (RFC 3339 with offset). Empty: the hour the run was scheduled for.
  A moment older than the policy's `delivery.fresh_hours` sends nothing, whatever `dry_run` says.

## Stopping it

- **Everything at once**: `onetouch stop REASON`, or an Airflow Variable `onetouch_stop` with any text in it. From then
  on nothing is written to the CRM or posted for anybody, whoever runs what; at most the request under way still
  arrives, and the task it interrupts fails with the reason. Runs go on, compute everything, and say in their summaries
  what they withheld and how many open tasks they would have closed. Only the data team goes on hearing of failed
  tasks. `onetouch resume` (and an empty Variable) lifts it; the next run does what is then still right.
- **By themselves** runs send nothing when a critical check fails (stale or missing events, odd volume, bad rows,
  decisions that break a rule, more tasks than a day or a rep may get), when their moment is not fresh, or in a dry
  run. All of it: `docs/breaker.md`.
- **More new tasks than `delivery.approval_above`**, or a jump beyond the busiest of the last days
  (`delivery.approval_jump`), are withheld, and a person is asked in `approve_tasks`; all else goes on.

## Running it again

Everything may be run again: a stage repeats nothing that was done. Two ways, not to be confused:

- **Clear** a failed task (with downstream) to finish *that* run: same moment, same windows, same policy.
  After an hour or two it is better not to: its moment may be stale by then, and a stale run sends nothing.
- **Trigger** a new run to act on *now*. A run reads what no run has read yet, so nothing that a failed
  or paused run left unread is lost. This is the usual answer to an outage that is over.

A backfill computes decisions for past hours and sends nothing.

## When a task fails

Failures that another try cannot cure fail at once; others are tried four more times, with growing pauses. The
alert in Slack and the last lines of the task's log name what failed.

- **open_run**: the policy file cannot be read, the ledger database is down, or `as_of` lies in the future. The
  message names the field. Check a policy before it is deployed: `onetouch policy check FILE`.
- **extract_events**: a source cannot be reached or refuses the key (`amplitude_default`). Sources fail apart;
  clear the one that failed. Nothing is lost: what it has not read is read by the next run.
- **stage_events**: the raw files cannot be read as they are. Bad rows do not fail it, they go to quarantine;
  this is a full disk, memory, or a bug: the log has the file.
- **check_events**: the batch is not to be trusted (volume, freshness, quarantined or unknown events). Nothing is
  sent. The log links the Data Docs; `onetouch run --dry-run` (with the connections as `AIRFLOW_CONN_…` variables)
  shows the same. If the product really changed that much, change the thresholds in the policy and trigger a new run;
  do not mark it as success.
- **build_signals**: memory or disk, or a bug. Clear it: only the days that are missing are built.
- **check_signals**: the account table is not plausible. As check_events.
- **score**: a bug, or a policy whose signals are not there. Nothing has been sent. Clear after the fix.
- **extract_crm**: the CRM cannot be reached, refuses the login (`salesforce_default` or `hubspot_default`), or a field
  the policy maps is not there. Until it is back nothing is decided: who is being talked to is not known.
- **back_off**: the CRM refused to close a task; the log names it and why. All the rest is released, and the run goes
  on: the account of an unclosed task stays held, so it gets no second one. The next run tries again; mend the cause,
  else it is red every hour.
- **back_off_ended**: is never red. `route` waits for it: a decision must know who was released.
- **route**: the file of `never_contact` in the policy cannot be read (the log says why): nobody is contacted on half a
  list. Else a bug: no decision is kept unless every account has exactly one. Clear after the fix.
- **shadow**: the second policy (`ONETOUCH_SHADOW_POLICY`) cannot be read: `onetouch policy check FILE` says why. Or the
  signals it reads otherwise could not be computed anew: memory or disk. Nothing waits for it, and tasks are delivered
  as if it were not there. Clear it when it is mended, or leave it: the next run compares again. Without a second
  policy it says so and is done.
- **check_decisions**: more tasks than a day or a rep may get, or decisions that do not add up. Nothing is sent.
  Look at the Data Docs, then `onetouch decisions --action sales_now`. When they are right, raise the cap or
  threshold in the policy and trigger a new run.
- **deliver_tasks**: some decisions were not delivered; the log lists reasons. Delivered ones stay delivered, and
  there is one task each: clear it (with downstream) while the run's moment is fresh, else trigger a new run.
  Reasons: what the CRM refuses is a dead letter (`onetouch outbox` says what to do); its account is held and offered
  again a day later, or by the next run after `onetouch outbox retry KEY`; a locked row, a time-out or a used-up API
  limit waits for the next run by itself.
  Owners of the delivered ones are told all the same. It also passes on tasks that stay untouched (`escalation of …`)
  or whose owner has left (`reassignment of …`), and keeps records fresh (`record of …`): an owner the CRM refuses, or
  no user with the address of `assignment.escalate_to`, leaves the task where it is (`docs/after-handover.md`).
  `follow-up of …` was not written, `open follow-up …` not closed, or what was pressed in Slack not done (`press of …`):
  the next run tries again.
- **delivery_ended**: is never red. Reps are told and a person is asked once delivery has ended, well or not, unless
  `check_decisions` failed.
- **write_accounts**: the CRM refused some of the accounts whose tier, action, score or trigger has changed; the log
  has each reason once, with a number. All others are written, and nobody's task waits for it. The next run tries the
  refused ones again: mend the cause (a validation rule, a missing right), else it is red every hour.
- **send_audience**: the receiver of the audience (`audience_default`) cannot be reached, refuses the signature, or
  refused a request. What waits is sent by the next run, in its order; a refused request is a dead letter
  (`onetouch outbox`, then `onetouch outbox retry KEY`). The file in the lake is written all the same.
- **crm_written**: `back_off`, `deliver_tasks` or `write_accounts` is red: see there. It does nothing but keep the run
  red, and alerts nobody.
- **ask_approval**: `approve_tasks` is paused or missing: unpause it, then clear this one. The new tasks are withheld
  until a person says yes; when nobody needs to be asked it is done at once.
- **alert_reps**: Slack refused (`slack_default`, or the bot is not in the channel). The tasks are in the CRM
  already; clear it and no alert, reminder or event is posted twice.

A run that is not through in 50 minutes says so in Slack and goes on; the next one waits for it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, TriggerRule, task
from onetouch_airflow.approval import StartAsking
from onetouch_airflow.defaults import DEFAULT_ARGS, TAGS, deadline, params
from onetouch_airflow.opening import as_of, dry_run, keep_run_id, now, run_id, workspace

RUN_ID = "{{ ti.xcom_pull(task_ids='open_run', key='run_id') }}"

with DAG(
    dag_id="pql_pipeline",
    description="Product usage → decisions → tasks in the CRM",
    doc_md=__doc__,
    schedule="@hourly",
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    params=params(),
    deadline=deadline(timedelta(minutes=50)),
    tags=[*TAGS, "writes to crm"],
) as dag:

    @task
    def open_run() -> list[str]:
        """Fixes the run's moment and policy in the ledger; returns the sources to read."""
        from onetouch import stages

        here = workspace()
        keep_run_id(stages.begin(here, as_of(), now(), dry_run=dry_run()))
        return list(here.policy.sources)

    # A mapped task doesn't take its docs from the docstring.
    @task(map_index_template="{{ task.op_kwargs['source'] }}", doc_md="Fetches one source's new window, as received.")
    def extract_events(source: str) -> Any:
        from onetouch import stages

        return stages.extract_events(workspace(), run_id(), source)

    @task
    def stage_events() -> Any:
        """Raw rows become canonical events; bad ones go to quarantine with a reason."""
        from onetouch import stages

        return stages.stage_events(workspace(), run_id())

    @task
    def check_events() -> Any:
        """Stops here when the batch is not to be trusted."""
        from onetouch import stages

        return stages.check_events(workspace(), run_id())

    @task
    def build_signals() -> Any:
        """Events become one row of signals an account."""
        from onetouch import stages

        return stages.build_signals(workspace(), run_id())

    @task
    def check_signals() -> Any:
        """Stops here when the account table is not plausible."""
        from onetouch import stages

        return stages.check_signals(workspace(), run_id())

    @task
    def score() -> Any:
        """Gates, points and tier of every account, with reasons."""
        from onetouch import stages

        return stages.score(workspace(), run_id())

    @task
    def extract_crm() -> Any:
        """Accounts, touches, replies and opportunities from the CRM."""
        from onetouch import stages

        return stages.extract_crm(workspace(), run_id())

    @task
    def back_off() -> Any:
        """One touch, then back off: releases the accounts that stayed silent."""
        from onetouch import stages

        return stages.back_off(workspace(), run_id(), now())

    @task
    def route() -> Any:
        """One decision for every account."""
        from onetouch import stages

        return stages.route(workspace(), run_id())

    @task
    def shadow() -> Any:
        """What a second policy would have decided; touches nothing, and nothing waits for it."""
        from onetouch import stages

        return stages.shadow(workspace(), run_id())

    @task
    def check_decisions() -> Any:
        """Stops here when the decisions jump or do not add up."""
        from onetouch import stages

        return stages.check_decisions(workspace(), run_id())

    @task
    def deliver_tasks() -> Any:
        """Context first, then exactly one task for every decision to sell."""
        from onetouch import stages

        return stages.deliver_tasks(workspace(), run_id(), now())

    @task
    def alert_reps() -> Any:
        """Tells each new task's owner in Slack."""
        from onetouch import stages

        return stages.alert_reps(workspace(), run_id(), now())

    @task
    def write_accounts() -> Any:
        """Tier, action, score and trigger on the record of every account whose standing has changed."""
        from onetouch import stages

        return stages.write_accounts(workspace(), run_id(), now())

    @task
    def send_audience() -> Any:
        """Whom sales leaves to marketing: a file in the lake, and a webhook that learns the changes."""
        from onetouch import stages

        return stages.send_audience(workspace(), run_id(), now())

    # A DAG of its own asks, so that the hourly withdrawals and releases don't wait for a person.
    ask_approval = StartAsking(
        task_id="ask_approval",
        trigger_dag_id="approve_tasks",
        run_id=RUN_ID,
        doc_md="Has a person asked, in `approve_tasks`, when there are more new tasks than go unasked.",
    )

    # What needs a task's end but not its success waits for one of these, and for the checks directly.
    back_off_ended = EmptyOperator(
        task_id="back_off_ended",
        trigger_rule=TriggerRule.ALL_DONE,
        doc_md="A task that cannot be closed holds its own account and no other.",
    )
    delivery_ended = EmptyOperator(
        task_id="delivery_ended",
        trigger_rule=TriggerRule.ALL_DONE,
        doc_md="Reps hear of the tasks that were delivered, whatever became of the others.",
    )
    # Airflow judges a run by its last tasks alone.
    crm_written = EmptyOperator(
        task_id="crm_written", doc_md="Keeps the run red when the CRM was not written as it should be."
    )

    sources, crm, signals, decisions = open_run(), extract_crm(), build_signals(), route()
    released, checked, delivered, standing = back_off(), check_decisions(), deliver_tasks(), write_accounts()

    extract_events.expand(source=sources) >> stage_events() >> check_events() >> signals
    # Plan limits, employees and domains come from the CRM; limit signals and the ICP gate cannot do without them.
    sources >> crm >> signals >> check_signals() >> score() >> decisions
    # On the CRM alone: broken product data must not keep an account from being released.
    crm >> released >> back_off_ended >> decisions
    decisions >> checked >> delivered >> delivery_ended
    [checked, delivery_ended] >> alert_reps()
    [checked, delivery_ended] >> ask_approval
    # After the tasks: they come first when the CRM's calls of the day run short.
    [checked, delivery_ended] >> standing
    [checked, delivery_ended] >> send_audience()
    [released, delivered, standing] >> crm_written
    decisions >> shadow()
