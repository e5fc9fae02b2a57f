"""Mends the text of a row that is not JSON as it stands: an odd character or value costs itself, not its event.

What decides about an event (its id, name, time, user and account) is never made up: `Canonical` rejects a row whose
deciding parts hold a character that could not be read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from math import isfinite
from typing import Any

INVALID_UTF8 = "invalid_utf8"
LONE_SURROGATE = "lone_surrogate"
TOO_LONG = "value_too_long"

UNREADABLE = "\ufffd"
"""Stands for each character that could not be read."""

NO_NUMBER = r"[:,\[]-?(?:N|I|i|na)"
"""Finds NaN and infinities, which programs write though JSON has none, in JSON without blanks. Where a text happens to
contain the like, reading the row again changes nothing."""

_STRING = r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)'  # one without an end goes to the end, so each text is read once
_TOKEN = re.compile(rf"(?s:{_STRING})|[-+]?\b(?i:nan|infinity|inf)\b|[\x00-\x1f]")
_ESCAPE = re.compile(
    r"""\\u(?P<high>[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}
    | \\u(?P<lone>[dD][89a-fA-F][0-9a-fA-F]{2})
    | \\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})
    | (?P<broken>\\)
    | (?P<raw>[\x00-\x1f])""",
    re.VERBOSE,
)


def mend(octets: bytes, places: Sequence[Sequence[str]], most: int) -> tuple[str, str]:
    """The mended text of a row and what was mended of it, the first if there was more (empty: nothing).

    `invalid_utf8`, `lone_surrogate`, `broken_escape`: characters became `UNREADABLE`. `control_characters`: they were
    escaped. `not_a_number`: NaN and infinities became null. `value_too_long`: of the objects at `places` (paths of
    keys) the longest values were left out until their JSON has at most `most` characters. A byte order mark is dropped.
    """
    found: list[str] = []
    try:
        text = octets.decode()
    except UnicodeDecodeError:
        text = octets.decode("utf-8", "replace")
        found.append(INVALID_UTF8)

    def escape(match: re.Match[str]) -> str:
        if match["lone"]:
            found.append(LONE_SURROGATE)
        elif match["broken"]:
            found.append("broken_escape")
        elif match["raw"]:
            found.append("control_characters")
            return f"\\u{ord(match['raw']):04x}"
        else:
            return match[0]
        return UNREADABLE

    def token(match: re.Match[str]) -> str:
        value = match[0]
        if value[0] == '"':
            return _ESCAPE.sub(escape, value)
        if value < " ":
            return " "
        found.append("not_a_number")
        return "null"

    text = _TOKEN.sub(token, text.lstrip("\ufeff"))
    if len(text) > most:
        text, is_cut = _cut(text, places, most)
        found += [TOO_LONG] * is_cut
    return text, found[0] if found else ""


def _cut(text: str, places: Sequence[Sequence[str]], most: int) -> tuple[str, bool]:
    """The row without the longest values of its objects at `places`, and whether any was left out."""
    try:
        row = json.loads(text, object_pairs_hook=_first_of_equal, parse_float=_number, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return text, False
    is_cut = False
    for place in places:
        inner = row
        for step in place:
            inner = inner.get(step) if isinstance(inner, dict) else None
        if isinstance(inner, dict) and (size := len(_json(inner))) > most:
            _shorten(inner, size - most)
            is_cut = True
    return (_json(row), True) if is_cut else (text, False)


def _shorten(values: dict[str, Any], excess: int) -> None:
    """Leaves out the longest values, of objects within it theirs, until the JSON is at least `excess` shorter."""
    sizes = sorted(((len(_json(value)), name) for name, value in values.items()), reverse=True)
    for size, name in sizes:
        if excess <= 0:
            return
        value = values[name]
        if isinstance(value, dict) and len(value) > 1 and size > excess:
            _shorten(value, excess)
            return
        del values[name]
        excess -= size + len(_json(name)) + 1


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _first_of_equal(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object in which the first of several equal keys counts, as it does in the engine."""
    return dict(reversed(pairs))


def _number(digits: str) -> float | None:
    return number if isfinite(number := float(digits)) else None
