"""Reads the CRM: accounts, reps, opportunities, touches, and the progress of handoffs."""

from typing import TYPE_CHECKING

from onetouch.faces import show

if TYPE_CHECKING:
    from onetouch.crm_sync.accounts_file import extract_accounts_file
    from onetouch.crm_sync.comparison import Comparison, Finding, compare
    from onetouch.crm_sync.extract_crm import (
        CONTACTS,
        OPPORTUNITIES,
        REPS,
        WRITING,
        emails_of,
        extract_crm,
        follow,
        frame_of,
        move_on,
        our_writes,
        people_of,
        read_reps,
        timezones,
    )
    from onetouch.crm_sync.one_touch import (
        LABELS,
        UNTOUCHED,
        Move,
        Seen,
        by_people,
        ending,
        in_touch_at,
        merged,
        moves,
        new_owner,
        next_follow_up,
    )

__all__ = [
    "CONTACTS",
    "LABELS",
    "OPPORTUNITIES",
    "REPS",
    "UNTOUCHED",
    "WRITING",
    "Comparison",
    "Finding",
    "Move",
    "Seen",
    "by_people",
    "compare",
    "emails_of",
    "ending",
    "extract_accounts_file",
    "extract_crm",
    "follow",
    "frame_of",
    "in_touch_at",
    "merged",
    "move_on",
    "moves",
    "new_owner",
    "next_follow_up",
    "our_writes",
    "people_of",
    "read_reps",
    "timezones",
]
show(__name__)
