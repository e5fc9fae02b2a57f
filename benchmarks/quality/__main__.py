"""Plant seventeen faults in a simulated year, and count what is found and what is stopped without one.

`python -m benchmarks.quality [--data FOLDER] [--hourly DAYS …]`: the folder holds answers of Amplitude's Export API of
a real product (`*.zip`, also in folders of it); its days are judged as they are. Without `--policy`, its three most
frequent events are judged as if they were the checkout events, which stop a run when they fall silent, and the others
as other events. With `--hourly`, what the profile of the next run costs after so many days of hourly runs.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from onetouch.catalogue import EVENTS
from onetouch.lake import Engine, Lake
from onetouch.policy import Limits, Policy, read_policy
from onetouch.quality.history import HISTORY_DAYS, unusual
from onetouch.quality.names import event_names, told
from onetouch.quality.profile import batch_rates, volume
from onetouch.quality.suites import stale_after
from onetouch.quality.tally import tallied
from onetouch.simulation import simulate
from rich.console import Console
from rich.table import Table

from benchmarks.quality.faults import FAULTS
from benchmarks.quality.hourly import costs

SEED = 12
START = datetime(2025, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
HOURS = tuple(pd.Timedelta(hours=hours) for hours in (6, 12, 18))
WARM_UP = 30  # days of history before a day is judged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, default=100)
    parser.add_argument("--days", type=int, default=430, help="simulated; the first weeks are history")
    parser.add_argument("--dates", type=int, default=12, help="days on which each fault is planted")
    parser.add_argument("--times", type=int, default=16, help="size of the larger company of the first table")
    parser.add_argument("--exports", type=Path, help="exports that a simulation has written")
    parser.add_argument("--data", type=Path, help="real answers, judged as they are")
    parser.add_argument("--policy", type=Path, help="the policy that reads the real answers")
    parser.add_argument("--hourly", type=int, nargs="+", metavar="DAYS", help="cost of a check after hourly runs")
    arguments = parser.parse_args()
    console = Console()
    if arguments.hourly:
        for days, seconds, of_cpu in costs(tuple(arguments.hourly)):
            console.print(
                f"after {days} days of hourly runs, the next profile takes {seconds:.2f} s ({of_cpu:.2f} of CPU)"
            )
        return
    if arguments.data:
        events = _events(arguments.data)
        policy = read_policy(arguments.policy) if arguments.policy else _as_checkouts(events)
        _false_alarms(console, World(events, policy), arguments.data.name)
        return
    with tempfile.TemporaryDirectory(prefix="onetouch-quality-") as folder:
        exports = arguments.exports
        if exports is None:
            until = START + arguments.days * DAY
            simulate(Path(folder), seed=SEED, start=START, until=until, accounts=arguments.accounts)
            exports = Path(folder) / "exports"
        events = _events(exports)
        _simulated(console, World(_overlaid(events, arguments.times), read_policy()), arguments.dates)
        world = World(events, read_policy())
        _simulated(console, world, arguments.dates)
        _false_alarms(console, world, "the simulated year")


class World:
    """Canonical events with their tallies, judged at the end of a day as a run would judge them."""

    def __init__(self, events: pd.DataFrame, policy: Policy) -> None:
        self.policy = policy
        self.lake = Lake(tempfile.mkdtemp(prefix="onetouch-quality-lake-"))
        self.events = events.sort_values("received_at", ignore_index=True)
        self.day = self.events["received_at"].dt.floor("D")
        with self.lake.engine() as engine:
            self.tallies = _tallies(engine, self.events)
        first, last = self.day.min(), self.day.max()
        self.days = list(pd.date_range(first + timedelta(days=WARM_UP), last))  # the ends of days with a history

    def ordinary(self, as_of: pd.Timestamp) -> tuple[list[str], list[str]]:
        """The critical findings and the warnings of the day that ends at `as_of`, as runs at its HOURS find them."""
        critical, warnings = self._by_history(self._until(as_of), as_of)
        for hours in HOURS:
            found, _ = self._by_history(self._until(as_of - DAY + hours), as_of - DAY + hours)
            critical += [f"at {hours.components.hours}:00 {line}" for line in found]
        batch = self.events[self.day == as_of - DAY]
        if len(batch):
            known = batch["event"].isin(list(self.policy.vocabulary))
            shares = {
                "unknown_event_rate": (~known).mean(),
                "no_user_rate": batch["user_id"].isna().mean(),
                "no_account_rate": batch["account_id"].isna().mean(),
            }
            self._limit(shares, critical, warnings)
        return critical, warnings

    def planted(self, as_of: pd.Timestamp, batch: pd.DataFrame) -> tuple[list[str], list[str]]:
        """The critical findings and the warnings at `as_of`, with `batch` instead of the last day's events."""
        counts = self._until(as_of - DAY)
        with self.lake.engine() as engine:
            counts = pd.concat([counts, _tallies(engine, batch)], ignore_index=True)
            critical, warnings = self._by_history(counts, as_of)
            if len(batch):
                table = engine.table(batch, "batch")
                names = event_names(engine, table, self.policy)
                self._limit(dict(batch_rates(engine, table, self.policy, names).iloc[0]), critical, warnings)
                warnings += told(names)
        return critical, warnings

    def _until(self, as_of: pd.Timestamp) -> pd.DataFrame:
        """The tallies that a run at `as_of` has."""
        end, counts = as_of.tz_localize(None), self.tallies
        return counts[(counts["event_date"] > end - timedelta(days=HISTORY_DAYS + 1)) & (counts["at"] < end)]

    def _by_history(self, counts: pd.DataFrame, as_of: pd.Timestamp) -> tuple[list[str], list[str]]:
        moment = as_of.to_pydatetime()
        found = unusual(counts, self.policy, moment)
        critical = [one.says for one in found if one.severity == "critical"]
        warnings = [one.says for one in found if one.severity != "critical"]
        self._limit(dict(volume(counts, self.policy, moment).iloc[0]), critical, warnings)
        return critical, warnings

    def _limit(self, figures: Mapping[Any, Any], critical: list[str], warnings: list[str]) -> None:
        """Adds the figures that pass a limit of the policy."""
        for figure, key, lower in _LIMITED:
            value, limits = figures.get(figure), getattr(self.policy.quality, key)
            if figure == "hours_since_last_event":
                limits = stale_after(figures, self.policy)
            assert isinstance(limits, Limits)
            if value is None or pd.isna(value):
                continue
            for severity, line in (("critical", critical), ("warning", warnings)):
                limit = getattr(limits, severity)
                if value < limit if lower else value > limit:
                    line.append(f"{figure}: {value:.3g} (limit {limit:g})")
                    break


_LIMITED = (
    ("volume_drop", "min_volume_ratio", True),
    ("volume_surge", "max_volume_ratio", False),
    ("hours_since_last_event", "max_hours_since_last_event", False),
    ("unknown_event_rate", "max_unknown_event_rate", False),
    ("no_user_rate", "max_no_user_rate", False),
    ("no_account_rate", "max_no_user_rate", False),
)


def _tallies(engine: Engine, events: pd.DataFrame) -> pd.DataFrame:
    dated = events.assign(
        known_at=events["received_at"], event_date=events["occurred_at"].dt.floor("D").dt.tz_localize(None)
    )
    found: pd.DataFrame = engine.fetch(tallied(engine.table(dated, "dated"), "event_date")).to_pandas()
    return found


def _overlaid(events: pd.DataFrame, times: int) -> pd.DataFrame:
    """The last weeks of a company so many times as large: each part is the same company, so many weeks later."""
    parts, until = [], events["received_at"].max().floor("D")
    for weeks in range(times):
        later = timedelta(weeks=weeks)
        part = events[events["received_at"].between(until - later - timedelta(days=HISTORY_DAYS + 22), until - later)]
        ids = {name: part[name] + f"~{weeks}" for name in ("event_id", "user_id", "account_id")}
        moments = {name: part[name] + later for name in ("occurred_at", "received_at")}
        parts.append(part.assign(**ids, **moments))
    return pd.concat(parts, ignore_index=True)


def _simulated(console: Console, world: World, dates: int) -> None:
    rng = np.random.default_rng(SEED)
    a_day = len(world.events) / world.day.nunique()
    counts = world.events["event"].value_counts() / world.day.nunique()
    chosen = [world.days[int(n)] for n in np.linspace(len(world.days) // 3, len(world.days) - 1, dates)]
    table = Table(
        title=f"Found within 24 hours of {dates} days of a simulated year, {a_day:,.0f} events a day "
        f"({counts.get('checkout_started', 0):.1f} checkout_started, {counts.get('checkout_completed', 0):.1f} "
        "checkout_completed)"
    )
    for column in ("fault", "critical", "warned", "quiet", "for instance"):
        table.add_column(column, justify="left" if column in ("fault", "for instance") else "right")
    usual = {as_of: set(_kinds(world.planted(as_of, world.events[world.day == as_of - DAY]))) for as_of in chosen}
    quiet = 0
    for name, plant in FAULTS.items():
        outcome = {"critical": 0, "warned": 0, "quiet": 0}
        example = ""
        for as_of in chosen:
            found = world.planted(as_of, plant(world.events[world.day == as_of - DAY], rng))
            new = [line for line in [*found[0], *found[1]] if _kind(line) not in usual[as_of]]
            outcome["critical" if found[0] else "warned" if new else "quiet"] += 1
            example = example or (new[0] if new else "")
        quiet += outcome["quiet"] * 2 > dates
        table.add_row(name, *(str(outcome[kind]) for kind in outcome), example)
    console.print(table)
    console.print(f"{quiet} of {len(FAULTS)} faults are missed on more than half of the days.")


def _kinds(found: tuple[list[str], list[str]]) -> Iterator[str]:
    return map(_kind, [*found[0], *found[1]])


def _kind(line: str) -> str:
    """What a line is about, without its numbers."""
    return "".join(letter for letter in line.split(" in the last")[0] if not letter.isdigit())[:40]


def _as_checkouts(events: pd.DataFrame) -> Policy:
    """A policy that takes the most frequent events for those that guard a guarantee, and the rest for others."""
    ours = sorted((one for one in EVENTS if one.use), key=lambda one: not one.guards)
    names = events["event"].value_counts().index
    return read_policy().changed(vocabulary={name: {"as": one.name} for name, one in zip(names, ours, strict=False)})


def _false_alarms(console: Console, world: World, what: str) -> None:
    stopped: list[pd.Timestamp] = []
    warned = 0
    for as_of in world.days:
        critical, warnings = world.ordinary(as_of)
        warned += bool(warnings)
        if critical:
            stopped.append(as_of)
            console.print(f"  {as_of - DAY:%a %Y-%m-%d}: {'; '.join(critical)}")
    days = len(world.days)
    console.print(
        f"{what}: {len(stopped)} of {days} days without a planted fault are stopped "
        f"({365 * len(stopped) / max(days, 1):.1f} a year), {warned} have a warning; "
        f"{len(world.events) / world.day.nunique():,.0f} events a day."
    )


def _events(folder: Path) -> pd.DataFrame:
    """The sound rows of answers of Amplitude's Export API as canonical events, each id once."""
    rows = [row for path in sorted(folder.rglob("*.zip")) for row in _rows(path)]
    frame = pd.DataFrame(
        rows, columns=["event_id", "event", "occurred", "received", "user_id", "account_id", "properties"]
    )
    moments = {
        name: pd.to_datetime(frame[column], utc=True, errors="coerce", format="ISO8601")
        for name, column in (("occurred_at", "occurred"), ("received_at", "received"))
    }
    frame = frame.drop(columns=["occurred", "received"]).assign(**moments, source="amplitude")
    frame = frame.dropna(subset=["event_id", "event", "occurred_at", "received_at"]).drop_duplicates("event_id")
    near = frame["occurred_at"].between(frame["received_at"] - timedelta(days=365), frame["received_at"] + DAY)
    return frame[near & (frame["user_id"].notna() | frame["account_id"].notna())]


def _rows(path: Path) -> Iterator[tuple[Any, ...]]:
    with zipfile.ZipFile(path) as answer:
        for name in answer.namelist():
            for line in io.BytesIO(gzip.decompress(answer.read(name))):
                try:
                    row = json.loads(line)
                    groups = row.get("groups") or {}
                    organisation = next(
                        (v for k in ("organisation", "company", "account") if (v := groups.get(k))), None
                    )
                except (ValueError, AttributeError):
                    continue
                if isinstance(organisation, list):
                    organisation = organisation[0]
                user = row.get("user_id")
                yield (
                    row.get("uuid"), row.get("event_type"), row.get("event_time") or row.get("client_event_time"),
                    row.get("server_upload_time"), user, organisation or user,
                    json.dumps(row.get("event_properties") or {}, sort_keys=True),
                )  # fmt: skip


if __name__ == "__main__":
    main()
