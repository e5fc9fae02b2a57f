"""Builds a scenario's inputs: its canonical events, its CRM record and its rows of the ledger."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import pyarrow as pa

from onetouch.catalogue import EVENTS_BY_NAME, SNAPSHOT_COLUMNS
from onetouch.consent import CHANNELS
from onetouch.events import EVENTS, account_of_user, business_domain
from onetouch.experiments.scenario_file import WEEKDAYS, Contact, Event, PastHandoff, Rep, ScenarioError, Side
from onetouch.ledger import refused
from onetouch.policy import Meaning, Policy
from onetouch.routing import IN_LINE
from onetouch.signals import CRM, SNAPSHOT

FIRST_TOUCH = timedelta(days=1)
"""How long after its decision a handoff was touched, if the scenario does not say."""

BATCH = "scenarios"


def events(where: str, account_id: str, side: Side, policy: Policy, as_of: datetime) -> Iterator[dict[str, Any]]:
    """The account's canonical events. Raises ScenarioError if the policy has no vendor event with the meaning."""
    account, people = side.account, side.people
    host = account.users_at or (account.domain if account.basis == "domain" else None)
    email_domain = None if host is None else business_domain(host)
    for number, event in enumerate(side.events):
        vendor, meaning = _vendor(where, event, policy)
        properties = {meaning.detail: event.detail, meaning.value: event.value}
        text = json.dumps({k: v for k, v in properties.items() if k is not None and v is not None})
        for at in _moments(where, event, as_of, account.timezone):
            for who in event.who:
                known = people.get(who)
                for turn in range(event.times):
                    occurred = at - timedelta(seconds=turn)
                    yield {
                        "event_id": f"{account_id}-{number}-{who}-{occurred.timestamp():.0f}",
                        "source": next(iter(policy.sources)),
                        "event": vendor,
                        "occurred_at": occurred,
                        "received_at": min(occurred + timedelta(minutes=1), as_of),
                        "user_id": person(account_id, who, account.basis),
                        "account_id": account_id,
                        "account_basis": account.basis,
                        "email_domain": email_domain,
                        "profile": known and known.model_dump_json(),
                        "properties": text,
                        "batch_id": BATCH,
                    }


def person(account_id: str, who: str, basis: str) -> str:
    """The id of the user: nobody belongs to two accounts, and a lone person's account has the person's id."""
    return account_id.removeprefix(account_of_user("")) if basis == "personal" else f"{who} of {account_id}"


def event_frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The rows of `events` in the format of the lake."""
    types = {pa.timestamp("us", "UTC"): "datetime64[us, UTC]", pa.bool_(): "boolean"}
    return pd.DataFrame(rows, columns=EVENTS.names).astype({f.name: types.get(f.type, "str") for f in EVENTS})


def record(account_id: str, side: Side, owner: str | None, as_of: datetime) -> dict[str, Any]:
    """The account's row of the CRM snapshot."""
    account = side.account
    row = {column.name: _told(getattr(account, column.word), as_of) for column in SNAPSHOT_COLUMNS if column.mapped}
    row |= {"open_opportunities": account.open_opportunities, "deal_closed_at": _told(account.deal_closed, as_of)}
    row |= {"account_id": account_id, "crm_account_id": f"crm-{account_id}"}
    owned = {"owner_email": owner, "owner_id": owner and user_id(owner), "owner_active": owner and account.owner_active}
    return dict.fromkeys([*SNAPSHOT, *CRM]) | row | owned


def _told(value: Any, as_of: datetime) -> Any:
    """A scenario's value in the format of the CRM: caps as JSON, lengths of time as moments."""
    if isinstance(value, timedelta):
        return as_of - value
    return json.dumps(value) if isinstance(value, dict) else value


def crm_users(reps: list[Rep]) -> pd.DataFrame:
    """The CRM's users: owner_id, email, name, active, timezone, country."""
    rows = [
        {"owner_id": user_id(r.email), "email": r.email.lower(), "name": r.email.partition("@")[0],
         "active": r.active, "timezone": r.timezone, "country": r.country}
        for r in reps
    ]  # fmt: skip
    columns = dict.fromkeys(("owner_id", "email", "name", "active", "timezone", "country"), "str")
    return pd.DataFrame(rows, columns=list(columns)).astype({**columns, "active": "boolean"})


def rep_load(reps: list[Rep], as_of: datetime) -> pd.DataFrame:
    """The reps' load as `ledger.rep_load` returns it; today's tasks count as given just before `as_of`."""
    rows = []
    for rep in reps:
        recent = [as_of - timedelta(seconds=n + 1) for n in range(rep.today)]
        last = as_of - rep.last if rep.last is not None else recent[0] if recent else None
        count = rep.today if rep.open is None else rep.open
        rows.append({"owner_email": rep.email, "open": count, "last_assigned_at": last, "recent": recent})
    frame = pd.DataFrame(rows, columns=["owner_email", "open", "last_assigned_at", "recent"])
    types = {"owner_email": "str", "open": "int64", "last_assigned_at": "datetime64[us, UTC]"}
    return frame.astype(types)


def handoff(account_id: str, side: Side, as_of: datetime, signals_now: list[str]) -> dict[str, Any] | None:
    """The account's last handoff as a row of `ledger.handoff_frame`; `signals_now`: signals that earn points today."""
    past = side.history.handoff
    if past is None:
        return None
    ended = None if past.ended is None else as_of - past.ended
    decided = as_of - (past.decided or (past.ended or timedelta()) + timedelta(days=9))
    touched = as_of - past.touched if past.touched is not None else decided + FIRST_TOUCH
    was_touched = past.touched is not None or past.state in ("touched", "replied", "released", "won", "lost")
    then = past.signals if past.signals is not None else [s for s in signals_now if s not in past.new]
    return {
        "account_id": account_id,
        "handoff_id": f"handoff-{account_id}",
        "episode": 1,
        "state": past.state,
        "owner_email": past.owner,
        "decided_at": decided,
        "touched_at": touched if was_touched else None,
        "closed_at": ended,
        "signals": then,
        "run_id": "before",
        "reason": past.reason,
        "refused_at": ended if refused(past.state, past.reason) else None,
        "answered_at": None if refused(past.state, past.reason) else decided,
        **(_rest(past, ended, as_of) if was_touched and ended is not None else {}),
    }


def _rest(past: PastHandoff, ended: datetime, as_of: datetime) -> dict[str, Any]:
    """What the ledger says of a handoff that has ended and for which somebody was in touch (maybe after its end)."""
    touched = ended if past.touched is None else as_of - past.touched
    return {"rest_state": past.state, "rest_at": max(ended, touched), "rest_owner": past.owner}


def touch(account_id: str, side: Side, as_of: datetime) -> dict[str, Any] | None:
    """The last touch of a rep as a row of `ledger.touches`."""
    if (since := side.history.touch) is None:
        return None
    return {"touch_id": f"touch-{account_id}", "account_id": account_id, "at": as_of - since, "kind": "Call"}


def previous(account_id: str, side: Side, as_of: datetime, rule_of: dict[str, str]) -> dict[str, Any] | None:
    """The previous run's decision; if the scenario gives no rule, the first rule that leads to the action."""
    if (before := side.history.previous) is None:
        return None
    rule = before.rule or rule_of[before.action]
    return {
        "account_id": account_id,
        "action": before.action,
        "rule": rule,
        "since": as_of - before.since,
        "call": before.call,
        "trigger_at": None if before.trigger is None else as_of - before.trigger,
        "queued_since": as_of - before.since if before.action in IN_LINE else None,
    }


def contacts(account_id: str, side: Side) -> list[dict[str, Any]]:
    """The people of the account as a run knows them from the CRM (`consent.CONTACTS`)."""

    def opted_out(contact: Contact, channel: str) -> bool | None:
        return None if channel in contact.hidden else channel in contact.opted_out

    return [
        {
            "contact_id": f"{account_id}-{place}",
            "crm_account_id": f"crm-{account_id}",
            "address": contact.email and contact.email.lower(),
            **{column: opted_out(contact, channel) for channel, column in CHANNELS.items()},
        }
        for place, contact in enumerate(side.contacts, 1)
    ]


def user_id(email: str) -> str:
    """The CRM's id of the user with that e-mail address."""
    return f"user-{email.lower()}"


def _vendor(where: str, event: Event, policy: Policy) -> tuple[str, Meaning]:
    """The name of a vendor's event with the scenario event's meaning, and that meaning."""
    meant = {vendor: meaning for vendor, meaning in policy.vocabulary.items() if meaning.as_ == event.event}
    for vendor, meaning in meant.items():
        if event.detail is None or meaning.detail is not None or meaning.detail_is == event.detail:
            return vendor, meaning
    word = EVENTS_BY_NAME[event.event].detail
    lacking = f"{event.event} with {word}: {event.detail}" if meant else event.event
    raise ScenarioError(f"{where}: events: {lacking}: no event of the policy's vocabulary means that; add one to it")


def _moments(where: str, event: Event, as_of: datetime, timezone: str | None) -> list[datetime]:
    """When the event happens, each before `as_of`; UTC."""
    if event.on_days is None:
        at = event.at if event.at is not None else as_of - (event.ago or timedelta())
        if at >= as_of:
            raise ScenarioError(f"{where}: events: {event.event}: is not before the decision; give it an earlier time")
        return [at.astimezone(UTC)]
    end = as_of - (event.ago or timedelta())
    zone = ZoneInfo(timezone or "UTC")
    local = end.astimezone(zone)
    today = as_of.astimezone(zone).date()
    if event.hour is None:
        last = local if event.ago is not None else local - timedelta(hours=1)
        # Without `ago` they are the last whole days, because today does not count among the days in use.
        last -= timedelta(days=event.ago is None and last.date() == today)
        days = [last - timedelta(days=n) for n in range(event.on_days)]
    else:
        days = [
            datetime(day.year, day.month, day.day, event.hour, 1, tzinfo=zone)
            for day in (local.date() - timedelta(days=n) for n in range(event.on_days + 1))
            if event.ago is not None or day < today
        ]
        days = [day for day in days if day < end][: event.on_days]
    return [
        day.astimezone(UTC) for day in days if WEEKDAYS[day.astimezone(zone).weekday()] in (event.weekdays or WEEKDAYS)
    ]
