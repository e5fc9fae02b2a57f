"""The sObjects of the simulated org: standard ones, the customer's own fields, and ours as deployed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final


@dataclass(frozen=True)
class Field:
    """One field of an sObject, as in its describe result."""

    name: str
    type: str  # id reference string textarea longtextarea picklist boolean int double currency percent date datetime
    label: str = ""
    length: int = 255
    precision: int = 18
    scale: int = 0
    values: tuple[str, ...] = ()
    restricted: bool = True
    required: bool = False
    unique: bool = False
    external_id: bool = False
    case_sensitive: bool = False
    createable: bool = True
    updateable: bool = True
    filterable: bool = True
    default: Any = None
    references: tuple[str, ...] = ()
    relationship: str = ""

    @property
    def is_text(self) -> bool:
        """Whether SOQL compares the field with a quoted string."""
        return self.type in (
            "id",
            "reference",
            "string",
            "textarea",
            "longtextarea",
            "picklist",
            "email",
            "phone",
            "url",
        )

    @property
    def is_id(self) -> bool:
        """Whether the field holds record ids."""
        return self.type in ("id", "reference")

    @property
    def collation(self) -> str:
        """How SQLite compares the field: Salesforce's text ignores case unless the field is case-sensitive."""
        return " COLLATE NOCASE" if self.is_text and not self.is_id and not self.case_sensitive else ""


@dataclass(frozen=True)
class SObject:
    """One type of record, the first three characters of its ids, and the operations it allows."""

    name: str
    prefix: str
    fields: dict[str, Field] = field(default_factory=dict)
    allows: frozenset[str] = frozenset(("create", "edit", "delete"))

    def find(self, name: str) -> Field | None:
        """The field of that API name, in upper or lower case."""
        return self.fields.get(name.lower())


def _system(name: str, kind: str, **more: Any) -> Field:
    return Field(name, kind, createable=False, updateable=False, **more)


def _reference(name: str, relationship: str, *targets: str, label: str = "", **more: Any) -> Field:
    return Field(name, "reference", label, length=18, references=targets, relationship=relationship, **more)


_STAGES: Final = (
    "Prospecting",
    "Qualification",
    "Needs Analysis",
    "Value Proposition",
    "Id. Decision Makers",
    "Perception Analysis",
    "Proposal/Price Quote",
    "Negotiation/Review",
    "Closed Won",
    "Closed Lost",
)
TASK_STATUS: Final = ("Not Started", "In Progress", "Completed", "Waiting on someone else", "Deferred")

CLOSED: Final = "Completed"
"""The status of a task that counts as closed in an org without rules of its own."""

_OWNER: Final = _reference("OwnerId", "Owner", "User", label="Owner ID")
_OWNER_OR_QUEUE: Final = _reference("OwnerId", "Owner", "User", "Group", label="Owner ID")
_AUDIT: Final = (
    _system("Id", "id", label="Record ID", length=18),
    _system("IsDeleted", "boolean", label="Deleted", default=False),
    _system("CreatedDate", "datetime", label="Created Date"),
    _system("CreatedById", "reference", length=18, references=("User",), relationship="CreatedBy"),
    _system("LastModifiedDate", "datetime", label="Last Modified Date"),
    _system("LastModifiedById", "reference", length=18, references=("User",), relationship="LastModifiedBy"),
    _system("SystemModstamp", "datetime", label="System Modstamp"),
)
_ACTIVITY: Final = (
    Field("Subject", "string", "Subject", length=255),
    Field("Description", "longtextarea", "Description", length=32000, filterable=False),
    Field("ActivityDate", "date", "Due Date Only"),
    _reference("WhatId", "What", "Account", "Opportunity", label="Related To ID"),
    _reference("WhoId", "Who", "Contact", "Lead", label="Name ID"),
    _reference("AccountId", "Account", "Account", label="Account ID", createable=False, updateable=False),
    Field("IsReminderSet", "boolean", "Reminder Set", default=False),
    Field("ReminderDateTime", "datetime", "Reminder Date/Time"),
    _OWNER,
)


_OPT_OUTS: Final = (
    Field("DoNotCall", "boolean", "Do Not Call", default=False),
    Field("HasOptedOutOfEmail", "boolean", "Email Opt Out", default=False),
)


def _merged_into(name: str) -> Field:
    """The field with the surviving record of a merge; only deleted records have a value."""
    return _reference("MasterRecordId", "MasterRecord", name, createable=False, updateable=False)


PERSON: Final = ("IsPersonAccount", "FirstName", "LastName", "PersonEmail", "PersonContactId")
"""The fields of Account that only an org with person accounts has."""

# Source: Salesforce Object Reference. Picklists are restricted here although an org may leave standard ones open: a
# value outside the list is a mistake of the caller either way.
_STANDARD: Final[dict[str, tuple[str, tuple[Field, ...]]]] = {
    "User": (
        "005",
        (
            Field("Username", "string", length=80),
            Field("Name", "string", "Full Name", length=121),
            Field("Email", "email", length=128),
            Field("IsActive", "boolean", "Active", default=True),
            Field("TimeZoneSidKey", "string", "Time Zone", length=40, default="America/Los_Angeles"),
            Field("UserType", "string", "User Type", length=40, default="Standard"),
            Field("Title", "string", length=80),
        ),
    ),
    "Account": (
        "001",
        (
            Field("Name", "string", "Account Name", required=True),
            Field("Website", "url", length=255),
            Field("Industry", "picklist", restricted=False),
            Field("Type", "picklist", "Account Type", restricted=False),
            Field("Phone", "phone", "Account Phone", length=40),
            Field("NumberOfEmployees", "int", "Employees", precision=8),
            Field("AnnualRevenue", "currency", "Annual Revenue", precision=18),
            Field("BillingCountry", "string", "Billing Country", length=80),
            Field("Description", "longtextarea", "Account Description", length=32000, filterable=False),
            _merged_into("Account"),
            # Of person accounts alone, and only in an org that has them (PERSON).
            _system("IsPersonAccount", "boolean", label="Is Person Account", default=False),
            Field("FirstName", "string", "First Name", length=40),
            Field("LastName", "string", "Last Name", length=80),
            Field("PersonEmail", "email", "Email", length=80),
            _reference("PersonContactId", "PersonContact", "Contact", createable=False, updateable=False),
            _OWNER,
            # The customer's own fields, as a product-led company has them on its accounts.
            Field("Plan__c", "string", "Plan", length=80),
            Field("Seats__c", "double", "Seats", precision=9),
            Field("ARR__c", "currency", "ARR", precision=16, scale=2),
            Field("Plan_Limits__c", "longtextarea", "Plan Limits", length=32768, filterable=False),
            Field("Region__c", "string", "Region", length=80),
            Field("Timezone__c", "string", "Timezone", length=80),
            Field("Funding_Stage__c", "string", "Funding Stage", length=80),
            Field("Signed_Up_At__c", "datetime", "Signed Up At"),
        ),
    ),
    "Contact": (
        "003",
        (
            Field("LastName", "string", "Last Name", length=80, required=True),
            Field("FirstName", "string", "First Name", length=40),
            Field("Email", "email", length=80),
            Field("Title", "string", length=128),
            Field("Phone", "phone", "Business Phone", length=40),
            *_OPT_OUTS,
            _reference("AccountId", "Account", "Account", label="Account ID"),
            _merged_into("Contact"),
            _OWNER,
        ),
    ),
    "Lead": (
        "00Q",
        (
            Field("LastName", "string", "Last Name", length=80, required=True),
            Field("FirstName", "string", "First Name", length=40),
            Field("Company", "string", length=255, required=True),
            Field("Email", "email", length=80),
            Field("Title", "string", length=128),
            *_OPT_OUTS,
            Field("Website", "url", length=255),
            Field("Industry", "picklist", restricted=False),
            Field("LeadSource", "picklist", "Lead Source", restricted=False),
            Field("NumberOfEmployees", "int", "Employees", precision=8),
            Field("Description", "longtextarea", length=32000, filterable=False),
            Field("Status", "picklist", values=("Open - Not Contacted", "Working - Contacted", "Closed - Converted",
                  "Closed - Not Converted"), default="Open - Not Contacted"),
            _system("IsConverted", "boolean", label="Converted", default=False),
            _system("ConvertedDate", "date", label="Converted Date"),
            _reference("ConvertedAccountId", "ConvertedAccount", "Account", createable=False, updateable=False),
            _reference("ConvertedContactId", "ConvertedContact", "Contact", createable=False, updateable=False),
            _merged_into("Lead"),
            _OWNER_OR_QUEUE,
        ),
    ),
    "Opportunity": (
        "006",
        (
            Field("Name", "string", length=120, required=True),
            _reference("AccountId", "Account", "Account", label="Account ID"),
            _reference("ContactId", "Contact", "Contact", label="Contact ID", updateable=False),
            Field("StageName", "picklist", "Stage", values=_STAGES, required=True),
            Field("CloseDate", "date", "Close Date", required=True),
            Field("Amount", "currency", precision=18, scale=2),
            Field("LeadSource", "picklist", "Lead Source", restricted=False),
            Field("Type", "picklist", "Opportunity Type", restricted=False),
            Field("Description", "longtextarea", length=32000, filterable=False),
            _system("IsClosed", "boolean", label="Closed", default=False),
            _system("IsWon", "boolean", label="Won", default=False),
            _OWNER,
        ),
    ),
    "Task": (
        "00T",
        (
            *_ACTIVITY,
            Field("Status", "picklist", values=TASK_STATUS, default="Not Started"),
            Field("Priority", "picklist", values=("High", "Normal", "Low"), default="Normal"),
            Field("TaskSubtype", "picklist", "Task Subtype", values=("Task", "Email", "Call", "ListEmail", "Cadence",
                  "LinkedIn"), default="Task", updateable=False),
            Field("Type", "picklist", values=("Call", "Meeting", "Other", "Email")),
            Field("CallType", "picklist", "Call Type", values=("Internal", "Inbound", "Outbound")),
            _system("IsClosed", "boolean", label="Closed", default=False),
            _system("CompletedDateTime", "datetime", label="Completed Date/Time"),
        ),
    ),
    "Event": (
        "00U",
        (
            *_ACTIVITY,
            Field("ActivityDateTime", "datetime", "Due Date Time"),
            Field("StartDateTime", "datetime", "Start Date Time"),
            Field("EndDateTime", "datetime", "End Date Time"),
            Field("DurationInMinutes", "int", "Duration", precision=8),
            Field("IsAllDayEvent", "boolean", "All-Day Event", default=False),
            _system("IsChild", "boolean", label="Is Child", default=False),
            Field("Location", "string"),
        ),
    ),
    "EventRelation": (
        "0RE",
        (
            _reference("EventId", "Event", "Event", label="Event ID"),
            _reference("RelationId", "Relation", "Contact", "Lead", "User", label="Relation ID"),
            Field("Status", "picklist", values=("New", "Declined", "Accepted", "Uninvited", "Maybe"), default="New"),
            Field("IsInvitee", "boolean", "Is Invitee", default=True),
        ),
    ),
    "EmailMessage": (
        "02s",
        (
            _reference("ActivityId", "Activity", "Task", label="Activity ID"),
            Field("Subject", "string", length=3000),
            Field("Incoming", "boolean", "Is Incoming", default=False),
            Field("FromAddress", "email", "From Address"),
            Field("MessageDate", "datetime", "Message Date"),
            Field("Headers", "longtextarea", length=32000, filterable=False),
            Field("TextBody", "longtextarea", "Text Body", length=32000, filterable=False),
        ),
    ),
    # What callers may only read; its records come from the org's rules (customs.py).
    "TaskStatus": (
        "01Q",
        (Field("MasterLabel", "string"), Field("ApiName", "string"), Field("IsClosed", "boolean", default=False)),
    ),
    "CurrencyType": (
        "01L",
        (
            Field("IsoCode", "string", length=3),
            Field("ConversionRate", "double", scale=6),
            Field("IsActive", "boolean", default=True),
            Field("IsCorporate", "boolean", default=False),
        ),
    ),
    "DatedConversionRate": (
        "04w",
        (
            Field("IsoCode", "string", length=3),
            Field("ConversionRate", "double", scale=6),
            Field("StartDate", "date"),
            Field("NextStartDate", "date"),
        ),
    ),
    "Group": ("00G", (Field("Name", "string", length=40), Field("Type", "string", length=40))),
    "PermissionSet": (
        "0PS",
        (
            Field("Name", "string", length=80),
            Field("PermissionsCustomizeApplication", "boolean", default=False),
            Field("PermissionsModifyAllData", "boolean", default=False),
        ),
    ),
    "PermissionSetAssignment": (
        "0Pa",
        (
            _reference("AssigneeId", "Assignee", "User"),
            _reference("PermissionSetId", "PermissionSet", "PermissionSet"),
        ),
    ),
}  # fmt: skip


READ_ONLY: Final = frozenset(
    {"User", "TaskStatus", "CurrencyType", "DatedConversionRate", "Group", "PermissionSet", "PermissionSetAssignment"}
)
"""sObjects whose records callers read and do not write."""


def is_guarded(name: str, field: str) -> bool:
    """Whether a standard field is subject to field-level security: optional, and neither a system field nor a part of a
    person's name."""
    known = {f.name: f for f in _STANDARD[name][1]} if name in _STANDARD else {}
    return (
        field in known
        and field not in ("OwnerId", "FirstName", "LastName")
        and known[field].createable
        and not known[field].required
    )


def build_org(custom: dict[str, list[Field]]) -> dict[str, SObject]:
    """The org's sObjects by lower-case name, custom fields added."""
    org = {}
    for name, (prefix, standard) in _STANDARD.items():
        every = (*_AUDIT, *standard, *custom.get(name, ()))
        fields = {f.name.lower(): f for f in every}
        org[name.lower()] = (
            SObject(name, prefix, fields, frozenset()) if name in READ_ONLY else SObject(name, prefix, fields)
        )
    return org


_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
_BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def full_id(value: object) -> str | None:
    """The 18-character form of a 15- or 18-character record id; None when it is neither.

    The last three characters say which of the first fifteen are upper case, five by five.
    """
    if not isinstance(value, str) or len(value) not in (15, 18) or not (value.isascii() and value.isalnum()):
        return None
    head = value[:15]
    suffix = "".join(
        _ALPHABET[sum(1 << i for i, letter in enumerate(head[start : start + 5]) if letter.isupper())]
        for start in (0, 5, 10)
    )
    if len(value) == 18 and value[15:].upper() != suffix:
        return None
    return head + suffix


def make_id(prefix: str, number: int) -> str:
    """The `number`-th record id of a type: prefix, instance, base 62, checksum."""
    digits = ""
    while number:
        number, rest = divmod(number, 62)
        digits = _BASE62[rest] + digits
    return str(full_id(f"{prefix}Ot{digits.rjust(10, '0')}"))
