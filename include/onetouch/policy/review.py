"""Finds contradictions in a valid policy: rules that never fire, people who never get a task.

The schema refuses values that are wrong in themselves; the checks here compare the parts of a policy with each other.
An *error* makes a rule or a person unreachable, a *warning* is allowed but seldom wanted.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from onetouch.catalogue import (
    CRM_COLUMNS,
    DETAIL_COLUMNS,
    FIRMOGRAPHIC_SIGNALS,
    SIGNAL_NAMES,
    SIGNALS,
    SNAPSHOT_COLUMNS,
)
from onetouch.policy import read
from onetouch.policy.plans import plans_after
from onetouch.policy.schema import (
    Condition,
    Limits,
    Points,
    Policy,
    Rep,
    Situation,
    Territory,
    suggestion,
)

MOST_EMPLOYEES = 1_000_000  # ours: no more than a handful of employers are larger
LONG_LEAVE_DAYS = 3_650  # ours: a rep who is on leave for ten years or longer never takes tasks
TENTHS = 10  # points are counted in tenths (`scoring/`)

UNDERSTANDING = ("features_used", "users", "events", "activated")
"""The facts a rep should know according to S0: features used, team size, usage volume, activation."""

COLUMNS = frozenset((*SIGNAL_NAMES, *(column.name for column in (*SNAPSHOT_COLUMNS, *CRM_COLUMNS, *DETAIL_COLUMNS))))
"""Columns of the account table that `handoff.required_context` may name (`signals/account.py` makes them)."""


@dataclass(frozen=True)
class Finding:
    """One thing to fix: the field as a path into the file, its value, what is wrong, and the fix."""

    severity: Literal["error", "warning"]
    field: str
    value: str
    says: str
    fix: str

    def __str__(self) -> str:
        return f"{self.field}: {self.value} {self.says}; {self.fix}"


Findings = Iterator[Finding]


def review_policy(policy: Policy) -> list[Finding]:
    """Every finding, errors first, then in the order of CHECKS. Empty for the default policy."""
    found = [finding for check in CHECKS for finding in check(policy)]
    return sorted(found, key=lambda finding: finding.severity)  # "error" < "warning"; the sort is stable


def former_names(path: Path | str) -> list[Finding]:
    """A warning for each former name of a signal that a policy file uses. Raises PolicyError."""
    return [
        _warning(found.field, found.old, f"is called {found.new} now", f"write {found.new}")
        for found in read.former_names(path)
    ]


def _error(field: str, value: object, says: str, fix: str) -> Finding:
    return Finding("error", field, _said(value), says, fix)


def _warning(field: str, value: object, says: str, fix: str) -> Finding:
    return Finding("warning", field, _said(value), says, fix)


def _said(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


# ── Signals: what a condition may require ─────────────────────────────────────────────────────────────────────────────


def most(policy: Policy) -> dict[str, float]:
    """The upper bound of each signal that has one."""
    bounds = {signal.name: signal.bound(policy) for signal in SIGNALS}
    return {name: bound for name, bound in bounds.items() if bound is not None}


def conditions(policy: Policy) -> Iterator[tuple[str, Condition]]:
    """Every condition of the policy, each with the path of its field."""
    lists: dict[str, list[Condition]] = {
        "gates.engagement": policy.gates.engagement,
        "gates.intent": policy.gates.intent,
        "scoring.points": list(policy.scoring.points),
        "routing.engaged": policy.routing.engaged,
        "routing.hand_raised": policy.routing.hand_raised,
        "routing.expansion.when": policy.routing.expansion.when,
        **{f"situations.{i}.when": situation.when for i, situation in enumerate(policy.situations)},
    }
    for field, members in lists.items():
        yield from ((f"{field}.{i}.at_least", condition) for i, condition in enumerate(members))


def _out_of_reach(policy: Policy) -> Findings:
    bounds = most(policy)
    for field, condition in conditions(policy):
        name, asked = condition.signal, condition.at_least
        bound = bounds.get(name)
        if bound is not None and asked > bound:
            yield _error(
                field, asked, f"is out of reach: {name} is never more than {bound:g}", f"ask {bound:g} or less"
            )
        elif name == "limit_share" and asked > 1:
            yield _warning(field, asked, "is more than the whole limit: limit_share is a share", "write 80 % as 0.8")
        elif asked <= 0:
            yield _warning(field, asked, f"asks nothing: {name} is always that much where known", "ask more than 0")
        ramp = condition.full_at if isinstance(condition, Points) else None
        if bound is not None and ramp is not None and ramp > bound >= asked:
            field = field.removesuffix("at_least") + "full_at"
            yield _warning(field, ramp, f"is out of reach: {name} is never more than {bound:g}", f"write {bound:g}")


def _only_firmographic(policy: Policy) -> Findings:
    for field, members in (
        ("routing.engaged", policy.routing.engaged),
        ("routing.expansion.when", policy.routing.expansion.when),
    ):
        names = [condition.signal for condition in members]
        if set(names) <= FIRMOGRAPHIC_SIGNALS:
            says = "looks at the company alone: firmographics rank, never trigger"
            yield _error(field, ", ".join(names), says, "add a signal of use")


def _windows(policy: Policy) -> Findings:
    windows = policy.signals
    for name in ("recent_days", "engagement_days"):
        days = getattr(windows, name)
        if days > windows.lookback_days:
            says = f"is longer than lookback_days ({windows.lookback_days}): older days are never read"
            yield _error(f"signals.{name}", days, says, f"set it to {windows.lookback_days} or less")
    if windows.checkout_stalled_hours >= windows.checkout_abandoned_hours:
        says = f"is not before checkout_abandoned_hours ({windows.checkout_abandoned_hours}): nothing is ever stalled"
        yield _warning("signals.checkout_stalled_hours", windows.checkout_stalled_hours, says, "set it to fewer hours")
    if windows.abandoned_barrier_hours >= 24 * windows.recent_days:
        says = f"is past recent_days ({windows.recent_days}): an abandoned checkout never becomes a barrier"
        yield _error("signals.abandoned_barrier_hours", windows.abandoned_barrier_hours, says, "set it to fewer hours")


def _vocabulary(policy: Policy) -> Findings:
    """An event to which no vendor event is mapped never happens."""
    meant = {meaning.as_ for meaning in policy.vocabulary.values()}
    for event in policy.product.activation:
        if event not in meant:
            says = "is meant by no event of vocabulary: no account ever activates, nobody is ever called"
            yield _error("product.activation", event, says, f"map an event of yours to {event}, or remove it")
    for event in policy.product.milestones:
        if event not in meant:
            says = "is meant by no event of vocabulary: it is never done"
            yield _warning("product.milestones", event, says, f"map an event of yours to {event}, or remove it")
    if "checkout_started" not in meant:
        says = "has no event that means checkout_started: an account that is buying by itself cannot be told apart"
        yield _warning("vocabulary", f"({len(policy.vocabulary)} events)", says, "map your checkout's first step to it")


# ── Scoring: tiers within reach of the points ─────────────────────────────────────────────────────────────────────────


def _tiers(policy: Policy) -> Findings:
    scoring, sums = policy.scoring, _sums(policy, ranked=policy.scoring.firmographics == "combine")
    best, high, medium = sums.bit_length() - 1, round(TENTHS * scoring.tiers.high), round(TENTHS * scoring.tiers.medium)
    if high > best:
        says = f"is out of reach: all signals that count earn {best / TENTHS:g} points together"
        yield _error("scoring.tiers.high", scoring.tiers.high, says, f"set it to {best / TENTHS:g} or less")
    between = sums >> medium & ((1 << (high - medium)) - 1)
    if not between:
        says = f"is a tier nobody is in: no sum of points lies from it to below high ({scoring.tiers.high:g})"
        yield _warning("scoring.tiers.medium", scoring.tiers.medium, says, "move it, or the points")
    senior = policy.assignment.senior_score
    everything = _sums(policy, ranked=True).bit_length() - 1
    if senior is not None and senior * TENTHS > everything:
        says = f"is out of reach: all signals earn {everything / TENTHS:g} points together"
        yield _warning(
            "assignment.senior_score", senior, says, f"set it to {everything / TENTHS:g} or less, or to null"
        )


def _sums(policy: Policy, *, ranked: bool) -> int:
    """The scores that can occur, in tenths of points: bit n is set where n is a sum of some of the points."""
    bounds, sums = most(policy), 1
    for rule in policy.scoring.points:
        bound = bounds.get(rule.signal, math.inf)
        if bound < rule.at_least or (rule.signal in FIRMOGRAPHIC_SIGNALS and not ranked):
            continue
        points = TENTHS * rule.points
        top = low = round(points)
        if rule.full_at is not None:
            top = round(points * min(1.0, bound / rule.full_at))
            low = round(points * max(rule.at_least, 0.0) / rule.full_at)
        if rule.half_life_days is not None:
            low = 1  # decay can bring the points down to any value
        low = max(low, 1)
        if top >= low:
            sums |= _spread(sums, top - low) << low
    return sums


def _spread(sums: int, most: int) -> int:
    """The sums with each of 0 … `most` added; the width doubles with each step."""
    done = 0
    while done < most:
        step = min(done + 1, most - done)
        sums |= sums << step
        done += step
    return sums


# ── Plans: each holds more than the one before, and what can be tried is in one ──────────────────────────────────────


def _plans(policy: Policy) -> Findings:
    product = policy.product
    places = {plan.name: i for i, plan in enumerate(product.plans)}
    features = [*product.features, *product.premium_features]
    for i, plan in enumerate(product.plans):
        for name in plan.features:
            if name not in features:
                fix = suggestion(name, features).strip() or "add it to product.premium_features, or remove it"
                yield _warning(f"product.plans.{i}.features", name, "is no feature of the product", fix)
        for after in plans_after(plan, product)[:1]:
            field = f"product.plans.{places[after.name]}"
            for name, cap in plan.limits.items():
                if after.limits.get(name, math.inf) <= cap:
                    says = f"holds no more than the plan before it ({plan.name}: {cap:g}): it unlocks nothing"
                    yield _warning(f"{field}.limits.{name}", after.limits[name], says, "raise it, or leave it out")
            if lost := [name for name in plan.features if name not in after.features]:
                says = f"lacks what the plan before it holds ({plan.name})"
                yield _warning(f"{field}.features", ", ".join(lost), says, f"add them to {after.name}")
    if product.plans:
        held = {name for plan in product.plans for name in plan.features}
        if nowhere := [name for name in product.premium_features if name not in held]:
            says = "are in no plan: who tries one cannot be told which plan has it"
            yield _warning("product.premium_features", ", ".join(nowhere), says, "add them to a plan's features")


def _limits(policy: Policy) -> Findings:
    """A limit that resets is one of a plan, as far as the plans' limits are known."""
    known = {name for plan in policy.product.plans for name in plan.limits}
    for name in policy.signals.limit_resets if known else ():
        if name not in known:
            fix = suggestion(name, sorted(known)).strip() or "give it a cap in product.plans, or remove it"
            yield _warning("signals.limit_resets", name, "is a limit of no plan", fix)


def _benchmarks(policy: Policy) -> Findings:
    known = read.preset_document()["report"]["benchmarks"]
    for name in policy.report.benchmarks:
        if name not in known:
            fix = suggestion(name, known).strip() or f"take one of {', '.join(known)}"
            yield _warning("report.benchmarks", name, "is compared with no figure", fix)


# ── Routing: every rule can fire, and sales can be reached ────────────────────────────────────────────────────────────


def _profile(policy: Policy) -> Findings:
    icp = policy.gates.icp
    low, high = icp.min_employees, icp.max_employees
    if low is not None and high is not None and low > high:
        says = f"is more than max_employees ({high}): no account of known size fits"
        yield _error("gates.icp.min_employees", low, says, f"set it to {high} or less")
    sold_to = {industry.lower() for industry in icp.industries}
    if sold_to and sold_to <= {industry.lower() for industry in icp.excluded_industries}:
        says = "are all excluded: no account of known industry fits"
        yield _error("gates.icp.industries", ", ".join(icp.industries), says, "remove them from excluded_industries")


def _value(policy: Policy) -> Findings:
    value, largest = policy.value, policy.gates.icp.max_employees or MOST_EMPLOYEES
    price = max(value.seat_price_year, *(plan.seat_price_year or 0.0 for plan in policy.product.plans), 0.0)
    reach = price * largest
    if value.floor > reach:
        says = f"is out of reach: {largest:,} seats at ${price:,.0f} a year are ${reach:,.0f}"
        yield _error("value.floor", value.floor, says, f"set it to {reach:.0f} or less")
    if value.assist <= value.floor:
        says = f"is not above floor ({value.floor:g}): no account is sales-assist by its worth"
        yield _warning("value.assist", value.assist, says, "set it above the floor")


def _motion(policy: Policy) -> Findings:
    cut, largest = policy.routing.motion, policy.gates.icp.max_employees
    if cut.sales_assist_employees >= cut.sales_led_employees:
        says = f"is not below sales_led_employees ({cut.sales_led_employees}): no account is sales-assist by its size"
        yield _warning("routing.motion.sales_assist_employees", cut.sales_assist_employees, says, "set it lower")
    if policy.routing.large_not_engaged == "sales" and largest is not None and largest < cut.sales_led_employees:
        says = f"never applies: gates.icp.max_employees is {largest}, sales_led_employees {cut.sales_led_employees}"
        yield _warning("routing.large_not_engaged", "sales", says, f"set sales_led_employees to {largest} or less")


def _matrix(policy: Policy) -> Findings:
    engaged, gate = policy.routing.engaged, policy.gates.engagement
    if all(any(_implies(passed, asked) for passed in gate) for asked in engaged):
        says = "asks no more than gates.engagement: every PQL is engaged, the matrix's other half holds none"
        yield _warning("routing.engaged", _words(engaged), says, "ask more, or lower the gate")


def _expansion(policy: Policy) -> Findings:
    near = policy.signals.limit_near
    when = {condition.signal: condition.at_least for condition in policy.routing.expansion.when}
    share = when.get("limit_share", near)
    if "limit_held_days" in when and share < near:
        says = f"is less than signals.limit_near ({near:g}), from which limit_held_days counts: it asks nothing"
        yield _warning("routing.expansion.when", f"limit_share {share:g}", says, f"write {near:g}, or lower limit_near")


def _monitored(policy: Policy) -> Findings:
    routing, scored = policy.routing, {rule.signal for rule in policy.scoring.points}
    if routing.medium == "monitor" and not routing.triggers:
        says = "are none: a monitored account is watched and never called"
        yield _warning("routing.triggers", "[]", says, "name some, or set medium to nurture")
    worthless = [signal for signal in routing.triggers if signal not in scored]
    if worthless and len(worthless) < len(routing.triggers):  # if no trigger earns points, the score ignores moments
        says = "earn no points as the other triggers do: they make a call that no reason of the score explains"
        yield _warning("routing.triggers", ", ".join(worthless), says, "add them to scoring.points")


def _holdout(policy: Policy) -> Findings:
    share = policy.routing.holdout_share
    if share == 1:
        yield _error(
            "routing.holdout_share", share, "holds every account back: nobody is ever called", "set it below 1"
        )


# ── Handoff: clocks in their order, context that exists ───────────────────────────────────────────────────────────────


def _clocks(policy: Policy) -> Findings:
    sla, expires = policy.handoff.sla_hours, policy.handoff.expires_hours
    for name, hours in (("high", sla.high), ("medium", sla.medium)):
        if hours > expires:
            says = f"is longer than expires_hours ({expires}): tasks expire before they are due"
            yield _error(f"handoff.sla_hours.{name}", hours, says, f"set it to {expires} or less")
    if sla.high > sla.medium:
        says = f"is longer than medium ({sla.medium}): the better the account, the later the call"
        yield _warning("handoff.sla_hours.high", sla.high, says, f"set it to {sla.medium} or less")
    if policy.assignment.queue_hours > expires:
        says = f"is longer than handoff.expires_hours ({expires}): who waits that long is called on a stale signal"
        yield _warning("assignment.queue_hours", policy.assignment.queue_hours, says, f"set it to {expires} or less")


def _context(policy: Policy) -> Findings:
    required = policy.handoff.required_context
    for name in required:
        if name not in COLUMNS:
            fix = suggestion(name, sorted(COLUMNS)).strip() or "take a column of the account table, such as users"
            yield _error("handoff.required_context", name, "is no field of an account", fix)
    left_out = [name for name in UNDERSTANDING if name not in required]
    if left_out:
        says = f"leaves out {', '.join(left_out)}: no rep should be sent a task without"
        yield _warning("handoff.required_context", f"({len(required)} fields)", says, "add them")


def _situations(policy: Policy) -> Findings:
    for i, later in enumerate(policy.situations):
        for earlier in policy.situations[:i]:
            if _shadows(earlier, later, policy):
                says = f"is never reached: “{earlier.name}” above fits whatever this fits"
                yield _error(f"situations.{i}", f"“{later.name}”", says, "move it up, or ask more of the one above")
                break


def _shadows(earlier: Situation, later: Situation, policy: Policy) -> bool:
    """Whether `earlier` is told to every account that `later` fits: it requires no further condition and no further
    fact, and (by strength) it is never the weaker one.
    """
    as_strong = earlier.kind == later.kind and earlier.signals == later.signals
    return (
        earlier.paying in (None, later.paying)
        and all(any(_implies(given, asked) for given in later.when) for asked in earlier.when)
        and earlier.facts <= later.facts
        and (policy.message.order == "listed" or as_strong)
    )


def _questions(policy: Policy) -> Findings:
    message = policy.message
    for i, situation in enumerate(policy.situations):
        said = [*(situation.opening or [message.opening]), *situation.offer, *situation.unlock]
        said += situation.closing or [message.closing]
        asking = [text for text in said if "?" in text]
        if asking and situation.question:
            says = "asks something besides the question: who is asked two things answers none"
            yield _warning(f"situations.{i}", f"“{asking[0][:60]}”", says, "ask it in `question` alone")


def _implies(given: Condition, asked: Condition) -> bool:
    return given.signal == asked.signal and given.at_least >= asked.at_least


def _words(members: list[Condition]) -> str:
    return ", ".join(f"{condition.signal} {condition.at_least:g}" for condition in members)


# ── Assignment: every territory is reached, every rep can take tasks ──────────────────────────────────────────────────


def _territories(policy: Policy) -> Findings:
    territories = policy.assignment.territories
    reached: set[int] = set()
    overlaps: dict[tuple[int, int], str] = {}
    for example, fitting in _cells(territories):
        reached.update(fitting[:1])
        for pair in itertools.combinations(fitting, 2):
            overlaps.setdefault(pair, example)
    for i, territory in enumerate(territories):
        if i not in reached:
            low, high = territory.min_employees or 0, territory.max_employees
            contradicts = high is not None and low > high
            why = "its sizes contradict each other" if contradicts else "those above fit whatever it fits"
            fix = "mend min_employees" if contradicts else "move it up, or remove it"
            yield _error(f"assignment.territories.{i}", territory.name, f"is never reached: {why}", fix)
    for (first, second), example in overlaps.items():
        # A last territory without conditions takes every other account and overlaps on purpose.
        if {first, second} <= reached and _asks(territories[second]):
            says = f"overlaps with {territories[first].name}, which wins: an account of {example} fits both"
            fix = "tell them apart, or leave it if that is meant"
            yield _warning(f"assignment.territories.{second}", territories[second].name, says, fix)
    names = [territory.name for territory in territories]
    for name in sorted({name for name in names if names.count(name) > 1}):
        says = "is the name of two territories: nobody can tell which one a task came by"
        yield _warning("assignment.territories", name, says, "rename one")


def _cells(territories: list[Territory]) -> Iterator[tuple[str, list[int]]]:
    """Every kind of account that territories can tell apart, described in words, and the indices of the territories
    that take it."""
    regions = {region.lower(): region for t in territories for region in t.regions}
    industries = {industry.lower(): industry for t in territories for industry in t.industries}
    sizes = {1} | {t.min_employees or 1 for t in territories} | {(t.max_employees or 0) + 1 for t in territories}
    for region, industry, size in itertools.product([*regions, ""], [*industries, ""], sorted(sizes)):
        fitting = [
            place
            for place, t in enumerate(territories)
            if (not t.regions or region in [r.lower() for r in t.regions])
            and (not t.industries or industry in [i.lower() for i in t.industries])
            and (t.min_employees or 0) <= size <= (t.max_employees or math.inf)
        ]
        words = (
            regions.get(region, "another region") if regions else "",
            industries.get(industry, "another industry") if industries else "",
            f"{size} employees" if len(sizes) > 1 else "",
        )
        yield ", ".join(filter(None, words)) or "any account", fitting


def _asks(territory: Territory) -> bool:
    asked = (territory.regions, territory.industries, territory.min_employees, territory.max_employees)
    return any(part not in ([], None) for part in asked)


def _reps(policy: Policy) -> Findings:
    assignment = policy.assignment
    idle = {rep.email.lower() for rep in assignment.reps if not _has_room(rep)}
    working = {rep.email.lower() for rep in assignment.reps} - idle
    if idle and not working:
        says = "never have room, and there is nobody else: no account is ever called"
        yield _error("assignment.reps", ", ".join(sorted(idle)), says, "give one of them tasks_per_day")
    for i, territory in enumerate(assignment.territories):
        if {email.lower() for email in territory.reps} <= idle:
            says = f"has no rep with room ({', '.join(territory.reps)}): its accounts wait for ever"
            yield _error(f"assignment.territories.{i}.reps", territory.name, says, "add a rep who takes tasks")
    placed = {email.lower() for territory in assignment.territories for email in territory.reps}
    everywhere = assignment.territories and all(fitting for _, fitting in _cells(assignment.territories))
    for i, rep in enumerate(assignment.reps):
        if rep.email.lower() in idle:
            says = "never has room: the accounts they own wait in their queue until the signal is stale"
            yield _warning(f"assignment.reps.{i}", rep.email, says, "give them tasks_per_day, or remove them")
        elif everywhere and rep.email.lower() not in placed:
            says = "is in no territory, and the territories leave no account over: they get only what they own"
            yield _warning(f"assignment.reps.{i}", rep.email, says, "add them to a territory")
    if assignment.reps and assignment.senior_score is not None and not any(rep.senior for rep in assignment.reps):
        says = "prefers a senior rep, and none is senior"
        yield _warning("assignment.senior_score", assignment.senior_score, says, "mark one senior, or set it to null")


def _has_room(rep: Rep) -> bool:
    return rep.tasks_per_day != 0 and not any((away.last - away.first).days >= LONG_LEAVE_DAYS for away in rep.leave)


def _caps(policy: Policy) -> Findings:
    assignment = policy.assignment
    caps = {"assignment.tasks_per_rep_per_day": assignment.tasks_per_rep_per_day}
    caps |= {f"assignment.reps.{i}.tasks_per_day": rep.tasks_per_day or 0 for i, rep in enumerate(assignment.reps)}
    for field, cap in caps.items():
        if cap > assignment.tasks_per_day:
            says = f"never binds: assignment.tasks_per_day stops all of them together at {assignment.tasks_per_day}"
            yield _warning(field, cap, says, f"set it to {assignment.tasks_per_day} or less")


def _quality(policy: Policy) -> Findings:
    for name, limits in policy.quality:
        if not isinstance(limits, Limits):
            continue
        swapped = limits.critical > limits.warning if name.startswith("min_") else limits.critical < limits.warning
        if swapped:
            says = f"is milder than critical ({limits.critical:g}): it stops before it warns"
            yield _warning(f"quality.{name}.warning", limits.warning, says, "swap the two")


CHECKS: tuple[Callable[[Policy], Findings], ...] = (
    _quality, _vocabulary, _windows, _profile, _out_of_reach, _only_firmographic, _plans, _tiers, _value, _matrix,
    _expansion, _monitored, _motion, _holdout, _clocks, _context, _situations, _questions, _territories, _reps, _caps,
    _limits, _benchmarks,
)  # fmt: skip
