"""The signals, which are the numbers that describe an account's use, and the columns that explain them.

A signal is declared here and nowhere else. The policy's types, the schema of the signals table, texts, dossier, checks
and the generated reference derive from the declaration. To add a signal that counts events, add one entry. A signal
that is computed otherwise names the table of `signals/account.py` that computes it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple, Protocol

from onetouch.catalogue.accounts import CRM_COLUMNS, SNAPSHOT_COLUMNS, Column, Kind
from onetouch.catalogue.display import Format, Section
from onetouch.catalogue.events import EVENTS_BY_NAME

WEEK_DAYS = 7


class Windows(Protocol):
    """The lengths of the windows, as set in the policy's section `signals`."""

    @property
    def recent_days(self) -> int:
        """Days of RECENT."""

    @property
    def engagement_days(self) -> int:
        """Days of ENGAGEMENT."""

    @property
    def lookback_days(self) -> int:
        """Days of LOOKBACK, the longest."""


class Window(Enum):
    """How far back a signal looks: a week, the length under the policy's key of that name, or without limit."""

    WEEK = "7 days"
    RECENT = "recent_days"
    ENGAGEMENT = "engagement_days"
    LOOKBACK = "lookback_days"
    EVER = "ever"

    def days(self, windows: Windows) -> int | None:
        """The length in days; None for EVER."""
        if self is Window.EVER:
            return None
        return WEEK_DAYS if self is Window.WEEK else int(getattr(windows, self.value))


class Happened(NamedTuple):
    """What happens at a signal's moment: as a clause that follows "they", and as a noun that follows "last"."""

    clause: str
    noun: str


@dataclass(frozen=True, kw_only=True)
class Signal:
    """One number about an account, which may be unknown.

    What it is: `unit`, `window`, `meaning` and `source` (S0–S4), for the reference. `events`: the canonical events it
    is computed from. `table`: the table of `signals/account.py` that computes it (None: the signal is the number of its
    events in its window). `level`: whether it counts whole days of the account's own zone, so that it changes once a
    day, at the midnight there; the windows of all others end at `as_of` and slide by the hour. `unknown`: whether the
    signal is null when there is no data to compute it from; other signals are 0 then. `most`: its upper bound under a
    policy (None: it has none, except that days of a window are bounded by the window). `firmographic`: a fact about the
    company, not about its use of the product: it may rank, never trigger (S0 S2).

    How it is written: `label` in a line of its own, with {days} for the length of its window (`label_under`: the label
    under a policy, of a signal whose meaning the policy chooses); `format` and, for a
    count, `nouns` (singular and plural) in a sentence; `names`: the column with the names it counts, which a sentence
    gives instead of the number. `section`: the section of the dossier that has a line for it (None: none), in the order
    of SIGNALS. `happened`: how its occurrences are described, for a signal that happens at a moment; the column
    `moment` holds the time of the last one counted. `private`: no text for the customer may name it.
    """

    name: str
    unit: str
    window: Window
    meaning: str
    source: str
    label: str
    events: tuple[str, ...] = ()
    table: str | None = None
    format: Format = Format.COUNT
    nouns: tuple[str, str] | None = None
    names: str | None = None
    happened: Happened | None = None
    section: Section | None = None
    level: bool = False
    unknown: bool = False
    most: Callable[[Any], float] | None = None
    firmographic: bool = False
    private: bool = False
    label_under: Callable[[Any], str] | None = None

    def __post_init__(self) -> None:
        """Raises ValueError where the parts contradict each other."""
        if strangers := [event for event in self.events if event not in EVENTS_BY_NAME]:
            raise ValueError(f"{self.name}: {', '.join(strangers)}: no such event; see catalogue/events.py")
        if self.counted and (not self.events or self.window is Window.EVER or self.happened is None):
            raise ValueError(f"{self.name}: counts events: say which, in which window, and what happened")
        if (self.format is Format.NAMES) is not (self.names is not None):
            raise ValueError(f"{self.name}: names go with Format.NAMES, and it with them")
        if (self.format is Format.COUNT) is not (self.nouns is not None):
            raise ValueError(f"{self.name}: nouns go with Format.COUNT, and it with them")

    @property
    def counted(self) -> bool:
        """Whether the signal is the number of its events in its window."""
        return self.table is None

    @property
    def moment(self) -> str:
        """The column that holds when the signal last happened."""
        return f"{self.name}_at"

    @property
    def ago(self) -> str:
        """The fact that says how long ago that was: "yesterday", "two weeks ago"."""
        return f"{self.name}_ago"

    @property
    def fact(self) -> bool:
        """Whether a text of the policy may name the signal."""
        return self.format is not Format.YES_NO

    def bound(self, policy: Any) -> float | None:
        """The largest value the signal can have under the policy; None without a bound."""
        if self.most is not None:
            return self.most(policy)
        return self.window.days(policy.signals) if self.format is Format.DAYS_OF_WINDOW else None


SIGNALS: tuple[Signal, ...] = (
    # ── usage ────────────────────────────────────────────────────────────────────────────────────
    Signal(
        name="events", unit="events", window=Window.RECENT, source="S0", table="days", level=True,
        meaning="events of use", label="Events in {days} days", nouns=("event", "events"), section=Section.USAGE,
    ),
    Signal(
        name="events_7d", unit="events", window=Window.WEEK, source="S0", table="days", level=True,
        meaning="events of use", label="Events in {days} days", nouns=("event", "events"),
    ),
    Signal(
        name="usage_growth_7d", unit="ratio", window=Window.WEEK, source="S1", table="account", level=True,
        unknown=True, meaning="events of use ÷ those of the 7 days before; null when those are none",
        label="Usage against the week before", format=Format.RATIO,
    ),
    Signal(
        name="active_users", unit="users", window=Window.RECENT, source="S0 S2", table="users", level=True,
        meaning="different users with use", label="Active users in {days} days",
        nouns=("active user", "active users"), section=Section.USAGE,
    ),
    Signal(
        name="active_days_7d", unit="days", window=Window.WEEK, source="S4", table="days", level=True,
        meaning="days with use", label="Days in use, of the last {days}", format=Format.DAYS_OF_WINDOW,
    ),
    Signal(
        name="active_days", unit="days", window=Window.ENGAGEMENT, source="S0", table="days", level=True,
        meaning="days with use", label="Days in use, of the last {days}", format=Format.DAYS_OF_WINDOW,
        section=Section.USAGE,
    ),
    Signal(
        name="team_days", unit="days", window=Window.ENGAGEMENT, source="S0", table="working_days", level=True,
        meaning="days with use; in an account of `signals.team_from_users` or more `users`, days with use by at least "
        "`signals.team_day_users` of them",
        label="Days the team was there, of the last {days}", format=Format.DAYS_OF_WINDOW,
    ),
    Signal(
        name="working_days_share", unit="there ÷ working days", window=Window.ENGAGEMENT, source="S0",
        table="working_days", level=True,
        meaning="`team_days` ÷ working days, at most 1. Those are the five weekdays on which it is mostly there, "
        "without the public holidays of its country (by its region, else its time zone)",
        label="Share of working days in use", format=Format.SHARE, most=lambda policy: 1,
    ),
    Signal(
        name="return_days", unit="days", window=Window.RECENT, source="S1 S4", table="account", level=True,
        meaning="days with use, without the account's very first day",
        label="Days they came back, of the last {days}", format=Format.DAYS_OF_WINDOW, section=Section.USAGE,
    ),
    Signal(
        name="sessions_7d", unit="sessions", window=Window.WEEK, source="S4", table="days", level=True,
        events=("session_started",), meaning="how often, of all users together", label="Sessions in {days} days",
        nouns=("session", "sessions"), section=Section.USAGE,
    ),
    Signal(
        name="features_used", unit="features", window=Window.LOOKBACK, source="S0", table="account",
        events=("feature_used",), meaning="different details of it", label="Features used", format=Format.NAMES,
        names="features_used_list", section=Section.USAGE,
    ),
    Signal(
        name="integrations", unit="integrations", window=Window.EVER, source="S0", table="milestones",
        events=("integration_connected",), meaning="different details of it", label="Integrations connected",
        nouns=("integration", "integrations"), section=Section.USAGE,
    ),
    Signal(
        name="developer_days", unit="days", window=Window.RECENT, source="S1", table="days", level=True,
        events=("api_called", "sdk_used", "ci_run"), meaning="days with one of these",
        label="Days with API, SDK or CI in use, of {days}", format=Format.DAYS_OF_WINDOW, section=Section.USAGE,
    ),
    Signal(
        name="exports", unit="events", window=Window.RECENT, source="S1", events=("export_created",),
        meaning="how often", label="Exports in {days} days", nouns=("export", "exports"), section=Section.USAGE,
        happened=Happened("made an export", "export"),
    ),
    Signal(
        name="shares", unit="events", window=Window.RECENT, source="S1", events=("content_shared",),
        meaning="how often", label="Shares in {days} days", nouns=("share", "shares"), section=Section.USAGE,
        happened=Happened("shared content", "content shared"),
    ),
    # ── onboarding ───────────────────────────────────────────────────────────────────────────────
    Signal(
        name="milestones_done", unit="milestones", window=Window.EVER, source="S2 S4", table="account",
        meaning="of `product.milestones`, reached", label="Onboarding milestones", nouns=("milestone", "milestones"),
        section=Section.ONBOARDING, most=lambda policy: len(policy.product.milestones),
    ),
    Signal(
        name="activated", unit="0 or 1", window=Window.EVER, source="S2", table="account",
        meaning="all of `product.activation` seen", label="Activated", format=Format.YES_NO,
        section=Section.ONBOARDING, most=lambda policy: 1,
    ),
    Signal(
        name="days_to_activate", unit="days", window=Window.EVER, source="S2 S4", table="account", unknown=True,
        meaning="from sign-up (CRM, else first seen) to the last of `product.activation`; null before",
        label="Time to value", format=Format.DURATION, section=Section.ONBOARDING,
    ),
    # ── the plan and what lies beyond it ─────────────────────────────────────────────────────────
    Signal(
        name="limit_share", unit="used ÷ cap", window=Window.LOOKBACK, source="S0 S1", table="limits", unknown=True,
        events=("usage_recorded",),
        meaning="last reading against the plan's cap, of the fullest limit; null without a cap, or a reading of the "
        "current period (`signals.limit_resets`, `signals.limit_fall`) and of the last `signals.limit_reading_days`",
        label="Share of the plan limit in use", format=Format.SHARE, section=Section.EXPANSION,
    ),
    Signal(
        name="limit_held_days", unit="days", window=Window.LOOKBACK, source="S0", table="limits", unknown=True,
        events=("usage_recorded",),
        meaning="from that limit's first reading of the unbroken run at or over `signals.limit_near` to its last "
        "reading, both included; 0 when the last is under it",
        label="Days near the plan limit", format=Format.DAYS, most=lambda policy: policy.signals.lookback_days,
    ),
    Signal(
        name="limit_days_left", unit="days", window=Window.LOOKBACK, source="S1", table="limits", unknown=True,
        events=("usage_recorded",),
        meaning="from today until that limit is reached, at the pace from its first reading in the "
        "period to its last; 0 when reached, null while it falls or stands, with readings of one day only, and if the "
        "meter begins anew before",
        label="Days until the plan limit at this pace", format=Format.DAYS,
    ),
    Signal(
        name="limits_reached", unit="events", window=Window.RECENT, source="S1", events=("limit_reached",),
        meaning="how often", label="Times a plan limit was reached in {days} days", format=Format.TIMES,
        section=Section.EXPANSION, happened=Happened("reached a plan limit", "plan limit reached"),
    ),
    Signal(
        name="premium_attempts", unit="events", window=Window.RECENT, source="S4",
        events=("premium_feature_attempted",), meaning="how often",
        label="Attempts at premium features in {days} days", nouns=("attempt", "attempts"), section=Section.EXPANSION,
        happened=Happened("tried a premium feature", "attempt at a premium feature"),
    ),
    Signal(
        name="admin_actions", unit="events", window=Window.RECENT, source="S1",
        events=("sso_configured", "permissions_changed"), meaning="how often",
        label="SSO and permission changes in {days} days", nouns=("change", "changes"), section=Section.EXPANSION,
        happened=Happened("changed SSO or permissions", "change of SSO or permissions"),
    ),
    # ── the team ─────────────────────────────────────────────────────────────────────────────────
    Signal(
        name="users", unit="users", window=Window.LOOKBACK, source="S0", table="users", level=True,
        meaning="different users with use", label="Users", nouns=("user", "users"), section=Section.TEAM,
    ),
    Signal(
        name="active_users_7d", unit="users", window=Window.WEEK, source="S0 S2", table="users", level=True,
        meaning="different users with use", label="Active users in {days} days",
        nouns=("active user", "active users"), section=Section.TEAM,
    ),
    Signal(
        name="decision_makers", unit="users", window=Window.RECENT, source="S2", table="people",
        meaning="different users with use whose title or seniority `people.decision_makers` names; none is known "
        "without `events.person_properties`",
        label="Decision makers active in {days} days", nouns=("decision maker", "decision makers"),
        section=Section.TEAM, private=True,
    ),
    Signal(
        name="qualified_users", unit="users", window=Window.RECENT, source="S2", table="people",
        meaning="different users who did in person what signals of intent count (requests, plan questions, looks at "
        "pricing, attempts, limits, SSO, invitations) and used the product on as many days as `gates.engagement` asks",
        label="Users who qualify in person", nouns=("qualified user", "qualified users"), private=True,
    ),
    Signal(
        name="invites", unit="events", window=Window.RECENT, source="S4", events=("teammate_invited",),
        meaning="how often", label="Invitations in {days} days", nouns=("teammate", "teammates"),
        section=Section.TEAM, happened=Happened("invited a teammate", "teammate invited"),
    ),
    # ── interest in buying ───────────────────────────────────────────────────────────────────────
    Signal(
        name="demo_requests", unit="events", window=Window.RECENT, source="S0 S3", events=("demo_requested",),
        meaning="how often", label="Requests to talk to someone in {days} days",
        nouns=("request to talk to someone", "requests to talk to someone"), section=Section.COMMERCIAL,
        happened=Happened("asked to talk to someone", "request to talk to someone"),
    ),
    Signal(
        name="plan_questions", unit="events", window=Window.RECENT, source="S4", events=("plan_question_asked",),
        meaning="how often", label="Questions about plans in {days} days",
        nouns=("question about plans", "questions about plans"), section=Section.COMMERCIAL,
        happened=Happened("asked about plans", "question about plans"),
    ),
    Signal(
        name="pricing_views", unit="events", window=Window.ENGAGEMENT, source="S4", events=("pricing_viewed",),
        meaning="how often", label="Pricing page views in {days} days", format=Format.TIMES,
        section=Section.COMMERCIAL, happened=Happened("looked at pricing", "look at pricing"), private=True,
    ),
    Signal(
        name="pricing_days", unit="days", window=Window.ENGAGEMENT, source="S4", table="pricing",
        events=("pricing_viewed",), meaning="different days of the account's own zone with one, today included",
        label="Days with a look at pricing, of the last {days}", format=Format.DAYS, private=True,
    ),
    Signal(
        name="checkouts_abandoned", unit="checkouts", window=Window.RECENT, source="S0", table="checkout",
        events=("checkout_started", "checkout_abandoned"),
        meaning="those given up at least `signals.abandoned_barrier_hours` ago (of one user's hour that this moment "
        "cuts in two: one), and the last checkout if it fell silent; its moment is then its last step",
        label="Upgrades left unfinished in {days} days", nouns=("unfinished upgrade", "unfinished upgrades"),
        section=Section.COMMERCIAL, happened=Happened("left an upgrade unfinished", "upgrade left unfinished"),
        private=True,
    ),
    Signal(
        name="demo_completion", unit="percent, 0–100", window=Window.LOOKBACK, source="S4", table="counts",
        events=("demo_viewed",), unknown=True, meaning="greatest value of it; null without",
        label="Product demo watched", format=Format.PERCENT, section=Section.COMMERCIAL, most=lambda policy: 100,
        private=True,
    ),
    Signal(
        name="demos_watched", unit="demos", window=Window.RECENT, source="S2", table="demos", events=("demo_viewed",),
        meaning="those of which at least `signals.demo_watched` percent were watched (of one user's hour: one)",
        label="Product demos watched to the end in {days} days", nouns=("demo", "demos"),
        section=Section.COMMERCIAL, happened=Happened("watched a product demo to the end", "demo watched to the end"),
        private=True,
    ),
    # ── the company ──────────────────────────────────────────────────────────────────────────────
    Signal(
        name="enterprise_domain", unit="0 or 1", window=Window.EVER, source="S0", table="account",
        meaning="an enterprise by `signals.enterprise`: with `listed` an account with a domain of "
        "`signals.enterprise_domains` or `signals.enterprise_file` (its website's, or of its users' e-mail addresses), "
        "or of at least `signals.enterprise_employees`; with `business` an organisation with any domain that is no "
        "free-mail provider's",
        label="Enterprise",
        label_under=lambda policy: "Business domain" if policy.signals.enterprise == "business" else "Enterprise",
        format=Format.YES_NO, firmographic=True, most=lambda policy: 1,
    ),
    Signal(
        name="fundings", unit="events", window=Window.LOOKBACK, source="S1", events=("company_funded",),
        meaning="how often", label="Funding rounds in {days} days", nouns=("funding round", "funding rounds"),
        section=Section.COMMERCIAL, happened=Happened("raised funding", "funding round"), firmographic=True,
    ),
    Signal(
        name="hirings", unit="events", window=Window.LOOKBACK, source="S1", events=("company_hiring",),
        meaning="how often", label="Job adverts in {days} days", nouns=("job advert", "job adverts"),
        section=Section.COMMERCIAL, happened=Happened("advertised a job", "job advert"), firmographic=True,
    ),
    # ── friction ─────────────────────────────────────────────────────────────────────────────────
    Signal(
        name="failed_actions", unit="events", window=Window.RECENT, source="S4", events=("action_failed",),
        meaning="how often", label="Failed actions in {days} days", nouns=("failed action", "failed actions"),
        section=Section.FRICTION, happened=Happened("had an action fail", "failed action"),
    ),
    Signal(
        name="failed_share", unit="failed ÷ all", window=Window.RECENT, source="S4", table="account", unknown=True,
        meaning="`failed_actions` ÷ `events`, at most 1; null without events", label="Share of actions that failed",
        format=Format.SHARE, section=Section.FRICTION, most=lambda policy: 1,
    ),
    Signal(
        name="tickets", unit="events", window=Window.RECENT, source="S4", events=("support_ticket_opened",),
        meaning="how often", label="Support tickets in {days} days", nouns=("support ticket", "support tickets"),
        section=Section.FRICTION, happened=Happened("opened a support ticket", "support ticket"),
    ),
)  # fmt: skip
"""Every signal that gates, points, rules and situations of a policy may name, in the order the dossier shows them.

The following are no signals because no canonical event carries them: time in the product (no event says when a session
ended), departments and offices, clicks in a demo, papers published. Acceleration (S1: 2 → 5 logins a week) is
`usage_growth_7d`.
"""

SIGNAL_NAMES: tuple[str, ...] = tuple(signal.name for signal in SIGNALS)
SIGNALS_BY_NAME: dict[str, Signal] = {signal.name: signal for signal in SIGNALS}

MOMENTS: tuple[str, ...] = tuple(signal.name for signal in SIGNALS if signal.happened is not None)
"""Signals that happen at a moment: the column `{signal}_at` holds the last one, so their points may decay (S4) and a
new one may be the trigger event of a monitored account (S2)."""

FIRMOGRAPHIC_SIGNALS = frozenset(signal.name for signal in SIGNALS if signal.firmographic)
"""Facts about the company, not about its use of the product: they may rank, never trigger (S0 S2)."""

RENAMED: dict[str, str] = {
    # A signal's name contains a number of days only where no policy can change that number.
    "active_users_28d": "active_users",
    "invites_28d": "invites",
    "developer_days_28d": "developer_days",
    "limits_reached_28d": "limits_reached",
    "active_days_14d": "active_days",
    "return_days_28d": "return_days",
    "events_28d": "events",
    "exports_28d": "exports",
    "shares_28d": "shares",
    "pricing_views_14d": "pricing_views",
    "plan_questions_28d": "plan_questions",
    "demo_requests_28d": "demo_requests",
    "premium_attempts_28d": "premium_attempts",
    "admin_actions_28d": "admin_actions",
    "failed_actions_28d": "failed_actions",
    "tickets_28d": "tickets",
    "checkouts_abandoned_28d": "checkouts_abandoned",
    "fundings_90d": "fundings",
    "hirings_90d": "hirings",
}
"""Signal of a former release → its name today. Stored documents and tables, and users' own files, are read with it
(`policy/upgrade.py`, `docs/formats.md`): entries are only ever added, and no former name is used again."""

DETAIL_COLUMNS: tuple[Column, ...] = (
    Column(name="account_basis", kind=Kind.TEXT),
    Column(name="trend", kind=Kind.TEXT, fact=True),
    Column(name="checkout_state", kind=Kind.TEXT),
    Column(name="checkout_at", kind=Kind.MOMENT),
    Column(name="bought_at", kind=Kind.MOMENT),
    Column(name="milestones_done_list", kind=Kind.NAMES, format=Format.NAMES, label="Done",
           section=Section.ONBOARDING),
    Column(name="milestones_left", kind=Kind.NAMES, format=Format.NAMES, label="Left", section=Section.ONBOARDING,
           fact=True),
    Column(name="features_used_list", kind=Kind.NAMES, format=Format.NAMES),
    Column(name="features_by_use", kind=Kind.AMOUNTS, format=Format.AMOUNTS, fact=True),
    Column(name="features_unused", kind=Kind.NAMES, format=Format.NAMES, fact=True),
    Column(name="premium_attempted", kind=Kind.NAMES, format=Format.NAMES, fact=True),
    Column(name="failures", kind=Kind.AMOUNTS, format=Format.AMOUNTS, label="What failed", section=Section.FRICTION,
           fact=True),
    Column(name="limit_name", kind=Kind.TEXT, fact=True),
    Column(name="limit_used", kind=Kind.NUMBER, format=Format.NUMBER, fact=True),
    Column(name="limit_cap", kind=Kind.NUMBER, format=Format.NUMBER, fact=True),
    Column(name="limit_near_at", kind=Kind.MOMENT),  # the first reading of `limit_held_days`
    Column(name="limit_read_at", kind=Kind.MOMENT),  # the last reading
    Column(name="top_user", kind=Kind.TEXT, label="Most active", section=Section.TEAM),
    Column(name="contact_user", kind=Kind.TEXT),
    Column(name="contact_name", kind=Kind.TEXT, personal=True),
    Column(name="contact_email", kind=Kind.TEXT, personal=True),
    Column(name="contact_title", kind=Kind.TEXT, personal=True),
    Column(name="usual_hour", kind=Kind.WHOLE, format=Format.NUMBER),
    Column(name="usual_weekday", kind=Kind.WHOLE, format=Format.NUMBER),
    Column(name="first_seen_at", kind=Kind.MOMENT),
    Column(name="last_seen_at", kind=Kind.MOMENT),
    Column(name="activated_at", kind=Kind.MOMENT),
)  # fmt: skip
"""The columns of the signals table that explain the signals (`signals/account.py` computes all of them).

`contact_user` and what is known of it is the person to write to (`signals/people.py`): who asked for a person, else a
buyer, else the champion."""

PERSONAL_COLUMNS: tuple[str, ...] = tuple(column.name for column in DETAIL_COLUMNS if column.personal)
"""What says who the user of `contact_user` is: for the CRM alone, in no log, chat or page."""

SIGNALS_TABLE: frozenset[str] = frozenset(
    [column.name for column in (*SNAPSHOT_COLUMNS, *CRM_COLUMNS, *DETAIL_COLUMNS)]
    + [name for signal in SIGNALS for name in (signal.name, *([signal.moment] if signal.happened else []))]
)
"""Every column of `signals/{run_id}.parquet`."""
