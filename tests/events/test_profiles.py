"""What events say of their users is kept once, as the policy maps it, and nothing else is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from onetouch.policy.schema import PersonProperties

from tests.events.stager import Stager
from tests.sources.answers import event


def said(stager: Stager) -> list[tuple[str, dict[str, str]]]:
    """(event, what it says of its user) of every event that says something."""
    known = stager.events().dropna(subset=["profile"])
    return [
        (name, {k: v for k, v in json.loads(profile).items() if v is not None})
        for name, profile in zip(known["event"], known["profile"], strict=True)
    ]


def row(number: int, minute: int = 0, day: int = 1, **properties: Any) -> dict[str, Any]:
    at = f"2025-03-{day:02} 09:{minute:02}:00.000000"
    return event(number, user_id="ann", event_type=f"e{number}", event_time=at, user_properties=properties)


def test_the_properties_that_the_policy_maps_are_kept(stager: Stager) -> None:
    stager.staged([row(1, Name="Ann", job_title="CTO", seniority="", role="admin", email="Ann@Acme.com", phone="12")])
    assert said(stager) == [("e1", {"name": "Ann", "title": "CTO", "role": "admin", "email": "Ann@Acme.com"})]
    assert "12" not in stager.events()["profile"].item()


def test_the_first_property_that_is_there_counts_and_must_be_a_text_or_number(stager: Stager) -> None:
    stager.staged([row(1, name="", Name={"first": "Ann"}, full_name="Ann E.", title=["CTO"], seniority=7)])
    assert said(stager) == [("e1", {"name": "Ann E.", "seniority": "7"})]


def test_of_a_batch_and_day_each_thing_is_said_once_by_its_last_event(stager: Stager) -> None:
    rows = [
        row(1, 1, name="A"),
        row(2, 5, name="A"),
        row(3, 3, name="B"),
        row(4, 4, name="A"),
        row(5, 0, day=2, name="A"),
    ]
    stager.staged(rows)
    assert sorted(said(stager)) == [("e2", {"name": "A"}), ("e3", {"name": "B"}), ("e5", {"name": "A"})]


def test_what_is_of_no_user_says_nothing_of_anybody(stager: Stager) -> None:
    stager.staged([row(1, name="A") | {"user_id": None, "device_id": "d1"}])
    assert said(stager) == []


@pytest.mark.parametrize("properties", [None, {}, "text", []])
def test_rows_without_properties_are_read_as_before(stager: Stager, properties: Any) -> None:
    counts = stager.staged([event(1, user_properties=properties), row(2, name="A")])
    assert counts["kept"] == 2 and said(stager) == [("e2", {"name": "A"})]


def test_nothing_is_kept_by_a_policy_that_keeps_nothing(tmp_path: Any) -> None:
    stager = Stager(tmp_path, person_properties=PersonProperties(name=[], title=[], seniority=[], role=[]))
    stager.staged([row(1, name="Ann", email="ann@acme.com")])
    assert said(stager) == [] and "acme.com" in stager.events()["account_id"].item()


def test_names_of_properties_may_be_odd_and_none_need_be_mapped(tmp_path: Any) -> None:
    odd = 'full."name"/~0'
    mapped = PersonProperties(name=[odd], title=[], seniority=[], role=[])
    stager = Stager(tmp_path, person_properties=mapped)
    stager.staged([row(1, **{odd: "Ann"}, title="CTO")])
    assert said(stager) == [("e1", {"name": "Ann"})]


def test_a_forgotten_users_profile_is_not_kept(stager: Stager) -> None:
    from onetouch.ledger import Subject

    stager.ledger.begin_erasure(Subject("user", "ann", users=["ann"]), stager.run().as_of)
    stager.staged([row(1, name="Ann"), event(2, user_id="bob", user_properties={"name": "Bob"})])
    assert [profile["name"] for _, profile in said(stager)] == ["Bob"]
