"""One touch as a machine: arbitrary histories against a plain model, and each case by name at the CRM's far end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onetouch.crm.protocol import CLOSED_BY_US, Activity
from onetouch.crm_sync.one_touch import LABELS, Seen, ending, merged, moves, new_owner, next_follow_up
from onetouch.delivery import back_off
from onetouch.ledger import Handoff
from onetouch.ledger.states import ACTIVE, check_move
from onetouch.policy import read_policy
from onetouch.sandbox.fields import make_id

AS_OF = datetime(2025, 11, 18, 10, tzinfo=UTC)
RITA, OTTO = make_id("005", 101), make_id("005", 102)
EMAILS: dict[str, str | None] = {RITA: "rita@rep.example", OTTO: "otto@rep.example"}
SILENCE, EXPIRES = timedelta(days=7), timedelta(hours=72)
REPLY = timedelta(days=12)
"""Shorter than the policy's, for histories to get there."""
POLICY = read_policy()


def crm_id(number: int) -> str:
    return make_id("001", number)


def hours(n: float) -> datetime:
    return AS_OF + timedelta(hours=n)


def test_the_policy_is_the_one_these_histories_are_about() -> None:
    assert (POLICY.handoff.touches, POLICY.handoff.silence_days, POLICY.handoff.expires_hours) == (1, 7, 72)


# ── arbitrary histories ──────────────────────────────────────────────────────────────────────────


def handed_over(**given: Any) -> Handoff:
    facts: dict[str, Any] = dict.fromkeys(Handoff.__dataclass_fields__)
    facts |= {"handoff_id": "h1", "account_id": "org-1", "crm_account_id": "001A", "episode": 1, "signals": []}
    facts |= {"run_id": "r", "state": "context_written", "decided_at": AS_OF, "reason": "", "owner_id": RITA}
    return Handoff(**facts | {"owner_email": EMAILS[RITA]} | given)


@dataclass
class Play:
    """A CRM of one account, the people in it, and the machine that watches them."""

    now: datetime = AS_OF + timedelta(minutes=20)
    handoff: Handoff = field(default_factory=handed_over)
    task: dict[str, Any] = field(default_factory=dict)
    others: list[dict[str, Any]] = field(default_factory=list)
    deals: list[dict[str, Any]] = field(default_factory=list)
    deleted: bool = False
    windowed: bool = False
    looked: datetime = AS_OF

    def __post_init__(self) -> None:
        self.task = self._new(RITA, done_at=None, key="h1", activity_id="t")

    def _new(self, who: str, **given: Any) -> dict[str, Any]:
        return {
            "activity_id": f"a{len(self.others)}", "kind": "task", "crm_account_id": "001A", "owner_id": who,
            "subject": "s", "description": "", "is_deleted": False, "created_at": self.now, "done_at": self.now,
            "changed_at": self.now, "key": None, "outcome": None, "is_answer": False,
            "disposition": None,
        } | given  # fmt: skip

    # What people do, by the names of the histories.

    def act(self, what: str, who: str) -> None:
        task, there = self.task, not self.task["is_deleted"]
        before = dict(task)
        match what:
            case "completes" if there and not task["done_at"]:
                task["done_at"] = self.now
            case "reopens" if there:
                task["done_at"] = None
            case "deletes" if there:
                task["is_deleted"] = True
            case "restores":
                task["is_deleted"] = False
            case "takes over" if there:
                task["owner_id"] = who
            case "notes silence" if there:
                task["outcome"] = "No response"
            case "notes a reply" if there:
                task["outcome"] = "Replied"
            case "says no" if there:
                task["disposition"] = "Not now"
            case "calls":
                self.others.append(self._new(who, kind="call"))
            case "logs an old call":
                self.others.append(self._new(who, kind="call", done_at=self.now - timedelta(hours=20)))
            case "arranges a meeting":
                self.others.append(self._new(who, kind="meeting", done_at=self.now + timedelta(days=2)))
            case "is written to":
                self.others.append(self._new(who, kind="email", is_answer=True))
            case "takes it back" if self.others:
                self.others[-1] |= {"is_deleted": True, "changed_at": self.now}
            case "opens a deal":
                deal = {"owner_id": who, "created_at": self.now, "is_closed": False, "is_won": False}
                self.deals.append(deal | {"closed_at": None, "changed_at": self.now})
            case "wins" | "loses" if self.deals and not self.deals[-1]["is_closed"]:
                self.deals[-1] |= {"is_closed": True, "is_won": what == "wins", "closed_at": self.now}
                self.deals[-1]["changed_at"] = self.now
            case "deletes the account":
                self.deleted = True
        if task != before:
            task["changed_at"] = self.now

    # What the product does.

    @staticmethod
    def activity(row: dict[str, Any]) -> Activity:
        return Activity(**row, is_done=row["done_at"] is not None)

    def look(self) -> None:
        """One run: reads, moves on, backs off. Every move must be a legal one, and told again change nothing."""
        task, *others = [
            self.activity(row) if not self.windowed or max(row["changed_at"], row["done_at"] or AS_OF) >= self.looked
            else None for row in (self.task, *self.others)
        ]  # fmt: skip
        self.looked = self.now
        seen = Seen(task, [other for other in others if other], self.deals, self.deleted)
        for step in moves(self.handoff, seen, EMAILS, self.now, REPLY.days):
            self._move(**step)
        assert moves(self.handoff, seen, EMAILS, self.now, REPLY.days) == []
        if owner := new_owner(self.handoff, seen.task, EMAILS):
            self.handoff = replace(self.handoff, owner_id=owner, owner_email=EMAILS[owner])
        touches = [
            {"at": at, "owner_email": EMAILS[row["owner_id"]], "handoff_id": row["key"]}
            for row in self.others
            if (at := in_touch(row, self.now))
        ]
        if not self.handoff.active or (end := ending(self.handoff, touches, POLICY, self.now)) is None:
            return
        if not self.task["done_at"] and not self.task["is_deleted"]:
            self.task |= {"subject": f"{LABELS[end[0]]}s", "done_at": self.now, "changed_at": self.now}
        self._move(end[0], self.now, reason=end[1])

    def _move(self, to_state: str, at: datetime, **learned: Any) -> None:
        check_move("h1", self.handoff.state, to_state)
        stamp = {"touched": "touched_at", "replied": "replied_at"}.get(to_state)
        closed = {} if to_state in ACTIVE else {"closed_at": at}
        self.handoff = replace(self.handoff, state=to_state, **({stamp: at} if stamp else {}), **closed, **learned)


def in_touch(row: dict[str, Any], now: datetime) -> datetime | None:
    """When a person was in touch by what is no task of ours."""
    if row["is_deleted"] or row["is_answer"]:
        return None
    return row["created_at"] if row["kind"] == "meeting" and row["done_at"] > now else row["done_at"]


def expected(play: Play) -> tuple[str, datetime | None]:
    """The state after a look and the moment of the touch, by the rules as people say them."""
    handoff, task, now = play.handoff, play.task, play.now
    state, touched, replied = handoff.state, handoff.touched_at, handoff.replied_at
    if state not in ACTIVE:
        return state, touched
    if play.deleted:
        return "withdrawn", touched
    mine = {handoff.owner_id} | ({task["owner_id"]} if not task["is_deleted"] else set())
    talks = [(in_touch(row, now), row["owner_id"]) for row in play.others]
    talks += [(deal["created_at"], deal["owner_id"]) for deal in play.deals]
    if state in ("context_written", "task_open"):
        state = "task_open"
        ours = [at for at, who in talks if at and at > AS_OF and who in mine]
        if not task["is_deleted"]:
            ours += [task["done_at"]] if task["done_at"] else [task["changed_at"]] if task["outcome"] else []
        if ours and not (task["is_deleted"] and min(ours) > task["changed_at"]):
            state, touched = "touched", min(ours)
        elif task["is_deleted"]:
            return "withdrawn", None
    if state == "touched" and touched:
        met = [at for row in play.others if row["kind"] == "meeting" and row["owner_id"] in mine
               if (at := in_touch(row, now)) and at >= touched]  # fmt: skip
        met += [r["done_at"] for r in play.others if r["is_answer"] and not r["is_deleted"] and r["done_at"] > touched]
        met += [task["changed_at"]] if task["outcome"] == "Replied" and not task["is_deleted"] else []
        met += [deal["created_at"] for deal in play.deals if deal["created_at"] >= touched]
        if met:
            state, replied = "replied", min(met)
    if state in ("touched", "replied") and touched:
        since = [deal for deal in play.deals if deal["created_at"] >= touched]
        if any(deal["is_won"] for deal in since):
            return "won", touched
        if since and all(deal["is_closed"] for deal in since):
            return "lost", touched
        if state == "replied" and replied and all(deal["is_closed"] for deal in play.deals):
            no = task["disposition"] and not task["is_deleted"] and task["changed_at"] >= replied
            return ("lost" if no or now - replied >= REPLY else "replied"), touched
        return ("released" if state == "touched" and touched + SILENCE <= now else state), touched
    # Nobody of ours was in touch: whoever has the task now, another may have been.
    owner = task["owner_id"] if not task["is_deleted"] else handoff.owner_id
    elsewhere = [at for row in play.others if (at := in_touch(row, now)) and (row["owner_id"] != owner or at <= AS_OF)]
    if any(at > AS_OF - SILENCE for at in elsewhere):
        return "withdrawn", None
    return ("expired" if now >= AS_OF + EXPIRES else state), None


DOINGS = (
    "completes", "reopens", "deletes", "restores", "takes over", "notes silence", "notes a reply", "says no", "calls",
    "logs an old call", "arranges a meeting", "is written to", "takes it back", "opens a deal", "wins", "loses",
    "deletes the account", "", "", "",
)  # fmt: skip
GAPS = (1, 45, 600, 1_500, 4_000)
"""Minutes until the next thing happens: within an hour, a day, a weekend; never at a boundary by chance."""

HISTORIES = st.lists(
    st.tuples(st.sampled_from(DOINGS), st.sampled_from((RITA, RITA, OTTO)), st.sampled_from(GAPS), st.booleans()),
    max_size=14,
)


def test_any_history_ends_as_the_rules_say() -> None:
    ends: Counter[str] = Counter()

    @settings(max_examples=500)
    @given(HISTORIES)
    def plays(history: list[tuple[str, str, int, bool]]) -> None:
        play = Play()
        for what, who, gap, looks in history:
            play.now += timedelta(minutes=gap)
            play.act(what, who)
            if looks:
                rules = expected(play)
                play.look()
                assert (play.handoff.state, play.handoff.touched_at) == rules, (what, who, play.now)
                if play.handoff.active and not play.task["is_deleted"]:
                    assert play.handoff.owner_id == play.task["owner_id"], "the handoff is whose task it is"
        ends[play.handoff.state] += 1

    plays()
    assert set(ends) >= {"touched", "replied", "won", "lost", "withdrawn", "released", "expired"}, ends


@settings(max_examples=150)
@given(HISTORIES, st.booleans())
def test_whatever_people_do_the_promises_hold(history: list[tuple[str, str, int, bool]], windowed: bool) -> None:
    """Also where a run reads only what changed since the one before."""
    play, ended = Play(windowed=windowed), None
    for what, who, gap, looks in history:
        play.now += timedelta(minutes=gap)
        play.act(what, who)
        if not looks:
            continue
        before = play.handoff
        play.look()
        after = play.handoff
        assert ended in (None, after), "an episode that has ended moves no more"
        if not after.active:
            ended = after
            open_here = not play.task["done_at"] and not play.task["is_deleted"]
            reopened = play.task["subject"].startswith(CLOSED_BY_US)
            # A task may stay behind only where the deal or the account itself has ended it.
            assert not open_here or reopened or after.state in ("won", "lost") or play.deleted or not before.active
        if after.touched_at:
            assert AS_OF <= after.touched_at <= play.now
            assert before.touched_at in (None, after.touched_at), "the first touch counts"
        if after.state == "released":
            assert after.touched_at is not None and after.replied_at is None
            assert after.closed_at is not None and after.closed_at - after.touched_at >= SILENCE
        if after.state == "lost" and not play.deals:
            assert after.replied_at is not None and after.closed_at is not None
            assert after.closed_at >= after.replied_at and after.reason.startswith("no deal: ")
        if after.state == "expired":
            assert after.touched_at is None
            assert after.closed_at is not None and after.closed_at - AS_OF >= EXPIRES
        for stamp in (after.replied_at, after.closed_at):
            assert stamp is None or after.touched_at is None or stamp >= after.touched_at


def test_a_deal_ends_the_handoff_when_the_first_is_won_or_the_last_is_lost() -> None:
    handoff = handed_over(state="touched", touched_at=hours(1))
    deal = {"owner_id": RITA, "created_at": hours(2), "is_closed": True, "is_won": False}
    early, late = ({"closed_at": hours(n), "changed_at": hours(n)} for n in (50, 70))

    def end(*deals: dict[str, Any]) -> Any:
        return moves(handoff, Seen(deals=deals), EMAILS, hours(100))[-1]

    assert end(deal | early, deal | late) == {"to_state": "lost", "at": hours(70)}
    won = {"is_won": True}
    assert end(deal | early | won, deal | late | won) == {"to_state": "won", "at": hours(50)}
    assert end(deal | early, deal | late | won) == {"to_state": "won", "at": hours(70)}
    planned = {"closed_at": hours(500), "changed_at": hours(60)}  # the day it was meant to close
    assert end(deal | planned) == {"to_state": "lost", "at": hours(60)}


def test_of_two_handoffs_of_one_record_the_one_that_has_come_further_stays() -> None:
    first, second = handed_over(state="task_open"), handed_over(handoff_id="h2", state="task_open", decided_at=hours(1))
    assert set(merged([first, second])) == {"h2"}
    assert set(merged([first, second], {"h1"})) == {"h1"}  # that was on the record that was merged away
    assert set(merged([first, second], {"h1", "h2"})) == {"h2"}
    assert set(merged([first, replace(second, state="touched")], {"h2"})) == {"h1"}
    assert set(merged([first, replace(second, state="touched")])) == {"h1"}
    assert merged([first, replace(second, crm_account_id="001B")]) == {}
    assert merged([replace(first, state="won"), second]) == {}
    assert merged([replace(first, crm_account_id=None), replace(second, crm_account_id=None)]) == {}


# ── each case by name, at the CRM's far end ──────────────────────────────────────────────────────


def opened(world: Any, *numbers: int) -> None:
    world.accounts(*numbers)
    run = world.run()
    world.decide(run, *numbers)
    world.deliver(run)


def calls(world: Any, who: str, at: datetime, number: int = 1, **fields: Any) -> str:
    world.org.clock(at)
    given = {"Subject": "Call", "Status": "Completed", "WhatId": crm_id(number), "TaskSubtype": "Call"}
    return str(world.rep_writes("Task", None, **given | {"OwnerId": who} | fields))


def completes(world: Any, at: datetime, number: int = 1, **fields: Any) -> None:
    world.org.clock(at)
    world.rep_writes("Task", world.task(number)["Id"], Status="Completed", **fields)


def looks(world: Any, at: datetime, *, held: str | None = None) -> dict[str, Any]:
    """What the hourly run does before it decides: it reads the CRM and backs off."""
    world.org.clock(at)
    run = world.run(at)
    read = world.extract(run)
    return read | back_off(world.ledger, world.policy, run, world.salesforce(), held=held)


def delivers(world: Any, at: datetime, action: str = "nurture", **signals: Any) -> dict[str, Any]:
    """A later run in which the account is not handed over, with these signals."""
    world.org.clock(at)
    run = world.run(at)
    world.decide(run, 1, action=action, signals=signals)
    return world.deliver(run)


def told(world: Any, number: int = 1) -> tuple[str, bool, str]:
    """How the task stands in the CRM: the label before its subject, whether it is closed, the note on top of it."""
    task = world.task(number)
    label = next((label for label in CLOSED_BY_US if task["Subject"].startswith(label)), "").strip()
    return label, task["IsClosed"], task["Description"].split("\n")[0]


def test_a_rep_who_calls_between_decision_and_delivery_gets_no_task(world: Any) -> None:
    world.accounts(1)
    run = world.run()
    world.decide(run, 1)
    calls(world, OTTO, hours(0.1))
    assert world.deliver(run)["delivered"] == 0
    assert [task["Subject"] for task in world.org.tasks()] == ["Call"]
    assert (world.handoff(1).state, world.handoff(1).task_id) == ("withdrawn", None)


@pytest.mark.parametrize("who", [RITA, OTTO])
def test_a_call_before_the_decision_that_was_logged_after_it_withdraws_the_task(world: Any, who: str) -> None:
    opened(world, 1)
    world.org.clock(hours(1))
    call = {"Id": make_id("00T", 9), "Subject": "Call", "Status": "Completed", "WhatId": crm_id(1), "OwnerId": who}
    moments = {"CreatedDate": hours(1).isoformat(), "CompletedDateTime": hours(-3).isoformat()}
    world.org.post("load", {"Task": [call | moments]})
    assert looks(world, hours(2))["withdrawn"] == 1
    label, closed, note = told(world)
    assert (label, closed) == ("[Withdrawn]", True)
    assert note == "Withdrawn: touched before the decision: logged since"
    assert (world.handoff(1).state, world.handoff(1).touched_at) == ("withdrawn", None)


def test_a_call_the_decision_knew_of_withdraws_nothing(world: Any) -> None:
    calls_first = hours(-100)
    world.accounts(1)
    calls(world, OTTO, calls_first)
    world.extract(world.run(hours(-99)))
    run = world.run()
    world.decide(run, 1)
    world.org.clock(AS_OF)
    world.deliver(run)
    assert world.ledger.touches(account_ids=["org-1"]).empty  # kept under the CRM's name of it until now
    assert looks(world, hours(1))["withdrawn"] == 0
    assert len(world.ledger.touches(account_ids=["org-1"])) == 1
    assert told(world)[:2] == ("", False)


def test_a_colleague_with_the_customer_ends_the_reps_task(world: Any) -> None:
    opened(world, 1)
    calls(world, OTTO, hours(1))
    assert looks(world, hours(2), held="dry run")["withdrawn"] == 1
    assert (world.handoff(1).state, told(world)[:2]) == ("task_open", ("", False))  # said, not done
    assert looks(world, hours(3))["withdrawn"] == 1
    assert told(world) == (
        "[Withdrawn]", True, "Withdrawn: in the hands of a colleague: the account was touched since"
    )  # fmt: skip
    assert (world.handoff(1).state, world.handoff(1).owner_email) == ("withdrawn", "rita@rep.example")


def test_a_colleague_after_the_reps_own_touch_changes_nothing(world: Any) -> None:
    opened(world, 1)
    completes(world, hours(1))
    calls(world, OTTO, hours(2))
    looks(world, hours(3))
    assert (world.handoff(1).state, world.handoff(1).touched_at) == ("touched", hours(1))
    assert len(world.ledger.touches(account_ids=["org-1"])) == 2


def test_a_colleagues_meeting_that_lies_ahead_holds_the_account_until_it_is_over(world: Any) -> None:
    opened(world, 1)
    world.org.clock(hours(1))
    world.rep_writes("Event", None, Subject="Demo", WhatId=crm_id(1), OwnerId=OTTO, DurationInMinutes=30,
                     ActivityDateTime=hours(200).isoformat())  # fmt: skip
    looks(world, hours(2))
    assert world.handoff(1).state == "withdrawn"
    looks(world, hours(100))
    assert world.ledger.touches(as_of=hours(100))["at"].max() == hours(100)
    looks(world, hours(230))
    assert world.ledger.touches(as_of=hours(230))["at"].max() == hours(200.5)


def test_a_meeting_far_ahead_counts_when_it_was_arranged(world: Any) -> None:
    opened(world, 1, 2)
    world.org.clock(hours(1))
    for number, days in ((1, 59), (2, 61)):
        world.rep_writes("Event", None, Subject="Renewal", WhatId=crm_id(number), OwnerId=RITA, DurationInMinutes=30,
                         ActivityDateTime=hours(days * 24).isoformat())  # fmt: skip
    looks(world, hours(2))
    touches = world.ledger.touches().set_index("account_id")["at"]
    assert (touches["org-1"], touches["org-2"]) == (hours(2), hours(1))
    looks(world, hours(100))
    touches = world.ledger.touches().set_index("account_id")["at"]
    assert (touches["org-1"], touches["org-2"]) == (hours(100), hours(100))  # 57 days ahead by then
    assert [world.handoff(n).touched_at for n in (1, 2)] == [hours(1), hours(1)]


def test_what_is_done_between_a_runs_moment_and_its_reading_counts_when_it_was_done(world: Any) -> None:
    opened(world, 1)
    completes(world, hours(50.2))
    world.extract(world.run(hours(50)))
    assert (world.handoff(1).state, world.handoff(1).touched_at) == ("touched", hours(50.2))
    assert world.ledger.touches()["at"].tolist() == [hours(50.2)]


def test_a_task_done_in_the_year_2052_was_done_when_it_last_changed(world: Any) -> None:
    opened(world, 1)
    world.org.clock(hours(20))
    done = {"Id": world.task(1)["Id"], "Status": "Completed", "CompletedDateTime": "2052-11-18T10:00:00Z"}
    world.org.post("load", {"Task": [done]})
    looks(world, hours(21))
    assert (world.handoff(1).state, world.handoff(1).touched_at) == ("touched", hours(20))


def test_the_owners_meeting_is_touch_and_answer(world: Any) -> None:
    opened(world, 1)
    world.org.clock(hours(1))
    world.rep_writes("Event", None, Subject="Onboarding", WhatId=crm_id(1), OwnerId=RITA, DurationInMinutes=30,
                     ActivityDateTime=hours(48).isoformat())  # fmt: skip
    looks(world, hours(2))
    handoff = world.handoff(1)
    assert (handoff.state, handoff.touched_at, handoff.replied_at) == ("replied", hours(1), hours(1))
    assert looks(world, hours(300))["released"] == 0


def test_a_task_given_to_a_colleague_takes_the_handoff_along(world: Any) -> None:
    opened(world, 1)
    world.org.clock(hours(1))
    world.rep_writes("Task", world.task(1)["Id"], OwnerId=OTTO)
    calls(world, OTTO, hours(1.5))
    assert looks(world, hours(2))["withdrawn"] == 0  # the one who called is the one whose task it is
    handoff = world.handoff(1)
    assert (handoff.state, handoff.owner_id, handoff.owner_email) == ("touched", OTTO, "otto@rep.example")
    assert told(world)[:2] == ("", False)


def test_whose_task_it_is_follows_without_a_touch_too(world: Any) -> None:
    opened(world, 1)
    world.org.clock(hours(1))
    world.rep_writes("Task", world.task(1)["Id"], OwnerId=OTTO)
    assert looks(world, hours(2))["reassigned"] == 1
    assert (world.handoff(1).state, world.handoff(1).owner_email) == ("task_open", "otto@rep.example")
    assert looks(world, hours(3))["reassigned"] == 0
    calls(world, RITA, hours(3.5))  # no longer hers: she is the colleague now
    assert looks(world, hours(4))["withdrawn"] == 1


def test_a_deleted_task_ends_the_handoff_and_is_not_made_again(world: Any) -> None:
    opened(world, 1)
    world.org.clock(hours(1))
    world.rep_writes("Task", world.task(1)["Id"])
    looks(world, hours(2))
    handoff = world.handoff(1)
    assert (handoff.state, handoff.reason, handoff.closed_at) == ("withdrawn", "task deleted: by a rep", hours(1))
    delivers(world, hours(3))
    assert [task["IsDeleted"] for task in world.org.tasks()] == [True]


def test_who_has_called_and_then_deletes_the_task_has_been_in_touch(world: Any) -> None:
    opened(world, 1)
    calls(world, RITA, hours(1))
    world.rep_writes("Task", world.task(1)["Id"])
    looks(world, hours(2))
    assert (world.handoff(1).state, world.handoff(1).touched_at) == ("touched", hours(1))


def test_a_task_opened_again_stays_touched_and_is_closed_when_the_days_are_over(world: Any) -> None:
    opened(world, 1)
    completes(world, hours(1))
    looks(world, hours(2))
    world.org.clock(hours(3))
    world.rep_writes("Task", world.task(1)["Id"], Status="In Progress")
    looks(world, hours(4))
    assert (world.handoff(1).state, world.handoff(1).touched_at) == ("touched", hours(1))
    completes(world, hours(90))  # done once more: the first touch counts
    assert looks(world, hours(1 + 7 * 24 - 0.1))["released"] == 0
    world.org.clock(hours(160))
    world.rep_writes("Task", world.task(1)["Id"], Status="In Progress")
    assert looks(world, hours(1 + 7 * 24))["released"] == 1
    assert told(world) == ("[Released]", True, "Released: no response within 7 days of the touch")


def test_the_days_of_a_touch_logged_late_run_from_the_touch(world: Any) -> None:
    opened(world, 1)
    task = world.task(1) | {"Status": "Completed", "CompletedDateTime": hours(2).isoformat()}
    world.org.clock(hours(60))  # written down more than two days later
    world.org.post("load", {"Task": [{k: v for k, v in task.items() if k in ("Id", "Status", "CompletedDateTime")}]})
    looks(world, hours(61))
    assert (world.handoff(1).state, world.handoff(1).touched_at) == ("touched", hours(2))
    assert looks(world, hours(2 + 7 * 24 - 0.1))["released"] == 0
    assert looks(world, hours(2 + 7 * 24))["released"] == 1


def test_a_touch_logged_after_the_handoff_expired_is_kept_and_the_end_stands(world: Any) -> None:
    opened(world, 1)
    assert looks(world, hours(72))["expired"] == 1
    calls(world, RITA, hours(73))
    looks(world, hours(74))
    assert (world.handoff(1).state, world.handoff(1).touched_at) == ("expired", None)
    assert world.ledger.touches(account_ids=["org-1"])["at"].tolist() == [hours(73)]
    assert told(world)[0] == "[Expired]"


def test_a_reply_after_the_release_is_kept_and_the_release_stands(world: Any) -> None:
    opened(world, 1)
    completes(world, hours(1))
    looks(world, hours(2))
    assert looks(world, hours(170))["released"] == 1
    world.org.clock(hours(180))
    world.rep_writes("Task", world.task(1)["Id"], Onetouch_Outcome__c="Replied", Onetouch_Disposition__c="Good")
    looks(world, hours(181))
    touch = world.ledger.touches().iloc[0]
    assert (touch["outcome"], touch["disposition"], touch["at"]) == ("Replied", "Good", hours(1))
    assert (world.handoff(1).state, world.handoff(1).replied_at) == ("released", None)


def test_an_outcome_noted_on_an_open_task_is_a_touch(world: Any) -> None:
    opened(world, 1)
    world.org.clock(hours(5))
    world.rep_writes("Task", world.task(1)["Id"], Onetouch_Outcome__c="No response", Onetouch_Disposition__c="Not now")
    looks(world, hours(6))
    assert (world.handoff(1).state, world.handoff(1).touched_at) == ("touched", hours(5))
    assert world.ledger.touches()["disposition"].tolist() == ["Not now"]
    assert looks(world, hours(80))["expired"] == 0


def test_an_answer_that_leads_nowhere_ends_when_the_rep_says_so(world: Any) -> None:
    opened(world, 1, 2, 3, 4)
    for number, disposition in enumerate(("Good", "Not now", "Wrong person", "Would have bought anyway"), 1):
        completes(world, hours(5), number, Onetouch_Outcome__c="Replied", Onetouch_Disposition__c=disposition)
    assert looks(world, hours(6))["moved"] == {"touched": 4, "replied": 4, "lost": 3}
    ended = [world.handoff(number) for number in (1, 2, 3, 4)]
    assert [(h.state, h.replied_at, h.closed_at) for h in ended] == [
        ("replied", hours(5), None), *[("lost", hours(5), hours(5))] * 3
    ]  # fmt: skip
    assert [handoff.reason for handoff in ended[1:]] == [
        "no deal: not now, says the rep",
        "no deal: wrong person, says the rep",
        "no deal: would have bought anyway, says the rep",
    ]
    world.org.clock(hours(30))  # what seemed good may come to nothing, too
    world.rep_writes("Task", world.task(1)["Id"], Onetouch_Disposition__c="Not now")
    looks(world, hours(31))
    assert (world.handoff(1).state, world.handoff(1).closed_at) == ("lost", hours(30))


def test_who_makes_a_deal_all_the_same_goes_on(world: Any) -> None:
    opened(world, 1)
    completes(world, hours(5), Onetouch_Outcome__c="Replied", Onetouch_Disposition__c="Not now")
    world.rep_writes("Opportunity", None, AccountId=crm_id(1), Name="d", StageName="Prospecting", OwnerId=RITA,
                     CloseDate="2026-06-30")  # fmt: skip
    looks(world, hours(6))
    assert world.handoff(1).state == "replied"
    looks(world, hours(24 * 100))
    assert world.handoff(1).state == "replied"


def test_what_the_rep_thought_before_the_answer_ends_nothing(world: Any) -> None:
    opened(world, 1)
    completes(world, hours(1), Onetouch_Outcome__c="No response", Onetouch_Disposition__c="Not now")
    looks(world, hours(2))
    world.org.clock(hours(30))
    world.rep_writes("Event", None, Subject="Demo", WhatId=crm_id(1), OwnerId=RITA, DurationInMinutes=30,
                     ActivityDateTime=hours(48).isoformat())  # fmt: skip
    looks(world, hours(31))
    assert (world.handoff(1).state, world.handoff(1).replied_at) == ("replied", hours(30))


def test_an_answered_conversation_without_a_deal_is_over_in_the_end(world: Any) -> None:
    days = world.policy.handoff.reply_days
    opened(world, 1)
    completes(world, hours(1), Onetouch_Outcome__c="Replied")
    looks(world, hours(2))
    looks(world, hours(1 + days * 24 - 0.1))
    assert world.handoff(1).state == "replied"
    end = hours(1 + days * 24)
    assert looks(world, end)["moved"] == {"lost": 1}
    handoff = world.handoff(1)
    assert (handoff.state, handoff.closed_at) == ("lost", end)
    assert handoff.reason == "no deal: none within 60 days of the reply"
    assert told(world)[0] == ""  # the task is the rep's, and done


def test_a_checkout_during_the_week_ends_it_and_the_reps_task_stays_theirs(world: Any) -> None:
    opened(world, 1)
    completes(world, hours(1))
    looks(world, hours(2))
    before = world.task(1)
    assert delivers(world, hours(50), checkout_state="started", checkout_at=hours(49))["withdrawn"] == 1
    handoff = world.handoff(1)
    assert (handoff.state, handoff.reason) == ("withdrawn", "checkout: started by the customer")
    assert world.task(1) == before
    assert looks(world, hours(200))["released"] == 0


def test_a_customer_who_buys_by_themselves_is_called_by_nobody(world: Any) -> None:
    opened(world, 1)
    assert delivers(world, hours(5), checkout_state="completed", checkout_at=hours(4))["withdrawn"] == 1
    assert told(world) == ("[Withdrawn]", True, "Withdrawn: bought: by themselves")
    assert world.handoff(1).state == "withdrawn"


def test_an_account_that_was_deleted_ends_its_handoff_whatever_it_had_come_to(world: Any) -> None:
    opened(world, 1, 2)
    completes(world, hours(1), 2, Onetouch_Outcome__c="Replied")
    looks(world, hours(2))
    world.org.clock(hours(3))
    for number in (1, 2):
        world.rep_writes("Account", crm_id(number))
    assert looks(world, hours(4))["moved"] == {"withdrawn": 2}
    assert {world.handoff(n).reason for n in (1, 2)} == {"account deleted: no longer in the CRM"}


def test_a_merged_accounts_handoff_follows_and_its_touch_counts(world: Any) -> None:
    opened(world, 1)
    world.accounts(3)
    world.org.clock(hours(1))
    world.org.post("merge", {"winner": crm_id(3), "losers": [crm_id(1)]})
    calls(world, RITA, hours(2), 3)
    assert looks(world, hours(3))["relinked"] == 1
    handoff = world.handoff(1)
    assert (handoff.state, handoff.crm_account_id, handoff.touched_at) == ("touched", crm_id(3), hours(2))
    assert world.task(1)["AccountId"] == crm_id(3)
    assert looks(world, hours(4))["relinked"] in (0, 1)


def test_two_handoffs_that_meet_in_a_merged_account_are_one_conversation(world: Any) -> None:
    world.accounts(1, 2)
    for at, number in ((AS_OF, 1), (hours(1), 2)):
        run = world.run(at)
        world.org.clock(at)
        world.decide(run, number)
        world.deliver(run)
    world.org.clock(hours(2))
    world.org.post("merge", {"winner": crm_id(2), "losers": [crm_id(1)]})
    assert looks(world, hours(3))["withdrawn"] == 1
    assert [world.handoff(n).state for n in (1, 2)] == ["withdrawn", "task_open"]  # the survivor's own stays
    assert told(world, 2)[:2] == ("", False)
    assert told(world, 1) == ("[Withdrawn]", True, "Withdrawn: account merged: another handoff of it is active")
    assert {task["AccountId"] for task in world.org.tasks()} == {crm_id(2)}


# ── follow-ups ───────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=300)
@given(
    touches=st.integers(1, 5),
    silence=st.integers(1, 10),
    steps=st.lists(
        st.tuples(st.integers(1, 200), st.sampled_from(["run", "run", "run", "touch", "answer"])), max_size=60
    ),
)
def test_follow_ups_are_few_apart_and_never_after_an_answer(
    touches: int, silence: int, steps: list[tuple[int, str]]
) -> None:
    """Whatever happens when: at most touches - 1, each once and in order, a silence after the last touch of a rep and
    after the one before, within the handoff's time, and none when somebody has answered."""
    policy = POLICY.changed(handoff__touches=touches, handoff__silence_days=silence)
    started = hours(0)
    handoff = handed_over(state="touched", touched_at=started)
    now, last, made = started, started, list[datetime]()
    for later, what in steps:
        now += timedelta(hours=later)
        if what == "touch":
            last = now
        elif what == "answer":
            handoff = replace(handoff, state="replied")
        elif ending(handoff, [], policy, now) is not None:
            handoff = replace(handoff, state="released")
        elif (number := next_follow_up(handoff, len(made), last, policy, now)) is not None:
            assert handoff.state == "touched"
            made.append(now)
            assert number == len(made) <= touches - 1
            assert now >= max(last + timedelta(days=silence), started + number * timedelta(days=silence))
            assert now < started + touches * timedelta(days=silence)
        if handoff.state != "touched":
            assert next_follow_up(handoff, len(made), last, policy, now) is None
    if touches == 1:
        assert made == []


def test_without_touches_of_their_own_each_silence_has_its_follow_up() -> None:
    policy = POLICY.changed(handoff__touches=4)
    handoff = handed_over(state="touched", touched_at=hours(0))
    due = []
    for hour in range(24 * 40):
        if next_follow_up(handoff, len(due), None, policy, hours(hour)) is not None:
            due.append(hour / 24)
    assert due == [7, 14, 21]
