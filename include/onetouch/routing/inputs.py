"""The inputs of a run's decisions: read once, stored beside the decisions, and read again by a replay."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import timedelta

import pandas as pd

from onetouch.columns import as_frame
from onetouch.events import by_todays_ids
from onetouch.lake import Lake, read_table
from onetouch.ledger import Ledger, Run
from onetouch.policy import Policy

REPS = ("owner_id", "email", "name", "active", "timezone")

PREVIOUS = {
    "account_id": "str", "action": "str", "rule": "str", "since": "datetime64[us, UTC]", "call": "str",
    "trigger_at": "datetime64[us, UTC]",
}  # fmt: skip
"""Columns of `Inputs.previous` and their types; the names are those of a decision."""


@dataclass(frozen=True)
class Inputs:
    """Everything `decide` reads besides the policy and `as_of`; the order of rows has no effect.

    `signals`, `scores`: one row an account, for the same accounts. `handoffs`, `rep_load`, `touches`: as the ledger
    returns them. `reps`: the CRM's users (REPS). `previous`: each account's decision in the latest earlier run that was
    not a dry run, under whichever policy (PREVIOUS).
    """

    signals: pd.DataFrame
    scores: pd.DataFrame
    handoffs: pd.DataFrame
    rep_load: pd.DataFrame
    reps: pd.DataFrame
    touches: pd.DataFrame
    previous: pd.DataFrame


_OF_STAGES = {"signals": "signals", "scores": "scores"}
"""Inputs that an earlier stage has written, each with its folder in the lake."""


def gather(lake: Lake, ledger: Ledger, policy: Policy, run: Run) -> Inputs:
    """The inputs of a run: its signals and scores, and the state of CRM and ledger at its `as_of`.

    Raises FileNotFoundError when an earlier stage has not written its file.
    """
    crm_reps = ("crm", run.run_id, "reps.parquet")
    silence = timedelta(days=policy.handoff.silence_days)
    made = {name: _read(lake, room, f"{run.run_id}.parquet") for name, room in _OF_STAGES.items()}
    return Inputs(
        **made,
        handoffs=ledger.handoff_frame(run.as_of),
        rep_load=ledger.rep_load(run.as_of),
        reps=lake.read(*crm_reps) if lake.exists(*crm_reps) else pd.DataFrame(columns=list(REPS)),
        touches=ledger.touches(since=run.as_of - silence, as_of=run.as_of),
        previous=by_todays_ids(_previous(lake, ledger, run), made["signals"]["account_id"]),
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


def _previous(lake: Lake, ledger: Ledger, run: Run) -> pd.DataFrame:
    for other in reversed(ledger.runs()):
        parts = ("decisions", f"{other.run_id}.parquet")
        if other.as_of < run.as_of and not other.dry_run and lake.exists(*parts):
            previous: pd.DataFrame = (
                read_table(lake, *parts, columns=list(PREVIOUS)).to_pandas()[list(PREVIOUS)].astype(PREVIOUS)
            )
            return previous
    return pd.DataFrame(columns=list(PREVIOUS)).astype(PREVIOUS)


def _read(lake: Lake, *parts: str) -> pd.DataFrame:
    return as_frame(read_table(lake, *parts))
