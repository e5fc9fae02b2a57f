"""Ordered rules give each account one decision (`rules`); `assignment` chooses the rep."""

from typing import TYPE_CHECKING

from onetouch.faces import show

if TYPE_CHECKING:
    from onetouch.routing.assignment import assignments, next_in_turn, team, territories_of
    from onetouch.routing.contact_reasons import CALLS
    from onetouch.routing.inputs import PREVIOUS, Inputs, gather, keep, kept, product_people, run_before
    from onetouch.routing.memory import IN_LINE
    from onetouch.routing.obstacles import WOULD_CHANGE, sentence
    from onetouch.routing.ramp import tasks_of_the_day
    from onetouch.routing.route import DECISION, decide, facts, route
    from onetouch.routing.rule import Known, Rule, Rules
    from onetouch.routing.rules import RULES, rules_of
    from onetouch.routing.timing import due_at, escalated_at

__all__ = [
    "CALLS",
    "DECISION",
    "IN_LINE",
    "Inputs",
    "Known",
    "PREVIOUS",
    "RULES",
    "Rule",
    "Rules",
    "WOULD_CHANGE",
    "assignments",
    "decide",
    "due_at",
    "escalated_at",
    "facts",
    "gather",
    "keep",
    "kept",
    "next_in_turn",
    "product_people",
    "route",
    "rules_of",
    "run_before",
    "sentence",
    "tasks_of_the_day",
    "team",
    "territories_of",
]
show(__name__)
