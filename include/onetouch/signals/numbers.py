"""Numbers as people and programs write them: which spellings are plain, and which may mean two numbers.

Plain are `1900`, `1900.5`, `1.9e3`, groups of three digits (`1,900`, `1 900`, `1'900`, `1.900.000`, `1.900,50`) and a
decimal comma that can be nothing else (`12,5`). `1.900` as text is read only where other values say what the dot means:
it is 1900 in one country and 1.9 in another. Units, percentages and currencies are not read here.

Files of accounts are read in Python, properties of events in the engine; both use the patterns below.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ibis.expr.types as ir

_SIGN = r"[+-]?"
_SPACES = "\u00a0\u2009\u202f"  # as characters: the engine's regular expressions do not know \\u
PLAIN = rf"{_SIGN}(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
COMMA_GROUPS = rf"{_SIGN}[1-9][0-9]{{0,2}}(?:,[0-9]{{3}})+(?:\.[0-9]+)?"
OTHER_GROUPS = rf"{_SIGN}[1-9][0-9]{{0,2}}(?:[ '’{_SPACES}][0-9]{{3}})+(?:\.[0-9]+)?"
DOT_GROUPS = rf"{_SIGN}[1-9][0-9]{{0,2}}(?:(?:\.[0-9]{{3}}){{2,}}(?:,[0-9]+)?|\.[0-9]{{3}},[0-9]+)"
DECIMAL_COMMA = rf"{_SIGN}(?:0,[0-9]+|[0-9]+,(?:[0-9]{{1,2}}|[0-9]{{4,}}))"
TWO_MEANINGS = rf"{_SIGN}[1-9][0-9]{{0,2}}\.[0-9]{{3}}"
"""Of the plain ones: a text of this form is a number with decimals, or one with groups of three digits."""

NO_DIGITS = f"[ '’,{_SPACES}]"
"""What stands between the digits of COMMA_GROUPS and OTHER_GROUPS."""

BLANKS = f" \t\r\n{_SPACES}\ufeff"


class Dot(Enum):
    """What the dots in a column of numbers mean."""

    UNKNOWN = "no value says it"
    DECIMAL = "they stand before the decimals"
    GROUPS = "they stand between groups of three digits"


def dots_of(texts: Iterable[str]) -> Dot:
    """What the dots mean, by the values that leave no choice; UNKNOWN if there are none, or they contradict."""
    said = set()
    for text in texts:
        if _is(DOT_GROUPS, text) or _is(DECIMAL_COMMA, text):
            said.add(Dot.GROUPS)
        elif "." in text and _is(f"{PLAIN}|{COMMA_GROUPS}|{OTHER_GROUPS}", text) and not _is(TWO_MEANINGS, text):
            said.add(Dot.DECIMAL)
    return said.pop() if len(said) == 1 else Dot.UNKNOWN


def number(text: str, dots: Dot = Dot.UNKNOWN) -> float | None:
    """The number a text writes; None if it writes none plainly, or one that is not finite.

    `dots`: what dots mean in the texts that stand with it. Without it a text of TWO_MEANINGS is None.
    """
    text = text.strip(BLANKS)
    if _is(TWO_MEANINGS, text) and dots is not Dot.DECIMAL:
        if dots is Dot.UNKNOWN:
            return None
        digits = text.replace(".", "")
    elif _is(PLAIN, text):
        digits = text
    elif _is(COMMA_GROUPS, text) and dots is Dot.GROUPS:
        if text.count(",") > 1 or "." in text:
            return None  # written as elsewhere: there a comma stands before the decimals
        digits = text.replace(",", ".")
    elif _is(COMMA_GROUPS, text) or _is(OTHER_GROUPS, text):
        digits = re.sub(NO_DIGITS, "", text)
    elif _is(DOT_GROUPS, text) or _is(DECIMAL_COMMA, text):
        digits = text.replace(".", "").replace(",", ".")
    else:
        return None
    value = float(digits)
    return value if math.isfinite(value) else None


def number_in(text: ir.StringValue, quoted: ir.BooleanValue) -> ir.FloatingValue:
    """The number that a property writes, as `number` reads it; null for any other value.

    `quoted`: whether the value is a text of the JSON document, where a dot may mean two things, or a number of it.
    """
    import ibis

    t = text.strip()
    plain = t.try_cast("float64")
    grouped = ibis.cases(
        (t.re_search(_whole(f"{COMMA_GROUPS}|{OTHER_GROUPS}")), t.re_replace(NO_DIGITS, "")),
        (t.re_search(_whole(f"{DOT_GROUPS}|{DECIMAL_COMMA}")), t.replace(".", "").replace(",", ".")),
    ).try_cast("float64")
    read = ibis.coalesce(plain, grouped)
    unclear = t.re_search(_whole(TWO_MEANINGS)).ifelse(quoted, False)
    value = unclear.ifelse(ibis.null("float64"), read)
    return (value.isnan() | value.isinf()).ifelse(ibis.null("float64"), value)


def _whole(pattern: str) -> str:
    return f"^(?:{pattern})$"


def _is(pattern: str, text: str) -> bool:
    return re.fullmatch(pattern, text) is not None
