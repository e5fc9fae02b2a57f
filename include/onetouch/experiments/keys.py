"""The keys that differ between two policies, and in words what each change does and for whom.

Decisions alone do not show every change: whom the task names, what the message says, who is in the audience and how a
rep's first days are filled are told here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from onetouch.policy import Policy


@dataclass(frozen=True)
class Change:
    """One key that differs: its path, both values, and in words what either value does ("": the key says it itself)."""

    key: str
    before: Any
    after: Any
    did: str
    does: str

    def record(self) -> dict[str, Any]:
        """The change as plain values."""
        return asdict(self)


def changed_keys(old: Policy, new: Policy) -> list[Change]:
    """Every key whose values differ, in the order of the document; members of a list are told apart by their names."""
    one, other = old.document(), new.document()
    found = []
    for at, before, after in _differences({**one, "name": ""}, {**other, "name": ""}, ()):
        words, given = _words(at, one, other)
        did, does = (words(value) if words else "" for value in given)
        found.append(Change(".".join(at), before, after, *((did, does) if did != does else ("", ""))))
    return found


def _differences(one: Any, other: Any, at: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    if one == other:
        return
    before, after = _named(one), _named(other)
    if before is None or after is None:
        yield at, one, other
        return
    for step in dict.fromkeys([*before, *after]):
        yield from _differences(before.get(step), after.get(step), (*at, step))


def _named(value: Any) -> Mapping[str, Any] | None:
    """A mapping, or the members of a list of mappings by what names each; None for any other value."""
    if isinstance(value, dict):
        return value
    for by in ("name", "signal", "email"):
        if isinstance(value, list) and value and all(isinstance(item, dict) and by in item for item in value):
            names = [str(item[by]) for item in value]
            return dict(zip(names, value, strict=True)) if len(set(names)) == len(names) else None
    return None


Words = Callable[[Any], str]


def _days(sentence: str, otherwise: str) -> Words:
    return lambda value: otherwise if value is None else sentence.format(f"{value:g} days" if value != 1 else "1 day")


def _hours(sentence: str, otherwise: str) -> Words:
    return lambda value: otherwise if value is None else sentence.format(f"{value:g} hours" if value != 1 else "1 hour")


def _one_of(**sentences: str) -> Words:
    return lambda value: sentences.get({"True": "yes", "False": "no"}.get(str(value), str(value)), "")


def _listed(sentence: str, otherwise: str) -> Words:
    return lambda value: sentence.format(", ".join(map(str, value))) if value else otherwise


def _conditions(conditions: Any, by: str = " and ") -> str:
    return by.join(f"{condition['signal']} ≥ {condition['at_least']:g}" for condition in conditions)


def _friction(value: Any) -> str:
    if value is None:
        return "a customer that outgrows its plan is called whatever stands in its way"
    when = _conditions(value.get("when", []), " or ")
    falling = "use falls" if value.get("falling") else ""
    return f"a customer is offered no more while {' or '.join(filter(None, [when, falling])) or 'nothing'}"


def _never_contact(value: Any) -> str:
    if value is None:
        return "opt-outs and lists hold no account"
    return "who opted out, or is listed, is never called: the account is held"


def _plans(value: Any) -> str:
    if not value:
        return "no plan is known but what the CRM records: no message names one"
    told = []
    for plan in value:
        price = plan.get("seat_price_year")
        more = ["free" if price == 0 else f"${price:g} a seat and year"] if price is not None else []
        more += [f"{cap:g} {limit}" for limit, cap in (plan.get("limits") or {}).items()]
        told.append(f"{plan['name']} ({', '.join(more)})" if more else plan["name"])
    return f"potential ARR, limits and the plan a message offers come from {', '.join(told)}"


def _ramp(value: Any) -> str:
    if not value:
        return "the first day is as full as any other"
    return f"since going live, all reps together get {', '.join(f'{tasks:g}' for tasks in value)} tasks a day, then all"


WORDS: dict[str, Words] = {
    "routing.cooldown_days": _days("who did not answer a touch is left alone for {}", ""),
    "unit": _one_of(
        account="what an account's users do together makes it a lead",
        user="an account is a lead only if one of its users qualifies in person",
    ),
    "routing.engaged": lambda value: f"an account is engaged with {_conditions(value)}",
    "routing.returns.lost_days": _days(
        "after a lost deal sales stays away for {}", "after a lost deal sales stays away as long as after silence"
    ),
    "routing.returns.won_days": _days(
        "a won customer is watched for expansion from {} after the close",
        "after a won deal sales stays away as long as after silence",
    ),
    "routing.returns.untouched_days": _days(
        "who was handed over and never called is left alone for {}",
        "who was handed over and never called is left alone as long as after silence",
    ),
    "routing.returns.new": _one_of(
        occurrence="after that time any sign of intent after the end counts as new",
        signal="after that time only a signal that was not there at the handoff counts as new",
    ),
    "routing.returns.hand_raise": _one_of(
        yes="who asks for a person after the end is called at once",
        no="who asks for a person waits until that time is over",
    ),
    "routing.returns.same_rep_days": _days(
        "who comes back within {} goes to the rep of before", "who comes back goes to whoever is next in turn"
    ),
    "routing.fresh_intent_hours": _hours(
        "nobody is called whose last sign of intent is older than {}, unless a state lasts",
        "a sign of intent counts for as long as its signal's window",
    ),
    "routing.deal_closed_days": _days(
        "once a colleague's deal has closed sales stays away for {}, unless they ask for a person",
        "a deal that has closed keeps nobody away",
    ),
    "routing.rules.friction": _friction,
    "routing.rules.never_contact": _never_contact,
    "never_contact.domains": _listed("never called: everybody of {}", "no domain is listed"),
    "never_contact.accounts": _listed("never called: the accounts {}", "no account is listed"),
    "never_contact.people": lambda value: f"never named or written to: {len(value)} people who are listed",
    "never_contact.file": lambda value: f"never called: whom {value} lists" if value else "no file lists anybody",
    "never_contact.channels": _listed(
        "who opted out of one of {} is named in no task; of all of them, cannot be reached", ""
    ),
    "product.plans": _plans,
    "signals.seats_used": _one_of(
        active_users="seats in use are the active users, where no event reports them",
        events="seats in use are known only where an event reports them",
    ),
    "signals.team_from_users": lambda value: f"from {value} users on an account is a team",
    "signals.team_day_users": lambda value: f"a day of a team needs {value} of its users",
    "signals.demo_watched": lambda value: f"a product demo counts as watched to the end from {value:g} % on",
    "signals.enterprise": _one_of(
        listed="an enterprise is a company of the list, or of the size",
        business="every organisation with a domain of its own is an enterprise",
    ),
    "signals.enterprise_domains": _listed(
        "enterprises are, by their domain: {}", "no domain is listed as an enterprise's"
    ),
    "signals.enterprise_file": lambda value: (
        f"enterprises are whom {value} lists, too" if value else "no file lists enterprises"
    ),
    "signals.enterprise_employees": lambda value: (
        f"a company of {value:,} employees is an enterprise" if value else "no company is an enterprise for its size"
    ),
    "message.order": _one_of(
        strength="the rep is told the strongest situation first: what stands in their way, who asked, what earned most",
        listed="the rep is told the first situation of the policy's list that fits",
    ),
    "message.max_words": lambda value: f"a first message has at most {value:,} words",
    "message.max_chars": lambda value: f"a first message has at most {value:,} characters",
    "message.greeting": _listed("a first message greets with {}", ""),
    "message.question": _listed("a first message asks, where its situation does not: {}", "it asks nothing of its own"),
    "message.asides": lambda value: (
        f"news woven into a message: {', '.join(aside['signal'] for aside in value)}"
        if value
        else "no news is woven in"
    ),
    "handoff.follow_ups": _one_of(
        tasks="each touch after the first is a task of its own, a follow-up",
        none="a rep who may write again gets no task for it",
    ),
    "handoff.task_notes": _one_of(
        brief="a task holds the first message and what to do; the rest is on the record",
        whole="a task holds all that is known of the account, as the record does",
    ),
    "slack.links": _one_of(
        yes="an alert leads to the task and to the account's record in the CRM",
        no="an alert holds no links",
    ),
    "slack.snooze_hours": _hours("the reminder waits {} once Snooze is pressed", ""),
    "slack.tell_events": _one_of(
        yes="the owner of a task is told of trigger events since, in the thread of its alert",
        no="the owner of a task is told nothing after its alert",
    ),
    "crm.alert_link": _one_of(
        yes="the record of a handed-over account leads to the alert in the chat",
        no="the record of a handed-over account does not say where its alert is",
    ),
    "crm.context": _one_of(
        fresh="what the record says of a handed-over account is written anew when it is not true any more",
        once="what the record says of a handed-over account is written once, before its task",
    ),
    "assignment.remind": _one_of(
        yes="the owner of a task that is due and untouched is reminded, once",
        no="nobody is reminded of a task",
    ),
    "assignment.escalate_to": lambda value: (
        "a task stays with its rep however long it is untouched"
        if value is None
        else f"a task that is untouched for twice its time goes to {'the next rep' if value == 'next_rep' else value}"
    ),
    "assignment.when_owner_leaves": _one_of(
        next_rep="an untouched task whose rep has left or is away goes to the next rep, with a new SLA",
        keep="a task stays with its rep who has left or is away",
    ),
    "assignment.when_territory_changes": _one_of(
        next_rep="an untouched task goes to the rep of the territory its account belongs to now",
        keep="a change of territories is about new tasks alone",
    ),
    "crm.contacts": _one_of(
        match="a task names the contact of the person to write to, if the account has that contact",
        create="a task names the contact of the person to write to, which is made once where there is none",
        never="no task names a contact",
    ),
    "crm.standing": _one_of(
        everybody="every account the CRM knows has tier, action, score and trigger on its record",
        handed_over="only accounts that were handed over have tier, score and trigger on their record",
    ),
    "crm.duplicates": _one_of(
        ask="a record that a duplicate rule refuses waits for a person, with what it looks like",
        adopt="of a record that a duplicate rule refuses, the only one it looks like is used",
        allow="a record that looks like others is made where the duplicate rule only alerts",
    ),
    "crm.lone_users": _one_of(
        person="a lone user becomes a person account, where the org has them",
        account="a lone user becomes a record like a company's",
        leave="a lone user gets no record, where the org has person accounts",
    ),
    "crm.standing_points": lambda value: f"a score alone is written again when it changed by {value:g} points",
    "crm.opportunity": _one_of(
        never="no opportunity is made",
        on_reply="an opportunity is made, once a handoff, when the customer replies",
        on_meeting="an opportunity is made, once a handoff, when a meeting is arranged",
    ),
    "delivery.ramp": _ramp,
    "audience.actions": _listed(
        "marketing is given the accounts with {}", "marketing is given no account for its action"
    ),
    "audience.tiers": _listed(
        "marketing is given the tiers {} as well, unless sales has them or holds them",
        "marketing is given no account for its tier",
    ),
    "audience.batch": lambda value: f"the audience is sent {value:,} accounts in a request",
    "audience.facts_hours": _hours("facts alone are sent to the audience anew after {}", ""),
    "audience.full_sync_days": _days(
        "everybody in the audience is sent anew after {}", "nobody in the audience is sent anew without a change"
    ),
    "people.most": lambda value: f"of an account {value} people are kept",
    **{
        f"crm.contact_fields.{name}": lambda value, what=what: (  # type: ignore[misc]
            f"{what} is read from {value}" if value else f"{what} is not read from the CRM"
        )
        for name, what in (
            ("title", "a person's title"),
            ("do_not_call", "who may not be called"),
            ("email_opt_out", "who opted out of e-mail"),
        )
    },
}
"""Key → what a value of it does, in words, for keys whose effect is not a decision's alone."""


def _words(at: tuple[str, ...], one: Any, other: Any) -> tuple[Words | None, tuple[Any, Any]]:
    """The words of the nearest key at or above a place that has some, and both policies' values there."""
    for length in range(len(at), 0, -1):
        words = WORDS.get(".".join(at[:length]))
        if words is not None:
            return words, (_at(one, at[:length]), _at(other, at[:length]))
    return None, (None, None)


def _at(document: Any, at: tuple[str, ...]) -> Any:
    for step in at:
        document = document.get(step) if isinstance(document, dict) else None
    return document
