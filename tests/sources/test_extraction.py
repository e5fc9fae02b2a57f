import dataclasses
from datetime import UTC, datetime, timedelta

import pytest
from onetouch.ledger import Ledger
from onetouch.policy import read_policy
from onetouch.sources import ExportError, amplitude, extract, extracted, read_rows

from tests.sources.answers import answer, event, member, packed

POLICY = read_policy()
AS_OF = datetime(2025, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.migrate()
    return ledger


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "answers"
    place.mkdir()
    members = [(member(AS_OF - n * HOUR), packed([event(n)])) for n in range(200)]
    answer(place / "a.zip", [*members, ("../../x", b"")])
    return place


def count(lake, run):
    return sum(batch.num_rows for batch in read_rows("amplitude", lake, POLICY, run))


def test_a_folder_is_read_whole_whatever_the_watermark(lake, ledger, folder):
    run = ledger.begin_run(AS_OF, POLICY, False)
    summary = extract("amplitude", lake, ledger, POLICY, run, folder=folder)
    assert summary["window"] == ["2015-01-01T00:00:00+00:00", "2025-03-01T12:00:00+00:00"]
    assert (summary["files"], summary["refused"]) == (199, {"unsafe_path": 1})
    assert summary["bytes"] == sum(f["bytes"] for f in extracted("amplitude", lake, run)["files"]) > 0
    assert count(lake, run) == 199 + 1

    ledger.advance_watermark("amplitude", AS_OF)
    later = ledger.begin_run(AS_OF + HOUR, POLICY, False)
    summary = extract("amplitude", lake, ledger, POLICY, later, folder=folder)
    assert summary["window"] == ["2015-01-01T00:00:00+00:00", "2025-03-01T13:00:00+00:00"]
    assert summary["files"] == 200


def test_an_api_is_asked_from_the_watermark_less_the_overlap(lake, ledger, monkeypatch):
    asked = []

    def fetch(lake, into, start, end, *a, **k):
        asked.append((start, end))
        return amplitude.Fetched()

    monkeypatch.setattr(amplitude, "SOURCE", dataclasses.replace(amplitude.SOURCE, fetch=fetch))
    for hours, dry in ((0, False), (1, True), (1, False)):
        run = ledger.begin_run(AS_OF + hours * HOUR, POLICY, dry)
        extract("amplitude", lake, ledger, POLICY, run)
        ledger.advance_watermark("amplitude", AS_OF + (hours - 2) * HOUR, dry=dry)
    overlap = POLICY.events.overlap_hours * HOUR
    first = datetime(2015, 1, 1, tzinfo=UTC)
    of_real = AS_OF - 2 * HOUR - overlap
    assert asked == [(first, AS_OF), (of_real, AS_OF + HOUR), (of_real, AS_OF + HOUR)]


def test_what_was_received_stays_whatever_the_source_says_later(lake, ledger, folder, monkeypatch):
    run = ledger.begin_run(AS_OF, POLICY, False)
    first = extract("amplitude", lake, ledger, POLICY, run, folder=folder)
    answer(folder / "a.zip", [(member(AS_OF - HOUR), packed([event(n) for n in range(7)]))])

    def fetch(lake, into, *a, **k):
        assert not into.startswith("raw/"), "fetched a complete window again"
        return amplitude.fetch(lake, into, *a, **k)

    dead = dataclasses.replace(amplitude.SOURCE, fetch=fetch)
    monkeypatch.setattr(amplitude, "SOURCE", dead)
    assert extract("amplitude", lake, ledger, POLICY, run, folder=folder) == first | {"waiting": 1}
    assert count(lake, run) == 200


@pytest.mark.parametrize("die_at", [0, 1, 50, 198])
def test_a_fetch_that_was_killed_is_done_anew_and_leaves_nothing_behind(lake, ledger, folder, monkeypatch, die_at):
    run = ledger.begin_run(AS_OF, POLICY, False)
    keep = amplitude.RawFolder.keep
    kept = []

    def dying(self, *args):
        if len(kept) == die_at:
            raise KeyboardInterrupt
        kept.append(keep(self, *args))

    monkeypatch.setattr(amplitude.RawFolder, "keep", dying)
    with pytest.raises(KeyboardInterrupt):
        extract("amplitude", lake, ledger, POLICY, run, folder=folder)
    assert extracted("amplitude", lake, run) is None
    with pytest.raises(ExportError, match="extract_events comes first"):
        count(lake, run)

    monkeypatch.setattr(amplitude.RawFolder, "keep", keep)
    answer(folder / "a.zip", [(member(AS_OF - HOUR), packed([event(1)]))])
    assert extract("amplitude", lake, ledger, POLICY, run, folder=folder)["files"] == 1
    assert count(lake, run) == 1
    assert len([path for path in lake.list("raw", "") if not path.endswith("extract.json")]) == 1


def test_an_unknown_source_is_named(lake, ledger, folder):
    run = ledger.begin_run(AS_OF, POLICY, False)
    with pytest.raises(ExportError, match="heap.*known: amplitude"):
        extract("heap", lake, ledger, POLICY, run, folder=folder)
