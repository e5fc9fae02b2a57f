"""The Slack client: sends messages, waits as Slack asks, and finds posted messages again in a channel."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Self
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, ProxyHandler, Request, build_opener

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.http_retry import HttpRequest, HttpResponse, RetryHandler, RetryState
from slack_sdk.webhook import WebhookClient

from onetouch.chat.content import Message, Text
from onetouch.chat.protocol import ChatError, Image, NotGenuine, Place, Press, Unanswered
from onetouch.chat.slack.blocks import blocks_of, mrkdwn, text_of
from onetouch.chat.slack.presses import read_press
from onetouch.connections import Connection, ConnectionConfigError, require_tls

_TIMEOUT = 30
"""Ours: seconds until a call counts as unanswered."""

_SETTLING = _TIMEOUT + 5
"""Ours: seconds after which a post that another process began must be visible, or was never made."""

_RATE_RETRIES = 5
"""Ours: how often a call is repeated after waiting as long as Retry-After says."""

_LONGEST_WAIT = 60.0
"""Ours: the longest Retry-After in seconds that is waited for; a longer one is an error, and the next run continues."""

_LOOKS = 20
"""Ours: pages of 200 messages searched for a post whose outcome is unknown."""

_FILE_POLLS, _FILE_WAIT = 30, 1.0
"""Ours: how often a file is polled until Slack has processed it, and the seconds in between."""

_TEXT = 39_000
"""Characters of a message's text: Slack allows 40,000, minus a margin."""

UPDATE_TEXT = 3_900
"""Characters of the text of an updated message: chat.update refuses more than about 4,000 with msg_too_long. The
blocks carry the content; the text is shown where blocks cannot be."""

_NOT_NOW = frozenset(
    {"ratelimited", "invalid_auth", "not_authed", "account_inactive", "token_revoked", "token_expired"}
)
"""Errors that say nothing about a person. Any other error of a look-up means that the person is unknown or that the
look-up is not permitted."""

_UNSURE = frozenset({"internal_error", "fatal_error", "request_timeout", "service_unavailable"})
"""Errors after which a message may or may not have been posted."""

_OVER = frozenset(
    {"message_not_found", "cant_update_message", "edit_window_closed", "is_inactive", "channel_not_found",
     "thread_not_found"}
)  # fmt: skip
"""Errors after which a message can never be changed or replied to any more."""

_HOPELESS = _NOT_NOW | {"no_answer", "channel_not_found", "not_in_channel", "is_archived", "missing_scope"}
"""Errors that the next message to the same channel would get, too."""

_NO_ANSWER = (URLError, http.client.HTTPException, OSError)
"""The errors of urllib that mean there was no answer."""


class _WaitingOut(RetryHandler):
    """Waits as long as Slack asks when its rate limit is reached (HTTP 429, Retry-After)."""

    def __init__(self, sleep: Callable[[float], None]) -> None:
        super().__init__(max_retry_count=_RATE_RETRIES)
        self._sleep = sleep

    def _can_retry(
        self,
        *,
        state: RetryState,
        request: HttpRequest,
        response: HttpResponse | None = None,
        error: Exception | None = None,
    ) -> bool:
        return response is not None and response.status_code == 429 and _seconds(response) <= _LONGEST_WAIT

    def prepare_for_next_attempt(
        self,
        *,
        state: RetryState,
        request: HttpRequest,
        response: HttpResponse | None = None,
        error: Exception | None = None,
    ) -> None:
        """Waits, then requests another attempt."""
        if response is not None:
            self._sleep(_seconds(response))
        state.next_attempt_requested = True
        state.increment_current_attempt()


def _seconds(response: HttpResponse) -> float:
    """Retry-After in seconds; 1 when it is missing or not a number."""
    given = next((values[0] for name, values in response.headers.items() if name.lower() == "retry-after"), "")
    return float(given) if given.isdigit() else 1.0


class _NoRedirects(HTTPRedirectHandler):
    """Follows no redirect: the redirect itself is the answer."""

    def redirect_request(self, *_: Any) -> None:
        """None: no request is sent to the new address."""


class Client(WebClient):
    """Follows no redirect: urllib would send the token to any host, even without TLS."""

    def _perform_urllib_http_request_internal(self, url: str, req: Request) -> dict[str, Any]:
        # A proxy set in the environment cannot reach this machine.
        proxies = {} if url.startswith("http:") else {"https": self.proxy} if self.proxy else None
        opener = build_opener(_NoRedirects(), HTTPSHandler(context=self.ssl), ProxyHandler(proxies))
        with opener.open(req, timeout=self.timeout) as answer:
            text = answer.read().decode(answer.headers.get_content_charset() or "utf-8")
            return {"status": answer.code, "headers": answer.headers, "body": text}


class Slack:
    """One workspace. The connection's password is the token; its extra `base_url` replaces the address of slack.com.
    With the extra `signing_secret` alerts have buttons.

    Scopes of the bot: chat:write; channels:history, groups:history and im:history (to search before posting again);
    files:write and files:read (the report's pictures); users:read and users:read.email (mentions); im:write (direct
    messages). Raises ConnectionConfigError without a token, or for an address that is neither TLS nor loopback.
    """

    name = "slack"

    def __init__(self, connection: Connection, *, sleep: Callable[[float], None] = time.sleep) -> None:
        if not connection.password:
            raise ConnectionConfigError(f"{connection.conn_id}: password is empty; give the bot token (xoxb-…)")
        base_url = str(connection.extra.get("base_url") or WebClient.BASE_URL)
        require_tls(base_url)
        # Replaces the default handlers, which send again after a dropped connection, so that Slack would post twice.
        self.client = Client(
            token=connection.password,
            base_url=base_url,
            timeout=_TIMEOUT,
            retry_handlers=[_WaitingOut(sleep)],
        )
        self._secret = str(connection.extra.get("signing_secret") or "").strip()
        self._sleep = sleep
        self._users: dict[str, str | None] = {}
        self._directs: dict[str, str | None] = {}

    @property
    def takes_presses(self) -> bool:
        """See Chat. Where the connection's extra `signing_secret` is set."""
        return bool(self._secret)

    @classmethod
    def connect(cls, connection: Connection, *, sleep: Callable[[float], None]) -> Self:
        """See Chat."""
        return cls(connection, sleep=sleep)

    def user(self, email: str | None) -> str | None:
        """See Chat."""
        if not email:
            return None
        if email not in self._users:
            self._users[email] = _unless_unknown(lambda: self.client.users_lookupByEmail(email=email)["user"]["id"])
        return self._users[email]

    def direct(self, user: str | None) -> str | None:
        """See Chat."""
        if not user:
            return None
        if user not in self._directs:
            self._directs[user] = _unless_unknown(lambda: self.client.conversations_open(users=user)["channel"]["id"])
        return self._directs[user]

    def post(self, channel: str, message: Message, *, key: str, reply_to: Place | None = None) -> Place:
        """See Chat. The key is in the message's metadata."""
        try:
            answer = self.client.chat_postMessage(
                channel=channel,
                text=text_of(message)[:_TEXT],
                blocks=blocks_of(message) or None,
                thread_ts=reply_to and reply_to.message,
                metadata={"event_type": "onetouch", "event_payload": {"key": key}},
                parse="none",
                unfurl_links=False,
                unfurl_media=False,
            )
        except SlackApiError as error:
            code = _said(error)
            if _unsure(error):
                raise Unanswered(f"Slack: no answer ({code})", code) from None
            raise _refused("post", code) from None
        except _NO_ANSWER as error:
            raise Unanswered("Slack: no answer", type(error).__name__) from None
        return Place(str(answer["channel"]), str(answer["ts"]))

    def find(self, channel: str, key: str, reply_to: Place | None = None) -> Place | None:
        """See Chat. Searches the metadata of the latest messages of the channel or thread."""
        for found in self._messages(channel, reply_to):
            metadata = found.get("metadata") or {}
            if (metadata.get("event_payload") or {}).get("key") == key:
                return Place(channel, str(found["ts"]))
        return None

    def link(self, place: Place) -> str:
        """See Chat."""
        try:
            answer = self.client.chat_getPermalink(channel=place.channel, message_ts=place.message)
        except SlackApiError as error:
            raise _refused("the link to a message", _said(error)) from None
        except _NO_ANSWER as error:
            raise _no_answer(error) from None
        return str(answer["permalink"])

    def settle(self) -> None:
        """See Chat."""
        self._sleep(_SETTLING)

    def update(self, place: Place, message: Message) -> None:
        """See Chat."""
        try:
            # Without it `parse` returns to its default, which turns names that look like links into links.
            self.client.chat_update(
                channel=place.channel,
                ts=place.message,
                text=text_of(message)[:UPDATE_TEXT],
                blocks=blocks_of(message),
                parse="none",
            )
        except SlackApiError as error:
            raise _refused("update", _said(error)) from None
        except _NO_ANSWER as error:
            raise _no_answer(error) from None

    def read_press(self, body: bytes, headers: Mapping[str, str], now: datetime) -> Press | None:
        """See Chat."""
        if not self._secret:
            raise NotGenuine("the connection has no signing_secret; no press can be verified")
        return read_press(body, headers, self._secret, now)

    def answer(self, press: Press, text: str) -> None:
        """See Chat. The address is Slack's, or that of the stand-in the connection names."""
        if not press.answer_to:
            return
        address, own = urlsplit(press.answer_to), urlsplit(self.client.base_url)
        if (address.scheme, address.netloc) not in {("https", "hooks.slack.com"), (own.scheme, own.netloc)}:
            raise ChatError("Slack: the address to answer to is not Slack's")
        try:
            answered = WebhookClient(press.answer_to, timeout=_TIMEOUT).send(
                text=mrkdwn([(Text(text),)]), response_type="ephemeral", replace_original=False
            )
        except _NO_ANSWER as error:
            raise _no_answer(error) from None
        if answered.status_code != 200:
            raise _refused("an answer to a press", str(answered.status_code))

    def upload(self, image: Image) -> str:
        """See Chat. Returns the id of the file."""
        try:
            answer = self.client.files_upload_v2(
                content=image.png, filename=f"{image.name}.png", title=image.title, alt_txt=image.alt
            )
            file_id = str(answer["files"][0]["id"])
            for _ in range(_FILE_POLLS):
                if self.client.files_info(file=file_id)["file"].get("mimetype"):
                    return file_id
                self._sleep(_FILE_WAIT)
        except SlackApiError as error:
            raise ChatError(f"Slack: picture {image.name} refused: {_said(error)}") from None
        except SlackClientError:  # its text contains the upload address
            raise ChatError(f"Slack: picture {image.name} could not be uploaded") from None
        except _NO_ANSWER as error:
            raise ChatError(f"Slack: no answer while uploading {image.name} ({type(error).__name__})") from None
        raise ChatError(f"Slack: picture {image.name} was not processed within {_FILE_POLLS * _FILE_WAIT:.0f} s")

    def _messages(self, channel: str, reply_to: Place | None) -> Iterator[dict[str, Any]]:
        cursor: str | None = None
        for _ in range(_LOOKS):
            try:
                if reply_to is None:
                    page = self.client.conversations_history(
                        channel=channel, include_all_metadata=True, limit=200, cursor=cursor
                    )
                else:
                    page = self.client.conversations_replies(
                        channel=channel, ts=reply_to.message, include_all_metadata=True, limit=200, cursor=cursor
                    )
            except SlackApiError as error:
                raise _refused("the channel's history", _said(error)) from None
            except _NO_ANSWER as error:
                raise _no_answer(error) from None
            yield from page["messages"]
            cursor = (page.get("response_metadata") or {}).get("next_cursor")
            if not cursor:
                return


def _unless_unknown(ask: Callable[[], str]) -> str | None:
    try:
        return ask()
    except SlackApiError as error:
        if (code := _said(error)) in _NOT_NOW or _unsure(error):
            raise _refused("a person", code) from None
        return None
    except _NO_ANSWER as error:
        raise _no_answer(error) from None


def _refused(what: str, code: str) -> ChatError:
    return ChatError(f"Slack: {what} refused: {code}", code, is_over=code in _OVER, is_hopeless=code in _HOPELESS)


def _no_answer(error: Exception) -> ChatError:
    return ChatError(f"Slack: no answer ({type(error).__name__})", "no_answer", is_hopeless=True)


def _unsure(error: SlackApiError) -> bool:
    status = getattr(error.response, "status_code", 200)
    return status >= 500 or error.response.get("error") in _UNSURE


def _said(error: SlackApiError) -> str:
    """Slack's error code, or a fixed word for an answer that is not JSON."""
    code = str(error.response.get("error") or "")
    return code if code.replace("_", "").isalnum() and len(code) < 80 else "unreadable answer"
