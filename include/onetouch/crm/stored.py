"""Content as the outbox stores it until it is written: JSON with a format number that every later release can read.

Format 2 holds the parts of `AccountContext`, `TaskContent` and `OpportunityContent` by name; a part it lacks is
unknown. Format 1 (up to commit 3ab0fe8) had no number and held Salesforce's fields under "fields".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from datetime import date, datetime
from typing import Any

from onetouch.handoff import AccountContext, OpportunityContent, TaskContent

FORMAT = 2

Payload = dict[str, Any]


def stored_payload(content: AccountContext | TaskContent | OpportunityContent) -> Payload:
    """The content in its stored form; `context_of`, `task_of` and `opportunity_of` read it."""
    known = {name: value for name, value in asdict(content).items() if value is not None}
    dated = {name: value.isoformat() if isinstance(value, date) else value for name, value in known.items()}
    return {"format": FORMAT, "content": dated}


def context_of(payload: Mapping[str, Any]) -> AccountContext:
    """The stored context. Raises ValueError for a format of a later version."""
    if _format(payload) == 1:
        from onetouch.crm.salesforce.format_1 import context_of_format_1

        return context_of_format_1(payload["fields"])
    content = _known(AccountContext, payload["content"])
    return AccountContext(**content | {"as_of": _moment(content.get("as_of"))})


def task_of(payload: Mapping[str, Any]) -> TaskContent:
    """The stored task. Raises ValueError for a format of a later version."""
    if _format(payload) == 1:
        from onetouch.crm.salesforce.format_1 import task_of_format_1

        return task_of_format_1(payload["fields"])
    content = _known(TaskContent, payload["content"])
    due_on = content.get("due_on")
    dates = {"due_on": date.fromisoformat(due_on) if due_on else None, "remind_at": _moment(content.get("remind_at"))}
    return TaskContent(**content | dates)


def opportunity_of(payload: Mapping[str, Any]) -> OpportunityContent:
    """The stored opportunity. Raises ValueError for a format of a later version."""
    _format(payload)
    content = _known(OpportunityContent, payload["content"])
    close_on = content.get("close_on")
    return OpportunityContent(**content | {"close_on": date.fromisoformat(close_on) if close_on else None})


def _format(payload: Mapping[str, Any]) -> int:
    number = int(payload.get("format", 1))
    if number > FORMAT:
        raise ValueError(f"outbox row of format {number}: this version reads up to {FORMAT}; install a later one")
    return number


def _known(kind: type[AccountContext | TaskContent | OpportunityContent], content: Mapping[str, Any]) -> Payload:
    """The parts this version knows, without those a later version has added to the same format."""
    return {field.name: content[field.name] for field in fields(kind) if field.name in content}


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
