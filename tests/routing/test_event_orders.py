"""Whatever happened in the product and however its events arrive: the rules hold through the real pipeline."""

from __future__ import annotations

import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pandas as pd
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from onetouch.policy import read_policy
from onetouch.routing import Inputs, decide
from onetouch.scoring import score_frame
from onetouch.signals import compute

from tests.events.stager import AS_OF, RECEIVED, Stager
from tests.routing.world import handoffs, load, previous, touches, users
from tests.sources.answers import event

POLICY = read_policy()
ACCOUNTS = [f"org{n:02}" for n in range(40)]
STEPS = ("checkout_started", "checkout_completed", "checkout_abandoned", "plan_upgraded")
Row = tuple[str, str, datetime]  # account, event, when


def life(random: Random, account: str) -> list[Row]:
    """A team that is worth a call, but for what it left out; and checkouts at any moment."""
    today = AS_OF.replace(hour=8)
    rows = [(account, "session_started", today - timedelta(days=n)) for n in range(random.choice([3, 11, 13]))]
    rows += [(account, name, today - timedelta(days=9)) for name in POLICY.product.activation if random.random() < 0.9]
    for name in ("pricing_viewed", "teammate_invited", "premium_feature_attempted", "demo_requested"):
        rows += [(account, name, today - timedelta(days=random.randint(0, 12)))] * random.choice([0, 1, 2])
    if random.random() < 0.5:
        hours = (0, 1, 23.5, 24, 24.5, 47, 71, 72, 73, 96)
        steps = [(random.choice(STEPS), AS_OF - timedelta(hours=random.choice(hours), seconds=1)) for _ in range(3)]
        rows += [(account, name, at) for name, at in steps]
    return rows


def answers(rows: list[Row]) -> list[dict[str, Any]]:
    """The rows as the vendor sends them, by two users of each account."""
    return [
        event(number, event_type=name, event_time=f"{at:%Y-%m-%d %H:%M:%S.%f}", user_id=f"{account}-{number % 2}",
              groups={"organisation": [account]}, event_properties={"feature": "sso"},
              server_upload_time=f"{AS_OF - timedelta(minutes=30):%Y-%m-%d %H:%M:%S.%f}")
        for number, (account, name, at) in enumerate(rows, 1)
    ]  # fmt: skip


def decided(rows: list[list[dict[str, Any]]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Signals and decisions of a company whose events arrived in these files."""
    with tempfile.TemporaryDirectory() as home:
        stager = Stager(Path(home))
        for number, file in enumerate(rows):
            stager.receive(file, name=f"f{number}.zip", hour=RECEIVED + number * timedelta(hours=1))
        stager.stage()
        names = [f"Company {account}" for account in ACCOUNTS]
        domains = [f"{account}.example" for account in ACCOUNTS]
        snapshot = pd.DataFrame({"account_id": ACCOUNTS, "name": names, "domain": domains, "employees": 200})
        signals = compute(stager.lake, POLICY, snapshot, AS_OF)[0].to_pandas()
    inputs = Inputs(
        signals, score_frame(signals, POLICY, AS_OF), handoffs(), load(), users("ana@v.com", "ben@v.com", "cleo@v.com"),
        touches(), previous(),
    )  # fmt: skip
    return signals, decide(inputs, POLICY, AS_OF)


def buying(rows: list[Row]) -> bool:
    """Whether a checkout may be in progress: rather too often than too seldom."""
    steps = sorted((at, name) for _, name, at in rows if name in STEPS)
    started = [at for at, name in steps if name == "checkout_started"]
    if not started or AS_OF - started[-1] >= timedelta(hours=72):
        return False
    since = [(at, name) for at, name in steps if at >= started[-1]]
    if any(name in ("checkout_completed", "plan_upgraded") for _, name in since):
        return False
    left = [at for at, name in since if name == "checkout_abandoned" and at > started[-1]]
    return not any(AS_OF - at >= timedelta(hours=24) for at in left)


@settings(max_examples=1, phases=[Phase.generate])
@given(st.integers(0, 2**32))
def test_the_guards_hold_and_the_order_of_arrival_changes_nothing(seed: int) -> None:
    random = Random(seed)
    lives = {account: life(random, account) for account in ACCOUNTS}
    sent = answers([row for rows in lives.values() for row in rows])
    signals, got = decided([sent])
    late = random.sample(sent, k=len(sent)) + random.sample(sent, k=20)
    cut = random.randint(1, len(late) - 1)
    other_signals, other = decided([late[:cut], late[cut:]])
    pd.testing.assert_frame_equal(signals, other_signals)
    pd.testing.assert_frame_equal(got, other)

    called = got.set_index("account_id")["action"].isin(["sales_now"])
    assert called.any()
    for account, rows in lives.items():
        if called[account]:
            done = {name for _, name, _ in rows}
            assert not buying(rows)
            assert set(POLICY.product.activation) <= done
            assert len({at.date() for _, _, at in rows}) >= 5
            assert done & {"pricing_viewed", "premium_feature_attempted", "demo_requested", "checkout_abandoned"}
