"""Rows of the lake as routing writes them: the decisions to deliver, and the signals of their accounts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
from onetouch.catalogue import MOMENTS, SIGNAL_NAMES
from onetouch.ledger import Run

from judges.faults.world import ASKED, REPS, TRIGGER, Account

_UTC = pa.timestamp("us", tz="UTC")
_REASON = pa.struct([("signal", pa.string()), ("value", pa.float64()), ("points", pa.float64())])
ACCOUNTS = pa.schema(
    [
        ("crm_account_id", pa.string()), ("owner_id", pa.string()), ("open_opportunities", pa.int64()),
        ("deal_closed_at", _UTC),
    ]
)  # fmt: skip
DECISIONS = pa.schema(
    [
        *((name, pa.string()) for name in ("decision_id", "account_id", "crm_account_id", "policy_version", "tier")),
        ("as_of", _UTC), ("score", pa.float64()), ("pql", pa.bool_()), ("reasons", pa.list_(_REASON)),
        *((name, pa.string()) for name in ("value_band", "engagement_band", "motion", "action", "rule")),
        ("potential_arr", pa.float64()), ("owner_email", pa.string()), ("owner_id", pa.string()),
        ("due_at", _UTC), ("contact_at", _UTC), ("inputs_ref", pa.string()),
    ]
)  # fmt: skip
SIGNALS = pa.schema(
    [
        *((name, pa.string()) for name in ("account_id", "crm_account_id", "name", "domain", "industry", "timezone")),
        ("features_used_list", pa.list_(pa.string())), ("features_unused", pa.list_(pa.string())),
        ("limit_name", pa.string()), ("checkout_state", pa.string()), ("checkout_at", _UTC),
        ("open_opportunities", pa.int64()), ("deal_closed_at", _UTC), ("owner_active", pa.bool_()),
        *((name, pa.string()) for name in ("region", "owner_email", "owner_id")),
        *(
            (name, pa.float64())
            for name in (
                "employees", "features_used", "users", "active_users", "events", "activated",
                "milestones_done", "limit_share", "limit_used", "limit_cap", "invites",
            )
        ),
    ]
)  # fmt: skip
_TEXTS = ("account_basis",)
_NUMBERS = ("seats", "arr", "usual_hour", "usual_weekday", *SIGNAL_NAMES)
ALL_SIGNALS = pa.schema(
    [
        *SIGNALS,
        *((name, pa.string()) for name in _TEXTS),
        *((name, pa.float64()) for name in _NUMBERS if name not in SIGNALS.names),
        *((f"{name}_at", _UTC) for name in MOMENTS),
        ("bought_at", _UTC), ("limit_near_at", _UTC), ("limit_read_at", _UTC), ("trend", pa.string()),
    ]
)  # fmt: skip
"""The columns that scoring and routing read, too."""


def decision(
    account: Account, run: Run, mark: int, action: str, owner: tuple[str, str, str], news: list[str]
) -> dict[str, Any]:
    return {
        "decision_id": f"{account.account_id}-{run.run_id}", "account_id": account.account_id,
        "crm_account_id": account.crm_id, "policy_version": run.policy_version, "tier": "high", "as_of": run.as_of,
        "score": 57.5, "pql": True, "reasons": [{"signal": name, "value": 1.0, "points": 10.0} for name in news],
        "value_band": "high", "engagement_band": "high", "motion": ("sales_assist", None)[mark % 2],
        "action": action, "rule": action,
        "potential_arr": 12_000.0, "owner_email": owner[1], "owner_id": owner[0],
        "due_at": run.as_of + timedelta(hours=2), "contact_at": run.as_of + timedelta(minutes=15),
        "inputs_ref": f"signals/{run.run_id}",
    }  # fmt: skip


def signals(
    account: Account, run: Run, mark: int, record: Mapping[str, Any] | None, known: datetime | None = None
) -> dict[str, Any]:
    """`record`: of the CRM, if any; `known`: up to when the run knows of checkouts, None: up to its `as_of`."""
    bought_at = account.bought_at(known or run.as_of)
    state = "started" if account.buying(known or run.as_of) else "completed" if bought_at else "none"
    return {
        "account_id": account.account_id, "crm_account_id": account.crm_id, "name": f"Company {account.number}",
        "domain": f"company{account.number}.example", "industry": "Software", "timezone": "UTC",
        "features_used_list": ["dashboards", "alerts"], "features_unused": ["audit_log"], "limit_name": "api_calls",
        "checkout_state": state, "checkout_at": bought_at,
        "open_opportunities": record["open_opportunities"] if record else 0,
        "deal_closed_at": record and record["deal_closed_at"],
        "employees": 120.0, "features_used": 4.0, "users": 7.0, "active_users": 6.0, "events": 1234.0,
        "activated": 1.0, "milestones_done": 4.0, "limit_share": 0.92, "limit_used": float(mark),
        "limit_cap": 10_000.0, "invites": 3.0,
    }  # fmt: skip


def all_signals(
    account: Account, run: Run, mark: int, record: Mapping[str, Any] | None, known: datetime
) -> dict[str, Any]:
    """An account that is worth watching; what happened up to `known` is its signals. `record`: of the CRM, if any."""
    owner = next((rep for rep in REPS if record and rep[0] == record["owner_id"]), None)
    happened = {"plan_questions": account.at(TRIGGER), "demo_requests": account.at(ASKED)}
    happened = {name: [at for at in moments if at <= known] for name, moments in happened.items()}
    of_product = {"active_days": 12.0, "active_days_7d": 5.0, "limit_share": 0.0, "invites": 0.0}
    of_product |= {"team_days": 10.0, "working_days_share": 1.0}
    return (
        dict.fromkeys(SIGNAL_NAMES, 0.0)
        | signals(account, run, mark, record, known)
        | of_product
        | {name: float(bool(moments)) for name, moments in happened.items()}
        | {f"{name}_at": moments[-1] for name, moments in happened.items() if moments}
        | {
            "name": f"Company {account.number} ({mark:,} of 10,000)", "account_basis": "group",
            "bought_at": account.bought_at(known), "activated": float(record is not None),
            "owner_id": owner and owner[0], "owner_email": owner and owner[1], "owner_active": owner and True,
        }
    )  # fmt: skip
