"""Points, tiers and reasons, whole columns at a time.

Points are counted in tenths, as integers: a score is exactly the sum of its reasons.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from onetouch.lake import Lake
from onetouch.ledger import Run
from onetouch.policy import Policy
from onetouch.policy.schema import Points
from onetouch.scoring.gates import GATES, gates, number

REASONS = pa.list_(pa.struct([("signal", pa.string()), ("value", pa.float64()), ("points", pa.float64())]))
"""Type of `reasons`: the signals that earned points, most points first, as in the policy where they earned the same."""

TENTHS = 10


def score(lake: Lake, policy: Policy, run: Run) -> dict[str, object]:
    """Writes `scores/{run_id}.parquet` from the run's signals; returns `scored`, `tiers` {tier: n}, `pql`."""
    with lake.fs.open(lake.path("signals", f"{run.run_id}.parquet"), "rb") as file:
        wanted = ["account_id", "account_basis", "domain", "employees", "industry", *_named(policy)]
        signals = pq.read_table(file, columns=wanted).to_pandas()
    scores = score_frame(signals, policy)
    # Without pandas' own metadata, which cannot name a list of structs.
    table = pa.Table.from_pandas(scores, preserve_index=False).replace_schema_metadata()
    lake.write(table, "scores", f"{run.run_id}.parquet")
    tiers = scores["tier"].value_counts()
    return {
        "scored": len(scores),
        "tiers": {tier: int(tiers.get(tier, 0)) for tier in ("high", "medium", "low")},
        "pql": int(scores["pql"].sum()),
    }


def score_frame(signals: pd.DataFrame, policy: Policy) -> pd.DataFrame:
    """One row an account of `signals`, in its order: account_id, score, tier, the gates, pql, reasons.

    `signals` needs account_id, account_basis, domain, employees, industry and every signal the policy's gates and
    points name. Points from 0 on, in tenths; `reasons` is an Arrow list of structs (REASONS).
    """
    rules = policy.scoring.points
    values = np.column_stack([number(signals, rule.signal) for rule in rules])
    tenths = np.column_stack([_earned(values[:, i], rule) for i, rule in enumerate(rules)])
    total = tenths.sum(axis=1)
    points = total / TENTHS
    tiers = policy.scoring.tiers
    passed = gates(signals, policy)
    high = points >= tiers.high
    return pd.DataFrame(
        {
            "account_id": signals["account_id"],
            "score": points,
            "tier": np.select([high, points >= tiers.medium], ["high", "medium"], "low"),
            **{gate: passed[gate] for gate in GATES},
            "pql": passed.all(axis=1) & high,
            "reasons": pd.Series(
                pd.arrays.ArrowExtensionArray(_reasons([r.signal for r in rules], values, tenths)), index=signals.index
            ),
        }
    )


def _earned(value: npt.NDArray[np.float64], rule: Points) -> npt.NDArray[np.int64]:
    """Tenths of points: all from `at_least` on, or growing linearly with the signal up to `full_at`."""
    share = np.ones_like(value) if rule.full_at is None else np.clip(value / rule.full_at, 0, 1)
    known = np.where(value >= rule.at_least, share, 0.0)  # NaN, unknown, is never at least anything
    return np.rint(known * rule.points * TENTHS).astype(np.int64)


def _reasons(
    names: list[str], values: npt.NDArray[np.float64], tenths: npt.NDArray[np.int64]
) -> pa.ListArray | pa.ChunkedArray:
    """The points of each account as a list of structs, without visiting rows."""
    order = np.argsort(-tenths, axis=1, kind="stable")
    sorted_tenths = np.take_along_axis(tenths, order, axis=1)
    earned = sorted_tenths > 0
    signal = pa.DictionaryArray.from_arrays(pa.array(order[earned].astype(np.int32)), pa.array(names, pa.string()))
    reason = pa.StructArray.from_arrays(
        [
            signal.dictionary_decode(),
            pa.array(np.take_along_axis(values, order, axis=1)[earned]),
            pa.array(sorted_tenths[earned] / TENTHS),
        ],
        fields=list(REASONS.value_type),
    )
    offsets = np.concatenate([[0], np.cumsum(earned.sum(axis=1))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), reason)


def _named(policy: Policy) -> list[str]:
    """Every signal that gates and points look at."""
    conditions = [*policy.gates.engagement, *policy.gates.intent, *policy.scoring.points]
    return sorted({"activated", *(c.signal for c in conditions)})
