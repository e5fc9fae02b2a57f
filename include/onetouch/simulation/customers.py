"""The simulated company's customers and their future: sign-up, activation, growth, purchases.

Accounts come in cohorts: cohort 0 existed before the exports begin, and every later week adds one. A cohort is drawn
as a whole from (seed, cohort) and does not depend on the end of the simulation, so that a longer simulation only adds
to a shorter one. All numbers here are ours: they give a credible mix and are not measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from onetouch.simulation.ids import record_id

WEEKS = 5
"""Weeks after which the requested number of accounts is reached."""

FREE_MAIL = ("gmail.com", "outlook.com", "yahoo.com")

INDUSTRIES = ("Software", "Logistics", "Retail", "Healthcare", "Finance", "Manufacturing", "Education", "Media")
_WORDS = (
    "amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "harbor", "iris", "juniper", "kestrel", "lumen",
    "maple", "nimbus", "opal", "prairie", "quartz", "ridge", "summit", "tundra", "umber", "vale", "willow", "zephyr",
)  # fmt: skip
ZONES = (
    ("NA", "America/New_York", 0.20), ("NA", "America/Chicago", 0.11), ("NA", "America/Denver", 0.05),
    ("NA", "America/Los_Angeles", 0.14), ("EMEA", "Europe/London", 0.12), ("EMEA", "Europe/Berlin", 0.12),
    ("EMEA", "Europe/Paris", 0.07), ("EMEA", "Europe/Madrid", 0.04), ("APAC", "Asia/Singapore", 0.04),
    ("APAC", "Asia/Tokyo", 0.03), ("APAC", "Australia/Sydney", 0.04), ("LATAM", "America/Sao_Paulo", 0.04),
)  # fmt: skip
_FIRST = (
    "Mia", "Noah", "Ines", "Omar", "Lena", "Hugo", "Aiko", "Ravi", "Nora", "Luis", "Sara", "Emil", "Zoe", "Paul",
    "Maya", "Ivan", "Ella", "Tom", "Lucia",
)  # fmt: skip
_LAST = (
    "Koch", "Silva", "Okafor", "Meyer", "Tanaka", "Novak", "Rossi", "Haddad", "Larsen", "Patel", "Moreau", "Kowalski",
    "Byrne", "Castro", "Weber", "Lindgren", "Santos",
)  # fmt: skip
_TITLES = ("Analyst", "Engineer", "Operations Manager", "Product Manager", "Head of Data", "VP Operations", "CTO")
FUNDING = ("Bootstrapped", "Seed", "Series A", "Series B", "Series C", "Public")

LIMITS = ("reports", "rows", "api_calls")
PLAN_LIMITS = {
    "free": {"reports": 20, "rows": 50_000, "api_calls": 1_000},
    "team": {"reports": 200, "rows": 1_000_000, "api_calls": 20_000},
    "business": {"reports": 2_000, "rows": 20_000_000, "api_calls": 500_000},
}
SEAT_PRICE_YEAR = {"free": 0, "team": 180, "business": 360}

PLANS = (
    {"name": "free", "seat_price_year": 0, "limits": PLAN_LIMITS["free"], "next": "team"},
    {"name": "team", "seat_price_year": SEAT_PRICE_YEAR["team"], "limits": PLAN_LIMITS["team"],
     "features": ["audit_log"], "next": "business"},
    {"name": "business", "seat_price_year": SEAT_PRICE_YEAR["business"], "limits": PLAN_LIMITS["business"],
     "features": ["audit_log", "sso"], "next": "enterprise"},
    {"name": "enterprise", "features": ["audit_log", "sso", "custom_roles"]},
)  # fmt: skip
"""The plans that the simulated company sells, as a policy's `product.plans` lists them."""

INTEGRATIONS = ("slack", "github", "warehouse", "sheets", "webhook")
MOST_INTEGRATIONS = len(INTEGRATIONS)

NEVER = np.inf
"""The day of an event that does not happen."""


@dataclass(frozen=True)
class Segment:
    """A kind of customer. `est`/`new`: share of the first and of later cohorts; ranges are inclusive.

    `keen`: share that works on (almost) every weekday; `activates`: share that ever activates; `ripens`: share whose
    team, usage and interest in buying grow strongly; `checkout_days`: mean days until a keen account's self-serve
    checkout; `receptive`: chance that a rep's call succeeds once the account is ripe.
    """

    name: str
    est: float
    new: float
    employees: tuple[int, int]
    users: tuple[int, int]
    keen: float
    activates: float
    ripens: float
    checkout_days: float
    receptive: float


SEGMENTS = (
    Segment("solo", 0.13, 0.15, (1, 1), (1, 1), 0.35, 0.60, 0.00, 25, 0.02),
    Segment("small_team", 0.33, 0.38, (3, 95), (1, 7), 0.42, 0.65, 0.15, 17, 0.06),
    Segment("casual", 0.18, 0.18, (120, 900), (1, 4), 0.00, 0.60, 0.00, 60, 0.06),
    Segment("dormant", 0.09, 0.08, (500, 9000), (1, 3), 0.00, 0.40, 0.00, 200, 0.04),
    Segment("steady", 0.11, 0.07, (120, 700), (4, 6), 1.00, 1.00, 0.00, 90, 0.25),
    Segment("ripening", 0.08, 0.105, (120, 4000), (6, 15), 1.00, 1.00, 1.00, 0, 0.50),
    Segment("customer", 0.07, 0.04, (60, 3000), (6, 20), 0.85, 1.00, 0.12, 150, 0.45),
)
_SEGMENT = {s.name: s for s in SEGMENTS}


@dataclass(frozen=True)
class Cohort:
    """Accounts, their users and their checkouts; days are counted from `start` (day 0), fractions are times of day.

    `users.account` and `checkouts.account` are row positions in `accounts`; a user's position is the row number.
    """

    number: int
    accounts: pd.DataFrame
    users: pd.DataFrame
    checkouts: pd.DataFrame


def cohort_sizes(accounts: int) -> tuple[int, int]:
    """Accounts in the first cohort and in each later one: together `accounts` after `WEEKS` weeks."""
    weekly = round(accounts * 0.45 / WEEKS)
    return accounts - WEEKS * weekly, weekly


def cohort(seed: int, number: int, accounts: int) -> Cohort:
    """The `number`-th cohort of a company of about `accounts` customers."""
    rng = np.random.default_rng([seed, number, 1])
    first, weekly = cohort_sizes(accounts)
    n = first if number == 0 else weekly
    ids = np.arange(n) + (0 if number == 0 else first + (number - 1) * weekly)
    who = _companies(rng, ids, established=number == 0)
    _course(rng, who, number)
    users = _users(rng, who)
    checkouts = _checkouts(rng, who, users)
    return Cohort(number, who, users, checkouts)


def _pick(rng: np.random.Generator, choices: tuple[Any, ...], n: int, p: list[float] | None = None) -> np.ndarray:
    """`n` draws from `choices`; the weights need not add up to one."""
    weights = None if p is None else np.array(p) / sum(p)
    return np.array(choices, dtype=object)[rng.choice(len(choices), size=n, p=weights)]


def _companies(rng: np.random.Generator, ids: np.ndarray, *, established: bool) -> pd.DataFrame:
    """Accounts with their names, sizes, places and plans."""
    n = len(ids)
    share = [s.est if established else s.new for s in SEGMENTS]
    # Shares are exact (up to rounding) and not drawn, so that a small demo shows every kind of customer.
    quota = (np.cumsum(share) / np.sum(share) * n).round().astype(int)
    segment = np.array([s.name for s in SEGMENTS], dtype=object)[np.searchsorted(quota, np.arange(n), side="right")]
    segment = rng.permutation(segment)
    kind = [_SEGMENT[s] for s in segment]
    low, high = np.array([k.employees for k in kind]).T.reshape(2, n)
    employees = np.exp(rng.uniform(np.log(low), np.log(high + 0.999))).astype(int)
    zone = rng.choice(len(ZONES), size=n, p=np.array([z[2] for z in ZONES]) / sum(z[2] for z in ZONES))
    word = _pick(rng, _WORDS, n)
    solo = segment == "solo"
    domain = np.array([f"{w}-{i:04d}.example" for w, i in zip(word, ids, strict=True)], dtype=object)
    domain[solo] = None
    groups = (rng.random(n) < 0.8) & ~solo
    industry = _pick(rng, INDUSTRIES, n)

    paying = (segment == "customer") | (np.isin(segment, ["small_team", "steady"]) & (rng.random(n) < 0.15))
    plan = np.where(paying & (employees >= 300), "business", np.where(paying, "team", "free")).astype(object)
    seats = np.array([rng.integers(k.users[0], k.users[1] + 1) for k in kind]).reshape(n)
    seats = np.minimum(seats, employees)
    bought = np.maximum(seats * 2, (employees * rng.uniform(0.03, 0.08, n)).astype(int))
    seats = np.where(segment == "customer", bought, seats)
    arr = seats * np.array([SEAT_PRICE_YEAR[p] for p in plan])

    account_id = np.array(
        [
            f"org_{i:05d}" if g else d if d else f"user:u_{i:05d}_00"
            for i, g, d in zip(ids, groups, domain, strict=True)
        ],
        dtype=object,
    )
    return pd.DataFrame(
        {
            "number": ids,
            "account_id": account_id,
            "account_basis": np.where(groups, "group", np.where(solo, "personal", "domain")),
            "name": [
                f"Simulated Person {i:04d}" if s else f"Simulated {w.title()} {d} {i:04d}"
                for i, s, w, d in zip(ids, solo, word, industry, strict=True)
            ],
            "domain": domain,
            "segment": segment,
            "size": np.where(
                solo, "solo", np.where(employees < 50, "small", np.where(employees < 500, "mid", "large"))
            ),
            "employees": employees,
            "industry": industry,
            "region": [ZONES[z][0] for z in zone],
            "timezone": [ZONES[z][1] for z in zone],
            "funding_stage": _pick(rng, FUNDING, n, [0.3, 0.2, 0.2, 0.15, 0.1, 0.05]),
            "plan": plan,
            "seats": seats,
            "arr": arr.astype(float),
        }
    )


def _course(rng: np.random.Generator, who: pd.DataFrame, number: int) -> None:
    """Adds to `who` the days of sign-up, activation, ripening and fading, and rates of activity and interest."""
    n = len(who)
    kind = [_SEGMENT[s] for s in who["segment"]]
    office = rng.uniform(8.5, 16, n) / 24
    if number == 0:  # not older than the 90 days after which product signals are forgotten
        signed_up = np.floor(rng.uniform(-45, -4, n)) + office
    else:
        signed_up = np.floor((number - 1) * 7 + rng.uniform(0, 7, n)) + office
    activates = rng.random(n) < np.array([k.activates for k in kind])
    lag = np.minimum(rng.gamma(1.2, 2.0, n), 12)
    activate = np.where(activates, np.maximum(np.floor(signed_up + lag) + 17 / 24, signed_up + 0.04), NEVER)

    ripens = rng.random(n) < np.array([k.ripens for k in kind])
    wait = rng.uniform(10, 28, n)
    # The first cohort ripens evenly over the first seven weeks, later cohorts two to four weeks after sign-up, so that
    # every week has new PQLs.
    ripe = np.where(
        ripens, np.maximum(rng.uniform(10, 49, n) if number == 0 else signed_up + wait, activate + 2), NEVER
    )
    fades = rng.random(n) < np.where(ripens, 0.9, 0.15)
    fade = np.where(
        fades, np.where(ripens, ripe + rng.uniform(6, 18, n), signed_up + 10 + rng.exponential(60, n)), NEVER
    )

    keen = rng.random(n) < np.array([k.keen for k in kind])
    who["signed_up"] = signed_up
    who["activates"] = activate
    who["ripe"] = ripe
    who["fade"] = fade
    who["keen"] = keen
    who["weekday"] = np.where(keen, rng.uniform(0.82, 0.95, n), rng.uniform(0.08, 0.35, n))
    who["weekday"] = np.where(who["segment"] == "dormant", rng.uniform(0.02, 0.1, n), who["weekday"])
    # Before an account ripens, a few users try the product now and then.
    who["calm_weekday"] = np.where(who["segment"] == "ripening", rng.uniform(0.3, 0.5, n), who["weekday"])
    who["weekend"] = who["weekday"] * np.where(rng.random(n) < 0.25, 0.5, 0.08)
    who["pace"] = rng.gamma(6, 0.75, n) + 1.5  # actions per user and active day
    who["developer"] = rng.random(n) < 0.3

    limit = rng.integers(0, len(LIMITS), n)
    who["limit"] = np.array(LIMITS, dtype=object)[limit]
    who["cap"] = [PLAN_LIMITS[p][name] for p, name in zip(who["plan"], who["limit"], strict=True)]
    tight = rng.random(n) < np.select([ripens, keen & (who["size"] == "small")], [0.55, 0.3], 0.04)
    who["share_first"] = rng.uniform(0.05, 0.35, n)
    who["share_ripe"] = np.where(tight, rng.uniform(0.8, 0.97, n), rng.uniform(0.3, 0.65, n))
    who["integrations"] = np.where(
        ripens | (who["segment"] == "customer"), rng.integers(1, 6, n), rng.integers(0, 3, n)
    )
    who["feature_taste"] = rng.integers(1, 7, n)  # how many of the product's features it uses

    who["would_self_serve"] = rng.random(n) < np.select([ripens, keen], [0.15, 0.5], 0.1)
    who["receptive"] = ~who["would_self_serve"] & (rng.random(n) < np.array([k.receptive for k in kind]))
    who["would_win"] = who["receptive"] & (rng.random(n) < 0.75)
    potential = np.maximum(who["arr"], 240 * np.maximum(0.2 * who["employees"], who["seats"]))
    who["deal_amount"] = (potential * rng.uniform(0.6, 1.1, n)).round(-2)
    who["deal_days"] = rng.uniform(4, 17, n)

    solo = (who["segment"] == "solo").to_numpy()
    who["in_crm"] = ~solo & (rng.random(n) >= 0.03)
    who["crm_has_id"] = who["in_crm"] & (rng.random(n) < 0.6)
    who["crm_account_id"] = [
        record_id("001", int(i)) if c else None for i, c in zip(who["number"], who["in_crm"], strict=True)
    ]
    who["owned"] = who["in_crm"] & (rng.random(n) < np.where(who["size"] == "small", 0.3, 0.7))
    who["owner"] = rng.random(n)  # a draw from which crm.owner_of chooses a rep of the account's region


def _users(rng: np.random.Generator, who: pd.DataFrame) -> pd.DataFrame:
    """The users of every account; user 0 signs the account up, the others are invited."""
    n = who["seats"].where(who["segment"] != "customer", np.minimum(who["seats"], 20)).to_numpy()
    n = np.where(who["segment"] == "ripening", np.maximum(n, 6), np.maximum(n, 1))
    account = np.repeat(np.arange(len(who)), n)
    k = np.arange(len(account)) - np.repeat(np.cumsum(n) - n, n)
    of = who.iloc[account].reset_index(drop=True)
    total = len(account)

    # Early users join within days; in a ripening account most join as it ripens (two or three are there before).
    early = of["signed_up"] + rng.exponential(3.0, total) * np.minimum(k, 6) ** 0.8
    with_ramp = of["ripe"] + rng.uniform(-13, 8, total)
    ramp = np.isfinite(of["ripe"]) & (k >= 3)
    joined = np.where(k == 0, of["signed_up"], np.maximum(np.where(ramp, with_ramp, early), of["signed_up"] + 0.05))
    joined = np.where(
        k == 0, joined, np.maximum(np.floor(joined) + rng.uniform(9.5, 17, total) / 24, of["signed_up"] + 0.05)
    )

    free = _pick(rng, FREE_MAIL, total, [0.7, 0.2, 0.1])
    mail_host = np.where(of["domain"].isna(), free, of["domain"].fillna("").astype(object))
    # Freelancers in an organisation identified by a group id; offices with their own mail subdomain.
    freelancer = (of["account_basis"] == "group") & (k > 0) & (rng.random(total) < 0.04)
    office = ~freelancer & of["domain"].notna() & (rng.random(total) < 0.05)
    mail_host = np.where(freelancer, free, np.where(office, [f"mail.{h}" for h in mail_host], mail_host))
    user_id = [f"u_{a:05d}_{i:02d}" for a, i in zip(of["number"], k, strict=True)]
    skewed = rng.random(total) < 0.02
    return pd.DataFrame(
        {
            "account": account,
            "k": k,
            "user_id": user_id,
            "email": [f"simulated.{u.replace('_', '.')}@{h}" for u, h in zip(user_id, mail_host, strict=True)],
            "name": [
                f"{_FIRST[(5 * a + 7 * i) % len(_FIRST)]} {_LAST[(3 * a + i) % len(_LAST)]}"
                for a, i in zip(of["number"], k, strict=True)
            ],
            "title": _pick(rng, _TITLES, total),
            "role": np.where(k == 0, "admin", "member"),
            "joined": joined,
            "hour": rng.normal(11.5, 1.6, total),  # the middle of a user's day, local
            "spread": rng.uniform(1.2, 2.6, total),
            "diligence": np.where(k == 0, 1.05, rng.uniform(0.75, 1.0, total)),
            "clock_skew": np.where(skewed, rng.uniform(-3 * 3600, 1.5 * 3600, total), 0.0),  # seconds a device is off
            "amplitude_id": rng.integers(10**10, 4 * 10**14, total),
            "mobile": rng.random(total) < 0.15,
        }
    )


def _checkouts(rng: np.random.Generator, who: pd.DataFrame, users: pd.DataFrame) -> pd.DataFrame:
    """Self-serve checkouts: `started`, `ended` (days), `outcome` completed | abandoned | silent, what is bought.

    A silent checkout has no further event; only the time that passes shows that it was abandoned.
    """
    n = len(who)
    ripens = np.isfinite(who["ripe"]).to_numpy()
    mean = np.array([_SEGMENT[s].checkout_days for s in who["segment"]]) * np.where(who["keen"], 1, 6)
    first = np.maximum(who["activates"], 0) + rng.exponential(np.maximum(mean, 1))
    first = np.where(ripens, np.where(who["would_self_serve"], who["ripe"] + rng.uniform(1, 12, n), NEVER), first)
    attempts = []
    start = first
    for attempt in range(2):
        mine = np.flatnonzero(np.isfinite(start))
        outcome = rng.choice(["completed", "abandoned", "silent"], size=n, p=[0.5, 0.25, 0.25])
        if attempt:
            outcome = np.where(rng.random(n) < 0.6, "completed", outcome)
        quick = rng.random(n) < 0.55
        hours = np.select(
            [outcome == "silent", (outcome == "completed") & quick],
            [72.0, rng.uniform(0.05, 0.4, n)],
            rng.uniform(3, 60, n),
        )
        begun = np.floor(start) + rng.uniform(9, 16.5, n) / 24
        begun = np.maximum(begun, np.maximum(who["activates"], who["signed_up"]) + 0.02)
        attempts.append(
            pd.DataFrame(
                {"account": mine, "started": begun[mine], "ended": (begun + hours / 24)[mine], "outcome": outcome[mine]}
            )
        )
        again = (outcome != "completed") & (rng.random(n) < 0.5)
        start = np.where(again & np.isfinite(start), begun + hours / 24 + rng.uniform(4, 20, n), NEVER)
    checkouts = pd.concat(attempts, ignore_index=True)
    plan = who["plan"].map({"free": "team", "team": "business", "business": "business"}).iloc[checkouts["account"]]
    seats = np.maximum(who["seats"].iloc[checkouts["account"]].to_numpy(), rng.integers(2, 9, len(checkouts)))
    checkouts["plan"] = plan.to_numpy()
    checkouts["seats"] = seats
    checkouts["arr"] = seats * plan.map(SEAT_PRICE_YEAR).to_numpy()
    return checkouts.sort_values(["started", "account"], ignore_index=True)
