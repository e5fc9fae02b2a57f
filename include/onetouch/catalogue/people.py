"""What is known of the people of an account: who they are, and what each of them did."""

from __future__ import annotations

from onetouch.catalogue.accounts import Column, Kind

PROFILE = ("name", "email", "title", "seniority", "role")
"""What user properties say of a person. `role`: the person's role in the product, such as admin."""

PERSON_SIGNALS = (
    "demo_requests", "plan_questions", "pricing_views", "premium_attempts", "limits_reached", "admin_actions",
    "invites",
)  # fmt: skip
"""Signals of intent that are also counted by person, the strongest first (the order is ours)."""

PEOPLE_COLUMNS: tuple[Column, ...] = (
    Column(name="account_id", kind=Kind.ID),
    Column(name="place", kind=Kind.WHOLE),
    Column(name="user_id", kind=Kind.ID),
    *(Column(name=name, kind=Kind.TEXT) for name in PROFILE),
    Column(name="buyer", kind=Kind.FLAG),
    Column(name="champion", kind=Kind.FLAG),
    Column(name="events", kind=Kind.WHOLE),
    Column(name="active_days", kind=Kind.WHOLE),
    Column(name="last_at", kind=Kind.MOMENT),
    *(Column(name=name, kind=Kind.WHOLE) for name in PERSON_SIGNALS),
    *(Column(name=f"{name}_at", kind=Kind.MOMENT) for name in PERSON_SIGNALS),
)  # fmt: skip
"""The columns of `people/{run_id}.parquet` (`signals/people.py` computes all of them).

`place`: 1 for the person to write to, then by what they did. `buyer`, `champion`: the part they play. `events`: events
of use in the recent window; `active_days`: days (UTC) with use in the engagement window; `last_at`: their last use. The
signals are counted in their own windows, with the time of the last one."""
