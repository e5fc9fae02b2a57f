"""Asking a person in Airflow whether more new tasks than usual may be made: Airflow's own operators, our words."""

from __future__ import annotations

import re
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk.exceptions import AirflowSkipException

from onetouch_airflow import alerts, opening

if TYPE_CHECKING:
    from airflow.sdk import Context
    from onetouch.delivery import Question

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~&])")


class StartAsking(TriggerDagRunOperator):
    """Starts `trigger_dag_id` for the ledger's run `run_id`, once, when a person is to be asked about its new tasks."""

    template_fields = (*TriggerDagRunOperator.template_fields, "run_id")

    def __init__(self, *, run_id: str, **kwargs: Any) -> None:
        super().__init__(
            trigger_run_id=run_id,
            conf={"run_id": run_id},
            skip_when_already_exists=True,
            fail_when_dag_is_paused=True,  # a question that nobody is asked must not look like one
            **kwargs,
        )
        self.run_id = run_id

    def execute(self, context: Context) -> Any:
        """Does nothing when nobody needs to be asked."""
        from onetouch import stages

        if stages.question(opening.workspace(), self.run_id, opening.now()) is None:
            self.log.info("nobody needs to be asked about run %s", self.run_id)
            self.operator_extra_links = ()  # no run was started that a link could lead to
            return None
        return super().execute(context)


class AskForTasks(ApprovalOperator):
    """Shows a person the new tasks of the ledger's run `run_id`, and keeps the answer there.

    Nobody answering in time is a no, and so is a question that is no longer to be asked (skipped): what follows is
    skipped, the tasks stay withheld, and the next run of the pipeline decides anew.
    """

    template_fields = ("run_id",)  # what is shown is made when it is asked, and quotes the outside: no templates

    def __init__(self, *, run_id: str, **kwargs: Any) -> None:
        # The wait is the policy's, known when it is asked; given here so that Airflow doesn't take the execution's.
        super().__init__(
            subject="More new tasks than usual: make them?",
            defaults=self.REJECT,
            response_timeout=timedelta(hours=1),
            **kwargs,
        )
        self.run_id = run_id

    def execute(self, context: Context) -> Any:
        """Puts the question and waits for the answer, in Airflow's own state for it."""
        from onetouch import stages

        asked = stages.ask(opening.workspace(), self.run_id, opening.now())
        if asked is None:
            raise AirflowSkipException(f"nothing to ask about run {self.run_id} any more")
        self.subject = f"{asked.tasks} new tasks, more than {asked.limit} at once: make them?"
        self.body = body(asked)
        self.response_timeout = asked.until - opening.now()
        alerts.tell(
            f":raised_hand: {asked.tasks} new tasks wait for a person's yes until {asked.until:%H:%M} UTC; "
            f"without one they are not made\n{context['ti'].log_url}"
        )
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Keeps the answer in the ledger, then goes on as Airflow's own operator: a no skips what follows."""
        if "error" not in event:
            from onetouch import stages

            who = event["responded_by_user"]
            by = None if who is None else str(who["name"] if isinstance(who, dict) else who.name)
            yes = event["chosen_options"] == [self.APPROVE]
            stages.answer(opening.workspace(), self.run_id, opening.now(), yes, by)
        return super().execute_complete(context, event)


def body(asked: Question) -> str:
    """What the form shows, in Markdown: how many, for whom, the best of them, and where to see all."""
    waiting = f", and {asked.waiting} more accounts wait for the next day" if asked.waiting else ""
    lines = [
        f"Run `{asked.run_id}` decided on **{asked.tasks}** sales tasks{waiting}; the policy lets "
        f"{asked.limit} through unasked "
        "(`delivery.approval_above`, `delivery.approval_jump`). Approve before "
        f"**{asked.until.astimezone(UTC):%Y-%m-%d %H:%M} UTC**, else they are not made and the next run decides anew. "
        "Each account is looked at once more before its task is written.",
        "",
        "| rep | new tasks |",
        "|---|---:|",
        *(f"| {_escaped(email.partition('@')[0])} | {n} |" for email, n in asked.by_rep.items()),
        "",
        "| the best of them | score | because of |",
        "|---|---:|---|",
        *(f"| {_escaped(company)} | {score:g} | {_escaped(call)} |" for company, score, call in asked.top),
        "",
        f"All: `onetouch decisions --run {asked.run_id} --action sales_now`. Why: `onetouch explain ACCOUNT`.",
    ]
    return "\n".join(lines)


def _escaped(text: str) -> str:
    """Foreign text as Markdown shows it: no links, no emphasis, no HTML, no further column."""
    return _MARKDOWN.sub(r"\\\1", text)
