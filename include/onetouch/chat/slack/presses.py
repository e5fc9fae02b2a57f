"""Reads what Slack sends when somebody presses a button: verified by its signature, five minutes old at most."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs

from slack_sdk.signature import Clock, SignatureVerifier

from onetouch.chat.protocol import NotGenuine, Press
from onetouch.chat.slack.blocks import ACTION


class _At(Clock):
    def __init__(self, now: datetime) -> None:
        self._now = now

    def now(self) -> float:
        """The given moment in seconds since 1970."""
        return self._now.timestamp()


def read_press(body: bytes, headers: Mapping[str, str], secret: str, now: datetime) -> Press | None:
    """The press of one of our buttons; None for anything else that Slack sends to the same address.

    `body`: as received, byte by byte, since that is what is signed. Raises NotGenuine for a request whose signature is
    not Slack's, or whose timestamp is more than five minutes from `now`, so that a recorded one cannot be sent again.
    """
    try:
        genuine = SignatureVerifier(secret, _At(now)).is_valid_request(body, dict(headers))
    except ValueError:  # a timestamp that is no number
        genuine = False
    if not genuine:
        raise NotGenuine("the signature is not Slack's, or older than five minutes")
    try:
        payload: dict[str, Any] = json.loads(parse_qs(body.decode())["payload"][0])
        [action] = [a for a in payload["actions"] if str(a.get("action_id", "")).startswith(ACTION)]
        return Press(
            name=str(action["action_id"]).removeprefix(ACTION),
            value=str(action["value"]),
            user=str(payload["user"]["id"]),
            request=str(payload["trigger_id"]),
            answer_to=str(payload.get("response_url") or ""),
        )
    except (ValueError, KeyError, IndexError, TypeError):
        return None
