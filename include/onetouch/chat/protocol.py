"""The interface to every chat: post, find and update messages, look up people, upload pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

from onetouch.chat.content import Message
from onetouch.connections import Connection

if TYPE_CHECKING:
    from onetouch.ledger import Outbox  # only for type checking, since importing it takes a second

WRITES = ("post", "update", "upload")
"""The methods of a Chat with an effect that people see."""


class ChatError(Exception):
    """The chat could not be used. The message holds its error code, no secret and no text of a message.

    `code` is the chat's error code, or "no_answer". `is_over`: the message can never be changed or replied to any more.
    `is_hopeless`: the next message to the same channel would fail in the same way.
    """

    def __init__(self, message: str, code: str = "", *, is_over: bool = False, is_hopeless: bool = False) -> None:
        super().__init__(message)
        self.code, self.is_over, self.is_hopeless = code, is_over, is_hopeless


class Unanswered(ChatError):
    """A message was sent but not answered: it may or may not be in the channel."""


class NotGenuine(ChatError):
    """A request does not come from the chat."""


class Press(NamedTuple):
    """Somebody has pressed a button of ours (`content.Button`).

    `name`, `value`: the button's. `user`: who, by the chat's own id. `request`: the same when the chat sends the same
    press again. `answer_to`: where only that person can be answered; empty: nowhere.
    """

    name: str
    value: str
    user: str
    request: str
    answer_to: str = ""


class Place(NamedTuple):
    """The place of a message, by the chat's own ids; stored as external_id in the outbox: "channel:message"."""

    channel: str
    message: str

    def __str__(self) -> str:
        return f"{self.channel}:{self.message}"

    @classmethod
    def of(cls, row: Outbox) -> Place:
        """The place of the message of a sent row. Rows of earlier versions hold only the message's id."""
        channel, _, message = str(row.external_id).rpartition(":")
        return cls(channel or str(row.payload.get("channel", "")), message)


class Image(Protocol):
    """A picture to upload: `name` of its file, `title` shown in the message, `alt` describes all it shows."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def title(self) -> str: ...  # noqa: D102
    @property
    def alt(self) -> str: ...  # noqa: D102
    @property
    def png(self) -> bytes: ...  # noqa: D102


class Chat(Protocol):
    """One chat. Every method may raise ChatError. `posting.post_once` makes sure of posting only once."""

    name: str
    """Its name in `registry.CHATS`: the destination in the outbox."""

    takes_presses: bool
    """Whether presses of buttons reach us, so that messages may have some."""

    @classmethod
    def connect(cls, connection: Connection, *, sleep: Callable[[float], None]) -> Self:
        """A client; `sleep` waits the seconds between two attempts.

        Raises ConnectionConfigError for a connection that cannot work.
        """

    def user(self, email: str | None) -> str | None:
        """The id of the person with that e-mail address; None when there is none or the look-up is not permitted."""

    def direct(self, user: str | None) -> str | None:
        """The id of the direct conversation with a person, opened if needed; None when it cannot be opened."""

    def post(self, channel: str, message: Message, *, key: str, reply_to: Place | None = None) -> Place:
        """Posts a message in a channel or in the thread of another message; it carries `key`, which nobody sees.

        Raises Unanswered when it is unknown whether the message was posted.
        """

    def find(self, channel: str, key: str, reply_to: Place | None = None) -> Place | None:
        """The place of the message that carries `key`; None when there is none."""

    def link(self, place: Place) -> str:
        """The address at which people open a message."""

    def settle(self) -> None:
        """Waits so long that a message another process began to post is visible, or was never posted."""

    def update(self, place: Place, message: Message) -> None:
        """Replaces the content of a message; repeating it has no effect. Notifies nobody."""

    def read_press(self, body: bytes, headers: Mapping[str, str], now: datetime) -> Press | None:
        """The press of one of our buttons that the chat has sent; None for anything else it sends to the same address.

        Raises NotGenuine for a request that does not come from the chat, or whose time is not about `now`.
        """

    def answer(self, press: Press, text: str) -> None:
        """Says something to the person who has pressed a button, and to nobody else."""

    def upload(self, image: Image) -> str:
        """Uploads a picture, waits until a message can show it, and returns its id; it is not visible before."""
