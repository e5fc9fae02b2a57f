"""Assignment: whose account it is, whose turn it is, and who has room."""

from __future__ import annotations

import time as clock
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onetouch.policy import Policy, read_policy
from onetouch.routing.assignment import assign, assignments, next_in_turn, team

POLICY = read_policy()
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
AS_OF = datetime(2025, 3, 11, 9, tzinfo=UTC)  # a Tuesday
TEXT = ("account_id", "owner_email", "owner_id", "region", "industry")


def changed(**assignment: Any) -> Policy:
    """The default policy with other values of `assignment`."""
    document = POLICY.document()
    working = document["assignment"]["working_time"] | assignment.pop("working_time", {})
    document["assignment"] |= assignment | {"working_time": working}
    return Policy.model_validate(document)


def reps(*emails: str, **more: Any) -> Policy:
    """A policy of these reps, by name or as {email, …}."""
    listed = [{"email": f"{rep}@v.com"} if isinstance(rep, str) else rep for rep in emails]
    return changed(reps=listed, **more)


def rep(name: str, **more: Any) -> Any:
    return {"email": f"{name}@v.com", **more}


def accounts(*rows: dict[str, Any]) -> pd.DataFrame:
    base = dict.fromkeys(TEXT) | {"owner_active": None, "employees": np.nan, "score": 60.0}
    table = pd.DataFrame([{**base, "account_id": f"a{n:02}", **row} for n, row in enumerate(rows)], columns=list(base))
    return table.astype({**dict.fromkeys(TEXT, "str"), "score": "float64", "employees": "float64"})


def same(n: int, **more: Any) -> pd.DataFrame:
    return accounts(*[more] * n)


def crm(*emails: str, **more: Any) -> pd.DataFrame:
    table = pd.DataFrame({"email": pd.Series([f"{e}@v.com" for e in emails], dtype="str")})
    return table.assign(active=True, timezone=None, owner_id="id-" + table["email"].str.lower()).assign(**more)


def load(**of: Any) -> pd.DataFrame:
    """By name: when each of the recent tasks came (the last also last_assigned_at), or (open, moments)."""
    found = {name: value if isinstance(value, tuple) else (0, value) for name, value in of.items()}
    rows = [(f"{name}@v.com", n_open, at, max(at, default=None)) for name, (n_open, at) in found.items()]
    frame = pd.DataFrame(rows, columns=["owner_email", "open", "recent", "last_assigned_at"]).astype(
        {"owner_email": "str"}
    )
    last = pd.to_datetime(frame["last_assigned_at"], utc=True).astype("datetime64[us, UTC]")
    return frame.assign(last_assigned_at=last)


def given_out(
    table: pd.DataFrame,
    policy: Policy = POLICY,
    users: pd.DataFrame | None = None,
    busy: pd.DataFrame | None = None,
    as_of: datetime = AS_OF,
) -> pd.DataFrame:
    """Who got what, by account; names without the domain."""
    people = team(table, crm("ana", "ben", "cai") if users is None else users, policy, as_of)
    found = assign(table, people, load() if busy is None else busy, policy, as_of)
    assert found.index.equals(table.index)
    assert not found.loc[found["covered"], "owner_email"].isna().any()
    found = found.set_index(table["account_id"])
    return found.assign(owner_email=found["owner_email"].str.removesuffix("@v.com"))


def names(found: pd.DataFrame) -> list[str]:
    return found["owner_email"].fillna("-").tolist()


@pytest.fixture(autouse=True)
def _a_machine_somewhere_else(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The time zone of the machine means nothing."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Kathmandu")
        clock.tzset()
        yield
    clock.tzset()


# ── Whose account it is ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("spelling", ["ana@v.com", "ANA@v.com", " Ana@V.com "])
def test_an_account_goes_to_its_owner_however_spelt(spelling: str) -> None:
    found = given_out(accounts({"owner_email": spelling}), reps("ben"), crm("Ana", "ben"))
    assert found.iloc[0].tolist() == ["ana", "id-ana@v.com", "owner", True, True, ""]


def test_an_owner_who_left_has_no_accounts() -> None:
    table = accounts(
        {"owner_email": "gone@v.com"}, {"owner_email": "left@v.com", "owner_active": False},
        {"owner_email": "new@v.com", "owner_id": "n", "owner_active": True}, {"owner_email": "ana@v.com"},
    )  # fmt: skip
    users = pd.concat([crm("ana", "ben"), crm("gone", active=False)])
    found = given_out(table, reps("ben"), users)
    assert names(found) == ["ben", "ben", "new", "ana"]  # the CRM's list may lag behind its accounts
    assert found["owner_id"].tolist() == ["id-ben@v.com", "id-ben@v.com", "n", "id-ana@v.com"]
    assert found["assigned_by"].tolist() == ["round robin", "round robin", "owner", "owner"]


def test_of_two_users_with_one_address_the_active_one_counts() -> None:
    users = pd.concat([crm("ana", active=False, owner_id="1"), crm("Ana", owner_id="3"), crm("ana", owner_id="2")])
    assert (
        given_out(accounts({"owner_email": "ana@v.com", "owner_active": False}), users=users)["owner_id"].item() == "2"
    )


@pytest.mark.parametrize(
    ("as_of", "zone", "away"),
    [
        ("2025-03-09T23:59", "UTC", False),
        ("2025-03-10T00:00", "UTC", True),
        ("2025-03-11T23:59", "UTC", True),
        ("2025-03-12T00:00", "UTC", False),
        ("2025-03-09T10:59", "Pacific/Auckland", False),
        ("2025-03-09T11:00", "Pacific/Auckland", True),
        ("2025-03-11T11:00", "Pacific/Auckland", False),
    ],
)
def test_on_leave_by_their_own_calendar_their_accounts_go_on(as_of: str, zone: str, away: bool) -> None:
    leave = [{"first": "2025-03-10", "last": "2025-03-11"}]
    policy = reps(rep("ana", leave=leave, timezone=zone), "ben")
    now = datetime.fromisoformat(as_of).replace(tzinfo=UTC)
    found = given_out(accounts({"owner_email": "ana@v.com"}), policy, as_of=now)
    assert (names(found), found["assigned_by"].tolist()) == (
        (["ben"], ["round robin"]) if away else (["ana"], ["owner"])
    )
    assert found["has_room"].all()


@pytest.mark.parametrize(("country", "gets"), [("DE", "ben"), ("US", "ana"), (None, "ana")])
def test_a_public_holiday_is_a_day_off(country: str | None, gets: str) -> None:
    policy = reps(rep("ana", country=country), "ben")
    assert names(given_out(same(1, owner_email="ana@v.com"), policy, as_of=datetime(2025, 5, 1, 9, tzinfo=UTC))) == [
        gets
    ]


def test_a_country_and_a_zone_for_everyone_of_whom_nothing_else_is_known() -> None:
    may, apia = datetime(2025, 5, 1, 9, tzinfo=UTC), {"country": "DE", "timezone": "Pacific/Apia"}
    policy = reps(rep("ana", country="US"), rep("ben", timezone="UTC"), "cai", "dan", working_time=apia)
    users = crm("ana", "ben", "cai", "dan", timezone=["Asia/Tokyo", "Asia/Tokyo", "Asia/Tokyo", "no/where"])
    people = team(same(0), users, policy, may)
    assert people["timezone"].tolist() == ["Asia/Tokyo", "UTC", "Asia/Tokyo", "Pacific/Apia"]
    assert people["country"].tolist() == ["US", "DE", "DE", "DE"]
    assert people["away"].tolist() == [False, True, True, True]


@pytest.mark.parametrize(
    ("as_of", "away", "today"),
    [
        ("2025-03-11T00:00", False, True),
        ("2025-03-11T08:59", False, True),
        ("2025-03-11T16:59", False, True),
        ("2025-03-11T17:00", False, False),  # their accounts stay theirs in the evening
        ("2025-03-15T12:00", False, False),  # and at the weekend
        ("2025-04-17T16:59", False, True),
        ("2025-04-17T17:00", True, False),  # but not with Easter between: a task would expire first
        ("2025-04-19T09:00", True, False),
        ("2025-04-19T09:01", False, False),
        ("2025-04-21T12:00", True, False),  # Easter Monday
    ],
)
def test_outside_of_working_hours_a_rep_is_still_there(as_of: str, away: bool, today: bool) -> None:
    now = datetime.fromisoformat(as_of).replace(tzinfo=UTC)
    person = team(same(0), crm("ana"), changed(working_time={"country": "DE"}), now).loc["ana@v.com"]
    assert (bool(person["away"]), bool(person["works_today"])) == (away, today)


def test_a_crm_that_tells_no_zones() -> None:
    people = team(same(0), crm("ana").drop(columns="timezone"), changed(working_time={"timezone": "Asia/Tokyo"}), AS_OF)
    assert people.loc["ana@v.com", ["timezone", "senior", "round_robin", "away"]].tolist() == [
        "Asia/Tokyo", False, True, False,
    ]  # fmt: skip


def test_who_is_in_the_round_robin() -> None:
    owned = accounts({"owner_email": "ANA@v.com"}, {"owner_email": "old@v.com"}, {"owner_email": "dan@v.com"})
    users = pd.concat([crm("ana", "ben"), crm("old", active=False)])
    for table, policy, expected in [
        (owned, POLICY, ["ana", "dan"]),  # who owns accounts and is active
        (same(1), POLICY, ["ana", "ben"]),  # nobody owns any: all active ones
        (owned, reps("BEN", "old", "stranger"), ["ben"]),  # the policy's, as far as the CRM knows them
    ]:
        people = team(table, users, policy, AS_OF)
        assert people.index[people["round_robin"]].str.removesuffix("@v.com").tolist() == expected
        assert people.index.is_monotonic_increasing


def test_accounts_from_a_file_go_to_the_policys_reps() -> None:
    policy = reps("eve", "Fay", territories=[{"name": "US", "reps": ["FAY@v.com"], "regions": ["US"]}])
    found = given_out(accounts({"region": "US"}, {}, {"region": "EMEA"}), policy, crm())
    assert names(found) == ["fay", "fay", "eve"]
    assert found["owner_id"].isna().all()
    territory = changed(territories=[{"name": "all", "reps": ["gus@v.com"]}])
    assert names(given_out(same(1), territory, crm())) == ["gus"]


# ── Territories ──────────────────────────────────────────────────────────────────────────────────────────────────────

TERRITORIES = [
    {"name": "EMEA banks", "reps": ["ana@v.com"], "regions": ["EMEA"], "industries": ["Banking", "insurance"]},
    {"name": "large", "reps": ["ben@v.com"], "min_employees": 500},
    {"name": "mid", "reps": ["cai@v.com", "DAN@v.com"], "min_employees": 50, "max_employees": 499, "regions": ["us"]},
]


@pytest.mark.parametrize(
    ("region", "industry", "employees", "gets", "why"),
    [
        ("EMEA", "Banking", 10, "ana", "territory EMEA banks"),
        (" emea", "BANKING ", 10_000, "ana", "territory EMEA banks"),  # the first that fits
        ("EMEA", "Insurance", 10, "ana", "territory EMEA banks"),
        ("EMEA", "Retail", 10, "eve", "round robin"),
        ("EMEA", None, 10, "ana", "territory EMEA banks"),  # unknown fits anywhere
        (None, "banking", 10, "ana", "territory EMEA banks"),
        ("", "", 10, "ana", "territory EMEA banks"),
        ("US", None, 500, "ben", "territory large"),
        ("US", None, 499, "cai", "territory mid"),
        ("US", None, 50, "cai", "territory mid"),
        ("US", None, 49, "eve", "round robin"),
        ("APAC", None, 499, "eve", "round robin"),
        ("APAC", None, np.nan, "ben", "territory large"),
        (None, None, np.nan, "ana", "territory EMEA banks"),
    ],
)
def test_the_first_territory_that_fits(region: Any, industry: Any, employees: float, gets: str, why: str) -> None:
    policy = reps("ana", "ben", "cai", "dan", "eve", territories=TERRITORIES)
    table = accounts({"region": region, "industry": industry, "employees": employees})
    # Who is in no territory has least to do: the others would get nothing by round robin.
    busy = load(**{name: [AS_OF - HOUR] for name in ("ana", "ben", "dan")} | {"cai": []})
    found = given_out(table, policy, crm("ana", "ben", "cai", "dan", "eve"), busy if gets != "eve" else load(
        **dict.fromkeys(("ana", "ben", "cai", "dan"), [AS_OF - HOUR])
    ))  # fmt: skip
    assert (names(found), found["assigned_by"].tolist()) == ([gets], [why])


def test_an_owner_comes_before_the_territory() -> None:
    policy = reps("ana", "ben", territories=[{"name": "all", "reps": ["ben@v.com"]}])
    assert names(given_out(accounts({"owner_email": "ana@v.com"}, {}), policy)) == ["ana", "ben"]


LEAVE = [{"first": "2025-03-11", "last": "2025-03-11"}]


def test_a_territory_with_nobody_there_hands_over_but_a_full_one_keeps() -> None:
    north = [{"name": "north", "reps": ["ana@v.com", "ben@v.com"]}]
    gone = reps(rep("ana", leave=LEAVE), rep("ben", tasks_per_day=0), "cai", territories=north)
    assert names(given_out(same(2), gone)) == ["cai", "cai"]
    full = reps(rep("ana", leave=LEAVE), rep("ben", tasks_per_day=1), "cai", territories=north)
    found = given_out(same(3), full)
    assert names(found) == ["ben"] * 3
    assert found["has_room"].tolist() == [True, False, False]
    assert found["assigned_by"].tolist() == ["territory north"] * 3
    assert found["waits_for"].tolist() == ["", "room", "room"]
    inactive = pd.concat([crm("cai"), crm("ana", "ben", active=False)])
    assert names(given_out(same(1), reps("cai", "ana", "ben", territories=north), inactive)) == ["cai"]


# ── Whose turn it is ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_round_robin_goes_to_the_least_busy_and_stops_when_the_day_is_full() -> None:
    policy = reps("ana", "ben", "cai", tasks_per_rep_per_day=3)
    ago = [AS_OF - n * DAY for n in range(6)]
    busy = load(Ana=(9, [AS_OF - HOUR] * 2), ben=(5, [ago[3]]), cai=(5, [ago[4]]))
    table = accounts(*[{"score": 60.0 if n < 4 else 50.0} for n in range(9)])
    found = given_out(table, policy, busy=busy)
    # The longest without first; ana, with two today, only when the others have as many.
    assert names(found)[:7] == ["cai", "ben", "cai", "ben", "cai", "ben", "ana"]
    assert found["has_room"].tolist() == [True] * 7 + [False] * 2
    assert found["waits_for"].tolist() == [""] * 7 + ["room"] * 2
    # Those who wait are spread, to whom the next turn would go: few open first.
    assert names(found)[7:] == ["cai", "ben"]


@pytest.mark.parametrize(
    ("ana", "ben", "gets"),
    [
        ((0, [AS_OF - HOUR]), (9, []), "ben"),  # tasks today before open ones
        ((1, []), (0, [AS_OF - HOUR]), "ana"),
        ((1, []), (0, []), "ben"),  # then open ones
        ((3, [AS_OF - 2 * DAY]), (3, [AS_OF - 3 * DAY]), "ben"),  # then who was longest without
        ((3, [AS_OF - 2 * DAY]), (3, []), "ben"),  # never had one
        ((3, []), (3, []), "ana"),  # then by e-mail
        ((0, [AS_OF - 3 * DAY, AS_OF - HOUR]), (0, [AS_OF - 2 * HOUR]), "ben"),
    ],
)
def test_whose_turn_it_is(ana: Any, ben: Any, gets: str) -> None:
    assert names(given_out(same(1), reps("ben", "ana"), busy=load(ana=ana, BEN=ben))) == [gets]


def test_among_equals_who_still_works_today() -> None:
    policy = reps(rep("ana", timezone="Asia/Tokyo"), rep("ben", timezone="Europe/London"))  # 18:00 there, 09:00 here
    assert names(given_out(same(3), policy)) == ["ben", "ana", "ben"]
    assert names(given_out(same(1), policy, busy=load(ben=(4, [])))) == ["ben"]  # rather than who has fewer open
    assert names(given_out(same(1), policy, busy=load(ben=[AS_OF - HOUR]))) == ["ana"]


def test_the_best_account_goes_first_whoever_it_belongs_to() -> None:
    policy = reps("ana", tasks_per_rep_per_day=2)
    table = accounts(
        {"owner_email": "ana@v.com", "score": 55.0}, {"score": 70.0}, {"owner_email": "ana@v.com", "score": 90.0},
        {"score": 55.0},
    )  # fmt: skip
    found = given_out(table, policy)
    assert found["has_room"].tolist() == [False, True, True, False]
    assert found["assigned_by"].tolist() == ["owner", "round robin", "owner", "round robin"]
    tie = given_out(same(3).iloc[::-1], policy)
    assert tie["has_room"].to_dict() == {"a00": True, "a01": True, "a02": False}


def test_a_full_owner_keeps_the_account_though_others_have_room() -> None:
    found = given_out(same(2, owner_email="ana@v.com"), reps(rep("ana", tasks_per_day=1), "ben"))
    assert (names(found), found["has_room"].tolist()) == (["ana", "ana"], [True, False])


def test_from_a_score_on_a_senior_is_preferred_where_one_has_room() -> None:
    policy = reps("ana", rep("ben", senior=True, tasks_per_day=2), rep("cai", senior=True, tasks_per_day=1))
    found = given_out(accounts(*[{"score": s} for s in (99.0, 90.0, 85.0, 80.0, 79.9)]), policy)
    assert names(found) == ["ben", "cai", "ben", "ana", "ana"]
    assert found["assigned_by"].tolist() == ["senior", "senior", "senior", "round robin", "round robin"]
    never = policy.model_copy(update={"assignment": policy.assignment.model_copy(update={"senior_score": None})})
    assert names(given_out(accounts({"score": 99.0}), never)) == ["ana"]
    owner = given_out(accounts({"score": 99.0, "owner_email": "ana@v.com"}), policy)
    assert (names(owner), owner["assigned_by"].tolist()) == (["ana"], ["owner"])


def test_a_territorys_own_senior() -> None:
    north = [{"name": "north", "reps": ["ana@v.com", "cai@v.com"], "regions": ["north"]}]
    policy = reps("ana", rep("ben", senior=True), rep("cai", senior=True), territories=north)
    found = given_out(accounts({"region": "north", "score": 80.0}, {"region": "north"}), policy)
    assert found["assigned_by"].tolist() == ["territory north, senior", "territory north"]
    assert names(found) == ["cai", "ana"]


# ── Who has room ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("zone", "as_of", "before", "room"),
    [
        ("UTC", "2025-03-12T09:00", "2025-03-11T17:00", 0),  # what came after work yesterday is today's work
        ("UTC", "2025-03-12T09:00", "2025-03-11T16:59", 1),
        ("UTC", "2025-03-12T17:30", "2025-03-12T00:00", 0),  # in the evening the day is not over
        ("UTC", "2025-03-12T17:30", "2025-03-11T23:59", 1),
        ("UTC", "2025-03-17T09:00", "2025-03-14T17:00", 0),  # the weekend's is Monday's
        ("UTC", "2025-03-17T09:00", "2025-03-14T16:59", 1),
        ("UTC", "2025-03-16T12:00", "2025-03-15T12:00", 0),
        ("UTC", "2025-03-18T09:00", "2025-03-17T12:00", 1),
        ("Asia/Tokyo", "2025-03-12T01:00", "2025-03-11T08:00", 0),  # 17:00 there
        ("Asia/Tokyo", "2025-03-12T01:00", "2025-03-11T07:59", 1),
        ("America/New_York", "2025-03-12T13:00", "2025-03-11T21:00", 0),
        ("America/New_York", "2025-03-12T13:00", "2025-03-11T20:59", 1),
    ],
)
def test_a_day_is_full_by_the_reps_own_calendar(zone: str, as_of: str, before: str, room: int) -> None:
    now, then = (datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (as_of, before))
    policy = reps(rep("ana", timezone=zone, tasks_per_day=1))
    found = given_out(same(1), policy, crm("ana"), load(ana=[then]), now)
    assert found["has_room"].tolist() == [bool(room)]


def test_recent_tasks_count_as_they_come_back_from_a_file() -> None:
    busy = load(ana=[AS_OF - HOUR, AS_OF - 2 * HOUR], ben=[AS_OF - 30 * HOUR])
    stored = busy.assign(
        recent=[np.array([m.replace(tzinfo=None) for m in at], dtype="datetime64[us]") for at in busy["recent"]]
    )
    policy = reps("ana", "ben", tasks_per_rep_per_day=3)
    pd.testing.assert_frame_equal(given_out(same(6), policy, busy=busy), given_out(same(6), policy, busy=stored))
    assert given_out(same(6), policy, busy=stored)["has_room"].tolist() == [True] * 4 + [False] * 2


@pytest.mark.parametrize("own", [0, 1, 2, 20])
def test_each_reps_own_room(own: int) -> None:
    found = given_out(same(30), reps(rep("ana", tasks_per_day=own), rep("ben", tasks_per_day=3)))
    given_now = Counter(found.loc[found["has_room"], "owner_email"])
    assert (given_now["ana"], given_now["ben"]) == (own, 3)
    assert Counter(names(found[~found["has_room"]])).keys() == ({"ana", "ben"} if own else {"ben"})


def test_who_takes_no_tasks_owns_no_tasks() -> None:
    found = given_out(same(1, owner_email="ana@v.com"), reps(rep("ana", tasks_per_day=0), "ben"))
    assert (names(found), found["assigned_by"].tolist()) == (["ben"], ["round robin"])


def test_those_who_wait_are_spread_over_the_team() -> None:
    policy = reps("ana", "ben", "cai", tasks_per_rep_per_day=1)
    found = given_out(same(9), policy, busy=load(ana=(5, []), ben=(3, []), cai=(4, [])))
    assert names(found) == ["ben", "cai", "ana", "ben", "cai", "ana", "ben", "cai", "ana"]
    assert found["has_room"].sum() == 3
    assert (found["covered"] & (found["owner_id"] == "id-" + found["owner_email"] + "@v.com")).all()


def test_with_everybody_away_the_account_waits_for_its_owner() -> None:
    north = [{"name": "north", "reps": ["ben@v.com"], "regions": ["north"]}]
    policy = reps(rep("ana", leave=LEAVE), rep("ben", leave=LEAVE), rep("cai", leave=LEAVE), territories=north)
    table = accounts({"owner_email": "ana@v.com", "region": "north"}, {"region": "north"}, {"region": "south"}, {})
    found = given_out(table, policy, busy=load(cai=(1, []), ana=(2, []), ben=(2, [])))
    assert names(found) == ["ana", "ben", "cai", "ben"]
    assert found["assigned_by"].tolist() == ["owner", "territory north", "round robin", "territory north"]
    assert found["waits_for"].tolist() == ["return"] * 4
    assert found["covered"].all()
    assert not found["has_room"].any()


def test_where_nobody_may_take_it_that_is_said() -> None:
    for policy, users in [(POLICY, crm()), (reps(rep("ana", tasks_per_day=0)), crm("ana")),
                          (reps("ana"), crm("ana", active=False)), (reps("zoe"), crm("ana"))]:  # fmt: skip
        row = given_out(same(1), policy, users).iloc[0]
        assert row[["owner_email", "owner_id"]].isna().all()
        assert row[["assigned_by", "has_room", "covered", "waits_for"]].tolist() == ["", False, False, "rep"]


def test_no_accounts_no_reps_no_load() -> None:
    for table in (same(0), same(2)):
        found = given_out(table, users=crm())
        assert len(found) == len(table)
        assert [str(kind) for kind in found.dtypes] == ["str", "str", "str", "bool", "bool", "str"]
    assert given_out(same(0)).empty


# ── Over many runs ───────────────────────────────────────────────────────────────────────────────────────────────────

NAMES = ("ana", "ben", "cai", "dan")


class Desk:
    """The ledger's part of `rep_load`: what was given, and what of it is still open."""

    def __init__(self) -> None:
        self.given: list[tuple[str, datetime]] = []

    def load(self, as_of: datetime) -> pd.DataFrame:
        theirs: dict[str, list[datetime]] = {}
        for name, at in self.given:
            theirs.setdefault(name, []).append(at)
        frame = load(**{n: (len(at), [a for a in at if a >= as_of - 7 * DAY]) for n, at in theirs.items()})
        return frame.assign(last_assigned_at=[max(at) for at in theirs.values()]).astype(
            {"last_assigned_at": "datetime64[us, UTC]"}
        )


@settings(max_examples=6)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.integers(1, 6))
def test_equal_reps_get_equally_many_however_the_accounts_come(arrivals: list[int], cap: int) -> None:
    desk, policy = Desk(), reps(*NAMES, tasks_per_rep_per_day=cap)
    for at, n in enumerate(arrivals):
        as_of = AS_OF + at * 6 * HOUR
        found = given_out(same(n), policy, crm(*NAMES), desk.load(as_of), as_of)
        again = given_out(same(n), policy, crm(*NAMES), desk.load(as_of), as_of)
        assert again.equals(found)
        desk.given += [(name, as_of) for name in found.loc[found["has_room"], "owner_email"]]
        counts = Counter(dict.fromkeys(NAMES, 0)) + Counter(name for name, _ in desk.given)
        assert max(counts.values(), default=0) - min((counts[n] for n in NAMES), default=0) <= 1


ZONES = ("UTC", "Asia/Tokyo", "America/New_York", "Pacific/Auckland")
WHEN = st.integers(0, 40)


@settings(max_examples=10)
@given(
    st.lists(st.tuples(st.integers(1, 14), st.integers(0, 12)), min_size=1, max_size=8),
    st.lists(st.tuples(st.sampled_from(ZONES), st.integers(0, 5), WHEN, st.booleans()), min_size=4, max_size=4),
    st.lists(st.sampled_from([None, "ana@v.com", "BEN@v.com", "gone@v.com"]), min_size=12, max_size=12),
)
def test_nobody_is_given_more_than_a_day_holds_nor_anything_on_leave(steps: list, them: list, owners: list) -> None:
    policy = reps(*[
        rep(n, timezone=zone, tasks_per_day=cap, senior=senior,
            leave=[{"first": AS_OF.date() + off * DAY // 4, "last": AS_OF.date() + off * DAY // 4}])
        for n, (zone, cap, off, senior) in zip(NAMES, them, strict=True)
    ])  # fmt: skip
    desk, as_of = Desk(), AS_OF
    for hours, n in steps:
        as_of += hours * HOUR
        table = accounts(*[{"owner_email": owners[i], "score": 50.0 + 5 * i} for i in range(n)])
        people = team(table, crm(*NAMES), policy, as_of)
        found = given_out(table, policy, crm(*NAMES), desk.load(as_of), as_of)
        now = found.loc[found["has_room"], "owner_email"]
        desk.given += [(name, as_of) for name in now]
        assert (found["waits_for"] == "").equals(found["has_room"])
        for name, (zone, cap, off, _) in zip(NAMES, them, strict=True):
            day = pd.Timestamp(as_of).tz_convert(zone).date()
            theirs = [at for who, at in desk.given if who == name and pd.Timestamp(at).tz_convert(zone).date() == day]
            assert len(theirs) <= cap
            if day == AS_OF.date() + off * DAY // 4:
                assert name not in set(now)
        there = people[~people["away"] & (people["tasks_per_day"] > 0)].index.str.removesuffix("@v.com")
        if len(there):
            assert set(names(found)) <= set(there)
        for name, owner in zip(names(found), table["owner_email"].str.lower().str.removesuffix("@v.com"), strict=True):
            assert owner not in set(there) or name == owner


@settings(max_examples=20)
@given(
    st.lists(st.fixed_dictionaries({
        "score": st.sampled_from([50.0, 60.0, 90.0]), "region": st.sampled_from(["north", "south", None]),
        "owner_email": st.sampled_from([None, None, "ANA@v.com", "eve@v.com"]),
        "employees": st.sampled_from([np.nan, 10.0, 900.0]),
    }), max_size=14),
    st.randoms(use_true_random=False),
)  # fmt: skip
def test_the_order_of_rows_changes_nothing(rows: list, random: Any) -> None:
    north = [{"name": "north", "reps": ["cai@v.com", "dan@v.com"], "regions": ["north"], "min_employees": 100}]
    policy = reps("ana", "ben", rep("cai", senior=True), "dan", territories=north, tasks_per_rep_per_day=2)
    table, users = accounts(*rows), crm(*NAMES)
    busy = load(ana=[AS_OF - HOUR], dan=(3, [AS_OF - DAY, AS_OF - HOUR]), cai=[])
    found = given_out(table, policy, users, busy)
    mixed = [frame.iloc[random.sample(range(len(frame)), k=len(frame))] for frame in (table, users, busy)]
    pd.testing.assert_frame_equal(given_out(mixed[0], policy, mixed[1], mixed[2]).loc[found.index], found)


# ── Who got what ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_report_of_who_got_what_and_why() -> None:
    policy = reps("Ana", rep("ben", tasks_per_day=2, leave=LEAVE), rep("cai", tasks_per_day=0))
    people = team(same(0), crm("ana", "ben", "cai", "dan"), policy, AS_OF)
    decisions = pd.DataFrame(
        {
            "account_id": list("zyxwv"),
            "score": [50.0, 90.0, 90.0, 10.0, 70.0],
            "action": ["sales_now", "sales_now", "hold_capacity", "nurture", "hold_capacity"],
            "owner_email": ["ana@v.com", "Ana@v.com", "ana@v.com", None, None],
            "assigned_by": ["owner", "round robin", "owner", None, ""],
            "call": ["pql", "expansion", "pql", "", "pql"],
            "due_at": pd.Timestamp(AS_OF),
            "contact_at": pd.Timestamp(AS_OF),
            "motion": "sales_led",
        }
    )
    busy = load(ana=(4, [AS_OF - HOUR, AS_OF - 2 * DAY]), ben=(1, []))
    by_rep, tasks = assignments(decisions, busy, people)
    assert by_rep.to_dict("list") == {  # Cai takes nothing, Dan takes no turns and has nothing
        "owner_email": ["ana@v.com", "ben@v.com"],
        "tasks_per_day": [8, 2],
        "today": [1, 0],
        "new": [2, 0],
        "left": [5, 2],
        "open": [6, 1],
        "waiting": [1, 0],
        "away": [False, True],
    }
    assert "dan@v.com" in assignments(decisions, load(dan=(1, [])), people)[0]["owner_email"].tolist()
    assert tasks["account_id"].to_dict() == {0: "x", 1: "y", 2: "v", 3: "z"}
    assert tasks.columns.tolist() == [
        "account_id", "score", "action", "owner_email", "assigned_by", "call", "due_at", "contact_at",
    ]  # fmt: skip
    none = assignments(decisions.head(0), load(), people)
    assert none[0][["today", "new", "open", "waiting"]].eq(0).all(axis=None)
    assert none[1].empty


def test_nobody_has_less_than_no_room_left() -> None:
    people = team(same(0), crm("ana"), reps(rep("ana", tasks_per_day=1)), AS_OF)
    decisions = (
        given_out(same(0))
        .reset_index(drop=True)
        .assign(score=0.0, action="", call="", due_at=None, contact_at=None, account_id="")
    )
    by_rep, _ = assignments(decisions, load(ana=[AS_OF - HOUR, AS_OF - 2 * HOUR]), people)
    assert by_rep[["today", "left"]].values.tolist() == [[2, 0]]


# ── Who takes a task over ────────────────────────────────────────────────────────────────────────────────────────────


def taken_over(
    owner: str, policy: Policy = POLICY, busy: pd.DataFrame | None = None, names: Any = ("ana", "ben", "cai"), **of: Any
) -> str | None:
    row = accounts(of)
    people = team(row, crm(*names), policy, AS_OF)
    account = row.to_dict("records")[0]
    taker = next_in_turn(account, f"{owner}@v.com", people, load() if busy is None else busy, policy, AS_OF)
    return taker and taker.removesuffix("@v.com")


def test_a_task_goes_to_whose_turn_it_is_but_never_to_who_has_it() -> None:
    assert taken_over("cai") == "ana"
    assert taken_over("Ana") == "ben"
    assert taken_over("ana", busy=load(ben=[AS_OF - HOUR])) == "cai"
    assert taken_over("ana", names=["ana"]) is None


def test_who_owns_the_account_comes_first_and_then_its_territory() -> None:
    assert taken_over("ana", owner_email="cai@v.com") == "cai"
    territories = [{"name": "north", "reps": ["cai@v.com"], "regions": ["north"]}]
    policy = reps("ana", "ben", "cai", territories=territories)
    assert taken_over("ana", policy, region="north") == "cai"
    assert (
        taken_over("cai", policy, region="north") == "ana"
    )  # everybody else of the territory is away: the round robin


def test_who_has_no_room_or_is_away_takes_nothing_over_and_the_day_of_all_does_not_count() -> None:
    policy = reps("ana", rep("ben", tasks_per_day=1), rep("cai", leave=[{"first": "2025-03-11", "last": "2025-03-11"}]))
    assert taken_over("ana", policy) == "ben"
    assert taken_over("ana", policy, load(ben=[AS_OF - HOUR])) is None
    whole = reps("ana", "ben", tasks_per_day=1)
    assert taken_over("ana", whole, load(ana=[AS_OF - HOUR])) == "ben"
