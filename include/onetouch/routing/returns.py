"""What the end of a handoff means for its account: how long sales stays away, and what brings the account back.

docs/returns.md has the table. An account may have had several handoffs: it rests from the last one for which anybody
was in touch, whatever came after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from onetouch.catalogue import FIRMOGRAPHIC_SIGNALS, SIGNAL_NAMES
from onetouch.columns import Mask, Moments, Numbers, moments, places, utc
from onetouch.ledger import ACTIVE, TERMINAL
from onetouch.policy import Policy
from onetouch.routing import intent
from onetouch.routing.rule import Facts
from onetouch.scoring import REASONS

DELETED = "task deleted"
"""How the reason of a handoff begins whose task a rep has deleted: the rep has judged the occasion."""


def columns(facts: Facts, handoffs: pd.DataFrame, policy: Policy, as_of: datetime) -> Mapping[str, Any]:
    """By account:

    - rest_days: how many days sales stays away after its handoff (NaN: it has not ended, or there is none)
    - rested_days: how many of them have passed; cooling: whether some are left
    - nothing_new: whether it has ended, and nothing has happened since that brings the account back
    - nothing_new_yet: whether it goes on, and nothing has happened since it began that would
    - rep_before: the rep who was in touch, for `routing.returns.same_rep_days`; null: none
    """
    returns = policy.routing.returns
    state, closed_at = facts["handoff_state"].astype("str"), moments(facts, "handoff_closed_at")
    closed, going_on = state.isin(TERMINAL).to_numpy(bool), state.isin(ACTIVE).to_numpy(bool)
    rest_at, rest_state = moments(facts, "handoff_rest_at"), facts["handoff_rest_state"].astype("str")
    ended = np.where(closed, np.fmax(closed_at, rest_at), intent.NEVER)
    asked = (intent.asked_at(facts, policy) > np.fmax(ended, moments(facts, "touched_at"))) & returns.hand_raise

    # The last end rests, and the last end after a touch: a handoff that nobody was called for does not shorten it.
    own = _days(np.select([state.eq("won"), state.eq("lost")], ["won", "lost"], "untouched"), policy)
    touched = _days(np.select([rest_state.eq("won"), rest_state.eq("lost")], ["won", "lost"], "released"), policy)
    until = np.where(closed, np.fmax(closed_at + own, rest_at + touched), intent.NEVER)
    from_rest = rest_at + touched >= closed_at + own
    since: Moments = np.where(from_rest, rest_at, closed_at)
    days = np.where(from_rest, touched, own)

    if returns.new == "signal":
        new = new_yet = _other_signal(facts, handoffs, closed | going_on)
    else:
        free = state.eq("withdrawn").to_numpy(bool) & ~_judged(facts) & (np.isnat(rest_at) | (rest_at < closed_at))
        new, new_yet = _occurred(facts, policy, ended) | asked | free, np.zeros(len(facts), dtype=bool)
    again = np.zeros(len(facts), dtype=bool)
    if returns.same_rep_days is not None:
        again = closed & (rest_at > utc(as_of - timedelta(days=returns.same_rep_days)))
    return {
        "rest_days": np.where(closed, _in_days(days), np.nan),
        "rested_days": np.maximum(_in_days(utc(as_of) - since), 0.0),
        "cooling": (until > utc(as_of)) & ~asked,
        "nothing_new": closed & ~new,
        "nothing_new_yet": going_on & ~new_yet,
        "rep_before": facts["handoff_rest_owner"].where(again),
    }


def _in_days(lengths: npt.NDArray[np.timedelta64]) -> Numbers:
    days: Numbers = lengths / np.timedelta64(1, "D")
    return days


def _days(ends: npt.NDArray[np.str_], policy: Policy) -> npt.NDArray[np.timedelta64]:
    """How long each end makes sales stay away."""
    of = {"released": ("released", True), "won": ("won", True), "lost": ("lost", True), "untouched": ("expired", False)}
    days = {name: policy.routing.days_away(*end) for name, end in of.items()}
    found = np.select([ends == name for name in days], list(days.values()), 0)
    return found.astype("timedelta64[D]").astype("timedelta64[us]")


def _judged(facts: Facts) -> Mask:
    """Whether the last handoff was withdrawn because a rep deleted its task."""
    judged: Mask = facts["handoff_reason"].astype("str").str.startswith(DELETED).eq(True).to_numpy(bool)
    return judged


def _occurred(facts: Facts, policy: Policy, ended: Moments) -> Mask:
    """Whether the account has shown intent since its handoff ended, of whatever kind, or a limit was crossed since.

    A customer who was won may also outgrow the plan that it bought.
    """
    new = (intent.occurred_at(facts, policy) > ended) | intent.began_after(facts, policy, ended)
    won = facts["handoff_rest_state"].eq("won").eq(True).to_numpy(bool)
    found: Mask = new | (won & intent.outgrown_after(facts, policy, ended))
    return found


def _other_signal(facts: Facts, handoffs: pd.DataFrame, given: Mask) -> Mask:
    """Whether a usage signal earns points now that earned none at the handoff; false where there is none `given`."""
    rows = np.flatnonzero(given)
    now = pa.array(facts["reasons"], REASONS).take(pa.array(rows))
    at = places(facts["account_id"].iloc[rows], handoffs["account_id"])
    then = pa.array(handoffs["signals"], pa.list_(pa.string())).take(pa.array(at))
    new = _named(now, "signal") & ~_named(then)
    new[:, [SIGNAL_NAMES.index(name) for name in FIRMOGRAPHIC_SIGNALS]] = False
    something = np.zeros(len(facts), dtype=bool)
    something[rows] = new.any(axis=1)
    return something


def _named(lists: pa.ListArray | pa.ChunkedArray, field: str | None = None) -> Mask:
    """Whether each list (row) contains each name of SIGNAL_NAMES (column)."""
    if isinstance(lists, pa.ChunkedArray):
        lists = lists.combine_chunks()
    each = pc.list_flatten(lists)
    names = each if field is None else each.field(field)
    column = pc.index_in(names, value_set=pa.array(SIGNAL_NAMES)).fill_null(-1).to_numpy(zero_copy_only=False)
    row = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
    named = np.zeros((len(lists), len(SIGNAL_NAMES)), dtype=bool)
    known = column >= 0
    named[row[known], column[known]] = True
    return named
