"""Who may not be contacted, asked again right before sending: the lists' file and the accounts' contacts are read anew.

An opt-out may come between the run's reading of the CRM and the writing of the task.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd

from onetouch.consent import ACCOUNT, CHANNELS, CONTACTS, LISTED, Consent, Lists, Person, user_of
from onetouch.crm import Crm, is_set
from onetouch.lake import Lake
from onetouch.ledger import Handoff, Outbox, Run
from onetouch.policy import Policy

Listed = Callable[[], pd.DataFrame]
"""Reads the file of the policy's `never_contact` (`consent.read_listed`)."""

_NAMES = ("top_user", "contact_user", "contact_name", "contact_email", "contact_title")
"""Columns of an account that name one of its people."""


def no_list() -> pd.DataFrame:
    """No entries: the policy names no file."""
    return pd.DataFrame(columns=list(LISTED)).astype(LISTED)


@dataclass(frozen=True)
class Asked:
    """What the CRM and the lists say now. `leads`: the records that are people themselves, id → address."""

    consent: Consent
    leads: Mapping[str, str | None]

    def may_be_named(self, address: str, contact_id: str | None = None) -> bool:
        """Whether a task may name the person of this address."""
        return self.consent.may_be_named(Person(contact_id, address))


def ask(policy: Policy, crm: Crm, listed: Listed, records: Collection[str], addresses: Collection[str]) -> Asked:
    """Reads again who may be contacted: the people of these records (accounts or leads) and of these addresses.

    A policy that neither lists anybody nor names a field of opt-outs asks the CRM nothing.
    """
    lists = Lists(policy, listed())
    kept = any(getattr(policy.crm.contact_fields, column) for column in CHANNELS.values())
    rows = (
        list(crm.contacts_of(sorted(records), sorted(addresses))) if (kept or lists) and (records or addresses) else []
    )
    contacts = pd.DataFrame(rows, columns=["contact_id", "crm_account_id", "email", *CHANNELS.values()])
    contacts = contacts.rename(columns={"email": "address"})[list(CONTACTS)].astype(CONTACTS)
    leads = {str(row["contact_id"]): row["email"] for row in rows if row["kind"] == "lead"}
    return Asked(Consent(contacts, lists, policy.never_contact.channels), leads)


def known_then(lake: Lake, policy: Policy, run: Run) -> Asked:
    """What the run knew of it when it decided."""
    tables = {}
    for name, types in (("contacts", CONTACTS), ("listed", LISTED)):
        parts = ("inputs", run.run_id, f"{name}.parquet")
        tables[name] = lake.read(*parts) if lake.exists(*parts) else pd.DataFrame(columns=list(types)).astype(types)
    lists = Lists(policy, tables["listed"])
    return Asked(Consent(tables["contacts"], lists, policy.never_contact.channels), {})


def addresses_of(known: Mapping[str, Any]) -> set[str]:
    """The addresses of everybody whom an account's row may name."""
    people = known.get("people")
    rows = people.to_dict("records") if isinstance(people, pd.DataFrame) else list(people or ())
    users = [known.get("top_user"), known.get("contact_user"), *(row.get("user_id") for row in rows)]
    emails = [known.get("contact_email"), *(row.get("email") for row in rows)]
    return {text.strip().lower() for text in [*users, *emails] if isinstance(text, str) and "@" in text}


def without_barred(known: dict[str, Any], asked: Asked) -> dict[str, Any]:
    """An account's row without the people whom a task may not name."""

    def may(user_id: object, email: object = None) -> bool:
        user = user_of(user_id) if isinstance(user_id, str) else Person()
        person = user._replace(address=email.lower()) if isinstance(email, str) else user
        return asked.consent.may_be_named(person)

    kept = dict(known)
    if not may(known.get("top_user")):
        kept["top_user"] = None
    if not may(known.get("contact_user"), known.get("contact_email")):
        kept |= dict.fromkeys((name for name in _NAMES if name.startswith("contact") and name in known), None)
    people = known.get("people")
    if isinstance(people, pd.DataFrame):
        kept["people"] = people[[may(row.get("user_id"), row.get("email")) for row in people.to_dict("records")]]
    elif people:
        kept["people"] = [row for row in people if may(row.get("user_id"), row.get("email"))]
    return kept


def named_in(row: Outbox | None) -> set[str]:
    """The addresses of the people whom a stored task names."""
    record = row.payload.get("record", {}) if row is not None else {}
    named = record["named"] if "named" in record else [record.get("top_user")]
    return {text.lower() for text in named if isinstance(text, str) and "@" in text}


def barred(
    policy: Policy,
    crm: Crm,
    since: datetime,
    unseen: Iterable[Handoff],
    tasks: Mapping[str, Outbox],
    known: Iterable[Mapping[str, Any]],
    people: pd.DataFrame,
    asked: Asked,
) -> dict[str, str]:
    """Handoff id → why its account may not be contacted, or its task not be written as it is.

    `tasks`: handoff id → the stored task; `known`, `people`: what the run knows of the accounts and of the product's
    people there; `since`: the CRM's own flags of accounts that changed since then are read again.
    """
    unseen = list(unseen)
    rows = {row["account_id"]: row for row in known}
    accounts = pd.DataFrame(
        [
            {**{name: rows.get(h.account_id, {}).get(name) for name in ACCOUNT}, **_of(h, tasks.get(h.handoff_id))}
            for h in unseen
        ],
        columns=list(ACCOUNT),
    )
    flagged = _flagged(policy, crm, since)
    accounts["never_contact"] = accounts["never_contact"].eq(True) | accounts["crm_account_id"].isin(flagged)
    reasons = {}
    for handoff, why in zip(unseen, asked.consent.held(accounts, people), strict=True):
        record = handoff.crm_account_id or ""
        if isinstance(why, str):
            reasons[handoff.handoff_id] = f"never contact: {why}"
        elif record in asked.leads and not asked.consent.may_be_named(Person(record, asked.leads[record])):
            reasons[handoff.handoff_id] = "never contact: the lead itself may not be contacted"
        elif not all(map(asked.may_be_named, named_in(tasks.get(handoff.handoff_id)))):
            reasons[handoff.handoff_id] = "never contact: somebody whom the task names may not be contacted any more"
    return reasons


def _of(handoff: Handoff, task: Outbox | None) -> dict[str, Any]:
    """What is known of a handoff's account without the run's signals."""
    record = task.payload.get("record", {}) if task is not None else {}
    domain = {"domain": record["domain"]} if record.get("domain") else {}
    return {"account_id": handoff.account_id, "crm_account_id": handoff.crm_account_id} | domain


def _flagged(policy: Policy, crm: Crm, since: datetime) -> set[str]:
    """Records whose own flag says so, among those changed since then."""
    if not policy.crm.account_fields.get("never_contact"):
        return set()
    changed = crm.read_accounts(policy, since)
    return {str(row["crm_account_id"]) for row in changed if is_set(row.get("never_contact"))}
