"""Slack: one post for one thing to say, whatever crashes on the way."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol
from urllib.error import URLError

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.http_retry.builtin_handlers import RateLimitErrorRetryHandler

from onetouch.connections import Connection, ConnectionConfigError, require_tls
from onetouch.ledger import Ledger, Outbox
from onetouch.policy import Policy

_TIMEOUT = 30
"""Ours: seconds until a call counts as unanswered."""

_SETTLING = _TIMEOUT + 5
"""Ours: seconds after which a post that another process began must be visible, or was never made."""

_RATE_RETRIES = 5
"""Ours: how often a call waits for Retry-After."""

_LOOKS = 20
"""Ours: pages of 200 messages looked through for a post whose outcome is unknown."""

_FILE_POLLS, _FILE_WAIT = 30, 1.0
"""Ours: looks at a file, and seconds between them, until Slack has processed it."""

_BLOCKS, _TEXT = 50, 39_000
"""Blocks a message holds; characters of its text (40,000), with room to spare."""

_UNSURE = frozenset({"internal_error", "fatal_error", "request_timeout", "service_unavailable"})
"""Answers after which a message may or may not have been posted."""

_NO_ANSWER = (URLError, http.client.HTTPException, OSError)
"""How urllib says that no answer came."""


class SlackError(Exception):
    """Slack could not be used. The message holds Slack's error code, no token and no text of a message."""


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


class Slack:
    """One workspace. The token is the connection's password; the extra `base_url` leads elsewhere than slack.com.

    Raises ConnectionConfigError without a token, or for an address that is neither TLS nor loopback.
    """

    def __init__(self, connection: Connection, *, sleep: Callable[[float], None] = time.sleep) -> None:
        if not connection.password:
            raise ConnectionConfigError(f"{connection.conn_id}: password is empty; give the bot token (xoxb-…)")
        base_url = str(connection.extra.get("base_url") or WebClient.BASE_URL)
        require_tls(base_url)
        # In place of the default handlers: they send again after a dropped connection, and Slack would post twice.
        self.client = WebClient(
            token=connection.password,
            base_url=base_url,
            timeout=_TIMEOUT,
            retry_handlers=[RateLimitErrorRetryHandler(max_retry_count=_RATE_RETRIES)],
        )
        self._sleep = sleep
        self._mentions: dict[str, str | None] = {}

    def mention(self, email: str | None) -> str | None:
        """`<@U…>` of the person with that e-mail address; None when Slack knows none or may not tell."""
        if not email:
            return None
        if email not in self._mentions:
            try:
                self._mentions[email] = f"<@{self.client.users_lookupByEmail(email=email)['user']['id']}>"
            except SlackApiError:  # users_not_found, missing_scope: the alert is worth posting without
                self._mentions[email] = None
            except _NO_ANSWER as error:
                raise SlackError(f"Slack: no answer ({type(error).__name__})") from None
        return self._mentions[email]

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
    ) -> str:
        """Posts once for `key` and returns the message's ts, also when it was posted before.

        The key travels in the message's metadata. Before anything is posted whose outcome is unknown, the channel
        is looked through for it, twice, with a pause longer than any call lasts. Raises SlackError.
        """
        while True:
            row = ledger.put(key, "slack", kind, run_id, handoff_id, {"channel": channel})
            if row.state == "sent":
                return str(row.external_id)
            if row.state == "sending" and (ts := self._look_twice(channel, key, thread_ts)):
                return self._sent(ledger, key, ts)
            if ledger.claim(row) is not None:
                break
        try:
            answer = self.client.chat_postMessage(
                channel=channel,
                text=text[:_TEXT],
                blocks=blocks or None,
                thread_ts=thread_ts,
                metadata={"event_type": "onetouch", "event_payload": {"key": key}},
                unfurl_links=False,
                unfurl_media=False,
            )
        except SlackApiError as error:
            if _unsure(error):
                return self._after_unknown(ledger, channel, key, thread_ts, _said(error))
            ledger.failed(key, _said(error), retryable=True)
            raise SlackError(f"Slack: {kind} refused: {_said(error)}") from None
        except _NO_ANSWER as error:
            return self._after_unknown(ledger, channel, key, thread_ts, type(error).__name__)
        return self._sent(ledger, key, str(answer["ts"]))

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

    def _sent(self, ledger: Ledger, key: str, ts: str) -> str:
        ledger.sent(key, ts)
        return ts

    def _after_unknown(self, ledger: Ledger, channel: str, key: str, thread_ts: str | None, why: str) -> str:
        """The post may have arrived: found, it is sent; else it stays `sending`, for the next attempt to look."""
        ts = self._find(channel, key, thread_ts)
        if ts is None:
            raise SlackError(f"Slack: outcome of {key} unknown ({why}); the next attempt looks before it posts")
        return self._sent(ledger, key, ts)

    def _look_twice(self, channel: str, key: str, thread_ts: str | None) -> str | None:
        ts = self._find(channel, key, thread_ts)
        if ts is None:
            self._sleep(_SETTLING)  # another process may be posting it at this moment
            ts = self._find(channel, key, thread_ts)
        return ts

    def _find(self, channel: str, key: str, thread_ts: str | None) -> str | None:
        """The ts of the message with that key in its metadata."""
        for message in self._messages(channel, thread_ts):
            metadata = message.get("metadata") or {}
            if (metadata.get("event_payload") or {}).get("key") == key:
                return str(message["ts"])
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
                raise SlackError(f"Slack: the channel's history is refused: {_said(error)}") from None
            except _NO_ANSWER as error:
                raise SlackError(f"Slack: no answer ({type(error).__name__})") from None
            yield from page["messages"]
            cursor = (page.get("response_metadata") or {}).get("next_cursor")
            if not cursor:
                return


def post_report(
    ledger: Ledger, slack: Slack, policy: Policy, report: Report, key: str, *, held: str | None = None
) -> dict[str, Any]:
    """Posts a report once for `key` to the leadership channel: blocks and pictures, the text in its thread.

    With `held` (why nothing may be sent) nothing leaves. Returns {"posted", "channel", "ts", "pictures"}; raises
    SlackError.
    """
    channel = policy.slack.leadership_channel
    pictures = len(report.charts)
    if held:
        return {"posted": False, "channel": channel, "ts": None, "pictures": pictures}
    headline = report.text.strip().split("\n")[0]
    there = _of(ledger, key)
    if there is None or there.state != "sent":
        images = [_image(_file(ledger, slack, chart, f"{key}:{chart.name}"), chart) for chart in report.charts]
        blocks = [*report.blocks[: _BLOCKS - len(images)], *images]
        ts = slack.post(ledger, key=key, kind="report", channel=channel, text=headline, blocks=blocks)
    else:
        ts = str(there.external_id)
    slack.post(
        ledger,
        key=f"{key}:details",
        kind="report_details",
        channel=channel,
        text=report.text,
        blocks=[],
        thread_ts=ts,
    )
    return {"posted": True, "channel": channel, "ts": ts, "pictures": pictures}


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


def _unsure(error: SlackApiError) -> bool:
    status = getattr(error.response, "status_code", 200)
    return status >= 500 or error.response.get("error") in _UNSURE


def _said(error: SlackApiError) -> str:
    """Slack's error code; an answer that was no JSON is only named so."""
    code = str(error.response.get("error") or "")
    return code if code.replace("_", "").isalnum() and len(code) < 80 else "unreadable answer"
