"""Events: rows → the canonical event; users → accounts."""

from typing import TYPE_CHECKING

from onetouch.faces import show

if TYPE_CHECKING:
    from onetouch.events.checkouts import Checkout, fresh_checkouts
    from onetouch.events.staging import EVENTS, stage

__all__ = ["EVENTS", "Checkout", "fresh_checkouts", "stage"]
show(__name__)
