"""What is written to the CRM: the integration's own account fields, and the task."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from onetouch.handoff.dossier import LONGEST, dossier
from onetouch.handoff.facts import account_name, known_facts
from onetouch.handoff.message import first_message, urgency
from onetouch.handoff.plain_text import inert, plain
from onetouch.handoff.situations import why_now
from onetouch.handoff.words import capital, listed, zone
from onetouch.policy import Policy

_TEXT = 255
"""Characters of a Salesforce text field and of a task's subject."""

REQUIRED_FIELDS = (
    "Onetouch_Account_Id__c", "Onetouch_Activated__c", "Onetouch_Milestones__c", "Onetouch_Team_Size__c",
    "Onetouch_Features_Used__c", "Onetouch_Usage_28d__c", "Onetouch_Trigger__c", "Onetouch_Dossier__c",
)  # fmt: skip
"""What a record must show before a rep sees a task: features used, team size, usage volume, activation (S0)."""

ACCOUNT_ID = "Onetouch_Account_Id__c"

_PRIORITY = {"high": "High", "medium": "Normal", "low": "Low"}


def missing_context(signals_row: Mapping[str, Any], policy: Policy) -> list[str]:
    """The names of `handoff.required_context` the account does not hold; empty = complete."""
    facts = known_facts({}, signals_row)
    return [name for name in policy.handoff.required_context if name not in facts]


def account_fields(decision: Mapping[str, Any], signals_row: Mapping[str, Any], policy: Policy) -> dict[str, Any]:
    """The Onetouch_* fields of the account's record, as JSON values; what is unknown is absent, so nothing is erased.

    Units: `Onetouch_Limit_Share__c` in percent (92.0), `Onetouch_Usage_28d__c` in events of 28 days.
    """
    facts = known_facts(decision, signals_row)
    done, all_of_them = facts.get("milestones_done"), len(policy.product.milestones)
    fields = {
        # The identity as it is, never cleaned: it joins product and CRM. One too long for the field stays out.
        ACCOUNT_ID: decision["account_id"] if len(decision["account_id"]) <= _TEXT else None,
        "Onetouch_Score__c": _within(facts.get("score"), 5),
        "Onetouch_Tier__c": facts.get("tier"),
        "Onetouch_Trigger__c": plain(why_now(facts, policy).headline, _TEXT),
        "Onetouch_Motion__c": facts.get("motion"),
        "Onetouch_Activated__c": bool(facts["activated"]) if "activated" in facts else None,
        "Onetouch_Milestones__c": f"{int(done)} of {all_of_them}" if done is not None else None,
        "Onetouch_Team_Size__c": _within(facts.get("users"), 9),
        "Onetouch_Features_Used__c": _features(facts.get("features_used_list"), facts.get("features_used")),
        "Onetouch_Usage_28d__c": _within(facts.get("events_28d"), 12),
        "Onetouch_Limit_Share__c": _within(round(facts["limit_share"] * 100, 1), 6) if "limit_share" in facts else None,
        "Onetouch_Dossier__c": dossier(decision, signals_row, policy),
        "Onetouch_Policy_Version__c": facts.get("policy_version"),
        "Onetouch_As_Of__c": _utc(facts["as_of"]) if "as_of" in facts else None,
    }
    told = {name: value for name, value in fields.items() if value is not None}
    return told | {name: inert(value) for name, value in told.items() if isinstance(value, str) and name != ACCOUNT_ID}


def task_fields(
    decision: Mapping[str, Any],
    signals_row: Mapping[str, Any],
    policy: Policy,
    timezone: str | None = None,
    before: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The task's own content: subject, description (message, then dossier), priority, due date, reminder.

    `timezone` is the rep's: the due date is the day the SLA ends where the rep works (UTC when unknown). `before` is
    the account's earlier handoff, for the dossier.
    """
    facts = known_facts(decision, signals_row)
    urgent = urgency(facts) or "medium"
    subject = f"[{capital(urgent)}] {plain(account_name(facts), 80)} — {why_now(facts, policy).headline}"
    description = "\n\n".join(
        [
            "FIRST MESSAGE (yours to change)",
            first_message(decision, signals_row, policy),
            "—" * 20,
            dossier(decision, signals_row, policy, timezone, before),
        ]
    )
    fields: dict[str, Any] = {
        "Subject": plain(subject, _TEXT),
        "Description": description[:LONGEST],
        "Priority": _PRIORITY.get(urgent, "Normal"),
        "Status": "Not Started",
    }
    if "due_at" in facts:
        fields["ActivityDate"] = facts["due_at"].astimezone(zone(timezone)).date().isoformat()
    if "contact_at" in facts:
        fields |= {"IsReminderSet": True, "ReminderDateTime": _utc(facts["contact_at"])}
    return fields


def _features(names: list[Any] | None, number_used: float | None) -> str | None:
    if names:
        return plain(listed(names), _TEXT)
    return f"{int(number_used)}" if number_used is not None else None


def _within(value: float | None, digits: int) -> float | None:
    """The number, unless the field's digits before the point cannot hold it: then it stays out, the rest goes in."""
    return value if value is not None and abs(value) < 10**digits else None


def _utc(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
