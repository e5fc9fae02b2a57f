"""An erasure in the ledger: the same on both engines."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pytest
from onetouch.lake.marks import Marks
from onetouch.ledger import Ledger, Subject
from onetouch.policy import Policy
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

AT = datetime(2025, 3, 5, 9, tzinfo=UTC)
ACME = Subject("account", "acme-corp", ["acme-corp"], ["ana@acme.example"], ["ana@acme.example"], ["acme.example"])


def handed_over(ledger: Ledger, policy: Policy, account_id: str) -> str:
    run = ledger.begin_run(AT, policy, False)
    decision = {"account_id": account_id, "crm_account_id": f"001{len(account_id)}", "reasons": []}

    def rows(handoff: Any) -> list[dict[str, Any]]:
        return [
            {"key": f"task:{handoff.handoff_id}", "destination": "crm", "kind": "task", "payload": {"to": account_id}}
        ]

    [handoff] = ledger.open_handoffs([decision], run, rows=rows)
    assert handoff is not None
    ledger.sending(f"task:{handoff.handoff_id}")
    ledger.sent(f"task:{handoff.handoff_id}", f"00T{len(account_id)}")
    ledger.move(handoff.handoff_id, "context_written", AT, f"for {account_id}, ana@acme.example")
    ledger.record_touches([{"touch_id": f"t{account_id[:1]}", "account_id": account_id, "at": AT}])
    ledger.finish_stage(run.run_id, account_id[:1], {"failed": [{"account_id": account_id}]})
    return handoff.handoff_id


def erased(ledger: Ledger, subject: Subject) -> None:
    ledger.begin_erasure(subject, AT)
    known = ledger.forgotten()
    words = {word: known.pseudonym("account", word) for word in (*subject.accounts, *subject.domains, *subject.emails)}
    ledger.end_handoffs(subject.accounts, AT)
    ledger.pseudonymise(subject, Marks(words, known.pseudonym("account", subject.id)).replace_in)
    ledger.finish_erasure(subject)


def test_nothing_of_it_is_left_and_the_rest_is_as_it_was(ledger: Ledger, policy: Policy) -> None:
    mine, other = (handed_over(ledger, policy, account) for account in ("acme-corp", "zebra-corp"))
    before = ledger.dump()
    erased(ledger, ACME)
    after = ledger.dump()
    assert "acme" not in json.dumps(after).lower()
    assert [h.state for h in ledger.handoffs() if h.handoff_id == mine] == ["withdrawn"]
    for table, rows in after.items():
        if table != "handoff_moves":
            assert {
                json.dumps(r) for r in before[table] if "zebra" in json.dumps(r) and "@acme" not in json.dumps(r)
            } <= {json.dumps(r) for r in rows}
    # A move of the other handoff named a person of the forgotten account: only that is gone from it.
    moves = ledger.moves([other])
    assert moves["to_state"].tolist() == ["decided", "context_written"]
    assert moves["reason"].iloc[1].startswith("for zebra-corp, ") and "@acme" not in moves["reason"].iloc[1]


def test_again_changes_nothing(ledger: Ledger, policy: Policy) -> None:
    handed_over(ledger, policy, "acme-corp")
    erased(ledger, ACME)
    before = ledger.dump()
    erased(ledger, ACME)
    assert ledger.dump() == before


def test_an_erasure_is_known_until_it_is_finished(ledger: Ledger) -> None:
    ledger.begin_erasure(ACME, AT)
    ledger.begin_erasure(Subject("account", "acme-corp", names=["Acme"]), AT)
    [unfinished] = ledger.erasures()
    assert (unfinished.names, unfinished.users) == (["Acme"], ["ana@acme.example"])
    ledger.finish_erasure(ACME)
    assert ledger.erasures() == []


def test_who_was_forgotten_is_known_again_by_digest_only(ledger: Ledger) -> None:
    assert not ledger.forgotten() and not ledger.forgotten().has("user", "ana@acme.example")
    ledger.begin_erasure(ACME, AT)
    ledger.finish_erasure(ACME)
    known = ledger.forgotten()
    assert known and known.has("user", "Ana@ACME.example") and known.has("account", "acme.example")
    assert not known.has("account", "Acme-Corp"), "ids are told apart by case"
    assert not known.has("user", "acme-corp") and not known.has("user", None) and not known.has("account", "")
    assert "acme" not in json.dumps(ledger.dump()).lower()
    records = pd.DataFrame(
        {
            "account_id": ["acme-corp", None, "new-corp", None],
            "crm_account_id": ["1", "2", "3", "4"],
            "domain": [None, "acme.example", "acme.example", "zebra.example"],
        }
    )
    assert known.without(records)["crm_account_id"].tolist() == ["3", "4"]


def test_two_ledgers_digest_differently(ledger: Ledger, policy: Policy, tmp_path: Any) -> None:
    with Ledger(f"sqlite:///{tmp_path}/other.db") as other:
        other.migrate()
        digests = []
        for one in (ledger, other):
            one.begin_erasure(ACME, AT)
            digests.append(one.forgotten().digest("user", "ana@acme.example"))
        assert digests[0] != digests[1]


RULES = {
    "the account of another": "UPDATE handoffs SET account_id = 'forgotten:x'",
    "a move of another": "UPDATE handoff_moves SET reason = 'forgotten:x'",
    "what was sent": "UPDATE outbox SET external_id = 'forgotten:x' WHERE state = 'sent'",
}


@pytest.mark.parametrize("statement", RULES.values(), ids=RULES)
def test_without_an_erasure_under_way_nothing_is_renamed(ledger: Ledger, policy: Policy, statement: str) -> None:
    handed_over(ledger, policy, "zebra-corp")
    with pytest.raises(DBAPIError), ledger.writing() as connection:
        connection.execute(text(statement))


NEVER = {
    "a name of one's choice": "UPDATE handoffs SET account_id = 'other'",
    "another id in the CRM": "UPDATE outbox SET external_id = 'other' WHERE state = 'sent'",
    "another state": "UPDATE outbox SET state = 'pending'",
    "another move": "UPDATE handoff_moves SET to_state = 'won' WHERE step = 1",
    "another reason": "UPDATE handoff_moves SET reason = 'other' WHERE step = 1",
    "less": "DELETE FROM handoffs",
}


@pytest.mark.parametrize("statement", NEVER.values(), ids=NEVER)
def test_an_erasure_under_way_lets_only_pseudonyms_pass(ledger: Ledger, policy: Policy, statement: str) -> None:
    handed_over(ledger, policy, "zebra-corp")
    ledger.begin_erasure(ACME, AT)
    with pytest.raises(DBAPIError), ledger.writing() as connection:
        connection.execute(text(statement))
