"""The people of an account as the dossier lists them: who they are, and what each of them did."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from datetime import datetime, tzinfo
from typing import Any

from onetouch.catalogue import PERSON_SIGNALS, SIGNALS_BY_NAME
from onetouch.handoff.facts import Facts
from onetouch.handoff.words import ago, count, times, zone
from onetouch.lake import Lake, rows_where
from onetouch.policy import Policy

_SHOWN = 5
"""Ours: people that the dossier lists."""

_DEEDS = 3
"""Ours: what is said of one person at most, the strongest first."""

_WEEK = 7


def team_of(lake: Lake, run_id: str, account_ids: Collection[str]) -> dict[str, list[dict[str, Any]]]:
    """The people of each of these accounts in a run (rows of PEOPLE_COLUMNS), the one to write to first.

    Empty for a run of an earlier release, which has none.
    """
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    if account_ids and lake.exists("people", f"{run_id}.parquet"):
        rows = rows_where(lake, "people", run_id, "account_id", sorted(account_ids))
        for row in sorted(rows, key=lambda row: row["place"]):
            found[row["account_id"]].append(row)
    return dict(found)


def with_contact(row: dict[str, Any]) -> dict[str, Any]:
    """The account's row with the first of its `people` as the person to write to, where it has no other (any more)."""
    if row.get("contact_user") or not row.get("people"):
        return row
    first = row["people"][0]
    return (
        row | {f"contact_{of}": first.get(of) for of in ("name", "email", "title")} | {"contact_user": first["user_id"]}
    )


def people_lines(facts: Facts, policy: Policy) -> list[str]:
    """A line for each of the first people of `facts["people"]`; for the CRM only, since it names them."""
    where, as_of = zone(facts.get("timezone")), facts.get("as_of")
    lines = [_line(person, policy, where, as_of) for person in facts.get("people", [])[:_SHOWN]]
    return [f"Write to {lines[0]}", *lines[1:]] if lines else []


def _line(person: Facts, policy: Policy, where: tzinfo, as_of: datetime | None) -> str:
    name, address = person.get("name"), person.get("email")
    who = str(name or address or person.get("user_id"))
    if name and address:
        who += f" ({address})"
    part = [person[of] for of in ("title", "seniority", "role") if of in person]
    part += ["most active"] if person.get("champion") else []
    who = ", ".join([who, *dict.fromkeys(part)])
    did = [_deed(name, person, where, as_of) for name in PERSON_SIGNALS if person.get(name)][:_DEEDS]
    if not did and person.get("active_days"):
        did = [f"in use on {count(person['active_days'], 'day')} of the last {policy.signals.engagement_days}"]
    return f"{who}: {'; '.join(did)}" if did else who


def _deed(name: str, person: Facts, where: tzinfo, as_of: datetime | None) -> str:
    """What a person did: "looked at pricing twice, last on Tuesday"."""
    happened = SIGNALS_BY_NAME[name].happened
    assert happened is not None
    often, at = person[name], person.get(f"{name}_at")
    said = happened.clause if often == 1 else f"{happened.clause} {times(often)}"
    if at is None or as_of is None:
        return said
    return f"{said}{', last' if often > 1 else ''} {_on(at, as_of, where)}"


def _on(at: datetime, as_of: datetime, where: tzinfo) -> str:
    """ "today", "yesterday", "on Tuesday" within a week, else "on 18 Nov": in the zone `where`."""
    passed, local = (as_of.astimezone(where).date() - at.astimezone(where).date()).days, at.astimezone(where)
    if passed < 2:
        return ago(at, as_of, where)
    return f"on {local:%A}" if passed < _WEEK else f"on {local.day} {local:%b}"
