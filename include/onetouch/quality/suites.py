"""The expectation suites. Each checks one small frame; thresholds come from the policy, severities are
`critical|warning`.

`says` in an expectation's meta is the text that reports its failure. Great Expectations takes seconds to import, so it
is imported when a suite is made.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import ModuleType
from typing import Any
from zoneinfo import available_timezones

import numpy as np
import pandas as pd

from onetouch.catalogue import ACTIONS, SALES_NOW, SIGNALS, SIGNALS_BY_NAME, Format
from onetouch.ledger import Run
from onetouch.policy import Limits, Policy
from onetouch.quality.history import LONGER

POINTS_TOLERANCE = 0.05
"""Points and scores are rounded to 0.1. A difference of up to half of that is rounding; more means a missing reason."""


@dataclass(frozen=True)
class Suite:
    """A frame and its expectations. `unjudged`: for each figure that is not checked, the reason."""

    name: str
    frame: pd.DataFrame
    expectations: list[Any]
    unjudged: tuple[str, ...] = ()


def expectations() -> ModuleType:
    """The module of Great Expectations' expectations, imported with its usage analytics switched off."""
    os.environ["GX_ANALYTICS_ENABLED"] = "False"
    import great_expectations.expectations as gxe

    return gxe


def event_suites(profile: pd.DataFrame, policy: Policy) -> list[Suite]:
    """One suite for each source of the batch's profile (`profile.batch_profile`), and one that requires a source."""
    gxe, quality = expectations(), policy.quality
    staged = Suite(
        "batches",
        profile[["source"]],
        [gxe.ExpectTableRowCountToBeBetween(min_value=1, severity="critical", meta={"says": "sources staged"})],
    )
    suites = [staged]
    for (source,), row in profile.groupby(["source"]):
        figures = {name: None if pd.isna(value) else value for name, value in row.iloc[0].items()}
        wanted = [
            _at_most(gxe, "unaccounted", 0, "critical", "rows in that were neither kept, known, nor quarantined"),
            _at_least(gxe, "unaccounted", 0, "critical", "rows in less rows accounted for"),
            _at_most(gxe, "multiplied", 0, "critical", "rows of events that the lake holds more than once"),
            _at_most(gxe, "incomplete_rows", 0, "critical", "events without id, name or time"),
            _at_most(gxe, "set_apart", 0, "warning", "rows of one user, set apart: with them, a limit is passed"),
            _at_most(gxe, "impossible_values", 0, "warning", "numbers that their event cannot carry, left out"),
            *_limited(gxe, "quarantine_rate", quality.max_quarantine_rate, "share of rows in quarantine"),
            *_limited(gxe, "lost_hours_rate", quality.max_lost_hours_rate, _hours_lost(figures)),
            *_limited(gxe, "duplicate_rate", quality.max_duplicate_rate, "share of rows sent twice"),
            *_limited(
                gxe, "unknown_event_rate", quality.max_unknown_event_rate, "share of events not in the vocabulary"
            ),
            *_limited(gxe, "no_user_rate", quality.max_no_user_rate, "share of events without a user"),
            *_limited(gxe, "no_account_rate", quality.max_no_user_rate, "share of events without an account"),
            *_limited(gxe, "hours_since_last_event", stale_after(figures, policy), "hours since the last event"),
            *_limited(gxe, "volume_surge", quality.max_volume_ratio, "last full day's events ÷ a usual day's"),
            *_limited(
                gxe, "volume_drop", quality.min_volume_ratio, "last full day's events ÷ a usual day's", lower=True
            ),
        ]
        # An unknown figure is not checked, except age: a source that never sent an event counts as stale. Not every
        # source has files by the hour, so that nobody need be told of those that have none.
        age = "hours_since_last_event"
        seen = gxe.ExpectColumnValuesToNotBeNull(
            column=age, severity="critical", meta={"says": "sources that never sent an event"}
        )
        unjudged = sorted({e.column for e in wanted if figures[e.column] is None} - {age, "lost_hours_rate"})
        suites.append(
            Suite(
                f"batch-{source}",
                row,
                [seen, *(e for e in wanted if figures[e.column] is not None)],
                tuple(f"batch-{source}: {name}: too little to judge" for name in unjudged),
            )
        )
    return suites


def stale_after(figures: Mapping[Any, Any], policy: Policy) -> Limits:
    """The policy's limits of age. Hours of usually quiet days of the week do not count, and a source that is often
    silent for longer is held against its own silences (LONGER times for critical): weekends are no outage."""
    limits, usual = policy.quality.max_hours_since_last_event, figures.get("usual_gap_hours") or 0.0
    quiet = figures.get("quiet_hours") or 0.0
    return Limits(warning=max(limits.warning + quiet, usual), critical=max(limits.critical + quiet, LONGER * usual))


def _hours_lost(figures: Mapping[Any, Any]) -> str:
    expected, lost, empty = (figures[f"hours_{name}"] or 0 for name in ("expected", "lost", "empty"))
    return f"share of the files' hours that is lost ({lost:g} of {expected:,.0f}; {empty:,.0f} are empty)"


def signal_suites(signals: pd.DataFrame, policy: Policy, run: Run) -> list[Suite]:
    """The suite of the account table: one row per account, no impossible values, no events after `as_of`."""
    gxe = expectations()
    zones = available_timezones()
    moments = {signal.moment: signal.name for signal in SIGNALS if signal.happened}
    frame = signals.assign(
        timezone_known=signals["timezone"].isna() | signals["timezone"].isin(zones),
        hours_after_as_of=pd.concat([_hours(signals[name], run) for name in ["last_seen_at", *moments]], axis=1).max(
            axis=1
        ),
        moments_told=np.logical_and.reduce(
            [(signals[at].notna() == (signals[name] != 0)).to_numpy(bool) for at, name in moments.items()]
        ),
    )
    # Percentages are reported by a vendor, so our sums give no upper bound for them.
    summed = [signal for signal in SIGNALS if signal.format is not Format.PERCENT]
    most = {s.name: float(bound) for s in summed if (bound := s.bound(policy)) is not None}
    known = [signal.name for signal in SIGNALS if frame[signal.name].notna().any()]
    return [
        Suite(
            "accounts",
            frame,
            [
                gxe.ExpectTableRowCountToBeBetween(min_value=1, severity="critical", meta={"says": "accounts"}),
                gxe.ExpectColumnValuesToNotBeNull(
                    column="account_id", severity="critical", meta={"says": "accounts without an id"}
                ),
                gxe.ExpectColumnValuesToBeUnique(
                    column="account_id", severity="critical", meta={"says": "rows whose account has another row"}
                ),
                *(_at_least(gxe, name, 0, "critical", f"smallest {name}") for name in known),
                *(_at_most(gxe, name, most[name], "critical", f"largest {name}") for name in known if name in most),
                _values_in(gxe, "activated", [0.0, 1.0], "critical", "accounts neither activated nor not"),
                *(
                    gxe.ExpectColumnPairValuesAToBeGreaterThanB(
                        column_A=larger,
                        column_B=smaller,
                        or_equal=True,
                        ignore_row_if="either_value_is_missing",
                        severity="critical",
                        meta={"says": f"accounts with more {smaller} than {larger}"},
                    )
                    for larger, smaller in _nested(policy)
                ),
                *_known_figures(
                    frame, [_at_most(gxe, "hours_after_as_of", 0, "critical", "hours of events from after as_of")]
                ),
                _values_in(
                    gxe, "moments_told", [True], "critical", "accounts with a count without its moment, or the reverse"
                ),
                _values_in(gxe, "timezone_known", [True], "warning", "accounts whose time zone is none"),
            ],
        )
    ]


def _nested(policy: Policy) -> Iterator[tuple[str, str]]:
    """Pairs of counts of users of which the first has the longer window under the policy, so that it is not less."""
    counts = [SIGNALS_BY_NAME[name] for name in ("users", "active_users", "active_users_7d")]
    longest_first = sorted(counts, key=lambda signal: signal.window.days(policy.signals) or math.inf, reverse=True)
    return itertools.pairwise(signal.name for signal in longest_first)


def decision_suites(decisions: pd.DataFrame, totals: pd.DataFrame, policy: Policy, run: Run) -> list[Suite]:
    """The suites of the decisions, of the decisions that reach a rep (sales_now), and of the run's totals.

    `decisions` needs the columns of `decisions/{run_id}.parquet` without `reasons`, plus points_off (|sum of the
    reasons' points − score|); sales_now rows also converting, missing_context, in_hands, gates_open, called_for
    (booleans; see `check`).
    """
    gxe, assignment = expectations(), policy.assignment
    actions = [str(action) for action in ACTIONS]
    tasks = decisions[decisions["action"] == SALES_NOW]
    tasks = tasks.assign(
        hours_to_due=_hours(tasks["due_at"], run),
        free=~(tasks["converting"] | tasks["in_hands"]),
        in_context=~tasks["missing_context"],
    )

    def not_null(column: str, says: str) -> Any:
        return gxe.ExpectColumnValuesToNotBeNull(column=column, severity="critical", meta={"says": says})

    def unique(column: str, says: str) -> Any:
        return gxe.ExpectColumnValuesToBeUnique(column=column, severity="critical", meta={"says": says})

    def each_between(column: str, says: str, **bounds: float) -> Any:
        return gxe.ExpectColumnValuesToBeBetween(column=column, severity="critical", meta={"says": says}, **bounds)

    return [
        Suite(
            "decisions",
            decisions,
            [
                not_null("account_id", "decisions without an account"),
                not_null("score", "decisions without a score"),
                not_null("rule", "decisions without the rule that fired"),
                unique("account_id", "decisions on an account that has another"),
                unique("decision_id", "decisions whose id is another's"),
                _values_in(gxe, "action", actions, "critical", "decisions with an unknown action"),
                not_null("action", "decisions without an action"),
                _values_in(gxe, "tier", ["high", "medium", "low"], "critical", "decisions with an unknown tier"),
                _values_in(
                    gxe,
                    "motion",
                    ["self_serve", "sales_assist", "sales_led"],
                    "critical",
                    "decisions with an unknown motion",
                ),
                _values_in(gxe, "policy_version", [run.policy_version], "critical", "decisions under another policy"),
                each_between(
                    "points_off", "decisions whose reasons don't add up to the score", max_value=POINTS_TOLERANCE
                ),
                not_null("points_off", "decisions without reasons"),
            ],
        ),
        Suite(
            "tasks",
            tasks,
            [
                not_null("owner_email", "tasks without an owner"),
                not_null("due_at", "tasks without a due time"),
                each_between("hours_to_due", "tasks due before they exist", min_value=0),
                not_null("potential_arr", "tasks without a potential ARR"),
                each_between("potential_arr", "tasks under the value floor", min_value=policy.value.floor),
                _values_in(gxe, "value_band", ["high"], "critical", "tasks for accounts of low value"),
                _values_in(
                    gxe, "gates_open", [True], "critical", "tasks for accounts outside the ICP, not activated or idle"
                ),
                _values_in(gxe, "called_for", [True], "critical", "tasks that nothing calls for"),
                _values_in(
                    gxe, "free", [True], "critical", "tasks for accounts already converting or in a rep's hands"
                ),
                _values_in(gxe, "in_context", [True], "critical", "tasks without their context"),
            ],
        ),
        Suite(
            "totals",
            totals,
            [
                _at_most(gxe, "accounts_without_decision", 0, "critical", "accounts without a decision"),
                _at_most(gxe, "decisions_without_account", 0, "critical", "decisions on accounts that are not there"),
                _at_most(gxe, "tasks_today", assignment.tasks_per_day, "critical", "tasks of the day, all reps"),
                _at_most(gxe, "tasks_over_capacity", 0, "critical", "tasks beyond a rep's room on the rep's own day"),
            ],
        ),
    ]


def _at_most(gxe: ModuleType, column: str, most: float, severity: str, says: str) -> Any:
    return gxe.ExpectColumnMaxToBeBetween(column=column, max_value=most, severity=severity, meta={"says": says})


def _at_least(gxe: ModuleType, column: str, least: float, severity: str, says: str) -> Any:
    return gxe.ExpectColumnMinToBeBetween(column=column, min_value=least, severity=severity, meta={"says": says})


def _values_in(gxe: ModuleType, column: str, values: list[Any], severity: str, says: str) -> Any:
    return gxe.ExpectColumnValuesToBeInSet(column=column, value_set=values, severity=severity, meta={"says": says})


def _limited(gxe: ModuleType, column: str, limits: Limits, says: str, *, lower: bool = False) -> list[Any]:
    """Two expectations on one figure, one for each of the policy's limits (warning and critical)."""
    bound = _at_least if lower else _at_most
    return [
        bound(gxe, column, limits.critical, "critical", says),
        bound(gxe, column, limits.warning, "warning", says),
    ]


def _known_figures(frame: pd.DataFrame, wanted: Iterable[Any]) -> Iterator[Any]:
    """The expectations on columns with at least one known value; the others have no figure to check."""
    return (e for e in wanted if frame[e.column].notna().any())


def _hours(moments: pd.Series, run: Run) -> pd.Series:
    """Hours from as_of to the moment; null where there is none."""
    return (pd.to_datetime(moments, utc=True) - pd.Timestamp(run.as_of)) / timedelta(hours=1)
