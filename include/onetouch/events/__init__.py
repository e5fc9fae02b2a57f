"""Converts raw rows to canonical events, and assigns users to accounts."""

from typing import TYPE_CHECKING

from onetouch.faces import show

if TYPE_CHECKING:
    from onetouch.events.checkouts import Checkout, fresh_checkouts
    from onetouch.events.files import DRY, event_files, is_dry
    from onetouch.events.identity import Who, account_of_user, business_domain, by_todays_ids, former_ids, who
    from onetouch.events.memberships import Placement, read_memberships, said
    from onetouch.events.partitions import files_by_date, last_day
    from onetouch.events.staging import EVENTS, stage

__all__ = [
    "Checkout",
    "DRY",
    "EVENTS",
    "Placement",
    "Who",
    "account_of_user",
    "business_domain",
    "by_todays_ids",
    "event_files",
    "files_by_date",
    "former_ids",
    "fresh_checkouts",
    "is_dry",
    "last_day",
    "read_memberships",
    "said",
    "stage",
    "who",
]
show(__name__)
