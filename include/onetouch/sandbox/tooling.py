"""/_sandbox: sets time, data, limits and faults of the stand-in, and shows what it holds."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from onetouch.sandbox.records import DmlError, Records
from onetouch.sandbox.slack import Slack
from onetouch.sandbox.store import Store

_FAULT_KEYS: Final = {"match", "method", "times", "status", "body", "headers", "drop", "row_error", "rows"}
_ADJUSTABLE: Final = {"api_daily", "slack_per_second", "slack_burst", "file_looks", "export_hours"}
_MENTION: Final = re.compile(r"<!(channel|here|everyone)")

_Handler = Callable[[Request], Awaitable[Response]]


class _Refused(Exception):
    """What is wrong with the request, for a 400."""


def take_fault(store: Store, method: str, path: str) -> dict[str, Any]:
    """The next fault planned for this call, counted down; empty when there is none."""
    for row in store.db.execute("SELECT * FROM fault WHERE remaining > 0 ORDER BY id").fetchall():
        spec = json.loads(row["spec"])
        if "row_error" not in spec and _matches(spec, method, path):
            store.db.execute("UPDATE fault SET remaining = remaining - 1 WHERE id = ?", (row["id"],))
            return dict(spec)
    return {}


def take_row_fault(store: Store, method: str, path: str, index: int) -> DmlError | None:
    """The error planned for the `index`-th record of this call, counted down."""
    for row in store.db.execute("SELECT * FROM fault WHERE remaining > 0 ORDER BY id").fetchall():
        spec = json.loads(row["spec"])
        error = spec.get("row_error")
        if error and _matches(spec, method, path) and index in spec.get("rows", [index]):
            store.db.execute("UPDATE fault SET remaining = remaining - 1 WHERE id = ?", (row["id"],))
            return DmlError(error["statusCode"], error.get("message", ""), *error.get("fields", []))
    return None


def _matches(spec: dict[str, Any], method: str, path: str) -> bool:
    return spec.get("method", method).upper() == method and re.search(spec["match"], path) is not None


def routes(store: Store, slack: Slack) -> list[Route]:
    """The routes of /_sandbox."""
    records = Records(store)

    async def clock(request: Request) -> Response:
        if request.method == "POST":
            given = (await _object(request)).get("now")
            if given is not None:
                try:
                    moment = datetime.fromisoformat(str(given))
                except ValueError as error:
                    raise _Refused(f"now {given!r}: an ISO moment or null") from error
                if moment.tzinfo is None:
                    raise _Refused(f"now {given!r}: needs a zone, such as +00:00")
                given = moment.astimezone(UTC).isoformat()
            store.set("now", given)
        return JSONResponse({"now": store.now().isoformat(), "virtual": store.setting("now") is not None})

    async def load(request: Request) -> Response:
        document = await _object(request)
        loaded: dict[str, int] = {}
        with store.transaction():
            # Parents before children, whatever the order of the document.
            for sobject in store.org.values():
                rows = document.pop(sobject.name, [])
                for values in rows:
                    try:
                        records.load(sobject, values)
                    except DmlError as error:
                        raise _Refused(f"{sobject.name} {values.get('Id')}: {error.code}: {error.message}") from error
                if rows:
                    loaded[sobject.name] = len(rows)
            if document:
                raise _Refused(f"{', '.join(document)}: no such sObject; known are {_names(store)}")
        return JSONResponse(loaded)

    async def faults(request: Request) -> Response:
        if request.method == "DELETE":
            store.db.execute("DELETE FROM fault")
        elif request.method == "POST":
            given = await _body(request)
            specs = given if isinstance(given, list) else [given]
            with store.transaction():
                for spec in specs:
                    _check_fault(spec)
                    store.db.execute(
                        "INSERT INTO fault (spec, remaining) VALUES (?, ?)",
                        (json.dumps(spec), int(spec.get("times", 1))),
                    )
        waiting = store.db.execute("SELECT * FROM fault WHERE remaining > 0 ORDER BY id")
        return JSONResponse([json.loads(row["spec"]) | {"times": row["remaining"]} for row in waiting])

    async def limits(request: Request) -> Response:
        if request.method == "POST":
            for name, value in (await _object(request)).items():
                if (
                    name not in _ADJUSTABLE
                    or isinstance(value, bool)
                    or not isinstance(value, int | float)
                    or value < 0
                ):
                    raise _Refused(f"{name} {value!r}: numbers ≥ 0 of {', '.join(sorted(_ADJUSTABLE))}")
                store.set(name, value)
            slack.buckets.clear()
        return JSONResponse({name: store.setting(name) for name in sorted(_ADJUSTABLE)})

    async def sessions(request: Request) -> Response:
        dropped = store.db.execute("DELETE FROM session").rowcount
        return JSONResponse({"expired": dropped})

    async def state(request: Request) -> Response:
        if request.method == "DELETE":
            store.empty()
            slack.buckets.clear()
        return JSONResponse(_state(store))

    async def log(request: Request) -> Response:
        if request.method == "DELETE":
            store.db.execute("DELETE FROM call")
        rows = store.db.execute(
            "SELECT api, method, path, status, sum(n) AS n FROM call GROUP BY 1, 2, 3, 4 ORDER BY 1, 3, 2, 4"
        ).fetchall()
        by_api: dict[str, int] = {}
        for row in rows:
            by_api[row["api"]] = by_api.get(row["api"], 0) + row["n"]
        return JSONResponse({"by_api": by_api, "calls": [{k: row[k] for k in row.keys()} for row in rows]})  # noqa: SIM118

    return [
        Route("/_sandbox/clock", _guarded(clock), methods=["GET", "POST"]),
        Route("/_sandbox/load", _guarded(load), methods=["POST"]),
        Route("/_sandbox/faults", _guarded(faults), methods=["GET", "POST", "DELETE"]),
        Route("/_sandbox/limits", _guarded(limits), methods=["GET", "POST"]),
        Route("/_sandbox/sessions", _guarded(sessions), methods=["DELETE"]),
        Route("/_sandbox/state", _guarded(state), methods=["GET", "DELETE"]),
        Route("/_sandbox/log", _guarded(log), methods=["GET", "DELETE"]),
    ]


def _guarded(handler: _Handler) -> _Handler:
    async def guarded(request: Request) -> Response:
        # A web page in the same browser may post here; it always says where it comes from.
        origin = request.headers.get("origin")
        if origin and origin != str(request.base_url).rstrip("/"):
            return JSONResponse({"error": "requests of other pages are refused"}, 403)
        try:
            return await handler(request)
        except _Refused as error:
            return JSONResponse({"error": str(error)}, 400)

    return guarded


async def _body(request: Request) -> Any:
    try:
        return json.loads(await request.body())
    except ValueError as error:
        raise _Refused(f"body: not JSON: {error}") from error


async def _object(request: Request) -> dict[str, Any]:
    given = await _body(request)
    if not isinstance(given, dict):
        raise _Refused("body: must be a JSON object")
    return given


def _names(store: Store) -> str:
    return ", ".join(s.name for s in store.org.values())


def _check_fault(spec: Any) -> None:
    if not isinstance(spec, dict) or not isinstance(spec.get("match"), str):
        raise _Refused("a fault needs match: a regular expression searched in path?query")
    if unknown := spec.keys() - _FAULT_KEYS:
        raise _Refused(f"fault {sorted(unknown)[0]}: known are {', '.join(sorted(_FAULT_KEYS))}")
    try:
        re.compile(spec["match"])
    except re.error as error:
        raise _Refused(f"fault match {spec['match']!r}: {error}") from error
    if sum(name in spec for name in ("status", "drop", "row_error")) != 1:
        raise _Refused("a fault has exactly one of status, drop, row_error")
    if spec.get("drop") not in (None, "request", "answer"):
        raise _Refused(f"fault drop {spec['drop']!r}: request or answer")
    if "row_error" in spec and not (isinstance(spec["row_error"], dict) and spec["row_error"].get("statusCode")):
        raise _Refused("fault row_error: {statusCode, message, fields}")


def _state(store: Store) -> dict[str, Any]:
    tasks = [
        {k: bool(row[k]) if k.startswith("Is") else row[k] for k in row.keys()}  # noqa: SIM118
        for row in store.db.execute("SELECT * FROM Task ORDER BY CreatedDate, Id")
    ]
    accounts = {row["Id"]: row for row in store.db.execute("SELECT * FROM Account")}
    owners = dict(store.db.execute("SELECT Id, Email FROM User").fetchall())
    for task in tasks:
        account = accounts.get(task["AccountId"])
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
                "notifies": sorted(set(_MENTION.findall(row["text"] + json.dumps(blocks)))),
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
        "files": [{k: row[k] for k in row.keys()} for row in files],  # noqa: SIM118
    }
