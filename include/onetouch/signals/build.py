"""The stage `build_signals`: builds the activity of days with new events, then one row per account of the run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from onetouch.catalogue import EVENTS, EVENTS_BY_NAME
from onetouch.events import PROFILES, Placement, files_by_date, former_ids, last_day, read_memberships, read_profiles
from onetouch.lake import Engine, Lake, pruned_months, require_events
from onetouch.ledger import QUEUE_SECONDS, Ledger, Run
from onetouch.policy import Policy
from onetouch.signals.accounts import normalise_accounts, with_plans
from onetouch.signals.activity import build_days, build_history, read_days, sum_history
from onetouch.signals.days import UTC_ZONE, beginnings, first_date, local_hours
from onetouch.signals.enterprises import keep_enterprises, with_enterprises
from onetouch.signals.joining import MOVED_DAYS, Joined, join, other_domains
from onetouch.signals.working_days import calendars

if TYPE_CHECKING:
    import ibis.expr.types as ir

log = logging.getLogger(__name__)


def build(lake: Lake, ledger: Ledger, policy: Policy, run: Run, enterprises: list[str] | None = None) -> dict[str, Any]:
    """Writes `signals/{run_id}.parquet` and `people/{run_id}.parquet`, from the events staged and the snapshot
    `crm/{run_id}/accounts.parquet`.

    `enterprises`: the domains in the policy's file (`read_enterprises`; None: it names none), which the run keeps.
    Returns {"accounts": n, "records": how many records joined an account by which way, "warnings"}, and with such a
    file how many "enterprises" it lists; the number of rebuilt dates is logged. Raises FileNotFoundError without a
    snapshot.
    """
    snapshot = lake.read("crm", run.run_id, "accounts.parquet")
    if enterprises is not None:
        keep_enterprises(lake, run, enterprises)
        policy = with_enterprises(lake, policy, run)
    with ledger.alone("signals", wait=QUEUE_SECONDS):  # no other run replaces activity while this one reads it
        table, rebuilt, joined = built(lake, policy, snapshot, run.as_of, dry=run.dry_run, people_of=run.run_id)
    lake.write(table, "signals", f"{run.run_id}.parquet")
    log.info("%d dates of activity rebuilt", rebuilt)
    if not run.dry_run and (renamed := ledger.rename_accounts(former_ids(table["account_id"].to_pylist()))):
        log.info("%d handoffs and touches of lone persons renamed to today's account ids", renamed)
    told = {"accounts": table.num_rows, "records": joined.counts, "warnings": joined.warnings}
    return told | ({} if enterprises is None else {"enterprises": len(enterprises)})


def compute(
    lake: Lake,
    policy: Policy,
    snapshot: pd.DataFrame,
    as_of: datetime,
    *,
    dry: bool = True,
    people_of: str | None = None,
) -> tuple[pa.Table, int]:
    """The signals of all accounts as of `as_of`, sorted by account_id, and how many dates of activity were rebuilt.

    `dry`: with the events that only dry runs have staged. `people_of`: the run under whose id the people are written
    (None: they are not).
    """
    table, rebuilt, _ = built(lake, policy, snapshot, as_of, dry=dry, people_of=people_of)
    return table, rebuilt


def built(
    lake: Lake,
    policy: Policy,
    snapshot: pd.DataFrame,
    as_of: datetime,
    *,
    dry: bool = True,
    people_of: str | None = None,
) -> tuple[pa.Table, int, Joined]:
    """What `compute` returns, and how the records joined the product's accounts; arguments as there."""
    from onetouch.signals.account import account_signals  # Ibis takes a second to import
    from onetouch.signals.people import people
    from onetouch.signals.sums import Sums, product_accounts, sum_checkouts, sum_up

    files = files_by_date(lake, dry=dry)
    last, first = last_day(as_of), first_date(as_of, policy.signals.lookback_days)
    pruned = pruned_months(lake)
    require_events(pruned.values(), first, as_of, f"a run of {as_of:%Y-%m-%d %H:%M} UTC")
    with lake.engine() as engine:
        window = {day: paths for day, paths in files.items() if first <= day <= last}
        days, rebuilt = build_days(lake, engine, policy, window)
        evidence = read_days(engine, policy, days, files, as_of, "evidence")
        earlier, also_rebuilt = build_history(
            lake, engine, policy, files, first, as_of, "earlier", pruned=pruned.values()
        )
        told = {day: paths for day, paths in files.items() if day <= last}
        memberships = partial(read_memberships, lake, engine, told, as_of, pruned=pruned)
        placement = Placement(engine, memberships, policy, [evidence, earlier])
        records = normalise_accounts(snapshot)
        company = partial(_one_company, engine, other_domains(records))
        activity = engine.view(company(placement.place(evidence)), "activity")
        history = engine.keep(sum_history(company(placement.place(earlier))), "history")
        checkouts = engine.keep(sum_checkouts(company(placement.also(evidence))), "also_checkouts")
        expressions = sum_up(activity, policy, as_of)._asdict().items()
        # Computed once and kept, because the sums are small and used several times.
        sums = Sums(**{name: engine.keep(expression, f"sum_{name}") for name, expression in expressions})
        found = product_accounts(engine, sums, history, policy, as_of, MOVED_DAYS)
        product, presence = (table.to_pandas() for table in found)
        joined = join(records, product, presence)
        if policy.events.person_properties.kept:
            profiles = read_profiles(lake, engine, told, as_of, pruned=pruned)
        else:
            profiles = engine.table(PROFILES.empty_table(), "profiles")
        known, of_people = people(engine, sums, activity, profiles, policy, as_of)
        if people_of is not None:
            engine.write(known.order_by("account_id", "place"), {}, "people", f"{people_of}.parquet")
        accounts, caps, seats, unknown = with_plans(joined.accounts, policy)
        joined.warnings.extend(unknown)
        where = accounts[["timezone", "region"]].fillna({"timezone": UTC_ZONE, "region": ""}).drop_duplicates()
        places = {(UTC_ZONE, ""), *where.itertuples(index=False, name=None)}
        clocks = beginnings({zone for zone, _ in places}, policy, as_of)
        today = dict(zip(clocks["timezone"].to_pylist(), clocks["today"].to_pylist(), strict=True))
        signals = account_signals(
            engine,
            sums,
            activity,
            history,
            checkouts,
            known,
            of_people,
            engine.table(accounts, "snapshot"),
            engine.table(caps, "caps"),
            engine.table(seats, "seats"),
            engine.table(clocks, "beginnings"),
            engine.table(local_hours(today, first, as_of), "local_hours"),
            engine.table(calendars(((place, today[place[0]]) for place in places), policy), "calendars"),
            policy,
            as_of,
        )
        joined.warnings.extend(_unread(engine, activity))
        return engine.fetch(signals.order_by("account_id")), rebuilt + also_rebuilt, joined


def _unread(engine: Engine, activity: ir.Table) -> list[str]:
    """How many numbers of events could not be read, one line for each event that has some."""
    told = activity.filter(activity.event.isin([event.name for event in EVENTS if event.value]))
    summed = told.group_by("event").agg(n=told.n.sum(), unread=told.unread.sum())
    return [
        f"{row['event']}: {row['unread']:,} of {row['n']:,} events carry a value that was not read, because it is no "
        f"plain number ({EVENTS_BY_NAME[row['event']].value}); send it as a number without unit"
        for row in engine.fetch(summed.filter(summed.unread > 0).order_by("event")).to_pylist()
    ]


def _one_company(engine: Engine, others: Mapping[str, str], table: ir.Table) -> ir.Table:
    """The table with one account for all domains of a company. `others`: domain → the domain that stands for it."""
    if not others:
        return table
    named = pd.DataFrame({"other": list(others), "stands": list(others.values())}).astype("str")
    found = table.left_join(engine.table(named, "other_domains"), [("account_id", "other")])
    return found.mutate(account_id=found.stands.fill_null(found.account_id)).select(*table.columns)
