"""What has ended by the clock between two runs: the only changes of a decision that no event and no record brings.

Each kind is declared here (ENDS) and found from what both runs have stored about the account:

- a day of the account's own zone: levels of use count whole days (`Signal.level`), readings of plan limits age by them
- a window: an occurrence is older than the window of its signal, which slides by the hour
- a step of decay: points of an occurrence that has become a day older
- fresh intent: a trigger event that nobody could act on in time
- what sales waits for: the cooldown, the days after a touch, a purchase or a deal, a checkout without a step
- what an account waits for: a rep's room or return (working time), or the next day of all reps
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from onetouch.catalogue import SIGNALS
from onetouch.policy import Policy
from onetouch.routing import Known

End = Callable[[Known, Known, Policy, datetime, datetime], Iterator[str]]
"""(what was stored of the account before, what now, policy, the moments of both runs) → one sentence an end."""

_UTC = "UTC"


def ended(before: Known, now: Known, policy: Policy, since: datetime, until: datetime) -> tuple[str, ...]:
    """The declared ends between two runs at `since` and `until`, as sentences; see the list above."""
    return tuple(sentence for end in ENDS.values() for sentence in end(before, now, policy, since, until))


def _day(before: Known, now: Known, policy: Policy, since: datetime, until: datetime) -> Iterator[str]:
    zone = now.get("timezone") or _UTC
    today, then = (at.astimezone(ZoneInfo(zone)).date() for at in (until, since))
    if today == then:
        return
    levels = [s.name for s in SIGNALS if s.level or s.table == "limits"]
    if changes := _changes(before, now, levels):
        days, last = (today - then).days, today - timedelta(days=1)
        over = f"{days} days are over in {zone}, the last {last}" if days > 1 else f"{last} is over in {zone}"
        yield f"{over}: {changes}."


def _limit(before: Known, now: Known, policy: Policy, since: datetime, until: datetime) -> Iterator[str]:
    name = before.get("limit_name")
    resets = policy.signals.limit_resets.get(name or "")
    next_day = until.astimezone(UTC).date() != since.astimezone(UTC).date()
    changes = _changes(before, now, [s.name for s in SIGNALS if s.table == "limits"])
    if resets in ("week", "month", "year") and next_day and changes:
        yield f"The {resets} of the limit {name} is over: {changes}."


def _window(before: Known, now: Known, policy: Policy, since: datetime, until: datetime) -> Iterator[str]:
    for signal in SIGNALS:
        days = signal.window.days(policy.signals)
        if days is None or signal.level or signal.table == "limits":
            continue
        if (before.get(signal.name) or 0) > (now.get(signal.name) or 0):
            yield f"An occurrence is older than {days} days: {_changes(before, now, [signal.name])}."


def _decay(before: Known, now: Known, policy: Policy, since: datetime, until: datetime) -> Iterator[str]:
    was, is_ = ({r["signal"]: r["points"] for r in known.get("reasons") or ()} for known in (before, now))
    for name, points in was.items():
        column = f"{name}_at"
        same = before.get(column) is not None and before[column] == now.get(column)
        if same and before.get(name) == now.get(name) and is_.get(name, 0) < points:
            yield f"{name} decays with its age: {points:g} → {is_.get(name, 0):g} points."


def _intent(before: Known, now: Known, policy: Policy, since: datetime, until: datetime) -> Iterator[str]:
    gone = before.get("call") == "trigger" and now.get("call") != "trigger"
    if gone or "queue" in _obstacles(now) - _obstacles(before):
        yield f"Its intent is no longer fresh: nobody could act on it for {policy.assignment.queue_hours} hours."


def _stale(before: Known, now: Known, policy: Policy, since: datetime, until: datetime) -> Iterator[str]:
    if {"fresh_intent", "fresh_request", "fresh_trigger"} & (_obstacles(now) - _obstacles(before)):
        yield f"It has shown no intent for {policy.routing.fresh_intent_hours} hours."


def _waiting(before: Known, now: Known, policy: Policy, since: datetime, until: datetime) -> Iterator[str]:
    over = _obstacles(before) - _obstacles(now)
    handoff = now.get("handoff") or {}
    if "cooldown" in over:
        days = int(next(o["needs"] for o in before["would_change"] if o["obstacle"] == "cooldown"))
        ended = max(filter(None, (handoff.get("closed_at"), handoff.get("rest_at"))), default=None)
        if _between(ended, days, since, until):
            yield f"The cooldown of {days} days is over."
    if "recent_touch" in over:
        yield f"No rep was in contact for {policy.handoff.silence_days} days."
    if "bought" in over and _between(before.get("bought_at"), policy.routing.bought_days, since, until):
        yield f"{policy.routing.bought_days} days have passed since it bought by itself."
    cold = policy.routing.deal_closed_days
    if "deal_closed" in over and cold is not None and _between(before.get("deal_closed_at"), cold, since, until):
        yield f"{cold} days have passed since a deal there closed."
    same_step = before.get("checkout_at") is not None and before["checkout_at"] == now.get("checkout_at")
    if same_step and before["checkout_state"] != now["checkout_state"]:
        yield f"Its checkout had no further step: {before['checkout_state']} → {now['checkout_state']}."


def _room(before: Known, now: Known, policy: Policy, since: datetime, until: datetime) -> Iterator[str]:
    was, is_ = _obstacles(before), _obstacles(now)
    for name, sentence in _ROOM.items():
        if name in was - is_:
            yield sentence
        elif name in is_ - was:
            yield f"The room of that hour is used up ({name})."


_ROOM = {
    "day": "The next day of all reps has begun.",
    "room": "Capacity was freed, or the working time of a rep has begun.",
    "return": "The working time of a rep who was away has begun.",
    "rep": "There is a rep for it.",
}

ENDS: dict[str, End] = {
    "day": _day,
    "limit": _limit,
    "window": _window,
    "decay": _decay,
    "intent": _intent,
    "stale": _stale,
    "waiting": _waiting,
    "room": _room,
}
"""Every kind of end, by name. A decision changes by the clock alone only where one of them is found."""


def _changes(before: Known, now: Known, names: list[str]) -> str:
    """ "active_days 10 → 9, users 4 → 3": those of the signals that differ."""
    return ", ".join(
        f"{name} {_figure(before.get(name))} → {_figure(now.get(name))}"
        for name in names
        if before.get(name) != now.get(name)
    )


def _figure(value: float | None) -> str:
    return "unknown" if value is None else f"{value:,.4g}"


def _obstacles(known: Known) -> set[str]:
    return {o["obstacle"] for o in known.get("would_change") or ()}


def _between(began: str | datetime | None, days: int, since: datetime, until: datetime) -> bool:
    """Whether so many days after a moment lie between the runs."""
    if began is None:
        return False
    at = datetime.fromisoformat(began) if isinstance(began, str) else began
    return since < at + timedelta(days=days) <= until
