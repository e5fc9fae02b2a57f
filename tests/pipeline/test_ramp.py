"""Going live on a company with history: shadow days, then a ramp, so that the first hour is no flood."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from onetouch import stages
from onetouch.connections import from_environment
from onetouch.workspace import Workspace, open_workspace

from tests.pipeline.world import AS_OF, World

RAMP = [1, 2]
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


def opened(world: World, ramp: list[int]) -> Workspace:
    policy = world.home.parent / "ramp.yaml"
    policy.write_text(f"delivery: {{ramp: {ramp}}}\n")
    return open_workspace(
        world.home,
        policy,
        exports=world.exports,
        connection=lambda name: from_environment(name, world.environment),
        environ=world.environment,
    )


def lived(world: World, workspace: Workspace, at: datetime, *, dry_run: bool = False) -> dict[str, Any]:
    """A run of that moment: how many were called and waited by its decisions, and how many tasks it delivered."""
    world.clock(at)
    run_id = stages.run_all(workspace, at, at, dry_run=dry_run)
    told = workspace.ledger.stage_summaries(run_id)
    actions = Counter(told["route"]["decisions"])
    return {
        "called": actions["sales_now"],
        "waiting": told["route"].get("waiting", {}).get("day", 0),
        "delivered": told["deliver_tasks"]["delivered"],
    }


@pytest.mark.timeout(900)
def test_the_first_days_are_no_flood_and_the_rest_waits_in_line(make_world: Callable[[str], World]) -> None:
    world = make_world("ramp")
    live = AS_OF - DAY
    shadow = lived(world, opened(world, []), live - HOUR, dry_run=True)
    assert (shadow["delivered"], world.open_tasks()) == (0, [])
    assert shadow["called"] > sum(RAMP), "without history there would be nothing to spread"

    workspace = opened(world, RAMP)
    first = lived(world, workspace, live)
    # The CRM of this company is that of a day later: what began there meanwhile may withhold one of them.
    assert first["called"] == RAMP[0] >= first["delivered"] > 0
    assert first["waiting"] >= shadow["called"] - RAMP[0] - 2
    again = lived(world, workspace, live + HOUR)
    assert (again["called"], again["delivered"]) == (0, 0), "the day's number counts for the day, not for the hour"
    second = lived(world, workspace, AS_OF)
    assert (second["called"], second["delivered"]) == (RAMP[1], RAMP[1])
    assert len(world.open_tasks()) == first["delivered"] + RAMP[1]


def test_after_the_ramp_the_policys_number_counts() -> None:
    from onetouch.policy import read_policy
    from onetouch.routing import tasks_of_the_day

    policy = read_policy().changed(delivery__ramp=[5, 10, 500], assignment__tasks_per_day=200)
    live = datetime.fromisoformat("2026-03-02T23:30:00+00:00")
    cases = {None: 5, live - DAY: 10, live - 2 * DAY: 200, live - 3 * DAY: 200, live - 400 * DAY: 200}
    assert {first: tasks_of_the_day(policy, first, live) for first in cases} == cases
    assert tasks_of_the_day(policy, live, live + HOUR) == 10, "days are those of UTC"
    assert tasks_of_the_day(read_policy(), None, live) == 200


def test_a_ramp_that_would_stop_the_first_day_is_refused() -> None:
    from onetouch.policy import read_policy

    with pytest.raises(ValueError, match="delivery.ramp: with assignment.beyond_the_day: stop"):
        read_policy().changed(delivery__ramp=[5], assignment__beyond_the_day="stop")
