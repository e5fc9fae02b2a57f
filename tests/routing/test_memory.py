"""What is remembered from run to run: watches, triggers and queues, whatever stands between a reason and its task."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pandas as pd
import pytest
from onetouch.audit import replay
from onetouch.lake import Lake
from onetouch.ledger import Ledger, Run
from onetouch.policy import Policy
from onetouch.routing import kept, route
from onetouch.scoring import score

from tests.routing.world import POLICY, PQL, accounts, decided, load, users

START = datetime(2025, 3, 10, 9, tzinfo=UTC)  # a Monday
HOUR = timedelta(hours=1)
MEDIUM = {**PQL, "premium_attempts": 0, "pricing_views": 0, "invites": 0}  # watched: medium tier
VIEW = {"plan_questions": 1, "plan_questions_at": START + HOUR / 2}


class Company:
    """Runs over the same accounts: `signals` of each is changed by the test, `decide` makes a run of them."""

    def __init__(self, home: Path, policy: Policy = POLICY, reps: tuple[str, ...] = ("ana@v.com", "ben@v.com")) -> None:
        self.lake, self.ledger, self.policy = Lake(home / "lake"), Ledger(f"sqlite:///{home / 'ledger.db'}"), policy
        self.ledger.migrate()
        self.reps = users(*reps)
        self.accounts: list[dict[str, Any]] = []

    def run(self, at: datetime, *, fresh: bool = True, dry: bool = False, opens: bool = False) -> pd.DataFrame:
        """The decisions of a run by account_id; with `opens`, its tasks become handoffs."""
        run = self.ledger.begin_run(at, self.policy, dry, fresh=fresh)
        self.lake.write(accounts(*self.accounts), "signals", f"{run.run_id}.parquet")
        self.lake.write(self.reps.assign(name="R", timezone="UTC"), "crm", run.run_id, "reps.parquet")
        score(self.lake, self.ledger, self.policy, run)
        self.ledger.finish_stage(run.run_id, "route", route(self.lake, self.ledger, self.policy, run))
        decisions = self.lake.read("decisions", f"{run.run_id}.parquet")
        if opens:
            self.open(run, decisions)
        self.last = run
        return decisions.set_index("account_id", drop=False)

    def open(self, run: Run, decisions: pd.DataFrame) -> None:
        due = decisions[decisions["action"] == "sales_now"].drop(columns=["turn"])
        self.ledger.open_handoffs(due.to_dict("records"), run)

    def replays(self) -> bool:
        return bool(replay(self.lake, self.ledger, self.last.run_id).empty)


@pytest.fixture
def watched(tmp_path: Path) -> Company:
    """A company whose only account is watched since START."""
    company = Company(tmp_path)
    company.accounts = [MEDIUM]
    got = company.run(START)
    assert got["action"].tolist() == ["monitor"], got.T
    return company


def happens(company: Company, **signals: Any) -> None:
    company.accounts = [{**row, **signals} for row in company.accounts]


def actions(company: Company, hours: Iterator[int] | range, **how: Any) -> list[tuple[str, str]]:
    found = []
    for hour in hours:
        [row] = company.run(START + hour * HOUR, **how).to_dict("records")
        assert company.replays(), hour
        found.append((row["action"], row["call"]))
    return found


# ── A trigger that could not be acted on in its own hour ─────────────────────────────────────────────────────────────


def test_a_trigger_that_was_not_sent_is_called_until_it_is_answered(watched: Company) -> None:
    happens(watched, **VIEW)
    assert actions(watched, range(1, 5)) == [("sales_now", "trigger")] * 4  # held, stopped, capped, not approved
    assert actions(watched, range(5, 6), opens=True) == [("sales_now", "trigger")]
    assert actions(watched, range(6, 8)) == [("hold_touched", ""), ("hold_touched", "")]


def test_a_trigger_that_nobody_could_act_on_expires_with_a_reason_and_counts_once(watched: Company) -> None:
    happens(watched, **VIEW)
    assert actions(watched, range(1, 80, 6))[:12] == [("sales_now", "trigger")] * 12
    got = watched.run(START + 80 * HOUR).iloc[0]
    assert (got["action"], got["rule"]) in [("monitor", "stale intent"), ("monitor", "tier medium")]
    ledger = [row for row in watched.ledger.dump()["memory"] if row["what"] == "plan_questions"]
    assert [row["ended"] for row in ledger] == ["stale intent"]
    assert actions(watched, range(81, 84)) == [("monitor", "")] * 3
    happens(watched, plan_questions=2, plan_questions_at=START + 83.5 * HOUR)
    assert actions(watched, range(84, 85)) == [("sales_now", "trigger")]


def test_the_expiry_is_told_in_the_run_that_ends_it(watched: Company) -> None:
    happens(watched, **VIEW)
    actions(watched, range(1, 2))
    got = watched.run(START + 73 * HOUR).iloc[0]
    assert (got["action"], got["rule"]) == ("monitor", "stale intent")
    assert [o["obstacle"] for o in got["would_change"]] == ["fresh_trigger"]
    happens(watched, plan_questions=2, plan_questions_at=START + 73.5 * HOUR)
    assert actions(watched, range(74, 75)) == [("sales_now", "trigger")]  # what it said would change it


def test_a_trigger_during_a_hold_is_called_when_the_hold_ends(watched: Company) -> None:
    happens(watched, open_opportunities=1)
    assert actions(watched, range(1, 2)) == [("hold_open_opportunity", "")]
    happens(watched, plan_questions=1, plan_questions_at=START + 1.5 * HOUR)
    assert actions(watched, range(2, 6)) == [("hold_open_opportunity", "trigger")] * 4
    happens(watched, open_opportunities=0)
    assert actions(watched, range(6, 7)) == [("sales_now", "trigger")]


def test_a_full_rep_and_missing_context_keep_a_trigger(watched: Company) -> None:
    happens(watched, **VIEW, name=None)
    assert actions(watched, range(1, 3)) == [("hold_context", "trigger")] * 2
    happens(watched, name="Acme")
    watched.reps = users("ana@v.com", active=False)
    assert actions(watched, range(3, 5)) == [("hold_capacity", "trigger")] * 2
    watched.reps = users("ana@v.com")
    assert actions(watched, range(5, 6)) == [("sales_now", "trigger")]


# ── Late events ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("hours_before", "called"), [(1, True), (71, True), (73, False)])
def test_a_trigger_of_before_the_watch_that_becomes_known_later_counts_while_it_is_fresh(
    watched: Company, hours_before: int, called: bool
) -> None:
    happens(watched, plan_questions=1, plan_questions_at=START + HOUR - hours_before * HOUR)
    assert actions(watched, range(1, 3)) == [("sales_now", "trigger") if called else ("monitor", "")] * 2


def test_what_was_known_when_the_watch_began_is_no_news(tmp_path: Path) -> None:
    company = Company(tmp_path)
    company.accounts = [{**MEDIUM, "plan_questions": 1, "plan_questions_at": START - HOUR}]
    assert actions(company, range(3)) == [("monitor", "")] * 3


# ── Only real runs are remembered ────────────────────────────────────────────────────────────────────────────────────


def lived(home: Path, meddle: Callable[[Company, int], None]) -> list[list[Any]]:
    """What live runs decide about fifteen accounts in two and a half days, with `meddle` called after each run."""
    company, random, found = Company(home), Random(5), []
    company.policy = POLICY.changed(assignment__tasks_per_rep_per_day=2)
    company.accounts = [{**MEDIUM, "account_id": f"a{n:02}"} for n in range(15)]
    for number, hour in enumerate(range(0, 60, 4)):
        for row in company.accounts:
            if random.random() < 0.15:
                row |= {"plan_questions": 1, "plan_questions_at": START + (hour - random.choice([1, 3, 20])) * HOUR}
        got = company.run(START + hour * HOUR, opens=number % 3 == 0)
        found.append(
            got[["action", "rule", "call", "since", "owner_email", "decision_id"]].astype(str).to_numpy().tolist()
        )
        meddle(company, hour)
    assert company.replays()
    assert company.replays()
    assert {"sales_now", "monitor", "hold_capacity", "hold_touched"} <= {row[0] for run in found for row in run}
    return found


def test_backfills_dry_runs_and_repetitions_change_nothing_a_live_run_decides(tmp_path: Path) -> None:
    def meddle(company: Company, hour: int) -> None:
        now, last = [dict(row) for row in company.accounts], company.last
        happens(company, plan_questions=1, plan_questions_at=START + (hour - 2.5) * HOUR)
        company.run(START + (hour - 2) * HOUR)  # made up for later
        company.run(START + (hour - 1) * HOUR, fresh=False)
        company.run(START + (hour + 1) * HOUR, dry=True)
        company.accounts = now
        before = company.ledger.dump()["memory"]
        company.run(last.as_of)  # once more
        assert company.ledger.dump()["memory"] == before

    assert lived(tmp_path / "alone", lambda company, hour: None) == lived(tmp_path / "meddled", meddle)


def test_a_run_that_is_made_up_for_later_still_goes_on_from_the_one_before(watched: Company) -> None:
    watched.run(START + 2 * HOUR)
    watched.run(START + HOUR, fresh=False)
    assert kept(watched.lake, watched.last.run_id).previous["since"].tolist() == [pd.Timestamp(START)]
    assert not watched.last.real


# ── The line ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_lot_stays_while_an_account_waits(tmp_path: Path) -> None:
    company = Company(tmp_path, POLICY.changed(assignment__tasks_per_day=3))
    company.accounts = [{**PQL, "account_id": f"a{n:03}"} for n in range(60)]
    first = company.run(START)
    assert first["action"].value_counts().to_dict() == {"hold_capacity": 57, "sales_now": 3}
    assert sorted(first["turn"]) == list(range(1, 61))
    assert first["turn"].tolist() != sorted(first["turn"])
    waits = first[first["action"] == "hold_capacity"]
    assert {o["obstacle"] for obstacles in waits["would_change"] for o in obstacles} == {"day"}
    for hour in range(1, 4):
        assert company.run(START + hour * HOUR)["turn"].tolist() == first["turn"].tolist()
    assert company.replays()


def test_a_rep_whose_day_begins_later_keeps_the_places_of_the_best() -> None:
    """The UTC day begins when New York's reps have done theirs: others must not take all of its places."""
    reps = [{"email": "ny@v.com", "timezone": "America/New_York"}, {"email": "de@v.com", "timezone": "Europe/Berlin"}]
    policy = POLICY.changed(
        assignment__reps=[{**rep, "tasks_per_day": 2} for rep in reps], assignment__tasks_per_day=3
    )  # fmt: skip
    as_of = datetime(2025, 3, 11, 0, 30, tzinfo=UTC)
    given = [as_of - timedelta(hours=2.5), as_of - timedelta(hours=1.5)]  # after work: they count for the next day
    busy = load(("ny@v.com", 2, 0, given[-1])).assign(recent=[given])
    better = [{**PQL, "owner_email": "ny@v.com"}] * 2
    others = [{**PQL, "owner_email": "de@v.com", "invites": 0}] * 3
    signals = accounts(*better, *others)
    got = decided(signals, busy=busy, reps=users("ny@v.com", "de@v.com"), policy=policy, as_of=as_of)
    assert got["score"].iloc[1] > got["score"].iloc[2]
    waits = got["would_change"].map(lambda obstacles: [o["obstacle"] for o in obstacles])
    assert waits.tolist()[:2] == [["room"]] * 2
    assert sorted(waits.tolist()[2:]) == [[], ["day"], ["day"]]


@pytest.mark.parametrize("weeks", [4, pytest.param(12, marks=pytest.mark.long)])
def test_places_and_ids_share_the_working_days_fairly(tmp_path: Path, weeks: int) -> None:
    """As many accounts of every first hex digit, and of every territory, are called as there are places for them."""
    random, names = Random(3), ("emea", "us", "apac")
    zones = {"emea": "Europe/Berlin", "us": "America/Los_Angeles", "apac": "Asia/Tokyo"}
    reps = [
        {"email": f"{name}{n}@v.com", "timezone": zones[name], "tasks_per_day": 4} for name in names for n in range(2)
    ]
    territories = [{"name": n, "regions": [n], "reps": [f"{n}{i}@v.com" for i in range(2)]} for n in names]
    policy = POLICY.changed(
        assignment__reps=reps, assignment__territories=territories, assignment__tasks_per_day=12,
        assignment__working_time={**POLICY.document()["assignment"]["working_time"], "weekdays": [0, 1, 2, 3, 4]},
        delivery__approval_above=None,
    )  # fmt: skip
    company = Company(tmp_path, policy, tuple(rep["email"] for rep in reps))
    called: list[tuple[str, str]] = []
    for day in range(7 * weeks):
        if (START + timedelta(days=day)).weekday() > 4:
            continue
        yesterday = START + timedelta(days=day - 1)
        now = {f"{name}_at": yesterday for name in ("invites", "pricing_views", "premium_attempts")}
        company.accounts = [
            {**PQL, **now, "owner_email": None, "account_id": f"{random.randrange(16**8):08x}", "region": name}
            for name in names
            for _ in range(9)
        ]  # as many of each territory, more than twice what the day takes, and new ones every day
        for hour in (0, 8, 16):
            at = START.replace(hour=0) + timedelta(days=day, hours=hour)
            got = company.run(at, opens=True)
            region = {row["account_id"]: row["region"] for row in company.accounts}
            sent = got.loc[got["action"] == "sales_now", "account_id"]
            called += [(region[account], account[0]) for account in sent]
    assert len(called) > 5 * weeks * 11
    by_territory = pd.Series([name for name, _ in called]).value_counts()
    by_digit = pd.Series([digit for _, digit in called]).value_counts()
    share = by_territory / len(called)
    assert share.between(1 / 3 - 0.06, 1 / 3 + 0.06).all(), by_territory.to_dict()
    low, high = by_digit[[*"0123"]].sum() / len(called), by_digit[[*"cdef"]].sum() / len(called)
    assert abs(low - 0.25) < 0.06 and abs(high - 0.25) < 0.06, by_digit.to_dict()
