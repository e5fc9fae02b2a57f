"""What comes after a refusal: some pass by themselves, some have to be mended, and none may be forgotten."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from onetouch.crm.remedies import remedy
from onetouch.delivery import DeliveryFailed

from benchmarks.situations.situation import Seen, Stage, situation
from tests.delivery.world import AS_OF, OTHER, World, crm_id

TASKS = {"match": "composite/sobjects$", "method": "POST"}
AN_HOUR, A_DAY = timedelta(hours=1), timedelta(days=1)


def ready(stage: Stage, *numbers: int, **policy: Any) -> tuple[World, Any]:
    """A company with these accounts, and a run that calls all of them."""
    world = stage.world(**policy)
    world.accounts(*numbers)
    run = world.run()
    world.decide(run, *numbers)
    return world, run


def refused(world: World, run: Any) -> str:
    """What a delivery says that is not green; empty when it is."""
    try:
        world.deliver(run)
    except DeliveryFailed as failure:
        return str(failure)
    return ""


def next_run(world: World, after: timedelta, *numbers: int, **given: Any) -> Any:
    """A run so much later that decides on these accounts."""
    world.org.clock(AS_OF + after)
    run = world.run(AS_OF + after)
    world.decide(run, *numbers, **given)
    return run


def unsent(world: World) -> list[Any]:
    """The rows of the outbox for the CRM that wait or were refused."""
    return [row for row in world.ledger.unsent() if row.destination == "salesforce"]


def _states(world: World) -> str:
    return ", ".join(f"{h.account_id} {h.state}" for h in world.ledger.handoffs())


@situation(
    source="mautic/mautic #6561",
    happens="A validation rule refuses 3 tasks on Monday; an admin mends it on Tuesday.",
    expected="Red once; held and listed with what to do meanwhile; on Tuesday 3 tasks, and the list is empty.",
)
def validation_rule_mended_the_next_day(stage: Stage) -> Seen:
    world, run = ready(stage, 1, 2, 3)
    world.org.post("faults", [TASKS | {"row_error": "FIELD_CUSTOM_VALIDATION_EXCEPTION", "times": 3}])
    red = refused(world, run)
    frame = world.ledger.handoff_frame(AS_OF + AN_HOUR)
    hour = next_run(world, AN_HOUR, 1, 2, 3, action="hold_refused")
    green = not refused(world, hour)
    listed = unsent(world)
    told = {remedy(row.key, row.state, row.reason).partition(";")[0] for row in listed}
    day = next_run(world, A_DAY + AN_HOUR, 1, 2, 3)
    sent = world.deliver(day)["delivered"]
    left = unsent(world)
    holds = bool(red) and green and len(listed) == 3 and sent == 3 and not left and frame["refused_at"].notna().all()
    return Seen(
        bool(holds and len(world.org.tasks()) == 3),
        f"first run red, next green with {len(listed)} listed ({', '.join(sorted(told))}), a day later {sent} tasks, "
        f"{len(left)} listed",
    )


@situation(
    source="mozmeao/basket #207",
    happens="A person mends the rule at once and asks for another attempt.",
    expected="`outbox retry` makes the next run decide the account anew; no day is lost.",
)
def asked_to_try_again_at_once(stage: Stage) -> Seen:
    world, run = ready(stage, 1)
    world.org.post("faults", [TASKS | {"row_error": "FIELD_CUSTOM_VALIDATION_EXCEPTION"}])
    refused(world, run)
    asked = world.ledger.retry()
    free = world.ledger.handoff_frame(AS_OF + AN_HOUR)["refused_at"].isna().all()
    sent = world.deliver(next_run(world, AN_HOUR, 1))["delivered"]
    return Seen(
        bool(asked == 1 and free and sent == 1), f"retried {asked}, held no longer: {free}, an hour later {sent} task"
    )


@situation(
    source="jsforce/jsforce #1018, SFDO-Community/declarative-lookup-rollup-summaries #61",
    happens="Another process of the org holds a record's lock while the tasks are written, for longer than one run.",
    expected="It is the row's trouble and passes: the same handoff is written by a later run; no second handoff.",
)
def row_locked_for_longer_than_a_run(stage: Stage) -> Seen:
    world, run = ready(stage, 1, 2)
    world.org.post("faults", [TASKS | {"row_error": "UNABLE_TO_LOCK_ROW", "rows": [0], "times": 9}])
    refused(world, run)
    between = _states(world)
    world.org.empty_faults()
    world.deliver(next_run(world, AN_HOUR, 1, 2, action="hold_touched"))
    handoffs = world.ledger.handoffs()
    holds = len(handoffs) == 2 and all(h.state == "task_open" for h in handoffs) and len(world.org.tasks()) == 2
    return Seen(holds, f"{between}; an hour later {_states(world)}, {len(world.org.tasks())} tasks")


@situation(
    source="SFDO-Community/declarative-lookup-rollup-summaries #98",
    happens="A trigger of the org's own fails with a limit as soon as more than 3 tasks come at once.",
    expected="The tasks go in smaller parts: all arrive, each once, in the same run.",
)
def trigger_fails_for_many_at_once(stage: Stage) -> Seen:
    world, run = ready(stage, *range(1, 9))
    world.org.post("faults", [TASKS | {"row_error": "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", "times": 8}])
    said = refused(world, run)
    calls = sum(call["n"] for call in world.org.calls() if (call["method"], call["path"][-8:]) == ("POST", "sobjects"))
    tasks = world.org.tasks()
    keys = {task["Onetouch_Handoff_Id__c"] for task in tasks}
    return Seen(
        not said and len(tasks) == len(keys) == 8, f"{len(tasks)} tasks in {calls} calls, {said or 'the run is green'}"
    )


@situation(
    source="Salesforce documentation: status code INACTIVE_OWNER_OR_USER",
    happens="The rep was deactivated minutes ago; Salesforce takes no task for them.",
    expected="Nobody has seen the handoff: it ends, and the account goes to another rep in the next run.",
)
def owner_deactivated_minutes_ago(stage: Stage) -> Seen:
    world, run = ready(stage, 1)
    world.org.post("faults", [TASKS | {"row_error": "INACTIVE_OWNER_OR_USER"}])
    refused(world, run)
    first = world.handoff(1)
    later = next_run(world, AN_HOUR, 1, owner_id=OTHER, owner_email="otto@rep.example")
    sent = world.deliver(later)["delivered"]
    now = world.handoff(1)
    holds = first.state == "withdrawn" and sent == 1 and now.owner_id == OTHER and len(world.org.tasks()) == 1
    return Seen(holds, f"first {first.state} ({first.reason.partition(':')[0]}), then {now.state} with the other rep")


@situation(
    source="segment-boneyard/segment-docs #3459",
    happens="The answer to the creation of the tasks is lost; Salesforce made them.",
    expected="They are looked up before anything is sent again: each once.",
)
def answer_of_a_creation_lost(stage: Stage) -> Seen:
    world, run = ready(stage, 1, 2, 3)
    world.org.post("faults", [TASKS | {"drop": "answer", "times": 9}])
    error = ""
    try:
        world.deliver(run)
    except Exception as stopped:
        error = type(stopped).__name__
    world.org.empty_faults()
    world.deliver(next_run(world, AN_HOUR, 1, 2, 3, action="hold_touched"))
    tasks = world.org.tasks()
    keys = {task["Onetouch_Handoff_Id__c"] for task in tasks}
    holds = len(tasks) == len(keys) == 3 and all(h.state == "task_open" for h in world.ledger.handoffs())
    return Seen(holds, f"first {error or 'green'}, then {_states(world)}; {len(tasks)} tasks of {len(keys)} handoffs")


@situation(
    source="ours",
    happens="The account was deleted in the CRM between the decision and the task.",
    expected="The handoff is withdrawn with that reason; the run is green and nobody is told to mend anything.",
)
def account_deleted_before_its_task(stage: Stage) -> Seen:
    world, run = ready(stage, 1, 2)
    world.rep_writes("Account", crm_id(1))
    said = refused(world, run)
    gone = world.handoff(1)
    holds = not said and gone.state == "withdrawn" and "deleted" in gone.reason and not unsent(world)
    return Seen(holds, f"{gone.state}: {gone.reason}; {said or 'green'}; {len(unsent(world))} listed")
