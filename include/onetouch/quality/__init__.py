"""Checks whether the data are fit to decide on: batch profile, expectation suites, and the result for each stage."""

from typing import TYPE_CHECKING

from onetouch.faces import show

if TYPE_CHECKING:
    from onetouch.quality.check import ChecksFailed, check_decisions, check_events, check_signals
    from onetouch.quality.history import HISTORY_DAYS
    from onetouch.quality.profile import batch_profile

__all__ = ["HISTORY_DAYS", "ChecksFailed", "batch_profile", "check_decisions", "check_events", "check_signals"]
show(__name__)
