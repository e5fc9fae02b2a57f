"""Makes text from outside safe to print on one line."""

from __future__ import annotations

import unicodedata

# Separators become a space. Format characters (bidi marks and overrides, zero-width), surrogates, private and
# unassigned code points are dropped: they can reorder, hide or break the text around them.
_SPACE = frozenset({"Cc", "Zl", "Zp", "Zs"})
_DROPPED = frozenset({"Cf", "Cs", "Co", "Cn"})


def plain(text: str, limit: int) -> str:
    """`text` as one line of at most `limit` visible characters, ending in "…" when it was cut; may be empty.

    Only a bounded beginning of `text` is read, so that an excessively long text costs no more than a short one.
    """
    head = text[: 8 * limit]
    if head.isascii() and head.isprintable():  # most texts: none of their characters is dropped or replaced
        return _cut(" ".join(head.split()), limit, whole=len(head) == len(text))
    visible = []
    for character in head:
        category = unicodedata.category(character)
        if category not in _DROPPED:
            visible.append(" " if category in _SPACE else character)
    line = " ".join(unicodedata.normalize("NFC", "".join(visible)).split())
    return _cut(line, limit, whole=len(head) == len(text))


def _cut(line: str, limit: int, *, whole: bool) -> str:
    if len(line) <= limit and whole:
        return line
    return line[: limit - 1].rstrip() + "…" if line else ""


def inert(text: str) -> str:
    """`text` so that no spreadsheet evaluates it as a formula when it opens a CRM's export (OWASP: CSV injection)."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
