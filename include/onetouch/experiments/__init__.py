"""Tests the effect of rules and policies: scenarios, the difference between two policies, and shadow policies."""

from typing import TYPE_CHECKING

from onetouch.faces import show

if TYPE_CHECKING:
    from onetouch.experiments.difference import Difference, compare
    from onetouch.experiments.scenarios import Result, run_scenarios
    from onetouch.experiments.shadow import read_shadow, shadow

__all__ = ["Difference", "Result", "compare", "read_shadow", "run_scenarios", "shadow"]
show(__name__)
