import base64
import logging
import re
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
import tenacity
from onetouch.connections import Connection, ConnectionConfigError
from onetouch.lake import Lake
from onetouch.policy import read_policy
from onetouch.sources import ExportError, amplitude
from onetouch.sources.download import ATTEMPTS, back_off

from tests.sources.answers import answer, event, member, packed

LIMITS = read_policy().events
START = datetime(2025, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
KEY, SECRET = "the-key", "the-secret"


class Export:
    """A stand-in for the Export API, strict about what a request must look like; `faults` are met first."""

    def __init__(self):
        self.data = {}  # hour → member content
        self.most_hours = 10**6  # above it the answer is `too_large`
        self.too_large = 504
        self.faults = []
        self.asked = []
        self.protests = []
        self.released = threading.Event()

    def serve(self, handler):
        parts = urlsplit(handler.path)
        query = {name: values for name, values in parse_qs(parts.query).items()}
        expected = "Basic " + base64.b64encode(f"{KEY}:{SECRET}".encode()).decode()
        if handler.headers.get("Authorization") != expected:
            return handler.answer(401)
        hours = [query.get(name, [""])[0] for name in ("start", "end")]
        if parts.path != "/api/2/export" or set(query) != {"start", "end"}:
            self.protests.append(handler.path)
            return handler.answer(410)
        if not all(re.fullmatch(r"\d{8}T\d\d", hour) for hour in hours):
            self.protests.append(handler.path)
            return handler.answer(410)
        self.asked.append(tuple(hours))
        first, last = (datetime.strptime(hour, "%Y%m%dT%H").replace(tzinfo=UTC) for hour in hours)
        if last < first or last - first >= timedelta(days=365):
            self.protests.append(handler.path)
            return handler.answer(410)
        if self.faults:
            return self.faults.pop(0)(handler)
        if (last - first) / HOUR + 1 > self.most_hours:
            return handler.answer(self.too_large)
        found = [(member(hour), content) for hour, content in sorted(self.data.items()) if first <= hour <= last]
        return handler.answer(200, answer(None, found)) if found else handler.answer(404)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.export.serve(self)

    def answer(self, status, body=b"", headers=(), length=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        if length is not None:
            self.close_connection = True

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.export = Export()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.export.released.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def export(server):
    return server.export


@pytest.fixture
def fetch(server, tmp_path):
    lake = Lake(tmp_path / "lake")

    def fetch(start=START, end=START + 24 * HOUR, *, login=KEY, password=SECRET, host=None, timeout=(5, 5)):
        connection = Connection("amplitude_default", host or f"http://127.0.0.1:{server.server_port}", login, password)
        fetched = amplitude.fetch(
            lake, "raw/a", start, end, LIMITS, connection=connection, wait=tenacity.wait_none(), timeout=timeout
        )
        batches = amplitude.SOURCE.read(lake, "raw/a", fetched, LIMITS)
        return fetched, sum(batch.num_rows for batch in batches)

    yield fetch


def broken_off(handler):
    whole = answer(None, [(member(START), packed([event(1)]))])
    handler.answer(200, whole[: len(whole) // 2], length=len(whole))


def silently_short(handler):
    """As broken_off, but without a length nobody can tell from the protocol."""
    whole = answer(None, [(member(START), packed([event(1)]))])
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + whole[: len(whole) // 2])
    handler.close_connection = True


def gone(handler):
    handler.close_connection = True


def status(code, *headers):
    return lambda handler: handler.answer(code, headers=headers)


def test_both_ends_are_hours_inclusive_in_utc(export, fetch):
    export.data = {START + n * HOUR: packed([event(n)]) for n in range(-3, 30)}
    east = START.astimezone(datetime.strptime("+0900", "%z").tzinfo)
    _, rows = fetch(east, east + 24 * HOUR)
    assert export.asked == [("20250301T00", "20250301T23")]
    assert rows == 24
    assert export.protests == []


def test_no_data_is_no_error(export, fetch):
    fetched, rows = fetch()
    assert (fetched.files, fetched.refused, rows) == ([], [], 0)


def test_an_empty_window_asks_nothing(export, fetch):
    fetch(START, START + timedelta(minutes=59))
    assert export.asked == []


@pytest.mark.parametrize("too_large", [400, 504])
def test_a_window_too_large_is_halved_until_it_fits_and_no_hour_is_lost_or_read_twice(export, fetch, too_large):
    export.data = {START + n * HOUR: packed([event(n)]) for n in range(24)}
    export.most_hours, export.too_large = 5, too_large
    fetched, rows = fetch()
    assert rows == 24 and len({f.path for f in fetched.files}) == 24
    assert export.protests == []


def test_years_are_asked_for_in_parts_the_api_allows(export, fetch):
    export.data = {START: packed([event(1)])}
    _, rows = fetch(START - timedelta(days=1000), START + HOUR)
    assert rows == 1
    assert len(export.asked) == 3 and export.protests == []


def test_one_hour_that_is_refused_ends_with_an_error_that_names_it(export, fetch):
    export.most_hours, export.too_large = 0, 400
    with pytest.raises(ExportError, match="20250301T00–20250301T00: answered 400"):
        fetch()


def test_one_hour_that_times_out_at_the_vendor_is_tried_again(export, fetch):
    export.data = {START: packed([event(1)])}
    export.faults = [status(504), status(504)]
    assert fetch(START, START + HOUR)[1] == 1


FAULTS = [
    status(429, ("Retry-After", "0")),
    status(429),
    status(500),
    status(503, ("Retry-After", "Wed, 21 Oct 2015 07:28:00 GMT")),
    broken_off,
    silently_short,
    gone,
]


@pytest.mark.parametrize("fault", FAULTS)
def test_what_may_pass_is_tried_again(export, fetch, fault):
    export.data = {START: packed([event(1)])}
    export.faults = [fault] * (ATTEMPTS - 1)
    fetched, rows = fetch()
    assert rows == 1 and fetched.refused == []
    assert len(export.asked) == ATTEMPTS


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_pass_ends_in_one_clear_error(export, fetch, fault):
    export.faults = [fault] * ATTEMPTS
    with pytest.raises(ExportError) as error:
        fetch()
    assert f"{ATTEMPTS} times" in str(error.value) and "\n" not in str(error.value)
    assert len(export.asked) == ATTEMPTS


def test_a_server_that_falls_silent_is_left_and_asked_again(export, fetch):
    def silent(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nPK")
        handler.wfile.flush()
        export.released.wait(10)
        handler.close_connection = True

    export.data = {START: packed([event(1)])}
    export.faults = [silent]
    assert fetch(timeout=(5, 0.2))[1] == 1
    assert len(export.asked) == 2


def test_nobody_there_is_one_clear_error(server, fetch):
    with pytest.raises(ExportError, match="run again later"):
        fetch(host="http://127.0.0.1:1")


@pytest.mark.parametrize("code", [301, 302, 307, 403, 418])
def test_other_answers_are_errors_and_redirects_are_not_followed(export, fetch, code):
    export.faults = [status(code, ("Location", "http://evil.example/api/2/export"))]
    with pytest.raises(ExportError, match=str(code)):
        fetch()
    assert len(export.asked) == 1


def test_a_wrong_key_is_named_without_being_shown(fetch, caplog):
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ExportError, match="401.*amplitude_default") as error:
        fetch(password="wrong-secret")
    chain = error.value
    while chain is not None:
        assert "wrong-secret" not in str(chain)
        chain = chain.__cause__ or chain.__context__
    assert "wrong-secret" not in caplog.text


def test_plain_http_elsewhere_is_refused_before_anything_is_sent(fetch):
    with pytest.raises(ConnectionConfigError, match="not encrypted"):
        fetch(host="http://amplitude.example")


def test_what_the_answer_holds_beyond_the_window_is_left_out(export, fetch):
    beyond = answer(None, [(member(START - HOUR), packed([event(1)])), (member(START), packed([event(2)]))])
    export.faults = [lambda handler: handler.answer(200, beyond)]
    assert fetch()[1] == 1


def test_a_later_try_starts_the_file_anew(export, fetch):
    export.data = {START: packed([event(1)])}
    export.faults = [broken_off, gone, broken_off]
    fetched, rows = fetch()
    assert (rows, len(fetched.files)) == (1, 1)


def test_the_pause_doubles_and_heeds_retry_after(export, server, tmp_path):
    pauses = []

    def wait(state):
        pauses.append(back_off(state))
        return 0

    export.faults = [status(429, ("Retry-After", "77")), status(429, ("Retry-After", "99999")), status(500)]
    connection = Connection("amplitude_default", f"http://127.0.0.1:{server.server_port}", KEY, SECRET)
    amplitude.fetch(Lake(tmp_path / "lake"), "raw/a", START, START + HOUR, LIMITS, connection=connection, wait=wait)
    assert pauses[0] >= 77 and pauses[1] == 120 and 0 <= pauses[2] <= 16
