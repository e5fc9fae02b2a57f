"""Upgrades a policy document of any released format to today's.

The ledger keeps the whole policy of every run with the number of its format (`format`; documents without the number are
format 1). When a run is explained, replayed or resumed years later, its policy is read by this module:

- A missing key gets the value that reproduces what was done *then*, never today's default (`_THEN` and those after it).
- A removed key is dropped, or becomes the key that replaced it.
- A renamed signal gets its new name (RENAMED), wherever the document names it.

To change the shape of a policy: raise FORMAT, add a step to `_STEPS`, add a fixture (`docs/formats.md`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel

from onetouch import catalogue
from onetouch.policy.naming import Replaced, new_name, replace_names
from onetouch.policy.schema import Policy

FORMAT = 4
"""The number of the format in which documents are written today."""

RENAMED: Mapping[str, str] = catalogue.RENAMED
"""Signal of a former release → its name today."""

FOR_EVER_DAYS = 36_500
"""Stands for "without end" where a policy asks for a number of days."""

NO_LIMIT = 1_000_000_000
"""Stands for "however many" where a policy asks for a number."""

Document = dict[str, Any]

_THEN: dict[str, Any] = {
    # Before 1b2ce3b: points did not decay, firmographic points counted like all others, only PQLs were handed over, due
    # times ran through nights and weekends, and there was one situation for every account.
    "unit": "account",
    "signals.abandoned_barrier_hours": 0,
    "scoring.firmographics": "combine",
    "scoring.trend_days": 7,  # has no effect, because no earlier scores are stored with such a run
    "routing.hand_raised": [],
    "routing.expansion": {"when": [{"signal": "limit_held_days", "at_least": float(NO_LIMIT)}]},
    "routing.medium": "monitor",
    "routing.triggers": [],
    "routing.large_not_engaged": "nurture",
    "handoff.touches": 1,
    "situations": [
        {
            "name": "steady use",
            "headline": "steady use of the product",
            "approach": "They use the product steadily. Ask what they want to achieve next and help with that.",
            "offer": "I can help with whatever you want to set up next.",
        }
    ],
    "message": {
        "opening": "I saw that your team at {name} {usage}.",
        "closing": "If it helps, I can set up a short personalized onboarding around exactly what you are working on. "
        "No rush and no obligation: everything keeps working as it does today, and I will leave it at this one "
        "message.",
        "max_chars": 1500,
    },
    "assignment.territories": [],
    "assignment.senior_score": None,
    "assignment.working_time": {
        "weekdays": [0, 1, 2, 3, 4, 5, 6],
        "start": "00:00:00",
        "end": "23:59:59.999999",
        "timezone": "UTC",
        "country": None,
    },
    "assignment.queue_hours": 24 * FOR_EVER_DAYS,
    "report.sales_credit": "assisted",
    # Before f85e4aa: Salesforce was the only CRM, written row by row and without a reserve of API calls; an account
    # without a record was not delivered; no approval was needed; every alert was a message of its own, at once.
    "delivery.approval_above": None,
    "delivery.approval_hours": 4,  # has no effect without approval_above
    "delivery.bulk_above": NO_LIMIT,
    "delivery.api_reserve": 0.0,
    "crm.system": "salesforce",
    "crm.unknown_accounts": "leave",
    "crm.contacts": "never",  # unless the document has the former `crm.link_contact`
    "slack.ops_channel": None,
    "slack.alerts_to": "channel",
    "slack.digest_above": NO_LIMIT,
    "slack.quiet_from": None,
    "slack.quiet_until": "07:00:00",  # has no effect without quiet_from
    # Before b2e9c48: a jump in the number of tasks needed no approval.
    "delivery.approval_jump": None,
    # Before 7e10a72: an answered conversation stayed open until its deal was won or lost.
    "handoff.reply_days": FOR_EVER_DAYS,
    # Before 42442a1: every logged activity counted as a person's.
    "crm.automation": {"owners": [], "subjects": []},
    # Before 7734261: the policy's points were the only scorer.
    "scoring.scorer": "points",
    # Before chat systems were registered: Slack was the only one.
    "chat": "slack",
}
"""Key that a document of format 1 may lack → the value that reproduces what was done without it."""

_GONE = ("signals.limit_held_days",)
"""Keys of format 1 that no code read (until 4993974)."""


_THEN_2: dict[str, Any] = {
    # Before issue 12: every text was an id, each spelling was another one, and everybody counted.
    "events.placeholders": [],
    "events.ids_ignore": [],
    "never_count": {"domains": [], "emails": [], "users": [], "user_properties": {}},
    # A full day stopped the run, the id decided among equals, and a purchase held nobody.
    "assignment.beyond_the_day": "stop",
    "assignment.ties": "account_id",
    "routing.bought_days": 0,
    # The pace to a plan limit went by all readings of the lookback, and no reading expired within it.
    "signals.limit_resets": {},
    "signals.limit_fall": None,
    "signals.limit_reading_days": FOR_EVER_DAYS,
    # No name of an event was ignored, and all projects counted.
    "events.ignore": [],
    "events.projects": [],
    # Lost hours stopped nothing.
    "quality.max_lost_hours_rate": {"warning": 1.0, "critical": 1.0},
    # Everything was kept for ever.
    "retention": {"raw_days": None, "events_days": None, "runs_days": None, "ledger_days": None},
}
"""Key that a document of format 2 (and 1) may lack → the value that reproduces what was done without it."""


_THEN_3: dict[str, Any] = {
    # Before issue 13: every end of a handoff cooled down alike, until a signal of another kind appeared; and intent was
    # as old as its signal's window.
    "routing.returns": {
        "lost_days": None, "won_days": None, "untouched_days": None, "new": "signal", "hand_raise": False,
        "same_rep_days": None,
    },
    "routing.fresh_intent_hours": None,
    "routing.deal_closed_days": None,  # only an open opportunity held its account
    # Only accounts that were handed over had anything written on their record, and nobody else was given to anybody.
    "crm.standing": "handed_over",
    "crm.standing_points": 5.0,  # has no effect
    "crm.opportunity": "never",
    # A record that a duplicate rule had refused stayed refused, and nobody became a person account.
    "crm.duplicates": "ask",
    "crm.lone_users": "account",
    "audience": {"actions": [], "tiers": [], "batch": 500, "facts_hours": 24, "full_sync_days": None},
    # The first day was as full as any other.
    "delivery.ramp": [],
    # Before people were known: of a person's properties nothing but the domain of the e-mail address was kept.
    "events.person_properties": {"name": [], "title": [], "seniority": [], "role": []},
    "people": {"decision_makers": {"titles": [], "seniorities": []}, "buyer_roles": [], "most": 20},
    # Before issue 13: nobody's opt-out was read, and nobody was listed.
    "crm.contact_fields": {"title": None, "do_not_call": None, "email_opt_out": None},
    "never_contact": {"domains": [], "accounts": [], "people": [], "file": None, "channels": ["call", "email"]},
    # Before issue 13: the first situation in the list was told, under the same greeting, and nothing was asked.
    "message.order": "listed",
    "message.greeting": ["Hi,"],
    "message.question": [],
    "message.asides": [],
    "message.max_words": NO_LIMIT,
    "handoff.task_notes": "whole",
    # No plan was known but what the CRM recorded, and only usage events said how many seats were in use.
    "product.plans": [],
    "signals.seats_used": "events",
    "signals.team_from_users": 5,  # has no effect: no document of then names a signal that depends on it
    "signals.team_day_users": 2,  # nor on this
    # Every business domain was an enterprise's, and no demo watched to the end was a sign of its own.
    "signals.demo_watched": 100.0,  # has no effect: no such policy names the signal
    "signals.enterprise": "business",
    "signals.enterprise_domains": [],
    "signals.enterprise_file": None,
    "signals.enterprise_employees": None,
    # Nothing was done for a rep once the task was announced.
    "handoff.follow_ups": "none",
    "slack.tell_events": False,
    "slack.links": False,
    "slack.snooze_hours": 4,  # has no effect: no alert of then had buttons
    "crm.context": "once",
    "crm.alert_link": False,
    "assignment.remind": False,
    "assignment.escalate_to": None,
    "assignment.when_owner_leaves": "keep",
    "assignment.when_territory_changes": "keep",
    "crm.currency": None,  # every amount was taken as it stood
    # Records had no fields but ours, and the CRM's own values.
    "crm.extra_fields": {"task": {}, "account": {}, "lead": {}, "contact": {}},
    "crm.record_types": {"task": None, "account": None, "lead": None, "contact": None},
    "crm.task_values": {"open": None, "closed": None, "high": None, "medium": None, "low": None},
    # What the CRM had refused was not offered again.
    "delivery.offer_again_hours": None,
}  # fmt: skip
"""Key that a document of format 3 (and 2, and 1) may lack → the value that reproduces what was done without it."""


def _first(document: Document) -> Document:
    """Upgrades format 1, during which keys were added and removed, to format 2."""
    for path in _GONE:
        section, key = path.split(".")
        document.get(section, {}).pop(key, None)
    assignment = document.setdefault("assignment", {})
    if "territories" not in assignment:
        assignment["territories"] = _territories(assignment.get("reps", []))
    return _with(document, _THEN)


def _second(document: Document) -> Document:
    """Upgrades format 2 to format 3, which added keys."""
    return _with(document, _THEN_2)


def _third(document: Document) -> Document:
    """Upgrades format 3 to format 4, which added keys and replaced `crm.link_contact`."""
    crm = document.setdefault("crm", {})
    if "link_contact" in crm:
        crm["contacts"] = "match" if crm.pop("link_contact") else "never"
    return _with(document, _THEN_3)


def _with(document: Document, then: Mapping[str, Any]) -> Document:
    """The document with these values for the keys that it lacks."""
    for path, value in then.items():
        *sections, key = path.split(".")
        place = document
        for section in sections:
            place = place.setdefault(section, {})
        place.setdefault(key, copy.deepcopy(value))
    return document


def _territories(reps: list[Document]) -> list[Document]:
    """Converts the regions of reps (until 1b2ce3b; none: all regions) to territories, one per region."""
    regions = {rep["email"]: [r.lower() for r in rep.pop("regions", [])] for rep in reps}
    return [
        {"name": region, "regions": [region], "reps": [who for who, own in regions.items() if region in own or not own]}
        for region in sorted({region for own in regions.values() for region in own})
    ]


_STEPS: dict[int, Callable[[Document], Document]] = {1: _first, 2: _second, 3: _third}
"""Number of a format → the function that upgrades a document of it to the next format."""


def stored(policy: Policy) -> Document:
    """The policy as the ledger stores it: its document with the number of the format."""
    return {"format": FORMAT, **policy.document()}


def read_stored(document: Mapping[str, Any], version: str | None = None) -> Policy:
    """The policy from a document that `stored` gave in any release. `version`: the version it was stored under, which
    it keeps.

    Raises ValueError for a format of a later release, ValidationError for a document that is not a policy.
    """
    policy = Policy.model_validate(upgraded(document))
    return policy if version is None else policy.kept_as(version)


def upgraded(document: Mapping[str, Any]) -> Document:
    """A stored document in the shape of today's `Policy`. Raises ValueError for a format of a later release."""
    found = copy.deepcopy(dict(document))
    number = found.pop("format", 1)
    if number not in range(1, FORMAT + 1):
        raise ValueError(
            f"policy document: format {number} is not known here (up to {FORMAT}); read it with the release that wrote "
            "it, or a later one"
        )
    for step in range(number, FORMAT):
        found = _STEPS[step](found)
    return renamed(found)[0]


def renamed(
    document: Mapping[str, Any], model: type[BaseModel] = Policy, table: Mapping[str, str] | None = None
) -> tuple[Document, list[Replaced]]:
    """A document of `model`, or a part of one, with today's names of signals (RENAMED); and the replaced names."""
    return replace_names(document, model, RENAMED if table is None else table)


def renames() -> Mapping[str, str]:
    """Every renamed signal: its former name → its name today. Entries are only ever added."""
    return RENAMED


def current_name(name: str) -> str:
    """Today's name of a signal, of the column of its last moment, or of the obstacle of its absence."""
    return new_name(name, RENAMED)
