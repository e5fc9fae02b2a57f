"""Who may be contacted by which channel: held against a plain reading of the promise, person by person."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onetouch.consent import CHANNELS, CONTACTS, LISTED, PEOPLE, Consent, Lists, Person, user_of
from onetouch.policy import read_policy

NOBODY = pd.DataFrame(columns=list(LISTED)).astype(LISTED)
POLICY = read_policy()


def contacts(*rows: tuple[Any, ...]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(CONTACTS)).astype(CONTACTS)


def people(*rows: tuple[Any, ...]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(PEOPLE)).astype(PEOPLE)


def consent(rows: pd.DataFrame, channels: tuple[str, ...] = ("call", "email"), **never: Any) -> Consent:
    policy = POLICY.changed(**{f"never_contact__{name}": value for name, value in never.items()})
    return Consent(rows, Lists(policy, NOBODY), channels)


def account(**given: Any) -> pd.DataFrame:
    known = {"account_id": "org-1", "crm_account_id": "c1", "domain": "acme.example", "domains": None}
    row = known | {"never_contact": None, "top_user": None} | given
    return pd.DataFrame([row]).astype(
        {"never_contact": "boolean", **dict.fromkeys(row.keys() - {"never_contact"}, "str")}
    )


def why(asked: Consent, of: pd.DataFrame, *users: tuple[Any, ...]) -> str | None:
    [found] = asked.held(of, people(*users))
    return found if isinstance(found, str) else None


def test_an_opt_out_counts_by_channel_and_on_every_record_of_the_address() -> None:
    asked = consent(contacts(("p1", "c1", "ada@x.example", True, False), ("p2", None, "ada@x.example", False, False)))
    for person in (
        Person("p1"),
        Person("p1", "ada@x.example"),
        Person("p2", "ada@x.example"),
        user_of("Ada@X.example"),
    ):
        assert asked.barred(person, "call") == "opted out of calls"
        assert asked.barred(person, "email") is None
        assert asked.may(person, "email") and not asked.may(person, "call")
        assert not asked.may_be_named(person) and asked.unreachable(person) is None
    assert asked.may_be_named(Person("p3", "bob@x.example"))
    assert consent(contacts(("p1", "c1", "ada@x.example", True, False)), ("email",)).may_be_named(Person("p1"))


def test_an_opt_out_that_is_not_shown_is_unknown_so_nobody_is_named_and_no_account_held() -> None:
    asked = consent(contacts(("p1", "c1", "ada@x.example", None, False)))
    assert asked.barred(Person("p1"), "call") is None and not asked.may(Person("p1"), "call")
    assert asked.may(Person("p1"), "email") and not asked.may_be_named(Person("p1"))
    assert why(asked, account()) is None


def test_an_account_is_held_for_itself_or_when_nobody_is_left() -> None:
    both = ("p1", "c1", "ada@x.example", True, True)
    free = ("p2", "c1", "bob@x.example", True, False)
    assert why(consent(contacts(both)), account()) == (
        "nobody there can be contacted: contact p1 opted out of calls and of e-mail"
    )
    assert why(consent(contacts(both, free)), account()) is None
    assert why(consent(contacts(both)), account(top_user="eve@x.example")) is None
    assert why(consent(contacts(both)), account(), ("org-1", "u1", "eve@x.example")) is None
    assert why(consent(contacts(both)), account(), ("org-2", "u1", "eve@x.example")) is not None
    assert why(consent(contacts(both)), account(top_user="Ada@x.example")) is not None
    assert why(consent(contacts(both)), account(crm_account_id="c2")) is None
    assert why(consent(contacts()), account(top_user="u_1")) is None
    alone = consent(contacts(("p1", None, "ada@x.example", True, True)))
    assert why(alone, account(crm_account_id=None, top_user="ada@x.example")) == (
        "nobody there can be contacted: a user of the product opted out of calls and of e-mail"
    )
    assert why(consent(contacts()), account(never_contact=True)) == "its record in the CRM says so"
    assert why(consent(contacts(free), domains=["acme.example, a rival"]), account()) == (
        "acme.example is on never_contact.domains (a rival)"
    )
    assert why(consent(contacts(free), accounts=["c1"]), account()) == "c1 is on never_contact.accounts"
    assert why(consent(contacts(free), domains=["b.example"]), account(domains="acme.example;b.example")) is not None
    assert (
        why(consent(contacts(), domains=["acme.example"]), account(account_id="acme.example", domain=None)) is not None
    )


def test_of_many_people_three_are_told_by_their_ids_and_never_by_an_address() -> None:
    rows = contacts(*((f"p{n}", "c1", f"p{n}@x.example", True, True) for n in range(5)))
    said = why(consent(rows, people=["p0@x.example, by letter"]), account())
    assert said == (
        "nobody there can be contacted: contact p0 is on never_contact.people (by letter); "
        "contact p1 opted out of calls and of e-mail; contact p2 opted out of calls and of e-mail; 2 more"
    )
    assert "@" not in str(why(consent(contacts(), people=["a@b.example"]), account(top_user="a@b.example")))


NAMES = st.sampled_from(["a", "b", "c", "d"])
ADDRESS = st.one_of(st.none(), NAMES.map(lambda name: f"{name}@x.example"), st.just("t@us.example"))
FLAG = st.sampled_from([True, False, None])


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(st.sampled_from(["c1", "c2", "c3", None]), ADDRESS, FLAG, FLAG), max_size=8),
    tops=st.tuples(*[st.one_of(ADDRESS, st.just("u_1"))] * 4),
    users=st.lists(st.tuples(st.sampled_from(["org-1", "org-2", "org-4"]), ADDRESS), max_size=4),
    flags=st.tuples(*[FLAG] * 4),
    lists=st.fixed_dictionaries(
        {
            "domains": st.sampled_from([[], ["us.example"], ["d2.example", "us.example, own staff"]]),
            "accounts": st.sampled_from([[], ["c3"], ["org-1", "c2, partner"]]),
            "people": st.lists(NAMES.map(lambda name: f"{name}@X.example"), max_size=2),
        }
    ),
    channels=st.sampled_from([("call",), ("email",), ("call", "email")]),
)
def test_it_is_what_a_plain_reading_says(
    rows: Any, tops: Any, users: Any, flags: Any, lists: Any, channels: tuple[str, ...]
) -> None:
    records = [(f"p{n}", *row) for n, row in enumerate(rows)]
    accounts = pd.concat(
        [
            account(account_id=f"org-{n}", crm_account_id=None if n == 4 else f"c{n}", domain=f"d{n}.example",
                    top_user=tops[n - 1], never_contact=flags[n - 1])
            for n in (1, 2, 3, 4)
        ],
        ignore_index=True,
    )  # fmt: skip
    asked = consent(contacts(*records), channels, **lists)
    held = asked.held(accounts, people(*((account_id, f"u{n}", email) for n, (account_id, email) in enumerate(users))))

    opted = {channel: set() for channel in CHANNELS}
    unknown = {channel: set() for channel in CHANNELS}
    for contact_id, _, email, call, mail in records:
        for channel, flag in (("call", call), ("email", mail)):
            if flag is not False:
                (opted if flag else unknown)[channel] |= {contact_id, email} - {None}
    stop_domains = {entry.partition(",")[0] for entry in lists["domains"]}
    stop_people = {entry.lower() for entry in lists["people"]}
    stop_accounts = {entry.partition(",")[0] for entry in lists["accounts"]}

    def on_list(email: str | None) -> bool:
        return email is not None and (email in stop_people or email.partition("@")[2] in stop_domains)

    def barred(contact_id: str | None, email: str | None, channel: str) -> bool:
        return on_list(email) or contact_id in opted[channel] or email in opted[channel]

    for contact_id, _, email, *_ in records:
        for channel in CHANNELS:
            free = not barred(contact_id, email, channel) and not {contact_id, email} & unknown[channel]
            assert asked.may(Person(contact_id, email), channel) == free
    for n, row in enumerate(accounts.itertuples(index=False), 1):
        known = {(i, email) for i, record, email, *_ in records if record is not None and record == row.crm_account_id}
        theirs = {email for account_id, email in users if account_id == f"org-{n}" and email}
        top = tops[n - 1]
        theirs |= {top} if top and "@" in top else set()
        everybody = known | {(None, email) for email in theirs}
        gone = bool(everybody) and all(all(barred(*person, channel) for channel in channels) for person in everybody)
        itself = flags[n - 1] is True or {f"org-{n}", f"c{n}" if n != 4 else ""} & stop_accounts
        wanted = bool(itself or f"d{n}.example" in stop_domains or gone)
        assert isinstance(held.iloc[n - 1], str) == wanted, (n, held.iloc[n - 1])
        barred_anybody = any(barred(*person, channel) for person in everybody for channel in channels)
        seen = {(i, email) for i, email in everybody if i or email == top}
        if any(barred(*person, channel) for person in seen for channel in channels):
            assert asked.in_question(accounts)[n - 1] and barred_anybody


@pytest.mark.parametrize("channels", [("call", "email"), ("call",)])
def test_nothing_known_holds_nobody(channels: tuple[str, ...]) -> None:
    assert why(consent(contacts(), channels), account(top_user="ada@x.example")) is None
    assert consent(contacts(), channels).held(account().iloc[:0]).empty
