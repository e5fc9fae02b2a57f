"""The formats in which values are written as text, and the sections of the dossier that show them."""

from __future__ import annotations

from enum import Enum, auto


class Format(Enum):
    """How a value is written after its label, and within a sentence; `handoff/words.py` does both."""

    TEXT = auto()
    """A name from the data as people write it: "API calls" in both places."""
    NAMES = auto()
    """The number of names after the label, the names themselves in a sentence: "3", "alerts, API and exports"."""
    AMOUNTS = auto()
    """Names with how often, the most frequent first: "alerts (212), API (9)", "alerts 212 times and API 9 times"."""
    NUMBER = auto()
    """ "1,234" in both places."""
    COUNT = auto()
    """With its noun in a sentence: "1,234", "1,234 users"."""
    TIMES = auto()
    """How often: "2", "twice"."""
    DAYS = auto()
    """ "12", "12 days"."""
    DAYS_OF_WINDOW = auto()
    """Days out of the days of the signal's window: "8", "8 of 14 days"."""
    DURATION = auto()
    """A length of time in days: "6 days" in both places."""
    SHARE = auto()
    """A share of 1: "92 %" in both places."""
    PERCENT = auto()
    """A share of 100 as a vendor reports it: "92 %" in both places."""
    RATIO = auto()
    """ "1.5×", "1.5 times"."""
    MONEY = auto()
    """Dollars: "$12,000" in both places."""
    YES_NO = auto()
    """ "yes" or "no"; no text may name it."""


class Section(Enum):
    """The dossier's sections that show signals and columns of the account, by their titles."""

    OVERVIEW = "ACCOUNT OVERVIEW"
    USAGE = "USAGE SUMMARY"
    ONBOARDING = "ONBOARDING PROGRESS"
    EXPANSION = "EXPANSION SIGNALS"
    TEAM = "TEAM"
    COMMERCIAL = "COMMERCIAL SIGNALS"
    FRICTION = "FRICTION"
