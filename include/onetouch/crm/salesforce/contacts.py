"""Reads the people of an org, contacts and leads, with what they have opted out of."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime

from onetouch.crm.protocol import Row, Tell, is_set
from onetouch.crm.salesforce.answers import LEAD, datetime_of
from onetouch.crm.salesforce.transport import Record, Transport, soql_of

_THINGS = ("Contact", "Lead")

_OPT_OUTS = ("do_not_call", "email_opt_out")


class Contacts:
    """Contacts and leads of one org. `fields`: the policy's `crm.contact_fields`."""

    def __init__(self, transport: Transport, fields: Mapping[str, str | None]) -> None:
        self._transport = transport
        self._fields = fields

    def changed(self, since: datetime | None, tell: Tell) -> Iterator[Row]:
        """See `Crm.read_contacts`. A converted lead counts as deleted: its contact is read instead."""
        for thing in _THINGS:
            soql = self._soql(thing, tell)
            if not soql:
                continue
            if since is not None:
                soql += soql_of(" WHERE SystemModstamp >= {since}", since=since)
            elif thing == "Lead":
                soql += " WHERE IsConverted = false"
            for record in self._transport.query(soql, include_deleted=since is not None):
                yield self._row(thing, record)

    def of(self, records: Collection[str], emails: Collection[str]) -> Iterator[Row]:
        """See `Crm.contacts_of`."""
        leads = {record for record in records if record.startswith(LEAD)}
        asked = {
            "Contact": [("AccountId", set(records) - leads), ("Email", set(emails))],
            "Lead": [("Id", leads), ("Email", set(emails))],
        }
        for thing in _THINGS:
            soql, seen = self._soql(thing, lambda _: None), set[str]()
            for field, values in asked[thing]:
                if not (soql and values and field in (self._transport.fields(thing) or {})):
                    continue
                its = f"{soql} WHERE {field} IN {{values}}" + (" AND IsConverted = false" if thing == "Lead" else "")
                for record in self._transport.query_in(its, values):
                    if record["Id"] not in seen:
                        seen.add(record["Id"])
                        yield self._row(thing, record)

    def _soql(self, thing: str, tell: Tell) -> str:
        """The query for all records of an object that are visible to us; empty when the object itself is not. Tells
        which fields are missing."""
        there = self._transport.fields(thing)
        if there is None:
            tell(f"{thing} is not visible to us, so its opt-outs are unknown: {_FIX}")
            return ""
        for name in _OPT_OUTS:
            field = self._fields.get(name)
            if field and field not in there:
                tell(
                    f"{thing}.{field} is not visible to us, so {name} of every {thing.lower()} is unknown: {_FIX}, or "
                    f"set crm.contact_fields.{name} to null if the org does not keep it"
                )
        for field in ["Email", *(["AccountId"] if thing == "Contact" else [])]:
            if field not in there:
                tell(
                    f"{thing}.{field} is not visible to us, so whose opt-out a {thing.lower()} holds is unknown: {_FIX}"
                )
        own = [field for field in self._fields.values() if field]
        wanted = ["FirstName", "LastName", "Email", "AccountId", "IsConverted", *own]
        present = [field for field in dict.fromkeys(wanted) if field in there]
        return f"SELECT {', '.join(['Id', 'IsDeleted', 'SystemModstamp', *present])} FROM {thing}"

    def _row(self, thing: str, record: Record) -> Row:
        name = " ".join(part for part in (record.get("FirstName"), record.get("LastName")) if part)
        email = str(record.get("Email") or "").strip().lower()
        title = self._fields.get("title")
        return {
            "contact_id": record["Id"],
            "kind": thing.lower(),
            # A lead belongs to no account: it is handed over as a record of its own.
            "crm_account_id": record["Id"] if thing == "Lead" else record.get("AccountId"),
            "email": email or None,
            "name": name or None,
            "title": record.get(title) if title else None,
            **{name: self._flag(record, name) for name in _OPT_OUTS},
            "is_deleted": bool(record["IsDeleted"] or record.get("IsConverted")),
            "changed_at": datetime_of(record["SystemModstamp"]),
        }

    def _flag(self, record: Record, name: str) -> bool | None:
        field = self._fields.get(name)
        if not field:
            return False
        return is_set(record[field]) if field in record else None


_FIX = "give the integration user the permission set Onetouch (include/salesforce)"
