"""Simulates the company and writes what other systems see of it (exports, CRM records), and the truth."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from onetouch.simulation import amplitude, crm
from onetouch.simulation.activity import before, on_day, planned, to_utc, usage_share
from onetouch.simulation.customers import Cohort, cohort

_DAY = 86_400_000_000  # microseconds
_EAST = timedelta(hours=14)  # a local day begins at most this long before the UTC day of the same date


def simulate(folder: str | Path, *, seed: int, start: datetime, until: datetime, accounts: int) -> dict[str, Any]:
    """Writes `folder/exports/YYYY-MM.zip`, `folder/crm.json` and `folder/truth/*.parquet`.

    Args:
        folder: created when missing; files of an earlier simulation are replaced.
        seed: the same seed, start and accounts give the same bytes.
        start: the hour at which the exports begin. Most accounts signed up in the six weeks before; their
            onboarding is imported in the first two hours. No account can have been active on ten days before the
            second week is over, so sales-ready accounts appear from the third week on, then every week.
        until: only whole hours of receipt before it are written. A later `until` adds rows and changes none.
        accounts: number of customers after five weeks (55 % at the start; new ones keep coming at the same pace).

    Returns:
        A summary of the truth: accounts, users, rows by kind, files.

    Raises:
        ValueError: a naive time, until less than an hour after start, fewer than 20 accounts, a folder with exports
            that no simulation wrote.
    """
    start, until = _checked(start, until, accounts)
    folder = Path(folder)
    exports, truth = folder / "exports", folder / "truth"
    _clear(exports, truth)

    midnight = start.replace(hour=0)
    days = -(-(until - midnight) // timedelta(days=1))
    # At `until` the next day, and possibly the next week, has already begun in some time zone.
    cohorts = [cohort(seed, number, accounts) for number in range(2 + days // 7)]
    plans = [planned(one, seed, midnight) for one in cohorts]
    phrases = [amplitude.Phrases.of(one) for one in cohorts]

    waiting: list[amplitude.Lines] = []
    counts: list[pd.DataFrame] = []
    for one, plan, words in zip(cohorts, plans, phrases, strict=True):
        rng = np.random.default_rng([seed, one.number, 4, 0])
        waiting.append(amplitude.send(before(plan, start), words, rng, imported_at=start))
    for day in range(days + 1):
        for one, plan, words in zip(cohorts, plans, phrases, strict=True):
            if day >= (one.number - 1) * 7:
                events = on_day(one, plan, seed, midnight, day, start)
                waiting.append(amplitude.send(events, words, np.random.default_rng([seed, one.number, 4, day + 1])))
        # Events of later local days are received after this moment, so a month that ends before it is complete.
        waiting = _write_months(exports, waiting, counts, start, min(until, midnight + timedelta(days=day) - _EAST))
    _write_months(exports, waiting, counts, start, until, last=True)

    rows = pd.concat(counts).groupby(["kind", "part"], as_index=False)["n"].sum()
    rows.to_parquet(truth / "rows.parquet", index=False)
    parts: list[crm.Records] = [{"User": crm.reps(), "Account": crm.prospects(seed, accounts, start)}]
    for one in cohorts:
        arrived = one.accounts["signed_up"].to_numpy()
        signed_up = _moments(to_utc(one, midnight, np.arange(len(one.accounts)), arrived))
        parts.append(crm.records(one, signed_up + pd.Timedelta(minutes=5), seed, start))
    document = crm.merged(parts, created_before=until)
    (folder / "crm.json").write_text(json.dumps(document, indent=1))
    tables = _truth(cohorts, midnight, until)
    for name, frame in tables.items():
        frame.to_parquet(truth / f"{name}.parquet", index=False)
    return {
        "accounts": len(tables["accounts"]),
        "users": len(tables["users"]),
        "crm": {name: len(found) for name, found in document.items()},
        "rows": dict(zip(rows["kind"], rows["n"].tolist(), strict=True)),
        "files": sorted(path.name for path in exports.iterdir()),
    }


def _checked(start: datetime, until: datetime, accounts: int) -> tuple[datetime, datetime]:
    for name, moment in (("start", start), ("until", until)):
        if moment.tzinfo is None:
            raise ValueError(f"{name}={moment.isoformat()}: give a time zone, for instance +00:00")
    start, until = (moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0) for moment in (start, until))
    if until <= start:
        raise ValueError(f"until={until.isoformat()}: must be at least an hour after start ({start.isoformat()})")
    if accounts < 20:
        raise ValueError(f"accounts={accounts}: at least 20, or some kinds of customer would be missing")
    return start, until


def _clear(exports: Path, truth: Path) -> None:
    """Removes the files of an earlier simulation. Raises ValueError for exports that no simulation wrote."""
    old = list(exports.glob("*"))
    if old and not (truth / "rows.parquet").exists():
        raise ValueError(f"{exports} holds {old[0].name}, which no simulation wrote; choose another folder")
    for file in [*old, *truth.glob("*.parquet")]:
        file.unlink()
    for place in (exports, truth):
        place.mkdir(parents=True, exist_ok=True)


def _write_months(
    exports: Path,
    waiting: list[amplitude.Lines],
    counts: list[pd.DataFrame],
    start: datetime,
    complete: datetime,
    *,
    last: bool = False,
) -> list[amplitude.Lines]:
    """Writes the months that ended by `complete` (with `last`: all lines before it); returns the remaining lines."""
    month_end = complete if last else complete.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    first, end = (int(moment.timestamp()) * 1_000_000 for moment in (start, month_end))
    if not waiting or (not last and not any((part.uploaded < end).any() for part in waiting)):
        return waiting
    lines = amplitude.Lines.concat(waiting)
    due = lines.take((lines.uploaded >= first) & (lines.uploaded < end))
    counts.append(_counts(due))
    months = due.uploaded.astype("M8[us]").astype("M8[M]")
    for month in np.unique(months):
        amplitude.write(exports, due.take(months == month), month=str(month))
    return [] if last else [lines.take(lines.uploaded >= end)]


def _counts(lines: amplitude.Lines) -> pd.DataFrame:
    """The number of lines of each kind; late and imported lines among the good ones are also counted, as parts."""
    kinds = np.bincount(lines.kind, minlength=len(amplitude.KINDS))
    whole = [(kind, "whole", int(n)) for kind, n in zip(amplitude.KINDS, kinds, strict=True)]
    parts = [("late", "part", int(lines.late.sum())), ("history", "part", int(lines.history.sum()))]
    return pd.DataFrame([*whole, *parts], columns=["kind", "part", "n"])


def _moments(us: np.ndarray) -> pd.Series:
    """µs since 1970 → UTC moments; values outside the calendar's range are missing."""
    return pd.Series(pd.to_datetime(us, unit="us", utc=True))


def _truth(cohorts: list[Cohort], midnight: datetime, until: datetime) -> dict[str, pd.DataFrame]:
    """What happened until `until`, and what would happen if a rep called."""
    tables: dict[str, list[pd.DataFrame]] = {"accounts": [], "users": [], "checkouts": []}
    today = (until - midnight) / timedelta(days=1)
    for one in cohorts:
        who = one.accounts.copy()
        everyone = np.arange(len(who))
        for day, name in (
            ("signed_up", "signed_up_at"),
            ("activates", "activated_at"),
            ("ripe", "ripe_at"),
            ("fade", "faded_at"),
        ):
            known = np.where(np.isfinite(who[day]), who[day], 0.0)
            who[name] = _moments(to_utc(one, midnight, everyone, known)).where(np.isfinite(who[day]))
        who["activated"] = who["activated_at"] < until
        who["ripe_now"] = (who["ripe_at"] < until) & ~(who["faded_at"] < until)
        who["limit_share"] = np.where(who["activated"], usage_share(who, today), np.nan)

        checkouts = one.checkouts.copy()
        account = checkouts["account"].to_numpy()
        for day, name in (("started", "started_at"), ("ended", "ended_at")):
            checkouts[name] = _moments(to_utc(one, midnight, account, checkouts[day].to_numpy()))
        for key in ("account_id", "crm_account_id"):
            checkouts[key] = who[key].to_numpy()[account]
        checkouts = checkouts[checkouts["started_at"] < until]
        over = checkouts["ended_at"] < until
        checkouts["state"] = checkouts["outcome"].where(over, "in_progress").replace({"silent": "abandoned"})
        latest = checkouts.drop_duplicates("account", keep="last").set_index("account")["state"]
        who["checkout_state"] = pd.Series(everyone).map(latest).astype("str").fillna("none")

        users = one.users.copy()
        users["joined_at"] = _moments(to_utc(one, midnight, users["account"].to_numpy(), users["joined"].to_numpy()))
        users["account_id"] = who["account_id"].to_numpy()[users["account"]]
        users = users[users["joined_at"] < until]
        who["users"] = pd.Series(everyone).map(users.groupby("account").size()).fillna(0).astype(int)

        tables["accounts"].append(who[who["signed_up_at"] < until][_ACCOUNT_TRUTH])
        tables["users"].append(users[["user_id", "account_id", "email", "title", "joined_at"]])
        tables["checkouts"].append(checkouts[_CHECKOUT_TRUTH])
    return {name: pd.concat(frames, ignore_index=True) for name, frames in tables.items()}


_ACCOUNT_TRUTH = [
    "account_id", "account_basis", "name", "domain", "segment", "size", "employees", "industry", "region", "timezone",
    "plan", "seats", "arr", "signed_up_at", "activated_at", "activated", "ripe_at", "ripe_now", "faded_at", "keen",
    "users", "limit", "cap", "limit_share", "checkout_state", "in_crm", "crm_has_id", "crm_account_id", "owned",
    "would_self_serve", "receptive", "would_win", "deal_amount", "deal_days",
]  # fmt: skip
_CHECKOUT_TRUTH = ["account_id", "crm_account_id", "started_at", "ended_at", "outcome", "state", "plan", "seats", "arr"]
