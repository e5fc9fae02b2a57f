"""The stop."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from onetouch.ledger import Ledger

AT = datetime(2025, 3, 5, 9, tzinfo=UTC)


def test_a_stop_stands_until_it_is_lifted_and_stays_on_record(ledger: Ledger) -> None:
    assert ledger.stopped() is None and ledger.resume(AT) is False
    assert ledger.stop("wrong prices\x00", AT) is True
    assert ledger.stop("another", AT + timedelta(hours=1)) is False
    assert ledger.stopped() == "wrong prices"
    assert ledger.resume(AT + timedelta(hours=2)) is True
    assert ledger.stopped() is None
    ledger.stop("again", AT + timedelta(hours=3))
    assert ledger.stopped() == "again"
    assert [row["reason"] for row in ledger.dump()["stops"]] == ["wrong prices", "again"]


def test_a_stop_needs_a_reason(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="needs a reason"):
        ledger.stop("  ", AT)
    assert ledger.stopped() is None
