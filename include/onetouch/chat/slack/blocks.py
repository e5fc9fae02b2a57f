"""Converts a message to Slack's formats: Block Kit, and mrkdwn for its text.

Lines and lists are rich text, which Slack shows literally: `<!channel>`, a link, `*` or a backtick in a name has no
effect. In mrkdwn such characters are escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from onetouch.chat.content import (
    Bullets,
    Buttons,
    Emoji,
    Footnote,
    Line,
    Lines,
    Link,
    Mention,
    Message,
    Paragraph,
    Part,
    Picture,
    Rule,
    Text,
    Title,
)

Block = dict[str, Any]

ACTION = "onetouch_"
"""How the action ids of our buttons begin."""

_BLOCKS, _CAPTION = 50, 2_000
"""Most blocks of a message; most characters of a picture's title and of its alternative text."""


def blocks_of(message: Message) -> list[Block]:
    """The parts of a message; when there are too many, the last ones before the pictures are left out."""
    pictures = [part for part in message.parts if isinstance(part, Picture)]
    others = [part for part in message.parts if not isinstance(part, Picture)]
    return [_block(part) for part in (*others[: _BLOCKS - len(pictures)], *pictures)]


def text_of(message: Message) -> str:
    """The text of a message."""
    return mrkdwn(message.text)


def mrkdwn(lines: Iterable[Line]) -> str:
    """Lines as mrkdwn text."""
    return "\n".join("".join(map(_marked, line)) for line in lines)


def escape(text: str) -> str:
    """`text` escaped so that Slack shows it literally: no <!channel>, no links, no mentions."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _marked(piece: Text | Link | Mention | Emoji) -> str:
    if isinstance(piece, Mention):
        return f"<@{piece.user}>"
    if isinstance(piece, Emoji):
        return f":{piece.name}:"
    marks = "~" * piece.struck + "*" * piece.bold
    said = escape(piece.text)
    if isinstance(piece, Link):
        said = f"<{escape(piece.url).replace('|', '%7C')}|{said}>"
    return f"{marks}{said}{marks[::-1]}"


def _block(part: Part) -> Block:
    match part:
        case Title(text):
            return {"type": "header", "text": _plain(text)}
        case Lines(lines):
            return _rich([_section(line) for line in lines])
        case Bullets(items, head):
            listed = {"type": "rich_text_list", "style": "bullet", "elements": [_section(item) for item in items]}
            return _rich([_section(head), listed] if head else [listed])
        case Paragraph(lines, small=True):
            return {"type": "context", "elements": [{"type": "mrkdwn", "text": mrkdwn(lines)}]}
        case Paragraph(lines):
            return {"type": "section", "text": {"type": "mrkdwn", "text": mrkdwn(lines)}}
        case Footnote(text):
            return {"type": "context", "elements": [_plain(text)]}
        case Buttons(buttons):
            return {
                "type": "actions",
                "elements": [
                    {"type": "button", "action_id": f"{ACTION}{b.name}", "text": _plain(b.text), "value": b.value}
                    | ({"style": "primary"} if b.main else {})
                    for b in buttons
                ],
            }
        case Rule():
            return {"type": "divider"}
        case Picture(picture_id, title, alt):
            return {
                "type": "image",
                "slack_file": {"id": picture_id},
                "alt_text": alt[:_CAPTION],
                "title": {"type": "plain_text", "text": title[:_CAPTION]},
            }


def _rich(elements: Sequence[Block]) -> Block:
    return {"type": "rich_text", "elements": list(elements)}


def _section(line: Line) -> Block:
    return {"type": "rich_text_section", "elements": [_element(piece) for piece in line]}


def _element(piece: Text | Link | Mention | Emoji) -> Block:
    if isinstance(piece, Mention):
        return {"type": "user", "user_id": piece.user}
    if isinstance(piece, Emoji):
        return {"type": "emoji", "name": piece.name}
    style = {name: True for name, on in (("bold", piece.bold), ("strike", piece.struck)) if on}
    said = {"type": "link", "url": piece.url} if isinstance(piece, Link) else {"type": "text"}
    return said | {"text": piece.text} | ({"style": style} if style else {})


def _plain(text: str) -> Block:
    return {"type": "plain_text", "text": text, "emoji": False}
