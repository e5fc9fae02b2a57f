"""Converts raw rows to canonical events, and assigns users to accounts."""

from typing import TYPE_CHECKING

from onetouch.faces import show

if TYPE_CHECKING:
    from onetouch.events.canonical import FORGOTTEN, OTHER_PROJECT
    from onetouch.events.checkouts import Checkout, fresh_checkouts
    from onetouch.events.identity import business_domain
    from onetouch.events.staging import EVENTS, stage
    from onetouch.events.values import possible

__all__ = [
    "Checkout",
    "EVENTS",
    "FORGOTTEN",
    "OTHER_PROJECT",
    "business_domain",
    "fresh_checkouts",
    "possible",
    "stage",
]
show(__name__)
