"""What exists, declared once: events, columns of an account, signals and actions; all else derives from it.

It imports nothing of the library and nothing heavy, so every room and the command line may read it.
"""

from onetouch.catalogue.accounts import CRM_COLUMNS, SNAPSHOT_COLUMNS, Column, Kind
from onetouch.catalogue.actions import ACTIONS, Action
from onetouch.catalogue.display import Format, Section
from onetouch.catalogue.events import EVENT_NAMES, EVENTS, EVENTS_BY_NAME, NOT_USE, Event
from onetouch.catalogue.signals import (
    DETAIL_COLUMNS,
    FIRMOGRAPHIC_SIGNALS,
    MOMENTS,
    RENAMED,
    SIGNAL_NAMES,
    SIGNALS,
    SIGNALS_BY_NAME,
    WEEK_DAYS,
    Happened,
    Signal,
    Window,
    Windows,
)

__all__ = [
    "ACTIONS",
    "Action",
    "CRM_COLUMNS",
    "DETAIL_COLUMNS",
    "EVENTS",
    "EVENTS_BY_NAME",
    "EVENT_NAMES",
    "FIRMOGRAPHIC_SIGNALS",
    "MOMENTS",
    "NOT_USE",
    "RENAMED",
    "SIGNALS",
    "SIGNALS_BY_NAME",
    "SIGNAL_NAMES",
    "SNAPSHOT_COLUMNS",
    "WEEK_DAYS",
    "Column",
    "Event",
    "Format",
    "Happened",
    "Kind",
    "Section",
    "Signal",
    "Window",
    "Windows",
]
