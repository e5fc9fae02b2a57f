"""The known facts about an account: its decision and signals without nulls, as plain Python values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from onetouch.catalogue import CRM_COLUMNS, DETAIL_COLUMNS, SIGNAL_NAMES, SNAPSHOT_COLUMNS, Kind
from onetouch.handoff.plain_text import plain

# Ours: lengths that keep a line readable and the whole dossier far below Salesforce's 32,000 characters.
_LONGEST_TEXT = 120
_LONGEST_LIST = 20

_ABSURD = 1e15
"""Ours: no real count, amount or share is this large. Such a value is treated as unknown."""

_COLUMNS = (*SNAPSHOT_COLUMNS, *CRM_COLUMNS, *DETAIL_COLUMNS)

_NUMBERS = frozenset(
    {
        *SIGNAL_NAMES,
        *(column.name for column in _COLUMNS if column.kind.is_number),
        *("potential_arr", "score", "usage_score", "score_before"),
    }
)
_AMOUNTS = frozenset(column.name for column in _COLUMNS if column.kind is Kind.AMOUNTS)
_LISTS = frozenset({*(column.name for column in _COLUMNS if column.kind is Kind.NAMES), *_AMOUNTS, "reasons"})
_TEXTS = frozenset(
    {
        *(column.name for column in _COLUMNS if column.kind.is_text),
        *("tier", "motion", "call", "score_trend", "assigned_by", "policy_version", "state"),
    }
)

Facts = dict[str, Any]


def known_facts(decision: Mapping[str, Any], signals_row: Mapping[str, Any]) -> Facts:
    """Both rows as one dict, without unknown values. Where both have a column, the decision's value is used.

    Left out are null, NaN, NaT, absurdly large numbers, empty values, and values of another type than their column's.
    Texts are plain and shortened, lists are Python lists, moments are aware UTC datetimes.
    """
    merged = {**dict(signals_row), **dict(decision)}
    facts = {}
    for name, value in merged.items():
        known = _known(value, len(SIGNAL_NAMES) if name == "reasons" else _LONGEST_LIST)
        if name in _AMOUNTS and isinstance(known, list):
            known = [item for item in known if _is_amount(item)] or None
        if known is not None and isinstance(known, _kind(name)):
            facts[name] = known
    return facts


def _is_amount(item: Any) -> bool:
    """Whether an item of a list of AMOUNTS is whole: a name, and at least once."""
    if not isinstance(item, Mapping) or not isinstance(item.get("name"), str):
        return False
    times = item.get("times")
    return isinstance(times, int | float) and times >= 1


def _kind(name: str) -> type | tuple[type, ...]:
    """The Python type of a column's values."""
    if name in _NUMBERS:
        return (int, float)
    if name in _LISTS:
        return list
    if name in _TEXTS:
        return str
    return datetime if name.endswith("_at") or name == "as_of" else object


def _known(value: Any, most: int = _LONGEST_LIST) -> Any:
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
        items = [_known(item) for item in list(value)[:most]]
        return [item for item in items if item is not None] or None
    return None


_PERSON = re.compile(r"[^\W\d_]+(?:[-'’][^\W\d_]+)*")
_TITLES = frozenset({"dr", "prof", "mr", "mrs", "ms", "mx", "herr", "frau", "sir", "dame", "ing", "dipl"})


def first_name(facts: Facts) -> str | None:
    """The first name of the person who is written to, from `contact_name`; None if nobody is known by a name.

    "Dr. Ana María Ruiz" → "Ana", "RUIZ, ANA" → "Ana"; a user id, an address or a lone initial is no name.
    """
    whole = facts.get("contact_name")
    if not isinstance(whole, str) or "@" in whole or any(c.isdigit() or c == "_" for c in whole):
        return None
    family, comma, given = whole.partition(",")
    parts = (given if comma and given.strip() else family).split()
    names = [name for name in parts if name.casefold().strip(".") not in _TITLES]
    first = names[0].strip(".,") if names else ""
    if len(first) < 2 or not _PERSON.fullmatch(first):  # an initial greets nobody
        return None
    return first if not (first.isupper() or first.islower()) else first.title()


def account_name(facts: Facts) -> str:
    """The account's name, else its domain, else "this account"."""
    return str(facts.get("name") or facts.get("domain") or "this account")
