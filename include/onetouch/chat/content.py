"""What is said in a chat, whichever chat it is: lines of text, and the parts a message is made of.

A text is shown as it is, and never acts: a name with `<!channel>`, a link or `*` in it does nothing. How that is done,
and what a message may hold, is each chat's own affair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Text:
    """Some words of a line."""

    text: str
    bold: bool = False
    struck: bool = False


@dataclass(frozen=True)
class Mention:
    """A person, by the chat's own id (`Chat.user`), who is told that they were named."""

    user: str


@dataclass(frozen=True)
class Emoji:
    """A small picture, by the name chats have for it: wave, tada."""

    name: str


Line = tuple[Text | Mention | Emoji, ...]


@dataclass(frozen=True)
class Title:
    """The heading of a message."""

    text: str


@dataclass(frozen=True)
class Lines:
    """What is said of one thing, a line each."""

    lines: Sequence[Line]


@dataclass(frozen=True)
class Bullets:
    """A list, under a line of its own if there is a `head`."""

    items: Sequence[Line]
    head: Line = ()


@dataclass(frozen=True)
class Paragraph:
    """Prose of ours, in lines; `small`: less important than the rest."""

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
    """`text`: what notifications show, and those who see no parts; without parts it is the whole message."""

    text: Sequence[Line]
    parts: Sequence[Part] = ()


def message(text: str, *parts: Part) -> Message:
    """A message whose text is plain words."""
    return Message(((Text(text),),), parts)
