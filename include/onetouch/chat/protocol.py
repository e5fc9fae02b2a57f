"""What the product needs of a chat, whichever it is: post, find, update; people, and pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

from onetouch.chat.content import Message
from onetouch.connections import Connection

if TYPE_CHECKING:
    from onetouch.ledger import Outbox  # a second of imports that a type is not worth

WRITES = ("post", "update", "upload")
"""The methods of a Chat that somebody can see the effect of."""


class ChatError(Exception):
    """The chat could not be used. The message holds its error code, no secret and no text of a message.

    `code` is that code, or "no_answer". `is_over`: the message in question stays as it is for good. `is_hopeless`: the
    next message to the same channel would meet with the same.
    """

    def __init__(self, message: str, code: str = "", *, is_over: bool = False, is_hopeless: bool = False) -> None:
        super().__init__(message)
        self.code, self.is_over, self.is_hopeless = code, is_over, is_hopeless


class Unanswered(ChatError):
    """A message was sent and not answered: it may stand in the channel or not."""


class Place(NamedTuple):
    """Where a message stands, by the chat's own ids; in the outbox's external_id as "channel:message"."""

    channel: str
    message: str

    def __str__(self) -> str:
        return f"{self.channel}:{self.message}"

    @classmethod
    def of(cls, row: Outbox) -> Place:
        """Where the message of a sent row stands. Rows of earlier versions hold the message's id alone."""
        channel, _, message = str(row.external_id).rpartition(":")
        return cls(channel or str(row.payload.get("channel", "")), message)


class Image(Protocol):
    """A picture to be uploaded: `name` is its file's, `title` its message, `alt` all it shows in words."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def title(self) -> str: ...  # noqa: D102
    @property
    def alt(self) -> str: ...  # noqa: D102
    @property
    def png(self) -> bytes: ...  # noqa: D102


class Chat(Protocol):
    """One chat. Every method may raise ChatError. That something is said once is `posting.post_once`'s affair."""

    name: str
    """Its name in `registry.CHATS`: the destination in the outbox."""

    @classmethod
    def connect(cls, connection: Connection, *, sleep: Callable[[float], None]) -> Self:
        """A client; `sleep` passes the seconds between two attempts.

        Raises ConnectionConfigError for a connection that cannot work.
        """

    def user(self, email: str | None) -> str | None:
        """The id of the person with that e-mail address; None when the chat knows none or may not tell."""

    def direct(self, user: str | None) -> str | None:
        """The id of the conversation with a person alone, opened if need be; None when there can be none."""

    def post(self, channel: str, message: Message, *, key: str, reply_to: Place | None = None) -> Place:
        """Posts a message that carries `key` where nobody sees it, in a channel or in the thread of another message.

        Raises Unanswered when it may stand there or not.
        """

    def find(self, channel: str, key: str, reply_to: Place | None = None) -> Place | None:
        """Where the message that carries `key` stands; None: it is not there."""

    def settle(self) -> None:
        """Passes the time after which a message that another process began must be visible, or was never made."""

    def update(self, place: Place, message: Message) -> None:
        """Writes a message anew where it stands; the same again shows the same. Notifies nobody."""

    def upload(self, image: Image) -> str:
        """Uploads a picture that only a post will show, waits until it can be shown, and returns its id."""
