"""What the contract suite needs of a chat's stand-in: messages to look at, and people in it.

Slack's, which speaks HTTP, is here. A chat that needs no server may offer the same itself, as the static method
`stand_in` of its class, which is given an empty folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Protocol

from onetouch.chat import CHATS, Place
from onetouch.connections import Connection


@dataclass(frozen=True)
class SeenMessage:
    """A message as people see it. `words`: all it says, formats left out; `reply_to`: of whose thread it is."""

    place: Place
    words: str
    pictures: int
    reply_to: str | None


class StandIn(Protocol):
    """An empty chat with two channels, in which Rita (rita@rep.example) is known."""

    connection: Connection
    channel: str
    other: str

    def messages(self) -> list[SeenMessage]:
        """All messages, in order."""

    def fails(self, how: str) -> None:
        """The next post gets no answer. `request`: it does not arrive; `answer`: it does, and the answer is lost.

        A chat without a network need not do anything.
        """

    def refuses(self, channel: str) -> None:
        """From now on nothing may be posted or written anew in a channel."""


def stand_in(name: str, world: Any, folder: Path) -> StandIn:
    """The stand-in of the chat of that name."""
    if name in STAND_INS:
        return STAND_INS[name](world)
    found: StandIn = resolve_name(CHATS[name][1]).stand_in(folder)
    return found


class SlackWorkspace:
    """The sandbox's workspace, over HTTP."""

    channel, other = "C0ALERTS", "C0LEADERS"

    def __init__(self, world: Any) -> None:
        self.org = world.org
        extra = {"base_url": f"{self.org.url}/api/"}
        self.connection = Connection("slack_default", password="xoxb-sandbox", extra=extra)

    def messages(self) -> list[SeenMessage]:
        found = []
        for post in self.org.posts():
            blocks = post["blocks"] or []
            words = f"{post['text']} {_words(blocks)}"
            pictures = sum(block["type"] == "image" for block in blocks)
            place = Place(post["channel"], post["ts"])
            found.append(SeenMessage(place, words, pictures, post["thread_ts"]))
        return found

    def fails(self, how: str) -> None:
        self.org.post("faults", [{"match": "chat.postMessage", "drop": how}])

    def refuses(self, channel: str) -> None:
        self.org.post("slack", {"archived": [channel]})


def _words(block: Any) -> str:
    """Every text in a block, whatever it stands in."""
    if isinstance(block, dict):
        said = [block["text"]] if isinstance(block.get("text"), str) else []
        return " ".join([*said, *(_words(value) for value in block.values() if isinstance(value, dict | list))])
    return " ".join(map(_words, block))


STAND_INS: dict[str, Any] = {"slack": SlackWorkspace}
