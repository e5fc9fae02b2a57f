"""The standing of everybody: tier, action, score, trigger and as-of on the record of each account the CRM knows.

Only what has changed is written: tier, action or trigger, or the score by `crm.standing_points`. A score that has
fallen although nobody of the account has used the product since has only decayed, and is left as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from onetouch.crm import Crm, CrmError, OurWrites, Outcome, Unreachable
from onetouch.crm_sync import WRITING
from onetouch.delivery.failure import DeliveryFailed
from onetouch.handoff import AccountContext, columns_read, standing_trigger
from onetouch.lake import Lake, read_table
from onetouch.ledger import Ledger, Run, Standing
from onetouch.policy import Policy

LOCK = "accounts"
"""The name of the lock that lets only one process at a time write standings."""

_AT_ONCE = 50_000
"""Ours: accounts of one write. Salesforce takes them in one bulk job of about ten calls, and it bounds the memory."""

_READ_AT_ONCE = 10_000

_LATE = timedelta(minutes=5)
"""Ours: how far the CRM's clock may be behind ours."""

_UNREAD, _LOOKED_AT = 500, 10_000
"""Ours: most accounts, changed by others just before we write them, that the next extraction is to read one by one, and
most that are looked at to find them. Beyond that it reads all that was written."""

_LONGER_THAN_A_RUN = timedelta(days=2)

_DECIDED = ["account_id", "crm_account_id", "tier", "action", "score", "potential_arr", "as_of", "reasons"]


def write_accounts(
    lake: Lake, ledger: Ledger, policy: Policy, run: Run, crm: Crm | None, *, held: str | None
) -> dict[str, Any]:
    """Writes the standing of every account of the run that the CRM knows and whose standing has changed.

    The ledger keeps what each record was last told. It is recorded before and after each write, so that a run that
    continues after a crash writes what is uncertain again and leaves out the rest. A record that a later run has
    written is left alone. Only our own fields are written. With `held` (why nothing may be written) nothing is.

    What the CRM refuses for good is tried again once `delivery.offer_again_hours` have passed, or when the standing has
    changed; what may pass, by the next run.

    Returns {"accounts": the CRM's, "unchanged", "written", "gone": deleted there meanwhile, "refused": {reason: n},
    "known": how many of the refused an earlier run was refused for the same reason, "held", "ours": what the next
    extraction need not read (`crm_sync.our_writes`), or None}: accounts = unchanged + written + gone + refused. When
    held, "to_write" is how many would have been written. Raises DeliveryFailed with the same, after all others, when
    the CRM refused some that are not known. Raises Unreachable when the CRM gave no answer at all.
    """
    if held or crm is None:
        told = ledger.standings(policy.crm.system)
        accounts, due = _count(lake, policy, run, told)
        mine = told[told["as_of"] == pd.Timestamp(run.as_of)]
        return _summary(accounts, mine, held or "no CRM") | {"to_write": due}
    with ledger.alone(LOCK):
        return _write(lake, ledger, policy, run, crm)


def _summary(accounts: int, mine: pd.DataFrame, held: str | None) -> dict[str, Any]:
    """What has become of the accounts, by the run's rows of the ledger (`mine`): a repeated run says the same."""
    states = Counter(mine["state"])
    refused = Counter(mine.loc[_refused(mine), "reason"])
    return {
        "accounts": accounts,
        "unchanged": accounts - states["written"] - states["gone"] - refused.total(),
        "written": states["written"],
        "gone": states["gone"],
        "refused": dict(refused),
        "known": 0,
        "held": held,
        "ours": None,
    }


def _refused(rows: pd.DataFrame) -> pd.Series:
    """Which rows of the ledger the CRM has refused, for good or for now."""
    for_now: pd.Series = rows["state"].eq("sending") & rows["reason"].ne("")
    return rows["state"].eq("refused") | for_now


def _count(lake: Lake, policy: Policy, run: Run, told: pd.DataFrame) -> tuple[int, int]:
    accounts = due = 0
    for part, rows in _parts(lake, policy, run, told):
        accounts += len(part)
        due += len(rows)
    return accounts, due


def _write(lake: Lake, ledger: Ledger, policy: Policy, run: Run, crm: Crm) -> dict[str, Any]:
    told = ledger.standings(crm.name)
    accounts, left_out = 0, Counter[str]()
    unread: set[str] | None = None
    cut_short: CrmError | None = None
    waiting: dict[str, tuple[Standing, AccountContext]] = {}

    def go() -> None:
        nonlocal unread, cut_short
        if waiting and cut_short is None:
            try:
                if unread is None:
                    unread = _changed_by_others(policy, run, crm)
                _send(ledger, run, crm, waiting)
            except Unreachable:
                raise
            except CrmError as error:  # the rest is not tried: fields are missing, or the calls of the day are used up
                cut_short = error
        if cut_short is not None:
            left_out[str(cut_short)] += len(waiting)
        waiting.clear()

    for part, due in _parts(lake, policy, run, told):
        accounts += len(part)
        for standing, context in due:
            waiting[standing.crm_account_id] = standing, context
            if len(waiting) >= _AT_ONCE:
                go()
    go()
    mine = ledger.standings(crm.name, as_of=run.as_of)
    summary = _summary(accounts, mine, None)
    written = set(mine.loc[mine["state"] == "written", "crm_account_id"])
    summary["ours"] = _ours(ledger, run, crm, written, unread)
    summary["refused"] |= left_out
    summary["unchanged"] -= left_out.total()
    summary["known"] = _known(told, mine, run)
    if sum(summary["refused"].values()) > summary["known"]:
        named = [(f"{n} accounts", reason) for reason, n in summary["refused"].items()]
        raise DeliveryFailed("reasons why accounts could not be written", summary, named) from cut_short
    return summary


def _known(told: pd.DataFrame, mine: pd.DataFrame, run: Run) -> int:
    """How many of the run's refusals (`mine`) repeat one of an earlier run (`told`: before it wrote)."""
    before = told[_refused(told) & (told["as_of"] < pd.Timestamp(run.as_of))].set_index("crm_account_id")["reason"]
    now = mine[_refused(mine)].set_index("crm_account_id")["reason"]
    return int(now.eq(before.reindex(now.index)).sum())


def _send(ledger: Ledger, run: Run, crm: Crm, rows: dict[str, tuple[Standing, AccountContext]]) -> None:
    ledger.begin_standings(crm.name, run, (standing for standing, _ in rows.values()))
    outcomes = crm.update_accounts({crm_id: context for crm_id, (_, context) in rows.items()})
    ledger.settle_standings(crm.name, {crm_id: _settled(outcome) for crm_id, outcome in outcomes.items()})


def _settled(outcome: Outcome) -> tuple[str, str]:
    if outcome.ok:
        return "written", ""
    if outcome.retryable and not outcome.deleted:
        return "sending", outcome.reason
    return ("gone" if outcome.deleted else "refused"), outcome.reason


# ── what the next extraction need not read ───────────────────────────────────────────────────────


def _changed_by_others(policy: Policy, run: Run, crm: Crm) -> set[str]:
    """Accounts that others have changed since the run has read the CRM; more than `_UNREAD` when there are too many."""
    mine = OurWrites({run.as_of: run.as_of + _LONGER_THAN_A_RUN})
    rows = crm.read_accounts(policy, run.as_of - _LATE, mine)
    return {row["crm_account_id"] for row in islice(rows, _LOOKED_AT + 1)}


def _ours(ledger: Ledger, run: Run, crm: Crm, written: set[str], unread: set[str] | None) -> dict[str, Any] | None:
    """What this run has written and the next extraction need not read; if there was a first attempt, what it said.

    `unread`: what others have changed since the run's reading; None: nothing was written now.
    """
    if before := (ledger.stage_summary(run.run_id, WRITING) or {}).get("ours"):
        return dict(before)
    if not written or unread is None or len(unread) > _LOOKED_AT or len(unread & written) > _UNREAD:
        return None
    try:
        last = crm.last_written(run.as_of)
    except CrmError:  # then the next extraction reads them
        return None
    if last is None:
        return None
    until = last.replace(microsecond=0) + timedelta(seconds=bool(last.microsecond))
    return {"until": until.isoformat(), "unread": sorted(unread & written)}


# ── what is due ──────────────────────────────────────────────────────────────────────────────────

_Due = list[tuple[Standing, AccountContext]]


def _parts(lake: Lake, policy: Policy, run: Run, told: pd.DataFrame) -> Iterator[tuple[pd.DataFrame, _Due]]:
    """The run's accounts that the CRM knows, part by part, and of each part the standings that are to be written."""
    name = f"{run.run_id}.parquet"
    decisions = read_table(lake, "decisions", name, columns=_DECIDED).to_pandas()
    decisions = decisions[decisions["crm_account_id"].notna()]
    # Of several accounts of the product that are one record, the one with the highest score speaks for it.
    decisions = decisions.sort_values(["score", "account_id"], ascending=[False, True]).drop_duplicates(
        "crm_account_id"
    )
    decisions = decisions.sort_values("crm_account_id", ignore_index=True)
    columns = ["account_id", "last_seen_at", *sorted(columns_read(policy) - set(_DECIDED))]
    signals = read_table(lake, "signals", name, columns=columns)
    place = pd.Index(signals["account_id"].to_pandas()).get_indexer(decisions["account_id"])
    before = told.set_index("crm_account_id").reindex(decisions["crm_account_id"])
    seen = signals["last_seen_at"].to_pandas().iloc[place].reset_index(drop=True)
    changed, settled = _changed(decisions, seen, before.reset_index(drop=True), policy, run)
    situations = before["situation"].to_numpy(dtype=object)
    for start in range(0, len(decisions), _READ_AT_ONCE):
        part = decisions.iloc[start : start + _READ_AT_ONCE]
        rows = signals.take(pa.array(place[part.index])).to_pylist()
        due: _Due = []
        for i, decision, known in zip(part.index, part.to_dict("records"), rows, strict=True):
            if settled[i]:
                continue
            facts = {str(key): value for key, value in decision.items()}
            situation, trigger = standing_trigger(facts, known, policy)
            if changed[i] or situation != situations[i]:
                due.append(_standing(facts, situation, trigger))
        yield part, due


def _changed(
    decisions: pd.DataFrame, seen: pd.Series, before: pd.DataFrame, policy: Policy, run: Run
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Of each account whether its standing is written whatever its trigger is, and whether it is not, whatever it is.

    `seen`: when somebody of the account was last seen in the product; `before`: its row of `Ledger.standings`, or null.
    """
    as_of = pd.Timestamp(run.as_of)
    later = (before["as_of"] > as_of).to_numpy(bool)
    hours = policy.delivery.offer_again_hours
    refused = before["state"].eq("refused") & (hours is not None)
    refused &= before["as_of"] > as_of - timedelta(hours=hours or 0)
    uncertain = (before["state"].ne("written") & ~refused).to_numpy(bool)  # also those never written
    tier, former = decisions["tier"].astype("str").fillna(""), before["tier"].astype("str").fillna("")
    other = (tier.ne(former) | decisions["action"].ne(before["action"])).to_numpy(bool)
    score, last = decisions["score"].to_numpy(float), before["score"].to_numpy(float)
    with np.errstate(invalid="ignore"):
        moved = np.abs(score - last) >= policy.crm.standing_points
        rose = score > last
    used = (seen > before["as_of"]).to_numpy(bool)
    return (uncertain | other | (moved & (rose | used))) & ~later, later


def _standing(decision: dict[str, Any], situation: str, trigger: str) -> tuple[Standing, AccountContext]:
    tier = None if pd.isna(decision["tier"]) else str(decision["tier"])
    action, score = str(decision["action"]), float(decision["score"])
    standing = Standing(decision["crm_account_id"], decision["account_id"], tier, action, situation, score)
    as_of = decision["as_of"].to_pydatetime()
    return standing, AccountContext(score=score, tier=tier, action=action, trigger=trigger, as_of=as_of)
