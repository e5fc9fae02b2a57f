"""Bulk API 2.0 ingest: a job, one upload of CSV, processing while the caller polls, results as CSV.

Rows are processed as the caller polls: `bulk_looks` answers say InProgress, and with each of them a part of the rows
is processed. A job that is not polled is processed by the first call BULK_SECONDS after its upload was completed.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import lru_cache
from typing import Any, Final

from onetouch.sandbox import faults
from onetouch.sandbox.api import Answer, ApiError, Call, not_found
from onetouch.sandbox.fields import Field, SObject, make_id
from onetouch.sandbox.records import DmlError
from onetouch.sandbox.store import INTEGRATION_USER, Store

BULK_SECONDS: Final = 60
"""Ours: seconds until a job that is not polled is processed."""

_MAX_UPLOAD: Final = 100_000_000  # bytes; Salesforce: 150 MB once encoded in base64
_CHUNK: Final = 200  # rows saved together, as in the other APIs
_DELIMITERS: Final = {"BACKQUOTE": "`", "CARET": "^", "COMMA": ",", "PIPE": "|", "SEMICOLON": ";", "TAB": "\t"}
_ENDINGS: Final = {"LF": "\n", "CRLF": "\r\n"}
_GIVEN: Final = {"object", "operation", "externalIdFieldName", "contentType", "lineEnding", "columnDelimiter"}
_OPERATIONS: Final = ("insert", "update", "upsert", "delete")
_ENDED: Final = ("JobComplete", "Failed", "Aborted")

Act = Callable[[SObject, Field | None, dict[str, Any], set[str]], dict[str, Any]]
"""Writes one row: its sObject, the external id of an upsert, its values, the keys earlier in its chunk. Raises
DmlError."""


class Ingest:
    """The jobs of an org."""

    def __init__(self, store: Store, org: Callable[[], dict[str, SObject]], acts: Mapping[str, Act]) -> None:
        self.store, self.org, self.acts = store, org, acts

    def call(self, call: Call, raw: bytes) -> Answer:
        """One call below jobs/ingest. Raises ApiError."""
        match call.path.split("/")[2:]:
            case []:
                call.only("GET", "POST")
                return self._list(call) if call.method == "GET" else self._create(call, _object(raw))
            case [job_id]:
                call.only("GET", "PATCH", "DELETE")
                job = self._job(job_id)
                if call.method == "PATCH":
                    return self._change(call, job, _object(raw))
                return self._poll(call, job) if call.method == "GET" else self._delete(job)
            case [job_id, "batches"]:
                call.only("PUT")
                return self._upload(call, self._job(job_id), raw)
            case [job_id, ("successfulResults" | "failedResults" | "unprocessedrecords") as which]:
                call.only("GET")
                return self._results(self._job(job_id), which)
        raise not_found()

    def process_due(self) -> None:
        """Processes the jobs that were not polled for BULK_SECONDS."""
        due = self.store.db.execute("SELECT * FROM job WHERE due <= ?", (self.store.now().isoformat(),)).fetchall()
        for job in due:
            self._process(job, whole=True)

    # -- jobs

    def _job(self, job_id: str) -> Any:
        # Ids are case-sensitive, LIKE is not.
        found = self.store.db.execute("SELECT * FROM job WHERE ? IN (id, substr(id, 1, 15))", (job_id,)).fetchone()
        if not found:
            raise not_found()
        return found

    def _set(self, job_id: str, **values: Any) -> Any:
        values["stamp"] = self.store.stamp()
        changes = ", ".join(f"{name} = :{name}" for name in values)
        self.store.db.execute(f"UPDATE job SET {changes} WHERE id = :id", {**values, "id": job_id})
        return self._job(job_id)

    def _create(self, call: Call, given: dict[str, Any]) -> Answer:
        if unknown := given.keys() - _GIVEN - {"assignmentRuleId"}:
            raise ApiError(400, "JSON_PARSER_ERROR", f'Unrecognized field "{sorted(unknown)[0]}"')
        sobject = self.org().get(str(given.get("object", "")).lower())
        operation, key = given.get("operation"), given.get("externalIdFieldName")
        if not sobject:
            raise ApiError(400, "INVALIDJOB", f"InvalidJob : Unable to find object: {given.get('object')}")
        if operation not in _OPERATIONS:
            raise ApiError(400, "INVALIDJOB", f"InvalidJob : Invalid operation: {operation}")
        field = sobject.find(str(key)) if key else None
        if (operation == "upsert") != (key is not None) or (key and not (field and field.external_id)):
            message = "InvalidJob : Must specify valid external ID field for upsert, and for upsert only"
            raise ApiError(400, "INVALIDJOB", f"{message}: {key}")
        ending, delimiter = given.get("lineEnding", "LF"), given.get("columnDelimiter", "COMMA")
        if ending not in _ENDINGS or delimiter not in _DELIMITERS or given.get("contentType", "CSV") != "CSV":
            message = "InvalidJob : contentType CSV, lineEnding LF or CRLF, columnDelimiter of the documented ones"
            raise ApiError(400, "INVALIDJOB", message)
        job_id = make_id("750", 1_000_000 + self.store.next_number())
        stamp = self.store.stamp()
        self.store.db.execute(
            "INSERT INTO job (id, sobject, operation, key, ending, delimiter, state, version, created, stamp)"
            " VALUES (?, ?, ?, ?, ?, ?, 'Open', ?, ?, ?)",
            (job_id, sobject.name, operation, field and field.name, ending, delimiter, call.version[1:], stamp, stamp),
        )
        return Answer(200, _shown(self._job(job_id), whole=False))

    def _list(self, call: Call) -> Answer:
        jobs = self.store.db.execute("SELECT * FROM job ORDER BY created, id").fetchall()
        records = [_shown(job, whole=False) for job in jobs]
        return Answer(200, {"done": True, "records": records, "nextRecordsUrl": None})

    def _upload(self, call: Call, job: Any, raw: bytes) -> Answer:
        if not call.headers.get("content-type", "").lower().startswith("text/csv"):
            raise ApiError(415, "UNSUPPORTED_MEDIA_TYPE", "Content-Type header is not supported: a job takes text/csv")
        if job["state"] != "Open":
            raise _wrong_state(f"Job {job['id']} is in state {job['state']}: data is uploaded to an Open one")
        if job["content"] is not None:
            message = f"Found multiple contents for job: <{job['id']}>, please 'Close' / 'Abort' / 'Delete' the current"
            raise _wrong_state(
                f"{message} Job then create a new Job and make sure you only do 'PUT' once on a given Job."
            )
        if len(raw) > _MAX_UPLOAD:
            raise ApiError(413, "EXCEEDED_MAX_SIZE_REQUEST", f"Request size exceeded the limit of {_MAX_UPLOAD} bytes")
        self._set(job["id"], content=raw)
        return Answer(201)

    def _change(self, call: Call, job: Any, given: dict[str, Any]) -> Answer:
        state = given.get("state")
        if given.keys() != {"state"} or state not in ("UploadComplete", "Aborted"):
            raise ApiError(400, "INVALIDJOB", "InvalidJob : a job's state may be set to UploadComplete or Aborted")
        if job["state"] in _ENDED or (state == "UploadComplete" and job["state"] != "Open"):
            raise _wrong_state(f"Job {job['id']} is in state {job['state']}: it cannot become {state}")
        due = None
        if state == "UploadComplete":
            due = (self.store.now() + timedelta(seconds=BULK_SECONDS)).isoformat()
        return Answer(200, _shown(self._set(job["id"], state=state, due=due), whole=False))

    def _delete(self, job: Any) -> Answer:
        if job["state"] in ("Open", "InProgress"):
            raise _wrong_state(f"Job {job['id']} is in state {job['state']}: only one that has ended is deleted")
        self.store.db.execute("DELETE FROM job WHERE id = ?", (job["id"],))
        self.store.db.execute("DELETE FROM job_row WHERE job = ?", (job["id"],))
        return Answer(204)

    def _poll(self, call: Call, job: Any) -> Answer:
        if job["state"] in ("UploadComplete", "InProgress"):
            job = self._process(job, whole=False)
        return Answer(200, _shown(job, whole=True))

    # -- processing

    def _process(self, job: Any, *, whole: bool) -> Any:
        """Processes the rows that are due by now; with `whole`, all of them."""
        looks, polls = int(self.store.setting("bulk_looks")), job["polls"] + 1
        try:
            header, rows = self._rows(job)
        except _BadBatch as error:
            return self._set(job["id"], state="Failed", due=None, error=str(error))
        batches = f"/services/data/v{job['version']}/jobs/ingest/{job['id']}/batches"
        address = f"{batches}?object={job['sobject']}&operation={job['operation']}"
        if not job["processed"] and (fault := faults.of_job(self.store, "PUT", address)):
            self._save(job, address, header, rows[: fault[1]], 0)
            return self._set(job["id"], state="Failed", due=None, error=fault[0], processed=min(fault[1], len(rows)))
        end = len(rows) if whole or polls > looks else len(rows) * polls // (looks + 1)
        self._save(job, address, header, rows[job["processed"] : end], job["processed"])
        over = whole or polls > looks
        state = "JobComplete" if over else "InProgress"
        return self._set(job["id"], state=state, polls=polls, processed=end, due=None if over else job["due"])

    def _rows(self, job: Any) -> tuple[list[Field | None], list[list[str]]]:
        """The fields of the columns (None: Id) and the rows. Raises _BadBatch: Salesforce fails the whole job."""
        sobject = self.org()[job["sobject"].lower()]
        names, rows = _parse(job["content"], job["ending"], job["delimiter"])
        if not names:
            return [], []
        header: list[Field | None] = []
        for name in names:
            field = sobject.find(name)
            if not field or "." in name:
                raise _BadBatch(f"InvalidBatch : Field name not found : {name}")
            header.append(None if field.name == "Id" else field)
        if len({name.lower() for name in names}) < len(names):
            raise _BadBatch("InvalidBatch : Duplicate field names in the header")
        if (job["operation"] in ("update", "delete")) != (None in header):
            raise _BadBatch(f"InvalidBatch : Field name not found : Id, or not allowed in {job['operation']}")
        if job["operation"] == "delete" and len(header) > 1:
            raise _BadBatch("InvalidBatch : delete batches must contain only ids")
        if job["key"] and not any(field and field.name == job["key"] for field in header):
            raise _BadBatch(f"InvalidBatch : External ID field not found : {job['key']}")
        return header, rows

    def _save(self, job: Any, address: str, header: list[Field | None], rows: list[list[str]], first: int) -> None:
        sobject = self.org()[job["sobject"].lower()]
        key = sobject.find(job["key"]) if job["key"] else None
        act = self.acts[job["operation"]]
        outcomes = []
        seen: set[str] = set()
        for number, cells in enumerate(rows, first):
            if number % _CHUNK == 0:
                seen = set()
            made, created, error = None, 0, None
            try:
                if fault := faults.of_row(self.store, "PUT", address, number):
                    raise fault
                with self.store.transaction():
                    outcome = act(sobject, key, _values(header, cells), seen)
                made, created = outcome["id"], int(job["operation"] == "insert" or outcome.get("created", False))
            except DmlError as refused:
                error = f"{refused.code}:{refused.message}:{' '.join(refused.fields)} --".replace(": --", ":--")
                made = cells[header.index(None)] if None in header else None
            outcomes.append((job["id"], number, made, created, error))
        self.store.db.executemany("INSERT INTO job_row VALUES (?, ?, ?, ?, ?)", outcomes)
        failed = job["failed"] + sum(error is not None for *_, error in outcomes)
        self._set(job["id"], failed=failed)

    def _results(self, job: Any, which: str) -> Answer:
        if job["state"] not in _ENDED:
            raise _wrong_state(f"Job {job['id']} is in state {job['state']}: results are there when it has ended")
        try:
            names, rows = _parse(job["content"], job["ending"], job["delimiter"])
        except _BadBatch:
            names, rows = [], []
        out = io.StringIO()
        writer = csv.writer(
            out,
            delimiter=_DELIMITERS[job["delimiter"]],
            lineterminator=_ENDINGS[job["ending"]],
            quoting=csv.QUOTE_ALL,
        )
        if which == "unprocessedrecords":
            writer.writerow(names)
            writer.writerows(rows[job["processed"] :])
        else:
            good = which == "successfulResults"
            writer.writerow(["sf__Id", "sf__Created" if good else "sf__Error", *names])
            condition = "IS NULL" if good else "IS NOT NULL"
            # Salesforce guarantees no order, so here it is never the order of the upload.
            found = self.store.db.execute(
                f"SELECT * FROM job_row WHERE job = ? AND error {condition} ORDER BY number DESC", (job["id"],)
            )
            for row in found:
                told = ("true" if row["created"] else "false") if good else row["error"]
                writer.writerow([row["record"] or "", told, *rows[row["number"]]])
        return Answer(200, out.getvalue(), {"Content-Type": "text/csv"})


class _BadBatch(Exception):
    """The upload cannot be read; the message is the job's errorMessage."""


def _wrong_state(message: str) -> ApiError:
    return ApiError(400, "INVALIDJOBSTATE", message)


def _object(raw: bytes) -> dict[str, Any]:
    try:
        given = json.loads(raw)
    except ValueError as error:
        raise ApiError(400, "JSON_PARSER_ERROR", f"Unexpected character or end of the document: {error}") from error
    if not isinstance(given, dict):
        raise ApiError(400, "JSON_PARSER_ERROR", "The HTTP entity body is required and must be a JSON object")
    return given


@lru_cache(maxsize=1)  # a job is read at every poll and for its results
def _parse(content: bytes | None, ending: str, delimiter: str) -> tuple[list[str], list[list[str]]]:
    """The header's names and the rows. Raises _BadBatch."""
    if not content:
        return [], []
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _BadBatch("InvalidBatch : The upload is not UTF-8") from error
    first = text.split("\n", 1)[0]
    if first.endswith("\r") != (ending == "CRLF"):
        message = f"LineEnding is invalid on user data. Current LineEnding setting is {ending}"
        raise _BadBatch(f"ClientInputError : {message}")
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=_DELIMITERS[delimiter], strict=True))
    except csv.Error as error:
        raise _BadBatch(f"InvalidBatch : Failed to parse CSV: {error}") from error
    names, *rows = lines
    rows = [row for row in rows if row]
    for number, row in enumerate(rows, 2):
        if len(row) != len(names):
            raise _BadBatch(f"InvalidBatch : Line {number} has {len(row)} columns, the header {len(names)}")
    return [name.strip() for name in names], rows


def _values(header: list[Field | None], cells: list[str]) -> dict[str, Any]:
    """The row's values as in JSON. An empty cell leaves the field as it is, #N/A empties it."""
    values: dict[str, Any] = {}
    for field, cell in zip(header, cells, strict=True):
        if cell == "":
            continue
        if field is None:
            values["Id"] = cell
        elif cell == "#N/A":
            values[field.name] = None
        elif field.type == "boolean" and cell.lower() in ("true", "false", "1", "0"):
            values[field.name] = cell.lower() in ("true", "1")
        else:
            values[field.name] = cell
    return values


def _shown(job: Any, *, whole: bool) -> dict[str, Any]:
    """The job's information: the short form in answers to creation and changes, with `whole` the form of a poll."""
    shown: dict[str, Any] = {
        "id": job["id"],
        "operation": job["operation"],
        "object": job["sobject"],
        "createdById": INTEGRATION_USER,
        "createdDate": job["created"],
        "systemModstamp": job["stamp"],
        "state": job["state"],
        "concurrencyMode": "Parallel",
        "contentType": "CSV",
        "apiVersion": float(job["version"]),
        "lineEnding": job["ending"],
        "columnDelimiter": job["delimiter"],
    }
    if job["key"]:
        shown["externalIdFieldName"] = job["key"]
    if job["state"] == "Open":
        shown["contentUrl"] = f"services/data/v{job['version']}/jobs/ingest/{job['id']}/batches"
    if whole:
        shown |= {
            "jobType": "V2Ingest",
            "numberRecordsProcessed": job["processed"],
            "numberRecordsFailed": job["failed"],
            "retries": 0,
            "totalProcessingTime": job["processed"],
            "apiActiveProcessingTime": job["processed"],
            "apexProcessingTime": 0,
        }
        if job["error"]:
            shown["errorMessage"] = job["error"]
    return shown
