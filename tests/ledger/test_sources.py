"""Windows, watermarks and batches."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from onetouch.ledger import Ledger, LedgerError, NotInLedger, Window
from onetouch.policy import Policy

AS_OF = datetime(2025, 3, 5, 10, tzinfo=UTC)
FIRST = datetime(2015, 1, 1, tzinfo=UTC)
TWO_DAYS = timedelta(hours=48)


def test_the_first_window_begins_at_the_beginning(ledger: Ledger, policy: Policy) -> None:
    run = ledger.begin_run(AS_OF, policy, False)
    assert ledger.window(run, "amplitude", TWO_DAYS, FIRST) == Window(FIRST, AS_OF)


def test_a_window_goes_on_from_the_watermark_with_an_overlap_of_each_source(ledger: Ledger, policy: Policy) -> None:
    ledger.advance_watermark("amplitude", AS_OF)
    run = ledger.begin_run(AS_OF + timedelta(hours=5), policy, False)
    assert ledger.window(run, "amplitude", TWO_DAYS, FIRST) == Window(AS_OF - TWO_DAYS, run.as_of)
    assert ledger.window(run, "heap", TWO_DAYS, FIRST).start == FIRST


def test_a_run_done_over_reads_the_same_window(ledger: Ledger, policy: Policy) -> None:
    run = ledger.begin_run(AS_OF, policy, False)
    window = ledger.window(run, "amplitude", TWO_DAYS, FIRST)
    ledger.advance_watermark("amplitude", AS_OF + timedelta(days=9))
    before = ledger.dump()
    assert ledger.window(run, "amplitude", timedelta(0), AS_OF) == window
    assert ledger.dump() == before


def test_a_window_is_never_backwards(ledger: Ledger, policy: Policy) -> None:
    ledger.advance_watermark("amplitude", AS_OF + timedelta(days=9))
    run = ledger.begin_run(AS_OF, policy, False)
    assert ledger.window(run, "amplitude", TWO_DAYS, FIRST) == Window(AS_OF, AS_OF)
    assert ledger.window(run, "heap", TWO_DAYS, AS_OF + TWO_DAYS) == Window(AS_OF, AS_OF)


def test_an_interrupted_run_leaves_its_hours_to_the_next(ledger: Ledger, policy: Policy) -> None:
    ledger.advance_watermark("amplitude", AS_OF)
    interrupted = ledger.begin_run(AS_OF + timedelta(hours=1), policy, False)
    ledger.window(interrupted, "amplitude", TWO_DAYS, FIRST)  # and nothing is staged
    following = ledger.begin_run(AS_OF + timedelta(hours=2), policy, False)
    assert ledger.window(following, "amplitude", TWO_DAYS, FIRST).start == AS_OF - TWO_DAYS


def test_a_watermark_only_goes_forward(ledger: Ledger) -> None:
    assert ledger.watermark("amplitude") is None
    for hours in (0, 3, 1, 3, -5):
        ledger.advance_watermark("amplitude", AS_OF + timedelta(hours=hours))
    assert ledger.watermark("amplitude") == AS_OF + timedelta(hours=3)


def test_a_batch_is_recorded_once_with_its_latest_counts(ledger: Ledger, policy: Policy) -> None:
    run = ledger.begin_run(AS_OF, policy, False)
    assert ledger.batch("b") is None
    for kept in (1, 2, 2):
        ledger.record_batch("b", run.run_id, "amplitude", {"kept": kept, "quarantined": {"bad_json": 1}})
    recorded = {"batch_id": "b", "run_id": run.run_id, "source": "amplitude"}
    recorded["counts"] = {"kept": 2, "quarantined": {"bad_json": 1}}
    assert ledger.batch("b") == recorded
    assert ledger.batches(run.run_id) == [recorded]


def test_a_batch_belongs_to_one_run_and_source(ledger: Ledger, policy: Policy) -> None:
    run, other = (ledger.begin_run(AS_OF, policy, dry) for dry in (False, True))
    ledger.record_batch("b", run.run_id, "amplitude", {"kept": 1})
    for run_id, source in ((other.run_id, "amplitude"), (run.run_id, "heap")):
        with pytest.raises(LedgerError, match="an id names one window"):
            ledger.record_batch("b", run_id, source, {"kept": 9})
    assert ledger.batch("b")["counts"] == {"kept": 1}
    with pytest.raises(NotInLedger):
        ledger.record_batch("c", "no such run", "amplitude", {})
