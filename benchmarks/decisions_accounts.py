"""Synthetic accounts for `benchmarks.decisions`: as many lone users and quiet trials as a product-led company has."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
from onetouch.catalogue import MOMENTS, SIGNAL_NAMES
from onetouch.lake import Lake

REPS = 500
ACTIONS = {
    "nurture": "no PQL", "self_serve_onboarding": "matrix: low value, not engaged", "monitor": "tier medium",
    "hold_capacity": "capacity", "sales_now": "sales now", "hold_converting": "never interrupt",
}  # fmt: skip


def write(lake: Lake, run: str, n: int, as_of: datetime, seed: int) -> None:
    """Signals and kept inputs of a run with `n` accounts, the same for a seed."""
    draw = np.random.default_rng(seed)
    signals = _signals(draw, n, as_of)
    lake.write(signals, "signals", f"{run}.parquet")
    # No scores yet: they are what is measured.
    lake.write(signals.select(["account_id"]), "scores", f"{run}.parquet")
    ids = signals["account_id"].to_pandas()
    for name, frame in _memory(draw, ids, as_of).items():
        lake.write(pa.Table.from_pandas(frame, preserve_index=False), "inputs", run, f"{name}.parquet")


def _signals(draw: np.random.Generator, n: int, as_of: datetime) -> pa.Table:
    team = draw.random(n) < 0.45  # the others are alone
    life = draw.choice(4, n, p=[0.5, 0.25, 0.15, 0.1])  # gone, rare, weekly, daily
    users = np.where(team, 1 + draw.poisson([0.5, 1.5, 4, 8], (n, 4))[np.arange(n), life], 1)
    active = draw.binomial(14, np.array([0, 0.12, 0.4, 0.85])[life])
    now = life > 0

    def count(mean: float) -> np.ndarray:
        return np.where(now, draw.poisson(mean * (1 + life), n), 0).astype(np.float64)

    share = np.where(now & (draw.random(n) < 0.5), draw.beta(2, 3, n) * 1.25, np.nan)
    values = {
        "users": users, "active_users_7d": np.minimum(users, active // 3), "active_users": np.where(now, users, 0),
        "invites": count(0.25) * team, "milestones_done": draw.integers(0, 6, n),
        "activated": (draw.random(n) < np.array([0.2, 0.4, 0.7, 0.9])[life]),
        "days_to_activate": draw.exponential(5, n), "features_used": draw.integers(0, 6, n),
        "integrations": draw.poisson(0.5 * (1 + life)), "developer_days": count(0.6),
        "limit_share": share, "limit_held_days": np.where(share >= 0.8, draw.integers(1, 40, n), 0.0),
        "limits_reached": count(0.03), "active_days_7d": active // 2, "active_days": active,
        "team_days": active, "working_days_share": np.minimum(active / 10, 1.0),
        "return_days": active * 2, "events_7d": count(20), "events": count(80),
        "usage_growth_7d": np.where(now, np.round(draw.gamma(4, 0.27, n), 3), np.nan), "exports": count(0.2),
        "shares": count(0.2), "pricing_views": count(0.08), "plan_questions": count(0.02),
        "demo_requests": count(0.008), "premium_attempts": count(0.06), "admin_actions": count(0.02) * team,
        "failed_actions": count(0.1), "tickets": count(0.03),
        "demo_completion": np.where(draw.random(n) < 0.1, draw.integers(0, 101, n), np.nan),
        "checkouts_abandoned": count(0.01), "limit_days_left": np.where(share < 1, draw.exponential(30, n), np.nan),
        "enterprise_domain": team & (draw.random(n) < 0.7), "fundings": team & (draw.random(n) < 0.01),
        "hirings": team & (draw.random(n) < 0.03),
    }  # fmt: skip
    # A signal that is not drawn here is one that nobody has.
    values = {name: np.asarray(values.get(name, np.zeros(n)), dtype=np.float64) for name in SIGNAL_NAMES}
    ids = pa.array([f"org-{i:08}" for i in range(n)])
    domain = pa.array([f"company{i}.example" for i in range(n)])
    words = {
        "name": (domain, team), "domain": (domain, team & (draw.random(n) < 0.95)),
        "industry": (_words(draw, n, ["software", "retail", "finance", "health", "media"]), draw.random(n) < 0.8),
        "plan": (_words(draw, n, ["free", "team", "business"]), None),
        "plan_limits": (pa.array(['{"reports": 100}'] * n), None),
        "region": (_words(draw, n, ["EMEA", "US", "APAC"]), draw.random(n) < 0.9),
        "timezone": (_words(draw, n, ["Europe/Berlin", "America/New_York", "Asia/Tokyo"]), draw.random(n) < 0.9),
        "funding_stage": (_words(draw, n, ["seed", "A", "B"]), draw.random(n) < 0.3),
        "owner_email": (_words(draw, n, [f"rep{i:03}@vendor.example" for i in range(REPS)]), draw.random(n) < 0.3),
        "crm_account_id": (pa.array([f"001{i:012}" for i in range(n)]), team),
        "account_basis": (pa.array(np.where(team, "group", "personal")), None),
        "checkout_state": (
            _words(draw, n, ["none", "started", "stalled", "abandoned", "completed"], [0.95, 0.01, 0.01, 0.02, 0.01]),
            None,
        ),
        "trend": (_words(draw, n, ["growing", "stable", "declining"]), now),
        "limit_name": (pa.array(["reports"] * n), ~np.isnan(share)), "top_user": (ids, now),
    }  # fmt: skip
    employees = np.where(draw.random(n) < 0.75, np.exp(draw.normal(3.6, 1.5, n)).astype(np.int64) + 1, -1)
    back = draw.integers(0, 90 * 86_400_000_000, n)
    moments = {
        f"{name}_at": pa.array(
            np.datetime64(as_of.replace(tzinfo=None), "us") - (back % (14 * 86_400_000_000)).astype("timedelta64[us]"),
            pa.timestamp("us", "UTC"),
            mask=values[name] == 0,
        )
        for name in MOMENTS
    }
    seen = pa.array(np.datetime64(as_of.replace(tzinfo=None), "us") - back.astype("timedelta64[us]"))
    lists = pa.array([["workspace_created", "data_imported"]] * n)
    return pa.table(
        {
            "account_id": ids,
            **{name: _known(column, where) for name, (column, where) in words.items()},
            "owner_id": _known(pa.array(["005"] * n), words["owner_email"][1]),
            "owner_active": pa.array(np.ones(n, dtype=bool), mask=~words["owner_email"][1]),
            "employees": pa.array(employees, mask=employees < 0),
            "seats": pa.array(draw.integers(1, 30, n), mask=draw.random(n) < 0.5),
            "arr": pa.array(np.round(draw.gamma(1, 4000, n)), mask=draw.random(n) < 0.85),
            "open_opportunities": pa.array((draw.random(n) < 0.01).astype(np.int64)),
            **{name: pa.array(value, from_pandas=True) for name, value in values.items()},
            **moments,
            **dict.fromkeys(
                ("milestones_done_list", "milestones_left", "features_used_list", "features_unused"), lists
            ),
            "usual_hour": pa.array(draw.integers(0, 24, n), mask=~now),
            "usual_weekday": pa.array(draw.integers(0, 7, n), mask=~now),
            "first_seen_at": seen,
            "bought_at": pa.array(seen, mask=draw.random(n) < 0.99),
            "last_seen_at": seen,
        }
    )


def _memory(draw: np.random.Generator, ids: pd.Series, as_of: datetime) -> dict[str, pd.DataFrame]:
    now, n = pd.Timestamp(as_of), len(ids)
    states = ["task_open", "touched", "released", "expired", "lost", "won"]
    past = ids[draw.random(n) < 0.05]
    closed = pd.Series(draw.choice(states, len(past), p=[0.05, 0.05, 0.4, 0.2, 0.2, 0.1]), dtype="str")
    some = np.array([["activated"], ["users", "limit_share"], ["activated", "pricing_views", "users"]], dtype=object)
    earned = draw.integers(0, 3, len(past))
    ended = now - pd.to_timedelta(draw.integers(0, 200 * 24, len(past)), unit="h")
    touched = ids[draw.random(n) < 0.01]
    before = ids[draw.random(n) < 0.98]
    action = draw.choice(list(ACTIONS), len(before), p=[0.45, 0.45, 0.05, 0.02, 0.01, 0.02])
    return {
        "handoffs": pd.DataFrame(
            {
                "account_id": past.to_numpy(),
                "handoff_id": past.to_numpy(),
                "state": closed,
                "closed_at": pd.Series(ended).where(~closed.isin(["task_open", "touched"])).dt.as_unit("us"),
                "signals": [some[at] for at in earned],
            }
        ),
        "touches": pd.DataFrame(
            {
                "account_id": touched.to_numpy(),
                "at": now - pd.to_timedelta(draw.integers(0, 168, len(touched)), unit="h"),
            }
        ),
        "previous": pd.DataFrame(
            {
                "account_id": before.to_numpy(),
                "action": action,
                "rule": pd.Series(action).map(ACTIONS),
                "since": now - pd.to_timedelta(draw.integers(1, 100, len(before)), unit="h"),
                "call": "",
                "trigger_at": pd.Series(pd.NaT, range(len(before)), dtype="datetime64[us, UTC]"),
            }
        ),
        "earlier": pd.DataFrame({"account_id": before.to_numpy(), "score": draw.integers(0, 600, len(before)) / 10}),
        "reps": pd.DataFrame(
            {
                "owner_id": [f"005{i:012}" for i in range(REPS)],
                "email": [f"rep{i:03}@vendor.example" for i in range(REPS)],
                "name": "",
                "active": True,
                "timezone": "UTC",
            }
        ),
        "rep_load": pd.DataFrame(
            {
                "owner_email": [f"rep{i:03}@vendor.example" for i in range(REPS)],
                "open": 5,
                "recent": [[now - timedelta(hours=30)]] * REPS,
                "last_assigned_at": now - timedelta(hours=30),
            }
        ),
    }


def _words(draw: np.random.Generator, n: int, text: list[str], p: list[float] | None = None) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(draw.choice(len(text), n, p=p)), pa.array(text)).dictionary_decode()


def _known(column: pa.Array, where: np.ndarray | None) -> pa.Array:
    return column if where is None else pa.compute.if_else(pa.array(where), column, None)
