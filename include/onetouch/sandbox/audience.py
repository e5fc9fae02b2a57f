"""The receiver of an audience, as a marketing tool would run one: it believes no signature, time or body unchecked.

It keeps who is in the audience, and every request with the number of times it came, so that a test sees what was sent
twice and what was told twice.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from onetouch.sandbox.api import Answer
from onetouch.sandbox.store import Store

PATH: Final = "/hooks/audience"

_WINDOW: Final = 300
"""Seconds by which a timestamp may differ from the receiver's clock."""

_LONGEST_KEY, _MOST_ACCOUNTS, _MOST_BYTES = 255, 1_000, 8_000_000

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS audience_request (
    key TEXT PRIMARY KEY, digest TEXT, run TEXT, kind TEXT, part INTEGER, accounts INTEGER, times INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS audience_member (account_id TEXT PRIMARY KEY, entry TEXT, as_of TEXT, run TEXT);
CREATE TABLE IF NOT EXISTS audience_odd (what TEXT);
"""

_FIELDS: Final = {
    "account_id": str, "crm_account_id": str, "name": str, "domain": str, "audience": str, "situation": str,
    "offer": str, "facts": dict, "people": list, "change": str,
}  # fmt: skip
_CHANGES: Final = {"joined", "changed", "unchanged", "left"}
_KINDS: Final = {"changes", "everybody"}


class _Refused(Exception):
    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


class Receiver:
    """The receiver on the data of a store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        store.db.executescript(_TABLES)

    def request(self, method: str, headers: Mapping[str, str], raw: bytes) -> Answer:
        """One request; every refusal says why."""
        try:
            if method != "POST":
                raise _Refused(405, "POST is the only method")
            return Answer(200, self._taken(headers, raw))
        except _Refused as refused:
            return Answer(refused.status, {"error": refused.why})

    def _taken(self, headers: Mapping[str, str], raw: bytes) -> dict[str, Any]:
        if len(raw) > _MOST_BYTES:
            raise _Refused(413, f"more than {_MOST_BYTES} bytes")
        self._check_signature(headers, raw)
        key = headers.get("idempotency-key", "")
        if not 0 < len(key) <= _LONGEST_KEY or not key.isascii():
            raise _Refused(400, f"Idempotency-Key has 1 to {_LONGEST_KEY} ASCII characters")
        digest = hashlib.sha256(raw).hexdigest()
        known = self.store.db.execute("SELECT digest FROM audience_request WHERE key = ?", (key,)).fetchone()
        if known:
            if known["digest"] != digest:
                raise _Refused(422, "this Idempotency-Key came with another body")
            self.store.db.execute("UPDATE audience_request SET times = times + 1 WHERE key = ?", (key,))
            return {"taken": True}
        body = _checked(headers, raw)
        self.store.db.execute(
            "INSERT INTO audience_request VALUES (?, ?, ?, ?, ?, ?, 1)",
            (key, digest, body["run"], body["kind"], body["part"], len(body["accounts"])),
        )
        for entry in body["accounts"]:
            self._apply(entry, body)
        if body["kind"] == "everybody":
            self._without_the_others(body)
        return {"taken": True}

    def _check_signature(self, headers: Mapping[str, str], raw: bytes) -> None:
        timestamp, signed = headers.get("x-onetouch-timestamp", ""), headers.get("x-onetouch-signature", "")
        if not timestamp.isascii() or not timestamp.isdigit() or len(timestamp) > 12:
            raise _Refused(401, "X-Onetouch-Timestamp is no number of seconds")
        secret = str(self.store.setting("audience_secret")).encode()
        right = hmac.new(secret, timestamp.encode() + b"." + raw, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(signed.encode(), f"v1={right}".encode()):
            raise _Refused(401, "the signature is wrong")
        if abs(self.store.now().timestamp() - int(timestamp)) > _WINDOW:
            raise _Refused(401, f"the timestamp is more than {_WINDOW} seconds off")

    def _apply(self, entry: dict[str, Any], body: dict[str, Any]) -> None:
        """Applies an entry, unless something later is known of its account."""
        account_id, change = entry["account_id"], entry["change"]
        query = "SELECT * FROM audience_member WHERE account_id = ?"
        known = self.store.db.execute(query, (account_id,)).fetchone()
        if known and datetime.fromisoformat(known["as_of"]) > datetime.fromisoformat(body["as_of"]):
            return
        present = bool(known and known["entry"])
        if (change == "joined") == present or (known and known["as_of"] == body["as_of"]):
            self.store.db.execute("INSERT INTO audience_odd VALUES (?)", (f"{change}: {account_id} in {body['run']}",))
        told = "" if change == "left" else json.dumps({k: v for k, v in entry.items() if k != "change"}, sort_keys=True)
        self.store.db.execute(
            "INSERT OR REPLACE INTO audience_member VALUES (?, ?, ?, ?)", (account_id, told, body["as_of"], body["run"])
        )

    def _without_the_others(self, body: dict[str, Any]) -> None:
        """Once all parts have come, whoever none of them names has left."""
        parts = "SELECT count(*) FROM audience_request WHERE run = ? AND kind = 'everybody'"
        if self.store.db.execute(parts, (body["run"],)).fetchone()[0] == body["parts"]:
            self.store.db.execute(
                "UPDATE audience_member SET entry = '' WHERE run != ? AND as_of < ?", (body["run"], body["as_of"])
            )

    def state(self) -> dict[str, Any]:
        """{"members": {account_id: entry}, "requests": [{key, run, kind, part, accounts, times}], "odd": what came that
        contradicts what had come}."""
        members = self.store.db.execute(
            "SELECT * FROM audience_member WHERE entry != '' ORDER BY account_id"
        ).fetchall()
        requests = self.store.db.execute(
            "SELECT key, run, kind, part, accounts, times FROM audience_request ORDER BY rowid"
        ).fetchall()
        return {
            "members": {row["account_id"]: json.loads(row["entry"]) for row in members},
            "requests": [dict(row) for row in requests],
            "odd": [row["what"] for row in self.store.db.execute("SELECT what FROM audience_odd").fetchall()],
        }


def _checked(headers: Mapping[str, str], raw: bytes) -> dict[str, Any]:
    """The body, when it is one. Raises _Refused."""
    if headers.get("content-type", "").partition(";")[0] != "application/json":
        raise _Refused(415, "the body is application/json")
    try:
        body = json.loads(raw)
    except ValueError:
        raise _Refused(400, "the body is no JSON") from None
    if not isinstance(body, dict) or set(body) != {"format", "kind", "run", "as_of", "part", "parts", "accounts"}:
        raise _Refused(400, "format, kind, run, as_of, part, parts and accounts are expected, and nothing else")
    if body["format"] != 1 or body["kind"] not in _KINDS or not isinstance(body["run"], str):
        raise _Refused(400, f"format is 1, kind one of {', '.join(sorted(_KINDS))}, run a text")
    if not all(isinstance(body[name], int) for name in ("part", "parts")) or not 1 <= body["part"] <= body["parts"]:
        raise _Refused(400, "part is a number from 1 to parts")
    try:
        if datetime.fromisoformat(body["as_of"]).tzinfo is None:
            raise ValueError
    except (TypeError, ValueError):
        raise _Refused(400, "as_of is a moment with its offset") from None
    if not isinstance(body["accounts"], list) or len(body["accounts"]) > _MOST_ACCOUNTS:
        raise _Refused(400, f"accounts is a list of up to {_MOST_ACCOUNTS}")
    for entry in body["accounts"]:
        _check_entry(entry)
    return body


def _check_entry(entry: Any) -> None:
    if not isinstance(entry, dict) or not {"account_id", "change"} <= set(entry) <= set(_FIELDS):
        raise _Refused(400, f"an account has some of {', '.join(_FIELDS)}, and nothing else")
    for name, value in entry.items():
        if not isinstance(value, _FIELDS[name]):
            raise _Refused(400, f"{name} is of another type")
    if entry["change"] not in _CHANGES:
        raise _Refused(400, f"change is one of {', '.join(sorted(_CHANGES))}")
    if entry["change"] == "left":
        if set(entry) != {"account_id", "change"}:
            raise _Refused(400, "of an account that left nothing more is told")
        return
    if not {"audience", "situation", "offer", "facts", "people"} <= set(entry):
        raise _Refused(400, "audience, situation, offer, facts and people are missing")
    for person in entry["people"]:
        if not isinstance(person, dict) or not {"email"} <= set(person) <= {"email", "name", "title"}:
            raise _Refused(400, "a person has email, name and title")
        if "@" not in str(person["email"]):
            raise _Refused(400, "a person's email is an address")


def routes(store: Store) -> list[Route]:
    """The receiver's address, and what it knows."""
    receiver = Receiver(store)

    async def hook(request: Request) -> Response:
        raw = await request.body()
        with store.transaction():
            answer = receiver.request(request.method, request.headers, raw)
        return JSONResponse(answer.body, answer.status)

    async def state(request: Request) -> Response:
        return JSONResponse(receiver.state())

    return [
        Route(PATH, hook, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
        Route("/_sandbox/audience", state, methods=["GET"]),
    ]
