"""What the rules look at: signals, score, what was done before, and one column for each word of the rules."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from onetouch.catalogue import FIRMOGRAPHIC_SIGNALS, SIGNAL_NAMES
from onetouch.lake.columns import Moments, Places, age_days, moment, number, places, text, words
from onetouch.ledger import ACTIVE, TERMINAL
from onetouch.policy import Condition, Policy
from onetouch.routing.inputs import PREVIOUS, Inputs
from onetouch.routing.obstacles import absent
from onetouch.routing.value import potential_arr
from onetouch.scoring import REASONS
from onetouch.scoring.gates import holds

Mask = npt.NDArray[np.bool_]

CALLS = ("pql", "hand_raised", "expansion", "trigger")
"""Why an account would be a sales touch."""

WATCHED = ("monitor", "hold_converting")
"""Decisions after which a trigger event counts: a checkout given up is one, and comes of a converting account."""

WAITING = ("hold_capacity", "hold_context")
"""Decisions on accounts that are called for already, and keep their reason."""

HOLDOUT_KEY = "onetouch-holdout"  # 16 characters, as the hash asks; another one would draw another control group


def known_facts(inputs: Inputs, policy: Policy, as_of: datetime) -> pd.DataFrame:
    """One row an account, in the order of account_id, with all that is known before anybody is assigned.

    The columns of signals and scores; of what was done before `handoff_state`, `handoff_closed_at`,
    `handoff_signals`, `touched_at` and `previous_…`; and the words of the rules:

    - holdout, converting, open_opportunity, handed_over, touched, cooling, nothing_new: who may not be interrupted
    - potential_arr, high_value, engaged (of the matrix), engaged_enough (or large enough, where the policy says so)
    - hand_raised, expanding, watchable (medium, and monitored)
    - triggered: at least medium, was watched, and its event has come
    - case: why it would be a sales touch if it were worth enough (CALLS or empty); call: the same, if it is
    - trigger_at: the event of `triggered`; stale: waited too long for a rep; incomplete: context is missing
    - days_since_touch, days_since_handoff: what the waits have to reach

    Raises ValueError when the accounts of signals and scores differ or one occurs twice, or a column is missing.
    """
    signals, scores = _ordered(inputs.signals), _ordered(inputs.scores)
    if not _same(signals, scores):
        raise ValueError("signals and scores must hold the same accounts, each once")
    lacking = [f"{name}_at" for name in policy.routing.triggers if f"{name}_at" not in signals]
    if lacking:
        raise ValueError(f"signals: no column {', '.join(lacking)}; build the run's signals again")
    before = _before(signals, inputs)
    frame = pd.concat([signals, scores.drop(columns="account_id"), before], axis=1)
    held = _held(frame, inputs, policy, as_of)
    called = _called(frame, policy, as_of)
    return pd.concat([frame, held, called], axis=1)


def _ordered(frame: pd.DataFrame) -> pd.DataFrame:
    """By account, which is how the stages leave them: then nothing is moved."""
    ids = text(frame, "account_id")
    if len(ids) < 2 or pc.all(pc.less(ids[:-1], ids[1:])).as_py():
        return frame.reset_index(drop=True)
    return frame.sort_values("account_id", ignore_index=True)


def _same(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    """Whether both hold the same accounts, each once."""
    ids, others = text(one, "account_id"), text(other, "account_id")
    once = len(ids) < 2 or bool(pc.all(pc.less(ids[:-1], ids[1:])).as_py())
    return once and ids.equals(others)


def _before(signals: pd.DataFrame, inputs: Inputs) -> pd.DataFrame:
    """What was done to each account before: its latest handoff, its last touch, its previous decision."""
    accounts = signals["account_id"]
    handoff = places(accounts, inputs.handoffs["account_id"])
    then = pa.array(inputs.handoffs["signals"], pa.list_(pa.string()))
    # Decisions of an earlier version of this library lack some columns: unknown, as for a new account.
    before = inputs.previous.reindex(columns=list(PREVIOUS)).astype(PREVIOUS)
    previous = places(accounts, before["account_id"])
    touches = _touches(signals, inputs.touches)
    last = touches.groupby("account_id", as_index=False)["at"].max()
    frame = pd.DataFrame(
        {
            "handoff_state": _take(inputs.handoffs["state"], handoff),
            "handoff_closed_at": _take(inputs.handoffs["closed_at"], handoff),
            "handoff_signals": _take(pc.binary_join(then, ",").to_pandas(), handoff),
            "touched_at": _take(last["at"], places(accounts, last["account_id"])),
            **{f"previous_{name}": _take(before[name], previous) for name in PREVIOUS if name != "account_id"},
        },
        index=signals.index,
    )
    moments = ["handoff_closed_at", "touched_at", "previous_since", "previous_trigger_at"]
    return frame.astype({name: "datetime64[us, UTC]" if name in moments else "str" for name in frame})


def _take(column: pd.Series, at: Places) -> Any:
    """The column's value at each place, null where that is -1."""
    return pd.api.extensions.take(column.array, at, allow_fill=True)


def _touches(signals: pd.DataFrame, touches: pd.DataFrame) -> pd.DataFrame:
    """account_id and at; a touch read before CRM and product were joined is kept under the CRM's name of it."""
    touches = touches[["account_id", "at"]].dropna(subset=["account_id"])
    of_crm = touches["account_id"].str.startswith("crm:").to_numpy(bool)
    if of_crm.any():
        crm_ids = touches.loc[of_crm, "account_id"].str.removeprefix("crm:")
        at = places(crm_ids, signals["crm_account_id"])
        joined = pd.Series(_take(signals["account_id"], at), index=crm_ids.index)  # null: no account of ours
        touches = touches.assign(account_id=touches["account_id"].where(~of_crm, joined))
    return touches


def _held(frame: pd.DataFrame, inputs: Inputs, policy: Policy, as_of: datetime) -> pd.DataFrame:
    """Who may not be interrupted now, whatever the account is worth."""
    state = frame["handoff_state"]
    closed = state.isin(TERMINAL).to_numpy(bool)
    touched, ended = moment(frame, "touched_at"), moment(frame, "handoff_closed_at")
    return pd.DataFrame(
        {
            "holdout": _drawn(frame["account_id"], policy.routing.holdout_share),
            "converting": frame["checkout_state"].isin(["started", "stalled"]).to_numpy(bool),
            "open_opportunity": number(frame, "open_opportunities") > 0,
            "handed_over": state.isin(ACTIVE).to_numpy(bool),
            "touched": touched > _utc(as_of - timedelta(days=policy.handoff.silence_days)),
            "cooling": closed & (ended > _utc(as_of - timedelta(days=policy.routing.cooldown_days))),
            "nothing_new": closed & ~_something_new(frame, inputs.handoffs, closed),
            "days_since_touch": age_days(frame, "touched_at", as_of),
            "days_since_handoff": age_days(frame, "handoff_closed_at", as_of),
        },
        index=frame.index,
    )


def _called(frame: pd.DataFrame, policy: Policy, as_of: datetime) -> pd.DataFrame:
    """Who would be a sales touch, and why."""
    routing = policy.routing
    potential = potential_arr(frame, policy.value)
    high_value = potential >= policy.value.floor
    engaged = _all(frame, routing.engaged)
    large = number(frame, "employees") >= routing.motion.sales_led_employees
    enough = engaged | large if routing.large_not_engaged == "sales" else engaged
    fit = _bool(frame, "gate_icp") & _bool(frame, "gate_activated")
    able = fit & _bool(frame, "gate_engagement")
    hand_raised = np.logical_or.reduce([np.zeros(len(frame), bool), *(holds(frame, c) for c in routing.hand_raised)])
    expanding = (number(frame, "arr") > 0) & _all(frame, routing.expansion.when)

    watched = fit & (routing.medium == "monitor")
    watchable = watched & frame["tier"].eq("medium").to_numpy(bool)
    news = _first_trigger(frame, routing.triggers)
    waiting = frame["previous_action"].isin(WAITING).to_numpy(bool)
    kept = waiting & frame["previous_call"].eq("trigger").to_numpy(bool)
    came = frame["previous_action"].isin(WATCHED).to_numpy(bool) & ~np.isnat(news)
    # Who has risen to high without an intent of the list loses nothing by it.
    triggered = watched & frame["tier"].ne("low").to_numpy(bool) & (came | kept)
    event = np.where(kept, moment(frame, "previous_trigger_at"), news)

    reasons = [
        _bool(frame, "pql") & enough,
        able & hand_raised,
        able & expanding & enough,
        able & triggered & enough,
    ]
    case = np.select(reasons, range(len(CALLS)), len(CALLS))
    call = np.where(high_value, case, len(CALLS))
    is_trigger = call == CALLS.index("trigger")
    return pd.DataFrame(
        {
            "potential_arr": potential,
            "high_value": high_value,
            "engaged": engaged,
            "engaged_enough": enough,
            "hand_raised": hand_raised,
            "expanding": expanding,
            "watchable": watchable,
            "triggered": triggered,
            "case": words(case, [*CALLS, ""]).set_axis(frame.index),
            "call": words(call, [*CALLS, ""]).set_axis(frame.index),
            "trigger_at": pd.Series(pd.DatetimeIndex(np.where(is_trigger, event, _NEVER), tz="UTC"), frame.index),
            "stale": _stale(frame, news, policy, as_of),
            "incomplete": np.logical_or.reduce([absent(frame, f) for f in policy.handoff.required_context]),
        },
        index=frame.index,
    )


def _stale(frame: pd.DataFrame, news: Moments, policy: Policy, as_of: datetime) -> Mask:
    """Waited for a rep too long; and still, until something happens again."""
    queued = frame["previous_action"].eq("hold_capacity").to_numpy(bool)
    since = _utc(as_of - timedelta(hours=policy.assignment.queue_hours))
    expired = frame["previous_rule"].eq("queue expired").to_numpy(bool)
    return (queued & (moment(frame, "previous_since") <= since)) | (expired & np.isnat(news))


def _first_trigger(frame: pd.DataFrame, triggers: Sequence[str]) -> Moments:
    """The first trigger event after the moment the previous decision began to stand; NaT without."""
    since = moment(frame, "previous_since")
    first = np.full(len(frame), _NEVER)
    for name in triggers:
        at = moment(frame, f"{name}_at")
        first = np.fmin(first, np.where(at > since, at, _NEVER))
    return first


def _something_new(frame: pd.DataFrame, handoffs: pd.DataFrame, closed: Mask) -> Mask:
    """Whether a signal of use earns points now that did not at the handoff; looked at where `closed`, else false."""
    rows = np.flatnonzero(closed)
    now = pa.array(frame["reasons"], REASONS).take(pa.array(rows))
    at = places(frame["account_id"].iloc[rows], handoffs["account_id"])
    then = pa.array(handoffs["signals"], pa.list_(pa.string())).take(pa.array(at))
    new = _named(now, "signal") & ~_named(then)
    new[:, [SIGNAL_NAMES.index(name) for name in FIRMOGRAPHIC_SIGNALS]] = False
    something = np.zeros(len(frame), dtype=bool)
    something[rows] = new.any(axis=1)
    return something


def _named(lists: pa.ListArray | pa.ChunkedArray, field: str | None = None) -> Mask:
    """One row a list, one column a name of SIGNAL_NAMES: whether the list names it."""
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


def _drawn(account_ids: pd.Series, share: float) -> Mask:
    """Whether each account is in the control group: its number in [0, 1), for ever the same, is under the share."""
    if share == 0:
        return np.zeros(len(account_ids), dtype=bool)
    hashes = pd.util.hash_array(account_ids.to_numpy(dtype=object), hash_key=HOLDOUT_KEY, categorize=False)
    return hashes / 2.0**64 < share


def _all(frame: pd.DataFrame, conditions: list[Condition]) -> Mask:
    return np.logical_and.reduce([holds(frame, condition) for condition in conditions])


def _bool(frame: pd.DataFrame, column: str) -> Mask:
    return frame[column].to_numpy(bool)


def _utc(at: datetime) -> np.datetime64:
    return np.datetime64(at.astimezone(UTC).replace(tzinfo=None), "us")


_NEVER = np.datetime64("NaT", "us")
