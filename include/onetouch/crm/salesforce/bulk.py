"""Writes rows through Bulk API 2.0: one job for many thousands of rows, a few calls, and one outcome for each row.

A job's rows are identified by a column (the record's id, or the unique key it is created under), never by their
position: results come in no order. When the end of a job was not seen, each of its rows has an unknown outcome, and the
next run looks up the keys.
"""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

import requests
from tenacity import RetryCallState, Retrying, retry_if_result, stop_after_attempt, wait_exponential

from onetouch.crm.protocol import UNKNOWN, CrmError, LimitReached, Outcome, Refused, SignInRefused, Unreachable
from onetouch.crm.salesforce.rows import Batch, Unanswered, refusal
from onetouch.crm.salesforce.transport import Record, having, said

UPLOAD_BYTES = 90_000_000
"""Ours: bytes of one upload. Salesforce accepts 150 MB after encoding in base64, that is 100 MB of CSV."""

POLLS = 40
"""Ours: how often a job is polled before it is aborted; with the pauses in between about 18 minutes."""

_PAUSE = wait_exponential(multiplier=2, max=30)

_JOBS = "jobs/ingest"
_JOB = having("id", "state")
_ENDED = ("JobComplete", "Failed", "Aborted")
_NULL = "#N/A"
"""The value that empties a field; it is never sent. An empty cell leaves the field as it is."""


class _NotBegun(Exception):
    """The job has received its rows but will never process them."""

    def __init__(self, reason: CrmError) -> None:
        super().__init__(str(reason))
        self.reason = reason


class Job(Batch):
    """The rows of one write, sent in one job for each upload."""

    def parts(self) -> Iterator[Sequence[int]]:
        """The rows of each job: of one type, and no more than an upload holds."""
        part: list[int] = []
        size = 0
        for i, record in enumerate(self.records):
            length = sum(len(_cell(value).encode()) + 4 for name, value in record.items() if name != "attributes")
            if part and (size + length > UPLOAD_BYTES or _type(record) != _type(self.records[part[0]])):
                yield part
                part, size = [], 0
            part.append(i)
            size += length
        if part:
            yield part

    def together(self, rows: Sequence[int]) -> None:
        """Sends these rows as one job and reads their outcomes."""
        content = _csv([self.records[i] for i in rows])
        job = self.transport.retrying(Unreachable)(self._prepare, _type(self.records[rows[0]]), content)
        try:
            self._close(job)
            state, message = self._wait(job)
            self._read(job, rows, message or f"the job ended as {state}")
        except _NotBegun as error:
            raise error.reason from None
        except CrmError as error:
            for i in rows:
                self.outcomes[i] = Outcome(ok=False, code=UNKNOWN, message=said(error), retryable=True)
            raise Unanswered from None

    @property
    def key(self) -> str:
        """The column that identifies a row."""
        return "Id" if self.look is None else self.look.key

    def _prepare(self, thing: str, content: bytes) -> str:
        """Creates a job with the rows, not yet started. A job whose creation was not answered is never started."""
        operation = "update" if self.method == "PATCH" else "insert"
        wanted = {"object": thing, "operation": operation, "contentType": "CSV", "lineEnding": "LF"}
        job = self.transport.once("POST", _JOBS, json=wanted, read=_JOB)
        headers = {"Content-Type": "text/csv; charset=UTF-8"}
        self.transport.once("PUT", f"{_JOBS}/{job['id']}/batches", data=content, headers=headers, read=lambda _: None)
        return str(job["id"])

    def _close(self, job: str) -> None:
        """Starts the job. Raises _NotBegun when it certainly did not start."""
        try:
            self.transport.call("PATCH", f"{_JOBS}/{job}", json={"state": "UploadComplete"}, read=_JOB)
        except (LimitReached, SignInRefused) as error:
            raise _NotBegun(error) from None
        except Refused as error:  # closed already, by a request whose answer was lost?
            if self._state(job)["state"] == "Open":
                raise _NotBegun(error) from None

    def _state(self, job: str) -> Record:
        answer: Record = self.transport.call("GET", f"{_JOBS}/{job}", read=_JOB)
        return answer

    def _wait(self, job: str) -> tuple[str, str]:
        """Waits until the job has ended; returns its state and message. A job that takes too long is aborted."""

        def given_up(state: RetryCallState) -> Any:
            with contextlib.suppress(Refused):  # the job has ended meanwhile
                self.transport.call("PATCH", f"{_JOBS}/{job}", json={"state": "Aborted"})
            return self._state(job)

        looks = Retrying(
            retry=retry_if_result(lambda told: told["state"] not in _ENDED),
            wait=_PAUSE,
            stop=stop_after_attempt(POLLS),
            sleep=self.transport.sleep,
            retry_error_callback=given_up,
        )
        told = looks(self._state, job)
        return str(told["state"]), str(told.get("errorMessage") or "")

    def _read(self, job: str, rows: Sequence[int], ended: str) -> None:
        """Every row's outcome; a row without a result has an unknown one. What all rows can do without is not asked."""
        places = {str(self.records[i].get("id") or self.records[i][self.key]): i for i in rows}
        for i in rows:
            self.outcomes[i] = Outcome(ok=False, code=UNKNOWN, message=said(ended), retryable=True)
        missing = set(places.values())
        for which in ("successfulResults", "failedResults", "unprocessedrecords"):
            for row in self._results(job, which) if missing else ():
                place = places.get(row.get(self.key) or row.get("sf__Id", ""))
                if place is None:
                    continue
                missing.discard(place)
                if which == "successfulResults":
                    self.outcomes[place] = Outcome(ok=True, id=row["sf__Id"])
                elif which == "failedResults":
                    self.outcomes[place] = _refused(row["sf__Error"])
                else:
                    self.outcomes[place] = Outcome(ok=False, code="UNPROCESSED", message=said(ended), retryable=True)

    def _results(self, job: str, which: str) -> Iterator[dict[str, str]]:
        text = self.transport.call("GET", f"{_JOBS}/{job}/{which}", headers={"Accept": "text/csv"}, read=_text)
        return csv.DictReader(io.StringIO(text, newline=""))


def _type(record: Record) -> str:
    return str(record["attributes"]["type"])


def _text(answer: requests.Response) -> str:
    return answer.content.decode("utf-8", "replace")


def _csv(records: Sequence[Record]) -> bytes:
    """The rows as CSV, under a header with all their fields."""
    names = sorted({name for record in records for name in record} - {"attributes", "id"})
    by_id = "id" in records[0]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["Id", *names] if by_id else names)
    for record in records:
        cells = [_cell(record.get(name)) for name in names]
        writer.writerow([record["id"], *cells] if by_id else cells)
    return out.getvalue().encode()


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    text = "" if value is None else str(value)
    return "" if text == _NULL else text


def _refused(error: str) -> Outcome:
    """Reads an error of the form `CODE:message:FIELDS --`."""
    code, _, rest = error.partition(":")
    message, _, fields = rest.rpartition(":") if rest.endswith("--") else (rest, "", "")
    return refusal(code, message, fields.removesuffix("--").split())
