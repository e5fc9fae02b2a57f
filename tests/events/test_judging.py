import json

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.events.stager import Stager
from tests.sources.answers import event, nobody, text

FULL = "2025-03-01 10:00:00.000000"

BAD = [
    (b'{"event_type": "x", "user_id', "broken_json"),
    (b"{} {}", "broken_json"),
    (b"nonsense", "broken_json"),
    (b'{"event_type": "x\x00y", "user_id": "u"}', "control_characters"),
    (b'{"event_type": "lone \\ud83d surrogate"}', "lone_surrogate"),
    (text(event(1, user_id="U")).replace(b'"U"', b'"u\\udc00"'), "lone_surrogate"),
    (text(event(1, groups={"company": ["G"]})).replace(b'"G"', b'"g\xe9"'), "invalid_utf8"),
    (b"[1, 2]", "not_an_object"),
    (b"null", "not_an_object"),
    (b'"event_type"', "not_an_object"),
    (b"42", "not_an_object"),
    (b'{"event_type": "caf\xe9"}', "invalid_utf8"),
    (b"\xff\xfe\x00", "invalid_utf8"),
    (nobody(1), "no_user_and_no_account"),
    (nobody(1, user_id=""), "no_user_and_no_account"),
    (nobody(1, user_id=" \t "), "no_user_and_no_account"),
    (nobody(1, groups={"organisation": []}), "no_user_and_no_account"),
    (nobody(1, groups={"organisation": [{"id": 1}]}), "no_user_and_no_account"),
    (nobody(1, groups={"somewhere_else": ["acme"]}), "no_user_and_no_account"),
    (nobody(1, user_properties={"email": "jo@gmail.com"}), "no_user_and_no_account"),
    (event(1, event_type=None), "missing_event_type"),
    (event(1, event_type=""), "missing_event_type"),
    (event(1, event_type={"name": "x"}), "unknown_shape"),
    (event(1, event_type=["x"]), "unknown_shape"),
    (event(1, user_id={"id": 1}), "unknown_shape"),
    (event(1, user_id=[1]), "unknown_shape"),
    (event(1, uuid=[1]), "unknown_shape"),
    (event(1, groups=["acme"]), "unknown_shape"),
    (event(1, groups="acme"), "unknown_shape"),
    (event(1, user_id="a\x00b"), "control_characters"),
    (event(1, user_id="a\nb"), "control_characters"),
    (event(1, groups={"organisation": ["ac\x1bme"]}), "control_characters"),
    (event(1, event_type="x\x7f"), "control_characters"),
    (event(1, event_time=None, client_event_time=None), "unparsable_time"),
    (event(1, event_time="yesterday"), "unparsable_time"),
    (event(1, event_time="2025-02-30 10:00:00.000000"), "unparsable_time"),
    (event(1, event_time="infinity"), "before_product"),  # the engine reads it as 1900
    (event(1, event_time=1740823200), "unparsable_time"),
    (event(1, event_time="2025-03-01 10:00:00 Mars/Olympus"), "unparsable_time"),
    (event(1, event_time="12:00"), "unparsable_time"),
    (event(1, server_upload_time=None, server_received_time=None), "unparsable_time"),
    (event(1, event_time="1970-01-01 00:00:00.000000"), "before_product"),
    (event(1, event_time="0001-01-01 00:00:00.000000"), "before_product"),
    (event(1, event_time="2014-12-31 23:59:59.999999"), "before_product"),
    (event(1, event_time="2099-01-01 00:00:00.000000"), "after_receipt"),
    (event(1, event_time="2025-03-02 10:05:00.000001"), "after_receipt"),
    (
        event(1, event_time="2099-01-01 00:00:00.000000", server_upload_time="2099-01-01 00:00:00.000000"),
        "after_receipt",
    ),
    (event(1, user_id="u" * 65537), "value_too_long"),
    (event(1, event_type="e" * 65537), "value_too_long"),
    (event(1, groups={"organisation": ["g" * 65537]}), "value_too_long"),
    (event(1, uuid="i" * 65537), "value_too_long"),
]


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    """All bad rows at once, a good one after each: what one row does must not touch its neighbours."""
    stager = Stager(tmp_path_factory.mktemp("bad"))
    rows = [row for number, (row, _) in enumerate(BAD) for row in (row, event(1000 + number))]
    return stager, stager.staged(rows)


@pytest.mark.parametrize("number", range(len(BAD)))
def test_a_row_that_is_no_event_is_quarantined_with_its_reason(bad, number):
    stager, _ = bad
    row, reason = BAD[number]
    found = stager.quarantine().set_index("line").loc[2 * number + 1]
    assert found["reason"] == reason
    assert found["file"].endswith("#0.json.gz") and found["source"] == "amplitude"
    if reason != "invalid_utf8":
        assert found["row"].removesuffix("\n") == (row if isinstance(row, bytes) else text(row))[:65536].decode()


def test_its_neighbours_are_kept(bad):
    stager, rows = bad
    assert rows["in"] == 2 * len(BAD)
    assert rows["kept"] == len(BAD)
    assert rows["quarantined"] == pd.Series([reason for _, reason in BAD]).value_counts().sort_index().to_dict()
    assert stager.events()["event_id"].tolist() == sorted(event(1000 + n)["uuid"] for n in range(len(BAD)))


KEPT = [
    (event(1), {"user_id": "u1", "account_id": "user:u1", "account_basis": "personal"}),
    (event(1, user_id="  u1\n"), {"user_id": "u1", "account_id": "user:u1"}),
    (event(1, user_id=12345678901234567890), {"user_id": "12345678901234567890", "account_basis": "personal"}),
    (event(1, user_id="[deleted]"), {"user_id": "[deleted]"}),
    (event(1, user_id="{curly}", event_type="[sic]"), {"user_id": "{curly}", "event": "[sic]"}),
    (event(1, user_id="Jö 🚀"), {"user_id": "Jö 🚀"}),
    (
        event(1, groups={"organisation": ["acme", "other"]}),
        {"account_id": "acme", "account_basis": "group", "user_id": "u1"},
    ),
    (event(1, groups={"organisation": "acme"}), {"account_id": "acme", "account_basis": "group"}),
    (event(1, groups={"organisation": [42]}), {"account_id": "42", "account_basis": "group"}),
    (event(1, groups={"account": ["third"], "company": ["second"]}), {"account_id": "second"}),
    (event(1, groups={"organisation": [], "account": ["third"]}), {"account_id": "third"}),
    (event(1, groups={"elsewhere": ["x"]}), {"account_id": "user:u1", "account_basis": "personal"}),
    (event(1, groups=None, user_properties=None), {"account_basis": "personal"}),
    (event(1, user_id=None, groups={"company": ["acme"]}), {"user_id": None, "account_id": "acme"}),
    (
        event(1, user_id="Jo@Mail.Acme.co.uk"),
        {"user_id": "jo@mail.acme.co.uk", "account_id": "acme.co.uk", "account_basis": "domain"},
    ),
    (
        event(1, user_id="jo@acme.com", groups={"company": ["acme-inc"]}),
        {"account_id": "acme-inc", "account_basis": "group", "email_domain": "acme.com"},
    ),
    (
        event(1, user_id="jo@gmail.com"),
        {"account_id": "user:jo@gmail.com", "account_basis": "personal", "email_domain": None},
    ),
    (event(1, user_properties={"email": "jo@acme.com"}), {"account_id": "acme.com", "user_id": "u1"}),
    (event(1, user_properties={"Email": "jo@acme.com", "email": "jo@"}), {"account_id": "acme.com"}),
    (event(1, user_properties={"email": "jo@gmail.com"}), {"account_id": "user:u1", "account_basis": "personal"}),
    (
        event(1, user_id=None, user_properties={"email": "jo@acme.com"}),
        {"account_id": "acme.com", "account_basis": "domain", "user_id": None},
    ),
    (event(1, user_id="jo@", user_properties={"note": "a@b"}), {"account_id": "user:jo@", "account_basis": "personal"}),
    (event(1, event_time=None), {"occurred_at": pd.Timestamp("2025-03-01 09:59:00", tz="UTC")}),
    (
        event(1, event_time="2025-03-01 10:00:00.837"),
        {"occurred_at": pd.Timestamp("2025-03-01 10:00:00.837", tz="UTC")},
    ),
    (event(1, event_time="2025-03-01T10:00:00Z"), {"occurred_at": pd.Timestamp("2025-03-01 10:00", tz="UTC")}),
    (event(1, event_time="2025-03-01T10:00:00"), {"occurred_at": pd.Timestamp("2025-03-01 10:00", tz="UTC")}),
    (event(1, event_time="2025-03-01 10:00:00+02"), {"occurred_at": pd.Timestamp("2025-03-01 08:00", tz="UTC")}),
    (
        event(1, event_time="2025-03-01T10:00:00.250+05:45", server_upload_time="2025-03-01T10:05:00+0000"),
        {
            "occurred_at": pd.Timestamp("2025-03-01 04:15:00.250", tz="UTC"),
            "received_at": pd.Timestamp("2025-03-01 10:05", tz="UTC"),
        },
    ),
    (event(1, event_time=""), {"occurred_at": pd.Timestamp("2025-03-01 09:59", tz="UTC")}),
    (event(1, server_upload_time=""), {"received_at": pd.Timestamp("2025-03-01 10:05", tz="UTC")}),
    (event(1, event_time="2025-03-02 10:05:00.000000"), {"event_date": "2025-03-02"}),
    (event(1, event_time="2025-02-28 23:59:59.999999"), {"event_date": "2025-02-28"}),
    (event(1, event_time="2015-01-01 00:00:00.000000"), {"event_date": "2015-01-01"}),
    (event(1, server_upload_time=None), {"received_at": pd.Timestamp("2025-03-01 10:05", tz="UTC")}),
    (event(1, event_properties={"a": {"b": [1, "ü\x00"]}}), {"properties": {"a": {"b": [1, "ü\x00"]}}}),
    (event(1, event_properties=None), {"properties": {}}),
    (text(event(1)) + b"\r", {"user_id": "u1"}),
    (b'{"event_type": "first", ' + text(event(1))[1:], {"event": "first"}),
    (event(1, uuid=77), {"event_id": "77"}),
    (event(1, user_id="u" * 65536), {"user_id": "u" * 65536}),
]


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    stager = Stager(tmp_path_factory.mktemp("good"))
    rows = []
    for number, (row, _) in enumerate(KEPT):
        raw = row if isinstance(row, bytes) else text(row)
        raw = raw.replace(b'"i1"', f'"i1-{number}"'.encode())  # one insert id would be one event, sent again
        rows.append(raw.replace(event(1)["uuid"].encode(), f"row-{number:03d}".encode()))
    summary = stager.staged(rows)
    assert summary["quarantined"] == {}
    return stager.events().set_index("event_id", drop=False)


@pytest.mark.parametrize("number", range(len(KEPT)))
def test_an_event_is_read_as_its_vendor_means_it(good, number):
    expected = KEPT[number][1]
    found = good.loc[expected.get("event_id", f"row-{number:03d}")]
    for name, value in expected.items():
        if name == "properties":
            assert json.loads(found[name]) == value
        elif value is None:
            assert pd.isna(found[name])
        else:
            assert found[name] == value, name


def test_a_policy_without_groups_or_email_properties_still_reads(tmp_path):
    stager = Stager(tmp_path, group_types=[], email_properties=[])
    rows = [event(1, groups={"organisation": ["acme"]}), event(2, user_properties={"email": "jo@acme.com"})]
    assert stager.staged(rows)["kept"] == 2
    assert stager.events()["account_basis"].tolist() == ["personal", "personal"]


def test_names_in_the_policy_are_data_not_sql(tmp_path):
    odd = 'it\'s/a ~ "group"'
    stager = Stager(tmp_path, group_types=[odd], email_properties=[odd])
    rows = [event(1, groups={odd: ["acme"]}), event(2, user_properties={odd: "jo@acme.com"})]
    assert stager.staged(rows)["kept"] == 2
    assert stager.events()["account_id"].tolist() == ["acme", "acme.com"]


def test_deep_nesting_breaks_nothing(stager):
    deep = b'{"event_type": "x", "event_properties": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001
    rows = stager.staged([deep, event(1)])
    assert rows["kept"] == 1 and sum(rows["quarantined"].values()) == 1


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ["event_type", "user_id", "uuid", "groups", "event_properties", "user_properties", "event_time"]
hostile = st.one_of(
    st.binary(max_size=30).filter(lambda b: b"\n" not in b and b not in (b"", b"\r")),
    anything.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(st.sampled_from(FIELDS), anything).map(lambda changes: text(event(1) | changes)),
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(hostile, max_size=15), good=st.integers(0, 5))
def test_no_neighbour_whatever_it_is_costs_a_good_row(tmp_path_factory, rows, good):
    stager = Stager(tmp_path_factory.mktemp("home"))
    fine = [event(5000 + n) for n in range(good)]
    mixed = [*rows, *fine] if len(rows) % 2 else [*fine, *rows]
    counts = stager.staged(mixed)
    assert counts["in"] == len(mixed)
    held = stager.events()
    assert counts["kept"] == len(held) == held["event_id"].nunique()
    assert set(held["event_id"]) >= {row["uuid"] for row in fine}
    assert sum(counts["quarantined"].values()) == len(stager.quarantine())
