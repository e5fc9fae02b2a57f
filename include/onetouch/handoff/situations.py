"""Why now: the strongest situation of the policy that fits an account, its texts filled in with the account's facts.

The texts are in the policy (`situations:`), the facts they may name are `policy.schema.FACTS`, and `words.in_words`
formats each fact. Texts are filled in a single pass, so braces inside a value are never treated as placeholders.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from onetouch.catalogue import MOMENTS, SIGNALS, SIGNALS_TABLE
from onetouch.handoff.facts import Facts
from onetouch.handoff.offers import not_in_the_plan, plan_words
from onetouch.handoff.plain_text import plain
from onetouch.handoff.words import in_words
from onetouch.policy import Policy, Situation, names, pieces, sentences

_HEADLINE = 160
"""Ours: maximum characters of a headline; together with the account's name it fits a task subject of 255 characters."""

_APPROACH = 800

_ALSO = {"strength": 2, "listed": 3}
"""Ours: maximum number of further reasons for a rep, by `message.order`; the dossier's sections hold the rest."""

_KINDS = ("friction", "request")
"""What comes before all else, in this order: first mend what is broken, then answer who asked."""

_DAY_HOURS = 24


@dataclass(frozen=True)
class WhyNow:
    """`headline` for the task's subject, `approach` for the rep; `words`: the account's facts in words.

    `also`: the headlines of a few other situations that fit and are based on other signals. For the customer: `offer`
    in sentences, `unlock` likewise, and the situation's own `question`, and `opening` and `closing` before their facts
    are filled in ("" without one).
    """

    situation: str
    kind: str | None
    headline: str
    approach: str
    opening: str
    offer: list[str]
    unlock: list[str]
    question: str
    closing: str
    also: list[str]
    words: dict[str, str]


def why_now(facts: Facts, policy: Policy) -> WhyNow:
    """The situation to tell of those that fit and whose facts are all known; the policy's last one always fits."""
    words = known_words(facts, policy)
    fitting = [s for s in policy.situations if fits(s, facts) and s.facts <= words.keys()]
    if policy.message.order == "strength":
        fitting.sort(key=lambda situation: _rank(situation, facts, policy))  # stable: equals stay in the policy's order
    chosen = fitting[0]
    told, also = set(chosen.signals), []
    for situation in fitting[1:]:
        if situation.signals and not situation.signals & told:
            also.append(plain(fill(situation.headline, words), _HEADLINE))
            told |= situation.signals
    return WhyNow(
        situation=chosen.name,
        kind=chosen.kind,
        headline=plain(fill(chosen.headline, words), _HEADLINE),
        approach=plain(fill(chosen.approach, words), _APPROACH),
        # The message fills these two in, since it knows for how much usage there is room.
        opening=first_known(chosen.opening, {**words, "usage": ""}, filled=False),
        offer=[fill(sentence, words) for sentence in sentences(first_known(chosen.offer, words, filled=False))],
        unlock=[fill(sentence, words) for sentence in sentences(first_known(chosen.unlock, words, filled=False))],
        question=first_known(chosen.question, words),
        closing=first_known(chosen.closing, words, filled=False),
        also=also[: _ALSO[policy.message.order]],
        words=words,
    )


def known_words(facts: Facts, policy: Policy) -> dict[str, str]:
    """The account's facts in words, what its plan lacks and what other plans hold among them."""
    if "premium_attempted" in facts and (lacking := not_in_the_plan(facts, policy)) != facts["premium_attempted"]:
        rest = {name: value for name, value in facts.items() if name != "premium_attempted"}
        facts = rest | ({"premium_attempted": lacking} if lacking else {})
    return in_words(facts, policy) | plan_words(facts, policy)


def first_known(texts: Sequence[str], words: Mapping[str, str], *, filled: bool = True) -> str:
    """The first of the texts whose facts are all known; "" if there is none. `filled`: with their words in place."""
    for text in texts:
        if names(text) <= words.keys():
            return fill(text, words) if filled else text
    return ""


def _rank(situation: Situation, facts: Facts, policy: Policy) -> tuple[int, float, float]:
    """The lower, the stronger. See `policy.schema.Message.order`.

    - Friction of the last `signals.engagement_days`, then requests of those days, then what shows intent now (an
      occurrence within `handoff.expires_hours`, or a state that lasts), then what else happened, then what merely is.
    - Within these: whole points that the score gives to its signals, which have faded with age.
    - Then how long ago it last happened; what lasts is as fresh as can be.
    """
    as_of = facts.get("as_of")
    happened = situation.signals & set(MOMENTS)
    ages = [
        (as_of - facts[f"{signal}_at"]) / timedelta(hours=1)
        for signal in happened
        if as_of is not None and f"{signal}_at" in facts
    ]
    age = max(min(ages, default=0.0), 0.0)
    intent = {condition.signal for condition in (*policy.gates.intent, *policy.routing.expansion.when)}
    if situation.kind is not None and age <= _DAY_HOURS * policy.signals.engagement_days:
        place = _KINDS.index(situation.kind)
    elif situation.signals & intent and age <= policy.handoff.expires_hours:
        place = len(_KINDS)
    else:
        place = len(_KINDS) + (1 if happened else 2)
    earned = sum(points for signal, points in _points(facts) if signal in situation.signals)
    return place, -float(round(earned)), age


def _points(facts: Facts) -> Iterator[tuple[str, float]]:
    for reason in facts.get("reasons", []):
        if isinstance(reason, Mapping) and isinstance(reason.get("signal"), str):
            points = reason.get("points")
            if isinstance(points, int | float):
                yield reason["signal"], float(points)


def columns_read(policy: Policy) -> set[str]:
    """The columns of the signals table that `why_now` reads for this policy to choose a situation and its headline."""
    read = {"arr", "name", "domain", "timezone", "plan", "premium_attempted", "features_used_list"}
    read |= {"limit_name", "limit_used", "limit_cap"}
    for situation in policy.situations:
        read |= situation.facts | situation.signals | {f"{signal}_at" for signal in situation.signals & set(MOMENTS)}
    lists = {signal.names for signal in SIGNALS if signal.name in read and signal.names}
    return (read | lists) & SIGNALS_TABLE


def fits(situation: Situation, facts: Facts) -> bool:
    """Whether all conditions of the situation hold. A condition on an unknown fact does not hold.

    This includes `paying`: if the account's ARR is unknown, neither true nor false holds.
    """
    if situation.paying is not None:
        arr = facts.get("arr")
        if arr is None or (arr > 0) is not situation.paying:
            return False
    return all(
        condition.signal in facts and facts[condition.signal] >= condition.at_least for condition in situation.when
    )


def fill(text: str, words: Mapping[str, str]) -> str:
    """The text with every name in braces replaced by its words. Raises KeyError if a name has none."""
    parts = pieces(text)
    parts[1::2] = [words[name] for name in parts[1::2]]
    return "".join(parts)
