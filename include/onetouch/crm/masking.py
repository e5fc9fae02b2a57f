"""Masks personal data that a CRM's error messages may quote."""

from __future__ import annotations

import re
from collections.abc import Iterable

_VALUE_FOLLOWS = re.compile(
    r"\b(?:values?(?! found)|valid|invalid|incorrect|malformed|address|number|token|too (?:large|long))\b[^:]*:"
    r"|\bVALUE_\w+\s+value\b",
    re.IGNORECASE,
)
"""Phrases after which a CRM's message quotes a value: `Last Name: data value too large: Doe…`."""

_QUOTES = "'\"`‘’“”„«»"
_CLOSED_BY = {"'": "'’", '"': '"”', "`": "`'", "‘": "’", "’": "’", "“": "”", "”": "”", "„": "“”", "«": "»", "»": "«"}


def masked(text: str) -> str:
    """A CRM's message, shortened, without e-mail addresses and quoted values, which may be personal.

    The message is cut where an unquoted value begins. Everything from the first quotation mark to the last is masked,
    since a value may contain quotation marks; when the two do not match, the whole message is masked.
    """
    line = " ".join(text[:5_000].split())
    if begun := _VALUE_FOLLOWS.search(line):
        line = f"{line[: begun.end()]} …"
    line = re.sub(r"\S+@\S+", "…", line)
    quotes = [at for at, letter in enumerate(line) if letter in _QUOTES and not _apostrophe(line, at)]
    if quotes:
        first, last = quotes[0], quotes[-1]
        opens = not line[:first][-1:].isalnum()
        closes = not line[last + 1 :][:1].isalnum() and not line[last - 1].isspace()
        if first == last or not opens or not closes or line[last] not in _CLOSED_BY[line[first]]:
            return "…"
        line = f"{line[:first]}'…'{line[last + 1 :]}"
    return line[:200]


def _apostrophe(line: str, at: int) -> bool:
    """Whether the mark is an apostrophe within a word: can't."""
    return line[at] in "'’" and line[at - 1 : at].isalnum() and line[at + 1 : at + 2].isalnum()


_NO_NAMES = frozenset(
    {"a", "after", "all", "before", "by", "can't", "cannot", "closed", "each", "enter", "every", "for", "from", "if",
     "in", "is", "it", "make", "must", "new", "no", "not", "on", "only", "open", "or", "please", "record", "records",
     "required", "select", "set", "the", "there", "these", "this", "to", "use", "we", "when", "why", "with", "you",
     "your", "account", "accounts", "apex", "api", "call", "contact", "email", "error", "event", "flow", "id", "lead",
     "name", "opportunity", "owner", "phone", "priority", "salesforce", "stage", "status", "subject", "system",
     "task", "tasks", "team", "type", "user", "validation"}
)  # fmt: skip
"""Words that are hardly a person's name even when capitalized: common English words, and terms of every CRM."""

_TECHNICAL = re.compile(
    r"\w+__[cr]|[A-Z]+(?:_[A-Z]+){2,}|\w*(?:Exception|Flow|Handler|Trigger|Insert|Update|Delete)", re.ASCII
)
_MANY_DIGITS = re.compile(r"\+?\d(?:[\s+\-–/().]*\d){4,}")
_WORD = re.compile(r"[^\W\d_]\w*(?:['’]t\b)?")


def without_names(text: str, fields: Iterable[str] = ()) -> str:
    """A message written by the customer's admins, without anything that may be a person's name or number.

    A validation rule, flow or trigger may put any value into its message: "Jane Roe +49 170 1234567 is on the
    do-not-call list". Values cannot be told from other words, but an admin needs the rest of the message, so only
    these are masked: five or more digits in a row, and every word that does not begin with a lower-case letter, also
    at the start of a sentence, unless it is a common or technical word or part of a name in `fields`. A name in lower
    case is not recognized.
    """
    known = {part.lower() for field in fields for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", field)} | _NO_NAMES

    def seen(word: re.Match[str]) -> str:
        kept = word[0][0].islower() or word[0].replace("’", "'").lower() in known or _TECHNICAL.fullmatch(word[0])
        return word[0] if kept else "…"

    return _WORD.sub(seen, _MANY_DIGITS.sub("…", text))
