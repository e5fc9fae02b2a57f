"""Events: rows → the canonical event; users → accounts."""

from onetouch.events.checkouts import fresh_checkouts
from onetouch.events.staging import EVENTS, stage

__all__ = ["EVENTS", "fresh_checkouts", "stage"]
