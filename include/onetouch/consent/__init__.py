"""Who may not be contacted, and by which channel: the policy's lists and its file, and the opt-outs in the CRM."""

from typing import TYPE_CHECKING

from onetouch.faces import show

if TYPE_CHECKING:
    from onetouch.consent.consent import ACCOUNT, CHANNELS, CONTACTS, PEOPLE, Consent, Person, user_of
    from onetouch.consent.lists import LISTED, Listing, Lists, file_of, read_listed

__all__ = [
    "ACCOUNT",
    "CHANNELS",
    "CONTACTS",
    "LISTED",
    "PEOPLE",
    "Consent",
    "Listing",
    "Lists",
    "Person",
    "file_of",
    "read_listed",
    "user_of",
]
show(__name__)
