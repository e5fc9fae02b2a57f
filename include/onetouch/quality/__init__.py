"""Are the data fit to decide on? The batch's profile, expectation suites, and the verdict on each stage."""

from typing import TYPE_CHECKING

from onetouch.faces import show

if TYPE_CHECKING:
    from onetouch.quality.check import ChecksFailed, check_decisions, check_events, check_signals
    from onetouch.quality.profile import batch_profile

__all__ = ["ChecksFailed", "batch_profile", "check_decisions", "check_events", "check_signals"]
show(__name__)
