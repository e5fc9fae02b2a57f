"""The facts the rules read: signals, score, past handoffs and touches, contact reasons, and columns of single rules."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from onetouch.columns import Places, places, text
from onetouch.policy import Policy
from onetouch.routing import contact_reasons
from onetouch.routing.inputs import PREVIOUS, Inputs
from onetouch.routing.recall import HEARD, REMEMBERED
from onetouch.routing.rule import Rules
from onetouch.routing.rules import RULES

_OF_LATER = ("reason", "refused_at", "rest_state", "rest_at", "rest_owner")
"""Columns of handoffs that the inputs of an earlier release may lack; they are null then."""


def known_facts(inputs: Inputs, policy: Policy, as_of: datetime, rules: Rules = RULES) -> pd.DataFrame:
    """One row an account, in the order of account_id, with everything known before reps are assigned.

    Columns: those of signals and scores; `handoff_…` (state, closed_at, signals, reason, rest_…),
    `touched_at` and `previous_…` for what was done before and is remembered; the contact reasons
    (`contact_reasons.columns`); and the columns that single `rules` define.

    Raises ValueError when the accounts of signals and scores differ, an account occurs twice, or a column is missing.
    """
    signals, scores = _ordered(inputs.signals), _ordered(inputs.scores)
    if not _same(signals, scores):
        raise ValueError("signals and scores must hold the same accounts, each once")
    lacking = [f"{name}_at" for name in policy.routing.triggers if f"{name}_at" not in signals]
    if lacking:
        raise ValueError(f"signals: no column {', '.join(lacking)}; build the run's signals again")
    before = _before(signals, inputs)
    facts = pd.concat([signals, scores.drop(columns="account_id"), before], axis=1)
    reasons = pd.DataFrame(contact_reasons.columns(facts, policy, as_of), index=facts.index)
    facts = pd.concat([facts, reasons], axis=1)
    own = {name: column for rule in rules for name, column in rule.columns(facts, inputs, policy, as_of).items()}
    return pd.concat([facts, pd.DataFrame(own, index=facts.index)], axis=1)


def _ordered(frame: pd.DataFrame) -> pd.DataFrame:
    """Sorted by account. The stages already write this order, in which case no row is moved."""
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
    """Each account's latest handoff, last touch and previous decision."""
    accounts = signals["account_id"]
    handoff = places(accounts, inputs.handoffs["account_id"])
    past = inputs.handoffs.reindex(columns=[*dict.fromkeys([*inputs.handoffs, *_OF_LATER])])
    then = pa.array(inputs.handoffs["signals"], pa.list_(pa.string()))
    # Decisions of an earlier release of this library may lack columns; these are null, as for a new account.
    of_decisions = {**PREVIOUS, **dict.fromkeys(REMEMBERED, "datetime64[us, UTC]")}
    before = inputs.previous.reindex(columns=list(of_decisions)).astype(of_decisions)
    previous = places(accounts, before["account_id"])
    touches = _touches(signals, inputs.touches)
    last = touches.groupby("account_id", as_index=False)["at"].max()
    frame = pd.DataFrame(
        {
            "handoff_state": _take(inputs.handoffs["state"], handoff),
            "handoff_closed_at": _take(inputs.handoffs["closed_at"], handoff),
            "handoff_signals": _take(pc.binary_join(then, ",").to_pandas(), handoff),
            **{f"handoff_{name}": _take(past[name], handoff) for name in _OF_LATER},
            "touched_at": _take(last["at"], places(accounts, last["account_id"])),
            **{f"previous_{name}": _take(before[name], previous) for name in of_decisions if name != "account_id"},
        },
        index=signals.index,
    )
    told = {
        "handoff_closed_at",
        "handoff_refused_at",
        "handoff_rest_at",
        "touched_at",
        *(f"previous_{name}" for name, kind in of_decisions.items() if kind != "str"),
    }
    frame = frame.astype({name: "datetime64[us, UTC]" if name in told else "str" for name in frame})
    if HEARD in inputs.previous and inputs.previous[HEARD].notna().any():  # what the previous run knew of the signals
        knew = [
            name for name in map(str, inputs.previous) if name.endswith("_at") and name not in {*of_decisions, HEARD}
        ]
        heard = {f"previous_{name}": _take(inputs.previous[name], previous) for name in knew}
        heard[HEARD] = _take(inputs.previous[HEARD], previous)
        frame = pd.concat([frame, pd.DataFrame(heard, signals.index).astype("datetime64[us, UTC]")], axis=1)
    return frame


def _take(column: pd.Series, at: Places) -> Any:
    """The column's value at each place, null where the place is -1."""
    return pd.api.extensions.take(column.array, at, allow_fill=True)


def _touches(signals: pd.DataFrame, touches: pd.DataFrame) -> pd.DataFrame:
    """account_id and at. A touch that was read before its CRM account was matched has the id `crm:…`, resolved here."""
    touches = touches[["account_id", "at"]].dropna(subset=["account_id"])
    of_crm = touches["account_id"].str.startswith("crm:").to_numpy(bool)
    if of_crm.any():
        crm_ids = touches.loc[of_crm, "account_id"].str.removeprefix("crm:")
        at = places(crm_ids, signals["crm_account_id"])
        joined = pd.Series(_take(signals["account_id"], at), index=crm_ids.index)  # null: no account of ours
        touches = touches.assign(account_id=touches["account_id"].where(~of_crm, joined))
    return touches
