"""The content of a message in any chat: lines of text, and the parts that make up a message.

Text is shown literally and never interpreted: a name with `<!channel>`, a link or `*` in it has no effect. Each chat's
client sees to that, and to the limits of a message.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Text:
    """A run of text within a line."""

    text: str
    bold: bool = False
    struck: bool = False


@dataclass(frozen=True)
class Mention:
    """A mention of a person, by the chat's own id (`Chat.user`); the chat notifies that person."""

    user: str


@dataclass(frozen=True)
class Emoji:
    """An emoji, by its name in chats: wave, tada."""

    name: str


Line = tuple[Text | Mention | Emoji, ...]


@dataclass(frozen=True)
class Title:
    """The heading of a message."""

    text: str


@dataclass(frozen=True)
class Lines:
    """Lines about one subject."""

    lines: Sequence[Line]


@dataclass(frozen=True)
class Bullets:
    """A list, under a line of its own if there is a `head`."""

    items: Sequence[Line]
    head: Line = ()


@dataclass(frozen=True)
class Paragraph:
    """A paragraph in lines; `small`: less important than the rest."""

    lines: Sequence[Line]
    small: bool = False


@dataclass(frozen=True)
class Footnote:
    """One line below the rest, less important than it."""

    text: str


@dataclass(frozen=True)
class Rule:
    """A line drawn between two parts."""


@dataclass(frozen=True)
class Picture:
    """A picture that was uploaded (`Chat.upload`), by the chat's own id; `alt` says all it shows in words."""

    picture_id: str
    title: str
    alt: str


Part = Title | Lines | Bullets | Paragraph | Footnote | Rule | Picture


@dataclass(frozen=True)
class Message:
    """`text`: shown in notifications and where parts cannot be shown; without parts it is the whole message."""

    text: Sequence[Line]
    parts: Sequence[Part] = ()


def message(text: str, *parts: Part) -> Message:
    """A message whose text is plain words."""
    return Message(((Text(text),),), parts)
