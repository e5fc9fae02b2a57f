"""Messages to people: one protocol for every chat (`protocol`), and the chats that implement it (`registry`): Slack.

To add a chat, write a client class that implements `Chat` in its own file or package, and add it to `registry.CHATS`.
"""

from typing import TYPE_CHECKING

from onetouch.faces import show

if TYPE_CHECKING:
    from onetouch.chat.content import (
        Bullets,
        Button,
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
        NotGenuine,
        Place,
        Press,
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
    "Button",
    "Buttons",
    "Chat",
    "ChatError",
    "Emoji",
    "Footnote",
    "Image",
    "Line",
    "Lines",
    "Link",
    "Mention",
    "Message",
    "NotGenuine",
    "Paragraph",
    "Part",
    "Picture",
    "Place",
    "Press",
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
