"""Daily activity: rebuilt only where events changed, and the same as if all of it had been."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
from onetouch.lake import Lake
from onetouch.policy import Policy, read_policy
from onetouch.signals import compute

POLICY = read_policy()
AS_OF = datetime(2025, 3, 10, 12, tzinfo=UTC)
NOBODY = pd.DataFrame({"account_id": []}, dtype="str")


def events_of(rng: random.Random, event: Callable[..., dict], n: int, days: int) -> list[dict[str, Any]]:
    names = ["feature_used", "report_created", "workspace_created", "data_imported", "api_called", "checkout_started"]
    return [
        event(
            AS_OF - timedelta(days=rng.randrange(days), minutes=rng.randrange(1, 60)),
            rng.choice(names), f"a{rng.randrange(4)}", f"u{rng.randrange(5)}", feature=rng.choice("xyz"),
        )
        for _ in range(n)
    ]  # fmt: skip


def test_only_touched_dates_are_rebuilt_and_it_equals_a_full_rebuild(
    tmp_path: Path, event: Callable, stage: Callable
) -> None:
    rng = random.Random(3)
    grown, fresh = Lake(tmp_path / "grown"), Lake(tmp_path / "fresh")
    first = events_of(rng, event, 60, days=30)
    stage(grown, first)
    dates = {e["occurred_at"].date() for e in first}
    assert compute(grown, POLICY, NOBODY, AS_OF)[1] == len(dates)
    assert compute(grown, POLICY, NOBODY, AS_OF)[1] == 0

    late = events_of(rng, event, 5, days=150)  # some of them older than the lookback
    stage(grown, late, batch="b2")
    incremental, rebuilt = compute(grown, POLICY, NOBODY, AS_OF)
    assert rebuilt == len({e["occurred_at"].date() for e in late})

    stage(fresh, first)
    stage(fresh, late, batch="b2")
    full, _ = compute(fresh, POLICY, NOBODY, AS_OF)
    assert incremental.equals(full)


def test_another_vocabulary_has_partitions_of_its_own(lake: Lake, event: Callable, stage: Callable) -> None:
    stage(lake, [event("2025-03-09T09:00:00", "report_created")])
    document = POLICY.document()
    document["vocabulary"]["report_created"] = {"as": "export_created"}
    other = Policy.model_validate(document)
    for policy, name in ((POLICY, "milestones_done"), (other, "exports"), (POLICY, "milestones_done")):
        table, rebuilt = compute(lake, policy, NOBODY, AS_OF)
        assert table.column(name).to_pylist() == [1]
    assert rebuilt == 0
    assert len(lake.list("activity")) == 2


def test_what_one_source_means_by_a_name_is_its_own(lake: Lake, event: Callable, stage: Callable) -> None:
    rows = [event(f"2025-03-09T09:0{n}:00", name) for n, name in enumerate(["Klick", "report_created"] * 2)]
    of_segment = [row | {"source": "segment"} for row in rows[:2]]
    stage(lake, [*of_segment, *rows[2:]])
    words = {"Klick": {"as": "feature_used", "detail_is": "maps"}, "report_created": "pricing_viewed"}
    settings = {"amplitude": {}, "segment": {"vocabulary": words}}
    policy = Policy.model_validate(POLICY.document() | {"sources": settings})
    table, _ = compute(lake, policy, NOBODY, AS_OF)
    [row] = table.to_pylist()
    assert (row["pricing_views"], row["milestones_done"], row["features_used"]) == (1, 1, 1)
    assert policy.vocabulary_version != POLICY.vocabulary_version


def test_a_broken_vocabulary_maps_nothing_and_every_account_without_known_events_is_none(
    lake: Lake, event: Callable, stage: Callable
) -> None:
    stage(lake, [event("2025-03-09T09:00:00", "never_heard_of_it")])
    assert compute(lake, POLICY, NOBODY, AS_OF)[0].num_rows == 0


def test_months_before_the_lookback_are_summed_up_once(lake: Lake, event: Callable, stage: Callable) -> None:
    stage(lake, [event("2024-08-09T09:00:00", "workspace_created"), event("2025-03-09T09:00:00", "data_imported")])
    assert compute(lake, POLICY, NOBODY, AS_OF)[1] == 2
    [month] = lake.list("history")
    lake.remove("activity", "event_date=2024-08-09")  # no longer needed
    table, rebuilt = compute(lake, POLICY, NOBODY, AS_OF + timedelta(hours=1))
    assert (table.column("milestones_done").to_pylist(), rebuilt) == ([2], 0)

    stage(lake, [event("2024-08-10T09:00:00", "report_created")], batch="late")
    table, rebuilt = compute(lake, POLICY, NOBODY, AS_OF + timedelta(hours=2))
    assert (table.column("activated").to_pylist(), lake.list("history")) == ([1], [month])


def test_events_in_two_files_of_one_hour_are_one_row(lake: Lake, event: Callable, stage: Callable) -> None:
    stage(lake, [event("2025-03-09T17:00:00", "feature_used", feature="x", email_domain="acme.com")])
    stage(lake, [event("2025-03-09T17:30:00", "feature_used", feature="x", email_domain="acme.com")], batch="b2")
    compute(lake, POLICY, NOBODY, AS_OF)
    [row] = pd.read_parquet(lake.list("activity")[0], partitioning=None).to_dict("records")
    assert (row["n"], row["n_15"], row["n_30"]) == (2, 1, 1)
    assert row["quarter"] * 900 == datetime(2025, 3, 9, 17, tzinfo=UTC).timestamp()
    assert (row["first_at"].minute, row["last_at"].minute, row["email_domain"]) == (0, 30, "acme.com")


def test_what_was_done_before_the_lookback_is_placed_as_well(lake: Lake, event: Callable, stage: Callable) -> None:
    """A person who moves within a month that is over: its days stay apart; later days of the same month go with it."""

    def alone(at: str, name: str, user: str) -> dict[str, Any]:
        return event(at, name, f"user:{user}", user, basis="personal")

    stage(
        lake,
        [
            event("2024-08-03T09:00:00", "never_heard_of_it", "acme", "u1"),
            alone("2024-08-04T09:00:00", "workspace_created", "u1"),
            event("2024-08-10T09:00:00", "never_heard_of_it", "beta", "u1"),
            alone("2024-08-12T09:00:00", "data_imported", "u1"),
            alone("2024-08-05T09:00:00", "report_created", "u2"),
            alone("2024-08-25T09:00:00", "data_imported", "u2"),
            event("2025-03-09T09:00:00", "session_started", "gamma", "u2"),
        ],
    )
    for as_of in (AS_OF, AS_OF + timedelta(hours=1)):
        table, _ = compute(lake, POLICY, NOBODY, as_of)
        rows = {row["account_id"]: row["milestones_done_list"] for row in table.to_pylist()}
        assert {account: sorted(done) for account, done in rows.items()} == {
            "acme": ["workspace_created"], "beta": ["data_imported"], "gamma": ["data_imported", "report_created"],
        }  # fmt: skip
    assert len(lake.list("history")) == 1


def test_a_persons_checkout_holds_each_of_its_accounts(lake: Lake, event: Callable, stage: Callable) -> None:
    at = AS_OF - timedelta(hours=1)
    stage(
        lake,
        [
            event("2025-03-01T09:00:00", "session_started", "acme", "u1"),
            event("2025-03-05T09:00:00", "session_started", "beta", "u1"),
            event("2025-03-05T09:00:00", "session_started", "other", "u2"),
            event(at, "checkout_started", "user:u1", "u1", basis="personal"),
        ],
    )
    table, _ = compute(lake, POLICY, NOBODY, AS_OF)
    states = {row["account_id"]: row["checkout_state"] for row in table.to_pylist()}
    assert states == {"acme": "started", "beta": "started", "other": "none"}
