"""Nobody who may not be contacted gets a task or is named in one, as the CRM and the lists say at the last moment."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onetouch.crm import Unreachable
from onetouch.sandbox.fields import make_id

from tests.delivery.world import AS_OF

WHO = "ida@company1.example"


def crm_id(number: int) -> str:
    return make_id("001", number)


def contact(world: Any, email: str = WHO, account: str | None = None, **fields: Any) -> str:
    world.accounts(1)
    known = {"LastName": "Doe", "Email": email, "AccountId": account or crm_id(1)}
    return str(world.rep_writes("Contact", None, **known | fields))


def ready(world: Any, *numbers: int, **signals: Any) -> Any:
    world.accounts(*numbers)
    run = world.run()
    world.decide(run, *numbers, signals=named(signals.get("top_user")) | signals)
    return run


def named(user: str | None) -> dict[str, Any]:
    """The most active user is the person to write to."""
    known = {"contact_name": "Ida Maria Berg", "contact_email": user if user and "@" in user else None}
    return {"contact_user": user, **known} if user else {}


def between(world: Any, happens: Callable[[], Any]) -> Any:
    """A client under which something happens after the context was written, right before the last look."""
    client = world.salesforce()
    write = client.update_accounts

    def written(rows: Any) -> Any:
        outcomes = write(rows)
        happens()
        return outcomes

    client.update_accounts = written
    return client


def withheld(world: Any, summary: dict[str, Any], number: int = 1) -> str:
    """The reason of a handoff that was withheld, with no task in the CRM."""
    assert (summary["delivered"], summary["withheld"], summary["failed"]) == (0, {"never contact": 1}, [])
    assert world.org.tasks() == []
    handoff = world.handoff(number)
    assert handoff.state == "withdrawn"
    return str(handoff.reason)


def texts(world: Any, number: int = 1) -> str:
    """Everything a rep reads about the account."""
    return json.dumps([world.org.tasks(), world.org.account(crm_id(number))], default=str).lower()


# ── accounts ─────────────────────────────────────────────────────────────────────────────────────


def test_an_account_that_was_listed_since_the_decision_gets_no_task(world: Any, tmp_path: Path) -> None:
    world.policy = world.policy.changed(never_contact__file="never.csv")
    file = tmp_path / "never.csv"
    file.write_text("other.example\n")
    run = ready(world, 1)
    listing = lambda: file.write_text("other.example\ncompany1.example, a competitor\n")  # noqa: E731
    summary = world.deliver(run, salesforce=between(world, listing), listed=tmp_path)
    assert withheld(world, summary) == (
        "never contact: company1.example is on line 2 of never_contact.file (a competitor)"
    )


def test_without_a_readable_list_nothing_is_written(world: Any, tmp_path: Path) -> None:
    world.policy = world.policy.changed(never_contact__file="never.csv")
    run = ready(world, 1)
    with pytest.raises(ValueError, match="never_contact.file"):
        world.deliver(run, listed=tmp_path)
    assert world.org.tasks() == [] and world.org.account(crm_id(1))["Onetouch_Score__c"] is None


def test_where_the_last_reachable_person_opts_out_nobody_is_called(world: Any) -> None:
    ida, max_ = contact(world, HasOptedOutOfEmail=True, DoNotCall=True), contact(world, "max@company1.example")
    run = ready(world, 1)
    opt_out = lambda: world.rep_writes("Contact", max_, HasOptedOutOfEmail=True, DoNotCall=True)  # noqa: E731
    summary = world.deliver(run, salesforce=between(world, opt_out))
    reason = withheld(world, summary)
    assert reason.startswith("never contact: nobody there can be contacted")
    assert ida in reason and max_ in reason and "@" not in reason


def test_one_who_may_be_contacted_is_enough(world: Any) -> None:
    contact(world, HasOptedOutOfEmail=True, DoNotCall=True)
    contact(world, "max@company1.example", DoNotCall=True)
    assert world.deliver(ready(world, 1))["delivered"] == 1


def test_an_account_that_the_crm_flags_since_the_decision_gets_no_task(world: Any) -> None:
    fields = world.policy.crm.account_fields | {"never_contact": "Do_Not_Contact__c"}
    world.policy = world.policy.changed(crm__account_fields=fields)
    run = ready(world, 1, 2)
    client = world.salesforce()
    flags = [
        {"crm_account_id": crm_id(1), "never_contact": True},
        {"crm_account_id": crm_id(2), "never_contact": "false"},
    ]
    client.read_accounts = lambda policy, since: iter(flags)
    summary = world.deliver(run, salesforce=client)
    assert (summary["delivered"], summary["withheld"]) == (1, {"never contact": 1})
    assert world.handoff(1).reason == "never contact: its record in the CRM says so"
    assert world.task(2)["WhatId"] == crm_id(2)


def test_a_lead_that_opted_out_is_not_called_either(world: Any) -> None:
    world.policy = world.policy.changed(crm__unknown_accounts="lead")
    lead = world.rep_writes(
        "Lead", None, LastName="Roe", Company="Company 1", Website="company1.example", Email="roe@company1.example",
        DoNotCall=True,
    )  # fmt: skip
    run = world.run()
    world.decide(run, 1, crm_account_id=None)
    reason = withheld(world, world.deliver(run))
    assert reason == "never contact: the lead itself may not be contacted"
    assert world.handoff(1).crm_account_id == lead


# ── people ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("field", ["DoNotCall", "HasOptedOutOfEmail"])
def test_who_opted_out_of_a_channel_is_named_nowhere(world: Any, field: str) -> None:
    contact(world, **{field: True})
    contact(world, "max@company1.example")
    assert world.deliver(ready(world, 1, top_user=WHO))["delivered"] == 1
    assert world.task(1)["WhoId"] is None
    assert WHO not in texts(world) and "ida maria" not in texts(world)


def test_who_did_not_is_named(world: Any) -> None:
    ida = contact(world)
    world.deliver(ready(world, 1, top_user=WHO))
    assert world.task(1)["WhoId"] == ida
    assert WHO in texts(world)


def test_an_opt_out_counts_on_another_record_of_the_address(world: Any) -> None:
    contact(world)
    world.rep_writes("Lead", None, LastName="Doe", Company="Company 1", Email=WHO.upper(), HasOptedOutOfEmail=True)
    world.deliver(ready(world, 1, top_user=WHO))
    assert world.task(1)["WhoId"] is None and WHO not in texts(world)


def test_no_contact_is_made_of_who_opted_out(world: Any) -> None:
    world.policy = world.policy.changed(crm__contacts="create")
    world.accounts(1)
    world.rep_writes("Lead", None, LastName="Doe", Company="Company 1", Email=WHO, DoNotCall=True)
    contact(world, "max@company1.example")
    world.deliver(ready(world, 1, top_user=WHO))
    assert world.task(1)["WhoId"] is None
    assert [row["kind"] for row in world.salesforce().contacts_of([], [WHO])] == ["lead"]


def test_an_opt_out_that_the_crm_hides_names_nobody(world: Any) -> None:
    contact(world)
    world.org.post("hidden", {"fields": ["Contact.DoNotCall"]})
    assert world.deliver(ready(world, 1, top_user=WHO))["delivered"] == 1
    assert world.task(1)["WhoId"] is None and WHO not in texts(world)


def test_a_listed_person_is_named_nowhere(world: Any, tmp_path: Path) -> None:
    world.policy = world.policy.changed(never_contact__file="never.csv")
    (tmp_path / "never.csv").write_text(f"{WHO}, asked by letter\n")
    contact(world)
    contact(world, "max@company1.example")
    assert world.deliver(ready(world, 1, top_user=WHO), listed=tmp_path)["delivered"] == 1
    assert world.task(1)["WhoId"] is None and WHO not in texts(world)


def test_a_task_laid_out_before_the_opt_out_is_withheld_and_the_next_one_names_nobody(world: Any) -> None:
    world.policy = world.policy.changed(routing__cooldown_days=1)
    ida = contact(world)
    contact(world, "max@company1.example")
    run = ready(world, 1, top_user=WHO)
    opt_out = lambda: world.rep_writes("Contact", ida, DoNotCall=True)  # noqa: E731
    reason = withheld(world, world.deliver(run, salesforce=between(world, opt_out)))
    assert reason == "never contact: somebody whom the task names may not be contacted any more"
    again = world.run(AS_OF + timedelta(days=2))
    world.org.clock(AS_OF + timedelta(days=2))
    world.decide(again, 1, signals={"top_user": WHO} | named(WHO))
    assert world.deliver(again)["delivered"] == 1
    assert world.task(1)["WhoId"] is None
    assert WHO not in json.dumps(world.task(1)).lower()


def test_a_run_that_died_between_context_and_task_is_finished_by_what_is_known_then(world: Any) -> None:
    ida = contact(world)
    contact(world, "max@company1.example")
    run = ready(world, 1, top_user=WHO)
    client = world.salesforce()

    def dies(*_: Any) -> Any:
        raise KeyboardInterrupt

    client.contacts_of, whole = dies, client.contacts_of
    calls = itertools.count()
    client.contacts_of = lambda *asked: whole(*asked) if next(calls) == 0 else dies()
    with pytest.raises(KeyboardInterrupt):
        world.deliver(run, salesforce=client)
    assert world.handoff(1).state == "context_written" and world.org.tasks() == []
    world.rep_writes("Contact", ida, HasOptedOutOfEmail=True)
    withheld(world, world.deliver(run))


def test_a_policy_that_asks_nothing_costs_no_call(world: Any) -> None:
    none = {"title": None, "do_not_call": None, "email_opt_out": None}
    world.policy = world.policy.changed(crm__contact_fields=none, crm__contacts="never")
    client = world.salesforce()
    client.contacts_of = lambda *_: pytest.fail("asked")
    assert world.deliver(ready(world, 1), salesforce=client)["delivered"] == 1


def test_where_the_crm_cannot_tell_what_the_run_knew_counts_until_the_last_look(world: Any) -> None:
    """The first look only chooses whom to name; the last one decides, and an unanswered one sends nothing."""
    contact(world, DoNotCall=True)
    contact(world, "max@company1.example")
    run = ready(world, 1, top_user=WHO)
    client = world.salesforce()
    client.contacts_of = lambda *_: (_ for _ in ()).throw(Unreachable("Salesforce: no answer"))
    with pytest.raises(Unreachable):
        world.deliver(run, salesforce=client)
    assert world.org.tasks() == []


# ── all of it at once ────────────────────────────────────────────────────────────────────────────

FLAGS = st.tuples(*[st.sampled_from(["never", "before", "between"])] * 2)
PERSON = st.tuples(st.sampled_from([1, 2, 3, None]), st.sampled_from(["a", "b", "c", "t@us.example"]), FLAGS)
CASES = st.fixed_dictionaries(
    {
        "people": st.lists(PERSON, max_size=5, unique_by=lambda person: person[1]),
        "tops": st.tuples(*[st.sampled_from(["a", "b", "c", "u_1", "t@us.example"])] * 3),
        "listed": st.lists(
            st.tuples(st.sampled_from(["company2.example", "a@x.example", crm_id(3), "us.example", "org-1"]),
                      st.sampled_from(["before", "between"])),
            max_size=2,
        ),
    }
)  # fmt: skip


NUMBERS = itertools.count()


def address(name: str) -> str:
    return name if "@" in name or name == "u_1" else f"{name}@x.example"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=CASES)
def test_no_task_and_no_name_for_who_may_not_be_contacted(
    make_world: Callable[[str], Any], tmp_path: Path, case: dict[str, Any]
) -> None:
    world = make_world(f"world {next(NUMBERS)}")
    world.policy = world.policy.changed(never_contact__file="never.csv")
    file = tmp_path / "never.csv"

    def listed(*moments: str) -> None:
        file.write_text("".join(f"{entry}, why\n" for entry, moment in case["listed"] if moment in moments))

    listed("before")
    world.accounts(1, 2, 3)
    fields = ("DoNotCall", "HasOptedOutOfEmail")
    made = {}
    for account, name, flags in case["people"]:
        known = {field: moment == "before" for field, moment in zip(fields, flags, strict=True)}
        linked = {"AccountId": crm_id(account)} if account else {"AccountId": None}
        made[name] = world.rep_writes("Contact", None, LastName="Doe", Email=address(name), **linked, **known)
    run = world.run()
    world.decide(run, 1, 2, 3)
    rows = world.lake.read("signals", f"{run.run_id}.parquet")
    rows["top_user"] = rows["contact_user"] = [address(name) for name in case["tops"]]
    rows["contact_email"] = [address(name) if "@" in address(name) else None for name in case["tops"]]
    world.lake.write(rows, "signals", f"{run.run_id}.parquet")
    happened: list[int] = []

    def happens() -> None:
        if not happened:
            listed("before", "between")
            for _, name, flags in case["people"]:
                late = {field: True for field, moment in zip(fields, flags, strict=True) if moment == "between"}
                if late:
                    world.rep_writes("Contact", made[name], **late)
        happened.append(1)

    summary = world.deliver(run, salesforce=between(world, happens), listed=tmp_path)
    assert happened and summary["delivered"] + sum(summary["withheld"].values()) == 3 and summary["failed"] == []

    entries = {entry for entry, _ in case["listed"]}
    gone = {name: [moment != "never" for moment in flags] for _, name, flags in case["people"]}

    def barred(name: str) -> list[bool]:
        on_list = address(name) in entries or address(name).rpartition("@")[2] in entries
        return [on_list or flag for flag in gone.get(name, [False, False])]

    tasks = {task["WhatId"]: task for task in world.org.tasks()}
    reachable = 0
    for number in (1, 2, 3):
        theirs = {name for account, name, _ in case["people"] if account == number}
        theirs |= {name for name in [case["tops"][number - 1]] if name != "u_1"}
        nobody = bool(theirs) and all(all(barred(name)) for name in theirs)
        itself = {f"company{number}.example", crm_id(number), f"org-{number}"} & entries
        task = tasks.get(crm_id(number))
        if nobody or itself:
            assert task is None, number
            assert world.handoff(number).reason.startswith("never contact: ")
            continue
        if task is None:  # somebody whom it named opted out since
            assert any(barred(case["tops"][number - 1])), number
            continue
        reachable += 1
        text = json.dumps(task).lower()
        for name in (*gone, *case["tops"]):
            if any(barred(name)) and name != "u_1":
                assert address(name) not in text, (number, name)
                assert task["WhoId"] != made.get(name)
    assert len(tasks) == reachable == summary["delivered"]


def test_an_open_task_is_withdrawn_when_its_account_may_not_be_contacted_any_more(world: Any) -> None:
    run = ready(world, 1, 2)
    world.deliver(run)
    world.org.clock(AS_OF + timedelta(hours=1))
    world.rep_writes("Task", world.task(2)["Id"], Status="Completed")  # the rep was in touch: it is hers
    later = world.run(AS_OF + timedelta(hours=2))
    world.extract(later)
    world.decide(later, 1, 2, action="hold_never_contact")
    assert world.deliver(later)["withdrawn"] == 1
    assert world.handoff(1).state == "withdrawn" and world.handoff(1).reason.startswith("never contact: ")
    assert world.task(1)["IsClosed"] and world.task(1)["Subject"].startswith("[Withdrawn] ")
    assert world.handoff(2).state == "touched"


def test_a_user_who_was_listed_by_the_products_id_since_is_not_named(world: Any, tmp_path: Path) -> None:
    world.policy = world.policy.changed(never_contact__file="never.csv")
    file = tmp_path / "never.csv"
    file.write_text("")
    listing = lambda: file.write_text("u_0042, a tester of ours\n")  # noqa: E731
    run = ready(world, 1, top_user="u_0042")
    reason = withheld(world, world.deliver(run, salesforce=between(world, listing), listed=tmp_path))
    assert reason == "never contact: somebody whom the task names may not be contacted any more"
