"""One touch as a machine: arbitrary histories against a plain model, and each case by name at the CRM's far end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from onetouch.delivery.crm import CLOSED_BY_US, Activity
from onetouch.delivery.one_touch import LABELS, Seen, ending, merged, moves, new_owner
from onetouch.ledger import Handoff
from onetouch.ledger.states import ACTIVE, check_move
from onetouch.policy import read_policy
from onetouch.sandbox.fields import make_id

AS_OF = datetime(2025, 11, 18, 10, tzinfo=UTC)
RITA, OTTO = make_id("005", 101), make_id("005", 102)
EMAILS: dict[str, str | None] = {RITA: "rita@rep.example", OTTO: "otto@rep.example"}
SILENCE, EXPIRES = timedelta(days=7), timedelta(hours=72)
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

    def __post_init__(self) -> None:
        self.task = self._new(RITA, done_at=None, handoff_id="h1", activity_id="t")

    def _new(self, who: str, **given: Any) -> dict[str, Any]:
        return {
            "activity_id": f"a{len(self.others)}", "kind": "task", "crm_account_id": "001A", "owner_id": who,
            "subject": "s", "description": "", "is_deleted": False, "created_at": self.now, "done_at": self.now,
            "changed_at": self.now, "handoff_id": None, "outcome": None,
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
            case "calls":
                self.others.append(self._new(who, kind="call"))
            case "logs an old call":
                self.others.append(self._new(who, kind="call", done_at=self.now - timedelta(hours=20)))
            case "arranges a meeting":
                self.others.append(self._new(who, kind="meeting", done_at=self.now + timedelta(days=2)))
            case "takes it back" if self.others:
                self.others[-1]["is_deleted"] = True
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
        seen = Seen(self.activity(self.task), [self.activity(row) for row in self.others], self.deals, self.deleted)
        for step in moves(self.handoff, seen, EMAILS, self.now):
            self._move(**step)
        assert moves(self.handoff, seen, EMAILS, self.now) == []
        if owner := new_owner(self.handoff, seen.task, EMAILS):
            self.handoff = replace(self.handoff, owner_id=owner, owner_email=EMAILS[owner])
        touches = [
            {"at": at, "owner_email": EMAILS[row["owner_id"]], "handoff_id": row["handoff_id"]}
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
    if row["is_deleted"]:
        return None
    return row["created_at"] if row["kind"] == "meeting" and row["done_at"] > now else row["done_at"]


def expected(play: Play) -> tuple[str, datetime | None]:
    """The state after a look and the moment of the touch, by the rules as people say them."""
    handoff, task, now = play.handoff, play.task, play.now
    state, touched = handoff.state, handoff.touched_at
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
        answered = task["outcome"] == "Replied" and not task["is_deleted"]
        if answered or met or any(deal["created_at"] >= touched for deal in play.deals):
            state = "replied"
    if state in ("touched", "replied") and touched:
        since = [deal for deal in play.deals if deal["created_at"] >= touched]
        if any(deal["is_won"] for deal in since):
            return "won", touched
        if since and all(deal["is_closed"] for deal in since):
            return "lost", touched
        return ("released" if state == "touched" and touched + SILENCE <= now else state), touched
    # Nobody of ours was in touch: whoever has the task now, another may have been.
    owner = task["owner_id"] if not task["is_deleted"] else handoff.owner_id
    elsewhere = [at for row in play.others if (at := in_touch(row, now)) and (row["owner_id"] != owner or at <= AS_OF)]
    if any(at > AS_OF - SILENCE for at in elsewhere):
        return "withdrawn", None
    return ("expired" if now >= AS_OF + EXPIRES else state), None


DOINGS = (
    "completes", "reopens", "deletes", "restores", "takes over", "notes silence", "notes a reply", "calls",
    "logs an old call", "arranges a meeting", "takes it back", "opens a deal", "wins", "loses", "deletes the account",
    "", "", "",
)  # fmt: skip
GAPS = (1, 45, 600, 1_500, 4_000)
"""Minutes until the next thing happens: within an hour, a day, a weekend; never at a boundary by chance."""

HISTORIES = st.lists(
    st.tuples(st.sampled_from(DOINGS), st.sampled_from((RITA, RITA, OTTO)), st.sampled_from(GAPS), st.booleans()),
    max_size=14,
)


@settings(max_examples=1_500)
@given(HISTORIES)
def test_any_history_ends_as_the_rules_say(history: list[tuple[str, str, int, bool]]) -> None:
    play = Play()
    for what, who, gap, looks in history:
        play.now += timedelta(minutes=gap)
        play.act(what, who)
        if looks:
            ends = expected(play)
            play.look()
            assert (play.handoff.state, play.handoff.touched_at) == ends, (what, who, play.now)
            if play.handoff.active and not play.task["is_deleted"]:
                assert play.handoff.owner_id == play.task["owner_id"], "the handoff is whose task it is"


@settings(max_examples=300)
@given(HISTORIES)
def test_whatever_people_do_the_promises_hold(history: list[tuple[str, str, int, bool]]) -> None:
    play, ended = Play(), None
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
        if after.state == "expired":
            assert after.touched_at is None
            assert after.closed_at is not None and after.closed_at - AS_OF >= EXPIRES
        for stamp in (after.replied_at, after.closed_at):
            assert stamp is None or after.touched_at is None or stamp >= after.touched_at


def test_the_histories_come_to_every_end() -> None:
    """The two tests above have something to look at."""
    ends: Counter[str] = Counter()

    @settings(max_examples=600, database=None)
    @given(HISTORIES)
    def tell(history: list[tuple[str, str, int, bool]]) -> None:
        play = Play()
        for what, who, gap, looks in history:
            play.now += timedelta(minutes=gap)
            play.act(what, who)
            if looks:
                play.look()
        ends[play.handoff.state] += 1

    tell()
    assert set(ends) >= {"touched", "replied", "won", "lost", "withdrawn", "released", "expired"}, ends


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
    assert set(merged([first, replace(second, state="touched")])) == {"h1"}
    assert merged([first, replace(second, crm_account_id="001B")]) == {}
    assert merged([replace(first, state="won"), second]) == {}
    assert merged([replace(first, crm_account_id=None), replace(second, crm_account_id=None)]) == {}
