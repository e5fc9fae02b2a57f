"""Texts of a policy that name facts in braces: "at {limit_share} of {limit_name}". All else in them is literal.

The grammar is our own and deliberately small: it has no attributes, indices, formats or expressions, so a policy can
reach nothing but the facts, and a fact's value is never read as a template.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection

_NAMED = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def pieces(text: str) -> list[str]:
    """The text split into literal text and names, alternating, beginning and ending with literal text.

    Raises ValueError for a brace that is not part of a name in braces.
    """
    found = _NAMED.split(text)
    for literal in found[::2]:
        for brace in "{}":
            if brace in literal:
                near = literal[max(0, literal.index(brace) - 20) :][:40]
                raise ValueError(f"a brace that names no fact, near {near!r}; braces hold the name of a fact alone")
    return found


def names(text: str) -> set[str]:
    """The facts a text names."""
    return set(pieces(text)[1::2])


def rename(text: str, new: Callable[[str], str]) -> str:
    """The text with each name in braces replaced by `new` of it."""
    return _NAMED.sub(lambda found: f"{{{new(found[1])}}}", text)


def sentences(text: str) -> list[str]:
    """The text in sentences, each on one line."""
    return [" ".join(sentence.split()) for sentence in _SENTENCE_END.split(text.strip())] if text.strip() else []


def check(text: str, allowed: Collection[str], where: str) -> str:
    """Returns the text unchanged. Raises ValueError, which says `where` the text is, for a name that is not allowed
    (with the names that are) and for an invisible character, which could reorder or hide the words around it.
    """
    unseen = [c for c in text if not c.isprintable() and c not in "\n\t"]
    if unseen:
        raise ValueError(f"{where}: holds U+{ord(unseen[0]):04X}, which cannot be seen; remove it")
    try:
        unknown = sorted(names(text) - set(allowed))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if unknown:
        near = difflib.get_close_matches(unknown[0], sorted(allowed), n=1)
        hint = f"did you mean {{{near[0]}}}? " if near else ""
        raise ValueError(f"{where}: {{{unknown[0]}}} may not be named here; {hint}allowed: {', '.join(allowed)}")
    return text
