"""The dossier: all a rep should know before the first word, as plain text (S0 S4)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from onetouch.handoff.facts import (
    Facts,
    account_name,
    ago,
    count,
    day,
    known_facts,
    listed,
    moment,
    number,
    percent,
    zone,
)
from onetouch.handoff.trigger import trigger
from onetouch.policy import Policy

LONGEST = 32_000
"""Characters a Salesforce task description holds; the account's long text field holds more."""

_WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]


def dossier(decision: Mapping[str, Any], signals_row: Mapping[str, Any], policy: Policy) -> str:
    """Plain text of at most 32,000 characters; a section or line without data is left out."""
    facts = known_facts(decision, signals_row)
    why = trigger(facts)
    sections = {
        "WHY NOW": [_capital(why.headline), *_line("Score", _score(facts))],
        "RECOMMENDED APPROACH": [why.approach],
        "WHEN": _when(facts),
        "ACCOUNT OVERVIEW": _overview(facts),
        "USAGE SUMMARY": _usage(facts),
        "ONBOARDING PROGRESS": _onboarding(facts, policy),
        "EXPANSION SIGNALS": _expansion(facts),
        "TIMELINE": _timeline(facts),
        "TEAM": _team(facts),
        "COMMERCIAL SIGNALS": _commercial(facts),
        "FRICTION": _friction(facts),
        "NOT USED YET": _unused(facts),
        "HOW THE SCORE ADDS UP": _reasons(facts),
    }
    blocks = ["\n".join([title, *(f"  {line}" for line in lines)]) for title, lines in sections.items() if lines]
    return "\n\n".join([account_name(facts), *blocks])[:LONGEST]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _line(label: str, value: Any) -> list[str]:
    """One line, or none when there is nothing to say."""
    return [] if value is None or value == "" else [f"{label}: {value}"]


def _some(facts: Facts, name: str, label: str, words: str = "{}") -> list[str]:
    """A line for a number that is known and not zero."""
    return [f"{label}: {words.format(number(facts[name]))}"] if facts.get(name) else []


def _score(facts: Facts) -> str | None:
    if "score" not in facts:
        return None
    tier = f" · {facts['tier']} tier" if "tier" in facts else ""
    motion = f" · {facts['motion'].replace('_', '-')}" if "motion" in facts else ""
    return f"{number(facts['score'])}{tier}{motion}"


def _when(facts: Facts) -> list[str]:
    where = zone(facts.get("timezone"))
    lines = []
    if isinstance(facts.get("contact_at"), datetime):
        lines.append(f"Best moment: {moment(facts['contact_at'], where)}")
    if "usual_hour" in facts:
        usual = f"around {int(facts['usual_hour']):02d}:00"
        weekday = facts.get("usual_weekday")
        if isinstance(weekday, int | float) and 0 <= weekday <= 6:
            usual += f", mostly on {_WEEKDAYS[int(weekday)]}s"
        elif isinstance(weekday, str):
            usual += f", mostly on {weekday}"
        lines.append(f"Usually active: {usual} (their time)")
    if isinstance(facts.get("due_at"), datetime):
        lines.append(f"Due: {moment(facts['due_at'], where)}")
    return lines


def _overview(facts: Facts) -> list[str]:
    return [
        *_line("Domain", facts.get("domain")),
        *_line("Industry", facts.get("industry")),
        *_some(facts, "employees", "Employees"),
        *_line("Region", facts.get("region")),
        *_line("Funding stage", facts.get("funding_stage")),
        *_line("Plan", facts.get("plan")),
        *_some(facts, "seats", "Seats"),
        *(_line("ARR", f"${number(facts['arr'])}") if "arr" in facts else []),
        *(_line("Potential ARR", f"${number(facts['potential_arr'])}") if "potential_arr" in facts else []),
    ]


def _usage(facts: Facts) -> list[str]:
    used = facts.get("features_used_list")
    return [
        *_some(facts, "events_28d", "Events in 28 days"),
        *_some(facts, "active_users_28d", "Active users in 28 days"),
        *_some(facts, "active_days_14d", "Active days", "{} of the last 14"),
        *_some(facts, "return_days_28d", "Days in use", "{} of the last 28"),
        *(_line("Features used", listed(used)) if used else _some(facts, "features_used", "Features used")),
        *_some(facts, "integrations", "Integrations connected"),
        *_some(facts, "developer_days_28d", "API, SDK or CI in use", "{} days of 28"),
        *_some(facts, "exports_28d", "Exports in 28 days"),
        *_some(facts, "shares_28d", "Shares in 28 days"),
    ]


def _onboarding(facts: Facts, policy: Policy) -> list[str]:
    lines = []
    if "milestones_done" in facts:
        lines.append(f"Milestones: {number(facts['milestones_done'])} of {len(policy.product.milestones)}")
    if "activated" in facts:
        lines.append(f"Activated: {'yes' if facts['activated'] else 'not yet'}")
    if "days_to_activate" in facts:
        lines.append(f"Time to value: {count(facts['days_to_activate'], 'day')}")
    if "milestones_done_list" in facts:
        lines.append(f"Done: {listed(facts['milestones_done_list'])}")
    if "milestones_left" in facts:
        lines.append(f"Left: {listed(facts['milestones_left'])}")
    return lines


def _expansion(facts: Facts) -> list[str]:
    lines = []
    if "limit_share" in facts:
        limit = f"{_capital(listed([facts['limit_name']]))} limit" if "limit_name" in facts else "Plan limit"
        used = (
            f" ({number(facts['limit_used'])} of {number(facts['limit_cap'])})"
            if {"limit_used", "limit_cap"} <= set(facts)
            else ""
        )
        held = f", held near it for {count(facts['limit_held_days'], 'day')}" if facts.get("limit_held_days") else ""
        lines.append(f"{limit}: {percent(facts['limit_share'])} used{used}{held}")
    lines += _some(facts, "limits_reached_28d", "Limits reached in 28 days")
    if "premium_attempted" in facts:
        lines.append(f"Tried without access: {listed(facts['premium_attempted'])}")
    lines += _some(facts, "premium_attempts_28d", "Attempts at premium features in 28 days")
    lines += _some(facts, "admin_actions_28d", "SSO and permission changes in 28 days")
    return lines


def _timeline(facts: Facts) -> list[str]:
    as_of = facts.get("as_of")

    def on(label: str, name: str) -> list[str]:
        at = facts.get(name)
        if not isinstance(at, datetime):
            return []
        return [f"{label}: {day(at)}" + (f" ({ago(at, as_of)})" if isinstance(as_of, datetime) else "")]

    growth = f" ({number(facts['usage_growth_7d'])}× the week before)" if "usage_growth_7d" in facts else ""
    return [
        *on("Signed up", "signed_up_at"),
        *on("First seen", "first_seen_at"),
        *on("Activated", "activated_at"),
        *on("Last seen", "last_seen_at"),
        *(_line("Trend", f"{facts['trend']}{growth}") if "trend" in facts else []),
    ]


def _team(facts: Facts) -> list[str]:
    return [
        *_some(facts, "users", "Users"),
        *_some(facts, "active_users_7d", "Active in 7 days"),
        *_some(facts, "invites_28d", "Invitations in 28 days"),
        *_line("Most active", facts.get("top_user")),
    ]


def _commercial(facts: Facts) -> list[str]:
    return [
        *_some(facts, "demo_requests_28d", "Asked to talk to someone in 28 days"),
        *_some(facts, "plan_questions_28d", "Questions about plans in 28 days"),
        *_some(facts, "pricing_views_14d", "Pricing page views in 14 days"),
        *_some(facts, "checkouts_abandoned_28d", "Upgrades left unfinished in 28 days"),
        *(_line("Demo watched", f"{number(facts['demo_completion'])} %") if facts.get("demo_completion") else []),
        *_some(facts, "fundings_90d", "Funding rounds in 90 days"),
        *_some(facts, "hirings_90d", "Hiring posts in 90 days"),
    ]


def _friction(facts: Facts) -> list[str]:
    return [
        *_some(facts, "failed_actions_28d", "Failed actions in 28 days"),
        *_some(facts, "tickets_28d", "Support tickets in 28 days"),
    ]


def _unused(facts: Facts) -> list[str]:
    return [listed(facts["features_unused"])] if isinstance(facts.get("features_unused"), list) else []


def _reasons(facts: Facts) -> list[str]:
    lines = []
    for reason in facts.get("reasons", []):
        if {"signal", "value", "points"} <= set(reason):
            value = reason["value"]
            said = percent(value) if reason["signal"] == "limit_share" else number(round(value, 1))
            lines.append(f"{listed([reason['signal']])} = {said} → {number(reason['points'])} points")
    return lines
