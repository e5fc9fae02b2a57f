"""Injected faults: errors of whole calls, of single rows and of bulk jobs; lost, cut and late answers.

A fault is planned through the tooling and occurs in the next calls that it matches. Its keys:

- `match`: a regular expression searched in `path?query`; `method`: only calls with this HTTP method.
- `after`: how many matching calls (rows, jobs) succeed first; `times`: how often the fault occurs then (default 1).
- `executed`: with `status` or `error`, the call is executed nevertheless, as behind a gateway that gave up waiting.
- exactly one of
    `status` (with `body`, `headers`): this answer is sent and the call is not executed;
    `error`: one of ERRORS, or for HubSpot of HUBSPOT_ERRORS, in the API's words; the call is not executed;
    `drop`: `request` (not executed, no answer), `answer` (executed, no answer) or `half` (executed, half of the
    answer is sent);
    `slow`: seconds by which the answer is late: the call is executed, but a client with a shorter time-out gets no
    answer;
    `row_error`: {statusCode, message, fields} or one of ROW_ERRORS (HUBSPOT_ROW_ERRORS), for the records numbered in
    `rows` (default: all);
    `job_error`: the errorMessage with which a bulk job fails, once `rows` (a number) of its records are done.
"""

from __future__ import annotations

import json
import re
import uuid
from typing import Any, Final

from onetouch.sandbox.api import ApiError
from onetouch.sandbox.records import DmlError
from onetouch.sandbox.store import Store

ERRORS: Final = {
    "INVALID_SESSION_ID": (401, "INVALID_SESSION_ID", "Session expired or invalid"),
    "REQUEST_LIMIT_EXCEEDED": (403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded."),
    "CONCURRENT_LIMIT": (403, "REQUEST_LIMIT_EXCEEDED", "ConcurrentPerOrgLongTxn Limit exceeded."),
    "API_DISABLED_FOR_ORG": (403, "API_DISABLED_FOR_ORG", "The REST API is not enabled for this Organization."),
    "TOO_MANY_REQUESTS": (429, "TOO_MANY_REQUESTS", "Too many requests"),
    "UNKNOWN_EXCEPTION": (500, "UNKNOWN_EXCEPTION", "An unexpected error occurred. Please include this ErrorId if you"
                          " contact support: 1234567890-12345 (1234567890)"),
    "SERVER_UNAVAILABLE": (503, "SERVER_UNAVAILABLE", "Server is too busy to serve the request"),
}  # fmt: skip
"""Errors of a whole call: our name → HTTP status, errorCode, message."""

ROW_ERRORS: Final[dict[str, tuple[str, ...]]] = {
    "UNABLE_TO_LOCK_ROW": ("unable to obtain exclusive access to this record or 1 records",),
    "DUPLICATE_VALUE": ("duplicate value found: <unknown> duplicates value on record with id: <unknown>",),
    "DUPLICATES_DETECTED": ("Use one of these records?",),
    "FIELD_CUSTOM_VALIDATION_EXCEPTION": ("Closed accounts take no tasks.",),
    "INVALID_FIELD": ("No such column 'Onetouch_Score__c' on sobject of type Account",),
    "INVALID_FIELD_FOR_INSERT_UPDATE": (
        "Unable to create/update fields: OwnerId. Please check the security settings of this field and verify that it"
        " is read/write for your profile or permission set.",
        "OwnerId",
    ),
    "REQUIRED_FIELD_MISSING": ("Required fields are missing: [Reason__c]", "Reason__c"),
    "STRING_TOO_LONG": ("Subject: data value too large: … (max length=255)", "Subject"),
    "ENTITY_IS_DELETED": ("entity is deleted",),
    "INVALID_CROSS_REFERENCE_KEY": ("invalid cross reference id",),
    "INSUFFICIENT_ACCESS_OR_READONLY": ("insufficient access rights on object id",),
    "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY": ("insufficient access rights on cross-reference id",),
    "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY": (
        "TaskTrigger: execution of BeforeInsert caused by: System.LimitException",
    ),
    "INACTIVE_OWNER_OR_USER": ("operation performed with inactive user as owner of task", "OwnerId"),
    "STORAGE_LIMIT_EXCEEDED": ("storage limit exceeded",),
    "UNKNOWN_EXCEPTION": ("An unexpected error occurred.",),
}
"""Errors of one record: statusCode → message, fields."""

_RATE: Final = {"status": "error", "errorType": "RATE_LIMIT", "category": "RATE_LIMITS"}
_SPENT: Final = {"X-HubSpot-RateLimit-Max": "190", "X-HubSpot-RateLimit-Interval-Milliseconds": "10000",
                 "X-HubSpot-RateLimit-Remaining": "0"}  # fmt: skip

HUBSPOT_ERRORS: Final[dict[str, tuple[int, Any, dict[str, str]]]] = {
    "TEN_SECONDLY_ROLLING": (429, _RATE | {"policyName": "TEN_SECONDLY_ROLLING",
                             "message": "You have reached your ten_secondly_rolling limit."}, _SPENT),
    "SECONDLY": (429, _RATE | {"policyName": "SECONDLY", "message": "You have reached your secondly limit."}, {}),
    "DAILY": (429, _RATE | {"policyName": "DAILY", "message": "You have reached your daily limit."},
              {"X-HubSpot-RateLimit-Daily": "650000", "X-HubSpot-RateLimit-Daily-Remaining": "0"}),
    "LOCKED": (423, {"status": "error", "message": "The resource is locked", "category": "LOCKED"}, {}),
    "MIGRATION_IN_PROGRESS": (477, {"status": "error", "message": "Migration in progress"}, {"Retry-After": "86400"}),
    "INTERNAL_ERROR": (500, {"status": "error", "message": "internal error", "category": "INTERNAL_ERROR"}, {}),
    "BAD_GATEWAY": (502, "<html><head><title>502 Bad Gateway</title></head></html>", {}),
    "SERVICE_UNAVAILABLE": (503, {"status": "error", "message": "Service Unavailable"}, {}),
    "GATEWAY_TIMEOUT": (504, "<html><head><title>504 Gateway Time-out</title></head></html>", {}),
    "ORIGIN_TIMEOUT": (524, "<html><head><title>524 Origin Time-out</title></head></html>", {}),
}  # fmt: skip
"""Errors of a whole call of HubSpot: our name → HTTP status, body (a text: a gateway's page), headers."""

HUBSPOT_ROW_ERRORS: Final[dict[str, tuple[str, ...]]] = {
    "VALIDATION_ERROR": (
        'Property values were not valid: [{"isValid":false,"message":"URGENT was not one of the allowed options",'
        '"error":"INVALID_OPTION","name":"hs_task_priority"}]',
    ),
    "CONFLICT": ("Contact already exists. Existing ID: 1",),
    "OBJECT_NOT_FOUND": ("Could not get some objects, they may be deleted or not exist. Check that ids are valid.",),
    "INTERNAL_ERROR": ("There was a problem with the request.",),
}
"""Errors of one record of a HubSpot batch: category → message."""

KEYS: Final = {"match", "method", "after", "times", "body", "headers", "rows", "executed"}
KINDS: Final = {"status", "error", "drop", "slow", "row_error", "job_error"}


def check(spec: Any) -> None:
    """Raises ValueError, with a message for the caller, on a fault that is not valid."""
    if not isinstance(spec, dict) or not isinstance(spec.get("match"), str):
        raise ValueError("a fault needs match: a regular expression searched in path?query")
    if unknown := spec.keys() - KEYS - KINDS:
        raise ValueError(f"fault {sorted(unknown)[0]}: known are {', '.join(sorted(KEYS | KINDS))}")
    try:
        re.compile(spec["match"])
    except re.error as error:
        raise ValueError(f"fault match {spec['match']!r}: {error}") from error
    if sum(kind in spec for kind in KINDS) != 1:
        raise ValueError(f"a fault has exactly one of {', '.join(sorted(KINDS))}")
    if spec.get("drop") not in (None, "request", "answer", "half"):
        raise ValueError(f"fault drop {spec['drop']!r}: request, answer or half")
    if "error" in spec and spec["error"] not in (errors := ERRORS | HUBSPOT_ERRORS):
        raise ValueError(f"fault error {spec['error']!r}: one of {', '.join(errors)}")
    row, known = spec.get("row_error", {"statusCode": "-"}), ROW_ERRORS | HUBSPOT_ROW_ERRORS
    if not (row in known if isinstance(row, str) else isinstance(row, dict) and row.get("statusCode")):
        raise ValueError(f"fault row_error: {{statusCode, message, fields}} or one of {', '.join(known)}")
    for name in ("after", "times", "slow"):
        if not isinstance(spec.get(name, 1), int | float) or spec.get(name, 1) < 0:
            raise ValueError(f"fault {name} {spec[name]!r}: a number ≥ 0")


def plan(store: Store, specs: list[dict[str, Any]]) -> None:
    """Plans faults, in this order. Raises ValueError when one is not valid, and then plans none."""
    for spec in specs:
        check(spec)
    rows = [(json.dumps(spec), int(spec.get("times", 1))) for spec in specs]
    store.db.executemany("INSERT INTO fault (spec, remaining) VALUES (?, ?)", rows)


def planned(store: Store) -> list[dict[str, Any]]:
    """The faults that have not occurred yet; `times` is how often each still will."""
    waiting = store.db.execute("SELECT * FROM fault WHERE remaining > 0 ORDER BY id")
    return [json.loads(row["spec"]) | {"times": row["remaining"]} for row in waiting]


def _take(store: Store, kinds: set[str], method: str, path: str, index: int | None = None) -> dict[str, Any]:
    for row in store.db.execute("SELECT * FROM fault WHERE remaining > 0 ORDER BY id").fetchall():
        spec: dict[str, Any] = json.loads(row["spec"])
        if not kinds & spec.keys() or spec.get("method", method).upper() != method:
            continue
        if not re.search(spec["match"], path) or (index is not None and index not in spec.get("rows", [index])):
            continue
        if spec.get("after", 0) > 0:
            spec["after"] -= 1
            store.db.execute("UPDATE fault SET spec = ? WHERE id = ?", (json.dumps(spec), row["id"]))
            continue
        store.db.execute("UPDATE fault SET remaining = remaining - 1 WHERE id = ?", (row["id"],))
        return spec
    return {}


def of_call(store: Store, method: str, path: str) -> dict[str, Any]:
    """Takes the next fault planned for this call; empty when there is none. An `error` gets its status and body."""
    spec = _take(store, {"status", "error", "drop", "slow"}, method, path)
    if "error" in spec and api_of(path) == "hubspot" and spec["error"] in HUBSPOT_ERRORS:
        status, body, headers = HUBSPOT_ERRORS[spec["error"]]
        body = body | {"correlationId": str(uuid.uuid4())} if isinstance(body, dict) else body
        return {**spec, "status": status, "body": body, "headers": headers}
    if "error" in spec:
        refusal = ApiError(*ERRORS[spec["error"]])
        return {**spec, "status": refusal.status, "body": refusal.body}
    return spec


def of_row(store: Store, method: str, path: str, index: int) -> DmlError | None:
    """Takes the error planned for the `index`-th record of this call; None when there is none."""
    error = _take(store, {"row_error"}, method, path, index).get("row_error")
    if isinstance(error, str):
        known = HUBSPOT_ROW_ERRORS | ROW_ERRORS if api_of(path) == "salesforce" else ROW_ERRORS | HUBSPOT_ROW_ERRORS
        return DmlError(error, *known[error])
    return DmlError(error["statusCode"], error.get("message", ""), *error.get("fields", [])) if error else None


def of_job(store: Store, method: str, path: str) -> tuple[str, int] | None:
    """Takes the failure planned for the bulk job uploaded by this call: its message, and after how many records."""
    spec = _take(store, {"job_error"}, method, path)
    return (str(spec["job_error"]), int(spec.get("rows", 0))) if spec else None


def api_of(path: str) -> str:
    """The API a path belongs to; empty when it belongs to none."""
    if path.startswith("/services/"):
        return "salesforce" if path.startswith("/services/data") else "salesforce sign-in"
    if path.startswith("/api/2/"):
        return "amplitude"
    if path.startswith("/crm/"):
        return "hubspot"
    if path.startswith("/hooks/"):
        return "audience"
    return "slack" if path.startswith(("/api/", "/upload/")) else ""


_IDS: Final = (
    (re.compile(r"(/sobjects/\w+/\w+__c)/[^/]+$"), r"\1/{key}"),
    (re.compile(r"/(?=[A-Za-z0-9]*\d)[A-Za-z0-9]{15}(?:[A-Za-z0-9]{3})?(?=/|$)"), "/{id}"),
    (re.compile(r"/01g\w+-\d+$"), "/{locator}"),
    (re.compile(r"/upload/v1/\w+"), "/upload/v1/{id}"),
    (re.compile(r"(/crm/v3/objects/\w+)/\d+$"), r"\1/{id}"),
)


def pattern(path: str) -> str:
    """A path with placeholders in place of its ids."""
    for ids, name in _IDS:
        path = ids.sub(name, path)
    return path
