"""Queue expired: an account waited so long for a rep that its signals are out of date until its next trigger event."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

import numpy as np

from onetouch.catalogue import ACTIONS, NURTURE
from onetouch.columns import Mask, moments, truth, utc
from onetouch.policy import Part, Policy
from onetouch.routing.inputs import Inputs
from onetouch.routing.rule import Facts, Figures, Known, Obstacle, Rule
from onetouch.routing.wording import triggers

NAME = "queue expired"

_QUEUED = [action for action in ACTIONS if action.queued]


def _columns(facts: Facts, inputs: Inputs, policy: Policy, as_of: datetime) -> Mapping[str, Mask]:
    queued = facts["previous_action"].isin(_QUEUED).to_numpy(bool)
    limit = utc(as_of - timedelta(hours=policy.assignment.queue_hours))
    queued_since = moments(facts, "previous_queued_since")
    since = np.where(np.isnat(queued_since), moments(facts, "previous_since"), queued_since)
    expired = facts["previous_rule"].eq(NAME).to_numpy(bool)
    # A trigger event that nobody could act on, whatever was in the way: the rep's room, a stop, an approval, a hold.
    unanswered = facts["call"].eq("trigger").to_numpy(bool) & (moments(facts, "previous_pending_since") <= limit)
    no_news = np.isnat(moments(facts, "news_at"))
    return {"stale": (queued & (since <= limit)) | (unanswered & no_news) | (expired & no_news)}


def _applies(facts: Facts, policy: Policy) -> Mask:
    return truth(facts, "stale")


def _why(known: Known, policy: Policy) -> str:
    return f"waited {policy.assignment.queue_hours} hours for a rep: out of date"


def _why_not(known: Known, policy: Policy) -> str:
    return f"has not waited {policy.assignment.queue_hours} hours for a rep"


def _obstacles(facts: Facts, decided: Mask, policy: Policy) -> Iterator[Obstacle]:
    yield Obstacle("queue", truth(facts, "stale"))


def _queue(figures: Figures, policy: Policy) -> str:
    return (
        f"It has waited {policy.assignment.queue_hours} hours for a rep with room, so its signals are stale: "
        f"a trigger event has to happen anew: {triggers(policy)}."
    )


RULE = Rule[Part](
    name=NAME,
    action=NURTURE,
    applies=_applies,
    why=_why,
    why_not=_why_not,
    columns=_columns,
    obstacles=_obstacles,
    sentences={"queue": _queue},
    reads=("assignment.queue_hours", "routing.triggers"),
)
