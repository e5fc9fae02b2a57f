"""Reps come and go, and press buttons: what becomes of the tasks that are on their lists."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from typing import Any

from onetouch.console import Presses
from onetouch.crm import Due, connect
from onetouch.delivery import alert_reps
from onetouch.handoff import TaskContent
from onetouch.sandbox.fields import make_id

from benchmarks.situations.situation import Seen, Stage, situation
from tests.delivery.test_presses import OTTO as OTTO_IN_SLACK
from tests.delivery.test_presses import Office, served
from tests.delivery.world import AS_OF, BUYING, OTHER, OWNER, World

HOUR = timedelta(hours=1)
RITA, OTTO = "rita@rep.example", "otto@rep.example"
OWNERS = {"owner_email": RITA, "owner_id": OWNER, "owner_active": True, "region": "EMEA"}
LATER = AS_OF + 5 * HOUR
"""Ten in the morning where the reps work."""


def handed_over(stage: Stage, *numbers: int, **policy: Any) -> World:
    """A company in which Rita has these tasks, and has been told of them."""
    reps = policy.pop("reps", [{"email": RITA}, {"email": OTTO}])
    world = stage.world(assignment__reps=reps, assignment__remind=False, crm__alert_link=False, **policy)
    world.accounts(*numbers)
    world.org.clock(AS_OF)
    run = world.run()
    given = {"assigned_by": "territory north"} if policy.get("assignment__territories") else {}
    world.decide(run, *numbers, due_at=AS_OF + 6 * HOUR, signals=OWNERS, **given)
    world.deliver(run)
    told(world, run)
    return world


def told(world: World, run: Any) -> None:
    """What a run says in the chat."""
    alert_reps(world.lake, world.ledger, world.policy, run, world.slack(), now=run.as_of, held=None)


def next_run(world: World, at: Any, *numbers: int, **signals: Any) -> dict[str, Any]:
    """A run that calls nobody new: it reads the CRM, delivers and tells."""
    world.org.clock(at)
    run = world.run(at)
    world.extract(run)
    world.decide(run, *numbers, signals=OWNERS | signals, action="hold_touched")
    summary = world.deliver(run)
    told(world, run)
    return summary


def deactivated(world: World, rep: str = OWNER) -> None:
    """An admin deactivates the user."""
    world.org.sql("UPDATE User SET IsActive = 0 WHERE Id = ?", rep)


def whose(world: World, number: int = 1) -> str:
    """Whose the task is, if CRM and ledger agree."""
    names = {OWNER: "Rita", OTHER: "Otto"}
    there, here = world.task(number)["OwnerId"], world.handoff(number).owner_id
    return names.get(there, there) if there == here else f"{there} in the CRM, {here} in the ledger"


def replies(world: World) -> list[str]:
    """The texts in threads."""
    return [post["text"] for post in world.org.posts() if post["thread_ts"] not in (None, post["ts"])]


@situation(
    source="department-of-veterans-affairs/caseflow #14483, SORMAS-Foundation/SORMAS-Project #3169",
    happens="A rep is deactivated with two untouched tasks on the list.",
    expected="Both go to the next rep, once, as the same tasks, and both reps' threads say so.",
)
def rep_deactivated_with_open_tasks(stage: Stage) -> Seen:
    world = handed_over(stage, 1, 2)
    deactivated(world)
    for hour in range(3):
        next_run(world, LATER + hour * HOUR, 1, 2)
    said = [text for text in replies(world) if "no longer active" in text]
    holds = whose(world) == whose(world, 2) == "Otto" and len(world.org.tasks()) == 2 and len(said) == 2
    return Seen(holds, f"{whose(world)} and {whose(world, 2)}, {len(world.org.tasks())} tasks, told {len(said)} times")


@situation(
    source="ours",
    happens="Rita's task was due at eleven; she is deactivated, and Otto gets it at ten.",
    expected="He has two working hours of his own: due at twelve in ledger and CRM, not overdue from the start.",
)
def clock_starts_anew_for_who_takes_over(stage: Stage) -> Seen:
    world = handed_over(stage, 1)
    deactivated(world)
    next_run(world, LATER, 1)
    due, task = world.handoff(1).due_at, world.task(1)
    holds = due == LATER + 2 * HOUR and task["ActivityDate"] == "2025-11-18" and whose(world) == "Otto"
    return Seen(holds, f"due {due:%H:%M} UTC, on {task['ActivityDate']}, with {whose(world)}")


@situation(
    source="mshanemc/roundRobinProcessBuilder #28",
    happens="The next rep in turn is inactive as well; a third one is not.",
    expected="Nobody who has left gets anything; the third rep has it.",
)
def next_in_turn_has_left_too(stage: Stage) -> Seen:
    third = make_id("005", 103)
    world = handed_over(stage, 1, reps=[{"email": RITA}, {"email": OTTO}, {"email": "tess@rep.example"}])
    user = {"Id": third, "Name": "Tess", "Email": "tess@rep.example", "Username": "tess@rep.example"}
    world.org.post("load", {"User": [user | {"IsActive": True, "TimeZoneSidKey": "UTC"}]})
    deactivated(world)
    deactivated(world, OTHER)
    next_run(world, LATER, 1)
    return Seen(whose(world) == third, f"with {'Tess' if whose(world) == third else whose(world)}")


@situation(
    source="ours",
    happens="Rita called the customer, and is deactivated a day later.",
    expected="The one touch is made: nothing is moved; her thread says once that people have to decide.",
)
def toucher_deactivated(stage: Stage) -> Seen:
    world = handed_over(stage, 1)
    world.org.clock(AS_OF + HOUR)
    world.rep_writes("Task", world.task(1)["Id"], Status="Completed")
    next_run(world, AS_OF + 2 * HOUR, 1)
    deactivated(world)
    for hour in range(2):
        next_run(world, LATER + hour * HOUR, 1)
    said = [text for text in replies(world) if "contacted by a rep who is no longer active" in text]
    state = world.handoff(1).state
    return Seen(whose(world) == "Rita" and state == "touched" and len(said) == 1, f"{state}, {whose(world)}, {said}")


@situation(
    source="ours",
    happens="Somebody puts a task into a queue; its former owner is deactivated afterwards.",
    expected="A queue is no rep and nobody's leaving: the task stays there, and no row of the outbox waits.",
)
def task_in_a_queue(stage: Stage) -> Seen:
    queue, world = make_id("00G", 7), handed_over(stage, 1)
    world.org.sql("UPDATE Task SET OwnerId = ? WHERE Id = ?", queue, world.task(1)["Id"])
    deactivated(world)
    next_run(world, LATER, 1)
    there, rows = world.task(1)["OwnerId"], [r for r in world.ledger.outbox() if r.kind == "reassignment"]
    return Seen(there == queue and not rows, f"owner {there[:3]}…, {len(rows)} rows")


@situation(
    source="ours",
    happens="Rita marries: name and e-mail address of her CRM user change.",
    expected="She is the same rep: nothing moves, and her open task counts for the new address.",
)
def rep_renamed(stage: Stage) -> Seen:
    world, new = handed_over(stage, 1), "rita.wed@rep.example"
    world.org.sql("UPDATE User SET Name = 'Rita Wed', Email = ? WHERE Id = ?", new, OWNER)
    summary = next_run(world, LATER, 1, owner_email=new)
    load = world.ledger.rep_load(LATER + HOUR, {new, OTTO}).set_index("owner_email")["open"].to_dict()
    holds = whose(world) == "Rita" and load == {new: 1} and "reassigned" not in summary
    return Seen(holds, f"{whose(world)}, open tasks {load}")


@situation(
    source="ours",
    happens="The territory's rep changes while a task is open.",
    expected="By default it is about new tasks; where the policy says next_rep, the open task follows.",
)
def territory_changes(stage: Stage) -> Seen:
    ends = []
    for says in ("keep", "next_rep"):
        north = {"name": "north", "regions": ["EMEA"]}
        world = handed_over(
            stage, 1,
            assignment__territories=[north | {"reps": [RITA]}], assignment__when_territory_changes=says,
        )  # fmt: skip
        world.policy = world.policy.changed(assignment__territories=[north | {"reps": [OTTO]}])
        next_run(world, LATER, 1, owner_email=None, owner_id=None, owner_active=None)
        ends.append(whose(world))
    return Seen(ends == ["Rita", "Otto"], f"keep: {ends[0]}, next_rep: {ends[1]}")


@situation(
    source="ours",
    happens="A rep falls ill, and the customer begins a checkout in the same hour.",
    expected="Nobody else is given a task to call somebody who is buying.",
)
def ill_while_the_customer_buys(stage: Stage) -> Seen:
    world = handed_over(stage, 1)
    ill = {"email": RITA, "leave": [{"first": "2025-11-18", "last": "2025-11-20"}]}
    world.policy = world.policy.changed(assignment__reps=[ill, {"email": OTTO}])
    world.rechecked = {"org-1": BUYING}
    next_run(world, LATER, 1)
    buying = whose(world)
    world.rechecked = {}
    next_run(world, LATER + HOUR, 1)
    return Seen((buying, whose(world)) == ("Rita", "Otto"), f"while buying {buying}, after it {whose(world)}")


@situation(
    source="HubSpot documentation: Owners API",
    happens="A HubSpot owner with an open task is archived.",
    expected="The owner reads as left, and the task goes to another with a due day of their own.",
)
def hubspot_owner_archived(stage: Stage) -> Seen:
    world = stage.world(crm__system="hubspot")
    there = stage.crm(world, "hubspot")
    account = there.accounts(1)[1]
    crm = connect(there.connection, world.policy, sleep=lambda _: None)
    made = crm.create_tasks(
        {"h1": TaskContent("Call", due_on=date(2025, 11, 18), owner_id=there.rita, crm_account_id=account)}
    )
    assert made["h1"].ok, made["h1"].reason
    there.portal.load(owners=[{"id": there.rita, "email": RITA, "archived": True}])  # type: ignore[attr-defined]
    left = [rep["owner_id"] for rep in crm.read_reps() if not rep["active"]]
    crm.reassign_tasks({"h1": (there.rita, there.otto)}, {"h1": Due(date(2025, 11, 20), AS_OF)})
    (task,) = there.tasks()
    holds = left == [there.rita] and task.owner_id == there.otto and task.due_on == date(2025, 11, 20)
    return Seen(holds, f"left: {len(left)} owner, due {task.due_on}")


@contextmanager
def with_buttons(stage: Stage) -> Iterator[Office]:
    """A company whose alerts have buttons, with one task of Rita's, and the address where presses arrive."""
    world = stage.world(crm__alert_link=False)
    office = Office(world, "")
    world.slack = office.slack  # type: ignore[method-assign]
    world.accounts(1)
    run = world.run()
    world.decide(run, 1, due_at=AS_OF + 6 * HOUR, signals=OWNERS)
    world.deliver(run)
    told(world, run)
    with served(Presses(lambda: office, lambda: office.now)) as office.url:
        yield office


def _presses(office: Office) -> int:
    return sum(row.kind == "press" for row in office.world.ledger.outbox())


@situation(
    source="getsentry/sentry #69252, slackapi/bolt-js #822",
    happens="Slack sends the press of Done twice, since the first answer was slow; then come two more runs.",
    expected="It is done once: one row, one completed task, one touch.",
)
def press_delivered_twice(stage: Stage) -> Seen:
    with with_buttons(stage) as office:
        world, (post,) = office.world, office.world.org.posts()
        first = office.presses("done")
        blocks = json.dumps(post["blocks"])  # the second delivery is of the message as it was
        world.org.sql("UPDATE message SET blocks = ? WHERE ts = ?", blocks, post["ts"])
        again = office.presses("done", trigger_id=first["trigger_id"])
        for hour in (2, 3):
            next_run(world, AS_OF + hour * HOUR, 1)
        touches, state = len(world.ledger.touches(["org-1"])), world.handoff(1).state
        holds = (first["status"], again["status"], _presses(office), touches, state) == (200, 200, 1, 1, "touched")
        return Seen(holds and not office.told(), f"{_presses(office)} row, {touches} touch, {state}")


@situation(
    source="mozilla/bugbug #6732",
    happens="A colleague in the channel presses Not now on Rita's task.",
    expected="Only that person is told that it is not theirs; task, ledger and message stay as they were.",
)
def press_by_a_colleague(stage: Stage) -> Seen:
    with with_buttons(stage) as office:
        office.presses("not_now", user=OTTO_IN_SLACK)
        next_run(office.world, AS_OF + 2 * HOUR, 1)
        open_still = office.world.task(1)["Status"] == "Not Started"
        return Seen(open_still and _presses(office) == 0 and len(office.told()) == 1, office.told()[0])


@situation(
    source="Slack documentation: Verifying requests from Slack",
    happens="A recorded press is sent again six minutes later, and one signed with another secret is made up.",
    expected="Both are answered 401, and nothing happens.",
)
def press_replayed_or_forged(stage: Stage) -> Seen:
    with with_buttons(stage) as office:
        answers = [office.presses("done", age=360)["status"], office.presses("done", secret="guessed")["status"]]
        return Seen(answers == [401, 401] and _presses(office) == 0, f"answered {answers}, {_presses(office)} rows")
