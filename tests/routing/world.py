"""Frames that `decide` takes: accounts and what is remembered of them, made by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
from onetouch.catalogue import MOMENTS, SIGNAL_NAMES
from onetouch.policy import Policy, read_policy
from onetouch.routing import Inputs, decide, sentence
from onetouch.scoring import score_frame

POLICY = read_policy()
AS_OF = datetime(2025, 3, 10, 9, tzinfo=UTC)  # a Monday
PQL: dict[str, Any] = {
    "account_basis": "group", "name": "Acme", "domain": "acme.com", "employees": 200.0, "owner_email": "ana@v.com",
    "activated": 1, "active_days": 12, "active_users": 6, "active_days_7d": 5, "invites": 2,
    "pricing_views": 1, "premium_attempts": 1, "features_used": 3, "users": 6, "events": 400,
}  # fmt: skip
TEXT = (
    "account_id", "account_basis", "name", "domain", "industry", "region", "timezone", "owner_email", "owner_id",
    "crm_account_id", "checkout_state", "trend",
)  # fmt: skip


def accounts(*rows: dict[str, Any]) -> pd.DataFrame:
    base: dict[str, Any] = {
        **dict.fromkeys(TEXT), **dict.fromkeys(SIGNAL_NAMES, 0.0), "employees": np.nan, "seats": np.nan, "arr": np.nan,
        "owner_active": None, "open_opportunities": 0, "checkout_state": "none", "usual_hour": np.nan,
        "usual_weekday": np.nan, "bought_at": None, "limit_near_at": None, "limit_read_at": None,
        "deal_closed_at": None,
    }  # fmt: skip
    happened = {f"{name}_at": AS_OF for name in MOMENTS}
    table = pd.DataFrame([{**base, "account_id": f"a{n:02}", **happened, **_week(row)} for n, row in enumerate(rows)])
    for name in MOMENTS:  # null when there is none
        table[f"{name}_at"] = table[f"{name}_at"].where(table[name] > 0)
    others = ["bought_at", "limit_near_at", "limit_read_at", "deal_closed_at"]
    moments = dict.fromkeys([*happened, *others], "datetime64[us, UTC]")
    return table.astype({**dict.fromkeys(TEXT, "str"), **dict.fromkeys(SIGNAL_NAMES, "float64"), **moments})


def _week(row: dict[str, Any]) -> dict[str, Any]:
    """The row of a team that works five days a week, all of them together, unless it says otherwise."""
    days = row.get("active_days")
    return row if days is None else {"team_days": days, "working_days_share": min(1.0, days / 10), **row}


def handoffs(*rows: dict[str, Any]) -> pd.DataFrame:
    columns = [
        "account_id",
        "handoff_id",
        "state",
        "closed_at",
        "signals",
        "reason",
        "rest_state",
        "rest_owner",
        "rest_at",
        "refused_at",
        "owner_email",
    ]
    frame = pd.DataFrame(list(rows), columns=columns)
    text = dict.fromkeys(["reason", "rest_state", "rest_owner", "owner_email"], "str")
    ended = ["closed_at", "rest_at", "refused_at"]
    moments = {name: pd.to_datetime(frame[name], utc=True).astype("datetime64[us, UTC]") for name in ended}
    return frame.astype(text).assign(**moments)


def touches(*rows: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=["account_id", "at"]).astype({"at": "datetime64[us, UTC]"})


def previous(*rows: dict[str, Any]) -> pd.DataFrame:
    columns = ["account_id", "action", "rule", "since", "call", "trigger_at"]
    frame = pd.DataFrame(list(rows), columns=columns)
    moments = {name: pd.to_datetime(frame[name], utc=True).astype("datetime64[us, UTC]") for name in columns[3::2]}
    return frame.astype("str").assign(**moments)


def load(*rows: tuple[str, int, int, datetime | None]) -> pd.DataFrame:
    """E-mail, open handoffs, handoffs of today, and when the last one came."""
    frame = pd.DataFrame(
        [(email, n_open, [ago(1 / 24)] * today, last) for email, n_open, today, last in rows],
        columns=["owner_email", "open", "recent", "last_assigned_at"],
    )
    return frame.astype({"owner_email": "str", "last_assigned_at": "datetime64[us, UTC]"})


def users(*emails: str, active: bool = True) -> pd.DataFrame:
    return pd.DataFrame({"owner_id": [f"id-{e}" for e in emails], "email": list(emails), "active": active}).astype(
        {"owner_id": "str", "email": "str"}
    )


def decided(
    signals: pd.DataFrame,
    past: pd.DataFrame | None = None,
    touched: pd.DataFrame | None = None,
    busy: pd.DataFrame | None = None,
    reps: pd.DataFrame | None = None,
    last: pd.DataFrame | None = None,
    policy: Policy = POLICY,
    as_of: datetime = AS_OF,
) -> pd.DataFrame:
    return decide(inputs(signals, past, touched, busy, reps, last, policy, as_of), policy, as_of).set_index(
        "account_id"
    )


def inputs(
    signals: pd.DataFrame,
    past: pd.DataFrame | None = None,
    touched: pd.DataFrame | None = None,
    busy: pd.DataFrame | None = None,
    reps: pd.DataFrame | None = None,
    last: pd.DataFrame | None = None,
    policy: Policy = POLICY,
    as_of: datetime = AS_OF,
) -> Inputs:
    return Inputs(
        signals=signals,
        scores=score_frame(signals, policy, as_of),
        handoffs=handoffs() if past is None else past,
        rep_load=load() if busy is None else busy,
        reps=users("ana@v.com", "ben@v.com") if reps is None else reps,
        touches=touches() if touched is None else touched,
        previous=previous() if last is None else last,
    )


def said(row: pd.Series, policy: Policy = POLICY) -> str:
    return " ".join(sentence(o["obstacle"], o["has"], o["needs"], policy) for o in row["would_change"])


changed = POLICY.changed


def ago(days: float) -> datetime:
    return AS_OF - timedelta(days=days)
