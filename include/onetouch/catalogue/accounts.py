"""The columns of an account snapshot: what the CRM, or a file of accounts, records about an account."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from onetouch.catalogue.display import Format, Section


class Kind(Enum):
    """What a column holds: the dtype of a frame's column, and what may be written into a file of accounts."""

    TEXT = ("str", "text")
    ID = ("str", "an id")
    DOMAIN = ("str", "a domain or website, like example.com")
    DOMAINS = ("str", "domains, like example.com; example.de")
    EMAIL = ("str", "an e-mail address")
    TIMEZONE = ("str", "an IANA time zone, like Europe/Berlin")
    CAPS = ("str", 'a JSON object of caps, like {"seats": 10}')
    WHOLE = ("Int64", "a number, not negative")
    NUMBER = ("float64", "a number, not negative")
    FLAG = ("boolean", "true or false")
    MOMENT = ("datetime64[us, UTC]", "an ISO 8601 time, like 2024-05-01T12:00:00Z")
    NAMES = ("object", "a list of names")
    AMOUNTS = ("object", "a list of names, each with how often")

    @property
    def dtype(self) -> str:
        """The dtype of a column of a pandas frame."""
        return self.value[0]

    @property
    def allowed(self) -> str:
        """What may be written, phrased to follow the word "give" in an error message."""
        return self.value[1]

    @property
    def is_text(self) -> bool:
        """Whether the values are text."""
        return self.dtype == "str"

    @property
    def is_number(self) -> bool:
        """Whether the values are numbers."""
        return self in (Kind.WHOLE, Kind.NUMBER)


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of the account table.

    `label`, `section`: the label under which, and the section of the dossier in which, the column has a line of its own
    (None: it has none). `fact`: whether a text of the policy may name it; `format` says how its value is written.
    `nouns`: what it counts, in singular and plural. `private`: no text for the customer may name it. `mapped`: whether
    the policy maps a field of the CRM's account to it (`crm.account_fields`) and a scenario may set it. Ids and owners
    are read without a mapping. `personal`: it says who the user of `contact_user` is, which only the CRM is told.
    """

    name: str
    kind: Kind
    label: str = ""
    section: Section | None = None
    fact: bool = False
    format: Format = Format.TEXT
    nouns: tuple[str, str] | None = None
    private: bool = False
    mapped: bool = False
    personal: bool = False

    @property
    def word(self) -> str:
        """The column's name in scenario files: without the "_at" of a moment, whose value says when."""
        return self.name.removesuffix("_at")


def _text(name: str, label: str, kind: Kind = Kind.TEXT) -> Column:
    return Column(name=name, kind=kind, label=label, section=Section.OVERVIEW, fact=True, mapped=True)


def _size(name: str, label: str, *nouns: str) -> Column:
    one, many = nouns
    return Column(
        name=name, kind=Kind.WHOLE, label=label, section=Section.OVERVIEW, fact=True, format=Format.COUNT,
        nouns=(one, many), mapped=True,
    )  # fmt: skip


SNAPSHOT_COLUMNS: tuple[Column, ...] = (
    Column(name="account_id", kind=Kind.ID),
    Column(name="name", kind=Kind.TEXT, fact=True, mapped=True),
    _text("domain", "Domain", Kind.DOMAIN),
    Column(name="domains", kind=Kind.DOMAINS, mapped=True),
    _text("industry", "Industry"),
    _size("employees", "Employees", "employee", "employees"),
    _text("region", "Region"),
    _text("funding_stage", "Funding stage"),
    _text("plan", "Plan"),
    _size("seats", "Seats", "seat", "seats"),
    Column(name="arr", kind=Kind.NUMBER, label="ARR", section=Section.OVERVIEW, fact=True, format=Format.MONEY,
           private=True, mapped=True),
    Column(name="plan_limits", kind=Kind.CAPS, mapped=True),
    Column(name="timezone", kind=Kind.TIMEZONE, mapped=True),
    Column(name="owner_email", kind=Kind.EMAIL),
    Column(name="signed_up_at", kind=Kind.MOMENT, mapped=True),
    Column(name="never_contact", kind=Kind.FLAG, mapped=True),
)  # fmt: skip
"""Columns that any source of accounts may fill; unknown is null, never zero. `domains`: all domains of the company's
e-mail addresses, if it has several, separated by semicolons; `arr`: dollars a year; `plan_limits`: limit → cap (a limit
without a cap, or with -1, null or "unlimited", is none); `owner_email`: the rep's e-mail address;
`never_contact`: the company as a whole may not be contacted."""

CRM_COLUMNS: tuple[Column, ...] = (
    Column(name="crm_account_id", kind=Kind.ID),
    Column(name="owner_id", kind=Kind.TEXT),
    Column(name="owner_active", kind=Kind.FLAG),
    Column(name="open_opportunities", kind=Kind.WHOLE, format=Format.NUMBER),
    Column(name="deal_closed_at", kind=Kind.MOMENT),
)
"""Further columns of a snapshot that was taken from the CRM. `deal_closed_at`: when its last deal was won or lost."""
