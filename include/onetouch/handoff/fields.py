"""Builds what is written to the CRM from decision and signals: the account's context and the task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from onetouch.handoff.content import AccountContext, Priority, TaskContent
from onetouch.handoff.dossier import LONGEST, notes_of, record_of
from onetouch.handoff.facts import Facts, account_name, known_facts
from onetouch.handoff.message import message_of, urgency
from onetouch.handoff.plain_text import inert, plain
from onetouch.handoff.situations import WhyNow, why_now
from onetouch.handoff.words import capital, listed, zone
from onetouch.policy import Policy

_LINE = 1_000
"""Ours: maximum characters of one line, so that the outbox stays small. A CRM's field may hold fewer."""

_PRIORITIES: dict[str, Priority] = {"high": "high", "medium": "medium", "low": "low"}


def missing_context(signals_row: Mapping[str, Any], policy: Policy) -> list[str]:
    """The names in `handoff.required_context` that the account has no value for; empty if the context is complete."""
    required = policy.handoff.required_context
    facts = known_facts({}, {name: signals_row.get(name) for name in required})
    return [name for name in required if name not in facts]


def account_context(decision: Mapping[str, Any], signals_row: Mapping[str, Any], policy: Policy) -> AccountContext:
    """The fields for the account's record; unknown is None."""
    facts = known_facts(decision, signals_row)
    return _context(decision["account_id"], facts, why_now(facts, policy), policy)


def _context(account_id: str, facts: Facts, why: WhyNow, policy: Policy) -> AccountContext:
    done, all_of_them = facts.get("milestones_done"), len(policy.product.milestones)
    texts = {
        "tier": facts.get("tier"),
        "trigger": plain(why.headline, _LINE),
        "motion": facts.get("motion"),
        "milestones": f"{int(done)} of {all_of_them}" if done is not None else None,
        "features_used": _features(_most_used(facts), facts.get("features_used")),
        "dossier": record_of(facts, why, policy),
        "policy_version": facts.get("policy_version"),
    }
    return AccountContext(
        account_id=account_id,  # never cleaned, because product and CRM are joined by it
        score=facts.get("score"),
        activated=bool(facts["activated"]) if "activated" in facts else None,
        team_size=facts.get("users"),
        usage=facts.get("events"),
        limit_share=round(facts["limit_share"] * 100, 1) if "limit_share" in facts else None,
        as_of=_utc(facts["as_of"]) if "as_of" in facts else None,
        **{name: inert(text) for name, text in texts.items() if text is not None},
    )


def leading_to(context: AccountContext, alert: str) -> AccountContext:
    """The context with the address of the alert at the end of its dossier, which is cut to make room for it."""
    if context.dossier is None:
        return context
    note = f"\n\nANNOUNCED AT\n  {alert}"
    return replace(context, dossier=context.dossier[: LONGEST - len(note)] + note)


def standing_trigger(decision: Mapping[str, Any], signals_row: Mapping[str, Any], policy: Policy) -> tuple[str, str]:
    """The account's situation by its name in the policy, and its headline as the record's trigger shows it.

    Of the signals only `situations.columns_read` are read.
    """
    why = why_now(known_facts(decision, signals_row), policy)
    return why.situation, inert(plain(why.headline, _LINE))


def task_content(
    decision: Mapping[str, Any],
    signals_row: Mapping[str, Any],
    policy: Policy,
    timezone: str | None = None,
    before: Mapping[str, Any] | None = None,
) -> TaskContent:
    """The task's own content: subject, description (message, then notes), priority, due day, reminder.

    `timezone`: the rep's time zone; the due day is the rep's local date when the SLA ends (UTC when unknown).
    `before`: the account's latest earlier handoff, for the dossier.
    """
    facts = known_facts(decision, signals_row)
    return _task(facts, why_now(facts, policy), policy, timezone, before)


def handoff_content(
    decision: Mapping[str, Any],
    signals_row: Mapping[str, Any],
    policy: Policy,
    timezone: str | None = None,
    before: Mapping[str, Any] | None = None,
) -> tuple[AccountContext, TaskContent]:
    """`account_context` and `task_content` of one handoff, from facts and a situation that are worked out once."""
    facts = known_facts(decision, signals_row)
    why = why_now(facts, policy)
    return _context(decision["account_id"], facts, why, policy), _task(facts, why, policy, timezone, before)


def _task(
    facts: Facts, why: WhyNow, policy: Policy, timezone: str | None, before: Mapping[str, Any] | None
) -> TaskContent:
    urgent = urgency(facts) or "medium"
    description = "\n\n".join(
        [
            "FIRST MESSAGE (yours to change)",
            message_of(facts, why, policy),
            "—" * 20,
            notes_of(facts, why, policy, timezone, before),
        ]
    )
    return TaskContent(
        subject=plain(f"[{capital(urgent)}] {plain(account_name(facts), 80)} — {why.headline}", _LINE),
        description=description[:LONGEST],
        priority=_PRIORITIES.get(urgent, "medium"),
        due_on=facts["due_at"].astimezone(zone(timezone)).date() if "due_at" in facts else None,
        remind_at=_utc(facts["contact_at"]) if "contact_at" in facts else None,
    )


def _most_used(facts: Facts) -> list[Any] | None:
    """The features used, the most used first where that is known."""
    by_use = [item["name"] for item in facts.get("features_by_use", [])]
    names = facts.get("features_used_list", [])
    return [*by_use, *(name for name in names if name not in by_use)] or None


def _features(names: list[Any] | None, number_used: float | None) -> str | None:
    if names:
        return plain(listed(names), _LINE)
    return f"{int(number_used)}" if number_used is not None else None


def _utc(at: datetime) -> datetime:
    """The moment in UTC, cut to whole seconds."""
    return at.astimezone(UTC).replace(microsecond=0)
