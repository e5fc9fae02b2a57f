"""Whose an event is: the engine's answer against a plain reading of the rules, whatever the order of arrival."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from onetouch.events import EVENTS, Placement, files_by_date, read_memberships
from onetouch.lake import Lake
from onetouch.policy import read_policy

AS_OF = datetime(2025, 3, 10, 12, tzinfo=UTC)
Event = dict[str, Any]


def event_of(number: int, at: datetime, **who: Any) -> Event:
    user, domain, group = who.get("user"), who.get("domain"), who.get("group")
    return {
        "event_id": f"e{number}", "source": "amplitude", "event": "pricing_viewed", "occurred_at": at,
        "received_at": at + timedelta(minutes=who.get("late", 1)), "user_id": user, "anonymous_id": who.get("device"),
        "groups": None, "account_id": group or domain or (f"user:{user}" if user else None),
        "account_basis": "group" if group else "domain" if domain else "personal" if user else None,
        "email_domain": domain, "never_count": who.get("never") or None, "properties": "{}", "batch_id": "",
    }  # fmt: skip


def write(lake: Lake, events: list[Event], batch: str) -> None:
    days: dict[date, list[Event]] = {}
    for one in events:
        days.setdefault(one["occurred_at"].date(), []).append(one)
    for day, rows in days.items():
        lake.write(pa.Table.from_pylist(rows, EVENTS), "events", f"event_date={day}", f"{batch}.parquet")


def history(rng: random.Random, n: int, days: int) -> list[Event]:
    """Events of which about 30 % come without a group, by the server or by nobody; people move and share devices."""
    events = []
    for number in range(n):
        at = AS_OF - timedelta(days=rng.randrange(days), minutes=rng.randrange(1, 1440))
        user, device = rng.choice("abcde"), rng.choice([None, "d1", "d2", "d3", "d4"])
        group = rng.choice(["acme", "beta", "gamma"]) if rng.random() < 0.4 else {"a": "acme", "b": "beta"}.get(user)
        if rng.random() < 0.3:
            group = None
        if rng.random() < 0.3:
            user = None
        domain = rng.choice([None, None, "x.com", "y.com"])
        if not (user or device or group or domain):
            device = "d1"
        late = rng.choice([1, 1, 1, 60 * 24 * 3])
        events.append(event_of(number, at, user=user, device=device, group=group, domain=domain, late=late))
    return events


# ── a plain reading ──────────────────────────────────────────────────────────────────────────────────────────────────


def plain(events: list[Event], as_of: datetime) -> dict[str, tuple[str | None, str | None]]:
    """Event → the user and the account it belongs to."""
    known = [e for e in events if e["occurred_at"] < as_of and e["received_at"] <= as_of]

    def told(seen: list[tuple[datetime, str]], at: datetime) -> str | None:
        """What was said last on a day up to that of `at`, else first; of two at one moment the smaller."""
        until = [(moment, value) for moment, value in seen if moment.date() <= at.date()]
        if until:
            day = max(moment.date() for moment, _ in until)
            last = max(moment for moment, _ in until if moment.date() == day)
            return min(value for moment, value in until if moment == last)
        return min(seen)[1] if seen else None

    def on(device: str | None, at: datetime) -> str | None:
        links = [(e["occurred_at"], e["user_id"]) for e in known if e["user_id"] and e["anonymous_id"] == device]
        return told(links, at) if device else None

    users = {e["event_id"]: e["user_id"] or on(e["anonymous_id"], e["occurred_at"]) for e in known}
    persons = {e["event_id"]: ("u", users[e["event_id"]]) if users[e["event_id"]] else ("d", e["anonymous_id"])
               for e in known}  # fmt: skip

    def of_person(e: Event, column: str) -> str | None:
        person = persons[e["event_id"]]
        if person[1] is None:
            return None
        theirs = [o for o in known if persons[o["event_id"]] == person and o[column]]
        if column == "account_id":
            theirs = [o for o in theirs if o["account_basis"] == "group"]
        return told([(o["occurred_at"], o[column]) for o in theirs], e["occurred_at"])

    found = {}
    for e in known:
        user = users[e["event_id"]]
        own = e["account_id"] if e["account_basis"] == "group" else None
        account = own or of_person(e, "account_id") or e["email_domain"] or of_person(e, "email_domain")
        found[e["event_id"]] = (user, account or (f"user:{user}" if user else None))
    return {event: who for event, who in found.items() if who[1]}


def resolved(lake: Lake, events: list[Event], as_of: datetime, policy: Any = None) -> dict[str, tuple[Any, Any]]:
    known = [e for e in events if e["occurred_at"] < as_of and e["received_at"] <= as_of]
    rows = [{**e, "event_date": e["occurred_at"].date()} for e in known]
    with lake.engine() as engine:

        def memberships() -> Any:
            return read_memberships(lake, engine, files_by_date(lake, dry=True), as_of)

        table = engine.table(pa.Table.from_pylist(rows, EVENTS.append(pa.field("event_date", pa.date32()))), "asked")
        placed = engine.fetch(Placement(engine, memberships, policy or read_policy(), [table]).place(table))
    return {row["event_id"]: (row["user_id"], row["account_id"]) for row in placed.to_pylist()}


@pytest.mark.parametrize("seed", range(6))
def test_the_account_of_every_event_is_the_plain_readings(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    events = history(rng, 120, days=rng.choice([3, 20, 150]))
    lake = Lake(tmp_path / "lake")
    arriving = rng.sample(events, len(events))
    cut = sorted(rng.sample(range(len(events)), 2))
    for number, part in enumerate((arriving[: cut[0]], arriving[cut[0] : cut[1]], arriving[cut[1] :])):
        write(lake, part, f"b{number}")
        with lake.engine() as engine:  # what is built of a part must not be taken for the whole
            read_memberships(lake, engine, files_by_date(lake, dry=True), AS_OF)
    assert resolved(lake, events, AS_OF) == plain(events, AS_OF)
    then = AS_OF - timedelta(days=2, hours=7)
    assert resolved(lake, events, then) == plain(events, then)


# ── each rule by itself ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def account_of(tmp_path: Path) -> Callable[..., Any]:
    """The account of the last of some events (hours before AS_OF, whom it is of), or None for anonymous ones."""

    def account_of(*events: tuple[float, dict[str, Any]], **policy: Any) -> Any:
        made = [event_of(n, AS_OF - timedelta(hours=hours), **who) for n, (hours, who) in enumerate(events)]
        lake = Lake(tmp_path / str(len(list(tmp_path.iterdir()))))
        write(lake, made, "b")
        under = read_policy().changed(**policy) if policy else None
        return resolved(lake, made, AS_OF, under).get(made[-1]["event_id"], (None, None))[1]

    return account_of


def test_a_server_side_event_is_its_users_companys(account_of: Callable[..., Any]) -> None:
    assert account_of((5, {"user": "u1", "group": "acme"}), (2, {"user": "u1"})) == "acme"
    assert account_of((2, {"user": "u1", "group": "acme"}), (50, {"user": "u1"})) == "acme"  # before it was known
    assert account_of((5, {"user": "u2", "group": "acme"}), (2, {"user": "u1"})) == "user:u1"


def test_a_user_equals_no_group_of_that_name(account_of: Callable[..., Any]) -> None:
    assert account_of((5, {"user": "x", "group": "42"}), (2, {"user": "42"})) == "user:42"


def test_a_signed_out_event_is_of_who_was_there_last(account_of: Callable[..., Any]) -> None:
    a, b = {"user": "a", "device": "d", "group": "acme"}, {"user": "b", "device": "d", "group": "beta"}
    signed_out = {"device": "d"}
    assert account_of((100, a), (50, b), (2, signed_out)) == "beta"
    assert account_of((100, a), (50, b), (80, signed_out)) == "acme"
    assert account_of((100, a), (50, b), (200, signed_out)) == "acme"
    assert account_of((2, signed_out)) is None


def test_an_address_tells_the_company_where_no_group_does(account_of: Callable[..., Any]) -> None:
    assert account_of((5, {"user": "u1", "domain": "acme.com"}), (2, {"user": "u1"})) == "acme.com"
    assert account_of((5, {"user": "u1", "group": "acme"}), (2, {"user": "u1", "domain": "acme.com"})) == "acme"


def test_who_never_counts_is_nowhere(account_of: Callable[..., Any]) -> None:
    staff = {"user": "s", "group": "acme", "never": True}
    marked = ((5, staff), (2, {"user": "s", "group": "acme"}))
    assert account_of(*marked, never_count__user_properties={"role": ["staff"]}) is None
    assert account_of(*marked) == "acme", "a policy that names nobody counts everyone"
    mail = (2, {"user": "s@vendor.example", "domain": "vendor.example", "group": "acme"})
    assert account_of(mail, never_count__domains=["vendor.example"]) is None
    assert account_of((2, {"user": "S1", "group": "acme"}), never_count__users=["s1"]) is None
    assert account_of((2, {"user": "s2", "group": "acme"}), never_count__users=["s1"]) == "acme"
