import json

import pandas as pd
import pytest
from onetouch.events.identity import (
    account_of_group,
    account_of_user,
    business_domain,
    business_domains,
    former_ids,
    one_id,
    who,
)
from onetouch.policy import read_policy
from onetouch.sources import source_of

from tests.events.stager import Stager
from tests.sources.answers import event, nobody


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("acme.com", "acme.com"),
        ("Mail.EU.Acme.co.uk", "acme.co.uk"),
        ("acme.com.", "acme.com"),
        ("acme.example", "acme.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("gmail.com", None),
        ("GMAIL.com", None),
        ("googlemail.com", None),
        ("web.de", None),
        ("qq.com", None),
        ("yahoo.co.uk", None),
        ("co.uk", None),
        ("localhost", None),
        ("10.0.0.1", None),
        ("acme", None),
        ("acme..com", None),
        ("-acme.com", None),
        ("ac me.com", None),
        ("acme.com>", None),
        ("a" * 64 + ".com", None),
        (".".join(["a" * 60] * 5) + ".com", None),
        ("\u2024.\x00", None),
        ("", None),
    ],
)
def test_business_domain(host, domain):
    assert business_domain(host) == domain


@pytest.mark.parametrize(
    "host",
    [
        "users.noreply.github.com", "privaterelay.appleid.com", "noreply.acme.com", "mozmail.com", "duck.com",
        "sub.users.noreply.github.com",
    ],
)  # fmt: skip
def test_what_passes_mail_on_names_no_company(host):
    assert business_domain(host) is None
    assert business_domain("github.com") == "github.com"


def test_of_several_hosts_the_first_business_counts():
    assert business_domains([" gmail.com acme.com", " gmail.com", " a.x.com y.com"]) == {
        " gmail.com acme.com": "acme.com", " gmail.com": None, " a.x.com y.com": "x.com",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("group", "account"),
    [("acme", "acme"), ("42", "42"), ("user:42", "group:user:42"), ("crm:1", "group:crm:1"),
     ("group:x", "group:group:x"),
     ("Acme.com", "acme.com"), ("acme.com", "acme.com"), ("Gmail.com", "Gmail.com"), ("V1.2", "V1.2")],
)  # fmt: skip
def test_the_account_of_a_group_equals_none_of_another_kind(group, account):
    assert account_of_group(group) == account != account_of_user("42")


def test_lone_persons_had_other_ids_once():
    assert former_ids(["user:a", "user:42", "42", "acme"]) == {"a": "user:a"}


IDS = [
    "u1", " u1 ", "1001.0", "1001.00", "10.5", "undefined", "NULL", "None", "0", "-", "[object Object]", "anonymous",
    "Jo@Acme.com", "jo@acme.com", "\u00a0x\u200b", "Jose\u0301", "Jos\u00e9", "JO\u0308@acme.com", "0.0", "a  b", "A B",
    "Jo+Test@Acme.com", "+x@acme.com", "jo+a+b@acme.com", "a+b", "12+Jo@users.noreply.github.com", "jo@acme.com/+x@y",
]  # fmt: skip


@pytest.mark.parametrize("ignored", [[], ["unicode"], ["case", "blanks", "unicode"]])
def test_the_engine_spells_ids_as_outside_it(tmp_path, ignored):
    stager = Stager(tmp_path, ids_ignore=ignored)
    rows = [event(n, user_id=text, groups={"company": [text, "~"]}, device_id=f"d{n}") for n, text in enumerate(IDS)]
    assert stager.staged(rows)["quarantined"] == {}
    held = stager.events()
    shape, limits = source_of("amplitude").shape, stager.policy.events
    for row, found in zip(rows, held.sort_values("event_id").to_dict("records"), strict=True):
        about = who(row, shape, limits)
        assert about.user == one_id(row["user_id"], limits)
        got = tuple(None if pd.isna(found[name]) else found[name] for name in ("user_id", "account_id", "anonymous_id"))
        assert got == (about.user, about.group, about.anonymous), row["user_id"]


def test_ids_that_one_person_wrote_in_several_ways_are_one():
    limits = read_policy().events
    assert len({one_id(text, limits) for text in ("Jo@Acme.com", " jo@acme.com ", "JO+x@ACME.COM")}) == 1
    assert len({one_id(f"{text}@users.noreply.github.com", limits) for text in ("1+jo", "1", "2+jo")}) == 3
    assert {one_id(text, limits) for text in ("1001", "1001.0")} == {"1001"}
    assert {one_id(text, limits) for text in ("undefined", "NULL", " none", "0", "[object Object]")} == {None}
    assert one_id("Acme", limits) != one_id("acme", limits)


def test_rows_of_devices_are_kept_and_counted_apart(tmp_path):
    stager = Stager(tmp_path)
    visitors = [event(n, user_id=None, device_id=f"d{n}") for n in range(3)]
    by_vendor = event(3, user_id=None, device_id=None, amplitude_id=77)
    rows = stager.staged([*visitors, by_vendor, event(4), nobody(5)])
    assert (rows["kept"], rows["anonymous"], rows["quarantined"]) == (5, 4, {"no_user_and_no_account": 1})
    held = stager.events()
    assert held.loc[held["account_id"].isna(), "anonymous_id"].tolist() == ["d0", "d1", "d2", "77"]


def test_groups_of_types_that_nobody_named_are_told(tmp_path):
    stager = Stager(tmp_path)
    stager.receive([event(1, groups={"Company": ["a"]}), event(2, groups={"Company": ["a"], "org id": ["b"]}),
                    event(3, groups={"company": ["a"], "team": ["t"]}), event(4)])  # fmt: skip
    assert stager.stage()["unnamed_groups"] == {"Company": 2, "org id": 1}
    assert json.loads(stager.events()["groups"][2]) == {"company": ["a"], "team": ["t"]}


def test_who_never_counts_is_marked(tmp_path):
    people = {
        "domains": ["vendor.example"],
        "emails": ["Bob@gmail.com"],
        "users": ["t-1"],
        "user_properties": {"staff": [True]},
    }
    stager = Stager(tmp_path)
    stager.policy = stager.policy.changed(never_count=people)
    rows = [
        event(1, user_id="sue@mail.vendor.example"), event(2, user_properties={"email": "bob@gmail.com"}),
        event(3, user_id="T-1"), event(4, user_properties={"staff": True}), event(5, user_id="x@notvendor.example"),
        event(6, user_properties={"staff": False}),
    ]  # fmt: skip
    stager.staged(rows)
    assert stager.events()["never_count"].fillna(False).tolist() == [True] * 4 + [False] * 2
