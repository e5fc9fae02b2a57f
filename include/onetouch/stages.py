"""The pipeline's stages, one function each: every task of a DAG calls one stage, `onetouch run` calls all in order.

The module also answers what both need to know about a run: why it may not send, the question for approval, its CRM.

A stage opens what it needs, calls one package of the library, and returns a small summary that is stored in the
ledger with the run, so that a run's accounting can be read at any time. A stage can be repeated: work that was done
is not done twice.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

import pyarrow as pa

from onetouch import (
    audit,
    chat,
    consent,
    crm,
    crm_sync,
    delivery,
    events,
    experiments,
    metrics,
    quality,
    report,
    retention,
    routing,
    scoring,
    signals,
    sources,
)
from onetouch.connections import Connection, ConnectionConfigError
from onetouch.delivery import DeliveryFailed, Question
from onetouch.handoff import without_addresses
from onetouch.lake import read_table
from onetouch.ledger import Run
from onetouch.policy import Policy
from onetouch.quality import ChecksFailed
from onetouch.stop import Stopped
from onetouch.workspace import NotConfigured, Workspace, usable_policy

log = logging.getLogger(__name__)

Summary = dict[str, Any]
P = ParamSpec("P")

ORDER = (
    "extract_crm", "back_off", "extract_events", "stage_events", "check_events", "build_signals", "check_signals",
    "score", "route", "check_decisions", "deliver_tasks", "alert_reps", "write_accounts",
    "send_audience", "shadow",
)  # fmt: skip
"""The order in which one process runs the stages. Releasing accounts depends only on the CRM, so it comes early;
nothing depends on the shadow, so it comes last."""

STOPS = (ChecksFailed, DeliveryFailed, Stopped)
"""Errors of a stage that did what it could but must stop the stages that follow; each error has the summary."""


def _stage(
    function: Callable[Concatenate[Workspace, Run, Policy, P], Summary],
) -> Callable[Concatenate[Workspace, str, P], Summary]:
    """Opens the run with the policy it began with, and stores the stage's summary in the ledger."""

    @functools.wraps(function)
    def of_run(workspace: Workspace, run_id: str, /, *args: P.args, **kwargs: P.kwargs) -> Summary:
        run = workspace.ledger.run(run_id)
        workspace.ledger.require_run_files(run_id)
        try:
            done = function(workspace, run, workspace.ledger.policy(run.policy_version), *args, **kwargs)
        except STOPS as error:
            error.summary = _impersonal(error.summary)
            workspace.ledger.finish_stage(run_id, function.__name__, error.summary)
            raise
        summary: Summary = _impersonal(done)
        workspace.ledger.finish_stage(run_id, function.__name__, summary)
        log.info("%s of %s: %s", function.__name__, run_id, summary)
        return summary

    return of_run


def _impersonal(summary: Any) -> Any:
    """A summary without e-mail addresses (a lone user's account id may be one): it goes to the log and to XCom."""
    if isinstance(summary, str):
        return without_addresses(summary)
    if isinstance(summary, dict):
        return {_impersonal(name): _impersonal(value) for name, value in summary.items()}
    return [_impersonal(value) for value in summary] if isinstance(summary, list | tuple) else summary


def with_sources(workspace: Workspace, sources: list[str] | None) -> Workspace:
    """The workspace reading only these sources of its policy (None: all). Raises NotConfigured for any other source."""
    if not sources:
        return workspace
    unknown = sorted(set(sources) - set(workspace.policy.sources))
    if unknown:
        known = ", ".join(workspace.policy.sources)
        raise NotConfigured(f"--source {', '.join(unknown)} is not a source of the policy; it has {known}")
    return dataclasses.replace(workspace, sources=tuple(dict.fromkeys(sources)))


def begin(workspace: Workspace, as_of: datetime, now: datetime, *, dry_run: bool = False) -> str:
    """Begins (or finds again) the run of this moment and policy; returns its id.

    Raises ValueError when `as_of` lies in the future of `now`, Pruned when the runs it would go on from were pruned.
    """
    if as_of > now:
        raise ValueError(f"as_of {as_of.isoformat()} lies in the future; give a moment up to {now.isoformat()}")
    retention.require_memory(workspace.ledger, workspace.policy, as_of)
    fresh = now - as_of <= timedelta(hours=workspace.policy.delivery.fresh_hours)
    return workspace.ledger.begin_run(as_of.astimezone(UTC), workspace.policy, dry_run, fresh=fresh).run_id


def held(workspace: Workspace, run: Run, policy: Policy, now: datetime) -> str | None:
    """Why this run may not write outside; None: writing is allowed."""
    return delivery.held(policy, run.as_of, now, dry_run=run.dry_run, stopped=workspace.stopped())


@_stage
def extract_events(workspace: Workspace, run: Run, policy: Policy, source: str) -> Summary:
    """Fetches the run's window of one source into the lake, as received."""
    return sources.extract(
        source,
        workspace.lake,
        workspace.ledger,
        policy,
        run,
        connection=_api(workspace, source),
        folder=_folder(workspace, policy, source),
    )


@_stage
def stage_events(workspace: Workspace, run: Run, policy: Policy) -> Summary:
    """Turns raw rows into canonical events; rejected rows go to quarantine with the reason."""
    return events.stage(workspace.lake, workspace.ledger, policy, run)


@_stage
def check_events(workspace: Workspace, run: Run, policy: Policy) -> Summary:
    """Checks the batch; raises ChecksFailed when a critical check fails."""
    return quality.check_events(workspace.lake, workspace.ledger, policy, run)


@_stage
def build_signals(workspace: Workspace, run: Run, policy: Policy) -> Summary:
    """Aggregates events to one row of signals for each account."""
    listed = None
    if policy.signals.enterprise_file is not None:
        listed = signals.read_enterprises(workspace.beside, policy)
    return signals.build(workspace.lake, workspace.ledger, policy, run, listed)


@_stage
def check_signals(workspace: Workspace, run: Run, policy: Policy) -> Summary:
    """Checks the accounts; raises ChecksFailed when a critical check fails."""
    return quality.check_signals(workspace.lake, workspace.ledger, policy, run)


@_stage
def score(workspace: Workspace, run: Run, policy: Policy) -> Summary:
    """Computes gates, points and tier of every account, with reasons."""
    return scoring.score(workspace.lake, workspace.ledger, policy, run)


@_stage
def extract_crm(workspace: Workspace, run: Run, policy: Policy) -> Summary:
    """Reads accounts, touches, replies and opportunities from the CRM, or only accounts from a file."""
    if workspace.accounts:
        return crm_sync.extract_accounts_file(workspace.lake, workspace.ledger, run, workspace.accounts)
    return crm_sync.extract_crm(workspace.lake, workspace.ledger, policy, run, crm_of(workspace, policy))


@_stage
def back_off(workspace: Workspace, run: Run, policy: Policy, now: datetime) -> Summary:
    """Releases accounts that stayed silent after the one touch, and closes tasks that no rep worked on in time."""
    conn_id = crm.connection_id(policy)
    if workspace.connection(conn_id) is None:
        return {"skipped": f"no {conn_id} connection: nothing was ever handed over"}
    why_not = held(workspace, run, policy, now)
    client = crm_of(workspace, policy)
    return delivery.back_off(workspace.ledger, policy, run, client, held=why_not, lake=workspace.lake)


@_stage
def route(workspace: Workspace, run: Run, policy: Policy) -> Summary:
    """Makes one decision for each account."""
    return routing.route(workspace.lake, workspace.ledger, policy, run, consent.read_listed(workspace.beside, policy))


@_stage
def shadow(workspace: Workspace, run: Run, policy: Policy) -> Summary:
    """Computes what the shadow policy would have decided and how it differs; sends nothing and moves no handoff."""
    if workspace.shadow is None:
        return {"skipped": "no shadow policy: ONETOUCH_SHADOW_POLICY names none"}
    return experiments.shadow(workspace.lake, workspace.ledger, usable_policy(workspace.shadow), run)


@_stage
def check_decisions(workspace: Workspace, run: Run, policy: Policy) -> Summary:
    """Checks the decisions before anything is sent; raises ChecksFailed when a critical check fails."""
    return quality.check_decisions(workspace.lake, workspace.ledger, policy, run)


@_stage
def deliver_tasks(workspace: Workspace, run: Run, policy: Policy, now: datetime) -> Summary:
    """Writes context, then task, for every decision to send; withdraws tasks of accounts that are converting.

    If there are more new tasks than the policy allows without approval, they wait for `approve`; all else is done.
    """
    why_not = held(workspace, run, policy, now)

    def recheck(account_ids: list[str]) -> Mapping[str, events.Checkout]:
        fetch = functools.partial(_fetch_again, workspace, policy)
        records = read_table(workspace.lake, "crm", run.run_id, "accounts.parquet", columns=["domain", "domains"])
        same = signals.other_domains(records.to_pandas())
        return events.fresh_checkouts(workspace.lake, policy, run, account_ids, now, fetch, same)

    return delivery.deliver_tasks(
        workspace.lake,
        workspace.ledger,
        policy,
        run,
        None if why_not else crm_of(workspace, policy),
        recheck=recheck,
        held=why_not,
        approved=delivery.approved(workspace.lake, workspace.ledger, run),
        listed=functools.partial(consent.read_listed, workspace.beside, policy),
    )


@_stage
def write_accounts(workspace: Workspace, run: Run, policy: Policy, now: datetime) -> Summary:
    """Writes tier, action, score and trigger on the record of every account whose standing has changed."""
    conn_id = crm.connection_id(policy)
    if policy.crm.standing != "everybody":
        return {"skipped": f"crm.standing: {policy.crm.standing}"}
    if workspace.connection(conn_id) is None:
        return {"skipped": f"no {conn_id} connection: no record to write to"}
    why_not = held(workspace, run, policy, now)
    client = None if why_not else crm_of(workspace, policy)
    return delivery.write_accounts(workspace.lake, workspace.ledger, policy, run, client, held=why_not)


@_stage
def send_audience(workspace: Workspace, run: Run, policy: Policy, now: datetime) -> Summary:
    """Writes the audience of accounts that sales leaves to marketing, and tells its receiver of the changes."""
    if not (policy.audience.actions or policy.audience.tiers) and workspace.ledger.audience_told() is None:
        return {"skipped": "audience: neither actions nor tiers"}
    why_not = held(workspace, run, policy, now)
    connection = workspace.connection(delivery.CONNECTION)
    webhook = None
    if connection is not None and not why_not:
        webhook = delivery.Webhook(connection, now, stopped=workspace.stopped)
    listed = functools.partial(consent.read_listed, workspace.beside, policy)
    told = delivery.send_audience(workspace.lake, workspace.ledger, policy, run, webhook, listed=listed, held=why_not)
    return told | {"webhook": connection is not None}


@_stage
def alert_reps(workspace: Workspace, run: Run, policy: Policy, now: datetime) -> Summary:
    """Announces each new task to its owner in the chat."""
    why_not = held(workspace, run, policy, now)
    where = None if why_not else chat_of(workspace, policy)
    known = workspace.connection(crm.connection_id(policy)) is not None
    page = crm_of(workspace, policy).page if known and not why_not else delivery.no_page
    told = delivery.alert_reps(workspace.lake, workspace.ledger, policy, run, where, now=now, held=why_not, page=page)
    return told | {"held": why_not}


def question(workspace: Workspace, run_id: str, now: datetime) -> Question | None:
    """The question a person must answer before the run's new tasks are created; None: no approval is needed."""
    run = workspace.ledger.run(run_id)
    policy = workspace.ledger.policy(run.policy_version)
    if held(workspace, run, policy, now):
        return None
    return delivery.question(workspace.lake, workspace.ledger, policy, run, now)


def ask(workspace: Workspace, run_id: str, now: datetime) -> Question | None:
    """`question`, asked now: the tasks it shows are recorded, so that the `answer` applies to exactly these."""
    asked = question(workspace, run_id, now)
    if asked is not None:
        workspace.ledger.finish_stage(run_id, "ask", {"tasks": asked.tasks, "decisions": asked.decisions})
    return asked


def answer(workspace: Workspace, run_id: str, now: datetime, yes: bool, by: str | None) -> Summary:
    """`approve` for the tasks that were shown; `by` None: nobody answered in time."""
    return approve(workspace, run_id, now, yes, by, workspace.ledger.stage_summary(run_id, "ask"))


@_stage
def approve(
    workspace: Workspace,
    run: Run,
    policy: Policy,
    now: datetime,
    yes: bool,
    by: str | None,
    shown: Summary | None = None,
) -> Summary:
    """Records a person's yes or no to the new tasks `shown` (None: to those the run asks for now)."""
    which = delivery.wanted(workspace.lake, run) if shown is None else shown
    return {"approved": yes, "by": by, "at": now.isoformat()} | which


def reconcile(workspace: Workspace, as_of: datetime, now: datetime, *, dry_run: bool = False) -> Summary:
    """Compares ledger and CRM, makes safe repairs and reports the other differences; not part of a pipeline run."""
    policy, ledger = workspace.policy, workspace.ledger
    run = Run(f"reconcile-{as_of:%Y%m%dT%H%M%SZ}", as_of, policy.version, dry_run)
    why_not = held(workspace, run, policy, now)
    return delivery.reconcile(ledger, policy, run, crm_of(workspace, policy), held=why_not)


def prune(workspace: Workspace, as_of: datetime, now: datetime, *, dry_run: bool = False) -> Summary:
    """Deletes what is older than the policy's `retention` keeps; not part of a pipeline run.

    Raises ValueError when `as_of` lies in the future of `now`: what is kept today would be deleted.
    """
    if as_of > now:
        raise ValueError(f"as_of {as_of.isoformat()} lies in the future; give a moment up to {now.isoformat()}")
    beside = [] if workspace.shadow is None else [usable_policy(workspace.shadow)]
    return retention.prune(
        workspace.lake, workspace.ledger, workspace.policy, as_of.astimezone(UTC), beside=beside, dry_run=dry_run
    )


def compute_metrics(workspace: Workspace, as_of: datetime) -> str:
    """Computes the figures of the last whole week before `as_of` into the lake; returns the week, as 2026-W47."""
    weekly = metrics.weekly(workspace.lake, workspace.ledger, workspace.policy, as_of)
    return metrics.keep(weekly, workspace.lake)


def draw_charts(workspace: Workspace, week: str) -> int:
    """Draws the week's charts into the lake; returns the number of charts."""
    drawn = report.build(metrics.read(workspace.lake, week), workspace.policy)
    return report.keep_charts(drawn, workspace.lake, week)


def audit_delivery(workspace: Workspace, as_of: datetime) -> Summary:
    """Judges the tasks in the CRM by the promises of the delivery (`audit.judge`), those of the last 90 days.

    Returns what `judge` does and "line", the same in words; {"line": why, "wrong": []} where the CRM cannot be read.
    """
    written = (json.dumps(line) for line in audit.export(workspace.ledger))
    try:
        client = crm_of(workspace, workspace.policy)
        told = audit.judge(client, workspace.policy, audit.read_export(written), as_of - audit.LOOKED_BACK)
    except (crm.CrmError, ConnectionConfigError, NotConfigured) as error:
        return {"line": f"not audited: {error}", "wrong": []}
    return told | {"line": audit.in_words(told)}


def post_report(
    workspace: Workspace, week: str, as_of: datetime, now: datetime, promises: str = "", *, dry_run: bool = False
) -> Summary:
    """Posts the week's report; a repeated call does not post it again. `promises`: the line of `audit_delivery`."""
    policy = workspace.policy
    built = report.build(metrics.read(workspace.lake, week), policy, promises)
    why_not = delivery.held(policy, as_of, now, dry_run=dry_run, stopped=workspace.stopped())
    if why_not:
        return {"posted": False, "held": why_not}
    return report.post_report(workspace.ledger, chat_of(workspace, policy), policy, built, f"weekly_report:{week}")


def run_all(
    workspace: Workspace,
    as_of: datetime,
    now: datetime,
    *,
    dry_run: bool = False,
    approved_by: str | None = None,
    started: Callable[[str], None] = lambda stage: None,
) -> str:
    """Runs every stage in this process; `started` is called with each stage's name. Returns the run's id.

    `approved_by`: who has approved more new tasks than the policy allows without asking.
    A refusal by the CRM does not stop later stages: the first DeliveryFailed is raised after the last stage, with the
    messages of all.
    """
    run_id = begin(workspace, as_of, now, dry_run=dry_run)
    needs_now = {"back_off", "deliver_tasks", "alert_reps", "write_accounts", "send_audience"}
    failures: list[DeliveryFailed] = []
    for name in ORDER:
        started(name)
        if name == "deliver_tasks" and approved_by:
            approve(workspace, run_id, now, True, approved_by)
        function = globals()[name]
        if name == "extract_events":
            for source in workspace.sources or workspace.policy.sources:
                function(workspace, run_id, source)
        elif name in needs_now:
            try:
                function(workspace, run_id, now)
            except DeliveryFailed as failure:
                log.warning("%s of %s: %s", name, run_id, failure)
                failures.append(failure)
        else:
            function(workspace, run_id)
    if failures:
        first = failures[0]
        first.args = ("; ".join(str(failure) for failure in failures),)
        raise first
    return run_id


def _fetch_again(
    workspace: Workspace, policy: Policy, source: str, start: datetime, end: datetime
) -> Iterator[pa.RecordBatch]:
    connection, folder = _api(workspace, source), _folder(workspace, policy, source)
    return sources.fetch_rows(source, policy, start, end, connection=connection, folder=folder)


def _api(workspace: Workspace, source: str) -> Connection | None:
    """The connection to a source's API; None when a folder of exports is read instead."""
    return None if workspace.exports else workspace.required_connection(sources.source_of(source).connection)


def _folder(workspace: Workspace, policy: Policy, source: str) -> Path | None:
    """The folder of a source's exports: the one given or, with several sources, its subfolder of the source's name."""
    return workspace.exports / source if workspace.exports and len(policy.sources) > 1 else workspace.exports


def crm_of(workspace: Workspace, policy: Policy) -> crm.Crm:
    """The policy's CRM; it stops writing as soon as the stop is set."""
    connection = workspace.required_connection(crm.connection_id(policy))
    return crm.connect(connection, policy, stopped=workspace.stopped)


def chat_of(workspace: Workspace, policy: Policy) -> chat.Chat:
    """The policy's chat; it stops posting as soon as the stop is set."""
    connection = workspace.required_connection(chat.connection_id(policy))
    return chat.connect(connection, policy, stopped=workspace.stopped)
