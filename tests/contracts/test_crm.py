"""What every registered CRM promises, whichever it is: each test runs against the stand-in of each."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from threading import Thread
from typing import Any

import pandas as pd
import pytest
from onetouch.crm import (
    CRMS,
    LEFT_ALONE,
    RELEASED,
    WITHDRAWN,
    Crm,
    Due,
    FieldsMissing,
    LimitReached,
    OurWrites,
    Outcome,
    SignInRefused,
    Unreachable,
    connect,
)
from onetouch.crm.registry import check_system
from onetouch.crm_sync import CONTACTS, extract_crm
from onetouch.delivery import back_off, deliver_tasks, reconcile
from onetouch.handoff import AccountContext, TaskContent
from onetouch.policy import Policy, PolicyError, read_policy
from onetouch.stop import Stopped, WhyStopped, never

from tests.contracts.crm_stand_ins import SeenTask, StandIn, stand_in
from tests.delivery.world import AS_OF, BUYING

LATER = AS_OF + timedelta(hours=1)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
STANDING = AccountContext(score=12.5, tier="low", action="nurture", trigger="steady use of the product", as_of=AS_OF)


class Side:
    """A CRM's stand-in, and clients of ours for it."""

    def __init__(self, name: str, there: StandIn, world: Any) -> None:
        self.name, self.there, self.world = name, there, world
        fields = dict(world.policy.crm.contact_fields) | there.contact_fields
        self.policy: Policy = world.policy.changed(crm__system=name, crm__contact_fields=fields)

    def client(self, stopped: WhyStopped = never, **policy: Any) -> Crm:
        rules = self.policy.changed(**policy) if policy else self.policy
        return connect(self.there.connection, rules, stopped=stopped, sleep=lambda _: None)

    def task(self, handoff_id: str) -> SeenTask:
        (found,) = (task for task in self.there.tasks() if task.handoff_id == handoff_id)
        return found

    # -- the pipeline

    def decided(self, run: Any, accounts: dict[int, str], **given: Any) -> Any:
        self.world.decide(run, *accounts, owner_id=self.there.rita, **given)
        for room in ("decisions", "signals"):
            rows = self.world.lake.read(room, f"{run.run_id}.parquet")
            rows["crm_account_id"] = list(accounts.values())
            self.world.lake.write(rows, room, f"{run.run_id}.parquet")
        return run

    def deliver(self, run: Any, crm: Crm | None = None) -> dict[str, Any]:
        world = self.world
        return deliver_tasks(
            world.lake,
            world.ledger,
            self.policy,
            run,
            crm or self.client(),
            recheck=lambda ids: {i: it for i, it in world.rechecked.items() if i in ids},
            held=None,
            approved=True,
        )

    def extract(self, run: Any) -> dict[str, Any]:
        return extract_crm(self.world.lake, self.world.ledger, self.policy, run, self.client())


TOYS = {"toy_crm": ("toy_crm_default", "tests.contracts.toys.toy_crm:ToyCrm")}
"""What a CRM takes: the file, and the line by which it is registered."""


@pytest.fixture(params=[*CRMS, *TOYS])
def side(request: pytest.FixtureRequest, world: Any, monkeypatch: pytest.MonkeyPatch) -> Side:
    for name, registered in TOYS.items():
        monkeypatch.setitem(CRMS, name, registered)
    return Side(request.param, stand_in(request.param, world), world)


def task(account: str | None, side: Side, **given: Any) -> TaskContent:
    return TaskContent(
        subject="[High] Company 1 — at 92 %",
        description="Hello <b>there</b> & welcome\n\nSecond line",
        priority="high",
        due_on=date(2025, 11, 18),
        remind_at=datetime(2025, 11, 18, 10, 15, tzinfo=UTC),
        owner_id=side.there.rita,
        crm_account_id=account,
        **given,
    )


def known(name: str, domain: str | None, side: Side) -> dict[str, Any]:
    return {"name": name, "domain": domain, "owner_id": side.there.rita}


# ── the registry ─────────────────────────────────────────────────────────────────────────────────


def test_a_crm_that_is_not_registered_is_named_with_those_that_are() -> None:
    policy = read_policy().changed(crm__system="pipedrive")
    with pytest.raises(PolicyError, match=r"crm\.system: 'pipedrive' is not allowed; allowed: salesforce, hubspot"):
        check_system(policy)


def test_its_name_is_the_one_it_is_registered_by(side: Side) -> None:
    assert side.client().name == side.name


def test_it_says_where_people_open_an_account_if_it_knows(side: Side) -> None:
    accounts = side.there.accounts(1)
    page = side.client().page("account", accounts[1])
    assert page is None if side.name == "hubspot" else str(page).endswith(f"/{accounts[1]}")
    assert side.name in TOYS or "../" not in str(side.client().page("account", "../evil"))
    if side.name == "hubspot":
        there = replace(side.there.connection, extra=dict(side.there.connection.extra) | {"portal_id": "4711"})
        known = connect(there, side.policy, stopped=never, sleep=lambda _: None)
        assert known.page("account", "501") == "https://app.hubspot.com/contacts/4711/record/0-2/501"
        assert known.page("task", "1") is None


# ── the way there ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("how", ["busy", "request", "answer"])
def test_passing_faults_are_waited_out(side: Side, how: str) -> None:
    side.there.fails("reps", how, times=3)
    assert {rep["email"] for rep in side.client().read_reps()} >= {"rita@rep.example", "otto@rep.example"}


@pytest.mark.parametrize("how", ["busy", "answer"])
def test_lasting_faults_end_in_one_clear_error_without_the_address(side: Side, how: str) -> None:
    side.there.fails("reps", how, times=99)
    with pytest.raises(Unreachable) as lost:
        list(side.client().read_reps())
    assert "127.0.0.1" not in str(lost.value) and "SELECT" not in str(lost.value)
    assert lost.value.__suppress_context__


def test_the_days_calls_are_named_and_not_gone_over(side: Side) -> None:
    side.there.calls_a_day(3)
    crm, calls = side.client(delivery__api_reserve=0), 0
    with pytest.raises(LimitReached, match="next run"):
        for _ in range(20):
            crm.contacts([f"a{calls}@x.example"])
            calls += 1
    assert calls == 3


def test_a_share_of_the_days_calls_is_left_to_others(side: Side) -> None:
    side.there.calls_a_day(10)
    crm, calls = side.client(delivery__api_reserve=0.5), 0
    with pytest.raises(LimitReached, match=r"5 of 10 .* 50% are left to others \(delivery.api_reserve\)"):
        for _ in range(20):
            crm.contacts([f"a{calls}@x.example"])
            calls += 1
    assert calls == 5


def test_a_sign_in_that_is_refused_says_no_secret(side: Side) -> None:
    there = side.there.connection
    secret = {"consumer_secret": "hunter2"} if "consumer_secret" in there.extra else {}
    side.there.connection = replace(there, password="hunter2", extra=there.extra | secret)
    with pytest.raises(SignInRefused) as refused:
        side.client().check_fields()
    assert "hunter2" not in str(refused.value)


def test_missing_fields_are_named_before_anything_is_written(side: Side) -> None:
    accounts = side.there.accounts(1)
    side.there.lacks_fields()
    with pytest.raises(FieldsMissing, match=r"(?i)score\w* is missing"):
        side.client().update_accounts({accounts[1]: AccountContext(tier="high")})
    with pytest.raises(FieldsMissing, match="is missing"):
        side.client().create_tasks({"h1": task(accounts[1], side)})
    assert side.there.tasks() == []


# ── accounts ─────────────────────────────────────────────────────────────────────────────────────


def test_the_context_is_written_and_what_is_unknown_erases_nothing(side: Side) -> None:
    accounts = side.there.accounts(1)
    context = AccountContext(
        account_id="org-1",
        score=57.5,
        tier="high",
        trigger="at 92 % of the limit",
        motion="sales_assist",
        activated=True,
        milestones="4 of 5",
        team_size=7.0,
        features_used="dashboards and alerts",
        usage=1234.0,
        limit_share=92.5,
        dossier="Company 1\n\nWHY NOW",
        policy_version="abc",
        as_of=AS_OF,
    )
    assert side.client().update_accounts({accounts[1]: context})[accounts[1]].ok
    assert side.client().update_accounts({accounts[1]: AccountContext(activated=False)})[accounts[1]].ok
    seen = side.there.account(accounts[1])
    assert (seen.pop("name"), seen.pop("owner_id")) == ("Company 1", side.there.rita)
    assert "company1.example" in seen.pop("domain")
    assert AccountContext(**seen) == replace(context, activated=False)


def test_a_new_episode_empties_what_the_last_one_has_left_and_nothing_else(side: Side) -> None:
    accounts = side.there.accounts(1)
    before = AccountContext(
        account_id="org-1", score=57.5, tier="high", trigger="at 92 % of the limit", motion="sales_assist",
        activated=True, milestones="4 of 5", team_size=7.0, usage=1234.0, limit_share=92.5, dossier="Then", as_of=AS_OF,
    )  # fmt: skip
    now = AccountContext(account_id="org-1", trigger="pricing seen", milestones="5 of 5", team_size=8.0, dossier="Now")
    for context in (before, now):
        assert side.client().update_accounts({accounts[1]: context})[accounts[1]].ok
    seen = side.there.account(accounts[1])
    assert (seen["trigger"], seen["dossier"], seen["name"]) == ("pricing seen", "Now", "Company 1")
    assert not [name for name in ("motion", "usage", "limit_share", "features_used") if seen.get(name) is not None]
    assert (seen["tier"], seen["score"], seen["activated"], seen["as_of"]) == ("high", 57.5, True, AS_OF)


def test_a_text_longer_than_a_field_is_cut_and_the_rest_goes_in(side: Side) -> None:
    accounts = side.there.accounts(1)
    context = AccountContext(trigger="🚀" * 400, features_used="a" * 900, tier="high")
    assert side.client().update_accounts({accounts[1]: context})[accounts[1]].ok
    seen = side.there.account(accounts[1])
    assert seen["tier"] == "high"
    assert (seen["features_used"], seen["trigger"][-1]) == ("a" * 254 + "…", "…")


def test_every_row_has_its_own_outcome(side: Side) -> None:
    accounts = side.there.accounts(*range(1, 402))
    side.there.deletes("account", accounts[7])
    rows = {crm_id: AccountContext(score=n / 10) for n, crm_id in accounts.items()}
    rows[accounts[300]] = AccountContext(tier="no such tier")
    outcomes = side.client().update_accounts(rows)
    assert set(outcomes) == set(rows)
    assert {i for i, outcome in outcomes.items() if not outcome.ok} == {accounts[7], accounts[300]}
    assert (outcomes[accounts[7]].deleted, outcomes[accounts[300]].deleted) == (True, False)
    assert outcomes[accounts[300]].code and not outcomes[accounts[300]].retryable
    assert side.there.account(accounts[401])["score"] == 40.1


def test_an_account_is_found_by_our_id_then_by_its_domain_else_made_once(side: Side) -> None:
    accounts = side.there.accounts(1, 2)
    side.client().update_accounts({accounts[1]: AccountContext(account_id="org-1")})
    rows = {
        "org-1": known("One", None, side),
        "org-2": known("Two", "company2.example", side),
        "org-3": known("Three", "three.example", side),
    }
    first = side.client().ensure_accounts(rows, "account")
    assert (first["org-1"].id, first["org-2"].id) == (accounts[1], accounts[2])
    assert side.there.account(accounts[2])["account_id"] == "org-2"
    made = side.there.account(str(first["org-3"].id))
    assert (made["name"], made["domain"], made["owner_id"]) == ("Three", "three.example", side.there.rita)
    assert made["account_id"] == "org-3"
    assert side.client().ensure_accounts(rows, "account") == first
    assert side.there.how_many_accounts() == 3
    assert side.client().ensure_accounts({}, "account") == {}


def test_a_record_with_the_id_of_another_product_account_is_that_ones(side: Side) -> None:
    accounts = side.there.accounts(1)
    side.client().update_accounts({accounts[1]: AccountContext(account_id="org-9")})
    outcome = side.client().ensure_accounts({"org-1": known("Twin", "company1.example", side)}, "account")["org-1"]
    assert outcome.ok and outcome.id != accounts[1]
    assert side.there.account(accounts[1])["account_id"] == "org-9"


def test_two_product_accounts_of_one_domain_stay_two_records(side: Side) -> None:
    accounts = side.there.accounts(1)
    rows = {f"org-{n}": known(f"Acme {n}", "company1.example", side) for n in (1, 2)}
    outcomes = side.client().ensure_accounts(rows, "account")
    assert outcomes["org-1"].id == accounts[1]
    assert outcomes["org-2"].ok and outcomes["org-2"].id != accounts[1]
    assert side.there.account(accounts[1])["account_id"] == "org-1"


def test_a_deleted_account_is_not_made_again(side: Side) -> None:
    accounts = side.there.accounts(1)
    side.client().update_accounts({accounts[1]: AccountContext(account_id="org-1")})
    side.there.deletes("account", accounts[1])
    assert side.client().ensure_accounts({"org-1": known("One", None, side)}, "account")["org-1"].deleted
    assert side.there.how_many_accounts() == 0


@pytest.mark.parametrize("kind", ["account", "lead"])
@pytest.mark.parametrize("lost", ["request", "answer"])
def test_an_account_is_made_once_whatever_is_lost(side: Side, kind: str, lost: str) -> None:
    side.there.fails("accounts", lost, times=2)
    rows = {"org-1": known("One", "one.example", side), "org-2": known("Two", None, side)}
    outcomes = side.client().ensure_accounts(rows, kind)
    assert all(outcome.ok for outcome in outcomes.values())
    assert side.client().ensure_accounts(rows, kind) == outcomes
    written = side.client().update_accounts({str(o.id): AccountContext(tier="high") for o in outcomes.values()})
    assert all(outcome.ok for outcome in written.values())


# ── tasks ────────────────────────────────────────────────────────────────────────────────────────


def test_a_task_is_what_the_rep_sees(side: Side) -> None:
    accounts = side.there.accounts(1)
    contact = side.there.contact("Eve@company1.example", accounts[1])
    outcome = side.client().create_tasks({"h1": task(accounts[1], side, contact_id=contact)})["h1"]
    assert outcome == Outcome(ok=True, id=side.task("h1").task_id)
    assert side.task("h1") == SeenTask(
        task_id=str(outcome.id),
        handoff_id="h1",
        subject="[High] Company 1 — at 92 %",
        description="Hello <b>there</b> & welcome\n\nSecond line",
        is_done=False,
        is_deleted=False,
        owner_id=side.there.rita,
        crm_account_id=accounts[1],
        contact_id=contact,
        due_on=date(2025, 11, 18),
    )
    told = side.client().tasks_of(["h1", "h2"])
    assert set(told) == {"h1"}
    shown = told["h1"]
    assert shown.description == "Hello <b>there</b> & welcome\n\nSecond line"
    assert (shown.crm_account_id, shown.owner_id, shown.is_done) == (accounts[1], side.there.rita, False)
    assert (shown.handoff_id, shown.kind, shown.created_at, shown.done_at) == ("h1", "task", AS_OF, None)
    assert side.client().tasks_of([]) == {}


def test_a_task_that_is_there_is_adopted_and_never_written_over(side: Side) -> None:
    accounts = side.there.accounts(1)
    first = side.client().create_tasks({"h1": task(accounts[1], side)})["h1"]
    side.there.edits(str(first.id), subject="Rita's own words", is_done=True)
    for unsure in ([], ["h1"]):
        again = side.client().create_tasks({"h1": task(accounts[1], side)}, unsure)["h1"]
        assert again == Outcome(ok=True, id=first.id)
    (kept,) = side.there.tasks()
    assert (kept.subject, kept.is_done) == ("Rita's own words", True)


def test_a_deleted_task_is_not_made_again(side: Side) -> None:
    accounts = side.there.accounts(1)
    first = side.client().create_tasks({"h1": task(accounts[1], side)})["h1"]
    side.there.deletes("task", str(first.id))
    again = side.client().create_tasks({"h1": task(accounts[1], side)}, ["h1"])["h1"]
    assert again == Outcome(ok=True, id=first.id, deleted=True)
    assert len(side.there.tasks()) == 1
    assert side.client().tasks_of(["h1"])["h1"].is_deleted


@pytest.mark.parametrize("lost", ["request", "answer", "busy"])
def test_a_lost_request_or_answer_makes_no_second_task(side: Side, lost: str) -> None:
    accounts = side.there.accounts(1)
    side.there.fails("tasks", lost, times=2)
    outcomes = side.client().create_tasks({f"h{n}": task(accounts[1], side) for n in range(5)})
    assert all(outcome.ok for outcome in outcomes.values())
    assert len(side.there.tasks()) == 5


def test_a_row_refused_does_not_stop_the_others(side: Side) -> None:
    accounts = side.there.accounts(1, 2)
    side.there.deletes("account", accounts[2])
    rows = {f"h{n:03}": task(accounts[1], side) for n in range(250)}
    rows["h120"] = task(accounts[2], side)
    outcomes = side.client().create_tasks(rows)
    assert {h for h, outcome in outcomes.items() if not outcome.ok} == {"h120"}
    assert outcomes["h120"].deleted  # its account is not there
    assert len(side.there.tasks()) == 249


def test_two_writers_at_once_make_one_task_each(side: Side) -> None:
    accounts = side.there.accounts(1)
    rows = {f"h{n}": task(accounts[1], side) for n in range(40)}
    told: list[dict[str, Outcome]] = []
    threads = [Thread(target=lambda: told.append(side.client().create_tasks(rows))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 3
    assert told[0] == told[1] == told[2]
    assert all(outcome.ok for outcome in told[0].values())
    assert len(side.there.tasks()) == 40


def test_tasks_are_closed_with_label_and_reason_and_those_of_reps_left_alone(side: Side) -> None:
    accounts = side.there.accounts(1)
    crm = side.client()
    made = crm.create_tasks({h: task(accounts[1], side) for h in ("open", "done", "released", "gone")})
    for handoff_id in ("done", "released"):
        side.there.edits(str(made[handoff_id].id), is_done=True, description="I called")
    side.there.deletes("task", str(made["gone"].id))
    labels = {"open": WITHDRAWN, "done": WITHDRAWN, "released": RELEASED, "gone": WITHDRAWN, "never": WITHDRAWN}
    for _ in range(2):  # the second time changes nothing
        outcomes = crm.close_tasks({h: (label, "1 < 2 & done") for h, label in labels.items()})
        assert all(outcome.ok for outcome in outcomes.values())
        assert {h for h, outcome in outcomes.items() if outcome.by_rep} == {"done", "released"}
        closed = side.task("open")
        assert (closed.is_done, closed.subject) == (True, "[Withdrawn] [High] Company 1 — at 92 %")
        assert closed.description.startswith("Withdrawn: 1 < 2 & done\n\nHello <b>there</b>")
        assert (side.task("done").subject, side.task("done").description) == ("[High] Company 1 — at 92 %", "I called")
        assert side.task("released").subject == "[High] Company 1 — at 92 %"
        assert side.task("released").description == "Released: 1 < 2 & done\n\nI called"
    assert crm.tasks_of(["open"])["open"].closed_by_us
    side.there.edits(str(made["open"].id), is_done=False)  # the rep reopens it
    assert crm.close_tasks({"open": (WITHDRAWN, "again")})["open"].ok
    assert not side.task("open").is_done


def test_an_open_task_is_given_to_somebody_else_and_what_reps_have_done_with_theirs_is_left_alone(side: Side) -> None:
    accounts, rita, otto = side.there.accounts(1), side.there.rita, side.there.otto
    crm = side.client()
    made = crm.create_tasks({h: task(accounts[1], side) for h in ("open", "edited", "done", "gone", "given", "closed")})
    side.there.edits(str(made["edited"].id), description="my own words")
    side.there.edits(str(made["done"].id), is_done=True)
    side.there.deletes("task", str(made["gone"].id))
    crm.close_tasks({"closed": (WITHDRAWN, "why")})
    assert crm.reassign_tasks({"given": (rita, otto)})["given"].ok
    owners = {h: (rita, otto) for h in ("open", "edited", "done", "gone", "closed", "never")} | {"given": ("x", rita)}
    for _ in range(2):  # the second time changes nothing
        outcomes = crm.reassign_tasks(owners)
        assert {h for h, outcome in outcomes.items() if outcome.ok} == {"open", "edited"}
        left = {outcome.code for outcome in outcomes.values() if not outcome.ok}
        assert left == {LEFT_ALONE}
        theirs = {t.handoff_id: t.owner_id for t in side.there.tasks() if not t.is_deleted}
        assert theirs == {"open": otto, "edited": otto, "given": otto, "done": rita, "closed": rita}
        assert side.task("edited").description == "my own words"
        assert not side.task("open").is_done
    assert crm.tasks_of(["open"])["open"].owner_id == otto


def test_a_task_is_done_as_its_rep_would_have_and_what_a_rep_has_done_stands(side: Side) -> None:
    accounts, crm = side.there.accounts(1), side.client()
    made = crm.create_tasks({h: task(accounts[1], side) for h in ("plain", "judged", "done", "gone", "closed")})
    side.there.edits(str(made["done"].id), is_done=True, disposition="Good")
    side.there.deletes("task", str(made["gone"].id))
    crm.close_tasks({"closed": (WITHDRAWN, "why")})
    answers = {"plain": None, **dict.fromkeys(("judged", "done", "gone", "closed", "never"), "Not now")}
    first = crm.answer_tasks(answers)
    assert {h for h, outcome in first.items() if outcome.ok} == {"plain", "judged"}
    again = crm.answer_tasks(answers)  # repeated it changes nothing
    assert {outcome.code for h, outcome in {**first, **again}.items() if not outcome.ok} == {LEFT_ALONE}
    there = crm.tasks_of(answers)
    noted = {h: (found.is_done, found.disposition) for h, found in there.items() if not found.is_deleted}
    assert noted == {
        "plain": (True, None), "judged": (True, "Not now"), "done": (True, "Good"), "closed": (True, None),
    }  # fmt: skip


def test_who_gets_a_task_anew_gets_a_day_of_their_own(side: Side) -> None:
    accounts, rita, otto = side.there.accounts(1), side.there.rita, side.there.otto
    crm = side.client()
    crm.create_tasks({h: task(accounts[1], side) for h in ("anew", "as it was")})
    before = side.task("anew").due_on
    due = Due(date(2025, 11, 27), AS_OF)
    owners = dict.fromkeys(("anew", "as it was"), (rita, otto))
    assert all(outcome.ok for outcome in crm.reassign_tasks(owners, {"anew": due}).values())
    assert [side.task(h).owner_id for h in owners] == [otto, otto]
    assert [side.task(h).due_on for h in owners] == [due.on, before]


# ── reading ──────────────────────────────────────────────────────────────────────────────────────


def test_reps_are_told_with_address_and_whether_they_work_there(side: Side) -> None:
    reps = {rep["owner_id"]: rep for rep in side.client().read_reps()}
    rita = reps[side.there.rita]
    assert (rita["email"], rita["active"]) == ("rita@rep.example", True)
    assert rita["name"].startswith("Rita")
    assert set(rita) == {"owner_id", "email", "name", "active", "timezone"}


def test_accounts_all_of_them_or_what_changed(side: Side) -> None:
    accounts = side.there.accounts(1, 2, 3, 4)
    policy = side.policy
    rows = {row["crm_account_id"]: row for row in side.client().read_accounts(policy)}
    assert set(rows) == set(accounts.values())
    first = rows[accounts[1]]
    columns = {column for column, field in policy.crm.account_fields.items() if field}
    assert set(first) == columns | {
        "crm_account_id", "owner_id", "account_id", "created_at", "is_deleted", "merged_into",
    }  # fmt: skip
    assert (first["name"], first["owner_id"], first["account_id"]) == ("Company 1", side.there.rita, None)
    assert (first["is_deleted"], first["merged_into"], first["created_at"].tzinfo) == (False, None, UTC)
    side.there.clock(LATER)
    assert list(side.client().read_accounts(policy, LATER)) == []
    side.client().update_accounts({accounts[1]: AccountContext(score=1)})
    side.there.deletes("account", accounts[4])
    left = side.there.merges(accounts[3], accounts[2])
    changed = {row["crm_account_id"]: row for row in side.client().read_accounts(policy, LATER)}
    assert not changed[accounts[1]]["is_deleted"]
    assert (changed[accounts[4]]["is_deleted"], changed[accounts[4]]["merged_into"]) == (True, None)
    assert (changed[accounts[2]]["is_deleted"], changed[accounts[2]]["merged_into"]) == (True, left)


def test_what_only_we_have_written_is_not_read_again(side: Side) -> None:
    ids = side.there.accounts(1, 2, 3, 4)
    since, writing = AS_OF + timedelta(minutes=5), AS_OF + timedelta(minutes=10)
    crm = side.client()
    assert crm.last_written(AS_OF) is None
    side.there.clock(writing)
    assert all(outcome.ok for outcome in crm.update_accounts({ids[n]: STANDING for n in (1, 2, 3)}).values())
    side.there.clock(writing + timedelta(minutes=1))
    until = crm.last_written(AS_OF)
    assert until == writing
    ours = OurWrites({AS_OF: until})

    def changed(ours: OurWrites | None) -> set[str]:
        return {row["crm_account_id"] for row in crm.read_accounts(side.policy, since, ours)}

    assert changed(None) == {ids[n] for n in (1, 2, 3)}
    assert changed(ours) == set()
    side.there.renames(ids[2], "Renamed")
    side.there.renames(ids[4], "Renamed, too")
    side.there.clock(writing + timedelta(minutes=2))
    assert changed(ours) == {ids[2], ids[4]}
    assert changed(replace(ours, unread=frozenset({ids[1]}))) == {ids[1], ids[2], ids[4]}
    assert changed(OurWrites({LATER: LATER})) == {ids[n] for n in (1, 2, 3, 4)}


def test_what_is_gone_names_the_account_that_is_left(side: Side) -> None:
    accounts = side.there.accounts(1, 2, 3)
    side.there.deletes("account", accounts[3])
    left = side.there.merges(accounts[1], accounts[2])
    gone = side.client().gone_since(LONG_AGO)
    assert (gone[accounts[2]], gone[accounts[3]]) == (left, None)
    assert left not in gone
    assert side.client().gone_since(AS_OF + timedelta(days=1)) == {}


def test_opportunities_open_won_and_lost(side: Side) -> None:
    accounts = side.there.accounts(1, 2, 3)
    deals = {state: side.there.deal(accounts[n], state) for n, state in ((1, "open"), (2, "won"), (3, "lost"))}
    crm = side.client()
    rows = {row["opportunity_id"]: row for row in crm.read_opportunities()}
    assert set(rows) == set(deals.values())
    told = {state: (rows[i]["is_closed"], rows[i]["is_won"]) for state, i in deals.items()}
    assert told == {"open": (False, False), "won": (True, True), "lost": (True, False)}
    first = rows[deals["open"]]
    assert (first["crm_account_id"], first["amount"], first["owner_id"]) == (accounts[1], 1200.5, side.there.rita)
    assert (first["closed_at"], rows[deals["won"]]["closed_at"]) == (None, datetime(2025, 11, 17, tzinfo=UTC))
    assert crm.opportunities_since(AS_OF) == set(accounts.values())  # opened since, whatever has become of it
    side.there.clock(LATER)
    assert crm.opportunities_since(LATER) == set()
    assert crm.opportunities_since(LATER, set(accounts.values())) == {accounts[1]}
    side.there.deletes("deal", deals["open"])
    assert [(r["opportunity_id"], r["is_deleted"]) for r in crm.read_opportunities(LATER)] == [(deals["open"], True)]


def test_activities_tell_when_they_took_place(side: Side) -> None:
    accounts = side.there.accounts(1)
    side.there.logs("call", accounts[1], "Called", side.there.rita)
    side.there.logs("meeting", accounts[1], "Met", side.there.otto)
    side.there.logs("task", accounts[1], "Open", side.there.rita)
    found = {activity.subject: activity for activity in side.client().read_activities(AS_OF)}
    assert {s: (a.kind, a.is_done, a.done_at) for s, a in found.items()} == {
        "Called": ("call", True, AS_OF),
        "Met": ("meeting", True, AS_OF),
        "Open": ("task", False, None),
    }
    assert {activity.crm_account_id for activity in found.values()} == {accounts[1]}
    assert (found["Called"].owner_id, found["Met"].owner_id) == (side.there.rita, side.there.otto)
    assert {a.subject for a in side.client().activities_of([accounts[1]], AS_OF)} == {"Called", "Met", "Open"}
    assert list(side.client().activities_of([], AS_OF)) == []
    assert list(side.client().read_activities(AS_OF + timedelta(minutes=1))) == []


def test_tasks_of_ours_are_read_with_the_reps_picks_and_after_their_end(side: Side) -> None:
    accounts = side.there.accounts(1)
    crm = side.client()
    made = crm.create_tasks({"h1": task(accounts[1], side), "h2": task(None, side)})
    side.there.edits(str(made["h1"].id), outcome="No response", disposition="Not now", is_done=True)
    picked = crm.tasks_of(["h1"])["h1"]
    assert (picked.outcome, picked.disposition, picked.is_done, picked.done_at) == (
        "No response",
        "Not now",
        True,
        AS_OF,
    )
    side.there.deletes("task", str(made["h1"].id))
    assert {a.handoff_id: a.is_deleted for a in crm.keyed_tasks(AS_OF)} == {"h1": True, "h2": False}
    assert {a.handoff_id for a in crm.read_activities(AS_OF)} == {"h1", "h2"}
    assert list(crm.keyed_tasks(AS_OF + timedelta(minutes=1))) == []


def test_contacts_are_found_whatever_the_case_of_their_address(side: Side) -> None:
    accounts = side.there.accounts(1)
    contact = side.there.contact("Eve@Company1.example", accounts[1])
    asked = ["EVE@company1.example ", "nobody@x.example", "o'neil@x.example", ""]
    assert side.client().contacts(asked) == {(accounts[1], "eve@company1.example"): contact}
    assert side.client().contacts([]) == {}


def person(side: Side, account: str, **more: Any) -> dict[str, Any]:
    return {
        "crm_account_id": account, "email": "mia@company1.example", "name": "Mia Anna Koch", "title": "CTO",
        "owner_id": side.there.rita, **more,
    }  # fmt: skip


def test_a_contact_is_made_once_whoever_asks_how_often(side: Side) -> None:
    accounts = side.there.accounts(1)
    eve = side.there.contact("Eve@company1.example", accounts[1])
    client, rows = side.client(crm__contacts="create"), {"h1": person(side, accounts[1])}
    made = client.ensure_contacts(rows)
    assert made["h1"].ok and made["h1"].id
    assert client.ensure_contacts(rows)["h1"].id == made["h1"].id
    again = side.client(crm__contacts="create").ensure_contacts({"h9": person(side, accounts[1], name="Mia")})
    assert again["h9"].id == made["h1"].id
    known = client.ensure_contacts({"h2": person(side, accounts[1], email="eve@company1.example")})
    assert known["h2"].id == eve
    [mia] = [one for one in side.there.people() if one["email"] == "mia@company1.example"]
    assert mia == person(side, accounts[1])
    assert len(side.there.people()) == 2


def test_a_contact_of_ours_that_was_deleted_is_not_made_again(side: Side) -> None:
    accounts = side.there.accounts(1)
    client, rows = side.client(crm__contacts="create"), {"h1": person(side, accounts[1])}
    side.there.deletes("contact", str(client.ensure_contacts(rows)["h1"].id))
    outcome = client.ensure_contacts(rows)["h1"]
    assert outcome.deleted or not outcome.ok
    assert side.there.people() == []


def test_a_contact_with_an_address_alone_is_made_too(side: Side) -> None:
    accounts = side.there.accounts(1)
    client = side.client(crm__contacts="create")
    assert client.ensure_contacts({"h1": person(side, accounts[1], name=None, title=None, owner_id=None)})["h1"].ok
    assert [one["email"] for one in side.there.people()] == ["mia@company1.example"]


def test_people_are_read_with_what_they_opted_out_of(side: Side) -> None:
    accounts = side.there.accounts(1, 2)
    eve, max_ = (side.there.contact(f"{name}@Company1.example", accounts[1]) for name in ("Eve", "Max"))
    ann = side.there.contact("ann@company2.example", accounts[2])
    side.there.opts_out(max_, "call")
    side.there.opts_out(ann, "call", "email")
    told: list[str] = []
    rows = {row["contact_id"]: row for row in side.client().read_contacts(tell=told.append)}
    assert told == []
    assert {i: (row["do_not_call"], row["email_opt_out"]) for i, row in rows.items()} == {
        eve: (False, False),
        max_: (True, False),
        ann: (True, True),
    }
    assert {row["crm_account_id"] for row in rows.values()} == set(accounts.values())
    assert {name: rows[eve][name] for name in ("kind", "email", "name", "crm_account_id", "is_deleted")} == {
        "kind": "contact",
        "email": "eve@company1.example",
        "name": "Doe",
        "crm_account_id": accounts[1],
        "is_deleted": False,
    }
    assert rows[eve]["changed_at"] == AS_OF


def test_people_that_changed_or_were_deleted_since_are_read_alone(side: Side) -> None:
    accounts = side.there.accounts(1)
    one, two, three = (side.there.contact(f"p{n}@company1.example", accounts[1]) for n in (1, 2, 3))
    side.there.clock(LATER)
    side.there.opts_out(two, "email")
    side.there.deletes("contact", three)
    rows = {row["contact_id"]: row for row in side.client().read_contacts(LATER)}
    assert {i: row["is_deleted"] for i, row in rows.items()} == {two: False, three: True}
    assert rows[two]["email_opt_out"] is True
    assert {row["contact_id"] for row in side.client().read_contacts()} == {one, two}
    assert list(side.client().read_contacts(LATER + timedelta(minutes=1))) == []


def test_the_people_of_some_accounts_are_read_as_they_are_now(side: Side) -> None:
    accounts = side.there.accounts(1, 2, 3)
    one, two, three = (side.there.contact(f"p{n}@company{n}.example", accounts[n]) for n in (1, 2, 3))
    gone = side.there.contact("gone@company1.example", accounts[1])
    side.there.deletes("contact", gone)
    side.there.opts_out(one, "email")
    crm = side.client()
    rows = list(crm.contacts_of([accounts[1]], ["p2@company2.example", "p1@company1.example", "nobody@x.example"]))
    assert sorted((row["contact_id"], row["email_opt_out"]) for row in rows) == sorted([(one, True), (two, False)])
    assert [row["contact_id"] for row in crm.contacts_of([accounts[3]])] == [three]
    assert list(crm.contacts_of([])) == []


@pytest.mark.parametrize("what", ["do_not_call", "email_opt_out"])
def test_an_opt_out_that_is_not_shown_is_unknown_and_said(side: Side, what: str) -> None:
    accounts = side.there.accounts(1)
    contact = side.there.contact("eve@company1.example", accounts[1])
    side.there.opts_out(contact, "call", "email")
    side.there.hides(what)
    told: list[str] = []
    [row] = side.client().read_contacts(tell=told.append)
    assert (row[what], row["do_not_call"] is True, row["email_opt_out"] is True) == (
        None,
        what != "do_not_call",
        what != "email_opt_out",
    )
    [line] = told
    assert what in line
    [again] = side.client().contacts_of([accounts[1]])
    assert again[what] is None
    run = side.world.run()
    summary = side.extract(run)
    assert summary["warnings"] == [f"{side.name}: {line}"]
    assert summary["unknown_opt_outs"] == {"do_not_call": 0, "email_opt_out": 0} | {what: 1}


def test_the_next_hour_ends_with_the_people_that_a_whole_reading_finds(side: Side) -> None:
    accounts = side.there.accounts(1, 2, 3)
    there = {n: side.there.contact(f"p{n}@company1.example", accounts[1]) for n in range(1, 6)}
    side.extract(side.world.run())
    side.there.clock(LATER)
    side.there.opts_out(there[1], "call", "email")
    side.there.deletes("contact", there[2])
    there[6] = side.there.contact("p6@company2.example", accounts[2])
    hour = side.world.run(AS_OF + timedelta(hours=2))
    assert side.extract(hour)["contacts"] == 5
    found = side.world.lake.read("crm", hour.run_id, "contacts.parquet")
    day = side.world.run(AS_OF + timedelta(days=1))
    side.extract(day)
    pd.testing.assert_frame_equal(found, side.world.lake.read("crm", day.run_id, "contacts.parquet"))
    flags = found.set_index("contact_id")[["do_not_call", "email_opt_out"]]
    assert flags.loc[there[1]].all() and not flags.drop(there[1]).any(axis=None)
    assert list(found.columns) == list(CONTACTS)


# ── the stop ─────────────────────────────────────────────────────────────────────────────────────


def test_while_it_is_stopped_nothing_is_written_and_reading_goes_on(side: Side) -> None:
    accounts = side.there.accounts(1)
    made = side.client().create_tasks({"h1": task(accounts[1], side)})
    crm = side.client(stopped=lambda: "fire")
    for write in (
        lambda: crm.update_accounts({accounts[1]: AccountContext(score=1)}),
        lambda: crm.ensure_accounts({"org-2": known("Two", "two.example", side)}, "account"),
        lambda: crm.create_tasks({"h2": task(accounts[1], side)}),
        lambda: crm.close_tasks({"h1": (WITHDRAWN, "why")}),
        lambda: crm.reassign_tasks({"h1": (side.there.rita, side.there.otto)}),
        lambda: crm.answer_tasks({"h1": None}),
        crm.create_fields,
    ):
        with pytest.raises(Stopped, match="stopped: fire"):
            write()
    assert "score" not in side.there.account(accounts[1])
    assert side.there.how_many_accounts() == 1
    assert [(t.handoff_id, t.is_done) for t in side.there.tasks()] == [("h1", False)]
    assert crm.tasks_of(["h1"])["h1"].activity_id == made["h1"].id
    assert len(list(crm.read_accounts(side.policy))) == 1


def test_a_stop_comes_between_two_requests_of_one_batch(side: Side) -> None:
    """450 tasks are several requests: after a stop at most the one under way arrives."""
    side.policy = side.policy.changed(assignment__tasks_per_day=1000, assignment__tasks_per_rep_per_day=1000)
    run = side.decided(side.world.ledger.begin_run(AS_OF, side.policy, False), side.there.accounts(*range(1, 451)))
    made = lambda: [task.handoff_id for task in side.there.tasks()]  # noqa: E731
    with pytest.raises(Stopped):
        side.deliver(run, side.client(stopped=lambda: "fire" if made() else None))
    first = made()
    assert 0 < len(first) < 450 / 2, f"{len(first)} tasks were made"
    waiting = {row.handoff_id for row in side.world.ledger.unsent() if row.kind == "task"}
    assert len(waiting) == 450 - len(first), "what was sent is on record"
    assert waiting.isdisjoint(first)
    assert side.deliver(run)["delivered"] == 450
    assert max(Counter(made()).values()) == 1
    assert len(made()) == 450
    assert set(first) <= set(made())
    assert side.world.ledger.unsent() == []


# ── the whole way ────────────────────────────────────────────────────────────────────────────────


def test_from_the_decision_to_the_release(side: Side) -> None:
    world, accounts = side.world, side.there.accounts(1, 2)
    run = world.ledger.begin_run(AS_OF, side.policy, False)
    side.extract(run)
    side.decided(run, accounts)
    for _ in range(2):  # repeated it changes nothing
        assert side.deliver(run)["delivered"] == 2
        assert len(side.there.tasks()) == 2
    mine = side.task(world.handoff(1).handoff_id)
    assert mine.subject == "[High] Company 1 — at 92 % of the API calls limit (9,200 of 10,000)"
    assert mine.crm_account_id == accounts[1]
    seen = side.there.account(accounts[1])
    assert (seen["account_id"], seen["limit_share"]) == ("org-1", 92)
    assert "EXPANSION SIGNALS" in seen["dossier"]
    assert {row["destination"] for row in world.ledger.dump()["outbox"]} == {side.name}

    called = AS_OF + timedelta(hours=1)
    side.there.clock(called)
    side.there.edits(mine.task_id, is_done=True, outcome="No response", disposition="Not now")
    side.extract(world.ledger.begin_run(AS_OF + timedelta(hours=2), side.policy, False))
    assert (world.handoff(1).state, world.handoff(1).touched_at) == ("touched", called)

    released = called + timedelta(days=side.policy.handoff.touches * side.policy.handoff.silence_days)
    side.there.clock(released)
    end = world.ledger.begin_run(released, side.policy, False)
    side.extract(end)
    back_off(world.ledger, side.policy, end, side.client(), held=None)
    assert (world.handoff(1).state, world.handoff(2).state) == ("released", "expired")
    assert side.task(world.handoff(1).handoff_id).description.startswith("Released: ")
    assert side.task(world.handoff(2).handoff_id).subject.startswith("[Expired] ")


def test_what_has_begun_since_the_decision_keeps_the_task_back(side: Side) -> None:
    accounts = side.there.accounts(1, 2, 3, 4)
    run = side.world.ledger.begin_run(AS_OF, side.policy, False)
    side.extract(run)
    side.decided(run, accounts)
    side.there.clock(AS_OF + timedelta(minutes=1))
    side.there.deal(accounts[1], "open")
    side.there.logs("call", accounts[2], "c", side.there.otto)
    side.world.rechecked = {"org-4": BUYING}
    summary = side.deliver(run)
    assert summary["delivered"] == 1
    assert summary["withheld"] == {"open opportunity": 1, "touched": 1, "checkout": 1}
    assert [made.crm_account_id for made in side.there.tasks() if made.handoff_id] == [accounts[3]]


def test_ledger_and_crm_agree_and_what_a_rep_deleted_is_found(side: Side) -> None:
    world = side.world
    run = side.decided(world.ledger.begin_run(AS_OF, side.policy, False), side.there.accounts(1, 2))
    side.deliver(run)
    side.client().create_tasks({"unknown": task(None, side)})
    side.there.deletes("task", side.task(world.handoff(1).handoff_id).task_id)
    later = world.ledger.begin_run(LATER, side.policy, False)
    found = reconcile(world.ledger, side.policy, later, side.client(), held=None)
    assert (found["looked_at"], found["agreeing"]) == (3, 1)
    assert found["repaired"] == {"a task that was deleted": 1}
    assert [row["handoff_id"] for row in found["reported"]] == ["unknown"]
    assert world.handoff(1).state == "withdrawn"


def test_nothing_sent_is_an_error_and_not_an_outcome(side: Side) -> None:
    accounts = side.there.accounts(1)
    side.there.calls_a_day(0)
    with pytest.raises(LimitReached):
        side.client().create_tasks({"h1": task(accounts[1], side)})
    with pytest.raises(LimitReached):
        side.client().update_accounts({accounts[1]: AccountContext(score=1)})
    assert side.there.tasks() == []
