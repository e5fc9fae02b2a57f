"""Rules of the simulated org's own: fields, pick-list values, record types, validation rules, and its currencies.

They are set through the tooling as one document, whose keys are all optional:

- `fields`: object → list of fields as keywords of `fields.Field`; one of a name that exists replaces parts of it
  (`{"name": "Status", "values": ["Offen", "Erledigt"]}`).
- `closed`: the statuses of a task that count as closed.
- `record_types`: object → list of {developer_name, available (true)}.
- `validations`: list of {object, message, field, when: {field: value}}: a record whose fields have all these values is
  refused when it is created or changed (FIELD_CUSTOM_VALIDATION_EXCEPTION); a value of null is an empty field.
- `currencies`: ISO code → units of it for one of the corporate currency, whose rate is 1; then every record with an
  amount has a CurrencyIsoCode (by default the corporate currency).
- `dated_rates`: list of {currency, start, next_start, rate}, days as ISO text.
- `admins`: ids of the users who may customise the application.
- `queues`: ids of groups (00G…) that may own leads and accounts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields as dataclass_fields
from dataclasses import replace
from typing import Any, Final

from onetouch.sandbox.fields import Field, SObject, make_id

KEYS: Final = (
    "fields", "closed", "record_types", "validations", "currencies", "dated_rates", "admins", "queues",
)  # fmt: skip

WITH_AMOUNTS: Final = ("Account", "Lead", "Opportunity")

_OF_A_FIELD: Final = {f.name for f in dataclass_fields(Field)}


def customised(org: Mapping[str, SObject], rules: Mapping[str, Any]) -> dict[str, SObject]:
    """The org's sObjects with the fields of the rules. Raises ValueError for rules that are not valid."""
    if unknown := rules.keys() - set(KEYS):
        raise ValueError(f"rules {sorted(unknown)[0]}: known are {', '.join(KEYS)}")
    changed = dict(org)
    for name, given in _fields(rules):
        sobject = changed.get(name.lower())
        if sobject is None or not isinstance(given, dict) or not isinstance(given.get("name"), str):
            raise ValueError(f"rules fields {name} {given!r}: an sObject of the org, and fields with a name")
        if stranger := given.keys() - _OF_A_FIELD:
            raise ValueError(f"rules fields {name}.{given['name']}: no {sorted(stranger)[0]}")
        parts: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in given.items()
        }
        known = sobject.find(given["name"])
        field = replace(known, **parts) if known else Field(**{"type": "string", **parts})
        changed[name.lower()] = replace(sobject, fields=sobject.fields | {field.name.lower(): field})
    return changed


def _fields(rules: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, given in (rules.get("fields") or {}).items():
        for field in given:
            yield name, field
    for name in rules.get("record_types") or {}:
        yield name, {"name": "RecordTypeId", "type": "string", "length": 18, "label": "Record Type ID"}
    if currencies := rules.get("currencies"):
        corporate = next((code for code, rate in currencies.items() if rate == 1), None)
        if corporate is None:
            raise ValueError("rules currencies: one has the rate 1, the corporate currency")
        for name in WITH_AMOUNTS:
            code = {"name": "CurrencyIsoCode", "type": "picklist", "label": "Currency", "values": list(currencies)}
            yield name, code | {"default": corporate}


def record_types(sobject: str, rules: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The record types of an object as in its describe result; the master type is always there."""
    given = (rules.get("record_types") or {}).get(sobject, ())
    master = {"developerName": "Master", "recordTypeId": "012000000000000AAA", "available": True, "active": True}
    return [
        master | {"master": True},
        *(
            {
                "developerName": known["developer_name"],
                "recordTypeId": make_id("012", number),
                "available": known.get("available", True),
                "active": True,
                "master": False,
            }
            for number, known in enumerate(given, 1)
        ),
    ]


def violated(sobject: str, after: Mapping[str, Any], rules: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The first validation rule that refuses the record as it would be; None: all let it pass."""
    for rule in rules.get("validations") or ():
        if rule["object"] == sobject and all(after.get(name) == value for name, value in rule.get("when", {}).items()):
            found: Mapping[str, Any] = rule
            return found
    return None
