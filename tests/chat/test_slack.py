"""One post for one thing to say, whatever crashes on the way; and nothing in it acts."""

from __future__ import annotations

import io
from dataclasses import replace
from threading import Condition, Thread
from typing import Any

import matplotlib.pyplot as plt
import pytest
from onetouch.chat import ChatError, Message, Rule, Text, Title, message, post_once
from onetouch.chat.slack import Slack, escape
from onetouch.connections import Connection, ConnectionConfigError
from onetouch.report import Chart, Report, post_report

KEY = "weekly_report:2025-W46"


@pytest.fixture(scope="module")
def report() -> Report:
    picture = io.BytesIO()
    plt.figure(figsize=(1, 1)).savefig(picture)
    plt.close("all")
    details = Message([(Text("Week 46: 12 PQLs"),), (Text("PQL to close 3 of 12 (25 %)"),)])
    charts = [Chart(f"c{n}", f"Chart {n}", f"what chart {n} shows", picture.getvalue()) for n in range(3)]
    return Report(message("Week 46: 12 PQLs", Title("Week 46")), details, charts)


def say(world: Any, slack: Slack, key: str = "k", text: str = "hello") -> str:
    return post_once(slack, world.ledger, message(text), key=key, kind="alert", channel="C0ALERTS").message


def test_said_once_for_a_key(world: Any) -> None:
    slack = world.slack()
    assert say(world, slack) == say(world, slack)
    say(world, slack, key="other")
    assert len(world.org.posts()) == 2


def test_a_lost_answer_is_found_in_the_channel_and_not_posted_again(world: Any) -> None:
    world.org.post("faults", [{"match": "chat.postMessage", "drop": "answer"}])
    ts = say(world, world.slack())
    assert [p["ts"] for p in world.org.posts()] == [ts]


def test_a_lost_request_stays_unknown_and_is_posted_by_the_next_attempt(world: Any) -> None:
    world.org.post("faults", [{"match": "chat.postMessage", "drop": "request"}])
    with pytest.raises(ChatError, match="unknown"):
        say(world, world.slack())
    assert [r.state for r in world.ledger.outbox(keys=["k"])] == ["sending"]
    slept: list[float] = []
    say(world, world.slack(slept.append))
    assert len(world.org.posts()) == 1
    assert slept == [35]  # longer than any call lasts: another process may have been posting


@pytest.mark.parametrize("fault", [{"status": 500, "body": "oops"}, {"status": 502, "body": ""}])
def test_a_server_error_leaves_the_outcome_open(world: Any, fault: dict[str, Any]) -> None:
    world.org.post("faults", [{"match": "chat.postMessage"} | fault])
    with pytest.raises(ChatError, match="unknown"):
        say(world, world.slack())
    say(world, world.slack())
    assert len(world.org.posts()) == 1


def test_a_refusal_is_named_kept_and_tried_again_later(world: Any) -> None:
    world.org.post("faults", [{"match": "chat.postMessage", "status": 200,
                               "body": {"ok": False, "error": "not_in_channel"}}])  # fmt: skip
    with pytest.raises(ChatError, match="not_in_channel"):
        say(world, world.slack())
    (row,) = world.ledger.outbox(keys=["k"])
    assert (row.state, row.reason) == ("pending", "not_in_channel")
    say(world, world.slack())
    assert len(world.org.posts()) == 1


@pytest.mark.parametrize(("asked", "waited"), [("7", 7), ("0", 0), ("Thu, 01 Jan 2026 00:00:00 GMT", 1), (None, 1)])
def test_too_many_requests_are_waited_out(world: Any, asked: str | None, waited: float) -> None:
    headers = {"Retry-After": asked} if asked else {}
    world.org.post("faults", [{"match": "chat.postMessage", "status": 429, "headers": headers, "times": 3}])
    slept: list[float] = []
    say(world, world.slack(slept.append))
    assert slept == [waited] * 3
    assert len(world.org.posts()) == 1


@pytest.mark.parametrize(("asked", "times"), [("3600", 0), ("2", 5)])
def test_who_is_to_wait_too_long_is_refused_and_posts_with_the_next_attempt(world: Any, asked: str, times: int) -> None:
    body = {"ok": False, "error": "ratelimited"}
    refusal = {"match": "chat.postMessage", "status": 429, "headers": {"Retry-After": asked}, "body": body}
    world.org.post("faults", [refusal | {"times": 6 if times else 1}])
    slept: list[float] = []
    with pytest.raises(ChatError, match="ratelimited"):
        say(world, world.slack(slept.append))
    assert len(slept) == times
    assert [r.state for r in world.ledger.outbox(keys=["k"])] == ["pending"]
    say(world, world.slack())
    assert len(world.org.posts()) == 1


def test_a_message_is_written_anew_where_it_stands(world: Any) -> None:
    slack = world.slack()
    place = post_once(slack, world.ledger, message("before"), key="k", kind="alert", channel="C0ALERTS")
    for _ in range(2):
        slack.update(place, message("after"))
    (post,) = world.org.posts()
    assert (post["ts"], post["text"], post["edited"]) == (place.message, "after", True)
    assert post["metadata"]["event_payload"] == {"key": "k"}
    world.org.post("slack", {"archived": ["C0ALERTS"]})
    with pytest.raises(ChatError, match="is_inactive") as refused:
        slack.update(place, message("later"))
    assert refused.value.code == "is_inactive"


def test_a_long_message_can_be_written_anew(world: Any) -> None:
    slack = world.slack()
    place = post_once(slack, world.ledger, message("x" * 5_000), key="k", kind="alert", channel="C0ALERTS")
    slack.update(place, message("y" * 5_000, Rule()))
    (post,) = world.org.posts()
    assert post["text"] == "y" * 3_900


@pytest.mark.parametrize("code", ["users_not_found", "missing_scope", "user_disabled", "invalid_arguments"])
def test_somebody_slack_may_not_tell_of_is_nobody(world: Any, code: str) -> None:
    refusal = {"match": "/api/(users|conversations.open)", "status": 200, "body": {"ok": False, "error": code}}
    world.org.post("faults", [refusal | {"times": 2}])
    slack = world.slack()
    assert slack.user("rita@rep.example") is None
    assert slack.direct("U1") is None
    assert slack.user("rita@rep.example") is None  # asked once
    assert slack.user(None) is slack.direct(None) is None
    assert len(world.org.faults()) == 0


@pytest.mark.parametrize(
    "fault",
    [{"status": 200, "body": {"ok": False, "error": "invalid_auth"}}, {"status": 503, "body": ""}, {"drop": "request"}],
)
def test_a_slack_that_cannot_say_is_asked_again(world: Any, fault: dict[str, Any]) -> None:
    world.org.post("faults", [{"match": "users.lookupByEmail"} | fault])
    slack = world.slack()
    with pytest.raises(ChatError):
        slack.user("rita@rep.example")
    assert slack.direct(slack.user("rita@rep.example"))


def test_a_dead_letter_is_not_posted_until_a_person_lays_it_out_again(world: Any) -> None:
    world.ledger.put("k", "slack", "alert", None, None, {"channel": "C0ALERTS"})
    world.ledger.failed("k", "over", retryable=False)
    with pytest.raises(ChatError, match="outbox retry"):
        say(world, world.slack())
    assert world.org.posts() == []


def test_rows_of_earlier_versions_hold_the_ts_alone(world: Any) -> None:
    world.ledger.put("k", "slack", "alert", None, None, {"channel": "C0ALERTS"})
    world.ledger.sending("k")
    world.ledger.sent("k", "1763460000.000100")
    assert say(world, world.slack()) == "1763460000.000100"


def test_a_channel_put_right_after_an_unknown_outcome_is_not_posted_to_twice(world: Any) -> None:
    world.org.post("faults", [{"match": "chat.postMessage", "drop": "answer"},
                              {"match": "conversations.history", "status": 500}])  # fmt: skip
    with pytest.raises(ChatError):
        say(world, world.slack())
    place = post_once(world.slack(), world.ledger, message("hello"), key="k", kind="alert", channel="C0LEADERS")
    assert [post["channel"] for post in world.org.posts()] == [place.channel] == ["C0ALERTS"]


def test_killed_anywhere_and_run_again_there_is_one_post(make_world: Any, report: Report) -> None:
    report = replace(report, charts=report.charts[:1])
    world = make_world("undisturbed")
    world.mortal(None)
    post_report(world.ledger, world.slack(), world.policy, report, KEY)
    effects = world.effects.count
    world.immortal()
    assert effects >= 16
    for die_at in range(1, effects + 1):
        world = make_world(f"killed-{die_at}")
        world.mortal(die_at)
        with pytest.raises(BaseException) as death:  # noqa: PT011 - Killed is the fixture's
            post_report(world.ledger, world.slack(), world.policy, report, KEY)
        assert type(death.value).__name__ == "Killed"
        world.immortal()
        post_report(world.ledger, world.slack(), world.policy, report, KEY)
        posts = world.org.posts()
        assert [p["thread_ts"] is None for p in posts] == [True, False], f"killed at effect {die_at}"
        assert [r.state for r in world.ledger.outbox(destination="slack")] == ["sent"] * 3


def test_many_at_once_make_one_post(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pause before a second look is longer than any call lasts: here it ends when nobody is posting."""
    errors: list[BaseException] = []
    nobody_posts, posting = Condition(), set[str]()
    claim, sent = world.ledger.claim, world.ledger.sent

    def claimed(row: Any) -> Any:
        with nobody_posts:
            mine = claim(row)
            if mine is not None:
                posting.add(row.key)
            return mine

    def told(key: str, external_id: str) -> None:
        sent(key, external_id)
        with nobody_posts:
            posting.discard(key)
            nobody_posts.notify_all()

    def pause(seconds: float) -> None:
        with nobody_posts:
            assert nobody_posts.wait_for(lambda: not posting, timeout=60)

    monkeypatch.setattr(world.ledger, "claim", claimed)
    monkeypatch.setattr(world.ledger, "sent", told)

    def once() -> None:
        try:
            say(world, world.slack(pause))
        except BaseException as error:  # noqa: BLE001 - the test's thread must tell
            errors.append(error)

    threads = [Thread(target=once) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(world.org.posts()) == 1


def test_the_report_is_one_post_with_its_pictures_and_details_in_the_thread(world: Any, report: Report) -> None:
    slack = world.slack()
    first = post_report(world.ledger, slack, world.policy, report, KEY)
    assert post_report(world.ledger, slack, world.policy, report, KEY) == first
    post, details = world.org.posts()
    assert (post["channel"], post["ts"], post["thread_ts"]) == ("C0LEADERS", first["ts"], None)
    assert post["text"] == "Week 46: 12 PQLs"
    images = [b for b in post["blocks"] if b["type"] == "image"]
    assert [b["alt_text"] for b in images] == ["what chart 0 shows", "what chart 1 shows", "what chart 2 shows"]
    assert details["thread_ts"] == post["ts"]
    assert "25 %" in details["text"]
    assert len(world.org.state()["files"]) == 3


def test_a_picture_that_is_never_processed_ends_the_wait(world: Any, report: Report) -> None:
    world.org.post("limits", {"file_looks": 1000})
    slept: list[float] = []
    with pytest.raises(ChatError, match="not processed"):
        post_report(world.ledger, world.slack(slept.append), world.policy, report, KEY)
    assert len(slept) == 30
    assert world.org.posts() == []


def test_text_that_would_act_is_only_shown() -> None:
    assert escape("<!channel> & <@U1> &lt;") == "&lt;!channel&gt; &amp; &lt;@U1&gt; &amp;lt;"


def test_the_token_is_in_no_error(world: Any) -> None:
    slack = Slack(Connection("slack_default", password="xoxb-wrong", extra={"base_url": f"{world.org.url}/api/"}))
    with pytest.raises(ChatError, match="invalid_auth") as refused:
        say(world, slack)
    assert "xoxb" not in str(refused.value)


@pytest.mark.parametrize(
    "given", [{"password": None}, {"password": "x", "extra": {"base_url": "http://slack.example/"}}]
)
def test_connections_that_cannot_work_are_refused_at_once(given: dict[str, Any]) -> None:
    with pytest.raises(ConnectionConfigError):
        Slack(Connection("slack_default", **given))
