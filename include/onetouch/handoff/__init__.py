"""What a rep is given: the dossier, a first message, the context on the account's record, and the task."""

from typing import TYPE_CHECKING

from onetouch.faces import show

if TYPE_CHECKING:
    from onetouch.handoff.content import REQUIRED_CONTEXT, AccountContext, Priority, TaskContent
    from onetouch.handoff.dossier import dossier
    from onetouch.handoff.fields import account_context, missing_context, task_content
    from onetouch.handoff.message import Alert, alert, first_message, without_addresses
    from onetouch.handoff.plain_text import plain

__all__ = [
    "REQUIRED_CONTEXT",
    "AccountContext",
    "Alert",
    "Priority",
    "TaskContent",
    "account_context",
    "alert",
    "dossier",
    "first_message",
    "missing_context",
    "plain",
    "task_content",
    "without_addresses",
]
show(__name__)
