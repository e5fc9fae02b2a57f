"""After the handover the rep is not alone: what is new of the account is told in the alert's thread."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from onetouch.delivery import DeliveryFailed

from tests.delivery.test_alert_reps import alert, assigned, forget, move, shown, tuned
from tests.delivery.world import OTHER, OWNER

AS_OF = datetime(2025, 11, 18, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)


def known(world: Any, at: datetime, *numbers: int, **events: datetime) -> Any:
    """A run that decides nothing new and knows these events of the accounts."""
    run = world.run(at)
    world.decide(run, *numbers, signals=dict(events), action="hold_touched")
    owners = [{"owner_id": i, "email": f"{i}@rep.example", "timezone": "America/New_York"} for i in (OWNER, OTHER)]
    reps = pd.DataFrame(owners).assign(name="Rep", active=True)
    world.lake.write(reps, "crm", run.run_id, "reps.parquet")
    return run


def replies(world: Any) -> list[dict[str, Any]]:
    return [post for post in world.org.posts() if post.get("thread_ts") not in (None, post["ts"])]


def announced(world: Any, *numbers: int, **given: Any) -> list[dict[str, Any]]:
    world.policy = world.policy.changed(assignment__remind=False)  # that is another test's
    run = assigned(world, *numbers, **given)
    alert(world, run)
    return world.org.posts()


def test_an_account_that_views_pricing_after_the_handover_is_told_to_its_owner_in_the_thread(world: Any) -> None:
    (post,) = announced(world, 1)
    summary = alert(world, known(world, AS_OF + 2 * HOUR, 1, pricing_views_at=AS_OF + HOUR))
    (reply,) = replies(world)
    assert (reply["channel"], reply["thread_ts"]) == (post["channel"], post["ts"])
    assert "Company 1 — since then they looked at pricing, Tue 18 Nov, 06:00 EST" in shown(reply)
    assert reply["text"].startswith("<@U")
    assert summary["told"] == 1
    assert "rita@" not in str(reply)


def test_what_the_dossier_already_knew_is_not_told(world: Any) -> None:
    announced(world, 1, signals={"pricing_views_at": AS_OF - HOUR})
    alert(world, known(world, AS_OF + 3 * HOUR, 1, pricing_views_at=AS_OF, invites_at=AS_OF - HOUR))
    assert replies(world) == []


def test_one_reply_for_each_kind_of_event_and_day_of_the_owner(world: Any) -> None:
    announced(world, 1)
    evening = datetime(2025, 11, 19, 1, tzinfo=UTC)  # still the 18th for an owner in New York
    for at in (AS_OF + HOUR, AS_OF + 2 * HOUR, evening):
        alert(world, known(world, at + HOUR, 1, pricing_views_at=at), now=AS_OF + 3 * HOUR)
    assert len(replies(world)) == 1
    alert(world, known(world, evening + 2 * HOUR, 1, demo_requests_at=evening), now=AS_OF + 3 * HOUR)
    assert ["talk to someone" in shown(reply) for reply in replies(world)] == [False, True]
    tomorrow = AS_OF + 26 * HOUR
    alert(world, known(world, tomorrow, 1, pricing_views_at=tomorrow - HOUR))
    assert len(replies(world)) == 3


def test_a_run_that_is_repeated_or_overtaken_tells_nothing_twice(world: Any) -> None:
    announced(world, 1)
    first = known(world, AS_OF + 2 * HOUR, 1, pricing_views_at=AS_OF + HOUR)
    second = known(world, AS_OF + 3 * HOUR, 1, pricing_views_at=AS_OF + HOUR)
    said = alert(world, second)
    assert alert(world, first).get("told") is None
    assert alert(world, second) == said
    assert len(replies(world)) == 1


def test_it_is_told_while_touched_and_not_once_the_handoff_has_moved_on(world: Any) -> None:
    announced(world, 1, 2)
    move(world, 1, "touched")
    move(world, 2, "touched", "replied")
    alert(world, known(world, AS_OF + 3 * HOUR, 1, 2, pricing_views_at=AS_OF + 2 * HOUR))
    (reply,) = replies(world)
    assert "Company 1" in shown(reply)


def test_a_policy_of_an_earlier_release_tells_nothing(world: Any) -> None:
    tuned(world, tell_events=False)
    announced(world, 1)
    alert(world, known(world, AS_OF + 2 * HOUR, 1, pricing_views_at=AS_OF + HOUR))
    assert replies(world) == []


def test_in_the_owners_night_it_waits_for_the_morning(world: Any) -> None:
    announced(world, 1)
    run = known(world, AS_OF + 20 * HOUR, 1, pricing_views_at=AS_OF + 13 * HOUR)
    alert(world, run, now=AS_OF + 20 * HOUR)  # one o'clock in New York
    assert replies(world) == []
    later = known(world, AS_OF + 27 * HOUR, 1, pricing_views_at=AS_OF + 13 * HOUR)
    alert(world, later)
    assert len(replies(world)) == 1


def test_held_nothing_is_told(world: Any) -> None:
    announced(world, 1)
    run = known(world, AS_OF + 2 * HOUR, 1, pricing_views_at=AS_OF + HOUR)
    alert(world, run, held="dry run")
    assert replies(world) == []


def test_of_a_digest_the_reply_names_the_account(world: Any) -> None:
    tuned(world, digest_above=1)
    (digest,) = announced(world, 1, 2, 3)
    alert(world, known(world, AS_OF + 2 * HOUR, 2, pricing_views_at=AS_OF + HOUR))
    (reply,) = replies(world)
    assert reply["thread_ts"] == digest["ts"]
    assert "Company 2 — " in shown(reply)


@pytest.mark.parametrize("to", ["owner", "both"])
def test_who_was_told_in_a_direct_message_hears_it_there(world: Any, to: str) -> None:
    tuned(world, alerts_to=to)
    posts = announced(world, 1)
    alert(world, known(world, AS_OF + 2 * HOUR, 1, pricing_views_at=AS_OF + HOUR))
    (reply,) = replies(world)
    (direct,) = [post for post in posts if post["channel"].startswith("D")]
    assert (reply["channel"], reply["thread_ts"]) == (direct["channel"], direct["ts"])
    assert "<@" not in reply["text"]


def test_after_a_change_of_owner_the_new_one_is_told_in_a_conversation_of_their_own(world: Any) -> None:
    tuned(world, alerts_to="owner")
    (direct,) = announced(world, 1)
    world.ledger.reassign(world.handoff(1).handoff_id, OTHER, "otto@rep.example")
    alert(world, known(world, AS_OF + 2 * HOUR, 1, pricing_views_at=AS_OF + HOUR))
    assert replies(world) == []
    (told,) = [post for post in world.org.posts() if "since then" in post["text"]]
    assert told["channel"] not in (direct["channel"], "C0ALERTS")


def test_a_lost_answer_or_a_crash_tells_nobody_twice(world: Any) -> None:
    announced(world, 1)
    run = known(world, AS_OF + 2 * HOUR, 1, pricing_views_at=AS_OF + HOUR)
    world.org.post("faults", [{"match": "chat.postMessage", "drop": "answer"}])
    alert(world, run)
    assert alert(world, known(world, AS_OF + 3 * HOUR, 1, pricing_views_at=AS_OF + HOUR))["failed"] == []
    assert len(replies(world)) == 1


def test_dying_at_any_moment_tells_it_once(make_world: Any) -> None:
    from tests.delivery.world import Killed

    for die_at in range(1, 40):
        world = make_world(f"dies-{die_at}")
        announced(world, 1)
        run = known(world, AS_OF + 2 * HOUR, 1, pricing_views_at=AS_OF + HOUR)
        world.mortal(die_at)
        try:
            alert(world, run)
        except Killed:
            died = True
        else:
            died = False
        world.immortal()
        alert(world, run)
        assert len(replies(world)) == 1, die_at
        if not died:
            return
    raise AssertionError("it never came to an end")


def test_whose_announcement_was_deleted_is_not_told_again_and_again(world: Any) -> None:
    (post,) = announced(world, 1)
    world.org.sql("DELETE FROM message WHERE ts = ?", post["ts"])
    assert alert(world, known(world, AS_OF + 2 * HOUR, 1, pricing_views_at=AS_OF + HOUR))["failed"] == []
    assert [row.state for row in world.ledger.outbox() if row.kind == "alert_reply"] == ["failed"]


def test_a_refused_reply_is_reported_and_comes_with_the_next_run(world: Any) -> None:
    announced(world, 1)
    refusal = {"match": "chat.postMessage", "status": 200, "body": {"ok": False, "error": "msg_blocks_too_long"}}
    world.org.post("faults", [refusal])
    with pytest.raises(DeliveryFailed, match="msg_blocks_too_long"):
        alert(world, known(world, AS_OF + 2 * HOUR, 1, pricing_views_at=AS_OF + HOUR))
    alert(world, known(world, AS_OF + 3 * HOUR, 1, pricing_views_at=AS_OF + HOUR))
    assert len(replies(world)) == 1


def test_the_replies_about_a_forgotten_account_are_emptied(world: Any) -> None:
    announced(world, 1)
    alert(world, known(world, AS_OF + 2 * HOUR, 1, pricing_views_at=AS_OF + HOUR))
    assert "Company 1" in str(world.org.posts())
    forget(world, 1)
    alert(world, world.run(AS_OF + 4 * HOUR))
    assert "Company 1" not in str(world.org.posts())
    assert len(replies(world)) == 1
