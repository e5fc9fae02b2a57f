"""What is known of an account, and nothing else: a decision and its signals without nulls, in plain Python values."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from onetouch.catalogue import CRM_COLUMNS, DETAIL_COLUMNS, SIGNAL_NAMES, SNAPSHOT_COLUMNS, Kind
from onetouch.handoff.plain_text import plain

# Ours: lengths at which a line stays readable and the whole dossier stays far below Salesforce's 32,000 characters.
_LONGEST_TEXT = 120
_LONGEST_LIST = 20

_ABSURD = 1e15
"""Ours: no count, amount or share is that large; one that is says nothing and would fill the page."""

_COLUMNS = (*SNAPSHOT_COLUMNS, *CRM_COLUMNS, *DETAIL_COLUMNS)

_NUMBERS = frozenset(
    {
        *SIGNAL_NAMES,
        *(column.name for column in _COLUMNS if column.kind.is_number),
        *("potential_arr", "score", "usage_score", "score_before"),
    }
)
_LISTS = frozenset({*(column.name for column in _COLUMNS if column.kind is Kind.NAMES), "reasons"})
_TEXTS = frozenset(
    {
        *(column.name for column in _COLUMNS if column.kind.is_text),
        *("tier", "motion", "call", "score_trend", "assigned_by", "policy_version", "state"),
    }
)

Facts = dict[str, Any]


def known_facts(decision: Mapping[str, Any], signals_row: Mapping[str, Any]) -> Facts:
    """One dict of both rows: nulls, NaN, NaT, absurd numbers and empty values are absent, and so is what is not of
    its column's kind; text is plain and short, lists are lists, moments are aware UTC datetimes. The decision's
    columns win over the signals' of that name.
    """
    merged = {**dict(signals_row), **dict(decision)}
    facts = {}
    for name, value in merged.items():
        known = _known(value, len(SIGNAL_NAMES) if name == "reasons" else _LONGEST_LIST)
        if known is not None and isinstance(known, _kind(name)):
            facts[name] = known
    return facts


def _kind(name: str) -> type | tuple[type, ...]:
    """What a column holds."""
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


def account_name(facts: Facts) -> str:
    """The name to call the account by: its name, else its domain, else "this account"."""
    return str(facts.get("name") or facts.get("domain") or "this account")
