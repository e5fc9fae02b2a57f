"""The first message: short, about their usage, an offer of help, no pressure (S0 S3 S4)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from onetouch.handoff.facts import Facts, account_name, first_name, known_facts
from onetouch.handoff.plain_text import plain
from onetouch.handoff.situations import WhyNow, fill, first_known, why_now
from onetouch.handoff.words import amounts, capital, count, listed, near_moment, number, zone
from onetouch.policy import Policy, names, sentences

_FEATURES = 3
"""Ours: features named in the first message, each with how often it was used."""

_URGENCY = {"pql": "high", "hand_raised": "high", "expansion": "high", "trigger": "medium"}
"""The urgency of each contact reason; it selects the SLA of `handoff.sla_hours` (S0 S2)."""

_ADDRESS = re.compile(r"[^\s@<>|]+@[^\s@<>|]+")
"""Matches an e-mail address, also one that was cut short."""


def first_message(decision: Mapping[str, Any], signals_row: Mapping[str, Any], policy: Policy) -> str:
    """Plain text for the rep to send or adapt, of at most `message.max_chars` characters and `max_words` words.

    It names only usage that is in the data, and nothing the customer might find intrusive (pages viewed, scores). If it
    would be too long, details of usage are left out first, then whole sentences.
    """
    facts = known_facts(decision, signals_row)
    return message_of(facts, why_now(facts, policy), policy)


def message_of(facts: Facts, why: WhyNow, policy: Policy) -> str:
    """`first_message` from facts that are known already, and their situation."""
    greeting, said = _greeting(facts, policy), policy.message
    if not facts.keys() & {"name", "domain"}:
        facts = {**facts, "name": "your company"}
        why = why_now(facts, policy)
    words = why.words
    question = why.question or ("" if _asks(why, policy) else first_known(said.question, words))
    closing = [*_aside(why, facts, policy), *_known_sentences(why.closing or said.closing, words)]
    text = ""
    for usage in _usages(facts, policy):
        words = words | {"usage": usage}
        opening = _known_sentences(why.opening or said.opening, words)
        # A message that asks something has a paragraph for each: what they do, what is the matter, what is asked.
        before = [(" ", opening), ("\n\n" if question else " ", why.offer), (" ", why.unlock)]
        text, whole = _fitted(greeting, before, question, closing, policy)
        if whole:
            break
    return text


def _asks(why: WhyNow, policy: Policy) -> bool:
    """Whether the texts around the question ask something already."""
    own = (why.opening or policy.message.opening, why.closing or policy.message.closing)
    return any("?" in text for text in (*own, *why.offer, *why.unlock))


def _greeting(facts: Facts, policy: Policy) -> str:
    words = {"name": account_name(facts), "product": policy.product.name}
    if not facts.keys() & {"name", "domain"} or _ADDRESS.search(words["name"]):
        del words["name"]  # a person's address is no way to greet them
    if (first := first_name(facts)) is not None:
        words["first_name"] = first
    return first_known(policy.message.greeting, words)


def _aside(why: WhyNow, facts: Facts, policy: Policy) -> list[str]:
    """The first aside of the policy that applies: its news is known and recent, and nothing stands in their way."""
    as_of = facts.get("as_of")
    if why.kind == "friction" or as_of is None:
        return []
    for aside in policy.message.asides:
        at = facts.get(f"{aside.signal}_at")
        if at is not None and at >= as_of - timedelta(days=aside.within_days):
            return _known_sentences(aside.text, why.words)
    return []


@dataclass(frozen=True)
class Alert:
    """The parts of the alert that tells a rep of a new task in the chat: short plain texts, not escaped; unknown is "".

    `urgency`: high, medium or low; `why`: the headline; `score` and `due`: formatted for people. No part holds a
    person's name or address: an account whose name is an e-mail address appears as "an account of one person".
    `brief`: whether the task holds the message alone, and the account's record the dossier (`handoff.task_notes`).
    """

    account: str
    why: str
    urgency: str = ""
    score: str = ""
    due: str = ""
    brief: bool = False

    @property
    def text(self) -> str:
        """The alert in one line of plain text, not escaped; it holds no person's name or address."""
        line = f"{capital(self.urgency)} priority: " if self.urgency else ""
        line += f"{self.account} — {self.why}"
        if self.score:
            line += f" · score {self.score}"
        if self.due:
            line += f" · first message due {self.due}"
        if self.brief:
            return f"{line}. A first message is in your task list, the dossier on the account's record."
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
        brief=policy.handoff.task_notes == "brief",
    )


def without_addresses(text: str) -> str:
    """`text` with each e-mail address replaced by "(e-mail address)"."""
    return _ADDRESS.sub("(e-mail address)", text)


def urgency(facts: Facts) -> str:
    """high, medium or low: from the contact reason if known, else from the tier; empty if neither is known."""
    return _URGENCY.get(str(facts.get("call", ""))) or str(facts.get("tier", ""))


def _usages(facts: Facts, policy: Policy) -> Iterator[str]:
    """The account's usage as a clause that follows "your team", from the longest to the shortest."""
    users = [count(facts["active_users"], "active user")] if facts.get("active_users", 0) > 1 else []
    wired = [count(facts["integrations"], "connected integration")] if facts.get("integrations", 0) >= 1 else []
    people = [f"has {' and '.join([*users, *wired])}"] if users or wired else []
    if by_use := facts.get("features_by_use"):
        most = [{**item, "name": _article(plain(str(item["name"]), 40))} for item in by_use]
        days = count(policy.signals.recent_days, "day")
        used = [f"has used {amounts(most, length)} in the last {days}" for length in range(_FEATURES, 0, -1)]
        yield ", and ".join([*people, used[0]])
        yield ", and ".join([*(f"has {one}" for one in users), used[0]])
        yield from used
        return
    if features := facts.get("features_used_list"):
        people.append(f"uses {listed([_article(plain(str(name), 40)) for name in features[:_FEATURES]])}")
    if not people and facts.get("active_days", 0) >= 1:
        days = count(facts["active_days"], "day")
        people.append(f"used {policy.product.name} on {days} of the last {policy.signals.engagement_days}")
    for length in range(len(people), 0, -1):
        yield ", and ".join(people[:length])
    yield f"uses {policy.product.name}"


def _article(feature: str) -> str:
    """A feature's name with its article if it takes one: "the API", but "dashboards"."""
    return f"the {feature}" if feature.lower() in ("api", "sdk") else feature


def _known_sentences(text: str, words: Mapping[str, str]) -> list[str]:
    """The sentences of a policy's text whose facts are all known for the account."""
    return [fill(sentence, words) for sentence in sentences(text) if names(sentence) <= words.keys()]


def _fitted(
    greeting: str, before: list[tuple[str, list[str]]], question: str, closing: list[str], policy: Policy
) -> tuple[str, bool]:
    """The greeting, as many whole sentences of each part as fit, and the question; and whether everything fitted.

    `before`: what precedes the question, as pairs of the separator before the part and its sentences; `closing` follows
    it. Room is kept for the question. If no sentence fits, the first one is cut at a word boundary.
    """
    kept = f"\n\n{question}" if question and _fits(f"{greeting}\n\n{question}", policy) else ""
    text, whole = greeting, True

    def add(part: list[str], apart: str, kept: str) -> None:
        nonlocal text, whole
        between = "\n\n" if text == greeting else apart
        for sentence in part:
            if not _fits(text + between + sentence + kept, policy):
                whole = False
                break
            text, between = text + between + sentence, " "

    for apart, part in before:
        add(part, apart, kept)
    text += kept
    add(closing, "\n\n", "")
    if text == greeting:
        first = next((sentence for part in (*(part for _, part in before), closing) for sentence in part), "")
        cut = first[: policy.message.max_chars - len(text) - 3].rpartition(" ")[0]
        text += "\n\n" + " ".join(cut.split(" ")[: policy.message.max_words - len(text.split())]) + "…"
    return text, whole and (not question or bool(kept))


def _fits(text: str, policy: Policy) -> bool:
    return len(text) <= policy.message.max_chars and len(text.split()) <= policy.message.max_words
