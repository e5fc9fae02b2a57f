"""The values of an account snapshot: reads each column by its kind, as people, programs and spreadsheets write it.

A value is read, is nothing (a blank, "n/a"), or is lost because it cannot be read. What was read in a way that somebody
may want to know is noted, with examples.
"""

from __future__ import annotations

import ast
import datetime as dt
import json
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from zoneinfo import available_timezones

import pandas as pd
from publicsuffixlist import PublicSuffixList

from onetouch.catalogue import Kind
from onetouch.ledger import clean
from onetouch.signals.numbers import BLANKS, TWO_MEANINGS, Dot, dots_of, number

_LONGEST = 500
"""Ours: maximum characters kept of a text; it is copied into every run, and no name needs more."""

_LARGEST = 1e15
"""Ours: numbers from here on are no sizes, prices or caps; programs write the largest integer for "unlimited"."""

_EXAMPLES = 3  # shown with a note

_NOTHING = frozenset(
    {"", "-", "–", "—", "?", "n/a", "n.a.", "na", "#n/a", "null", "none", "nil", "nan", "nat", "unknown", "undefined",
     "not set", "(not set)", "(blank)", "tbd"}
)  # fmt: skip
"""How people and programs write that a number, date, address or id is not known."""

_UNLIMITED = frozenset(
    {"unlimited", "infinite", "infinity", "inf", "∞", "no limit", "none", "null", "nan", "", "-1", "max"}
)


class Cell(NamedTuple):
    """What a value says (None: nothing), and how it was read, if that is worth telling; `example` of it."""

    value: Any
    note: str = ""
    example: str = ""


class Lost(NamedTuple):
    """A value that cannot be read. `why`: what to change, if more can be said than what the column allows."""

    why: str = ""


Read = Cell | Lost
_NONE = Cell(None)


@dataclass
class Values:
    """A column with its dtype. `lost`: which values could not be read; `why`: value → what to change;
    `notes`: how values were read → the number of rows, and examples."""

    read: pd.Series
    lost: pd.Series
    why: dict[Any, str] = field(default_factory=dict)
    notes: dict[str, tuple[int, list[str]]] = field(default_factory=dict)


def read_values(kind: Kind, given: pd.Series) -> Values:
    """The values of one column of that kind."""
    given = given.astype(object) if isinstance(given.dtype, pd.CategoricalDtype) else given
    if kind is Kind.MOMENT:
        return _moments(given)
    if kind.is_number:
        return _numbers(kind, given)
    if kind is Kind.FLAG:
        flags = given.map({True: True, False: False, "true": True, "false": False}).astype("boolean")
        return Values(flags, given.notna() & flags.isna())
    found = _each(given, _TEXTS[kind])
    found.read = found.read.astype("str")
    return found


def _each(given: pd.Series, read: Callable[[Any], Read]) -> Values:
    """Applies `read` to every distinct value; the result has the dtype object."""
    plain = given.map(_plain) if given.dtype == object else given
    cells = {value: read(value) for value in plain.dropna().unique()}
    kept = {value: cell.value if isinstance(cell, Cell) else None for value, cell in cells.items()}
    lost = {value: cell.why for value, cell in cells.items() if isinstance(cell, Lost)}
    noted = {value: cell for value, cell in cells.items() if isinstance(cell, Cell) and cell.note}
    found = Values(plain.map(kept).astype(object), plain.isin(list(lost)), lost)
    found.read = found.read.where(found.read.notna(), None)
    if noted:
        times = plain[plain.isin(list(noted))].value_counts()
        counted: dict[str, tuple[int, list[str]]] = defaultdict(lambda: (0, []))
        for value, cell in noted.items():
            rows, examples = counted[cell.note]
            counted[cell.note] = (rows + int(times[value]), [*examples, cell.example][:_EXAMPLES])
        found.notes = dict(counted)
    return found


def _plain(value: Any) -> Any:
    """A value of a Parquet file as one that can be compared: objects and lists as JSON, bytes as text."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, Mapping):
        return json.dumps(dict(value), default=str)
    if hasattr(value, "tolist") and not isinstance(value, str):
        value = value.tolist()
    if isinstance(value, list | tuple | set):
        items = list(value)
        if items and all(isinstance(item, tuple) and len(item) == 2 for item in items):  # a map of Parquet
            return json.dumps(dict(items), default=str)
        return json.dumps(items, default=str)
    return value


def _is_nothing(text: str) -> bool:
    return text.strip(BLANKS).casefold() in _NOTHING


def _unless_nothing(read: Callable[[str], Read]) -> Callable[[Any], Read]:
    """Reads a value as text, and what people write for "not known" as nothing."""

    def known(value: Any) -> Read:
        text = str(value).strip(BLANKS)
        if _is_nothing(text):
            return Cell(None, "taken as not known", repr(text)) if text else _NONE
        return read(text)

    return known


# ── texts ──


def _text(value: Any) -> Read:
    """The text; nothing if it has nothing but blanks and invisible characters."""
    whole = clean(str(value)[: 2 * _LONGEST])
    text = whole[:_LONGEST].strip()
    if not any(c.isprintable() and not c.isspace() for c in text):
        return _NONE
    return Cell(text, f"cut to {_LONGEST} characters", repr(text[:20] + "…")) if len(whole) > _LONGEST else Cell(text)


def _id(value: Any) -> Read:
    """An id as text: leading zeros stay, and a whole number of a table of numbers loses its `.0`."""
    if isinstance(value, float) and value.is_integer():
        return Cell(str(int(value)))
    found = _text(value)
    text = found.value if isinstance(found, Cell) else None
    if text is None:
        return found
    if _is_nothing(text):
        return Cell(None, "taken as not known", repr(text))
    if re.fullmatch(r"[0-9](\.[0-9]+)?E\+[0-9]+", text):
        return Lost("a spreadsheet has shortened it; write the column as text and export it again")
    if whole := re.fullmatch(r"(-?[0-9]+)\.0+", text):
        return Cell(whole[1], "without the decimals of a table of numbers", f"{text!r} is {whole[1]!r}")
    return found


def _email(text: str) -> Read:
    named = re.search(r"<([^<>]+)>\s*$", text)  # Ana Example <ana@example.com>
    address = (named[1] if named else text).strip().lower().removeprefix("mailto:")
    return Cell(address) if "@" in address and not any(c.isspace() for c in address) else Lost()


@cache
def _zones() -> dict[str, str]:
    return {name.casefold(): name for name in sorted(available_timezones())}


def _zone(text: str) -> Read:
    name = _zones().get(text.replace(" ", "_").casefold())
    return Cell(name) if name else Lost()


@cache
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList()


def domain_of(text: str) -> str | None:
    """The registrable domain of a website, a host name or an e-mail domain; None if it is none of them."""
    text = text.strip().lower().lstrip("@")
    try:
        host = urlsplit(text if "//" in text else f"//{text}").hostname or ""
        host = host.rstrip(".").encode("idna").decode() if not host.isascii() else host.rstrip(".")
    except (ValueError, UnicodeError):
        return None
    if "." not in host or not all(c.isalnum() or c in ".-" for c in host):
        return None
    return _suffixes().privatesuffix(host)


def _domain(text: str) -> Read:
    if domain := domain_of(text):
        return Cell(domain)
    several = [part for part in re.split(r"[;,|\s]+", text) if domain_of(part)]
    return Lost("keep one here and give all of them in a column domains" if len(several) > 1 else "")


def _domains(text: str) -> Read:
    """All domains, each once and sorted, separated by semicolons."""
    try:
        parts = json.loads(text) if text.startswith("[") else re.split(r"[;,|\s]+", text)
    except ValueError:
        return Lost()
    domains, bad = set(), []
    for part in (str(part).strip() for part in parts if part and str(part).strip()):
        if domain := domain_of(part):
            domains.add(domain)
        else:
            bad.append(part)
    if not domains:
        return Lost() if bad else _NONE
    joined = ";".join(sorted(domains))
    return Cell(joined, "without what is no domain", ", ".join(map(repr, bad))) if bad else Cell(joined)


def _limits(text: str) -> Read:
    """Canonical JSON of the caps that are positive numbers; an unlimited one is none, and a bad one is left out."""
    if text.casefold() in _UNLIMITED:
        return _NONE
    try:
        caps = json.loads(text)
    except (ValueError, RecursionError):
        try:
            caps = ast.literal_eval(text)  # as Python writes it: {'seats': 10}
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return Lost()
    if caps in (None, [], -1):
        return _NONE
    if not isinstance(caps, dict):
        return Lost()
    known, bad = dict[str, float](), []
    for name, cap in caps.items():
        value = _cap(cap)
        if value is None:
            bad.append(f"{name}: {str(cap)[:20]}")
        elif value:
            known[str(name).strip()] = int(value) if float(value).is_integer() else value
    said = json.dumps(known, sort_keys=True) if known else None
    return Cell(said, "without limits that are no caps", ", ".join(bad)) if bad else Cell(said)


def _cap(cap: Any) -> float | None:
    """A cap; 0 for none (unlimited), None for a value that says neither."""
    if isinstance(cap, bool) or not isinstance(cap, str | int | float | None):
        return None
    if isinstance(cap, str) or cap is None:
        text = "" if cap is None else cap.strip(BLANKS).casefold()
        if text in _UNLIMITED:
            return 0
        cap = number(text)
        if cap is None:
            return None
    if cap in (-1, 0) or cap >= _LARGEST:
        return 0
    return cap if cap > 0 else None  # also None for not-a-number


_TEXTS: dict[Kind, Callable[[Any], Read]] = {
    Kind.TEXT: _text,
    Kind.ID: _id,
    Kind.DOMAIN: _unless_nothing(_domain),
    Kind.DOMAINS: _unless_nothing(_domains),
    Kind.EMAIL: _unless_nothing(_email),
    Kind.TIMEZONE: _unless_nothing(_zone),
    Kind.CAPS: _unless_nothing(_limits),
}


# ── numbers ──


def _numbers(kind: Kind, given: pd.Series) -> Values:
    """Numbers that are not negative; whole ones are rounded."""
    numbers = pd.to_numeric(given, errors="coerce").astype("float64")
    found = Values(numbers, pd.Series(False, index=given.index))
    if not pd.api.types.is_numeric_dtype(given.dtype):
        texts = given.dropna().astype(str).str.strip(BLANKS)
        told = texts[numbers[texts.index].isna() | texts.str.fullmatch(TWO_MEANINGS)]
        if len(told):
            said = _each(told, partial(_number, dots=dots_of(texts.unique())))
            numbers = numbers.copy()
            numbers[told.index] = pd.to_numeric(said.read).astype("float64")
            found = said
    kept = numbers.where((numbers >= 0) & (numbers < _LARGEST))  # a negative or absurdly large value is invalid
    lost = given.notna() & kept.isna()
    if not pd.api.types.is_numeric_dtype(given.dtype):
        lost &= ~given.map(lambda value: _is_nothing(str(value))).astype(bool)
    read = kept.round().astype("Int64") if kind is Kind.WHOLE else kept
    return Values(read, lost, found.why, found.notes)


_RANGE = re.compile(
    r"(?P<least>[0-9][0-9.,' \u00a0]*[0-9]|[0-9])\s*(?:-|–|—|to|\.\.)\s*(?P<most>[0-9][0-9.,' \u00a0]*)"
)
_AT_LEAST = re.compile(r"(?:(?:>=?|≥|over|more than)\s*(?P<over>[0-9][0-9.,' ]*)|(?P<from>[0-9][0-9.,' ]*)\s*\+)")
_SHORT = re.compile(r"(?P<digits>[0-9][0-9.,]*)\s*(?P<times>k|m|mio|bn)\b\.?", re.IGNORECASE)
_TIMES = {"k": 1e3, "m": 1e6, "mio": 1e6, "bn": 1e9}
_DOLLARS = re.compile(r"^(?:US)?\$|^USD\b|\bUSD$|\$$", re.IGNORECASE)


def _number(value: Any, dots: Dot) -> Read:
    """A number as people write it; of a range the lower bound, because a company is at least that large."""
    text = _DOLLARS.sub("", str(value).strip(BLANKS)).strip(BLANKS)
    if _is_nothing(text):
        return Cell(None, "taken as not known", repr(text)) if text else _NONE
    if (read := number(text, dots)) is not None:
        if re.fullmatch(TWO_MEANINGS, text):
            return Cell(read, "read as the other values of the column write numbers", f"{text!r} is {read:g}")
        return Cell(read)
    if found := _RANGE.fullmatch(text):
        least, most = number(found["least"], dots), number(found["most"], dots)
        if least is not None and most is not None and least <= most:
            return Cell(least, "read as the lower bound of a range", f"{text!r} is {least:g}")
    if found := _AT_LEAST.fullmatch(text):
        least = number(found["over"] or found["from"], dots)
        if least is not None:
            return Cell(least, "read as the lower bound of a range", f"{text!r} is {least:g}")
    if (found := _SHORT.fullmatch(text)) and (short := number(found["digits"], dots)) is not None:
        long = short * _TIMES[found["times"].casefold()]
        return Cell(long, "read as thousands or millions", f"{text!r} is {long:,.0f}")
    if re.fullmatch(TWO_MEANINGS, text):
        return Lost(
            f"it may be {text.replace('.', '')} or {float(text):g}: write {text.replace('.', '')}, without a dot"
        )
    return Lost()


# ── moments ──

_DAY_FIRST = "the day before the month"
_MONTH_FIRST = "the month before the day"
_SLASHED = re.compile(r"([0-9]{1,2})/([0-9]{1,2})/([0-9]{4})(?: .*)?")
_NAMED = ("%B %d, %Y", "%b %d, %Y", "%d %B %Y", "%d %b %Y", "%d-%b-%Y", "%d-%B-%Y", "%d.%m.%Y", "%d.%m.%Y %H:%M",
          "%d.%m.%Y %H:%M:%S", "%Y/%m/%d", "%Y/%m/%d %H:%M", "%Y/%m/%d %H:%M:%S")  # fmt: skip
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")


def _moments(given: pd.Series) -> Values:
    """Moments in UTC; a time without a zone is UTC."""
    if pd.api.types.is_datetime64_any_dtype(given.dtype):
        moments = pd.to_datetime(given, utc=True).astype("datetime64[us, UTC]")
        return Values(moments, pd.Series(False, index=given.index))
    if pd.api.types.is_numeric_dtype(given.dtype):
        given = given.map(lambda value: str(int(value)), na_action="ignore").astype(object)
    texts = given.map(lambda value: str(value).strip(BLANKS), na_action="ignore")
    counted = texts.astype("str").str.fullmatch(r"[0-9]{5}|[0-9]{9,13}").fillna(False).astype(bool)
    moments = pd.to_datetime(texts.where(~counted), utc=True, errors="coerce", format="ISO8601").astype(
        "datetime64[us, UTC]"
    )
    others = texts[texts.notna() & moments.isna()]
    if not len(others):
        return Values(moments, pd.Series(False, index=given.index))
    said = _each(others, partial(_moment, order=_order(others.unique())))
    moments = moments.copy()
    moments[others.index] = pd.to_datetime(said.read, utc=True, errors="coerce").astype("datetime64[us, UTC]")
    lost = pd.Series(False, index=given.index)
    lost[others.index] = said.lost
    return Values(moments, lost, said.why, said.notes)


def _order(texts: Any) -> str | None:
    """Whether day or month comes first in dates with slashes, by those that leave no choice."""
    said = set()
    for text in texts:
        if found := _SLASHED.fullmatch(str(text)):
            first, second = int(found[1]), int(found[2])
            if first != second and max(first, second) > 12:
                said.add(_DAY_FIRST if first > 12 else _MONTH_FIRST)
    return said.pop() if len(said) == 1 else None


def _moment(value: Any, order: str | None) -> Read:
    text = str(value)
    if _is_nothing(text):
        return Cell(None, "taken as not known", repr(text)) if text else _NONE
    if re.fullmatch(r"[0-9]{5}", text):
        return Lost("a spreadsheet's number of a day; format the column as a date, like 2024-05-01")
    if re.fullmatch(r"[0-9]{9,13}", text):
        at = dt.datetime.fromtimestamp(int(text) / (1000 if len(text) > 10 else 1), dt.UTC)
        return Cell(at, "read as seconds or milliseconds since 1970", f"{text!r} is {at:%Y-%m-%d}")
    if found := _SLASHED.fullmatch(text):
        first, second = int(found[1]), int(found[2])
        if first != second and order is None:
            return Lost("day and month may be either way round; write it like 2024-05-31")
        date = "%m/%d/%Y" if order == _MONTH_FIRST else "%d/%m/%Y"
        at_ = _parsed(text, tuple(date + clock for clock in _CLOCKS))
        return Lost() if at_ is None else Cell(at_, f"read with {order}", repr(text)) if order else Cell(at_)
    at_ = _parsed(text, _NAMED)
    return Lost() if at_ is None else Cell(at_)


def _parsed(text: str, formats: tuple[str, ...]) -> dt.datetime | None:
    for form in formats:
        try:
            return dt.datetime.strptime(text, form).replace(tzinfo=dt.UTC)
        except ValueError:
            continue
    return None
