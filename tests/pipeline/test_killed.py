"""Guarantees 3 and 4: kill the pipeline's process anywhere, run again, and nobody can tell."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.pipeline.world import AS_OF, Pipeline, World

SHORT, ALL = 2, 10
"""Points of death in `make test`, and in `make test-all`."""


def seen_outside(world: World) -> dict[str, Any]:
    """What the CRM and the channels show people, without the stand-in's own numbering."""
    state = world.state()
    tasks = {t["Onetouch_Handoff_Id__c"]: t for t in state["tasks"] if t["Onetouch_Handoff_Id__c"]}
    return {
        "number of tasks": len(state["tasks"]),
        "tasks": {
            key: (t["Subject"], t["Description"], t["Status"], t["owner"], t["ActivityDate"], t["account"])
            for key, t in tasks.items()
        },
        "standings": world.standings(),
        "audience": {**(told := world.audience()), "requests": [{**r, "times": 1} for r in told["requests"]]},
        "posts": sorted((p["channel"], p["text"], str(p.get("metadata"))) for p in state["posts"]),
    }


def ledger_of(world: World) -> dict[str, Any]:
    """The whole ledger; the path of the home, which Data Docs name, and the address of CRM and chat are of each world.

    Of the records of the CRM it says how many joined, not by which way: a record that joined by its domain joins by the
    product's id once its account's context was written. Of the outbox it leaves out what a death may rightly change:
    how often a row was tried, and the order in which alerts were posted, which is their id in Slack.
    """
    text = json.dumps(world.workspace().ledger.dump(), default=str).replace(str(world.home), "HOME")
    tables = json.loads(re.sub(r"http://127\.0\.0\.1:\d+", "OUTSIDE", text))
    for row in tables["stages"]:
        if row["stage"] == "build_signals":
            row["summary"]["records"]["joined"] = sum(row["summary"]["records"]["joined"].values())
    for row in tables["outbox"]:
        row.pop("attempts")
        if row["kind"] == "alert":
            row["external_id"] = row["external_id"] and row["external_id"].partition(":")[0]
        if row["kind"] == "alert_link":
            row["external_id"] = row["external_id"] and row["external_id"].partition("#")[0]
    tables["outbox"].sort(key=lambda row: row["key"])
    return tables


@pytest.mark.timeout(900)  # up to twenty-one runs of the whole pipeline
@pytest.mark.parametrize("deaths", [SHORT, pytest.param(ALL, marks=pytest.mark.long)])
def test_killed_anywhere_and_run_again_it_ends_the_same(
    make_world: Callable[[str], World], pipeline: Pipeline, deaths: int
) -> None:
    undisturbed = make_world("undisturbed")
    first = pipeline.run(undisturbed)
    assert first["error"] is None, first["error"]
    assert first["code"] == 0
    expected = seen_outside(undisturbed)
    assert len(expected["tasks"]) >= 3, "a world in which nothing is sent would prove nothing"
    assert len(expected["audience"]["members"]) > 20 < sum(row[0] is not None for row in expected["standings"].values())
    assert expected["audience"]["odd"] == []

    # Spread over the whole run, and again over its last third, where it reaches the outside.
    effects = first["effects"]
    chosen = random.Random(4)
    early = chosen.sample(range(1, effects * 2 // 3), deaths // 2)
    late = chosen.sample(range(effects * 2 // 3, effects + 1), deaths - deaths // 2)
    for number, die_at in enumerate(sorted(early + late)):
        world = make_world(f"killed{number}")
        assert pipeline.run(world, die_at=die_at)["code"] == -9, f"not killed at effect {die_at} of {effects}"
        again = pipeline.run(world)
        assert again["error"] is None, f"after death at {die_at} of {effects}: {again['error']}"
        assert seen_outside(world) == expected, f"CRM or Slack differ after death at effect {die_at} of {effects}"
        assert ledger_of(world) == ledger_of(undisturbed), f"ledger differs after death at {die_at} of {effects}"


def test_run_twice_it_sends_once(make_world: Callable[[str], World], pipeline: Pipeline) -> None:
    world = make_world("twice")
    pipeline.run(world)
    before, ledger = seen_outside(world), ledger_of(world)
    again = pipeline.run(world, now=AS_OF)
    assert again["error"] is None, again["error"]
    assert seen_outside(world) == before
    for table, rows in ledger_of(world).items():
        assert rows == ledger[table], table
