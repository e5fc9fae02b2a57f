"""Reads the deployable metadata in include/salesforce and refuses what a deployment to an org would refuse."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Final

from onetouch.sandbox.fields import Field, SObject, is_guarded

METADATA: Final = Path(str(files("onetouch.sandbox").joinpath("sfdx")))
"""The SFDX project include/salesforce: a symbolic link in the repository, a copy in a wheel."""

_NS: Final = "{http://soap.sforce.com/2006/04/metadata}"
_TYPES: Final = {
    "Text": "string",
    "LongTextArea": "longtextarea",
    "Number": "double",
    "Percent": "percent",
    "Currency": "currency",
    "Checkbox": "boolean",
    "Date": "date",
    "DateTime": "datetime",
    "Picklist": "picklist",
}
_NEEDS: Final = {
    "Text": {"length"},
    "LongTextArea": {"length", "visibleLines"},
    "Number": {"precision", "scale"},
    "Percent": {"precision", "scale"},
    "Currency": {"precision", "scale"},
    "Checkbox": {"defaultValue"},
    "Picklist": {"valueSet"},
}
_COMMON: Final = {"fullName", "label", "type", "description", "inlineHelpText", "required", "trackHistory"}
_KEY: Final = {"externalId", "unique", "caseSensitive"}
_RIGHTS: Final = ("Read", "Create", "Edit", "Delete")
_NAME: Final = re.compile(r"[A-Za-z](?:[A-Za-z0-9]|_(?!_))*(?<!_)__c")


_READ_BY_ALL: Final = ("User", "TaskStatus", "CurrencyType", "DatedConversionRate", "Group")
"""Objects that every user may read."""


class MetadataError(ValueError):
    """The metadata could not be deployed; the message names file, element and fix."""


def read_metadata(folder: Path) -> dict[str, list[Field]]:
    """Object → the custom fields of an SFDX project that its permission set lets the integration see.

    A field of Activity appears on Task and on Event. Raises MetadataError on what Salesforce would not deploy.
    """
    main = folder / "force-app" / "main" / "default"
    declared: dict[str, list[Field]] = {}
    for path in sorted(main.glob("objects/*/fields/*.field-meta.xml")):
        declared.setdefault(path.parent.parent.name, []).append(_field(path))
    if not declared:
        raise MetadataError(f"{main}: no objects/*/fields/*.field-meta.xml found")
    deployed: dict[str, list[Field]] = {}
    for name, fields in declared.items():
        for target in ("Task", "Event") if name == "Activity" else (name,):
            deployed.setdefault(target, []).extend(fields)
    granted = _granted(main, deployed)
    # Without a permission a deployed field is invisible in the API: "No such column".
    return {name: [f for f in fields if (name, f.name) in granted] for name, fields in deployed.items()}


SETS = (("Onetouch", "Onetouch_Contacts"), ("Onetouch", "Onetouch_Contacts", "Onetouch_Opportunities"))
"""The permission sets of an integration user, from the setting `permissions`: 1 for the first, 2 for the second."""


def as_seen(org: dict[str, SObject], folder: Path, sets: tuple[str, ...] = SETS[0]) -> dict[str, SObject]:
    """The org as seen by an integration user who has only these permission sets of `folder`.

    Objects without read permission and optional standard fields without field permission are hidden; fields that are
    not editable cannot be written. The customer's own fields are assumed to be readable, as the README requires;
    reading activities needs ActivitiesAccess, writing tasks needs EditTask.
    """
    main = folder / "force-app" / "main" / "default"
    objects: dict[str, set[str]] = {name: {"Read"} for name in _READ_BY_ALL}
    fields: dict[str, bool] = {}
    for path in (main / "permissionsets" / f"{name}.permissionset-meta.xml" for name in sets):
        root = _root(path, "PermissionSet")
        for found in root.findall(f"{_NS}objectPermissions"):
            given = {right for right in _RIGHTS if found.findtext(f"{_NS}allow{right}") == "true"}
            objects.setdefault(found.findtext(f"{_NS}object") or "", set()).update(given)
        for found in root.findall(f"{_NS}fieldPermissions"):
            fields[found.findtext(f"{_NS}field") or ""] = found.findtext(f"{_NS}editable") == "true"
        users = {found.findtext(f"{_NS}name") for found in root.findall(f"{_NS}userPermissions")}
        if "ActivitiesAccess" in users:
            objects |= {"Task": {"Read", *(("Create", "Edit") if "EditTask" in users else ())}, "Event": {"Read"}}
            objects |= {"EmailMessage": {"Read"}, "EventRelation": {"Read"}}
    seen = {}
    for key, sobject in org.items():
        rights = objects.get(sobject.name, set())
        if "Read" in rights:
            shown = {name: _as_seen(sobject.name, field, fields) for name, field in sobject.fields.items()}
            allows = sobject.allows & {right.lower() for right in rights}
            seen[key] = replace(sobject, allows=allows, fields={name: field for name, field in shown.items() if field})
    return seen


def without_fields(org: dict[str, SObject], hidden: Iterable[str]) -> dict[str, SObject]:
    """The org without these fields, each named as `Contact.DoNotCall`."""
    names = {tuple(field.lower().split(".")) for field in hidden}
    return {
        key: replace(sobject, fields={name: f for name, f in sobject.fields.items() if (key, name) not in names})
        for key, sobject in org.items()
    }


def _as_seen(name: str, field: Field, fields: dict[str, bool]) -> Field | None:
    if name in ("Task", "Event", "EventRelation", "EmailMessage", *_READ_BY_ALL) or field.required:
        return field
    if is_guarded(name, field.name) and not field.name.endswith("__c"):
        editable = fields.get(f"{name}.{field.name}")
    else:  # a custom field of the org that is not in the permission set is the customer's own
        editable = fields.get(f"{name}.{field.name}", not field.name.endswith("__c"))
    if editable is None:
        return None
    return field if editable else replace(field, createable=False, updateable=False)


def _granted(main: Path, deployed: dict[str, list[Field]]) -> set[tuple[str, str]]:
    known = {(name, field.name) for name, fields in deployed.items() for field in fields}
    granted = set()
    for path in sorted(main.glob("permissionsets/*.permissionset-meta.xml")):
        for permission in _root(path, "PermissionSet").findall(f"{_NS}fieldPermissions"):
            name, _, field = (permission.findtext(f"{_NS}field") or "").partition(".")
            if (name, field) not in known and not is_guarded(name, field):
                raise MetadataError(f"{path.name}: fieldPermissions of {name}.{field}: no such field")
            if permission.findtext(f"{_NS}editable") == "true":
                granted.add((name, field))
    return granted


def _root(path: Path, tag: str) -> ET.Element:
    try:
        root = ET.parse(path).getroot()  # noqa: S314 - our own files, read from the package's folder
    except ET.ParseError as error:
        raise MetadataError(f"{path.name}: not well-formed: {error}") from error
    if root.tag != _NS + tag:
        raise MetadataError(f"{path.name}: root is {root.tag!r}, must be {tag} in the metadata namespace")
    return root


def _field(path: Path) -> Field:
    root = _root(path, "CustomField")
    text = {child.tag.removeprefix(_NS): (child.text or "").strip() for child in root}
    where = path.name
    kind, name, label = text.get("type", ""), text.get("fullName", ""), text.get("label", "")
    if kind not in _TYPES:
        raise MetadataError(f"{where}: type {kind!r}: known here are {', '.join(_TYPES)}")
    if path.name != f"{name}.field-meta.xml":
        raise MetadataError(f"{where}: fullName {name!r} differs from the file's name")
    if not _NAME.fullmatch(name) or len(name) > 43:
        raise MetadataError(f"{where}: fullName {name!r}: letters, digits, single underscores, at most 40, then __c")
    if not 0 < len(label) <= 40:
        raise MetadataError(f"{where}: label {label!r}: 1 to 40 characters")
    if len(text.get("inlineHelpText", "")) > 510 or len(text.get("description", "")) > 1000:
        raise MetadataError(f"{where}: inlineHelpText ≤ 510 and description ≤ 1000 characters")
    needs = _NEEDS.get(kind, set())
    if missing := needs - text.keys():
        raise MetadataError(f"{where}: {kind} needs {', '.join(sorted(missing))}")
    allowed = _COMMON | needs | ({"defaultValue"} - {"defaultValue"} if kind == "LongTextArea" else {"defaultValue"})
    if kind in ("Text", "Number"):
        allowed |= _KEY
    if unknown := text.keys() - allowed:
        raise MetadataError(f"{where}: {', '.join(sorted(unknown))} cannot be set on a {kind}")
    length = int(text.get("length", 0))
    if kind == "Text" and not 1 <= length <= 255:
        raise MetadataError(f"{where}: length {length}: a Text holds 1 to 255")
    if kind == "LongTextArea" and not 256 <= length <= 131072:
        raise MetadataError(f"{where}: length {length}: a LongTextArea holds 256 to 131072")
    precision, scale = int(text.get("precision", 0)), int(text.get("scale", 0))
    if "precision" in needs and not 0 <= scale <= precision <= 18:
        raise MetadataError(f"{where}: precision {precision}, scale {scale}: 0 ≤ scale ≤ precision ≤ 18")
    values = [v.text or "" for v in root.iterfind(f"{_NS}valueSet/{_NS}valueSetDefinition/{_NS}value/{_NS}fullName")]
    if kind == "Picklist" and (not values or len(set(values)) != len(values)):
        raise MetadataError(f"{where}: valueSet must hold distinct values")
    return Field(
        name=name,
        type=_TYPES[kind],
        label=label,
        length=length or 255,
        precision=precision,
        scale=scale,
        values=tuple(values),
        restricted=root.findtext(f"{_NS}valueSet/{_NS}restricted") == "true",
        required=text.get("required") == "true",
        unique=text.get("unique") == "true",
        external_id=text.get("externalId") == "true",
        case_sensitive=text.get("caseSensitive") == "true",
        default=(text["defaultValue"] == "true") if kind == "Checkbox" else None,
        filterable=kind != "LongTextArea",
    )
