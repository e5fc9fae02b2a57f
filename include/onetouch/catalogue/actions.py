"""The actions a decision can choose for an account. Every account of a run has exactly one action."""

from __future__ import annotations


class Action(str):
    """The name of an action, as decisions store it, with the properties of the action.

    `meaning`: one sentence for a person. `sales_touch`: a rep is given a task now. `hold`: sales leaves the account
    alone until something ends. `watched`: the account's next trigger event is a reason to contact it. `waiting`: there
    is a reason to contact it already, which is kept until the wait is over. `queued`: the account waits in a rep's
    queue. `by_rule`: several rules with unrelated reasons lead to the action, so a decision lasts (`since`) only as
    long as the same rule makes it.
    """

    meaning: str
    sales_touch: bool
    hold: bool
    watched: bool
    waiting: bool
    queued: bool
    by_rule: bool

    def __new__(
        cls,
        name: str,
        meaning: str,
        *,
        sales_touch: bool = False,
        hold: bool = False,
        watched: bool = False,
        waiting: bool = False,
        queued: bool = False,
        by_rule: bool = False,
    ) -> Action:
        """The action of that name; properties that are not given are false."""
        action = super().__new__(cls, name)
        action.meaning = meaning
        action.sales_touch = sales_touch
        action.hold = hold
        action.watched = watched
        action.waiting = waiting
        action.queued = queued
        action.by_rule = by_rule
        return action


SALES_NOW = Action("sales_now", "A rep is given a task: the account is worth a conversation now.", sales_touch=True)
MONITOR = Action("monitor", "The account is watched; its next trigger event makes it a sales touch.", watched=True)
NURTURE = Action("nurture", "Marketing goes on with the account; a rep is not to contact it yet.", by_rule=True)
SELF_SERVE_HERO = Action(
    "self_serve_hero", "The account uses the product well and is worth too little for sales: the product serves it."
)
SELF_SERVE_ONBOARDING = Action(
    "self_serve_onboarding", "The account is worth too little for sales and not engaged yet: the product onboards it."
)
HOLD_CONVERTING = Action(
    "hold_converting", "The account is buying by itself; nobody interrupts its checkout.", hold=True, watched=True
)
HOLD_TOUCHED = Action(
    "hold_touched", "The account is handed over already, or a rep was in contact with it lately.", hold=True
)
HOLD_COOLDOWN = Action("hold_cooldown", "The account's last handoff ended; sales stays away from it.", hold=True)
HOLD_OPEN_OPPORTUNITY = Action(
    "hold_open_opportunity", "A colleague works on a deal with the account, or did so lately.", hold=True
)
HOLD_CONTEXT = Action(
    "hold_context", "The account waits until its record tells all that a rep must know.", hold=True, waiting=True
)
HOLD_REFUSED = Action(
    "hold_refused",
    "The CRM refused the account's task; it is offered again a day later, or once somebody has mended the cause.",
    hold=True,
    waiting=True,
)
HOLD_CAPACITY = Action(
    "hold_capacity",
    "The account waits in a rep's queue for room in the rep's day.",
    hold=True,
    waiting=True,
    queued=True,
)
HOLD_HOLDOUT = Action(
    "hold_holdout",
    "The account is in the control group, which is left alone to measure what a sales touch is worth.",
    hold=True,
)
HOLD_NEVER_CONTACT = Action(
    "hold_never_contact",
    "The account may not be contacted: it opted out, the policy lists it, or it is our own.",
    hold=True,
)
INSUFFICIENT_DATA = Action("insufficient_data", "Too little is known of the account to decide anything.")
BELOW_FLOOR = Action(
    "below_floor", "Something calls for a person, but the account is worth less than the policy's value floor."
)

ACTIONS = (
    SALES_NOW,
    MONITOR,
    NURTURE,
    SELF_SERVE_HERO,
    SELF_SERVE_ONBOARDING,
    HOLD_CONVERTING,
    HOLD_TOUCHED,
    HOLD_COOLDOWN,
    HOLD_OPEN_OPPORTUNITY,
    HOLD_CONTEXT,
    HOLD_REFUSED,
    HOLD_CAPACITY,
    HOLD_HOLDOUT,
    HOLD_NEVER_CONTACT,
    INSUFFICIENT_DATA,
    BELOW_FLOOR,
)
"""Every action there is. No rule leads to `insufficient_data` yet."""
