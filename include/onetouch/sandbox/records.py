"""An org's rules for records: types, lengths, required fields, references, and fields derived by the system."""

from __future__ import annotations

import math
import re
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from onetouch.sandbox.customs import record_types, violated
from onetouch.sandbox.fields import CLOSED, Field, SObject, full_id, make_id
from onetouch.sandbox.store import INTEGRATION_USER, Store

_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_DATETIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:?\d\d)")


class DmlError(Exception):
    """A refused record, with statusCode, message and fields as in the API's answer."""

    def __init__(self, code: str, message: str, *fields: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.fields = list(fields)


class Records:
    """Reads and writes records of the org by its rules."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.db = store.db

    def row(self, sobject: SObject, record_id: str) -> sqlite3.Row | None:
        """The stored record, deleted or not."""
        found: sqlite3.Row | None
        found = self.db.execute(f'SELECT * FROM "{sobject.name}" WHERE Id = ?', (record_id,)).fetchone()
        return found

    def find(self, sobject: SObject, field: Field, value: Any) -> list[str]:
        """Ids of the records with that value that are not deleted."""
        rows = self.db.execute(
            f'SELECT Id FROM "{sobject.name}" WHERE {field.name} = ? AND IsDeleted = 0', (clean(field, value),)
        )
        return [row["Id"] for row in rows]

    def insert(self, sobject: SObject, values: Mapping[str, Any]) -> str:
        """Creates a record and returns its id. Raises DmlError."""
        _check_right(sobject, "create")
        given = self._clean_all(sobject, values, creating=True)
        sobject = self.store.org[sobject.name.lower()]  # the system sees every field, even if the caller does not
        if sobject.name == "Event":
            _check_times(given)
        if sobject.name == "Account":
            given |= _person(given, is_person=bool(given.get("LastName")))
        missing = [f.name for f in sobject.fields.values() if f.required and given.get(f.name) is None]
        if missing:
            raise DmlError("REQUIRED_FIELD_MISSING", f"Required fields are missing: [{', '.join(missing)}]", *missing)
        for field in sobject.fields.values():
            if given.get(field.name) is None and field.default is not None:
                given[field.name] = int(field.default) if field.type == "boolean" else field.default
        if sobject.find("OwnerId") and not given.get("OwnerId"):
            given["OwnerId"] = INTEGRATION_USER
        stamp = self.store.stamp()
        given |= {
            "Id": make_id(sobject.prefix, 1_000_000 + self.store.next_number()),
            "CreatedDate": stamp,
            "CreatedById": INTEGRATION_USER,
        }
        self._check_validations(sobject, given)
        self._write(sobject, given, {}, stamp)
        if given.get("IsPersonAccount"):
            self._write_person(given, stamp)
        return str(given["Id"])

    def _write_person(self, account: Mapping[str, Any], stamp: str) -> None:
        """The contact that a person account is, seen as a person."""
        contact = self.store.org["contact"]
        row = self.row(self.store.org["account"], account["Id"])
        contact_id = row["PersonContactId"] if row else None
        person = {"FirstName": "FirstName", "LastName": "LastName", "Email": "PersonEmail", "OwnerId": "OwnerId"}
        values = {name: account[field] for name, field in person.items() if field in account}
        if contact_id:
            before = dict(self.row(contact, contact_id) or {})
            self._write(contact, {"Id": contact_id} | values, before, stamp)
            return
        contact_id = make_id(contact.prefix, 1_000_000 + self.store.next_number())
        made = {"Id": contact_id, "CreatedDate": stamp, "CreatedById": INTEGRATION_USER, "AccountId": account["Id"]}
        self._write(contact, made | values, {}, stamp)
        self.db.execute("UPDATE Account SET PersonContactId = ? WHERE Id = ?", (contact_id, account["Id"]))

    def update(self, sobject: SObject, record_id: str, values: Mapping[str, Any]) -> None:
        """Changes fields of a record that is not deleted. Raises DmlError."""
        _check_right(sobject, "edit")
        row = self.row(sobject, record_id)
        if row is None:
            raise DmlError("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id")
        if row["IsDeleted"]:
            raise DmlError("ENTITY_IS_DELETED", "entity is deleted")
        if sobject.name == "Lead" and row["IsConverted"]:
            raise DmlError("CANNOT_UPDATE_CONVERTED_LEAD", "cannot reference converted lead")
        given = self._clean_all(sobject, values, creating=False)
        sobject = self.store.org[sobject.name.lower()]
        if sobject.name == "Account":
            given |= _person(given, is_person=bool(row["IsPersonAccount"]), before=dict(row))
        emptied = [f.name for f in sobject.fields.values() if f.required and f.name in given and given[f.name] is None]
        if emptied:
            raise DmlError("REQUIRED_FIELD_MISSING", f"Required fields are missing: [{', '.join(emptied)}]", *emptied)
        self._check_validations(sobject, {**dict(row), **given})
        stamp = self.store.stamp()
        self._write(sobject, {"Id": record_id} | given, dict(row), stamp)
        if sobject.name == "Account" and row["IsPersonAccount"]:
            self._write_person({"Id": record_id} | given, stamp)

    def delete(self, sobject: SObject, record_id: str) -> None:
        """Moves a record to the recycle bin. Raises DmlError."""
        _check_right(sobject, "delete")
        row = self.row(sobject, record_id)
        if row is None:
            raise DmlError("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id")
        if row["IsDeleted"]:
            raise DmlError("ENTITY_IS_DELETED", "entity is deleted")
        stamp = self.store.stamp()
        for name, column in ((sobject.name, "Id"), *_CHILDREN.get(sobject.name, ())):
            self.db.execute(
                f'UPDATE "{name}" SET IsDeleted = 1, SystemModstamp = ?, LastModifiedDate = ?'
                f" WHERE {column} = ? AND IsDeleted = 0",
                (stamp, stamp, record_id),
            )

    def merge(self, sobject: SObject, winner: str, losers: Sequence[str], values: Mapping[str, Any]) -> None:
        """Merges up to two records into `winner`, as a person does: it gets their child records, and they are deleted.

        `values`: field values that the winner takes over from them. Raises DmlError.
        """
        if sobject.name not in ("Account", "Contact", "Lead") or not 1 <= len(losers) <= 2 or winner in losers:
            raise DmlError("INVALID_OPERATION", "merge: one or two other accounts, contacts or leads")
        stamp = self.store.stamp()
        for loser in losers:
            row = self.row(sobject, loser)
            if row is None or row["IsDeleted"]:
                raise DmlError("ENTITY_IS_DELETED" if row else "INVALID_CROSS_REFERENCE_KEY", f"merge: {loser}")
            for name, _ in _CHILDREN[sobject.name]:
                for field in ("WhatId", "WhoId", "AccountId"):
                    if self.store.org[name.lower()].find(field):
                        # Moving a child record changes its SystemModstamp but not who modified it last.
                        self.db.execute(
                            f'UPDATE "{name}" SET {field} = ?, SystemModstamp = ? WHERE {field} = ?',
                            (winner, stamp, loser),
                        )
            self.db.execute(
                f'UPDATE "{sobject.name}" SET IsDeleted = 1, MasterRecordId = ?, SystemModstamp = ?,'
                " LastModifiedDate = ? WHERE Id = ?",
                (winner, stamp, stamp, loser),
            )
        self.update(sobject, winner, values)

    def convert(self, lead_id: str, account_id: str | None) -> tuple[str, str]:
        """Converts a lead, as a person does, into a contact of the given account or of a new one.

        Our fields are copied (Map Lead Fields), but do not overwrite values of the account; the lead's activities move.
        Returns the ids of account and contact. Raises DmlError.
        """
        lead, account, contact = (self.store.org[name] for name in ("lead", "account", "contact"))
        row = self.row(lead, lead_id)
        if row is None or row["IsDeleted"] or row["IsConverted"]:
            raise DmlError("CANNOT_UPDATE_CONVERTED_LEAD", f"convert: {lead_id}: no lead that can be converted")
        before = self.row(account, account_id) if account_id else None
        ours = {
            f.name: bool(row[f.name]) if f.type == "boolean" else row[f.name]
            for f in lead.fields.values()
            if f.name.endswith("__c") and row[f.name] and not (before and before[f.name])
        }
        if account_id:
            self.update(account, account_id, ours)
        else:
            same = {"Name": row["Company"], "Website": row["Website"], "OwnerId": row["OwnerId"]}
            account_id = self.insert(account, same | ours)
        person = {name: row[name] for name in ("FirstName", "LastName", "Email", "Title", "OwnerId")}
        person |= {name: bool(row[name]) for name in ("DoNotCall", "HasOptedOutOfEmail")}
        contact_id = self.insert(contact, {**person, "AccountId": account_id})
        stamp = self.store.stamp()
        self.db.execute(
            "UPDATE Lead SET IsConverted = 1, Status = 'Closed - Converted', ConvertedDate = ?, ConvertedAccountId = ?,"
            " ConvertedContactId = ?, SystemModstamp = ?, LastModifiedDate = ? WHERE Id = ?",
            (stamp[:10], account_id, contact_id, stamp, stamp, lead_id),
        )
        for name in ("Task", "Event"):
            self.db.execute(
                f'UPDATE "{name}" SET WhoId = ?, WhatId = ?, AccountId = ?, SystemModstamp = ? WHERE WhoId = ?',
                (contact_id, account_id, account_id, stamp, lead_id),
            )
        return account_id, contact_id

    def undelete(self, sobject: SObject, record_id: str) -> None:
        """Restores a record from the recycle bin together with the records deleted with it. Raises DmlError when it
        cannot be restored."""
        row = self.row(sobject, record_id)
        if row is None or not row["IsDeleted"]:
            raise DmlError("UNDELETE_FAILED", f"undelete: {record_id} is not in the recycle bin")
        stamp = self.store.stamp()
        for name, column in ((sobject.name, "Id"), *_CHILDREN.get(sobject.name, ())):
            try:
                self.db.execute(
                    f'UPDATE "{name}" SET IsDeleted = 0, SystemModstamp = ?, LastModifiedDate = ?'
                    f" WHERE {column} = ? AND IsDeleted = 1 AND SystemModstamp = ?",
                    (stamp, stamp, record_id, row["SystemModstamp"]),
                )
            except sqlite3.IntegrityError as error:
                raise DmlError("DUPLICATE_VALUE", f"undelete: a unique value of {name} is another's by now") from error

    def purge(self) -> int:
        """Empties the recycle bin: no query finds those records any more. Returns how many there were."""
        return sum(
            self.db.execute(f'DELETE FROM "{sobject.name}" WHERE IsDeleted = 1').rowcount
            for sobject in self.store.org.values()
        )

    def load(self, sobject: SObject, values: Mapping[str, Any]) -> None:
        """Stores a record unchanged, system fields included; an existing record with the same id takes the new values.

        For the stand-in's tooling. Raises DmlError on unknown fields and wrong types.
        """
        record_id = full_id(values.get("Id"))
        if not record_id or not record_id.startswith(sobject.prefix):
            raise DmlError("MALFORMED_ID", f"Id: {values.get('Id')!r} is no id of {sobject.name}", "Id")
        given: dict[str, Any] = {}
        for name, value in values.items():
            if name == "attributes":
                continue
            field = sobject.find(name)
            if not field:
                raise DmlError("INVALID_FIELD", f"No such column '{name}' on sobject of type {sobject.name}", name)
            given[field.name] = clean(field, value)
        row = self.row(sobject, record_id)
        created = given.get("CreatedDate") or (row and row["CreatedDate"]) or self.store.stamp()
        if row is None:
            for field in sobject.fields.values():
                if field.default is not None and given.get(field.name) is None:
                    given[field.name] = int(field.default) if field.type == "boolean" else field.default
            if sobject.find("OwnerId") and not given.get("OwnerId"):
                given["OwnerId"] = INTEGRATION_USER
        given |= {"Id": record_id, "CreatedDate": created}
        stamp = given.get("SystemModstamp") or (self.store.stamp() if row else created)
        self._write(sobject, given, dict(row) if row else {}, stamp)

    # -- inside

    def _clean_all(self, sobject: SObject, values: Mapping[str, Any], *, creating: bool) -> dict[str, Any]:
        given: dict[str, Any] = {}
        forbidden = []
        for name, value in values.items():
            if name == "attributes":
                continue
            field = sobject.find(name)
            if not field:
                raise DmlError("INVALID_FIELD", f"No such column '{name}' on sobject of type {sobject.name}")
            if not (field.createable if creating else field.updateable):
                forbidden.append(field.name)
                continue
            given[field.name] = clean(field, value)
            if field.type == "reference" and given[field.name]:
                self._check_reference(sobject, field, given[field.name])
            if field.name == "RecordTypeId" and given[field.name]:
                self._check_record_type(sobject, given[field.name])
        if forbidden:
            raise DmlError(
                "INVALID_FIELD_FOR_INSERT_UPDATE",
                f"Unable to create/update fields: {', '.join(forbidden)}. Please check the security settings of this"
                " field and verify that it is read/write for your profile or permission set.",
                *forbidden,
            )
        return given

    def _check_record_type(self, sobject: SObject, record_id: str) -> None:
        known = [t["recordTypeId"] for t in record_types(sobject.name, self.store.rules) if t["available"]]
        if record_id not in known:
            message = f"Record Type ID: this ID value isn't valid for the user: {record_id}"
            raise DmlError("INVALID_CROSS_REFERENCE_KEY", message, "RecordTypeId")

    def _check_validations(self, sobject: SObject, after: Mapping[str, Any]) -> None:
        if rule := violated(sobject.name, after, self.store.rules):
            fields = [rule["field"]] if rule.get("field") else []
            raise DmlError("FIELD_CUSTOM_VALIDATION_EXCEPTION", rule["message"], *fields)

    def _check_reference(self, sobject: SObject, field: Field, record_id: str) -> None:
        target = next((t for t in self.store.org.values() if t.prefix == record_id[:3]), None)
        if not target or target.name not in field.references:
            label = field.label or field.name
            raise DmlError("FIELD_INTEGRITY_EXCEPTION", f"{label}: id value of incorrect type: {record_id}", field.name)
        row = self.row(target, record_id)
        if row is None:
            raise DmlError("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", field.name)
        if row["IsDeleted"]:
            raise DmlError("ENTITY_IS_DELETED", "entity is deleted", field.name)
        if target.name == "Account" and row["IsPersonAccount"] and sobject.name in ("Contact", "Task", "Event"):
            # The person is named in WhoId by its contact; nobody else belongs to the account.
            label = field.label or field.name
            raise DmlError("FIELD_INTEGRITY_EXCEPTION", f"{label}: is a person account: {record_id}", field.name)
        if field.name == "OwnerId" and target.name == "User" and not row["IsActive"]:
            raise DmlError(
                "INACTIVE_OWNER_OR_USER",
                f"operation performed with inactive user [{record_id}] as owner of {sobject.name.lower()}",
                field.name,
            )

    def _write(self, sobject: SObject, given: dict[str, Any], before: Mapping[str, Any], stamp: str) -> None:
        after = {**before, **given}
        derived = self._derive(sobject, after, before, given, stamp)
        values = {
            **given,
            **derived,
            "LastModifiedDate": given.get("LastModifiedDate") or stamp,
            "LastModifiedById": given.get("LastModifiedById") or INTEGRATION_USER,
            "SystemModstamp": stamp,
        }
        for field in sobject.fields.values():
            if field.unique and values.get(field.name) is not None:
                twins = [twin for twin in self.find(sobject, field, values[field.name]) if twin != given["Id"]]
                if twins:
                    raise DmlError(
                        "DUPLICATE_VALUE",
                        f"duplicate value found: {field.name} duplicates value on record with id: {twins[0][:15]}",
                    )
        columns = ", ".join(values)
        marks = ", ".join(f":{name}" for name in values)
        changes = ", ".join(f"{name} = excluded.{name}" for name in values if name != "Id")
        self.db.execute(
            f'INSERT INTO "{sobject.name}" ({columns}) VALUES ({marks}) ON CONFLICT (Id) DO UPDATE SET {changes}',
            values,
        )

    def _derive(
        self,
        sobject: SObject,
        after: Mapping[str, Any],
        before: Mapping[str, Any],
        given: Mapping[str, Any],
        stamp: str,
    ) -> dict[str, Any]:
        """The fields the system fills in."""
        derived: dict[str, Any] = {}
        if sobject.name in ("Task", "Event"):
            what, who = after.get("WhatId"), after.get("WhoId")
            if what and who and who.startswith("00Q"):
                message = "Related To ID: a task of a lead (WhoId) cannot be related to another record (WhatId)"
                raise DmlError("FIELD_INTEGRITY_EXCEPTION", message, "WhatId")
            derived["AccountId"] = self._account_of(what or who)
        if sobject.name == "Event":
            derived |= _times(after, given)
        if sobject.name == "Task":
            closed = after["Status"] in (self.store.rules.get("closed") or [CLOSED])
            derived["IsClosed"] = int(closed)
            if closed and not before.get("IsClosed"):
                derived["CompletedDateTime"] = given.get("CompletedDateTime") or stamp
            elif not closed:
                derived["CompletedDateTime"] = None
        if sobject.name == "Opportunity":
            derived["IsClosed"] = int(str(after.get("StageName")).startswith("Closed"))
            derived["IsWon"] = int(after.get("StageName") == "Closed Won")
        return derived

    def _account_of(self, related: str | None) -> str | None:
        if not related:
            return None
        if related.startswith("001"):
            return related
        table = {"006": "Opportunity", "003": "Contact"}.get(related[:3])
        if not table:
            return None
        row = self.db.execute(f'SELECT AccountId FROM "{table}" WHERE Id = ?', (related,)).fetchone()
        return row["AccountId"] if row else None


def _person(given: Mapping[str, Any], *, is_person: bool, before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What follows for an account from the fields of its person. Raises DmlError for fields of the other kind."""
    wrong = [name for name in (("Name",) if is_person else ("FirstName", "LastName", "PersonEmail")) if given.get(name)]
    if wrong:
        message = f"Account: bad field names on insert/update call: {', '.join(wrong)}"
        raise DmlError("INVALID_FIELD_FOR_INSERT_UPDATE", message, *wrong)
    if not is_person:
        return {}
    after = {**(before or {}), **given}
    name = " ".join(part for part in (after.get("FirstName"), after.get("LastName")) if part)
    return {"IsPersonAccount": 1, "Name": name}


def _check_right(sobject: SObject, right: str) -> None:
    if right not in sobject.allows:
        message = f"insufficient access rights on object id: {sobject.name} does not allow to {right}"
        raise DmlError("INSUFFICIENT_ACCESS_OR_READONLY", message)


_CHILDREN: Final = {
    "Account": (("Contact", "AccountId"), ("Opportunity", "AccountId"), ("Task", "AccountId"), ("Event", "AccountId")),
    "Opportunity": (("Task", "WhatId"), ("Event", "WhatId")),
    "Contact": (("Task", "WhoId"), ("Event", "WhoId")),
    "Lead": (("Task", "WhoId"), ("Event", "WhoId")),
}
"""Object → its child records, which are deleted with a record of it: (object, field that refers to the record)."""


def _check_times(given: Mapping[str, Any]) -> None:
    """A new event has a start and an end or a duration. Raises DmlError."""
    if not any(given.get(name) for name in ("StartDateTime", "ActivityDateTime", "ActivityDate")):
        missing = ("ActivityDateTime",)
    elif given.get("EndDateTime") or given.get("DurationInMinutes") is not None or given.get("IsAllDayEvent"):
        return
    else:
        missing = ("DurationInMinutes",)
    raise DmlError("REQUIRED_FIELD_MISSING", f"Required fields are missing: [{', '.join(missing)}]", *missing)


def _times(after: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Start, end and duration of an event, completed from the given ones. Raises DmlError when they contradict."""
    start = given.get("StartDateTime") or given.get("ActivityDateTime") or after.get("StartDateTime")
    if not start:
        return {}
    begins = datetime.fromisoformat(start)
    minutes, end = given.get("DurationInMinutes"), given.get("EndDateTime")
    if end:
        length = (datetime.fromisoformat(end) - begins).total_seconds() / 60
        if length < 0 or (minutes is not None and minutes != length):
            raise DmlError("FIELD_INTEGRITY_EXCEPTION", "Event duration and end contradict each other", "EndDateTime")
        minutes = length
    elif minutes is None:
        minutes = after.get("DurationInMinutes") or 0
    ends = begins + timedelta(minutes=minutes)
    return {
        "StartDateTime": start,
        "ActivityDateTime": start,
        "ActivityDate": start[:10],
        "EndDateTime": f"{ends:%Y-%m-%dT%H:%M:%S}.000+0000",
        "DurationInMinutes": int(minutes),
    }


def _refuse(field: Field, value: Any, kind: str) -> DmlError:
    token = {bool: "VALUE_TRUE" if value is True else "VALUE_FALSE", int: "VALUE_NUMBER_INT"}.get(type(value), "")
    token = token or {float: "VALUE_NUMBER_FLOAT", str: "VALUE_STRING", dict: "START_OBJECT"}.get(type(value), "")
    message = f"Cannot deserialize instance of {kind} from {token or 'START_ARRAY'} value {value}"
    return DmlError("JSON_PARSER_ERROR", f"{message} or request may be missing a required field", field.name)


def clean(field: Field, value: Any) -> Any:
    """A JSON value as the org stores it in `field`. Raises DmlError."""
    if value is None or value == "":
        if field.type == "boolean" and value is None:
            raise DmlError(
                "INVALID_TYPE_ON_FIELD_IN_RECORD", f"{field.name}: value not of required type: null", field.name
            )
        if value is None or field.is_text:
            return None
    if field.type == "boolean":
        if not isinstance(value, bool):
            raise _refuse(field, value, "boolean")
        return int(value)
    if field.type in ("int", "double", "currency", "percent"):
        return _number(field, value)
    if field.type in ("date", "datetime"):
        return _time(field, value)
    if not isinstance(value, str):
        raise _refuse(field, value, "string")
    if field.is_id:
        record_id = full_id(value)
        if not record_id:
            label = field.label or field.name
            raise DmlError("MALFORMED_ID", f"{label}: id value of incorrect type: {value}", field.name)
        return record_id
    return _text(field, value)


def _text(field: Field, value: str) -> str | None:
    text = value if field.type == "longtextarea" else value.strip()
    # Salesforce refuses characters that XML cannot hold.
    if bad := re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]", text):
        raise DmlError("JSON_PARSER_ERROR", f"Illegal character ((CTRL-CHAR, code {ord(bad[0])}))", field.name)
    # Lengths are in UTF-16 units, line breaks of long text count as two characters.
    length = len(text.encode("utf-16-le", "surrogatepass")) // 2
    if field.type == "longtextarea":
        length += text.replace("\r\n", "").count("\n")
    label = field.label or field.name
    if field.type == "picklist" and field.restricted and field.values and text and text not in field.values:
        message = f"{label}: bad value for restricted picklist field: {text}"
        raise DmlError("INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", message, field.name)
    if length > field.length:
        shown = text if len(text) < 255 else text[:255] + "..."
        message = f"{label}: data value too large: {shown} (max length={field.length})"
        raise DmlError("STRING_TOO_LONG", message, field.name)
    if field.type == "email" and text and not _EMAIL.fullmatch(text):
        raise DmlError("INVALID_EMAIL_ADDRESS", f"{label}: invalid email address: {text}", field.name)
    return text or None


def _number(field: Field, value: Any) -> float | int:
    kind = "int" if field.type == "int" else "double"
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise _refuse(field, value, kind)
    try:
        number = Decimal(str(value))
    except ArithmeticError as error:
        raise _refuse(field, value, kind) from error
    if not number.is_finite() or (kind == "int" and number != number.to_integral_value()):
        raise _refuse(field, value, kind)
    if abs(number) >= Decimal(10) ** (field.precision - field.scale):
        message = f"{field.label or field.name}: value outside of valid range on numeric field: {value}"
        raise DmlError("NUMBER_OUTSIDE_VALID_RANGE", message, field.name)
    if kind == "int":
        return int(number)
    rounded = float(round(number, field.scale))
    return rounded if math.isfinite(rounded) else 0.0


def _time(field: Field, value: Any) -> str:
    if not isinstance(value, str):
        raise _refuse(field, value, field.type)
    try:
        if field.type == "date":
            return date.fromisoformat(value[:10] if _DATETIME.fullmatch(value) else value).isoformat()
        if not _DATETIME.fullmatch(value):
            raise ValueError(value)
        moment = datetime.fromisoformat(value).astimezone(UTC)
    except ValueError as error:
        raise _refuse(field, value, field.type) from error
    if not 1700 <= moment.year <= 4000:
        raise DmlError("INVALID_TYPE_ON_FIELD_IN_RECORD", f"{field.name}: year {moment.year} out of range", field.name)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.000+0000"
