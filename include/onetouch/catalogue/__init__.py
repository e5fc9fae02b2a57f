"""Events, columns of an account, signals and actions, each declared once; all else derives from these declarations.

The catalogue imports neither other packages of the library nor heavy dependencies, so that every package and the
command line may import it.
"""

from typing import TYPE_CHECKING

from onetouch.faces import show

if TYPE_CHECKING:
    from onetouch.catalogue.accounts import CRM_COLUMNS, SNAPSHOT_COLUMNS, Column, Kind
    from onetouch.catalogue.actions import (
        ACTIONS,
        BELOW_FLOOR,
        HOLD_CAPACITY,
        HOLD_CONTEXT,
        HOLD_CONVERTING,
        HOLD_COOLDOWN,
        HOLD_HOLDOUT,
        HOLD_NEVER_CONTACT,
        HOLD_OPEN_OPPORTUNITY,
        HOLD_REFUSED,
        HOLD_TOUCHED,
        MONITOR,
        NURTURE,
        SALES_NOW,
        SELF_SERVE_HERO,
        SELF_SERVE_ONBOARDING,
        Action,
    )
    from onetouch.catalogue.display import Format, Section
    from onetouch.catalogue.events import EVENT_NAMES, EVENTS, EVENTS_BY_NAME, NOT_USE, Event
    from onetouch.catalogue.people import PEOPLE_COLUMNS, PERSON_SIGNALS, PROFILE
    from onetouch.catalogue.signals import (
        DETAIL_COLUMNS,
        FIRMOGRAPHIC_SIGNALS,
        MOMENTS,
        PERSONAL_COLUMNS,
        RENAMED,
        SIGNAL_NAMES,
        SIGNALS,
        SIGNALS_BY_NAME,
        SIGNALS_TABLE,
        WEEK_DAYS,
        Happened,
        Signal,
        Window,
        Windows,
    )

__all__ = [
    "ACTIONS",
    "Action",
    "BELOW_FLOOR",
    "CRM_COLUMNS",
    "Column",
    "DETAIL_COLUMNS",
    "EVENTS",
    "EVENTS_BY_NAME",
    "EVENT_NAMES",
    "Event",
    "FIRMOGRAPHIC_SIGNALS",
    "Format",
    "HOLD_CAPACITY",
    "HOLD_CONTEXT",
    "HOLD_CONVERTING",
    "HOLD_COOLDOWN",
    "HOLD_HOLDOUT",
    "HOLD_NEVER_CONTACT",
    "HOLD_OPEN_OPPORTUNITY",
    "HOLD_REFUSED",
    "HOLD_TOUCHED",
    "Happened",
    "Kind",
    "MOMENTS",
    "MONITOR",
    "NOT_USE",
    "NURTURE",
    "PEOPLE_COLUMNS",
    "PERSONAL_COLUMNS",
    "PERSON_SIGNALS",
    "PROFILE",
    "SALES_NOW",
    "SELF_SERVE_HERO",
    "SELF_SERVE_ONBOARDING",
    "RENAMED",
    "SIGNALS",
    "SIGNALS_BY_NAME",
    "SIGNALS_TABLE",
    "SIGNAL_NAMES",
    "SNAPSHOT_COLUMNS",
    "Section",
    "Signal",
    "WEEK_DAYS",
    "Window",
    "Windows",
]
show(__name__)
