"""What a batch lost is told in figures and sentences, at its weight."""

from datetime import timedelta

import pytest
from onetouch import audit, sources
from onetouch.cli import screen
from rich.console import Console

from tests.events.stager import AS_OF, HOUR, Stager
from tests.sources.answers import answer, event, lines, member, packed

HTML = b"<html><body>502 Bad Gateway</body></html>"


def received(stager, contents):
    members = [(member(AS_OF - (n + 1) * HOUR), content) for n, content in enumerate(contents)]
    answer(stager.folder / "a.zip", members)


def rows(first, number=10):
    return packed([event(first * 100 + n) for n in range(number)])


def test_lost_hours_weigh_as_hours_and_say_about_how_many_rows(stager):
    received(stager, [HTML if n % 5 in (1, 3) else rows(n) for n in range(10)])
    summary = stager.stage()
    assert summary["hours"] == {"expected": 10, "seen": 6, "damaged": 4, "empty": 0, "lost": 4.0, "rows": 40}
    [batch] = stager.ledger.batches(stager.run().run_id)
    assert batch["counts"]["lost_hours_rate"] == 0.4
    [first, second] = summary["warnings"]
    assert "4 of 10 hours are lost (40 %, about 40 rows)" in first and "2025-03-01T03:00Z" in first
    assert "not_gzip" in second and "and 3 more" in second and "web page" in second
    assert summary["rows"]["quarantined"] == {"not_gzip": 4}


def test_hours_without_rows_are_empty_and_no_loss(stager):
    received(stager, [rows(0), packed([]), packed([]), rows(3)])
    summary = stager.stage()
    assert summary["hours"] == {"expected": 4, "seen": 4, "damaged": 0, "empty": 2, "lost": 0.0, "rows": 0}
    assert summary["warnings"] == []


@pytest.mark.parametrize(
    ("row", "vendor"),
    [
        ({"event": "x", "properties": {"time": 1, "distinct_id": "u"}}, "Mixpanel"),
        ({"uuid": "1", "event": "x", "distinct_id": "u", "timestamp": "2025-01-01T00:00:00Z"}, "PostHog"),
        ({"type": "track", "event": "x", "userId": "u", "messageId": "m"}, "Segment"),
        ({"rudderId": "r", "type": "track", "messageId": "m"}, "RudderStack"),
    ],
)
def test_where_no_row_is_an_event_the_first_reason_is_told_and_the_vendor(stager, row, vendor):
    stager.receive([row] * 5)
    summary = stager.stage()
    assert summary["rows"]["kept"] == 0
    [warning] = summary["warnings"]
    assert "none of 5 rows is an event" in warning and "line 1" in warning and vendor in warning
    assert "missing_event_type" in warning


def test_where_one_is_an_event_nobody_is_suspected(stager):
    stager.receive([event(1), {"event": "x", "properties": {"time": 1, "distinct_id": "u"}}])
    assert stager.stage()["warnings"] == []
    assert stager.stage(AS_OF + timedelta(hours=1))["warnings"] == [], "known rows are events, too"


def test_the_accounting_and_the_screen_tell_it_and_tell_it_again(stager):
    received(stager, [HTML, rows(1), packed([event(7, event_properties=["x"])])])
    (stager.folder / "__MACOSX").mkdir()
    (stager.folder / "__MACOSX" / "._a.zip").write_bytes(b"x")
    (stager.folder / "export.csv").write_text("event,time\nx,1\n")
    summary = stager.stage()
    stager.ledger.finish_stage(stager.run().run_id, "stage_events", summary)
    told = audit.accounting(stager.ledger, stager.run().run_id)
    assert told["warnings"] == summary["warnings"] and len(told["warnings"]) == 4
    assert (told["repaired"], told["ignored"]) == ({"unknown_shape": 1}, {"a fork that macOS adds": 1})
    assert told["hours"] == summary["hours"]
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(screen.accounting(told))
    shown = console.export_text()
    for part in ("1 lost (33%)", "export.csv", "looks like CSV", "unknown_shape 1", "warning", "macOS"):
        assert part in shown, shown
    assert stager.stage() == summary


def test_warnings_hold_nothing_of_a_row(stager):
    secret = "jo@secret.example"
    stager.receive([{"event": secret, "properties": {"time": secret, "distinct_id": secret}}] * 3)
    assert secret not in str(stager.stage()["warnings"])


def test_several_sources_add_up():
    from onetouch.events.losses import losses, total

    fetched = sources.Fetched()
    counts = {"in": 0, "kept": 0, "duplicates": 0, "quarantined": {}, "repaired": {}}
    one = losses("a", fetched, counts, [])
    assert one["lost_hours_rate"] is None and one["warnings"] == []
    added = total([one, {"hours": {"expected": 3, "seen": 2, "damaged": 1, "empty": 0, "lost": 1, "rows": None}}, {}])
    assert added["hours"] == {"expected": 3, "seen": 2, "damaged": 1, "empty": 0, "lost": 1, "rows": 0}


def test_plain_lines_beside_a_zip_are_no_loss(stager):
    received(stager, [rows(0)])
    place = stager.folder / "424242"
    place.mkdir()
    (place / member(AS_OF - 5 * HOUR).split("/")[1].replace(".gz", "")).write_bytes(lines([event(900)]))
    summary = stager.stage()
    assert summary["rows"]["kept"] == 11 and summary["hours"]["seen"] == 2 and not summary["warnings"]
    assert isinstance(stager, Stager)
