"""Files of accounts as people have them: one meaning is read, two are asked about, and what was changed is told."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onetouch.signals import AccountsError, normalise_accounts, read_accounts
from onetouch.signals.numbers import Dot, dots_of, number


def read(folder: Path, content: str | bytes, name: str = "accounts.csv") -> tuple[pd.DataFrame, list[str]]:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    told: list[str] = []
    return read_accounts(path, told.append), told


def refused(folder: Path, content: str | bytes, name: str = "accounts.csv") -> str:
    with pytest.raises(AccountsError) as caught:
        read(folder, content, name)
    said = str(caught.value)
    assert "\n" not in said and name in said
    return said


def cell(folder: Path, column: str, value: str) -> Any:
    """What is read of one value."""
    text = io.StringIO()
    csv.writer(text).writerows([["account_id", column], ["a", value]])
    return read(folder, text.getvalue())[0].at[0, column]


# ── Encodings, separators, headers ───────────────────────────────────────────────────────────────────────────────────

ROWS = [["007", 'Café Ωmega, Inc; "best"', "acme.example", "1200"], ["8", "Zwei\nZeilen", "zwei.example", ""]]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"]),
    separator=st.sampled_from([",", ";", "\t", "|"]),
    end=st.sampled_from(["\n", "\r\n"]),
    case=st.sampled_from([str.lower, str.upper, str.title, lambda name: f" {name.replace('_', ' ')} "]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    before=st.sampled_from(["", "sep"]),
    after=st.integers(0, 3),
)
def test_a_table_is_read_however_a_program_writes_it(
    tmp_path: Path, encoding: str, separator: str, end: str, case: Any, quoting: Any, before: str, after: int
) -> None:
    text = io.StringIO()
    if before:
        text.write(f"sep={separator}{end}")
    writer = csv.writer(text, delimiter=separator, lineterminator=end, quoting=quoting)
    writer.writerow([case(name) for name in ("account_id", "name", "domain", "employees")])
    writer.writerows(ROWS)
    text.write((separator * 3 + end) * after)
    frame, told = read(tmp_path, text.getvalue().encode(encoding))
    assert frame["account_id"].tolist() == ["007", "8"]
    assert frame["name"].tolist() == ['Café Ωmega, Inc; "best"', "Zwei\nZeilen"]
    assert frame["domain"].tolist() == ["acme.example", "zwei.example"]
    assert frame["employees"].tolist()[0] == 1200 and pd.isna(frame["employees"].tolist()[1])
    assert told == []


def test_windows_1252_is_read_and_told(tmp_path: Path) -> None:
    frame, told = read(tmp_path, "account_id,name\n1,Café – Zürich\n".encode("cp1252"))
    assert frame.at[0, "name"] == "Café – Zürich"
    assert ["Windows-1252" in line for line in told] == [True]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("account_id,name\n1,Zürich\n".encode() + "2,Köln\n".encode("cp1252"), "row 2: is not UTF-8"),
        (b"account_id,name\n1,\x81\n", "row 1: is neither UTF-8 nor Windows-1252"),
        (b"PK\x03\x04 a workbook", "save the sheet as CSV"),
        ("account_id,employees\n1,1,200\n", "row 1: has more values than the header has columns"),
        ("account_id,domain,account_id\n1,a.com,2\n", "two columns are account_id; keep one"),
        ("foo,bar\n1,2\n", "no such column: foo, bar"),
        ("account_id,emploies\n1,2\n", "emploies looks like employees"),
        ('account_id,name\n1,"open\n', "cannot be read"),
        ("\n\n", "cannot be read"),
    ],
)
def test_what_cannot_be_read_one_way_is_refused_in_one_line(content: str | bytes, named: str, tmp_path: Path) -> None:
    assert named in refused(tmp_path, content)


def test_usual_headers_are_read_as_our_columns_and_told(tmp_path: Path) -> None:
    frame, told = read(
        tmp_path,
        "Workspace ID,Company Name,Website,Number of Employees,Account Owner,Billing City,,SFDC ID,"
        "Sign-up date,ARR__c\n"
        "w1,Acme,https://www.acme.example,12,ana@v.example,Köln,,0015g00000AbCdE,2024-05-01,12\n",
    )
    row = frame.iloc[0]
    assert row[["account_id", "name", "domain", "employees", "arr"]].tolist() == [
        "w1",
        "Acme",
        "acme.example",
        12,
        12.0,
    ]
    assert row[["owner_email", "crm_account_id"]].tolist() == ["ana@v.example", "0015g00000AbCdE"]
    assert row["signed_up_at"] == pd.Timestamp("2024-05-01", tz="UTC")
    assert any("left out: Billing City" in line for line in told)
    assert any("'Website' as domain" in line for line in told)


def test_a_columns_own_name_wins_over_a_synonym(tmp_path: Path) -> None:
    frame, told = read(tmp_path, "id,account_id,Website,domain\n9,a,b.example,a.example\n")
    assert frame.loc[0, ["account_id", "domain"]].tolist() == ["a", "a.example"]
    assert any("left out: id, Website" in line for line in told)


def test_a_synonym_whose_values_say_otherwise_is_left_out_and_told(tmp_path: Path) -> None:
    frame, told = read(tmp_path, "account_id,Owner\na,Ana Example\nb,Ben Example\n")
    assert frame["owner_email"].isna().all()
    assert any("'Owner' is left out: it looks like owner_email" in line for line in told)


# ── Numbers ──────────────────────────────────────────────────────────────────────────────────────────────────────────

GROUPED = {
    "1,200": 1200, "1,234,567": 1234567, "1,200.50": 1200.5, "1 200": 1200, "1\u00a0200": 1200, "1'200": 1200,
    "1\u202f234\u202f567": 1234567, "1.234.567": 1234567, "1.200,50": 1200.5, "12,5": 12.5, "0,125": 0.125,
    "1200": 1200, "1.2e3": 1200, "1200.": 1200, " 7 ": 7, "-3": -3, "12.5": 12.5, "1234.567": 1234.567, "0.125": 0.125,
}  # fmt: skip


@pytest.mark.parametrize("text", [*GROUPED])
def test_a_plain_number_has_one_meaning(text: str) -> None:
    assert number(text) == GROUPED[text]


@pytest.mark.parametrize("text", ["1.200", "12.345", "", "many", "1,20,000", "1,2,3", "12 5", "nan", "inf", "1e999",
                                  "90%", "900 GB", "1_000", "0x10", "True", "--1", "1.2.3", "1,200,50"])  # fmt: skip
def test_what_is_no_number_or_may_be_two_is_none(text: str) -> None:
    assert number(text) is None


@settings(max_examples=60)
@given(st.integers(1, 10**12), st.sampled_from([",", ".", " ", "'", "\u00a0", ""]), st.integers(0, 99))
def test_groups_and_decimals_say_the_number_that_was_written(whole: int, group: str, cents: int) -> None:
    """A plain re-implementation: digits written out with a country's separators."""
    point = "," if group == "." else "."
    text = f"{whole:,}".replace(",", group) + (f"{point}{cents:02d}" if cents else "")
    ambiguous = group == "." and not cents and 1000 <= whole < 10**6
    assert number(text) == (None if ambiguous else whole + cents / 100)
    column = [text, "1.234.567" if group == "." else "1234.5"]
    assert number(text, dots_of(column)) == whole + cents / 100


def test_values_of_a_column_say_what_a_dot_means() -> None:
    assert dots_of(["1.200", "7"]) is Dot.UNKNOWN
    assert dots_of(["1.200", "1.200,50"]) is Dot.GROUPS
    assert dots_of(["1.200", "3.5"]) is Dot.DECIMAL
    assert dots_of(["1.200,50", "3.5"]) is Dot.UNKNOWN
    assert (number("1.200", Dot.GROUPS), number("1.200", Dot.DECIMAL), number("1,200", Dot.GROUPS)) == (1200, 1.2, 1.2)


def test_sizes_as_people_write_them(tmp_path: Path) -> None:
    said = ["201-500", "1,001 – 5,000", "10,000+", ">50", "5 to 9", "n/a", "-", "1,200", "", "12.0"]
    text = io.StringIO()
    csv.writer(text).writerows([["account_id", "employees"], *([f"a{n}", size] for n, size in enumerate(said))])
    frame, told = read(tmp_path, text.getvalue())
    assert frame["employees"].astype(object).where(frame["employees"].notna(), None).tolist() == [
        201, 1001, 10000, 50, 5, None, None, 1200, None, 12
    ]  # fmt: skip
    assert any("5 values read as the lower bound of a range: '201-500' is 201" in line for line in told)
    assert any("employees: 2 values taken as not known" in line for line in told)


@pytest.mark.parametrize("size", ["500-201", "<10", "Oct-50", "€5", "-5", "1-2-3", "5-"])
def test_a_size_that_says_no_number_is_refused(size: str, tmp_path: Path) -> None:
    assert f"row 1: employees: {size!r} is not allowed" in refused(tmp_path, f"account_id,employees\na,{size}\n")


def test_a_dot_that_may_mean_two_things_is_asked_about(tmp_path: Path) -> None:
    assert "it may be 1200 or 1.2: write 1200" in refused(tmp_path, "account_id,employees\na,1.200\n")
    frame, told = read(tmp_path, 'account_id;employees\na;1.200\nb;"1.200.000"\n')
    assert frame["employees"].tolist() == [1200, 1200000]
    assert any("'1.200' is 1200" in line for line in told)
    assert read(tmp_path, "account_id,arr\na,1.200\nb,3.75\n")[0]["arr"].tolist() == [1.2, 3.75]


def test_money(tmp_path: Path) -> None:
    said = {"$12,000": 12000, "US$ 5": 5, "12000 USD": 12000, "12k": 12000, "$1.5M": 1500000, "12000.50": 12000.5}
    assert {text: cell(tmp_path, "arr", text) for text in said} == said
    assert "arr: '€12' is not allowed" in refused(tmp_path, "account_id,arr\na,€12\n")


# ── Ids ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_ids_stay_text(tmp_path: Path) -> None:
    frame, told = read(tmp_path, "account_id,name\n007, A\n 1001 ,B\n1002.0,C\n1e5,D\n12.50,E\n")
    assert frame["account_id"].tolist() == ["007", "1001", "1002", "1e5", "12.50"]
    assert any("'1002.0' is '1002'" in line for line in told)
    assert "shortened" in refused(tmp_path, "account_id\n1.23457E+11\n")


@pytest.mark.parametrize("word", ["null", "None", "undefined", "N/A", "-", "NaN"])
def test_a_placeholder_is_no_id(word: str, tmp_path: Path) -> None:
    assert "neither account_id nor domain" in refused(tmp_path, f"account_id,name\n{word},A\n")


@pytest.mark.parametrize(
    "ids",
    [
        pa.array([1001, None, 3]),
        pa.array([1001.0, None, 3.0]),
        pa.array(["1001", None, "3"]),
        pa.array([b"1001", None, b"3"]),
        pa.array(["1001", None, "3"]).dictionary_encode(),
    ],
)
def test_ids_of_parquet_are_the_numbers_they_were(ids: pa.Array, tmp_path: Path) -> None:
    table = pa.table({"account_id": ids, "domain": ["a.example", "b.example", "c.example"]})
    pq.write_table(table, tmp_path / "a.parquet")
    found = read_accounts(tmp_path / "a.parquet")["account_id"]
    assert found.astype(object).where(found.notna(), None).tolist() == ["1001", None, "3"]


def test_a_large_whole_number_keeps_its_digits() -> None:
    frame = normalise_accounts(pd.DataFrame({"account_id": [np.float64(123456789012345), 2.5]}))
    assert frame["account_id"].tolist() == ["123456789012345", "2.5"]


# ── Dates ────────────────────────────────────────────────────────────────────────────────────────────────────────────

DATES = {
    "2024-05-31": "2024-05-31", "2024-05-31 10:00": "2024-05-31T10:00", "2024-05-31T12:00:00+02:00": "2024-05-31T10:00",
    "31.05.2024": "2024-05-31", "May 31, 2024": "2024-05-31", "31-May-2024": "2024-05-31", "5/31/2024": "2024-05-31",
    "31/05/2024": "2024-05-31", "5/5/2024": "2024-05-05", "2024/05/31": "2024-05-31", "1717113600": "2024-05-31",
    "1717113600000": "2024-05-31", "5/31/2024 3:00 PM": "2024-05-31T15:00",
}  # fmt: skip


@pytest.mark.parametrize("text", [*DATES])
def test_a_date_with_one_meaning_is_read(text: str, tmp_path: Path) -> None:
    assert cell(tmp_path, "signed_up_at", text) == pd.Timestamp(DATES[text], tz="UTC")


def test_a_date_with_two_meanings_is_asked_about_unless_others_say_it(tmp_path: Path) -> None:
    assert "either way round" in refused(tmp_path, "account_id,signed_up_at\na,05/06/2024\n")
    frame, told = read(tmp_path, "account_id,signed_up_at\na,05/06/2024\nb,13/06/2024\n")
    assert frame["signed_up_at"].dt.month.tolist() == [6, 6]
    assert any("2 values read with the day before the month" in line for line in told)
    assert "a spreadsheet's number of a day" in refused(tmp_path, "account_id,signed_up_at\na,45413\n")
    both = "account_id,signed_up_at\na,05/06/2024\nb,13/06/2024\nc,06/13/2024\n"
    assert "either way round" in refused(tmp_path, both)


def test_dates_of_parquet(tmp_path: Path) -> None:
    day, moment = date(2024, 5, 31), datetime(2024, 5, 31, tzinfo=UTC)
    naive = np.datetime64("2024-05-31T00:00:00", "us")
    for value in (day, moment, naive, 1717113600, 1717113600000):
        pd.DataFrame({"account_id": ["a"], "signed_up_at": [value]}).to_parquet(tmp_path / "a.parquet")
        assert read_accounts(tmp_path / "a.parquet").at[0, "signed_up_at"] == pd.Timestamp(moment)


# ── Plan limits ──────────────────────────────────────────────────────────────────────────────────────────────────────

LIMITS = {
    '{"seats": 10}': {"seats": 10}, "{}": None, "[]": None, "null": None, "unlimited": None, '{"seats": -1}': None,
    '{"seats": null}': None, '{"seats": "Unlimited"}': None, '{"seats": "∞"}': None, '{"seats": 0}': None,
    '{"seats": 9223372036854775807}': None, '{"seats": "1,000"}': {"seats": 1000},
    "{'seats': 5, 'b': None}": {"seats": 5},
    '{"seats": -1, "rows": "1000", "gb": 2.5}': {"rows": 1000, "gb": 2.5}, '{"seats": NaN, "rows": 3}': {"rows": 3},
}  # fmt: skip


@pytest.mark.parametrize("text", [*LIMITS])
def test_an_unlimited_limit_is_none(text: str, tmp_path: Path) -> None:
    found = cell(tmp_path, "plan_limits", text)
    assert (None if pd.isna(found) else json.loads(found)) == LIMITS[text]


@pytest.mark.parametrize("bad", ['"lots"', "-5", "true", "[1]", '{"a": 1}', '"1.200"'])
def test_a_bad_limit_is_named_and_the_others_are_kept(bad: str, tmp_path: Path) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([["account_id", "plan_limits"], ["a", f'{{"seats": {bad}, "rows": 7}}']])
    frame, told = read(tmp_path, text.getvalue())
    assert json.loads(frame.at[0, "plan_limits"]) == {"rows": 7}
    assert any("plan_limits: 1 value without limits that are no caps: seats: " in line for line in told)


def test_limits_of_parquet_may_be_structs_or_maps(tmp_path: Path) -> None:
    for kind in (pa.struct([("seats", pa.int64()), ("rows", pa.int64())]), pa.map_(pa.string(), pa.int64())):
        values: list[Any] = (
            [{"seats": 5, "rows": None}] if pa.types.is_struct(kind) else [[("seats", 5), ("rows", None)]]
        )
        pq.write_table(pa.table({"account_id": ["a"], "plan_limits": pa.array(values, kind)}), tmp_path / "a.parquet")
        assert read_accounts(tmp_path / "a.parquet").at[0, "plan_limits"] == '{"seats": 5}'


# ── Other columns ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_several_domains(tmp_path: Path) -> None:
    assert cell(tmp_path, "domains", "https://b.example; @A.example b.example") == "a.example;b.example"
    assert cell(tmp_path, "domains", '["b.example", "a.example"]') == "a.example;b.example"
    assert "keep one here and give all of them in a column domains" in refused(
        tmp_path, "account_id,domain\na,a.example; b.example\n"
    )
    pq.write_table(pa.table({"account_id": ["a"], "domains": [["b.example", "a.example"]]}), tmp_path / "a.parquet")
    assert read_accounts(tmp_path / "a.parquet").at[0, "domains"] == "a.example;b.example"


def test_zones_and_addresses(tmp_path: Path) -> None:
    assert cell(tmp_path, "timezone", "europe/berlin") == "Europe/Berlin"
    assert cell(tmp_path, "owner_email", "Ana Example <Ana@V.example>") == "ana@v.example"


def test_a_crm_says_what_it_could_not_read() -> None:
    told: list[str] = []
    odd = {"crm_account_id": ["1", "2"], "employees": ["many", "1,200"], "plan_limits": ["x", '{"a": "b", "c": 1}']}
    frame = normalise_accounts(pd.DataFrame(odd), tell=told.append)
    assert pd.isna(frame.at[0, "employees"]) and frame.at[1, "employees"] == 1200
    assert told == [
        "employees: 1 value not read: 'many'; give a number, not negative",
        "plan_limits: 1 value without limits that are no caps: a: b",
        "plan_limits: 1 value not read: 'x'; give a JSON object of caps, like {\"seats\": 10}",
    ]


@given(st.data())
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
def test_what_was_read_is_read_again_as_it_is(data: st.DataObject) -> None:
    """Values are read when they come in and when signals are built."""
    texts = st.text(max_size=12) | st.sampled_from([*GROUPED, *LIMITS, *DATES, "a.example;b.example", "1001.0", "n/a"])
    columns = [
        "name",
        "domain",
        "domains",
        "employees",
        "arr",
        "plan_limits",
        "timezone",
        "owner_email",
        "signed_up_at",
    ]
    rows = data.draw(st.lists(st.fixed_dictionaries({name: texts for name in columns}), min_size=1, max_size=4))
    frame = pd.DataFrame(rows).assign(account_id=[f"a{n}" for n in range(len(rows))])
    once = normalise_accounts(frame)
    pd.testing.assert_frame_equal(normalise_accounts(once), once)
