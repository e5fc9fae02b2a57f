import json

import pytest
from airflow.sdk.definitions.connection import Connection as AirflowConnection
from onetouch.connections import Connection, ConnectionConfigError, from_environment, require_tls

AS_AIRFLOW_READS_THEM = [
    "http://key:secret@127.0.0.1:8765",
    "http://https%3A%2F%2Famplitude.com",
    "http://user:p%40ss%2Fw%3Aord%25@eu.example.com:443/https",
    "http://https://eu.example.com:8443/?a=1&b=%2F%26",
    "salesforce://?instance_url=https%3A%2F%2FAcme.my.salesforce.com&consumer_key=K&version=62.0",
    "slack://:xoxb-1@/?__extra__=%7B%22base_url%22%3A+%22http%3A%2F%2F127.0.0.1%3A8765%2Fapi%2F%22%7D",
    "my-type://Host.Example.com",
]


@pytest.mark.parametrize("uri", AS_AIRFLOW_READS_THEM)
def test_reads_a_uri_as_airflow_does(uri):
    ours = from_environment("some_default", {"AIRFLOW_CONN_SOME_DEFAULT": uri})
    theirs = AirflowConnection.from_uri(uri, "some_default")
    assert ours is not None
    assert (ours.host, ours.login, ours.password, ours.schema, ours.port, ours.extra) == (
        theirs.host or None,
        theirs.login or None,
        theirs.password or None,
        theirs.schema or None,
        theirs.port,
        theirs.extra_dejson,
    )


@pytest.mark.parametrize(
    "document",
    [
        {"conn_type": "http", "host": "http://127.0.0.1:8765", "login": "k", "password": "p", "port": "81"},
        {"conn_type": "salesforce", "extra": {"instance_url": "http://127.0.0.1:1", "version": "62.0"}},
        {"conn_type": "salesforce", "extra": '{"consumer_key": "k"}', "description": "ours"},
    ],
)
def test_reads_json_as_airflow_does(document):
    text = json.dumps(document)
    ours = from_environment("sf", {"AIRFLOW_CONN_SF": text})
    theirs = AirflowConnection.from_json(text, "sf")
    assert ours is not None
    assert (ours.host, ours.login, ours.password, ours.port) == (
        theirs.host,
        theirs.login,
        theirs.password,
        theirs.port,
    )
    assert ours.extra == theirs.extra_dejson


def test_absent_is_none():
    assert from_environment("nobody", {}) is None
    assert from_environment("nobody", {"AIRFLOW_CONN_NOBODY": "  "}) is None


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ('{"host": "a", "password": "hunter2"', "not JSON"),
        ('{"hots": "a", "password": "hunter2"}', "hots"),
        ('{"password": 12345678}', "password"),
        ('{"password": "hunter2", "extra": "[1]"}', "extra"),
        ('{"password": "hunter2", "extra": "{oops"}', "extra"),
        ('{"password": "hunter2", "port": "x"}', "port"),
        ("just hunter2", "neither JSON nor a URI"),
        ("http://k:hunter2@host:99999999", "port"),
        ("http://k:hun://ter2@host", "percent-encode"),
    ],
)
def test_a_broken_value_is_refused_in_one_line_without_its_secret(value, says):
    with pytest.raises(ConnectionConfigError) as refused:
        from_environment("amplitude_default", {"AIRFLOW_CONN_AMPLITUDE_DEFAULT": value})
    message = str(refused.value)
    assert says in message and "AIRFLOW_CONN_AMPLITUDE_DEFAULT" in message
    assert "hunter2" not in message and "12345678" not in message and "\n" not in message
    assert refused.value.__cause__ is None


def test_repr_hides_secrets():
    shown = repr(Connection("c", "h", "me", "hunter2", extra={"consumer_secret": "swordfish", "version": "62.0"}))
    assert "hunter2" not in shown and "swordfish" not in shown
    assert "consumer_secret" in shown and "me" in shown


@pytest.mark.parametrize(
    "url",
    [
        "https://amplitude.com",
        "http://127.0.0.1:8765",
        "http://localhost:1/a",
        "http://[::1]:80",
        "http://127.9.9.9",
        "HTTPS://X.example",
    ],
)
def test_tls_or_loopback_passes(url):
    require_tls(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://amplitude.com",
        "http://localhost.evil.example",
        "http://127.0.0.1.evil.example",
        "http://127.0.0.1@evil.example",
        "https://key:secret@amplitude.com",
        "http://127.0.0.1\\@evil.example",
        "http://evil.example#@127.0.0.1",
        "http://0.0.0.0:80",
        "http://127.0.0.1:99999",
        "ftp://127.0.0.1",
        "file:///etc/passwd",
        "127.0.0.1:80",
        "https://",
        "",
        "https://a b",
    ],
)
def test_anything_else_is_refused(url):
    with pytest.raises(ConnectionConfigError) as refused:
        require_tls(url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("connection", "url"),
    [
        (Connection("c"), "https://amplitude.com"),
        (Connection("c", host="analytics.eu.amplitude.com"), "https://analytics.eu.amplitude.com"),
        (Connection("c", host="127.0.0.1", port=8765), "http://127.0.0.1:8765"),
        (Connection("c", host="http://127.0.0.1:8765/"), "http://127.0.0.1:8765"),
        (Connection("c", host="https://eu.example", port=8443), "https://eu.example:8443"),
        (Connection("c", host="eu.example", schema="https", port=444), "https://eu.example:444"),
        (Connection("c", host="::1", port=8765), "http://[::1]:8765"),
    ],
)
def test_base_url(connection, url):
    assert connection.base_url("https://amplitude.com") == url


def test_base_url_refuses_plain_http_elsewhere():
    with pytest.raises(ConnectionConfigError, match="not encrypted"):
        Connection("c", host="eu.example", schema="http").base_url("https://amplitude.com")
