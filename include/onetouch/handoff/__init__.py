"""What a rep is given: the dossier, a first message, and the fields on the account's record."""

from typing import TYPE_CHECKING

from onetouch.faces import show

if TYPE_CHECKING:
    from onetouch.handoff.dossier import dossier
    from onetouch.handoff.fields import REQUIRED_FIELDS, account_fields, missing_context, task_fields
    from onetouch.handoff.message import Alert, alert, first_message, without_addresses
    from onetouch.handoff.plain_text import plain

__all__ = [
    "REQUIRED_FIELDS",
    "Alert",
    "account_fields",
    "alert",
    "dossier",
    "first_message",
    "missing_context",
    "plain",
    "task_fields",
    "without_addresses",
]
show(__name__)
