"""Touches: the CRM's word, once per id."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from onetouch.ledger import Ledger
from onetouch.policy import Policy

AT = datetime(2025, 3, 5, 9, tzinfo=UTC)


def touch(touch_id: str, **more: Any) -> dict[str, Any]:
    return {"touch_id": touch_id, "account_id": "acme", "at": AT, "kind": "Call", "outcome": None} | more


def test_a_touch_is_kept_once_with_its_latest_outcome(ledger: Ledger) -> None:
    ledger.record_touches([touch("1"), touch("2", at=AT + timedelta(days=1))])
    ledger.record_touches([touch("1", outcome="Replied"), touch("1", outcome="Meeting booked")])
    before = ledger.dump()
    ledger.record_touches([touch("1", outcome="Meeting booked", at=pd.Timestamp(AT))])
    ledger.record_touches([])
    assert ledger.dump() == before
    kept = ledger.touches()
    assert kept["touch_id"].tolist() == ["1", "2"]
    assert kept["outcome"].isna().tolist() == [False, True]
    assert kept.loc[0, "outcome"] == "Meeting booked"


def test_touches_are_found_by_account_and_time(ledger: Ledger) -> None:
    rows = [touch(f"{i:04}", account_id=f"a{i}", at=AT + timedelta(minutes=i)) for i in range(1200)]
    ledger.record_touches(rows)
    assert len(ledger.touches()) == 1200
    assert ledger.touches(["a3", "a5", "none"])["touch_id"].tolist() == ["0003", "0005"]
    assert len(ledger.touches([row["account_id"] for row in rows[:1100]])) == 1100
    assert ledger.touches(since=rows[1198]["at"])["touch_id"].tolist() == ["1198", "1199"]
    assert ledger.touches(account_ids=["a0"], since=rows[1]["at"]).empty


def test_an_earlier_run_done_over_does_not_see_what_a_later_one_has_read(ledger: Ledger) -> None:
    noon = AT + timedelta(hours=3)
    ledger.record_touches([touch("of 9:00"), touch("of 13:00", at=noon + timedelta(hours=1))], as_of=noon)
    ledger.record_touches([touch("of 9:00", outcome="Replied")], as_of=noon + timedelta(hours=9))
    assert ledger.touches(as_of=AT + timedelta(hours=1)).empty
    assert ledger.touches(as_of=noon)["touch_id"].tolist() == ["of 9:00"]
    assert len(ledger.touches(as_of=noon + timedelta(hours=1))) == 2


def test_only_our_handoffs_are_linked_and_stay_linked(ledger: Ledger, policy: Policy) -> None:
    handoff = ledger.open_handoff({"account_id": "acme"}, ledger.begin_run(AT, policy, False))
    assert handoff is not None
    ledger.record_touches([touch("1", handoff_id=handoff.handoff_id), touch("2", handoff_id="typed by hand")])
    ledger.record_touches([touch("1", handoff_id=None)])
    linked = ledger.touches().set_index("touch_id")["handoff_id"]
    assert linked["1"] == handoff.handoff_id
    assert pd.isna(linked["2"])


@pytest.mark.parametrize("wrong", [{"touch_id": None}, {"account_id": ""}, {"at": pd.NaT}, {"comment": "x"}])
def test_half_a_touch_is_refused_and_none_of_its_batch_is_kept(ledger: Ledger, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="touch"):
        ledger.record_touches([touch("1"), touch("2") | wrong])
    assert ledger.touches().empty
