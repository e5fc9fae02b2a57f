"""Ordered rules → one decision an account (`rules`), and who gets it (`assignment`)."""

from typing import TYPE_CHECKING

from onetouch.faces import show

if TYPE_CHECKING:
    from onetouch.routing.assignment import team
    from onetouch.routing.inputs import Inputs, gather, keep, kept
    from onetouch.routing.known import CALLS
    from onetouch.routing.obstacles import WOULD_CHANGE
    from onetouch.routing.route import DECISION, decide, facts, route
    from onetouch.routing.rules import RULES, Rule
    from onetouch.routing.sentences import sentence

__all__ = [
    "CALLS", "DECISION", "RULES", "WOULD_CHANGE", "Inputs", "Rule", "decide", "facts", "gather", "keep", "kept",
    "route", "sentence", "team",
]  # fmt: skip
show(__name__)
