"""Slack: one post for one thing to say, whatever crashes on the way."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol
from urllib.error import URLError
from urllib.request import HTTPRedirectHandler, HTTPSHandler, ProxyHandler, Request, build_opener

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.http_retry import HttpRequest, HttpResponse, RetryHandler, RetryState

from onetouch.connections import Connection, ConnectionConfigError, require_tls
from onetouch.ledger import Ledger, Outbox
from onetouch.policy import Policy

_TIMEOUT = 30
"""Ours: seconds until a call counts as unanswered."""

_SETTLING = _TIMEOUT + 5
"""Ours: seconds after which a post that another process began must be visible, or was never made."""

_RATE_RETRIES = 5
"""Ours: how often a call waits for Retry-After."""

_LONGEST_WAIT = 60.0
"""Ours: seconds of Retry-After that are waited; who is to wait longer is told so, and the next run goes on."""

_LOOKS = 20
"""Ours: pages of 200 messages looked through for a post whose outcome is unknown."""

_FILE_POLLS, _FILE_WAIT = 30, 1.0
"""Ours: looks at a file, and seconds between them, until Slack has processed it."""

_BLOCKS, _TEXT = 50, 39_000
"""Blocks a message holds; characters of its text (40,000), with room to spare."""

UPDATE_TEXT = 3_900
"""Characters of the text of a message that is written anew: chat.update refuses more than some 4,000 with
msg_too_long. The blocks carry the content, the text is for those who see none."""

NOT_NOW = frozenset({"ratelimited", "invalid_auth", "not_authed", "account_inactive", "token_revoked", "token_expired"})
"""Answers that say nothing about a person. Any other to a question about one means: not known, or may not be told."""

_UNSURE = frozenset({"internal_error", "fatal_error", "request_timeout", "service_unavailable"})
"""Answers after which a message may or may not have been posted."""

_NO_ANSWER = (URLError, http.client.HTTPException, OSError)
"""How urllib says that no answer came."""


class SlackError(Exception):
    """Slack could not be used. The message holds Slack's error code, no token and no text of a message.

    `code` is that code, or "no_answer".
    """

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class Place(NamedTuple):
    """Where a message stands; in the outbox's external_id as "channel:ts"."""

    channel: str
    ts: str

    def __str__(self) -> str:
        return f"{self.channel}:{self.ts}"

    @classmethod
    def of(cls, row: Outbox) -> Place:
        """Where the message of a sent row stands."""
        channel, _, ts = str(row.external_id).rpartition(":")
        return cls(channel or str(row.payload.get("channel", "")), ts)  # rows of earlier versions hold the ts alone


class Chart(Protocol):
    """One picture of a report."""

    name: str
    title: str
    alt: str
    png: bytes


class Report(Protocol):
    """What is posted: text for those who see no blocks, blocks, and pictures."""

    @property
    def text(self) -> str:
        """A first line for notifications, then the details."""

    @property
    def blocks(self) -> list[dict[str, Any]]:
        """The message, without its pictures."""

    @property
    def charts(self) -> Sequence[Any]:
        """name, title, alt and png of each picture."""


def escape(text: str) -> str:
    """`text` as Slack shows it, not as it would act on it: no <!channel>, no links, no mentions."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


class _WaitingOut(RetryHandler):
    """Waits as long as Slack asks when it takes no more messages at the moment (HTTP 429, Retry-After)."""

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
        """Waits, then lets the call be made again."""
        if response is not None:
            self._sleep(_seconds(response))
        state.next_attempt_requested = True
        state.increment_current_attempt()


def _seconds(response: HttpResponse) -> float:
    """Retry-After; one second where it is missing or no number."""
    given = next((values[0] for name, values in response.headers.items() if name.lower() == "retry-after"), "")
    return float(given) if given.isdigit() else 1.0


class _NoRedirects(HTTPRedirectHandler):
    """An answer that leads elsewhere is an answer like any other."""

    def redirect_request(self, *_: Any) -> None:
        """Nothing is sent again."""


class Client(WebClient):
    """Speaks to its own address only: urllib would carry the token along a redirect, to any host and without TLS."""

    def _perform_urllib_http_request_internal(self, url: str, req: Request) -> dict[str, Any]:
        # A proxy of the environment does not lead to this machine.
        proxies = {} if url.startswith("http:") else {"https": self.proxy} if self.proxy else None
        opener = build_opener(_NoRedirects(), HTTPSHandler(context=self.ssl), ProxyHandler(proxies))
        with opener.open(req, timeout=self.timeout) as answer:
            text = answer.read().decode(answer.headers.get_content_charset() or "utf-8")
            return {"status": answer.code, "headers": answer.headers, "body": text}


class Slack:
    """One workspace. The token is the connection's password; the extra `base_url` leads elsewhere than slack.com.

    Scopes of the bot: chat:write; channels:history, groups:history and im:history (to look before posting again);
    files:write and files:read (the report's pictures); users:read and users:read.email (mentions); im:write (direct
    messages). Raises ConnectionConfigError without a token, or for an address that is neither TLS nor loopback.
    """

    def __init__(self, connection: Connection, *, sleep: Callable[[float], None] = time.sleep) -> None:
        if not connection.password:
            raise ConnectionConfigError(f"{connection.conn_id}: password is empty; give the bot token (xoxb-…)")
        base_url = str(connection.extra.get("base_url") or WebClient.BASE_URL)
        require_tls(base_url)
        # In place of the default handlers: they send again after a dropped connection, and Slack would post twice.
        self.client = Client(
            token=connection.password,
            base_url=base_url,
            timeout=_TIMEOUT,
            retry_handlers=[_WaitingOut(sleep)],
        )
        self._sleep = sleep
        self._users: dict[str, str | None] = {}
        self._directs: dict[str, str | None] = {}

    def user(self, email: str | None) -> str | None:
        """The id of the person with that e-mail address; None when Slack knows none or may not tell."""
        if not email:
            return None
        if email not in self._users:
            self._users[email] = _unless_unknown(lambda: self.client.users_lookupByEmail(email=email)["user"]["id"])
        return self._users[email]

    def direct(self, user: str | None) -> str | None:
        """The id of the conversation with a person alone, opened if need be; None when there can be none."""
        if not user:
            return None
        if user not in self._directs:
            self._directs[user] = _unless_unknown(lambda: self.client.conversations_open(users=user)["channel"]["id"])
        return self._directs[user]

    def post(
        self,
        ledger: Ledger,
        *,
        key: str,
        kind: str,
        channel: str,
        text: str,
        blocks: list[dict[str, Any]],
        run_id: str | None = None,
        handoff_id: str | None = None,
        thread_ts: str | None = None,
        payload: Mapping[str, Any] | None = None,
    ) -> Place:
        """Posts once for `key` and returns where the message stands, also when it was posted before.

        The key travels in the message's metadata. Before anything is posted whose outcome is unknown, the channel
        is looked through for it, twice, with a pause longer than any call lasts. `payload` is kept with the row.
        Raises SlackError.
        """
        while True:
            row = ledger.put(key, "slack", kind, run_id, handoff_id, {**(payload or {}), "channel": channel})
            if row.state == "sent":
                return Place.of(row)
            if row.state == "failed":
                raise SlackError(
                    f"Slack: {key} is a dead letter: {row.reason}; `onetouch outbox retry` lays it out again"
                )
            if row.state == "sending" and (there := self._look_twice(row, channel, thread_ts)):
                return self._sent(ledger, key, there)
            if ledger.claim(row) is not None:
                break
        try:
            answer = self.client.chat_postMessage(
                channel=channel,
                text=text[:_TEXT],
                blocks=blocks or None,
                thread_ts=thread_ts,
                metadata={"event_type": "onetouch", "event_payload": {"key": key}},
                parse="none",
                unfurl_links=False,
                unfurl_media=False,
            )
        except SlackApiError as error:
            if _unsure(error):
                return self._after_unknown(ledger, channel, key, thread_ts, _said(error))
            code = _said(error)
            ledger.failed(key, code, retryable=True)
            raise SlackError(f"Slack: {kind} refused: {code}", code) from None
        except _NO_ANSWER as error:
            return self._after_unknown(ledger, channel, key, thread_ts, type(error).__name__)
        return self._sent(ledger, key, Place(str(answer["channel"]), str(answer["ts"])))

    def update(self, place: Place, *, text: str, blocks: list[dict[str, Any]]) -> None:
        """Writes a message anew where it stands; the same again shows the same. Notifies nobody. Raises SlackError."""
        try:
            # `parse` would be set back to its default, which makes links of names that look like one.
            self.client.chat_update(
                channel=place.channel, ts=place.ts, text=text[:UPDATE_TEXT], blocks=blocks, parse="none"
            )
        except SlackApiError as error:
            code = _said(error)
            raise SlackError(f"Slack: update refused: {code}", code) from None
        except _NO_ANSWER as error:
            raise SlackError(f"Slack: no answer ({type(error).__name__})", "no_answer") from None

    def find(self, row: Outbox) -> Place | None:
        """Where the message of a row stands whose outcome is unknown; None: it is not there."""
        return self._find(str(row.payload["channel"]), row.key, None)

    def upload(self, chart: Chart) -> str:
        """Uploads a picture that only a post will show, waits until Slack has processed it, returns its file id."""
        try:
            answer = self.client.files_upload_v2(
                content=chart.png, filename=f"{chart.name}.png", title=chart.title, alt_txt=chart.alt
            )
            file_id = str(answer["files"][0]["id"])
            for _ in range(_FILE_POLLS):
                if self.client.files_info(file=file_id)["file"].get("mimetype"):
                    return file_id
                self._sleep(_FILE_WAIT)
        except SlackApiError as error:
            raise SlackError(f"Slack: picture {chart.name} refused: {_said(error)}") from None
        except SlackClientError:  # its text holds the upload address
            raise SlackError(f"Slack: picture {chart.name} could not be uploaded") from None
        except _NO_ANSWER as error:
            raise SlackError(f"Slack: no answer while uploading {chart.name} ({type(error).__name__})") from None
        raise SlackError(f"Slack: picture {chart.name} was not processed within {_FILE_POLLS * _FILE_WAIT:.0f} s")

    def _sent(self, ledger: Ledger, key: str, place: Place) -> Place:
        ledger.sent(key, str(place))
        return place

    def _after_unknown(self, ledger: Ledger, channel: str, key: str, thread_ts: str | None, why: str) -> Place:
        """The post may have arrived: found, it is sent; else it stays `sending`, for the next attempt to look."""
        place = self._find(channel, key, thread_ts)
        if place is None:
            raise SlackError(
                f"Slack: outcome of {key} unknown ({why}); the next attempt looks before it posts", "no_answer"
            )
        return self._sent(ledger, key, place)

    def _look_twice(self, row: Outbox, channel: str, thread_ts: str | None) -> Place | None:
        """In the channel of the policy, and in the one of the first attempt, should they differ."""
        channels = dict.fromkeys((channel, str(row.payload["channel"])))
        for attempt in range(2):
            if attempt:
                self._sleep(_SETTLING)  # another process may be posting it at this moment
            for where in channels:
                if place := self._find(where, row.key, thread_ts):
                    return place
        return None

    def _find(self, channel: str, key: str, thread_ts: str | None) -> Place | None:
        """Where the message with that key in its metadata stands."""
        for message in self._messages(channel, thread_ts):
            metadata = message.get("metadata") or {}
            if (metadata.get("event_payload") or {}).get("key") == key:
                return Place(channel, str(message["ts"]))
        return None

    def _messages(self, channel: str, thread_ts: str | None) -> Iterator[dict[str, Any]]:
        cursor: str | None = None
        for _ in range(_LOOKS):
            try:
                if thread_ts is None:
                    page = self.client.conversations_history(
                        channel=channel, include_all_metadata=True, limit=200, cursor=cursor
                    )
                else:
                    page = self.client.conversations_replies(
                        channel=channel, ts=thread_ts, include_all_metadata=True, limit=200, cursor=cursor
                    )
            except SlackApiError as error:
                code = _said(error)
                raise SlackError(f"Slack: the channel's history is refused: {code}", code) from None
            except _NO_ANSWER as error:
                raise SlackError(f"Slack: no answer ({type(error).__name__})", "no_answer") from None
            yield from page["messages"]
            cursor = (page.get("response_metadata") or {}).get("next_cursor")
            if not cursor:
                return


def post_report(ledger: Ledger, slack: Slack, policy: Policy, report: Report, key: str) -> dict[str, Any]:
    """Posts a report once for `key` to the leadership channel: blocks and pictures, the text in its thread.

    Returns {"posted", "channel", "ts", "pictures"}; raises SlackError.
    """
    channel = policy.slack.leadership_channel
    pictures = len(report.charts)
    headline = report.text.strip().split("\n")[0]
    there = _of(ledger, key)
    if there is None or there.state != "sent":
        images = [_image(_file(ledger, slack, chart, f"{key}:{chart.name}"), chart) for chart in report.charts]
        blocks = [*report.blocks[: _BLOCKS - len(images)], *images]
        place = slack.post(ledger, key=key, kind="report", channel=channel, text=headline, blocks=blocks)
    else:
        place = Place.of(there)
    slack.post(
        ledger,
        key=f"{key}:details",
        kind="report_details",
        channel=place.channel,
        text=report.text,
        blocks=[],
        thread_ts=place.ts,
    )
    return {"posted": True, "channel": place.channel, "ts": place.ts, "pictures": pictures}


def _of(ledger: Ledger, key: str) -> Outbox | None:
    rows = ledger.outbox(keys=[key])
    return rows[0] if rows else None


def _file(ledger: Ledger, slack: Slack, chart: Chart, key: str) -> str:
    """The picture's file id, uploaded unless it was. One uploaded twice after a crash is seen by nobody."""
    row = ledger.put(key, "slack", "picture", None, None, {"name": chart.name})
    if row.state == "sent":
        return str(row.external_id)
    ledger.sending(key)
    file_id = slack.upload(chart)
    ledger.sent(key, file_id)
    return file_id


def _image(file_id: str, chart: Chart) -> dict[str, Any]:
    return {
        "type": "image",
        "slack_file": {"id": file_id},
        "alt_text": chart.alt[:2000],
        "title": {"type": "plain_text", "text": chart.title[:2000]},
    }


def _unless_unknown(ask: Callable[[], str]) -> str | None:
    try:
        return ask()
    except SlackApiError as error:
        if (code := _said(error)) in NOT_NOW or _unsure(error):
            raise SlackError(f"Slack: refused: {code}", code) from None
        return None
    except _NO_ANSWER as error:
        raise SlackError(f"Slack: no answer ({type(error).__name__})", "no_answer") from None


def _unsure(error: SlackApiError) -> bool:
    status = getattr(error.response, "status_code", 200)
    return status >= 500 or error.response.get("error") in _UNSURE


def _said(error: SlackApiError) -> str:
    """Slack's error code; an answer that was no JSON is only named so."""
    code = str(error.response.get("error") or "")
    return code if code.replace("_", "").isalnum() and len(code) < 80 else "unreadable answer"
