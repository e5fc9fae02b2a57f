"""Why now: the first situation of the policy that fits an account, with its texts filled in with the account's facts.

The texts are in the policy (`situations:`), the facts they may name are `policy.schema.FACTS`, and `words.in_words`
formats each fact. Texts are filled in a single pass, so braces inside a value are never treated as placeholders.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from onetouch.catalogue import SIGNALS
from onetouch.handoff.facts import Facts
from onetouch.handoff.plain_text import plain
from onetouch.handoff.words import in_words
from onetouch.policy import Policy, Situation, pieces, sentences

_HEADLINE = 160
"""Ours: maximum characters of a headline; together with the account's name it fits a task subject of 255 characters."""

_APPROACH = 800

_ALSO = 3
"""Ours: maximum number of further reasons for a rep; the dossier's sections hold the rest."""


@dataclass(frozen=True)
class WhyNow:
    """`headline` for the task's subject, `approach` for the rep, `offer` for the customer, in sentences.

    `also`: the headlines of a few other situations that fit and are based on other signals.
    """

    situation: str
    headline: str
    approach: str
    offer: list[str]
    also: list[str]


def why_now(facts: Facts, policy: Policy) -> WhyNow:
    """The first situation that fits and whose facts are all known; the policy's last situation always fits."""
    words = in_words(facts, policy)
    fitting = [s for s in policy.situations if fits(s, facts) and s.facts <= words.keys()]
    chosen = fitting[0]
    told, also = {condition.signal for condition in chosen.when}, []
    for situation in fitting[1:]:
        signals = {condition.signal for condition in situation.when}
        if signals and not signals & told:
            also.append(plain(fill(situation.headline, words), _HEADLINE))
            told |= signals
    return WhyNow(
        situation=chosen.name,
        headline=plain(fill(chosen.headline, words), _HEADLINE),
        approach=plain(fill(chosen.approach, words), _APPROACH),
        offer=[fill(sentence, words) for sentence in sentences(chosen.offer)],
        also=also[:_ALSO],
    )


def columns_read(policy: Policy) -> set[str]:
    """The facts that `why_now` reads for this policy, by the names of their columns."""
    named = {"arr", "name"}
    for situation in policy.situations:
        named |= situation.facts | {condition.signal for condition in situation.when}
    lists = {signal.names for signal in SIGNALS if signal.name in named and signal.names}
    # The name is the domain where there is none, and moments are days of the account's time zone.
    return (named | lists | {"domain", "timezone"}) - {"product"}


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
