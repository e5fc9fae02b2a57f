"""The Slack Web API: messages, conversations, users and files, with its limit of one message a second and channel."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final
from urllib.parse import urlencode

from onetouch.sandbox.blocks import MAX_CHARACTERS, check_blocks, count_characters, read_blocks
from onetouch.sandbox.store import Store

TOKEN: Final = "xoxb-sandbox"  # noqa: S105 - the stand-in's own, loopback only
BOT_USER: Final = "U0ONETOUCH"
TEAM: Final = "T0SANDBOX"
_MAX_TEXT: Final = 40_000
_MAX_UPDATED_TEXT: Final = 4_000
_MAX_METADATA: Final = 16_384

_SCOPES: Final = {
    "chat.postMessage": "chat:write",
    "chat.update": "chat:write",
    "chat.delete": "chat:write",
    "conversations.history": "channels:history",
    "conversations.replies": "channels:history",
    "conversations.open": "im:write",
    "conversations.info": "channels:read",
    "conversations.list": "channels:read",
    "users.lookupByEmail": "users:read.email",
    "users.info": "users:read",
    "users.list": "users:read",
    "files.getUploadURLExternal": "files:write",
    "files.completeUploadExternal": "files:write",
    "files.info": "files:read",
    "files.list": "files:read",
}
"""Method → the scope it needs; to read a direct message, im:history is needed instead."""

SCOPES: Final = frozenset(_SCOPES.values()) | {"im:history"}


class SlackError(Exception):
    """A refused call: ok is false, the HTTP status is 200."""

    def __init__(self, error: str, messages: list[str] | None = None, **more: Any) -> None:
        super().__init__(error)
        self.body: dict[str, Any] = {"ok": False, "error": error, **more}
        if messages:
            self.body["errors"] = messages
            self.body["response_metadata"] = {"messages": [f"[ERROR] {m}" for m in messages]}


class RateLimited(Exception):
    """Too many messages: HTTP 429, to be sent again after this many seconds."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"retry after {seconds} s")
        self.seconds = seconds


@dataclass
class _Bucket:
    """Messages a channel still accepts at once; fills at a constant rate by the real clock."""

    level: float
    at: float


class Slack:
    """The Slack API on the data of a store; its users are the org's users."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.db = store.db
        self.buckets: dict[str, _Bucket] = {}
        self.methods: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "api.test": lambda given: {"args": {k: v for k, v in given.items() if k != "token"}},
            "auth.test": self._auth_test,
            "chat.postMessage": self._post,
            "chat.update": self._update,
            "chat.delete": self._delete,
            "chat.getPermalink": self._permalink,
            "conversations.history": self._history,
            "conversations.replies": self._replies,
            "conversations.open": self._open,
            "conversations.info": self._info,
            "conversations.list": self._list_channels,
            "users.lookupByEmail": self._lookup,
            "users.info": self._user_info,
            "users.list": self._list_users,
            "files.getUploadURLExternal": self._upload_url,
            "files.completeUploadExternal": self._complete,
            "files.info": self._file_info,
            "files.list": self._list_files,
        }

    def request(
        self, method: str, given: dict[str, Any], authorization: str, base_url: str
    ) -> tuple[int, Any, dict[str, str]]:
        """One call of /api/{method}: status, JSON body, headers. Errors are ok=false at HTTP 200, except 429."""
        token = authorization.partition(" ")[2] or str(given.get("token", ""))
        try:
            if method not in self.methods:
                raise SlackError("unknown_method", req_method=method)
            if method != "api.test":
                if not token:
                    raise SlackError("not_authed")
                if token != TOKEN:
                    raise SlackError("invalid_auth")
                self._check_scope(method, str(given.get("channel") or ""))
            with self.store.transaction():
                body = self.methods[method]({**given, "base_url": base_url})
            return 200, {"ok": True, **body}, {}
        except SlackError as error:
            return 200, error.body, {}
        except RateLimited as limited:
            return 429, {"ok": False, "error": "ratelimited"}, {"Retry-After": str(limited.seconds)}

    def _check_scope(self, method: str, channel: str) -> None:
        granted, needed = self.store.setting("slack_scopes"), _SCOPES.get(method)
        if needed == "channels:history" and channel.startswith("D"):
            needed = "im:history"
        if granted is not None and needed and needed not in granted:
            raise SlackError("missing_scope", needed=needed, provided=",".join(granted))

    # -- who and where

    def _auth_test(self, given: dict[str, Any]) -> dict[str, Any]:
        return {
            "url": f"{given['base_url']}/",
            "team": "Sandbox",
            "user": "onetouch",
            "team_id": TEAM,
            "user_id": BOT_USER,
            "bot_id": "B0ONETOUCH",
        }

    def users(self) -> dict[str, Mapping[str, Any]]:
        """Slack users by id: the org's active users."""
        rows = self.db.execute("SELECT Name, Email, TimeZoneSidKey FROM User WHERE IsActive = 1 AND Email IS NOT NULL")
        return {user_id(row["Email"]): {k: row[k] for k in row.keys()} for row in rows}  # noqa: SIM118

    @staticmethod
    def _user(user: str, row: Mapping[str, Any]) -> dict[str, Any]:
        name = str(row["Email"]).partition("@")[0]
        return {
            "id": user,
            "team_id": TEAM,
            "name": name,
            "deleted": False,
            "real_name": row["Name"],
            "tz": row["TimeZoneSidKey"],
            "is_bot": False,
            "profile": {"real_name": row["Name"], "display_name": name, "email": row["Email"]},
        }

    def _lookup(self, given: dict[str, Any]) -> dict[str, Any]:
        email = self._need(given, "email").strip().lower()
        for user, row in self.users().items():
            if str(row["Email"]).lower() == email:
                return {"user": self._user(user, row)}
        raise SlackError("users_not_found")

    def _user_info(self, given: dict[str, Any]) -> dict[str, Any]:
        user = self._need(given, "user")
        if user not in (known := self.users()):
            raise SlackError("user_not_found")
        return {"user": self._user(user, known[user])}

    def _list_users(self, given: dict[str, Any]) -> dict[str, Any]:
        members = [self._user(user, row) for user, row in sorted(self.users().items())]
        page, cursor = self._page(members, given, 100, 1000)
        return {"members": page, "response_metadata": {"next_cursor": cursor}}

    @staticmethod
    def _need(given: dict[str, Any], name: str) -> str:
        value = given.get(name)
        if value in (None, "") or not isinstance(value, str | int | float):
            message = f"missing required field: {name} [json-pointer:/{name}]"
            raise SlackError("invalid_arguments", [message])
        return str(value)

    def _channel(self, given: dict[str, Any], *, write: bool = False) -> str:
        """The conversation's id. A channel's name is refused; to `write`, a user's id opens the direct message."""
        channel = str(given.get("channel") or "")
        if write and channel in self.users():
            return self._direct(channel)
        if write and channel in self.store.setting("slack_archived"):
            raise SlackError("is_archived")
        row = self.db.execute("SELECT member FROM channel WHERE id = ?", (channel,)).fetchone()
        if row is None:
            raise SlackError("channel_not_found")
        if not row["member"]:
            raise SlackError("not_in_channel")
        return channel

    def _direct(self, user: str) -> str:
        channel = f"D{user[1:]}"
        name = self.users()[user]["Name"]
        self.db.execute("INSERT OR IGNORE INTO channel VALUES (?, ?, 'direct', 1)", (channel, name))
        return channel

    def _open(self, given: dict[str, Any]) -> dict[str, Any]:
        users = given.get("users")
        wanted = users.split(",") if isinstance(users, str) else users
        if not isinstance(wanted, list) or not wanted:
            raise SlackError("users_list_not_supplied")
        if len(wanted) > 1:
            raise SlackError("too_many_users" if len(wanted) > 8 else "group_messages_not_offered")
        if wanted[0].strip() not in self.users():
            raise SlackError("user_not_found")
        return {"channel": {"id": self._direct(wanted[0].strip()), "is_im": True}}

    def _info(self, given: dict[str, Any]) -> dict[str, Any]:
        row = self.db.execute("SELECT * FROM channel WHERE id = ?", (str(given.get("channel")),)).fetchone()
        if row is None:
            raise SlackError("channel_not_found")
        return {"channel": self._shown_channel(row)}

    def _list_channels(self, given: dict[str, Any]) -> dict[str, Any]:
        rows = self.db.execute("SELECT * FROM channel WHERE kind = 'channel' ORDER BY id").fetchall()
        page, cursor = self._page([self._shown_channel(row) for row in rows], given, 100, 1000)
        return {"channels": page, "response_metadata": {"next_cursor": cursor}}

    def _shown_channel(self, row: Any) -> dict[str, Any]:
        archived = self.store.setting("slack_archived")
        direct = row["kind"] == "direct"
        return {"id": row["id"], "name": row["name"], "is_im": direct, "is_channel": not direct,
                "is_member": bool(row["member"]), "is_archived": row["id"] in archived}  # fmt: skip

    # -- messages

    def _content(self, given: dict[str, Any]) -> dict[str, Any]:
        """Text, blocks and metadata of a message, checked by Slack's rules."""
        text = given.get("text")
        if text is not None and not isinstance(text, str):
            raise SlackError("invalid_arguments", ["must be a string [json-pointer:/text]"])
        blocks = given.get("blocks")
        if blocks not in (None, "", []):
            blocks = read_blocks(blocks)
            if blocks is None:
                raise SlackError("invalid_blocks_format")
            if problems := check_blocks(blocks, self.usable_file):
                raise SlackError("invalid_blocks", problems)
            if count_characters(blocks) > MAX_CHARACTERS:
                raise SlackError("msg_blocks_too_long")
        else:
            blocks = None
        if not text and not blocks and not given.get("attachments"):
            raise SlackError("no_text")
        if text and len(text) > _MAX_TEXT:
            raise SlackError("msg_too_long")
        return {
            "text": text or "",
            "blocks": json.dumps(blocks) if blocks else None,
            "metadata": self._metadata(given.get("metadata")),
        }

    @staticmethod
    def _metadata(value: Any) -> str | None:
        if value in (None, ""):
            return None
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError as error:
                raise SlackError("invalid_metadata_format") from error
        if not isinstance(value, dict) or value.keys() - {"event_type", "event_payload", "entities"}:
            raise SlackError("invalid_metadata_format")
        kind, payload = value.get("event_type"), value.get("event_payload")
        if not isinstance(kind, str) or not kind or len(kind) > 255 or not isinstance(payload, dict):
            raise SlackError("invalid_metadata_schema")
        if len(json.dumps(value)) > _MAX_METADATA:
            raise SlackError("metadata_too_large")
        return json.dumps(value)

    def _take(self, channel: str) -> None:
        """Deducts one message from the channel's allowance. Raises RateLimited."""
        rate, burst = float(self.store.setting("slack_per_second")), float(self.store.setting("slack_burst"))
        now = time.monotonic()
        bucket = self.buckets.setdefault(channel, _Bucket(burst, now))
        bucket.level = min(burst, bucket.level + (now - bucket.at) * rate)
        bucket.at = now
        if bucket.level < 1:
            raise RateLimited(max(1, round((1 - bucket.level) / rate)))
        bucket.level -= 1

    def _ts(self, channel: str) -> str:
        """A new message's id in its channel: its moment, unique there."""
        now = self.store.now()
        wanted = f"{int(now.timestamp())}.{now.microsecond:06d}"
        # While the clock stands still, messages are a microsecond apart.
        last = self.db.execute(
            "SELECT max(ts) AS ts FROM message WHERE channel = ? AND ts >= ? AND ts < ?",
            (channel, wanted, f"{int(now.timestamp()) + 1}"),
        ).fetchone()["ts"]
        return f"{Decimal(last) + Decimal('0.000001'):.6f}" if last else wanted

    def _post(self, given: dict[str, Any]) -> dict[str, Any]:
        channel = self._channel(given, write=True)
        content = self._content(given)
        thread = given.get("thread_ts")
        if thread:
            thread = self._root(channel, str(thread))
        self._take(channel)
        ts = self._ts(channel)
        self._store(channel, ts, thread, content, None)
        return {"channel": channel, "ts": ts, "message": self._message(channel, ts, metadata=False)}

    def _root(self, channel: str, ts: str) -> str:
        row = self.db.execute(
            "SELECT coalesce(thread_ts, ts) AS root FROM message WHERE channel = ? AND ts = ?", (channel, ts)
        ).fetchone()
        if row is None:
            raise SlackError("thread_not_found")
        return str(row["root"])

    def _store(self, channel: str, ts: str, thread: str | None, content: dict[str, Any], files: str | None) -> None:
        self.db.execute(
            "INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL)",
            (channel, ts, thread, BOT_USER, content["text"], content["blocks"], content["metadata"], files),
        )

    # -- buttons

    def interaction(self, press: Mapping[str, Any], base_url: str) -> dict[str, Any]:
        """The payload that Slack sends when somebody presses a button: `block_actions`, in Slack's shape.

        `press`: channel, ts, action_id, user, and optionally trigger_id. Raises SlackError for a message, button or
        person that does not exist.
        """
        channel, ts, user = str(press.get("channel")), str(press.get("ts")), str(press.get("user"))
        row = self._row(channel, ts)
        if row is None:
            raise SlackError("message_not_found")
        blocks = json.loads(row["blocks"]) if row["blocks"] else []
        elements = [
            e | {"block_id": b.get("block_id", f"b{i}")} for i, b in enumerate(blocks) for e in b.get("elements", [])
        ]
        button = next((e for e in elements if e.get("action_id") == press.get("action_id")), None)
        if button is None:
            raise SlackError("no_such_button")
        if user not in self.users():
            raise SlackError("user_not_found")
        name = str(self.users()[user]["Email"]).partition("@")[0]
        moment = self.store.now().timestamp()
        return {
            "type": "block_actions",
            "user": {"id": user, "username": name, "name": name, "team_id": TEAM},
            "api_app_id": "A0ONETOUCH",
            "token": "unused-verification-token",
            "container": {
                "type": "message",
                "message_ts": ts,
                "channel_id": channel,
                "is_ephemeral": False,
            },
            "trigger_id": press.get("trigger_id")
            or f"{secrets.randbelow(10**13)}.{secrets.randbelow(10**10)}.{secrets.token_hex(16)}",
            "team": {"id": TEAM, "domain": "sandbox"},
            "enterprise": None,
            "is_enterprise_install": False,
            "channel": {"id": channel, "name": "directmessage" if channel.startswith("D") else "alerts"},
            "message": self._message(channel, ts, metadata=False),
            "state": {"values": {}},
            "response_url": f"{base_url}/slack/actions/{channel}/{ts}/{user}",
            "actions": [
                {k: button[k] for k in ("action_id", "block_id", "text", "value", "style", "type") if k in button}
                | {"action_ts": f"{moment:.6f}"}
            ],
        }

    def told(self, channel: str, ts: str, user: str, given: Mapping[str, Any]) -> None:
        """Keeps what an app has said to the person who pressed a button; nobody else sees it."""
        if given.get("response_type", "ephemeral") != "ephemeral" or given.get("replace_original"):
            raise SlackError("only_ephemeral_answers_are_offered")
        if not isinstance(given.get("text"), str) or not given["text"]:
            raise SlackError("no_text")
        new = {"channel": channel, "ts": ts, "user": user, "text": given["text"]}
        self.store.set("slack_told", [*self.store.setting("slack_told"), new])

    def _row(self, channel: str, ts: str) -> Any:
        return self.db.execute("SELECT * FROM message WHERE channel = ? AND ts = ?", (channel, ts)).fetchone()

    def _update(self, given: dict[str, Any]) -> dict[str, Any]:
        channel, ts = self._channel(given), self._need(given, "ts")
        row = self._row(channel, ts)
        if row is None:
            raise SlackError("message_not_found")
        if row["sender"] != BOT_USER:
            raise SlackError("cant_update_message")
        if channel in self.store.setting("slack_archived"):
            raise SlackError("is_inactive")
        if len(str(given.get("text") or "")) > _MAX_UPDATED_TEXT:
            raise SlackError("msg_too_long")
        content = self._content({"text": row["text"], **{k: v for k, v in given.items() if v is not None}})
        if "blocks" not in given and "text" not in given:
            content["blocks"] = row["blocks"]
        self.db.execute(
            "UPDATE message SET text = ?, blocks = ?, metadata = coalesce(?, metadata), edited = ?"
            " WHERE channel = ? AND ts = ?",
            (
                content["text"],
                content["blocks"],
                content["metadata"],
                f"{self.store.now().timestamp():.6f}",
                channel,
                ts,
            ),
        )
        message = self._message(channel, ts, metadata=False)
        return {"channel": channel, "ts": ts, "text": content["text"], "message": message}

    def _delete(self, given: dict[str, Any]) -> dict[str, Any]:
        channel, ts = self._channel(given), self._need(given, "ts")
        if self._row(channel, ts) is None:
            raise SlackError("message_not_found")
        self.db.execute("DELETE FROM message WHERE channel = ? AND ts = ?", (channel, ts))
        return {"channel": channel, "ts": ts}

    def _permalink(self, given: dict[str, Any]) -> dict[str, Any]:
        channel, ts = self._channel(given), self._need(given, "message_ts")
        if self._row(channel, ts) is None:
            raise SlackError("message_not_found")
        return {"channel": channel, "permalink": f"{given['base_url']}/slack?channel={channel}#m{ts}"}

    def _message(self, channel: str, ts: str, *, metadata: bool) -> dict[str, Any]:
        row = self._row(channel, ts)
        message: dict[str, Any] = {
            "type": "message",
            "user": row["sender"],
            "bot_id": "B0ONETOUCH",
            "team": TEAM,
            "text": row["text"],
            "ts": ts,
        }
        if row["blocks"]:
            message["blocks"] = json.loads(row["blocks"])
        if row["metadata"] and metadata:
            message["metadata"] = json.loads(row["metadata"])
        if row["files"]:
            message["files"] = [self._file(self._file_row(i), "") for i in json.loads(row["files"])]
        if row["edited"]:
            message["edited"] = {"user": row["sender"], "ts": row["edited"]}
        replies = self.db.execute(
            "SELECT count(*) AS n, max(ts) AS last FROM message WHERE channel = ? AND thread_ts = ?", (channel, ts)
        ).fetchone()
        if row["thread_ts"]:
            message["thread_ts"] = row["thread_ts"]
        elif replies["n"]:
            message |= {"thread_ts": ts, "reply_count": replies["n"], "latest_reply": replies["last"]}
        return message

    def _history(self, given: dict[str, Any]) -> dict[str, Any]:
        channel = self._channel(given)
        rows = self._between(channel, given, "thread_ts IS NULL", "DESC")
        return self._messages(channel, rows, given)

    def _replies(self, given: dict[str, Any]) -> dict[str, Any]:
        channel = self._channel(given)
        root = self._root(channel, self._need(given, "ts"))
        rows = self._between(channel, given, "(ts = :root OR thread_ts = :root)", "ASC", root=root)
        return self._messages(channel, rows, given)

    def _between(self, channel: str, given: dict[str, Any], which: str, order: str, **more: str) -> list[str]:
        equal = "=" if _truth(given.get("inclusive")) else ""
        where, values = [which, "channel = :channel"], {"channel": channel, **more}
        for name, sign in (("oldest", ">"), ("latest", "<")):
            if given.get(name) not in (None, "", "now", 0, "0"):
                try:
                    values[name] = f"{Decimal(str(given[name])):.6f}"
                except InvalidOperation as error:
                    raise SlackError(f"invalid_ts_{name}") from error
                where.append(f"ts {sign}{equal} :{name}")
        rows = self.db.execute(f"SELECT ts FROM message WHERE {' AND '.join(where)} ORDER BY ts {order}", values)
        return [row["ts"] for row in rows]

    def _messages(self, channel: str, found: list[str], given: dict[str, Any]) -> dict[str, Any]:
        page, cursor = self._page(found, given, 100, 999)
        with_metadata = _truth(given.get("include_all_metadata"))
        messages = [self._message(channel, ts, metadata=with_metadata) for ts in page]
        return {"messages": messages, "has_more": bool(cursor), "response_metadata": {"next_cursor": cursor}}

    @staticmethod
    def _page(found: list[Any], given: dict[str, Any], default: int, most: int) -> tuple[list[Any], str]:
        try:
            limit = int(given.get("limit") or default)
        except (TypeError, ValueError) as error:
            raise SlackError("invalid_limit") from error
        if not 1 <= limit <= most:
            raise SlackError("invalid_limit")
        start = 0
        if given.get("cursor"):
            try:
                start = int(base64.b64decode(str(given["cursor"]), validate=True).decode().removeprefix("next:"))
            except (binascii.Error, ValueError) as error:
                raise SlackError("invalid_cursor") from error
        end = start + limit
        return found[start:end], base64.b64encode(f"next:{end}".encode()).decode() if end < len(found) else ""

    # -- files

    def _upload_url(self, given: dict[str, Any]) -> dict[str, Any]:
        name, length = self._need(given, "filename"), self._need(given, "length")
        if not length.isdigit() or int(length) == 0:
            raise SlackError("invalid_arguments", ["must be a positive number [json-pointer:/length]"])
        file = f"F{secrets.token_hex(5).upper()}"
        self.db.execute(
            "INSERT INTO file (id, name, title, alt_text, length, created) VALUES (?, ?, ?, ?, ?, ?)",
            (file, name, name, given.get("alt_txt"), int(length), str(int(self.store.now().timestamp()))),
        )
        return {"file_id": file, "upload_url": f"{given['base_url']}/upload/v1/{file}"}

    def upload(self, file: str, content: bytes) -> tuple[int, str]:
        """POST of a file's bytes to its upload address: status and text."""
        row = self.db.execute("SELECT length, completed FROM file WHERE id = ?", (file,)).fetchone()
        if row is None or row["completed"]:
            return 404, "Not Found"
        if len(content) != row["length"]:
            return 400, "length mismatch"
        self.db.execute("UPDATE file SET content = ? WHERE id = ?", (content, file))
        return 200, f"OK - {len(content)}"

    def _complete(self, given: dict[str, Any]) -> dict[str, Any]:
        files = given.get("files")
        if isinstance(files, str):
            try:
                files = json.loads(files)
            except ValueError as error:
                raise SlackError("invalid_arguments", ["must be a list [json-pointer:/files]"]) from error
        if not isinstance(files, list) or not files or not all(isinstance(f, dict) and f.get("id") for f in files):
            raise SlackError("invalid_arguments", ["must be a list of files with id [json-pointer:/files]"])
        channel = None
        if wanted := given.get("channel_id") or given.get("channels"):
            channel = self._channel({"channel": str(wanted)}, write=True)
        thread = given.get("thread_ts")
        if thread and channel:
            thread = self._root(channel, str(thread))
        for file in files:
            row = self._file_row(file["id"])
            if row["content"] is None or row["completed"]:
                raise SlackError("file_not_found")
            self.db.execute(
                "UPDATE file SET completed = 1, title = ?, mimetype = ? WHERE id = ?",
                (file.get("title") or row["name"], _mimetype(row["content"]), file["id"]),
            )
        if channel:
            self._take(channel)
            content = {"text": str(given.get("initial_comment") or ""), "blocks": None, "metadata": None}
            self._store(channel, self._ts(channel), thread, content, json.dumps([f["id"] for f in files]))
        # The file is processed after the answer, so it has no mimetype yet.
        shown = [
            self._file(self._file_row(f["id"]), given["base_url"]) | {"mimetype": "", "filetype": ""} for f in files
        ]
        return {"files": shown}

    def _file_row(self, file: str) -> Any:
        row = self.db.execute("SELECT * FROM file WHERE id = ?", (file,)).fetchone()
        if row is None:
            raise SlackError("file_not_found")
        return row

    def _processed(self, row: Any) -> bool:
        return bool(row["completed"]) and row["looks"] >= int(self.store.setting("file_looks"))

    def _file(self, row: Any, base_url: str) -> dict[str, Any]:
        kind = (row["mimetype"] or "") if self._processed(row) else ""
        address = f"{base_url}/slack/files/{row['id']}"
        return {
            "id": row["id"],
            "created": int(row["created"]),
            "name": row["name"],
            "title": row["title"],
            "mimetype": kind,
            "filetype": kind.rpartition("/")[2],
            "size": row["length"],
            "alt_txt": row["alt_text"],
            "url_private": address,
            "permalink": address,
        }

    def _file_info(self, given: dict[str, Any]) -> dict[str, Any]:
        row = self._file_row(self._need(given, "file"))
        if not row["completed"]:
            raise SlackError("file_not_found")
        shown = self._file(row, given["base_url"])
        self.db.execute("UPDATE file SET looks = looks + 1 WHERE id = ?", (row["id"],))
        return {"file": shown, "comments": []}

    def _list_files(self, given: dict[str, Any]) -> dict[str, Any]:
        rows = self.db.execute("SELECT * FROM file WHERE completed = 1 ORDER BY created DESC, id").fetchall()
        files = [self._file(row, given["base_url"]) for row in rows]
        return {"files": files, "paging": {"count": len(files), "total": len(files), "page": 1, "pages": 1}}

    def usable_file(self, given: dict[str, Any]) -> bool:
        """Whether a slack_file object names a processed picture."""
        file = str(given.get("id") or str(given.get("url", "")).rpartition("/")[2])
        row = self.db.execute("SELECT * FROM file WHERE id = ?", (file,)).fetchone()
        return row is not None and self._processed(row) and str(row["mimetype"]).startswith("image/")


def signed(payload: Mapping[str, Any], secret: str, at: datetime) -> tuple[bytes, dict[str, str]]:
    """Body and headers of the request with which Slack sends a payload: a form, signed with the app's secret."""
    body = urlencode({"payload": json.dumps(payload)}).encode()
    timestamp = str(int(at.timestamp()))
    digest = hmac.new(secret.encode(), b"v0:" + timestamp.encode() + b":" + body, hashlib.sha256).hexdigest()
    return body, {
        "Content-Type": "application/x-www-form-urlencoded",
        "User-Agent": "Slackbot 1.0 (+https://api.slack.com/robots)",
        "X-Slack-Request-Timestamp": timestamp,
        "X-Slack-Signature": f"v0={digest}",
    }


def user_id(email: str) -> str:
    """The id of the Slack user with an e-mail address."""
    digest = hashlib.sha256(email.strip().lower().encode()).digest()
    return f"U{base64.b32encode(digest).decode()[:10]}"


def when(ts: str) -> datetime:
    """The moment of a message, from its ts."""
    return datetime.fromtimestamp(float(ts), UTC)


def _truth(value: Any) -> bool:
    return str(value).lower() in ("1", "true")


def _mimetype(content: bytes) -> str:
    for mark, kind in ((b"\x89PNG\r\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif")):
        if content.startswith(mark):
            return kind
    return "application/octet-stream"
