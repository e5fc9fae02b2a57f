"""The rules over weeks of runs: real code, a company whose truth is known, an oracle that goes by the truth alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from onetouch.catalogue import MOMENTS, SIGNAL_NAMES
from onetouch.delivery import deliver
from onetouch.lake import Lake
from onetouch.ledger import Ledger
from onetouch.policy import read_policy
from onetouch.routing import RULES
from onetouch.signals import CRM, SNAPSHOT, compute

from judges.year.company import DAY, LIMIT, NEVER, SLOT, Company, Size, microseconds, moment
from judges.year.year import START, Year, policies

# So runs come at every hour of the day that runs have; every six hours would cost seven times as much.
EVERY = timedelta(hours=42)

HURRIED = {
    "routing__cooldown_days": 9, "handoff__silence_days": 3, "value__floor": 1000, "gates__icp__min_employees": None,
    "assignment__tasks_per_rep_per_day": 2,
}  # fmt: skip
"""The policy's long waits cut to days, so that an account may come back within the test; and more accounts to call."""


def year(
    home: Path,
    days: int,
    accounts: int,
    tasks_per_day: int = 200,
    every: timedelta = EVERY,
    policy: dict[str, Any] | None = None,
    **more: Any,
) -> Year:
    change = {**HURRIED, "assignment__tasks_per_day": tasks_per_day, **(policy or {})}
    size = Size(accounts, days, reps=8)
    return Year(home, size, [(day, policy.changed(**change)) for day, policy in policies(size)], every=every, **more)


@contextmanager
def without(name: str) -> Iterator[None]:
    """The rules with one that never applies."""
    [rule] = [one for one in RULES if one.name == name]
    applies = rule.applies
    object.__setattr__(rule, "applies", lambda facts, policy: np.zeros(len(facts), dtype=bool))
    try:
        yield
    finally:
        object.__setattr__(rule, "applies", applies)


def test_weeks_of_runs_break_no_promise_and_can_be_replayed(tmp_path: Path) -> None:
    lived = year(tmp_path, days=38, accounts=700, tasks_per_day=4, sampled=3, provoked=0.25)
    figures, oracle = lived.live(), lived.oracle
    assert not oracle.counted, dict(oracle.violations)
    assert not oracle.wrong_signals
    # There was something to look at: tasks of every fate, checkouts at the worst moments, full days, accounts back.
    assert figures.runs == 21 and figures.delivered > 30 and figures.withdrawn > 0 and figures.waits, figures
    assert figures.withheld["checkout"] > 0 and {"expired", "released", "withdrawn"} <= set(lived.ends())
    assert {"hold_cooldown", "hold_touched", "hold_converting", "hold_context", "monitor"} <= set(figures.actions)
    assert any(len(tasks) > 1 for tasks in oracle.tasks.values()), "no account came back: the cooldown was never tried"
    made, different = lived.replayed(60)
    assert made == 60 and different.empty, different.head().to_dict("records")


def test_the_oracle_sees_that_nobody_looked_again_before_writing(tmp_path: Path) -> None:
    lived = year(tmp_path, days=2, accounts=1000, provoked=0.6, looks_again=False)
    lived.live()
    assert lived.oracle.counted[1] and set(lived.oracle.counted) == {1}, dict(lived.oracle.violations)


def test_the_oracle_sees_a_task_that_stays_open_while_the_customer_buys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "withdraw_overtaken", lambda lake, ledger, run, crm: (0, {}))
    lived = year(tmp_path, days=3, accounts=2000, provoked=0.6, every=timedelta(hours=6))
    lived.live()
    assert lived.oracle.counted[1] and set(lived.oracle.counted) == {1}, dict(lived.oracle.violations)


def test_the_oracle_sees_a_task_without_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliver, "missing_context", lambda signals_row, policy: [])  # delivery looks at it once more
    lived = year(tmp_path, days=2, accounts=2000)
    with without("never without context"):
        lived.live()
    assert lived.oracle.counted[2] and set(lived.oracle.counted) == {2}, dict(lived.oracle.violations)


def test_the_oracle_sees_an_account_that_comes_back_too_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opens = Ledger.open_handoffs  # which keeps to the cooldown, too
    monkeypatch.setattr(
        Ledger, "open_handoffs", lambda self, decisions, run, rows, knew: opens(self, decisions, run, rows)
    )
    lived = year(tmp_path, days=6, accounts=500)
    with without("cooldown"):
        lived.live()
    assert lived.oracle.counted[3] and set(lived.oracle.counted) == {3}, dict(lived.oracle.violations)


@pytest.mark.parametrize("told", [True, False])
def test_the_oracle_sees_a_call_after_a_deal_that_has_just_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    lived = year(tmp_path, days=6, accounts=400)
    for account in lived.crm.place.values():
        lived.crm._opens(account, "005000000000999", microseconds(START + timedelta(hours=6)), won=False)
    if not told:
        monkeypatch.setattr(lived.crm, "closed_deals", lambda: np.full(400, -1))
    lived.live()
    assert set(lived.oracle.counted) == (set() if told else {1}), dict(lived.oracle.violations)


def test_the_oracle_sees_more_tasks_than_a_rep_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliver, "beyond_the_reps_days", lambda lake, ledger, policy, run, new: set())
    lived = year(tmp_path, days=2, accounts=1000)
    with without("capacity"):
        lived.live()
    assert lived.oracle.counted[9] and set(lived.oracle.counted) == {9}, dict(lived.oracle.violations)


def test_a_jump_beyond_the_daily_cap_stops_the_run_and_all_is_accounted_for(tmp_path: Path) -> None:
    lived = year(tmp_path, days=2, accounts=1000, tasks_per_day=3, policy={"assignment__beyond_the_day": "stop"})
    figures = lived.live()
    assert figures.stopped == 1 and figures.to_send == figures.withheld["daily cap"] > 3
    assert not lived.crm.by_handoff and not lived.oracle.counted, dict(lived.oracle.violations)


# ── The company's figures are those that the product would compute from its events ───────────────────────────────────

UNLIKE = {"features_used"}  # how many features an account knows is simulated, not on which day it uses which


def test_the_company_counts_as_signals_do(tmp_path: Path) -> None:
    size, as_of = Size(40, 5, 2), START + timedelta(days=3, hours=12)
    policy = read_policy().changed(signals__seats_used="events")  # its customers have no more users than seats
    company = Company(size, START)
    company.basis = np.full(size.accounts, "group")  # its lone persons have several users, which no event can say
    reps = pd.DataFrame(
        {"owner_id": ["005A", "005B"], "email": ["a@v.example", "b@v.example"], "active": [True, False]}
    )
    ours = company.signals(as_of, policy, reps, np.zeros(size.accounts), np.full(size.accounts, -1))
    lake = Lake(tmp_path)
    for day, rows in events(company).groupby("day"):
        lake.write(rows.drop(columns="day"), "events", f"event_date={day}", "b1.parquet")
    snapshot = ours.select([*SNAPSHOT, *CRM]).to_pandas()
    theirs, _ = compute(lake, policy, snapshot, as_of)
    assert set(ours.schema) == set(theirs.schema)
    here, there = (table.to_pandas().set_index("account_id").sort_index() for table in (ours, theirs))
    assert here.index.tolist() == there.index.tolist()
    for name in sorted(set(SIGNAL_NAMES) - UNLIKE):
        np.testing.assert_allclose(here[name], there[name], err_msg=name)
    for name in ["checkout_state", "trend", "account_basis", "first_seen_at", *(f"{name}_at" for name in MOMENTS)]:
        assert here[name].astype(str).tolist() == there[name].astype(str).tolist(), name


def events(company: Company) -> pd.DataFrame:
    """What the customers did, one row an event, in the columns of `events/` and the date as `day`."""
    rows: list[tuple[int, str, int, str | None, dict[str, Any], int]] = []  # at, event, account, user, properties, lag
    for day, user in zip(*np.nonzero(company.active), strict=True):
        account = int(company.user_account[user])
        begins = company.begin + int(day) * DAY + int(company.user_slot[user]) * SLOT
        names = ["feature_used"] * int(company.pace[user])
        if company.developer[account]:
            names[0] = "api_called"
        if len(names) > 1:
            names[-1] = "session_started"
        rows += [(begins + n, name, account, f"u{user}", {}, 0) for n, name in enumerate(names)]
    for name, (at, who) in company.events.items():
        more = {"integration_connected": "integration", "limit_reached": "limit"}
        detail = more.get(name, "feature")
        rows += [
            (int(t), name, int(a), None, {detail: str(n), "completion": 100}, 0)
            for n, (t, a) in enumerate(zip(at, who, strict=True))
        ]
    for begun in (checkout for theirs in company.checkouts.values() for checkout in theirs):
        rows.append((begun.start, "checkout_started", begun.account, None, {}, begun.lag))
        if begun.end < NEVER:
            ends = ["checkout_completed", "plan_upgraded"] if begun.completed else ["checkout_abandoned"]
            rows += [(begun.end, name, begun.account, None, {}, begun.lag) for name in ends]
    for day, account in zip(*np.nonzero(company.used >= 0), strict=True):
        read = {"limit": LIMIT, "used": int(company.used[day, account])}
        rows.append((company.begin + int(day) * DAY, "usage_recorded", int(account), None, read, 0))
    frame = pd.DataFrame(rows, columns=["at", "event", "account", "user_id", "properties", "lag"])
    occurred = pd.to_datetime(frame["at"], unit="us", utc=True).astype("datetime64[us, UTC]")
    received = pd.to_datetime(frame["at"] + frame["lag"], unit="us", utc=True).astype("datetime64[us, UTC]")
    return pd.DataFrame(
        {
            "event_id": [f"e{n}" for n in range(len(frame))],
            "source": "amplitude",
            "event": frame["event"],
            "occurred_at": occurred,
            "received_at": received,
            "user_id": frame["user_id"].astype("str"),
            "account_id": company.ids[frame["account"]],
            "account_basis": company.basis[frame["account"]],
            "email_domain": pd.Series(None, frame.index, dtype="str"),
            "properties": frame["properties"].map(json.dumps),
            "batch_id": "b1",
            # What is older than the lookback only has its first time: one file of it will do.
            "day": occurred.clip(lower=pd.Timestamp(moment(company.begin - DAY))).dt.strftime("%Y-%m-%d"),
        }
    )


def test_the_oracle_sees_an_opt_out_that_is_read_only_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the last look, opt-outs between decision and delivery are withheld; without it, the oracle tells."""
    kept = year(tmp_path / "kept", days=8, accounts=600, every=timedelta(hours=24))
    monkeypatch.setattr("judges.year.people.SHARE", 0.3)
    figures = kept.live()
    assert not kept.oracle.counted, dict(kept.oracle.violations)
    assert figures.opted_out and figures.withheld["never contact"] > 0 and figures.actions["hold_never_contact"] > 0
    whole = deliver._ask_again
    monkeypatch.setattr(deliver, "_ask_again", lambda *given: (whole(*given)[0], {}))
    lived = year(tmp_path / "lived", days=8, accounts=600, every=timedelta(hours=24))
    lived.live()
    assert set(lived.oracle.counted) == {11}, dict(lived.oracle.violations)
