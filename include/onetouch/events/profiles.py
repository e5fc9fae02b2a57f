"""Who people are: what the events say of each user, by date and, of months that are over, for ever.

`profiles/event_date=…/` holds each different thing that the events of a date say of a user, with the time of the last
event that says it; `profiles/month=…/` the same of a month. The latest known value of each part of a profile counts, by
the time of the event: an event that does not say a title takes none away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import TYPE_CHECKING

import pyarrow as pa

from onetouch.catalogue import PROFILE
from onetouch.events.identity import BLANKS
from onetouch.events.partitions import Kept, read_kept
from onetouch.lake import Engine, Lake

if TYPE_CHECKING:
    import ibis.expr.types as ir

PROFILES = pa.schema(
    [
        ("user_id", pa.string()),
        *((part, pa.string()) for part in PROFILE),
        ("at", pa.timestamp("us", tz="UTC")),
        ("event_date", pa.date32()),
    ]
)
"""A user, the parts of the profile (null where nothing is said), and when the last event said so."""

ADDRESS = r"^[^@\s<>|]+@[^@\s<>|]+\.[^@\s<>|]+$"
"""An e-mail address, of which the part behind the @ has a dot."""

LAYOUT = "profiles 1"
"""Part of `built_from`; change it when the content of a partition changes, so that all are made again."""

_CONTROL = r"[\x00-\x1f\x7f]"
_LONGEST = 120  # ours: characters of a name or a title that a line has room for


def read_profiles(
    lake: Lake,
    engine: Engine,
    files: Mapping[date, list[str]],
    as_of: datetime,
    name: str = "profiles",
    *,
    pruned: Iterable[str] = (),
) -> ir.Table:
    """The table `name` (PROFILES) of what the events of `files` say of their users, as known at `as_of`.

    `pruned`: months (yyyy-mm) of which only what is kept for ever is left; it is read as well.
    """
    return read_kept(_KEPT, lake, engine, files, as_of, name, pruned=pruned)


def latest_profiles(engine: Engine, profiles: ir.Table) -> ir.Table:
    """user_id and the latest known value of each part of the profile; of two at one moment the greater."""
    import ibis

    p = profiles
    parts = {
        part: engine.at_most(p[part], ibis.struct({"at": p["at"], "value": p[part]}), where=p[part].notnull())
        for part in PROFILE
    }
    return p.group_by("user_id").agg(**parts)


def _said(engine: Engine, events: ir.Table) -> ir.Table:
    """The rows of PROFILES of events."""
    import ibis

    told = events.filter(events.user_id.notnull() & events.profile.notnull())
    parts = {}
    for part in PROFILE:
        text = engine.trim(engine.json_text(told.profile, [part]).re_replace(_CONTROL, " "), BLANKS)
        text = text.left(_LONGEST).nullif("")
        address = text.lower()
        parts[part] = address.re_search(ADDRESS).ifelse(address, ibis.null()) if part == "email" else text
    told = told.select("user_id", "event_date", "occurred_at", **parts)
    told = told.filter(ibis.or_(*(told[part].notnull() for part in PROFILE)))
    seen = told.group_by("user_id", *PROFILE, "event_date").agg(at=told.occurred_at.max())
    return seen.select(PROFILES.names)


def _changes(rows: ir.Table) -> ir.Table:
    """Each different thing that is said of a user within a month, at its last time."""
    seen = rows.group_by("user_id", *PROFILE).agg(at=rows["at"].max(), event_date=rows.event_date.max())
    return seen.select(PROFILES.names)


_KEPT = Kept("profiles", LAYOUT, PROFILES, _said, _changes)
