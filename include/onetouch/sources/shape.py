r"""The places in a source's row that hold the parts of an event, and the formats of its times.

A place is a path of keys separated by dots: `event_type`, `properties.$insert_id`. A number is a position in a list
(`contexts.data.0.data.account`); a dot that belongs to a key is written `\.`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

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

    `anonymous_id`: places of the source's own id of a person who may not have signed in, most often a device's.
    `groups`: places of objects that map a group type to an id or a list of ids (the policy's `events.group_types` say
    which types count; of a list, the smallest id counts). `group`: places of the ids themselves. `user_properties`:
    places of objects in which the policy's `events.email_properties` may be an e-mail address. `email`: places of the
    addresses themselves. `properties`: places of objects. `project`: places of the id of the vendor's project.

    `told_apart`: the places that, with the event's parts, tell two rows without an event id apart, for sources that
    write other places anew at every export; empty: the whole text does. `sent_id`: places that together identify an
    event as its sender named it (empty: there are none); rows with equal values whose events are at most `sent_days`
    days apart are one event that was sent again.
    """

    event_id: Places
    event: Places
    occurred_at: Places
    received_at: Places
    user_id: Places
    times: tuple[TimeFormat, ...]
    anonymous_id: Places = ()
    groups: Places = ()
    group: Places = ()
    properties: Places = ()
    user_properties: Places = ()
    email: Places = ()
    project: Places = ()
    told_apart: Places = ()
    sent_id: Places = ()
    sent_days: int = 7


def steps(place: str) -> tuple[str, ...]:
    """The keys of a path."""
    return tuple(re.sub(r"\\(.)", r"\1", step) for step in re.findall(r"(?:\\.|[^.\\])+", place))
