"""The id of a decision: a hash of the account, the moment, the policy and everything the decision can depend on.

The hashed columns are format 1 and never change: the columns listed here, in this order. Ids are stored in CRMs and in
other systems, and a replay must reproduce them, so a signal or a fact added by a later release changes no id. A signal
that was renamed since (`catalogue.RENAMED`) keeps its place. Where names themselves are hashed, which is the case for
the signals of a past handoff, the names of format 1 are used.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from onetouch.columns import Numbers, moments, number, text
from onetouch.policy import Policy, current_name

DIGITS = 24
ROWS = 4_096
"""Accounts hashed in one batch: few enough for the processor's cache."""

_SIGNALS = (
    "users", "active_users_7d", "active_users_28d", "invites_28d", "milestones_done", "activated",
    "days_to_activate", "features_used", "integrations", "developer_days_28d", "limit_share",
    "limit_held_days", "limits_reached_28d", "active_days_7d", "active_days_14d", "return_days_28d",
    "events_7d", "events_28d", "usage_growth_7d", "exports_28d", "shares_28d", "pricing_views_14d",
    "plan_questions_28d", "demo_requests_28d", "premium_attempts_28d", "admin_actions_28d",
    "failed_actions_28d", "tickets_28d", "demo_completion", "checkouts_abandoned_28d", "limit_days_left",
    "enterprise_domain", "fundings_90d", "hirings_90d",
)  # fmt: skip
_SIGNAL_MOMENTS = (
    "invites_28d_at", "limits_reached_28d_at", "exports_28d_at", "shares_28d_at", "pricing_views_14d_at",
    "plan_questions_28d_at", "demo_requests_28d_at", "premium_attempts_28d_at", "admin_actions_28d_at",
    "failed_actions_28d_at", "tickets_28d_at", "checkouts_abandoned_28d_at", "fundings_90d_at", "hirings_90d_at",
)  # fmt: skip
_TEXT = (
    "account_id", "account_basis", "domain", "industry", "region", "timezone", "owner_email", "owner_id",
    "crm_account_id", "checkout_state", "handoff_state", "handoff_signals", "previous_action", "previous_rule",
    "previous_call",
)  # fmt: skip
_OF_NAMES = "handoff_signals"
_NUMBERS = (
    "employees", "seats", "arr", "owner_active", "open_opportunities", "usual_hour", "usual_weekday", "score",
    "usage_score", "score_before", "gate_icp", "gate_activated", "gate_engagement", "gate_intent", "pql",
)  # fmt: skip
_MOMENTS = ("handoff_closed_at", "touched_at", "previous_since", "previous_trigger_at")


def decision_ids(facts: pd.DataFrame, policy: Policy, as_of: datetime) -> pd.Series:
    """The first 24 hex digits of a SHA-256 for each row of `facts`; a row's id does not depend on the row order.

    The hash covers the policy's version, `as_of`, the columns named in this module in their order, and any other column
    that the policy requires (`handoff.required_context`). Two rows that differ in any of these hash different bytes:
    numbers, moments and text lengths are 64 bits each, followed by the texts.
    """
    figures = [*map(current_name, _SIGNALS), *_NUMBERS]
    required = [name for name in dict.fromkeys(policy.handoff.required_context) if name not in figures]
    texts = [name for name in required if isinstance(facts[name].dtype, pd.StringDtype)]
    numbers = [number(facts, name) for name in figures]
    numbers += [facts[name].notna().to_numpy(bool).astype(np.float64) for name in required if name not in texts]
    instants = [moments(facts, name).view(np.int64) for name in (*_MOMENTS, *map(current_name, _SIGNAL_MOMENTS))]
    words = [_former(name, text(facts, name)) for name in dict.fromkeys((*_TEXT, *texts))]
    salted = hashlib.sha256(f"{policy.version}\n{as_of.astimezone(UTC).isoformat()}\n".encode())
    digits = b"".join(
        _digits(
            salted,
            [column[start : start + ROWS] for column in numbers],
            [column[start : start + ROWS] for column in instants],
            [column[start : start + ROWS] for column in words],
        )
        for start in range(0, len(facts), ROWS)
    )
    offsets = np.arange(0, len(digits) + 1, DIGITS, dtype=np.int32)
    ids: pd.Series = pa.StringArray.from_buffers(len(facts), pa.py_buffer(offsets), pa.py_buffer(digits)).to_pandas()
    return ids


def _former(column: str, words: pa.StringArray) -> pa.StringArray:
    """A column's texts as format 1 has them: comma-separated names of signals are replaced by those of format 1."""
    former = {name: then for then in _SIGNALS if (name := current_name(then)) != then}
    if column != _OF_NAMES or not former:
        return words
    each = words.dictionary_encode()
    then = [",".join(former.get(name, name) for name in names.split(",")) for names in each.dictionary.to_pylist()]
    return pa.DictionaryArray.from_arrays(each.indices, pa.array(then, pa.string())).dictionary_decode()


def _digits(
    salted: Any, numbers: list[Numbers], moments: list[npt.NDArray[np.int64]], words: list[pa.StringArray]
) -> bytes:
    """The ids of some rows, concatenated. Every unknown is the same NaN, and negative zero becomes zero."""
    lengths = [pc.binary_length(word).fill_null(-1).to_numpy(zero_copy_only=False) for word in words]
    fixed = np.empty((len(words[0]), len(numbers) + len(moments) + len(words)), dtype="<i8")
    values = fixed.view("<f8")[:, : len(numbers)]
    for at, value in enumerate(numbers):
        values[:, at] = value
    values += 0.0
    values[np.isnan(values)] = np.nan
    for at, whole in enumerate((*moments, *lengths), len(numbers)):
        fixed[:, at] = whole
    row = fixed.shape[1] * fixed.itemsize
    numeric = fixed.reshape(-1).view(np.uint8).data
    texts = pc.binary_join_element_wise(*(word.fill_null("") for word in words), "").cast(pa.binary()).to_pylist()
    # A loop over rows is justified here: OpenSSL with hardware SHA instructions is twice as fast as the engine's hash.
    ids = []
    for place, joined in enumerate(texts):
        hashed = salted.copy()
        hashed.update(numeric[place * row : (place + 1) * row])
        hashed.update(joined)
        ids.append(hashed.hexdigest()[:DIGITS])
    return "".join(ids).encode()
