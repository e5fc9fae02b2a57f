"""How a value is put into words, and in which section of the dossier it is shown."""

from __future__ import annotations

from enum import Enum, auto


class Format(Enum):
    """How a value reads behind its label, and in the middle of a sentence; `handoff/words.py` does both."""

    TEXT = auto()
    """A name of the data as people write it: "API calls", both times."""
    NAMES = auto()
    """How many behind the label; the names themselves in a sentence: "3", "alerts, API and exports"."""
    NUMBER = auto()
    """ "1,234", both times."""
    COUNT = auto()
    """With its noun in a sentence: "1,234", "1,234 users"."""
    TIMES = auto()
    """How often: "2", "twice"."""
    DAYS = auto()
    """ "12", "12 days"."""
    DAYS_OF_WINDOW = auto()
    """Days out of those of the signal's window: "8", "8 of 14 days"."""
    DURATION = auto()
    """A length of time in days: "6 days", both times."""
    SHARE = auto()
    """A share of 1: "92 %", both times."""
    PERCENT = auto()
    """A share of 100 as a vendor reports it: "92 %", both times."""
    RATIO = auto()
    """ "1.5×", "1.5 times"."""
    MONEY = auto()
    """Dollars: "$12,000", both times."""
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
