"""Each event against its own history: planted faults are told by name and number, ordinary days are not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from onetouch.events import event_files
from onetouch.lake import Lake
from onetouch.policy import read_policy
from onetouch.quality.history import unusual
from onetouch.quality.tally import tallied, tallies

POLICY = read_policy()
AS_OF = datetime(2025, 3, 12, tzinfo=UTC)  # a Wednesday, 00:00
DAYS = 60
RATES = {"feature_used": 300.0, "session_started": 80.0, "pricing_viewed": 20.0, "checkout_started": 12.0}
QUIET = (5, 6)  # Saturday and Sunday have a tenth of a weekday


def world(seed: int = 1, days: int = DAYS, rates: dict[str, float] = RATES) -> pd.DataFrame:
    """Events of 40 users in 10 accounts, at work hours, with quiet weekends, received two minutes later."""
    rng = np.random.default_rng(seed)
    parts = []
    for back in range(days, 0, -1):
        day = pd.Timestamp(AS_OF) - pd.Timedelta(days=back)
        level = 0.1 if day.weekday() in QUIET else 1.0
        for name, rate in rates.items():
            n = rng.poisson(rate * level)
            at = day + pd.to_timedelta(rng.normal(13, 3.5, n).clip(0, 23.9) * 3600, unit="s")
            parts.append(pd.DataFrame({"event": name, "occurred_at": at, "who": rng.integers(0, 40, n)}))
    frame = pd.concat(parts, ignore_index=True)
    return pd.DataFrame(
        {
            "event_id": [f"e{n}" for n in range(len(frame))],
            "source": "amplitude",
            "event": frame["event"],
            "occurred_at": frame["occurred_at"].dt.as_unit("us"),
            "received_at": (frame["occurred_at"] + pd.Timedelta(minutes=2)).dt.as_unit("us"),
            "user_id": "u" + frame["who"].astype("str"),
            "account_id": "a" + (frame["who"] % 10).astype("str"),
            "properties": [f'{{"n": {n}}}' for n in range(len(frame))],
        }
    )


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return Lake(tmp_path_factory.mktemp("lake"))


@pytest.fixture(scope="module")
def found(lake: Lake) -> Callable[..., list]:
    def judge(frame: pd.DataFrame, as_of: datetime = AS_OF) -> list:
        dated = frame.assign(
            known_at=frame["received_at"], event_date=frame["occurred_at"].dt.floor("D").dt.tz_localize(None)
        )
        with lake.engine() as engine:
            counted = engine.fetch(tallied(engine.table(dated, "dated"), "event_date")).to_pandas()
        return unusual(counted, POLICY, as_of)

    return judge


LAST = pd.Timestamp(AS_OF) - pd.Timedelta(days=1)


def last(frame: pd.DataFrame) -> pd.Series:
    return frame["received_at"] >= LAST


@pytest.mark.parametrize("seed", range(5))
def test_an_ordinary_day_is_not_told(found, seed):
    assert found(world(seed)) == []


def test_a_holiday_makes_no_event_critical(found):
    """A Tuesday like a Sunday: told as quiet, and no event of it is told as silent or missing."""
    frame = world()
    kept = ~last(frame) | (np.random.default_rng(2).random(len(frame)) < 0.1)
    [one] = found(frame[kept])
    assert (one.severity, one.kind, one.event) == ("warning", "volume", None)


def test_growth_is_no_fault(found):
    frame = world()
    age = (pd.Timestamp(AS_OF) - frame["received_at"]) / pd.Timedelta(days=1)
    grown = np.random.default_rng(3).random(len(frame)) < np.exp(-age / 30)  # doubles in three weeks
    assert [one for one in found(frame[grown]) if one.severity == "critical"] == []


def test_a_silent_checkout_is_critical_by_itself_with_its_numbers(found):
    frame = world()
    [one] = found(frame[~(last(frame) & (frame["event"] == "checkout_started"))])
    assert (one.severity, one.event) == ("critical", "checkout_started")
    assert "event `checkout_started`: silent for " in one.says and " events were expected" in one.says


@pytest.mark.parametrize(("hour", "severity"), [(10, None), (14, "warning"), (22, "critical")])
def test_a_silence_warns_before_it_is_critical(found, hour, severity):
    """Twelve checkouts a day, around 13:00: by 14:00 more than three of them should have come, by 22:00 twelve."""
    frame = world()
    as_of = AS_OF.replace(day=11, hour=hour)
    frame = frame[~(last(frame) & (frame["event"] == "checkout_started")) & (frame["received_at"] < as_of)]
    assert [one.severity for one in found(frame, as_of) if one.kind == "silent"] == ([severity] if severity else [])


def test_another_event_that_falls_silent_is_told_and_stops_nothing(found):
    frame = world()
    [one] = found(frame[~(last(frame) & (frame["event"] == "pricing_viewed"))])
    assert (one.severity, one.event, one.kind) == ("warning", "pricing_viewed", "silent")


@pytest.mark.parametrize(("name", "users", "severity"), [
    ("checkout_started", 9, "critical"), ("checkout_started", 1, "warning"), ("pricing_viewed", 9, "warning"),
])  # fmt: skip
def test_a_name_that_vanishes_as_a_near_miss_appears_is_told_at_once(found, name, users, severity):
    """Within three hours; one user alone, who can send any name, stops nothing."""
    frame = world()
    since = pd.Timestamp(AS_OF) - pd.Timedelta(hours=36)  # noon of Monday
    as_of = (since + pd.Timedelta(hours=3)).to_pydatetime()
    theirs = (frame["event"] == name) & (frame["received_at"] >= since)
    frame = frame[frame["received_at"] < as_of].copy()
    theirs = theirs.loc[frame.index]
    frame.loc[theirs, "user_id"] = [f"u{n % users}" for n in range(theirs.sum())]
    frame.loc[theirs, "event"] = name.replace("_", " ").title()
    [one] = [one for one in found(frame, as_of) if one.kind == "renamed"]
    assert (one.severity, one.event) == (severity, name)
    assert f"`{name.replace('_', ' ').title()}`" in one.says


def test_a_near_miss_beside_the_name_is_no_renaming(found):
    frame = world()
    some = last(frame) & (frame["event"] == "checkout_started") & (np.arange(len(frame)) % 2 == 0)
    renamed = frame.assign(event=frame["event"].mask(some, "Checkout Started"))
    assert [one for one in found(renamed) if one.kind == "renamed"] == []


PLANTED: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str, str]] = {
    "half": (lambda f: f[~last(f) | (np.arange(len(f)) % 2 == 0)], "volume", "warning"),
    "twice": (lambda f: pd.concat([f, f[last(f)].assign(event_id="x")]), "twins", "critical"),
    "one user": (lambda f: f.assign(user_id=f["user_id"].mask(last(f), "u1")), "top_user", "critical"),
    "one account": (lambda f: f.assign(account_id=f["account_id"].mask(last(f), "null")), "top_account", "critical"),
    "ahead": (lambda f: _shifted(f, 8), "lag", "critical"),
    "behind": (lambda f: _shifted(f, -8), "lag", "warning"),
    "bare": (lambda f: f.assign(properties=f["properties"].mask(last(f), "{}")), "bare", "warning"),
    "more of one": (lambda f: pd.concat([f, *[_again(f, n) for n in range(9)]]), "count", "warning"),
}


def _shifted(frame: pd.DataFrame, hours: int) -> pd.DataFrame:
    at = frame["occurred_at"]
    return frame.assign(occurred_at=at.mask(last(frame), at + pd.Timedelta(hours=hours)))


def _again(frame: pd.DataFrame, n: int) -> pd.DataFrame:
    theirs = frame[last(frame) & (frame["event"] == "pricing_viewed")]
    return theirs.assign(occurred_at=theirs["occurred_at"] + pd.Timedelta(seconds=n + 1))


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_told_by_its_kind(found, fault):
    plant, kind, severity = PLANTED[fault]
    told = {one.kind: one for one in found(plant(world()))}
    assert kind in told and told[kind].severity == severity, told
    assert any(letter.isdigit() for letter in told[kind].says)


def test_a_short_history_is_not_judged(found):
    frame = world()
    recent = frame[frame["received_at"] >= LAST - pd.Timedelta(days=5)]
    assert found(recent[~(last(recent) & (recent["event"] == "checkout_started"))]) == []


def test_tallies_are_built_once_and_again_when_a_date_has_new_files(lake):
    frame = world(days=3)
    for day, of_day in frame.groupby(frame["occurred_at"].dt.strftime("%Y-%m-%d")):
        lake.write(of_day, "events", f"event_date={day}", "b1.parquet")
    files = lake.list("events")
    with lake.engine() as engine:
        first = tallies(lake, engine, files, AS_OF)
    assert first.loc[first["grain"] == "hour", "n"].sum() == len(frame)
    assert first.loc[(first["grain"] == "day") & first["event"].isna(), "n"].sum() == len(frame)
    built = {path: lake.fs.info(path)["mtime"] for path in lake.list("tallies")}
    lake.write(of_day, "events", f"event_date={day}", "b2.parquet")
    with lake.engine() as engine:
        second = tallies(lake, engine, lake.list("events"), AS_OF)
    assert second.loc[second["grain"] == "hour", "n"].sum() == len(frame) + len(of_day)
    again = {path: lake.fs.info(path)["mtime"] for path in lake.list("tallies")}
    assert [path for path in built if built[path] != again[path]] == [
        lake.path("tallies", f"event_date={day}", "counts.parquet")
    ]
    names = " ".join(second["event"].dropna().unique())
    assert "u1" not in names and "user_id" not in second.columns


def test_late_events_are_counted_from_when_they_are_known(tmp_path):
    """A file that came two days after its rows' receipt is no part of what was known before."""
    lake, frame = Lake(tmp_path), world(days=1)
    known = frame["received_at"] + pd.to_timedelta(np.where(frame.index % 4, 0, 2), unit="D")
    lake.write(frame.assign(known_at=known), "events", f"event_date={LAST:%Y-%m-%d}", "b1.parquet")
    with lake.engine() as engine:
        before, after = (
            tallies(lake, engine, lake.list("events"), as_of) for as_of in (AS_OF, AS_OF + pd.Timedelta(days=2))
        )
    for grain, named in (("hour", True), ("day", True), ("day", False)):
        sums = [of.loc[(of["grain"] == grain) & (of["event"].notna() == named), "n"].sum() for of in (before, after)]
        assert sums == [(frame.index % 4 != 0).sum(), len(frame)]


def test_what_a_dry_run_staged_is_counted_for_dry_runs_alone(tmp_path):
    lake, frame = Lake(tmp_path), world(days=1)
    for name in ("b1", "dry-b2"):
        lake.write(frame, "events", f"event_date={LAST:%Y-%m-%d}", f"{name}.parquet")
    with lake.engine() as engine:
        for dry in (True, False, True, False):
            counted = tallies(lake, engine, event_files(lake, dry=dry), AS_OF)
            assert counted.loc[counted["grain"] == "hour", "n"].sum() == len(frame) * (1 + dry)
    assert len(lake.list("tallies")) == 2


def test_visitors_checkouts_keep_the_event_from_being_silent_and_are_no_volume(found):
    """The checkouts of the last day come without user and account; all else as ever."""
    frame = world()
    theirs = last(frame) & (frame["event"] == "checkout_started")
    frame.loc[theirs, ["user_id", "account_id"]] = None
    assert found(frame) == []
    nobodys = frame.assign(user_id=None, account_id=None)
    with Lake("memory://nobody").engine() as engine:
        dated = nobodys.assign(known_at=nobodys["received_at"]).astype({"user_id": "str", "account_id": "str"})
        hours = engine.fetch(tallied(engine.table(dated, "dated"))).to_pandas()
    assert set(hours["grain"]) == {"hour"}
    assert (hours["n"].sum(), hours["anonymous"].sum()) == (0, len(frame))


def test_a_flood_of_one_user_is_told_and_stops_nothing(found):
    """Ten times the day's events, all alike, of one user who has set the clock ahead."""
    frame = world()
    flood = frame[last(frame)].assign(user_id="mallory", account_id="a1", properties="{}", event="feature_used")
    flood = pd.concat([flood.assign(occurred_at=flood["occurred_at"] + pd.Timedelta(hours=8))] * 10)
    told = found(pd.concat([frame, flood]))
    assert {one.severity for one in told} == {"warning"}, told
    assert "top_user" in {one.kind for one in told}
