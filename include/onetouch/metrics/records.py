"""The data the figures are computed from: handoffs with their moments, opportunities, upgrades, the last decisions."""

from __future__ import annotations

import posixpath
import re
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from onetouch.lake import Lake, Pruned, pruned_months, require_events
from onetouch.ledger import Ledger
from onetouch.policy import Policy

if TYPE_CHECKING:
    import ibis.expr.types as ir

_RUN = re.compile(r"^(\d{8}T\d{6}Z)-[0-9a-f]+$")  # a dry run's id has another part and does not match
_MOMENT: Final = "datetime64[us, UTC]"
_STATES = {"touched": "touched", "replied": "replied", "won": "closed_won", "withdrawn": "withdrawn"}
_MEETING = "Meeting booked"


def opportunities_before(lake: Lake, until: datetime) -> pd.DataFrame:
    """The CRM's opportunities created before `until`, from the newest snapshot; one that closed later counts as open.

    Columns: opportunity_id, crm_account_id, account_id, amount (dollars; a negative amount is treated as unknown),
    created_at, won_at (null: not won before `until`). Empty when the CRM was never read.
    """
    columns = ["opportunity_id", "crm_account_id", "account_id", "amount", "created_at", "won_at"]
    snapshots = sorted(path for path in lake.list("crm") if posixpath.basename(path) == "opportunities.parquet")
    if snapshots:
        folder = posixpath.basename(posixpath.dirname(snapshots[-1]))
        found = lake.read("crm", folder, "opportunities.parquet")
    else:
        found = pd.DataFrame(columns=[*columns, "is_won", "closed_at"])
    for name in ("created_at", "closed_at"):
        found[name] = pd.to_datetime(found[name], utc=True).astype(_MOMENT)
    found["amount"] = pd.to_numeric(found["amount"]).astype("float64").where(lambda amount: amount >= 0)
    won = found["is_won"].fillna(False).astype(bool) & (found["closed_at"] < until)
    found["won_at"] = found["closed_at"].where(won)
    return found.loc[found["created_at"] < until, columns].reset_index(drop=True)


def handoff_records(ledger: Ledger, opportunities: pd.DataFrame, until: datetime) -> pd.DataFrame:
    """One row for each handoff decided before `until`, with the moments of its outcomes before `until` (else null).

    Columns: handoff_id, account_id, crm_account_id, owner_email, decided_at, due_at, touched, replied, meeting,
    withdrawn, opportunity, won.
    """
    names = ["handoff_id", "account_id", "crm_account_id", "owner_email", "decided_at", "due_at"]
    rows = [{name: getattr(handoff, name) for name in names} for handoff in ledger.handoffs()]
    records = pd.DataFrame(rows, columns=names).astype({"decided_at": _MOMENT, "due_at": _MOMENT} | _TEXT)
    records = records[records["decided_at"] < until].set_index("handoff_id", drop=False)

    moves = ledger.moves()
    moves = moves[moves["at"] < until]
    for state, name in _STATES.items():
        records[name] = _first(moves[moves["to_state"] == state], "handoff_id", "at", records.index)
    deals = attributed(opportunities, records).dropna(subset="handoff_id")
    records["opportunity"] = _first(deals, "handoff_id", "created_at", records.index)
    deal_won = _first(deals, "handoff_id", "won_at", records.index)
    records["won"] = pd.concat([deal_won, records.pop("closed_won")], axis=1).min(axis=1).astype(_MOMENT)
    touches = ledger.touches()
    meetings = touches[(touches["outcome"] == _MEETING) & (touches["at"] < until)]
    records["meeting"] = _first(meetings, "handoff_id", "at", records.index)
    return records.reset_index(drop=True)


_TEXT = dict.fromkeys(("handoff_id", "account_id", "crm_account_id", "owner_email"), "str")


def attributed(opportunities: pd.DataFrame, records: pd.DataFrame) -> pd.DataFrame:
    """The opportunities with `handoff_id`: the account's latest handoff decided at or before their creation, or null.

    Opportunity and handoff are matched by the CRM's account id, or by account_id if the handoff has no CRM id.
    """
    of_account = opportunities.dropna(subset="account_id").drop_duplicates("account_id")
    crm_ids = of_account.set_index("account_id")["crm_account_id"]
    known = records[["handoff_id", "decided_at"]].reset_index(drop=True)
    crm_id = records["crm_account_id"].where(
        records["crm_account_id"].notna(), records["account_id"].map(crm_ids).astype("str")
    )
    known["crm_account_id"] = crm_id.to_numpy()
    known = known.dropna(subset="crm_account_id").astype({"crm_account_id": "str"}).sort_values("decided_at")
    ordered = opportunities.astype({"crm_account_id": "str"}).sort_values(["created_at", "opportunity_id"])
    return pd.merge_asof(ordered, known, left_on="created_at", right_on="decided_at", by="crm_account_id")


def upgrades(lake: Lake, policy: Policy, since: datetime, until: datetime) -> pd.DataFrame:
    """Upgrades customers made themselves from `since` up to `until`: account_id, upgraded_at, added.

    `added` (dollars a year) is by how much the upgrade's ARR exceeds the account's highest ARR within the lookback
    (`signals.lookback_days` before `since`); null when the event has no amount. A change to a smaller plan is no
    upgrade.
    """
    first = (since - timedelta(days=policy.signals.lookback_days)).date()
    require_events(pruned_months(lake).values(), first, None, f"the report of before {until:%Y-%m-%d}")
    files = [
        path
        for path in lake.list("activity")
        if posixpath.basename(path) == f"{policy.vocabulary_version}.parquet" and first <= _date(path) <= until.date()
    ]
    if not files:
        return pd.DataFrame(columns=["account_id", "upgraded_at", "added"]).astype({"added": "float64"})
    with lake.engine() as engine:
        activity = engine.read(files, dated=True, merged=True)  # files of several layouts
        upgrades: pd.DataFrame = engine.fetch(_upgrades(activity, since, until)).to_pandas()
        return upgrades


def _upgrades(activity: ir.Table, since: datetime, until: datetime) -> ir.Table:
    import ibis

    upgraded = activity.filter(activity.event == "plan_upgraded", activity.last_at < ibis.literal(until))
    daily = upgraded.group_by("account_id", "event_date").agg(
        arr=upgraded.value_last.max(), upgraded_at=upgraded.last_at.max()
    )
    before = ibis.window(group_by=daily.account_id, order_by=daily.event_date, preceding=(None, 1))
    highest = daily.arr.max().over(before).fill_null(0)
    ranked = daily.mutate(added=daily.arr - highest)
    # Upgrades without an amount, or with a greater one than ever before.
    grown = ranked.filter(ranked.upgraded_at >= ibis.literal(since), ranked.arr.isnull() | (ranked.added > 0))
    return grown.select("account_id", "upgraded_at", "added")


def decisions_by_action(lake: Lake, ledger: Ledger, until: datetime) -> tuple[dict[str, int], datetime | None]:
    """The last run before `until`: its number of decisions for each action, and its as_of; ({}, None) without a run.

    Raises Pruned when the files of that run were deleted.
    """
    runs = {}
    for path in lake.list("decisions"):
        name = posixpath.basename(path).removesuffix(".parquet")
        if found := _RUN.match(name):
            as_of = datetime.strptime(found[1], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
            if as_of < until:
                runs[as_of, name] = path
    pruned = [run for run in ledger.pruned_runs().values() if _RUN.match(run.run_id) and run.as_of < until]
    if pruned and (pruned[-1].as_of, pruned[-1].run_id) >= max(runs, default=(pruned[-1].as_of, "")):
        raise Pruned(
            f"the report of before {until:%Y-%m-%d} shows run {pruned[-1].run_id}, which was {pruned[-1].says}"
        )
    if not runs:
        return {}, None
    as_of, name = max(runs)
    actions = lake.read("decisions", f"{name}.parquet")["action"].value_counts()
    return {str(action): int(n) for action, n in sorted(actions.items())}, as_of


def _first(frame: pd.DataFrame, key: str, moment: str, index: Any) -> pd.Series:
    """The earliest moment of each key, aligned with `index`; null where there is none."""
    return frame.groupby(key)[moment].min().reindex(index).astype(_MOMENT)


def _date(path: str) -> date:
    return date.fromisoformat(posixpath.basename(posixpath.dirname(path)).removeprefix("event_date="))
