"""What is known of an account, and nothing else: a decision and its signals without nulls, in plain Python values."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from onetouch.handoff.plain_text import plain

# Ours: lengths at which a line stays readable and the whole dossier stays far below Salesforce's 32,000 characters.
_LONGEST_TEXT = 120
_LONGEST_LIST = 20

_ABSURD = 1e15
"""Ours: no count, amount or share is that large; one that is says nothing and would fill the page."""

_ACRONYMS = {"api": "API", "arr": "ARR", "ci": "CI", "sdk": "SDK", "sso": "SSO"}

Facts = dict[str, Any]


def known_facts(decision: Mapping[str, Any], signals_row: Mapping[str, Any]) -> Facts:
    """One dict of both rows: nulls, NaN, NaT, absurd numbers and empty values are absent, text is plain and short,
    lists are lists, moments are aware UTC datetimes. The decision's columns win over the signals' of that name.
    """
    merged = {**dict(signals_row), **dict(decision)}
    known = ((name, _known(value)) for name, value in merged.items())
    return {name: value for name, value in known if value is not None}


def _known(value: Any) -> Any:
    if value is None or value is pd.NaT:
        return None
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return value if abs(value) < _ABSURD else None  # NaN is not less than anything
    if isinstance(value, str):
        return plain(value, _LONGEST_TEXT) or None
    if isinstance(value, datetime):
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, Mapping):
        inner = {str(k): _known(v) for k, v in value.items()}
        return {k: v for k, v in inner.items() if v is not None} or None
    if isinstance(value, list | tuple | set | np.ndarray):
        items = [_known(item) for item in list(value)[:_LONGEST_LIST]]
        return [item for item in items if item is not None] or None
    return None


def account_name(facts: Facts) -> str:
    """The name to call the account by: its name, else its domain, else "this account"."""
    return str(facts.get("name") or facts.get("domain") or "this account")


def number(value: float) -> str:
    """1234.0 → "1,234", 2.53 → "2.5"."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def count(value: float, noun: str, plural: str | None = None) -> str:
    """1 → "1 user", 3 → "3 users"."""
    return f"{number(value)} {noun if value == 1 else plural or noun + 's'}"


def percent(share: float) -> str:
    """0.923 → "92 %"."""
    return f"{number(round(share * 100))} %"


def listed(names: list[Any]) -> str:
    """["api_calls", "c"] → "API calls and c"."""
    said = [" ".join(_ACRONYMS.get(word, word) for word in str(name).replace("_", " ").split(" ")) for name in names]
    return said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}"


def zone(name: Any) -> tzinfo:
    """The time zone of that name; UTC when it is unknown or no zone at all."""
    try:
        return ZoneInfo(str(name)) if name else UTC
    except (KeyError, ValueError, OSError):  # not a key, a path, a folder of the zone database
        return UTC


def moment(at: datetime, where: tzinfo) -> str:
    """ "Tue 18 Nov 2025, 09:15 CET": in the zone `where`."""
    local = at.astimezone(where)
    return f"{local:%a} {local.day} {local:%b %Y, %H:%M %Z}"


def day(at: datetime) -> str:
    """ "18 Nov 2025" (UTC)."""
    utc = at.astimezone(UTC)
    return f"{utc.day} {utc:%b %Y}"


def ago(at: datetime, as_of: datetime) -> str:
    """ "today", "1 day ago", "12 days ago"."""
    days = max(0, (as_of - at) // timedelta(days=1))
    return "today" if days == 0 else f"{count(days, 'day')} ago"
