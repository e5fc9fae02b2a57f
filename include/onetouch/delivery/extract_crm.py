"""What the CRM knows: accounts, opportunities and reps into the lake; touches, replies and deals into the ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from onetouch.delivery.salesforce import CLOSED_BY_US, HANDOFF_ID, OUTCOME, Record, Salesforce
from onetouch.lake import Lake
from onetouch.ledger import ACTIVE, Handoff, IllegalMove, Ledger, Run
from onetouch.policy import Policy
from onetouch.signals import CRM, SNAPSHOT, normalise_accounts

_REPLIED = ("Replied", "Meeting booked")

OPPORTUNITIES = {
    "opportunity_id": "str", "crm_account_id": "str", "account_id": "str", "stage": "str", "is_closed": "boolean",
    "is_won": "boolean", "amount": "float64", "created_at": "datetime64[us, UTC]", "closed_at": "datetime64[us, UTC]",
    "lead_source": "str", "owner_id": "str", "changed_at": "datetime64[us, UTC]",
}  # fmt: skip

REPS = {"owner_id": "str", "email": "str", "name": "str", "active": "boolean", "timezone": "str"}


def extract_crm(lake: Lake, ledger: Ledger, policy: Policy, run: Run, salesforce: Salesforce) -> dict[str, Any]:
    """Writes `crm/{run_id}/{reps,accounts,opportunities}.parquet`, records touches and moves handoffs on.

    The day's first run reads the whole CRM (formula fields change without a trace); the others what changed since
    the run before, and take the rest from it. All times are the CRM's. What is told again changes nothing. An
    account's `account_id` is null until the product's account is known (`signals` joins them).
    Returns {"accounts", "opportunities", "reps", "touches", "moved": {state: n}}.
    """
    base = _base(lake, ledger, run)
    since = None if base is None else base.as_of - timedelta(hours=policy.events.overlap_hours)
    users = ((r["Id"], r["Email"], r["Name"], r["IsActive"], r["TimeZoneSidKey"]) for r in salesforce.read_reps())
    reps = frame_of(users, REPS)
    reps["email"] = reps["email"].str.strip().str.lower()
    lake.write(reps, "crm", run.run_id, "reps.parquet")

    known = _product_accounts(lake, run)
    opportunities = _opportunities(lake, salesforce, base, since)
    accounts = _accounts(lake, policy, salesforce, base, since)
    accounts = _with_owners(accounts, reps)
    open_ones = opportunities.loc[~opportunities["is_closed"].fillna(False), "crm_account_id"].value_counts()
    accounts["open_opportunities"] = accounts["crm_account_id"].map(open_ones).fillna(0).astype("Int64")
    ids = _account_ids(accounts, known)
    opportunities["account_id"] = opportunities["crm_account_id"].map(ids).astype("str")
    lake.write(accounts[[*SNAPSHOT, *CRM]], "crm", run.run_id, "accounts.parquet")
    lake.write(opportunities, "crm", run.run_id, "opportunities.parquet")

    first = run.as_of - timedelta(days=policy.signals.lookback_days)
    overlap = timedelta(hours=policy.events.overlap_hours)
    window = ledger.window(run, "salesforce_tasks", overlap, first)
    emails = dict(zip(reps["owner_id"], reps["email"].where(reps["email"].notna(), None), strict=True))
    touches = _touches(ledger, list(salesforce.read_tasks(window.start)), ids, emails)
    ledger.record_touches(touches + _renamed(ledger, ids, first), as_of=run.as_of)
    moved = _move_on(ledger, run, salesforce, opportunities, emails)
    ledger.advance_watermark("salesforce_tasks", window.end)
    return {
        "accounts": len(accounts),
        "opportunities": len(opportunities),
        "reps": len(reps),
        "touches": len(touches),
        "moved": moved,
    }


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


def frame_of(rows: Iterable[tuple[Any, ...]], types: Mapping[str, str]) -> pd.DataFrame:
    """Rows as a frame of these columns and types; what cannot be read is null."""
    frame = pd.DataFrame.from_records(list(rows), columns=list(types))
    for name, dtype in types.items():
        if dtype.startswith("datetime64"):
            frame[name] = pd.to_datetime(frame[name], utc=True, errors="coerce", format="ISO8601")
        elif dtype == "float64":
            frame[name] = pd.to_numeric(frame[name], errors="coerce")
    return frame.astype(dict(types))


def _merged(base: pd.DataFrame | None, changed: pd.DataFrame, deleted: set[str], key: str) -> pd.DataFrame:
    """`changed` in place of the base's rows of the same key; deleted ones are gone."""
    if base is not None:
        kept = base[~base[key].isin(set(changed[key]) | deleted)]
        changed = pd.concat([kept, changed], ignore_index=True) if len(changed) else kept
    return changed.sort_values(key, ignore_index=True)


def _accounts(
    lake: Lake, policy: Policy, salesforce: Salesforce, base: Run | None, since: datetime | None
) -> pd.DataFrame:
    fields = {column: field for column, field in policy.crm.account_fields.items() if field}
    deleted: set[str] = set()

    def rows() -> Iterable[tuple[Any, ...]]:
        for record in salesforce.read_accounts(policy, since):
            if record["IsDeleted"]:
                deleted.add(record["Id"])
            else:
                mapped = (_value(record, field) for field in fields.values())
                yield (
                    record["Id"],
                    record["OwnerId"],
                    record["Onetouch_Account_Id__c"],
                    record["CreatedDate"],
                    *mapped,
                )

    columns = ["crm_account_id", "owner_id", "account_id", "created_at", *fields]
    frame = pd.DataFrame.from_records(list(rows()), columns=columns)
    # An account the customer keeps no sign-up date for is at least as old as its record.
    if "signed_up_at" not in frame:
        frame["signed_up_at"] = frame["created_at"]
    changed = normalise_accounts(frame.drop(columns="created_at"))
    earlier = lake.read("crm", base.run_id, "accounts.parquet") if base else None
    return _merged(earlier, changed, deleted, "crm_account_id")


def _value(record: Record, field: str) -> Any:
    """A field of a record, or of the record it refers to (`Owner.Name`)."""
    value: Any = record
    for step in field.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _opportunities(lake: Lake, salesforce: Salesforce, base: Run | None, since: datetime | None) -> pd.DataFrame:
    deleted: set[str] = set()

    def rows() -> Iterable[tuple[Any, ...]]:
        for r in salesforce.read_opportunities(since):
            if r["IsDeleted"]:
                deleted.add(r["Id"])
            else:
                closed = r["CloseDate"] if r["IsClosed"] else None
                yield (
                    r["Id"], r["AccountId"], None, r["StageName"], r["IsClosed"], r["IsWon"], r["Amount"],
                    r["CreatedDate"], closed, r["LeadSource"], r["OwnerId"], r["SystemModstamp"],
                )  # fmt: skip

    changed = frame_of(rows(), OPPORTUNITIES)
    earlier = lake.read("crm", base.run_id, "opportunities.parquet") if base else None
    return _merged(earlier, changed, deleted, "opportunity_id")


def _with_owners(accounts: pd.DataFrame, reps: pd.DataFrame) -> pd.DataFrame:
    """Owner e-mail and whether the owner is active, from the users themselves: a user's change marks no account."""
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
    with lake.fs.open(earlier[-1], "rb") as file:
        joined = pq.read_table(file, columns=["crm_account_id", "account_id"]).to_pandas()
    joined = joined.dropna().drop_duplicates("crm_account_id")
    return joined.set_index("crm_account_id")["account_id"]


def _account_ids(accounts: pd.DataFrame, known: pd.Series) -> dict[str, str]:
    """CRM id → account id: our own external id, else as last joined, else `crm:{id}` until it is."""
    own = accounts["account_id"]
    ids = own.where(own.notna(), accounts["crm_account_id"].map(known))
    ids = ids.where(ids.notna(), "crm:" + accounts["crm_account_id"])
    return dict(zip(accounts["crm_account_id"], ids, strict=True))


# ── into the ledger ──────────────────────────────────────────────────────────────────────────────


def _at(text: Any) -> datetime | None:
    """A moment as Salesforce writes it (2025-11-18T09:15:00.000+0000)."""
    if not text:
        return None
    at = datetime.fromisoformat(str(text))
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)


def _touches(
    ledger: Ledger, tasks: list[Record], ids: Mapping[str, str], emails: Mapping[str, str | None]
) -> list[dict[str, Any]]:
    """Closed tasks that a rep closed: by its subject not ours, and not the task of a handoff we ended unseen."""
    closed = [
        t
        for t in tasks
        if t["IsClosed"]
        and not t["IsDeleted"]
        and t["AccountId"] in ids
        and not (t["Subject"] or "").startswith(CLOSED_BY_US)
    ]
    accounts = {ids[t["AccountId"]] for t in closed if t[HANDOFF_ID]}
    ended = ledger.handoffs(states=["withdrawn", "expired"], account_ids=accounts) if accounts else []
    ours = {h.handoff_id for h in ended if h.touched_at is None}
    return [
        {
            "touch_id": t["Id"],
            "account_id": ids[t["AccountId"]],
            "owner_email": emails.get(t["OwnerId"]),
            "at": _at(t["CompletedDateTime"]) or _at(t["SystemModstamp"]),
            "kind": str(t["TaskSubtype"] or "Task").lower(),
            "outcome": t[OUTCOME],
            "handoff_id": t[HANDOFF_ID],
        }
        for t in closed
        if t[HANDOFF_ID] not in ours
    ]


def _renamed(ledger: Ledger, ids: Mapping[str, str], since: datetime) -> list[dict[str, Any]]:
    """Touches kept under `crm:{id}` whose account is known by now, under its name."""
    waiting = {f"crm:{crm_id}": name for crm_id, name in ids.items() if name != f"crm:{crm_id}"}
    touches = ledger.touches(since=since)
    found = touches[touches["account_id"].isin(set(waiting))]
    found = found.assign(account_id=found["account_id"].map(waiting))
    return [{str(k): v for k, v in row.items()} for row in found.to_dict("records")]


def _move_on(
    ledger: Ledger,
    run: Run,
    salesforce: Salesforce,
    opportunities: pd.DataFrame,
    emails: Mapping[str, str | None],
) -> dict[str, int]:
    """Moves handoffs as far as tasks, touches and opportunities tell. Returns state → how many reached it."""
    handoffs = ledger.handoffs(states=ACTIVE)
    if not handoffs:
        return {}
    tasks = salesforce.tasks_of(h.handoff_id for h in handoffs)
    since = min(h.decided_at for h in handoffs)
    logged = ledger.touches(account_ids={h.account_id for h in handoffs}, since=since)
    touches: dict[str, list[dict[str, Any]]] = {}
    for touch in logged.astype(object).where(logged.notna(), None).to_dict("records"):
        touches.setdefault(touch["account_id"], []).append({str(k): v for k, v in touch.items()})
    deals: dict[str, list[dict[str, Any]]] = {}
    theirs = opportunities[
        opportunities["crm_account_id"].isin({h.crm_account_id for h in handoffs})
        & (opportunities["created_at"] >= since)
    ]
    for deal in theirs.astype(object).where(theirs.notna(), None).to_dict("records"):
        deals.setdefault(deal["crm_account_id"], []).append({str(k): v for k, v in deal.items()})

    moved: Counter[str] = Counter()
    for handoff in handoffs:
        steps = _steps(
            handoff,
            tasks.get(handoff.handoff_id),
            touches.get(handoff.account_id, []),
            deals.get(handoff.crm_account_id or "", []),
            emails,
        )
        for step in steps:
            try:
                ledger.move(handoff.handoff_id, as_of=run.as_of, **step)
            except IllegalMove:  # another run has moved it elsewhere meanwhile: the next reads it as it is
                break
            moved[step["to_state"]] += 1
    return dict(moved)


def _steps(
    handoff: Handoff,
    task: Record | None,
    touches: list[dict[str, Any]],
    deals: list[dict[str, Any]],
    emails: Mapping[str, str | None],
) -> list[dict[str, Any]]:
    """The moves a handoff has to make, in order."""
    steps: list[dict[str, Any]] = []
    state = handoff.state
    if task is not None and state == "context_written":  # written by a run that died before it could say so
        steps.append({"to_state": "task_open", "at": _at(task["CreatedDate"]), "task_id": task["Id"]})
        state = "task_open"
    if task is not None and task["IsDeleted"] and state == "task_open":
        gone = {"to_state": "withdrawn", "at": _at(task["SystemModstamp"]), "reason": "task deleted: by a rep"}
        return [*steps, gone]

    # A rep may close our task, log a call of their own, or go straight to an opportunity: each is the touch.
    touched_at = handoff.touched_at
    if state == "task_open":
        signs: list[tuple[datetime, str | None, str | None]] = []
        if task is not None and task["IsClosed"] and not (task["Subject"] or "").startswith(CLOSED_BY_US):
            done = _at(task["CompletedDateTime"]) or _at(task["SystemModstamp"])
            signs.append((done or handoff.decided_at, task["OwnerId"], emails.get(task["OwnerId"])))
        own = (handoff.owner_email or "").lower()
        signs += [
            (t["at"], None, None)
            for t in touches
            if own and t["owner_email"] == own and t["at"] > handoff.decided_at and t["handoff_id"] is None
        ]
        signs += [
            (d["created_at"], None, None)
            for d in deals
            if handoff.owner_id and d["owner_id"] == handoff.owner_id and d["created_at"] > handoff.decided_at
        ]
        if signs:
            touched_at, owner_id, owner_email = min(signs, key=lambda sign: sign[0])
            steps.append({"to_state": "touched", "at": touched_at, "owner_id": owner_id, "owner_email": owner_email})
            state = "touched"
    if touched_at is None:
        return steps

    after = [d for d in deals if d["created_at"] >= touched_at]
    replied_at = handoff.replied_at
    if state == "touched":
        answers = [max(touched_at, d["created_at"]) for d in after]
        if task is not None and task[OUTCOME] in _REPLIED and not task["IsDeleted"]:
            answers.append(max(touched_at, _at(task["SystemModstamp"]) or touched_at))
        answers += [t["at"] for t in touches if t["outcome"] in _REPLIED and t["at"] >= touched_at]
        if answers:
            replied_at = min(answers)
            steps.append({"to_state": "replied", "at": replied_at})
            state = "replied"

    if state in ("touched", "replied") and after:
        won = [d for d in after if d["is_won"]]
        if won or all(d["is_closed"] for d in after):
            ends = [_closed(d, replied_at or touched_at) for d in won or after]
            steps.append({"to_state": "won" if won else "lost", "at": min(ends) if won else max(ends)})
    return steps


def _closed(deal: Mapping[str, Any], earliest: datetime) -> datetime:
    """When a deal closed. Its CloseDate is a day, sometimes a planned one: kept between the reply and the last edit."""
    at = min(deal["closed_at"] or deal["changed_at"], deal["changed_at"])
    return max(at, earliest)
