"""Reads what is remembered of each account (`memory`) as columns beside its previous decision."""

from __future__ import annotations

from datetime import datetime, timedelta

import pandas as pd

from onetouch.catalogue import ACTIONS, FIRMOGRAPHIC_SIGNALS
from onetouch.catalogue import MOMENTS as HAPPENING
from onetouch.columns import as_frame
from onetouch.events import by_todays_ids
from onetouch.lake import Lake, read_table
from onetouch.ledger import QUEUED, WATCHED, Run
from onetouch.policy import Policy

REMEMBERED = ("watched_since", "queued_since", "pending_at", "pending_since")
"""Columns of `inputs.previous` from the ledger: since when the account is watched and queued, when its unanswered
trigger event occurred, and the run that first knew it."""

HEARD = "heard_at"
"""Column of `inputs.previous`: the moment of the last real run, where its `{signal}_at` are beside it (of accounts that
are watched): the last occurrence of each signal which that run knew of."""

_MOMENT = "datetime64[us, UTC]"
_WATCHED = [action for action in ACTIONS if action.watched]
_SIGNALS = [name for name in HAPPENING if name not in FIRMOGRAPHIC_SIGNALS]


def recall(
    previous: pd.DataFrame, noted: pd.DataFrame, handoffs: pd.DataFrame, policy: Policy, as_of: datetime
) -> pd.DataFrame:
    """`previous` with the columns REMEMBERED, and a row for each account of which only the ledger knows something.

    `noted`: as `Ledger.remembered` gives it; `handoffs`: as `Ledger.handoff_frame` does. What was noted up to an
    account's last handoff is answered by it. Of several unanswered triggers the first that is still fresh counts, or,
    if none is, the first.
    """
    noted = answered(noted, handoffs)
    watched, queued = noted["what"] == WATCHED, noted["what"] == QUEUED
    begun = {"watched_since": noted[watched], "queued_since": noted[queued & ~noted["answered"]]}
    found = {name: rows.groupby("account_id")["at"].max() for name, rows in begun.items()}
    triggers = noted[~watched & ~queued & ~noted["answered"]]
    old = triggers["noted_at"] <= pd.Timestamp(as_of) - timedelta(hours=policy.assignment.queue_hours)
    first = triggers.assign(old=old).sort_values(["old", "noted_at", "at", "what"]).drop_duplicates("account_id")
    first = first.set_index("account_id")
    found |= {"pending_at": first["at"], "pending_since": first["noted_at"]}
    frame = pd.DataFrame(found).astype(dict.fromkeys(found, _MOMENT)).rename_axis("account_id").reset_index()
    return previous.merge(frame.astype({"account_id": "str"}), how="outer", on="account_id")


def heard(lake: Lake, previous: pd.DataFrame, last: Run | None, accounts: pd.Series) -> pd.DataFrame:
    """`previous` with HEARD and the moments of watched accounts' signals; null if the `last` run's are gone.

    `accounts`: the ids of this run, by which `previous` calls the accounts.
    """
    columns = dict.fromkeys([HEARD, *(f"{name}_at" for name in _SIGNALS)], _MOMENT)
    if last is None or not lake.exists("signals", f"{last.run_id}.parquet"):
        return previous.assign(**{name: pd.Series(pd.NaT, previous.index, dtype=_MOMENT) for name in columns})
    signals = [name for name in columns if name != HEARD]
    rows = as_frame(read_table(lake, "signals", f"{last.run_id}.parquet", columns=["account_id", *signals]))
    rows = by_todays_ids(rows.astype({"account_id": "str"}), accounts)
    watched = previous["watched_since"].notna() | previous["action"].isin(_WATCHED)
    rows = rows[rows["account_id"].isin(previous.loc[watched, "account_id"])]
    rows = rows.assign(**{HEARD: pd.Timestamp(last.as_of)}).astype({"account_id": "str", **columns})
    return previous.merge(rows[["account_id", *columns]], how="left", on="account_id")


def answered(noted: pd.DataFrame, handoffs: pd.DataFrame) -> pd.DataFrame:
    """`noted` with `answered`: whether the account was handed over since; that run itself included.

    A handoff that the CRM refused answers nothing (`answered_at`; handoffs of an earlier release do not have it).
    """
    at = "answered_at" if "answered_at" in handoffs else "decided_at"
    last = handoffs[["account_id"]].assign(decided_at=handoffs[at])
    last = last.astype({"account_id": "str", "decided_at": _MOMENT})
    decided = noted[["account_id"]].merge(last, how="left", on="account_id")["decided_at"]
    return noted.assign(answered=noted["noted_at"].to_numpy() <= decided.to_numpy())
