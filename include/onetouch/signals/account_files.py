"""Reads a file of accounts as people have them: CSV or Parquet from a CRM, a database or a spreadsheet.

The encoding, the separator and the headers are recognised where there is one way to read them; what is left out or read
otherwise than written is told.
"""

from __future__ import annotations

import csv
import difflib
import io
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa

from onetouch.signals.account_values import read_values
from onetouch.signals.accounts import KINDS, SNAPSHOT, AccountsError, normalise_accounts

COLUMNS = (*SNAPSHOT, "crm_account_id")
"""Columns that a file may have."""

SYNONYMS: Mapping[str, Sequence[str]] = {
    "account_id": ["workspaceid", "organisationid", "organizationid", "orgid", "companyid", "tenantid", "teamid",
                   "customerid", "externalid", "externalaccountid", "id"],
    "crm_account_id": ["crmid", "salesforceid", "salesforceaccountid", "sfdcid", "sfdcaccountid", "sfid", "hubspotid",
                       "hubspotcompanyid", "recordid", "hsobjectid"],
    "name": ["accountname", "companyname", "company", "customername", "customer", "organisationname",
             "organizationname", "organisation", "organization", "account"],
    "domain": ["domainname", "companydomain", "companydomainname", "primarydomain", "website", "websiteurl",
               "companywebsite", "web", "url", "homepage", "emaildomain", "maildomain"],
    "domains": ["alldomains", "emaildomains", "maildomains", "companydomains", "additionaldomains", "otherdomains"],
    "industry": ["sector"],
    "employees": ["numberofemployees", "noofemployees", "numemployees", "employeecount", "employeescount", "headcount",
                  "companysize", "staff"],
    "region": ["salesregion", "territory"],
    "funding_stage": ["funding", "fundinground", "lastfundinground"],
    "plan": ["planname", "currentplan", "plantype", "subscription", "subscriptionplan", "pricingplan"],
    "seats": ["numberofseats", "noofseats", "seatcount", "seatscount", "licences", "licenses", "paidseats"],
    "arr": ["annualrecurringrevenue", "currentarr", "arrusd"],
    "plan_limits": ["limits", "planlimit", "quotas", "caps", "entitlements"],
    "timezone": ["tz", "ianatimezone"],
    "owner_email": ["owneremailaddress", "ownermail", "accountowneremail", "accountowner", "owner", "repemail",
                    "salesrep", "accountexecutive"],
    "signed_up_at": ["signedup", "signedupon", "signup", "signupat", "signupdate", "signedupdate", "registeredat",
                     "registrationdate", "customersince", "createdat", "createddate", "createdate", "created"],
}  # fmt: skip
"""Column → headers, in lower-case letters and digits alone, that mean it; of several in one file the first counts."""

_SEPARATORS = (",", ";", "\t", "|")
_NEAR = 0.8
"""Ours: how much a header must look like a column (`difflib`) to be taken for a slip of the pen."""


def read_accounts(path: Path | str, tell: Callable[[str], None] | None = None) -> pd.DataFrame:
    """The snapshot of a CSV or Parquet file, each row with `account_id`, `domain` or `crm_account_id`.

    All columns of SNAPSHOT, and `crm_account_id` if the file has it. `tell` is called with one line for whatever was
    left out or read otherwise than written. Raises AccountsError if the file is unreadable, or has a header that looks
    like a slip of the pen, a value of the wrong kind or a duplicate row. Reading is strict where something cannot be
    read, because a person wrote the file and can correct it.
    """
    path = Path(path)
    told: list[str] = []
    try:
        found = _columns(_table(path, told.append), told.append)
        accounts = normalise_accounts(found, strict=True, tell=told.append)
    except AccountsError as error:
        raise AccountsError(f"{path}: {error}") from error
    if tell is not None:
        for line in told:
            tell(f"{path.name}: {line}")
    return accounts[[name for name in COLUMNS if name in SNAPSHOT or name in found]]


def _table(path: Path, tell: Callable[[str], None]) -> pd.DataFrame:
    """The file's rows as they are written, under its own headers."""
    suffix = path.suffix.lower()
    if suffix not in (".parquet", ".csv", ".tsv", ".txt"):
        raise AccountsError(f"is {path.suffix or 'without suffix'}; give a .csv or a .parquet file")
    try:
        if suffix == ".parquet":
            return pd.read_parquet(path)
        return _delimited(path.read_bytes(), tell)
    except (OSError, ValueError, csv.Error, pd.errors.ParserError, pa.ArrowException) as error:
        if isinstance(error, AccountsError):
            raise
        raise AccountsError(f"cannot be read ({' '.join(str(error).split())})") from error


def _delimited(content: bytes, tell: Callable[[str], None]) -> pd.DataFrame:
    if content[:4] in (b"PK\x03\x04", b"\xd0\xcf\x11\xe0"):
        raise AccountsError("is a spreadsheet's or a zip file under another name; save the sheet as CSV (UTF-8)")
    text = _text(content, tell)
    rows, separator = _separated(text)
    header = next((row for row in rows if any(cell.strip() for cell in row)), None)
    if header is None:
        raise AccountsError("cannot be read (no header; the first line must name the columns)")
    spare = [f"\ufefffurther {n}" for n in range(64)]  # cells beyond the header's, which must be empty
    # Read as text, because an id may have leading zeros and a region may be named NA.
    frame = pd.read_csv(
        io.StringIO(text), sep=separator, header=None, names=[*range(len(header)), *spare], skiprows=rows.line_num,
        dtype=str, keep_default_na=False, na_values=[""], index_col=False, low_memory=False,
    )  # fmt: skip
    further = frame[spare].notna() & (frame[spare] != "")
    if (long := further.any(axis=1)).any():
        first = long.tolist().index(True)
        raise AccountsError(
            f"row {first + 1}: has more values than the header has columns; put a value that contains "
            f"{'a tab' if separator == chr(9) else repr(separator)} in double quotes"
        )
    frame = frame.drop(columns=spare)
    frame = frame[frame.notna().any(axis=1)[::-1].cummax()[::-1]]  # spreadsheets write empty rows after the last
    frame.columns = pd.Index(header)
    return frame


def _text(content: bytes, tell: Callable[[str], None]) -> str:
    """The text of a file, by its byte order mark, else as UTF-8, else as Windows-1252."""
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if content.startswith(mark):
            return content.decode(encoding)
    head = content[:4096]
    if head.count(0) > len(head) / 4:  # UTF-16 without its mark: every other byte of plain letters is zero
        return content.decode("utf-16-be" if head[::2].count(0) > head[1::2].count(0) else "utf-16-le")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        kept = content.decode("utf-8", "ignore")
        row = content[: error.start].count(b"\n")
        if not kept.isascii():
            raise AccountsError(
                f"row {row}: is not UTF-8, though other rows are; save the whole file as UTF-8"
            ) from error
        try:
            text = content.decode("cp1252")
        except UnicodeDecodeError:
            raise AccountsError(f"row {row}: is neither UTF-8 nor Windows-1252; save the file as UTF-8") from error
        tell("is not UTF-8; read as Windows-1252, as spreadsheets write it")
        return text


class _Lines:
    """The rows of a text, and the number of lines taken so far."""

    def __init__(self, text: str, separator: str, skip: int) -> None:
        lines = io.StringIO(text, newline="")
        for _ in range(skip):
            lines.readline()
        self._reader = csv.reader(lines, delimiter=separator, strict=True)
        self._skip = skip

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> list[str]:
        return next(self._reader)

    @property
    def line_num(self) -> int:
        return self._skip + self._reader.line_num


def _separated(text: str) -> tuple[_Lines, str]:
    """The rows of a text from its header on, by the separator that gives the most known headers, and the separator."""
    said = re.match(r"(?:\"?sep=(.)\"?)\r?\n", text)  # as a spreadsheet may write it
    skip = 1 if said else 0
    if said:
        return _Lines(text, said[1], skip), said[1]

    def known(separator: str) -> tuple[int, int]:
        try:
            header = next((row for row in _Lines(text, separator, skip) if any(row)), [])
        except csv.Error:  # quotes where this separator cannot have them
            return 0, 0
        return sum(_column(cell) is not None for cell in header), len(header)

    best = max(_SEPARATORS, key=known) if text.strip() else ","
    return _Lines(text, best, skip), best


_BY_KEY = {
    **{key: (name, place) for name, keys in SYNONYMS.items() for place, key in enumerate(keys, 1)},
    **{name.replace("_", ""): (name, 0) for name in COLUMNS},
}


def _key(header: str) -> str:
    """A header in lower-case letters and digits alone; a custom field of Salesforce loses its `__c`."""
    return re.sub(r"[^a-z0-9]", "", re.sub(r"__c$", "", header.strip().casefold()))


def _column(header: object) -> tuple[str, int] | None:
    """The column that a header means, and how far down in SYNONYMS it stands (0: it is the column's name)."""
    return _BY_KEY.get(_key(str(header)))


def _columns(frame: pd.DataFrame, tell: Callable[[str], None]) -> pd.DataFrame:
    """The columns that a snapshot may have, under our names; tells which headers were read as what, or left out."""
    meant: dict[str, tuple[int, int]] = {}  # our name → place in SYNONYMS, position in the file
    left, slips = [], []
    for position, header in enumerate(map(str, frame.columns)):
        given = frame.iloc[:, position]
        found = _column(header)
        if found is None:
            if _key(header) and (near := difflib.get_close_matches(_key(header), _BY_KEY, 1, _NEAR)):
                slips.append((header, _BY_KEY[near[0]][0]))
            elif given.notna().any():
                left.append(header or f"(column {position + 1}, without a header)")
            continue
        name, place = found
        if name in meant and place == meant[name][0] == 0:
            raise AccountsError(f"two columns are {name}; keep one")
        if place and not _may_be(name, given):
            tell(f"column {header!r} is left out: it looks like {name}, but holds no such value")
        elif name in meant and meant[name][0] < place:
            left.append(header)
        else:
            if name in meant:
                left.append(str(frame.columns[meant[name][1]]))
            meant[name] = (place, position)
    if slips:
        near_ = "; ".join(f"{header} looks like {name}" for header, name in slips)
        allowed = ", ".join(COLUMNS)
        raise AccountsError(f"no such column: {', '.join(h for h, _ in slips)}; allowed: {allowed} ({near_})")
    if not meant:
        raise AccountsError(f"no such column: {', '.join(map(str, frame.columns[:9]))}; allowed: {', '.join(COLUMNS)}")
    if left:
        tell(f"columns left out: {', '.join(left)}")
    if read := [f"{frame.columns[at]!r} as {name}" for name, (place, at) in meant.items() if place]:
        tell(f"columns read: {', '.join(read)}")
    return pd.DataFrame({name: frame.iloc[:, position] for name, (_, position) in meant.items()})


def _may_be(name: str, given: pd.Series) -> bool:
    """Whether at least one value of a column that is named otherwise can be read as that column."""
    values = read_values(KINDS[name], given)
    return bool(values.read.notna().any()) or not bool(given.notna().any())
