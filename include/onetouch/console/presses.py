"""The address to which the chat sends the presses of buttons: an ASGI application without a framework.

The Airflow plugin mounts it; `onetouch slack serve` starts it on loopback. Whoever reaches it must sign as the chat
does (`Chat.read_press`), so it needs no other sign-in.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from datetime import datetime
from functools import cache
from typing import Any, Protocol

from onetouch.chat import ChatError, NotGenuine, connect
from onetouch.chat import connection_id as chat_connection
from onetouch.connections import Connection
from onetouch.delivery import pressed
from onetouch.ledger import Ledger
from onetouch.policy import Policy

Message = MutableMapping[str, Any]

PATH = "/slack/presses"
"""Where the presses are sent, below the place where the application is mounted."""

_LONGEST = 256 * 1024
"""Ours: bytes of a request; Slack's are a few thousand."""

_TOO_LARGE, _OTHER = 413, 404

log = logging.getLogger(__name__)


class Installation(Protocol):
    """What a press needs of an installation (`workspace.Workspace`)."""

    @property
    def policy(self) -> Policy: ...  # noqa: D102
    @property
    def ledger(self) -> Ledger: ...  # noqa: D102
    def stopped(self) -> str | None: ...  # noqa: D102
    def required_connection(self, conn_id: str) -> Connection: ...  # noqa: D102


class Presses:
    """The application. `opened` gives the installation, once, when the first request comes; `now` gives the moment."""

    def __init__(self, opened: Callable[[], Installation], now: Callable[[], datetime]) -> None:
        self._installation, self._now = cache(opened), now

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Answers one request: 200 for a press of ours, 401 for one that is not the chat's."""
        if scope["type"] != "http":
            return
        path = str(scope["path"]).removeprefix(str(scope.get("root_path") or ""))
        body = await _body(receive)
        if scope["method"] != "POST" or path.rstrip("/") != PATH:
            status = _OTHER
        elif body is None:
            status = _TOO_LARGE
        else:
            headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
            status = await asyncio.to_thread(self.take, body, headers)
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    def take(self, body: bytes, headers: Mapping[str, str]) -> int:
        """Does what a request asks for; returns the HTTP status. The log holds no content of a request."""
        now, here = self._now(), self._installation()
        try:
            connection = here.required_connection(chat_connection(here.policy))
            chat = connect(connection, here.policy, stopped=here.stopped)
            press = chat.read_press(body, headers, now)
            if press is None:
                return 200
            told = pressed(here.ledger, here.policy, chat, press, now)
            if told:
                chat.answer(press, told)
        except NotGenuine as error:
            log.warning("a request was refused: %s", error)
            return 401
        except ChatError as error:
            log.warning("a press was not taken: %s", error)
            return 503
        return 200


async def _body(receive: Callable[[], Awaitable[Message]]) -> bytes | None:
    """The whole body; None when it is too long."""
    parts, more, size = [], True, 0
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        parts.append(message.get("body", b"") if size <= _LONGEST else b"")
        more = message.get("more_body", False)
    return b"".join(parts) if size <= _LONGEST else None
