"""One touch, then back off; and what was never worked, ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from onetouch.delivery import DeliveryFailed, back_off
from onetouch.sandbox.fields import make_id

AS_OF = datetime(2025, 11, 18, 10, tzinfo=UTC)
TOUCH = AS_OF + timedelta(hours=3)


def opened(world: Any, *numbers: int) -> None:
    world.accounts(*numbers)
    run = world.run()
    world.decide(run, *numbers)
    world.deliver(run)


def touched(world: Any, number: int) -> None:
    opened(world, number)
    world.org.clock(TOUCH)
    world.rep_writes("Task", world.task(number)["Id"], Status="Completed")
    world.extract(world.run(TOUCH + timedelta(minutes=5)))


def backing_off(world: Any, at: datetime, *, held: str | None = None) -> dict[str, Any]:
    world.org.clock(at)
    return back_off(world.ledger, world.policy, world.run(at), world.salesforce(), held=held)


def test_the_days_run_from_the_reps_touch(world: Any) -> None:
    touched(world, 1)
    early = backing_off(world, AS_OF + timedelta(days=7, minutes=1))  # seven days after our task, not after the touch
    assert (early["released"], world.handoff(1).state) == (0, "touched")
    due = TOUCH + timedelta(days=7)
    assert backing_off(world, due)["released"] == 1
    handoff = world.handoff(1)
    assert (handoff.state, handoff.closed_at) == ("released", due)
    task = world.task(1)
    assert task["Description"].startswith("Released: no response within 7 days")
    assert "FIRST MESSAGE" in task["Description"]
    assert not task["Subject"].startswith("[Released]")  # it was the rep who closed it


def test_a_policy_of_three_touches_waits_for_the_silence_after_each(world: Any) -> None:
    handoff = world.policy.handoff.model_copy(update={"touches": 3, "silence_days": 4})
    world.policy = world.policy.model_copy(update={"handoff": handoff})
    touched(world, 1)
    due = TOUCH + timedelta(days=12)
    assert backing_off(world, due - timedelta(seconds=1))["released"] == 0
    assert backing_off(world, due)["released"] == 1
    assert world.task(1)["Description"].startswith("Released: no response within 12 days of the first touch")


def test_a_released_task_is_still_known_as_a_touch(world: Any) -> None:
    touched(world, 1)
    backing_off(world, TOUCH + timedelta(days=7))
    before = world.ledger.touches()
    world.extract(world.run(TOUCH + timedelta(days=7, hours=1)))
    assert world.ledger.touches().equals(before)
    assert len(before) == 1


def test_an_answer_keeps_the_account(world: Any) -> None:
    touched(world, 1)
    world.org.clock(TOUCH + timedelta(days=6))
    world.rep_writes("Task", world.task(1)["Id"], Onetouch_Outcome__c="Replied")
    world.extract(world.run(TOUCH + timedelta(days=6, hours=1)))
    assert backing_off(world, TOUCH + timedelta(days=8))["released"] == 0
    assert world.handoff(1).state == "replied"


def test_a_task_nobody_worked_expires_and_is_closed(world: Any) -> None:
    opened(world, 1)
    assert backing_off(world, AS_OF + timedelta(hours=71))["expired"] == 0
    assert backing_off(world, AS_OF + timedelta(hours=72))["expired"] == 1
    task = world.task(1)
    assert (task["Status"], task["IsClosed"]) == ("Completed", True)
    assert task["Subject"].startswith("[Expired] ")
    assert task["Description"].startswith("Expired: not contacted within 72 hours")
    world.extract(world.run(AS_OF + timedelta(hours=73)))
    assert len(world.ledger.touches()) == 0  # our closing is nobody's touch
    assert world.handoff(1).state == "expired"


def test_a_task_closed_by_the_rep_a_moment_ago_does_not_expire(world: Any) -> None:
    opened(world, 1)
    world.org.clock(AS_OF + timedelta(hours=71))
    world.rep_writes("Task", world.task(1)["Id"], Status="Completed")
    assert backing_off(world, AS_OF + timedelta(hours=72))["expired"] == 0
    assert not world.task(1)["Subject"].startswith("[Expired]")
    world.extract(world.run(AS_OF + timedelta(hours=73)))
    assert world.handoff(1).state == "touched"


def test_a_task_we_closed_is_no_touch_even_before_the_ledger_knows(world: Any) -> None:
    opened(world, 1)
    at = AS_OF + timedelta(hours=72)
    world.org.clock(at)
    client = world.salesforce()
    close = client.close_tasks

    def die_after_closing(reasons: Any) -> Any:
        close(reasons)
        raise KeyboardInterrupt

    client.close_tasks = die_after_closing
    with pytest.raises(KeyboardInterrupt):
        back_off(world.ledger, world.policy, world.run(at), client, held=None)
    assert world.task(1)["IsClosed"]
    world.extract(world.run(at + timedelta(hours=1)))
    assert len(world.ledger.touches()) == 0
    assert world.handoff(1).state == "task_open"
    assert backing_off(world, at + timedelta(hours=1))["expired"] == 1


def test_a_task_we_closed_stays_nobodys_touch_when_a_rep_edits_its_subject(world: Any) -> None:
    opened(world, 1)
    backing_off(world, AS_OF + timedelta(hours=72))
    world.rep_writes("Task", world.task(1)["Id"], Subject="tidied up")
    world.extract(world.run(AS_OF + timedelta(hours=73)))
    assert len(world.ledger.touches()) == 0
    world.rep_writes("Task", world.task(1)["Id"], Onetouch_Outcome__c="Replied")  # and yet they have been in touch
    world.extract(world.run(AS_OF + timedelta(hours=74)))
    assert world.ledger.touches()["outcome"].tolist() == ["Replied"]
    assert world.handoff(1).state == "expired"


def test_without_leave_to_send_nothing_moves_and_nothing_is_written(world: Any) -> None:
    opened(world, 1)
    before = (world.ledger.dump()["handoffs"], world.org.tasks())
    assert backing_off(world, AS_OF + timedelta(hours=72), held="dry run")["expired"] == 1
    assert (world.ledger.dump()["handoffs"], world.org.tasks()) == before


@pytest.mark.parametrize("ending", ["released", "expired"])
def test_killed_anywhere_and_run_again_ends_the_same(make_world: Any, ending: str) -> None:
    def scene(name: str) -> tuple[Any, datetime]:
        world = make_world(name)
        if ending == "released":
            touched(world, 1)
            return world, TOUCH + timedelta(days=7)
        opened(world, 1)
        return world, AS_OF + timedelta(hours=72)

    def outcome(world: Any) -> Any:
        task = world.task(1)
        kept = {k: v for k, v in task.items() if k not in ("Id", "SystemModstamp")}
        return world.ledger.dump()["handoff_moves"], kept

    world, at = scene("undisturbed")
    world.mortal(None)
    backing_off(world, at)
    effects = world.effects.count
    world.immortal()
    expected = outcome(world)
    for die_at in range(1, effects + 1):
        world, at = scene(f"killed-{die_at}")
        world.mortal(die_at)
        with pytest.raises(BaseException) as death:  # noqa: PT011 - Killed is the fixture's
            backing_off(world, at)
        assert type(death.value).__name__ == "Killed"
        world.immortal()
        backing_off(world, at)
        assert outcome(world) == expected, f"killed at effect {die_at}"


def test_a_task_that_cannot_be_closed_is_reported_and_its_handoff_waits(world: Any) -> None:
    opened(world, 1, 2)
    refusal = {"statusCode": "FIELD_CUSTOM_VALIDATION_EXCEPTION", "message": "no"}
    fault = {"match": "composite/sobjects$", "method": "PATCH", "row_error": refusal, "rows": [0], "times": 3}
    world.org.post("faults", [fault])
    with pytest.raises(DeliveryFailed, match="FIELD_CUSTOM_VALIDATION_EXCEPTION") as failure:
        backing_off(world, AS_OF + timedelta(hours=72))
    assert failure.value.summary["expired"] == 1
    assert {world.handoff(n).state for n in (1, 2)} == {"task_open", "expired"}
    assert backing_off(world, AS_OF + timedelta(hours=72))["expired"] == 1


def test_a_task_made_by_a_run_that_died_after_losing_its_handoff_is_closed(world: Any) -> None:
    opened(world, 1)
    moved = world.handoff(1)
    orphan = "f" * 32
    world.accounts(2)
    run = world.run(AS_OF + timedelta(hours=1))
    world.decide(run, 2)
    handoff = world.ledger.open_handoff(
        world.lake.read("decisions", f"{run.run_id}.parquet").to_dict("records")[0], run
    )
    world.ledger.move(handoff.handoff_id, "withdrawn", run.as_of, "checkout: started")
    world.rep_writes("Task", None, Subject="late", WhatId=make_id("001", 2), Onetouch_Handoff_Id__c=handoff.handoff_id)
    backing_off(world, AS_OF + timedelta(hours=2))
    assert world.task(2)["IsClosed"]
    assert world.task(2)["Subject"] == "[Withdrawn] late"
    assert not world.task(1)["IsClosed"]
    assert moved.handoff_id != orphan
