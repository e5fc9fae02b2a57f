"""The owner hears of each new task once, and what was said stays true."""

from __future__ import annotations

import random
import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from threading import Thread
from typing import Any

import pandas as pd
import pytest
import requests
from onetouch.delivery import DeliveryFailed, alert_reps
from onetouch.ledger.forgotten import Subject
from onetouch.policy import Policy, read_policy
from onetouch.policy.upgrade import read_stored, stored

from tests.delivery.world import BUYING, OTHER, OWNER

AS_OF = datetime(2025, 11, 18, 10, tzinfo=UTC)


@pytest.fixture(scope="module")
def policy() -> Policy:
    """Without reminders, which are another test's (`test_escalate`)."""
    return read_policy().changed(assignment__remind=False)


def opened(world: Any, *numbers: int, **given: Any) -> Any:
    world.accounts(*numbers)
    run = world.run()
    world.decide(run, *numbers, **given)
    world.deliver(run)
    return run


def assigned(world: Any, *numbers: int, at: datetime = AS_OF, **given: Any) -> Any:
    """A run whose tasks are open, as far as the ledger knows: the CRM has no part in what Slack is told."""
    run = world.run(at)
    world.decide(run, *numbers, **given)
    hand_over(world, run)
    return run


def hand_over(world: Any, run: Any) -> None:
    decisions = world.lake.read("decisions", f"{run.run_id}.parquet").to_dict("records")
    ids = [handoff.handoff_id for handoff in world.ledger.open_handoffs(decisions, run)]
    for state, learned in (("context_written", {}), ("task_open", {"task_id": "00T1"})):
        moves = [{"handoff_id": its_id, "to_state": state, "at": run.as_of} | learned for its_id in ids]
        world.ledger.move_all(moves)


def alert(world: Any, run: Any, *, held: str | None = None, now: datetime | None = None) -> dict[str, Any]:
    slack = world.slack() if not held else None
    return alert_reps(world.lake, world.ledger, world.policy, run, slack, now=now or run.as_of, held=held)


def says(alerts: int = 0, posted: int = 0, **given: int) -> dict[str, Any]:
    """A stage's summary, with what is not named at nothing."""
    nothing = dict.fromkeys(("earlier", "waiting", "updated", "gone", "unknown_owners"), 0)
    return {"alerts": alerts, "posted": posted} | nothing | given | {"failed": []}


def test_one_post_a_task_mentioning_its_owner(world: Any) -> None:
    run = opened(world, 1, 2)
    first = alert(world, run)
    assert first == says(2, 2)
    posts = world.org.posts()
    assert len(posts) == 2
    assert {p["channel"] for p in posts} == {"C0ALERTS"}
    assert all(p["text"].startswith("<@U") for p in posts)
    assert "High priority: Company 1 — at 92 % of the API calls limit" in posts[0]["text"]
    assert "rita@" not in str(posts)
    assert alert(world, run) == first
    assert len(world.org.posts()) == 2


def test_the_alert_says_where_the_dossier_is(world: Any) -> None:
    alert(world, assigned(world, 1))
    (brief,) = world.org.posts()
    assert "A first message is in your task list, the dossier on the account's record." in brief["text"]
    assert "dossier on the account's record" in shown(brief)
    world.policy = world.policy.changed(handoff__task_notes="whole")
    alert(world, assigned(world, 2, at=AS_OF + timedelta(hours=1)))
    whole = world.org.posts()[-1]
    assert "Dossier and a first message are in your task list." in whole["text"]
    assert "dossier in your task list" in shown(whole)
    many = assigned(world, *range(3, 15), at=AS_OF + timedelta(hours=2))
    world.policy = read_policy().changed(assignment__remind=False)
    alert(world, many)
    assert "First messages are in the task lists, dossiers on the accounts' records." in shown(world.org.posts()[-1])


def test_an_owner_slack_does_not_know_is_not_mentioned_but_the_alert_is_posted(world: Any) -> None:
    run = opened(world, 1, owner_email="nobody@rep.example")
    assert alert(world, run)["posted"] == 1
    assert world.org.posts()[0]["text"].startswith("High priority: Company 1")


def test_a_hostile_name_notifies_nobody(world: Any) -> None:
    run = opened(world, 1, signals={"name": "<!channel> & <https://evil.example|click> *x*"})
    alert(world, run)
    (post,) = world.org.posts()
    assert post["notifies"] == []
    assert "&lt;!channel&gt; &amp;" in post["text"]
    assert "<https" not in post["text"]
    assert "mrkdwn" not in str(post["blocks"])


def test_a_withheld_decision_is_not_announced(world: Any) -> None:
    world.rechecked = {"org-1": BUYING}
    assert alert(world, opened(world, 1, 2))["posted"] == 1
    assert "Company 2" in world.org.posts()[0]["text"]


def test_without_leave_to_send_nothing_is_posted(world: Any) -> None:
    run = opened(world, 1)
    assert alert(world, run, held="dry run") == says(1)
    assert world.org.posts() == []


def test_one_refused_alert_does_not_keep_the_others_back_and_comes_with_the_next_run(world: Any) -> None:
    run = opened(world, 1, 2)
    refusal = {"match": "chat.postMessage", "status": 200, "body": {"ok": False, "error": "msg_blocks_too_long"}}
    world.org.post("faults", [refusal])
    with pytest.raises(DeliveryFailed, match="msg_blocks_too_long") as failure:
        alert(world, run)
    assert failure.value.summary["posted"] == 1
    later = alert(world, world.run(AS_OF + timedelta(hours=1)))
    assert later == says(earlier=1)
    assert len(world.org.posts()) == 2


# ── what became of it ────────────────────────────────────────────────────────────────────────────


def tuned(world: Any, **slack: Any) -> None:
    """The world's policy with other Slack settings."""
    world.policy = world.policy.model_copy(update={"slack": world.policy.slack.model_copy(update=slack)})


def move(world: Any, number: int, *states: str, reason: str = "") -> None:
    for state in states:
        world.ledger.move(world.handoff(number).handoff_id, state, AS_OF + timedelta(hours=1), reason)


def later(world: Any, hours: float = 1) -> Any:
    return world.run(AS_OF + timedelta(hours=hours))


def shown(post: dict[str, Any]) -> str:
    """What a person reads in a post: ~struck~ text is marked."""
    return "\n".join(filter(None, (_text(block) for block in post["blocks"])))


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "".join(map(_text, value))
    kind = value["type"]
    if kind == "user":
        return f"@{value['user_id']}"
    if kind == "emoji":
        return f":{value['name']}:"
    if kind in ("rich_text", "rich_text_list"):
        return "\n".join(map(_text, value["elements"]))
    if "elements" in value:
        return _text(value["elements"])
    if isinstance(value["text"], dict):
        return str(value["text"]["text"])
    return f"~{value['text']}~" if value.get("style", {}).get("strike") else str(value["text"])


def updates(world: Any) -> list[str]:
    return [r.key.split(":", 2)[2] for r in world.ledger.outbox(destination="slack") if r.kind == "alert_update"]


def calls(world: Any, method: str) -> int:
    return sum(call["n"] for call in world.org.calls() if call["path"] == f"/api/{method}")


BECOMES = {
    "touched": (("touched",), False, ":wave: Contacted Tue 18 Nov, 11:00"),
    "replied": (("touched", "replied"), False, ":speech_balloon: They replied Tue 18 Nov, 11:00"),
    "won": (("touched", "replied", "won"), False, ":tada: Won Tue 18 Nov, 11:00"),
    "lost": (("touched", "lost"), True, ":x: Lost Tue 18 Nov, 11:00"),
    "withdrawn": (("withdrawn",), True, ":no_entry: Withdrawn: checkout started"),
    "released": (("touched", "released"), True, ":leftwards_arrow_with_hook: Back to self-serve: checkout started"),
    "expired": (("expired",), True, ":hourglass: Expired: checkout started"),
}


@pytest.mark.parametrize("state", BECOMES)
def test_an_alert_says_what_became_of_its_task_and_is_not_written_again(world: Any, state: str) -> None:
    states, struck, line = BECOMES[state]
    alert(world, assigned(world, 1, 2))
    before = {p["ts"] for p in world.org.posts()}
    move(world, 1, *states, reason="checkout started")
    run = later(world)
    assert alert(world, run) == says(updated=1)
    first, second = world.org.posts()
    assert {first["ts"], second["ts"]} == before
    assert line in shown(first)
    assert ("~Company 1~" in shown(first)) is struck
    assert "Company 1" in first["text"]
    assert (first["edited"], second["edited"]) == (True, False)
    assert alert(world, run) == says(updated=1)
    assert alert(world, later(world, 2)) == says()
    assert (calls(world, "chat.update"), updates(world)) == (1, [state])


def test_an_alert_follows_its_task_through_every_state(world: Any) -> None:
    alert(world, assigned(world, 1))
    for n, state in enumerate(("touched", "replied", "won"), 1):
        move(world, 1, state)
        assert alert(world, later(world, n))["updated"] == 1
    (post,) = world.org.posts()
    assert ":tada: Won" in shown(post)
    assert "Contacted" not in shown(post)
    assert updates(world) == ["touched", "replied", "won"]


def test_a_task_that_changes_hands_names_who_has_it_now_back_and_forth(world: Any) -> None:
    alert(world, assigned(world, 1))
    people = {e: world.slack().user(f"{e}@rep.example") for e in ("rita", "otto")}
    for n, (owner_id, name) in enumerate([(OTHER, "otto"), (OWNER, "rita"), (OTHER, "otto"), (OWNER, "rita")], 1):
        world.ledger.reassign(world.handoff(1).handoff_id, owner_id, f"{name}@rep.example")
        assert alert(world, later(world, n))["updated"] == 1
        (post,) = world.org.posts()
        assert people[name] in shown(post)
        assert people["otto" if name == "rita" else "rita"] not in shown(post)
    assert alert(world, later(world, 5)) == says()
    assert "rep.example" not in str(post)


def test_a_message_deleted_in_slack_is_recorded_and_stays_deleted(world: Any) -> None:
    alert(world, assigned(world, 1))
    (post,) = world.org.posts()
    world.slack().client.chat_delete(channel=post["channel"], ts=post["ts"])
    move(world, 1, "touched")
    run = later(world)
    assert alert(world, run) == says(gone=1)
    assert alert(world, run) == says(gone=1)
    move(world, 1, "replied")
    assert alert(world, later(world, 2)) == says()
    assert world.org.posts() == []
    assert calls(world, "chat.update") == 1
    (row,) = [r for r in world.ledger.outbox(destination="slack") if r.kind == "alert_update"]
    assert (row.state, row.reason) == ("failed", "message_not_found")


@pytest.mark.parametrize("fault", [{"status": 503, "body": ""}, {"drop": "answer"}, {"drop": "request"}])
def test_an_update_without_an_answer_is_made_again_by_the_next_run(world: Any, fault: dict[str, Any]) -> None:
    alert(world, assigned(world, 1))
    move(world, 1, "withdrawn", reason="checkout started")
    world.org.post("faults", [{"match": "chat.update"} | fault])
    with pytest.raises(DeliveryFailed, match="could not be posted or updated"):
        alert(world, later(world))
    assert alert(world, later(world, 2))["failed"] == []
    (post,) = world.org.posts()
    assert "Withdrawn" in shown(post)
    assert {r.state for r in world.ledger.outbox(destination="slack")} == {"sent"}


def test_an_update_that_never_left_is_said_with_the_next(world: Any) -> None:
    alert(world, assigned(world, 1))
    move(world, 1, "touched")
    world.org.post("faults", [{"match": "chat.update", "status": 503, "body": ""}])
    with pytest.raises(DeliveryFailed):
        alert(world, later(world))
    move(world, 1, "replied")
    alert(world, later(world, 2))
    assert {r.state for r in world.ledger.outbox(destination="slack")} == {"sent"}
    assert ":speech_balloon:" in shown(world.org.posts()[0])
    assert alert(world, later(world, 3)) == says()


def test_a_task_that_is_over_before_it_was_announced_is_not_announced(world: Any) -> None:
    run = assigned(world, 1, 2)
    world.org.post("faults", [{"match": "chat.postMessage", "times": 1, "drop": "request"}])
    with pytest.raises(DeliveryFailed):
        alert(world, run)
    move(world, 1, "withdrawn", reason="checkout started")
    assert alert(world, later(world))["earlier"] == 1
    (post,) = world.org.posts()
    assert "Company 2" in shown(post)


def test_an_announcement_that_arrived_unnoticed_is_found_and_put_right_when_its_task_is_over(world: Any) -> None:
    run = assigned(world, 1)
    faults = [{"match": "chat.postMessage", "drop": "answer"}, {"match": "conversations.history", "status": 500}]
    world.org.post("faults", faults)
    with pytest.raises(DeliveryFailed):
        alert(world, run)
    move(world, 1, "withdrawn", reason="checkout started")
    assert alert(world, later(world)) == says(updated=1)
    (post,) = world.org.posts()
    assert "Withdrawn: checkout started" in shown(post)


# ── many at once ─────────────────────────────────────────────────────────────────────────────────


def test_many_new_tasks_are_one_digest_that_is_written_anew_in_place(world: Any) -> None:
    tuned(world, digest_above=3)
    run = world.run()
    world.decide(run, 1, 2, 3, 4, 5)
    decisions = world.lake.read("decisions", f"{run.run_id}.parquet")
    decisions.loc[decisions.account_id == "org-2", ["owner_email", "owner_id"]] = ["otto@rep.example", OTHER]
    decisions.loc[decisions.account_id == "org-5", "due_at"] = AS_OF
    world.lake.write(decisions, "decisions", f"{run.run_id}.parquet")
    hand_over(world, run)
    assert alert(world, run) == says(5, 5)
    (post,) = world.org.posts()
    rita, otto = (world.slack().user(f"{name}@rep.example") for name in ("rita", "otto"))
    lines = shown(post).split("\n")
    assert lines[:2] == ["5 new tasks", f"@{rita} · 4 tasks"]
    assert [line.partition(" — ")[0] for line in lines[2:8]] == [
        "Company 5", "Company 1", "Company 3", "Company 4", f"@{otto} · 1 task", "Company 2",
    ]  # fmt: skip
    assert f"<@{rita}> 4, <@{otto}> 1" in post["text"]
    rows = [r for r in world.ledger.outbox(destination="slack") if r.kind == "alert"]
    assert {r.external_id for r in rows} == {f"C0ALERTS:{post['ts']}"}

    move(world, 3, "withdrawn", reason="checkout started")
    move(world, 2, "touched")
    assert alert(world, later(world)) == says(updated=2)
    assert alert(world, later(world, 2)) == says()
    (post,) = world.org.posts()
    assert shown(post).startswith("5 tasks, 2 no longer waiting")
    assert "~Company 3~" in shown(post)
    assert ":no_entry: Withdrawn: checkout started" in shown(post)
    assert ":wave: Contacted" in shown(post)
    assert calls(world, "chat.update") == 1


def test_an_older_run_puts_a_digest_right_that_holds_tasks_of_a_later_one(world: Any) -> None:
    tuned(world, digest_above=1)
    older, newer = assigned(world, 1), assigned(world, 2, at=AS_OF + timedelta(minutes=30))
    alert(world, newer)
    assert len(world.org.posts()) == 1
    move(world, 1, "touched")
    assigned(world, 3, at=AS_OF + timedelta(hours=1))
    assert alert(world, older, now=AS_OF + timedelta(hours=1))["updated"] == 1
    (post,) = world.org.posts()  # what is decided after the run is not announced by it
    assert shown(post).startswith("2 tasks, 1 no longer waiting")
    move(world, 2, "touched")  # a later run's own task, which only the digest shows
    alert(world, older, now=AS_OF + timedelta(hours=1))
    assert shown(world.org.posts()[0]).startswith("2 tasks, 2 no longer waiting")


def test_as_many_as_the_policy_allows_are_single_messages(world: Any) -> None:
    tuned(world, digest_above=3)
    alert(world, assigned(world, 1, 2, 3))
    assert len(world.org.posts()) == 3


def test_a_digest_holds_what_slack_takes_and_counts_the_rest(world: Any) -> None:
    tuned(world, digest_above=3)
    many = range(1, 151)
    run = assigned(world, *many, signals={"name": "A company of a long name " * 5})
    assert alert(world, run)["posted"] == 150
    (post,) = world.org.posts()
    assert len(post["blocks"]) <= 50
    listed = shown(post).count("A company of a long name")
    assert 5 * 20 < listed < 5 * 150
    move(world, 1, "withdrawn", reason="a reason that is told at length " * 10)
    for number in many[1:]:
        move(world, number, "withdrawn", reason="a reason that is told at length " * 10)
    alert(world, later(world))
    (post,) = world.org.posts()
    assert shown(post).count("A company of a long name") == listed
    more = sum(int(n) for n in re.findall(r"and (\d+) more in the CRM", shown(post)))
    assert more == 150 - shown(post).count("Withdrawn")


# ── quiet hours, and where ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("zone", "utc", "waits"),
    [
        ("Europe/Berlin", "18:59", False), ("Europe/Berlin", "19:00", True), ("Europe/Berlin", "05:59", True),
        ("Europe/Berlin", "06:00", False), ("America/New_York", "06:00", True), ("America/New_York", "12:00", False),
        (None, "19:59", False), (None, "20:00", True), ("Nowhere/At_All", "20:00", True),
    ],
)  # fmt: skip
def test_at_night_on_the_rep_s_own_clock_an_alert_waits(world: Any, zone: str | None, utc: str, waits: bool) -> None:
    run = assigned(world, 1)
    reps = pd.DataFrame({"owner_id": [OWNER], "timezone": [zone]})
    world.lake.write(reps, "crm", run.run_id, "reps.parquet")
    hour, minute = map(int, utc.split(":"))
    told = alert(world, run, now=AS_OF.replace(hour=hour, minute=minute))
    assert (told["waiting"], told["posted"], len(world.org.posts())) == ((1, 0, 0) if waits else (0, 1, 1))


def test_what_waited_is_said_by_the_first_run_after_unless_it_is_over(world: Any) -> None:
    run = assigned(world, 1, 2)
    assert alert(world, run, now=AS_OF.replace(hour=23)) == says(2, waiting=2)
    assert [r.kind for r in world.ledger.outbox(destination="slack")] == []
    move(world, 1, "withdrawn", reason="checkout started")
    morning = world.run(AS_OF + timedelta(hours=21))
    assert alert(world, morning) == says(earlier=1)
    (post,) = world.org.posts()
    assert "Company 2" in shown(post)


@pytest.mark.parametrize("digest_above", [1, 10])
def test_what_could_not_be_said_by_day_is_not_said_at_night(world: Any, digest_above: int) -> None:
    tuned(world, digest_above=digest_above)
    run = assigned(world, 1, 2)
    refusal = {"match": "chat.postMessage", "status": 200, "body": {"ok": False, "error": "not_in_channel"}}
    world.org.post("faults", [refusal])
    with pytest.raises(DeliveryFailed):
        alert(world, run)
    assert alert(world, run, now=AS_OF.replace(hour=23)) == says(2, waiting=2)
    assert world.org.posts() == []
    assert alert(world, run, now=AS_OF + timedelta(hours=21)) == says(2, 2)


def test_what_became_of_a_task_is_also_said_at_night(world: Any) -> None:
    alert(world, assigned(world, 1))
    move(world, 1, "touched")
    assert alert(world, later(world), now=AS_OF.replace(hour=23))["updated"] == 1


def test_no_quiet_hours(world: Any) -> None:
    tuned(world, quiet_from=None)
    assert alert(world, assigned(world, 1), now=AS_OF.replace(hour=23))["posted"] == 1


def test_an_owner_is_told_alone_and_in_the_channel_too_where_the_policy_says_both(world: Any) -> None:
    tuned(world, alerts_to="owner")
    assert alert(world, assigned(world, 1)) == says(1, 1)
    (direct,) = world.org.posts()
    assert direct["channel"].startswith("D")
    assert "@U" not in shown(direct)  # it is theirs alone
    tuned(world, alerts_to="both")
    second = assigned(world, 2, at=AS_OF + timedelta(hours=1))
    assert alert(world, second) == says(1, 1)
    move(world, 2, "withdrawn", reason="checkout started")
    assert alert(world, later(world, 2))["updated"] == 2
    about = [p for p in world.org.posts() if "Company 2" in shown(p)]
    assert sorted(p["channel"][0] for p in about) == ["C", "D"]
    assert all("Withdrawn" in shown(p) for p in about)


@pytest.mark.parametrize("how", ["unknown", "no scope to look", "no scope to open"])
def test_an_owner_slack_cannot_reach_is_told_in_the_channel_and_the_run_says_so(world: Any, how: str) -> None:
    tuned(world, alerts_to="owner")
    if how != "unknown":
        method = "users.lookupByEmail" if how == "no scope to look" else "conversations.open"
        refusal = {"ok": False, "error": "missing_scope", "needed": "im:write"}
        world.org.post("faults", [{"match": method, "status": 200, "body": refusal, "times": 9}])
    run = assigned(world, 1, owner_email="nobody@rep.example" if how == "unknown" else "rita@rep.example")
    for _ in range(2):
        assert alert(world, run) == says(1, 1, unknown_owners=1)
    (post,) = world.org.posts()
    assert post["channel"] == "C0ALERTS"


def test_a_digest_for_each_owner(world: Any) -> None:
    tuned(world, alerts_to="owner", digest_above=2)
    assert alert(world, assigned(world, 1, 2, 3)) == says(3, 3)
    (post,) = world.org.posts()
    assert (post["channel"][0], shown(post).split("\n")[0]) == ("D", "3 new tasks")


def test_a_direct_message_says_with_whom_the_task_is_now(world: Any) -> None:
    tuned(world, alerts_to="owner")
    alert(world, assigned(world, 1))
    world.ledger.reassign(world.handoff(1).handoff_id, OTHER, "otto@rep.example")
    alert(world, later(world))
    (post,) = world.org.posts()
    assert f"Now with @{world.slack().user('otto@rep.example')}" in shown(post)


def test_without_leave_to_send_nothing_is_put_right(world: Any) -> None:
    alert(world, assigned(world, 1))
    move(world, 1, "withdrawn", reason="checkout started")
    run = later(world)
    assert alert(world, run, held="stopped: wrong prices") == says()
    assert not world.org.posts()[0]["edited"]
    assert alert(world, run) == says(updated=1)


# ── who is forgotten ─────────────────────────────────────────────────────────────────────────────


def forget(world: Any, number: int) -> None:
    subject = Subject("account", f"org-{number}", accounts=[f"org-{number}"])
    world.ledger.begin_erasure(subject, AS_OF)
    world.ledger.end_handoffs([f"org-{number}"], AS_OF + timedelta(hours=1))
    world.ledger.pseudonymise(subject, lambda value: value)


@pytest.mark.parametrize("digest_above", [1, 10])
@pytest.mark.parametrize("ended_before", [False, True])
def test_nothing_of_a_forgotten_account_is_left_in_slack(world: Any, digest_above: int, ended_before: bool) -> None:
    tuned(world, digest_above=digest_above)
    alert(world, assigned(world, 1, 2))
    if ended_before:
        move(world, 1, "withdrawn", reason="checkout started")
        alert(world, later(world))
    forget(world, 1)
    long_after = 24 * 60 if ended_before else 2
    assert alert(world, later(world, long_after)) == says(updated=1)
    posts = str(world.org.posts())
    assert "Company 1" not in posts
    assert "Company 2" in posts
    world.ledger.pseudonymise(Subject("account", "org-1", accounts=["org-1"]), lambda value: value)
    assert alert(world, later(world, long_after + 1)) == says()


# ── crashes, rivals, refusals ────────────────────────────────────────────────────────────────────


def mortal_slack(world: Any) -> Any:
    """A client whose process may also die before and after each message."""
    slack = world.slack()
    call = slack.client.api_call

    def mortal(method: str, *args: Any, **kwargs: Any) -> Any:
        if method.startswith("chat."):
            world.effects.happens()
        answer = call(method, *args, **kwargs)
        if method.startswith("chat."):
            world.effects.happens()
        return answer

    slack.client.api_call = mortal
    return slack


def two_runs(world: Any, first: Any, second: Any, slack: Any) -> None:
    """A digest; then one of its tasks is over, another changes hands, and a third is announced by itself."""
    tell = partial(alert_reps, world.lake, world.ledger, world.policy, chat=slack, held=None)
    tell(run=first, now=first.as_of)
    move(world, 1, "withdrawn", reason="checkout started")
    world.ledger.reassign(world.handoff(2).handoff_id, OTHER, "otto@rep.example")
    tell(run=second, now=second.as_of)


def test_killed_anywhere_and_run_again_each_thing_is_said_once(make_world: Any) -> None:
    def prepared(name: str) -> tuple[Any, Any, Any]:
        world = make_world(name)
        tuned(world, digest_above=1)
        return world, assigned(world, 1, 2), assigned(world, 3, at=AS_OF + timedelta(hours=1))

    def looks(world: Any) -> tuple[list[Any], list[Any]]:
        posts = [(p["channel"], shown(p), p["text"]) for p in world.org.posts()]
        return sorted(posts), sorted((r.key, r.state) for r in world.ledger.outbox(destination="slack"))

    world, *runs = prepared("undisturbed")
    world.mortal(None)
    two_runs(world, *runs, mortal_slack(world))
    effects, wanted = world.effects.count, looks(world)
    world.immortal()
    assert effects > 20
    assert len(wanted[0]) == 2
    # What is there after one effect is what is there before the next.
    for die_at in {*range(1, effects, 2), effects}:
        world, *runs = prepared(f"killed-{die_at}")
        world.mortal(die_at)
        with pytest.raises(BaseException) as death:  # noqa: PT011 - Killed is the fixture's
            two_runs(world, *runs, mortal_slack(world))
        assert type(death.value).__name__ == "Killed"
        world.immortal()
        two_runs(world, *runs, world.slack())
        assert looks(world) == wanted, f"killed at effect {die_at}"


NEXT = {
    "task_open": ["touched", "withdrawn", "expired"],
    "touched": ["replied", "won", "lost", "released", "withdrawn"],
    "replied": ["won", "lost", "withdrawn"],
}
FAULTS = [
    {"match": "chat.postMessage", "drop": "answer"},
    {"match": "chat.postMessage", "drop": "request"},
    {"match": "chat.postMessage", "status": 502, "body": ""},
    {"match": "chat.update", "drop": "answer"},
    {"match": "chat.update", "status": 503, "body": ""},
    {"match": "conversations.history", "status": 500},
    {
        "match": "/api/",
        "status": 429,
        "headers": {"Retry-After": "3600"},
        "body": {"ok": False, "error": "ratelimited"},
    },
]


@pytest.mark.parametrize("seed", range(2))
def test_whatever_happens_each_announced_task_is_in_one_message_that_says_how_it_is(world: Any, seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311 - a test's
    tuned(world, digest_above=2, quiet_from=None, alerts_to=dice.choice(["channel", "owner"]))
    numbers: list[int] = []
    at = AS_OF
    for _ in range(14):
        at += timedelta(hours=1)
        fresh = range(len(numbers) + 1, len(numbers) + 1 + dice.choice([0, 0, 1, 2, 4]))
        run = assigned(world, *fresh, at=at) if fresh else world.run(at)
        numbers += fresh
        for number in numbers:
            handoff = world.handoff(number)
            if handoff.state in NEXT and dice.random() < 0.3:
                world.ledger.move(handoff.handoff_id, dice.choice(NEXT[handoff.state]), at, f"reason {number}")
            elif handoff.state in NEXT and dice.random() < 0.2:
                owner, name = dice.choice([(OWNER, "rita"), (OTHER, "otto")])
                world.ledger.reassign(handoff.handoff_id, owner, f"{name}@rep.example")
        if dice.random() < 0.5:
            world.org.post("faults", [dice.choice(FAULTS)])
        with suppress(DeliveryFailed):
            alert(world, run)
    requests.delete(f"{world.org.url}/_sandbox/faults", timeout=10)
    assert alert(world, world.run(at + timedelta(hours=1)))["failed"] == []
    assert alert(world, world.run(at + timedelta(hours=2))) == says()

    lines = [line for post in world.org.posts() for line in _lines(post)]
    sent = {r.handoff_id for r in world.ledger.outbox(destination="slack", states=["sent"]) if r.kind == "alert"}
    assert len(sent) > 5
    for number in numbers:
        handoff = world.handoff(number)
        mine = [line for line in lines if re.search(rf"Company {number}\b", line)]
        assert len(mine) == (handoff.handoff_id in sent), f"company {number}, {handoff.state}: {mine}"
        assert handoff.state != "task_open" or mine, f"company {number} was never announced"
        if mine and handoff.state in BECOMES:
            assert BECOMES[handoff.state][2].split(" ")[0] in mine[0]
        elif mine:
            assert not any(f":{emoji}:" in mine[0] for emoji in ("wave", "no_entry", "hourglass", "tada"))


def _lines(post: dict[str, Any]) -> list[str]:
    """What is said of each task: a message of its own is one line."""
    listed = [e for b in post["blocks"] for e in b.get("elements", []) if e.get("type") == "rich_text_list"]
    return [_text(item) for block in listed for item in block["elements"]] or [shown(post).replace("\n", " ")]


def test_two_processes_at_once_say_everything_once(world: Any) -> None:
    tuned(world, digest_above=2)
    run = assigned(world, 1, 2, 3)
    told: list[Any] = []
    threads = [Thread(target=lambda: told.append(alert(world, run))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == [says(3, 3)] * 3
    assert len(world.org.posts()) == 1


@pytest.mark.parametrize("error", ["ratelimited", "channel_not_found", "is_archived", "not_in_channel", "invalid_auth"])
def test_a_channel_that_takes_nothing_is_asked_once(world: Any, error: str) -> None:
    run = assigned(world, 1, 2, 3)
    refusal = {"match": "chat.postMessage", "status": 200, "body": {"ok": False, "error": error}, "times": 9}
    world.org.post("faults", [refusal])
    with pytest.raises(DeliveryFailed, match=error) as failure:
        alert(world, run)
    assert len(failure.value.summary["failed"]) == 3
    assert calls(world, "chat.postMessage") == 1
    requests.delete(f"{world.org.url}/_sandbox/faults", timeout=10)
    assert alert(world, run) == says(3, 3)
    assert len(world.org.posts()) == 3


def test_a_slack_that_does_not_answer_is_asked_for_one_owner(world: Any) -> None:
    tuned(world, alerts_to="owner")
    run = assigned(world, 1, 2, 3)
    world.org.post("faults", [{"match": "users.lookupByEmail", "drop": "request", "times": 9}])
    with pytest.raises(DeliveryFailed, match="no answer") as failure:
        alert(world, run)
    assert len(failure.value.summary["failed"]) == 3
    assert world.org.faults()[0]["times"] == 8
    requests.delete(f"{world.org.url}/_sandbox/faults", timeout=10)
    assert alert(world, run) == says(3, 3)


def test_they_come_by_due_time_then_account(world: Any) -> None:
    run = assigned(world, 3, 1, 2)
    alert(world, run)
    assert [p["text"].partition("Company ")[2][0] for p in world.org.posts()] == ["1", "2", "3"]


# ── what a message may hold ──────────────────────────────────────────────────────────────────────

HOSTILE = [
    "<!channel> <!here> <@U0ONETOUCH>",
    "<https://evil.example|click> https://evil.example evil.example",
    "*bold* _it_ ~struck~ `code` ```block``` > quote",
    "\x00\x1b[31mred\r\nnew line",
    "\u202egnp.exe\u2066\u200b",
    ":tada: &amp; &lt;",
    "x" * 10_000_000,
    "",
]


@pytest.mark.parametrize("many", [False, True])
def test_no_name_acts_or_hides(world: Any, many: bool) -> None:
    tuned(world, digest_above=2 if many else 100)
    run = world.run()
    world.decide(run, *range(1, len(HOSTILE) + 1))
    signals = world.lake.read("signals", f"{run.run_id}.parquet")
    signals["name"] = HOSTILE
    world.lake.write(signals, "signals", f"{run.run_id}.parquet")
    hand_over(world, run)
    assert alert(world, run)["posted"] == len(HOSTILE)
    for n in range(len(HOSTILE)):
        move(world, n + 1, "withdrawn", reason=HOSTILE[n])
    for _ in range(2):
        posts = world.org.posts()
        assert len(posts) == (1 if many else len(HOSTILE))
        for post in posts:
            assert post["notifies"] == []
            assert not re.search(r"<(?!@U)", post["text"])
            assert {b["type"] for b in post["blocks"]} <= {"rich_text", "header", "context"}
            assert "mrkdwn" not in str(post["blocks"])
            assert not set("\x00\x1b\r\u202e\u2066\u200b") & set(str(post["blocks"]) + post["text"])
            assert len(str(post)) < 12_000
        alert(world, later(world))


def test_a_person_s_address_is_in_no_message(world: Any) -> None:
    run = assigned(world, 1, 2, signals={"name": "ada.lovelace@gmail.example", "domain": "ada@gmail.example"})
    alert(world, run)
    move(world, 1, "withdrawn", reason="asked by ada.lovelace@gmail.example")
    alert(world, later(world))
    posts = str(world.org.posts())
    assert "an account of one person" in posts
    assert "lovelace" not in posts
    assert "gmail" not in posts
    assert "@rep.example" not in posts


# ── links ────────────────────────────────────────────────────────────────────────────────────────


def linked(world: Any, run: Any) -> dict[str, Any]:
    """Alerts that know where the CRM's pages are."""
    return alert_reps(
        world.lake, world.ledger, world.policy, run, world.slack(), now=run.as_of, held=None,
        page=world.salesforce().page,
    )  # fmt: skip


def links(post: dict[str, Any]) -> list[tuple[str, str]]:
    """The links of a post: what is written, and where it leads."""
    found: list[tuple[str, str]] = []

    def look(value: Any) -> None:
        if isinstance(value, list):
            for each in value:
                look(each)
        elif isinstance(value, dict):
            if value.get("type") == "link":
                found.append((value["text"], value["url"]))
            for each in value.values():
                look(each)

    look(post["blocks"])
    return found


def test_an_alert_leads_to_the_task_and_to_the_record(world: Any) -> None:
    run = opened(world, 1)
    linked(world, run)
    (post,) = world.org.posts()
    task, account = (f"{world.org.url}/{i}" for i in (world.task(1)["Id"], world.task(1)["WhatId"]))
    assert links(post) == [("Company 1", task), ("Open the task", task), ("Open the record", account)]
    assert "http" not in post["text"]
    for url in (task, account):
        assert requests.get(url, timeout=10).url.startswith(f"{world.org.url}/tasks?rep={OWNER}")
    move(world, 1, "touched")
    alert(world, later(world))
    assert links(world.org.posts()[0])[0] == ("Company 1", task), "it still leads there when it is written anew"


def test_a_digest_leads_to_each_task(world: Any) -> None:
    tuned(world, digest_above=1)
    run = opened(world, 1, 2)
    linked(world, run)
    (post,) = world.org.posts()
    assert dict(links(post)) == {f"Company {n}": f"{world.org.url}/{world.task(n)['Id']}" for n in (1, 2)}


def test_a_policy_without_links_and_one_stored_before_there_were_any_have_none(world: Any) -> None:
    tuned(world, links=False)
    linked(world, opened(world, 1))
    assert links(world.org.posts()[0]) == []
    document = stored(read_policy())
    del document["slack"]["links"]
    assert read_stored(document | {"format": 3}).slack.links is False
