"""Runs the suites of a stage, writes the Data Docs to the lake and returns the findings."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pandas as pd
import pyarrow as pa

from onetouch.catalogue import MOMENTS, SALES_NOW, SIGNAL_NAMES
from onetouch.lake import Lake, read_table
from onetouch.ledger import ACTIVE, Ledger, Run
from onetouch.policy import Policy, listed_reps, tasks_of, zone_of
from onetouch.quality import docs, names, rules
from onetouch.quality.history import unusual
from onetouch.quality.profile import profiled
from onetouch.quality.suites import Suite, decision_suites, event_suites, signal_suites

if TYPE_CHECKING:
    import ibis.expr.types as ir

Summary = dict[str, Any]


class ChecksFailed(Exception):
    """A critical check failed, so nothing may be sent. The message names each failed check, its figure and threshold.

    `summary`: the summary that the check would have returned.
    """

    def __init__(self, stage: str, run: Run, summary: Summary) -> None:
        self.summary = summary
        failed = "; ".join(summary["critical"])
        super().__init__(
            f"{stage} of run {run.run_id}: {len(summary['critical'])} critical check(s) failed, nothing is sent: "
            f"{failed}; details in {summary['docs']}"
        )


def check_events(lake: Lake, ledger: Ledger, policy: Policy, run: Run) -> Summary:
    """Checks the staged batches by their profile, which is stored as `quality/{run_id}/profile.parquet`.

    Returns {"passed", "critical", "warnings", "unjudged", "docs"}: lists of one-line findings, and the path of the
    Data Docs; and "events": the numbers of unknown and of ignored events by their names. Raises ChecksFailed.
    """
    profile, named, counts = profiled(lake, ledger, policy, run)
    lake.write(profile, "quality", run.run_id, "profile.parquet")
    told = [
        *_unnamed(ledger, policy, run),
        *names.told(named),
        *names.projects_told(ledger.batches(run.run_id), policy),
    ]
    found = [
        *(_Finding(one.severity, one.says) for one in unusual(counts, policy, run.as_of)),
        *(_Finding("warning", line) for line in told),
    ]
    events = {kind: names.listed(named, kind) for kind in (names.UNKNOWN, names.IGNORED)}
    return _check(lake, run, "events", event_suites(profile, policy), found, events=events)


def _unnamed(ledger: Ledger, policy: Policy, run: Run) -> list[str]:
    """What is to be said of groups whose type the policy does not name: their events are counted without a group."""
    found = []
    for batch in ledger.batches(run.run_id):
        if types := batch["counts"].get("unnamed_groups"):
            told = ", ".join(f"{name!r} {n:,}" for name, n in types.items())
            named = ", ".join(policy.events.group_types)
            found.append(
                f"batch-{batch['source']}: rows with groups of unnamed types only: {told} (events.group_types names "
                f"{named}; add the type that holds the account's id)"
            )
    return found


def check_signals(lake: Lake, ledger: Ledger, policy: Policy, run: Run) -> Summary:
    """Checks the account table `signals/{run_id}.parquet`. Returns and raises as `check_events` does."""
    wanted = ["account_id", "timezone", "last_seen_at", *SIGNAL_NAMES, *(f"{name}_at" for name in MOMENTS)]
    signals = _table(lake, "signals", run, wanted).to_pandas()
    return _check(lake, run, "signals", signal_suites(signals, policy, run))


def check_decisions(lake: Lake, ledger: Ledger, policy: Policy, run: Run) -> Summary:
    """Checks `decisions/{run_id}.parquet` against the run's signals, the ledger and the policy's caps.

    The rules of engagement are checked again, independently of `routing`: there is no task for an account that is
    converting, has an active handoff, lacks required context, or has no contact reason. Returns and raises as
    `check_events` does.
    """
    load = ledger.rep_load(run.as_of, _addresses(lake, run))
    handoffs = ledger.handoff_frame(run.as_of)
    in_hands = handoffs.loc[handoffs["state"].isin(ACTIVE), "account_id"]
    with lake.engine() as engine:
        made = engine.table(_table(lake, "decisions", run, _DECIDED), "decisions")
        signals = engine.table(_table(lake, "signals", run, rules.signals_needed(policy)), "signals")
        decisions = engine.fetch(_judged(made, signals, policy)).to_pandas()
        left_out = signals.anti_join(made, "account_id"), made.anti_join(signals, "account_id")
        counts = [engine.fetch(table.agg(n=table.count()))["n"].to_numpy() for table in left_out]
    totals = pd.DataFrame({"accounts_without_decision": counts[0], "decisions_without_account": counts[1]})
    decisions["in_hands"] = decisions["account_id"].isin(in_hands)
    new = decisions.loc[decisions["action"] == SALES_NOW, "owner_email"]
    before = [moment for moments in load["recent"] for moment in moments]
    totals["tasks_today"] = len(new) + sum(moment.date() == run.as_of.date() for moment in before)
    totals["tasks_over_capacity"] = _over_capacity(new, load, _told_zones(lake, run), policy, run)
    return _check(lake, run, "decisions", decision_suites(decisions, totals, policy, run))


_DECIDED = [
    "account_id", "decision_id", "as_of", "policy_version", "score", "tier", "pql", "value_band", "motion",
    "potential_arr", "call", "action", "rule", "owner_email", "trigger_at", "due_at", "reasons",
]  # fmt: skip


def _judged(decisions: ir.Table, signals: ir.Table, policy: Policy) -> ir.Table:
    """The decisions, the difference between points and score, and the conditions of the rules for their accounts."""
    import ibis

    one = signals.mutate(nth=ibis.row_number().over(group_by="account_id"))
    one = one.filter(one.nth == 0).drop("nth")
    both = decisions.left_join(one.rename("signal_{name}"), [("account_id", "signal_account_id")])
    d = {name: both[name] for name in decisions.columns}
    s = {name: both[f"signal_{name}"] for name in signals.columns}
    points = both.reasons.map(lambda reason: reason.points).sums()
    return both.select(
        *(name for name in decisions.columns if name != "reasons"),
        points_off=both.reasons.notnull().ifelse((points.fill_null(0) - both.score).abs(), ibis.null()),
        converting=rules.converting(s),
        missing_context=rules.missing_context(s, policy),
        gates_open=rules.gates_open(s, policy),
        called_for=rules.called_for(d, s, policy),
    )


def _over_capacity(new: pd.Series, load: pd.DataFrame, told: dict[str, str], policy: Policy, run: Run) -> int:
    """The largest number of tasks by which a rep exceeds the policy's tasks a day (0: no rep does).

    Counted on the rep's own calendar day, with the `new` tasks (owner_email).
    """
    reps = listed_reps(policy.assignment)
    before: dict[str, list[datetime]] = {}
    for email, moments in zip(load["owner_email"], load["recent"], strict=True):
        before.setdefault(email.lower(), []).extend(moments)
    over = 0
    for email, tasks in new.dropna().str.lower().value_counts().items():
        rep = reps.get(str(email))
        zone = ZoneInfo(zone_of(rep, told.get(str(email)), policy.assignment))
        today = run.as_of.astimezone(zone).date()
        given = sum(moment.astimezone(zone).date() == today for moment in before.get(str(email), []))
        over = max(over, int(tasks) + given - tasks_of(rep, policy.assignment))
    return over


def _addresses(lake: Lake, run: Run) -> set[str]:
    """The addresses of the CRM's users, as far as the run has read any."""
    if not lake.exists("crm", run.run_id, "reps.parquet"):
        return set()
    return set(lake.read("crm", run.run_id, "reps.parquet")["email"].dropna())


def _told_zones(lake: Lake, run: Run) -> dict[str, str]:
    """The CRM's time zone of each active rep, by e-mail."""
    if not lake.exists("crm", run.run_id, "reps.parquet"):
        return {}
    reps = lake.read("crm", run.run_id, "reps.parquet")
    reps = reps[reps["active"].fillna(True).astype(bool)].dropna(subset=["email"])
    reps = reps.sort_values("owner_id", ascending=False)  # of two users with one address, the smaller id wins
    return dict(zip(reps["email"].str.lower(), reps["timezone"], strict=True))


def _table(lake: Lake, room: str, run: Run, columns: list[str]) -> pa.Table:
    return read_table(lake, room, f"{run.run_id}.parquet", columns=columns)


@dataclass(frozen=True)
class _Finding:
    severity: str
    says: str


def _check(
    lake: Lake, run: Run, stage: str, suites: list[Suite], found: Iterable[_Finding] = (), **more: Any
) -> Summary:
    """`found`: further findings, which no suite finds; `more`: further parts of the summary."""
    with tempfile.TemporaryDirectory() as folder:
        findings = [*_validate(suites, run, Path(folder)), *found]
        summary: Summary = {
            "passed": not any(f.severity == "critical" for f in findings),
            "critical": [f.says for f in findings if f.severity == "critical"],
            "warnings": [f.says for f in findings if f.severity != "critical"],
            "unjudged": [text for suite in suites for text in suite.unjudged],
            **more,
        }
        summary["docs"] = docs.publish(Path(folder), lake, run, stage, summary)
    if not summary["passed"]:
        raise ChecksFailed(f"check_{stage}", run, summary)
    return summary


def _validate(suites: list[Suite], run: Run, folder: Path) -> list[_Finding]:
    """Runs every suite and builds their Data Docs in `folder`; returns the findings, critical ones first."""
    os.environ["GX_ANALYTICS_ENABLED"] = "False"
    import great_expectations as gx
    from great_expectations.core.run_identifier import RunIdentifier
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    config = DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(),
        data_docs_sites={
            "onetouch": {
                "class_name": "SiteBuilder",
                "show_how_to_buttons": False,
                "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder)},
                "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
            }
        },
        analytics_enabled=False,
        progress_bars=ProgressBarsConfig(globally=False),
    )
    context = gx.get_context(mode="ephemeral", project_config=config)
    source = context.data_sources.add_pandas("lake")
    findings = []
    for suite in suites:
        batch = source.add_dataframe_asset(suite.name).add_batch_definition_whole_dataframe("run")
        validation = context.validation_definitions.add(
            gx.ValidationDefinition(
                name=suite.name,
                data=batch,
                suite=context.suites.add(gx.ExpectationSuite(name=suite.name, expectations=suite.expectations)),
            )
        )
        outcome = validation.run(
            batch_parameters={"dataframe": suite.frame},
            # Counts only: the docs must not show a row's value, which may be a person's address.
            result_format={"result_format": "BASIC", "partial_unexpected_count": 0},
            run_id=RunIdentifier(run_name=run.run_id, run_time=run.as_of),
        )
        findings += [_finding(suite, result) for result in outcome.results if not result.success]
    context.build_data_docs()
    return sorted(findings, key=lambda finding: finding.severity)


def _finding(suite: Suite, outcome: Any) -> _Finding:
    """The finding in one line: check, figure, threshold. A check that cannot be computed is always critical."""
    expectation, result = outcome.expectation_config, outcome.result
    says = expectation.meta["says"]
    if outcome.exception_info.get("raised_exception") or not result:
        return _Finding("critical", f"{suite.name}: {says} could not be computed ({expectation.type})")
    if "observed_value" in result:
        least, most = expectation.kwargs.get("min_value"), expectation.kwargs.get("max_value")
        bound = f"at least {least:g}" if most is None else f"at most {most:g}"
        figure = f"{result['observed_value']:.4g}"
    else:
        bound = "none allowed"
        figure = f"{result['unexpected_count']} of {result['element_count']}"
    return _Finding(str(expectation.severity.value), f"{suite.name}: {says}: {figure} ({bound})")
