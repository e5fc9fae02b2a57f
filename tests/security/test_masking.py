"""Secrets and people in nothing that is logged, kept with a run, passed between tasks or raised."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from onetouch import audit, stages
from onetouch.connections import Connection
from onetouch.crm.protocol import CrmError
from onetouch.delivery import DeliveryFailed
from onetouch.ledger import LedgerError
from onetouch.sandbox.in_process import URL, Adapter, Org
from tenacity import wait_none

from tests.security.conftest import AS_OF, Home, called, run_to_decisions

ADDRESS = re.compile(r"[\w.+-]+@[\w-]+\.\w+")
PERSON = "canary.person@gmail.com"
SECRET = "canary-secret-5b1d"
KEY = "-----BEGIN PRIVATE KEY-----\nMIIcanarykeyline1aaaaaaaa\nMIIcanarykeyline2bbbbbbbb\n-----END PRIVATE KEY-----"
NAMES = ("Kestrel Simulated", "Iris Simulated")


def test_a_run_says_nobodys_name_or_address(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    """What each stage returns is its XCom."""
    workspace, returned = home.workspace, []
    as_of = AS_OF.replace(hour=15)
    other = home.workspace.home / "other.yaml"
    other.write_text("scoring: {tiers: {high: 1, medium: 0.5}}\nvalue: {floor: 1}\n")
    with caplog.at_level(logging.DEBUG):
        run_id = run_to_decisions(workspace, as_of, keep=returned.append)
        returned.append(stages.shadow(replace(workspace, shadow=other), run_id))
    assert len(returned) == 8 and f"user:{PERSON}" in set(
        workspace.lake.read("signals", f"{run_id}.parquet")["account_id"]
    )
    pages = "".join(path.read_text() for path in (workspace.home / "lake/quality").rglob("*.html"))
    kept = json.dumps(workspace.ledger.stage_summaries(run_id))
    people = workspace.lake.read("people", f"{run_id}.parquet")["name"].dropna()
    assert called("u_00003_00") in set(people)
    why = json.dumps(
        audit.explain(workspace.lake, workspace.ledger, workspace.ledger.run(run_id), "org_00003").record()
    )
    for where, said in {
        "log": caplog.text, "XCom": json.dumps(returned), "ledger.stages": kept, "Data Docs": pages,
    }.items():  # fmt: skip
        assert not ADDRESS.search(said), f"{where}: {ADDRESS.findall(said)}"
        assert not any(name in said for name in (*NAMES, *people)), where
    assert not any(name in why for name in people) and not ADDRESS.search(why)


@pytest.mark.parametrize("error", [DeliveryFailed, None], ids=["a stage that fails", "a stage that goes well"])
def test_a_lone_user_is_not_named_by_a_stage(
    home: Home, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: type[Exception] | None
) -> None:
    """An account's id may be the e-mail address of its only user."""
    summary = {"failed": [{"account_id": PERSON, "reason": f"of {PERSON}: locked"}], PERSON: 1}

    def back_off(*_: Any, **__: Any) -> Any:
        if error:
            raise DeliveryFailed("tasks could not be closed", summary, [("handoff 1", "locked")])
        return summary

    monkeypatch.setattr("onetouch.delivery.back_off", back_off)
    monkeypatch.setattr(stages, "_crm", lambda *_, **__: None, raising=False)
    connection = Connection(
        "salesforce_default", extra={"instance_url": URL, "consumer_key": "k", "consumer_secret": SECRET}
    )
    object.__setattr__(home.workspace, "connection", lambda conn_id: connection)
    with caplog.at_level(logging.DEBUG):
        try:
            said: Any = stages.back_off(home.workspace, home.run_id, AS_OF)
        except DeliveryFailed as failed:
            said = [failed.summary, str(failed)]
    kept = home.workspace.ledger.stage_summary(home.run_id, "back_off")
    assert "(e-mail address)" in json.dumps(kept) and "locked" in json.dumps(kept)
    assert PERSON not in json.dumps([said, kept]) + caplog.text


def test_airflow_masks_every_secret_of_our_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow masks a connection's extras as one text only; the plugin says what is secret in them."""
    from airflow.sdk.log import redact
    from onetouch_airflow.opening import connection

    extra = {"instance_url": URL, "consumer_key": "key", "consumer_secret": SECRET, "private_key": KEY}
    given = {"conn_type": "salesforce", "password": "canary-password-aa", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_SALESFORCE_DEFAULT", json.dumps(given))
    monkeypatch.setenv("AIRFLOW_CONN_SLACK_DEFAULT", json.dumps({"conn_type": "slack", "password": "xoxb-canary-1"}))
    found = connection("salesforce_default")
    assert found is not None and found.extra["consumer_secret"] == SECRET
    connection("slack_default")
    said = str(redact(f"{SECRET} {KEY} canary-password-aa xoxb-canary-1 and {KEY.splitlines()[1]}"))
    assert "canary" not in said and said.count("***") >= 4
    assert "canary" not in repr(found)


REFUSALS = {
    "an error page": (500, f"<html>{SECRET} {PERSON}</html>"),
    "a refusal": (400, json.dumps([{"errorCode": "INVALID_FIELD", "message": f"No column '{PERSON}' for {PERSON}"}])),
    "a sign-in": (401, json.dumps({"error": "invalid_client", "error_description": SECRET})),
    "no JSON": (200, f"{SECRET} {PERSON}"),
}  # fmt: skip


@pytest.mark.parametrize(("status", "body"), REFUSALS.values(), ids=REFUSALS)
def test_an_error_of_the_crm_repeats_neither(status: int, body: str, caplog: pytest.LogCaptureFixture) -> None:
    from onetouch.crm.salesforce import Salesforce

    org = Org()
    session = org.session()
    extra = {"instance_url": URL, "consumer_key": "sandbox-key", "consumer_secret": "sandbox-secret"}
    crm = Salesforce(Connection("c", extra=extra), wait=wait_none(), sleep=lambda _: None, session=session)
    session.mount("https://", Adapter(org))
    list(crm.read_reps())
    org.tooling.fault({"match": ".*", "status": status, "body": body, "times": 99})
    with caplog.at_level(logging.DEBUG), pytest.raises(CrmError) as error:
        list(crm.contacts([PERSON]) and crm.read_reps())
    chain: BaseException | None = error.value
    while chain is not None:
        assert SECRET not in str(chain) and PERSON not in str(chain)
        chain = chain.__cause__ or (None if chain.__suppress_context__ else chain.__context__)
    assert SECRET not in caplog.text and "sandbox-secret" not in caplog.text


def test_an_error_of_the_ledger_repeats_no_value(home: Home) -> None:
    ledger = home.workspace.ledger
    with pytest.raises((LedgerError, ValueError)) as error:
        ledger.record_touches([{"touch_id": "t", "account_id": PERSON, "owner_email": PERSON, "at": None}])
    assert PERSON not in str(error.value)


def test_a_file_of_accounts_may_name_only_what_a_person_must_mend(tmp_path: Path) -> None:
    """Somebody sits before it; their own file is quoted, another row's never."""
    from onetouch.signals import AccountsError, read_accounts

    rows = [{"account_id": "a", "owner_email": PERSON, "employees": "5"}, {"account_id": "b", "employees": "many"}]
    pd.DataFrame(rows).to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(AccountsError) as error:
        read_accounts(tmp_path / "a.csv")
    assert "many" in str(error.value) and PERSON not in str(error.value)
