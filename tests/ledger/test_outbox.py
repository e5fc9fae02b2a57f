"""The outbox: each key leaves at most once, and what was interrupted is told apart."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from onetouch.ledger import Handoff, IllegalMove, Ledger, LedgerError, NotInLedger
from onetouch.policy import Policy

AS_OF = datetime(2025, 3, 5, 9, tzinfo=UTC)


def test_a_key_is_laid_out_once(ledger: Ledger, policy: Policy) -> None:
    run = ledger.begin_run(AS_OF, policy, False)
    first = ledger.put("k", "salesforce", "task", run.run_id, None, {"Subject": "a\x00\ud800"})
    assert (first.state, first.payload, first.external_id) == ("pending", {"Subject": "a\x00\ud800"}, None)
    before = ledger.dump()
    assert ledger.put("k", "salesforce", "task", run.run_id, None, {"Subject": "other"}) == first
    assert ledger.dump() == before
    with pytest.raises(LedgerError, match="a key names one thing"):
        ledger.put("k", "slack", "post", run.run_id, None, {})
    assert ledger.dump() == before


def test_what_is_sent_stays_sent(ledger: Ledger) -> None:
    ledger.put("k", "slack", "report", None, None, {})
    with pytest.raises(IllegalMove, match="only what is sending"):
        ledger.sent("k", "ts-1")
    ledger.sending("k")
    ledger.sent("k", "ts-1")
    ledger.sent("k", "ts-1")
    before = ledger.dump()
    for again in (
        lambda: ledger.sending("k"),
        lambda: ledger.sent("k", "ts-2"),
        lambda: ledger.failed("k", "x", retryable=True),
    ):
        with pytest.raises(IllegalMove):
            again()
    assert ledger.put("k", "slack", "report", None, None, {}).state == "sent"
    assert ledger.dump() == before
    assert [(o.state, o.external_id) for o in ledger.outbox()] == [("sent", "ts-1")]


def test_an_interrupted_sending_is_found_and_may_go_on(ledger: Ledger) -> None:
    ledger.put("k", "slack", "report", None, None, {})
    ledger.sending("k")
    assert [o.key for o in ledger.outbox(states=["sending"])] == ["k"]
    assert ledger.put("k", "slack", "report", None, None, {}).state == "sending"
    ledger.sending("k")
    ledger.sent("k", "ts")


def test_what_may_pass_is_pending_again_and_a_dead_letter_waits_for_a_person(ledger: Ledger) -> None:
    for key in ("busy", "refused"):
        ledger.put(key, "salesforce", "task", None, None, {})
        ledger.sending(key)
    ledger.failed("busy", "503 Service Unavailable\x00", retryable=True)
    ledger.failed("refused", "FIELD_INTEGRITY_EXCEPTION: OwnerId", retryable=False)
    assert {(o.key, o.state, o.reason, o.attempts) for o in ledger.outbox()} == {
        ("busy", "pending", "503 Service Unavailable", 1),
        ("refused", "failed", "FIELD_INTEGRITY_EXCEPTION: OwnerId", 1),
    }
    assert ledger.put("refused", "salesforce", "task", None, None, {}).state == "failed"
    with pytest.raises(IllegalMove, match="not sent again"):
        ledger.sending("busy", "refused")
    with pytest.raises(IllegalMove, match="final"):
        ledger.failed("refused", "busy", retryable=True)
    assert [o.state for o in ledger.outbox()] == ["pending", "failed"]
    ledger.sending("busy")
    ledger.sent("busy", "00T")
    assert [(o.reason, o.attempts) for o in ledger.outbox(keys=["busy"])] == [("", 2)]

    assert ledger.retry(["busy"]) == 0  # sent: nothing to lay out again
    assert ledger.retry() == 1
    assert [(o.key, o.state, o.reason) for o in ledger.outbox(states=["pending"])] == [
        ("refused", "pending", "FIELD_INTEGRITY_EXCEPTION: OwnerId")
    ]
    ledger.sending("refused")


def test_what_was_not_answered_stays_sending_with_its_reason(ledger: Ledger) -> None:
    ledger.put("k", "salesforce", "task", None, None, {})
    with pytest.raises(IllegalMove, match="only what is sending"):
        ledger.unanswered_all({"k": "time-out"})
    ledger.sending("k")
    ledger.unanswered_all({"k": "time-out"})
    assert [(o.state, o.reason) for o in ledger.outbox()] == [("sending", "time-out")]


def test_a_handoff_and_what_is_to_be_sent_for_it_are_there_together_or_not_at_all(
    ledger: Ledger, policy: Policy
) -> None:
    run = ledger.begin_run(AS_OF, policy, False)

    def rows(handoff: Handoff) -> list[dict[str, Any]]:
        key = f"task:{handoff.handoff_id}"
        return [{"key": key, "destination": "salesforce", "kind": "task", "payload": {"for": handoff.account_id}}]

    def broken(handoff: Handoff) -> list[dict[str, Any]]:
        if handoff.account_id == "b":
            raise RuntimeError("dies here")
        return rows(handoff)

    before = ledger.dump()
    with pytest.raises(RuntimeError):
        ledger.open_handoffs([{"account_id": "a"}, {"account_id": "b"}], run, broken)
    assert ledger.dump() == before
    opened = ledger.open_handoffs([{"account_id": "a"}, {"account_id": "b"}], run, rows)
    laid = {o.handoff_id: o.payload for o in ledger.outbox(run_id=run.run_id)}
    assert laid == {h.handoff_id: {"for": h.account_id} for h in opened if h}
    after = ledger.dump()
    assert ledger.open_handoffs([{"account_id": "b"}, {"account_id": "a"}], run, broken) == opened[::-1]
    assert ledger.dump() == after  # those there already are not laid out anew


def test_many_at_once(ledger: Ledger, policy: Policy) -> None:
    run = ledger.begin_run(AS_OF, policy, False)
    rows = [
        {"key": f"k{i:03}", "destination": "salesforce", "kind": "task", "run_id": run.run_id, "handoff_id": None,
         "payload": {"n": i}}
        for i in range(200)
    ]  # fmt: skip
    assert [o.payload["n"] for o in ledger.put_all(rows)] == list(range(200))
    keys = [row["key"] for row in rows]
    ledger.sending(*keys)
    ledger.sent_all({key: f"00T{key}" for key in keys[:150]})
    assert len(ledger.outbox(run_id=run.run_id, destination="salesforce", states=["sent"])) == 150
    assert [o.key for o in ledger.outbox(states=["sending"])] == keys[150:]
    assert ledger.outbox(destination="slack") == []
    with pytest.raises(IllegalMove):
        ledger.sent_all({keys[150]: "x", keys[0]: "other"})  # all or none
    assert ledger.outbox(keys=[keys[150]])[0].state == "sending"


def test_unknown_keys_say_so(ledger: Ledger) -> None:
    for ask in (lambda: ledger.sending("k"), lambda: ledger.sent("k", "x"), lambda: ledger.failed("k", "x", True)):
        with pytest.raises(NotInLedger, match="outbox key k"):
            ask()


def _with_rows(ledger: Ledger, policy: Policy) -> Handoff:
    """A handoff with what is to be sent for it: one row has arrived, one may have."""
    run = ledger.begin_run(AS_OF, policy, False)
    rows = {"fields": "salesforce", "task": "salesforce", "note": "salesforce", "alert": "slack"}
    handoff = ledger.open_handoff(
        {"account_id": "a"},
        run,
        lambda _: [{"key": key, "destination": to, "kind": key, "payload": {}} for key, to in rows.items()],
    )
    assert handoff is not None
    ledger.sending("fields", "task")
    ledger.sent("fields", "001")
    return handoff


def test_what_waits_for_the_crm_ends_with_its_handoff(ledger: Ledger, policy: Policy) -> None:
    handoff = _with_rows(ledger, policy)
    ledger.move(handoff.handoff_id, "withdrawn", AS_OF, "checkout: started")
    ended = ("failed", "the handoff has ended")
    assert {o.key: (o.state, o.reason) for o in ledger.outbox()} == {
        "fields": ("sent", ""),
        "task": ended,
        "note": ended,
        "alert": ("pending", ""),  # what Slack shows is put right after the end
    }
    before = ledger.dump()
    assert ledger.retry() == 0
    ledger.failed_all({"task": ("UNABLE_TO_LOCK_ROW", True), "fields": ("x", True)})
    ledger.unanswered_all({"note": "time-out", "fields": "time-out"})
    assert {key: row.state for key, row in ledger.begin(["task", "fields"]).items()} == {
        "task": "failed",
        "fields": "sent",
    }
    assert ledger.dump() == before
    ledger.sent_all({"task": "00T"})  # it had been on its way
    assert [(o.state, o.external_id, o.reason) for o in ledger.outbox(keys=["task"])] == [("sent", "00T", "")]


def test_a_move_that_is_refused_ends_no_row(ledger: Ledger, policy: Policy) -> None:
    handoff = _with_rows(ledger, policy)
    before = ledger.dump()
    end = {"handoff_id": handoff.handoff_id, "to_state": "withdrawn", "at": AS_OF}
    with pytest.raises(IllegalMove):
        ledger.move_all([end, end | {"to_state": "expired"}])
    assert ledger.dump() == before


def test_what_is_found_at_its_destination_has_arrived_whatever_was_thought_of_it(ledger: Ledger) -> None:
    for key in ("waits", "dead", "sent"):
        ledger.put(key, "salesforce", "task", None, None, {})
    ledger.sending("dead", "sent")
    ledger.failed("dead", "INVALID_FIELD", retryable=False)
    ledger.sent("sent", "00T0")
    ledger.sent_all({"waits": "00T1", "dead": "00T2"}, found=True)
    assert [(o.key, o.external_id) for o in ledger.outbox(states=["sent"])] == [
        ("dead", "00T2"),
        ("sent", "00T0"),
        ("waits", "00T1"),
    ]
    with pytest.raises(IllegalMove, match="only what is sending"):
        ledger.sent_all({"sent": "another"}, found=True)
