"""Reads the CRM: accounts, opportunities and reps into the lake; touches, replies and deals into the ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice
from types import MappingProxyType
from typing import Any

import pandas as pd

from onetouch.crm import MEETING, Activity, Crm, OurWrites, Row, Tell
from onetouch.crm_sync.one_touch import Move, Seen, by_people, closed_at, in_touch_at, moves, new_owner
from onetouch.events import business_domain
from onetouch.lake import Lake, read_table
from onetouch.ledger import ACTIVE, Handoff, IllegalMove, Ledger, Run, storable
from onetouch.policy import Policy
from onetouch.signals import CRM, SNAPSHOT, normalise_accounts

_AT_ONCE = 5_000
"""Activities held in memory at a time: the first reading of a large CRM goes back months."""

_AGAIN = timedelta(hours=2)
"""Ours: how long before the moment of the run before an account may have changed and is read again. That run has read
it after its moment, so this covers clocks that differ and records that become visible late."""

_LATEST = timedelta(days=2)
"""Ours: more than the time from a run's moment to its last write (`delivery.fresh_hours`, and the write itself)."""

WRITING = "write_accounts"
"""The stage that writes standings. Its summary tells of `ours`: `until` when accounts got the run's as-of, and which
were `unread`."""

_AHEAD = timedelta(days=60)
"""Ours: how far ahead a meeting may lie and still count as contact until then. A renewal date of 2099 does not."""

OPPORTUNITIES = {
    "opportunity_id": "str", "crm_account_id": "str", "account_id": "str", "stage": "str", "is_closed": "boolean",
    "is_won": "boolean", "amount": "float64", "created_at": "datetime64[us, UTC]", "closed_at": "datetime64[us, UTC]",
    "lead_source": "str", "owner_id": "str", "changed_at": "datetime64[us, UTC]",
}  # fmt: skip

CONTACTS = {
    "contact_id": "str", "kind": "str", "crm_account_id": "str", "email": "str", "email_domain": "str", "name": "str",
    "title": "str", "do_not_call": "boolean", "email_opt_out": "boolean", "changed_at": "datetime64[us, UTC]",
}  # fmt: skip
"""The people of the CRM. An opt-out is null where the CRM does not keep or show it: unknown, not "may be contacted"."""

REPS = {"owner_id": "str", "email": "str", "name": "str", "active": "boolean", "timezone": "str"}


def extract_crm(lake: Lake, ledger: Ledger, policy: Policy, run: Run, crm: Crm) -> dict[str, Any]:
    """Writes `crm/{run_id}/{reps,accounts,contacts,opportunities}.parquet`, records touches and moves handoffs on.

    The day's first run reads the whole CRM (formula fields change without a new modification time); later runs read
    what changed since the run before and take the rest from its tables. Accounts that only we have changed, by writing
    their standing, are not read again. All times are the CRM's. Reading the same record again changes nothing. An
    account's `account_id` is null until the product's account is known (`signals` joins them); a forgotten account is
    left out. A run older than what has been read already (a backfill) only writes the tables.
    Returns {"accounts", "contacts", "opportunities", "reps", "unknown_opt_outs": {"do_not_call", "email_opt_out"}: how
    many contacts each is unknown of, "warnings": which values of accounts and contacts were not read, or read otherwise
    than written} and what `follow` does.
    """
    base = _base(lake, ledger, run)
    overlap = timedelta(hours=policy.events.overlap_hours)
    since = None if base is None else base.as_of - overlap
    reps = read_reps(crm)
    lake.write(reps, "crm", run.run_id, "reps.parquet")

    known = _product_accounts(lake, run)
    warnings: list[str] = []
    opportunities = _opportunities(lake, crm, base, since, warnings.append)
    changed_since = None if base is None else base.as_of - _AGAIN
    ours = None if changed_since is None else our_writes(ledger, changed_since)
    everybody, merged = _accounts(lake, policy, crm, base, changed_since, ours, warnings.append)
    # A deal that was read before a merge and not changed by it still names the merged account.
    opportunities["crm_account_id"] = opportunities["crm_account_id"].replace(_successors(merged))
    forgotten = ledger.forgotten()
    accounts = forgotten.without(everybody)
    gone = set(everybody["crm_account_id"]) - set(accounts["crm_account_id"])
    opportunities = opportunities[~opportunities["crm_account_id"].isin(gone)].reset_index(drop=True)
    accounts = _with_owners(accounts.reset_index(drop=True), reps)
    open_ones = opportunities.loc[~opportunities["is_closed"].fillna(False), "crm_account_id"].value_counts()
    accounts["open_opportunities"] = accounts["crm_account_id"].map(open_ones).fillna(0).astype("Int64")
    accounts["deal_closed_at"] = last_closes(opportunities).reindex(accounts["crm_account_id"]).array
    ids = _account_ids(accounts, known)
    opportunities["account_id"] = opportunities["crm_account_id"].map(ids).astype("str")
    lake.write(accounts[[*SNAPSHOT, *CRM]], "crm", run.run_id, "accounts.parquet")
    contacts = _contacts(lake, crm, base, since, warnings.append)
    contacts["crm_account_id"] = contacts["crm_account_id"].replace(_successors(merged))
    contacts = forgotten.without_people(contacts)
    lake.write(contacts, "crm", run.run_id, "contacts.parquet")
    lake.write(opportunities, "crm", run.run_id, "opportunities.parquet")

    first = run.as_of - timedelta(days=policy.signals.lookback_days)
    leads = _accounts_of_leads(contacts, accounts)
    done = follow(ledger, policy, run, crm, opportunities, ids, emails_of(reps), first, leads)
    if done["followed"]:
        ledger.record_touches(_renamed(ledger, ids, first), as_of=run.as_of)
    read: dict[str, Any] = {
        "accounts": len(accounts),
        "contacts": len(contacts),
        "opportunities": len(opportunities),
        "reps": len(reps),
        "unknown_opt_outs": {name: int(contacts[name].isna().sum()) for name in ("do_not_call", "email_opt_out")},
    }
    return read | {"warnings": [f"{crm.name}: {line}" for line in warnings]} | done


# ── into the lake ────────────────────────────────────────────────────────────────────────────────


def _base(lake: Lake, ledger: Ledger, run: Run) -> Run | None:
    """The latest earlier run of the same day and policy that has read the CRM."""
    day = f"{run.as_of:%Y%m%d}T"
    ids = {path.split("/")[-2] for path in lake.list("crm") if path.endswith("/opportunities.parquet")}
    mine = sorted(i for i in ids if i.startswith(day) and i < run.run_id and run.policy_version in i)
    for run_id in reversed(mine):
        earlier = ledger.run(run_id)
        if earlier.as_of < run.as_of and lake.exists("crm", run_id, "accounts.parquet"):
            return earlier
    return None


def frame_of(rows: Iterable[Row], types: Mapping[str, str]) -> pd.DataFrame:
    """Rows as a frame of these columns and types; a missing or unreadable value is null."""
    values = [tuple(storable(row.get(name)) for name in types) for row in rows]
    frame = pd.DataFrame.from_records(values, columns=list(types))
    for name, dtype in types.items():
        if dtype.startswith("datetime64"):
            frame[name] = pd.to_datetime(frame[name], utc=True, errors="coerce", format="ISO8601")
        elif dtype == "float64":
            frame[name] = pd.to_numeric(frame[name], errors="coerce")
    return frame.astype(dict(types))


def read_reps(crm: Crm) -> pd.DataFrame:
    """Every user of the CRM; e-mails in lower case and without surrounding spaces."""
    reps = frame_of(crm.read_reps(), REPS)
    reps["email"] = reps["email"].str.strip().str.lower()
    return reps


def emails_of(reps: pd.DataFrame) -> dict[str, str | None]:
    """Owner id → e-mail of every user."""
    return dict(zip(reps["owner_id"], reps["email"].astype(object).where(reps["email"].notna(), None), strict=True))


def _updated(base: pd.DataFrame | None, changed: pd.DataFrame, gone: Collection[str], key: str) -> pd.DataFrame:
    """`changed` in place of the base's rows of the same key, without those that are gone."""
    if base is not None:
        kept = base[~base[key].isin({*changed[key], *gone})]
        changed = pd.concat([kept, changed], ignore_index=True) if len(changed) else kept
    return changed.sort_values(key, ignore_index=True)


def _living(rows: Iterable[Row], key: str, gone: dict[str, str | None]) -> Iterator[Row]:
    """The rows that are not deleted; the ids of the others are added to `gone`, with what they were merged into."""
    for row in rows:
        if row["is_deleted"]:
            gone[row[key]] = row.get("merged_into")
        else:
            yield row


def our_writes(ledger: Ledger, since: datetime) -> OurWrites:
    """The standings that runs have written on accounts since then, from the summaries of their stages."""
    until: dict[datetime, datetime] = {}
    unread: set[str] = set()
    for run in ledger.runs():
        if run.as_of < since - _LATEST:
            continue
        told = (ledger.stage_summary(run.run_id, WRITING) or {}).get("ours")
        if told and (last := datetime.fromisoformat(told["until"])) >= since:
            # Two policies may have written at the same moment: the earlier end leaves out less.
            until[run.as_of] = min(last, until.get(run.as_of, last))
            unread |= set(told["unread"])
    return OurWrites(until, frozenset(unread))


def _accounts(
    lake: Lake,
    policy: Policy,
    crm: Crm,
    base: Run | None,
    since: datetime | None,
    ours: OurWrites | None,
    tell: Tell,
) -> tuple[pd.DataFrame, dict[str, str | None]]:
    """The accounts, and those that are gone since the base: merged into another, or (None) deleted."""
    fields = [column for column, field in policy.crm.account_fields.items() if field]
    columns = ["crm_account_id", "owner_id", "account_id", "created_at", *fields]
    gone: dict[str, str | None] = {}
    rows = _living(crm.read_accounts(policy, since, ours, tell), "crm_account_id", gone)
    values = [tuple(storable(row.get(name)) for name in columns) for row in rows]
    frame = pd.DataFrame.from_records(values, columns=columns).drop_duplicates("crm_account_id", ignore_index=True)
    # Without a sign-up date in the CRM, an account is at least as old as its record.
    if "signed_up_at" not in frame:
        frame["signed_up_at"] = frame["created_at"]
    changed = normalise_accounts(frame.drop(columns="created_at"), tell=tell)
    earlier = lake.read("crm", base.run_id, "accounts.parquet") if base else None
    return _updated(earlier, changed, gone, "crm_account_id"), gone


def _opportunities(lake: Lake, crm: Crm, base: Run | None, since: datetime | None, tell: Tell) -> pd.DataFrame:
    gone: dict[str, str | None] = {}
    changed = frame_of(_living(crm.read_opportunities(since, tell), "opportunity_id", gone), OPPORTUNITIES)
    changed["closed_at"] = changed["closed_at"].where(changed["is_closed"].fillna(False))
    earlier = lake.read("crm", base.run_id, "opportunities.parquet") if base else None
    return _updated(earlier, changed, gone, "opportunity_id")


def last_closes(opportunities: pd.DataFrame) -> pd.Series:
    """CRM account id → when the last of its closed deals closed, won or lost."""
    deals = opportunities.loc[opportunities["is_closed"].eq(True), ["crm_account_id", "closed_at", "changed_at"]]
    days = deals["closed_at"].astype(object).where(deals["closed_at"].notna(), None)
    closes = [closed_at(day, changed) for day, changed in zip(days, deals["changed_at"], strict=True)]
    at = pd.Series(closes, index=deals["crm_account_id"], dtype=OPPORTUNITIES["closed_at"])
    return at.groupby(level=0).max().astype(at.dtype)


def _contacts(lake: Lake, crm: Crm, base: Run | None, since: datetime | None, tell: Tell) -> pd.DataFrame:
    """The people of the CRM; a base of a release that read none is none."""
    if base is not None and not lake.exists("crm", base.run_id, "contacts.parquet"):
        base = since = None
    gone: dict[str, str | None] = {}
    changed = people_of(_living(crm.read_contacts(since, tell), "contact_id", gone))
    earlier = lake.read("crm", base.run_id, "contacts.parquet") if base else None
    return _updated(earlier, changed, gone, "contact_id")


def people_of(rows: Iterable[Row]) -> pd.DataFrame:
    """Rows of `Crm.read_contacts` in the columns of CONTACTS."""
    contacts = frame_of(rows, CONTACTS)
    contacts["email_domain"] = contacts["email"].str.extract("@([^@]+)$", expand=False).astype("str")
    return contacts


def _accounts_of_leads(contacts: pd.DataFrame, accounts: pd.DataFrame) -> dict[str, str]:
    """Lead → the only CRM account with the domain of its address; free-mail addresses say nothing of a company."""
    domains = accounts[["crm_account_id", "domain"]].dropna().drop_duplicates("domain", keep=False)
    of_domain = domains.set_index("domain")["crm_account_id"]
    leads = contacts.loc[contacts["kind"] == "lead", ["contact_id", "email_domain"]].dropna()
    known = {host: business_domain(host) for host in leads["email_domain"].unique()}
    found = leads.assign(account=leads["email_domain"].map(known).map(of_domain)).dropna()
    return dict(zip(found["contact_id"], found["account"], strict=True))


def _with_owners(accounts: pd.DataFrame, reps: pd.DataFrame) -> pd.DataFrame:
    """Adds owner e-mail and activity from the users: a change of a user does not mark its accounts as changed."""
    users = reps.set_index("owner_id")
    accounts = accounts.copy()
    accounts["owner_email"] = accounts["owner_id"].map(users["email"]).astype("str")
    accounts["owner_active"] = accounts["owner_id"].map(users["active"]).astype("boolean")
    return accounts


def _product_accounts(lake: Lake, run: Run) -> pd.Series:
    """CRM id → account id as the latest earlier run joined them; empty before the first."""
    earlier = [p for p in lake.list("signals") if p.rsplit("/", 1)[1] < f"{run.run_id}.parquet"]
    if not earlier:
        return pd.Series(dtype="str")
    last = earlier[-1].rsplit("/", 1)[1]
    joined: pd.DataFrame = read_table(lake, "signals", last, columns=["crm_account_id", "account_id"]).to_pandas()
    joined = joined.dropna().drop_duplicates("crm_account_id")
    return joined.set_index("crm_account_id")["account_id"]


def _account_ids(accounts: pd.DataFrame, known: pd.Series) -> dict[str, str]:
    """CRM id → account id: our external id, else the id last joined, else `crm:{id}` until one is joined."""
    own = accounts["account_id"]
    ids = own.where(own.notna(), accounts["crm_account_id"].map(known))
    ids = ids.where(ids.notna(), "crm:" + accounts["crm_account_id"])
    return dict(zip(accounts["crm_account_id"], ids, strict=True))


# ── into the ledger ──────────────────────────────────────────────────────────────────────────────


def follow(
    ledger: Ledger,
    policy: Policy,
    run: Run,
    crm: Crm,
    opportunities: pd.DataFrame,
    ids: Mapping[str, str],
    emails: Mapping[str, str | None],
    first: datetime,
    leads: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """Records touches and moves handoffs on, from what changed in the CRM since the watermark less the overlap.

    `first`: start of the first reading of a CRM; `ids`: CRM account → account; `emails`: user → e-mail;
    `leads`: lead → the CRM account it works for, whose activity it then is, unless it was handed over itself. A run
    behind the watermark does nothing: the CRM shows only the present, which lies in that run's future, and the run that
    set the watermark has recorded it.
    Returns {"touches", "moved": {state: n}, "relinked", "reassigned", "followed": whether it did any of it}.
    """
    # The name dates from when only tasks were read; renaming it would lose the watermark.
    source = f"{crm.name}_tasks"
    read_until = ledger.watermark(source)
    if read_until is not None and run.as_of < read_until:
        return {"touches": 0, "moved": {}, "relinked": 0, "reassigned": 0, "followed": False}
    window = ledger.window(run, source, timedelta(hours=policy.events.overlap_hours), first)
    gone = crm.gone_since(window.start)
    successors = _successors(gone)
    relinked = ledger.relink(successors) if successors else 0

    ledger.rename_reps(emails)
    active = ledger.handoffs(states=ACTIVE)
    of_account = {handoff.crm_account_id for handoff in active if handoff.crm_account_id}
    of_handoff = {handoff.handoff_id for handoff in active}
    # Leads are handed over, too, but are not in the snapshot of accounts.
    known = {str(h.crm_account_id): h.account_id for h in active} | dict(ids)
    known |= {old: known[new] for old, new in successors.items() if new in known}
    touched, kept = 0, list[Activity]()
    theirs = {lead: account for lead, account in leads.items() if lead not in of_account}
    logged = (
        replace(a, crm_account_id=theirs[a.crm_account_id]) if a.crm_account_id in theirs else a
        for a in crm.read_activities(window.start)
    )
    activities = by_people(logged, policy.crm.automation, emails)
    while chunk := list(islice(activities, _AT_ONCE)):
        rows = _touches(ledger, run, chunk, known, emails)
        ledger.record_touches(rows, as_of=run.as_of)
        touched += len(rows)
        kept += [a for a in chunk if a.crm_account_id in of_account or a.handoff_id in of_handoff]

    seen = _seen(crm, active, kept, opportunities, {crm_id for crm_id, successor in gone.items() if successor is None})
    steps = {
        handoff.handoff_id: moves(handoff, shown, emails, run.as_of, policy.handoff.reply_days)
        for handoff, shown in seen
    }
    moved = move_on(ledger, run, steps)
    reassigned = _reassign(ledger, seen, emails)
    ledger.advance_watermark(source, window.end)
    return {"touches": touched, "moved": moved, "relinked": relinked, "reassigned": reassigned, "followed": True}


def _successors(gone: Mapping[str, str | None]) -> dict[str, str]:
    """Merged account → the surviving account, also through several merges."""
    merged = {crm_id: successor for crm_id, successor in gone.items() if successor is not None}

    def last(crm_id: str) -> str:
        passed = {crm_id}
        while merged.get(crm_id, crm_id) not in passed:
            crm_id = merged[crm_id]
            passed.add(crm_id)
        return crm_id

    return {crm_id: last(crm_id) for crm_id in merged}


def _touches(
    ledger: Ledger, run: Run, activities: list[Activity], ids: Mapping[str, str], emails: Mapping[str, str | None]
) -> list[Row]:
    """Reps' activities as rows for `record_touches`, without tasks we closed and tasks of handoffs ended untouched."""
    done = [
        (activity, at, ids[activity.crm_account_id])
        for activity in activities
        if activity.crm_account_id and activity.crm_account_id in ids and (at := in_touch_at(activity, run.as_of))
    ]
    accounts = {account_id for activity, _, account_id in done if activity.handoff_id}
    ended = ledger.handoffs(states=["withdrawn", "expired"], account_ids=accounts) if accounts else []
    unseen = {handoff.handoff_id for handoff in ended if handoff.touched_at is None}
    rows = []
    for activity, at, account_id in done:
        if activity.handoff_id in unseen and not activity.outcome:
            continue
        # A future meeting counts as contact until it takes place; one too far ahead counts when it was arranged.
        ends = activity.done_at if activity.kind == MEETING else None
        ahead = ends is not None and run.as_of < ends <= run.as_of + _AHEAD
        rows.append(
            {
                "touch_id": activity.activity_id,
                "account_id": account_id,
                "owner_email": emails.get(activity.owner_id or ""),
                "at": max(at, run.as_of) if ahead else at,
                "kind": activity.kind,
                "outcome": activity.outcome,
                "disposition": activity.disposition,
                "handoff_id": activity.handoff_id,
            }
        )
    return rows


def _renamed(ledger: Ledger, ids: Mapping[str, str], since: datetime) -> list[Row]:
    """Touches kept under `crm:{id}` whose account is known by now, with its account id."""
    waiting = {f"crm:{crm_id}": name for crm_id, name in ids.items() if name != f"crm:{crm_id}"}
    touches = ledger.touches(since=since)
    found = touches[touches["account_id"].isin(set(waiting))]
    found = found.assign(account_id=found["account_id"].map(waiting))
    return [{str(k): v for k, v in row.items()} for row in found.to_dict("records")]


def _seen(
    crm: Crm, active: list[Handoff], activities: list[Activity], opportunities: pd.DataFrame, deleted: set[str]
) -> list[tuple[Handoff, Seen]]:
    """What changed in the CRM for each handoff.

    Tasks are looked up by key only where a run that crashed may have written one without recording it.
    """
    tasks: dict[str, Activity] = {}
    of_account: dict[str, list[Activity]] = {}
    for activity in activities:
        key = activity.handoff_id
        if key and not activity.follow_up and (key not in tasks or not activity.is_deleted):
            tasks[key] = activity
        of_account.setdefault(activity.crm_account_id or "", []).append(activity)
    tasks |= crm.tasks_of(h.handoff_id for h in active if h.state == "context_written")

    deals: dict[str, list[Row]] = {}
    since = min((handoff.decided_at for handoff in active), default=None)
    if since is not None:
        theirs = opportunities[
            opportunities["crm_account_id"].isin({handoff.crm_account_id for handoff in active})
            & (opportunities["created_at"] >= since)
        ]
        for deal in theirs.astype(object).where(theirs.notna(), None).to_dict("records"):
            deals.setdefault(deal["crm_account_id"], []).append({str(k): v for k, v in deal.items()})
    return [
        (
            handoff,
            Seen(
                tasks.get(handoff.handoff_id),
                [
                    activity
                    for activity in of_account.get(handoff.crm_account_id or "", [])
                    if activity.key != handoff.handoff_id
                ],
                deals.get(handoff.crm_account_id or "", []),
                handoff.crm_account_id in deleted,
            ),
        )
        for handoff in active
    ]


def move_on(ledger: Ledger, run: Run, steps: Mapping[str, list[Move]]) -> dict[str, int]:
    """Makes the moves of each handoff (id → moves). Returns state → how many reached it.

    A task found in the CRM becomes `sent` in the outbox, too, whatever state the run that wrote it left there.
    """
    adopted = {
        f"task:{handoff_id}": str(move["task_id"])
        for handoff_id, theirs in steps.items()
        for move in theirs
        if move["to_state"] == "task_open"
    }
    if adopted:
        unheard = ledger.outbox(states=["pending", "sending", "failed"], keys=adopted)
        ledger.sent_all({row.key: adopted[row.key] for row in unheard}, found=True)
    rows: dict[str, list[Row]] = {
        i: [{"handoff_id": i, "as_of": run.as_of} | step for step in theirs] for i, theirs in steps.items()
    }
    try:
        ledger.move_all([row for theirs in rows.values() for row in theirs])
        return dict(Counter(row["to_state"] for theirs in rows.values() for row in theirs))
    except IllegalMove:  # another run has moved one of them meanwhile: the next run reads its new state
        moved: Counter[str] = Counter()
    for theirs in rows.values():
        try:
            ledger.move_all(theirs)
        except IllegalMove:
            continue
        moved.update(row["to_state"] for row in theirs)
    return dict(moved)


def _reassign(ledger: Ledger, seen: Iterable[tuple[Handoff, Seen]], emails: Mapping[str, str | None]) -> int:
    """Gives handoffs the rep their task was reassigned to. Returns how many."""
    passed = {handoff.handoff_id: owner for handoff, shown in seen if (owner := new_owner(handoff, shown.task, emails))}
    for handoff_id, owner_id in passed.items():
        ledger.reassign(handoff_id, owner_id, emails[owner_id])
    return len(passed)


def timezones(lake: Lake, run_id: str) -> dict[str, str]:
    """Owner id → time zone, for the users whose time zone that run has read from the CRM."""
    if not lake.exists("crm", run_id, "reps.parquet"):
        return {}
    reps = lake.read("crm", run_id, "reps.parquet").dropna(subset=["owner_id", "timezone"])
    return dict(zip(reps["owner_id"], reps["timezone"], strict=True))
