"""The keys of a policy file and the range of each value.

Every model is frozen and refuses unknown keys: a typo in a rule of engagement must not pass silently.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, time
from typing import Annotated, Any, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    WithJsonSchema,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)

from onetouch.catalogue import (
    DETAIL_COLUMNS,
    EVENT_NAMES,
    FIRMOGRAPHIC_SIGNALS,
    MOMENTS,
    SIGNAL_NAMES,
    SIGNALS,
    SNAPSHOT_COLUMNS,
)
from onetouch.policy import texts
from onetouch.policy.naming import NAME, PLACEHOLDERS
from onetouch.public_holidays import has_holidays


def _event(name: str) -> str:
    return _one_of(name, EVENT_NAMES, "event of ours")


def _signal(name: str) -> str:
    return _one_of(name, SIGNAL_NAMES, "signal")


def _one_of(name: str, names: tuple[str, ...], what: str) -> str:
    if name not in names:
        raise _stranger(name, names, what)
    return name


def _stranger(name: str, names: Sequence[str], what: str) -> ValueError:
    return ValueError(f"no {what} is called that; {suggestion(name, names)}allowed: {', '.join(names)}")


def suggestion(name: str, names: Iterable[str]) -> str:
    """`did you mean {the nearest name}? `; empty when none is near."""
    known = {known.casefold(): known for known in names}
    near = difflib.get_close_matches(name.casefold(), known, n=1)
    return f"did you mean {known[near[0]]}? " if near else ""


def _timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        hint = suggestion(name, available_timezones())
        raise ValueError(f"{hint}give an IANA time zone, like Europe/Berlin") from None
    return name


def _country(code: str) -> str:
    if not has_holidays(code):
        raise ValueError("an ISO 3166 code of two letters, like US or DE")
    return code


def _some_name(pattern: str) -> str:
    if not pattern.strip("* "):
        raise ValueError(f"{pattern!r} fits every event; name those to ignore")
    return pattern


FROM_FILE = {"from_file": True}
"""Context of a validation: the document is a file's, not one that the ledger keeps. Only a file's is refused for what
former releases allowed, so that whatever was stored can be read for ever."""


def _in_files(fits: Callable[[str], bool], wanted: str) -> AfterValidator:
    """Refuses a text of a policy file that does not fit: `wanted` says what to give instead."""

    def check(text: str, info: ValidationInfo) -> str:
        if info.context == FROM_FILE and not fits(text):
            raise ValueError(wanted)
        return text

    return AfterValidator(check)


_DOMAIN = r"(?:[^\W_](?:[\w-]*[^\W_])?\.)+[^\W\d_](?:[\w-]*[^\W_])?"


def is_email(text: str) -> bool:
    """Whether a text has the form of an e-mail address: one @ between a name and a domain with dots, no blanks."""
    return re.fullmatch(rf"[^\s@,;:<>()\[\]\"\\]+@{_DOMAIN}", text) is not None


def _is_domain(text: str) -> bool:
    return re.fullmatch(_DOMAIN, text) is not None


def _is_channel(text: str) -> bool:
    return re.fullmatch(r"[A-Z][A-Z0-9]+", text) is not None


def _clock(value: Any) -> Any:
    """Refuses numbers, which would be read as seconds since midnight, and times with a zone of their own."""
    if isinstance(value, time) and value.tzinfo is None:
        return value
    if isinstance(value, str) and re.fullmatch(r"\d\d:\d\d(:\d\d(\.\d+)?)?", value.strip()):
        return value.strip()
    raise ValueError('give a time of day in quotes, like "09:00"')


def _day(value: Any) -> Any:
    """Refuses numbers, which would be read as seconds since 1970."""
    if isinstance(value, date) or (isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value.strip())):
        return value
    raise ValueError("give a date, like 2015-01-31")


def _source_name(name: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name):  # it is part of paths, of a connection's id and of batch ids
        raise ValueError("a name of lower-case letters, digits and _, up to 40")
    return name


EventName = Annotated[str, AfterValidator(_event), WithJsonSchema({"enum": list(EVENT_NAMES)})]
SignalName = Annotated[str, AfterValidator(_signal), WithJsonSchema({"enum": list(SIGNAL_NAMES)}), NAME]
ColumnName = Annotated[str, NAME]  # a column of the account table, which may be a signal
Text = Annotated[str, PLACEHOLDERS]  # may hold names of FACTS in braces
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
Timezone = Annotated[str, AfterValidator(_timezone)]
Country = Annotated[str, AfterValidator(_country)]
Email = Annotated[str, _in_files(is_email, "give an e-mail address, like ana@vendor.example")]
Domain = Annotated[str, _in_files(_is_domain, "give a domain, like rival.example")]
Channel = Annotated[str, _in_files(_is_channel, "give the id of a channel, like C0123456789, not its name or address")]
Clock = Annotated[time, BeforeValidator(_clock)]
Day = Annotated[date, BeforeValidator(_day)]
Source_name = Annotated[str, AfterValidator(_source_name)]
EventPattern = Annotated[str, Field(min_length=1), AfterValidator(_some_name)]
ProjectId = Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, int) else value)]
Sql_name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)?$", max_length=80)]


def _kinds(annotation: Any) -> set[Any]:
    """The types that a union, or what is annotated, consists of."""
    return {annotation}.union(*map(_kinds, get_args(annotation)))


class Part(BaseModel):
    """Base of every section: unknown keys are refused, and values cannot change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _numbers(cls, values: Any, info: ValidationInfo) -> Any:
        """Refuses yes and no of a file where a number is meant: they would count as 1 and 0."""
        for name, field in cls.model_fields.items() if info.context == FROM_FILE and isinstance(values, dict) else ():
            kinds = _kinds(field.annotation) if isinstance(values.get(name), bool) else set()
            if kinds & {int, float} and bool not in kinds:
                raise ValueError(f"{name}: {str(values[name]).lower()} is no number; give one")
        return values


class PersonProperties(Part):
    """The user properties that may hold what is said of a person; the first one present counts.

    With all of them empty nothing is kept of who a person is, not even the e-mail address.
    """

    name: list[str]
    title: list[str]
    seniority: list[str]
    role: list[str]

    @property
    def kept(self) -> bool:
        """Whether anything is kept of who a person is."""
        return bool(self.name or self.title or self.seniority or self.role)


class Events(Part):
    """How raw rows become canonical events, and which are put in quarantine.

    `ignore`: vendors' event names that are nobody's concern, such as those of autocapture; `*` stands for any text.
    `projects`: the ids of the vendor's projects whose events count, as texts or numbers; rows of other projects, and
    rows that name none, are left out and counted (empty: the events of all projects count).
    """

    product_since: Day
    max_hours_after_receipt: Positive
    max_value_chars: Positive
    max_line_bytes: Positive
    max_file_bytes: Positive
    max_compression_ratio: Positive
    overlap_hours: Annotated[int, Field(ge=0)]
    group_types: list[str]
    email_properties: list[str]
    person_properties: PersonProperties
    placeholders: list[str]
    ids_ignore: list[Literal["case", "blanks", "unicode"]]
    ignore: list[EventPattern]
    projects: list[ProjectId]

    @property
    def ignored(self) -> re.Pattern[str]:
        """Fits the whole of each event name that `ignore` names."""
        return re.compile("|".join(".*".join(map(re.escape, name.split("*"))) for name in self.ignore) or r"(?!)")

    @property
    def product_since_at(self) -> datetime:
        """`product_since` as the first moment of that day, UTC."""
        return datetime.combine(self.product_since, time(), UTC)


class Meaning(Part):
    """What one vendor event means: our name, and the properties that carry its detail and its value."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    as_: EventName = Field(alias="as")
    detail: str | None = None
    detail_is: str | None = None
    value: str | None = None

    @model_validator(mode="after")
    def _one_detail(self) -> Meaning:
        if self.detail is not None and self.detail_is is not None:
            raise ValueError("give either detail (a property's name) or detail_is (a fixed word), not both")
        return self


def _short_form(vocabulary: Any) -> Any:
    """Expands `theirs: ours` to `theirs: {as: ours}`, and drops events that are mapped to nothing (null)."""
    if not isinstance(vocabulary, dict):
        return vocabulary
    return {k: {"as": v} if isinstance(v, str) else v for k, v in vocabulary.items() if v is not None}


class SourceSettings(Part):
    """Settings of a single source.

    `vocabulary`: the meanings of its own event names, laid over the policy's vocabulary. `timezone`: the time zone of
    the source's project, for sources that write times without a zone.
    """

    vocabulary: Annotated[dict[str, Meaning], BeforeValidator(_short_form)] = {}
    timezone: Timezone = "UTC"


class NeverCount(Part):
    """People who never count: own staff, testers, robots. Their events are kept, and no signal is made of them.

    `domains`: domains of their e-mail addresses, with all hosts below them. `emails`: their addresses. `users`: their
    user ids. `user_properties`: the name of a user property → the values that mark them. Case is not regarded.
    """

    domains: list[Domain]
    emails: list[Email]
    users: list[str]
    user_properties: dict[str, list[str | bool | int | float]]


_LISTED = re.compile(r"\s*[,;\t]\s*")


def entry_of(text: str) -> tuple[str, str]:
    """What a line of a list names, and the reason behind the first comma (or semicolon, or tab); "": there is none."""
    parts = [part.strip().strip('"').strip() for part in _LISTED.split(text.strip(), maxsplit=1)]
    return parts[0], parts[1] if len(parts) > 1 else ""


class NeverContact(Part):
    """Who may not be contacted, whatever they do: competitors, partners, own staff, whoever asked for it.

    An entry names somebody and may give the reason behind a comma: `rival.example, a competitor`. `domains`: accounts
    of the domain and everybody with an address there, hosts below it included. `accounts`: ids of accounts, the
    product's or the CRM's. `people`: addresses, or ids of contacts or users. `file`: a text file of such entries, one a
    line, its path relative to the policy's file; it is read at routing and again right before sending. `channels`: what
    a rep may use for a touch; who opted out of one of them is not named in a task, who opted out of all of them cannot
    be contacted.
    """

    domains: list[str]
    accounts: list[str]
    people: list[str]
    file: str | None
    channels: Annotated[list[Literal["call", "email"]], Field(min_length=1)]

    @field_validator("domains")
    @classmethod
    def _have_dots(cls, entries: list[str]) -> list[str]:
        for text in entries:
            if not re.fullmatch(r"[^\s@]*@?[^\s@.]+(\.[^\s@.]+)+", entry_of(text)[0]):
                raise ValueError(f"{text!r}: give a domain, like rival.example, and after a comma the reason")
        return entries

    @field_validator("accounts", "people")
    @classmethod
    def _name_somebody(cls, entries: list[str], info: ValidationInfo) -> list[str]:
        for text in entries:
            entry = entry_of(text)[0]
            odd = "@" in entry and info.field_name == "people" and info.context == FROM_FILE and not is_email(entry)
            if not entry or odd:
                raise ValueError(f"{text!r}: give an id or an address, and after a comma the reason")
        return entries


class Limits(Part):
    """A threshold with two severities: a warning is reported, a critical finding stops the run before scoring."""

    warning: float
    critical: float


class Quality(Part):
    """Thresholds of the batch checks."""

    max_quarantine_rate: Limits
    max_lost_hours_rate: Limits
    max_unknown_event_rate: Limits
    max_duplicate_rate: Limits
    max_no_user_rate: Limits
    max_hours_since_last_event: Limits
    min_volume_ratio: Limits
    max_volume_ratio: Limits
    trailing_days: Positive


class Plan(Part):
    """A plan that is sold: what it costs, what it holds, and the plan after it.

    `product`: the product it is a plan of (null: `product.name`; a company that sells several products names each).
    `seat_price_year`: dollars a seat and year (0: free; null: `value.seat_price_year`). `limits`: limit → its cap; a
    limit that is not named has none. `features`: what the plan holds that some other plan does not. `next`: the name of
    the plan above it, of the same product (null: it is the largest).
    """

    name: Annotated[str, Field(min_length=1, max_length=60)]
    product: str | None = None
    seat_price_year: Annotated[float, Field(ge=0)] | None = None
    limits: dict[str, Annotated[float, Field(gt=0)]] = {}
    features: list[str] = []
    next: str | None = None


def _of_one_product(plans: list[Plan]) -> list[Plan]:
    """Raises ValueError for a plan named twice, and for a `next` that is no plan or leads back to the plan itself."""
    known = {(plan.product, plan.name.casefold()): plan for plan in plans}
    if len(known) < len(plans):
        names = [(plan.product, plan.name.casefold()) for plan in plans]
        twice = sorted({plan.name for plan, name in zip(plans, names, strict=True) if names.count(name) > 1})
        raise ValueError(f"named twice: {', '.join(twice)}; keep one entry each")
    for plan in plans:
        passed, after = {plan.name.casefold()}, plan
        while after.next is not None:
            found = known.get((plan.product, after.next.casefold()))
            if found is None:
                beside = [other.name for other in plans if other.product == plan.product]
                raise ValueError(f"{after.name}.next: {after.next!r}: {_stranger(after.next, beside, 'plan of it')}")
            after = found
            if after.name.casefold() in passed:
                raise ValueError(f"{plan.name}: `next` leads back to {after.name}; the largest plan has none")
            passed.add(after.name.casefold())
    return plans


class Product(Part):
    """The product that is sold: its features, the milestones of its onboarding, and its plans.

    `plans`: in any order; empty: nothing is known of plans but what the CRM records of an account.
    """

    name: str
    features: list[str]
    premium_features: list[str]
    milestones: list[EventName]
    activation: Annotated[list[EventName], Field(min_length=1)]
    plans: Annotated[list[Plan], AfterValidator(_of_one_product)]


class Signals(Part):
    """Windows and cut-offs used when events are summed up to one row per account.

    Days, users and amounts of use count whole days of the account's own zone, and windows of whole weeks hold as many
    working days whatever the weekday. All other windows slide by the hour.

    `limit_resets`: plan limit → when its meter begins anew, by the UTC calendar, or never. `limit_fall`: a reading
    under this share of the one before begins a new period, except of a limit that never resets (null: none does).
    `limit_reading_days`: a limit whose last reading is older is unknown, except one that never resets. `seats_used`:
    what counts as seats in use where no usage event reports it: the `active_users`, against the seats that the CRM
    records (or the plan holds), or nothing but `events`. `demo_watched`: from how many percent on a product demo counts
    as watched to the end. `enterprise`: who has the signal `enterprise_domain`: accounts that are `listed` in
    `enterprise_domains` or in `enterprise_file` (a text file of domains, one a line, its path relative to the policy's
    file; each run reads it when it builds signals), or have at least `enterprise_employees` (null: by the lists alone),
    or with `business` every organisation with a domain of its own. An account with at least `team_from_users` users is
    a team, and a day on which fewer than `team_day_users` of them were there is no day of the team's.
    """

    lookback_days: Positive
    recent_days: Positive
    engagement_days: Positive
    growing_ratio: Annotated[float, Field(gt=1)]
    checkout_stalled_hours: Positive
    checkout_abandoned_hours: Positive
    abandoned_barrier_hours: Annotated[int, Field(ge=0)]
    limit_near: Share
    limit_resets: dict[str, Literal["week", "month", "year", "never"]]
    limit_fall: Annotated[float, Field(gt=0, lt=1)] | None
    limit_reading_days: Positive
    seats_used: Literal["active_users", "events"]
    team_from_users: Positive
    team_day_users: Positive
    demo_watched: Annotated[float, Field(gt=0, le=100)]
    enterprise: Literal["listed", "business"]
    enterprise_domains: list[Domain]
    enterprise_file: str | None
    enterprise_employees: Positive | None


class DecisionMakers(Part):
    """Who decides about buying: by words of the title, or by the seniority that the product knows; without regard to
    case."""

    titles: list[Annotated[str, Field(min_length=2)]]
    seniorities: list[Annotated[str, Field(min_length=1)]]


class People(Part):
    """The people of an account: who decides, and which of them may be the one to write to.

    `decision_makers`: `titles` are words of a title, each whole ("head" is in "Head of Data", not in "Headhunter").
    `buyer_roles`: roles in the product whose holder buys for the team. `most`: how many people of an account are kept.
    """

    decision_makers: DecisionMakers
    buyer_roles: list[Annotated[str, Field(min_length=1)]]
    most: Annotated[int, Field(ge=1, le=100)]


class Condition(Part):
    """`signal` is known and at least `at_least`."""

    signal: SignalName
    at_least: float


class Points(Condition):
    """Points a signal earns from `at_least` on; with `full_at` the points grow linearly with the signal up to that cap.

    With `half_life_days` the points halve with every such number of whole days since the signal last happened.
    """

    points: Annotated[float, Field(gt=0)]
    full_at: float | None = None
    half_life_days: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _ramp(self) -> Points:
        if self.full_at is not None and self.full_at <= self.at_least:
            raise ValueError(f"full_at must be more than at_least ({self.at_least})")
        if self.half_life_days is not None and self.signal not in MOMENTS:
            raise ValueError(
                f"half_life_days: {self.signal} does not happen at a moment; leave it out, or take one of "
                + ", ".join(MOMENTS)
            )
        return self


def _usage_only(conditions: list[Condition]) -> list[Condition]:
    for condition in conditions:
        if condition.signal in FIRMOGRAPHIC_SIGNALS:
            raise ValueError(f"{condition.signal} is firmographic: it may rank, never trigger; remove it")
    return conditions


class Icp(Part):
    """The ideal customer profile: who may become a PQL at all. Unknown never excludes."""

    organisation: bool
    min_employees: int | None
    max_employees: int | None
    industries: list[str]
    excluded_industries: list[str]


class Gates(Part):
    """Conditions that no score can replace. Activation is a further gate (`product.activation`)."""

    icp: Icp
    engagement: Annotated[list[Condition], Field(min_length=1)]
    intent: Annotated[list[Condition], Field(min_length=1)]

    @field_validator("engagement", "intent")
    @classmethod
    def _use_only(cls, conditions: list[Condition]) -> list[Condition]:
        return _usage_only(conditions)


class Tiers(Part):
    """Score from which an account is in the tier; below `medium` it is low."""

    high: Annotated[float, Field(gt=0)]
    medium: Annotated[float, Field(gt=0)]

    @model_validator(mode="after")
    def _ordered(self) -> Tiers:
        if self.medium >= self.high:
            raise ValueError(f"medium must be less than high ({self.high})")
        return self


class Scoring(Part):
    """Points per signal and the tiers their sum falls into.

    `scorer`: the scorer that computes the points, registered in `scoring/scorers`. `firmographics`: with `rank` the
    points of FIRMOGRAPHIC_SIGNALS order accounts but lift none into a tier (S0 S2); with `combine` they count like any
    other (S1 S4). `trend_days`: the age of the score that today's score is compared with.
    """

    scorer: Annotated[str, Field(min_length=1)] = "points"
    firmographics: Literal["rank", "combine"]
    trend_days: Positive
    points: Annotated[list[Points], Field(min_length=1)]
    tiers: Tiers

    @field_validator("points")
    @classmethod
    def _once(cls, points: list[Points]) -> list[Points]:
        names = [p.signal for p in points]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"each signal may earn points once; named twice: {', '.join(twice)}")
        return points


class Value(Part):
    """Potential ARR (dollars a year) and its cut-offs."""

    floor: Annotated[float, Field(ge=0)]
    assist: Annotated[float, Field(ge=0)]
    seat_price_year: Annotated[float, Field(gt=0)]
    seats_within_reach: Share


class Motion(Part):
    """Cut-offs of self-serve, sales-assist and sales-led (S3)."""

    sales_led_employees: Positive
    sales_assist_employees: Positive
    self_serve_seats: Positive
    enterprise_signals: list[SignalName]


class Expansion(Part):
    """When a paying customer outgrows its plan: all of `when` hold."""

    when: Annotated[list[Condition], Field(min_length=1)]


class Returns(Part):
    """What each end of a handoff means for its account (docs/returns.md); `cooldown_days` is the end `released`.

    How many days sales stays away (null: as many as `cooldown_days`): `lost_days` after a lost deal, `won_days` after a
    won one, `untouched_days` after a handoff that expired or was withdrawn before anybody was in touch. `new`: what has
    to come after the end: an `occurrence` of intent, or a `signal` that earned no points at the handoff. `hand_raise`:
    whether an account that asks for a person after the end is called at once. `same_rep_days`: for how long the rep who
    was in touch is the one who is called first (null: not at all).
    """

    lost_days: Annotated[int, Field(ge=0)] | None
    won_days: Annotated[int, Field(ge=0)] | None
    untouched_days: Annotated[int, Field(ge=0)] | None
    new: Literal["occurrence", "signal"]
    hand_raise: bool
    same_rep_days: Positive | None


class Routing(Part):
    """Settings of the ordered rules of `routing/`.

    `engaged`: engagement is high in the matrix if all of these hold. `hand_raised`: any of these means the account asks
    for a person. `triggers`: signals whose next occurrence makes a monitored account a sales touch. `bought_days`: how
    long sales leaves alone an account that has completed a self-serve upgrade, unless it asks for a person afterwards
    (0: not at all). `deal_closed_days`: how long it leaves alone an account where a colleague's deal was won or lost,
    unless it asks for a person afterwards (null: not at all; docs/returns.md has the handoff's own deals). `medium`:
    how the medium tier is treated (S2, or S4's reading); `large_not_engaged`: how high value without engagement is
    treated (S0, or S3's reading from `motion.sales_led_employees` on). `rules`: parameters of single rules, in a
    section named after the rule; a policy without the section does not have the rule (`routing/rules/` documents the
    parameters of each). `fresh_intent_hours`: how old the last occurrence of intent of an account may be when it is
    called, unless a state that is intent lasts (null: as old as its signal's window).
    """

    engaged: Annotated[list[Condition], Field(min_length=1)]
    hand_raised: list[Condition]
    expansion: Expansion
    medium: Literal["monitor", "nurture"]
    triggers: list[SignalName]
    large_not_engaged: Literal["nurture", "sales"]
    motion: Motion
    cooldown_days: Positive
    returns: Returns
    fresh_intent_hours: Positive | None
    bought_days: Annotated[int, Field(ge=0)]
    deal_closed_days: Positive | None
    holdout_share: Share
    rules: dict[str, dict[str, Any]] = {}

    def days_away(self, state: str, touched: bool) -> int:
        """How many days sales stays away from an account after a handoff that ended in `state`.

        `touched`: whether anybody was in touch; who was not called is not left alone for having been called.
        """
        ends = {"won": self.returns.won_days, "lost": self.returns.lost_days}
        own = ends.get(state, None if touched else self.returns.untouched_days)
        return self.cooldown_days if own is None else own

    @field_validator("rules", mode="before")
    @classmethod
    def _taken_out(cls, rules: Any) -> Any:
        return {k: v for k, v in rules.items() if v is not None} if isinstance(rules, dict) else rules

    @model_serializer(mode="wrap")
    def _as_before_there_were_rules(self, document: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves out an empty `rules`, so that a policy without rules keeps the version it had before they existed."""
        return {k: v for k, v in document(self).items() if k != "rules" or v}

    @field_validator("hand_raised")
    @classmethod
    def _use_only(cls, conditions: list[Condition]) -> list[Condition]:
        return _usage_only(conditions)

    @field_validator("triggers")
    @classmethod
    def _moments(cls, signals: list[str]) -> list[str]:
        for signal in signals:
            if signal not in MOMENTS or signal in FIRMOGRAPHIC_SIGNALS:
                allowed = ", ".join(s for s in MOMENTS if s not in FIRMOGRAPHIC_SIGNALS)
                raise ValueError(f"{signal} is no event of use; allowed: {allowed}")
        return signals


class Sla(Part):
    """Hours from the decision within which the rep makes contact."""

    high: Positive
    medium: Positive


class Handoff(Part):
    """The time limits of a handoff and the context a rep must be given first.

    `touches`: how often a rep may write without an answer; each touch is followed by `silence_days` of waiting (S0: one
    touch). `follow_ups`: with `tasks` the rep is given a task for each touch after the first, with `none` only the time
    for it. `reply_days`: how long an answered conversation stays open without a deal. `task_notes`: with `brief` a task
    holds the first message and what to do, and the record's dossier what is known of the account; with `whole` both
    hold all of it.
    """

    touches: Annotated[int, Field(ge=1, le=5)]
    follow_ups: Literal["tasks", "none"]
    silence_days: Positive
    reply_days: Positive
    sla_hours: Sla
    expires_hours: Positive
    required_context: Annotated[list[ColumnName], Field(min_length=1)]
    task_notes: Literal["brief", "whole"]


class Leave(Part):
    """Days a rep is away, both included, on the rep's own calendar."""

    first: Day
    last: Day

    @model_validator(mode="after")
    def _ordered(self) -> Leave:
        if self.last < self.first:
            raise ValueError(f"last ({self.last}) must not be before first ({self.first})")
        return self


class WorkingTime(Part):
    """When reps work: `weekdays` (Monday 0) from `start` to `end` on the clock of `timezone`, not on public holidays
    of `country` (ISO code; null: none are known). Zone and country apply to reps for whom neither the policy nor the
    CRM gives them.
    """

    weekdays: Annotated[list[Annotated[int, Field(ge=0, le=6)]], Field(min_length=1)]
    start: Clock
    end: Clock
    timezone: Timezone
    country: Country | None

    @model_validator(mode="after")
    def _ordered(self) -> WorkingTime:
        if self.end <= self.start:
            raise ValueError(f"end ({self.end}) must be after start ({self.start})")
        return self


class Rep(Part):
    """A sales rep, identified by the e-mail address in the CRM; null takes the CRM's value, else `working_time`'s."""

    email: Email
    senior: bool = False
    timezone: Timezone | None = None
    country: Country | None = None
    tasks_per_day: Annotated[int, Field(ge=0)] | None = None
    leave: list[Leave] = []


class Territory(Part):
    """Accounts that belong to a group of reps. An empty list or null sets no condition; an unknown value of an account
    fits any condition."""

    name: str
    reps: Annotated[list[Email], Field(min_length=1)]
    regions: list[str] = []
    industries: list[str] = []
    min_employees: int | None = None
    max_employees: int | None = None


NEXT_REP = "next_rep"
"""The value of `assignment.escalate_to` for the next rep in turn."""

Given = Literal["next_rep", "keep"]
"""Whether an open task that nobody has touched goes to the next rep in turn, or stays where it is."""


class Assignment(Part):
    """Which rep gets a task, and how many tasks at most.

    `reps`: if empty, the CRM's active users who own accounts. `territories`: the first that fits the account; if none
    fits, any rep. `senior_score`: from this score on a senior rep is preferred (null: never). `queue_hours`: how long
    an account waits for a rep with free capacity, or a trigger event for anybody to act on it, before its signal counts
    as stale. `beyond_the_day`: what becomes of tasks beyond `tasks_per_day`: with `queue` the best are sent and the
    rest wait, with `stop` none of the run's new tasks is sent. `ties`: the order of accounts with equal scores: `drawn`
    by lot (anew for each trigger event or wait, and fixed while the account waits), or by `account_id`. `remind`:
    whether the owner of a task that is due and untouched is reminded, once. `escalate_to`: who gets a task that stays
    untouched for as long again: the next rep in turn, or the CRM's user of this address (null: nobody).
    `when_owner_leaves`: what becomes of the open, untouched tasks of a rep who is deactivated in the CRM, or on leave
    until after they are due; `when_territory_changes`: of a rep whose territory they no longer belong to.
    """

    reps: list[Rep]
    territories: list[Territory]
    senior_score: float | None
    working_time: WorkingTime
    tasks_per_rep_per_day: Positive
    tasks_per_day: Positive
    beyond_the_day: Literal["queue", "stop"]
    queue_hours: Positive
    ties: Literal["drawn", "account_id"]
    remind: bool
    escalate_to: str | None
    when_owner_leaves: Given
    when_territory_changes: Given

    @field_validator("escalate_to")
    @classmethod
    def _rep_or_address(cls, to: str | None) -> str | None:
        if to is None or to == NEXT_REP or is_email(to):
            return to
        raise ValueError(f"{to!r} is nobody; give {NEXT_REP}, the e-mail address of a user of the CRM, or null")

    @model_validator(mode="after")
    def _known_reps(self) -> Assignment:
        listed = [rep.email.lower() for rep in self.reps]
        twice = sorted({e for e in listed if listed.count(e) > 1})
        if twice:
            raise ValueError(f"reps: named twice: {', '.join(twice)}; keep one entry each")
        if self.reps:
            for territory in self.territories:
                strangers = [e for e in territory.reps if e.lower() not in listed]
                if strangers:
                    hint = suggestion(strangers[0], [rep.email for rep in self.reps])
                    fix = f"add them, or {hint.strip()}" if hint else "add them"
                    raise ValueError(
                        f"territories: {territory.name}: {', '.join(strangers)} not in assignment.reps; {fix}"
                    )
        return self


_COLUMNS = (*SNAPSHOT_COLUMNS, *DETAIL_COLUMNS)

PLAN_FACTS = ("next_plan", "next_plan_price", "next_plan_adds", "feature_plan", "room_plan", "room", "seats_plan")
"""Facts that come from `product.plans` and the account's own plan: the plan after it, what that costs and adds; the
first plan that holds what was tried; the first plan with room beyond the fullest limit, and how much; the account's own
plan, where it takes more seats and they are the fullest limit."""

FACTS: tuple[str, ...] = tuple(
    dict.fromkeys(
        [
            "name",
            "product",
            *(column.name for column in _COLUMNS if column.fact),
            "tier",
            "score",
            "potential_arr",
            *(signal.name for signal in SIGNALS if signal.fact),
            *(moment for signal in SIGNALS if signal.happened for moment in (signal.moment, signal.ago)),
            "steps_left",
            *PLAN_FACTS,
        ]
    )
)
"""Facts a text for the rep may name; `handoff/words.py` puts them into words."""

RATHER_NOT = frozenset(
    {
        "score",
        "tier",
        "potential_arr",
        *(column.name for column in _COLUMNS if column.private),
        *(name for signal in SIGNALS if signal.private for name in (signal.name, signal.moment, signal.ago)),
    }
)
"""Facts that no text for the customer may name, because a customer would rather not have been watched doing them, or be
described by them (ours)."""

FOR_CUSTOMER: tuple[str, ...] = tuple(fact for fact in FACTS if fact not in RATHER_NOT)


def _alternatives(given: Any) -> Any:
    """One text alone, or none, as a list of alternatives."""
    return [given] if isinstance(given, str) else [] if given is None else given


Alternatives = Annotated[
    list[Annotated[Text, Field(min_length=1, max_length=400)]],
    PLACEHOLDERS,
    BeforeValidator(_alternatives),
    Field(max_length=9),
]
"""Texts of which the first is said whose facts are all known; a single one may be written without a list."""

_SAID_WHERE = ("headline", "approach")  # what only the rep reads


def _asked_once(texts_: list[str], where: str) -> list[str]:
    for text in texts_:
        if text.count("?") != 1 or not text.rstrip().endswith("?"):
            raise ValueError(f"{where}: {text[:60]!r} is not one question; ask one thing, and end with it")
    return texts_


class Situation(Part):
    """Why to contact an account now, for the dossier and the first message.

    `when`: all of these hold (empty: always); `paying`: only customers with (or without) revenue, where it is known.
    `kind`: `friction` (something stands in their way) or `request` (they asked for a person); `message.order` says what
    that means. `headline` and `approach` (what to do, in a sentence or two) are for the rep. The message is made of
    `opening` (null: the message's own), `offer` (what is the matter), `unlock` (what helps, and the plan that does),
    `question` (the one thing asked; null: the message's own) and `closing` (null: the message's own).

    The texts may contain names of FACTS in braces, those of the message only FOR_CUSTOMER. A situation does not fit an
    account that lacks one of the facts of headline, approach or the last alternative of `offer`; of other alternatives
    the first is said whose facts are known.
    """

    name: Annotated[str, Field(min_length=1, max_length=60)]
    when: list[Condition] = []
    paying: bool | None = None
    kind: Literal["friction", "request"] | None = None
    headline: Annotated[Text, Field(min_length=1, max_length=120)]
    approach: Annotated[Text, Field(min_length=1, max_length=400)]
    opening: Alternatives = []
    offer: Annotated[Alternatives, Field(min_length=1)]
    unlock: Alternatives = []
    question: Alternatives = []
    closing: Alternatives = []

    @field_validator("headline", "approach", "opening", "offer", "unlock", "question", "closing")
    @classmethod
    def _known_facts(cls, said: str | list[str], info: ValidationInfo) -> str | list[str]:
        where = f"{info.field_name} of situation {info.data.get('name', '?')!r}"
        for text in [said] if isinstance(said, str) else said:
            if not text.strip():
                raise ValueError(f"{where}: is blank; say something")
            allowed = FACTS if info.field_name in _SAID_WHERE else FOR_CUSTOMER
            texts.check(text, (*allowed, "usage") if info.field_name == "opening" else allowed, where)
        return _asked_once(said, where) if info.field_name == "question" and isinstance(said, list) else said

    @field_serializer("offer")
    def _as_written(self, offer: list[str]) -> str | list[str]:
        """A single text while there are no alternatives: a policy's document and version are what they were before."""
        return offer[0] if len(offer) == 1 else offer

    @model_serializer(mode="wrap")
    def _without_what_it_leaves_out(self, document: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves out texts of the message that are the message's own, so that older situations keep their document."""
        own = ("kind", "opening", "unlock", "question", "closing")
        return {key: value for key, value in document(self).items() if value or key not in own}

    @property
    def facts(self) -> frozenset[str]:
        """The facts that an account must have for the situation to fit."""
        return frozenset().union(*(texts.names(text) for text in (self.headline, self.approach, self.offer[-1])))

    @property
    def signals(self) -> frozenset[str]:
        """The signals that the situation is about."""
        return frozenset(condition.signal for condition in self.when)


class Aside(Part):
    """A sentence in passing about news of the company that anybody can read, while it is `within_days` old."""

    signal: SignalName
    within_days: Positive
    text: Annotated[Text, Field(min_length=1, max_length=200)]

    @model_validator(mode="after")
    def _public(self) -> Aside:
        public = [name for name in MOMENTS if name in FIRMOGRAPHIC_SIGNALS]
        if self.signal not in public:
            raise ValueError(f"signal: {self.signal} is not public news; allowed: {', '.join(public)}")
        texts.check(self.text, FOR_CUSTOMER, f"text of the aside about {self.signal}")
        if "?" in self.text:
            raise ValueError(f"text: {self.text[:60]!r} asks something; the situation's question is the only one")
        return self


class Message(Part):
    """The first message: greeting, opening, the situation's offer and unlock, one question, closing.

    The texts may contain names of facts FOR_CUSTOMER. Of the alternatives of `greeting` and `question` the first is
    said whose facts are known, of the situations' own texts likewise; of `opening` and `closing` each sentence is left
    out whose facts are not known. `opening` may also name {usage}: how many people the team has and how much it used
    what, as a clause after "your team"; `greeting` may name {first_name}, the person's who is written to. `asides`: at
    most one is added, the first that applies, and none where something stands in their way.

    `order`: which of the situations that fit is told. With `listed` the first in the policy's list. With `strength`:
    friction of the last `signals.engagement_days`, then requests for a person of those days, then intent of the last
    `handoff.expires_hours` (or that lasts), then what else happened, then what merely is so; within these the one whose
    signals earned the most points, then the latest, then the first in the list.

    `max_chars`, `max_words`: a longer message loses details of usage, then sentences.
    """

    order: Literal["strength", "listed"]
    greeting: Annotated[Alternatives, Field(min_length=1)]
    opening: Annotated[Text, Field(min_length=1, max_length=400)]
    question: Alternatives
    closing: Annotated[Text, Field(max_length=400)]
    asides: list[Aside]
    max_chars: Annotated[int, Field(ge=200, le=4000)]
    max_words: Annotated[int, Field(ge=40)]

    @field_validator("greeting", "opening", "question", "closing")
    @classmethod
    def _known_facts(cls, said: str | list[str], info: ValidationInfo) -> str | list[str]:
        where, more = f"{info.field_name} of the message", {"opening": ("usage",), "greeting": ("first_name",)}
        for text in [said] if isinstance(said, str) else said:
            texts.check(text, (*FOR_CUSTOMER, *more.get(info.field_name or "", ())), where)
        if info.field_name == "greeting" and texts.names(said[-1]):
            raise ValueError(f"{where}: the last one greets everybody else, so it must name no fact")
        return _asked_once(said, where) if info.field_name == "question" and isinstance(said, list) else said


class Delivery(Part):
    """When outside systems may be written to, and how much at once.

    `approval_above`: a run with more new tasks than this waits `approval_hours` for a person's approval; without it the
    tasks are withheld (null: no approval is needed). `approval_jump`: approval is also needed for a run that brings the
    day's tasks above this multiple of the busiest of `quality.trailing_days` (null: no approval for a jump; nor is it
    needed with less than half of those days of history, or in a run of no more tasks than a rep may get in a day).
    `bulk_above`: writes of more rows than this go through Salesforce's Bulk API. `api_reserve`: the share of the CRM's
    daily API calls that is left to others. `ramp`: the most tasks of all reps together on each of the first (UTC) days
    since the first task of all; afterwards, and on days with a larger number, `assignment.tasks_per_day` counts.
    `offer_again_hours`: how long an account waits whose task the CRM has refused, until it is decided on and offered
    anew (null: it does not wait).
    """

    fresh_hours: Positive
    approval_above: Positive | None
    approval_jump: Annotated[float, Field(gt=1)] | None
    approval_hours: Positive
    bulk_above: Positive
    api_reserve: Annotated[float, Field(ge=0, lt=1)]
    ramp: list[Positive]
    offer_again_hours: Positive | None


class Automation(Part):
    """Activities that software logs in the CRM: newsletters, sequences, an integration's notes. They are no touches.

    `owners`: e-mail addresses of the users the software runs as. `subjects`: how the subjects of its activities begin,
    whichever user it runs as. Both are compared without regard to case.
    """

    owners: list[Email]
    subjects: list[str]

    @field_validator("owners", "subjects")
    @classmethod
    def _comparable(cls, texts: list[str]) -> list[str]:
        if not all(text.strip() for text in texts):
            raise ValueError("empty: it would fit every activity; take it out")
        return [text.strip().casefold() for text in texts]


class ContactFields(Part):
    """Fields of the CRM's contact and lead that hold a person's title and opt-outs; null: not kept there."""

    title: Sql_name | None
    do_not_call: Sql_name | None
    email_opt_out: Sql_name | None


EXTRA_FACTS = (
    "account_id", "action", "handoff_id", "industry", "motion", "name", "owner", "plan", "region", "score", "tier",
)  # fmt: skip
"""Placeholders of `crm.extra_fields`: facts of the handoff. `owner`: the rep's e-mail address."""

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


def _extra_value(value: str | int | float | bool) -> str | int | float | bool:
    if isinstance(value, str):
        for name in _PLACEHOLDER.findall(value):
            if name not in EXTRA_FACTS:
                raise _stranger(name, EXTRA_FACTS, "fact for {}")
        if re.search(r"[{}]", _PLACEHOLDER.sub("", value)):
            raise ValueError(f"{value!r}: a brace that is not closed; a placeholder is written as {{region}}")
    return value


Own_field = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=80)]
Extra_value = Annotated[
    Annotated[bool, Field(strict=True)]
    | Annotated[int, Field(strict=True)]
    | Annotated[float, Field(strict=True)]
    | Annotated[str, Field(min_length=1, max_length=255)],
    AfterValidator(_extra_value),
]
Extra_fields = dict[Own_field, Extra_value]


class ExtraFields(Part):
    """The company's own fields on records that we create: field → a constant, or a text with facts such as `{region}`.

    A field whose facts are not all known is left out. Our own fields and those that each record has anyway (its name,
    owner, subject, status, priority, due date) cannot be given. They are written when the record is created, and never
    again: what a person changes in them stays.
    """

    task: Extra_fields
    account: Extra_fields
    lead: Extra_fields
    contact: Extra_fields

    @field_validator("task", "account", "lead", "contact")
    @classmethod
    def _not_ours(cls, given: Extra_fields) -> Extra_fields:
        for field in given:
            if field.casefold() in _WRITTEN or field.casefold().startswith("onetouch_"):
                raise ValueError(f"{field}: is written by us already; take it out")
        return given


_WRITTEN = frozenset(
    name.casefold()
    for name in (
        "Id", "OwnerId", "Name", "LastName", "FirstName", "Company", "Website", "Email", "AccountId", "WhatId", "WhoId",
        "Subject", "Description", "Status", "Priority", "ActivityDate", "IsReminderSet", "ReminderDateTime",
        "RecordTypeId", "hubspot_owner_id", "domain", "lifecyclestage", "hs_task_subject", "hs_task_body",
        "hs_task_priority", "hs_task_status", "hs_timestamp", "hs_task_reminders",
    )
)  # fmt: skip


class RecordTypes(Part):
    """The record type of records that we create, by its developer name (Salesforce); null: the user's default."""

    task: Own_field | None
    account: Own_field | None
    lead: Own_field | None
    contact: Own_field | None


Picked = Annotated[str, Field(min_length=1, max_length=255)]


class TaskValues(Part):
    """The values of a task's status and priority, where the company has renamed them; null: the CRM's own.

    `open` and `closed` are statuses: of a task that we create, and of one that we close. `high`, `medium` and `low` are
    priorities.
    """

    open: Picked | None
    closed: Picked | None
    high: Picked | None
    medium: Picked | None
    low: Picked | None

    @model_validator(mode="after")
    def _apart(self) -> TaskValues:
        if self.open is not None and self.open == self.closed:
            raise ValueError(f"open and closed are both {self.open!r}; a task that we close must change its status")
        return self


class Crm(Part):
    """Which CRM is used, and which of its data is read and written.

    `system`: a registered CRM (`crm.CRMS`). `account_fields`: snapshot column → field of the CRM's account.
    `unknown_accounts`: what a product account without a record in the CRM becomes when it is handed over.
    `contacts`: whether the task names the contact of the person to write to: with `match` the contact of that address
    within the account's own record, with `create` that one or, where there is none, a new one, with `never` none.
    (Formerly `link_contact`: true is `match`, false is `never`.)
    `duplicates`: what happens when a rule of the CRM refuses a new record for looking like others and none of them is
    the only one with the account's domain (that one always gets our id): `ask` leaves it refused, with what it looks
    like in the reason; `adopt` takes the only one named, if nothing is known of it that speaks against; `allow` creates
    the record all the same, where the rule only alerts.
    `lone_users`: what an account without a domain becomes in an org that has person accounts: a `person` account, what
    `unknown_accounts` says (`account`), or nothing (`leave`).
    `standing`: whose record tells tier, action, score, trigger and their moment: everybody's that the CRM knows, or
    only that of accounts that were handed over (without the action). It is written when tier, action or trigger change,
    or the score by `standing_points`. `context`: whether the context on the record of an account is written anew while
    its handoff is open or touched, when it has changed (`fresh`), or with the handoff alone (`once`). `alert_link`:
    whether the dossier on that record then leads back to the alert in the chat. `opportunity`: whether an opportunity
    is created for a handoff, once, and with what: never, when the customer replies, or when a meeting is arranged.
    `currency`: the currency of the policy's amounts, into which those of the CRM are converted by its own rates; an
    amount that cannot be converted is unknown. Null: every amount is taken as it stands.
    `extra_fields`, `record_types`, `task_values`: what the company's own rules ask of the records that we write.
    """

    system: str
    unknown_accounts: Literal["account", "lead", "leave"]
    contacts: Literal["match", "create", "never"]
    duplicates: Literal["adopt", "allow", "ask"]
    lone_users: Literal["person", "account", "leave"]
    standing: Literal["everybody", "handed_over"]
    standing_points: Annotated[float, Field(gt=0)]
    context: Literal["fresh", "once"]
    alert_link: bool
    opportunity: Literal["never", "on_reply", "on_meeting"]
    automation: Automation
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")] | None
    extra_fields: ExtraFields
    record_types: RecordTypes
    task_values: TaskValues
    account_fields: dict[str, Sql_name | None]
    contact_fields: ContactFields

    @model_validator(mode="before")
    @classmethod
    def _formerly(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not isinstance(values.get("link_contact"), bool):
            return values
        rest = {key: value for key, value in values.items() if key != "link_contact"}
        return rest | {"contacts": "match" if values["link_contact"] else "never"}

    @model_validator(mode="after")
    def _of_the_system(self) -> Crm:
        if self.system == "hubspot":
            if self.task_values.closed not in (None, "COMPLETED"):
                raise ValueError(
                    f"task_values.closed is {self.task_values.closed!r}, but HubSpot has one closed status, COMPLETED; "
                    "set it to null"
                )
            if any(kind is not None for _, kind in self.record_types):
                raise ValueError("record_types: HubSpot has none; set them to null")
        return self

    @field_validator("account_fields")
    @classmethod
    def _known(cls, fields: dict[str, str | None]) -> dict[str, str | None]:
        known = {column.name for column in SNAPSHOT_COLUMNS if column.mapped}
        unknown = sorted(set(fields) - known)
        if unknown:
            hint = suggestion(unknown[0], known)
            raise ValueError(
                f"no such snapshot column: {', '.join(unknown)}; {hint}allowed: {', '.join(sorted(known))}"
            )
        return fields


class Audience(Part):
    """The accounts that sales leaves to marketing and the product: a file a run, and a webhook that learns changes.

    `actions`: accounts with these actions are in the audience. `tiers`: so are those of these tiers, whatever their
    action, unless it is a sales touch or a hold. `batch`: the most accounts in one request. An account that joins,
    leaves or changes its situation or people is told at once; `facts_hours`: when nothing but facts has changed, it is
    told anew only after so many hours. `full_sync_days`: everybody is told anew after so many days (null: never). Who
    opted out of e-mail, and whoever the policy lists as never to be contacted, is in no audience.
    """

    actions: list[Literal["nurture", "self_serve_onboarding", "self_serve_hero", "monitor", "below_floor"]]
    tiers: list[Literal["low", "medium"]]
    batch: Annotated[int, Field(ge=1, le=1_000)]
    facts_hours: Positive
    full_sync_days: Positive | None


class Slack(Part):
    """Channel ids and the volume of messages in the chat system that `chat` names; Slack was the first one.

    `ops_channel`: failed checks and late runs (null: the alerts channel). `alerts_to`: where the owner of a task is
    alerted. `digest_above`: a run with more new tasks than this posts one message instead of many. From `quiet_from` to
    `quiet_until` in the rep's time zone no alert is posted (`quiet_from` after `quiet_until`: over midnight;
    `quiet_from` null: there is no quiet time). `tell_events`: whether the owner of an open or touched handoff is told,
    in the thread of its alert, of the account's trigger events since (`routing.triggers`). `links`: whether an alert
    leads to the task and to the account's record in the CRM. `snooze_hours`: how long the reminder waits after its
    owner has pressed Snooze.
    """

    alerts_channel: Channel
    leadership_channel: Channel
    ops_channel: Channel | None
    alerts_to: Literal["channel", "owner", "both"]
    digest_above: Positive
    quiet_from: Clock | None
    quiet_until: Clock
    tell_events: bool
    links: bool
    snooze_hours: Positive


class Benchmark(Part):
    """The range a figure is compared with, and its source."""

    low: float
    high: float
    source: str


class Report(Part):
    """The weekly report."""

    sales_credit: Literal["assisted", "all"]
    weeks: Positive
    close_within_days: Positive
    opportunity_within_days: Positive
    benchmarks: dict[str, Benchmark]


class Retention(Part):
    """How many days lake and ledger keep what they hold; null: for ever. `onetouch prune` deletes what is older.

    `raw_days`: files as received and rejected rows, by the moment of the run that read them. `events_days`: events and
    what is summed up of them by the day; they are deleted by the whole month, and of a deleted month first times,
    memberships and users' profiles are kept for ever. `runs_days`: the files of a run, from which it is explained and
    replayed. `ledger_days`: ended memory, touches, summaries of pruned runs, and what was written for handoffs that
    have ended; handoffs themselves and the keys of what was sent are never deleted.
    """

    raw_days: Positive | None
    events_days: Positive | None
    runs_days: Positive | None
    ledger_days: Positive | None


class Policy(Part):
    """The whole rules of engagement. `version` is a hash of the values: layout and comments do not count."""

    _kept_as: str | None = PrivateAttr(default=None)  # the version under which the ledger keeps the former document

    name: str
    unit: Literal["account", "user"]
    sources: Annotated[dict[Source_name, SourceSettings], Field(min_length=1)]
    events: Events
    never_count: NeverCount
    never_contact: NeverContact
    vocabulary: Annotated[dict[str, Meaning], BeforeValidator(_short_form)]
    quality: Quality
    product: Product
    signals: Signals
    people: People
    gates: Gates
    scoring: Scoring
    value: Value
    routing: Routing
    handoff: Handoff
    situations: Annotated[list[Situation], Field(min_length=1)]
    message: Message
    assignment: Assignment
    delivery: Delivery
    crm: Crm
    audience: Audience
    chat: str
    slack: Slack
    report: Report
    retention: Retention

    @model_validator(mode="after")
    def _ramp_queues(self) -> Policy:
        if self.delivery.ramp and self.assignment.beyond_the_day != "queue":
            raise ValueError(
                f"delivery.ramp: with assignment.beyond_the_day: {self.assignment.beyond_the_day} the first day would "
                "send nothing; set beyond_the_day to queue, or ramp to []"
            )
        return self

    @field_validator("situations")
    @classmethod
    def _one_fits_always(cls, situations: list[Situation]) -> list[Situation]:
        names = [situation.name for situation in situations]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"named twice: {', '.join(twice)}; give each situation a name of its own")
        last = situations[-1]
        if last.when or last.paying is not None or last.facts - {"name"}:
            raise ValueError(
                f"the last situation ({last.name}) must fit every account: no `when`, no `paying`, and no fact but "
                "{name} in its texts"
            )
        return situations

    @field_validator("sources", mode="before")
    @classmethod
    def _names_alone(cls, sources: Any) -> Any:
        if isinstance(sources, list):
            if not all(isinstance(name, str) for name in sources):
                raise ValueError("give the names of sources: [amplitude]")
            return {name: {} for name in sources}
        return {name: settings or {} for name, settings in sources.items()} if isinstance(sources, dict) else sources

    @field_serializer("sources")
    def _as_written(self, sources: dict[str, SourceSettings]) -> list[str] | dict[str, Any]:
        """A list of names while no source has settings of its own: both forms of a document give the same version."""
        said = {
            name: settings.model_dump(mode="json", by_alias=True, exclude_defaults=True)
            for name, settings in sources.items()
        }
        return said if any(said.values()) else list(said)

    def source_settings(self, source: str) -> SourceSettings:
        """The settings of a source; the defaults for a source that the policy does not list."""
        return self.sources.get(source) or SourceSettings()

    def vocabulary_of(self, source: str) -> dict[str, Meaning]:
        """The meanings of the events of a source: the policy's vocabulary with the source's own laid over it."""
        return {**self.vocabulary, **self.source_settings(source).vocabulary}

    def document(self) -> dict[str, Any]:
        """The whole policy as plain JSON values; `Policy.model_validate` of it gives an equal policy."""
        return self.model_dump(mode="json", by_alias=True)

    def changed(self, **values: Any) -> Policy:
        """The policy with some values replaced: `policy.changed(scoring__tiers__high=60)`.

        Raises KeyError for a section that does not exist, ValidationError for a value that is not allowed.
        """
        document = self.document()
        for path, value in values.items():
            *sections, last = path.split("__")
            place = document
            for section in sections:
                place = place[section]
            place[last] = value
        return Policy.model_validate(document)

    def kept_as(self, version: str) -> Policy:
        """The same policy with the version under which it was stored, although its document has another shape today."""
        if version != self.version:
            policy = self.model_copy()
            policy._kept_as = version
            return policy
        return self

    @property
    def version(self) -> str:
        """First 12 hex digits of the SHA-256 of the canonical JSON document (the name does not count).

        A policy that was read from a stored document of a former shape keeps the version it was stored under.
        """
        if self._kept_as is not None:
            return self._kept_as
        document = {k: v for k, v in self.document().items() if k != "name"}
        text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def vocabulary_version(self) -> str:
        """First 8 hex digits of the SHA-256 of the vocabularies alone, on which the activity partitions depend."""
        document = self.document()
        meant: Any = document["vocabulary"]
        if isinstance(document["sources"], dict) and any(s.get("vocabulary") for s in document["sources"].values()):
            own = {name: said["vocabulary"] for name, said in document["sources"].items() if said.get("vocabulary")}
            meant = {"": meant, **own}
        text = json.dumps(meant, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:8]
