"""Reads the people of an account, HubSpot's contacts, with what they have opted out of."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime

from onetouch.crm.hubspot import fields
from onetouch.crm.hubspot.answers import MERGED, merged_ids
from onetouch.crm.hubspot.records import Filter, Record, Records, parts
from onetouch.crm.protocol import Refused, Row, Tell, is_set

_TOGETHER = 1_000
"""Ours: contacts whose companies are requested at once."""

_CHANGED = "lastmodifieddate"
"""The property of a contact's last change; other objects call it hs_lastmodifieddate."""

_OPT_OUTS = ("do_not_call", "email_opt_out")

_NAMED = ("email", "firstname", "lastname", _CHANGED)


class Contacts:
    """Contacts of one account. `given`: the policy's `crm.contact_fields`."""

    def __init__(self, records: Records, given: Mapping[str, str | None]) -> None:
        self._records = records
        self._given = {name: own for name, field in given.items() if field and (own := fields.contact_property(field))}
        self._held: dict[str, str] | None = None

    def changed(self, since: datetime | None, tell: Tell) -> Iterator[Row]:
        """See `Crm.read_contacts`. A contact belongs to its primary company."""
        if not self._visible(tell):
            return
        if since is None:
            yield from self._rows(self._records.all("contacts", self._wanted()))
            return
        changed: Filter = {"propertyName": _CHANGED, "operator": "GTE", "value": fields.milliseconds(since)}
        yield from self._rows(self._records.search("contacts", self._wanted(), [changed]))
        for record in self._records.deleted_since("contacts", self._wanted(), since):
            yield self._row(record, None)
        merged: Filter = {"propertyName": MERGED, "operator": "HAS_PROPERTY"}
        for record in self._records.search("contacts", [MERGED], [merged, changed]):
            for old in merged_ids(record):
                yield self._row({"id": old, "archived": True, "properties": {}}, None)

    def of(self, companies: Collection[str], emails: Collection[str]) -> Iterator[Row]:
        """See `Crm.contacts_of`."""
        if not self._visible(lambda _: None):
            return
        theirs = self._records.contacts_of(companies)
        found = {record["id"]: record for record in self._records.of_ids("contacts", sorted(theirs), self._wanted())}
        by_address = self._records.of_ids("contacts", sorted(set(emails)), self._wanted(), key="email")
        yield from self._rows((found | {record["id"]: record for record in by_address}).values())

    def _visible(self, tell: Tell) -> bool:
        """Whether the app may read contacts; tells which properties are missing. The definitions are read once."""
        if self._held is None:
            try:
                there = self._records.definitions("contacts")
            except Refused as refused:
                if refused.status != 403:
                    raise
                tell(
                    "contacts are not visible to us, so all opt-outs are unknown: give the private app the scope "
                    "crm.objects.contacts.read"
                )
                return False
            self._held = {name: wanted for name, wanted in self._given.items() if wanted in there}
        for name in _OPT_OUTS:
            if self._hidden(name):
                tell(
                    f"contacts.{self._given[name]} is no property, so {name} of every contact is unknown: name the "
                    f"property in crm.contact_fields.{name}, or set that to null if the account keeps none"
                )
        return True

    def _hidden(self, name: str) -> bool:
        """Whether the policy names a property for it that is not there."""
        return name in self._given and name not in (self._held or {})

    def _wanted(self) -> list[str]:
        return [*_NAMED, *(self._held or {}).values()]

    def _rows(self, records: Iterable[Record]) -> Iterator[Row]:
        for part in parts(records, _TOGETHER):
            companies = self._records.companies_of("contacts", [record["id"] for record in part])
            for record in part:
                yield self._row(record, companies.get(record["id"]))

    def _row(self, record: Record, company: str | None) -> Row:
        properties, held = record["properties"], self._held or {}
        name = " ".join(part for part in (properties.get("firstname"), properties.get("lastname")) if part)
        email = str(properties.get("email") or "").strip().lower()
        changed = record.get("archivedAt") or properties.get(_CHANGED) or record.get("updatedAt")
        return {
            "contact_id": record["id"],
            "kind": "contact",
            "crm_account_id": company,
            "email": email or None,
            "name": name or None,
            "title": properties.get(held["title"]) if "title" in held else None,
            **{name: None if self._hidden(name) else is_set(properties.get(held.get(name, ""))) for name in _OPT_OUTS},
            "is_deleted": bool(record.get("archived")),
            "changed_at": fields.datetime_of(changed),
        }
