"""Points, tiers and reasons, whole columns at a time.

Points are counted in tenths, as integers: a score is exactly the sum of its reasons.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from onetouch.lake import Lake
from onetouch.lake.columns import age_days, number, places, words
from onetouch.lake.formats import read
from onetouch.ledger import Ledger, Run
from onetouch.policy import Policy
from onetouch.policy.schema import FIRMOGRAPHIC_SIGNALS, Points
from onetouch.scoring.gates import GATES, gates

Numbers = npt.NDArray[np.float64]
Tenths = npt.NDArray[np.int64]

REASONS = pa.list_(pa.struct([("signal", pa.string()), ("value", pa.float64()), ("points", pa.float64())]))
"""Type of `reasons`: the signals that earned points, most points first, as in the policy where they earned the same."""

EARLIER = ("account_id", "score")
"""Columns of `inputs/{run_id}/earlier.parquet`: the scores that this run's are compared with."""

TENTHS = 10
ROWS = 65_536
"""Accounts whose points are laid out at a time: their memory is used again for the next ones."""

TREND_SHARE, TREND_POINTS = 10, 1
"""A score has changed when it differs from the earlier one by a tenth of it and by a point at least (ours)."""


def score(lake: Lake, ledger: Ledger, policy: Policy, run: Run) -> dict[str, object]:
    """Writes `scores/{run_id}.parquet` from the run's signals; returns `scored`, `tiers` {tier: n}, `pql`.

    The scores it compares with are kept as `inputs/{run_id}/earlier.parquet`, so that a replay finds the same ones.
    """
    signals = read(lake, "signals", f"{run.run_id}.parquet", columns=_needed(policy)).to_pandas()
    earlier = _earlier(lake, ledger, policy, run)
    lake.write(earlier, "inputs", run.run_id, "earlier.parquet")
    scores = score_frame(signals, policy, run.as_of, earlier)
    # Without pandas' own metadata, which cannot name a list of structs.
    table = pa.Table.from_pandas(scores, preserve_index=False).replace_schema_metadata()
    lake.write(table, "scores", f"{run.run_id}.parquet")
    tiers = scores["tier"].value_counts()
    return {
        "scored": len(scores),
        "tiers": {tier: int(tiers.get(tier, 0)) for tier in ("high", "medium", "low")},
        "pql": int(scores["pql"].sum()),
    }


def score_frame(
    signals: pd.DataFrame, policy: Policy, as_of: datetime, earlier: pd.DataFrame | None = None
) -> pd.DataFrame:
    """One row an account of `signals`, in its order; `as_of` is the moment from which the age of points is counted.

    account_id · score (points) · usage_score (without those of FIRMOGRAPHIC_SIGNALS) · tier · the gates · pql ·
    reasons (Arrow list of structs, REASONS: they add up to the score) · score_before, score_trend (rising, steady or
    falling since `earlier`: account_id, score; null for an account that is not in it). Points from 0 on, in tenths.

    `signals` needs account_id, account_basis, domain, employees, industry, every signal that the policy's gates and
    points name, and `{signal}_at` for points that decay. Raises ValueError naming a column that is not there.
    """
    missing = [name for name in _needed(policy) if name not in signals]
    if missing:
        raise ValueError(f"signals: no column {', '.join(missing)}; build the run's signals again")
    parts = [_points(signals.iloc[at : at + ROWS], policy, as_of) for at in range(0, max(len(signals), 1), ROWS)]
    total = np.concatenate([part.tenths for part in parts])
    of_usage = np.concatenate([part.of_usage for part in parts])
    reasons = pd.arrays.ArrowExtensionArray(pa.chunked_array([part.reasons for part in parts]))
    counted = (total if policy.scoring.firmographics == "combine" else of_usage) / TENTHS
    high, medium = counted >= policy.scoring.tiers.high, counted >= policy.scoring.tiers.medium
    passed = gates(signals, policy)
    before = _before(signals["account_id"], earlier)
    return pd.DataFrame(
        {
            "account_id": signals["account_id"],
            "score": total / TENTHS,
            "usage_score": of_usage / TENTHS,
            "tier": words(np.select([high, medium], [0, 1], 2), ["high", "medium", "low"]).set_axis(signals.index),
            **{gate: passed[gate] for gate in GATES},
            "pql": passed.all(axis=1) & high,
            "reasons": pd.Series(reasons, index=signals.index),
            "score_before": before,
            "score_trend": _trend(total, before).set_axis(signals.index),
        }
    )


class _Points(NamedTuple):
    """What some accounts earned: in all, by use alone, and for what."""

    tenths: Tenths
    of_usage: Tenths
    reasons: pa.ListArray


def _points(signals: pd.DataFrame, policy: Policy, as_of: datetime) -> _Points:
    rules = policy.scoring.points
    values = np.column_stack([number(signals, rule.signal) for rule in rules])
    tenths = np.column_stack([_earned(signals, rule, as_of) for rule in rules])
    usage = [rule.signal not in FIRMOGRAPHIC_SIGNALS for rule in rules]
    reasons = _reasons([rule.signal for rule in rules], values, tenths)
    return _Points(tenths.sum(axis=1), tenths[:, usage].sum(axis=1), reasons)


def _earned(signals: pd.DataFrame, rule: Points, as_of: datetime) -> Tenths:
    """Tenths of points: all from `at_least` on, or growing linearly with the signal up to `full_at`; halving with age.

    Unknown (NaN, a moment that is null) earns nothing.
    """
    value = number(signals, rule.signal)
    share = np.ones_like(value) if rule.full_at is None else np.clip(value / rule.full_at, 0, 1)
    known = value >= rule.at_least
    if rule.half_life_days is not None:
        days = age_days(signals, f"{rule.signal}_at", as_of)
        known &= ~np.isnan(days)
        share = share * 0.5 ** (np.floor(days) / rule.half_life_days)
    return np.rint(np.where(known, share, 0.0) * rule.points * TENTHS).astype(np.int64)


def _before(account_ids: pd.Series, earlier: pd.DataFrame | None) -> Numbers:
    """The earlier score of each account, NaN where there is none."""
    if earlier is None or earlier.empty:
        return np.full(len(account_ids), np.nan)
    place = places(account_ids, earlier["account_id"])
    return np.where(place < 0, np.nan, number(earlier, "score")[place])


def _trend(tenths: Tenths, before: Numbers) -> pd.Series:
    """rising, steady or falling; null where there is no earlier score."""
    known = ~np.isnan(before)
    then = np.rint(np.where(known, before, 0.0) * TENTHS).astype(np.int64)
    change = tenths - then
    moved = (np.abs(change) * TREND_SHARE >= then) & (np.abs(change) >= TREND_POINTS * TENTHS)
    place = np.where(moved, np.sign(change), 0) + 1
    return words(np.where(known, place, -1), ["falling", "steady", "rising"])


def _reasons(names: list[str], values: Numbers, tenths: Tenths) -> pa.ListArray:
    """The points of each account as a list of structs, without visiting rows."""
    # Sorted as one number each, most points first and then as in the policy: far quicker than sorting by two.
    keys = np.sort(-tenths * len(names) + np.arange(len(names)), axis=1)
    earned = keys < 0
    row, key = np.nonzero(earned)[0], keys[earned]
    place = key % len(names)
    signal = pa.DictionaryArray.from_arrays(pa.array(place.astype(np.int32)), pa.array(names, pa.string()))
    reason = pa.StructArray.from_arrays(
        [
            signal.dictionary_decode(),
            pa.array(values[row, place]),
            pa.array((place - key) // len(names) / TENTHS),
        ],
        fields=list(REASONS.value_type),
    )
    offsets = np.concatenate([[0], np.cumsum(earned.sum(axis=1))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), reason)


def _earlier(lake: Lake, ledger: Ledger, policy: Policy, run: Run) -> pd.DataFrame:
    """account_id and score of the latest run at least `trend_days` older that scored the same way; else empty.

    A score of other points is not comparable: a change of policy is no trend.
    """
    until = run.as_of - timedelta(days=policy.scoring.trend_days)
    for other in reversed(ledger.runs()):
        if (
            other.as_of <= until
            and lake.exists("scores", f"{other.run_id}.parquet")
            and ledger.policy(other.policy_version).scoring == policy.scoring
        ):
            return read(lake, "scores", f"{other.run_id}.parquet", columns=EARLIER).to_pandas()
    return pd.DataFrame({"account_id": pd.Series(dtype="str"), "score": pd.Series(dtype="float64")})


def _needed(policy: Policy) -> list[str]:
    """Every column that gates and points look at."""
    points = policy.scoring.points
    conditions = [*policy.gates.engagement, *policy.gates.intent, *points]
    moments = [f"{p.signal}_at" for p in points if p.half_life_days is not None]
    signals = sorted({"activated", *(c.signal for c in conditions)})
    return ["account_id", "account_basis", "domain", "employees", "industry", *signals, *moments]
