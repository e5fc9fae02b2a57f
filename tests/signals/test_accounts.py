"""The account snapshot: what a file may say, and how its rows find their product account."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from onetouch.lake import Lake
from onetouch.policy import read_policy
from onetouch.signals import SNAPSHOT, AccountsError, compute, normalise_accounts, read_accounts

AS_OF = datetime(2025, 3, 10, 12, tzinfo=UTC)


def write(folder: Path, text: str) -> Path:
    path = folder / "accounts.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_values_become_comparable(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "account_id,domain,owner_email,region,employees,arr,timezone,signed_up_at,plan_limits\n"
        '007,https://www.Shop.Example.co.uk/de?x=1,Ana@Vendor.COM,NA,12,,Europe/Berlin,2024-05-01,"{""seats"": 5}"\n'
        "8,,,,,,,,\n",
    )
    frame = read_accounts(path)
    assert list(frame.columns) == list(SNAPSHOT)
    first = frame.iloc[0].to_dict()
    assert first["account_id"] == "007"
    assert (first["domain"], first["owner_email"], first["region"]) == ("example.co.uk", "ana@vendor.com", "NA")
    assert (first["employees"], first["plan_limits"]) == (12, '{"seats": 5}')
    assert first["signed_up_at"] == pd.Timestamp("2024-05-01", tz="UTC")
    assert pd.isna(first["arr"])
    assert frame.iloc[1].drop("account_id").isna().all()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("account_id,emploies\na,1\n", "no such column: emploies; allowed: account_id, name"),
        ("account_id,name\na,A\n,B\n", "row 2: neither account_id nor domain"),
        ("account_id,name\na,A\nb,B\na,C\n", "rows 1, 3: several rows of one account: 'a'"),
        ("domain\nacme.com\nhttps://acme.com/about\n", "rows 1, 2: several rows of one account: 'acme.com'"),
        ("account_id,employees\na,many\n", "row 1: employees: 'many' is not allowed; give a number"),
        ("account_id,arr\na,-5\n", "row 1: arr: '-5' is not allowed"),
        ("account_id,timezone\na,Mars/Olympus\n", "row 1: timezone: 'Mars/Olympus' is not allowed; give an IANA"),
        ("account_id,domain\na,not a domain\n", "row 1: domain: 'not a domain' is not allowed"),
        ("account_id,plan_limits\na,seats=5\n", "row 1: plan_limits: 'seats=5' is not allowed"),
        ("account_id,signed_up_at\na,yesterday\n", "row 1: signed_up_at: 'yesterday' is not allowed"),
        ("account_id,owner_email\na,Ana\n", "row 1: owner_email: 'Ana' is not allowed"),
        ("", "cannot be read"),
    ],
)
def test_a_file_with_a_mistake_is_refused_with_place_and_fix(text: str, named: str, tmp_path: Path) -> None:
    path = write(tmp_path, text)
    with pytest.raises(AccountsError) as caught:
        read_accounts(path)
    assert named in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_parquet_as_well(tmp_path: Path) -> None:
    path = tmp_path / "accounts.parquet"
    pd.DataFrame({"account_id": ["a"], "employees": [5], "plan_limits": [{"rows": 10}]}).to_parquet(path)
    frame = read_accounts(path)
    assert (frame.at[0, "employees"], frame.at[0, "plan_limits"]) == (5, '{"rows": 10}')


def test_a_crm_full_of_odd_values_stops_nothing() -> None:
    odd = {"crm_account_id": ["1"], "employees": [-3], "timezone": ["??"], "domain": ["n/a"], "plan_limits": ["x"]}
    row = normalise_accounts(pd.DataFrame(odd)).iloc[0]
    assert row[["employees", "timezone", "domain", "plan_limits"]].isna().all()
    assert row["open_opportunities"] == 0


def joined(lake: Lake, **columns: list) -> dict[str, str]:
    """account_id → name."""
    table, _ = compute(lake, read_policy(), pd.DataFrame(columns), AS_OF)
    frame = table.to_pandas()
    assert frame["account_id"].is_unique
    return dict(zip(frame["account_id"], frame["name"].fillna("-"), strict=True))


def test_rows_find_their_product_account(lake: Lake, event: Callable, stage: Callable) -> None:
    def seen(account: str, user: str, **more: str) -> dict:
        return event("2025-03-09T09:00:00", "session_started", account, user, **more)

    stage(
        lake,
        [
            seen("own", "o1", email_domain="own.com"),
            seen("dom.com", "d1", basis="domain", email_domain="dom.com"),
            seen("g-small", "s1", email_domain="many.com"),
            *(seen("g-large", f"l{n}", email_domain="many.com") for n in range(3)),
            seen("g-large", "l9", email_domain="other.com"),
            seen("user:lone@solo.com", "lone@solo.com", basis="personal"),
            *(seen("g-mail", f"m{n}", email_domain="gmail.com") for n in range(2)),
        ],
    )
    found = joined(
        lake,
        crm_account_id=["1", "2", "3", "4", "5", "6", "7"],
        account_id=["own", None, None, None, None, None, None],
        domain=["x.com", "dom.com", "many.com", "solo.com", "unseen.com", "gmail.com", "www.dom.com"],
        name=["Own", "Dom", "Many", "Solo", "Unseen", "Mail", "Dom again"],
    )
    assert found == {
        "own": "Own",
        "dom.com": "Dom",
        "g-large": "Many",
        "g-small": "-",
        "crm:4": "Solo",
        "user:lone@solo.com": "-",
        "crm:5": "Unseen",
        "crm:6": "Mail",
        "g-mail": "-",
        "crm:7": "Dom again",
    }


def test_of_several_records_of_a_company_the_owned_and_larger_one_stands_for_it(
    lake: Lake, event: Callable, stage: Callable
) -> None:
    stage(lake, [event("2025-03-09T09:00:00", "session_started", "dom.com", basis="domain", email_domain="dom.com")])
    columns = {
        "crm_account_id": ["1", "2", "3"],
        "domain": ["dom.com"] * 3,
        "name": ["Unowned", "Small", "Large"],
        "arr": [9e6, 10.0, 20.0],
        "owner_email": [None, "ana@v.com", "ben@v.com"],
    }
    assert joined(lake, **columns) == {"dom.com": "Large", "crm:1": "Unowned", "crm:2": "Small"}


def test_a_file_without_crm_keeps_the_domain_as_the_account(lake: Lake) -> None:
    assert joined(lake, domain=["unseen.com"], name=["Unseen"]) == {"unseen.com": "Unseen"}
