"""Where people are told: one protocol for every chat (`protocol`), and those there are (`registry`): Slack.

A chat is a client class in a file or package of its own that implements `Chat`, and one line in `registry.CHATS`.
"""

from typing import TYPE_CHECKING

from onetouch.faces import show

if TYPE_CHECKING:
    from onetouch.chat.content import (
        Bullets,
        Emoji,
        Footnote,
        Line,
        Lines,
        Mention,
        Message,
        Paragraph,
        Part,
        Picture,
        Rule,
        Text,
        Title,
        message,
    )
    from onetouch.chat.posting import (
        post_once,
        upload_once,
    )
    from onetouch.chat.protocol import (
        WRITES,
        Chat,
        ChatError,
        Image,
        Place,
        Unanswered,
    )
    from onetouch.chat.registry import (
        CHATS,
        check_chat,
        connect,
        connection_id,
    )

__all__ = [
    "CHATS",
    "WRITES",
    "Bullets",
    "Chat",
    "ChatError",
    "Emoji",
    "Footnote",
    "Image",
    "Line",
    "Lines",
    "Mention",
    "Message",
    "Paragraph",
    "Part",
    "Picture",
    "Place",
    "Rule",
    "Text",
    "Title",
    "Unanswered",
    "check_chat",
    "connect",
    "connection_id",
    "message",
    "post_once",
    "upload_once",
]
show(__name__)
