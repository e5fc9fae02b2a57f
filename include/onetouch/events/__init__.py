"""Converts raw rows to canonical events, and assigns users to accounts."""

from typing import TYPE_CHECKING

from onetouch.faces import show

if TYPE_CHECKING:
    from onetouch.events.canonical import FORGOTTEN, OTHER_PROJECT, PRUNED
    from onetouch.events.checkouts import Checkout, fresh_checkouts
    from onetouch.events.files import DRY, batch_of, event_dates, event_files, event_files_of, is_dry
    from onetouch.events.identity import Who, account_of_user, business_domain, by_todays_ids, former_ids, who
    from onetouch.events.memberships import Placement, named_never, read_memberships, said
    from onetouch.events.partitions import (
        Day,
        build_partitions,
        built_from,
        by_month,
        event_date,
        files_by_date,
        known_since,
        last_day,
        metadata_of,
        month_end,
        view,
    )
    from onetouch.events.profiles import ADDRESS, PROFILES, latest_profiles, read_profiles
    from onetouch.events.staging import EVENTS, stage
    from onetouch.events.values import possible

__all__ = [
    "ADDRESS",
    "Checkout",
    "DRY",
    "Day",
    "EVENTS",
    "FORGOTTEN",
    "OTHER_PROJECT",
    "PROFILES",
    "PRUNED",
    "Placement",
    "Who",
    "account_of_user",
    "batch_of",
    "build_partitions",
    "built_from",
    "business_domain",
    "by_month",
    "by_todays_ids",
    "event_date",
    "event_dates",
    "event_files",
    "event_files_of",
    "files_by_date",
    "former_ids",
    "fresh_checkouts",
    "is_dry",
    "known_since",
    "latest_profiles",
    "last_day",
    "metadata_of",
    "month_end",
    "named_never",
    "possible",
    "read_memberships",
    "read_profiles",
    "said",
    "stage",
    "view",
    "who",
]
show(__name__)
