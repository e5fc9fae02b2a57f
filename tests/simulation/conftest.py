"""Reading a simulated company's answers back, and a plain second opinion on who is ready for sales."""

import gzip
import json
import zipfile
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from onetouch.simulation import simulate

SEED, START, ACCOUNTS = 11, datetime(2025, 6, 2, tzinfo=UTC), 120
UNTIL = START + timedelta(days=35, hours=8)


def read_members(folder):
    """Member name → lines, over all zips."""
    found = {}
    for path in sorted((folder / "exports").glob("*.zip")):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                found[f"{path.stem}/{name}"] = gzip.decompress(archive.read(name)).decode().splitlines()
    return found


def readable(lines):
    """The JSON objects among the lines."""
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            yield row


def read_events(lines):
    """Good rows, once each: account, user, event, properties, at."""
    rows = {r["uuid"]: r for member in lines.values() for r in readable(member) if r["groups"] or r["user_id"]}
    frame = pd.DataFrame(rows.values())
    email = frame["user_properties"].str.get("email").fillna("")
    domain = email.str.partition("@")[2].str.removeprefix("mail.")
    group = frame["groups"].map(lambda g: g["organisation"][0] if g else None)
    business = domain.where(domain.str.endswith(".example"))
    frame["account"] = group.fillna(business).fillna("user:" + frame["user_id"])
    frame["at"] = pd.to_datetime(frame["event_time"], utc=True)
    return frame[(frame["at"].dt.year > 2020) & (frame["at"].dt.year < 2090)]


def judge(frame, accounts, as_of):
    """Accounts that the default policy's numbers call ready for sales: engaged, interested, worth it."""
    seen = frame[(frame["at"] < as_of)]
    recent = seen[seen["at"] >= as_of - timedelta(days=28)]
    fortnight = seen[seen["at"] >= as_of - timedelta(days=14)]

    def count(rows, *names):
        return rows[rows["event_type"].isin(names)].groupby("account").size()

    table = accounts.set_index("account_id")[["employees", "arr", "cap", "account_basis", "segment"]].copy()
    done = seen.groupby("account")["event_type"].agg(set)
    table["activated"] = done.map(lambda s: {"workspace_created", "data_imported", "report_created"} <= s)
    people = fortnight[fortnight["user_id"].notna()]
    table["days14"] = people.groupby("account")["at"].agg(lambda at: at.dt.date.nunique())
    table["days7"] = (
        people[people["at"] >= as_of - timedelta(days=7)].groupby("account")["at"].agg(lambda a: a.dt.date.nunique())
    )
    table["users"] = seen.groupby("account")["user_id"].nunique()
    table["active_users"] = recent.groupby("account")["user_id"].nunique()
    table["pricing"] = count(fortnight, "pricing_viewed")
    table["premium"] = count(recent, "premium_feature_attempted")
    table["questions"] = count(recent, "plan_question_asked")
    table["demos"] = count(recent, "demo_requested")
    table["admin"] = count(recent, "sso_configured", "permissions_changed")
    table["dropped"] = count(recent, "checkout_abandoned")
    table["invites"] = count(recent, "teammate_invited")
    links = seen[seen["event_type"] == "integration_connected"]
    table["integrations"] = links.groupby("account")["event_properties"].agg(
        lambda p: len({d["integration"] for d in p})
    )
    usage = (
        seen[seen["event_type"] == "usage_recorded"].sort_values("at").groupby("account").tail(1).set_index("account")
    )
    table["limit"] = usage["event_properties"].str.get("used").astype(float) / table["cap"]
    table = table.fillna({c: 0 for c in table.columns if table[c].dtype.kind == "f"}).infer_objects()
    t = table
    t["points"] = (
        10 * t["activated"].eq(True) + 8 * (t["days7"] >= 5) + 15 * (t["invites"] >= 1) + 12 * (t["pricing"] >= 1)
        + 20 * (t["premium"] >= 1) + 10 * (t["users"] >= 3) * (t["users"].clip(upper=5) / 5)
        + 5 * (t["integrations"] >= 3)
        + 10 * (t["limit"] >= 0.8) + 5 * (t["days14"] >= 10) + 20 * (t["demos"] >= 1) + 8 * (t["questions"] >= 1)
        + 8 * (t["admin"] >= 1) + 8 * (t["dropped"] >= 1)
    )  # fmt: skip
    t["intent"] = (t[["pricing", "questions", "demos", "premium", "admin", "dropped"]] > 0).any(axis=1) | (
        t["limit"] >= 0.8
    )
    t["potential"] = (
        t[["arr"]]
        .join(240 * pd.concat([0.2 * t["employees"], t["active_users"]], axis=1).max(axis=1).rename("p"))
        .max(axis=1)
    )
    t["ready"] = (
        t["activated"].eq(True) & t["intent"] & (t["points"] >= 50) & (t["days14"] >= 10) & (t["active_users"] >= 2)
        & (t["potential"] >= 5000) & (t["employees"].fillna(9) >= 5) & (t["account_basis"] != "personal")
    )  # fmt: skip
    return t


@pytest.fixture(scope="session")
def start():
    return START


@pytest.fixture(scope="session")
def company(tmp_path_factory):
    """The folder of a company of 120 accounts after five weeks."""
    folder = tmp_path_factory.mktemp("company")
    simulate(folder, seed=SEED, start=START, until=UNTIL, accounts=ACCOUNTS)
    return folder


@pytest.fixture(scope="session")
def truth(company):
    names = ("accounts", "users", "checkouts", "rows")
    return {name: pd.read_parquet(company / "truth" / f"{name}.parquet") for name in names}


@pytest.fixture(scope="session")
def members():
    return read_members


@pytest.fixture(scope="session")
def lines(company):
    return read_members(company)


@pytest.fixture(scope="session")
def seen(lines):
    return read_events(lines)


@pytest.fixture(scope="session")
def ready():
    return judge
