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


@dataclass(frozen=True)
class Link:
    """A run of text within a line that leads to an address."""

    text: str
    url: str
    bold: bool = False
    struck: bool = False


Line = tuple[Text | Link | Mention | Emoji, ...]


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
    """A list; `head` is an optional line above it."""

    items: Sequence[Line]
    head: Line = ()


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of several lines; `small`: less important than the rest of the message."""

    lines: Sequence[Line]
    small: bool = False


@dataclass(frozen=True)
class Footnote:
    """One line at the end of a message, less important than the rest."""

    text: str


@dataclass(frozen=True)
class Rule:
    """A line drawn between two parts."""


@dataclass(frozen=True)
class Picture:
    """A picture that was uploaded (`Chat.upload`), by the chat's own id; `alt` describes all it shows in words."""

    picture_id: str
    title: str
    alt: str


@dataclass(frozen=True)
class Button:
    """A button. `name`: which of ours it is; `value`: what comes back when it is pressed; `main`: it stands out."""

    name: str
    text: str
    value: str
    main: bool = False


@dataclass(frozen=True)
class Buttons:
    """Buttons in a row, for a chat whose presses reach us (`Chat.takes_presses`); their names differ."""

    buttons: Sequence[Button]


Part = Title | Lines | Bullets | Paragraph | Footnote | Rule | Picture | Buttons


@dataclass(frozen=True)
class Message:
    """A message. `text` is shown in notifications and where parts cannot be shown; without parts it is everything."""

    text: Sequence[Line]
    parts: Sequence[Part] = ()


def message(text: str, *parts: Part) -> Message:
    """A message whose text has no formatting."""
    return Message(((Text(text),),), parts)
