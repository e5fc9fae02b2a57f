"""The figures of one week, as of its end: volumes, rates of matured cohorts, revenue by motion, and a diagnosis."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

import pandas as pd

from onetouch.lake import Lake
from onetouch.ledger import Ledger
from onetouch.metrics.diagnosis import diagnose
from onetouch.metrics.figures import Diagnosis, Rate, Revenue, WeekCount, WeeklyMetrics, iso_week, rate
from onetouch.metrics.records import (
    attributed,
    decisions_by_action,
    handoff_records,
    opportunities_before,
    upgrades,
)
from onetouch.policy import Benchmark, Policy

_WEEK = timedelta(days=7)
_WEEKS_A_MONTH = 52 / 12


def weekly(lake: Lake, ledger: Ledger, policy: Policy, as_of: datetime) -> WeeklyMetrics:
    """The figures of the last full ISO week (UTC) before `as_of`, over `policy.report.weeks` weeks.

    Everything is counted as of that week's end, so a report repeated on Thursday equals Monday's. Rates count matured
    cohorts only: handoffs whose full time (for example 30 days) ended before the week's end. A handoff's outcomes are
    its transitions in the ledger, and its account's opportunities that were created at or after the decision and
    before the account's next handoff.
    """
    until = _monday(as_of)
    since = until - policy.report.weeks * _WEEK
    opportunities = opportunities_before(lake, until)
    records = handoff_records(ledger, opportunities, until)
    handoff, report = policy.handoff, policy.report
    silence = timedelta(hours=handoff.expires_hours, days=handoff.touches * handoff.silence_days)

    def matured(name: str, happened: str, within: timedelta, benchmark: str | None = None) -> Rate:
        """The share of handoffs for which `happened` came within `within`, of those decided at least that long ago."""
        cohort = _between(records, "decided_at", since - within, until - within)
        hits = cohort[happened] - cohort["decided_at"] <= within
        found = rate(
            name,
            int(hits.sum()),
            len(cohort),
            since - within,
            until - within,
            _benchmark(policy, benchmark),
            _benchmark(policy, f"{benchmark}_alarm"),
        )
        return found.model_copy(update={"within_hours": within / timedelta(hours=1)})

    steps = [
        matured("touched", "touched", timedelta(hours=handoff.expires_hours)),
        matured("replied", "replied", silence),
        matured(
            "pql_to_opportunity", "opportunity", timedelta(days=report.opportunity_within_days), "pql_to_opportunity"
        ),
        matured("pql_to_close", "won", timedelta(days=report.close_within_days), "pql_to_close"),
    ]
    weeks = [since + i * _WEEK for i in range(report.weeks)]
    recent = _between(records, "decided_at", since, until)
    reps = recent["owner_email"].dropna().str.lower().nunique()
    full_weeks = [w for w in weeks if len(recent) and w + _WEEK > recent["decided_at"].min()]
    actions, actions_as_of = decisions_by_action(lake, ledger, until)
    figures = WeeklyMetrics(
        week=iso_week(until - _WEEK),
        since=until - _WEEK,
        until=until,
        as_of=as_of,
        policy_version=policy.version,
        pqls=[WeekCount(week=iso_week(w), n=len(_between(recent, "decided_at", w, w + _WEEK))) for w in weeks],
        pqls_per_rep_month=len(recent) / len(full_weeks) * _WEEKS_A_MONTH / reps if reps else None,
        reps=reps,
        steps=steps,
        meeting=matured("meeting", "meeting", silence),
        sla=_sla(records, since, until, policy),
        revenue=_revenue(lake, policy, opportunities, records, since, until),
        actions=actions,
        actions_as_of=actions_as_of,
        diagnosis=Diagnosis(finding="", decide=""),
    )
    return figures.model_copy(update={"diagnosis": diagnose(figures, policy)})


def _sla(records: pd.DataFrame, since: datetime, until: datetime, policy: Policy) -> Rate:
    due = _between(records, "due_at", since, until)
    due = due[~(due["withdrawn"] < due["due_at"])]
    met = int((due["touched"] <= due["due_at"]).sum())
    return rate("sla_adherence", met, len(due), since, until, _benchmark(policy, "sla_adherence"))


def _revenue(
    lake: Lake, policy: Policy, opportunities: pd.DataFrame, records: pd.DataFrame, since: datetime, until: datetime
) -> Revenue:
    won = _between(attributed(opportunities, records), "won_at", since, until)
    own = upgrades(lake, policy, since, until)
    sold, theirs = won["handoff_id"].notna(), pd.Series(False, own.index)
    if policy.report.sales_credit == "all":  # S3: sales is credited with all revenue of accounts ever handed over
        handed, crm_ids = (set(records[name].dropna()) for name in ("account_id", "crm_account_id"))
        sold |= won["account_id"].isin(handed) | won["crm_account_id"].isin(crm_ids)
        theirs = own["account_id"].isin(handed)
    assisted, other = won[sold], won[~sold]
    # The plan change that follows a won deal belongs to that deal and is not a second sale.
    another = ~own["account_id"].isin(set(assisted["account_id"].dropna()))
    credited, own = own[another & theirs], own[another & ~theirs]
    brought = pd.concat([assisted["amount"], credited["added"]])
    deals, bought = float(brought.sum()), float(own["added"].sum())
    largest = float(brought.max()) if brought.notna().any() else 0.0
    return Revenue(
        assisted=deals,
        assisted_deals=len(assisted),
        credited=float(credited["added"].sum()),
        credited_upgrades=len(credited),
        self_serve=bought,
        self_serve_upgrades=len(own),
        other_sales=float(other["amount"].sum()),
        without_amount=int(brought.isna().sum() + own["added"].isna().sum()),
        share=_share(deals, bought),
        share_without_largest=_share(max(deals - largest, 0.0), bought),
        since=since,
        until=until,
    )


def _share(part: float, rest: float) -> float | None:
    return part / (part + rest) if part + rest > 0 else None


def _benchmark(policy: Policy, name: str | None) -> Benchmark | None:
    return policy.report.benchmarks.get(name) if name else None


def _between(frame: pd.DataFrame, column: str, since: datetime, until: datetime) -> pd.DataFrame:
    return frame[(frame[column] >= since) & (frame[column] < until)]


def _monday(as_of: datetime) -> datetime:
    """The beginning of the ISO week that contains `as_of`, UTC."""
    day = as_of.astimezone(UTC).date()
    return datetime.combine(day - timedelta(days=day.weekday()), time(), UTC)
