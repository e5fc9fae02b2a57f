import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest


@pytest.fixture
def slack(airflow_database, monkeypatch):
    """A Slack that keeps what it is sent; `status` is what it answers."""
    kept = SimpleNamespace(bodies=[], status=200)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            kept.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(kept.status)
            self.end_headers()
            self.wfile.write(b'{"ok": true}')

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    kept.connection = f'{{"password":"xoxb-1","extra":{{"base_url":"http://127.0.0.1:{server.server_port}/api/"}}}}'
    monkeypatch.setenv("AIRFLOW_CONN_SLACK_DEFAULT", kept.connection)
    yield kept
    server.shutdown()
    server.server_close()


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
    (body,) = slack.bodies
    assert body["channel"] == read_policy().slack.alerts_channel
    assert body["text"] == (
        ":red_circle: pql_pipeline.extract_events[0] failed in r1: PolicyError: tiers.high: 0 is not more than 0\n"
        "http://log"
    )


def test_a_failure_mentions_nobody(slack):
    from onetouch.policy import PolicyError
    from onetouch_airflow.alerts import task_failed

    task_failed(context(PolicyError("<!channel> <https://evil|click>" + "x" * 9000)))
    assert not set("<>") & set(slack.bodies[0]["text"])
    assert len(slack.bodies[0]["text"]) < 3000


def test_words_the_library_did_not_write_are_not_repeated(slack):
    from onetouch_airflow.alerts import task_failed

    task_failed(context(RuntimeError("https://user:secret@host failed for ada@example.com")))
    text = slack.bodies[0]["text"]
    assert "RuntimeError" in text
    assert "secret" not in text
    assert "ada" not in text


def test_a_late_run_is_told(slack):
    from onetouch_airflow.alerts import run_is_late

    run_is_late(50, {"dag_run": {"dag_id": "pql_pipeline", "dag_run_id": "r1", "state": "running"}})
    assert "pql_pipeline r1 is not through after 50 minutes" in slack.bodies[0]["text"]


@pytest.mark.parametrize(
    "connection",
    ["", "not a connection", '{"password":"x","extra":{"base_url":"http://example.com/"}}',
     '{"password":"x","extra":{"base_url":"http://127.0.0.1:1/"}}'],
)  # fmt: skip
def test_no_slack_is_no_second_failure(slack, monkeypatch, connection):
    from onetouch_airflow.alerts import task_failed

    monkeypatch.setenv("AIRFLOW_CONN_SLACK_DEFAULT", connection)
    task_failed(context(ValueError("x")))
    assert slack.bodies == []


def test_a_refusing_slack_is_no_second_failure(slack):
    from onetouch_airflow.alerts import task_failed

    slack.status = 500
    task_failed(context(None))
    assert len(slack.bodies) == 1
