"""Explains and verifies past decisions: explanation, exact replay, and the tasks each rep was given."""

from typing import TYPE_CHECKING

from onetouch.faces import show

if TYPE_CHECKING:
    from onetouch.audit.assigned import assigned
    from onetouch.audit.ends import ENDS, ended
    from onetouch.audit.explain import Explanation, decision_rows, explain, plain, run_of
    from onetouch.audit.outcome import accounting, status, unsent
    from onetouch.audit.promises import BROKEN, LOOKED_BACK, export, in_words, judge, read_export
    from onetouch.audit.replay import find, forgotten_in, replay
    from onetouch.audit.stored import earlier, of_run, table

__all__ = [
    "BROKEN",
    "ENDS",
    "Explanation",
    "LOOKED_BACK",
    "accounting",
    "assigned",
    "decision_rows",
    "earlier",
    "ended",
    "explain",
    "export",
    "find",
    "forgotten_in",
    "in_words",
    "judge",
    "of_run",
    "plain",
    "read_export",
    "replay",
    "run_of",
    "status",
    "table",
    "unsent",
]
show(__name__)
