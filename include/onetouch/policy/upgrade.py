"""A policy document of any released shape becomes today's.

The ledger keeps the policy of every run, whole, with the number of its format (`format`; the documents of before it
was written are format 1). A run that is explained, replayed or taken up again years later is read through here:

- A key that was not there gets the value that means what was done *then*, never today's default (`_THEN`).
- A key that is gone is dropped, or becomes what replaced it.
- A signal that is called otherwise today is found under its new name (RENAMED), wherever a document names one.

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

FORMAT = 2
"""The format of the documents written today."""

RENAMED: Mapping[str, str] = catalogue.RENAMED
"""Signal of a former release → what it is called today."""

FOR_EVER_DAYS = 36_500
"""Stands for "without end" where a policy asks for a number of days."""

NO_LIMIT = 1_000_000_000
"""Stands for "however many" where a policy asks for a number."""

Document = dict[str, Any]

_THEN: dict[str, Any] = {
    # Before 1b2ce3b: points did not age, every signal's counted alike, nobody was called but a PQL, due times ran
    # through nights and weekends, one sentence told a rep all there was to tell.
    "unit": "account",
    "signals.abandoned_barrier_hours": 0,
    "scoring.firmographics": "combine",
    "scoring.trend_days": 7,  # no earlier score was looked for, and none is kept beside such a run
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
    # Before f85e4aa: Salesforce alone, row by row and with all of its calls; an account without a record was not
    # delivered; nobody was asked; every alert was a message of its own, at once.
    "delivery.approval_above": None,
    "delivery.approval_hours": 4,  # of a question that was not asked
    "delivery.bulk_above": NO_LIMIT,
    "delivery.api_reserve": 0.0,
    "crm.system": "salesforce",
    "crm.unknown_accounts": "leave",
    "crm.link_contact": False,
    "slack.ops_channel": None,
    "slack.alerts_to": "channel",
    "slack.digest_above": NO_LIMIT,
    "slack.quiet_from": None,
    "slack.quiet_until": "07:00:00",  # of a quiet time that never began
    # Before b2e9c48: no jump was looked for.
    "delivery.approval_jump": None,
    # Before 7e10a72: a conversation that was answered went on until its deal was won or lost.
    "handoff.reply_days": FOR_EVER_DAYS,
    # Before 42442a1: whatever was logged as done was a person's.
    "crm.automation": {"owners": [], "subjects": []},
    # Before 7734261: points were the policy's, and nothing else worked them out.
    "scoring.scorer": "points",
    # Before chats were registered: there was one.
    "chat": "slack",
}
"""Key that a document of format 1 may lack → the value that means what was done without it."""

_GONE = ("signals.limit_held_days",)
"""Keys of format 1 that nothing read (until 4993974)."""


def _first(document: Document) -> Document:
    """Format 1, in which keys came and went, to 2."""
    for path in _GONE:
        section, key = path.split(".")
        document.get(section, {}).pop(key, None)
    assignment = document.setdefault("assignment", {})
    if "territories" not in assignment:
        assignment["territories"] = _territories(assignment.get("reps", []))
    for path, value in _THEN.items():
        *sections, key = path.split(".")
        place = document
        for section in sections:
            place = place.setdefault(section, {})
        place.setdefault(key, copy.deepcopy(value))
    return document


def _territories(reps: list[Document]) -> list[Document]:
    """Until 1b2ce3b reps had regions of their own (none: all of them); the same said by territory, one a region."""
    regions = {rep["email"]: [r.lower() for r in rep.pop("regions", [])] for rep in reps}
    return [
        {"name": region, "regions": [region], "reps": [who for who, own in regions.items() if region in own or not own]}
        for region in sorted({region for own in regions.values() for region in own})
    ]


_STEPS: dict[int, Callable[[Document], Document]] = {1: _first}
"""Format → what makes a document of it one of the next."""


def stored(policy: Policy) -> Document:
    """The policy as the ledger keeps it: its document with the number of the format."""
    return {"format": FORMAT, **policy.document()}


def read_stored(document: Mapping[str, Any], version: str | None = None) -> Policy:
    """The policy that `stored` gave, in whatever release. `version`: what it was kept under, which it keeps.

    Raises ValueError for a format of a later release, ValidationError for a document that was no policy.
    """
    policy = Policy.model_validate(upgraded(document))
    return policy if version is None else policy.kept_as(version)


def upgraded(document: Mapping[str, Any]) -> Document:
    """A stored document as today's `Policy` has it. Raises ValueError for a format of a later release."""
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
    """A document of `model`, or a part of one, with today's names of signals (RENAMED); and what was replaced."""
    return replace_names(document, model, RENAMED if table is None else table)


def renames() -> Mapping[str, str]:
    """Every signal that was called otherwise once: its former name → its name today. Names are only ever added."""
    return RENAMED


def current_name(name: str) -> str:
    """What a signal, the column of its last moment or the obstacle of its absence is called today."""
    return new_name(name, RENAMED)
