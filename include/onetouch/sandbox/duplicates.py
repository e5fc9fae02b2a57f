"""Duplicate rules of the org: which existing records a new one looks like, and whether it is saved all the same.

Source: Salesforce help, "Duplicate Rules" and "Matching Rules"; REST API, "Duplicate Rule Header" and "sObject
Collections"; the key `duplicateResut` is how the API spells it in the answer for a single record.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from onetouch.sandbox.fields import SObject
from onetouch.sandbox.records import DmlError
from onetouch.sandbox.store import Store

CODE: Final = "DUPLICATES_DETECTED"

_FORMS: Final = re.compile(r"\b(inc|incorporated|llc|ltd|limited|gmbh|ag|corp|corporation|co|company|plc|sa|bv)\b\.?")
"""Legal forms, which the standard matching rules for company names leave out."""


class DuplicatesError(DmlError):
    """A record that a duplicate rule has refused. `result`: the rule and the records it has matched."""

    def __init__(self, message: str, result: Mapping[str, Any]) -> None:
        super().__init__(CODE, message)
        self.result = result


def check(store: Store, sobject: SObject, values: Mapping[str, Any], *, allow_save: bool, but: str) -> None:
    """Raises DuplicatesError when a rule of the setting `duplicate_rules` does not let the new record be saved.

    A rule is {"object", "match": {object of the existing records: {field of the new record: field of theirs}},
    "action": "block" | "alert", "name", "message"}; a record matches when all the fields named are filled and alike,
    whoever may see it (rules run with the system's rights unless the org says otherwise). `allow_save`: the header
    Sforce-Duplicate-Rule-Header says allowSave=true, which overrides an alert and never a block. `but`: the id of the
    new record itself.
    """
    for rule in store.setting("duplicate_rules"):
        if rule["object"] != sobject.name or (allow_save and rule["action"] == "alert"):
            continue
        given = {name.lower(): value for name, value in values.items()}
        results = []
        for name, pairs in rule["match"].items():
            wanted = {theirs: _alike(theirs, given.get(own.lower())) for own, theirs in pairs.items()}
            if all(wanted.values()):
                results += _matches(store, store.org[name.lower()], wanted, but)
        if results:
            message = rule.get("message", "Use one of these records?")
            raise DuplicatesError(
                message,
                {
                    "allowSave": rule["action"] == "alert",
                    "duplicateRule": rule.get("name", f"Standard_{sobject.name}_Duplicate_Rule"),
                    "duplicateRuleEntityType": sobject.name,
                    "errorMessage": message,
                    "matchResults": results,
                },
            )


def _matches(store: Store, sobject: SObject, wanted: Mapping[str, str], but: str) -> list[dict[str, Any]]:
    live = "IsDeleted = 0" + (" AND IsConverted = 0" if sobject.name == "Lead" else "")
    rows = store.db.execute(f'SELECT * FROM "{sobject.name}" WHERE {live} ORDER BY CreatedDate, Id')
    found = [
        row["Id"]
        for row in rows
        if row["Id"] != but and all(_alike(name, row[name]) == value for name, value in wanted.items())
    ]
    if not found:
        return []
    records = [
        {
            "additionalInformation": [],
            "fieldDiffs": [],
            "matchConfidence": 100.0,
            "record": {
                "attributes": {"type": sobject.name, "url": f"/services/data/v62.0/sobjects/{sobject.name}/{i}"},
                "Id": i,
            },
        }
        for i in found
    ]
    return [
        {
            "entityType": sobject.name,
            "errors": [],
            "matchEngine": "FuzzyMatchEngine",
            "matchRecords": records,
            "rule": f"Standard_{sobject.name}_Match_Rule_v1_0",
            "size": len(records),
            "success": True,
        }
    ]


def _alike(field: str, value: Any) -> str:
    """What two values of a field have in common when they match; empty for one that matches nothing."""
    text = str(value or "").strip().lower()
    if field == "Website":
        return (urlsplit(text if "//" in text else f"//{text}").hostname or "").removeprefix("www.")
    if field in ("Name", "Company"):
        return re.sub(r"\W+", "", _FORMS.sub("", text))
    return text
