"""What proves and explains the rules: scenarios, replay, the difference between policies, a shadow policy, explain."""

from onetouch.proof.assigned import assigned
from onetouch.proof.difference import Difference, compare
from onetouch.proof.explain import Explanation, decision_rows, explain, plain, run_of
from onetouch.proof.replay import find, forgotten_in, replay
from onetouch.proof.scenarios import Result, run_scenarios
from onetouch.proof.shadow import read_shadow, shadow

__all__ = [
    "Difference",
    "Explanation",
    "Result",
    "assigned",
    "compare",
    "decision_rows",
    "explain",
    "find",
    "forgotten_in",
    "plain",
    "read_shadow",
    "replay",
    "run_of",
    "run_scenarios",
    "shadow",
]
