"""Which account of the product a record of the CRM belongs to, and what is said of those that cannot be told."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onetouch.lake import Lake
from onetouch.policy import read_policy
from onetouch.signals import normalise_accounts
from onetouch.signals.build import built
from onetouch.signals.joining import Joined, companies, join

AS_OF = datetime(2025, 3, 10, 12, tzinfo=UTC)
POLICY = read_policy()

Record = dict[str, Any]
Place = tuple[str, str, str | None, int]
"""An account, its basis, a domain (None: without an address), and how many people of the domain live there."""


def joined(records: list[Record], places: list[Place], *also: str) -> tuple[dict[str, str], Joined]:
    """Name of a record → its account. `also`: further accounts of the product, in which nobody lives."""
    snapshot = normalise_accounts(pd.DataFrame(records))
    presence = pd.DataFrame(
        [(account, basis, domain, n, n, AS_OF) for account, basis, domain, n in places],
        columns=["account_id", "account_basis", "email_domain", "living", "known", "last_at"],
    ).astype({"account_id": "str", "email_domain": "str", "account_basis": "str"})
    living = presence.groupby("account_id")["living"].sum()
    product = living.reindex(living.index.union(list(also))).fillna(0).rename_axis("account_id").reset_index()
    found = join(snapshot, product.astype({"account_id": "str"}), presence)
    assert found.accounts["account_id"].is_unique
    names = found.accounts["name"]
    return dict(zip(names, found.accounts["account_id"], strict=True)), found


def record(name: str, domain: str | None = None, **more: Any) -> Record:
    return {"crm_account_id": name, "name": name, "domain": domain} | more


ACME, AGENCY = record("Acme", "acme.example"), record("Agency", "agency.example")


def test_a_signup_without_a_group_does_not_take_the_record_of_the_workspace() -> None:
    places = [("acme-1", "group", "acme.example", 1), ("acme.example", "domain", "acme.example", 5)]
    found, said = joined([ACME], places)
    assert found == {"Acme": "acme-1"}
    assert said.counts == {"read": 1, "joined": {"domain": 1}, "not_joined": 0, "accounts_without": 1}
    assert any("several accounts of one company" in line for line in said.warnings)


def test_consultants_in_many_accounts_outnumber_nobody() -> None:
    """Their own workspace is theirs, and each customer's is the customer's, with or without a record of theirs."""
    customers = [("acme-1", "acme.example"), ("beta-1", "beta.example"), ("corp-1", "corp.example")]
    places = [(a, "group", d, 2) for a, d in customers] + [(a, "group", "agency.example", 4) for a, _ in customers]
    theirs = [record(domain, domain) for _, domain in customers]
    found, said = joined(theirs, places)
    assert found == {domain: account for account, domain in customers} and said.warnings == []
    own = [*places, ("agency", "group", "agency.example", 3)]
    assert joined([*theirs, AGENCY], own)[0] == {d: a for a, d in customers} | {"Agency": "agency"}


def test_whose_an_account_is_is_not_guessed() -> None:
    places = [("acme-1", "group", "acme.example", 2), ("acme-1", "group", "agency.example", 5)]
    found, said = joined([ACME, AGENCY], places)
    assert found == {"Acme": "crm:Acme", "Agency": "crm:Agency"}
    [line] = [line for line in said.warnings if "ambiguous" in line]
    assert "acme.example (acme-1)" in line and "agency.example (acme-1)" in line
    found, said = joined([ACME], places)
    assert found == {"Acme": "crm:Acme"} and "1 record ambiguous" in said.warnings[0]
    # A declared id decides.
    assert joined([ACME | {"account_id": "acme-1"}, AGENCY], places)[0] == {"Acme": "acme-1", "Agency": "crm:Agency"}


def test_one_guest_makes_no_account_ambiguous() -> None:
    places = [("acme-1", "group", "acme.example", 10), ("acme-1", "group", "agency.example", 1)]
    found, said = joined([ACME, AGENCY], places)
    assert found == {"Acme": "acme-1", "Agency": "crm:Agency"}
    assert not any("ambiguous" in line for line in said.warnings)


def test_a_declared_id_is_found_in_another_spelling() -> None:
    places = [("Caf\u00e9 One", "group", "cafe.example", 2), ("user:u7", "group", "x.example", 1)]
    found, said = joined([record("A", account_id="cafe\u0301  one"), record("B", account_id="u7")], places)
    assert found == {"A": "Caf\u00e9 One", "B": "user:u7"}
    assert said.counts["joined"] == {"id": 2}


def test_the_crms_own_id_may_be_the_products(tmp_path: Any) -> None:
    places = [("0015g00000AbCdE", "group", "acme.example", 2), ("0015g00000AbCdFAAV", "group", "beta.example", 2)]
    records = [record("0015g00000AbCdEAAV"), record("0015g00000AbCdF"), record("0015g00000AbCdGAAV")]
    found, said = joined(records, places)
    assert [*found.values()] == ["0015g00000AbCdE", "0015g00000AbCdFAAV", "crm:0015g00000AbCdGAAV"]
    assert said.counts["joined"] == {"crm_id": 2}
    # The number of a HubSpot company is no id of the product, though it may look like one.
    assert joined([record("12345")], [("12345", "group", "acme.example", 2)])[0] == {"12345": "crm:12345"}


def test_an_id_that_the_product_does_not_know_is_joined_by_domain_and_told() -> None:
    places = [("acme.example", "domain", "acme.example", 3), ("beta.example", "domain", "beta.example", 3)]
    rows = [record("Acme", "acme.example", account_id="0015g0"), record("New", "new.example", account_id="n-1")]
    found, said = joined(rows, places)
    assert found == {"Acme": "acme.example", "New": "n-1"}
    assert any("does not know, joined by domain: 0015g0 is acme.example" in line for line in said.warnings)
    _, said = joined([rows[1]], places)
    assert said.warnings == ["none of 1 record joins an account of the product; check account_id and domain"]


def test_several_domains_are_one_company() -> None:
    places = [("acme-1", "group", "acme.example", 1), ("acme-1", "group", "acme-group.example", 3)]
    assert joined([ACME], places)[0] == {"Acme": "crm:Acme"}
    assert joined([ACME | {"domains": "acme.example;acme-group.example"}], places)[0] == {"Acme": "acme-1"}


def test_a_domain_of_two_records_is_nobodys_unless_it_is_ones_own() -> None:
    rows = [
        record("A", "a.example", domains="shared.example;b.example"), record("B", "b.example"),
        record("C", None, domains="c.example;shared.example"),
    ]  # fmt: skip
    found, shared = companies(normalise_accounts(pd.DataFrame(rows)))
    assert found.to_dict() == {"a.example": "a.example", "b.example": "b.example", "c.example": "c.example"}
    assert shared == ["shared.example"]


def test_a_domain_that_looks_like_a_records_is_listed() -> None:
    places = [(d, "domain", d, 2) for d in ("acme.example", "acme-group.example", "acme.de", "other.example")]
    _, said = joined([ACME], places)
    [line] = said.warnings
    assert "acme-group.example (acme.example), acme.de (acme.example)" in line and "other" not in line


def test_a_group_named_by_a_domain_is_that_company_also_without_addresses() -> None:
    places = [("acme.example", "group", None, 2), ("beta-1", "group", None, 2), ("v1.2", "group", None, 9)]
    found, said = joined([ACME, record("Beta", "beta.example")], places)
    assert found == {"Acme": "acme.example", "Beta": "crm:Beta"}
    assert said.counts["joined"] == {"domain": 1}
    # Those without an address are nobody's rivals, unless the account is named by a company's domain.
    places = [("v1.2", "group", None, 9), ("v1.2", "group", "acme.example", 1)]
    assert joined([ACME], places)[0] == {"Acme": "v1.2"}


def test_a_free_mail_domain_is_nobodys() -> None:
    assert joined([record("Mail", "gmail.com")], [("g", "group", "gmail.com", 9)])[0] == {"Mail": "crm:Mail"}


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_every_record_has_one_account_whatever_the_order(data: st.DataObject) -> None:
    """Every record keeps an account of its own; order of rows says nothing; nobody gets an account without evidence."""
    domains = ["a.example", "b.example", "c.example"]
    accounts = ["w1", "w2", "a.example", "b.example"]
    places = data.draw(
        st.lists(
            st.tuples(st.sampled_from(accounts), st.just("group"), st.sampled_from(domains), st.integers(0, 6)),
            max_size=8, unique_by=lambda place: (place[0], place[2]),
        )
    )  # fmt: skip
    ids = data.draw(st.lists(st.sampled_from([*accounts, "unseen", None]), min_size=1, max_size=5))
    rows = [
        record(f"r{n}", data.draw(st.sampled_from([*domains, None])), account_id=own,
               domains=data.draw(st.sampled_from([None, "a.example;c.example", "b.example"])))
        for n, own in enumerate(ids)
    ]  # fmt: skip
    found, said = joined(rows, places, *accounts)
    assert joined(data.draw(st.permutations(rows)), data.draw(st.permutations(places)), *accounts)[0] == found
    assert said.counts["read"] == len(rows) == sum(said.counts["joined"].values()) + said.counts["not_joined"]
    company_of, _ = companies(normalise_accounts(pd.DataFrame(rows)))
    for row in rows:
        account = found[row["name"]]
        theirs = {d for d, c in company_of.items() if row["domain"] and c == row["domain"]} | {row["domain"]}
        theirs |= set((row["domains"] or "").split(";"))
        people = any(place[0] == account and place[2] in theirs for place in places)
        assert people or account in (row["account_id"], f"crm:{row['name']}"), (row, account)


# ── Where people live ────────────────────────────────────────────────────────────────────────────────────────────────


def of_events(lake: Lake, *records: Record) -> tuple[dict[str, str], Joined]:
    _, _, found = built(lake, POLICY, normalise_accounts(pd.DataFrame(list(records))), AS_OF)
    return dict(zip(found.accounts["name"], found.accounts["account_id"], strict=True)), found


@pytest.fixture
def used(event: Callable[..., dict], stage: Callable[..., None], lake: Lake) -> Callable[..., None]:
    def of(*uses: tuple[str, str, int], basis: str = "group") -> None:
        """An account, a user with an e-mail address, and how many days ago."""
        rows = [
            event(AS_OF - timedelta(days=days, hours=1), "session_started", account, user, basis=basis,
                  email_domain=user.partition("@")[2])
            for account, user, days in uses
        ]  # fmt: skip
        stage(lake, rows, batch=f"b{abs(hash(uses))}")

    return of


PEOPLE = ("a@acme.example", "b@acme.example", "c@acme.example")


@pytest.mark.parametrize(("old", "new"), [("acme-old", "acme-new"), ("zenith", "acme-1"), ("acme-1", "zenith")])
def test_the_record_follows_the_people_to_the_living_workspace(used: Callable, lake: Lake, old: str, new: str) -> None:
    used(*((old, user, days) for user in PEOPLE for days in (20, 10, 9)))
    used(*((new, user, days) for user in PEOPLE for days in (8, 1)))
    assert of_events(lake, ACME)[0] == {"Acme": new}
    found, said = of_events(lake, ACME | {"account_id": old})
    assert found == {"Acme": new}
    assert any(f"followed the people to another account: {old} → {new}" in line for line in said.warnings)
    assert of_events(lake, ACME | {"account_id": new})[0] == {"Acme": new}
    # Two records, each with an id that lives or is declared by another: nothing is taken from anybody.
    both = of_events(lake, ACME | {"account_id": old}, record("New", "acme.example", account_id=new))[0]
    assert both == {"Acme": old, "New": new}


def test_on_the_day_after_the_move_all_who_have_moved_count_for_the_new_one(used: Callable, lake: Lake) -> None:
    used(*(("old", user, 1) for user in PEOPLE), *(("new", user, 0) for user in PEOPLE))
    assert of_events(lake, ACME)[0] == {"Acme": "new"}


def test_a_workspace_left_long_ago_keeps_nothing(used: Callable, lake: Lake) -> None:
    used(*(("old", f"{n}@acme.example", 60) for n in range(5)), ("new", "z@acme.example", 2))
    assert of_events(lake, ACME)[0] == {"Acme": "new"}
    used(*(("older", f"{n}@solo.example", 300) for n in range(5)))
    assert of_events(lake, record("Solo", "solo.example"))[0] == {"Solo": "older"}, "it is the only one"


def test_events_of_a_group_named_by_a_domain_need_no_addresses(
    event: Callable[..., dict], stage: Callable[..., None], lake: Lake
) -> None:
    at = AS_OF - timedelta(hours=1)
    stage(lake, [event(at, "session_started", "acme.example"), event(at, "session_started", "beta-1", "u2")])
    found, said = of_events(lake, ACME, record("Beta", "beta.example"))
    assert found == {"Acme": "acme.example", "Beta": "crm:Beta"} and said.counts["joined"] == {"domain": 1}


def test_domains_of_one_company_are_one_account(used: Callable, lake: Lake) -> None:
    used(("acme.example", "a@acme.example", 1), ("acme.example", "d@acme.example", 200), basis="domain")
    used(("acme-group.example", "b@acme-group.example", 1), ("acme-group.example", "b@acme-group.example", 200),
         basis="domain")  # fmt: skip
    apart = built(lake, POLICY, normalise_accounts(pd.DataFrame([ACME])), AS_OF)[0].to_pandas().set_index("account_id")
    assert apart["users"].to_dict() == {"acme-group.example": 1, "acme.example": 1}
    snapshot = normalise_accounts(pd.DataFrame([ACME | {"domains": "acme-group.example; acme.example"}]))
    one = built(lake, POLICY, snapshot, AS_OF)[0].to_pandas().set_index("account_id")
    assert one[["users", "name"]].to_dict("index") == {"acme.example": {"users": 2, "name": "Acme"}}
