"""Converts raw rows to canonical events, and assigns users to accounts."""

from typing import TYPE_CHECKING

from onetouch.faces import show

if TYPE_CHECKING:
    from onetouch.events.checkouts import Checkout, fresh_checkouts
    from onetouch.events.files import DRY, event_files, is_dry
    from onetouch.events.identity import business_domain
    from onetouch.events.staging import EVENTS, stage

__all__ = [
    "Checkout",
    "DRY",
    "EVENTS",
    "business_domain",
    "event_files",
    "fresh_checkouts",
    "is_dry",
    "stage",
]
show(__name__)
