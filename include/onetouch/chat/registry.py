"""The supported chats, one line each; a client is imported only when used, since it may need a large library."""

from __future__ import annotations

import time
from collections.abc import Callable
from pkgutil import resolve_name

from onetouch.chat.protocol import WRITES, Chat
from onetouch.connections import Connection
from onetouch.policy import Policy, PolicyError, suggestion
from onetouch.stop import WhyStopped, never, stoppable

CHATS: dict[str, tuple[str, str]] = {
    "slack": ("slack_default", "onetouch.chat.slack:Slack"),
}
"""`chat` of the policy → the id of its connection, and the class that implements `Chat`."""


def check_chat(policy: Policy, where: object = "policy") -> None:
    """Raises PolicyError, beginning with `where`, unless the policy's chat is one of CHATS."""
    if policy.chat not in CHATS:
        hint = suggestion(policy.chat, CHATS)
        raise PolicyError(f"{where}: chat: {policy.chat!r} is not allowed; {hint}allowed: {', '.join(CHATS)}")


def connection_id(policy: Policy) -> str:
    """The id of the connection to the policy's chat."""
    check_chat(policy)
    return CHATS[policy.chat][0]


def connect(
    connection: Connection,
    policy: Policy,
    *,
    stopped: WhyStopped = never,
    sleep: Callable[[float], None] = time.sleep,
) -> Chat:
    """A client of the policy's chat; it stops posting as soon as `stopped` gives a reason.

    `sleep` waits the seconds between two attempts. Raises ConnectionConfigError for a connection that cannot work.
    """
    check_chat(policy)
    client: type[Chat] = resolve_name(CHATS[policy.chat][1])
    return stoppable(client.connect(connection, sleep=sleep), WRITES, stopped)
