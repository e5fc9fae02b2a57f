"""The company's own fields on the records that we create, filled with facts of the handoff (`crm.extra_fields`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from onetouch.handoff.facts import known_facts
from onetouch.handoff.plain_text import inert
from onetouch.policy import EXTRA_FACTS, Policy

_ONE_FACT = re.compile(r"\{([^{}]*)\}")


def extra_fields(
    decision: Mapping[str, Any], signals_row: Mapping[str, Any], policy: Policy, *, handoff_id: str
) -> dict[str, dict[str, Any]]:
    """Kind of record (task, account, lead, contact) → field → value; kinds without a field are left out.

    A text that is one placeholder and nothing else becomes the fact itself, so that a number stays one. A field with a
    fact that is not known is left out: the CRM then says whether it can do without.
    """
    given = {kind: fields for kind, fields in policy.crm.extra_fields if fields}
    if not given:
        return {}
    known = known_facts(decision, signals_row)
    facts = {name: known[name] for name in EXTRA_FACTS if name in known}
    ids = {"account_id": decision["account_id"], "handoff_id": handoff_id, "owner": decision.get("owner_email")}
    facts |= {name: value for name, value in ids.items() if value}
    filled = {kind: {f: _filled(value, facts) for f, value in fields.items()} for kind, fields in given.items()}
    kept = {kind: {f: v for f, v in fields.items() if v is not None} for kind, fields in filled.items()}
    return {kind: fields for kind, fields in kept.items() if fields}


def _filled(value: Any, facts: Mapping[str, Any]) -> Any:
    """The value with its facts; None when one of them is not known."""
    if not isinstance(value, str):
        return value
    names = _ONE_FACT.findall(value)
    if any(name not in facts for name in names):
        return None
    if len(names) == 1 and value == f"{{{names[0]}}}":
        fact = facts[names[0]]
        return inert(fact) if isinstance(fact, str) else fact
    return inert(_ONE_FACT.sub(lambda found: _text(facts[found[1]]), value))


def _text(fact: Any) -> str:
    return f"{fact:g}" if isinstance(fact, float) else str(fact)
