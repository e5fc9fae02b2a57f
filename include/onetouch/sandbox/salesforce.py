"""The Salesforce REST API: sign-in, SOQL, records, collections, composite, limits."""

from __future__ import annotations

import json
import re
import secrets
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar, cast
from urllib.parse import parse_qsl, unquote

from onetouch.sandbox import faults
from onetouch.sandbox.api import Answer, ApiError, Call, not_found
from onetouch.sandbox.bulk import Ingest
from onetouch.sandbox.customs import record_types
from onetouch.sandbox.duplicates import DuplicatesError, check
from onetouch.sandbox.fields import PERSON, Field, SObject, full_id
from onetouch.sandbox.metadata import METADATA, SETS, as_seen, without_fields
from onetouch.sandbox.records import DmlError, Records, clean
from onetouch.sandbox.sign_in import sign_in
from onetouch.sandbox.soql import SoqlError, Statement, compile_soql
from onetouch.sandbox.store import Store

VERSIONS: Final = tuple(range(59, 67))

_T = TypeVar("_T")
_MAX_URI: Final = 16_384
_MAX_RECORDS: Final = 200
_MAX_CHUNKS: Final = 10
_MAX_SUBREQUESTS: Final = 25
_MAX_SUBQUERIES: Final = 5
_MAX_CURSORS: Final = 10
_PATH: Final = re.compile(r"/services/data/v(\d+)\.0(?:/(.*))?")
_JOBS: Final = re.compile(r"/services/data/v(\d+)\.0/(jobs/ingest(?:/.*)?)")
_REFERENCE: Final = re.compile(r"@\{(\w+)((?:\.\w+|\[\d+\])*)\}")


class Salesforce:
    """The Salesforce API on the data of a store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.records = Records(store)
        self.cursors: OrderedDict[str, tuple[Statement, list[Any]]] = OrderedDict()
        self._allow_save = False
        self._seen: dict[tuple[int, bool], tuple[dict[str, SObject], dict[str, SObject]]] = {}
        self.ingest = Ingest(
            store,
            lambda: self.org,
            {
                "insert": lambda sobject, _, values, seen: self._insert_row(sobject, values, seen),
                "update": lambda sobject, _, values, seen: self._update_row(sobject, values, seen),
                "upsert": lambda sobject, key, values, seen: self._upsert_row(sobject, cast(Field, key), values, seen),
                "delete": lambda sobject, _, values, seen: self._delete_row(str(values.get("Id")), sobject),
            },
        )

    @property
    def org(self) -> dict[str, SObject]:
        """The sObjects the caller sees: all, or with the setting `permissions` those of the permission set; without
        the fields of the setting `hidden`, and without those of person accounts in an org that has none."""
        there = self.store.org
        which = int(self.store.setting("permissions")), bool(self.store.setting("person_accounts"))
        if which not in self._seen or self._seen[which][0] is not there:
            seen = as_seen(there, METADATA, SETS[which[0] - 1]) if which[0] else there
            seen = seen if which[1] else without_fields(seen, [f"Account.{name}" for name in PERSON])
            self._seen[which] = there, seen
        org = self._seen[which][1]
        hidden = self.store.setting("hidden")
        return without_fields(org, hidden) if hidden else org

    # -- sign-in

    def token(self, form: Mapping[str, str], authorization: str, base_url: str) -> Answer:
        """POST /services/oauth2/token."""
        return sign_in(self.store, form, authorization, base_url)

    # -- one HTTP request

    def request(self, method: str, raw_path: str, query_string: str, raw: bytes, headers: Mapping[str, str]) -> Answer:
        """One HTTP request below /services/data; every answer carries the day's use of calls."""
        usage = self.usage()
        try:
            if len(raw_path) + len(query_string) + 1 > _MAX_URI:
                answer = Answer(414, "URI Too Long")
            else:
                answer = self._authorised(method, raw_path, query_string, raw, headers)
        except ApiError as error:
            answer = Answer(error.status, error.body)
        answer.headers |= usage
        return answer

    def usage(self) -> dict[str, str]:
        """The header with the number of the day's calls, this one included."""
        limit = int(self.store.setting("api_daily"))
        return {"Sforce-Limit-Info": f"api-usage={min(self.store.calls_today('salesforce') + 1, limit)}/{limit}"}

    def _authorised(
        self, method: str, raw_path: str, query_string: str, raw: bytes, headers: Mapping[str, str]
    ) -> Answer:
        path = raw_path.rstrip("/")
        if path == "/services/data":
            return Answer(200, [{"label": f"v{v}", "url": f"{path}/v{v}.0", "version": f"{v}.0"} for v in VERSIONS])
        kind, _, token = headers.get("authorization", "").partition(" ")
        known = self.store.db.execute("SELECT 1 FROM session WHERE token = ?", (token,)).fetchone()
        if kind.lower() not in ("bearer", "oauth") or not known:
            raise ApiError(401, "INVALID_SESSION_ID", "Session expired or invalid")
        if self.store.calls_today("salesforce") >= int(self.store.setting("api_daily")):
            raise ApiError(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.")
        self._allow_save = False  # bulk jobs have no header for it
        self.ingest.process_due()
        if match := _JOBS.fullmatch(path):
            return self.ingest.call(Call(method, self._version(match[1]), match[2], {}, None, headers), raw)
        return self.call(method, path, query_string, self._json(method, raw, headers), headers)

    @staticmethod
    def _json(method: str, raw: bytes, headers: Mapping[str, str]) -> Any:
        if method in ("GET", "DELETE", "HEAD") or not raw:
            return None
        if not headers.get("content-type", "").lower().startswith("application/json"):
            message = "Content-Type header is not supported: this API reads application/json"
            raise ApiError(415, "UNSUPPORTED_MEDIA_TYPE", message)
        try:
            return json.loads(raw, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise ApiError(400, "JSON_PARSER_ERROR", f"Unexpected character or end of the document: {error}") from error

    def call(self, method: str, path: str, query_string: str, body: Any, headers: Mapping[str, str]) -> Answer:
        """One call, also as a part of a composite call. Raises ApiError."""
        match = _PATH.fullmatch(path)
        if not match:
            raise not_found()
        query = dict(parse_qsl(query_string, keep_blank_values=True))
        options = headers.get("sforce-duplicate-rule-header", "").lower().replace(" ", "")
        self._allow_save = "allowsave=true" in re.split("[;,]", options)
        call = Call(method, self._version(match[1]), (match[2] or "").strip("/"), query, body, headers)
        first, *rest = [unquote(part) for part in call.path.split("/")]
        match first, rest:
            case "", []:
                names = ("sobjects", "query", "queryAll", "limits", "composite")
                return Answer(200, {name: f"{call.root}/{name}" for name in names})
            case (("query" | "queryAll"), []):
                call.only("GET")
                return self._query(call, deleted=first == "queryAll")
            case (("query" | "queryAll"), [locator]):
                call.only("GET")
                return self._more(call, locator)
            case "limits", []:
                limit = int(self.store.setting("api_daily"))
                left = max(0, limit - self.store.calls_today("salesforce"))
                return Answer(200, {"DailyApiRequests": {"Max": limit, "Remaining": left}})
            case "sobjects", []:
                known = [_summary(s, call.root) for s in self.org.values()]
                return Answer(200, {"encoding": "UTF-8", "maxBatchSize": 200, "sobjects": known})
            case "sobjects", [name, *below]:
                return self._sobject(call, self._type(name), below)
            case "composite", []:
                call.only("POST")
                return self._composite(call)
            case "composite", ["sobjects", *below]:
                return self._collections(call, below)
        raise not_found()

    @staticmethod
    def _version(number: str) -> str:
        if int(number) not in VERSIONS:
            raise not_found()
        return f"v{number}.0"

    def _type(self, name: str) -> SObject:
        sobject = self.org.get(name.lower())
        if not sobject:
            raise not_found()
        return sobject

    # -- queries

    def _query(self, call: Call, *, deleted: bool) -> Answer:
        text = call.query.get("q")
        if not text:
            raise ApiError(400, "MALFORMED_QUERY", "unexpected token: '<EOF>'")
        try:
            statement = compile_soql(text, self.org, self.store.now(), deleted=deleted)
            rows = self.store.db.execute(statement.sql, statement.parameters).fetchall()
        except SoqlError as error:
            raise ApiError(400, error.code, error.message) from error
        except (sqlite3.OperationalError, RecursionError) as error:
            raise ApiError(400, "QUERY_TOO_COMPLICATED", "Query is either selecting or filtering too much") from error
        if statement.count:
            return Answer(200, {"totalSize": rows[0][0], "done": True, "records": []})
        locator = f"01g{secrets.token_hex(8)[:15]}"
        return self._page(call, locator, statement, rows, 0)

    def _more(self, call: Call, locator: str) -> Answer:
        name, _, start = locator.rpartition("-")
        if name not in self.cursors or not start.isdigit():
            raise ApiError(400, "INVALID_QUERY_LOCATOR", "invalid query locator")
        statement, rows = self.cursors[name]
        return self._page(call, name, statement, rows, int(start))

    def _page(self, call: Call, locator: str, statement: Statement, rows: list[Any], start: int) -> Answer:
        size = 2000
        option = re.search(r"batchSize=(\d+)", call.headers.get("sforce-query-options", ""))
        if option:
            size = min(2000, max(200, int(option[1])))
        end = start + size
        body: dict[str, Any] = {"totalSize": len(rows), "done": end >= len(rows)}
        if end < len(rows):
            self.cursors[locator] = (statement, rows)
            self.cursors.move_to_end(locator)
            while len(self.cursors) > _MAX_CURSORS:
                self.cursors.popitem(last=False)
            body["nextRecordsUrl"] = f"{call.root}/query/{locator}-{end}"
        body["records"] = [self._record(call, statement, row) for row in rows[start:end]]
        return Answer(200, body)

    @staticmethod
    def _record(call: Call, statement: Statement, row: Any) -> dict[str, Any]:
        """A row as JSON: its columns are the record's id, the ids of its parents, then the selected fields."""
        own, *rest = tuple(row)
        record: dict[str, Any] = {"attributes": _attributes(statement.sobject, own, call.root)}
        found: dict[tuple[str, ...], dict[str, Any] | None] = {(): record}
        for (path, sobject), parent_id in zip(statement.parents, rest, strict=False):
            found[path] = {"attributes": _attributes(sobject, parent_id, call.root)} if parent_id else None
        for path, kind, value in zip(statement.paths, statement.fields, rest[len(statement.parents) :], strict=True):
            for depth in range(1, len(path)):
                above = found[path[: depth - 1]]
                if above is not None:
                    above.setdefault(path[depth - 1], found[path[:depth]])
            target = found[path[:-1]]
            if target is not None:
                target[path[-1]] = _shown(kind, value)
        return record

    # -- one record

    def _sobject(self, call: Call, sobject: SObject, below: list[str]) -> Answer:
        match below:
            case []:
                call.only("GET", "POST")
                if call.method == "GET":
                    return Answer(200, {"objectDescribe": _summary(sobject, call.root), "recentItems": []})
                return self._create(call, sobject, self._object(call.body))
            case ["describe"]:
                call.only("GET")
                types = record_types(sobject.name, self.store.rules)
                return Answer(200, _describe(sobject, call.root) | {"recordTypeInfos": types})
            case [record_id]:
                call.only("GET", "PATCH", "DELETE")
                return self._one(call, sobject, self._id(sobject, record_id))
            case [name, *value]:
                call.only("GET", "PATCH", "DELETE")
                return self._by_key(call, sobject, name, "/".join(value))
        raise not_found()

    @staticmethod
    def _object(body: Any) -> dict[str, Any]:
        if not isinstance(body, dict):
            raise ApiError(400, "JSON_PARSER_ERROR", "The HTTP entity body is required and must be a JSON object")
        return body

    @staticmethod
    def _id(sobject: SObject, text: str) -> str:
        record_id = full_id(text)
        if not record_id or not record_id.startswith(sobject.prefix):
            raise ApiError(404, "NOT_FOUND", f"Provided external ID field does not exist or is not accessible: {text}")
        return record_id

    def _create(self, call: Call, sobject: SObject, values: dict[str, Any]) -> Answer:
        if any(name.lower() == "id" for name in values):
            raise ApiError(400, "INVALID_FIELD", "The Id field should not be specified in the sobject data.")
        record_id = self._dml(call, lambda: self._insert(sobject, values))
        where = {"Location": f"{call.root}/sobjects/{sobject.name}/{record_id}"}
        return Answer(201, {"id": record_id, "success": True, "errors": []}, where)

    def _one(self, call: Call, sobject: SObject, record_id: str) -> Answer:
        row = self.records.row(sobject, record_id)
        if row is None:
            raise not_found()
        if row["IsDeleted"]:
            raise ApiError(404, "ENTITY_IS_DELETED", "entity is deleted")
        if call.method == "GET":
            return Answer(200, self._read(call, sobject, row, call.query.get("fields")))
        if call.method == "DELETE":
            self._dml(call, lambda: self.records.delete(sobject, record_id))
        else:
            values = self._object(call.body)
            if any(name.lower() == "id" for name in values):
                raise ApiError(400, "INVALID_FIELD", "The Id field should not be specified in the sobject data.")
            self._dml(call, lambda: self.records.update(sobject, record_id, values))
        return Answer(204)

    def _by_key(self, call: Call, sobject: SObject, name: str, value: str) -> Answer:
        key = self._external_id(sobject, name)
        try:
            found = self.records.find(sobject, key, value)
        except DmlError as error:
            raise ApiError(400, error.code, error.message, *error.fields) from error
        if len(found) > 1:
            return Answer(300, [f"{call.root}/sobjects/{sobject.name}/{record_id}" for record_id in found])
        if call.method != "PATCH":
            if not found:
                raise not_found()
            return self._one(call, sobject, found[0])
        values = self._object(call.body)
        for forbidden in ("Id", key.name):
            if any(given.lower() == forbidden.lower() for given in values):
                message = f"The {forbidden} field should not be specified in the sobject data."
                raise ApiError(400, "INVALID_FIELD", message)
        if found:
            self._dml(call, lambda: self.records.update(sobject, found[0], values))
            return Answer(200, {"id": found[0], "success": True, "errors": [], "created": False})
        record_id = self._dml(call, lambda: self._insert(sobject, {**values, key.name: value}))
        where = {"Location": f"{call.root}/sobjects/{sobject.name}/{record_id}"}
        return Answer(201, {"id": record_id, "success": True, "errors": [], "created": True}, where)

    @staticmethod
    def _external_id(sobject: SObject, name: str) -> Field:
        key = sobject.find(name)
        if not key or not key.external_id:
            raise ApiError(404, "NOT_FOUND", f"Provided external ID field does not exist or is not accessible: {name}")
        return key

    def _dml(self, call: Call, action: Callable[[], _T]) -> _T:
        try:
            if fault := faults.of_row(self.store, call.method, f"{call.root}/{call.path}", 0):
                raise fault
            with self.store.transaction():
                return action()
        except DmlError as error:
            status = 404 if error.code == "ENTITY_IS_DELETED" else 400
            refused = ApiError(status, error.code, error.message, *error.fields)
            if isinstance(error, DuplicatesError):  # the answer of a collection or a bulk job does not name them
                refused.body[0]["duplicateResut"] = error.result
            raise refused from error

    def _insert(self, sobject: SObject, values: Mapping[str, Any]) -> str:
        """Creates a record unless a duplicate rule of the org is against it. Raises DmlError."""
        with self.store.transaction():
            record_id = self.records.insert(sobject, values)
            check(self.store, sobject, values, allow_save=self._allow_save, but=record_id)
        return record_id

    def _read(self, call: Call, sobject: SObject, row: Any, wanted: str | None) -> dict[str, Any]:
        fields = list(sobject.fields.values())
        if wanted is not None:
            fields = [self._known(sobject, name.strip()) for name in wanted.split(",")]
        shown = {f.name: _shown(f, row[f.name]) for f in fields}
        return {"attributes": _attributes(sobject, row["Id"], call.root)} | shown

    @staticmethod
    def _known(sobject: SObject, name: str) -> Field:
        found = sobject.find(name)
        if not found:
            raise ApiError(400, "INVALID_FIELD", f"No such column '{name}' on entity '{sobject.name}'")
        return found

    # -- collections

    def _collections(self, call: Call, below: list[str]) -> Answer:
        match call.method, below:
            case (("POST" | "PATCH"), []):
                act = self._insert_row if call.method == "POST" else self._update_row
                return self._rows(call, act)
            case "DELETE", []:
                ids = [part for part in call.query.get("ids", "").split(",") if part]
                return self._delete_rows(call, ids, call.query.get("allOrNone", "false").lower() == "true")
            case (("GET" | "POST"), [name]):
                return self._retrieve(call, self._type(name))
            case "PATCH", [name, key_name]:
                sobject = self._type(name)
                key = self._external_id(sobject, key_name)
                return self._rows(call, lambda _, values, seen: self._upsert_row(sobject, key, values, seen), sobject)
        if not below or len(below) <= 2:
            raise ApiError(405, "METHOD_NOT_ALLOWED", f"HTTP Method '{call.method}' not allowed.")
        raise not_found()

    def _rows(
        self,
        call: Call,
        act: Callable[[SObject, dict[str, Any], set[str]], dict[str, Any]],
        only: SObject | None = None,
    ) -> Answer:
        body = self._object(call.body)
        if unknown := body.keys() - {"records", "allOrNone"}:
            raise ApiError(400, "JSON_PARSER_ERROR", f'Unrecognized field "{sorted(unknown)[0]}"')
        rows = body.get("records")
        if not isinstance(rows, list) or not rows:
            raise ApiError(400, "REQUIRED_FIELD_MISSING", "records is required")
        types = [self._row_type(row, only) for row in rows]
        self._count(len(rows))
        chunks = 1 + sum(a.name != b.name for a, b in zip(types, types[1:], strict=False))
        if chunks > _MAX_CHUNKS:
            message = f"Cannot process more than {_MAX_CHUNKS} chunks of records of one type in one call"
            raise ApiError(400, "INVALID_INPUT", message)
        seen: set[str] = set()
        work = [partial(act, sobject, row, seen) for sobject, row in zip(types, rows, strict=True)]
        return self._each(call, work, body.get("allOrNone", False) is True)

    def _row_type(self, row: Any, only: SObject | None) -> SObject:
        if not isinstance(row, dict):
            raise ApiError(400, "JSON_PARSER_ERROR", "records must be a list of objects")
        attributes = row.get("attributes")
        name = attributes.get("type") if isinstance(attributes, dict) else None
        if not isinstance(name, str):
            raise ApiError(400, "INVALID_INPUT", "Include attributes with a type in each record")
        sobject = self.org.get(name.lower())
        if not sobject:
            raise ApiError(400, "INVALID_TYPE", f"sObject type '{name}' is not supported.")
        if only and sobject is not only:
            message = f"The type {name} of a record differs from the type {only.name} of the address"
            raise ApiError(400, "INVALID_INPUT", message)
        return sobject

    @staticmethod
    def _count(n: int) -> None:
        if n > _MAX_RECORDS:
            message = f"record limit reached. cannot submit more than {_MAX_RECORDS} records in this call"
            raise ApiError(400, "EXCEEDED_ID_LIMIT", message)

    def _each(self, call: Call, work: Sequence[Callable[[], dict[str, Any]]], all_or_none: bool) -> Answer:
        """The outcomes of all rows in order; HTTP 200 even when rows failed."""
        results: list[dict[str, Any]] = []
        failed, address = False, f"{call.root}/{call.path}"

        class RollBack(Exception):
            pass

        try:
            with self.store.transaction():
                for index, action in enumerate(work):
                    try:
                        if fault := faults.of_row(self.store, call.method, address, index):
                            raise fault
                        with self.store.transaction():
                            results.append(action())
                    except DmlError as error:
                        failed = True
                        shown = {"statusCode": error.code, "message": error.message, "fields": error.fields}
                        results.append({"success": False, "errors": [shown]})
                if failed and all_or_none:
                    raise RollBack
        except RollBack:
            undone = {
                "statusCode": "ALL_OR_NONE_OPERATION_ROLLED_BACK",
                "message": "Record rolled back because not all records were valid and the request was using AllOrNone"
                " header",
                "fields": [],
            }
            results = [{"success": False, "errors": [undone]} if r["success"] else r for r in results]
        return Answer(200, results)

    def _insert_row(self, sobject: SObject, values: dict[str, Any], seen: set[str]) -> dict[str, Any]:
        if any(name.lower() == "id" for name in values):
            raise DmlError("INVALID_FIELD_FOR_INSERT_UPDATE", "cannot specify Id in an insert call", "Id")
        return {"id": self._insert(sobject, values), "success": True, "errors": []}

    def _update_row(self, sobject: SObject, values: dict[str, Any], seen: set[str]) -> dict[str, Any]:
        given = next((v for k, v in values.items() if k.lower() == "id"), None)
        if given is None:
            raise DmlError("MISSING_ARGUMENT", "Id not specified in an update call", "Id")
        record_id = full_id(given)
        if not record_id or not record_id.startswith(sobject.prefix):
            raise DmlError("MALFORMED_ID", f"{sobject.name} ID: id value of incorrect type: {given}", "Id")
        if record_id in seen:
            raise DmlError("DUPLICATE_VALUE", f"duplicate id in the list: {record_id}", "Id")
        seen.add(record_id)
        self.records.update(sobject, record_id, {k: v for k, v in values.items() if k.lower() != "id"})
        return {"id": record_id, "success": True, "errors": []}

    def _upsert_row(self, sobject: SObject, key: Field, values: dict[str, Any], seen: set[str]) -> dict[str, Any]:
        if any(name.lower() == "id" for name in values):
            raise DmlError("INVALID_FIELD_FOR_INSERT_UPDATE", "cannot specify Id in an upsert by external id", "Id")
        given = next((v for k, v in values.items() if k.lower() == key.name.lower()), None)
        value = clean(key, given)
        if value is None:
            raise DmlError("MISSING_ARGUMENT", f"{key.name} not specified", key.name)
        if str(value) in seen:
            raise DmlError("DUPLICATE_VALUE", f"Duplicate external id specified: {value}", key.name)
        seen.add(str(value))
        found = self.records.find(sobject, key, value)
        if len(found) > 1:
            message = f"{key.name}: more than one record found for external id field: {found}"
            raise DmlError("DUPLICATE_EXTERNAL_ID", message, key.name)
        if found:
            rest = {k: v for k, v in values.items() if k.lower() != key.name.lower()}
            self.records.update(sobject, found[0], rest)
            return {"id": found[0], "success": True, "errors": [], "created": False}
        return {"id": self._insert(sobject, values), "success": True, "errors": [], "created": True}

    def _delete_rows(self, call: Call, ids: list[str], all_or_none: bool) -> Answer:
        if not ids:
            raise ApiError(400, "REQUIRED_FIELD_MISSING", "ids is required")
        self._count(len(ids))

        return self._each(call, [partial(self._delete_row, text) for text in ids], all_or_none)

    def _delete_row(self, text: str, only: SObject | None = None) -> dict[str, Any]:
        record_id = full_id(text)
        sobject = next((s for s in self.org.values() if record_id and record_id[:3] == s.prefix), None)
        if not record_id or not sobject or (only and sobject is not only):
            raise DmlError("MALFORMED_ID", f"malformed id {text}")
        self.records.delete(sobject, record_id)
        return {"id": record_id, "success": True, "errors": []}

    def _retrieve(self, call: Call, sobject: SObject) -> Answer:
        if call.method == "POST":
            body = self._object(call.body)
            ids, wanted = body.get("ids", []), body.get("fields", [])
        else:
            ids = [part for part in call.query.get("ids", "").split(",") if part]
            wanted = [part for part in call.query.get("fields", "").split(",") if part]
        if not ids or not wanted:
            raise ApiError(400, "MISSING_ARGUMENT", "ids and fields are required")
        if len(ids) > (2000 if call.method == "POST" else 800):
            raise ApiError(400, "EXCEEDED_ID_LIMIT", "too many ids in this call")
        found = []
        for text in ids:
            record_id = full_id(text)
            row = self.records.row(sobject, record_id) if record_id else None
            live = row is not None and not row["IsDeleted"]
            found.append(self._read(call, sobject, row, ",".join(wanted)) if live else None)
        return Answer(200, found)

    # -- composite

    def _composite(self, call: Call) -> Answer:
        body = self._object(call.body)
        requests = body.get("compositeRequest")
        if not isinstance(requests, list) or not requests:
            raise ApiError(400, "REQUIRED_FIELD_MISSING", "compositeRequest is required")
        if len(requests) > _MAX_SUBREQUESTS:
            message = f"The limit for a composite request is {_MAX_SUBREQUESTS} subrequests"
            raise ApiError(400, "LIMIT_EXCEEDED", message)
        queries = [r for r in requests if isinstance(r, dict) and "/query" in str(r.get("url"))]
        if len(queries) > _MAX_SUBQUERIES:
            message = f"The limit for query and collection subrequests is {_MAX_SUBQUERIES}"
            raise ApiError(400, "LIMIT_EXCEEDED", message)
        known: dict[str, Any] = {}
        results: list[dict[str, Any]] = []

        class RollBack(Exception):
            pass

        try:
            with self.store.transaction():
                for request in requests:
                    results.append(self._subrequest(call, request, known))
                if body.get("allOrNone") is True and any(r["httpStatusCode"] >= 400 for r in results):
                    raise RollBack
        except RollBack:
            halted = [
                {
                    "errorCode": "PROCESSING_HALTED",
                    "message": "The transaction was rolled back since another operation in the same transaction"
                    " failed.",
                }
            ]
            results = [
                r if r["httpStatusCode"] >= 400 else {**r, "body": halted, "httpStatusCode": 400, "httpHeaders": {}}
                for r in results
            ]
        return Answer(200, {"compositeResponse": results})

    def _subrequest(self, call: Call, request: Any, known: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(request, dict) or not {"method", "url", "referenceId"} <= request.keys():
            raise ApiError(400, "REQUIRED_FIELD_MISSING", "method, url and referenceId are required")
        reference = str(request["referenceId"])
        try:
            url = str(_refer(request["url"], known))
            path, _, query_string = url.partition("?")
            inner = {name.lower(): str(v) for name, v in (request.get("httpHeaders") or {}).items()}
            if path.rstrip("/").endswith("/composite"):
                raise ApiError(400, "INVALID_INPUT", "A composite request cannot hold another")
            answer = self.call(
                str(request["method"]).upper(),
                path.rstrip("/"),
                query_string,
                _refer(request.get("body"), known),
                inner,
            )
        except ApiError as error:
            answer = Answer(error.status, error.body)
        if answer.status < 400:
            known[reference] = answer.body
        return {
            "body": answer.body,
            "httpHeaders": answer.headers,
            "httpStatusCode": answer.status,
            "referenceId": reference,
        }


def _no_constant(name: str) -> Any:
    raise ValueError(f"Non-standard token '{name}'")


def _refer(value: Any, known: Mapping[str, Any]) -> Any:
    """`value` with @{reference.path} replaced from the answers of earlier subrequests."""
    if isinstance(value, dict):
        return {k: _refer(v, known) for k, v in value.items()}
    if isinstance(value, list):
        return [_refer(v, known) for v in value]
    if not isinstance(value, str):
        return value

    def resolve(match: re.Match[str]) -> str:
        try:
            found = known[match[1]]
            for step in re.findall(r"\.(\w+)|\[(\d+)\]", match[2]):
                found = found[step[0]] if step[0] else found[int(step[1])]
        except (KeyError, IndexError, TypeError) as error:
            message = f"Invalid reference specified. No value for {match[1]}{match[2]} found in {match[1]}"
            raise ApiError(400, "PROCESSING_HALTED", message) from error
        return str(found)

    return _REFERENCE.sub(resolve, value)


def _shown(kind: Field, value: Any) -> Any:
    """A stored value as it appears in JSON."""
    if kind.type == "boolean":
        return bool(value)
    if kind.type == "int" and value is not None:
        return int(value)
    return value


def _attributes(sobject: SObject, record_id: str | None, root: str) -> dict[str, str]:
    own = {"url": f"{root}/sobjects/{sobject.name}/{record_id}"} if record_id else {}
    return {"type": sobject.name} | own


def _summary(sobject: SObject, root: str) -> dict[str, Any]:
    return {
        "name": sobject.name,
        "label": sobject.name,
        "keyPrefix": sobject.prefix,
        "custom": False,
        "createable": "create" in sobject.allows,
        "updateable": "edit" in sobject.allows,
        "queryable": True,
        "urls": {
            "sobject": f"{root}/sobjects/{sobject.name}",
            "describe": f"{root}/sobjects/{sobject.name}/describe",
            "rowTemplate": f"{root}/sobjects/{sobject.name}/{{ID}}",
        },
    }


_DESCRIBED: Final = {"longtextarea": "textarea"}


def _describe(sobject: SObject, root: str) -> dict[str, Any]:
    fields = [
        {
            "name": f.name,
            "label": f.label or f.name,
            "type": _DESCRIBED.get(f.type, f.type),
            "length": f.length if f.is_text else 0,
            "precision": f.precision if not f.is_text else 0,
            "scale": f.scale,
            "custom": f.name.endswith("__c"),
            "nillable": not f.required and f.type != "boolean",
            "createable": f.createable and "create" in sobject.allows,
            "updateable": f.updateable and "edit" in sobject.allows,
            "filterable": f.filterable,
            "sortable": f.filterable,
            "unique": f.unique,
            "externalId": f.external_id,
            "caseSensitive": f.case_sensitive,
            "restrictedPicklist": f.type == "picklist" and f.restricted,
            "picklistValues": [{"active": True, "label": v, "value": v} for v in f.values],
            "referenceTo": list(f.references),
            "relationshipName": f.relationship or None,
            "defaultValue": f.default,
            "defaultedOnCreate": f.default is not None or f.name == "OwnerId" or not f.createable,
        }
        for f in sobject.fields.values()
    ]
    return _summary(sobject, root) | {"fields": fields}
