"""The product events of a cohort's users on one day, in their own working hours and time zone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from onetouch.simulation.customers import INTEGRATIONS, MOST_INTEGRATIONS, Cohort

EVENTS = (
    "signed_up", "session_started", "workspace_created", "data_imported", "report_created",
    "integration_connected", "teammate_invited", "pricing_viewed", "plan_question_asked", "demo_requested",
    "premium_feature_attempted", "feature_used", "usage_recorded", "limit_reached", "api_called", "sdk_used",
    "ci_run", "export_created", "content_shared", "sso_configured", "permissions_changed", "action_failed",
    "support_ticket_opened", "checkout_started", "checkout_completed", "checkout_abandoned", "plan_upgraded",
    "demo_viewed", "company_funded", "company_hiring", "theme_changed",
)  # fmt: skip
"""Every event the product tracks. No policy's vocabulary holds the last one: real products have such events, too."""
_CODE = {name: code for code, name in enumerate(EVENTS)}

FEATURES = ("dashboards", "alerts", "exports", "automations", "api", "audit_log")
PREMIUM = ("sso", "audit_log", "custom_roles")
ACTIONS = ("data_import", "report_render", "export", "integration_sync")

_DAY = 86_400_000_000  # microseconds

# The kind of one action: weights for ordinary users and for developers.
_MIX = {
    "feature_used": (45, 34), "report_created": (13, 8), "data_imported": (7, 7), "export_created": (9, 4),
    "content_shared": (9, 4), "api_called": (1, 20), "sdk_used": (0, 8), "ci_run": (0, 6),
    "action_failed": (3.5, 4), "support_ticket_opened": (0.25, 0.25), "demo_viewed": (0.25, 0.1),
    "theme_changed": (1, 1),
}  # fmt: skip
_MIX_CODE = np.array([_CODE[name] for name in _MIX])
_MIX_UP_TO = np.cumsum(np.array(list(_MIX.values())) / np.sum(list(_MIX.values()), axis=0), axis=0).T

# Signs of buying interest: events an active account sends a day, before it is ripe and once it is.
_INTEREST = {
    "pricing_viewed": (0.012, 0.30), "premium_feature_attempted": (0.002, 0.22), "plan_question_asked": (0.003, 0.06),
    "demo_requested": (0.0008, 0.02), "sso_configured": (0.0006, 0.015), "permissions_changed": (0.002, 0.08),
    "teammate_invited": (0.002, 0.10),
}  # fmt: skip


@dataclass(frozen=True)
class Events:
    """Columns of equal length. `user`: row in the cohort's users, `account`: row in its accounts; `event`: position in
    `EVENTS`; `at`: µs since 1970 UTC; `properties`: JSON text; `anonymous`: sent by a service, without a user."""

    account: np.ndarray
    user: np.ndarray
    event: np.ndarray
    at: np.ndarray
    properties: np.ndarray
    anonymous: np.ndarray

    def __len__(self) -> int:
        return len(self.at)


def to_utc(cohort: Cohort, midnight: datetime, account: np.ndarray, moment: np.ndarray) -> np.ndarray:
    """Days since `midnight` on the account's own clock → µs since 1970 UTC (offset of that date's noon)."""
    origin = _us(midnight)
    zone = cohort.accounts["timezone"].to_numpy()[account]
    date = np.floor(moment).astype(int)
    key = pd.MultiIndex.from_arrays([zone, date])
    codes, pairs = pd.factorize(key)
    offsets = np.array(
        [_offset(name, midnight + timedelta(days=int(day), hours=12)) for name, day in pairs], dtype=np.int64
    ).reshape(-1)
    return origin + np.round(moment * _DAY).astype(np.int64) - offsets[codes]


def _offset(zone: str, moment: datetime) -> int:
    offset = ZoneInfo(zone).utcoffset(moment.astimezone(UTC).replace(tzinfo=None))
    assert offset is not None
    return int(offset.total_seconds()) * 1_000_000


def planned(cohort: Cohort, seed: int, midnight: datetime) -> pd.DataFrame:
    """Events that happen once, on a day of their own: sign-ups, invitations, onboarding, checkouts.

    Columns account, user, event, moment (days on the account's clock since day 0, the date of `midnight`), properties
    and at (µs since 1970 UTC).
    """
    rng = np.random.default_rng([seed, cohort.number, 2])
    who, users, checkouts = cohort.accounts, cohort.users, cohort.checkouts
    first_user = np.flatnonzero(users["k"] == 0)  # in account order
    n = len(who)
    rows = []

    def add(
        name: str, account: np.ndarray, moment: np.ndarray, user: np.ndarray | None = None, properties: Any = "{}"
    ) -> None:
        frame = pd.DataFrame({"account": account, "moment": moment})
        frame["user"] = first_user[account] if user is None else user
        frame["event"] = _CODE[name]
        frame["properties"] = properties
        rows.append(frame[np.isfinite(frame["moment"])])

    everyone = np.arange(n)
    at_users = users["account"].to_numpy()
    add("signed_up", at_users, users["joined"].to_numpy(), np.arange(len(users)))
    invited = np.flatnonzero(users["k"] > 0)
    invited_at = users["joined"].to_numpy()[invited] - rng.uniform(0.02, 0.15, len(invited))
    invited_at = np.maximum(invited_at, who["signed_up"].to_numpy()[at_users[invited]] + 0.01)
    add("teammate_invited", at_users[invited], invited_at)
    starts = np.isfinite(who["activates"]) | (rng.random(n) < 0.75)
    add("workspace_created", everyone, np.where(starts, who["signed_up"] + rng.uniform(0.002, 0.008, n), np.inf))
    add("data_imported", everyone, who["activates"].to_numpy() - rng.uniform(0.004, 0.03, n))
    add("report_created", everyone, who["activates"].to_numpy())
    for place in range(MOST_INTEGRATIONS):
        day = np.floor(who["activates"] + rng.exponential(3.0 * (place + 1), n)) + rng.uniform(9, 17, n) / 24
        text = [f'{{"integration":"{INTEGRATIONS[(number + place) % MOST_INTEGRATIONS]}"}}' for number in who["number"]]
        day = np.where(who["integrations"] > place, np.maximum(day, who["activates"] + 0.01), np.inf)
        add("integration_connected", everyone, day.astype(float), properties=text)

    buyer = checkouts["account"].to_numpy()
    wanted = [f'{{"plan":"{plan}"}}' for plan in checkouts["plan"]]
    add("pricing_viewed", buyer, checkouts["started"].to_numpy() - 0.004)
    add("checkout_started", buyer, checkouts["started"].to_numpy(), properties=wanted)
    for outcome, name in (("completed", "checkout_completed"), ("abandoned", "checkout_abandoned")):
        ended = np.where(checkouts["outcome"] == outcome, checkouts["ended"], np.inf)
        add(name, buyer, ended, properties=wanted)
    bought = [
        f'{{"plan":"{p}","arr":{a},"seats":{s}}}'
        for p, a, s in checkouts[["plan", "arr", "seats"]].itertuples(index=False)
    ]
    completed = np.where(checkouts["outcome"] == "completed", checkouts["ended"] + 0.0002, np.inf)
    add("plan_upgraded", buyer, completed, properties=bought)
    plan: pd.DataFrame = pd.concat(rows, ignore_index=True)
    plan["at"] = to_utc(cohort, midnight, plan["account"].to_numpy(), plan["moment"].to_numpy())
    return plan


@dataclass(frozen=True)
class _Mood:
    """How active each account is on one day. `chance`: that a diligent user is active; `pace`: that user's actions."""

    chance: np.ndarray
    pace: np.ndarray
    activated: np.ndarray
    ripe: np.ndarray
    faded: np.ndarray

    @classmethod
    def of(cls, who: pd.DataFrame, day: int, *, weekend: bool) -> _Mood:
        """The moods of the accounts `who` on a day."""
        ramp = np.clip((day - (who["ripe"].to_numpy() - 13)) / 9, 0, 1)
        faded = day >= who["fade"].to_numpy()
        activated = day > who["activates"].to_numpy()
        peak, calm = who["weekday"].to_numpy(), who["calm_weekday"].to_numpy()
        chance = (calm + (peak - calm) * ramp) * np.where(faded, 0.12, 1.0)
        if weekend:
            chance = chance * (who["weekend"] / who["weekday"]).to_numpy()
        chance = np.where(activated, chance, np.minimum(chance * 0.9, 0.6))
        pace = who["pace"].to_numpy() * (0.6 + 0.6 * ramp) * np.where(activated, 1.0, 0.5)
        return cls(chance, pace, activated, (day >= who["ripe"].to_numpy()) & ~faded, faded)


def on_day(cohort: Cohort, plan: pd.DataFrame, seed: int, midnight: datetime, day: int, start: datetime) -> Events:
    """Everything the cohort's users do on day `day` of their own calendars, from `start` on."""
    rng = np.random.default_rng([seed, cohort.number, 3, day + 1])
    who, users = cohort.accounts, cohort.users
    account_of = users["account"].to_numpy()

    mood = _Mood.of(who, day, weekend=(midnight + timedelta(days=day)).weekday() >= 5)
    ripe, faded, activated = mood.ripe, mood.faded, mood.activated

    joined = day >= np.ceil(users["joined"].to_numpy())  # the plan holds the events of the day of joining
    chance = mood.chance[account_of] * users["diligence"].to_numpy() * joined
    active = np.flatnonzero(rng.random(len(users)) < chance)

    parts: list[tuple[np.ndarray, ...]] = []  # account, user, event, moment, properties

    def add(
        event: np.ndarray | int,
        user: np.ndarray,
        moment: np.ndarray,
        properties: Any = "{}",
        account: np.ndarray | None = None,
    ) -> None:
        text = np.empty(len(user), dtype=object)
        text[:] = properties
        parts.append(
            (account_of[user] if account is None else account, user, np.broadcast_to(event, len(user)), moment, text)
        )

    # Actions of the active users, spread around the middle of their day.
    actions = 1 + rng.poisson(mood.pace[account_of[active]])
    user = np.repeat(active, actions)
    hour = rng.normal(users["hour"].to_numpy()[user], users["spread"].to_numpy()[user])
    moment = day + np.clip(hour, 5.0, 23.5) / 24
    event = _actions(rng, who, account_of[user], activated)
    add(event, user, moment, _details(rng, who, account_of[user], event))
    first = np.concatenate([[0], np.cumsum(actions)[:-1]]).astype(int)
    began = np.minimum.reduceat(moment, first) if len(active) else np.empty(0)
    add(_CODE["session_started"], active, began - rng.uniform(5, 60, len(active)) / 86400)

    # The account's own events are sent by one active user of each active account, the most senior one.
    accounts, place = np.unique(account_of[active], return_index=True)
    speaker, opened = active[place], began[place] if len(active) else began
    for name, (base, peak_rate) in _INTEREST.items():
        times = rng.poisson(np.where(ripe[accounts], peak_rate, base * np.where(faded[accounts], 0.3, 1.0)))
        again = np.repeat(np.arange(len(accounts)), times)
        asked = rng.choice(PREMIUM, len(again))
        text: Any = "{}" if name != "premium_feature_attempted" else [f'{{"feature":"{feature}"}}' for feature in asked]
        add(_CODE[name], speaker[again], opened[again] + rng.uniform(0.002, 0.12, len(again)), text)

    share = usage_share(who, day)[accounts]
    used = (share * who["cap"].to_numpy()[accounts]).astype(int)
    limit = who["limit"].to_numpy()[accounts]
    known = np.flatnonzero(activated[accounts])
    add(
        _CODE["usage_recorded"], speaker[known], opened[known] + 0.06,
        [f'{{"limit":"{name}","used":{n}}}' for name, n in zip(limit[known], used[known], strict=True)],
    )  # fmt: skip
    over = np.flatnonzero(activated[accounts] & (share >= 1.0) & (rng.random(len(accounts)) < 0.6))
    add(_CODE["limit_reached"], speaker[over], opened[over] + 0.061, [f'{{"limit":"{name}"}}' for name in limit[over]])

    # Jobs that run on every weekday, under the key of the user who signed up.
    first_user = np.flatnonzero(users["k"] == 0)
    jobs = np.repeat(first_user, rng.poisson(np.where(who["developer"] & who["keen"] & activated & ~faded, 12, 0)))
    job = np.where(rng.random(len(jobs)) < 0.8, _CODE["api_called"], _CODE["ci_run"])
    add(job, jobs, day + rng.uniform(0, 1, len(jobs)))

    # Reports of a firmographic service about organisations; no user causes these events.
    organisations = np.flatnonzero((who["account_basis"] == "group") & (day >= who["signed_up"]))
    big = np.where(np.isin(who["size"].to_numpy()[organisations], ["mid", "large"]), 1.0, 0.2)
    outside = 0
    for title, rate in (("company_funded", 0.0025), ("company_hiring", 0.012)):
        hit = organisations[rng.random(len(organisations)) < rate * big]
        outside += len(hit)
        add(_CODE[title], first_user[hit], day + rng.uniform(0.3, 0.7, len(hit)), account=hit)

    date = np.floor(plan["moment"].to_numpy())
    due = plan[(date == day if day else date <= 0) & (plan["at"].to_numpy() >= _us(start))]
    account, user, event, moment, properties = (np.concatenate(column) for column in zip(*parts, strict=True))
    anonymous = np.zeros(len(account), dtype=bool)
    anonymous[len(account) - outside :] = True
    at = to_utc(cohort, midnight, account, moment)
    live = at >= _us(start)
    spontaneous = Events(account[live], user[live], event[live], at[live], properties[live], anonymous[live])
    return Events(
        *(np.concatenate(pair) for pair in zip(vars(spontaneous).values(), vars(_of(due)).values(), strict=True))
    )


def before(plan: pd.DataFrame, start: datetime) -> Events:
    """The planned events that happened before `start`: imported when analytics is first connected."""
    return _of(plan[plan["at"].to_numpy() < _us(start)])


def _of(plan: pd.DataFrame) -> Events:
    account, user, event, at, properties = (
        plan[c].to_numpy() for c in ("account", "user", "event", "at", "properties")
    )
    return Events(account, user, event, at, properties, np.zeros(len(plan), dtype=bool))


def _us(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000


def usage_share(who: pd.DataFrame, day: float) -> np.ndarray:
    """Used share of each account's limit on a day: it grows until the account is ripe (or 40 days old), then slowly."""
    signed_up, ripe = who["signed_up"].to_numpy(), who["ripe"].to_numpy()
    target = np.where(np.isfinite(ripe), ripe, signed_up + 40)
    progress = (day - signed_up) / np.maximum(target - signed_up, 1)
    grown = who["share_first"] + (who["share_ripe"] - who["share_first"]) * np.clip(progress, 0, 1)
    return np.asarray(grown + 0.006 * np.clip(day - target, 0, 30) * (who["share_ripe"] >= 0.8))


def _actions(rng: np.random.Generator, who: pd.DataFrame, account: np.ndarray, activated: np.ndarray) -> np.ndarray:
    """One event code per action, by the kind of users the account has; no reports before activation."""
    mix = _MIX_UP_TO[who["developer"].to_numpy()[account].astype(int)]
    event = _MIX_CODE[np.minimum((rng.random(len(account))[:, None] > mix).sum(axis=1), len(_MIX_CODE) - 1)]
    needs_data = np.isin(event, [_CODE["data_imported"], _CODE["report_created"], _CODE["export_created"]])
    early = needs_data & ~activated[account]
    stumbles = rng.random(len(account)) < 0.3
    return np.where(early, np.where(stumbles, _CODE["action_failed"], _CODE["feature_used"]), event)


_FEATURE_TEXT = np.array([f'{{"feature":"{name}"}}' for name in FEATURES], dtype=object)
_ACTION_TEXT = np.array([f'{{"action":"{name}"}}' for name in ACTIONS], dtype=object)


def _details(rng: np.random.Generator, who: pd.DataFrame, account: np.ndarray, event: np.ndarray) -> np.ndarray:
    """The event properties of actions: the feature used, the action that failed, the part of a demo seen."""
    n = len(event)
    taste = who["feature_taste"].to_numpy()[account]
    feature = (who["number"].to_numpy()[account] + (rng.random(n) * taste).astype(int)) % len(FEATURES)
    action = rng.integers(0, len(ACTIONS), n)
    seen = rng.integers(10, 101, n)
    text = np.full(n, "{}", dtype=object)
    text = np.where(event == _CODE["feature_used"], _FEATURE_TEXT[feature], text)
    text = np.where(event == _CODE["action_failed"], _ACTION_TEXT[action], text)
    demo = np.flatnonzero(event == _CODE["demo_viewed"])
    text[demo] = [f'{{"completion":{share}}}' for share in seen[demo]]
    return text
