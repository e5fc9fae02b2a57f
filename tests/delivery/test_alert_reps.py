"""The owner hears of each new task once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from onetouch.delivery import DeliveryFailed, alert_reps

AS_OF = datetime(2025, 11, 18, 10, tzinfo=UTC)


def opened(world: Any, *numbers: int, **given: Any) -> Any:
    world.accounts(*numbers)
    run = world.run()
    world.decide(run, *numbers, **given)
    world.deliver(run)
    return run


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
    world.rechecked = {"org-1": "checkout started"}
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
