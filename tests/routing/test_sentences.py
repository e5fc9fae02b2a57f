"""Each obstacle in words, to the letter: a rep and the data team read them."""

from __future__ import annotations

import math

import pytest
from onetouch.routing import sentence

from tests.routing.world import POLICY, changed

TRIGGERS = (
    "demo_requests or plan_questions or premium_attempts or limits_reached or pricing_views or "
    "admin_actions or checkouts_abandoned or invites"
)


@pytest.mark.parametrize(
    ("obstacle", "has", "needs", "says"),
    [
        ("holdout", None, None,
         "It is in the control group, which sales leaves alone to measure what a touch is worth."),
        ("checkout", None, None,
         "Its self-serve checkout has to end without an upgrade: stay without a step for 72 hours, or be given up and "
         "stay so for 24."),
        ("open_opportunity", None, None,
         "Its open opportunity has to be closed: a colleague is talking to it already."),
        ("deal_closed", 1, 7,
         "7 days have to pass since a deal there closed; that was 1 days ago. Or it has to ask for a person: "
         "demo_requests."),
        ("handoff", None, None,
         "Its present handoff has to end: 7 days after a touch without response it is self-serve again."),
        ("recent_touch", 3.0, 7.0, "7 days have to pass since the last touch of a rep; it was 3 days ago."),
        ("recent_touch", None, 7.0, "7 days have to pass since the last touch of a rep; it was an unknown time ago."),
        ("cooldown", 12.0, 90.0, "90 days have to pass since its last handoff ended; that was 12 days ago. "
         "Or it has to ask for a person: demo_requests."),
        ("cooldown", math.nan, 90.0,
         "90 days have to pass since its last handoff ended; that was an unknown time ago. "
         "Or it has to ask for a person: demo_requests."),
        ("new_intent", None, None,
         "It has to show intent after its last handoff; the same as before counts again."),
        ("fresh_request", None, None,
         "It has to ask for a person anew (demo_requests): that it did is more than 72 hours old."),
        ("new_signal", None, None, "A signal has to appear that was not there at its last handoff."),
        ("potential_arr", 1440.0, 5000.0, "Its potential ARR of $1,440 has to reach $5,000."),
        ("potential_arr", None, 5000.0, "Its potential ARR of unknown has to reach $5,000."),
        ("icp", None, None,
         "It has to fit the customer profile: an organisation of a size and industry we sell to."),
        ("activation", None, None, "It has to activate: workspace_created and data_imported and report_created."),
        ("intent", None, None,
         "It has to show intent: pricing_views 1 or plan_questions 1 or demo_requests 1 or "
         "premium_attempts 1 or limit_share 0.8 or admin_actions 1 or checkouts_abandoned 1 or demos_watched 1."),
        ("score", 45.2, 50.0, "Its score of 45.2 has to reach 50."),
        ("trigger", None, None,
         f"It is watched: the next trigger event is enough, whatever its score: {TRIGGERS}."),
        ("room", None, None, "A rep has to have room: each takes 8 tasks a day."),
        ("return", None, None, "The rep in whose queue it waits has to come back: everybody who may take it is away."),
        ("rep", None, None, "There has to be an active rep for it."),
        ("queue", None, None,
         "It has waited 72 hours for a rep with room, so its signals are stale: a trigger event has to happen anew: "
         f"{TRIGGERS}."),
        ("context:name", None, None, "The account record has to be completed; missing: name."),
        ("active_days", 9.0, 10.0, "active_days (9) has to reach 10."),
        ("limit_share", math.nan, 0.8, "limit_share (unknown) has to reach 0.8."),
        ("events", 1_234_567.0, 2_000_000.0, "events (1,234,567) has to reach 2,000,000."),
    ],
)  # fmt: skip
def test_a_sentence(obstacle: str, has: float | None, needs: float | None, says: str) -> None:
    assert sentence(obstacle, has, needs, POLICY) == says


def test_a_policy_without_triggers_says_so() -> None:
    assert sentence("queue", None, None, changed(routing__triggers=[])).endswith("anew: the policy names none.")
