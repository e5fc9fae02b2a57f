"""How a value is put into words: the same in dossier, message, task and alert."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from onetouch.handoff.facts import Facts, account_name
from onetouch.policy import Policy
from onetouch.policy.schema import MOMENTS

_ACRONYMS = {
    word.lower(): word
    for word in ("AI", "API", "ARR", "CI", "CRM", "CSV", "HTTP", "JSON", "PDF", "SAML", "SCIM", "SDK", "SQL", "SSO")
}
_NAMED = 3
"""Ours: names of a list a sentence holds before it says how many more there are."""

_PERSONAL = 80
"""Ours: characters of a name or another foreign word inside a sentence."""

_NEXT_TO_NONE = 0.05
"""What rounds to 0.0."""

HAPPENED: dict[str, tuple[str, str]] = {
    "invites_28d": ("invited a teammate", "teammate invited"),
    "limits_reached_28d": ("reached a plan limit", "plan limit reached"),
    "exports_28d": ("made an export", "export"),
    "shares_28d": ("shared content", "content shared"),
    "pricing_views_14d": ("looked at pricing", "look at pricing"),
    "plan_questions_28d": ("asked about plans", "question about plans"),
    "demo_requests_28d": ("asked to talk to someone", "request to talk to someone"),
    "premium_attempts_28d": ("tried a premium feature", "attempt at a premium feature"),
    "admin_actions_28d": ("changed SSO or permissions", "change of SSO or permissions"),
    "failed_actions_28d": ("had an action fail", "failed action"),
    "tickets_28d": ("opened a support ticket", "support ticket"),
    "checkouts_abandoned_28d": ("left an upgrade unfinished", "upgrade left unfinished"),
    "fundings_90d": ("raised funding", "funding round"),
    "hirings_90d": ("advertised a job", "job advert"),
}
"""What happened at a moment of MOMENTS: as a clause that follows "they", and as a noun that follows "last"."""


# ── numbers, lists, moments ──────────────────────────────────────────────────────────────────────


def number(value: float) -> str:
    """1234.0 → "1,234", 2.53 → "2.5", 2.04 → "2"."""
    rounded = round(float(value), 1) + 0.0  # no minus before a zero
    return f"{rounded:,.0f}" if rounded.is_integer() else f"{rounded:,.1f}"


def count(value: float, noun: str, plural: str | None = None) -> str:
    """1 → "1 user", 3 → "3 users"."""
    said = number(value)
    return f"{said} {noun if said == '1' else plural or noun + 's'}"


def times(value: float) -> str:
    """1 → "once", 2 → "twice", 2.5 → "2.5 times"."""
    said = number(value)
    return {"1": "once", "2": "twice"}.get(said, f"{said} times")


def days(value: float) -> str:
    """Whole days, at least one: 0.2 → "1 day", 5.7 → "6 days"."""
    return count(max(1, round(value)), "day")


def percent(share: float) -> str:
    """0.923 → "92 %"; under the whole never 100 %."""
    rounded = round(share * 100)
    return f"{number(min(rounded, 99) if share < 1 else rounded)} %"


def money(dollars: float) -> str:
    """12000.4 → "$12,000"."""
    return f"${dollars:,.0f}"


def said(name: str) -> str:
    """A name of the data as people write it: "api_calls" → "API calls"."""
    return " ".join(_ACRONYMS.get(word, word) for word in name.replace("_", " ").split())


def listed(names: list[Any], most: int | None = None) -> str:
    """["api_calls", "c"] → "API calls and c"; beyond `most` names how many more there are."""
    shown = [said(str(name)) for name in names]
    if most is not None and len(shown) > most:
        shown = [*shown[:most], f"{len(shown) - most} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def capital(text: str) -> str:
    """The text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def zone(name: Any) -> tzinfo:
    """The time zone of that name; UTC when it is unknown or no zone at all."""
    try:
        return ZoneInfo(str(name)) if name else UTC
    except (KeyError, ValueError, OSError):  # not a key, a path, a folder of the zone database
        return UTC


def moment(at: datetime, where: tzinfo) -> str:
    """ "Tue 18 Nov 2025, 09:15 CET": in the zone `where`."""
    return _moment(at.astimezone(where), "%b %Y, %H:%M")


def near_moment(at: datetime, where: tzinfo) -> str:
    """ "Tue 18 Nov, 09:15 CET": one so near that nobody asks which year."""
    return _moment(at.astimezone(where), "%b, %H:%M")


def _moment(local: datetime, rest: str) -> str:
    name = f"{local:%Z}"
    return f"{local:%a} {local.day} {local:{rest}} {name if name.isalpha() else f'UTC{name}'}"


def day(at: datetime, where: tzinfo) -> str:
    """ "18 Nov 2025": in the zone `where`."""
    local = at.astimezone(where)
    return f"{local.day} {local:%b %Y}"


def ago(at: datetime, as_of: datetime, where: tzinfo) -> str:
    """ "today", "yesterday", "12 days ago": by the calendar of the zone `where`."""
    passed = max(0, (as_of.astimezone(where).date() - at.astimezone(where).date()).days)
    return ["today", "yesterday"][passed] if passed < 2 else f"{passed} days ago"


# ── signals ──────────────────────────────────────────────────────────────────────────────────────


def label(signal: str, policy: Policy) -> str:
    """What a signal is called in a line of its own, with the length of its window."""
    recent, fortnight = policy.signals.recent_days, policy.signals.engagement_days
    lookback = policy.signals.lookback_days
    labels = {
        "users": "Users",
        "active_users_7d": "Active users in 7 days",
        "active_users_28d": f"Active users in {recent} days",
        "invites_28d": f"Invitations in {recent} days",
        "milestones_done": "Onboarding milestones",
        "activated": "Activated",
        "days_to_activate": "Time to value",
        "features_used": "Features used",
        "integrations": "Integrations connected",
        "developer_days_28d": f"Days with API, SDK or CI in use, of {recent}",
        "limit_share": "Share of the plan limit in use",
        "limit_held_days": "Days near the plan limit",
        "limits_reached_28d": f"Times a plan limit was reached in {recent} days",
        "active_days_7d": "Days in use, of the last 7",
        "active_days_14d": f"Days in use, of the last {fortnight}",
        "return_days_28d": f"Days they came back, of the last {recent}",
        "events_7d": "Events in 7 days",
        "events_28d": f"Events in {recent} days",
        "usage_growth_7d": "Usage against the week before",
        "exports_28d": f"Exports in {recent} days",
        "shares_28d": f"Shares in {recent} days",
        "pricing_views_14d": f"Pricing page views in {fortnight} days",
        "plan_questions_28d": f"Questions about plans in {recent} days",
        "demo_requests_28d": f"Requests to talk to someone in {recent} days",
        "premium_attempts_28d": f"Attempts at premium features in {recent} days",
        "admin_actions_28d": f"SSO and permission changes in {recent} days",
        "failed_actions_28d": f"Failed actions in {recent} days",
        "tickets_28d": f"Support tickets in {recent} days",
        "demo_completion": "Product demo watched",
        "checkouts_abandoned_28d": f"Upgrades left unfinished in {recent} days",
        "limit_days_left": "Days until the plan limit at this pace",
        "enterprise_domain": "Business domain",
        "fundings_90d": f"Funding rounds in {lookback} days",
        "hirings_90d": f"Job adverts in {lookback} days",
    }
    return labels.get(signal) or capital(said(signal))


def figure(signal: str, value: float) -> str:
    """A signal's value as it follows its label."""
    if signal == "limit_share":
        return percent(value)
    if signal in ("activated", "enterprise_domain"):
        return "yes" if value else "no"
    if signal == "usage_growth_7d":
        return f"{number(value)}×"
    if signal == "demo_completion":
        return f"{number(value)} %"
    return days(value) if signal == "days_to_activate" else number(value)


# ── facts in a sentence ──────────────────────────────────────────────────────────────────────────

_COUNTED: dict[str, tuple[str, str | None]] = {
    "users": ("user", None),
    "active_users_7d": ("active user", None),
    "active_users_28d": ("active user", None),
    "invites_28d": ("teammate", None),
    "milestones_done": ("milestone", None),
    "integrations": ("integration", None),
    "events_7d": ("event", None),
    "events_28d": ("event", None),
    "exports_28d": ("export", None),
    "shares_28d": ("share", None),
    "plan_questions_28d": ("question about plans", "questions about plans"),
    "demo_requests_28d": ("request to talk to someone", "requests to talk to someone"),
    "premium_attempts_28d": ("attempt", None),
    "admin_actions_28d": ("change", None),
    "failed_actions_28d": ("failed action", None),
    "tickets_28d": ("support ticket", None),
    "checkouts_abandoned_28d": ("unfinished upgrade", None),
    "fundings_90d": ("funding round", None),
    "hirings_90d": ("job advert", None),
    "employees": ("employee", None),
    "seats": ("seat", None),
}

_PUT: dict[str, Callable[[Any], str]] = {
    "score": number,
    "arr": money,
    "potential_arr": money,
    "limit_used": number,
    "limit_cap": number,
    "limit_share": percent,
    "limit_held_days": days,
    "limit_days_left": days,
    "days_to_activate": days,
    "usage_growth_7d": times,
    "limits_reached_28d": times,
    "pricing_views_14d": times,
    "demo_completion": lambda share: f"{number(share)} %",
    **{name: lambda value, nouns=nouns: count(value, *nouns) for name, nouns in _COUNTED.items()},  # type: ignore[misc]
}

_TEXTS = ("domain", "industry", "region", "plan", "funding_stage", "trend", "tier", "limit_name")

_LISTS = {
    "features_used": "features_used_list",
    "features_unused": "features_unused",
    "premium_attempted": "premium_attempted",
    "milestones_left": "milestones_left",
}


def in_words(facts: Facts, policy: Policy) -> dict[str, str]:
    """The facts of `policy.schema.FACTS` the account has, as a sentence holds them; what it lacks is absent.

    Counts come with their noun ("1 user", "3 teammates") and none at all is a lack; repetitions as "once" or "3
    times", shares as "92 %", money as "$12,000", days as "6 days", days in use as "8 of 14 days", moments as "Tue 18
    Nov" in the customer's time zone, lists as "SSO and audit log" (three names, then "2 more"), names of the data as
    people write them ("API calls"). `name` is the account's name,
    else its domain, else "this account". Days until the limit further ahead than the lookback reaches back are no
    fact: the pace does not carry that far.
    """
    words = {"name": _short(account_name(facts)), "product": policy.product.name}
    for name, put in _PUT.items():
        if facts.get(name, 0) >= _NEXT_TO_NONE:
            words[name] = put(facts[name])
    if facts.get("limit_days_left", 0) > policy.signals.lookback_days:
        del words["limit_days_left"]
    windows = {"active_days_7d": 7, "active_days_14d": policy.signals.engagement_days}
    windows |= dict.fromkeys(("developer_days_28d", "return_days_28d"), policy.signals.recent_days)
    for name, window in windows.items():
        if facts.get(name, 0) >= 1:
            words[name] = f"{number(facts[name])} of {window} days"
    words |= {name: _short(said(facts[name])) for name in _TEXTS if name in facts}
    for name, column in _LISTS.items():
        if column in facts:
            words[name] = listed([_short(str(item)) for item in facts[column]], most=_NAMED)
    where = zone(facts.get("timezone"))
    for name in (f"{signal}_at" for signal in MOMENTS):
        if name in facts:
            local = facts[name].astimezone(where)
            words[name] = f"{local:%a} {local.day} {local:%b}"
    return {name: text for name, text in words.items() if text}


def _short(text: str) -> str:
    return text if len(text) <= _PERSONAL else text[: _PERSONAL - 1].rstrip() + "…"
