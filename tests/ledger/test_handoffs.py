"""Handoffs: opened once, moved legally, seen by every run as they were."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from onetouch.ledger import IllegalMove, Ledger, NotInLedger, Run
from onetouch.policy import Policy

NINE = datetime(2025, 3, 5, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def nine(ledger: Ledger, policy: Policy) -> Run:
    return ledger.begin_run(NINE, policy, False)


def decision(account_id: str = "acme.com", **more: Any) -> dict[str, Any]:
    reasons = [{"signal": "users", "value": 4.0, "points": 5.0}, {"signal": "activated", "value": 1.0, "points": 10.0}]
    reasons.append({"signal": "events_7d", "value": 3.0, "points": 0.0})
    return {"account_id": account_id, "owner_email": "ann@x.com", "reasons": reasons, **more}


def to(ledger: Ledger, handoff_id: str, *states: str, at: datetime = NINE) -> None:
    for state in states:
        ledger.move(handoff_id, state, at)


def test_a_decision_is_opened_once(ledger: Ledger, nine: Run) -> None:
    given = decision(
        crm_account_id="001", decision_id="d1", owner_id="005", score=57.5, tier="high", potential_arr=12000.0,
        motion="sales_assist", due_at=NINE + 2 * HOUR, as_of=NINE,
    )  # fmt: skip
    handoff = ledger.open_handoff(given, nine)
    assert handoff is not None
    assert (handoff.state, handoff.episode, handoff.decided_at, handoff.active) == ("decided", 1, NINE, True)
    assert handoff.signals == ["activated", "users"]
    assert (handoff.score, handoff.potential_arr, handoff.due_at) == (57.5, 12000.0, NINE + 2 * HOUR)
    before = ledger.dump()
    assert ledger.open_handoff(given, nine) == handoff
    assert ledger.dump() == before
    assert ledger.handoffs() == [handoff]


def test_a_row_of_the_decisions_file_is_taken_as_it_is(ledger: Ledger, nine: Run) -> None:
    struct = pa.list_(pa.struct([("signal", pa.string()), ("value", pa.float64()), ("points", pa.float64())]))
    table = pa.table(
        {
            "account_id": ["a", "b"],
            "as_of": pa.array([NINE, NINE], pa.timestamp("us", "UTC")),
            "score": [50.5, None],
            "owner_id": pa.array([None, "005"]),
            "reasons": pa.array([[{"signal": "users", "value": 3.0, "points": 2.0}], None], struct),
            "due_at": pa.array([NINE + HOUR, None], pa.timestamp("us", "UTC")),
            "holdout": [False, True],
        }
    )
    first, second = ledger.open_handoffs(table.to_pandas().to_dict("records"), nine)
    assert first is not None and second is not None
    assert (first.score, first.owner_id, first.signals, first.due_at) == (50.5, None, ["users"], NINE + HOUR)
    assert (second.score, second.owner_id, second.signals, second.due_at) == (None, "005", [], None)
    assert ledger.handoffs(account_ids=["a"]) == [first]


def test_an_account_in_hand_is_not_handed_over_again(ledger: Ledger, nine: Run, policy: Policy) -> None:
    ledger.open_handoff(decision(), nine)
    ten = ledger.begin_run(NINE + HOUR, policy, False)
    before = ledger.dump()
    assert ledger.open_handoff(decision(), ten) is None
    assert ledger.dump() == before


def test_an_account_comes_back_as_its_next_episode(ledger: Ledger, nine: Run, policy: Policy) -> None:
    first = ledger.open_handoff(decision(), nine)
    assert first is not None
    to(ledger, first.handoff_id, "expired", at=NINE + HOUR)
    second = ledger.open_handoff(decision(), ledger.begin_run(NINE + 2 * HOUR, policy, False))
    assert second is not None
    assert (second.episode, second.handoff_id != first.handoff_id) == (2, True)
    again = ledger.open_handoff(decision(), nine)  # the first run done over finds its own
    assert again is not None and again.handoff_id == first.handoff_id
    assert len(ledger.handoffs()) == 2


def test_an_old_run_opens_nothing_behind_newer_ones(ledger: Ledger, nine: Run, policy: Policy) -> None:
    noon = ledger.begin_run(NINE + 3 * HOUR, policy, False)
    handoff = ledger.open_handoff(decision(), noon)
    assert handoff is not None
    to(ledger, handoff.handoff_id, "withdrawn", at=NINE + 5 * HOUR)
    assert ledger.open_handoff(decision(), nine) is None  # decided before the one that is there
    assert ledger.open_handoff(decision(), ledger.begin_run(NINE + 4 * HOUR, policy, False)) is None  # in hand then
    assert ledger.open_handoff(decision(), ledger.begin_run(NINE + 5 * HOUR, policy, False)) is not None


def test_many_are_opened_at_once_all_or_none(ledger: Ledger, nine: Run) -> None:
    accounts = [f"account-{i}" for i in range(1500)]
    ledger.open_handoff(decision("account-7"), nine)
    opened = ledger.open_handoffs([decision(a) for a in accounts], nine)
    assert [h.account_id for h in opened if h] == accounts
    assert len(ledger.handoffs(account_ids=accounts)) == 1500
    before = ledger.dump()
    with pytest.raises(ValueError, match="without account_id"):
        ledger.open_handoffs([decision("new"), decision("")], nine)
    assert ledger.dump() == before
    twice = ledger.open_handoffs([decision("twin"), decision("twin")], nine)
    assert twice[0] == twice[1]


@pytest.mark.parametrize("account_id", ["", None, float("nan"), "a\x00b", "a\ud800", "a" * 256])
def test_an_account_without_a_proper_id_is_refused(ledger: Ledger, nine: Run, account_id: object) -> None:
    with pytest.raises(ValueError, match="account_id"):
        ledger.open_handoff({"account_id": account_id}, nine)


def test_odd_text_is_kept_as_far_as_a_database_can(ledger: Ledger, nine: Run) -> None:
    account_id = "it's;--\"%(x)s:y\u202eé\U0001f600"
    handoff = ledger.open_handoff(decision(account_id, owner_email="a\x00n\ud800n@x.com"), nine)
    assert handoff is not None
    moved = ledger.move(handoff.handoff_id, "withdrawn", NINE, "because\x00 of: 100% \ud83d")
    assert (moved.account_id, moved.owner_email, moved.reason) == (account_id, "ann@x.com", "because of: 100% ")
    assert ledger.handoffs(account_ids=[account_id]) == [moved]


def test_a_dry_run_and_a_decision_of_another_run_open_nothing(ledger: Ledger, nine: Run, policy: Policy) -> None:
    with pytest.raises(ValueError, match="dry run"):
        ledger.open_handoff(decision(), ledger.begin_run(NINE, policy, True))
    with pytest.raises(ValueError, match="take its own run"):
        ledger.open_handoff(decision(as_of=NINE + HOUR), nine)
    with pytest.raises(NotInLedger):
        ledger.open_handoff(decision(), Run("unknown", NINE, "p", False))
    assert ledger.handoffs() == []


def test_a_move_keeps_what_was_learned(ledger: Ledger, nine: Run) -> None:
    handoff = ledger.open_handoff(decision(), nine)
    assert handoff is not None
    ledger.move(handoff.handoff_id, "context_written", NINE)
    ledger.move(handoff.handoff_id, "task_open", NINE, task_id="00T1", owner_id=None)
    touched_at = NINE + HOUR / 2
    ledger.move(handoff.handoff_id, "touched", NINE + HOUR, touched_at=pd.Timestamp(touched_at), task_id=np.nan)
    ledger.move(handoff.handoff_id, "replied", NINE + 2 * HOUR)
    won = ledger.move(handoff.handoff_id, "won", NINE + 3 * HOUR, "closed won")
    assert (won.task_id, won.touched_at, won.replied_at) == ("00T1", touched_at, NINE + 2 * HOUR)
    assert (won.state, won.closed_at, won.reason, won.active) == ("won", NINE + 3 * HOUR, "closed won", False)
    moves = ledger.moves([handoff.handoff_id])
    assert moves["to_state"].tolist() == ["decided", "context_written", "task_open", "touched", "replied", "won"]
    assert moves["from_state"].tolist()[1:] == moves["to_state"].tolist()[:-1]


def test_a_move_told_again_changes_nothing(ledger: Ledger, nine: Run) -> None:
    handoff = ledger.open_handoff(decision(), nine)
    assert handoff is not None
    to(ledger, handoff.handoff_id, "context_written", "task_open")
    before = ledger.dump()
    assert ledger.move(handoff.handoff_id, "task_open", NINE + HOUR, "again", task_id="x").state == "task_open"
    assert ledger.move(handoff.handoff_id, "context_written", NINE).state == "task_open"  # a stage done over
    assert ledger.dump() == before


def test_what_is_not_a_move_is_refused_and_nothing_changes(ledger: Ledger, nine: Run) -> None:
    handoff = ledger.open_handoff(decision(), nine)
    assert handoff is not None
    to(ledger, handoff.handoff_id, "context_written", "task_open", "touched", "replied")
    before = ledger.dump()
    with pytest.raises(IllegalMove, match="replied → released is not a legal move; allowed: lost, withdrawn, won"):
        ledger.move(handoff.handoff_id, "released", NINE)
    with pytest.raises(IllegalMove):
        ledger.move(handoff.handoff_id, "task_open", NINE + HOUR)  # back: not what was told before
    with pytest.raises(NotInLedger):
        ledger.move("no-such", "won", NINE)
    with pytest.raises(ValueError, match="not a state"):
        ledger.move(handoff.handoff_id, "sold", NINE)
    with pytest.raises(ValueError, match="cannot tell state"):
        ledger.move(handoff.handoff_id, "won", NINE, state="lost")
    with pytest.raises(ValueError, match="cannot tell touched_at"):
        ledger.move(handoff.handoff_id, "won", NINE, touched_at=NINE)
    with pytest.raises(IllegalMove):  # all or none
        moves = [{"handoff_id": handoff.handoff_id, "to_state": state, "at": NINE} for state in ("won", "lost")]
        ledger.move_all(moves)
    assert ledger.dump() == before


def test_many_are_moved_at_once_in_order(ledger: Ledger, nine: Run) -> None:
    ids = [h.handoff_id for h in ledger.open_handoffs([decision(f"a{i}") for i in range(60)], nine) if h]
    states = ("context_written", "task_open")
    rows = [{"handoff_id": i, "to_state": s, "at": NINE, "task_id": f"T{i}"} for i in ids for s in states]
    assert {h.state for h in ledger.move_all(rows)} == {"task_open"}
    assert {(h.handoff_id, h.task_id) for h in ledger.handoffs(states=["task_open"])} == {(i, f"T{i}") for i in ids}


def test_handoffs_are_found_by_state_account_and_run(ledger: Ledger, nine: Run, policy: Policy) -> None:
    a, b = ledger.open_handoffs([decision("a"), decision("b")], nine)
    ten = ledger.begin_run(NINE + HOUR, policy, False)
    c = ledger.open_handoff(decision("c"), ten)
    assert a and b and c
    to(ledger, b.handoff_id, "withdrawn")

    def found(**by: Any) -> list[str]:
        return [h.account_id for h in ledger.handoffs(**by)]

    assert sorted(found()) == ["a", "b", "c"]
    assert found(states=["withdrawn"]) == ["b"]
    assert found(run_id=ten.run_id) == ["c"]
    assert sorted(found(account_ids=["a", "b", "x"])) == ["a", "b"]
    assert found(account_ids=["a", "b"], states=["decided"]) == ["a"]
    assert found(account_ids=[]) == []


def test_the_frame_shows_what_was_known_then(ledger: Ledger, nine: Run, policy: Policy) -> None:
    acme = ledger.open_handoff(decision("acme"), nine)
    ledger.open_handoff(decision("later"), ledger.begin_run(NINE + 2 * HOUR, policy, False))
    assert acme is not None
    to(ledger, acme.handoff_id, "context_written", "task_open")
    ten_thirty, noon = NINE + 1.5 * HOUR, NINE + 3 * HOUR
    ledger.move(acme.handoff_id, "touched", ten_thirty, as_of=noon)  # it happened at 10:30; the noon run learned of it
    ledger.move(acme.handoff_id, "released", NINE + 8 * HOUR, "no response", owner_email="bob@x.com")

    assert ledger.handoff_frame(NINE).empty  # strictly before
    eleven = ledger.handoff_frame(NINE + 2 * HOUR)
    assert eleven["account_id"].tolist() == ["acme"]
    assert eleven.loc[0, ["state", "owner_email"]].tolist() == ["task_open", "ann@x.com"]
    assert eleven[["touched_at", "closed_at"]].isna().all(axis=None)
    at_noon = ledger.handoff_frame(noon)
    assert at_noon["account_id"].tolist() == ["acme", "later"]
    assert at_noon.loc[0, ["state", "touched_at"]].tolist() == ["touched", pd.Timestamp(ten_thirty)]
    assert pd.isna(at_noon.loc[0, "closed_at"])
    evening = ledger.handoff_frame(NINE + 8 * HOUR)
    row = evening.loc[0, ["state", "touched_at", "closed_at", "owner_email"]].tolist()
    assert row == ["released", pd.Timestamp(ten_thirty), pd.Timestamp(NINE + 8 * HOUR), "bob@x.com"]
    assert evening.loc[0, "signals"] == ["activated", "users"]


def test_the_frame_shows_the_latest_episode_as_of_then(ledger: Ledger, nine: Run, policy: Policy) -> None:
    first = ledger.open_handoff(decision(), nine)
    assert first is not None
    to(ledger, first.handoff_id, "expired", at=NINE + HOUR)
    ten = ledger.begin_run(NINE + HOUR, policy, False)
    second = ledger.open_handoff(decision(), ten)
    assert second is not None
    assert ledger.handoff_frame(NINE + HOUR)[["episode", "state"]].values.tolist() == [[1, "expired"]]
    assert ledger.handoff_frame(NINE + 2 * HOUR)[["episode", "run_id"]].values.tolist() == [[2, ten.run_id]]


def test_the_crms_side_of_a_handoff_may_change(ledger: Ledger, nine: Run) -> None:
    known = ledger.open_handoff(decision("known") | {"crm_account_id": "001A"}, nine)
    unknown = ledger.open_handoff(decision("unknown"), nine)
    assert known and unknown
    ledger.link({known.handoff_id: "001X", unknown.handoff_id: "001B"})
    assert {h.account_id: h.crm_account_id for h in ledger.handoffs()} == {"known": "001A", "unknown": "001B"}
    assert ledger.relink({"001A": "001B", "001C": "001D"}) == 1
    assert {h.crm_account_id for h in ledger.handoffs()} == {"001B"}
    ledger.reassign(known.handoff_id, "005B", "bob@x.com")
    moved = ledger.move(known.handoff_id, "context_written", NINE)
    assert (moved.owner_id, moved.owner_email) == ("005B", "bob@x.com")
    assert ledger.moves([known.handoff_id])["owner_email"].tolist() == ["ann@x.com", "bob@x.com"]


def test_the_signals_are_those_a_rep_last_had_a_task_for(ledger: Ledger, policy: Policy) -> None:
    """A handoff withheld at the pre-send recheck was acted on by nobody: what is new is counted from the one before."""
    for day, signal, states in [
        (0, "demo_requests", ("context_written", "task_open", "expired")),
        (90, "premium_attempts", ("withdrawn",)),
    ]:
        run = ledger.begin_run(NINE + day * 24 * HOUR, policy, False)
        one = ledger.open_handoff(decision() | {"reasons": [{"signal": signal, "points": 10}]}, run)
        assert one is not None
        to(ledger, one.handoff_id, *states, at=run.as_of)
    assert ledger.handoff_frame(NINE).empty
    later = ledger.handoff_frame(NINE + 180 * 24 * HOUR)
    assert later[["episode", "state", "signals"]].values.tolist() == [[2, "withdrawn", ["demo_requests"]]]


def test_frames_have_the_same_types_full_or_empty(ledger: Ledger, nine: Run) -> None:
    empty = [ledger.handoff_frame(NINE), ledger.rep_load(NINE), ledger.touches(), ledger.moves()]
    ledger.open_handoff(decision(), nine)
    ledger.record_touches([{"touch_id": "t", "account_id": "acme.com", "at": NINE}])
    full = [ledger.handoff_frame(NINE + HOUR), ledger.rep_load(NINE + HOUR), ledger.touches(), ledger.moves()]
    for without, rows in zip(empty, full, strict=True):
        assert len(without) == 0 and len(rows) == 1
        pd.testing.assert_series_equal(without.dtypes, rows.dtypes)
    assert str(full[0]["decided_at"].dtype) == "datetime64[us, UTC]"


def test_rep_load_counts_open_and_lists_recent_ones(ledger: Ledger, policy: Policy) -> None:
    late = datetime(2025, 3, 4, 23, tzinfo=UTC)
    runs = [ledger.begin_run(moment, policy, False) for moment in (late, NINE, NINE + HOUR)]
    opened = [ledger.open_handoff(decision(f"a{i}"), run) for i, run in enumerate(runs)]
    ledger.open_handoff(decision("b", owner_email="bob@x.com"), runs[1])
    ledger.open_handoff(decision("nobody", owner_email=None), runs[1])
    assert opened[0] and opened[1]
    to(ledger, opened[1].handoff_id, "withdrawn", at=NINE + HOUR / 2)
    load = ledger.rep_load(NINE + HOUR).set_index("owner_email")
    assert load.loc["ann@x.com", ["open", "recent"]].tolist() == [1, [late, NINE]]  # the one of nine is withdrawn
    assert load.loc["bob@x.com", ["open", "recent"]].tolist() == [1, [NINE]]
    assert load.loc["ann@x.com", "last_assigned_at"] == pd.Timestamp(NINE)
    assert len(load) == 2
    assert ledger.rep_load(NINE).set_index("owner_email")["open"].to_dict() == {"ann@x.com": 1}
    assert ledger.rep_load(NINE)["recent"].tolist() == [[late]]
    assert ledger.rep_load(late + timedelta(days=7)).loc[0, "recent"] == [late, NINE, NINE + HOUR]
    assert ledger.rep_load(late + timedelta(days=7, seconds=1)).loc[0, "recent"] == [NINE, NINE + HOUR]
    assert ledger.rep_load(NINE + timedelta(days=9)).loc[0, ["open", "recent"]].tolist() == [2, []]
    assert ledger.rep_load(NINE + 2 * HOUR).set_index("owner_email").loc["ann@x.com", "open"] == 2


def test_load_follows_the_task_to_its_new_owner(ledger: Ledger, nine: Run) -> None:
    handoff = ledger.open_handoff(decision(), nine)
    assert handoff is not None
    ledger.move(handoff.handoff_id, "context_written", NINE + 2 * HOUR, owner_email="bob@x.com", owner_id="005B")
    assert ledger.rep_load(NINE + HOUR)["owner_email"].tolist() == ["ann@x.com"]
    assert ledger.rep_load(NINE + 2 * HOUR)["owner_email"].tolist() == ["bob@x.com"]


def test_an_account_under_a_former_id_is_found_under_todays(ledger: Ledger, nine: Run) -> None:
    ours = ledger.open_handoff(decision("u-1"), nine)
    other = ledger.open_handoff(decision("acme.com"), nine)
    assert ledger.rename_accounts({"u-1": "user:u-1", "u-2": "user:u-2"}) == 1
    assert ledger.rename_accounts({"u-1": "user:u-1"}) == 0
    assert [h.handoff_id for h in ledger.handoffs(account_ids=["user:u-1"])] == [ours.handoff_id]
    assert [h.handoff_id for h in ledger.handoffs(account_ids=["acme.com"])] == [other.handoff_id]
    assert ledger.handoffs(account_ids=["u-1"]) == []
