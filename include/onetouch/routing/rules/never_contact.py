"""Never contact: who is listed, flagged in the CRM, or has nobody left who may be contacted, is left alone.

It comes before all other rules, the control group included: such an account could never be touched, so it belongs
neither to those whom sales leaves alone to measure what a touch is worth, nor to those whom they are compared with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from onetouch.catalogue import HOLD_NEVER_CONTACT
from onetouch.columns import Mask
from onetouch.consent import Consent, Lists
from onetouch.policy import Part, Policy
from onetouch.routing.inputs import Inputs
from onetouch.routing.rule import Facts, Figures, Known, Obstacle, Rule

_NAME = "never_contact"
"""Name of the obstacle; its detail says why."""


def _columns(facts: Facts, inputs: Inputs, policy: Policy, as_of: datetime) -> Mapping[str, Any]:
    consent = Consent(inputs.contacts, Lists(policy, inputs.listed), policy.never_contact.channels)
    return {"never_contact_why": consent.held(facts, inputs.people)}


def _applies(facts: Facts, policy: Policy) -> Mask:
    held: Mask = facts["never_contact_why"].notna().to_numpy(bool)
    return held


def _reason(known: Known) -> str:
    told = (obstacle["obstacle"] for obstacle in known["would_change"])
    return next((name.partition(":")[2] for name in told if name.startswith(f"{_NAME}:")), "unknown")


def _why(known: Known, policy: Policy) -> str:
    return _reason(known)


def _why_not(known: Known, policy: Policy) -> str:
    return "neither it nor everybody known there is on a list or has opted out"


def _obstacles(facts: Facts, decided: Mask, policy: Policy) -> Iterator[Obstacle]:
    why = facts["never_contact_why"]
    yield Obstacle(_NAME, _applies(facts, policy), details=why.to_numpy(dtype=object))


def _sentence(figures: Figures, policy: Policy) -> str:
    return f"It may not be contacted: {figures.detail or 'unknown'}. That has to end first."


class _Own(Part):
    """No parameters: the policy's section `never_contact` says who is meant."""


RULE = Rule[_Own](
    name="never contact",
    action=HOLD_NEVER_CONTACT,
    applies=_applies,
    why=_why,
    why_not=_why_not,
    columns=_columns,
    obstacles=_obstacles,
    sentences={_NAME: _sentence},
    reads=("never_contact", "crm.contact_fields", "crm.account_fields"),
    parameters=_Own,
    checked_again="whether the account or somebody the task would name is listed or has opted out since: the file of "
    "never_contact and the accounts' contacts are read again",
)
