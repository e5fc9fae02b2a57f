"""Person accounts: accounts that are a person, in orgs that have them.

Such an account has no name of its own but the first and last name of its person, and a contact that is the same record
seen as a person. Sources: Salesforce Object Reference, Account ("IsPersonAccount", "PersonContactId", "LastName");
b2c-crm-sync issue 267 (a Name is refused).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from onetouch.crm.protocol import Row
from onetouch.crm.salesforce.fields import ACCOUNT_ID, contact_fields
from onetouch.crm.salesforce.transport import Record, Transport

IS_PERSON = "IsPersonAccount"


class Persons:
    """The person accounts of one org; an org without them has no such fields, and nothing is asked."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @property
    def there(self) -> bool:
        """Whether the org has person accounts."""
        return IS_PERSON in (self._transport.fields("Account") or {})

    def of_addresses(self, emails: Mapping[str, str]) -> dict[str, str]:
        """Account id → the person account with this address that has no id of ours, the first created of several."""
        if not emails or not self.there or "PersonEmail" not in (self._transport.fields("Account") or {}):
            return {}
        soql = f"SELECT Id, PersonEmail, {ACCOUNT_ID} FROM Account WHERE {IS_PERSON} = true AND PersonEmail IN "
        found: dict[str, str] = {}
        records = self._transport.query_in(f"{soql}{{values}} ORDER BY CreatedDate, Id", emails.values())
        for record in records:
            if not record[ACCOUNT_ID]:
                found.setdefault(record["PersonEmail"].lower(), record["Id"])
        return {a: found.pop(email) for a, email in sorted(emails.items()) if email in found}

    def contacts(self, accounts: Collection[str]) -> dict[str, str]:
        """Person account → its contact, of those among the accounts."""
        if not accounts or not self.there:
            return {}
        soql = f"SELECT Id, PersonContactId FROM Account WHERE {IS_PERSON} = true AND Id IN {{values}}"
        return {r["Id"]: r["PersonContactId"] for r in self._transport.query_in(soql, accounts) if r["PersonContactId"]}

    def fields(self, account_id: str, row: Row, email: str) -> Record:
        """The fields of a new person account. It has no Name: that is what its person is called."""
        name = str((row.get("contact") or {}).get("name") or row.get("name") or "")
        named = {"name": name or email or account_id, "email": email or None, "crm_account_id": None}
        person = contact_fields(named | {"owner_id": row.get("owner_id")})
        told = {"PersonEmail" if field == "Email" else field: value for field, value in person.items()}
        there = self._transport.fields("Account") or {}
        return {field: value for field, value in told.items() if field in there} | {ACCOUNT_ID: account_id}
