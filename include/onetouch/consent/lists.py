"""The lists of who is never contacted: in the policy, and in a file beside it, one entry a line."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from onetouch.policy import Policy, entries_in, entry_of, host_of, is_host

LISTED = {"kind": "str", "entry": "str", "reason": "str", "line": "Int64"}
"""Columns of the entries of a file: `kind` is domain, email or id (of an account or person); `line` counts from 1."""

_SALESFORCE = re.compile(r"[A-Za-z0-9]{15}(?:[A-Za-z0-9]{3})?")


class Listing(NamedTuple):
    """One entry of a list: what it names, where it stands, and why ("": no reason is given)."""

    entry: str
    where: str
    reason: str

    def __str__(self) -> str:
        """Where it stands and why, without the entry, which may be an address."""
        return f"{self.where} ({self.reason})" if self.reason else self.where


class Lists:
    """The entries of a policy and of its file (`listed`: columns LISTED) that name an account or a person.

    A domain names all hosts below it, accounts and the people of its addresses alike. An id is that of an account of
    the product or the CRM, of a contact, or of a user. Addresses and domains are compared without regard to case.
    """

    def __init__(self, policy: Policy, listed: pd.DataFrame) -> None:
        self._of: dict[str, dict[str, Listing]] = {"domain": {}, "email": {}, "account": {}, "person": {}}
        never = policy.never_contact
        for name, kind in (("domains", "domain"), ("accounts", "account"), ("people", "person")):
            for text in getattr(never, name):
                entry, reason = entry_of(text)
                self._add(
                    "email" if kind == "person" and "@" in entry else kind, entry, f"never_contact.{name}", reason
                )
        for kind, entry, reason, line in listed[list(LISTED)].itertuples(index=False):
            for of in ("account", "person") if kind == "id" else (str(kind),):  # the file does not say whose id it is
                self._add(
                    of, str(entry), f"line {line} of never_contact.file", reason if isinstance(reason, str) else ""
                )

    def __bool__(self) -> bool:
        return any(self._of.values())

    def names(self, addresses: pd.Series, ids: pd.Series | None = None) -> pd.Series:
        """Whether an entry names the person of each address or id; each different value is looked up once."""
        found = addresses.isin(self._of["email"].keys())
        if self._of["domain"]:
            found |= self.have_host(addresses.str.replace("^.*@", "", regex=True))
        if ids is not None and self._of["person"]:
            found |= _among(ids, self._of["person"])
        return found

    def may_name(self, ids: pd.Series) -> pd.Series:
        """Whether an entry may name the account of each id."""
        return _among(ids, self._of["account"])

    def have_host(self, hosts: pd.Series) -> pd.Series:
        """Whether each host is one of a listed domain, or below it."""
        known, found = self._of["domain"], np.zeros(len(hosts), dtype=bool)
        left = hosts.astype("str").str.lower().reset_index(drop=True).dropna() if known else hosts.iloc[:0]
        while len(left):
            found[left.index[left.isin(known)]] = True
            left = left.str.replace(r"^[^.]*\.?", "", regex=True)
            left = left[left != ""]
        return pd.Series(found, index=hosts.index)

    def account(self, ids: Iterable[str | None], domains: Iterable[str | None]) -> Listing | None:
        """The entry that names an account of these ids or domains; None: none does."""
        named = (self._of["account"].get(_same_id(given)) for given in ids if given)
        return next(filter(None, named), None) or self._host(domains)

    def person(self, address: str | None, *ids: str | None) -> Listing | None:
        """The entry that names a person of this address in lower case, or of one of these ids; None: none does."""
        named = (self._of["person"].get(_same_id(given)) for given in ids if given)
        found = next(filter(None, named), None)
        if found is None and address:
            found = self._of["email"].get(address) or self._host([address.rpartition("@")[2]])
        return found

    def _host(self, domains: Iterable[str | None]) -> Listing | None:
        known = self._of["domain"]
        if not known:
            return None
        parts = [domain.lower().split(".") for domain in domains if domain]
        hosts = (".".join(part[at:]) for part in parts for at in range(len(part)))
        return next((known[host] for host in hosts if host in known), None)

    def _add(self, kind: str, entry: str, where: str, reason: str) -> None:
        key = {"domain": host_of, "email": str.lower}.get(kind, _same_id)(entry)
        self._of[kind].setdefault(key, Listing(entry, where, reason))


def read_listed(folder: Path | None, policy: Policy) -> pd.DataFrame:
    """The entries of the policy's file, in columns LISTED; empty when the policy names none.

    `folder`: that of the policy's file (None: the working directory). Raises PolicyError when the file cannot be read
    as text, or a line holds a reason without an entry: nobody is contacted on half a list.
    """
    path = file_of(folder, policy)
    entries = () if path is None else entries_in(path, "never_contact.file")
    rows = [(kind_of(its.entry), its.entry, its.reason, its.line) for its in entries]
    return pd.DataFrame(rows, columns=list(LISTED)).astype(LISTED)


def file_of(folder: Path | None, policy: Policy) -> Path | None:
    """The path of the policy's file; None when it names none."""
    name = policy.never_contact.file
    return None if name is None else (folder or Path()) / name


def kind_of(entry: str) -> str:
    """What an entry of the file names: an address has an @ within, a domain has dots, everything else is an id."""
    if "@" in entry[1:]:
        return "email"
    return "domain" if is_host(host_of(entry)) else "id"


def _among(ids: pd.Series, known: Collection[str]) -> pd.Series:
    """Whether each id may be one of those known, by its first 15 characters."""
    heads = {key[:15] for key in known}
    return ids.astype("str").str.slice(0, 15).isin(heads) if heads else pd.Series(False, index=ids.index)


def _same_id(given: str) -> str:
    """An id as it is compared: Salesforce's have 15 characters, or 18 with a checksum."""
    return given[:15] if len(given) in (15, 18) and _SALESFORCE.fullmatch(given) else given
