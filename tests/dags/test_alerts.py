"""The data team hears of failures and late runs, once each, and an alert never adds a failure."""

import threading
from types import SimpleNamespace

import pytest
import requests


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    """The stand-in's address."""
    from onetouch.sandbox.server import make_server

    server, listener = make_server(tmp_path_factory.mktemp("slack"), 0)
    listener.listen()
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = server.force_exit = True
    thread.join()


@pytest.fixture
def slack(airflow_database, stand_in, monkeypatch):
    """Slack, empty, and the worker's connection to it."""

    def admin(what, document=None, method="POST"):
        return requests.request(method, f"{stand_in}/_sandbox/{what}", json=document, timeout=10).json()

    admin("state", method="DELETE")
    admin("limits", {"slack_burst": 1000})
    monkeypatch.setenv(
        "AIRFLOW_CONN_SLACK_DEFAULT", f'{{"password":"xoxb-sandbox","extra":{{"base_url":"{stand_in}/api/"}}}}'
    )
    return SimpleNamespace(admin=admin, posts=lambda: admin("state", method="GET")["posts"])


def context(exception, **ti):
    known = {
        "dag_id": "pql_pipeline",
        "task_id": "score",
        "map_index": -1,
        "rendered_map_index": None,
        "run_id": "r1",
        "log_url": "http://log",
    }
    return {"ti": SimpleNamespace(**{**known, **ti}), "exception": exception}


def test_a_failure_is_told_in_the_alerts_channel(slack):
    from onetouch.policy import PolicyError, read_policy
    from onetouch_airflow.alerts import task_failed

    task_failed(context(PolicyError("tiers.high: 0 is not more than 0"), task_id="extract_events", map_index=0))
    (post,) = slack.posts()
    assert post["channel"] == read_policy().slack.alerts_channel
    assert post["text"] == (
        ":red_circle: pql_pipeline.extract_events[0] failed in r1: PolicyError: tiers.high: 0 is not more than 0\n"
        "http://log"
    )


def test_a_failure_mentions_nobody(slack):
    from onetouch.policy import PolicyError
    from onetouch_airflow.alerts import task_failed

    task_failed(context(PolicyError("<!channel> <https://evil|click>" + "x" * 9000)))
    assert not set("<>") & set(slack.posts()[0]["text"])
    assert len(slack.posts()[0]["text"]) < 3000


def test_words_the_library_did_not_write_are_not_repeated(slack):
    from onetouch_airflow.alerts import task_failed

    task_failed(context(RuntimeError("https://user:secret@host failed for ada@example.com")))
    text = slack.posts()[0]["text"]
    assert "RuntimeError" in text
    assert "secret" not in text
    assert "ada" not in text


def test_a_late_run_is_told(slack):
    from onetouch_airflow.alerts import run_is_late

    run_is_late(50, {"dag_run": {"dag_id": "pql_pipeline", "dag_run_id": "r1", "state": "running"}})
    assert "pql_pipeline r1 is not through after 50 minutes" in slack.posts()[0]["text"]


@pytest.mark.parametrize(
    "connection",
    ["", "not a connection", '{"password":"x","extra":{"base_url":"http://example.com/"}}',
     '{"password":"x","extra":{"base_url":"http://127.0.0.1:1/"}}'],
)  # fmt: skip
def test_no_slack_is_no_second_failure(slack, monkeypatch, connection):
    from onetouch_airflow.alerts import task_failed

    monkeypatch.setenv("AIRFLOW_CONN_SLACK_DEFAULT", connection)
    task_failed(context(ValueError("x")))
    assert slack.posts() == []


@pytest.mark.parametrize(("fault", "posted"), [({"status": 500, "body": ""}, 0), ({"drop": "answer"}, 1)])
def test_a_refusing_slack_is_no_second_failure(slack, fault, posted):
    from onetouch_airflow.alerts import task_failed

    slack.admin("faults", [{"match": "/api/", "times": 9} | fault])
    task_failed(context(None))
    assert slack.admin("faults", method="GET")[0]["times"] < 9
    assert len(slack.posts()) == posted


def test_failed_checks_are_named_with_what_was_observed_and_expected(slack):
    from datetime import UTC, datetime

    from onetouch.ledger import Run
    from onetouch.quality import ChecksFailed
    from onetouch_airflow.alerts import task_failed

    run = Run("r1", datetime(2026, 1, 5, 10, tzinfo=UTC), "p1", False)
    critical = ["amplitude: events of the last day: 3 (at least 10)", "amplitude: hours since the last: 50 (at most 6)"]
    task_failed(context(ChecksFailed("events", run, {"critical": critical, "docs": "quality/r1/docs"})))
    lines = slack.posts()[0]["text"].split("\n")
    assert lines[1:3] == [f"• {finding}" for finding in critical]
    assert lines[3] == "Details: quality/r1/docs"


def test_a_task_that_fails_again_writes_its_message_anew(slack):
    from onetouch_airflow.alerts import task_failed

    task_failed(context(ValueError("x")))
    task_failed(context(ValueError("x"), task_id="route"))
    task_failed(context(ValueError("x"), run_id="r2"))
    for _ in range(2):
        task_failed(context(KeyError("x")))
    posts = slack.posts()
    assert len(posts) == 3
    assert [post["edited"] for post in posts] == [True, False, False]
    assert "failed in r1: KeyError" in posts[0]["text"]
    assert posts[0]["text"].endswith("3 times by now.")


def test_a_long_message_too_is_written_anew(slack):
    from onetouch.policy import PolicyError
    from onetouch_airflow.alerts import task_failed

    for _ in range(2):
        task_failed(context(PolicyError("&" * 9000)))  # five letters each, once escaped
    (post,) = slack.posts()
    assert post["text"].endswith("2 times by now.")


def test_where_the_channel_may_not_be_read_a_failure_is_told_again(slack):
    from onetouch_airflow.alerts import task_failed

    slack.admin("slack", {"scopes": ["chat:write"]})
    for _ in range(2):
        task_failed(context(ValueError("x")))
    assert len(slack.posts()) == 2


def test_what_has_no_key_is_told_each_time(slack):
    from onetouch_airflow.alerts import tell

    for _ in range(2):
        tell("a person is asked")
    assert len(slack.posts()) == 2


@pytest.mark.parametrize(
    ("policy", "channel"),
    [
        ("slack: {ops_channel: C0OPS}", "C0OPS"),
        ("slack: {alerts_channel: C0LEADERS}", "C0LEADERS"),
        ("slack: {ops_channel: C0OPS}\nscoring: {tiers: {high: -1}}", "C0OPS"),  # a broken policy is told, too
        ("scoring: {tiers: {high: -1}}", "C0ALERTS"),
    ],
)
def test_it_is_told_in_the_ops_channel(slack, monkeypatch, tmp_path, policy, channel):
    from onetouch_airflow.alerts import task_failed

    (tmp_path / "policy.yaml").write_text(policy)
    monkeypatch.setenv("ONETOUCH_POLICY", str(tmp_path / "policy.yaml"))
    task_failed(context(ValueError("x")))
    assert [post["channel"] for post in slack.posts()] == [channel]
