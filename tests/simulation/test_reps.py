"""Reps at work in the stand-in's CRM: in their hours, as the truth has it, and never twice."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
import requests
from onetouch.sandbox import in_process
from onetouch.simulation import simulate, work

SEED, START = 5, datetime(2025, 6, 2, tzinfo=UTC)
FIRST, LAST = START + timedelta(days=14), START + timedelta(days=44)
PICKED = {
    ("No response", None), ("Replied", "Good"), ("Meeting booked", "Good"), ("Replied", "Not now"), (None, "Not now"),
    (None, "Wrong person"), (None, "Would have bought anyway"),
}  # fmt: skip
"""What a rep may leave on a task of ours: outcome, disposition."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("company")
    simulate(folder, seed=SEED, start=START, until=LAST, accounts=160)
    return folder


class Org:
    """The stand-in, in this process or in one of its own."""

    def __init__(self, url, session):
        self.url, self.session = url, session
        form = {"grant_type": "client_credentials", "client_id": "sandbox-key", "client_secret": "sandbox-secret"}
        token = session.post(f"{self.url}/services/oauth2/token", data=form, timeout=10).json()["access_token"]
        self.headers = {"Authorization": f"Bearer {token}"}

    def work(self, folder, since, until):
        return work(self.url, folder, seed=SEED, since=since, until=until, session=self.session)

    def query(self, soql):
        path, params, found = "/services/data/v62.0/query", {"q": soql}, []
        while path:
            answer = self.session.get(self.url + path, params=params, headers=self.headers, timeout=30).json()
            found += answer["records"]
            path, params = answer.get("nextRecordsUrl"), None
        return found

    def create(self, name, values):
        answer = self.session.post(
            f"{self.url}/services/data/v62.0/sobjects/{name}", json=values, headers=self.headers, timeout=30
        )
        assert answer.status_code == 201, answer.text

    def clock(self):
        return requests.get(f"{self.url}/_sandbox/clock", timeout=10).json()["now"]

    def hand_out(self, folder, reps):
        """A task on 40 accounts, one third of them receptive, as the pipeline would give it."""
        truth = pd.read_parquet(folder / "truth" / "accounts.parquet")
        truth = truth[truth["in_crm"] & (truth["signed_up_at"] < FIRST - timedelta(days=1))]
        receptive = truth[truth["receptive"]].head(13)
        given = pd.concat([receptive, truth[~truth["receptive"]].head(40 - len(receptive))])
        for place, account in enumerate(given["crm_account_id"]):
            self.create(
                "Task",
                {
                    "Subject": f"Call {place}", "WhatId": account, "OwnerId": reps[place % len(reps)],
                    "Priority": "High", "Status": "Not Started", "Onetouch_Handoff_Id__c": f"handoff-{place:03d}",
                },
            )  # fmt: skip
        return receptive

    def state(self):
        """What reps left behind, without the ids the stand-in invents."""
        tasks = self.query(
            "SELECT Subject, WhatId, OwnerId, Status, CompletedDateTime, Description, Onetouch_Handoff_Id__c,"
            " Onetouch_Outcome__c, Onetouch_Disposition__c FROM Task"
        )
        deals = self.query(
            "SELECT Name, AccountId, StageName, Amount, LeadSource, CreatedDate, CloseDate FROM Opportunity"
        )
        accounts = self.query("SELECT Id, Plan__c, Seats__c, ARR__c FROM Account")
        return [
            sorted(([str(v) for k, v in sorted(row.items()) if k != "attributes"]) for row in rows)
            for rows in (tasks, deals, accounts)
        ]


@pytest.fixture
def org():
    return lambda: Org(in_process.URL, in_process.Org().session())


@pytest.fixture
def served(tmp_path):
    command = [sys.executable, "-m", "onetouch.sandbox", "--home", str(tmp_path / "org"), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    yield Org(process.stdout.readline().split()[-1], requests.Session())
    process.terminate()
    process.wait(10)


def active_reps(org):
    return [u["Id"] for u in org.query("SELECT Id FROM User WHERE IsActive = true") if u["Id"].startswith("005Sim")]


def test_a_month_of_work(served, folder):
    crm = served
    first = crm.work(folder, START, FIRST)
    assert first["loaded"] > 100 and first["touches"] == 0
    receptive = crm.hand_out(folder, active_reps(crm))
    done = crm.work(folder, FIRST, LAST)
    assert datetime.fromisoformat(crm.clock()) == LAST

    tasks = crm.query(
        "SELECT IsClosed, CompletedDateTime, Description, AccountId, Onetouch_Outcome__c, Onetouch_Disposition__c,"
        " Owner.TimeZoneSidKey FROM Task WHERE Onetouch_Handoff_Id__c != null"
    )
    assert len(tasks) == 40
    closed = [t for t in tasks if t["IsClosed"]]
    assert 30 <= len(closed) < 40, "a few are never worked"
    assert done["touches"] == len(closed)
    for task in closed:
        moment = datetime.strptime(task["CompletedDateTime"], "%Y-%m-%dT%H:%M:%S.%f%z")
        local = moment.astimezone(ZoneInfo(task["Owner"]["TimeZoneSidKey"]))
        assert local.weekday() < 5 and (9, 0) <= (local.hour, local.minute) <= (17, 30)
        assert FIRST <= moment < LAST
    picked = {(t["Onetouch_Outcome__c"], t["Onetouch_Disposition__c"]) for t in closed}
    assert {("No response", None), ("Meeting booked", "Good"), (None, "Would have bought anyway")} <= picked <= PICKED
    waiting = [t for t in tasks if not t["IsClosed"]]
    assert {(t["Onetouch_Outcome__c"], t["Onetouch_Disposition__c"]) for t in waiting} <= {(None, None)}

    deals = crm.query("SELECT AccountId, StageName, Amount FROM Opportunity WHERE LeadSource = 'Product'")
    assert {d["AccountId"] for d in deals} <= set(receptive["crm_account_id"])
    assert len(deals) == done["opportunities"] >= len(receptive) * 0.6
    won = {d["AccountId"] for d in deals if d["StageName"] == "Closed Won"}
    assert won and won <= set(receptive.loc[receptive["would_win"], "crm_account_id"])
    plans = {a["Id"]: a for a in crm.query("SELECT Id, Plan__c, ARR__c FROM Account")}
    assert all(plans[a]["Plan__c"] == "business" and plans[a]["ARR__c"] > 0 for a in won)
    assert done["calls"] > 0


def test_the_same_interval_again_changes_nothing(org, folder):
    crm = org()
    crm.work(folder, START, FIRST)
    crm.hand_out(folder, active_reps(crm))
    middle = FIRST + timedelta(days=9)
    crm.work(folder, FIRST, middle)
    before = crm.state()
    again = crm.work(folder, FIRST, middle)
    assert crm.state() == before
    assert not any(again.values())


def test_day_by_day_is_the_same_as_at_once(org, folder):
    at_once, daily = org(), org()
    for crm in (at_once, daily):
        crm.work(folder, START, FIRST)
        crm.hand_out(folder, active_reps(crm))
    until = FIRST + timedelta(days=12)
    at_once.work(folder, FIRST, until)
    day = FIRST
    while day < until:
        daily.work(folder, day, day + timedelta(days=1))
        day += timedelta(days=1)
    for left, right in zip(at_once.state(), daily.state(), strict=True):
        assert left == right


def test_refuses_naive_and_reversed_intervals(folder):
    with pytest.raises(ValueError, match="since"):
        work("http://127.0.0.1:1", folder, seed=SEED, since=LAST, until=FIRST)
    with pytest.raises(ValueError, match="zones"):
        work("http://127.0.0.1:1", folder, seed=SEED, since=START.replace(tzinfo=None), until=FIRST)
