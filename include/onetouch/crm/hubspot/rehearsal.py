"""Finds what a HubSpot account's own rules would refuse, from the definitions of its properties.

HubSpot has no write that can be undone, so nothing is tried: what only shows when a record is written (a workflow, a
rule that makes a property required in forms only, the limit of associations of one record) is not found here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from onetouch.crm.hubspot.records import Record, Records
from onetouch.crm.protocol import Finding, Refused


def rehearsed(records: Records, trial: Mapping[str, Mapping[str, str]]) -> Iterator[Finding]:
    """What would refuse the trial records: object type → properties as they would be written."""
    for thing, properties in trial.items():
        try:
            there = records.definitions(thing)
        except Refused as refused:
            if refused.status != 403:
                raise
            yield Finding(
                thing, "", "", "the private app may not read it", "give the app the scopes of docs/hubspot.md"
            )
            continue
        for name, value in properties.items():
            yield from _unfit(thing, name, value, there.get(name))
    if not any(records.owners(deleted=False)):
        yield Finding("owners", "", "", "nobody may own a task", "let the app read owners, and add the reps as users")


def _unfit(thing: str, name: str, value: str, definition: Record | None) -> Iterator[Finding]:
    if definition is None:
        yield Finding(thing, name, value, "is no property", "create it, or take it out of crm.extra_fields")
        return
    if (definition.get("modificationMetadata") or {}).get("readOnlyValue"):
        yield Finding(thing, name, value, "may not be written", "take it out of crm.extra_fields")
    options = {option["value"] for option in definition.get("options") or () if not option.get("hidden")}
    if definition.get("type") == "enumeration" and options and value not in options:
        mend = "add the option, or name another in the policy (crm.task_values, crm.extra_fields)"
        yield Finding(thing, name, value, f"is none of the options {', '.join(sorted(options))}", mend)
