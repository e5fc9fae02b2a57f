"""SOQL: what it finds, what it refuses, and that no string escapes its quotes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onetouch.sandbox.fields import build_org, full_id, make_id
from onetouch.sandbox.metadata import read_metadata
from onetouch.sandbox.records import Records
from onetouch.sandbox.server import METADATA
from onetouch.sandbox.soql import SoqlError, compile_soql
from onetouch.sandbox.store import Store
from simple_salesforce.format import format_soql

from tests.sandbox.conftest import ACME, ORG, OTHER, Sandbox


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path, build_org(read_metadata(METADATA)))
    made.set("now", "2025-03-03T10:00:00+00:00")
    for name in ("User", "Account"):
        for values in ORG[name]:
            Records(made).load(made.org[name.lower()], values)
    yield made
    made.db.close()


def ids(store: Store, where: str, name: str = "Account") -> list[str]:
    statement = compile_soql(f"SELECT Id FROM {name} WHERE {where}", store.org, store.now(), deleted=False)
    return [row[0] for row in store.db.execute(statement.sql, statement.parameters)]


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("Name = 'acme'", [ACME]),
        ("name != 'ACME'", [OTHER]),
        ("Name = 'Other O\\'Neil'", [OTHER]),
        ("Name LIKE '%neil'", [OTHER]),
        ("Name LIKE 'A_me'", [ACME]),
        ("Name LIKE 'A\\_me'", []),
        ("NOT Name LIKE 'A%'", [OTHER]),
        ("(NOT Name LIKE 'A%') AND Seats__c = null", [OTHER]),
        ("Seats__c = null", [OTHER]),
        ("Seats__c != null", [ACME]),
        ("Seats__c != 12", [OTHER]),  # a null is not 12
        ("Seats__c < 13", [ACME]),
        ("Seats__c >= 12.0", [ACME]),
        ("NOT Seats__c > 12", [ACME, OTHER]),  # a comparison with null is false, its opposite true
        ("Region__c IN ('eu', 'us')", [OTHER]),
        ("Region__c NOT IN ('eu')", [ACME]),
        ("Region__c IN (null)", [ACME]),
        ("Region__c = ''", [ACME]),
        ("CreatedDate < 2025-01-01T00:00:00Z", [ACME]),
        ("CreatedDate > 2025-03-03T10:59:59.000+01:00", [OTHER]),
        ("CreatedDate = TODAY", [OTHER]),
        ("CreatedDate < LAST_N_DAYS:30", [ACME]),
        ("Owner.Email = 'ann@acme.example'", [ACME]),
        ("Owner.IsActive = TRUE AND (Name = 'Acme' OR Region__c = 'EU')", [ACME, OTHER]),
        (f"Id = '{ACME[:15]}'", [ACME]),
        ("OwnerId IN (SELECT Id FROM User WHERE Email LIKE 'bob%')", [OTHER]),
        ("Id NOT IN (SELECT AccountId FROM Task)", [ACME, OTHER]),
    ],
)
def test_what_is_found(store: Store, where: str, found: list[str]) -> None:
    assert ids(store, where) == found


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("SELECT Id FROM Account WHERE Name = 'a' AND Region__c = 'b' OR Region__c = 'c'", "MALFORMED_QUERY"),
        ("SELECT Id FROM Account WHERE Name = 'a", "MALFORMED_QUERY"),
        ("SELECT Id FROM Account WHERE Name = 'a\\q'", "MALFORMED_QUERY"),
        ('SELECT Id FROM Account WHERE Name = "a"', "MALFORMED_QUERY"),
        ("SELECT Id FROM Account WHERE Id IN ()", "MALFORMED_QUERY"),
        ("SELECT Id FROM Account WHERE Name", "MALFORMED_QUERY"),
        ("SELECT Id FROM Account WHERE Seats__c > null", "MALFORMED_QUERY"),
        ("SELECT Id FROM Account; DROP TABLE Account", "MALFORMED_QUERY"),
        ("SELECT * FROM Account", "MALFORMED_QUERY"),
        ("SELECT Id FROM Account LIMIT -1", "MALFORMED_QUERY"),
        ("SELECT Id FROM Account LIMIT 99999999999999999999", "MALFORMED_QUERY"),
        ("SELECT Id Account", "MALFORMED_QUERY"),
        ("", "MALFORMED_QUERY"),
        ("SELECT Id FROM Nothing__c", "INVALID_TYPE"),
        ("SELECT Nothing FROM Account", "INVALID_FIELD"),
        ("SELECT Owner.Nothing FROM Account", "INVALID_FIELD"),
        ("SELECT Nobody.Email FROM Account", "INVALID_FIELD"),
        ("SELECT Id, Id FROM Account", "INVALID_FIELD"),
        ("SELECT Id FROM Account WHERE Seats__c = '12'", "INVALID_FIELD"),
        ("SELECT Id FROM Account WHERE Name = 12", "INVALID_FIELD"),
        ("SELECT Id FROM Account WHERE CreatedDate > '2025-01-01T00:00:00Z'", "INVALID_FIELD"),
        ("SELECT Id FROM Account WHERE CreatedDate > 2025-01-01", "INVALID_FIELD"),
        ("SELECT Id FROM Account WHERE IsDeleted = 'false'", "INVALID_FIELD"),
        ("SELECT Id FROM Account WHERE Onetouch_Dossier__c = 'x'", "INVALID_FIELD"),
        ("SELECT Id FROM Account ORDER BY Onetouch_Dossier__c", "INVALID_FIELD"),
        ("SELECT Id FROM Task WHERE Description LIKE '%x%'", "INVALID_FIELD"),
        ("SELECT Id FROM Account WHERE Id = 'nonsense'", "INVALID_QUERY_FILTER_OPERATOR"),
        ("SELECT Id FROM Account WHERE Id LIKE '001%'", "INVALID_QUERY_FILTER_OPERATOR"),
        ("SELECT Id FROM Account WHERE Name = '" + "x" * 4001 + "'", "MALFORMED_QUERY"),
        ("SELECT Id FROM Account WHERE Name = '\\uD800'", "MALFORMED_QUERY"),
    ],
)
def test_what_is_refused(store: Store, text: str, error: str) -> None:
    with pytest.raises(SoqlError) as caught:
        compile_soql(text, store.org, store.now(), deleted=False)
    assert caught.value.code == error


def test_nothing_deep_or_long_breaks_the_server(sandbox: Sandbox) -> None:
    for where in (
        "(" * 1500 + "Seats__c = 1" + ")" * 1500,
        " OR ".join(["Seats__c=1"] * 1100),
        "NOT " * 2000 + "Seats__c = 1",
    ):
        answer = sandbox.query(f"SELECT Id FROM Account WHERE {where}")
        assert answer.status_code in (200, 400, 414), where[:40]
        if answer.status_code == 400:
            assert answer.json()[0]["errorCode"] == "QUERY_TOO_COMPLICATED"


# What a record's name can be: no control characters, and it is stored without outer blanks.
NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=60).filter(
    lambda t: t == t.strip()
)
HOSTILE = st.sampled_from(["'", "\\", "\\'", "%", "_", "' OR Name != '", "\\u0041", '"', "--", ";", "\\\\'"])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(NAMES, HOSTILE), min_size=1, max_size=4).map("".join).filter(lambda t: t == t.strip()))
def test_a_string_finds_itself_and_nothing_else(store: Store, name: str) -> None:
    values = {"Id": ACME, "Name": name}
    Records(store).load(store.org["account"], values)
    exact = format_soql("Name = {}", name)
    assert ids(store, exact) == [ACME]
    assert ids(store, format_soql("Name IN {}", [name, "nobody"])) == [ACME]
    # The other one is called "Other O'Neil", and LIKE does not look at case.
    also = [OTHER] if "other o'neil".startswith(name.lower()) else []
    assert ids(store, format_soql("Name LIKE '{:like}%'", name)) == [ACME, *also]
    assert ids(store, f"NOT {exact}") == [OTHER]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.sampled_from(list("SELECTidnamefrmwhAcouT'\\()=<>!,.%_ 019:-\n")), max_size=40))
def test_any_text_is_an_answer_or_a_refusal(store: Store, text: str) -> None:
    for query in (text, f"SELECT Id FROM Account WHERE {text}", f"SELECT {text} FROM Account"):
        try:
            statement = compile_soql(query, store.org, store.now(), deleted=False)
        except SoqlError:
            continue
        store.db.execute(statement.sql, statement.parameters).fetchall()


def test_order_limit_and_offset(sandbox: Sandbox) -> None:
    names = [row["Name"] for row in sandbox.rows("SELECT Name FROM Account ORDER BY Seats__c DESC NULLS LAST, Name")]
    assert names == ["Acme", "Other O'Neil"]
    assert sandbox.rows("SELECT Name FROM Account ORDER BY Seats__c LIMIT 1") == [{"Name": "Other O'Neil"}]
    assert sandbox.rows("SELECT Name FROM Account ORDER BY Name LIMIT 1 OFFSET 1") == [{"Name": "Other O'Neil"}]


def test_parents_are_nested_and_null_when_absent(sandbox: Sandbox) -> None:
    sandbox.rest("POST", "sobjects/Task", json={"Subject": "Alone"})
    sandbox.rest("POST", "sobjects/Task", json={"Subject": "Call", "WhatId": OTHER})
    fields = "Subject, Account.Region__c, Account.Owner.Email, Account.Seats__c"
    rows = sandbox.query(f"SELECT {fields} FROM Task ORDER BY Subject").json()["records"]
    assert rows[0]["Account"] is None
    account: dict[str, Any] = rows[1]["Account"]
    assert (account["Region__c"], account["Owner"]["Email"], account["Seats__c"]) == ("EU", "bob@acme.example", None)
    assert account["attributes"] == {"type": "Account", "url": f"/services/data/v62.0/sobjects/Account/{OTHER}"}


def test_many_rows_come_in_pages(sandbox: Sandbox) -> None:
    many = [{"Id": make_id("001", 10_000 + i), "Name": f"Account {i}"} for i in range(2100)]
    sandbox.admin("load", {"Account": many})
    first = sandbox.query("SELECT Id FROM Account").json()
    assert (first["totalSize"], first["done"], len(first["records"])) == (2102, False, 2000)
    rest = sandbox.http.get(sandbox.url + first["nextRecordsUrl"], timeout=20).json()
    assert (rest["done"], len(rest["records"])) == (True, 102)
    small = sandbox.rest(
        "GET", "query", params={"q": "SELECT Id FROM Account"}, headers={"Sforce-Query-Options": "batchSize=200"}
    )
    assert len(small.json()["records"]) == 200
    every = sandbox.client().query_all("SELECT Id FROM Account")["records"]
    assert len({row["Id"] for row in every}) == 2102


@given(st.sampled_from(["001", "00T", "005"]), st.integers(0, 62**9))
def test_an_id_proves_itself(prefix: str, number: int) -> None:
    made = make_id(prefix, number)
    assert len(made) == 18
    assert full_id(made[:15]) == full_id(made) == made
    assert full_id(made[:15] + ("AAA" if made[15:] != "AAA" else "BBB")) is None


def test_the_checksum_is_salesforces() -> None:
    assert full_id("001R00000064wdt") == "001R00000064wdtIAA"  # the example of the REST guide
