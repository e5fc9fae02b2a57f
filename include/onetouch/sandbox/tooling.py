"""/_sandbox: sets time, data, limits and faults of the stand-in, and shows its content."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, TypeVar
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener
from urllib.request import Request as Outgoing

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from onetouch.sandbox import faults
from onetouch.sandbox.blocks import notified
from onetouch.sandbox.fields import SObject, full_id, is_guarded
from onetouch.sandbox.records import DmlError, Records
from onetouch.sandbox.sign_in import key_pair, set_certificate
from onetouch.sandbox.slack import SCOPES, Slack, SlackError, signed
from onetouch.sandbox.store import Store

_ADJUSTABLE: Final = {
    "api_daily", "slack_per_second", "slack_burst", "file_looks", "export_hours", "bulk_looks", "permissions",
    "hubspot_daily", "hubspot_ten_seconds", "hubspot_searches",
    "hubspot_search_lag", "person_accounts",
}  # fmt: skip

_T = TypeVar("_T")
_Handler = Callable[[Request], Awaitable[Response]]


class Refused(Exception):
    """A request that is not valid (HTTP 400); the message says what is wrong."""


class Tooling:
    """The operations of the tooling, over HTTP or in this process. Every method raises Refused when it is not valid."""

    def __init__(self, store: Store, slack: Slack) -> None:
        self.store, self.slack = store, slack
        self.records = Records(store)

    def clock(self, now: datetime | str | None) -> None:
        """Sets the time: an ISO moment with a zone, or None for the machine's clock."""
        if now is not None:
            try:
                moment = datetime.fromisoformat(str(now))
            except ValueError as error:
                raise Refused(f"now {now!r}: an ISO moment or null") from error
            if moment.tzinfo is None:
                raise Refused(f"now {now!r}: needs a zone, such as +00:00")
            now = moment.astimezone(UTC).isoformat()
        self.store.set("now", now)

    def load(self, document: Mapping[str, list[dict[str, Any]]]) -> dict[str, int]:
        """Stores records unchanged: name of the sObject → records; returns how many of each."""
        loaded: dict[str, int] = {}
        if unknown := document.keys() - {s.name for s in self.store.org.values()}:
            known = ", ".join(s.name for s in self.store.org.values())
            raise Refused(f"{', '.join(sorted(unknown))}: no such sObject; known are {known}")
        with self.store.transaction():
            # Parents before children, in whatever order the document has them.
            for sobject in self.store.org.values():
                rows = document.get(sobject.name, [])
                for values in rows:
                    try:
                        self.records.load(sobject, values)
                    except DmlError as error:
                        raise Refused(f"{sobject.name} {values.get('Id')}: {error.code}: {error.message}") from error
                if rows:
                    loaded[sobject.name] = len(rows)
        return loaded

    def merge(self, winner: str, losers: list[str], values: Mapping[str, Any] | None = None) -> None:
        """Merges accounts, contacts or leads as a person does; `values`: field values that the winner takes over."""
        winner, *others = [self._known(text) for text in (winner, *losers)]
        self._do(lambda: self.records.merge(self._type(winner), winner, others, values or {}))

    def convert(self, lead: str, account: str | None = None) -> dict[str, str]:
        """Converts a lead as a person does, into `account` or a new one; returns {account, contact}."""
        account_id = self._known(account) if account else None
        made = self._do(lambda: self.records.convert(self._known(lead), account_id))
        return dict(zip(("account", "contact"), made, strict=True))

    def undelete(self, *ids: str) -> None:
        """Restores records from the recycle bin."""
        for record_id in map(self._known, ids):
            self._do(partial(self.records.undelete, self._type(record_id), record_id))

    def purge(self) -> int:
        """Empties the recycle bin; returns how many records were in it."""
        with self.store.transaction():
            return self.records.purge()

    def _known(self, text: str) -> str:
        record_id = full_id(text)
        if not record_id:
            raise Refused(f"{text!r}: no record id")
        return record_id

    def _type(self, record_id: str) -> SObject:
        return next(s for s in self.store.org.values() if s.prefix == record_id[:3])

    def _do(self, action: Callable[[], _T]) -> _T:
        try:
            with self.store.transaction():
                return action()
        except DmlError as error:
            raise Refused(f"{error.code}: {error.message}") from error

    def fault(self, *specs: dict[str, Any]) -> None:
        """Plans faults; their keys are in faults.py."""
        try:
            with self.store.transaction():
                faults.plan(self.store, list(specs))
        except ValueError as error:
            raise Refused(str(error)) from error

    def clear_faults(self) -> None:
        """Removes every planned fault."""
        self.store.db.execute("DELETE FROM fault")

    def limits(self, **values: float) -> dict[str, Any]:
        """Sets limits and returns all of them."""
        for name, value in values.items():
            if name not in _ADJUSTABLE or isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
                raise Refused(f"{name} {value!r}: numbers ≥ 0 of {', '.join(sorted(_ADJUSTABLE))}")
            self.store.set(name, value)
        self.slack.buckets.clear()
        return {name: self.store.setting(name) for name in sorted(_ADJUSTABLE)}

    def hide(self, *fields: str) -> list[str]:
        """Hides optional fields (`Contact.DoNotCall`) from callers, as field-level security does, and no others."""
        for field in fields:
            if not is_guarded(*f"{field}.".split(".")[:2]):
                raise Refused(
                    f"hidden {field!r}: an optional standard field with its object, such as Contact.DoNotCall"
                )
        self.store.set("hidden", list(fields))
        return list(fields)

    def duplicates(self, rules: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Sets the org's duplicate rules, see `duplicates.check`."""
        for rule in rules:
            objects = [rule.get("object"), *(rule.get("match") or {})]
            if rule.get("action") not in ("block", "alert") or not rule.get("match"):
                raise Refused(f"rule {rule!r}: give object, match, and as action block or alert")
            if unknown := [name for name in objects if name not in ("Account", "Contact", "Lead")]:
                raise Refused(f"rule {rule!r}: {unknown[0]!r}: duplicate rules are of Account, Contact or Lead")
            for theirs, pairs in rule["match"].items():
                for own, field in pairs.items():
                    if not (self.store.org[rule["object"].lower()].find(own)):
                        raise Refused(f"rule {rule!r}: {rule['object']} has no field {own}")
                    if not self.store.org[theirs.lower()].find(field):
                        raise Refused(f"rule {rule!r}: {theirs} has no field {field}")
        self.store.set("duplicate_rules", [dict(rule) for rule in rules])
        return self.store.setting("duplicate_rules")  # type: ignore[no-any-return]

    def rules(self, **rules: Any) -> dict[str, Any]:
        """Gives the org rules of its own, in place of those it had (see customs.py); returns them."""
        try:
            self.store.customise(rules)
        except (ValueError, TypeError) as error:
            raise Refused(str(error)) from error
        return rules

    def slack_workspace(self, scopes: list[str] | None = None, archived: Sequence[str] = ()) -> dict[str, Any]:
        """Sets the scopes of Slack's bot (None: all) and which channels are archived; returns both."""
        if scopes is not None and not (isinstance(scopes, list) and set(scopes) <= SCOPES):
            raise Refused(f"scopes {scopes!r}: null, or a list of {', '.join(sorted(SCOPES))}")
        if isinstance(archived, str) or not all(isinstance(channel, str) for channel in archived):
            raise Refused(f"archived {archived!r}: a list of channel ids")
        self.store.set("slack_scopes", scopes)
        self.store.set("slack_archived", list(archived))
        return {"scopes": scopes, "archived": list(archived)}

    def expire_sessions(self) -> int:
        """Ends every session: its next call is answered 401."""
        return self.store.db.execute("DELETE FROM session").rowcount

    def certificate(self, public_key: str | None = None) -> dict[str, str]:
        """The key pair for JWT sign-in, created at the first call; with `public_key`, uploads that key instead."""
        if public_key is not None:
            try:
                set_certificate(self.store, public_key)
            except ValueError as error:
                raise Refused(f"public_key: PEM of an RSA public key: {error}") from error
        return key_pair(self.store)

    def empty(self) -> None:
        """Deletes everything."""
        self.store.empty()
        self.slack.buckets.clear()

    def state(self) -> dict[str, Any]:
        """The content of the org and the workspace."""
        return _state(self.store)

    def log(self) -> dict[str, Any]:
        """How often each address was called."""
        rows = self.store.db.execute(
            "SELECT api, method, path, status, sum(n) AS n FROM call GROUP BY 1, 2, 3, 4 ORDER BY 1, 3, 2, 4"
        ).fetchall()
        by_api: dict[str, int] = {}
        for row in rows:
            by_api[row["api"]] = by_api.get(row["api"], 0) + row["n"]
        return {"by_api": by_api, "calls": [{k: row[k] for k in row.keys()} for row in rows]}  # noqa: SIM118

    def clear_log(self) -> None:
        """Deletes the log of calls, also those counted for the day's limit."""
        self.store.db.execute("DELETE FROM call")


def routes(tooling: Tooling) -> list[Route]:
    """The routes of /_sandbox."""
    store = tooling.store

    async def clock(request: Request) -> Response:
        if request.method == "POST":
            tooling.clock((await _object(request)).get("now"))
        return JSONResponse({"now": store.now().isoformat(), "virtual": store.setting("now") is not None})

    async def load(request: Request) -> Response:
        return JSONResponse(tooling.load(await _object(request)))

    async def merge(request: Request) -> Response:
        given = await _object(request)
        tooling.merge(str(given.get("winner")), list(given.get("losers", [])), given.get("values"))
        return JSONResponse({})

    async def convert(request: Request) -> Response:
        given = await _object(request)
        return JSONResponse(tooling.convert(str(given.get("lead")), given.get("account")))

    async def undelete(request: Request) -> Response:
        tooling.undelete(*(await _object(request)).get("ids", []))
        return JSONResponse({})

    async def purge(request: Request) -> Response:
        return JSONResponse({"purged": tooling.purge()})

    async def planned(request: Request) -> Response:
        if request.method == "DELETE":
            tooling.clear_faults()
        elif request.method == "POST":
            given = await _body(request)
            tooling.fault(*(given if isinstance(given, list) else [given]))
        return JSONResponse(faults.planned(store))

    async def duplicates(request: Request) -> Response:
        return JSONResponse({"rules": tooling.duplicates(**await _object(request))})

    async def limits(request: Request) -> Response:
        return JSONResponse(tooling.limits(**(await _object(request) if request.method == "POST" else {})))

    async def hidden(request: Request) -> Response:
        return JSONResponse({"hidden": tooling.hide(*(await _object(request)).get("fields", ()))})

    async def rules(request: Request) -> Response:
        return JSONResponse(tooling.rules(**(await _object(request) if request.method == "POST" else store.rules)))

    async def slack(request: Request) -> Response:
        given = await _object(request)
        return JSONResponse(tooling.slack_workspace(given.get("scopes"), given.get("archived", ())))

    async def press(request: Request) -> Response:
        given = await _object(request)
        try:
            payload = tooling.slack.interaction(given, str(request.base_url).rstrip("/"))
        except SlackError as error:
            raise Refused(str(error)) from error
        at = store.now() - timedelta(seconds=float(given.get("age", 0)))
        body, headers = signed(payload, str(given.get("secret", "")), at)
        answer = await run_in_threadpool(_send, str(given.get("url")), body, headers)
        return JSONResponse({"status": answer, "trigger_id": payload["trigger_id"]})

    async def told(request: Request) -> Response:
        where = request.path_params
        with store.transaction():
            try:
                tooling.slack.told(where["channel"], where["ts"], where["user"], await _object(request))
            except SlackError as error:
                return JSONResponse(error.body, 400)
        return JSONResponse({"ok": True})

    async def sessions(request: Request) -> Response:
        return JSONResponse({"expired": tooling.expire_sessions()})

    async def certificate(request: Request) -> Response:
        given = (await _object(request)).get("public_key") if request.method == "POST" else None
        return JSONResponse(tooling.certificate(given))

    async def state(request: Request) -> Response:
        if request.method == "DELETE":
            tooling.empty()
        return JSONResponse(tooling.state())

    async def log(request: Request) -> Response:
        if request.method == "DELETE":
            tooling.clear_log()
        return JSONResponse(tooling.log())

    return [
        Route("/_sandbox/clock", _guarded(clock), methods=["GET", "POST"]),
        Route("/_sandbox/load", _guarded(load), methods=["POST"]),
        Route("/_sandbox/merge", _guarded(merge), methods=["POST"]),
        Route("/_sandbox/convert", _guarded(convert), methods=["POST"]),
        Route("/_sandbox/undelete", _guarded(undelete), methods=["POST"]),
        Route("/_sandbox/purge", _guarded(purge), methods=["POST"]),
        Route("/_sandbox/faults", _guarded(planned), methods=["GET", "POST", "DELETE"]),
        Route("/_sandbox/hidden", _guarded(hidden), methods=["POST"]),
        Route("/_sandbox/duplicates", _guarded(duplicates), methods=["POST"]),
        Route("/_sandbox/rules", _guarded(rules), methods=["GET", "POST"]),
        Route("/_sandbox/limits", _guarded(limits), methods=["GET", "POST"]),
        Route("/_sandbox/slack", _guarded(slack), methods=["POST"]),
        Route("/_sandbox/press", _guarded(press), methods=["POST"]),
        Route("/slack/actions/{channel}/{ts}/{user}", _guarded(told), methods=["POST"]),
        Route("/_sandbox/sessions", _guarded(sessions), methods=["DELETE"]),
        Route("/_sandbox/certificate", _guarded(certificate), methods=["GET", "POST"]),
        Route("/_sandbox/state", _guarded(state), methods=["GET", "DELETE"]),
        Route("/_sandbox/log", _guarded(log), methods=["GET", "DELETE"]),
    ]


def _send(url: str, body: bytes, headers: Mapping[str, str]) -> int:
    """Sends what Slack sends to an app's address, which must be on this machine; returns the HTTP status."""
    if urlsplit(url).hostname not in ("127.0.0.1", "localhost", "::1") or not url.startswith("http://"):
        raise Refused(f"url {url!r}: an http address on this machine")
    request = Outgoing(url, body, dict(headers), method="POST")  # noqa: S310 - checked above
    try:
        with build_opener(ProxyHandler({})).open(request, timeout=3) as answer:  # Slack waits three seconds
            return int(answer.status)
    except HTTPError as error:
        return error.code
    except OSError:
        return 0


def _guarded(handler: _Handler) -> _Handler:
    async def guarded(request: Request) -> Response:
        # A web page in the same browser may post here; it always says where it comes from.
        origin = request.headers.get("origin")
        if origin and origin != str(request.base_url).rstrip("/"):
            return JSONResponse({"error": "requests of other pages are refused"}, 403)
        try:
            return await handler(request)
        except Refused as error:
            return JSONResponse({"error": str(error)}, 400)

    return guarded


async def _body(request: Request) -> Any:
    try:
        return json.loads(await request.body())
    except ValueError as error:
        raise Refused(f"body: not JSON: {error}") from error


async def _object(request: Request) -> dict[str, Any]:
    given = await _body(request)
    if not isinstance(given, dict):
        raise Refused("body: must be a JSON object")
    return given


def _state(store: Store) -> dict[str, Any]:
    tasks = [
        {k: bool(row[k]) if k.startswith("Is") else row[k] for k in row.keys()}  # noqa: SIM118
        for row in store.db.execute("SELECT * FROM Task ORDER BY CreatedDate, Id")
    ]
    accounts = {row["Id"]: row for row in store.db.execute("SELECT * FROM Account")}
    owners = dict(store.db.execute("SELECT Id, Email FROM User").fetchall())
    leads = {row["Id"]: row for row in store.db.execute("SELECT *, Company AS Name FROM Lead")}
    for task in tasks:
        account = accounts.get(task["AccountId"]) or leads.get(task["WhoId"])
        task["owner"] = owners.get(task["OwnerId"])
        task["account"] = account and {k: account[k] for k in account.keys() if k == "Name" or k.startswith("Onetouch")}  # noqa: SIM118
    posts = []
    for row in store.db.execute("SELECT * FROM message ORDER BY ts"):
        blocks = json.loads(row["blocks"]) if row["blocks"] else []
        posts.append(
            {
                "channel": row["channel"],
                "ts": row["ts"],
                "thread_ts": row["thread_ts"],
                "text": row["text"],
                "blocks": blocks,
                "metadata": json.loads(row["metadata"]) if row["metadata"] else None,
                "files": json.loads(row["files"]) if row["files"] else [],
                "edited": bool(row["edited"]),
                "notifies": notified(row["text"], blocks),
            }
        )
    files = store.db.execute("SELECT id, name, title, alt_text, length, mimetype, completed FROM file ORDER BY id")
    return {
        "now": store.now().isoformat(),
        "tasks_open": sum(not t["IsClosed"] and not t["IsDeleted"] for t in tasks),
        "tasks": tasks,
        "accounts": store.db.execute("SELECT count(*) FROM Account WHERE IsDeleted = 0").fetchone()[0],
        "opportunities": store.db.execute("SELECT count(*) FROM Opportunity WHERE IsDeleted = 0").fetchone()[0],
        "posts": posts,
        "told": store.setting("slack_told"),
        "files": [{k: row[k] for k in row.keys()} for row in files],  # noqa: SIM118
    }
