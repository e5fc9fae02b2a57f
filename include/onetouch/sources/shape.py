r"""The places in a source's row that hold the parts of an event, and the formats of its times.

A place is a path of keys separated by dots: `event_type`, `properties.$insert_id`. A number is a position in a list
(`contexts.data.0.data.account`); a dot that belongs to a key is written `\.`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from onetouch.lake import ISO_8601

Places = tuple[str, ...]
"""Possible places of a part; the first place with a value counts."""

EPOCH_SECONDS: Final = "epoch seconds"
EPOCH_MILLISECONDS: Final = "epoch milliseconds"
ISO: Final = ISO_8601


@dataclass(frozen=True)
class TimeFormat:
    """One way of writing a moment.

    `pattern`: a strptime pattern, EPOCH_SECONDS or EPOCH_MILLISECONDS (numbers or texts of them, fractions allowed), or
    ISO (a `T` or a blank between date and time; with or without offset). A moment without a zone is in UTC, or, if
    `project_zone`, in the time zone of the project: the policy's `sources.{name}.timezone`.
    """

    pattern: str
    project_zone: bool = False


@dataclass(frozen=True)
class Shape:
    """The places of each part of the canonical event in a row, which is a JSON object.

    `groups`: places of objects that map a group type to an id or a list of ids (the policy's `events.group_types` say
    which types count; of a list, the first id counts). `group`: places of the ids themselves. `user_properties`: places
    of objects in which the policy's `events.email_properties` may be an e-mail address. `email`: places of the
    addresses themselves. `properties`: places of objects. `project`: places of the id of the vendor's project.
    """

    event_id: Places
    event: Places
    occurred_at: Places
    received_at: Places
    user_id: Places
    times: tuple[TimeFormat, ...]
    groups: Places = ()
    group: Places = ()
    properties: Places = ()
    user_properties: Places = ()
    email: Places = ()
    project: Places = ()


@dataclass(frozen=True)
class Who:
    """The user, group and e-mail address (in lower case) that a row is about; None where the row has none."""

    user: str | None
    group: str | None
    email: str | None


def steps(place: str) -> tuple[str, ...]:
    """The keys of a path."""
    return tuple(re.sub(r"\\(.)", r"\1", step) for step in re.findall(r"(?:\\.|[^.\\])+", place))


def who(row: dict[str, Any], shape: Shape, group_types: Iterable[str], email_properties: Iterable[str]) -> Who:
    """Whom a row is about, by the same rules by which `events` makes an event of the row."""
    user = _first(_word(value) for value in _found(row, shape.user_id))
    groups = _object(row, shape.groups)
    group = _first(_word(value) for value in (*_found(row, shape.group), *(groups.get(name) for name in group_types)))
    about = _object(row, shape.user_properties)
    addresses = (*_found(row, shape.email), *(about.get(name) for name in email_properties), user)
    email = _first(word for value in addresses if (word := _word(value)) and "@" in word)
    return Who(user, group, email.lower() if email else None)


def _found(row: Any, places: Places) -> Iterator[Any]:
    """The value at each place; None where there is none."""
    for place in places:
        value = row
        for step in steps(place):
            if isinstance(value, dict):
                value = value.get(step)
            elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
                value = value[int(step)]
            else:
                value = None
        yield value


def _object(row: Any, places: Places) -> dict[str, Any]:
    """The first object at one of the places; an empty object if there is none."""
    return next((value for value in _found(row, places) if isinstance(value, dict)), {})


def _first(words: Iterable[str | None]) -> str | None:
    return next((word for word in words if word), None)


def _word(value: Any) -> str | None:
    """A text or number as text; of a list, its first item."""
    if isinstance(value, list):
        value = value[0] if value else None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(value).strip() or None
