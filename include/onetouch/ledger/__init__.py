"""What was decided, sent and touched: tables, migrations, state machine. Small, transactional, the only memory."""

from typing import TYPE_CHECKING

from onetouch.faces import show

if TYPE_CHECKING:
    from onetouch.ledger.audience import Member
    from onetouch.ledger.columns import clean, storable
    from onetouch.ledger.forgotten import PSEUDONYM, Forgotten, Kind, Subject
    from onetouch.ledger.handoffs import (
        ALERT_LINK,
        ESCALATION,
        LONGEST_ID,
        NOT_DELIVERED,
        OWNER_REFUSED,
        REASSIGNMENT,
        RECENT,
        REFUSED,
        Handoff,
        refused,
    )
    from onetouch.ledger.ledger import Ledger
    from onetouch.ledger.memory import QUEUED, WATCHED, Remembered
    from onetouch.ledger.outbox import ENDED, FOLLOW_UP, FOLLOW_UP_END, FORGOTTEN, Outbox
    from onetouch.ledger.retention import PrunedRun
    from onetouch.ledger.runs import Run
    from onetouch.ledger.sources import ANY_READING, QUEUE_SECONDS, FileRead, Window
    from onetouch.ledger.standings import Standing
    from onetouch.ledger.states import ACTIVE, LEGAL, STATES, TERMINAL, IllegalMove, LedgerError, NotInLedger
    from onetouch.ledger.tables import OUTBOX_STATES

__all__ = [
    "ACTIVE",
    "ALERT_LINK",
    "ANY_READING",
    "ENDED",
    "ESCALATION",
    "FOLLOW_UP",
    "FOLLOW_UP_END",
    "FORGOTTEN",
    "FileRead",
    "Forgotten",
    "Handoff",
    "IllegalMove",
    "Kind",
    "LEGAL",
    "LONGEST_ID",
    "Ledger",
    "LedgerError",
    "Member",
    "NOT_DELIVERED",
    "NotInLedger",
    "OUTBOX_STATES",
    "OWNER_REFUSED",
    "Outbox",
    "PSEUDONYM",
    "PrunedRun",
    "QUEUED",
    "QUEUE_SECONDS",
    "REASSIGNMENT",
    "RECENT",
    "REFUSED",
    "Remembered",
    "Run",
    "STATES",
    "Standing",
    "Subject",
    "TERMINAL",
    "WATCHED",
    "Window",
    "clean",
    "refused",
    "storable",
]
show(__name__)
