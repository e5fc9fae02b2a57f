"""Finds and replaces in any text what identifies somebody: ids, addresses, domains."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

SHORT = 5
"""Words of fewer characters occur in too many texts by chance: they count only where an id is expected."""


class Marks:
    """Identifying words and their replacements. A word counts where it stands by itself, not within a longer word.

    Addresses and domains are compared without regard to case, and a domain also counts as part of an address or host
    (`ana@mail.acme.example`); other words must be spelled exactly. `otherwise` replaces a spelling of a word, such as
    one with JSON or HTML escapes, that is not itself among the words.
    """

    def __init__(self, words: Mapping[str, str], otherwise: str) -> None:
        self.words = {word: place for word, place in words.items() if word}
        self.otherwise = otherwise
        long = [word for word in self.words if len(word) >= SHORT]
        self._lower = {word.lower(): self.words[word] for word in long}
        self._text = re.compile("|".join(_alone(word, [word]) for word in _longest_first(long))) if long else None
        self._long = long

    def replace(self, text: str) -> str:
        """`text` with every identifying word replaced."""
        if self._text is None:
            return text
        return self._text.sub(lambda found: self._lower.get(found[0].lower(), self.otherwise), text)

    def replace_in(self, value: Any) -> Any:
        """A JSON value with every word replaced, including short words that are a whole value."""
        if isinstance(value, str):
            return self.words.get(value) or self.replace(value)
        if isinstance(value, list):
            return [self.replace_in(item) for item in value]
        if isinstance(value, dict):
            return {self.replace(key): self.replace_in(item) for key, item in value.items()}
        return value

    def replace_bytes(self, content: bytes) -> bytes:
        """A file's content with every word replaced, including words with JSON or HTML escapes."""
        if self._bytes is None:
            return content

        def place(found: re.Match[bytes]) -> bytes:
            return self._lower.get(found[0].decode("utf-8", "replace").lower(), self.otherwise).encode()

        return self._bytes.sub(place, content)

    def stands_in(self, content: bytes) -> bool:
        """Whether a word stands by itself in the content, as UTF-8 text or with JSON or HTML escapes."""
        return self._bytes is not None and self._bytes.search(content) is not None

    def occurs_in(self, content: bytes) -> bool:
        """Whether the letters of a word of at least SHORT characters occur anywhere, even within a longer word."""
        return self._letters is not None and self._letters.search(content) is not None

    def may_stand_in(self, content: bytes) -> bool:
        """Whether the letters of any word, including short words, occur anywhere; if False, no word stands in it."""
        return self._any is not None and self._any.search(content) is not None

    @cached_property
    def _bytes(self) -> re.Pattern[bytes] | None:
        parts = [_alone(word, _spellings(word)) for word in _longest_first(self._long)]
        return re.compile("|".join(parts).encode("utf-8", "surrogatepass")) if parts else None

    @cached_property
    def _letters(self) -> re.Pattern[bytes] | None:
        return _letters(self._long)

    @cached_property
    def _any(self) -> re.Pattern[bytes] | None:
        return _letters(self.words)


def _letters(words: Iterable[str]) -> re.Pattern[bytes] | None:
    spellings = sorted({spelling for word in words for spelling in _spellings(word)})
    parts = [re.escape(spelling.encode("utf-8", "surrogatepass")) for spelling in spellings]
    return re.compile(b"|".join(parts), re.IGNORECASE) if parts else None


def _longest_first(words: Iterable[str]) -> list[str]:
    return sorted(words, key=lambda word: (-len(word), word))


def _alone(word: str, spellings: Iterable[str]) -> str:
    """The pattern of a word that is not part of a longer one."""
    text = "|".join(re.escape(spelling) for spelling in spellings)
    if "@" in word:
        return rf"(?<![\w.+-])(?i:{text})(?![\w-]|\.\w)"
    if "." in word:
        return rf"(?<![\w-])(?i:{text})(?![\w-]|\.\w)"
    return rf"(?<![\w.@-])(?:{text})(?![\w@-]|\.\w)"


def _spellings(word: str) -> list[str]:
    """The spellings of the word in plain text, in JSON with and without escapes, and in HTML."""
    return sorted({word, json.dumps(word)[1:-1], json.dumps(word, ensure_ascii=False)[1:-1], html.escape(word)})
