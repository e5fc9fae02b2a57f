"""What was decided, sent and touched: tables, migrations, state machine. Small, transactional, the only memory."""

from onetouch.ledger.forgotten import PSEUDONYM, Forgotten, Subject
from onetouch.ledger.handoffs import LONGEST_ID, RECENT, Handoff
from onetouch.ledger.ledger import Ledger
from onetouch.ledger.outbox import Outbox
from onetouch.ledger.runs import Run
from onetouch.ledger.sources import Window
from onetouch.ledger.states import ACTIVE, LEGAL, STATES, TERMINAL, IllegalMove, LedgerError, NotInLedger
from onetouch.ledger.tables import OUTBOX_STATES

__all__ = [
    "ACTIVE",
    "LEGAL",
    "LONGEST_ID",
    "OUTBOX_STATES",
    "PSEUDONYM",
    "RECENT",
    "STATES",
    "TERMINAL",
    "Forgotten",
    "Handoff",
    "IllegalMove",
    "Ledger",
    "LedgerError",
    "NotInLedger",
    "Outbox",
    "Run",
    "Subject",
    "Window",
]
