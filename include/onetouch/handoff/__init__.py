"""What a rep gets for a handoff: the dossier, a first message, the context on the account's record, and the task."""

from typing import TYPE_CHECKING

from onetouch.faces import show

if TYPE_CHECKING:
    from onetouch.handoff.content import (
        EPISODE,
        REQUIRED_CONTEXT,
        AccountContext,
        OpportunityContent,
        Priority,
        TaskContent,
    )
    from onetouch.handoff.dossier import dossier
    from onetouch.handoff.facts import known_facts
    from onetouch.handoff.fields import (
        account_context,
        handoff_content,
        late_context,
        late_task,
        leading_to,
        missing_context,
        standing_trigger,
        task_content,
    )
    from onetouch.handoff.follow_up import follow_up_content
    from onetouch.handoff.message import Alert, alert, first_message, without_addresses
    from onetouch.handoff.own_fields import extra_fields
    from onetouch.handoff.people import team_of, with_contact
    from onetouch.handoff.plain_text import inert, plain
    from onetouch.handoff.situations import WhyNow, columns_read, why_now
    from onetouch.handoff.words import capital, count, near_moment, zone

__all__ = [
    "AccountContext",
    "Alert",
    "EPISODE",
    "OpportunityContent",
    "Priority",
    "REQUIRED_CONTEXT",
    "TaskContent",
    "WhyNow",
    "account_context",
    "alert",
    "capital",
    "columns_read",
    "count",
    "dossier",
    "extra_fields",
    "first_message",
    "follow_up_content",
    "inert",
    "late_context",
    "late_task",
    "leading_to",
    "known_facts",
    "handoff_content",
    "missing_context",
    "near_moment",
    "plain",
    "standing_trigger",
    "task_content",
    "team_of",
    "why_now",
    "with_contact",
    "without_addresses",
    "zone",
]
show(__name__)
