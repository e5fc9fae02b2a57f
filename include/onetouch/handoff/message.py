"""The first message: short, about their usage, an offer of help, no pressure (S0 S3 S4)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from onetouch.handoff.facts import Facts, account_name, known_facts
from onetouch.handoff.plain_text import plain
from onetouch.handoff.situations import fill, why_now
from onetouch.handoff.words import capital, count, in_words, listed, near_moment, number, zone
from onetouch.policy import Policy, names, sentences

_GREETING = "Hi,"

_URGENCY = {"pql": "high", "hand_raised": "high", "expansion": "high", "trigger": "medium"}
"""The urgency of each contact reason; it selects the SLA of `handoff.sla_hours` (S0 S2)."""

_ADDRESS = re.compile(r"[^\s@<>|]+@[^\s@<>|]+")
"""Matches an e-mail address, also one that was cut short."""


def first_message(decision: Mapping[str, Any], signals_row: Mapping[str, Any], policy: Policy) -> str:
    """Plain text for the rep to send or adapt, of at most `message.max_chars` characters.

    It names only usage that is in the data, and nothing the customer might find intrusive (pages viewed, scores). If it
    would be too long, details of usage are left out first, then whole sentences.
    """
    return message_of(known_facts(decision, signals_row), policy)


def message_of(facts: Facts, policy: Policy) -> str:
    """`first_message` from facts that are known already."""
    if not facts.keys() & {"name", "domain"}:
        facts = {**facts, "name": "your company"}
    words = in_words(facts, policy)
    offer = why_now(facts, policy).offer
    closing = _known_sentences(policy.message.closing, words)
    use = _usage(facts, policy)
    text, whole = "", False
    while not whole:
        words["usage"] = ", and ".join(use) or f"uses {words['product']}"
        opening = _known_sentences(policy.message.opening, words)
        text, whole = _fitted([(" ", opening), (" ", offer), ("\n\n", closing)], policy.message.max_chars)
        if not use:
            break
        use = use[:-1]
    return text


@dataclass(frozen=True)
class Alert:
    """The parts of the alert that tells a rep of a new task in the chat: short plain texts, not escaped; unknown is "".

    `urgency`: high, medium or low; `why`: the headline; `score` and `due`: formatted for people. No part holds a
    person's name or address: an account whose name is an e-mail address appears as "an account of one person".
    """

    account: str
    why: str
    urgency: str = ""
    score: str = ""
    due: str = ""

    @property
    def text(self) -> str:
        """The alert in one line of plain text, not escaped; it holds no person's name or address."""
        line = f"{capital(self.urgency)} priority: " if self.urgency else ""
        line += f"{self.account} — {self.why}"
        if self.score:
            line += f" · score {self.score}"
        if self.due:
            line += f" · first message due {self.due}"
        return f"{line}. Dossier and a first message are in your task list."


def alert(
    decision: Mapping[str, Any], signals_row: Mapping[str, Any], policy: Policy, timezone: str | None = None
) -> Alert:
    """The alert for a decision: account, reason and due time. `timezone` is the rep's (UTC when unknown)."""
    facts = known_facts(decision, signals_row)
    # The headline is cleaned as well: it may name the account, or contain an address found in another field.
    if _ADDRESS.search(account_name(facts)):
        facts["name"] = "an account of one person"
    return Alert(
        account=account_name(facts),
        why=without_addresses(why_now(facts, policy).headline),
        urgency=urgency(facts),
        score=number(facts["score"]) if "score" in facts else "",
        due=near_moment(facts["due_at"], zone(timezone)) if "due_at" in facts else "",
    )


def without_addresses(text: str) -> str:
    """`text` with each e-mail address replaced by "(e-mail address)"."""
    return _ADDRESS.sub("(e-mail address)", text)


def urgency(facts: Facts) -> str:
    """high, medium or low: from the contact reason if known, else from the tier; empty if neither is known."""
    return _URGENCY.get(str(facts.get("call", ""))) or str(facts.get("tier", ""))


def _usage(facts: Facts, policy: Policy) -> list[str]:
    """The account's usage as clauses that follow "your team", the most important first."""
    has = []
    if facts.get("active_users", 0) > 1:
        has.append(count(facts["active_users"], "active user"))
    if facts.get("integrations", 0) >= 1:
        has.append(count(facts["integrations"], "connected integration"))
    said = [f"has {' and '.join(has)}"] if has else []
    if features := facts.get("features_used_list"):
        said.append(f"uses {listed([_article(plain(str(name), 40)) for name in features[:3]])}")
    if not said and facts.get("active_days", 0) >= 1:
        days = count(facts["active_days"], "day")
        said.append(f"used {policy.product.name} on {days} of the last {policy.signals.engagement_days}")
    return said


def _article(feature: str) -> str:
    """A feature's name with its article if it takes one: "the API", but "dashboards"."""
    return f"the {feature}" if feature.lower() in ("api", "sdk") else feature


def _known_sentences(text: str, words: Mapping[str, str]) -> list[str]:
    """The sentences of a policy's text whose facts are all known for the account."""
    return [fill(sentence, words) for sentence in sentences(text) if names(sentence) <= words.keys()]


def _fitted(parts: list[tuple[str, list[str]]], limit: int) -> tuple[str, bool]:
    """The greeting followed by as many whole sentences of each part as fit, and whether everything fitted.

    `parts`: pairs of the separator before the part and its sentences. If no sentence fits, the first one is cut at a
    word boundary.
    """
    text, whole = _GREETING, True
    for apart, part in parts:
        between = "\n\n" if text == _GREETING else apart
        for sentence in part:
            if len(text) + len(between) + len(sentence) > limit:
                whole = False
                break
            text, between = text + between + sentence, " "
    if text == _GREETING:
        first = next((sentence for _, part in parts for sentence in part), "")
        text += "\n\n" + first[: limit - len(text) - 3].rpartition(" ")[0] + "…"
    return text, whole
