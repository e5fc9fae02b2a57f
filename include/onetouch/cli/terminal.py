"""The console of the command line, which shows control characters in data instead of executing them."""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import Any

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook, RenderResult
from rich.segment import Segment

_ACTING = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories of characters that can move the cursor, reverse or hide text, or that are not assigned."""


def console(**options: Any) -> Console:
    """A console that prints no control characters except rich's own, because data such as names is not trusted."""
    made = Console(**options)
    made.push_render_hook(_Harmless())
    return made


def harmless(text: str) -> str:
    """`text` with every character of these categories except the line feed replaced by `�`."""
    return text if text.isprintable() else "".join(map(_shown, text))


@cache
def _shown(character: str) -> str:
    return "�" if unicodedata.category(character) in _ACTING and character != "\n" else character


class _Harmless(RenderHook):
    """Filters every text before it is printed, whatever it is part of."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """The renderables, with `harmless` applied to all their texts."""
        return [_Within(renderable) for renderable in renderables]


class _Within:
    def __init__(self, renderable: ConsoleRenderable) -> None:
        self.renderable = renderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self.renderable, options):
            yield segment if segment.control else Segment(harmless(segment.text), segment.style)
