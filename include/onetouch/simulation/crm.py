"""The simulated company's Salesforce records: reps, accounts, and the deals and calls that reps began on their own."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from onetouch.simulation.customers import PLAN_LIMITS, Cohort
from onetouch.simulation.ids import record_id

Records = dict[str, list[dict[str, Any]]]

OBJECTS = ("User", "Account", "Opportunity", "Task")
"""The object types; each refers only to those before it."""

REPS = (
    ("Simulated Rep Ada", "ada", "America/New_York", ("NA", "LATAM")),
    ("Simulated Rep Bruno", "bruno", "America/Chicago", ("NA", "LATAM")),
    ("Simulated Rep Chidi", "chidi", "America/Los_Angeles", ("NA",)),
    ("Simulated Rep Dana", "dana", "Europe/London", ("EMEA",)),
    ("Simulated Rep Emil", "emil", "Europe/Berlin", ("EMEA",)),
    ("Simulated Rep Fumi", "fumi", "Asia/Singapore", ("APAC",)),
)
REP_IDS = tuple(record_id("005", number + 1) for number in range(len(REPS)))
FORMER_ID = record_id("005", len(REPS) + 1)
"""The rep who left the company and still owns the accounts that nobody took over."""

CRM_ONLY = 0.04
"""Ours: accounts in the CRM that never used the product, as a share of the accounts that do."""


def crm_time(moment: datetime) -> str:
    """A moment in Salesforce's notation."""
    return f"{moment:%Y-%m-%dT%H:%M:%S}.000+0000"


def reps() -> list[dict[str, Any]]:
    """The CRM's users: six reps and one who left."""
    people = [
        {"Id": rep, "Name": name, "Email": f"{short}@onetouch-sales.example", "IsActive": True, "TimeZoneSidKey": zone}
        for rep, (name, short, zone, _) in zip(REP_IDS, REPS, strict=True)
    ]
    left = {"Id": FORMER_ID, "Name": "Simulated Rep Zoe (left)", "Email": "zoe@onetouch-sales.example"}
    return [*people, {**left, "IsActive": False, "TimeZoneSidKey": "America/New_York"}]


def owner_of(region: str, draw: float) -> str:
    """The rep of a region chosen by a draw in [0, 1)."""
    there = [rep for rep, (_, _, _, regions) in zip(REP_IDS, REPS, strict=True) if region in regions]
    return there[int(draw * len(there))]


def prospects(seed: int, accounts: int, start: datetime) -> list[dict[str, Any]]:
    """Accounts that reps keep in the CRM although nobody there ever signed up."""
    rng = np.random.default_rng([seed, 6])
    found = []
    for number in range(round(accounts * CRM_ONLY)):
        employees = int(np.exp(rng.uniform(np.log(20), np.log(8000))))
        domain = f"prospect-{number:04d}.example"
        found.append(
            {
                "Id": record_id("001", 900_000 + number),
                "Name": f"Simulated Prospect {number:04d}",
                "Website": f"https://www.{domain}",
                "Industry": "Manufacturing" if rng.random() < 0.5 else "Retail",
                "NumberOfEmployees": employees,
                "OwnerId": REP_IDS[int(rng.integers(len(REP_IDS)))],
                "CreatedDate": crm_time(start - timedelta(days=float(rng.uniform(20, 200)))),
                "Region__c": "NA",
                "Timezone__c": "America/New_York",
            }
        )
    return found


def records(cohort: Cohort, created: pd.Series, seed: int, start: datetime) -> Records:
    """A cohort's records as they are when created; `created`: each account's arrival in the CRM (UTC)."""
    rng = np.random.default_rng([seed, cohort.number, 5])
    who = cohort.accounts
    n = len(who)
    draw = rng.random((n, 6))
    when = rng.uniform(0, 1, (n, 4))
    found: Records = {"Account": [], "Opportunity": [], "Task": []}
    accounts: list[Any] = list(who.itertuples(index=False))
    for place, account in enumerate(accounts):
        if not account.in_crm:
            continue
        arrived: datetime = created.iloc[place].to_pydatetime()
        rep = owner_of(account.region, account.owner)
        owner = rep if account.owned else FORMER_ID
        # Real CRMs hold websites in several spellings.
        website = (f"https://www.{account.domain}/", account.domain, f"http://{account.domain}")[
            int(draw[place, 0] * 3)
        ]
        record = {
            "Id": account.crm_account_id,
            "Name": account.name,
            "Website": website,
            "Industry": account.industry,
            "NumberOfEmployees": int(account.employees) if draw[place, 1] < 0.97 else None,
            "OwnerId": owner,
            "CreatedDate": crm_time(arrived),
            "Plan__c": account.plan,
            "Seats__c": int(account.seats),
            "ARR__c": float(account.arr),
            "Plan_Limits__c": json.dumps(PLAN_LIMITS[account.plan]),
            "Region__c": account.region,
            "Timezone__c": account.timezone,
            "Funding_Stage__c": account.funding_stage,
            "Signed_Up_At__c": crm_time(arrived - timedelta(minutes=5)),
        }
        if account.crm_has_id:
            record["Onetouch_Account_Id__c"] = account.account_id
        found["Account"].append(record)
        if account.owned:
            base = max(arrived, start - timedelta(days=30))
            found["Opportunity"] += _deals(account, rep, draw[place], when[place], base, cohort.number)
            found["Task"] += _calls(account, rep, draw[place], when[place], base)
    return found


def _deals(
    account: Any, rep: str, draw: np.ndarray, when: np.ndarray, base: datetime, cohort: int
) -> list[dict[str, Any]]:
    """An open deal that a rep found without the product, or an earlier deal that was won or lost."""
    deal: dict[str, Any] = {
        "Id": record_id("006", int(account.number)),
        "AccountId": account.crm_account_id,
        "OwnerId": rep,
        "Name": f"{account.name}: outbound",
        "LeadSource": "Outbound",
        "Amount": float(account.deal_amount),
    }
    if draw[2] < 0.08:
        opened = base + timedelta(days=2 + 14 * float(when[0]))
        closes = opened + timedelta(days=30 + 40 * float(when[1]))
        return [
            {**deal, "StageName": "Prospecting", "CloseDate": f"{closes:%Y-%m-%d}", "CreatedDate": crm_time(opened)}
        ]
    if draw[2] < 0.22 and cohort == 0:
        closed = base - timedelta(days=20 + 80 * float(when[0]))
        stage = "Closed Won" if account.arr > 0 else "Closed Lost"
        opened = closed - timedelta(days=10 + 30 * float(when[1]))
        return [{**deal, "StageName": stage, "CloseDate": f"{closed:%Y-%m-%d}", "CreatedDate": crm_time(opened)}]
    return []


def _calls(account: Any, rep: str, draw: np.ndarray, when: np.ndarray, base: datetime) -> list[dict[str, Any]]:
    """A call a rep made to an account of their own without a task from the product."""
    if draw[3] >= 0.12:
        return []
    day = (base + timedelta(days=1 + 50 * float(when[2]))).replace(
        hour=15, minute=int(when[3] * 60), second=0, microsecond=0
    )
    return [
        {
            "Id": record_id("00T", int(account.number)),
            "Subject": "Call: how is it going?",
            "Status": "Completed",
            "Priority": "Normal",
            "TaskSubtype": "Call",
            "ActivityDate": f"{day:%Y-%m-%d}",
            "WhatId": account.crm_account_id,
            "OwnerId": rep,
            "CreatedDate": crm_time(day - timedelta(minutes=20)),
            "CompletedDateTime": crm_time(day),
        }
    ]


def merged(parts: list[Records], *, created_before: datetime) -> Records:
    """One load document of the records that exist at a moment, in the order of `OBJECTS`."""
    limit = crm_time(created_before)
    document: Records = {name: [r for part in parts for r in part.get(name, ())] for name in OBJECTS}
    return {
        name: [r for r in rows if r.get("CreatedDate", "") < limit and r.get("CompletedDateTime", "") < limit]
        for name, rows in document.items()
    }
