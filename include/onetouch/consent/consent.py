"""Who may be contacted: accounts as a whole, and people by channel."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from onetouch.columns import Mask
from onetouch.consent.lists import Lists

CHANNELS = {"call": "do_not_call", "email": "email_opt_out"}
"""Channel of a touch → the column of CONTACTS that says whether a person opted out of it."""

CONTACTS = {
    "contact_id": "str", "crm_account_id": "str", "address": "str", "do_not_call": "boolean",
    "email_opt_out": "boolean",
}  # fmt: skip
"""The people of the CRM, one row each; an opt-out that the CRM does not show is null: unknown."""

ACCOUNT = {
    "account_id": "str", "crm_account_id": "str", "domain": "str", "domains": "str", "never_contact": "boolean",
    "top_user": "str", "contact_email": "str",
}  # fmt: skip
"""What is asked of an account; `never_contact` is the CRM's own flag, `top_user` the most active user's id, and
`contact_email` the address of the person to write to."""

PEOPLE = {"account_id": "str", "user_id": "str", "address": "str"}
"""The product's people of accounts whose people of the CRM may not be contacted."""

_OPTED_OUT = {"call": "of calls", "email": "of e-mail"}
_TOLD = 3
"""Ours: people named in the reason why nobody of an account may be contacted; the others are counted."""


class Person(NamedTuple):
    """A person by what is known: the CRM's contact, the address in lower case, the product's user."""

    contact_id: str | None = None
    address: str | None = None
    user_id: str | None = None

    @property
    def name(self) -> str:
        """How a reason names the person, without an address."""
        return f"contact {self.contact_id}" if self.contact_id else "a user of the product"


class Consent:
    """Who may be contacted by which of `channels`, by the `contacts` of the CRM (columns CONTACTS) and the `lists`.

    An opt-out counts for a person wherever the CRM keeps it: on another contact or lead of the same address, too.
    """

    def __init__(self, contacts: pd.DataFrame, lists: Lists, channels: Sequence[str] = tuple(CHANNELS)) -> None:
        self._contacts, self._lists, self._channels = contacts, lists, tuple(channels)
        self._out: dict[str, set[str]] = {}
        self._unknown: dict[str, set[str]] = {}
        for channel, column in CHANNELS.items():
            flag = contacts[column]
            self._out[channel] = _names(contacts[flag.fillna(False).to_numpy(bool)])
            self._unknown[channel] = _names(contacts[flag.isna()])

    # ── people ───────────────────────────────────────────────────────────────────────────────────

    def barred(self, person: Person, channel: str) -> str | None:
        """Why the person may not be contacted by the channel ("opted out of calls"); None: nothing is known."""
        if listing := self._lists.person(person.address, person.contact_id, person.user_id):
            return f"is on {listing}"
        known = self._out[channel]
        return f"opted out {_OPTED_OUT[channel]}" if person.contact_id in known or person.address in known else None

    def may(self, person: Person, channel: str) -> bool:
        """Whether the person may be contacted by the channel. Who has a contact whose opt-out the CRM does not show may
        not: nobody knows."""
        unknown = self._unknown[channel]
        hidden = person.contact_id in unknown or person.address in unknown
        return not hidden and self.barred(person, channel) is None

    def may_be_named(self, person: Person) -> bool:
        """Whether a rep's task may name the person: the rep may use any channel of a touch."""
        return all(self.may(person, channel) for channel in self._channels)

    def unreachable(self, person: Person) -> str | None:
        """Why no channel of a touch is left to contact the person; None: one is."""
        reasons = [self.barred(person, channel) for channel in self._channels]
        if not reasons or None in reasons:
            return None
        told = [reason for reason in dict.fromkeys(reasons) if reason]
        return " and ".join([told[0], *(reason.removeprefix("opted out ") for reason in told[1:])])

    # ── accounts ─────────────────────────────────────────────────────────────────────────────────

    def held(self, accounts: pd.DataFrame, people: pd.DataFrame | None = None) -> pd.Series:
        """Why each account may not be contacted at all (null: it may), with the index of `accounts`.

        `accounts`: the columns ACCOUNT; any may be absent. An account is held when it is listed or flagged itself, or
        when people of it are known and none of them can be contacted: those of the CRM, its most active user, and the
        product's `people` (PEOPLE) of it.
        """
        accounts = accounts.reindex(columns=list(ACCOUNT)).astype(ACCOUNT)
        flagged = accounts["never_contact"].fillna(False).to_numpy(bool)
        reasons = np.full(len(accounts), None, dtype=object)
        asked = np.flatnonzero(self._listed(accounts) | flagged | self._nobody(accounts, people))
        users = _by_account(people)
        for at, account in zip(asked, accounts.iloc[asked].itertuples(index=False), strict=True):
            reasons[at] = self._why(account, flagged[at], users.get(str(account.account_id), []))
        return pd.Series(reasons, index=accounts.index, dtype="str")

    def in_question(self, accounts: pd.DataFrame) -> Mask:
        """The accounts of which somebody known may not be contacted by some channel; columns as for `held`."""
        accounts = accounts.reindex(columns=list(ACCOUNT)).astype(ACCOUNT)
        barred = {p for p in _persons(self._suspects) if any(self.barred(p, channel) for channel in self._channels)}
        rows = self._suspects["contact_id"].isin({person.contact_id for person in barred})
        found = accounts["crm_account_id"].isin(self._suspects["crm_account_id"][rows].dropna())
        for users in _users(accounts):
            named = users.dropna().unique()
            found |= users.isin(
                {u for u in named if any(self.barred(user_of(u), channel) for channel in self._channels)}
            )
        whether: Mask = found.to_numpy(bool)
        return whether

    def _listed(self, accounts: pd.DataFrame) -> Mask:
        """The accounts that an entry may name; each value is looked up once."""
        found = np.zeros(len(accounts), dtype=bool)
        if self._lists:
            for column in ("account_id", "crm_account_id", "domain", "domains"):
                values = accounts[column]
                named = {v for v in values.dropna().unique() if self._lists.account([v], _hosts(v))}
                found |= values.isin(named).to_numpy(bool)
        return found

    def _nobody(self, accounts: pd.DataFrame, people: pd.DataFrame | None) -> Mask:
        """The accounts of which no person of the CRM can be contacted, or, without any, not everybody else."""
        gone = pd.Series([self.unreachable(person) is not None for person in _persons(self._suspects)], dtype=bool)
        contacts = self._contacts["crm_account_id"]
        barred = pd.Series(False, index=contacts.index)
        barred.loc[self._suspects.index] = gone.to_numpy(bool)
        left = barred.groupby(contacts).all()
        records = accounts["crm_account_id"]
        alone, found = ~records.isin(left.index), records.isin(left.index[left])
        for users in _users(accounts):
            named = users[alone].dropna().unique()
            found |= alone & users.isin({user for user in named if self.unreachable(user_of(user)) is not None})
        if people is not None:
            found |= alone & accounts["account_id"].isin(people["account_id"])
        whether: Mask = found.to_numpy(bool)
        return whether

    @cached_property
    def _suspects(self) -> pd.DataFrame:
        """The contacts that something may be known against."""
        contacts = self._contacts
        if self._lists:
            return contacts
        out = set.union(*self._out.values())
        return contacts[contacts["contact_id"].isin(out) | contacts["address"].isin(out)]

    @cached_property
    def _rows(self) -> dict[str, Any]:
        """CRM account → the places of its contacts."""
        return {str(record): rows for record, rows in self._contacts.groupby("crm_account_id").indices.items()}

    def _why(self, account: Any, flagged: bool, users: Iterable[Person]) -> str | None:
        hosts = [host for value in (account.domain, account.domains, account.account_id) for host in _hosts(value)]
        if listing := self._lists.account(_texts([account.account_id, account.crm_account_id]), hosts):
            return f"it is on {listing}" if "@" in listing.entry else f"{listing.entry} is on {listing}"
        if flagged:
            return "its record in the CRM says so"
        theirs = {person: self.unreachable(person) for person in self._people(account, users)}
        if not theirs or None in theirs.values():
            return None
        told = [f"{person.name} {reason}" for person, reason in list(theirs.items())[:_TOLD]]
        more = [f"{len(theirs) - _TOLD} more"] if len(theirs) > _TOLD else []
        return f"nobody there can be contacted: {'; '.join([*told, *more])}"

    def _people(self, account: Any, users: Iterable[Person]) -> list[Person]:
        """Everybody of the account who is known by an address or in the CRM, each once."""
        theirs = list(_persons(self._contacts.iloc[self._rows.get(str(account.crm_account_id), [])]))
        known = {person.address for person in theirs if person.address}
        active = [user_of(user) for user in (account.top_user, account.contact_email) if isinstance(user, str)]
        others = {person.address: person for person in [*users, *active] if person.address}
        return [*theirs, *(person for address, person in others.items() if address not in known)]


def user_of(user_id: str) -> Person:
    """A user of the product, whose id may be an address."""
    return Person(None, user_id.strip().lower() if "@" in user_id else None, user_id)


def _users(accounts: pd.DataFrame) -> Iterator[pd.Series]:
    """Addresses of an account's users, column by column."""
    for column in ("top_user", "contact_email"):
        users = accounts[column]
        yield users.where(users.str.contains("@", regex=False).eq(True))


def _by_account(people: pd.DataFrame | None) -> dict[str, list[Person]]:
    """Account → its people of the product."""
    found: dict[str, list[Person]] = {}
    for account_id, *person in (
        zip(*(_texts(people[column]) for column in PEOPLE), strict=True) if people is not None else ()
    ):
        user_id, address = person
        found.setdefault(str(account_id), []).append(Person(None, address, user_id))
    return found


def _names(contacts: pd.DataFrame) -> set[str]:
    """The ids and addresses of these contacts."""
    return {*contacts["contact_id"].dropna(), *contacts["address"].dropna()}


def _persons(contacts: pd.DataFrame) -> Iterator[Person]:
    pairs = zip(_texts(contacts["contact_id"]), _texts(contacts["address"]), strict=True)
    return (Person(contact_id, address) for contact_id, address in pairs)


def _texts(values: Iterable[object]) -> list[str | None]:
    return [value if isinstance(value, str) else None for value in values]


def _hosts(value: object) -> Collection[str]:
    """The hosts in a domain, or in several separated by semicolons."""
    return [part.strip() for part in value.split(";") if part.strip()] if isinstance(value, str) else ()
