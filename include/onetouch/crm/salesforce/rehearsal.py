"""Finds what an org's own rules would refuse, before the first task: from describe, and by a write that is undone.

The records that would be written are built by the functions that build the real ones. Each is compared with describe,
which shows all that it knows of at once. Then it is written in a composite request that fails on purpose at its last
part (`allOrNone`): validation rules, triggers, flows and duplicate rules run, and nothing stays. What the org's own
code does outside of the transaction stays done, such as a platform event that is published at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from onetouch.crm.protocol import CrmError, Finding, Refused
from onetouch.crm.remedies import mend_of
from onetouch.crm.salesforce.fields import units
from onetouch.crm.salesforce.transport import Record, Transport, said

_FAILS_ON_PURPOSE = "Onetouch_Undo_This__c"
"""No object has a field of this name, so that a record with it is refused and all that came before is undone."""

_HALTED = "PROCESSING_HALTED"
"""The code of a part that was done and then undone."""

_ADMINS = (
    "SELECT Assignee.Name FROM PermissionSetAssignment WHERE PermissionSet.PermissionsCustomizeApplication = true "
    "AND Assignee.IsActive = true ORDER BY Assignee.Name LIMIT 3"
)

_TEXTS = frozenset({"string", "textarea", "picklist", "email", "url", "phone"})


class Rehearsal:
    """The check of one org. `records`: object → the record that would be written, in the order in which they refer to
    each other; a value `@{Account.id}` is the id of the record written before it. `closed`: the status of a task that
    we close."""

    def __init__(self, transport: Transport, records: Mapping[str, Record], closed: str) -> None:
        self._transport, self._records, self._closed = transport, records, closed

    def findings(self) -> list[Finding]:
        """Everything that would refuse one of the records, each field once."""
        found: dict[tuple[str, str], Finding] = {}
        who = self._who()
        for thing, record in self._records.items():
            for finding in self._described(thing, record, who):
                found.setdefault((thing, finding.field if finding.value != self._closed else "closed"), finding)
        seen = {thing for thing, _ in found}
        for thing in self._records:
            for finding in self._tried(thing, who):
                named = finding.field.split(", ") if finding.field else [""]
                # A trial names one refusal at a time; what describe has shown already is not told twice.
                if not (thing in seen and any((thing, name) in found for name in named)):
                    found.setdefault((thing, finding.field), finding)
        return list(found.values())

    def _who(self) -> str:
        """Who may change the org's rules, by name where we may see it."""
        try:
            names = [str(row["Assignee"]["Name"]) for row in self._transport.query(_ADMINS)]
        except Refused:
            names = []
        return " or ".join(dict.fromkeys(names)) or "an admin"

    def _described(self, thing: str, record: Record, who: str) -> Iterator[Finding]:
        there = self._transport.fields(thing)
        if there is None:
            yield Finding(thing, "", "", "is not visible to the integration user", "give it the permission set", who)
            return
        if not self._transport.described(thing).get("createable", True):
            yield Finding(thing, "", "", "may not be created by the integration user", "let it create them", who)
        for name, field in there.items():
            needed = not field.get("nillable", True) and not field.get("defaultedOnCreate", False)
            if needed and field.get("createable") and field.get("type") != "boolean" and name not in record:
                key = f"crm.extra_fields.{thing.lower()}"
                yield Finding(
                    thing, name, "", "is required and has no default value",
                    f"give it a default value, or name its value in {key} of the policy", who,
                )  # fmt: skip
        for name, value in record.items():
            if name in there:
                yield from _unfit(thing, name, value, there[name], who)
            else:
                yield Finding(thing, name, str(value), "is no field that we see", "make it, or show it to us", who)
        if thing == "Task":
            yield from self._closing(record, who)

    def _closing(self, record: Record, who: str) -> Iterator[Finding]:
        """A status that says the opposite of what we mean by it."""
        try:
            statuses = list(self._transport.query("SELECT ApiName, IsClosed FROM TaskStatus"))
        except Refused:
            return
        status = record["Status"]
        if any(row["IsClosed"] and row["ApiName"] == status for row in statuses):
            told = "is a closed status: no task would be open"
            yield Finding(
                "Task", "Status", str(status), told, "name another in crm.task_values.open of the policy", who
            )
        if not any(row["IsClosed"] and row["ApiName"] == self._closed for row in statuses):
            told = "is no closed status: a task that we close would stay open"
            mend = "name one in crm.task_values.closed of the policy"
            yield Finding("Task", "Status", self._closed, told, mend, who)

    def _tried(self, thing: str, who: str) -> Iterator[Finding]:
        """What refuses the record when it is written, together with those it refers to."""
        needed = [
            name for name in self._records if name != thing and f"@{{{name}.id}}" in self._records[thing].values()
        ]
        things = [*needed, thing]
        parts = [self._part(name, self._records[name]) for name in things]
        parts.append(self._part(thing, {_FAILS_ON_PURPOSE: "x"}, "undo"))
        try:
            answers = self._transport.call("POST", "composite", json={"allOrNone": True, "compositeRequest": parts})[
                "compositeResponse"
            ]
        except CrmError as failure:
            yield Finding(thing, "", "", f"could not be tried: {failure}", "let the integration user call the API", who)
            return
        answer = answers[len(things) - 1]
        if answers[-1]["httpStatusCode"] < 400 or any(a["httpStatusCode"] < 400 for a in answers):
            yield Finding(thing, "", "", "the trial was not undone", "delete the record named Onetouch trial", who)
        errors: Sequence[Mapping[str, Any]] = answer["body"] if isinstance(answer["body"], list) else []
        for error in errors[:1]:
            code = str(error.get("errorCode", ""))
            if code == _HALTED:
                continue  # done and undone, or halted by another record, which has a finding of its own
            fields = list(error.get("fields") or [])
            value = str(self._records[thing].get(fields[0], "")) if len(fields) == 1 else ""
            message = f"{code}: {said(error.get('message', ''), code, fields)}"
            yield Finding(thing, ", ".join(fields), value, message, mend_of(code), who)

    def _part(self, thing: str, record: Record, name: str = "") -> Record:
        url = f"/services/data/v{self._transport.version}/sobjects/{thing}"
        return {"method": "POST", "url": url, "referenceId": name or thing, "body": record}


def _unfit(thing: str, name: str, value: Any, field: Record, who: str) -> Iterator[Finding]:
    """Why a field would not take a value."""
    text = str(value)
    if not field.get("createable", True):
        yield Finding(thing, name, text, "may not be written by the integration user", "let it edit the field", who)
    offered = {v["value"] for v in field.get("picklistValues") or () if v.get("active", True)}
    if field.get("restrictedPicklist") and offered and text not in offered:
        yield Finding(
            thing, name, text, f"is none of the values {', '.join(sorted(offered))}",
            "add the value, or name another in the policy (crm.task_values, crm.extra_fields)", who,
        )  # fmt: skip
    if field.get("type") in _TEXTS and field.get("length") and units(text) > field["length"]:
        yield Finding(thing, name, text, f"is longer than {field['length']} characters", "make the field longer", who)
