"""The ledger against a model: any order of runs, decisions and moves, each told twice."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from onetouch.ledger import ACTIVE, LEGAL, STATES, IllegalMove, Ledger, Run
from onetouch.policy import read_policy

START, RECENT = datetime(2025, 3, 5, 22, tzinfo=UTC), timedelta(days=7)
ACCOUNTS = ("acme", "birch", "cedar")
SIGNALS = ("premium_attempts", "demo_requests")
REPS = ("ann@x.com", "bob@x.com")
HOUR = timedelta(hours=1)
POLICY = read_policy()


@dataclass
class Episode:
    """What the model knows of a handoff: its moves as (state, when, owner), the moment each was known."""

    account_id: str
    decided_at: datetime
    moves: list[tuple[str, datetime, str]]
    signals: list[str]
    known: list[datetime] = field(default_factory=list)

    @property
    def state(self) -> str:
        return self.moves[-1][0]

    def as_of(self, moment: datetime) -> tuple[str, datetime, str]:
        return self._known(moment)[-1]

    def task_as_of(self, moment: datetime) -> bool:
        """Whether a rep had a task."""
        return any(state == "task_open" for state, _, _ in self._known(moment))

    def _known(self, moment: datetime) -> list[tuple[str, datetime, str]]:
        return [move for move, known in zip(self.moves, self.known, strict=True) if known <= moment]


class Machine(RuleBasedStateMachine):
    """Runs go forward hour by hour; moves may have happened earlier than the run that learns of them."""

    handoffs = Bundle("handoffs")
    template: Path

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        shutil.copy(self.template, self.folder / "ledger.db")
        self.ledger = Ledger(f"sqlite:///{self.folder}/ledger.db")
        self.model: dict[str, Episode] = {}
        self.past: list[tuple[Run, pd.DataFrame, pd.DataFrame]] = []

    def teardown(self) -> None:
        self.ledger.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def twice(self, call: Any) -> Any:
        """The same call twice is as good as once."""
        result = call()
        once = self.ledger.dump()
        assert call() == result
        assert self.ledger.dump() == once
        return result

    @initialize()
    def first_run(self) -> None:
        self.run = self.ledger.begin_run(START, POLICY, False)

    @rule(hours=st.integers(1, 30))
    def next_run(self, hours: int) -> None:
        self.history_frame_and_load_are_the_models()
        frames = self.ledger.handoff_frame(self.run.as_of), self.ledger.rep_load(self.run.as_of)
        self.past.append((self.run, *frames))
        self.run = self.twice(lambda: self.ledger.begin_run(self.run.as_of + hours * HOUR, POLICY, False))

    @rule(
        target=handoffs,
        account_id=st.sampled_from(ACCOUNTS),
        owner=st.sampled_from(REPS),
        signal=st.sampled_from(SIGNALS),
    )
    def open(self, account_id: str, owner: str, signal: str) -> str:
        reasons = [{"signal": signal, "points": 10}]
        decision = {"account_id": account_id, "owner_email": owner, "reasons": reasons}
        theirs = [e for e in self.model.values() if e.account_id == account_id]
        now = [e for e in theirs if e.decided_at == self.run.as_of]
        handoff = self.twice(lambda: self.ledger.open_handoff(decision, self.run))
        if now:
            assert handoff.decided_at == self.run.as_of and handoff.state == now[0].state
        elif any(e.state in ACTIVE or e.known[-1] > self.run.as_of for e in theirs):
            assert handoff is None
            return next(i for i, e in self.model.items() if e.account_id == account_id)
        else:
            assert (handoff.state, handoff.episode) == ("decided", len(theirs) + 1)
            at = self.run.as_of
            self.model[handoff.handoff_id] = Episode(account_id, at, [("decided", at, owner)], [signal], [at])
        return handoff.handoff_id

    @rule(
        handoff_id=handoffs,
        to_state=st.sampled_from(STATES),
        ago=st.integers(-2, 5),
        owner=st.none() | st.sampled_from(REPS),
    )
    def move(self, handoff_id: str, to_state: str, ago: int, owner: str | None) -> None:
        episode, at, as_of = self.model[handoff_id], self.run.as_of - ago * HOUR, self.run.as_of
        told = [(state, when) for state, when, _ in episode.moves]

        def call() -> Any:
            return self.ledger.move(handoff_id, to_state, at, as_of=as_of, owner_email=owner)

        if to_state == episode.state or (to_state, at) in told:
            before = self.ledger.dump()
            assert call().state == episode.state
            assert self.ledger.dump() == before
        elif to_state in LEGAL[episode.state]:
            assert self.twice(call).state == to_state
            episode.moves.append((to_state, at, owner or episode.moves[-1][2]))
            episode.known.append(max(at, as_of, episode.known[-1]))
        else:
            before = self.ledger.dump()
            with pytest.raises(IllegalMove):
                call()
            assert self.ledger.dump() == before

    @precondition(lambda self: self.past)
    @rule(data=st.data())
    def do_an_old_run_over(self, data: st.DataObject) -> None:
        """It sees what it saw, and opens nothing it hadn't."""
        old, frame, load = data.draw(st.sampled_from(self.past))
        pd.testing.assert_frame_equal(self.ledger.handoff_frame(old.as_of), frame)
        pd.testing.assert_frame_equal(self.ledger.rep_load(old.as_of), load)
        own = {e.account_id for e in self.model.values() if e.decided_at == old.as_of}
        later = {e.account_id for e in self.model.values() if e.decided_at > old.as_of}
        before = self.ledger.dump()
        assert self.ledger.begin_run(old.as_of, POLICY, False) == old
        for account_id in own | later:
            found = self.ledger.open_handoff({"account_id": account_id}, old)
            assert (found is not None) == (account_id in own)
        assert self.ledger.dump() == before

    @invariant()
    def the_ledger_is_the_model(self) -> None:
        kept = {h.handoff_id: h for h in self.ledger.handoffs()}
        assert {i: h.state for i, h in kept.items()} == {i: e.state for i, e in self.model.items()}
        active = [h.account_id for h in kept.values() if h.active]
        assert len(active) == len(set(active))

    def history_frame_and_load_are_the_models(self) -> None:
        told: dict[str, list[str]] = {}
        for move in self.ledger.moves().to_dict("records"):
            told.setdefault(move["handoff_id"], []).append(move["to_state"])
        assert told == {i: [state for state, _, _ in e.moves] for i, e in self.model.items()}
        as_of = self.run.as_of
        decided = {i: e for i, e in self.model.items() if e.decided_at < as_of}
        latest: dict[str, Episode] = {}
        for episode in sorted(decided.values(), key=lambda e: e.decided_at):
            latest[episode.account_id] = episode
        frame = self.ledger.handoff_frame(as_of).set_index("account_id")
        assert sorted(frame.index) == sorted(latest)
        for account_id, episode in latest.items():
            state, at, owner = episode.as_of(as_of)
            assert frame.loc[account_id, ["state", "owner_email"]].tolist() == [state, owner]
            ended = None if pd.isna(frame.loc[account_id, "closed_at"]) else frame.loc[account_id, "closed_at"]
            assert ended == (None if state in ACTIVE else at)
            theirs = sorted((e for e in decided.values() if e.account_id == account_id), key=lambda e: e.decided_at)
            seen = [e.signals for e in theirs if e.task_as_of(as_of)]
            assert frame.loc[account_id, "signals"] == (seen[-1] if seen else [])
        load = self.ledger.rep_load(as_of).set_index("owner_email")
        for rep in REPS:
            theirs = [e for e in decided.values() if e.as_of(as_of)[2] == rep]
            assert (rep in load.index) == bool(theirs)
            if theirs:
                opened = sum(e.as_of(as_of)[0] in ACTIVE for e in theirs)
                recent = sorted(e.decided_at for e in theirs if as_of - e.decided_at <= RECENT)
                assert load.loc[rep, ["open", "recent"]].tolist() == [opened, recent]


def test_the_ledger_behaves_as_its_model(sqlite_template: Path) -> None:
    Machine.template = sqlite_template
    run_state_machine_as_test(
        Machine, settings=settings(max_examples=15, stateful_step_count=25, deadline=None, derandomize=True)
    )
