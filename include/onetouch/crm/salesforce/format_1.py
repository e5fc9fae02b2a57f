"""Reads outbox content in format 1 (up to commit 3ab0fe8), which held Salesforce's fields for every CRM.

This file never changes: it describes what was written then, not the present fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from onetouch.handoff import AccountContext, Priority, TaskContent

_CONTEXT = {
    "Onetouch_Account_Id__c": "account_id",
    "Onetouch_Score__c": "score",
    "Onetouch_Tier__c": "tier",
    "Onetouch_Trigger__c": "trigger",
    "Onetouch_Motion__c": "motion",
    "Onetouch_Activated__c": "activated",
    "Onetouch_Milestones__c": "milestones",
    "Onetouch_Team_Size__c": "team_size",
    "Onetouch_Features_Used__c": "features_used",
    "Onetouch_Usage_28d__c": "usage",
    "Onetouch_Limit_Share__c": "limit_share",
    "Onetouch_Dossier__c": "dossier",
    "Onetouch_Policy_Version__c": "policy_version",
}

_PRIORITIES: dict[str, Priority] = {"High": "high", "Normal": "medium", "Low": "low"}


def context_of_format_1(fields: Mapping[str, Any]) -> AccountContext:
    """The account context in the stored fields of an account."""
    as_of = fields.get("Onetouch_As_Of__c")
    return AccountContext(
        **{name: fields.get(field) for field, name in _CONTEXT.items()},
        as_of=datetime.fromisoformat(as_of) if as_of else None,
    )


def task_of_format_1(fields: Mapping[str, Any]) -> TaskContent:
    """The task in the stored fields: always open; its owner, account and contact are not yet known."""
    due, remind_at = fields.get("ActivityDate"), fields.get("ReminderDateTime")
    return TaskContent(
        subject=fields["Subject"],
        description=fields.get("Description", ""),
        priority=_PRIORITIES[fields["Priority"]],
        due_on=date.fromisoformat(due) if due else None,
        remind_at=datetime.fromisoformat(remind_at) if remind_at else None,
    )
