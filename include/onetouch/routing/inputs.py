"""The inputs of a run's decisions: read once, stored beside the decisions, and read again by a replay."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime, timedelta

import pandas as pd

from onetouch.columns import as_frame
from onetouch.events import by_todays_ids
from onetouch.lake import Lake, read_table
from onetouch.ledger import Ledger, Run
from onetouch.policy import Policy
from onetouch.routing.recall import heard, recall

REPS = ("owner_id", "email", "name", "active", "timezone")

_MOMENT = "datetime64[us, UTC]"

PREVIOUS = {
    "account_id": "str", "action": "str", "rule": "str", "since": _MOMENT, "call": "str", "trigger_at": _MOMENT,
}  # fmt: skip
"""Columns of `Inputs.previous` from the previous decision, and their types; the names are those of a decision."""


@dataclass(frozen=True)
class Inputs:
    """Everything `decide` reads besides the policy and `as_of`; the order of rows has no effect.

    `signals`, `scores`: one row an account, for the same accounts. `handoffs`, `rep_load`, `touches`: as the ledger
    returns them. `reps`: the CRM's users (REPS). `previous`: each account's decision in the latest earlier real run,
    under whichever policy, and what else is remembered of it (PREVIOUS, REMEMBERED, HEARD).
    """

    signals: pd.DataFrame
    scores: pd.DataFrame
    handoffs: pd.DataFrame
    rep_load: pd.DataFrame
    reps: pd.DataFrame
    touches: pd.DataFrame
    previous: pd.DataFrame


def went_live(handoffs: pd.DataFrame) -> datetime | None:
    """When the first task of all was decided, from `Inputs.handoffs`; None: none was, or its release did not say."""
    if "first_task_at" not in handoffs or handoffs["first_task_at"].isna().all():
        return None
    first: datetime = handoffs["first_task_at"].min().to_pydatetime()
    return first


_OF_STAGES = {"signals": "signals", "scores": "scores"}
"""Inputs that an earlier stage has written, each with its folder in the lake."""


def gather(lake: Lake, ledger: Ledger, policy: Policy, run: Run) -> Inputs:
    """The inputs of a run: its signals and scores, and the state of CRM and ledger at its `as_of`.

    Raises FileNotFoundError when an earlier stage has not written its file.
    """
    crm_reps = ("crm", run.run_id, "reps.parquet")
    silence = timedelta(days=policy.handoff.silence_days)
    made = {name: _read(lake, room, f"{run.run_id}.parquet") for name, room in _OF_STAGES.items()}
    handoffs = ledger.handoff_frame(run.as_of)
    return Inputs(
        **made,
        handoffs=handoffs,
        rep_load=ledger.rep_load(run.as_of),
        reps=lake.read(*crm_reps) if lake.exists(*crm_reps) else pd.DataFrame(columns=list(REPS)),
        touches=ledger.touches(since=run.as_of - silence, as_of=run.as_of),
        previous=_previous(lake, ledger, policy, run, handoffs, made["signals"]["account_id"]),
    )


def keep(lake: Lake, run_id: str, inputs: Inputs) -> None:
    """Writes the inputs that no earlier stage has stored to `inputs/{run_id}/…`, so that the run can be replayed."""
    for name in _kept_here():
        lake.write(getattr(inputs, name), "inputs", run_id, f"{name}.parquet")


def kept(lake: Lake, run_id: str) -> Inputs:
    """The stored inputs of a run. Raises FileNotFoundError naming every file that is missing."""
    paths = {name: (room, f"{run_id}.parquet") for name, room in _OF_STAGES.items()}
    files: dict[str, tuple[str, ...]] = {
        **paths,
        **{name: ("inputs", run_id, f"{name}.parquet") for name in _kept_here()},
    }
    gone = ["/".join(parts) for parts in files.values() if not lake.exists(*parts)]
    if gone:
        raise FileNotFoundError(f"run {run_id}: the lake no longer holds {', '.join(gone)}; restore them")
    return Inputs(**{name: _read(lake, *parts) for name, parts in files.items()})


def _kept_here() -> list[str]:
    return [field.name for field in fields(Inputs) if field.name not in _OF_STAGES]


def _previous(
    lake: Lake, ledger: Ledger, policy: Policy, run: Run, handoffs: pd.DataFrame, accounts: pd.Series
) -> pd.DataFrame:
    last = run_before(lake, ledger, run)
    previous = pd.DataFrame(columns=list(PREVIOUS)).astype(PREVIOUS)
    if last is not None:
        rows = read_table(lake, "decisions", f"{last.run_id}.parquet", columns=list(PREVIOUS)).to_pandas()
        previous = by_todays_ids(rows[list(PREVIOUS)].astype(PREVIOUS), accounts)
    previous = recall(previous, ledger.remembered(run.as_of), handoffs, policy, run.as_of)
    return heard(lake, previous, last, accounts)


def run_before(lake: Lake, ledger: Ledger, run: Run) -> Run | None:
    """The latest earlier run that decided and was not dry; before a real run also none that was made up for later."""
    for other in reversed(ledger.runs()):
        counts = other.real or not (run.real or other.dry_run)
        if counts and other.as_of < run.as_of and lake.exists("decisions", f"{other.run_id}.parquet"):
            return other
    return None


def _read(lake: Lake, *parts: str) -> pd.DataFrame:
    return as_frame(read_table(lake, *parts))
