"""The ledger: the only memory of what was decided, sent and touched."""

from __future__ import annotations

from onetouch.ledger.audience import Audiences
from onetouch.ledger.forgotten import Forgottens
from onetouch.ledger.memory import Memory
from onetouch.ledger.retention import Retention
from onetouch.ledger.runs import Runs
from onetouch.ledger.standings import Standings
from onetouch.ledger.stops import Stops
from onetouch.ledger.touches import Touches


class Ledger(Runs, Audiences, Forgottens, Touches, Memory, Standings, Stops, Retention):
    """The whole ledger at one database `url`; `migrate()` makes its tables.

    Every write is one transaction and can be repeated without effect; every moment comes from the arguments.
    Threads may share an object; each process opens its own.
    """
