"""The canonical events: what customers do, under our names. A policy maps each vendor's event names onto them."""

from __future__ import annotations

from dataclasses import dataclass

MOST = 1e15
"""The largest number that an event may carry (ours): up to here, whole numbers and their differences are exact."""


@dataclass(frozen=True)
class Event:
    """One kind of canonical event.

    `detail`: what the event's detail names, such as the feature that was used; `value`: what the number it carries
    measures. Scenario files use both as keys; a policy's vocabulary says which property of the vendor's event holds
    them. `values`: the smallest and the largest number that it can carry; anybody can send anything with the public key
    of a web page, and any other number is no value. `use`: whether the event counts as use of the product. A meter that
    reports nightly must not make an idle account look active, so readings of a meter, the website's demo, the help desk
    and outside news do not count. `guards`: whether a guarantee rests on it, so that its silence is a danger.
    """

    name: str
    meaning: str
    detail: str | None = None
    value: str | None = None
    values: tuple[float, float] = (0, MOST)
    use: bool = True
    guards: bool = False


EVENTS: tuple[Event, ...] = (
    Event("signed_up", "somebody opened an account with the product"),
    Event("session_started", "somebody began to use the product"),
    Event("workspace_created", "a place to work in was set up"),
    Event("data_imported", "data of their own came in"),
    Event("report_created", "a result was made with it"),
    Event("integration_connected", "another tool was connected", detail="integration"),
    Event("teammate_invited", "a colleague was invited"),
    Event("pricing_viewed", "the pricing page was looked at"),
    Event("plan_question_asked", "a question about plans was asked"),
    Event("demo_requested", "a person was asked for: a demo, a call"),
    Event("premium_feature_attempted", "a feature outside the plan was tried", detail="feature"),
    Event("feature_used", "a feature was used", detail="feature"),
    Event("usage_recorded", "the meter of a plan limit was read", detail="limit", value="used", use=False),
    Event("limit_reached", "a plan limit stopped somebody", detail="limit", use=False),
    Event("api_called", "the API was called"),
    Event("sdk_used", "the SDK was used"),
    Event("ci_run", "the product ran in their CI"),
    Event("export_created", "something was exported"),
    Event("content_shared", "something was shared"),
    Event("sso_configured", "single sign-on was set up or changed"),
    Event("permissions_changed", "roles or permissions were changed"),
    Event("action_failed", "something somebody tried did not work", detail="action"),
    Event("demo_viewed", "the product demo on the website was watched", value="completion", values=(0, 100), use=False),
    Event("support_ticket_opened", "the help desk was asked", use=False),
    Event("checkout_started", "a self-serve upgrade was begun, or went a step on", guards=True),
    Event("checkout_completed", "a self-serve upgrade was paid for", guards=True),
    Event("checkout_abandoned", "a self-serve upgrade was given up", guards=True),
    Event("plan_upgraded", "the account moved to a larger plan", detail="plan", value="arr"),
    Event("company_funded", "the company raised funding", use=False),
    Event("company_hiring", "the company advertised a job", use=False),
)

EVENT_NAMES: tuple[str, ...] = tuple(event.name for event in EVENTS)
EVENTS_BY_NAME: dict[str, Event] = {event.name: event for event in EVENTS}

NOT_USE: tuple[str, ...] = tuple(event.name for event in EVENTS if not event.use)
"""Events that do not count as use of the product; they have signals of their own."""
