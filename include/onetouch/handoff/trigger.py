"""Why now: the one reason a rep should open with, what to do about it, and what to offer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from onetouch.handoff.facts import Facts, count, listed, number, percent


@dataclass(frozen=True)
class Trigger:
    """One signal in words: `headline` for the task's subject, `approach` for the rep, `offer` for the customer."""

    signal: str
    headline: str
    approach: str
    offer: str


def _limit(f: Facts) -> str:
    return f"the {listed([f['limit_name']])} limit" if "limit_name" in f else "a plan limit"


def _limit_now(f: Facts) -> str:
    used = f" ({number(f['limit_used'])} of {number(f['limit_cap'])})" if "limit_used" in f and "limit_cap" in f else ""
    return f"{percent(f['limit_share'])} of {_limit(f)}{used}"


def _premium(f: Facts) -> str:
    return listed(f["premium_attempted"][:3]) if "premium_attempted" in f else "a premium feature"


_Words = Callable[[Facts], str]

# The order is the order of precedence: who asked for a person first, then who is about to be blocked (S1: before
# the limit rather than after it), then who was blocked, then interest, then growth. Order: ours.
_TRIGGERS: dict[str, tuple[_Words, _Words, _Words]] = {
    "demo_requests_28d": (
        lambda f: "asked in the product to talk to someone",
        lambda f: (
            "They asked for a person. Answer the question they have; skip the generic demo, they use the product."
        ),
        lambda f: "You asked for a hand, so I had a look at how your team is set up and can answer precisely.",
    ),
    "limit_share": (
        lambda f: f"at {_limit_now(f)}",
        lambda f: (
            f"They are at {_limit_now(f)}. "
            + ("Help them past it today, then s" if f["limit_share"] >= 1 else "S")
            + "uggest the plan with more room"
            + ("." if f["limit_share"] >= 1 else " before the limit stops them.")
        ),
        lambda f: (
            f"You {'have reached' if f['limit_share'] >= 1 else 'are getting close to'} {_limit(f)} of your "
            "current plan. I can show you the ways to get more room so that it stops no one."
        ),
    ),
    "premium_attempts_28d": (
        lambda f: f"tried {_premium(f)}",
        lambda f: (
            f"They tried {_premium(f)}, which their plan does not include. Show what it would do for them and which "
            "plan has it."
        ),
        lambda f: f"I can switch on {_premium(f)} for you to try with your own data, or tell you which plan has it.",
    ),
    "checkouts_abandoned_28d": (
        lambda f: "left an upgrade unfinished",
        lambda f: (
            "They began an upgrade and did not finish it. Ask what stood in the way (invoice, terms, procurement) "
            "and remove it."
        ),
        lambda f: "If something about billing, terms or procurement is in your way, I can sort that out directly.",
    ),
    "plan_questions_28d": (
        lambda f: "asked about plans",
        lambda f: "They asked about plans. Answer with the plan that fits their usage, and its price.",
        lambda f: (
            "You asked about plans: I can tell you which one fits the way you work, including when that is the one "
            "you have."
        ),
    ),
    "limits_reached_28d": (
        lambda f: f"reached {_limit(f)}",
        lambda f: f"They reached {_limit(f)}. Help them past it today, then suggest the plan that fits.",
        lambda f: f"Your team reached {_limit(f)}. I can help you past it and show which plan leaves room.",
    ),
    "admin_actions_28d": (
        lambda f: "configuring SSO or permissions",
        lambda f: "They are setting up SSO or permissions. Offer help with a company-wide rollout, security and terms.",
        lambda f: (
            "It looks as if you are setting this up for more people. I can help with SSO, permissions and security "
            "questions."
        ),
    ),
    "pricing_views_14d": (
        lambda f: f"looked at pricing {count(f['pricing_views_14d'], 'time')} in 14 days",
        lambda f: "They looked at pricing. Bring the plan and price that fit their usage.",
        lambda f: "If you are weighing up plans, I can tell you which one fits the way you work.",
    ),
    "invites_28d": (
        lambda f: f"invited {count(f['invites_28d'], 'teammate')} in 28 days",
        lambda f: "The team is growing. Offer to get the new colleagues started and suggest a team plan.",
        lambda f: "I can help your new colleagues get started, so that you do not have to.",
    ),
    "usage_growth_7d": (
        lambda f: f"usage {number(f['usage_growth_7d'])}× the week before",
        lambda f: "Usage is accelerating. Find out what they are rolling out and help it along.",
        lambda f: "If you are rolling this out more widely, I can help it go smoothly.",
    ),
    "developer_days_28d": (
        lambda f: f"API, SDK or CI in use on {count(f['developer_days_28d'], 'day')} of 28",
        lambda f: "They are building on the API. Offer technical help and talk about volumes.",
        lambda f: "I can put you in touch with an engineer for anything around the API.",
    ),
    "integrations": (
        lambda f: f"{count(f['integrations'], 'integration')} connected",
        lambda f: "The product is wired into their stack. Ask which workflow comes next.",
        lambda f: "I can help with the next workflow you want to connect.",
    ),
    "users": (
        lambda f: f"{count(f['users'], 'user')} on the team",
        lambda f: "Several people rely on the product. Offer what helps a team: roles, shared work, one invoice.",
        lambda f: "I can show you what helps teams of your size work together in it.",
    ),
}


def trigger(facts: Facts) -> Trigger:
    """The trigger of a decision: the first of the table that earned points; without one, steady use."""
    earned = {reason.get("signal") for reason in facts.get("reasons", []) if reason.get("points", 0) > 0}
    for signal, (headline, approach, offer) in _TRIGGERS.items():
        if signal in earned and signal in facts:
            return Trigger(signal, headline(facts), approach(facts), offer(facts))
    return Trigger(
        "",
        "steady use of the product",
        "They use the product steadily. Ask what they want to achieve next and help with that.",
        "I can help with whatever you want to set up next.",
    )
