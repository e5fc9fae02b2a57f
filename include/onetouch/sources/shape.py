r"""Where a source's row holds the parts of an event, and how it writes its times.

A place is a path of keys with a dot between them: `event_type`, `properties.$insert_id`. A number is a position in a
list (`contexts.data.0.data.account`); a dot that belongs to a key is written `\.`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from onetouch.lake import ISO_8601

Places = tuple[str, ...]
"""Where a part may stand; the first place that holds something counts."""

EPOCH_SECONDS: Final = "epoch seconds"
EPOCH_MILLISECONDS: Final = "epoch milliseconds"
ISO: Final = ISO_8601


@dataclass(frozen=True)
class TimeFormat:
    """One way of writing a moment.

    `pattern`: a strptime pattern, EPOCH_SECONDS or EPOCH_MILLISECONDS (numbers or texts of them, fractions allowed), or
    ISO (a `T` or a blank between date and time; with or without offset). A moment that names no zone is UTC, or, if
    `project_zone`, on the clock of the project: the policy's `sources.{name}.timezone`.
    """

    pattern: str
    project_zone: bool = False


@dataclass(frozen=True)
class Shape:
    """Where a row, a JSON object, holds each part of the canonical event.

    `groups` are objects that hold group type → id or list of ids (the policy's `events.group_types` say which, the
    first id of a list counts), `group` ids themselves. `user_properties` are objects in which the policy's
    `events.email_properties` may be an e-mail address, `email` addresses themselves. `properties` are objects.
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


@dataclass(frozen=True)
class Who:
    """Whom a row is about; None where it does not say. The e-mail address is in lower case."""

    user: str | None
    group: str | None
    email: str | None


def steps(place: str) -> tuple[str, ...]:
    """The keys of a path."""
    return tuple(re.sub(r"\\(.)", r"\1", step) for step in re.findall(r"(?:\\.|[^.\\])+", place))


def who(row: dict[str, Any], shape: Shape, group_types: Iterable[str], email_properties: Iterable[str]) -> Who:
    """Whom a row is about, read as `events` reads it when it makes an event of it."""
    user = _first(_word(value) for value in _found(row, shape.user_id))
    groups = _object(row, shape.groups)
    group = _first(_word(value) for value in (*_found(row, shape.group), *(groups.get(name) for name in group_types)))
    about = _object(row, shape.user_properties)
    addresses = (*_found(row, shape.email), *(about.get(name) for name in email_properties), user)
    email = _first(word for value in addresses if (word := _word(value)) and "@" in word)
    return Who(user, group, email.lower() if email else None)


def _found(row: Any, places: Places) -> Iterator[Any]:
    """What stands at each place, None for nothing."""
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
    """The first object at one of the places; empty when there is none."""
    return next((value for value in _found(row, places) if isinstance(value, dict)), {})


def _first(words: Iterable[str | None]) -> str | None:
    return next((word for word in words if word), None)


def _word(value: Any) -> str | None:
    """A text or number as text; of a list the first."""
    if isinstance(value, list):
        value = value[0] if value else None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(value).strip() or None
