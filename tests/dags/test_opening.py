from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

SANDBOX = {
    "salesforce": '{"conn_type":"salesforce","extra":{"instance_url":"http://127.0.0.1:8765","consumer_key":"k",'
    '"consumer_secret":"s","version":"62.0"}}',
    "slack": '{"conn_type":"slack","password":"xoxb-1","extra":{"base_url":"http://127.0.0.1:8765/api/"}}',
    "amplitude": '{"conn_type":"http","host":"http://127.0.0.1:8765","login":"k","password":"s"}',
    "port": '{"conn_type":"http","host":"example.com","schema":"https","port":8443}',
}


@pytest.mark.parametrize("name", SANDBOX)
def test_airflow_and_the_command_line_read_the_same_connection(airflow_database, monkeypatch, name):
    from onetouch.connections import from_environment
    from onetouch_airflow.opening import connection

    conn_id, variable = f"{name}_test", f"AIRFLOW_CONN_{name.upper()}_TEST"
    monkeypatch.setenv(variable, SANDBOX[name])
    assert connection(conn_id) == from_environment(conn_id, {variable: SANDBOX[name]})
    assert connection(conn_id) is not None


@pytest.mark.parametrize("value", [None, ""])
def test_a_connection_that_is_not_set_is_none(airflow_database, monkeypatch, value):
    from onetouch_airflow.opening import connection

    if value is not None:
        monkeypatch.setenv("AIRFLOW_CONN_ABSENT_DEFAULT", value)
    assert connection("absent_default") is None


HOUR = datetime(2026, 11, 2, 7, tzinfo=UTC)
LATER = datetime(2026, 11, 2, 7, 12, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("param", "data_interval_end", "expected"),
    [
        (None, HOUR, HOUR),
        (None, None, LATER),
        ("2026-11-02T09:00:00+02:00", HOUR, HOUR),
        ("2026-11-02T07:00:00Z", None, HOUR),
    ],
)
def test_the_moment_of_a_run(airflow_database, monkeypatch, param, data_interval_end, expected):
    from onetouch_airflow import opening

    run = SimpleNamespace(data_interval_end=data_interval_end, run_after=LATER)
    monkeypatch.setattr(opening, "get_current_context", lambda: {"params": {"as_of": param}, "dag_run": run})
    moment = opening.as_of()
    assert (moment, moment.utcoffset().total_seconds()) == (expected, 0)


@pytest.mark.parametrize(("value", "reason"), [(None, None), ("", None), ("  ", None), ("fire ", "fire")])
def test_any_text_in_the_variable_stops_everything(airflow_database, monkeypatch, tmp_path, value, reason):
    from onetouch_airflow.opening import workspace

    monkeypatch.setenv("ONETOUCH_HOME", str(tmp_path))
    if value is not None:
        monkeypatch.setenv("AIRFLOW_VAR_ONETOUCH_STOP", value)
    here = workspace()
    assert here.stopped() == reason
    here.ledger.stop("by hand", HOUR)
    assert here.stopped() == "by hand", "either stops"


def test_a_variable_that_cannot_be_read_is_no_go(airflow_database, monkeypatch):
    from airflow.sdk import Variable
    from onetouch_airflow.opening import stop_switch

    def broken(*args, **kwargs):
        raise RuntimeError("the API server is down")

    monkeypatch.setattr(Variable, "get", broken)
    with pytest.raises(RuntimeError):
        stop_switch()
