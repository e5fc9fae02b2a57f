"""The HubSpot CRM API (v3 objects, v4 associations): records, search, properties, owners, pipelines, merges, limits.

The scopes of the app's token are not simulated. Where the documentation is silent, the less convenient behaviour is
assumed: a deleted record keeps its unique values and is not found by them.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from onetouch.sandbox import faults
from onetouch.sandbox.hubspot_properties import (
    ASSOCIATIONS,
    DEFAULTS,
    DEFINED,
    MODIFIED,
    PIPELINES,
    REQUIRED,
    TYPES,
    read_value,
)
from onetouch.sandbox.store import Store

ACCESS_TOKEN: Final = "pat-sandbox-token"  # noqa: S105 - the stand-in's own, loopback only

_BATCH: Final = 100
_ASSOCIATION_BATCH: Final = 1_000
_PAGE: Final = 100
_SEARCH_PAGE: Final = 200
_SEARCH_DEPTH: Final = 10_000
_SEARCH_BODY: Final = 3_000
_GROUPS: Final = 5
_FILTERS: Final = 6
_ALL_FILTERS: Final = 18
_UNIQUE_PROPERTIES: Final = 10

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS hubspot_object (
    type TEXT, id INTEGER, archived INTEGER NOT NULL DEFAULT 0, created TEXT, updated TEXT, archived_at TEXT,
    properties TEXT NOT NULL, PRIMARY KEY (type, id)
);
CREATE INDEX IF NOT EXISTS hubspot_object_updated ON hubspot_object (type, updated);
CREATE TABLE IF NOT EXISTS hubspot_unique (
    type TEXT, name TEXT, value TEXT, id INTEGER, PRIMARY KEY (type, name, value)
);
CREATE TABLE IF NOT EXISTS hubspot_association (
    from_type TEXT, from_id INTEGER, to_type TEXT, to_id INTEGER, type_id INTEGER,
    PRIMARY KEY (from_type, from_id, to_type, to_id, type_id)
);
CREATE TABLE IF NOT EXISTS hubspot_property (type TEXT, name TEXT, definition TEXT, PRIMARY KEY (type, name));
CREATE TABLE IF NOT EXISTS hubspot_group (type TEXT, name TEXT, label TEXT, PRIMARY KEY (type, name));
CREATE TABLE IF NOT EXISTS hubspot_owner (id INTEGER PRIMARY KEY, definition TEXT);
CREATE TABLE IF NOT EXISTS hubspot_alias (type TEXT, old INTEGER, new INTEGER, PRIMARY KEY (type, old));
"""

_OPERATORS: Final = {"EQ": "=", "NEQ": "<>", "LT": "<", "LTE": "<=", "GT": ">", "GTE": ">="}


class ApiError(Exception):
    """A refused request, or a refused input of a batch."""

    def __init__(self, status: int, category: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status, self.category, self.message, self.more = status, category, message, more

    def body(self) -> dict[str, Any]:
        """The error in HubSpot's JSON form."""
        shown = {"status": "error", "message": self.message, "correlationId": str(uuid.uuid4())}
        return shown | {"category": self.category} | self.more


@dataclass
class Answer:
    """The answer to a call."""

    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


def _invalid(message: str) -> ApiError:
    return ApiError(400, "VALIDATION_ERROR", message)


def _bad_input(message: str) -> ApiError:
    return _invalid(f"Invalid input JSON on line 1, column 1: {message}")


def _not_found() -> ApiError:
    return ApiError(404, "OBJECT_NOT_FOUND", "resource not found")


def _gone(type_: str, ids: list[str]) -> ApiError:
    message = f"Could not get some {TYPES[type_]} objects, they may be deleted or not exist. Check that ids are valid."
    return ApiError(404, "OBJECT_NOT_FOUND", message, context={"ids": ids})


class HubSpot:
    """The HubSpot API on the data of a store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.recent: dict[str, deque[float]] = {"all": deque(), "search": deque()}
        self.clock: Callable[[], float] = time.monotonic
        store.db.executescript(_TABLES)

    # -- one HTTP request

    def request(self, method: str, raw_path: str, query: str, raw: bytes, headers: Mapping[str, str]) -> Answer:
        """One HTTP request below /crm; all answers but those of search have headers with the limits."""
        searches = raw_path.rstrip("/").endswith("/search")
        daily = int(self.store.setting("hubspot_daily"))
        used = self.store.calls_today("hubspot")
        try:
            self._authorise(headers.get("authorization", ""))
            self._throttle(searches, used >= daily)
            path = [unquote(part) for part in raw_path.strip("/").split("/")]
            with self.store.transaction():  # a refused call changes nothing
                answer = self._route(method, path[1:], _query(query), _json(method, raw, headers))
        except ApiError as error:
            answer = Answer(error.status, error.body())
        if not searches:
            answer.headers |= {
                "X-HubSpot-RateLimit-Daily": str(daily),
                "X-HubSpot-RateLimit-Daily-Remaining": str(max(0, daily - used - 1)),
                "X-HubSpot-RateLimit-Interval-Milliseconds": "10000",
                "X-HubSpot-RateLimit-Max": str(int(self.store.setting("hubspot_ten_seconds"))),
            }
        return answer

    @staticmethod
    def _authorise(header: str) -> None:
        kind, _, token = header.partition(" ")
        if kind.lower() != "bearer" or not secrets.compare_digest(token.encode(), ACCESS_TOKEN.encode()):
            message = "Authentication credentials not found. This API supports OAuth 2.0 authentication."
            raise ApiError(401, "INVALID_AUTHENTICATION", message)

    def _throttle(self, searches: bool, exhausted: bool) -> None:
        if exhausted:
            raise _too_many("daily", "DAILY")
        kinds = [("all", 10.0, "hubspot_ten_seconds", "ten_secondly_rolling", "TEN_SECONDLY_ROLLING")]
        if searches:
            kinds.append(("search", 1.0, "hubspot_searches", "secondly", "SECONDLY"))
        now = self.clock()
        for kind, seconds, setting, limit, policy in kinds:
            calls = self.recent[kind]
            while calls and calls[0] <= now - seconds:
                calls.popleft()
            if len(calls) >= self.store.setting(setting):
                raise _too_many(limit, policy)
            calls.append(now)

    def _route(self, method: str, path: list[str], query: Mapping[str, str], body: Any) -> Answer:
        match method, path:
            case "POST", [
                "v3",
                "objects",
                type_,
                "batch",
                ("create" | "update" | "upsert" | "read" | "archive") as what,
            ]:
                return self._batch(what, _type(type_), query, body)
            case "POST", ["v3", "objects", type_, "search"]:
                return self._search(_type(type_), body)
            case "POST", ["v3", "objects", type_, "merge"]:
                return self._merge(_type(type_), body)
            case "GET", ["v3", "objects", type_]:
                return self._list(_type(type_), query)
            case "POST", ["v3", "objects", type_]:
                return Answer(201, self._create(_type(type_), body))
            case "GET" | "PATCH" | "DELETE", ["v3", "objects", type_, record]:
                return self._one(method, _type(type_), record, query, body)
            case _, ["v3", "properties", type_, *below]:
                return self._properties(method, _type(type_), below, body)
            case "GET", ["v3", "owners"]:
                return self._owners(query)
            case "GET", ["v3", "pipelines", "deals"]:
                return Answer(200, {"results": PIPELINES})
            case "POST", ["v4", "associations", from_type, to_type, "batch", ("create" | "read") as what]:
                return self._associations(what, _type(from_type), _type(to_type), body)
        raise _not_found()

    # -- batches

    def _batch(self, what: str, type_: str, query: Mapping[str, str], body: Any) -> Answer:
        inputs = _inputs(body, _BATCH)
        if what == "read":
            return self._read(type_, inputs, body, _flag(query, "archived"))
        if what == "archive":
            for given in inputs:
                self._archive(type_, self._number(type_, given.get("id")))
            return Answer(204)
        ids = [str(given.get("id")) for given in inputs]
        if what != "create" and len(set(ids)) < len(ids):
            raise _invalid("Duplicate IDs found in batch input. IDs must be unique")
        traces = [given.get("objectWriteTraceId") for given in inputs]
        many = all(isinstance(trace, str) and trace for trace in traces)
        if many and len(set(traces)) < len(traces):
            raise _invalid("Duplicate objectWriteTraceIds found in batch input")
        results, errors = [], []
        for index, given in enumerate(inputs):
            try:
                with self.store.transaction():
                    fault = faults.of_row(self.store, "POST", f"/crm/v3/objects/{type_}/batch/{what}", index)
                    if fault:
                        raise ApiError(400, fault.code, fault.message)
                    result = getattr(self, f"_{what}_input")(type_, given)
                    if result:
                        trace = {"objectWriteTraceId": given["objectWriteTraceId"]} if many else {}
                        results.append(result | trace)
            except ApiError as error:
                if not many and error.category != "OBJECT_NOT_FOUND":
                    raise
                context = dict(error.more.get("context", {}))
                if many:
                    context["objectWriteTraceId"] = [given["objectWriteTraceId"]]
                errors.append(
                    {"status": "error", "category": error.category, "message": error.message, "context": context}
                )
        return self._batched(results, errors, 201 if what == "create" else 200)

    def _batched(self, results: list[Any], errors: list[Any], status: int) -> Answer:
        moment = _stamp(self.store.now())
        body = {"status": "COMPLETE", "results": results, "startedAt": moment, "completedAt": moment}
        if errors:
            return Answer(207, body | {"numErrors": len(errors), "errors": errors})
        return Answer(status, body)

    def _create_input(self, type_: str, given: Mapping[str, Any]) -> dict[str, Any]:
        return self._create(type_, given)

    def _update_input(self, type_: str, given: Mapping[str, Any]) -> dict[str, Any] | None:
        number = self._find(type_, given.get("id"), given.get("idProperty"))
        if number is None:
            raise _gone(type_, [str(given.get("id"))])
        if not given.get("idProperty") and str(number) != str(given.get("id")):
            return None  # a record merged into another is left out of the results, without an error
        self._write(type_, number, _values(given))
        return self._shown(type_, self._row(type_, number), _values(given))

    def _upsert_input(self, type_: str, given: Mapping[str, Any]) -> dict[str, Any]:
        name = given.get("idProperty")
        if not name:
            raise _invalid("idProperty is required")
        number = self._find(type_, given.get("id"), name)
        if number is None:
            return self._create(type_, {"properties": {name: given.get("id")} | _values(given)}) | {"new": True}
        self._write(type_, number, _values(given))
        return self._shown(type_, self._row(type_, number), _values(given)) | {"new": False}

    def _read(self, type_: str, inputs: list[dict[str, Any]], body: Mapping[str, Any], archived: bool) -> Answer:
        wanted = self._wanted(type_, body.get("properties"))
        results, missing = [], []
        for given in inputs:
            number = self._find(type_, given.get("id"), body.get("idProperty"), archived)
            if number is None:
                missing.append(str(given.get("id")))
            else:
                results.append(self._shown(type_, self._row(type_, number), wanted))
        if not missing:
            return self._batched(results, [], 200)
        error = _gone(type_, missing)
        shown = {
            "status": "error",
            "category": error.category,
            "message": error.message,
            "context": error.more["context"],
        }
        return self._batched(results, [shown], 200)

    # -- one record

    def _one(self, method: str, type_: str, record: str, query: Mapping[str, str], body: Any) -> Answer:
        number = self._find(type_, record, query.get("idProperty"), _flag(query, "archived"))
        if number is None:
            raise _not_found()
        if method == "DELETE":
            self._archive(type_, number)
            return Answer(204)
        if method == "PATCH":
            self._write(type_, number, _values(body))
        wanted = self._wanted(type_, [n for n in query.get("properties", "").split(",") if n])
        return Answer(200, self._shown(type_, self._row(type_, number), wanted))

    def _create(self, type_: str, given: Any) -> dict[str, Any]:
        values = _values(given)
        if type_ == "users":
            raise ApiError(405, "VALIDATION_ERROR", "users cannot be created")
        for name in REQUIRED.get(type_, ()):
            if values.get(name) in (None, ""):
                raise _invalid(f"Some required properties were not set. Missing: {name}")
        number, moment = 10_000_000 + self.store.next_number(), _stamp(self.store.now())
        self.store.db.execute(
            "INSERT INTO hubspot_object (type, id, created, updated, properties) VALUES (?, ?, ?, ?, '{}')",
            (type_, number, moment, moment),
        )
        self._write(type_, number, values)
        for link in given.get("associations") or []:
            for kind in link.get("types") or [{}]:
                target, type_id = link.get("to", {}).get("id"), kind.get("associationTypeId")
                to_type = next((to for (of, to), ids in ASSOCIATIONS.items() if of == type_ and type_id in ids), None)
                if to_type is None:
                    raise _invalid(f"{type_id} is no association type of {type_}")
                self._associate(type_, number, to_type, self._number(to_type, target), type_id)
        return self._shown(type_, self._row(type_, number), values)

    def _write(self, type_: str, number: int, values: Mapping[str, Any]) -> None:
        definitions, moment = self._defined(type_), _stamp(self.store.now())
        row = self._row(type_, number)
        kept, problems = json.loads(row["properties"]), []
        for name, value in values.items():
            definition = definitions.get(name)
            if definition is None:
                problems.append(_problem(name, "PROPERTY_DOESNT_EXIST", f'Property "{name}" does not exist'))
                continue
            if definition["modificationMetadata"]["readOnlyValue"]:
                problems.append(_problem(name, "READ_ONLY_VALUE", f'"{name}" is a read only property'))
                continue
            try:
                kept[name] = read_value(definition, value)
            except ValueError as error:
                problems.append(_problem(name, "INVALID_VALUE", str(error)))
        if problems:
            raise _invalid(f"Property values were not valid: {json.dumps(problems)}")
        for name in values:
            if definitions[name].get("hasUniqueValue"):
                self._claim(type_, number, name, kept[name])
        if "hubspot_owner_id" in values and kept["hubspot_owner_id"]:
            known = self.store.db.execute("SELECT 1 FROM hubspot_owner WHERE id = ?", (kept["hubspot_owner_id"],))
            if not known.fetchone():
                raise _invalid(
                    "Property values were not valid: "
                    + json.dumps([_problem("hubspot_owner_id", "INVALID_OWNER_ID", "Owner does not exist")])
                )
        self._derive(type_, kept, moment, json.loads(row["properties"]))
        self.store.db.execute(
            "UPDATE hubspot_object SET properties = ?, updated = ? WHERE type = ? AND id = ?",
            (json.dumps({k: v for k, v in kept.items() if v != ""}), moment, type_, number),
        )

    @staticmethod
    def _derive(type_: str, kept: dict[str, Any], moment: str, before: Mapping[str, Any]) -> None:
        """The properties that HubSpot itself sets."""
        if type_ == "tasks":
            kept.setdefault("hs_task_status", "NOT_STARTED")
            if kept["hs_task_status"] != "COMPLETED":
                kept.pop("hs_task_completion_date", None)
            elif before.get("hs_task_status") != "COMPLETED":
                kept["hs_task_completion_date"] = moment
        if type_ == "deals":
            stages = {stage["id"]: stage["metadata"] for p in PIPELINES for stage in p["stages"]}
            stage = stages.get(kept.get("dealstage", ""))
            if stage is None:
                raise _invalid(f"Property values were not valid: {kept.get('dealstage')} is no stage of the pipeline")
            kept["hs_is_closed"] = stage["isClosed"]
            won = stage["isClosed"] == "true" and stage["probability"] == "1.0"
            kept["hs_is_closed_won"] = "true" if won else "false"

    def _claim(self, type_: str, number: int, name: str, value: str) -> None:
        """Reserves a unique value for a record; refuses a value that another record has."""
        self.store.db.execute(
            "DELETE FROM hubspot_unique WHERE type = ? AND name = ? AND id = ?", (type_, name, number)
        )
        if value == "":
            return
        if (type_, name) == ("contacts", "email"):
            further = self.store.db.execute(
                "SELECT id FROM hubspot_unique WHERE type = ? AND name = ? AND value = ? AND id != ?",
                (type_, "hs_additional_emails", value.lower(), number),
            ).fetchone()
            if further:
                raise ApiError(409, "CONFLICT", f"Contact already exists. Existing ID: {further['id']}")
        try:
            self.store.db.execute(
                "INSERT INTO hubspot_unique VALUES (?, ?, ?, ?)", (type_, name, value.lower(), number)
            )
        except sqlite3.IntegrityError as error:
            other = self._find(type_, value, name)
            if (type_, name) == ("contacts", "email"):
                raise ApiError(409, "CONFLICT", f"Contact already exists. Existing ID: {other}") from error
            problem = _problem(name, "CONFLICTING_UNIQUE_VALUE", f"{other} already has that value.")
            raise _invalid(f"Property values were not valid: {json.dumps([problem])}") from error

    def _archive(self, type_: str, number: int) -> None:
        moment = _stamp(self.store.now())
        self.store.db.execute(
            "UPDATE hubspot_object SET archived = 1, archived_at = ? WHERE type = ? AND id = ?", (moment, type_, number)
        )
        for side in ("from", "to"):
            self.store.db.execute(
                f"DELETE FROM hubspot_association WHERE {side}_type = ? AND {side}_id = ?", (type_, number)
            )

    def _row(self, type_: str, number: int) -> sqlite3.Row:
        found = self.store.db.execute("SELECT * FROM hubspot_object WHERE type = ? AND id = ?", (type_, number))
        row: sqlite3.Row = found.fetchone()
        return row

    def _find(self, type_: str, given: Any, name: str | None = None, archived: bool = False) -> int | None:
        """The number of the record with an id (after merges the surviving one) or a unique value; None without one."""
        if name and name != "hs_object_id":
            if not self._defined(type_).get(name, {}).get("hasUniqueValue"):
                raise _invalid(f"{name} is not a unique property of {type_}")
            found = self.store.db.execute(
                "SELECT id FROM hubspot_unique WHERE type = ? AND name = ? AND value = ?",
                (type_, name, str(given).lower()),
            ).fetchone()
            number = found["id"] if found and not archived else None  # deleted records are not found by their values
        else:
            number = int(given) if str(given).isdigit() else None
            while number is not None:
                merged = self.store.db.execute(
                    "SELECT new FROM hubspot_alias WHERE type = ? AND old = ?", (type_, number)
                ).fetchone()
                if not merged:
                    break
                number = merged["new"]
        row = self._row(type_, number) if number is not None else None
        return number if row is not None and bool(row["archived"]) == archived else None

    def _number(self, type_: str, given: Any) -> int:
        number = self._find(type_, given)
        if number is None:
            raise _gone(type_, [str(given)])
        return number

    def _shown(self, type_: str, row: sqlite3.Row, wanted: Iterable[str]) -> dict[str, Any]:
        kept = json.loads(row["properties"])
        system = {"hs_object_id": str(row["id"]), "createdate": row["created"], "hs_createdate": row["created"]}
        system |= {"hs_lastmodifieddate": row["updated"], "lastmodifieddate": row["updated"]}
        names = dict.fromkeys([*DEFAULTS.get(type_, ()), "hs_object_id", MODIFIED.get(type_, "hs_lastmodifieddate")])
        names["hs_createdate" if type_ not in ("companies", "contacts", "deals") else "createdate"] = None
        names |= dict.fromkeys(n for n in wanted if n in self._defined(type_))
        shown = {
            "id": str(row["id"]),
            "properties": {name: kept.get(name, system.get(name)) for name in names},
            "createdAt": row["created"],
            "updatedAt": row["updated"],
            "archived": bool(row["archived"]),
        }
        return shown | ({"archivedAt": row["archived_at"]} if row["archived"] else {})

    # -- lists and search

    def _list(self, type_: str, query: Mapping[str, str]) -> Answer:
        limit, after = _whole(query.get("limit", "10"), "limit", _PAGE), _whole(query.get("after", "0"), "after")
        wanted = self._wanted(type_, [n for n in query.get("properties", "").split(",") if n])
        rows = self.store.db.execute(
            "SELECT * FROM hubspot_object WHERE type = ? AND archived = ? AND id > ? ORDER BY id LIMIT ?",
            (type_, int(_flag(query, "archived")), after, limit + 1),
        ).fetchall()
        body: dict[str, Any] = {"results": [self._shown(type_, row, wanted) for row in rows[:limit]]}
        if len(rows) > limit:
            body["paging"] = {"next": {"after": str(rows[limit - 1]["id"])}}
        return Answer(200, body)

    def _search(self, type_: str, body: Any) -> Answer:
        if not isinstance(body, dict):
            raise _bad_input("an object is expected")
        if len(json.dumps(body)) > _SEARCH_BODY:
            raise _invalid(f"The request body is longer than {_SEARCH_BODY} characters")
        groups = body.get("filterGroups") or []
        count = sum(len(group.get("filters") or []) for group in groups)
        if len(groups) > _GROUPS or count > _ALL_FILTERS or any(len(g.get("filters") or []) > _FILTERS for g in groups):
            raise _invalid(f"At most {_GROUPS} filterGroups, {_FILTERS} filters each, {_ALL_FILTERS} in all")
        limit, after = _whole(body.get("limit", 10), "limit", _SEARCH_PAGE), _whole(body.get("after") or 0, "after")
        if after + limit > _SEARCH_DEPTH:
            raise _invalid(f"The maximum number of results that can be paged is {_SEARCH_DEPTH}")
        definitions = self._defined(type_)
        where, values = [], []
        for group in groups:
            parts = [_condition(definitions, part) for part in group.get("filters") or []]
            where.append(" AND ".join(sql for sql, _ in parts) or "1")
            values += [value for _, given in parts for value in given]
        sorts = body.get("sorts") or [{"propertyName": "hs_object_id", "direction": "ASCENDING"}]
        if len(sorts) > 1:
            raise _invalid("Only one sort is supported")
        sort = sorts[0] if isinstance(sorts[0], dict) else {"propertyName": str(sorts[0])}
        column, _ = _column(definitions, str(sort.get("propertyName")))
        order = "DESC" if sort.get("direction") == "DESCENDING" else "ASC"
        known = _stamp(self.store.now() - timedelta(seconds=self.store.setting("hubspot_search_lag")))
        condition = f"type = ? AND updated <= ? AND archived = 0 AND ({' OR '.join(f'({w})' for w in where) or '1'})"
        total = self.store.db.execute(f"SELECT count(*) FROM hubspot_object WHERE {condition}", (type_, known, *values))
        rows = self.store.db.execute(
            f"SELECT * FROM hubspot_object WHERE {condition} ORDER BY {column} {order}, id LIMIT ? OFFSET ?",
            (type_, known, *values, limit, after),
        ).fetchall()
        wanted = self._wanted(type_, body.get("properties"))
        answer = {"total": total.fetchone()[0], "results": [self._shown(type_, row, wanted) for row in rows]}
        if after + len(rows) < answer["total"]:
            answer["paging"] = {"next": {"after": str(after + len(rows))}}
        return Answer(200, answer)

    # -- associations, merges

    def _associate(self, of: str, number: int, to: str, other: int, type_id: int) -> None:
        back = ASSOCIATIONS[to, of][ASSOCIATIONS[of, to].index(type_id)]
        insert = "INSERT OR IGNORE INTO hubspot_association VALUES (?, ?, ?, ?, ?)"
        self.store.db.execute(insert, (of, number, to, other, type_id))
        self.store.db.execute(insert, (to, other, of, number, back))

    def _associations(self, what: str, of: str, to: str, body: Any) -> Answer:
        inputs = _inputs(body, _ASSOCIATION_BATCH)
        results: list[dict[str, Any]] = []
        errors: list[dict[str, Any]] = []
        if (of, to) not in ASSOCIATIONS:
            raise _invalid(f"{of} and {to} have no association types")
        for given in inputs:
            if what == "create":
                number = self._number(of, given.get("from", {}).get("id"))
                other = self._number(to, given.get("to", {}).get("id"))
                for kind in given.get("types") or []:
                    if kind.get("associationTypeId") not in ASSOCIATIONS[of, to]:
                        raise _invalid(f"{kind.get('associationTypeId')} is no association type of {of} to {to}")
                    self._associate(of, number, to, other, kind["associationTypeId"])
                results.append({"fromObjectId": number, "toObjectId": other})
                continue
            found: dict[int, list[dict[str, Any]]] = {}
            for row in self.store.db.execute(
                "SELECT to_id, type_id FROM hubspot_association WHERE from_type = ? AND from_id = ? AND to_type = ? "
                "ORDER BY to_id, type_id",
                (of, self._find(of, given.get("id")) or 0, to),
            ):
                named = {"category": "HUBSPOT_DEFINED", "typeId": row["type_id"], "label": None}
                found.setdefault(row["to_id"], []).append(named)
            if found:
                links = [{"toObjectId": other, "associationTypes": kinds} for other, kinds in found.items()]
                results.append({"from": {"id": str(given.get("id"))}, "to": links})
            else:
                errors.append(
                    {
                        "status": "error",
                        "category": "OBJECT_NOT_FOUND",
                        "subCategory": "crm.associations.NO_ASSOCIATIONS_FOUND",
                        "message": f"No {TYPES[to].lower()} is associated with {TYPES[of].lower()} {given.get('id')}.",
                        "context": {"fromObjectId": [str(given.get("id"))]},
                    }
                )
        return self._batched(results, errors, 201 if what == "create" else 200)

    def _merge(self, type_: str, body: Any) -> Answer:
        """Merges two records into a new one and archives both; their ids then return the new record. Values of the
        primary record take precedence."""
        if not isinstance(body, dict):
            raise _bad_input("an object is expected")
        primary = self._number(type_, body.get("primaryObjectId"))
        other = self._number(type_, body.get("objectIdToMerge"))
        if primary == other:
            raise _invalid("A record cannot be merged with itself")
        rows = {number: self._row(type_, number) for number in (primary, other)}
        number, moment = 10_000_000 + self.store.next_number(), _stamp(self.store.now())
        values = json.loads(rows[other]["properties"]) | json.loads(rows[primary]["properties"])
        before = [json.loads(row["properties"]).get("hs_merged_object_ids", "") for row in rows.values()]
        ids = dict.fromkeys(i for text in [*before, str(primary), str(other)] for i in text.split(";") if i)
        values["hs_merged_object_ids"] = ";".join(ids)
        if type_ == "contacts":  # the other one's address stays as a further one, by which no record is found
            known = [json.loads(row["properties"]) for row in rows.values()]
            more = [k.get(name, "") for name in ("email", "hs_additional_emails") for k in known]
            emails = dict.fromkeys(e for text in more for e in text.split(";") if e and e != values.get("email"))
            values["hs_additional_emails"] = ";".join(emails)
        created = min(row["created"] for row in rows.values())
        self.store.db.execute(
            "INSERT INTO hubspot_object (type, id, created, updated, properties) VALUES (?, ?, ?, ?, ?)",
            (type_, number, created, moment, json.dumps(values)),
        )
        for old in (primary, other):
            self.store.db.execute(
                "UPDATE hubspot_object SET archived = 1, archived_at = ? WHERE type = ? AND id = ?",
                (moment, type_, old),
            )
            self.store.db.execute("DELETE FROM hubspot_unique WHERE type = ? AND id = ?", (type_, old))
            self.store.db.execute("INSERT INTO hubspot_alias VALUES (?, ?, ?)", (type_, old, number))
            for side in ("from", "to"):
                self.store.db.execute(
                    f"UPDATE OR REPLACE hubspot_association SET {side}_id = ? WHERE {side}_type = ? AND {side}_id = ?",
                    (number, type_, old),
                )
        for name, value in values.items():
            if self._defined(type_).get(name, {}).get("hasUniqueValue"):
                self._claim(type_, number, name, value)
        for email in filter(None, values.get("hs_additional_emails", "").split(";")):
            claim = (type_, "hs_additional_emails", email, number)
            self.store.db.execute("INSERT OR REPLACE INTO hubspot_unique VALUES (?, ?, ?, ?)", claim)
        return Answer(200, self._shown(type_, self._row(type_, number), ["hs_merged_object_ids"]))

    # -- definitions, owners

    def _defined(self, type_: str) -> dict[str, dict[str, Any]]:
        own = self.store.db.execute("SELECT name, definition FROM hubspot_property WHERE type = ?", (type_,))
        return DEFINED[type_] | {row["name"]: json.loads(row["definition"]) for row in own}

    def _wanted(self, type_: str, names: Any) -> list[str]:
        if names is not None and not isinstance(names, list):
            raise _bad_input("properties is a list of names")
        return [str(name) for name in names or []]  # unknown names are ignored without an error

    def _properties(self, method: str, type_: str, below: list[str], body: Any) -> Answer:
        match method, below:
            case "GET", []:
                return Answer(200, {"results": list(self._defined(type_).values())})
            case "POST", []:
                return Answer(201, self._define(type_, body))
            case "POST", ["batch", "create"]:
                return self._batched([self._define(type_, one) for one in _inputs(body, _BATCH)], [], 201)
            case "POST", ["groups"]:
                name, label = str(body.get("name")), str(body.get("label"))
                try:
                    self.store.db.execute("INSERT INTO hubspot_group VALUES (?, ?, ?)", (type_, name, label))
                except sqlite3.IntegrityError as error:
                    raise ApiError(409, "CONFLICT", f"A property group named {name} already exists") from error
                return Answer(201, {"name": name, "label": label, "archived": False})
            case "GET", [name]:
                if name in self._defined(type_):
                    return Answer(200, self._defined(type_)[name])
                raise ApiError(404, "OBJECT_NOT_FOUND", f"A property named {name} does not exist")
        raise _not_found()

    def _define(self, type_: str, given: Any) -> dict[str, Any]:
        if not isinstance(given, dict):
            raise _bad_input("an object is expected")
        for name in ("name", "label", "type", "fieldType", "groupName"):
            if not given.get(name):
                raise _invalid(f"Some required fields were not set: [{name}]")
        name = given["name"]
        if not name.islower() or not name.isidentifier():
            raise _invalid(f"{name}: lower-case letters, digits and underscores, a letter first")
        if name in self._defined(type_):
            raise ApiError(409, "CONFLICT", f"A property named '{name}' already exists.")
        groups = self.store.db.execute(
            "SELECT 1 FROM hubspot_group WHERE type = ? AND name = ?", (type_, given["groupName"])
        )
        if not groups.fetchone():
            raise _invalid(f"A property group named {given['groupName']} does not exist")
        if given["type"] in ("enumeration", "bool") and not given.get("options"):
            raise _invalid(f"{name}: options are needed")
        own = [d for d in self._defined(type_).values() if d.get("hasUniqueValue") and not d.get("hubspotDefined")]
        if given.get("hasUniqueValue") and len(own) >= _UNIQUE_PROPERTIES:
            raise _invalid(f"{type_}: at most {_UNIQUE_PROPERTIES} unique properties")
        definition = {"options": [], "hasUniqueValue": False, "hubspotDefined": False, "archived": False} | given
        definition["modificationMetadata"] = {"archivable": True, "readOnlyDefinition": False, "readOnlyValue": False}
        self.store.db.execute("INSERT INTO hubspot_property VALUES (?, ?, ?)", (type_, name, json.dumps(definition)))
        return definition

    def _owners(self, query: Mapping[str, str]) -> Answer:
        limit, after = _whole(query.get("limit", "100"), "limit", 500), _whole(query.get("after", "0"), "after")
        all_ = [
            json.loads(row["definition"]) for row in self.store.db.execute("SELECT * FROM hubspot_owner ORDER BY id")
        ]
        found = [
            owner
            for owner in all_
            if owner["archived"] == _flag(query, "archived") and query.get("email", owner["email"]) == owner["email"]
        ]
        body: dict[str, Any] = {"results": found[after : after + limit]}
        if after + limit < len(found):
            body["paging"] = {"next": {"after": str(after + limit)}}
        return Answer(200, body)

    # -- the tooling's side

    def load(self, document: Mapping[str, Any]) -> None:
        """Stores owners, property definitions, records, associations, and contacts' unsubscribing from all e-mail
        (`unsubscribed`: id → whether). Raises ApiError."""
        for type_, definitions in document.get("properties", {}).items():
            for definition in definitions:
                group = (_type(type_), definition["groupName"], definition["groupName"])
                self.store.db.execute("INSERT OR IGNORE INTO hubspot_group VALUES (?, ?, ?)", group)
                self._define(_type(type_), definition)
        for owner in document.get("owners", []):
            shown = {
                "firstName": "",
                "lastName": "",
                "userId": owner["id"],
                "archived": False,
                "type": "PERSON",
            } | owner
            self.store.db.execute(
                "INSERT OR REPLACE INTO hubspot_owner VALUES (?, ?)",
                (int(owner["id"]), json.dumps(shown | {"id": str(owner["id"])})),
            )
        for type_, records in document.get("objects", {}).items():
            for record in records:
                moment = record.get("createdAt") or _stamp(self.store.now())
                number = int(record["id"])
                self.store.db.execute(
                    "INSERT OR REPLACE INTO hubspot_object (type, id, created, updated, properties)"
                    " VALUES (?, ?, ?, ?, '{}')",
                    (_type(type_), number, moment, moment),
                )
                self._write(_type(type_), number, record["properties"])
        for number, unsubscribed in document.get("unsubscribed", {}).items():
            self._unsubscribe(int(number), unsubscribed)
        for of, number, to, other in document.get("associations", []):
            self._associate(of, int(number), to, int(other), ASSOCIATIONS[of, to][0])

    def _unsubscribe(self, contact: int, unsubscribed: bool) -> None:
        """What a person does in the subscription centre: nobody else can set the property."""
        kept = json.loads(self._row("contacts", contact)["properties"]) | {"hs_email_optout": str(unsubscribed).lower()}
        self.store.db.execute(
            "UPDATE hubspot_object SET properties = ?, updated = ? WHERE type = 'contacts' AND id = ?",
            (json.dumps(kept), _stamp(self.store.now()), contact),
        )

    def state(self) -> dict[str, Any]:
        """Type → all records, archived ones too, each with the companies it belongs to."""
        found: dict[str, list[dict[str, Any]]] = {}
        for row in self.store.db.execute("SELECT * FROM hubspot_object ORDER BY type, id").fetchall():
            links: dict[str, list[str]] = {}
            for link in self.store.db.execute(
                "SELECT DISTINCT to_type, to_id FROM hubspot_association"
                " WHERE from_type = ? AND from_id = ? ORDER BY 1, 2",
                (row["type"], row["id"]),
            ):
                links.setdefault(link["to_type"], []).append(str(link["to_id"]))
            record = {"id": str(row["id"]), "archived": bool(row["archived"]), "associations": links}
            found.setdefault(row["type"], []).append(record | {"properties": json.loads(row["properties"])})
        return found


def routes(store: Store) -> list[Route]:
    """The routes of /crm, and of /_sandbox/hubspot: GET shows every record, POST loads some."""
    hubspot = HubSpot(store)

    async def crm(request: Request) -> Response:
        raw = await request.body()
        path = request.scope["raw_path"].decode("latin-1").partition("?")[0]
        query = request.scope["query_string"].decode("latin-1")
        with store.transaction():
            answer = hubspot.request(request.method, path, query, raw, request.headers)
        if answer.status == 204:
            return Response(status_code=204, headers=answer.headers)
        return JSONResponse(answer.body, answer.status, answer.headers)

    async def admin(request: Request) -> Response:
        origin = request.headers.get("origin")
        if origin and origin != str(request.base_url).rstrip("/"):  # a web page in the same browser may post here
            return JSONResponse({"error": "requests of other pages are refused"}, 403)
        if request.method == "POST":
            try:
                with store.transaction():
                    hubspot.load(await request.json())
            except ApiError as error:
                return JSONResponse({"error": error.message}, 400)
        return JSONResponse(hubspot.state())

    return [
        Route("/crm/{rest:path}", crm, methods=["GET", "POST", "PATCH", "PUT", "DELETE"]),
        Route("/_sandbox/hubspot", admin, methods=["GET", "POST"]),
    ]


def _type(name: str) -> str:
    if name not in DEFINED:
        raise _invalid(f"Unable to infer object type from: {name}")
    return name


def _too_many(limit: str, policy: str) -> ApiError:
    message = f"You have reached your {limit} limit."
    return ApiError(429, "RATE_LIMITS", message, errorType="RATE_LIMIT", policyName=policy)


def _query(text: str) -> dict[str, str]:
    """Name → value of a query string; values of a repeated name are joined by commas."""
    found: dict[str, str] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        found[name] = f"{found[name]},{value}" if name in found else value
    return found


def _flag(query: Mapping[str, str], name: str) -> bool:
    given = query.get(name, "false")
    if given not in ("true", "false"):
        raise _invalid(f"{name} {given!r}: true or false")
    return given == "true"


def _json(method: str, raw: bytes, headers: Mapping[str, str]) -> Any:
    if method in ("GET", "DELETE"):
        return None
    if not headers.get("content-type", "").lower().startswith("application/json"):
        raise ApiError(415, "VALIDATION_ERROR", "This API reads application/json")
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise _bad_input("not JSON") from error


def _inputs(body: Any, most: int) -> list[dict[str, Any]]:
    inputs = body.get("inputs") if isinstance(body, dict) else None
    if not isinstance(inputs, list) or not all(isinstance(given, dict) for given in inputs):
        raise _bad_input("inputs is a list of objects")
    if not inputs or len(inputs) > most:
        raise _invalid(f"The maximum number of inputs supported in a batch request is {most}, the least is 1")
    return inputs


def _values(given: Any) -> dict[str, Any]:
    values = given.get("properties") if isinstance(given, dict) else None
    if not isinstance(values, dict):
        raise _bad_input("properties is an object")
    return values


def _problem(name: str, error: str, message: str) -> dict[str, Any]:
    return {"isValid": False, "message": message, "error": error, "name": name}


def _whole(value: Any, name: str, most: int | None = None) -> int:
    if not str(value).isdigit() or (most is not None and not 0 < int(value) <= most):
        raise _invalid(f"{name} {value!r}: a whole number up to {most or 'any'}")
    return int(value)


def _column(definitions: Mapping[str, Any], name: str) -> tuple[str, str]:
    """The SQL expression of a property, and the property's type."""
    if name not in definitions:
        raise _invalid(f"There was a problem with the request: property {name} does not exist")
    known = {"hs_object_id": "id", "createdate": "created", "hs_createdate": "created"}
    known |= {"hs_lastmodifieddate": "updated", "lastmodifieddate": "updated"}
    kind = definitions[name]["type"]
    column = known.get(name, f"json_extract(properties, '$.{name}')")
    if kind == "number" and name not in known:
        column = f"CAST({column} AS REAL)"
    return (f"lower({column})" if kind in ("string", "enumeration") else column), kind


def _condition(definitions: Mapping[str, Any], given: Any) -> tuple[str, list[Any]]:
    """One filter as SQL, and its values. Stored text is put in lower case, so IN finds only lower-case values."""
    if not isinstance(given, dict):
        raise _bad_input("a filter is an object")
    column, kind = _column(definitions, str(given.get("propertyName")))
    operator = given.get("operator")

    def value(text: Any, lower: bool = True) -> Any:
        if kind in ("number", "bool"):
            try:
                return float(text) if kind == "number" else str(text).lower()
            except (TypeError, ValueError) as error:
                raise _invalid(f"{text!r} is not a number") from error
        if kind in ("datetime", "date"):
            try:
                return read_value({"name": given["propertyName"], "type": kind}, text)
            except ValueError as error:
                raise _invalid(str(error)) from error
        return str(text).lower() if lower else str(text)

    if operator in ("HAS_PROPERTY", "NOT_HAS_PROPERTY"):
        return f"{column} IS {'NOT ' if operator == 'HAS_PROPERTY' else ''}NULL", []
    if operator in ("IN", "NOT_IN"):
        values = given.get("values")
        if not isinstance(values, list) or not 0 < len(values) <= 100:
            raise _invalid(f"{operator}: values is a list of 1 to 100")
        marks = ", ".join("?" * len(values))
        return f"{column} {'NOT ' if operator == 'NOT_IN' else ''}IN ({marks})", [value(v, lower=False) for v in values]
    if operator in _OPERATORS:
        if given.get("value") in (None, ""):
            raise _invalid(f"{operator}: value is missing")
        return f"{column} {_OPERATORS[operator]} ?", [value(given["value"])]
    raise _invalid(f"operator {operator!r} is not supported")


def _stamp(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"
