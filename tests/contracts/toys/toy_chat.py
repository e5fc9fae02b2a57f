"""A chat in one file: a channel is a file of JSON lines, the last line of a message is what stands there."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from onetouch.chat import (
    Bullets,
    ChatError,
    Image,
    Line,
    Lines,
    Link,
    Mention,
    Message,
    NotGenuine,
    Paragraph,
    Picture,
    Place,
    Press,
    Text,
)
from onetouch.connections import Connection

from tests.contracts.chat_stand_ins import SeenMessage


class ToyChat:
    """See Chat. The connection's host is the folder; a file `closed` in it names channels that take nothing."""

    name = "toy_chat"
    takes_presses = False

    def __init__(self, connection: Connection) -> None:
        self._folder = Path(str(connection.host))

    @classmethod
    def connect(cls, connection: Connection, *, sleep: Callable[[float], None]) -> ToyChat:
        return cls(connection)

    @staticmethod
    def stand_in(folder: Path) -> StandIn:
        return StandIn(folder)

    def user(self, email: str | None) -> str | None:
        return email.partition("@")[0] if email else None

    def direct(self, user: str | None) -> str | None:
        return f"direct-{user}" if user else None

    def post(self, channel: str, message: Message, *, key: str, reply_to: Place | None = None) -> Place:
        number = len({line["id"] for line in self._lines(channel)}) + 1
        self._write(channel, {"id": f"{number}", "key": key, "to": reply_to and reply_to.message} | _said(message))
        return Place(channel, f"{number}")

    def find(self, channel: str, key: str, reply_to: Place | None = None) -> Place | None:
        wanted = (key, reply_to and reply_to.message)
        return next((Place(channel, s["id"]) for s in self._lines(channel) if (s["key"], s["to"]) == wanted), None)

    def link(self, place: Place) -> str:
        return f"https://toy.example/{place}"

    def settle(self) -> None:
        pass

    def update(self, place: Place, message: Message) -> None:
        there = next(line for line in self._lines(place.channel) if line["id"] == place.message)
        self._write(place.channel, there | _said(message))

    def read_press(self, body: bytes, headers: Mapping[str, str], now: datetime) -> Press | None:
        raise NotGenuine("Toy: nobody presses anything")

    def answer(self, press: Press, text: str) -> None:
        pass

    def upload(self, image: Image) -> str:
        (self._folder / f"{image.name}.png").write_bytes(image.png)
        return image.name

    def _lines(self, channel: str) -> list[dict[str, Any]]:
        file = self._folder / f"{channel}.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def _write(self, channel: str, line: dict[str, Any]) -> None:
        closed = self._folder / "closed"
        if closed.exists() and channel in closed.read_text().split():
            raise ChatError("Toy: the channel is closed", "closed", is_over=True, is_hopeless=True)
        with (self._folder / f"{channel}.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")


def _said(message: Message) -> dict[str, Any]:
    lines: list[Line] = [*message.text]
    for part in message.parts:
        if isinstance(part, Lines | Paragraph):
            lines += part.lines
        elif isinstance(part, Bullets):
            lines += [part.head, *part.items]
        elif not isinstance(part, Picture) and hasattr(part, "text"):
            lines.append((Text(part.text),))
    pieces = itertools.chain.from_iterable(lines)
    words = " ".join(
        f"@{piece.user}" if isinstance(piece, Mention) else piece.text if isinstance(piece, Text | Link) else piece.name
        for piece in pieces
    )
    return {"words": words, "pictures": sum(isinstance(part, Picture) for part in message.parts)}


class StandIn:
    """See `chat_stand_ins.StandIn`."""

    channel, other = "alerts", "leaders"

    def __init__(self, folder: Path) -> None:
        self.folder, self.connection = folder, Connection("toy_chat_default", host=str(folder))

    def messages(self) -> list[SeenMessage]:
        found: dict[Place, SeenMessage] = {}
        for file in sorted(self.folder.glob("*.jsonl")):
            for line in map(json.loads, file.read_text().splitlines()):
                place = Place(file.stem, line["id"])
                new = SeenMessage(place, line["words"], line["pictures"], line["to"])
                found[place] = replace(found.get(place, new), words=new.words, pictures=new.pictures)
        return list(found.values())

    def fails(self, how: str) -> None:
        pass

    def refuses(self, channel: str) -> None:
        (self.folder / "closed").write_text(channel)
