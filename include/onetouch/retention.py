"""Deletes what the policy's `retention` no longer keeps, without changing what later runs read and decide.

Whole files are deleted, oldest first: raw windows that are staged, months of events with what is summed up of them by
the day, the files of runs, and rows of the ledger that nothing reads. What outlives them: which files were read, the
first times and memberships of each month, handoffs with their moves, the keys of everything sent, and a record of what
was pruned (`lake.pruned_months`, `Ledger.pruned_runs`).

The record is written before a file is deleted. Whoever reads goes by the record, so that a deletion that was killed
changes nothing, and the next call finishes it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from onetouch import events, quality, signals, sources
from onetouch.lake import Pruned, PrunedMonth, pruned_months, record_pruned
from onetouch.policy import Policy, PolicyError

if TYPE_CHECKING:
    from onetouch.lake import Lake
    from onetouch.ledger import Ledger, Run

Summary = dict[str, Any]

BY_DATE = ("events", "activity", "memberships", "profiles", "tallies")
"""Folders of the lake with a folder `event_date=…` for each date: the events, and what is made of them by the day."""

TABLES = ("signals", "people", "scores", "decisions", "audience")
"""Folders of the lake with a file for each run."""

FOLDERS = ("inputs", "crm", "shadow", "quality")
"""Folders of the lake with a folder for each run."""


# ── what the policy itself reads ─────────────────────────────────────────────────────────────────────────────────────


class Reach(NamedTuple):
    """How many days back something reads, and the keys of the policy it comes from, in words."""

    days: int
    by: str


def reaches(policy: Policy) -> dict[str, list[Reach]]:
    """For each key of `retention`, everything that reads what the key keeps, and how many days back.

    A day is added where a moment within a day counts, and a week for the report, which is about the week before.
    """
    seen, assigned, handoff = policy.signals, policy.assignment, policy.handoff
    overlap = Reach(_days(policy.events.overlap_hours) + 1, "events.overlap_hours")
    fresh = Reach(_days(policy.delivery.fresh_hours) + 1, "delivery.fresh_hours")
    weeks = 7 * policy.report.weeks + 7
    patience = _days(handoff.expires_hours) + handoff.touches * handoff.silence_days
    matured = weeks + max(policy.report.close_within_days, policy.report.opportunity_within_days, patience)
    sent = max((sources.source_of(name).shape.sent_days for name in policy.sources), default=0)
    # Whole days of any zone reach two dates further back (signals.days).
    windows = max(seen.lookback_days, seen.recent_days, seen.engagement_days) + 2
    return {
        "raw_days": [overlap, fresh],
        "events_days": [
            Reach(windows + weeks, "the windows of signals (lookback_days) in the report's first week (report.weeks)"),
            Reach(windows, "the windows of signals (lookback_days, recent_days, engagement_days)"),
            Reach(quality.HISTORY_DAYS + 1, "the history that an event is held against"),
            Reach(2 * policy.quality.trailing_days + 2, "quality.trailing_days, twice"),
            Reach(policy.routing.bought_days + 1, "routing.bought_days"),
            Reach(_days(seen.checkout_abandoned_hours) + 1, "signals.checkout_abandoned_hours"),
            Reach(sent + 1, "a vendor's window for events that are sent again"),
            overlap,
        ],
        "runs_days": [
            Reach(policy.scoring.trend_days + 1, "scoring.trend_days"),
            Reach(_days(assigned.queue_hours) + 1, "assignment.queue_hours"),
            Reach(_days(policy.delivery.approval_hours) + 1, "delivery.approval_hours"),
            Reach(8, "the weekly report, which shows the last run of its week"),
            fresh,
        ],
        "ledger_days": [
            Reach(matured + (policy.retention.runs_days or 0), "retention.runs_days and the report's cohorts (report)"),
            Reach(windows, "signals.lookback_days, for which touches are read again"),
            Reach(_returns(policy) + 1, "routing.cooldown_days and routing.returns"),
            Reach(patience + 1, "handoff.expires_hours, touches and silence_days"),
            Reach(handoff.reply_days + 1, "handoff.reply_days"),
            Reach(policy.quality.trailing_days + 1, "quality.trailing_days"),
        ],
    }


def check_retention(policy: Policy, where: object = "policy", *, of: Policy | None = None) -> None:
    """Raises PolicyError, a line for each key of `retention` that keeps less than the policy reads.

    `of`: the policy whose `retention` counts, if it is another (a shadow policy reads what the live one keeps).
    """
    keeps, wrong = (of or policy).retention, []
    for key, reads in reaches(policy).items():
        days, most = getattr(keeps, key), max(reads)
        if days is not None and days < most.days:
            wrong.append(
                f"{where}: retention.{key}: {days} is less than the {most.days} days that are read by {most.by}; "
                f"set it to {most.days} or more, or to null"
            )
    if keeps.ledger_days is not None and keeps.runs_days is None:
        wrong.append(
            f"{where}: retention.ledger_days: {keeps.ledger_days} without runs_days: runs that are kept for ever would "
            "be reported without their touches; set runs_days as well, or ledger_days to null"
        )
    if wrong:
        raise PolicyError("\n".join(wrong))


def _returns(policy: Policy) -> int:
    """The longest that the end of a handoff is looked back to, in days."""
    returns = policy.routing.returns
    lengths = (returns.lost_days, returns.won_days, returns.untouched_days, returns.same_rep_days)
    return max(policy.routing.cooldown_days, *(days or 0 for days in lengths))


def _days(hours: int) -> int:
    return -(-hours // 24)


def require_memory(ledger: Ledger, policy: Policy, as_of: datetime) -> None:
    """Raises Pruned for a run of a moment whose earlier runs were pruned: it would decide as if there had been none."""
    last = ledger.last_pruned()
    if last is None:
        return
    first = last.as_of + timedelta(days=policy.scoring.trend_days)
    if as_of <= first:
        raise Pruned(
            f"as_of {as_of.isoformat()}: a run reads those of {policy.scoring.trend_days} days before it "
            f"(scoring.trend_days), and runs up to {last.as_of.isoformat()} were {last.says}; give a moment after "
            f"{first.isoformat()}"
        )


# ── pruning ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def prune(
    lake: Lake, ledger: Ledger, policy: Policy, as_of: datetime, *, beside: Iterable[Policy] = (), dry_run: bool = False
) -> Summary:
    """Deletes what is older at `as_of` than the policy's `retention` says; a repeated call finds nothing left to do.

    Returns {"as_of", "dry_run", "raw": {"windows", "files", "bytes", "not_staged" (old windows that are kept, because
    no run has staged them)}, "events": {"months": [yyyy-mm], "files", "bytes"}, "runs": {"runs", "files", "bytes",
    "in_use" (old runs that are kept, because something is still read of them)}, "ledger": rows by kind
    (`Ledger.prune_rows`)}; a part that is kept for ever is null. `beside`: further policies that read the same lake.
    `dry_run`: only says what would be deleted.

    Waits for runs that read or stage a source or sum up activity; they wait for it. Raises PolicyError if a policy
    reads further back than `retention` keeps, LedgerError when another process does not end in time.
    """
    others = list(beside)
    for one in (policy, *others):
        check_retention(one, of=policy)
    keep = policy.retention
    broom = _Broom(lake, dry_run)
    done: Summary = {"as_of": as_of.isoformat(), "dry_run": dry_run}
    with _alone(lake, ledger, policy, dry_run) as still_alone:
        done["raw"] = None if keep.raw_days is None else _raw(broom, ledger, as_of - timedelta(days=keep.raw_days))
        if keep.events_days is None:
            done["events"] = None
        else:
            done["events"] = _events(broom, [policy, *others], as_of, keep.events_days, still_alone)
        done["runs"] = None if keep.runs_days is None else _runs(broom, ledger, policy, as_of, keep.runs_days)
        rows = keep.ledger_days
        done["ledger"] = None if rows is None else ledger.prune_rows(as_of - timedelta(days=rows), dry_run=dry_run)
    return done


@contextmanager
def _alone(lake: Lake, ledger: Ledger, policy: Policy, dry_run: bool) -> Iterator[Callable[[], None]]:
    """While no other process reads, stages or sums up anything; a dry run waits for nobody."""
    with ExitStack() as stack:
        locks: list[Callable[[], None]] = []
        if not dry_run:
            for source in sorted({*policy.sources, *lake.folders("raw"), *lake.folders("quarantine")}):
                locks += [stack.enter_context(ledger.alone_at(source, task)) for task in ("extract", "stage")]
            locks.append(stack.enter_context(ledger.alone("signals")))

        def still_alone() -> None:
            for lock in locks:
                lock()

        yield still_alone


class _Broom:
    """Deletes files and folders of the lake, or only counts them."""

    def __init__(self, lake: Lake, dry_run: bool) -> None:
        self.lake, self.dry_run = lake, dry_run

    def sweep(self, places: Iterable[tuple[str, ...]]) -> dict[str, int]:
        """Deletes each place if it exists; returns how many {files, bytes} that are."""
        counts = {"files": 0, "bytes": 0}
        for place in places:
            sizes = self.lake.sizes(*place)
            counts["files"] += len(sizes)
            counts["bytes"] += sum(sizes)
            if not self.dry_run:
                self.lake.remove(*place)
        return counts


def _raw(broom: _Broom, ledger: Ledger, before: datetime) -> Summary:
    """Windows of raw files, and rejected rows, of runs of before that moment that have staged them.

    What a run has read stays in the ledger, so nothing is read again.
    """
    lake, runs = broom.lake, ledger.runs()
    old = {run.run_id for run in runs if run.as_of < before}
    windows: list[tuple[str, ...]] = []
    rejected: list[tuple[str, ...]] = []
    not_staged = 0
    for source in lake.folders("raw"):
        if source in sources.SOURCES and not broom.dry_run:
            sources.remember_files(source, lake, ledger)  # an earlier release noted them in the raw folders alone
        staged = {run.run_id for run in ledger.runs_of(source)}
        for run_id in (name for name in lake.folders(f"raw/{source}") if name in old):
            if run_id in staged:
                windows.append(("raw", source, run_id))
            else:
                not_staged += 1
    for source in lake.folders("quarantine"):
        batches = {f"{events.batch_of(source, run)}.parquet" for run in runs if run.run_id in old}
        rejected += [("quarantine", source, name) for name in lake.folders(f"quarantine/{source}") if name in batches]
    return {"windows": len(windows), **broom.sweep([*windows, *rejected]), "not_staged": not_staged}


def _events(
    broom: _Broom, policies: list[Policy], as_of: datetime, days: int, still_alone: Callable[[], None]
) -> Summary:
    """Whole months of events whose last date is more than `days` ago, and what is made of them by the day.

    What is kept of a month for ever is brought up to date first. The newest month stays, however old: it says how long
    a source has been silent. What only dry runs have staged is deleted without a summary.
    """
    lake, first = broom.lake, as_of.date() - timedelta(days=days)
    real = events.by_month(events.files_by_date(lake, dry=False))
    dated = sorted({_month(name) for room in BY_DATE for name in lake.folders(room)} - {""})
    staged = {_month(name) for name in lake.folders("events")} - {""}
    newest = {max(real, default=""), max(staged, default="")}
    pruned = pruned_months(lake)
    due = [month for month in real if _is_over(month, first) and month not in newest]
    if not broom.dry_run and due:
        for month in due:
            pruned[month] = _summed_up(lake, policies, real[month], PrunedMonth(month, as_of, days, as_of, ""))
        still_alone()
        record_pruned(lake, pruned)
    gone = {*pruned, *due, *(m for m in dated if m not in real and m not in newest and _is_over(m, first))}
    places = [(room, name) for room in BY_DATE for name in lake.folders(room) if _month(name) in gone]
    return {"months": due, **broom.sweep(places)}


def _summed_up(lake: Lake, policies: list[Policy], dates: dict[date, list[str]], month: PrunedMonth) -> PrunedMonth:
    """The month with the name of its history, which is brought up to date, and when its last event became known.

    A history that was made under another policy may be older than the last events, so it is deleted.
    """
    live, *beside = (signals.summed_for_ever(lake, policy, dates, month.month) for policy in policies)
    kept = {live[0], *(name for name, _ in beside)}
    for_ever = {"history": kept, "memberships": {"memberships.parquet"}, "profiles": {"profiles.parquet"}}
    for folder, names in for_ever.items():
        for name in lake.folders(f"{folder}/month={month.month}"):
            if name not in names:
                lake.remove(folder, f"month={month.month}", name)
    return PrunedMonth(month.month, month.at, month.days, live[1], live[0])


def _month(folder: str) -> str:
    """The month of a folder `event_date=…`; empty for any other."""
    found = re.fullmatch(r"event_date=(\d{4}-\d{2})-\d{2}", folder)
    return found[1] if found else ""


def _is_over(month: str, first: date) -> bool:
    return events.month_end(month) < first


def _runs(broom: _Broom, ledger: Ledger, policy: Policy, as_of: datetime, days: int) -> Summary:
    """The files of runs of more than `days` ago that neither a later run nor delivery can still read."""
    lake, before = broom.lake, as_of - timedelta(days=days)
    tables = {room: {name.removesuffix(".parquet") for name in lake.folders(room)} for room in TABLES}
    folders = {room: set(lake.folders(room)) for room in FOLDERS}
    old = [run for run in ledger.runs() if run.as_of < before]
    kept = ledger.runs_in_use() | _still_read(lake, ledger, policy, tables, folders["crm"])
    due = [run.run_id for run in old if run.run_id not in kept]
    in_use = [run for run in old if run.run_id in kept]
    if not broom.dry_run:
        ledger.record_pruned((run_id for run_id in due if run_id in tables["decisions"]), as_of, days)
    places: list[tuple[str, ...]] = []
    for run_id in due:
        # The decisions last: while they are there, so is the reason why the run is recorded.
        places += [(room, run_id) for room in FOLDERS if run_id in folders[room]]
        places += [(room, f"{run_id}.parquet") for room in TABLES if run_id in tables[room]]
    with_files = set().union(*tables.values(), *folders.values())
    return {
        "runs": len(with_files.intersection(due)),
        **broom.sweep(places),
        "in_use": len(in_use),
    }


def _still_read(
    lake: Lake, ledger: Ledger, policy: Policy, tables: dict[str, set[str]], with_crm: Collection[str]
) -> set[str]:
    """The newest runs, whatever their age: what the next run compares itself with, and goes on from.

    Of each table the newest of all runs, of those that were not dry and of real ones; the newest scores of today's
    scoring; and the newest opportunities.
    """
    runs = ledger.runs()  # the newest last
    scoring = {version: ledger.policy(version).scoring for version in {run.policy_version for run in runs}}
    kinds: list[Callable[[Run], bool]] = [lambda run: True, lambda run: not run.dry_run, lambda run: run.real]
    found: list[Run | None] = [
        next((run for run in reversed(runs) if run.run_id in held and fits(run)), None)
        for held in tables.values()
        for fits in kinds
    ]
    comparable = (r for r in reversed(runs) if r.run_id in tables["scores"])
    found.append(next((r for r in comparable if scoring[r.policy_version] == policy.scoring), None))
    crm = (r for r in reversed(runs) if r.run_id in with_crm and lake.exists("crm", r.run_id, "opportunities.parquet"))
    found.append(next(crm, None))
    return {run.run_id for run in found if run is not None}
