"""Ordered rules → one decision an account (`rules`), and who gets it (`assignment`)."""

from onetouch.routing.route import DECISION, decide, route
from onetouch.routing.rules import RULES, Rule

__all__ = ["DECISION", "RULES", "Rule", "decide", "route"]
