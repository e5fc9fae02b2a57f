"""Who the people of an account are, what each of them did, and which of them is written to."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onetouch.catalogue import PEOPLE_COLUMNS, PERSON_SIGNALS, PROFILE
from onetouch.events import files_by_date, latest_profiles, read_profiles
from onetouch.lake import Lake
from onetouch.policy import Policy, read_policy
from onetouch.signals import compute

POLICY = read_policy()
AS_OF = datetime(2026, 3, 18, 12, tzinfo=UTC)
NOBODY = pd.DataFrame({"account_id": pd.Series(dtype="str")})
ONE_ACCOUNT = "acme"


def said(**parts: str | None) -> str:
    return json.dumps(dict.fromkeys(PROFILE) | parts)


class World:
    """Events of hand, and what is known of the people afterwards."""

    def __init__(self, lake: Lake, event: Callable[..., Any], stage: Callable[..., None]) -> None:
        self.lake, self.event, self.stage = lake, event, stage
        self.rows: list[dict[str, Any]] = []

    def did(self, user: str, name: str = "feature_used", *, ago: timedelta = timedelta(days=1), times: int = 1,
            profile: str | None = None, **more: Any) -> None:  # fmt: skip
        for n in range(times):
            self.rows.append(
                self.event(AS_OF - ago - timedelta(seconds=n), name, user=user, **more) | {"profile": profile}
            )

    def computed(self, policy: Policy = POLICY, as_of: datetime = AS_OF) -> tuple[pd.DataFrame, pd.Series]:
        """The people, best first, and the account's signals."""
        self.stage(self.lake, self.rows)
        table, _ = compute(self.lake, policy, NOBODY, as_of, people_of="r")
        people = self.lake.read("people", "r.parquet")
        signals = table.to_pandas().set_index("account_id")
        one = signals.loc[ONE_ACCOUNT].astype(object)
        return people[people["account_id"] == ONE_ACCOUNT].set_index("user_id"), one.where(one.notna(), None)


@pytest.fixture
def world(lake: Lake, event: Callable[..., Any], stage: Callable[..., None]) -> World:
    return World(lake, event, stage)


def test_each_person_has_what_they_did_in_the_windows_of_the_signals(world: World) -> None:
    world.did("ann", times=5)
    world.did("ann", ago=timedelta(days=3), times=2)
    world.did("ann", ago=timedelta(days=60), times=9)  # longer ago than recently
    world.did("bob", "pricing_viewed", ago=timedelta(hours=2), times=2)
    world.did("bob", "pricing_viewed", ago=timedelta(days=20))  # pricing counts for 14 days
    world.did("bob", "sso_configured", ago=timedelta(days=20))
    world.did("cat", "limit_reached", ago=timedelta(days=2))  # no use of the product
    world.did("dan", ago=timedelta(days=50))
    people, signals = world.computed()
    assert list(people.columns) == [c.name for c in PEOPLE_COLUMNS if c.name != "user_id"]
    assert set(people.index) == {"ann", "bob", "cat"}
    assert people.loc["ann", ["events", "active_days", *PERSON_SIGNALS]].to_list() == [7, 2, 0, 0, 0, 0, 0, 0, 0]
    assert people.loc["bob", ["pricing_views", "admin_actions", "active_days"]].to_list() == [2, 1, 1]
    assert people.loc["bob", "pricing_views_at"] == AS_OF - timedelta(hours=2)
    assert people.loc["cat", ["events", "limits_reached"]].to_list() == [0, 1]
    assert (people["champion"] == [user == "ann" for user in people.index]).all()
    for name in PERSON_SIGNALS:
        assert people[name].sum() == signals[name], name


def test_the_latest_known_value_of_each_property_counts_by_the_time_of_the_event(world: World) -> None:
    late = said(name="Ann Old", title="Analyst", email="Ann@Acme.example")
    world.did("ann", ago=timedelta(days=40), profile=late, received=60 * 24 * 39)  # received last, happened first
    world.did("ann", ago=timedelta(days=9), profile=said(name="Ann New"))
    world.did("ann", ago=timedelta(days=2), profile=said(role="admin"))
    people, signals = world.computed()
    ann = people.loc["ann"]
    assert (ann["name"], ann["title"], ann["role"], ann["email"]) == ("Ann New", "Analyst", "admin", "ann@acme.example")
    assert pd.isna(ann["seniority"])
    assert signals["contact_name"] == "Ann New"


def test_what_was_not_known_then_is_not_known(world: World) -> None:
    world.did("ann", ago=timedelta(days=5), profile=said(name="Ann"))
    world.did("ann", ago=timedelta(days=1), profile=said(name="Ann Married"))
    assert world.computed()[0].loc["ann", "name"] == "Ann Married"
    assert world.computed(as_of=AS_OF - timedelta(days=3))[0].loc["ann", "name"] == "Ann"


def test_nothing_is_known_of_anybody_by_a_policy_that_keeps_nothing(world: World) -> None:
    world.did("ann", profile=said(name="Ann", email="ann@acme.example"))
    nothing: dict[str, list[str]] = {"name": [], "title": [], "seniority": [], "role": []}
    people, signals = world.computed(POLICY.changed(events__person_properties=nothing))
    assert people.loc["ann", list(PROFILE)].isna().all()
    assert (signals["contact_user"], signals["contact_name"]) == ("ann", None)


ASKED, BUYER, CHAMPION = "asked", "buyer", "champion"


def team(world: World) -> None:
    world.did("champion", times=50, profile=said(name="Cho", email="cho@acme.example", title="Analyst"))
    world.did("buyer", times=2, profile=said(name="Bea", email="bea@acme.example", title="VP, Operations"))


def test_who_asked_for_a_person_comes_before_the_buyer_and_the_buyer_before_the_champion(world: World) -> None:
    team(world)
    world.did("asked", "demo_requested", ago=timedelta(days=3), profile=said(name="Ada"))
    world.did("asked first", "demo_requested", ago=timedelta(days=5))
    people, signals = world.computed()
    assert list(people.sort_values("place").index) == ["asked", "asked first", "buyer", "champion"]
    contact = [signals[f"contact_{of}"] for of in ("user", "name", "email", "title")]
    assert contact == ["asked", "Ada", None, None]


def test_without_a_request_it_is_the_buyer(world: World) -> None:
    team(world)
    _, signals = world.computed()
    contact = [signals[f"contact_{of}"] for of in ("user", "name", "email", "title")]
    assert contact == ["buyer", "Bea", "bea@acme.example", "VP, Operations"]


def test_a_buyer_without_an_address_waits_behind_a_champion_with_one(world: World) -> None:
    world.did("champion", times=9, profile=said(email="cho@acme.example"))
    world.did("buyer", profile=said(title="CTO"))
    assert world.computed()[1]["contact_user"] == "champion"


def test_where_nobody_is_known_to_buy_it_is_the_champion(world: World) -> None:
    world.did("ann", times=3)
    world.did("bob", times=4)
    assert world.computed()[1]["contact_user"] == "bob"


@pytest.mark.parametrize(
    ("profile", "is_buyer", "decides"),
    [
        ({"title": "Head of Data"}, True, True),
        ({"title": "HEAD of data"}, True, True),
        ({"title": "Headhunter"}, False, False),
        ({"title": "Analyst to the VP"}, True, True),
        ({"title": "Co-Founder & CEO"}, True, True),
        ({"title": "Cofounderling"}, False, False),
        ({"title": "Analyst"}, False, False),
        ({"seniority": "Director"}, True, True),
        ({"seniority": "director of nothing"}, False, False),
        ({"role": "Admin"}, True, False),
        ({"role": "viewer"}, False, False),
        ({}, False, False),
    ],
)
def test_who_is_a_buyer(world: World, profile: dict[str, str], is_buyer: bool, decides: bool) -> None:
    world.did("ann", profile=said(**profile))
    people, signals = world.computed()
    assert bool(people.loc["ann", "buyer"]) is is_buyer
    assert signals["decision_makers"] == decides


def test_who_sets_up_sso_is_an_admin_by_deed(world: World) -> None:
    world.did("ann", "permissions_changed")
    people, signals = world.computed()
    assert bool(people.loc["ann", "buyer"]) and signals["decision_makers"] == 0


def test_decision_makers_are_counted_once_and_only_if_they_were_active(world: World) -> None:
    world.did("ceo", times=3, profile=said(title="CEO"), email_domain="acme.example")
    world.did("ceo", profile=said(title="CEO"), email_domain="acme.test")
    world.did("cto", "limit_reached", profile=said(title="CTO"))  # did not use it
    world.did("cfo", ago=timedelta(days=40), profile=said(title="CFO"))
    assert world.computed()[1]["decision_makers"] == 1


def test_of_many_people_the_best_are_kept_and_the_champion_is_one_of_them(world: World) -> None:
    for n in range(30):
        world.did(
            f"u{n:02}", times=1 + n, profile=said(email=f"u{n}@acme.example", title="Director") if n < 25 else None
        )
    policy = POLICY.changed(people__most=5)
    people, signals = world.computed(policy)
    assert len(people) == 6 and "u29" in people.index
    assert signals["contact_user"] == "u24" and signals["top_user"] == "u29"
    assert signals["decision_makers"] == 25


def test_an_address_as_the_id_is_the_address(world: World) -> None:
    world.did("Ann@Acme.example")
    assert world.computed()[1]["contact_email"] == "ann@acme.example"


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    events=st.lists(
        st.tuples(
            st.sampled_from(["ann", "bob"]), st.integers(1, 100), st.sampled_from([None, "A", "B"]),
            st.sampled_from([None, "x@a.example", "no address"]),
        ),
        min_size=1, max_size=12, unique_by=lambda one: (one[0], one[1]),
    )
)  # fmt: skip
def test_profiles_are_what_a_plain_reading_of_the_events_gives(
    tmp_path_factory: pytest.TempPathFactory, event: Callable[..., Any], stage: Callable[..., None], events: list[Any]
) -> None:
    """Over months, by day and by month."""
    lake = Lake(tmp_path_factory.mktemp("profiles") / "lake")
    rows, wanted = [], {}
    for user, days, name, email in sorted(events, key=lambda one: -one[1]):
        rows.append(
            event(AS_OF - timedelta(days=days), "feature_used", user=user) | {"profile": said(name=name, email=email)}
        )
        known = wanted.setdefault(user, {})
        known |= {"name": name} if name else {}
        known |= {"email": email} if email and "@" in email else {}
    stage(lake, rows)
    with lake.engine() as engine:
        profiles = read_profiles(lake, engine, files_by_date(lake, dry=True), AS_OF)
        found = engine.fetch(latest_profiles(engine, profiles)).to_pylist()
    got = {row["user_id"]: {k: row[k] for k in ("name", "email") if row[k] is not None} for row in found}
    assert got == {user: known for user, known in wanted.items() if known}


def test_who_qualifies_in_person_did_what_counts_as_intent_and_was_there(world: World) -> None:
    policy = read_policy().changed(unit="user")
    for day in range(1, 6):
        world.did("ann", ago=timedelta(days=day))
        world.did("boss", ago=timedelta(days=day), profile=said(role="admin", email="boss@acme.example"))
    world.did("ann", "pricing_viewed", ago=timedelta(days=2))
    for day in range(1, 5):  # four days are too few
        world.did("ben", ago=timedelta(days=day))
    world.did("ben", "demo_requested", ago=timedelta(days=30))
    world.did("ben", "plan_question_asked", ago=timedelta(days=2))
    signals = world.computed(policy=policy)[1]
    assert (signals["qualified_users"], signals["contact_user"]) == (1, "ann")
    assert world.computed()[1]["contact_user"] == "boss", (
        "where the account is the unit, a buyer is the one to write to"
    )
