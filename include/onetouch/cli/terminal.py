"""The console of the command line: what data says is shown, never obeyed."""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import Any

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook, RenderResult
from rich.segment import Segment

_ACTING = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Characters that move the cursor, turn the text around, hide in it, or are none."""


def console(**options: Any) -> Console:
    """A console that prints no control character but those that rich itself needs: names come from strangers."""
    made = Console(**options)
    made.push_render_hook(_Harmless())
    return made


def harmless(text: str) -> str:
    """`text` with every acting character but the line feed shown as `�`."""
    return text if text.isprintable() else "".join(map(_shown, text))


@cache
def _shown(character: str) -> str:
    return "�" if unicodedata.category(character) in _ACTING and character != "\n" else character


class _Harmless(RenderHook):
    """Looks at every text that is about to be printed, whatever it is part of."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Each one with its texts made harmless."""
        return [_Within(renderable) for renderable in renderables]


class _Within:
    def __init__(self, renderable: ConsoleRenderable) -> None:
        self.renderable = renderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self.renderable, options):
            yield segment if segment.control else Segment(harmless(segment.text), segment.style)
