"""The format of values in texts, shared by dossier, message, task and alert."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from onetouch.catalogue import (
    DETAIL_COLUMNS,
    MOMENTS,
    SIGNALS,
    SIGNALS_BY_NAME,
    SNAPSHOT_COLUMNS,
    Format,
)
from onetouch.handoff.facts import Facts, account_name
from onetouch.policy import Policy

_ACRONYMS = {
    word.lower(): word
    for word in ("AI", "API", "ARR", "CI", "CRM", "CSV", "HTTP", "JSON", "PDF", "SAML", "SCIM", "SDK", "SQL", "SSO")
}
_NAMED = 3
"""Ours: names of a list shown in a sentence; the others are only counted."""

_PERSONAL = 80
"""Ours: maximum characters of a name, or another text from outside, within a sentence."""

_NEXT_TO_NONE = 0.05
"""Numbers below this round to 0.0."""


# ── numbers, lists, moments ──────────────────────────────────────────────────────────────────────


def number(value: float) -> str:
    """1234.0 → "1,234", 2.53 → "2.5", 2.04 → "2"."""
    rounded = round(float(value), 1) + 0.0  # turns -0.0 into 0.0
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
    """0.923 → "92 %"; a share below 1 is never shown as 100 %."""
    rounded = round(share * 100)
    return f"{number(min(rounded, 99) if share < 1 else rounded)} %"


def money(dollars: float) -> str:
    """12000.4 → "$12,000"."""
    return f"${dollars:,.0f}"


def said(name: str) -> str:
    """A name from the data as people write it: "api_calls" → "API calls"."""
    return " ".join(_ACRONYMS.get(word, word) for word in name.replace("_", " ").split())


def listed(names: list[Any], most: int | None = None) -> str:
    """["api_calls", "c"] → "API calls and c"; names beyond `most` are only counted."""
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
    except (KeyError, ValueError, OSError):  # unknown name, invalid path, or a folder of the zone database
        return UTC


def moment(at: datetime, where: tzinfo) -> str:
    """ "Tue 18 Nov 2025, 09:15 CET": in the zone `where`."""
    return _moment(at.astimezone(where), "%b %Y, %H:%M")


def near_moment(at: datetime, where: tzinfo) -> str:
    """ "Tue 18 Nov, 09:15 CET": without the year, for a moment in the near future."""
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


_NUMERALS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_WEEK, _MONTH = 7, 30


def since(at: datetime, now: datetime, where: tzinfo) -> str:
    """How long ago, as people say it: "today", "yesterday", "on Monday", "two weeks ago", "about a month ago".

    By the calendar of the zone `where`; `now` is the moment at which the text is read.
    """
    passed = max(0, (now.astimezone(where).date() - at.astimezone(where).date()).days)
    if passed < 2:
        return ["today", "yesterday"][passed]
    if passed < _WEEK:
        return f"on {at.astimezone(where):%A}"
    weeks, months = round(passed / _WEEK), round(passed / _MONTH)
    about = "" if passed == _WEEK * weeks else "about "
    if weeks < 4:
        return f"{about}{'a week' if weeks == 1 else f'{_NUMERALS[weeks]} weeks'} ago"
    if months <= 1:
        return "about a month ago"
    return f"about {_NUMERALS[months]} months ago" if months < len(_NUMERALS) else "more than a year ago"


# ── signals ──────────────────────────────────────────────────────────────────────────────────────


def label(name: str, policy: Policy) -> str:
    """A signal's label for a line of its own, with the length of its window."""
    signal = SIGNALS_BY_NAME.get(name)
    if signal is None:  # a signal of another release, in stored rows
        return capital(said(name))
    named = signal.label_under(policy) if signal.label_under else signal.label
    return named.format(days=signal.window.days(policy.signals))


def clause(name: str, policy: Policy) -> str:
    """What happened, as a clause that follows "they"; the label if the signal is not an event."""
    signal = SIGNALS_BY_NAME.get(name)
    return signal.happened.clause if signal is not None and signal.happened is not None else label(name, policy)


_FIGURES: dict[Format, Callable[[Any], str]] = {
    Format.TEXT: str,
    Format.NAMES: number,
    Format.AMOUNTS: number,  # their lists are written by `in_line`
    Format.NUMBER: number,
    Format.COUNT: number,
    Format.TIMES: number,
    Format.DAYS: number,
    Format.DAYS_OF_WINDOW: number,
    Format.DURATION: days,
    Format.SHARE: percent,
    Format.PERCENT: lambda share: f"{number(share)} %",
    Format.RATIO: lambda ratio: f"{number(ratio)}×",
    Format.MONEY: money,
    Format.YES_NO: lambda yes: "yes" if yes else "no",
}


def figure(name: str, value: float) -> str:
    """A signal's value in the format that follows its label."""
    signal = SIGNALS_BY_NAME.get(name)
    return in_line(value, signal.format if signal is not None else Format.NUMBER)


def in_line(value: Any, form: Format) -> str:
    """A value in the format that follows a label; a list as its names, or as its names with their amounts."""
    if form is Format.AMOUNTS and isinstance(value, list):
        return listed([f"{item['name']} ({number(item['times'])})" for item in value])
    return listed(value) if isinstance(value, list) else _FIGURES[form](value)


def amounts(value: list[Any], most: int) -> str:
    """Of a list of names with amounts the first `most`: "API 212 times, exports 87 times and alerts once"."""
    return listed([f"{_short(str(item['name']))} {times(item['times'])}" for item in value[:most]])


# ── facts in a sentence ──────────────────────────────────────────────────────────────────────────

_SENTENCES: dict[Format, Callable[[Any], str]] = {
    Format.NUMBER: number,
    Format.TIMES: times,
    Format.DAYS: days,
    Format.DURATION: days,
    Format.SHARE: percent,
    Format.PERCENT: _FIGURES[Format.PERCENT],
    Format.RATIO: times,
    Format.MONEY: money,
}
"""The format of values within a sentence, except those that need a noun or the length of a window."""

_OF_THE_DECISION = {"tier": Format.TEXT, "score": Format.NUMBER, "potential_arr": Format.MONEY}
"""Facts of the decision that a text may name, with their formats."""


def in_words(facts: Facts, policy: Policy) -> dict[str, str]:
    """The account's facts of `policy.schema.FACTS`, formatted for a sentence; facts it does not have are absent.

    Counts come with their noun ("1 user", "3 teammates"), and a count of zero is absent; repetitions are "once" or "3
    times", shares "92 %", money "$12,000", days "6 days", days in use "8 of 14 days", moments "Tue 18 Nov" in the
    customer's time zone, lists "SSO and audit log" (three names, then "2 more"), names from the data as people write
    them ("API calls"). How long ago something happened is told as of the moment the message is for (`contact_at`, else
    `as_of`). `name` is the account's name, else its domain, else "this account". The days until the limit are
    absent if they exceed the length of the lookback, because the pace cannot be extrapolated that far.
    """
    words = {"name": _short(account_name(facts)), "product": policy.product.name}
    for column in (*SNAPSHOT_COLUMNS, *DETAIL_COLUMNS):
        if column.fact and column.name in facts:
            words.setdefault(column.name, _sentence(facts[column.name], column.format, column.nouns))
    for name, form in _OF_THE_DECISION.items():
        if name in facts:
            words[name] = _sentence(facts[name], form)
    for signal in SIGNALS:
        held = signal.names or signal.name
        if signal.fact and held in facts:
            days_of_window = signal.window.days(policy.signals)
            words[signal.name] = _sentence(facts[held], signal.format, signal.nouns, days_of_window)
    if facts.get("limit_days_left", 0) > policy.signals.lookback_days:
        words["limit_days_left"] = ""
    where = zone(facts.get("timezone"))
    for name in (f"{name}_at" for name in MOMENTS):
        if name in facts:
            local = facts[name].astimezone(where)
            words[name] = f"{local:%a} {local.day} {local:%b}"
    if now := _read_at(facts):
        words |= {f"{name}_ago": since(facts[f"{name}_at"], now, where) for name in MOMENTS if f"{name}_at" in facts}
    if left := facts.get("milestones_left"):
        words["steps_left"] = f"{_NUMERALS[len(left)] if len(left) < len(_NUMERALS) else len(left)} " + (
            "step" if len(left) == 1 else "steps"
        )
    return {name: text for name, text in words.items() if text}


def _read_at(facts: Facts) -> datetime | None:
    """When the first message is read: at the moment of contact, which is not before the decision."""
    known = [facts[name] for name in ("as_of", "contact_at") if name in facts]
    return max(known) if known else None


def _sentence(value: Any, form: Format, nouns: tuple[str, str] | None = None, days_of_window: int | None = None) -> str:
    """A value formatted for a sentence; empty for a number that rounds to zero."""
    if isinstance(value, str):
        return _short(said(value))
    if isinstance(value, list) and form is Format.AMOUNTS:
        return amounts(value, _NAMED)
    if isinstance(value, list):
        return listed([_short(str(item)) for item in value], most=_NAMED)
    if form is Format.DAYS_OF_WINDOW:
        return f"{number(value)} of {days_of_window} days" if value >= 1 else ""
    if value < _NEXT_TO_NONE:
        return ""
    return count(value, *nouns) if nouns is not None else _SENTENCES[form](value)


def _short(text: str) -> str:
    return text if len(text) <= _PERSONAL else text[: _PERSONAL - 1].rstrip() + "…"
