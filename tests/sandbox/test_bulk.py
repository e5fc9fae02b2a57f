"""Bulk API 2.0 ingest, as the documentation has it and to the client people use."""

from __future__ import annotations

import csv
import io
from functools import cache
from typing import Any

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st
from onetouch.sandbox.in_process import URL, Org

from tests.sandbox.conftest import ACME, NOW, ORG, OTHER, Sandbox
from tests.sandbox.test_salesforce import code

UPSERT = {"object": "Task", "operation": "upsert", "externalIdFieldName": "Onetouch_Handoff_Id__c"}


def create(sandbox: Sandbox, **given: Any) -> dict[str, Any]:
    answer = sandbox.rest("POST", "jobs/ingest", json=given)
    assert answer.status_code == 200, answer.text
    return answer.json()


def put(sandbox: Sandbox, job: dict[str, Any], text: str | bytes) -> requests.Response:
    raw = text.encode() if isinstance(text, str) else text
    return sandbox.rest("PUT", f"jobs/ingest/{job['id']}/batches", data=raw, headers={"Content-Type": "text/csv"})


def state(sandbox: Sandbox, job: dict[str, Any], to: str) -> requests.Response:
    return sandbox.rest("PATCH", f"jobs/ingest/{job['id']}", json={"state": to})


def look(sandbox: Sandbox, job: dict[str, Any]) -> dict[str, Any]:
    return sandbox.rest("GET", f"jobs/ingest/{job['id']}").json()


def results(sandbox: Sandbox, job: dict[str, Any], which: str) -> list[dict[str, str]]:
    answer = sandbox.rest("GET", f"jobs/ingest/{job['id']}/{which}")
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"].startswith("text/csv")
    return list(csv.DictReader(io.StringIO(answer.text)))


def run(sandbox: Sandbox, text: str | bytes, looks: int = 1, **given: Any) -> dict[str, Any]:
    """A job from its creation to its end; what the last look told."""
    sandbox.admin("limits", {"bulk_looks": looks})
    job = create(sandbox, **given)
    assert put(sandbox, job, text).status_code == 201
    assert state(sandbox, job, "UploadComplete").json()["state"] == "UploadComplete"
    for _ in range(looks):
        assert look(sandbox, job)["state"] in ("InProgress", "Failed")
    return look(sandbox, job)


def rows(*rows: str) -> str:
    return "\n".join(rows) + "\n"


def test_a_job_goes_through_its_states_and_tells_every_row(sandbox: Sandbox) -> None:
    job = create(sandbox, **UPSERT, contentType="CSV", lineEnding="LF")
    assert (job["state"], job["apiVersion"], job["concurrencyMode"]) == ("Open", 62.0, "Parallel")
    assert job["contentUrl"] == f"services/data/v62.0/jobs/ingest/{job['id']}/batches"
    text = rows(
        "Onetouch_Handoff_Id__c,Subject,WhatId,IsReminderSet",
        f'a,"One, ""two""\nthree",{ACME},true',
        f"b,Two,{ACME[:-1]}B,false",
        f"c,,{ACME},",
    )
    assert put(sandbox, job, text).status_code == 201
    assert sandbox.rows("SELECT Id FROM Task") == []
    assert code(sandbox.rest("GET", f"jobs/ingest/{job['id']}/failedResults")) == (400, "INVALIDJOBSTATE")
    assert state(sandbox, job, "UploadComplete").json()["state"] == "UploadComplete"
    first, last = look(sandbox, job), look(sandbox, job)
    assert (first["state"], first["numberRecordsProcessed"]) == ("InProgress", 1)
    assert (last["state"], last["numberRecordsProcessed"], last["numberRecordsFailed"]) == ("JobComplete", 3, 1)
    assert last["jobType"] == "V2Ingest" and "contentUrl" not in last

    good = results(sandbox, job, "successfulResults")
    found = sandbox.rows("SELECT Id, Onetouch_Handoff_Id__c, Subject, IsReminderSet FROM Task")
    held = {row["Onetouch_Handoff_Id__c"]: row for row in found}
    assert {row["Onetouch_Handoff_Id__c"]: row["sf__Id"] for row in good} == {k: v["Id"] for k, v in held.items()}
    assert list(good[0])[:2] == ["sf__Id", "sf__Created"] and {row["sf__Created"] for row in good} == {"true"}
    assert (held["a"]["Subject"], held["a"]["IsReminderSet"], held["c"]["Subject"]) == (
        'One, "two"\nthree', True, None
    )  # fmt: skip
    [bad] = results(sandbox, job, "failedResults")
    assert bad["Onetouch_Handoff_Id__c"] == "b"
    assert bad["sf__Error"].startswith("MALFORMED_ID:") and bad["sf__Error"].endswith(":WhatId --")
    assert results(sandbox, job, "unprocessedrecords") == []
    assert sandbox.rest("DELETE", f"jobs/ingest/{job['id']}").status_code == 204
    assert code(sandbox.rest("GET", f"jobs/ingest/{job['id']}")) == (404, "NOT_FOUND")


def test_an_empty_cell_changes_nothing_and_the_mark_of_nothing_empties(sandbox: Sandbox) -> None:
    sandbox.rest("PATCH", f"sobjects/Account/{ACME}", json={"Region__c": "EU", "Plan__c": "team"})
    done = run(sandbox, rows("Id,Region__c,Plan__c,Seats__c", f"{ACME},,#N/A,40"), object="Account", operation="update")
    assert done["state"] == "JobComplete"
    assert sandbox.rows(f"SELECT Region__c, Plan__c, Seats__c FROM Account WHERE Id = '{ACME}'") == [
        {"Region__c": "EU", "Plan__c": None, "Seats__c": 40}
    ]


def test_the_results_keep_no_order(sandbox: Sandbox) -> None:
    text = rows("Onetouch_Handoff_Id__c,WhatId", *(f"h{i},{ACME}" for i in range(5)))
    job = run(sandbox, text, looks=0, **UPSERT)
    keys = [row["Onetouch_Handoff_Id__c"] for row in results(sandbox, job, "successfulResults")]
    assert sorted(keys) == [f"h{i}" for i in range(5)] != keys


def test_the_same_upsert_again_creates_nothing(sandbox: Sandbox) -> None:
    text = rows("Onetouch_Handoff_Id__c,WhatId", f"a,{ACME}", f"a,{ACME}", f"b,{OTHER}")
    first, second = run(sandbox, text, looks=0, **UPSERT), run(sandbox, text, looks=0, **UPSERT)
    assert [job["numberRecordsFailed"] for job in (first, second)] == [1, 1]
    assert {row["sf__Created"] for row in results(sandbox, second, "successfulResults")} == {"false"}
    assert len(sandbox.rows("SELECT Id FROM Task", deleted=True)) == 2


def test_inserts_and_deletes(sandbox: Sandbox) -> None:
    text = "Subject|WhatId\r\n" + f"One|{ACME}\r\n" + f"Two|{ACME}\r\n"
    job = run(sandbox, text, object="Task", operation="insert", lineEnding="CRLF", columnDelimiter="PIPE")
    assert (job["state"], job["numberRecordsProcessed"]) == ("JobComplete", 2)
    ids = [row["Id"] for row in sandbox.rows("SELECT Id FROM Task")]
    job = run(sandbox, rows("Id", *ids, ids[0]), object="Task", operation="delete")
    [bad] = results(sandbox, job, "failedResults")
    assert (bad["sf__Id"], bad["sf__Error"]) == (ids[0], "ENTITY_IS_DELETED:entity is deleted:--")
    assert sandbox.rows("SELECT Id FROM Task") == []


@pytest.mark.parametrize(
    ("text", "given", "error"),
    [
        (rows("Subjekt", "x"), {}, "InvalidBatch : Field name not found : Subjekt"),
        (rows("Account.Name", "x"), {}, "InvalidBatch : Field name not found : Account.Name"),
        (rows("Subject", "x", "y,z"), {}, "InvalidBatch : Line 3 has 2 columns"),
        ("Subject\r\nx\r\n", {}, "ClientInputError : LineEnding is invalid on user data"),
        (rows("Subject", "x"), {"lineEnding": "CRLF"}, "ClientInputError : LineEnding is invalid on user data"),
        (b"Subject\n\xff\n", {}, "InvalidBatch : The upload is not UTF-8"),
        (rows("Subject", '"x" y'), {}, "InvalidBatch : Failed to parse CSV"),
        (rows("Subject", "x"), {"operation": "update"}, "InvalidBatch : Field name not found : Id"),
        (rows("Subject", "x"), UPSERT, "InvalidBatch : External ID field not found"),
    ],
)
def test_an_upload_that_cannot_be_read_fails_the_job(
    sandbox: Sandbox, text: str | bytes, given: dict[str, Any], error: str
) -> None:
    job = run(sandbox, text, looks=0, **{"object": "Task", "operation": "insert"} | given)
    assert (job["state"], job["numberRecordsProcessed"]) == ("Failed", 0)
    assert job["errorMessage"].startswith(error)
    assert sandbox.rows("SELECT Id FROM Task") == []


@pytest.mark.parametrize(
    "given",
    [
        {"object": "Nothing", "operation": "insert"},
        {"object": "Task", "operation": "replace"},
        {"object": "Task", "operation": "upsert"},
        {"object": "Task", "operation": "upsert", "externalIdFieldName": "Subject"},
        {"object": "Task", "operation": "insert", "externalIdFieldName": "Onetouch_Handoff_Id__c"},
        {"object": "Task", "operation": "insert", "lineEnding": "CR"},
        {"object": "Task", "operation": "insert", "contentType": "JSON"},
    ],
)
def test_an_ill_formed_job_is_refused(sandbox: Sandbox, given: dict[str, Any]) -> None:
    assert code(sandbox.rest("POST", "jobs/ingest", json=given)) == (400, "INVALIDJOB")


def test_what_comes_out_of_turn_is_refused(sandbox: Sandbox) -> None:
    text = rows("Subject,WhatId", f"x,{ACME}")
    job = create(sandbox, object="Task", operation="insert")
    assert sandbox.rest("PUT", f"jobs/ingest/{job['id']}/batches", json={}).status_code == 415
    assert code(sandbox.rest("PUT", f"jobs/ingest/{job['id']}", data=b"")) == (405, "METHOD_NOT_ALLOWED")
    assert put(sandbox, job, text).status_code == 201
    assert code(put(sandbox, job, text)) == (400, "INVALIDJOBSTATE")
    assert code(state(sandbox, job, "JobComplete")) == (400, "INVALIDJOB")
    assert state(sandbox, job, "UploadComplete").status_code == 200
    assert code(put(sandbox, job, text)) == (400, "INVALIDJOBSTATE")
    assert code(state(sandbox, job, "UploadComplete")) == (400, "INVALIDJOBSTATE")
    for _ in range(2):
        look(sandbox, job)
    assert code(state(sandbox, job, "Aborted")) == (400, "INVALIDJOBSTATE")
    assert len(sandbox.rows("SELECT Id FROM Task")) == 1


def test_a_job_stopped_half_way_tells_what_it_left(sandbox: Sandbox) -> None:
    text = rows("Subject,WhatId", *(f"{i},{ACME}" for i in range(4)))
    job = create(sandbox, object="Task", operation="insert")
    put(sandbox, job, text)
    state(sandbox, job, "UploadComplete")
    assert look(sandbox, job)["numberRecordsProcessed"] == 2
    assert state(sandbox, job, "Aborted").json()["state"] == "Aborted"
    assert [row["Subject"] for row in results(sandbox, job, "unprocessedrecords")] == ["2", "3"]
    assert [row["Subject"] for row in sandbox.rows("SELECT Subject FROM Task ORDER BY Subject")] == ["0", "1"]


def test_a_job_may_fail_in_the_middle(sandbox: Sandbox) -> None:
    sandbox.admin("faults", {"match": "object=Task", "job_error": "InternalServerError : try later", "rows": 1})
    text = rows("Subject,WhatId", *(f"{i},{ACME}" for i in range(3)))
    job = run(sandbox, text, looks=0, object="Task", operation="insert")
    assert (job["state"], job["errorMessage"]) == ("Failed", "InternalServerError : try later")
    assert len(results(sandbox, job, "successfulResults")) == 1
    assert len(results(sandbox, job, "unprocessedrecords")) == 2


def test_a_row_of_a_job_can_fail(sandbox: Sandbox) -> None:
    sandbox.admin("faults", {"match": "jobs/ingest.*object=Task", "row_error": "UNABLE_TO_LOCK_ROW", "rows": [1]})
    job = run(sandbox, rows("Onetouch_Handoff_Id__c,WhatId", *(f"{k},{ACME}" for k in "abc")), **UPSERT)
    [bad] = results(sandbox, job, "failedResults")
    assert (bad["Onetouch_Handoff_Id__c"], bad["sf__Id"]) == ("b", "")
    assert bad["sf__Error"].startswith("UNABLE_TO_LOCK_ROW:unable to obtain exclusive access")


def test_a_job_nobody_looks_at_is_done_all_the_same(sandbox: Sandbox) -> None:
    job = create(sandbox, **UPSERT)
    put(sandbox, job, rows("Onetouch_Handoff_Id__c,WhatId", f"a,{ACME}"))
    state(sandbox, job, "UploadComplete")
    assert sandbox.rows("SELECT Id FROM Task") == []
    sandbox.admin("clock", {"now": "2025-03-03T10:02:00+00:00"})
    assert len(sandbox.rows("SELECT Id FROM Task")) == 1
    assert look(sandbox, job)["state"] == "JobComplete"


def test_every_request_of_a_job_is_a_call_of_the_day(sandbox: Sandbox) -> None:
    sandbox.http.delete(f"{sandbox.url}/_sandbox/log", timeout=20)
    run(sandbox, rows("Onetouch_Handoff_Id__c,WhatId", f"a,{ACME}"), looks=1, **UPSERT)
    assert sandbox.admin("log")["by_api"] == {"salesforce": 5}
    sandbox.admin("limits", {"api_daily": 5})
    assert code(sandbox.rest("POST", "jobs/ingest", json=UPSERT)) == (403, "REQUEST_LIMIT_EXCEEDED")


VALUES = st.one_of(
    st.none(),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(lambda text: text != "#N/A"),
    st.sampled_from(["Completed", "High", "2025-03-04", "true", ACME, "x" * 300, 'say "hi", twice\nand leave']),
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {"Onetouch_Handoff_Id__c": st.sampled_from("abcdef")},
        optional={name: VALUES for name in ("Subject", "Status", "Priority", "ActivityDate", "WhatId", "Description")},
    ),
    min_size=1,
    max_size=8,
)


@cache
def start() -> bytes:
    org = Org()
    org.tooling.clock(NOW)
    org.tooling.load(ORG)
    return org.image()


def signed_in() -> tuple[Org, requests.Session]:
    org = Org(start())
    session = org.session()
    form = {"grant_type": "client_credentials", "client_id": "sandbox-key", "client_secret": "sandbox-secret"}
    token = session.post(f"{URL}/services/oauth2/token", data=form).json()["access_token"]
    session.headers["Authorization"] = f"Bearer {token}"
    return org, session


@settings(max_examples=60)
@given(ROWS, st.sampled_from(["LF", "CRLF"]), st.sampled_from(["COMMA", "TAB", "PIPE"]))
def test_a_job_does_to_the_org_what_a_collection_does(rows: list[dict[str, Any]], ending: str, delimiter: str) -> None:
    # A job has one set of columns; what a row leaves out is an empty cell.
    columns = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO()
    writer = csv.writer(
        out,
        delimiter={"COMMA": ",", "TAB": "\t", "PIPE": "|"}[delimiter],
        lineterminator={"LF": "\n", "CRLF": "\r\n"}[ending],
        quoting=csv.QUOTE_ALL,
    )
    writer.writerow(columns)
    for row in rows:
        writer.writerow("#N/A" if row.get(name, "") is None else row.get(name, "") for name in columns)

    one, session = signed_in()
    records = [{"attributes": {"type": "Task"}, **row} for row in rows]
    address = f"{URL}/services/data/v62.0/composite/sobjects/Task/Onetouch_Handoff_Id__c"
    told = session.patch(address, json={"records": records}).json()

    other, session = signed_in()
    other.tooling.limits(bulk_looks=0)
    jobs = f"{URL}/services/data/v62.0/jobs/ingest"
    job = session.post(jobs, json=UPSERT | {"lineEnding": ending, "columnDelimiter": delimiter}).json()["id"]
    session.put(f"{jobs}/{job}/batches", data=out.getvalue().encode(), headers={"Content-Type": "text/csv"})
    session.patch(f"{jobs}/{job}", json={"state": "UploadComplete"})
    info = session.get(f"{jobs}/{job}").json()
    assert (info["state"], info["numberRecordsProcessed"]) == ("JobComplete", len(rows))
    assert info["numberRecordsFailed"] == sum(not row["success"] for row in told)
    every = "SELECT * FROM Task ORDER BY Onetouch_Handoff_Id__c"
    held = [
        [{k: row[k] for k in row.keys() if k != "Id"} for row in org.store.db.execute(every)]  # noqa: SIM118
        for org in (one, other)
    ]
    assert held[0] == held[1]


def test_the_library_people_use_gets_through(sandbox: Sandbox) -> None:
    sandbox.admin("limits", {"bulk_looks": 0})
    records = [{"Onetouch_Handoff_Id__c": key, "Subject": "Call", "WhatId": ACME} for key in "abc"]
    [told] = sandbox.client().bulk2.Task.upsert(records=records, external_id_field="Onetouch_Handoff_Id__c", wait=0)
    assert (told["numberRecordsProcessed"], told["numberRecordsFailed"]) == (3, 0)
    assert len(sandbox.rows("SELECT Id FROM Task")) == 3
