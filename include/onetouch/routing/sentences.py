"""What would make an account a sales touch, in words: one sentence for each thing that stands in the way."""

from __future__ import annotations

import numpy as np
import pandas as pd

from onetouch.policy import Condition, Policy
from onetouch.scoring.gates import holds, number


def holdout(facts: pd.DataFrame, policy: Policy) -> str:
    """The account is in the control group."""
    return "Nothing: it is in the control group, which sales leaves alone to measure what a touch is worth."


def converting(facts: pd.DataFrame, policy: Policy) -> pd.Series:
    """A self-serve upgrade is in progress."""
    return (
        "Its self-serve checkout ("
        + facts["checkout_state"].astype("str")
        + f") has to end without an upgrade: be abandoned, or stay without a step for "
        f"{policy.signals.checkout_abandoned_hours} hours."
    )


def open_opportunity(facts: pd.DataFrame, policy: Policy) -> str:
    """Sales has it already."""
    return "Its open opportunity has to be closed: a colleague is talking to it already."


def touched(facts: pd.DataFrame, policy: Policy) -> pd.Series:
    """A handoff is active, or a rep was in contact a few days ago."""
    silence = policy.handoff.silence_days
    waiting = f"Its present handoff has to end: {silence} days after a touch without response it is self-serve again."
    recent = f"{silence} days have to pass since the last touch of a rep."
    return _words(facts, (facts["handed_over"], waiting), (~facts["handed_over"], recent))


def cooldown(facts: pd.DataFrame, policy: Policy) -> pd.Series:
    """It was handed over before."""
    days = f"{policy.routing.cooldown_days} days have to pass since its last handoff ended."
    new = "A signal has to appear that was not there at its last handoff."
    return _words(facts, (facts["cooling"], days), (facts["nothing_new"], new))


def obstacles(facts: pd.DataFrame, policy: Policy) -> pd.Series:
    """All of value, engagement, gates and score that stand in the way, each with the figure it has."""
    value, gates = policy.value, policy.gates
    intent = " or ".join(f"{c.signal} {c.at_least:g}" for c in gates.intent)
    return _words(
        facts,
        (
            ~facts["high_value"],
            "Its potential ARR of $" + _figures(facts["potential_arr"], ",.0f") + f" has to reach ${value.floor:,.0f}.",
        ),
        (~facts["gate_icp"], "It has to fit the customer profile: an organisation of a size and industry we sell to."),
        (~facts["gate_activated"], f"It has to activate: {' and '.join(policy.product.activation)}."),
        *_unmet(facts, list(dict.fromkeys([*policy.routing.engaged, *gates.engagement]))),
        (~facts["gate_intent"], f"It has to show intent: {intent}."),
        (
            facts["tier"] != "high",
            "Its score of " + _figures(facts["score"], "g") + f" has to reach {policy.scoring.tiers.high:g}.",
        ),
    )


def context(facts: pd.DataFrame, policy: Policy) -> pd.Series:
    """What a rep would have to know first."""
    return "The account record has to be completed; missing: " + facts["missing_context"].astype("str") + "."


def capacity(facts: pd.DataFrame, policy: Policy) -> pd.Series:
    """Nobody can take it today."""
    full = f"A rep has to have room: each takes {policy.assignment.tasks_per_rep_per_day} tasks a day."
    nobody = "There has to be an active rep for its region."
    return _words(facts, (facts["covered"], full), (~facts["covered"], nobody))


def _unmet(facts: pd.DataFrame, conditions: list[Condition]) -> list[tuple[pd.Series, pd.Series]]:
    """One sentence for each condition that does not hold, with the figure the account has."""
    return [
        (
            pd.Series(~holds(facts, c), index=facts.index),
            f"{c.signal} (" + _figures(facts[c.signal], "g") + f") has to reach {c.at_least:g}.",
        )
        for c in conditions
    ]


def _figures(values: pd.Series, form: str) -> pd.Series:
    """Numbers as text; each different one is put into words once."""
    different, places = np.unique(number(values.to_frame(), str(values.name)), return_inverse=True)
    shown = ["unknown" if np.isnan(v) else format(v, form) for v in different]
    return pd.Series(np.array(shown, dtype=object)[places], index=values.index, dtype="str")


def _words(facts: pd.DataFrame, *parts: tuple[pd.Series, pd.Series | str]) -> pd.Series:
    """The sentences whose mask is true, one after the other."""
    text = pd.Series("", index=facts.index, dtype="str")
    for mask, sentence in parts:
        chosen = mask.to_numpy(bool)
        said = sentence[chosen] if isinstance(sentence, pd.Series) else sentence
        text[chosen] = text[chosen] + " " + said
    return text.str.strip()
