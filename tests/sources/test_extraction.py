import dataclasses
from datetime import UTC, datetime, timedelta

import pytest
from onetouch.lake import Lake
from onetouch.ledger import Ledger
from onetouch.policy import read_policy
from onetouch.sources import ExportError, amplitude, extract, extracted, read_rows

from tests.sources.answers import answer, event, member, packed

POLICY = read_policy()
AS_OF = datetime(2025, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake")


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


def test_the_first_window_goes_back_to_the_product_and_the_next_overlaps(lake, ledger, folder):
    run = ledger.begin_run(AS_OF, POLICY, False)
    summary = extract("amplitude", lake, ledger, POLICY, run, folder=folder)
    assert summary["window"] == ["2015-01-01T00:00:00+00:00", "2025-03-01T12:00:00+00:00"]
    assert (summary["files"], summary["refused"]) == (199, {"unsafe_path": 1})
    assert summary["bytes"] == sum(f["bytes"] for f in extracted("amplitude", lake, run)["files"]) > 0
    assert count(lake, run) == 199 + 1

    ledger.advance_watermark("amplitude", AS_OF)
    later = ledger.begin_run(AS_OF + HOUR, POLICY, False)
    summary = extract("amplitude", lake, ledger, POLICY, later, folder=folder)
    assert summary["window"] == ["2025-02-27T12:00:00+00:00", "2025-03-01T13:00:00+00:00"]
    assert summary["files"] == POLICY.events.overlap_hours + 1


def test_what_was_received_stays_whatever_the_source_says_later(lake, ledger, folder, monkeypatch):
    run = ledger.begin_run(AS_OF, POLICY, False)
    first = extract("amplitude", lake, ledger, POLICY, run, folder=folder)
    answer(folder / "a.zip", [(member(AS_OF - HOUR), packed([event(n) for n in range(7)]))])
    dead = dataclasses.replace(amplitude.SOURCE, fetch=lambda *a, **k: pytest.fail("fetched a complete window again"))
    monkeypatch.setattr(amplitude, "SOURCE", dead)
    assert extract("amplitude", lake, ledger, POLICY, run, folder=folder) == first
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
