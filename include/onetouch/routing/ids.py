"""The id of a decision: a hash of the account, the moment, the policy and all that the decision can depend on."""

from __future__ import annotations

from datetime import UTC, datetime

import duckdb
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from onetouch.policy import Policy
from onetouch.policy.schema import MOMENTS, SIGNALS

DIGITS = 24
ROWS = 50_000
"""Accounts hashed at a time: one thread of the engine takes a batch."""

_TEXT = (
    "account_id", "account_basis", "domain", "industry", "region", "timezone", "owner_email", "owner_id",
    "crm_account_id", "checkout_state", "handoff_state", "handoff_signals", "previous_action", "previous_rule",
    "previous_call",
)  # fmt: skip
_NUMBERS = (
    "employees", "seats", "arr", "owner_active", "open_opportunities", "usual_hour", "usual_weekday", "score",
    "usage_score", "score_before", "gate_icp", "gate_activated", "gate_engagement", "gate_intent", "pql",
)  # fmt: skip
_MOMENTS = ("handoff_closed_at", "touched_at", "previous_since", "previous_trigger_at")


def decision_ids(facts: pd.DataFrame, policy: Policy, as_of: datetime) -> pd.Series:
    """The first 24 hex digits of a SHA-256 for each row of `facts`, whatever their order.

    It depends on the policy's version, `as_of` and the columns named here, in their order; a column that a later
    version of the library adds to the signals changes no id. Two rows that differ in any of them differ in what is
    hashed: numbers and moments as 64 bits each, then the texts one after the other, their lengths among the numbers.
    """
    required = [name for name in dict.fromkeys(policy.handoff.required_context) if name not in _TEXT]
    moments = [*_MOMENTS, *(f"{name}_at" for name in MOMENTS if f"{name}_at" in facts)]
    numbers = [*SIGNALS, *_NUMBERS]
    others = [name for name in required if name not in numbers]
    words = [name for name in others if pd.api.types.is_string_dtype(facts[name].dtype)]
    texts, present = [*_TEXT, *words], [name for name in others if name not in words]
    batches = [
        _batch(facts.iloc[start : start + ROWS], texts, numbers, moments, present)
        for start in range(0, len(facts), ROWS)
    ]
    if not batches:
        return pd.Series(dtype="str")
    salt = f"{policy.version}\n{as_of.astimezone(UTC).isoformat()}\n".encode()
    with duckdb.connect(":memory:") as con:
        con.register("inputs", pa.Table.from_batches(batches))
        hashed = con.execute(
            f"SELECT left(sha256($1::BLOB || numbers || encode(text)), {DIGITS}) AS id FROM inputs", [salt]
        )
        return hashed.df()["id"]


def _batch(
    facts: pd.DataFrame, texts: list[str], numbers: list[str], moments: list[str], present: list[str]
) -> pa.RecordBatch:
    """`numbers`: the fixed part of each row as bytes; `text`: its texts, one after the other."""
    words = [_whole(pa.array(facts[name], pa.string())) for name in texts]
    columns: list[npt.NDArray[np.int64]] = [
        *(_bits(facts[name]) for name in numbers),
        *(facts[name].to_numpy(dtype="datetime64[us]").astype(np.int64) for name in moments),
        *(facts[name].notna().to_numpy(bool).astype(np.int64) for name in present),
        *(pc.binary_length(word).fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64) for word in words),
    ]
    table = np.column_stack(columns).astype("<i8", copy=False)
    width = table.shape[1] * table.itemsize
    fixed = pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(table), [None, pa.py_buffer(table)])
    text = pc.binary_join_element_wise(*(word.fill_null("") for word in words), "")
    return pa.RecordBatch.from_arrays([fixed, text], ["numbers", "text"])


def _whole(text: pa.StringArray | pa.ChunkedArray) -> pa.StringArray:
    """In one piece: a frame put together of several has its texts in several."""
    return text.combine_chunks() if isinstance(text, pa.ChunkedArray) else text


def _bits(column: pd.Series) -> npt.NDArray[np.int64]:
    """Numbers by their bits; one NaN for unknown, and no zero below zero."""
    values = column.to_numpy(dtype=np.float64, na_value=np.nan) + 0.0
    return np.where(np.isnan(values), np.nan, values).view(np.int64)
