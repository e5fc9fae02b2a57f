"""The first message: short, about their usage, an offer of help, no pressure (S0 S3 S4)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from onetouch.handoff.facts import Facts, account_name, count, known_facts, listed, moment, number
from onetouch.handoff.trigger import trigger
from onetouch.policy import Policy


def first_message(decision: Mapping[str, Any], signals_row: Mapping[str, Any], policy: Policy) -> str:
    """Plain text for the rep to send or adapt, under 1,500 characters whatever the account is called.

    It names only usage the data holds; what the customer might find intrusive (pages viewed) stays out of it.
    """
    facts = known_facts(decision, signals_row)
    seen = f"I saw that your team at {account_name(facts)} {_usage(facts, policy)}."
    return "\n\n".join(
        [
            "Hi,",
            f"{seen} {trigger(facts).offer}",
            "If it helps, I can set up a short personalized onboarding around exactly what you are working on. No rush "
            "and no obligation: everything keeps working as it does today, and I will leave it at this one message.",
        ]
    )


def alert_text(decision: Mapping[str, Any], signals_row: Mapping[str, Any]) -> str:
    """One line for the owner: who, why now, by when. Plain text, not escaped; holds no person's name or address."""
    facts = known_facts(decision, signals_row)
    tier = f"{str(facts['tier']).capitalize()} priority: " if "tier" in facts else ""
    line = f"{tier}{account_name(facts)} — {trigger(facts).headline}"
    if "score" in facts:
        line += f" · score {number(facts['score'])}"
    if isinstance(facts.get("due_at"), datetime):
        line += f" · first message due {moment(facts['due_at'], UTC)}"
    return f"{line}. Dossier and a first message are in your task list."


def _usage(facts: Facts, policy: Policy) -> str:
    """Up to three facts of use, as one clause that follows "your team"."""
    said: list[str] = []
    if facts.get("active_users_28d", 0) > 1:
        said.append(f"has {count(facts['active_users_28d'], 'active user')}")
    if facts.get("integrations", 0) >= 1:
        said.append(f"has connected {count(facts['integrations'], 'integration')}")
    if facts.get("features_used_list"):
        said.append(f"works with {listed(facts['features_used_list'][:3])}")
    if not said and facts.get("active_days_14d", 0) >= 1:
        said.append(f"used {policy.product.name} on {count(facts['active_days_14d'], 'day')} of the last two weeks")
    return listed(said[:3]) if said else f"uses {policy.product.name}"
