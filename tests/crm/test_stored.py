"""What lies in an outbox is read for ever, in whatever format it was laid out."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from onetouch.crm import context_of, stored_payload, task_of
from onetouch.crm.salesforce.fields import CONTEXT as FIELD_OF
from onetouch.crm.salesforce.fields import context_fields, task_fields
from onetouch.handoff import EPISODE, AccountContext, TaskContent

CONTEXT = AccountContext(
    account_id="org-1",
    score=72.5,
    tier="high",
    trigger="at 92 % of the API calls limit (9,230 of 10,000)",
    motion="sales_assist",
    activated=False,
    milestones="4 of 5",
    team_size=7.0,
    features_used="dashboards and alerts",
    usage=1234.0,
    limit_share=92.3,
    dossier="Acme\n\nWHY NOW\n  …",
    policy_version="abc",
    as_of=datetime(2025, 11, 18, 10, tzinfo=UTC),
)
TASK = TaskContent(
    subject="[High] Acme — at 92 %",
    description="FIRST MESSAGE\n\nHi,",
    priority="medium",
    due_on=date(2025, 11, 18),
    remind_at=datetime(2025, 11, 18, 10, 15, tzinfo=UTC),
)

FIELDS = {
    "Onetouch_Account_Id__c": "org-1",
    "Onetouch_Score__c": 72.5,
    "Onetouch_Tier__c": "high",
    "Onetouch_Trigger__c": "at 92 % of the API calls limit (9,230 of 10,000)",
    "Onetouch_Motion__c": "sales_assist",
    "Onetouch_Activated__c": False,
    "Onetouch_Milestones__c": "4 of 5",
    "Onetouch_Team_Size__c": 7.0,
    "Onetouch_Features_Used__c": "dashboards and alerts",
    "Onetouch_Usage_28d__c": 1234.0,
    "Onetouch_Limit_Share__c": 92.3,
    "Onetouch_Dossier__c": "Acme\n\nWHY NOW\n  …",
    "Onetouch_Policy_Version__c": "abc",
    "Onetouch_As_Of__c": "2025-11-18T10:00:00Z",
}
"""As commits d01f5d0 and 3ab0fe8 laid it out."""

TASK_FIELDS = {
    "Subject": "[High] Acme — at 92 %",
    "Description": "FIRST MESSAGE\n\nHi,",
    "Priority": "Normal",
    "Status": "Not Started",
    "ActivityDate": "2025-11-18",
    "IsReminderSet": True,
    "ReminderDateTime": "2025-11-18T10:15:00Z",
}


@pytest.mark.parametrize("context", [CONTEXT, AccountContext(), AccountContext(account_id="org-1", score=0.0)])
def test_a_context_comes_back_as_it_was_kept(context: AccountContext) -> None:
    assert context_of(json.loads(json.dumps(stored_payload(context)))) == context


@pytest.mark.parametrize("task", [TASK, TaskContent("s")])
def test_a_task_comes_back_as_it_was_kept(task: TaskContent) -> None:
    assert task_of(json.loads(json.dumps(stored_payload(task) | {"record": {"name": "Acme"}}))) == task


def test_salesforces_fields_of_format_1_are_read() -> None:
    assert context_of({"fields": FIELDS}) == CONTEXT
    assert context_of({"fields": {"Onetouch_Account_Id__c": "org-1"}}) == AccountContext(account_id="org-1")
    assert task_of({"fields": TASK_FIELDS, "record": {"name": "Acme"}}) == TASK
    least = {"Subject": "s", "Description": "d", "Priority": "High", "Status": "Not Started"}
    assert task_of({"fields": least}) == TaskContent("s", description="d", priority="high")


def test_what_a_later_version_added_is_left_and_a_later_format_is_named() -> None:
    kept = stored_payload(TASK)
    assert task_of(kept | {"content": kept["content"] | {"colour": "red"}}) == TASK
    with pytest.raises(ValueError, match="outbox row of format 3: this version reads up to 2"):
        task_of(kept | {"format": 3})


@pytest.mark.parametrize("home", ["d01f5d0", "3ab0fe8"])
def test_what_earlier_versions_laid_out_reaches_salesforce_as_they_would_have_written_it(home: str) -> None:
    file = Path(__file__).parents[1] / f"fixtures/homes/{home}/home/ledger.db"
    with closing(sqlite3.connect(f"file:{file}?mode=ro&immutable=1", uri=True)) as ledger:
        rows = ledger.execute("SELECT kind, state, payload FROM outbox WHERE destination = 'salesforce'").fetchall()
    seen = set()
    for kind, state, text in rows:
        payload = json.loads(text)
        if not payload:  # of an account that was forgotten
            continue
        if kind == "task":
            assert task_fields(task_of(payload)) == payload["fields"]
        else:
            # Beside it, what an earlier episode has left is emptied, as for every handoff that is delivered today.
            emptied = dict.fromkeys(FIELD_OF[name][0] for name in EPISODE)
            assert context_fields(context_of(payload)) == emptied | payload["fields"]
        seen.add((kind, state))
    assert seen >= {(kind, state) for kind in ("account_fields", "task") for state in ("pending", "failed", "sent")}
