"""Posts each message exactly once, even after a crash."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onetouch.chat.content import Message
from onetouch.chat.protocol import Chat, ChatError, Image, Place, Unanswered
from onetouch.ledger import Ledger, Outbox


def post_once(
    chat: Chat,
    ledger: Ledger,
    message: Message,
    *,
    key: str,
    kind: str,
    channel: str,
    run_id: str | None = None,
    handoff_id: str | None = None,
    reply_to: Place | None = None,
    payload: Mapping[str, Any] | None = None,
) -> Place:
    """Posts one message for `key` and returns its place, also when it was posted before.

    When the outcome of an earlier attempt is unknown, the channel is first searched for the key, twice, with a pause
    longer than any call lasts. `payload` is stored with the row. Raises ChatError.
    """
    while True:
        row = ledger.put(key, chat.name, kind, run_id, handoff_id, {**(payload or {}), "channel": channel})
        if row.state == "sent":
            return Place.of(row)
        if row.state == "failed":
            raise ChatError(
                f"{_named(chat)}: {key} is a dead letter: {row.reason}; `onetouch outbox retry` lays it out again"
            )
        if row.state == "sending" and (there := _look_twice(chat, row, channel, reply_to)):
            return _sent(ledger, key, there)
        if ledger.claim(row) is not None:
            break
    try:
        place = chat.post(channel, message, key=key, reply_to=reply_to)
    except Unanswered as error:  # unless found, the row stays `sending` for the next attempt
        if found := chat.find(channel, key, reply_to):
            return _sent(ledger, key, found)
        unknown = f"outcome of {key} unknown ({error.code}); the next attempt looks before it posts"
        raise Unanswered(f"{_named(chat)}: {unknown}", "no_answer", is_hopeless=True) from None
    except ChatError as error:
        ledger.failed(key, error.code, retryable=True)
        raise
    return _sent(ledger, key, place)


def upload_once(chat: Chat, ledger: Ledger, image: Image, key: str) -> str:
    """Uploads the picture unless it was uploaded before; returns its id. A duplicate after a crash is never shown."""
    row = ledger.put(key, chat.name, "picture", None, None, {"name": image.name})
    if row.state == "sent":
        return str(row.external_id)
    ledger.sending(key)
    picture_id = chat.upload(image)
    ledger.sent(key, picture_id)
    return picture_id


def _sent(ledger: Ledger, key: str, place: Place) -> Place:
    ledger.sent(key, str(place))
    return place


def _look_twice(chat: Chat, row: Outbox, channel: str, reply_to: Place | None) -> Place | None:
    """Searches twice, with a pause in between: in the policy's channel and, if it differs, in the channel of the first
    attempt."""
    channels = dict.fromkeys((channel, str(row.payload["channel"])))
    for attempt in range(2):
        if attempt:
            chat.settle()  # another process may be posting the message at this moment
        for where in channels:
            if place := chat.find(where, row.key, reply_to):
                return place
    return None


def _named(chat: Chat) -> str:
    return chat.name.capitalize()
