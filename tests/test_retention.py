"""What is pruned is gone and says so, and what is decided, sent and reported is the same as if it were still there."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from onetouch import audit, events, metrics, retention, routing, scoring, signals, sources, stages
from onetouch.cli import app
from onetouch.experiments import compare
from onetouch.experiments.scenario_file import Rep
from onetouch.experiments.scenario_world import crm_users
from onetouch.forget import forget
from onetouch.lake import Lake, Pruned, pruned_months
from onetouch.ledger import Ledger, Run
from onetouch.policy import Policy, PolicyError, read_policy
from onetouch.workspace import Workspace, open_workspace, usable_policy
from typer.testing import CliRunner

from tests.sources.answers import answer, event, member, packed

BEGIN = datetime(2025, 6, 2, 6, tzinfo=UTC)
DAYS = timedelta(days=1)
MOMENTS = [BEGIN, BEGIN + 9 * DAYS, BEGIN + 12 * DAYS]  # of the runs: the first is pruned before the last
NOW, NEXT = MOMENTS[-1] + timedelta(hours=1), MOMENTS[-1] + 3 * DAYS
OLD = (130, 117, 100, 99, 96, 80, 73, 64, 47, 33, 20)  # days ago, of sparse use
SHORT = {
    "signals": {"lookback_days": 14, "recent_days": 14, "engagement_days": 10},
    "scoring": {"trend_days": 2},
    "report": {"weeks": 1, "close_within_days": 7, "opportunity_within_days": 7},
    "routing": {
        "cooldown_days": 1,
        "bought_days": 5,
        "fresh_intent_hours": None,
        "returns": {
            "lost_days": 1,
            "won_days": 1,
            "untouched_days": 0,
            "new": "occurrence",
            "hand_raise": True,
            "same_rep_days": None,
        },
    },
    "handoff": {"reply_days": 7},
    "assignment": {"queue_hours": 48},
}
KINDS = ("report_created", "data_imported", "workspace_created", "session_started", "pricing_viewed", "demo_requested")
SNAPSHOT = pd.DataFrame(
    {
        "account_id": [f"org{n}" for n in range(6)],
        "name": [f"Company {n}" for n in range(6)],
        "domain": [f"org{n}.example" for n in range(6)],
        "employees": 200,
    }
)


def policy_of(**days: int | None) -> Policy:
    """The policy of short windows with these days of retention."""
    document = read_policy().document()
    for section, values in SHORT.items():
        document[section] |= values
    document["retention"] |= days
    return Policy.model_validate(document)


def least(policy: Policy) -> Policy:
    """The policy with the least retention that it allows."""
    for key in ("raw_days", "events_days", "runs_days", "ledger_days"):
        policy = policy.changed(**{f"retention__{key}": max(retention.reaches(policy)[key]).days})
    return policy


POLICY = least(policy_of())


def sent(number: int, at: datetime, kind: str, **more: Any) -> dict[str, Any]:
    """A row of an event that is received five minutes after it happened."""
    received = f"{at + timedelta(minutes=5):%Y-%m-%d %H:%M:%S}.000000"
    moments = {"server_upload_time": received, "server_received_time": received}
    return event(number, event_type=kind, event_time=f"{at:%Y-%m-%d %H:%M:%S}.000000", **moments, **more)


def rows() -> list[dict[str, Any]]:
    """Months of sparse use, then weeks of busy use: in groups, by mail alone, on devices, by people who move."""
    rng, made = random.Random(7), []
    for number in range(260):
        ago = rng.choice(OLD) if number < 80 else rng.randrange(-15, 14)
        at = BEGIN - ago * DAYS + timedelta(hours=rng.randrange(0, 5))
        org, user = rng.randrange(5), rng.randrange(3)
        kind = "integration_connected" if ago > 60 and rng.random() < 0.5 else rng.choice(KINDS)
        who: dict[str, Any] = {"user_id": f"u{user}@org{org}.example", "device_id": f"d{org}{user}"}
        if rng.random() < 0.3:
            who |= {"user_id": None}  # on the device alone
        elif rng.random() < 0.3:
            who |= {"user_id": f"wanderer{user}"}
        if number < 80:  # what is known of them was said long ago
            who |= {"user_properties": {"name": f"User {user} of {org}", "title": ("CTO", "Analyst", "VP Data")[user]}}
        if rng.random() < 0.5:
            who |= {"groups": {"organisation": [f"org{org}"]}}
        made.append(sent(number, at, kind, event_properties={"integration": rng.choice("xyz")}, **who))
    # A team that asks for a person just before the last run.
    team = [(day, kind) for day in range(4, 12) for kind in ("session_started", KINDS[day % 3])]
    for number, (day, kind) in enumerate([*team, (11, "demo_requested")], 800):
        made.append(sent(number, BEGIN + day * DAYS, kind, user_id=f"t{number % 3}", groups={"organisation": ["org5"]}))
    # Seen in the pruned months alone.
    who = {"user_id": "gone-long-ago", "device_id": "device-long-ago", "groups": {"organisation": ["company-long-ago"]}}
    made += [sent(900 + ago, BEGIN - ago * DAYS, "report_created", **who) for ago in (100, 99)]
    return made


ROWS = rows()


@dataclass
class Home:
    """One installation, and the decisions of its runs."""

    place: Path
    lake: Lake
    ledger: Ledger
    policy: Policy

    @classmethod
    def at(cls, place: Path, policy: Policy = POLICY) -> Home:
        ledger = Ledger(f"sqlite:///{place / 'ledger.db'}")
        ledger.migrate()
        (place / "answers").mkdir(exist_ok=True)
        return cls(place, Lake(place / "lake"), ledger, policy)

    def copy(self, place: Path) -> Home:
        self.ledger.close()
        shutil.copytree(self.place, place)
        return Home.at(place, self.policy)

    def receive(self, until: datetime) -> None:
        """The answer with all that was received since the last one."""
        folder = self.place / "answers"
        name = f"{until:%Y%m%d%H%M}.zip"
        known = sorted(path.stem for path in folder.iterdir())
        since = datetime.strptime(known[-1], "%Y%m%d%H%M").replace(tzinfo=UTC) if known else until - 1000 * DAYS
        new = [row for row in ROWS if since <= moment(row["server_upload_time"]) < until]
        answer(folder / name, [(member(until - timedelta(hours=1)), packed(new))])

    def read(self, as_of: datetime) -> tuple[Run, dict[str, Any]]:
        """Extraction and staging of a run."""
        run = self.ledger.begin_run(as_of, self.policy, False)
        folder = self.place / "answers"
        sources.extract("amplitude", self.lake, self.ledger, self.policy, run, folder=folder)
        return run, events.stage(self.lake, self.ledger, self.policy, run)

    def run(self, as_of: datetime) -> Run:
        """A whole run without CRM, whose handoffs are worked on at once: touched, and released a day later."""
        self.receive(as_of)
        run, _ = self.read(as_of)
        self.lake.write(SNAPSHOT, "crm", run.run_id, "accounts.parquet")
        self.lake.write(crm_users([Rep(email="ana@sales.example")]), "crm", run.run_id, "reps.parquet")
        signals.build(self.lake, self.ledger, self.policy, run)
        scoring.score(self.lake, self.ledger, self.policy, run)
        self.ledger.finish_stage(run.run_id, "route", routing.route(self.lake, self.ledger, self.policy, run))
        made = self.lake.read("decisions", f"{run.run_id}.parquet").to_dict("records")
        due = [decision for decision in made if decision["action"] == "sales_now"]
        for handoff in self.ledger.open_handoffs(due, run, lambda one: [text_of(one.handoff_id)]):
            if handoff is not None:
                key = f"task:{handoff.handoff_id}"
                self.ledger.sending(key)
                self.ledger.sent(key, f"T{handoff.handoff_id}")
                for hours, state in enumerate(("context_written", "task_open", "touched", "released")):
                    at = as_of + timedelta(hours=6 * hours)
                    self.ledger.move(handoff.handoff_id, state, at=at, as_of=at)
                touch = {"touch_id": handoff.handoff_id, "account_id": handoff.account_id, "at": as_of}
                self.ledger.record_touches([touch], as_of=as_of)
        return run

    def decisions(self, run: Run) -> pd.DataFrame:
        return self.lake.read("decisions", f"{run.run_id}.parquet")

    def prune(self, as_of: datetime, **options: Any) -> dict[str, Any]:
        return retention.prune(self.lake, self.ledger, self.policy, as_of, **options)

    def files(self) -> set[str]:
        lake = self.place / "lake"
        return {str(path.relative_to(lake)) for path in lake.rglob("*") if path.is_file()}


def text_of(handoff_id: str) -> dict[str, Any]:
    payload = {"format": 2, "content": {"text": "what they use"}, "record": {"top_user": "u1@org1.example"}}
    return {"key": f"task:{handoff_id}", "destination": "salesforce", "kind": "task", "payload": payload}


def moment(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=UTC)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home after all runs but the last: read only."""
    home = Home.at(tmp_path_factory.mktemp("begun"))
    for as_of in MOMENTS[:-1]:
        home.run(as_of)
    return home


@pytest.fixture(scope="module")
def never(begun: Home, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The home after its last run, in which nothing was ever pruned: read only."""
    home = begun.copy(tmp_path_factory.mktemp("never") / "home")
    home.run(MOMENTS[-1])
    return home


@pytest.fixture(scope="module")
def always(begun: Home, tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, dict[str, Any]]:
    """The home that was pruned before its last run and after it, and what was deleted before: read only."""
    home = begun.copy(tmp_path_factory.mktemp("always") / "home")
    done = home.prune(MOMENTS[-1] - timedelta(hours=1))
    home.run(MOMENTS[-1])
    home.prune(NOW)
    return home, done


def run_of(home: Home, place: int) -> Run:
    return home.ledger.runs()[place]


def same(one: Home, other: Home, run: Run) -> int:
    """Compares the run's decisions in both homes; returns how many accounts were called."""
    mine, theirs = one.decisions(run), other.decisions(run)
    pd.testing.assert_frame_equal(mine, theirs)
    return int((mine["action"] == "sales_now").sum())


# ── nothing changes ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_pruned_before_a_run_it_decides_sends_and_reports_the_same(
    begun: Home, never: Home, always: tuple[Home, dict[str, Any]]
) -> None:
    home, done = always
    assert done["events"]["months"] == ["2025-01", "2025-02", "2025-03"]
    assert [done[kind]["files"] > 1 for kind in ("raw", "events", "runs")] == [True] * 3
    assert same(never, home, run_of(never, 2)) and not home.lake.exists(
        "decisions", f"{run_of(never, 0).run_id}.parquet"
    )
    assert never.ledger.handoffs() == home.ledger.handoffs() and len(never.ledger.handoffs()) > 2
    first, second = (metrics.weekly(one.lake, one.ledger, POLICY, NEXT) for one in (never, home))
    assert first == second and first.actions


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_pruned_after_every_run_it_decides_sends_and_reports_the_same(tmp_path: Path) -> None:
    one, other = Home.at(tmp_path / "one"), Home.at(tmp_path / "other")
    called = 0
    for n in range(16):
        run = one.run(BEGIN + n * DAYS)
        other.run(run.as_of)
        called += same(one, other, run)
        other.prune(run.as_of + timedelta(hours=1))
    assert called > 3 and len(other.ledger.pruned_runs()) == 8  # eight days and an hour old
    assert one.ledger.handoffs() == other.ledger.handoffs()
    first, second = (metrics.weekly(home.lake, home.ledger, POLICY, run.as_of) for home in (one, other))
    assert first == second and first.actions


def test_a_second_call_finds_nothing_left(always: tuple[Home, dict[str, Any]]) -> None:
    home, _ = always
    before = home.files()
    again = home.prune(NOW)
    assert [again[kind]["files"] for kind in ("raw", "events", "runs")] == [0, 0, 0]
    assert set(again["ledger"].values()) == {0} and home.files() == before


def test_a_dry_run_deletes_nothing_and_says_what_would_go(never: Home) -> None:
    before, rows = never.files(), never.ledger.dump()
    said = never.prune(BEGIN + 100 * DAYS, dry_run=True)
    assert never.files() == before and never.ledger.dump() == rows
    assert (
        said["events"]["months"][0] == "2025-01" and min(said[kind]["bytes"] for kind in ("raw", "events", "runs")) > 0
    )
    assert said["ledger"]["contents"] > 0


def test_the_default_policy_deletes_nothing(never: Home) -> None:
    before = never.files()
    said = retention.prune(never.lake, never.ledger, read_policy(), BEGIN + 10_000 * DAYS)
    assert [said[kind] for kind in ("raw", "events", "runs", "ledger")] == [None] * 4 and never.files() == before


class Killed(BaseException):
    """The process died here."""


class Effects:
    """Counts what a deletion does to the lake, and dies at one of these effects, also in the midst of a folder."""

    def __init__(self, patched: pytest.MonkeyPatch, at: int | None = None) -> None:
        self.places: list[str] = []  # the folder of each effect
        self.at = at
        self.remove, self.write = Lake.remove, Lake.writing
        patched.setattr(Lake, "remove", lambda lake, *parts: self.removing(lake, *parts))
        patched.setattr(Lake, "writing", lambda lake, *parts: self.happens(*parts) or self.write(lake, *parts))

    def happens(self, *parts: str) -> None:
        self.places.append(parts[0])
        if len(self.places) - 1 == self.at:
            raise Killed

    def removing(self, lake: Lake, *parts: str) -> None:
        self.happens(*parts)
        held = [path for path in sorted(Path(lake.path(*parts)).rglob("*")) if path.is_file()]
        if len(held) > 1:  # a folder is deleted file by file
            if len(self.places) == self.at:
                held[0].unlink()
            self.happens(*parts)
        self.remove(lake, *parts)


SELDOM = [
    pytest.param(*phase, marks=pytest.mark.long)
    for phase in (("raw", 0), ("raw", 0.9), ("pruned", 0), ("events", 0), ("events", 0.9), ("activity", 0.5),
                  ("memberships", 0.5), ("inputs", 0), ("signals", 0), ("decisions", 0))
]  # fmt: skip


@pytest.mark.parametrize(("folder", "share"), [("events", 0.6), *SELDOM])
def test_killed_anywhere_the_next_run_is_right_and_the_next_call_finishes(
    never: Home,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    whole: tuple[set[str], pd.DataFrame, list[str]],
    folder: str,
    share: float,
) -> None:
    home = never.copy(tmp_path / "home")
    files, expected, places = whole
    of_folder = [number for number, place in enumerate(places) if place == folder]
    with monkeypatch.context() as patched, pytest.raises(Killed):
        Effects(patched, at=of_folder[int(share * len(of_folder))])
        home.prune(NOW)
    table, _ = signals.compute(home.lake, POLICY, SNAPSHOT, NOW, dry=False)
    pd.testing.assert_frame_equal(table.to_pandas(), expected)
    home.prune(NOW)
    assert home.files() == files


@pytest.fixture(scope="module")
def whole(never: Home, tmp_path_factory: pytest.TempPathFactory) -> tuple[set[str], pd.DataFrame, list[str]]:
    """The files after a pruning that nothing interrupts, the next run's signals without any, and its effects."""
    home = never.copy(tmp_path_factory.mktemp("whole") / "home")
    expected = signals.compute(home.lake, POLICY, SNAPSHOT, NOW, dry=False)[0].to_pandas()
    with pytest.MonkeyPatch.context() as patched:
        effects = Effects(patched)
        home.prune(NOW)
    return home.files(), expected, effects.places


# ── what is pruned says so ───────────────────────────────────────────────────────────────────────────────────────────


def test_nothing_is_read_again_and_an_event_of_a_pruned_month_is_counted_apart(
    always: tuple[Home, dict[str, Any]], tmp_path: Path
) -> None:
    home = always[0].copy(tmp_path / "home")
    now = NEXT
    late = [
        event(5000, event_time="2025-02-03 10:00:00.000000", server_upload_time=f"{now:%Y-%m-%d} 01:00:00.000000"),
        event(5001, event_time=f"{now:%Y-%m-%d} 00:30:00.000000", server_upload_time=f"{now:%Y-%m-%d} 01:00:00.000000"),
    ]
    answer(home.place / "answers" / "late.zip", [(member(now - timedelta(hours=1)), packed(late))])
    _, said = home.read(now)
    assert said["rows"]["in"] == 2 and said["rows"]["kept"] == 1 and said["rows"]["quarantined"] == {"pruned": 1}
    assert said["already_read"] == len(MOMENTS)
    assert not [name for name in home.files() if name.startswith("events/event_date=2025-02")]


def test_a_moment_whose_events_or_runs_are_gone_is_refused(always: tuple[Home, dict[str, Any]]) -> None:
    home, _ = always
    with pytest.raises(Pruned, match=r"those of 2025-03 were pruned on .* retention.events_days: \d+"):
        signals.compute(home.lake, POLICY, SNAPSHOT, BEGIN - 50 * DAYS)
    last = home.ledger.last_pruned()
    assert last is not None
    with pytest.raises(Pruned, match=r"runs up to .* were pruned on .* retention.runs_days: \d+"):
        retention.require_memory(home.ledger, POLICY, last.as_of + 2 * DAYS)
    retention.require_memory(home.ledger, POLICY, last.as_of + 3 * DAYS)
    with pytest.raises(Pruned, match="the report of before"):
        metrics.weekly(home.lake, home.ledger, POLICY, last.as_of + 8 * DAYS)


def test_whoever_asks_for_a_pruned_run_is_told_when_and_why(
    always: tuple[Home, dict[str, Any]], tmp_path: Path
) -> None:
    home = always[0].copy(tmp_path / "home")
    pruned = list(home.ledger.pruned_runs().values())
    run = home.ledger.run(pruned[0].run_id)
    says = rf"run {run.run_id} was pruned on 2025-06-14 under the policy's retention.runs_days: 8"
    asked = [
        lambda: audit.replay(home.lake, home.ledger, run.run_id),
        lambda: audit.run_of(home.lake, home.ledger, run.run_id),
        lambda: audit.run_of(home.lake, home.ledger, None, run.as_of + timedelta(hours=1)),
        lambda: audit.assigned(home.lake, home.ledger, run),
        lambda: compare(home.lake, home.ledger, POLICY, POLICY, run),
        lambda: stages.route(workspace(home), run.run_id),
    ]
    for ask in asked:
        with pytest.raises(Pruned, match=says):
            ask()
    decision = next(h.decision_id for h in home.ledger.handoffs() if h.run_id == run.run_id)
    with pytest.raises(Pruned, match=says):
        audit.find(home.lake, home.ledger, str(decision))
    with pytest.raises(Pruned, match="no run that is kept made it"):
        audit.find(home.lake, home.ledger, "0" * 24)
    last = audit.run_of(home.lake, home.ledger)
    assert audit.replay(home.lake, home.ledger, last.run_id).empty
    home.ledger.close()
    for command in (["replay", "--run", run.run_id], ["explain", "org1", "--as-of", run.as_of.isoformat()]):
        said = CliRunner().invoke(app, ["--home", str(home.place), *command])
        assert said.exit_code == 1 and "was pruned on" in said.output and "Traceback" not in said.output


def workspace(home: Home) -> Workspace:
    return open_workspace(home.place, environ={})


# ── what stays ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_not_staged_or_still_in_use_stays(never: Home, tmp_path: Path) -> None:
    home = never.copy(tmp_path / "home")
    first, _, last = home.ledger.runs()
    unfinished = home.ledger.begin_run(BEGIN + timedelta(hours=3), POLICY, False)
    raw = home.place / "lake" / "raw" / "amplitude"
    shutil.copytree(raw / first.run_id, raw / unfinished.run_id)
    home.ledger.put("alert:1", "slack", "alert", first.run_id, None, {"channel": "C"})
    said = home.prune(BEGIN + 300 * DAYS)
    assert said["raw"]["not_staged"] == 1 and [path.name for path in raw.iterdir()] == [unfinished.run_id]
    assert said["runs"]["in_use"] == 2
    kept = sorted(name.split("/")[-1] for name in home.files() if name.startswith("decisions/"))
    # Something waits to be sent for the one, and the next run goes on from the other.
    assert kept == [f"{run.run_id}.parquet" for run in (first, last)]
    assert list(pruned_months(home.lake))[-1] == "2025-05"  # of the newest month the events stay
    assert events.files_by_date(home.lake, dry=False)


def test_the_ledger_keeps_who_was_called_and_every_key(never: Any, tmp_path: Path) -> None:
    home = never.copy(tmp_path / "home")
    handoffs, moves = home.ledger.handoffs(), home.ledger.moves()
    keys = [(row.key, row.state, row.external_id) for row in home.ledger.outbox()]
    open_one = home.ledger.open_handoff(
        {"account_id": "waits", "decision_id": "d", "as_of": home.ledger.last_runs(1)[0].as_of, "reasons": []},
        home.ledger.last_runs(1)[0],
        lambda one: [text_of(one.handoff_id)],
    )
    assert open_one is not None
    touch = {"touch_id": "of an open one", "account_id": "waits", "at": BEGIN}
    home.ledger.record_touches([touch], as_of=BEGIN)
    said = home.prune(BEGIN + 300 * DAYS)["ledger"]
    assert said["contents"] == len(keys) > 0 and said["touches"] > 0 and said["stages"] > 0
    assert home.ledger.handoffs(account_ids=[h.account_id for h in handoffs]) == handoffs
    assert home.ledger.moves().query("handoff_id != @open_one.handoff_id").reset_index(drop=True).equals(moves)
    after = {row.key: row for row in home.ledger.outbox()}
    assert [(key, after[key].state, after[key].external_id) for key, _, _ in keys] == keys
    assert all(after[key].payload == {"format": 2, "pruned": True} for key, _, _ in keys)
    assert after[f"task:{open_one.handoff_id}"].payload == text_of("")["payload"]
    assert list(home.ledger.touches()["touch_id"]) == ["of an open one"]


def test_a_forgotten_company_is_found_where_only_summaries_are_left(
    always: tuple[Home, dict[str, Any]], tmp_path: Path
) -> None:
    home = always[0].copy(tmp_path / "home")
    words = [b"company-long-ago", b"gone-long-ago", b"device-long-ago"]
    shutil.rmtree(home.place / "answers")  # the customer's own files
    left = where(home, words)
    assert {"history", "memberships"} <= left and not left & {"events", "activity"}
    home.ledger.close()
    said = forget(workspace(home), "account", "company-long-ago", BEGIN + 30 * DAYS)
    assert said["found"] == [] and where(home, words) == set()


def where(home: Home, words: list[bytes]) -> set[str]:
    """The folders of the lake in whose tables one of the words stands."""
    found = set()
    for path in home.lake.list(""):
        content = json.dumps(pd.read_parquet(path, partitioning=None).astype(str).to_dict("records")).encode()
        if any(word in content for word in words):
            found.add(str(Path(path).relative_to(home.place / "lake").parts[0]))
    return found


# ── what the policy may say ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("key", ["raw_days", "events_days", "runs_days", "ledger_days"])
def test_less_than_the_policy_reads_is_refused_with_the_least_that_is_allowed(tmp_path: Path, key: str) -> None:
    default = least(read_policy())
    days = getattr(default.retention, key)
    file = tmp_path / "policy.yaml"
    keeps = default.retention.model_dump() | {key: days - 1}
    file.write_text(json.dumps({"retention": keeps}))
    with pytest.raises(
        PolicyError, match=rf"retention.{key}: {days - 1} is less than the {days} days .* set it to {days}"
    ):
        usable_policy(file)
    said = CliRunner().invoke(app, ["policy", "check", str(file)])
    assert said.exit_code == 1 and f"retention.{key}: {days - 1}" in said.output
    file.write_text(json.dumps({"retention": default.retention.model_dump()}))
    assert usable_policy(file).retention == default.retention


@pytest.mark.parametrize(
    ("change", "key", "days"),
    [
        ({"signals__lookback_days": 300}, "events_days", 302 + 9 * 7),
        ({"report__weeks": 40}, "events_days", 92 + 41 * 7),
        ({"quality__trailing_days": 200}, "events_days", 402),
        ({"routing__bought_days": 400}, "events_days", 401),
        ({"signals__checkout_abandoned_hours": 9000}, "events_days", 376),
        ({"events__overlap_hours": 9000}, "events_days", 376),
        ({"events__overlap_hours": 9000}, "raw_days", 376),
        ({"delivery__fresh_hours": 2400}, "raw_days", 101),
        ({"scoring__trend_days": 60}, "runs_days", 61),
        ({"assignment__queue_hours": 2400}, "runs_days", 101),
        ({"delivery__approval_hours": 2400}, "runs_days", 101),
        ({"delivery__fresh_hours": 2400}, "runs_days", 101),
        ({}, "runs_days", 8),
        ({"routing__cooldown_days": 900}, "ledger_days", 901),
        ({"handoff__reply_days": 900}, "ledger_days", 901),
        ({"signals__lookback_days": 900}, "ledger_days", 902),
        ({"report__close_within_days": 900}, "ledger_days", 900 + 9 * 7),
        ({"report__opportunity_within_days": 900}, "ledger_days", 900 + 9 * 7),
        ({"retention__runs_days": 900}, "ledger_days", 900 + 9 * 7 + 30),
        ({"signals__recent_days": 40, "signals__lookback_days": 40}, "events_days", 42 + 9 * 7),
    ],
)
def test_every_window_counts(change: dict[str, Any], key: str, days: int) -> None:
    assert max(retention.reaches(read_policy().changed(**change))[key]).days == days


def test_weeks_of_history_count_whatever_the_policy() -> None:
    small = read_policy().changed(signals__lookback_days=14, signals__recent_days=14, report__weeks=1)
    assert max(retention.reaches(small)["events_days"]).days == 59


def test_a_ledger_that_forgets_before_the_runs_do_is_refused() -> None:
    with pytest.raises(PolicyError, match="without runs_days"):
        retention.check_retention(read_policy().changed(retention__ledger_days=3000))


def test_a_shadow_policy_that_reads_further_back_is_refused(always: tuple[Home, dict[str, Any]]) -> None:
    home, _ = always
    with pytest.raises(PolicyError, match="retention.events_days"):
        home.prune(BEGIN + 20 * DAYS, beside=[policy_of().changed(signals__lookback_days=300)])


def test_a_moment_to_come_is_refused(tmp_path: Path) -> None:
    here = open_workspace(tmp_path, environ={})
    with pytest.raises(ValueError, match="lies in the future"):
        stages.prune(here, BEGIN + DAYS, BEGIN)
