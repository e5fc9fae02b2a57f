"""The people of each account: who they are, what each of them did, and which of them is the one to write to.

The person to write to is, in this order: who asked for a person (the last to ask), a buyer, the champion. Who asked
waits for an answer, and any other address would be a detour. A buyer can say yes: who has a role in the product that
buys for the team (`people.buyer_roles`, or has changed SSO or permissions), or a title or seniority that
`people.decision_makers` names. The champion, the most active person, knows the product best, and is asked where nobody
is known to buy. Of buyers and of the others, those whose address is known come first, since nobody can be written to
without one.

Somebody qualifies in person who shows intent (does what PERSON_SIGNALS count) and was there on as many days as the gate
asks of an account. With `unit: user` (S2) an account is no PQL without such a person, who comes right after those who
asked: who qualified is the one to write to.
"""

from __future__ import annotations

import re
from datetime import datetime
from functools import reduce
from typing import TYPE_CHECKING

import ibis
import ibis.expr.types as ir

from onetouch.catalogue import PEOPLE_COLUMNS, PERSON_SIGNALS, SIGNALS_BY_NAME, WEEK_DAYS, Kind
from onetouch.events import ADDRESS, latest_profiles
from onetouch.lake import Engine
from onetouch.policy import Policy
from onetouch.signals.days import first_date, first_hour
from onetouch.signals.sums import MOST_DAYS, Sums

if TYPE_CHECKING:
    from collections.abc import Iterable

CONTACT = {
    "contact_user": "user_id", "contact_name": "name", "contact_email": "email", "contact_title": "title",
}  # fmt: skip
"""Column of the signals → column of the person to write to."""

_NO_LETTER = r"[^\p{L}\p{N}]"


def people(
    engine: Engine, sums: Sums, activity: ir.Table, profiles: ir.Table, policy: Policy, as_of: datetime
) -> tuple[ir.Table, ir.Table]:
    """Two tables: the best `people.most` people of each account (PEOPLE_COLUMNS), and account_id with the number of
    active `decision_makers` and of `qualified_users`.

    Somebody is of an account who used it recently, or did there what a signal counts. `sums`, `activity`: as
    `account.account_signals` has them. `profiles`: PROFILES, as known at `as_of`.
    """
    u = sums.user
    used = u.filter(u.user_id.notnull() & (u.n_recent > 0))
    used = used.group_by("account_id", "user_id").agg(
        events=used.n_recent.sum(), days=used.days.bit_or(), last_at=used.last_at.max()
    )
    did = _did(activity, policy, as_of)
    both = engine.keep(used.outer_join(did, ["account_id", "user_id"], rname="{name}_of_did"), "people_of_accounts")
    who = {key: ibis.coalesce(both[key], both[f"{key}_of_did"]) for key in ("account_id", "user_id")}
    both = both.mutate(**who).drop("account_id_of_did", "user_id_of_did")
    known = profiles.semi_join(both, "user_id")
    who = engine.keep(latest_profiles(engine, known), "latest_profiles")
    p = both.left_join(who, "user_id").drop("user_id_right")
    given = p.user_id.lower()
    p = p.mutate(
        email=ibis.coalesce(p.email, given.re_search(ADDRESS).ifelse(given, ibis.null())),
        events=p.events.fill_null(0),
        **{name: p[name].fill_null(0) for name in PERSON_SIGNALS},
    )
    decides = _decides(p, policy)
    p = p.mutate(
        decides=decides,
        buyer=decides | _is_one_of(p.role, policy.people.buyer_roles) | (p.admin_actions > 0),
        intent=reduce(lambda one, other: one + other, (p[name] for name in PERSON_SIGNALS)),
    )
    p = engine.view(p, "everybody")
    window = range(min(policy.signals.engagement_days, MOST_DAYS))
    least = max((c.at_least for c in policy.gates.engagement if c.signal == "active_days"), default=1)
    counted = p.filter((p.decides & (p.events > 0)) | (p.intent > 0))
    counted = counted.mutate(qualifies=(counted.intent > 0) & (_days_there(counted, window) >= least))
    qualified = engine.keep(counted.select("account_id", "user_id", "qualifies", "decides", "events"), "qualified")
    numbers = qualified.group_by("account_id").agg(
        decision_makers=qualified.user_id.nunique(where=qualified.decides & (qualified.events > 0)),
        qualified_users=qualified.user_id.nunique(where=qualified.qualifies),
    )
    if policy.unit == "user":
        by = qualified.filter(qualified.qualifies).select("account_id", "user_id", "qualifies")
        p = p.left_join(by, ["account_id", "user_id"]).drop("account_id_right", "user_id_right")
        p = engine.view(p.mutate(qualifies=p.qualifies.fill_null(False)), "everybody_qualified")
    most = ibis.window(group_by="account_id", order_by=[p.events.desc(), p.user_id])
    p = p.mutate(champion=(ibis.row_number().over(most) == 0) & (p.events > 0))
    asked, reachable = p.demo_requests > 0, p.email.notnull()
    in_person = [p.qualifies.desc(), p.intent.desc()] if policy.unit == "user" else []
    kept = ibis.window(
        group_by="account_id",
        order_by=[
            asked.desc(), asked.ifelse(p.demo_requests_at, ibis.null()).desc(), *in_person, reachable.desc(),
            p.buyer.desc(), p.champion.desc(), (p.intent > 0).desc(), p.events.desc(), p.user_id,
        ],
    )  # fmt: skip
    p = p.mutate(place=ibis.row_number().over(kept) + 1)
    p = p.filter((p.place <= policy.people.most) | p.champion)
    best = p.mutate(active_days=_days_there(p, window))
    whole = [column.name for column in PEOPLE_COLUMNS if column.kind is Kind.WHOLE]  # a sum may be a longer number
    best = best.mutate(**{name: best[name].cast("int64") for name in whole})
    best = best.select(*(column.name for column in PEOPLE_COLUMNS))
    return engine.keep(best, "people"), numbers


def _days_there(people: ir.Table, window: range) -> ir.IntegerValue:
    """On how many days (UTC) of the window, counted back from the last, each person used the product."""
    return reduce(lambda one, other: one + other, (((people.days >> n) & 1) for n in window)).fill_null(0)


def contacts(people: ir.Table) -> ir.Table:
    """account_id and the columns of CONTACT: the person to write to."""
    first = people.filter(people.place == 1)
    return first.select("account_id", **{column: first[of] for column, of in CONTACT.items()})


def _did(activity: ir.Table, policy: Policy, as_of: datetime) -> ir.Table:
    """account_id, user_id, how often each did what PERSON_SIGNALS count, in the signals' windows, and when last."""
    counted = [SIGNALS_BY_NAME[name] for name in PERSON_SIGNALS]
    lengths = {signal.name: signal.window.days(policy.signals) or WEEK_DAYS for signal in counted}
    events = sorted({event for signal in counted for event in signal.events})
    longest = max(lengths.values())
    a = activity.filter(
        activity.user_id.notnull(), activity.event.isin(events), activity.event_date >= first_date(as_of, longest)
    )
    within = {
        signal.name: a.event.isin(signal.events) & (a.quarter >= first_hour(as_of, lengths[signal.name]))
        for signal in counted
    }
    did = a.group_by("account_id", "user_id").agg(
        **{name: a.n.sum(where=where) for name, where in within.items()},
        **{f"{name}_at": a.last_at.max(where=where) for name, where in within.items()},
    )
    return did.filter(ibis.or_(*(did[name] > 0 for name in PERSON_SIGNALS)))


def _decides(people: ir.Table, policy: Policy) -> ir.BooleanValue:
    """Whether a person's title or seniority is a decision maker's."""
    who = policy.people.decision_makers
    by_title: ir.BooleanValue = ibis.literal(False)
    if who.titles:
        words = "|".join(re.escape(title.strip().lower()) for title in who.titles)
        pattern = rf"(^|{_NO_LETTER})({words})($|{_NO_LETTER})"
        by_title = people.title.lower().re_search(pattern).fill_null(False)
    return by_title | _is_one_of(people.seniority, who.seniorities)


def _is_one_of(value: ir.StringValue, names: Iterable[str]) -> ir.BooleanValue:
    known = sorted({name.strip().lower() for name in names})
    return value.lower().isin(known).fill_null(False) if known else ibis.literal(False)
