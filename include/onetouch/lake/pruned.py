"""What retention has deleted of the lake: months of events, of which only the summary that is kept for ever is left.

`pruned/events.json` names each such month. From the moment a month is in it, its event files are not read any more,
even if some of them are still there: what a killed deletion left behind changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import date, datetime

from onetouch.lake.files import Files

_PLACE = ("pruned", "events.json")


class Pruned(ValueError):
    """Something was deleted because the policy's `retention` says so. The message names when, and the policy's key."""


@dataclass(frozen=True)
class PrunedMonth:
    """A month (yyyy-mm) whose events were deleted. `at`: when; `days`: the policy's `retention.events_days` then.

    `known_until`: when the last of its events became known: its summary says nothing of what was known before that.
    `history`: the name of the month's file in `history/` under the policy of that time.
    """

    month: str
    at: datetime
    days: int
    known_until: datetime
    history: str

    @property
    def says(self) -> str:
        """When its events were deleted, and why, as the end of a sentence."""
        return f"pruned on {self.at:%Y-%m-%d} under the policy's retention.events_days: {self.days}"


def pruned_months(lake: Files) -> dict[str, PrunedMonth]:
    """The months whose events were deleted, oldest first."""
    if not lake.exists(*_PLACE):
        return {}
    with lake.fs.open(lake.path(*_PLACE), "rb") as file:
        document = json.loads(file.read())
    months = [
        PrunedMonth(
            month,
            datetime.fromisoformat(said["at"]),
            said["days"],
            datetime.fromisoformat(said["known_until"]),
            said["history"],
        )
        for month, said in document["months"].items()
    ]
    return {one.month: one for one in sorted(months, key=lambda one: one.month)}


def record_pruned(lake: Files, months: Mapping[str, PrunedMonth]) -> None:
    """Writes which months' events are deleted; the record is replaced as a whole."""
    document = {"format": 1, "months": {month: _said(one) for month, one in sorted(months.items())}}
    with lake.writing(*_PLACE) as draft, lake.fs.open(draft, "wb") as file:
        file.write(json.dumps(document, indent=1).encode())


def _said(one: PrunedMonth) -> dict[str, object]:
    said = asdict(one) | {"at": one.at.isoformat(), "known_until": one.known_until.isoformat()}
    del said["month"]
    return said


def require_events(pruned: Iterable[PrunedMonth], first: date, as_of: datetime | None, what: str) -> None:
    """Raises Pruned if events from the date `first` on are deleted, or events of before it that became known only after
    `as_of` (None: of these nothing is asked). `what` needs them, in a few words."""
    for one in pruned:
        if one.month >= f"{first:%Y-%m}":
            raise Pruned(f"{what} needs the events from {first} on; those of {one.month} were {one.says}")
        if as_of is not None and one.known_until > as_of:
            raise Pruned(
                f"{what} is about {as_of.isoformat()}, when some events of {one.month} were not known yet; which ones "
                f"cannot be told any more, because they were {one.says}"
            )
