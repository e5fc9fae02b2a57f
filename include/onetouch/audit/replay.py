"""Exact replay: makes a past decision again from its stored inputs and the policy it was made under.

No present state is read: signals, the earlier scores, and the inputs from ledger and CRM are files of the run, and the
policy is the ledger's copy of the version that decided. Scores are computed again and compared like the decisions.
Inputs stored by another release are upgraded when they are read; the results are converted to the format of that
release and compared with its files as they are.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from onetouch.audit.stored import as_written, earlier, made_again, of_run
from onetouch.lake import Engine, Lake, Pruned
from onetouch.ledger import PSEUDONYM, Ledger
from onetouch.routing import DECISION, decide, kept
from onetouch.scoring import kept_artefact, score_frame

if TYPE_CHECKING:
    import ibis.expr.types as ir

DIFFERENCES = ("decision_id", "account_id", "column", "stored", "again")
"""Columns of the result of `replay`; `stored` and `again` are canonical JSON, null for a missing row."""


@dataclass(frozen=True)
class Found:
    """Where a decision is stored."""

    run_id: str
    decision_id: str
    account_id: str


def find(lake: Lake, ledger: Ledger, decision_id: str) -> Found:
    """Finds the latest run that made this decision. Raises ValueError when no run did, Pruned when it may have been one
    whose files were deleted."""
    for path in sorted(lake.list("decisions"), key=_run_id, reverse=True):  # a run's id begins with its moment
        with lake.fs.open(path, "rb") as file:
            rows = pq.read_table(file, columns=["account_id"], filters=[("decision_id", "=", decision_id)])
        if rows.num_rows:
            return Found(_run_id(path), decision_id, rows["account_id"][0].as_py())
    if (run_id := ledger.run_of_decision(decision_id)) is not None:
        ledger.require_run_files(run_id)
    if (last := ledger.last_pruned()) is not None:
        raise Pruned(
            f"decision {decision_id}: no run that is kept made it; runs up to {last.as_of.isoformat()} were {last.says}"
        )
    raise ValueError(f"decision {decision_id}: no run of this lake made it; `onetouch decisions --json` lists ids")


def _run_id(path: str) -> str:
    return posixpath.basename(path).removesuffix(".parquet")


def replay(lake: Lake, ledger: Ledger, run_id: str, decision_ids: Collection[str] | None = None) -> pd.DataFrame:
    """The differences between a run's stored decisions (`decision_ids`; None: all) and the replayed ones: DIFFERENCES.

    Empty when every column of every decision, and of its score, is the same in canonical JSON. Decisions about
    forgotten accounts (`forgotten_in`) are left out, because their inputs are erased. Raises FileNotFoundError naming a
    missing input, NotInLedger for an unknown run, ValueError for a decision that is not of the run or is about a
    forgotten account, Pruned when the run's files were deleted.
    """
    run = ledger.run(run_id)
    ledger.require_run_files(run_id)
    policy = ledger.policy(run.policy_version)
    stored = as_written(lake, "decisions", run_id)
    ids = stored["decision_id"]
    if decision_ids is not None:
        chosen = pc.is_in(ids, pa.array(list(decision_ids), pa.string()))
        if missing := sorted(set(decision_ids) - set(ids.filter(chosen).to_pylist())):
            raise ValueError(f"decision {missing[0]}: not of run {run_id}; `onetouch replay {missing[0]}` looks for it")
        stored = stored.filter(chosen)
        if (erased := _forgotten(stored)).num_rows:
            raise ValueError(
                f"decision {erased['decision_id'][0]}: is about an account that was forgotten; what it was made from "
                "is erased, so it can't be made again"
            )
    stored = stored.filter(pc.invert(pc.starts_with(stored["account_id"], PSEUDONYM)))
    inputs = kept(lake, run_id)
    artefact = kept_artefact(lake, run_id, policy)
    scores = score_frame(inputs.signals, policy, run.as_of, earlier(lake, run_id), artefact)
    decisions = decide(replace(inputs, scores=scores), policy, run.as_of)
    decisions["inputs_ref"] = f"signals/{run_id}"
    again = made_again(decisions[list(DECISION)], "decisions", stored)
    scored = as_written(lake, "scores", run_id)
    scored = scored.filter(pc.invert(pc.starts_with(scored["account_id"], PSEUDONYM)))
    scored_again = made_again(scores, "scores", scored)
    if decision_ids is not None:
        again, scored, scored_again = (_about(stored, rows) for rows in (again, scored, scored_again))
    found = [_differences(lake, stored, again), _differences(lake, scored, scored_again, "score: ")]
    different = pd.concat(found, ignore_index=True)
    of_account = dict(zip(stored["account_id"].to_pylist(), stored["decision_id"].to_pylist(), strict=True))
    different.insert(0, "decision_id", different["account_id"].map(of_account).astype("str"))
    return different[list(DIFFERENCES)]


def forgotten_in(lake: Lake, run_id: str) -> int:
    """How many decisions of the run are about accounts that were forgotten since.

    If such an account had used up a rep's room, replayed decisions about other accounts may differ without it.
    """
    rows: int = _forgotten(of_run(lake, "decisions", run_id)).num_rows
    return rows


def _forgotten(decisions: pa.Table) -> pa.Table:
    return decisions.filter(pc.starts_with(decisions["account_id"], PSEUDONYM))


def _about(chosen: pa.Table, rows: pa.Table) -> pa.Table:
    """The rows of the accounts of `chosen`."""
    return rows.filter(pc.is_in(rows["account_id"], chosen["account_id"].combine_chunks()))


def _differences(lake: Lake, stored: pa.Table, again: pa.Table, prefix: str = "") -> pd.DataFrame:
    """account_id, column, stored, again: one row for each value that differs, as canonical JSON."""
    import ibis

    columns = list(dict.fromkeys([*stored.column_names, *again.column_names]))
    with lake.engine() as engine:
        one, other = (_texts(engine, table, columns, name) for table, name in ((stored, "stored"), (again, "again")))
        both = one.outer_join(other, "account")
        unlike = {column: ~both[f"{column}_stored"].identical_to(both[f"{column}_again"]) for column in columns}
        [anywhere] = engine.fetch(both.aggregate([unlike[c].any().name(c) for c in columns])).to_pylist()
        parts = [
            both.filter(unlike[column]).select(
                account_id=ibis.coalesce(both.account, both.account_right),
                column=ibis.literal(prefix + column),
                stored=both[f"{column}_stored"],
                again=both[f"{column}_again"],
            )
            for column in columns
            if anywhere[column]  # mostly in none
        ]
        if not parts:
            return pd.DataFrame(columns=["account_id", "column", "stored", "again"], dtype="str")
        found = ibis.union(*parts) if len(parts) > 1 else parts[0]
        differences: pd.DataFrame = engine.fetch(found.order_by(found.columns)).to_pandas()
        return differences.astype("str")


def _texts(engine: Engine, table: pa.Table, columns: list[str], name: str) -> ir.Table:
    """account_id and each column as canonical JSON; null if the table does not have the column."""
    import ibis

    rows = engine.table(table.replace_schema_metadata(), f"{name}_rows")
    there = {
        f"{column}_{name}": engine.to_json(rows[column]) if column in rows.columns else ibis.null("json")
        for column in columns
    }
    return engine.keep(rows.select(account=rows.account_id, **there), name)
