"""The dossier: everything a rep should know before the first contact, as plain text (S0 S4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import tzinfo
from typing import Any

from onetouch.catalogue import (
    DETAIL_COLUMNS,
    SIGNALS,
    SIGNALS_BY_NAME,
    SNAPSHOT_COLUMNS,
    Column,
    Format,
    Section,
    Signal,
)
from onetouch.handoff.facts import Facts, account_name, known_facts
from onetouch.handoff.offers import not_in_the_plan, plan_lines
from onetouch.handoff.people import people_lines
from onetouch.handoff.situations import WhyNow, why_now
from onetouch.handoff.words import (
    ago,
    capital,
    clause,
    count,
    day,
    days,
    figure,
    in_line,
    label,
    listed,
    moment,
    money,
    number,
    percent,
    said,
    zone,
)
from onetouch.policy import Policy

LONGEST = 32_000
"""Maximum length in characters of a Salesforce task description; the account's long text field holds more."""

_WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]


def dossier(
    decision: Mapping[str, Any],
    signals_row: Mapping[str, Any],
    policy: Policy,
    timezone: str | None = None,
    before: Mapping[str, Any] | None = None,
) -> str:
    """Plain text of at most 32,000 characters; a section or line without data is left out.

    `signals_row` may hold `people`, the account's rows of `team_of`.
    `timezone`: the rep's time zone, used for the due time (unknown: the customer's). `before`: the account's latest
    earlier handoff as the ledger's `handoff_frame` returns it, None when there was none.
    """
    facts = known_facts(decision, signals_row)
    return dossier_of(facts, why_now(facts, policy), policy, timezone, before)


def dossier_of(
    facts: Facts, why: WhyNow, policy: Policy, timezone: str | None = None, before: Mapping[str, Any] | None = None
) -> str:
    """`dossier` from facts that are known already, and their situation."""
    return _page(facts, {**_to_do(facts, why, policy, timezone, before), **_known(facts, policy)})


def notes_of(
    facts: Facts, why: WhyNow, policy: Policy, timezone: str | None = None, before: Mapping[str, Any] | None = None
) -> str:
    """What a task says besides the first message (`handoff.task_notes`): what to do, and with `whole` all of it."""
    if policy.handoff.task_notes == "whole":
        return dossier_of(facts, why, policy, timezone, before)
    return _page(facts, {**_to_do(facts, why, policy, timezone, before), "DOSSIER": ["On the account's record"]})


def record_of(facts: Facts, why: WhyNow, policy: Policy) -> str:
    """What the account's record says (`handoff.task_notes`): what is known of it, and with `whole` all of it."""
    if policy.handoff.task_notes == "whole":
        return dossier_of(facts, why, policy)
    return _page(facts, _known(facts, policy))


def _page(facts: Facts, sections: Mapping[str, list[str]]) -> str:
    blocks = ["\n".join([title, *(f"  {line}" for line in lines)]) for title, lines in sections.items() if lines]
    return "\n\n".join([capital(account_name(facts)), *blocks])[:LONGEST]


def _to_do(
    facts: Facts, why: WhyNow, policy: Policy, timezone: str | None, before: Mapping[str, Any] | None
) -> dict[str, list[str]]:
    """Why now, and what the rep does about it; by title."""
    theirs = zone(facts.get("timezone"))
    return {
        "WHY NOW": [
            capital(why.headline),
            *_line("Also", "; ".join(why.also)),
            *_call(facts, policy),
            *_score(facts, policy),
        ],
        "RECOMMENDED APPROACH": [why.approach, *plan_lines(why.words)],
        "WHEN": _when(facts, timezone),
        "WHY YOU": _why_you(facts),
        "TRIED BEFORE": _before(known_facts({}, before or {}), policy, zone(timezone) if timezone else theirs),
    }


def _known(facts: Facts, policy: Policy) -> dict[str, list[str]]:
    """What is known of the account; by title."""
    return {
        **_section(Section.OVERVIEW, facts, policy),
        **_section(Section.USAGE, facts, policy),
        **_section(Section.ONBOARDING, facts, policy),
        **_section(Section.EXPANSION, facts, policy),
        "TIMELINE": _timeline(facts, policy),
        **_section(Section.TEAM, facts, policy),
        **_section(Section.COMMERCIAL, facts, policy),
        **_section(Section.FRICTION, facts, policy),
        "NOT USED YET": _unused(facts),
        "HOW THE SCORE ADDS UP": _reasons(facts, policy),
    }


def _line(label: str, value: Any) -> list[str]:
    """The line "label: value" as a list of one, or an empty list without a value."""
    return [] if value is None or value == "" else [f"{label}: {value}"]


# ── why now, when, why you ───────────────────────────────────────────────────────────────────────


def _call(facts: Facts, policy: Policy) -> list[str]:
    """The contact reason."""
    call = facts.get("call")
    if call == "pql":
        return ["Product-qualified: fits whom we sell to, activated, in regular use, interested in buying"]
    if call == "hand_raised":
        raised = [c.signal for c in policy.routing.hand_raised if facts.get(c.signal, float("-inf")) >= c.at_least]
        return [f"Raised a hand: {', '.join(clause(name, policy) for name in raised)}"] if raised else []
    if call == "expansion":
        return ["A paying customer outgrowing the plan"]
    if call == "trigger":
        at = facts.get("trigger_at")
        if at is None:
            return ["Was watched until something new happened"]
        events = [clause(name, policy) for name in policy.routing.triggers if facts.get(f"{name}_at") == at]
        what = f"they {listed(events)}" if events else "something new happened"
        return [f"Was watched; then {what} ({moment(at, zone(facts.get('timezone')))})"]
    return []


def _score(facts: Facts, policy: Policy) -> list[str]:
    if "score" not in facts:
        return []
    tier = f" · {facts['tier']} tier" if "tier" in facts else ""
    motion = f" · {str(facts['motion']).replace('_', '-')}" if "motion" in facts else ""
    lines = [f"Score: {number(facts['score'])}{tier}{motion}"]
    if {"score_before", "score_trend"} <= facts.keys():
        before = f"{number(facts['score_before'])} at least {count(policy.scoring.trend_days, 'day')} earlier"
        lines.append(f"Score trend: {facts['score_trend']}, from {before}")
    return lines


def _when(facts: Facts, timezone: str | None) -> list[str]:
    theirs = zone(facts.get("timezone"))
    lines = []
    if "contact_at" in facts:
        best, yours = moment(facts["contact_at"], theirs), moment(facts["contact_at"], zone(timezone))
        also = f", for you {yours}" if timezone and yours != best else ""
        lines.append(f"Best moment: {best} (their time{also})")
    if 0 <= facts.get("usual_hour", -1) < 24:
        usual = f"around {int(facts['usual_hour']):02d}:00"
        weekday = facts.get("usual_weekday")
        if weekday is not None and 0 <= weekday <= 6:
            usual += f", mostly on {_WEEKDAYS[int(weekday)]}s"
        lines.append(f"Usually active: {usual} (their time)")
    if "due_at" in facts:
        due = moment(facts["due_at"], zone(timezone) if timezone else theirs)
        lines.append(f"First message due: {due} ({'your' if timezone else 'their'} time)")
    return lines


def _why_you(facts: Facts) -> list[str]:
    by = str(facts.get("assigned_by", ""))
    place, _, senior = by.removeprefix("territory ").partition(", ")
    if by == "owner":
        return ["You own the account in the CRM"]
    if by.startswith("territory "):
        return [
            f"The account lies in your territory ({place})" + (" and its score asks for a senior rep" if senior else "")
        ]
    if by == "round robin":
        return ["No owner can take it now; it was your turn"]
    if by == "senior":
        return ["No owner can take it now; its score asks for a senior rep"]
    return _line("Assigned by", said(by))


_ENDED = {
    "lost": "no deal came of it",
    "won": "it was won",
    "expired": "the task expired before anyone wrote",
    "released": "they did not answer",
    "withdrawn": "it was withdrawn",
}


def _before(handoff: Facts, policy: Policy, where: tzinfo) -> list[str]:
    """The latest earlier handoff: when it was, and its outcome."""
    if "decided_at" not in handoff:
        return []
    lines = [f"Handed to sales: {day(handoff['decided_at'], where)}"]
    if "touched_at" in handoff:
        lines.append(f"First message: {day(handoff['touched_at'], where)}")
    state = str(handoff.get("state", ""))
    if state in _ENDED and "closed_at" in handoff:
        lines.append(f"Ended: {day(handoff['closed_at'], where)}, {_ENDED[state]}")
    if handoff.get("signals"):
        lines.append(f"What a rep was called for: {'; '.join(label(str(s), policy) for s in handoff['signals'])}")
    return lines


# ── the account ──────────────────────────────────────────────────────────────────────────────────


def _section(section: Section, facts: Facts, policy: Policy) -> dict[str, list[str]]:
    """The section's lines by its title: CRM columns, signals, then detail columns, each in the catalogue's order."""
    lines: list[str] = []
    all_there_is: tuple[Column | Signal, ...] = (*SNAPSHOT_COLUMNS, *SIGNALS, *DETAIL_COLUMNS)
    for shown in all_there_is:
        if shown.section is section:
            line = _LINES.get(shown.name)
            lines += line(facts, policy) if line is not None else _usual(shown, facts, policy)
    if section is Section.TEAM:
        lines += people_lines(facts, policy)
    if section is Section.OVERVIEW and "potential_arr" in facts:
        lines.append(f"Potential ARR: {money(facts['potential_arr'])}")
    return {section.value: lines}


def _usual(shown: Column | Signal, facts: Facts, policy: Policy) -> list[str]:
    """One line if the value is known and not zero; an amount of money is shown even if it is zero."""
    value, title = facts.get(shown.name), shown.label
    if isinstance(shown, Signal):
        value, title = facts.get(shown.names or "") or value, label(shown.name, policy)
    if value is None or (value == 0 and shown.format is not Format.MONEY):
        return []
    return [f"{title}: {in_line(value, shown.format)}"]


def _features(facts: Facts, policy: Policy) -> list[str]:
    """The features used, the most used first, with how often in the recent days; then those used before."""
    by_use = facts.get("features_by_use")
    if by_use is None:
        return _usual(SIGNALS_BY_NAME["features_used"], facts, policy)
    recent = {str(item["name"]) for item in by_use}
    before = [name for name in facts.get("features_used_list", []) if str(name) not in recent]
    days = count(policy.signals.recent_days, "day")
    lines = [f"Features used: {in_line(by_use, Format.AMOUNTS)}, times in {days}"] if by_use else []
    return [*lines, *(_line("Used before", listed(before)) if before else [])]


def _milestones(facts: Facts, policy: Policy) -> list[str]:
    done = facts.get("milestones_done")
    return [] if done is None else [f"Milestones: {number(done)} of {len(policy.product.milestones)}"]


def _activated(facts: Facts, policy: Policy) -> list[str]:
    return [f"Activated: {'yes' if facts['activated'] else 'not yet'}"] if "activated" in facts else []


def _time_to_value(facts: Facts, policy: Policy) -> list[str]:
    return [f"Time to value: {days(facts['days_to_activate'])}"] if "days_to_activate" in facts else []


def _limit(facts: Facts, policy: Policy) -> list[str]:
    """How much of the fullest plan limit is used, since when, and in how many days it will be reached."""
    if "limit_share" not in facts:
        return []
    limit = f"Limit of {said(str(facts['limit_name']))}" if "limit_name" in facts else "Plan limit"
    used = (
        f" ({number(facts['limit_used'])} of {number(facts['limit_cap'])})"
        if {"limit_used", "limit_cap"} <= facts.keys()
        else ""
    )
    held = f", near it for {days(facts['limit_held_days'])}" if facts.get("limit_held_days") else ""
    lines = [f"{limit}: {percent(facts['limit_share'])} used{used}{held}"]
    if 0 < facts.get("limit_days_left", 0) <= policy.signals.lookback_days:
        lines.append(f"Full in about {days(facts['limit_days_left'])} at the present pace")
    return lines


def _premium(facts: Facts, policy: Policy) -> list[str]:
    lacking = not_in_the_plan(facts, policy)
    tried = _line("Tried without access", listed(lacking)) if lacking else []
    return [*tried, *_usual(SIGNALS_BY_NAME["premium_attempts"], facts, policy)]


def _most_active(facts: Facts, policy: Policy) -> list[str]:
    """The id of the most active user, where nothing else is known of the people."""
    return [] if "people" in facts else _line("Most active", facts.get("top_user"))


_LINES: dict[str, Callable[[Facts, Policy], list[str]]] = {
    "features_used": _features,
    "milestones_done": _milestones,
    "activated": _activated,
    "days_to_activate": _time_to_value,
    "limit_share": _limit,
    "premium_attempts": _premium,
    "top_user": _most_active,
}
"""Signals and columns that have a format of their own instead of `_usual`."""


def _timeline(facts: Facts, policy: Policy) -> list[str]:
    """The known events with their dates, the earliest first, in the customer's time zone."""
    where, as_of = zone(facts.get("timezone")), facts.get("as_of")
    happened = {
        "signed_up_at": "signed up",
        "first_seen_at": "first seen in the product",
        "activated_at": "activated",
        **{s.moment: f"last {s.happened.noun}" for s in SIGNALS if s.happened is not None},
        "last_seen_at": "last seen in the product",
    }
    at = {name: facts[name] for name in happened if name in facts}
    if (
        "signed_up_at" in at
        and "first_seen_at" in at
        and day(at["signed_up_at"], where) == day(at["first_seen_at"], where)
    ):
        del at["first_seen_at"]
    lines = []
    for name in sorted(at, key=lambda name: at[name]):
        passed = f" ({ago(at[name], as_of, where)})" if as_of is not None else ""
        lines.append(f"{day(at[name], where)}{passed}: {happened[name]}")
    lines = list(dict.fromkeys(lines))  # two windows of a signal may have the same last event
    growth = f" ({number(facts['usage_growth_7d'])}× the week before)" if facts.get("usage_growth_7d") else ""
    return [*lines, *(_line("Trend of use", f"{facts['trend']}{growth}") if "trend" in facts else [])]


def _unused(facts: Facts) -> list[str]:
    return [listed(facts["features_unused"])] if "features_unused" in facts else []


# ── the score ────────────────────────────────────────────────────────────────────────────────────


def _reasons(facts: Facts, policy: Policy) -> list[str]:
    """The points of each signal; the printed points add up to the printed score."""
    fading = {rule.signal for rule in policy.scoring.points if rule.half_life_days is not None}
    where, as_of = zone(facts.get("timezone")), facts.get("as_of")
    lines, together = [], 0
    for reason in facts.get("reasons", []):
        if not isinstance(reason, Mapping) or not isinstance(reason.get("signal"), str):
            continue
        name, value, points = reason["signal"], reason.get("value"), reason.get("points")
        if not isinstance(points, int | float) or not (tenths := round(points * 10)):
            continue
        together += tenths
        worth = f": {figure(name, value)}" if isinstance(value, int | float) else ""
        at = facts.get(f"{name}_at")
        last = ""
        if name in fading and at is not None and as_of is not None:
            last = f" (the last one {ago(at, as_of, where)})"
        lines.append(f"{label(name, policy)}{worth} → {_points(tenths)}{last}")
    if not lines:
        return []
    total = round(facts["score"] * 10) if "score" in facts else together
    if total != together:
        lines.append(f"Not itemised → {_points(total - together)}")
    lines.append(f"Together {_points(total)}")
    if policy.scoring.firmographics == "rank" and "usage_score" in facts and round(facts["usage_score"] * 10) != total:
        lines.append(f"Of these from use, which alone decides the tier: {_points(round(facts['usage_score'] * 10))}")
    return lines


def _points(tenths: int) -> str:
    return count(tenths / 10, "point")
