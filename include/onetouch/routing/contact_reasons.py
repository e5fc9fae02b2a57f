"""Contact reasons: why an account would get a sales touch, and what an account without a reason lacks.

A decision stores the reason in the column `call`: the account is a PQL, somebody there asked for a person, it outgrows
its plan, or it was monitored and a trigger event happened.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from onetouch.catalogue import ACTIONS
from onetouch.columns import Mask, Moments, moments, number, truth, utc, words
from onetouch.policy import Condition, Policy
from onetouch.routing import intent
from onetouch.routing.recall import HEARD
from onetouch.routing.rule import Facts, Figures, Known, Obstacle, Sentence
from onetouch.routing.value import potential_arr
from onetouch.routing.wording import figure, triggers
from onetouch.scoring import holds

CALLS = {
    "pql": "it is a product-qualified lead and engaged",
    "hand_raised": "somebody there asked for a person",
    "expansion": "a paying customer outgrows its plan",
    "trigger": "it was watched, and a trigger event happened",
}
"""The contact reasons and their meanings; an account with several gets the first of them."""

READS = (
    "gates.engagement", "value", "product.plans", "routing.engaged", "routing.hand_raised", "routing.expansion",
    "routing.medium", "routing.triggers", "routing.large_not_engaged", "routing.motion.sales_led_employees",
    "routing.fresh_intent_hours",
)  # fmt: skip
"""Keys of the policy that contact reasons depend on, besides those that define a PQL."""

_WATCHED = [action for action in ACTIONS if action.watched]
_WAITING = [action for action in ACTIONS if action.waiting]


def columns(facts: Facts, policy: Policy, as_of: datetime) -> dict[str, Any]:
    """Each account's worth, engagement and contact reason, by column:

    - potential_arr: dollars a year; high_value: whether it reaches `value.floor`
    - engaged: whether it is engaged in the sense of the matrix; engaged_enough: the same, or large (of enterprise
      size) if `routing.large_not_engaged` is "sales"
    - hand_raised: whether somebody there asked for a person; expanding: whether a paying account outgrows its plan
    - news_at, news_place: the first trigger event, and its signal's place in `routing.triggers` (-1: none), since the
      account is watched (without a memory of that: since the previous decision took effect, its `since`), or of before
      that, if it has become known only now
    - came: the account was watched, and there is such news
    - triggered: the account's tier is at least medium, and news came, now or earlier and unanswered since (`memory`)
    - intent_shown, asked_lately, trigger_in_time: whether the intent of the gate, a request for a person, and the
      trigger event are fresh (`intent`)
    - stale_intent: it would have a contact reason if it had shown its intent lately (`intent.fresh`)
    - case: the contact reason whatever the account is worth (a key of CALLS, or empty); call: the same for accounts
      of high value, else empty
    - trigger_at: when the trigger event happened, for `call` "trigger"
    """
    routing = policy.routing
    potential = potential_arr(facts, policy.value, policy.product)
    high_value = potential >= policy.value.floor
    engaged = np.logical_and.reduce([holds(facts, condition) for condition in routing.engaged])
    large = number(facts, "employees") >= routing.motion.sales_led_employees
    enough = engaged | large if routing.large_not_engaged == "sales" else engaged
    able = truth(facts, "gate_icp") & truth(facts, "gate_activated") & truth(facts, "gate_engagement")
    hand_raised = np.logical_or.reduce([np.zeros(len(facts), bool), *(holds(facts, c) for c in routing.hand_raised)])
    outgrown = np.logical_and.reduce([holds(facts, condition) for condition in routing.expansion.when])
    expanding = (number(facts, "arr") > 0) & outgrown

    watched_since, pending = moments(facts, "previous_watched_since"), moments(facts, "previous_pending_at")
    news, signal = _first_trigger(facts, watched_since, policy, as_of)
    waits = facts["previous_action"].isin(_WAITING).to_numpy(bool) & facts["previous_call"].eq("trigger").to_numpy(bool)
    kept = waits | ~np.isnat(pending)
    earlier = np.where(np.isnat(pending), moments(facts, "previous_trigger_at"), pending)
    still = kept & intent.in_time(facts, earlier, policy, as_of)
    listened = facts["previous_action"].isin(_WATCHED).to_numpy(bool) | ~np.isnat(watched_since) | (kept & ~still)
    came = listened & ~np.isnat(news)
    # An account that has risen to the high tier without passing the intent gate keeps its trigger as contact reason.
    triggered = watched(facts, policy) & facts["tier"].ne("low").to_numpy(bool) & (came | kept)
    event = np.where(still | (kept & ~came), earlier, news)

    shown, asked = intent.fresh(facts, policy, as_of)
    in_time = intent.in_time(facts, event, policy, as_of)
    reasons = {
        "pql": truth(facts, "pql") & enough & shown,
        "hand_raised": able & hand_raised & asked,
        "expansion": able & expanding & enough,
        "trigger": able & triggered & enough & in_time,
    }
    stale = truth(facts, "pql") & enough & ~shown
    stale |= able & ((hand_raised & ~asked) | (triggered & enough & ~in_time))
    case = np.select([reasons[name] for name in CALLS], range(len(CALLS)), len(CALLS))
    call = np.where(high_value, case, len(CALLS))
    is_trigger = call == list(CALLS).index("trigger")
    return {
        "potential_arr": potential,
        "high_value": high_value,
        "engaged": engaged,
        "engaged_enough": enough,
        "hand_raised": hand_raised,
        "expanding": expanding,
        "news_at": _column(news, facts),
        "news_place": signal,
        "came": came,
        "triggered": triggered,
        "intent_shown": shown,
        "asked_lately": asked,
        "trigger_in_time": in_time,
        "stale_intent": stale & (case == len(CALLS)),
        "case": words(case, [*CALLS, ""]).set_axis(facts.index),
        "call": words(call, [*CALLS, ""]).set_axis(facts.index),
        "trigger_at": _column(np.where(is_trigger, event, intent.NEVER), facts),
    }


def called(facts: Facts) -> Mask:
    """Accounts with a contact reason."""
    return facts["call"].ne("").to_numpy(bool)


def watched(facts: Facts, policy: Policy) -> Mask:
    """Accounts that are monitored for trigger events when their tier is medium."""
    return truth(facts, "gate_icp") & truth(facts, "gate_activated") & (policy.routing.medium == "monitor")


def in_words(known: Known) -> str:
    """The contact reason of one account as a phrase."""
    return CALLS.get(known["call"], "nothing calls for a person")


def lacking(facts: Facts, decided: Mask, policy: Policy) -> Iterator[Obstacle]:
    """The obstacles between an account and a contact reason, whichever rule decided.

    An account that asked for a person or outgrows its plan has fewer conditions to meet than a PQL. A trigger event is
    a reason only for as long as it is fresh, so what is `held` (by a rule whose action is a hold) with no other reason
    is told what a PQL needs.
    """
    gates = policy.gates
    no_case = facts["case"].eq("").to_numpy(bool)
    matrix = no_case & ~truth(facts, "hand_raised") & ~truth(facts, "engaged_enough")
    pql = no_case & ~(truth(facts, "hand_raised") | truth(facts, "expanding") | truth(facts, "triggered"))
    pql |= truth(facts, "held") & facts["call"].eq("trigger").to_numpy(bool)
    yield Obstacle("icp", ~truth(facts, "gate_icp"))
    yield Obstacle("activation", ~truth(facts, "gate_activated"))
    asked = _by_signal([(c, np.True_) for c in gates.engagement] + [(c, matrix) for c in policy.routing.engaged])
    for signal, conditions in asked.items():
        needs = np.full(len(facts), np.nan)
        for condition, who in conditions:
            unmet = ~holds(facts, condition) & who
            needs[unmet] = np.fmax(needs[unmet], condition.at_least)
        yield Obstacle(signal, ~np.isnan(needs), number(facts, signal), needs)
    yield Obstacle("intent", pql & ~truth(facts, "gate_intent"))
    yield Obstacle("fresh_intent", pql & truth(facts, "gate_intent") & ~truth(facts, "intent_shown"))
    asks = no_case & truth(facts, "hand_raised")
    yield Obstacle("fresh_request", asks & ~truth(facts, "asked_lately"))
    happened = no_case & truth(facts, "triggered") & ~asks & ~truth(facts, "expanding")
    yield Obstacle("fresh_trigger", happened & ~truth(facts, "trigger_in_time"))
    counted = "score" if policy.scoring.firmographics == "combine" else "usage_score"
    high = facts["tier"].eq("high").to_numpy(bool)
    yield Obstacle("score", pql & ~high, number(facts, counted), policy.scoring.tiers.high)


def _icp(figures: Figures, policy: Policy) -> str:
    return "It has to fit the customer profile: an organisation of a size and industry we sell to."


def _activation(figures: Figures, policy: Policy) -> str:
    return f"It has to activate: {' and '.join(policy.product.activation)}."


def _intent(figures: Figures, policy: Policy) -> str:
    signs = " or ".join(f"{c.signal} {c.at_least:g}" for c in policy.gates.intent)
    by = "" if policy.unit == "account" else ", by a user who qualifies in person (qualified_users 1)"
    return f"It has to show intent: {signs}{by}."


def _fresh_intent(figures: Figures, policy: Policy) -> str:
    signs = " or ".join(f"{c.signal} {c.at_least:g}" for c in policy.gates.intent)
    return f"It has to show intent anew ({signs}): what it has shown is {_too_old(policy)}."


def _fresh_request(figures: Figures, policy: Policy) -> str:
    asks = " or ".join(condition.signal for condition in policy.routing.hand_raised)
    return f"It has to ask for a person anew ({asks}): that it did is {_too_old(policy)}."


def _fresh_trigger(figures: Figures, policy: Policy) -> str:
    return f"A trigger event has to happen anew ({triggers(policy)}): the last one is {_too_old(policy)}."


def _too_old(policy: Policy) -> str:
    return f"more than {policy.routing.fresh_intent_hours} hours old"


def _score(figures: Figures, policy: Policy) -> str:
    return f"Its score of {figure(figures.has)} has to reach {figure(figures.needs)}."


SENTENCES: dict[str, Sentence] = {
    "icp": _icp,
    "activation": _activation,
    "intent": _intent,
    "fresh_intent": _fresh_intent,
    "fresh_request": _fresh_request,
    "fresh_trigger": _fresh_trigger,
    "score": _score,
}
"""What has to happen, for each obstacle of `lacking` that is not a signal."""


def _first_trigger(
    facts: Facts, watched_since: Moments, policy: Policy, as_of: datetime
) -> tuple[Moments, npt.NDArray[np.int8]]:
    """The first trigger event that is news (NaT: none), and the place of its signal in `routing.triggers` (-1: none).

    Of several the first that is still fresh counts. An event of before the watch is news if the previous run did not
    know of it and a rep could still act on it.
    """
    since = np.where(np.isnat(watched_since), moments(facts, "previous_since"), watched_since)
    fresh = utc(as_of - timedelta(hours=policy.assignment.queue_hours))
    first, signal = np.full(len(facts), intent.NEVER), np.full(len(facts), -1, dtype=np.int8)
    for place, name in enumerate(policy.routing.triggers):
        at = moments(facts, f"{name}_at")
        news = at > since
        if HEARD in facts:
            known = moments(facts, f"previous_{name}_at")
            late = (at > fresh) & ~(at <= known) & ~np.isnat(moments(facts, HEARD))
            news |= late
        timely, before = intent.in_time(facts, at, policy, as_of), intent.in_time(facts, first, policy, as_of)
        earlier = news & (np.isnat(first) | (timely & ~before) | ((timely == before) & (at < first)))
        first[earlier], signal[earlier] = at[earlier], place
    return first, signal


def _column(moments: Moments, facts: Facts) -> pd.Series:
    return pd.Series(pd.DatetimeIndex(moments, tz="UTC"), facts.index)


def _by_signal(
    conditions: Iterable[tuple[Condition, Mask | np.bool_]],
) -> dict[str, list[tuple[Condition, Mask | np.bool_]]]:
    """By signal, in the order first named: the conditions on it, each with the accounts it applies to."""
    by_signal: dict[str, list[tuple[Condition, Mask | np.bool_]]] = {}
    for condition, who in conditions:
        by_signal.setdefault(condition.signal, []).append((condition, who))
    return by_signal
